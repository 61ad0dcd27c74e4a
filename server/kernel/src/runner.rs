//! Carries out a plan: phase by phase, many messages at a time.
//!
//! Takes a plan and the open namespaces, gives the outcome of each step. A step whose needs failed is left out; a broken socket fails the steps
//! that needed it, and nothing else. It decides nothing: what to do, and in which order, is the plan's business.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;

use nonnet_hooks::mirror::{Change, NamespaceId, Observation};
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::firewall::{Borrow, ElementChange};
use nonnet_hooks::object::wireguard::WireguardOperation;
use nonnet_hooks::object::{
    AddressesMove, Hook, Listen, ObjectKey, OvsOperation, ResolvConfSet, Spec, Tap, TrafficChange, TrafficSet,
};
use nonnet_hooks::plan::{
    DhcpStart, LinkChange, LinkRef, NewLink, Operation, Outcome, Phase, PlacedRoute, Plan, Refusal,
};
use nonnet_hooks::want::Mark;
use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::bridge;
use crate::dhcp::Clients;
use crate::firewall::Ruleset;
use crate::flood;
use crate::limits::GROUP_DELETE_MIN;
use crate::listen::Listening;
use crate::message::{self, Site};
use crate::moved;
use crate::netns::Netns;
use crate::offload;
use crate::spaces::{Space, Spaces};
use crate::tap;
use crate::traffic;
use crate::wire::{Answer, Request, refusal};

/// Carries out one plan.
pub(crate) struct Runner<'a> {
    spaces: &'a mut Spaces,
    dhcp: &'a Clients,
    mark: Mark,
    ipv6: bool,
    outcomes: Vec<Option<Outcome>>,
    made: HashMap<(NamespaceId, LinkName), u32>,
    /// What Open vSwitch is to be asked for, once it is known to be under way.
    pub(crate) switch: Vec<(ObjectKey, OvsOperation)>,
    /// Devices that programs are to have, each with what it is for and its group.
    pub(crate) programs: Vec<(ObjectKey, LinkName, u32)>,
    /// Links whose offload was set, and what it is now.
    pub(crate) offloads: Vec<(NamespaceId, u32, bool)>,
    /// Settings that were written, and what they say now.
    pub(crate) sysctls: Vec<(NamespaceId, String, String)>,
    /// What else was seen, of DHCP clients and the packet filter.
    pub(crate) told: Vec<Observation>,
    /// Addresses on which names are answered now, or no longer.
    pub(crate) listening: Vec<Listening>,
    /// Files that are to be written when the plan is over, and for which object.
    pub(crate) files: Vec<(ObjectKey, ResolvConfSet)>,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(spaces: &'a mut Spaces, dhcp: &'a Clients, mark: Mark, ipv6: bool) -> Self {
        Self {
            spaces,
            dhcp,
            mark,
            ipv6,
            outcomes: Vec::new(),
            made: HashMap::new(),
            switch: Vec::new(),
            programs: Vec::new(),
            offloads: Vec::new(),
            sysctls: Vec::new(),
            told: Vec::new(),
            listening: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Runs the plan to its end.
    pub(crate) fn run(&mut self, plan: &Plan) -> Vec<Outcome> {
        self.outcomes = vec![None; plan.steps.len()];
        let mut phases: BTreeMap<Phase, Vec<usize>> = BTreeMap::new();
        for (at, step) in plan.steps.iter().enumerate() {
            phases.entry(step.phase).or_default().push(at);
        }
        for steps in phases.into_values() {
            self.phase(plan, steps);
        }
        std::mem::take(&mut self.outcomes)
            .into_iter()
            .map(|outcome| outcome.unwrap_or(Outcome::Skipped))
            .collect()
    }

    fn phase(&mut self, plan: &Plan, steps: Vec<usize>) {
        // A step may need one of its own phase: such steps go in rounds.
        let mut left = steps;
        while !left.is_empty() {
            let mut ready = Vec::new();
            let mut later = Vec::new();
            for at in left {
                let needs = plan.steps.get(at).map_or(&[][..], |step| &step.needs);
                let outcomes: Vec<Option<&Outcome>> = needs
                    .iter()
                    .map(|need| self.outcomes.get(*need).and_then(Option::as_ref))
                    .collect();
                if outcomes
                    .iter()
                    .any(|outcome| matches!(outcome, Some(Outcome::Failed(_) | Outcome::Skipped)))
                {
                    self.settle(at, Outcome::Skipped);
                } else if outcomes.iter().all(Option::is_some) {
                    ready.push(at);
                } else {
                    later.push(at);
                }
            }
            if ready.is_empty() {
                break;
            }
            self.round(plan, &ready);
            left = later;
        }
    }

    fn round(&mut self, plan: &Plan, ready: &[usize]) {
        let operations: Vec<(usize, &Operation)> = ready
            .iter()
            .filter_map(|at| Some((*at, &plan.steps.get(*at)?.operation)))
            .collect();
        let deletes: Vec<(usize, &LinkRef)> = operations
            .iter()
            .filter_map(|(at, operation)| match operation {
                Operation::LinkDel { link } => Some((*at, link)),
                _ => None,
            })
            .collect();
        self.delete(&deletes);
        self.change_elements(&operations);
        let mut requests: BTreeMap<NamespaceId, Vec<(usize, Request)>> = BTreeMap::new();
        for (at, operation) in &operations {
            if let (Operation::Ovs(operation), Some(step)) = (operation, plan.steps.get(*at)) {
                self.switch.push((step.object.clone(), operation.clone()));
                self.settle(*at, Outcome::Started);
                continue;
            }
            if let Some((link, group)) = tun_of(operation)
                && let Some(step) = plan.steps.get(*at)
            {
                self.programs.push((step.object.clone(), link.name.clone(), group));
                self.settle(*at, Outcome::Started);
                continue;
            }
            match self.request(operation) {
                Ok(Some(request)) => requests.entry(asked_in(operation)).or_default().push((*at, request)),
                Ok(None) => self.direct(plan, *at, operation),
                Err(refused) => self.settle(*at, Outcome::Failed(refused)),
            }
        }
        for (namespace, requests) in requests {
            let (steps, requests): (Vec<usize>, Vec<Request>) = requests.into_iter().unzip();
            let answers = self.call(namespace, requests);
            for (at, answer) in steps.into_iter().zip(answers) {
                let operation = plan.steps.get(at).map(|step| &step.operation);
                let outcome = match answer {
                    Ok(_) => Outcome::Done,
                    Err(refused) => Outcome::Failed(operation.map_or(refused.clone(), |of| explained(of, refused))),
                };
                self.settle(at, outcome);
            }
        }
        self.learn(&operations);
    }

    fn settle(&mut self, at: usize, outcome: Outcome) {
        if let Some(place) = self.outcomes.get_mut(at) {
            *place = Some(outcome);
        }
    }

    /// Sends requests in a namespace; when its socket fails, that is the answer to all of them.
    fn call(&mut self, namespace: NamespaceId, requests: Vec<Request>) -> Vec<Answer> {
        let count = requests.len();
        let answers = match self.spaces.get_mut(namespace) {
            Some(space) => space.sockets.wire.call(requests),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        };
        answers.unwrap_or_else(|error| vec![Err(of_io(&error)); count])
    }

    /// The message of an operation; none for what is not done by a message.
    fn request(&mut self, operation: &Operation) -> Result<Option<Request>, Refusal> {
        Ok(Some(match operation {
            Operation::LinkAdd { link, group, new } => {
                let site = match new {
                    NewLink::Single { spec: Spec::Tap(_), .. } => return Ok(None),
                    NewLink::Veth { peer, .. } => Site {
                        namespace: self.descriptor(peer.namespace)?,
                        parent: None,
                    },
                    NewLink::Single { parent, .. } => Site {
                        namespace: self.descriptor(link.namespace)?,
                        parent: parent.as_ref().map(|parent| self.index(parent)).transpose()?,
                    },
                    NewLink::Bridge { .. } => Site::default(),
                };
                message::link_add(link.name.as_str(), *group, new, site)
            }
            Operation::LinkSet { link, set, .. } => {
                let master = match &set.master {
                    Some(Some(bridge)) => Some(self.index(bridge)?),
                    Some(None) | None => None,
                };
                message::link_set(self.index(link)?, set, master, self.ipv6)
            }
            Operation::LinkMove { link, to } => {
                let space = self.spaces.get(to.namespace).ok_or_else(|| refusal(libc::ENOENT))?;
                let namespace = space.netns.raw();
                message::link_move(self.index(link)?, namespace, to.name.as_str())
            }
            Operation::Flood(set) if set.on => flood::set(self.index(&set.link)?, &flood::ANY, set.end, true),
            Operation::AddressAdd { link, address, detect } => {
                message::address_add(self.index(link)?, *address, *detect)
            }
            Operation::AddressDel { link, address } => message::address_del(self.index(link)?, *address),
            Operation::RouteAdd(at) => message::route_add(self.index_of(at)?, &at.route),
            Operation::RouteReplace { new, .. } => message::route_replace(self.index_of(new)?, &new.route),
            Operation::RouteDel(at) => message::route_del(self.index_of(at)?, &at.route),
            Operation::VlanAdd { link, vlans, .. } => bridge::vlans_add(self.index(link)?, vlans),
            Operation::VlanDel { link, vlans } => bridge::vlans_del(self.index(link)?, vlans),
            Operation::LinkDel { .. }
            | Operation::AddressesMove(_)
            | Operation::DhcpStart(_)
            | Operation::DhcpStop { .. }
            | Operation::Sysctl { .. }
            | Operation::Offload { .. }
            | Operation::Container(_)
            | Operation::Mesh(_)
            | Operation::Ovs(_)
            | Operation::Elements(_)
            | Operation::Borrow(_)
            | Operation::Listen(_)
            | Operation::ResolvConf(_)
            | Operation::Traffic(_)
            | Operation::Wireguard(_)
            | Operation::Flood(_) => return Ok(None),
        }))
    }

    /// The descriptor of a namespace for a message that is sent in the server's own; none for that one itself.
    fn descriptor(&self, id: NamespaceId) -> Result<Option<RawFd>, Refusal> {
        if id == NamespaceId::Host {
            return Ok(None);
        }
        let space = self.spaces.get(id).ok_or_else(|| refusal(libc::ENOENT))?;
        Ok(Some(space.netns.raw()))
    }

    fn index_of(&mut self, route: &PlacedRoute) -> Result<Option<u32>, Refusal> {
        route.link.as_ref().map(|link| self.index(link)).transpose()
    }

    fn index(&mut self, link: &LinkRef) -> Result<u32, Refusal> {
        if let Some(index) = link.index {
            return Ok(index);
        }
        let key = (link.namespace, link.name.clone());
        if let Some(index) = self.made.get(&key) {
            return Ok(*index);
        }
        let mut answers = self.call(link.namespace, vec![message::link_get(link.name.as_str())]);
        let found = answers
            .pop()
            .and_then(Result::ok)
            .and_then(|messages| link_in(&messages));
        let index = found.ok_or_else(|| refusal(libc::ENODEV))?.index;
        self.made.insert(key, index);
        Ok(index)
    }

    /// Learns the indexes of the links that were made: asking for one end of a pair tells both.
    fn learn(&mut self, operations: &[(usize, &Operation)]) {
        let mut made: Vec<(&LinkRef, &NewLink)> = Vec::new();
        for (at, operation) in operations {
            let done = self.outcomes.get(*at) == Some(&Some(Outcome::Done));
            if let (Operation::LinkAdd { link, new, .. }, true) = (operation, done) {
                made.push((link, new));
            }
        }
        if made.is_empty() {
            return;
        }
        let namespaces: BTreeSet<NamespaceId> = made.iter().map(|(link, _)| link.namespace).collect();
        for namespace in namespaces {
            let made = made.iter().filter(|(link, _)| link.namespace == namespace);
            let requests = made
                .clone()
                .map(|(link, _)| message::link_get(link.name.as_str()))
                .collect();
            let answers = self.call(namespace, requests);
            for ((link, new), answer) in made.zip(answers) {
                let Some(found) = answer.ok().and_then(|messages| link_in(&messages)) else {
                    continue;
                };
                self.made.insert((namespace, link.name.clone()), found.index);
                if let (NewLink::Veth { peer, .. }, Some(index)) = (new, found.peer) {
                    self.made.insert((peer.namespace, peer.name.clone()), index);
                }
            }
        }
    }

    /// Deletes links: several at once by a group of the doomed, since each message of its own costs a grace period.
    fn delete(&mut self, deletes: &[(usize, &LinkRef)]) {
        let mut by_namespace: BTreeMap<NamespaceId, Vec<(usize, u32)>> = BTreeMap::new();
        for (at, link) in deletes {
            match self.index(link) {
                Ok(index) => by_namespace.entry(link.namespace).or_default().push((*at, index)),
                // What is gone already needs no deletion.
                Err(_) => self.settle(*at, Outcome::Done),
            }
        }
        for (namespace, doomed) in by_namespace {
            if doomed.len() < GROUP_DELETE_MIN {
                let requests = doomed.iter().map(|(_, index)| message::link_del(*index)).collect();
                let answers = self.call(namespace, requests);
                self.settle_deleted(&doomed, answers);
                continue;
            }
            let set = LinkChange {
                group: Some(self.mark.reaper()),
                ..LinkChange::default()
            };
            let requests = doomed
                .iter()
                .map(|(_, index)| message::link_set(*index, &set, None, self.ipv6))
                .collect();
            let marked = self.call(namespace, requests);
            let reaped = self
                .call(namespace, vec![message::link_del_group(self.mark.reaper())])
                .pop();
            let answers = match reaped {
                Some(Err(refused)) if refused.errno != libc::ENODEV => vec![Err(refused); doomed.len()],
                _ => marked,
            };
            self.settle_deleted(&doomed, answers);
        }
    }

    fn settle_deleted(&mut self, doomed: &[(usize, u32)], answers: Vec<Answer>) {
        for ((at, _), answer) in doomed.iter().zip(answers) {
            let outcome = match answer {
                Err(refused) if refused.errno != libc::ENODEV => Outcome::Failed(refused),
                _ => Outcome::Done,
            };
            self.settle(*at, outcome);
        }
    }

    /// Makes a tap device, which lasts once it is marked.
    fn add_tap(&mut self, link: &LinkRef, tap: &Tap, set: &LinkChange) -> Result<(), Refusal> {
        let home = self.spaces.home().ok_or_else(|| refusal(libc::ENOENT))?;
        let space = self.spaces.get(link.namespace).ok_or_else(|| refusal(libc::ENOENT))?;
        let fresh = space
            .netns
            .within(&home.netns, || tap::Fresh::make(link.name.as_str(), tap));
        let fresh = fresh.map_err(|error| of_io(&error))?;
        let index = self.index(link)?;
        let request = message::link_set(index, set, None, self.ipv6);
        let answer = self.call(link.namespace, vec![request]).pop();
        answer.unwrap_or_else(|| Err(refusal(libc::EIO)))?;
        fresh.keep().map_err(|error| of_io(&error))
    }

    /// Takes an end of a tunnel away, with what was learnt to be there.
    fn cut_off(&mut self, link: &LinkRef, end: IpAddr) -> Result<(), Refusal> {
        let index = self.index(link)?;
        let space = self
            .spaces
            .get_mut(link.namespace)
            .ok_or_else(|| refusal(libc::ENOENT))?;
        let wire = &mut space.sockets.wire;
        let entries = wire.dump(flood::entries(index)).map_err(|error| of_io(&error))??;
        let there = entries.iter().filter_map(|entry| flood::at(entry, index, end));
        let requests = there.map(|mac| flood::set(index, &mac, end, false)).collect();
        for answer in self.call(link.namespace, requests) {
            // What has gone by itself meanwhile is gone.
            answer.map(drop).or_else(|refused| {
                if refused.errno == libc::ENOENT {
                    Ok(())
                } else {
                    Err(refused)
                }
            })?;
        }
        Ok(())
    }

    fn move_addresses(&mut self, all: &AddressesMove) -> Result<(), Refusal> {
        let (from, to) = (self.index(&all.from)?, self.index(&all.to)?);
        let from = moved::Place {
            index: from,
            name: all.from.name.as_str(),
        };
        let to = moved::Place {
            index: to,
            name: all.to.name.as_str(),
        };
        let ipv6 = self.ipv6;
        let space = self.spaces.get_mut(all.to.namespace);
        let wire = &mut space.ok_or_else(|| refusal(libc::ENOENT))?.sockets.wire;
        moved::run(wire, from, to, all.back, ipv6).map_err(|error| of_io(&error))?
    }

    fn offload(&mut self, link: &LinkRef, on: bool) -> Result<(), Refusal> {
        let index = self.index(link)?;
        let (Some(space), Some(home)) = (self.spaces.get(link.namespace), self.spaces.home()) else {
            return Err(refusal(libc::ENOENT));
        };
        let set = || offload::set_checksums(link.name.as_str(), on);
        let now = space.netns.within(&home.netns, set).map_err(|error| of_io(&error))?;
        self.offloads.push((link.namespace, index, now));
        Ok(())
    }

    /// Changes sets of the packet filter, all steps at once if that works.
    fn change_elements(&mut self, operations: &[(usize, &Operation)]) {
        let changes = operations.iter().filter_map(|(at, operation)| match operation {
            Operation::Elements(change) => Some((*at, change)),
            _ => None,
        });
        let changes: Vec<(usize, &ElementChange)> = changes.collect();
        if changes.is_empty() {
            return;
        }
        let answers = match &mut self.spaces.firewall {
            Some(firewall) => firewall.change(&changes),
            None => changes
                .iter()
                .map(|(at, _)| (*at, Err(refusal(libc::EPROTONOSUPPORT))))
                .collect(),
        };
        let mut failed = false;
        for (at, answer) in answers {
            failed |= answer.is_err();
            self.settle(at, answer.map_or_else(Outcome::Failed, |()| Outcome::Done));
        }
        // What was planned was not what is there.
        let firewall = self.spaces.firewall.as_mut().filter(|_| failed);
        if let Some(Ok(installed)) = firewall.map(Ruleset::read) {
            self.told.push(Observation {
                namespace: NamespaceId::Host,
                change: Change::FirewallReplaced(installed),
            });
        }
    }

    fn borrow(&mut self, at: usize, borrow: &Borrow) {
        let done = match &mut self.spaces.firewall {
            Some(firewall) => firewall.borrow(borrow),
            None => Err(io::Error::from_raw_os_error(libc::EPROTONOSUPPORT)),
        };
        let outcome = match done {
            Ok(told) => {
                self.told.extend(told);
                Outcome::Done
            }
            Err(error) => Outcome::Failed(of_io(&error)),
        };
        self.settle(at, outcome);
    }

    /// Does what is not done by a message.
    fn direct(&mut self, plan: &Plan, at: usize, operation: &Operation) {
        let done = match operation {
            Operation::Borrow(borrow) => return self.borrow(at, borrow),
            Operation::LinkAdd {
                link,
                group,
                new:
                    NewLink::Single {
                        spec: Spec::Tap(tap),
                        mac,
                        mtu,
                        ..
                    },
            } => {
                let set = LinkChange {
                    group: Some(*group),
                    mac: *mac,
                    mtu: *mtu,
                    ..LinkChange::default()
                };
                self.add_tap(link, tap, &set)
            }
            Operation::Sysctl {
                namespace, path, value, ..
            } => self.sysctl(*namespace, path, value),
            Operation::Offload { link, on, .. } => self.offload(link, *on),
            Operation::DhcpStart(start) => self.start_dhcp(start),
            Operation::Wireguard(WireguardOperation::Forget { port }) => {
                self.told.push(Observation {
                    namespace: NamespaceId::Host,
                    change: Change::Wireguard(port.clone(), None),
                });
                Ok(())
            }
            Operation::DhcpStop { port } => {
                self.told.extend(self.dhcp.remove(port));
                Ok(())
            }
            Operation::AddressesMove(all) => self.move_addresses(all),
            Operation::Flood(set) => self.cut_off(&set.link, set.end),
            Operation::Listen(listen) => self.listen(listen),
            Operation::Traffic(set) => self.traffic(set),
            Operation::ResolvConf(set) => {
                if let Some(step) = plan.steps.get(at) {
                    self.files.push((step.object.clone(), set.clone()));
                }
                return self.settle(at, Outcome::Started);
            }
            _ => return,
        };
        self.settle(at, done.map_or_else(Outcome::Failed, |()| Outcome::Done));
    }

    fn traffic(&mut self, set: &TrafficSet) -> Result<(), Refusal> {
        let index = self.index(&set.link)?;
        let namespace = set.link.namespace;
        match &set.change {
            TrafficChange::Shape { set: Some(shape), .. } => {
                self.ask(namespace, traffic::shape_set(index, *shape), &[])
            }
            TrafficChange::Shape { set: None, .. } => {
                self.ask(namespace, traffic::shape_del(index), &[libc::ENOENT, libc::EINVAL])
            }
            TrafficChange::Mirror { hook, set: to, .. } => {
                let there = to.as_ref().map(|to| self.index(to)).transpose()?;
                // One that leads elsewhere is not changed but made again.
                self.ask(
                    namespace,
                    traffic::mirror_del(index, *hook),
                    &[libc::ENOENT, libc::EINVAL],
                )?;
                let Some(to) = there else {
                    return self.hooks_del(namespace, index);
                };
                self.ask(namespace, traffic::hooks_add(index), &[libc::EEXIST])?;
                self.ask(namespace, traffic::mirror_add(index, *hook, to), &[])
            }
        }
    }

    /// Takes the queue on which filters hang away when it has none left, ours or somebody else's.
    fn hooks_del(&mut self, namespace: NamespaceId, index: u32) -> Result<(), Refusal> {
        for hook in [Hook::Ingress, Hook::Egress] {
            let Some(space) = self.spaces.get_mut(namespace) else {
                return Ok(());
            };
            let filters = space.sockets.wire.dump(traffic::filters(index, hook));
            if filters.is_ok_and(|filters| filters.is_ok_and(|filters| !filters.is_empty())) {
                return Ok(());
            }
        }
        self.ask(namespace, traffic::hooks_del(index), &[libc::ENOENT, libc::EINVAL])
    }

    /// Sends one request, of which these errors are none.
    fn ask(&mut self, namespace: NamespaceId, request: Request, fine: &[i32]) -> Result<(), Refusal> {
        match self.call(namespace, vec![request]).pop() {
            Some(Err(refused)) if !fine.contains(&refused.errno) => Err(refused),
            _ => Ok(()),
        }
    }

    fn listen(&mut self, listen: &Listen) -> Result<(), Refusal> {
        let changed = if listen.on {
            crate::listen::open(listen.address)
        } else {
            Ok(Listening::Close(listen.address))
        };
        self.listening.push(changed.map_err(|error| of_io(&error))?);
        Ok(())
    }

    fn sysctl(&mut self, namespace: NamespaceId, path: &str, value: &str) -> Result<(), Refusal> {
        let (Some(space), Some(home)) = (self.spaces.get(namespace), self.spaces.home()) else {
            return Err(refusal(libc::ENOENT));
        };
        let (now, before) = write_sysctl(space, &home.netns, path, value).map_err(|error| of_io(&error))?;
        // What a link of the host said by itself nobody knows.
        let before =
            before.or_else(|| of_new_links(space, &home.netns, path).filter(|_| namespace != NamespaceId::Host));
        self.told
            .extend(before.filter(|before| *before != now).map(|before| Observation {
                namespace,
                change: Change::SysctlBefore(path.into(), before.into()),
            }));
        self.sysctls.push((namespace, path.to_owned(), now));
        Ok(())
    }
}

/// The namespace in whose socket an operation is asked for: a link is made from the server's own, where what it is on is.
fn asked_in(operation: &Operation) -> NamespaceId {
    match operation {
        Operation::LinkAdd { .. } => NamespaceId::Host,
        Operation::LinkMove { link, .. } => link.namespace,
        other => other.namespace(),
    }
}

/// The device of the server's own namespace that an operation makes for a program, and its group.
fn tun_of(operation: &Operation) -> Option<(&LinkRef, u32)> {
    match operation {
        Operation::LinkAdd {
            link,
            group,
            new: NewLink::Single { spec: Spec::Tun, .. },
        } => Some((link, *group)),
        _ => None,
    }
}

/// The refusal of an operation, in plain words where the kernel's own say too little.
fn explained(operation: &Operation, refused: Refusal) -> Refusal {
    match operation {
        Operation::LinkAdd {
            new: NewLink::Single { spec, .. },
            ..
        } if refused.errno == libc::EOPNOTSUPP => Refusal {
            text: ecow::eco_format!(
                "this kernel has no links of kind {}{}: {}",
                spec.kind(),
                stand_in(spec),
                refused.text
            ),
            ..refused
        },
        Operation::LinkAdd {
            new: NewLink::Bridge { settings, .. },
            ..
        } if refused.errno == libc::EOPNOTSUPP && settings.vlan_filtering.is_some() => without_vlans(&refused),
        Operation::LinkSet { set, .. }
            if refused.errno == libc::EOPNOTSUPP
                && set.bridge.as_ref().is_some_and(|set| set.vlan_filtering.is_some()) =>
        {
            without_vlans(&refused)
        }
        _ => refused,
    }
}

fn without_vlans(refused: &Refusal) -> Refusal {
    Refusal {
        text: ecow::eco_format!("this kernel has no bridges that filter VLANs: {}", refused.text),
        errno: refused.errno,
    }
}

/// What does without the kernel's help what it does not.
fn stand_in(spec: &Spec) -> &'static str {
    match spec {
        Spec::Wireguard => " (options:userspace true has wireguard-go do it)",
        _ => "",
    }
}

impl Runner<'_> {
    fn start_dhcp(&mut self, start: &DhcpStart) -> Result<(), Refusal> {
        let index = self.index(&start.link)?;
        let (Some(space), Some(home)) = (self.spaces.get(start.link.namespace), self.spaces.home()) else {
            return Err(refusal(libc::ENOENT));
        };
        let started = self.dhcp.add(start, index, &space.netns, &home.netns);
        self.told.push(started.map_err(|error| of_io(&error))?);
        Ok(())
    }
}

/// What a setting of a link says in links that are new in the namespace.
fn of_new_links(space: &Space, home: &Netns, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let [_, "conf" | "neigh", link, _] = parts.as_mut_slice() else {
        return None;
    };
    if matches!(*link, "all" | "default") {
        return None;
    }
    *link = "default";
    let file = format!("/proc/sys/net/{}", parts.join("/"));
    let read = || Ok(std::fs::read_to_string(&file)?.trim().to_owned());
    space.netns.within(home, read).ok()
}

/// Writes a setting unless it says so already, and reads it back. Gives what it says now, and before if that was something else. `/proc/sys/net` shows the namespace of the thread that opens it.
fn write_sysctl(space: &Space, home: &Netns, path: &str, value: &str) -> io::Result<(String, Option<String>)> {
    if path
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let file = format!("/proc/sys/net/{path}");
    space.netns.within(home, || {
        let now = std::fs::read_to_string(&file)?;
        if now.trim() == value {
            return Ok((value.to_owned(), None));
        }
        std::fs::write(&file, value)?;
        let before = Some(now.trim().to_owned());
        Ok((std::fs::read_to_string(&file)?.trim().to_owned(), before))
    })
}

/// The link that an answer tells of.
pub(crate) fn link_in(messages: &[RouteNetlinkMessage]) -> Option<nonnet_hooks::mirror::Link> {
    messages.iter().find_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => message::link_of(link),
        _ => None,
    })
}

fn of_io(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(errno) => refusal(errno),
        None => Refusal {
            errno: 0,
            text: ecow::eco_format!("{error}"),
        },
    }
}
