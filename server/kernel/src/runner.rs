//! Carries out a plan: phase by phase, many messages at a time.
//!
//! Takes a plan and the open namespaces, gives the outcome of each step. A step whose needs failed is left out; a broken socket fails the steps
//! that needed it, and nothing else. It decides nothing: what to do, and in which order, is the plan's business.

mod direct;
mod firewall;
mod links;
mod refusals;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::RawFd;

use nonnet_hooks::mirror::{NamespaceId, Observation};
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{ObjectKey, OvsOperation, ResolvConfSet, Spec};
use nonnet_hooks::plan::{LinkRef, NewLink, Operation, Outcome, Phase, PlacedRoute, Plan, Refusal};
use nonnet_hooks::want::Mark;
use rtnetlink::packet_route::RouteNetlinkMessage;

use self::refusals::explained;
use crate::bridge;
use crate::dhcp::Clients;
use crate::flood;
use crate::listen::Listening;
use crate::message::{self, Site};
use crate::spaces::Spaces;
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
