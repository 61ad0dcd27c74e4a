//! The comparison of what is wanted with what the kernel has.
//!
//! Takes the wanted state, the mirror and the keys to look at; gives a plan for just these and a verdict on each. It must never plan a change of
//! a link that does not carry our mark (the loopback of a namespace is set up, nothing more), nor of an address or route that is not of our protocol.

mod adopted;
mod container;
mod dhcp;
mod firewall;
mod flood;
mod names;
mod ovs;
mod part;
mod port;
mod routes;
mod single;
mod sysctl;
mod traffic;
mod wireguard;

pub(crate) use self::names::stray_file;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ecow::{EcoString, eco_format};

use crate::limits::PROTOCOL;
use crate::mirror::{Link, Mirror, Namespace, NamespaceId};
use crate::name::LinkName;
use crate::object::{Addresses, Bridge, BridgeSettings, Object, ObjectKey, OvsMark, Owner, Wanted};
use crate::path::{ETHERNET_MTU, Paths};
use crate::plan::{LinkChange, LinkRef, NewLink, Operation, Phase, PlacedRoute, Plan, Step};
use crate::want::{Resolution, Want};

/// Links on links on links at most that are planned at once; longer chains take several plans.
const RANKS_MAX: usize = 6;

/// What the comparison found about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel has what is wanted.
    Equal,
    /// The object is not wanted, and not there.
    Absent,
    /// The plan has steps for it.
    Planned,
    /// The kernel has it, and is not done with it, for this reason; an event will tell.
    Settling(EcoString),
    /// Too little is known yet to decide; the answer is on its way.
    Unread(EcoString),
    /// Something of ours that is in its place is about to go; an event will tell.
    Leaving(EcoString),
    /// It cannot be there yet, for this reason; an event will tell.
    Waiting(EcoString),
    /// Something of somebody else's is in its place.
    Conflict(EcoString),
    /// It is there as wanted, and yet does not work: what another daemon says about it.
    Failed(EcoString),
}

/// A plan and the verdicts that led to it.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// What to do.
    pub plan: Plan,
    /// What was found, per key asked for.
    pub verdicts: BTreeMap<ObjectKey, Verdict>,
}

/// Compares the objects of `keys`.
pub fn plan(want: &Want, have: &Mirror, keys: &BTreeSet<ObjectKey>) -> Diff {
    let mut planner = Planner {
        want,
        have,
        diff: Diff::default(),
        made: HashMap::new(),
        deleted: HashMap::new(),
        withdrawn: HashSet::new(),
        given_back: HashSet::new(),
        filter: firewall::Done::default(),
    };
    for key in keys {
        planner.clear(key);
    }
    // Who is depended on comes first; who leaves makes room for who comes.
    let mut order: Vec<(usize, &ObjectKey)> = keys.iter().map(|key| (rank(want, key, RANKS_MAX), key)).collect();
    order.sort();
    for (_, key) in order {
        let verdict = planner.object(key);
        planner.diff.verdicts.insert(key.clone(), verdict);
    }
    planner.diff.plan.sort();
    planner.diff
}

/// The keys of what carries our mark in the server's own namespace and is not wanted.
pub fn collectable(want: &Want, have: &Mirror) -> BTreeSet<ObjectKey> {
    let mut keys = container::collectable(want, have);
    if let Some(host) = have.host() {
        for link in host.links() {
            let name = LinkName::observed(&link.name);
            if want.inner_end_on_host(&name).is_some() {
                continue;
            }
            let switch = have.ovs().link_mark(&name);
            let is_switched = switch.is_some_and(|mark| want.mark().is_our_row(&mark.database));
            // Another database's links and the addresses on them carry another mark, though the same protocol.
            if !is_switched && !want.mark().owns(link) {
                continue;
            }
            let key = ObjectKey::Link(name.clone());
            if want.get(&key).is_none() && !is_switched {
                keys.insert(key);
            }
            if want.has_end_on_host(&name) {
                continue;
            }
            let wanted = want.addresses_on(&name);
            if host
                .addresses(link.index)
                .any(|a| a.protocol == PROTOCOL && !wanted.contains(&a.address))
            {
                let owner = Owner::first();
                keys.insert(ObjectKey::Addresses { link: name, owner });
            }
        }
        keys.extend(firewall::collectable(want, host));
    }
    keys.extend(names::collectable(want, have));
    keys.extend(traffic::collectable(want, have));
    let ours = |row: &OvsMark| want.mark().is_our_row(&row.database);
    for row in have.ovs().bridges().filter(|row| ours(&row.mark)) {
        let key = ObjectKey::Link(row.bridge.name.clone());
        if !matches!(want.get(&key).map(|w| &w.object), Some(Object::OvsBridge(_))) {
            keys.insert(key);
        }
    }
    let ports = have.ovs().ports().filter(|row| ours(&row.mark));
    let ports = ports.map(|row| ObjectKey::OvsPort(row.port.name.clone()));
    keys.extend(ports.filter(|key| want.get(key).is_none()));
    keys
}

/// When an object's turn is: after that of what it needs. `left` bounds the length of a chain, which rows could make a circle.
fn rank(want: &Want, key: &ObjectKey, left: usize) -> usize {
    match (want.get(key).map(|w| &w.object), key) {
        (
            _,
            ObjectKey::Addresses { .. }
            | ObjectKey::Routes(_)
            | ObjectKey::Dhcp(_)
            | ObjectKey::Traffic(_)
            | ObjectKey::NameServer { .. }
            | ObjectKey::ResolvConf { .. }
            | ObjectKey::Container(_)
            | ObjectKey::Mesh(_)
            | ObjectKey::Wireguard(_)
            | ObjectKey::Firewall { .. },
        ) => usize::MAX,
        (None, ObjectKey::Link(_) | ObjectKey::OvsPort(_)) => 0,
        (Some(_), _) if left == 0 => 1,
        (Some(object), _) => {
            let needs = object.depends_on();
            1 + needs.iter().map(|need| rank(want, need, left - 1)).max().unwrap_or(0)
        }
    }
}

struct Planner<'a> {
    want: &'a Want,
    have: &'a Mirror,
    diff: Diff,
    /// The step that creates the link of a key.
    made: HashMap<ObjectKey, usize>,
    /// The step that deletes the link of an index in a namespace.
    deleted: HashMap<(NamespaceId, u32), usize>,
    /// The routes that the plan deletes or replaces.
    withdrawn: HashSet<PlacedRoute>,
    /// The settings of namespaces that the plan gives back.
    given_back: HashSet<(NamespaceId, EcoString)>,
    /// What the plan does to the packet filter already.
    filter: firewall::Done,
}

/// The step's object and owner, said once for all steps of an object.
#[derive(Clone, Copy)]
struct For<'a> {
    key: &'a ObjectKey,
    owner: Option<&'a Owner>,
}

/// One end of a link that exists or is about to.
struct End<'a> {
    link: LinkRef,
    /// What the kernel has; `None` when the plan creates it.
    have: Option<(&'a Namespace, &'a Link)>,
    /// The step that creates it.
    needs: Vec<usize>,
}

impl<'a> Planner<'a> {
    fn object(&mut self, key: &ObjectKey) -> Verdict {
        let Some(host) = self.have.host() else {
            return Verdict::Unread("the kernel has not been read yet".into());
        };
        let want = self.want;
        if want
            .left(key)
            .any(|(netns, _)| want.resolution(netns) == Resolution::Unknown)
        {
            return Verdict::Unread("it is being looked for where it was".into());
        }
        let cleared = self.diff.plan.steps.iter().any(|step| step.object == *key);
        let before = self.diff.plan.steps.len() - usize::from(cleared);
        let stop = match want.get(key) {
            None => {
                let stop = self.collect_ovs(key).and_then(|()| self.collect(key, host));
                if let Err(verdict) = stop {
                    return verdict;
                }
                return if self.diff.plan.steps.len() > before {
                    Verdict::Planned
                } else {
                    stop.err().unwrap_or(Verdict::Absent)
                };
            }
            Some(Wanted { owner, object }) => {
                let step = For {
                    key,
                    owner: Some(owner),
                };
                if let (ObjectKey::Link(name), false) = (key, matches!(object, Object::OvsBridge(_)))
                    && self.is_ovs_bridge_of_ours(name)
                {
                    return self.collect_ovs(key).err().unwrap_or(Verdict::Planned);
                }
                match object {
                    Object::Bridge(bridge) => self.bridge(step, owner, bridge, host),
                    Object::Port(port) => self.port(step, owner, port, host),
                    Object::Addresses(addresses) => self.addresses_of(step, addresses, host),
                    Object::Container(container) => self.container(step, owner, container),
                    Object::Mesh(mesh) => self.mesh(step, mesh),
                    Object::OvsBridge(bridge) => self.ovs_bridge(step, owner, bridge, host),
                    Object::OvsPort(port) => self.ovs_port(step, owner, port, host),
                    Object::Routes(routes) => self.routes_of(step, routes),
                    Object::Dhcp(dhcp) => self.dhcp(step, owner, dhcp),
                    Object::Firewall(firewall) => self.firewall(step, firewall, host),
                    Object::NameServer(server) => {
                        self.name_server(step, server);
                        Ok(())
                    }
                    Object::ResolvConf(wish) => self.resolv_conf(step, wish),
                    Object::Traffic(traffic) => self.traffic(step, traffic, host),
                    Object::Wireguard(wireguard) => self.wireguard(step, owner, wireguard),
                }
            }
        };
        match stop {
            Err(verdict) => verdict,
            Ok(()) if self.diff.plan.steps.len() > before => Verdict::Planned,
            Ok(()) => self.unsettled(key).unwrap_or(Verdict::Equal),
        }
    }

    fn step(&mut self, of: For<'_>, phase: Phase, needs: &[usize], operation: Operation) -> usize {
        let needs = needs.to_vec();
        self.diff.plan.push(Step {
            object: of.key.clone(),
            owner: of.owner.cloned(),
            phase,
            operation,
            needs,
        })
    }

    /// Deletes what carries our mark under a key that nobody wants.
    fn collect(&mut self, key: &ObjectKey, host: &'a Namespace) -> Result<(), Verdict> {
        let of = For { key, owner: None };
        match key {
            ObjectKey::Routes(netns) => {
                self.collect_routes(of, netns);
                if let Resolution::Present(id) = self.want.resolution(netns) {
                    self.give_back_sysctls(of, id, None);
                }
                return Ok(());
            }
            ObjectKey::Dhcp(port) => {
                self.stop_dhcp(of, port);
                return Ok(());
            }
            ObjectKey::NameServer { .. } => {
                self.listen(of);
                return Ok(());
            }
            ObjectKey::ResolvConf { netns, .. } => {
                self.give_back_file(of, netns);
                return Ok(());
            }
            ObjectKey::Wireguard(port) => {
                self.forget_wireguard(of, port);
                return Ok(());
            }
            ObjectKey::Firewall { .. } => {
                self.collect_firewall(key, host);
                return Ok(());
            }
            _ => {}
        }
        let ours = key
            .link()
            .and_then(|name| host.link(name))
            .filter(|link| self.owns(link));
        let Some(link) = ours else {
            return self.collect_container(key);
        };
        match key {
            ObjectKey::Traffic(name) => self.plain_traffic(of, name, link, host),
            ObjectKey::Link(name) => {
                if !self.want.mark().owns(link) {
                    return Ok(());
                }
                self.check_not_needed(name)?;
                if self.want.inner_end_on_host(name).is_none() {
                    let owner = Owner::from_alias(&link.alias);
                    let step = For {
                        key,
                        owner: owner.as_ref(),
                    };
                    self.delete(step, NamespaceId::Host, link);
                }
            }
            ObjectKey::Addresses { link: name, .. } => {
                // With the link goes what is on it.
                if !self.deleted.contains_key(&(NamespaceId::Host, link.index)) && !self.want.has_end_on_host(name) {
                    let wanted = self.want.addresses_on(name);
                    let end = End {
                        link: reference(NamespaceId::Host, link),
                        have: Some((host, link)),
                        needs: vec![],
                    };
                    self.withdraw_addresses(of, &end, &wanted);
                }
            }
            ObjectKey::Routes(_)
            | ObjectKey::Dhcp(_)
            | ObjectKey::NameServer { .. }
            | ObjectKey::ResolvConf { .. }
            | ObjectKey::Container(_)
            | ObjectKey::Mesh(_)
            | ObjectKey::OvsPort(_)
            | ObjectKey::Wireguard(_)
            | ObjectKey::Firewall { .. } => {}
        }
        Ok(())
    }

    fn delete(&mut self, of: For<'_>, namespace: NamespaceId, link: &Link) -> usize {
        if let Some(at) = self.deleted.get(&(namespace, link.index)) {
            return *at;
        }
        if !self.want.mark().is_ours(link.group) {
            return self.release(of, link);
        }
        let needs = if namespace == NamespaceId::Host && link.kind == "bridge" {
            self.release_moved(link)
        } else {
            vec![]
        };
        let operation = Operation::LinkDel {
            link: reference(namespace, link),
        };
        let at = self.step(of, Phase::Delete, &needs, operation);
        self.deleted.insert((namespace, link.index), at);
        at
    }

    fn bridge(&mut self, of: For<'_>, owner: &Owner, bridge: &Bridge, host: &'a Namespace) -> Result<(), Verdict> {
        if let Some(link) = host.link(&bridge.name).filter(|link| self.may_take(link, bridge.adopt)) {
            return self.adopt_bridge(of, owner, bridge, host, link);
        }
        let (mac, ipv6) = self.lent(&bridge.name, host);
        let bridge = &if mac.is_some() || ipv6 {
            Cow::Owned(Bridge {
                mac: mac.or(bridge.mac),
                ipv6: bridge.ipv6 || ipv6,
                ..bridge.clone()
            })
        } else {
            Cow::Borrowed(bridge)
        };
        let have = self.ours(&bridge.name, host)?;
        let needs = match have {
            Some(link) if link.kind != "bridge" => vec![self.delete(of, NamespaceId::Host, link)],
            Some(link) => {
                self.adjust_bridge(of, owner, bridge, host, link);
                return Ok(());
            }
            None => vec![],
        };
        let link = LinkRef {
            namespace: NamespaceId::Host,
            name: bridge.name.clone(),
            index: None,
        };
        let new = NewLink::Bridge {
            mac: bridge.mac,
            mtu: self
                .paths(host)
                .of_bridge(bridge)
                .filter(|mtu| bridge.mtu.is_some() || *mtu != ETHERNET_MTU),
            settings: Box::new(bridge.settings.differing(&BridgeSettings::NEW).0),
        };
        let end = self.add_link(of, Phase::CreateBridge, &needs, link, new);
        self.configure(
            of,
            &end,
            &LinkChange {
                up: Some(true),
                ..self.common(owner, !bridge.ipv6)
            },
        );
        Ok(())
    }

    /// Plans a link that carries our mark from the start. Gives the end that it is to be.
    fn add_link(&mut self, of: For<'_>, phase: Phase, needs: &[usize], link: LinkRef, new: NewLink) -> End<'a> {
        let add = Operation::LinkAdd {
            link: link.clone(),
            group: self.want.mark().group,
            new,
        };
        let made = self.step(of, phase, needs, add);
        self.made.insert(of.key.clone(), made);
        End {
            link,
            have: None,
            needs: vec![made],
        }
    }

    /// The MTU of the way that frames take.
    fn paths(&self, host: &'a Namespace) -> Paths<'a> {
        Paths::new(self.want, host)
    }

    fn adjust_bridge(&mut self, of: For<'_>, owner: &Owner, bridge: &Bridge, host: &'a Namespace, link: &'a Link) {
        let end = End {
            link: reference(NamespaceId::Host, link),
            have: Some((host, link)),
            needs: vec![],
        };
        // The kernel lowers a bridge with its ports, and raises it with them and with the last of them: it is these that have to change.
        let follows = || {
            let ports = host.links().filter(|port| port.master == Some(link.index));
            bridge.mtu.is_none() && ports.map(|port| port.mtu).min().unwrap_or(ETHERNET_MTU) == link.mtu
        };
        let mtu = self.paths(host).of_bridge(bridge);
        let set = LinkChange {
            mac: bridge.mac,
            mtu: mtu.filter(|mtu| *mtu != link.mtu && !follows()),
            bridge: Some(Box::new(bridge.settings.clone())),
            up: Some(true),
            ..self.common(owner, !bridge.ipv6)
        };
        self.configure(of, &end, &set);
    }

    /// The link of this name if it is ours; an error if it is somebody else's.
    fn ours(&self, name: &LinkName, host: &'a Namespace) -> Result<Option<&'a Link>, Verdict> {
        match host.link(name) {
            Some(link) if !self.want.mark().is_ours(link.group) => {
                let kind = if link.kind.is_empty() {
                    "device"
                } else {
                    link.kind.as_str()
                };
                Err(Verdict::Conflict(eco_format!(
                    "the name {name} is taken by a {kind} that is not nonnet's"
                )))
            }
            other => Ok(other),
        }
    }

    /// The steps that make the link of `key`; none if it is there; why not, if it will not be.
    fn dependency(&self, key: &ObjectKey, host: &Namespace, kind: &str) -> Result<Vec<usize>, Verdict> {
        let Some(name) = key.link() else { return Ok(vec![]) };
        if let Some(to_come) = self.ovs_link_to_come(name, host) {
            return Err(to_come);
        }
        if kind == "bridge" && self.is_ovs_bridge_of_ours(name) {
            return Err(Verdict::Waiting(eco_format!("{name} is a bridge of Open vSwitch")));
        }
        match self.diff.verdicts.get(key) {
            Some(Verdict::Equal | Verdict::Settling(_)) => return Ok(vec![]),
            Some(Verdict::Planned) if self.want.get(key).is_some() => {
                return Ok(self.made.get(key).copied().into_iter().collect());
            }
            Some(
                Verdict::Waiting(reason)
                | Verdict::Conflict(reason)
                | Verdict::Failed(reason)
                | Verdict::Unread(reason)
                | Verdict::Leaving(reason),
            ) => {
                return Err(Verdict::Waiting(eco_format!("{kind} {name} is not there: {reason}")));
            }
            Some(Verdict::Planned | Verdict::Absent) | None => {}
        }
        let missing = || Verdict::Waiting(eco_format!("{kind} {name} does not exist"));
        let link = host
            .link(name)
            .filter(|link| !self.deleted.contains_key(&(NamespaceId::Host, link.index)))
            .ok_or_else(missing)?;
        if kind == "bridge" && !matches!(link.kind.as_str(), "bridge" | "bond") {
            return Err(Verdict::Waiting(eco_format!("{name} is not a bridge")));
        }
        // A port may be on a bridge or parent that nobody described; addresses go on nothing of somebody else's.
        let described = self.want.get(key).is_some() || kind == "link";
        if described && !self.owns(link) {
            return Err(Verdict::Waiting(eco_format!("{kind} {name} is not nonnet's")));
        }
        Ok(vec![])
    }

    fn addresses_of(&mut self, of: For<'_>, on: &Addresses, host: &'a Namespace) -> Result<(), Verdict> {
        let needs = self.dependency(&ObjectKey::Link(on.link.clone()), host, "link")?;
        let have = host.link(&on.link).filter(|_| needs.is_empty());
        let link = match have {
            Some(link) => reference(NamespaceId::Host, link),
            None => LinkRef {
                namespace: NamespaceId::Host,
                name: on.link.clone(),
                index: None,
            },
        };
        let end = End {
            link,
            have: have.map(|link| (host, link)),
            needs,
        };
        self.withdraw_addresses(of, &end, &self.want.addresses_on(&on.link));
        // A bridge without ports never gets to the end of a detection.
        self.add_addresses(of, &end, &on.addresses.iter().copied().collect(), false);
        Ok(())
    }
}

fn reference(namespace: NamespaceId, link: &Link) -> LinkRef {
    LinkRef {
        namespace,
        name: LinkName::observed(&link.name),
        index: Some(link.index),
    }
}
