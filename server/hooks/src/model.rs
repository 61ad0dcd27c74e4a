//! A kernel in memory that does what plans say: for property tests, simulation and the fake of the kernel crate.
//!
//! Takes operations, gives observations or a refusal with the error number that Linux gives. It models what nonnet uses (links by name and
//! index, veth pairs over namespaces, bridges, addresses, routes) and the side effects that matter: a pair dies together, a link takes its addresses and
//! routes along, a namespace takes its links along.

mod container;
mod names;
mod ovs;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ecow::EcoString;
use ipnet::IpNet;

use crate::dhcp::Progress;
use crate::limits::PROTOCOL;
use crate::mirror::{
    Address, AddressState, Change, DhcpClient, InstalledRoute, Link, NamespaceId, Observation, Queue, Snapshot,
};
use crate::name::{LinkName, Mac};
use crate::object::firewall::{Borrow, ElementChange, Installed};
use crate::object::wireguard::{WireguardOperation, WireguardState};
use crate::object::{
    AddressesMove, BridgeSettings, Flood, Hook, Owner, Shape, Spec, TrafficChange, TrafficSet, Vlans, takes,
};
use crate::plan::{LinkChange, LinkRef, NewLink, Operation, Outcome, PlacedRoute, Plan, Refusal};

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENETUNREACH: i32 = 101;
const EADDRNOTAVAIL: i32 = 99;
const EOPNOTSUPP: i32 = 95;
const ESRCH: i32 = 3;

/// The kernel in memory.
#[derive(Clone, Debug, Default)]
pub struct Model {
    namespaces: BTreeMap<NamespaceId, Space>,
    pairs: BTreeMap<(NamespaceId, u32), (NamespaceId, u32)>,
    /// The links that are on a link.
    children: BTreeMap<(NamespaceId, u32), Vec<(NamespaceId, u32)>>,
    seed: u64,
    containers: container::Containers,
    names: names::Names,
    switch: ovs::Switch,
    wireguards: BTreeMap<LinkName, WireguardState>,
}

#[derive(Clone, Debug, Default)]
struct Space {
    last_index: u32,
    links: BTreeMap<u32, Link>,
    addresses: Vec<Address>,
    routes: Vec<InstalledRoute>,
    /// Of ports of bridges.
    vlans: BTreeMap<u32, Vlans>,
    firewall: Installed,
    floods: BTreeSet<(u32, IpAddr)>,
    queues: BTreeMap<u32, Shape>,
    /// Settings that were written; all others are 0.
    sysctls: BTreeMap<EcoString, EcoString>,
    mirrors: BTreeMap<(u32, Hook), u32>,
}

impl Model {
    /// A kernel with the server's own namespace, in which there is a loopback link.
    pub fn new() -> Self {
        let mut model = Self::default();
        model.add_namespace(NamespaceId::Host);
        model
    }

    /// Makes a namespace with its loopback link, which is down.
    pub fn add_namespace(&mut self, id: NamespaceId) {
        let lo = Link {
            index: 1,
            name: "lo".into(),
            mtu: 65536,
            address_generation_off: Some(false),
            ..Link::default()
        };
        let space = Space {
            last_index: 1,
            links: [(1, lo)].into(),
            ..Space::default()
        };
        self.namespaces.insert(id, space);
    }

    /// Takes a namespace away, with the links in it and the other ends of its pairs.
    pub fn remove_namespace(&mut self, id: NamespaceId) -> Vec<Observation> {
        let mut seen = Vec::new();
        let indexes: Vec<u32> = self
            .namespaces
            .get(&id)
            .map(|s| s.links.keys().copied().collect())
            .unwrap_or_default();
        for index in indexes {
            self.delete_link(id, index, &mut seen);
        }
        self.namespaces.remove(&id);
        seen.retain(|o| o.namespace != id);
        seen.push(Observation {
            namespace: id,
            change: Change::Gone,
        });
        seen
    }

    /// Makes a link of somebody else's.
    pub fn add_foreign(&mut self, id: NamespaceId, name: &str, kind: &str) -> Vec<Observation> {
        let link = Link {
            name: name.into(),
            kind: kind.into(),
            mtu: 1500,
            up: true,
            bridge: (kind == "bridge").then(|| Box::new(BridgeSettings::NEW)),
            ..Link::default()
        };
        self.insert(id, link).map(|(_, seen)| vec![seen]).unwrap_or_default()
    }

    /// Gives a link an address as somebody else would.
    pub fn add_foreign_address(&mut self, id: NamespaceId, name: &LinkName, address: IpNet) -> Vec<Observation> {
        let link = LinkRef {
            namespace: id,
            name: name.clone(),
            index: None,
        };
        let (Ok(index), Some(space)) = (self.find(&link), self.namespaces.get_mut(&id)) else {
            return Vec::new();
        };
        let address = Address {
            index,
            address,
            protocol: 0,
            state: AddressState::Ready,
        };
        space.addresses.push(address.clone());
        vec![observed(id, Change::AddressSet(address))]
    }

    /// Makes a container of somebody else's.
    pub fn add_foreign_container(&mut self, id: &str) -> Vec<Observation> {
        vec![self.containers.add_foreign(id)]
    }

    /// Ends a container, as its first process by itself would; it has had its rest at once.
    pub fn end_container(&mut self, id: &str) -> Vec<Observation> {
        self.containers.end(id).into_iter().collect()
    }

    /// The files and sockets by which names are found, as they are told at first.
    pub fn names(&self) -> Vec<Observation> {
        self.names.all()
    }

    /// All containers and memberships, as they are told at first.
    pub fn containers(&self) -> Vec<Observation> {
        self.containers.all()
    }

    /// All that a namespace has.
    pub fn dump(&self, id: NamespaceId) -> Option<Snapshot> {
        let space = self.namespaces.get(&id)?;
        Some(Snapshot {
            links: space.links.values().cloned().collect(),
            addresses: space.addresses.clone(),
            routes: space.routes.clone(),
            vlans: space.vlans.clone().into_iter().collect(),
            floods: space.floods.iter().copied().collect(),
            firewall: (id == NamespaceId::Host).then(|| space.firewall.clone()),
            queues: space
                .queues
                .iter()
                .map(|(index, shape)| (*index, Queue::Shape(*shape)))
                .collect(),
            mirrors: space.mirrors.iter().map(|((of, hook), to)| (*of, *hook, *to)).collect(),
        })
    }

    /// Does one operation.
    ///
    /// # Errors
    /// [`Refusal`] with Linux's error number.
    pub fn apply(&mut self, operation: &Operation) -> Result<Vec<Observation>, Refusal> {
        match operation {
            Operation::LinkAdd { link, group, new } => self.link_add(link, *group, new),
            Operation::LinkSet { link, set, .. } => self.link_set(link, set),
            Operation::LinkMove { link, to } => self.link_move(link, to),
            Operation::LinkDel { link } => {
                let mut seen = Vec::new();
                if let Ok(index) = self.find(link) {
                    self.delete_link(link.namespace, index, &mut seen);
                }
                Ok(seen)
            }
            Operation::AddressAdd { link, address, .. } => self.address_add(link, *address),
            Operation::AddressDel { link, address } => self.address_del(link, *address),
            Operation::AddressesMove(all) => self.addresses_move(all),
            Operation::RouteAdd(route) => self.route_add(route, false),
            Operation::RouteReplace { new, .. } => self.route_add(new, true),
            Operation::RouteDel(route) => self.route_del(route),
            Operation::DhcpStart(start) => {
                let index = self.find(&start.link)?;
                let client = DhcpClient {
                    namespace: start.link.namespace,
                    index,
                    mac: start.mac,
                    request: start.request.clone(),
                    progress: start.former.clone().map_or(Progress::Asking, Progress::Bound),
                };
                Ok(vec![observed(
                    client.namespace,
                    Change::Dhcp(start.port.clone(), Some(client)),
                )])
            }
            Operation::DhcpStop { port } => Ok(vec![observed(NamespaceId::Host, Change::Dhcp(port.clone(), None))]),
            Operation::Traffic(set) => self.traffic(set),
            Operation::Listen(listen) => Ok(vec![self.names.listen(listen)]),
            Operation::ResolvConf(set) => Ok(vec![self.names.set(set)]),
            Operation::Sysctl {
                namespace, path, value, ..
            } => {
                let sysctls = &mut self.space(*namespace)?.sysctls;
                let before = sysctls
                    .insert(path.clone(), value.clone())
                    .unwrap_or_else(|| "0".into());
                let before = (before != *value).then(|| Change::SysctlBefore(path.clone(), before));
                let changes = before.into_iter().chain([Change::Sysctl(path.clone(), value.clone())]);
                Ok(changes.map(|change| observed(*namespace, change)).collect())
            }
            Operation::Container(operation) => self.containers.apply(operation),
            Operation::Mesh(operation) => Ok(self.containers.join(operation)),
            Operation::Offload { link, on, .. } => {
                let change = Change::Offload(self.find(link)?, *on);
                Ok(vec![observed(link.namespace, change)])
            }
            Operation::VlanAdd { link, vlans, .. } => self.vlans(link, |has| has.0.extend(&vlans.0)),
            Operation::VlanDel { link, vlans } => {
                self.vlans(link, |has| has.0.retain(|vlan, _| !vlans.0.contains_key(vlan)))
            }
            Operation::Ovs(operation) => self.ovs(operation),
            Operation::Elements(change) => self.elements(change),
            Operation::Borrow(borrow) => self.borrow(borrow),
            Operation::Wireguard(operation) => self.wireguard(operation),
            Operation::Flood(flood) => self.flood(flood),
        }
    }

    fn traffic(&mut self, set: &TrafficSet) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(&set.link)?;
        let change = match &set.change {
            TrafficChange::Shape { set: shape, .. } => Change::Queue(index, shape.map(Queue::Shape)),
            TrafficChange::Mirror { hook, set: to, .. } => {
                let to = to.as_ref().map(|to| self.find(to)).transpose()?;
                Change::Mirror(index, *hook, to)
            }
        };
        let space = self.namespaces.entry(set.link.namespace).or_default();
        match change {
            Change::Queue(index, Some(Queue::Shape(shape))) => {
                space.queues.insert(index, shape);
            }
            Change::Queue(index, _) => {
                space.queues.remove(&index);
            }
            Change::Mirror(index, hook, Some(to)) => {
                space.mirrors.insert((index, hook), to);
            }
            Change::Mirror(index, hook, None) => {
                space.mirrors.remove(&(index, hook));
            }
            _ => {}
        }
        Ok(vec![Observation {
            namespace: set.link.namespace,
            change,
        }])
    }

    fn vlans(&mut self, link: &LinkRef, change: impl FnOnce(&mut Vlans)) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(link)?;
        let space = self.space(link.namespace)?;
        let master = space.links.get(&index).and_then(|port| port.master);
        let filters = master.and_then(|master| space.links.get(&master)?.bridge.as_ref()?.vlan_filtering);
        if filters.is_none() {
            return Err(refusal(EOPNOTSUPP, "it is no port of a bridge"));
        }
        let vlans = space.vlans.entry(index).or_insert_with(|| Vlans::access(None, []));
        change(vlans);
        let told = Change::Vlans(index, vlans.clone());
        Ok(vec![observed(link.namespace, told)])
    }

    /// Does a plan until the step `stop`, if given, and fails the steps for which `fails` says so.
    pub fn run(
        &mut self,
        plan: &Plan,
        stop: Option<usize>,
        mut fails: impl FnMut(usize) -> bool,
    ) -> (Vec<Outcome>, Vec<Observation>) {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(plan.steps.len());
        let mut seen = Vec::new();
        for (at, step) in plan.steps.iter().enumerate() {
            let blocked = step
                .needs
                .iter()
                .any(|&need| outcomes.get(need) != Some(&Outcome::Done));
            let outcome = if blocked || stop.is_some_and(|stop| at >= stop) {
                Outcome::Skipped
            } else if fails(at) {
                Outcome::Failed(refusal(EINVAL, "the fake was told to refuse"))
            } else {
                match self.apply(&step.operation) {
                    Ok(more) => {
                        seen.extend(more);
                        Outcome::Done
                    }
                    Err(refusal) => Outcome::Failed(refusal),
                }
            };
            outcomes.push(outcome);
        }
        (outcomes, seen)
    }

    fn space(&mut self, id: NamespaceId) -> Result<&mut Space, Refusal> {
        self.namespaces
            .get_mut(&id)
            .ok_or_else(|| refusal(EINVAL, "Invalid argument"))
    }

    fn find(&self, link: &LinkRef) -> Result<u32, Refusal> {
        let space = self.namespaces.get(&link.namespace);
        let found = space.and_then(|space| match link.index {
            Some(index) => space.links.contains_key(&index).then_some(index),
            None => space
                .links
                .values()
                .find(|l| l.name == link.name.as_str())
                .map(|l| l.index),
        });
        found.ok_or_else(|| refusal(ENODEV, "No such device"))
    }

    fn insert(&mut self, id: NamespaceId, mut link: Link) -> Result<(u32, Observation), Refusal> {
        self.seed += 1;
        let seed = self.seed;
        let space = self.space(id)?;
        if space.links.values().any(|other| other.name == link.name) {
            return Err(refusal(EEXIST, "File exists"));
        }
        space.last_index += 1;
        link.index = space.last_index;
        link.address_generation_off = Some(false);
        link.mac = link.mac.or_else(|| Some(Mac::derived(&seed.to_le_bytes())));
        space.links.insert(link.index, link.clone());
        Ok((link.index, observed(id, Change::LinkSet(link))))
    }

    fn link_add(&mut self, link: &LinkRef, group: u32, new: &NewLink) -> Result<Vec<Observation>, Refusal> {
        let base = Link {
            name: link.name.as_str().into(),
            group,
            mtu: 1500,
            ..Link::default()
        };
        match new {
            NewLink::Bridge { mac, mtu, settings } => {
                let mtu = mtu.unwrap_or(1500);
                let mut has = BridgeSettings::NEW;
                has.change(settings);
                let bridge = Link {
                    kind: "bridge".into(),
                    mac: *mac,
                    mtu,
                    bridge: Some(Box::new(has)),
                    ..base
                };
                Ok(vec![self.insert(link.namespace, bridge)?.1])
            }
            NewLink::Veth { peer, peer_mac, mtu } => {
                let base = Link {
                    kind: "veth".into(),
                    mtu: mtu.unwrap_or(1500),
                    ..base
                };
                let inner = Link {
                    name: peer.name.as_str().into(),
                    mac: *peer_mac,
                    ..base.clone()
                };
                let (inside, _) = self.insert(peer.namespace, inner)?;
                let outside = match self.insert(link.namespace, base) {
                    Ok((outside, _)) => outside,
                    Err(refused) => {
                        self.space(peer.namespace)?.links.remove(&inside);
                        return Err(refused);
                    }
                };
                let (near, far) = ((link.namespace, outside), (peer.namespace, inside));
                self.pairs.insert(near, far);
                self.pairs.insert(far, near);
                let mut seen = Vec::new();
                for ((id, index), (_, other)) in [(near, far), (far, near)] {
                    seen.push(self.change(id, index, |l| l.peer = Some(other))?);
                }
                Ok(seen)
            }
            NewLink::Single { spec, parent, mac, mtu } => {
                let parent = parent
                    .as_ref()
                    .map(|parent| Ok((parent.namespace, self.find(parent)?)))
                    .transpose()?;
                let single = Link {
                    kind: spec.kind().into(),
                    spec: Some(spec.clone()),
                    peer: parent.map(|(_, index)| index),
                    mac: *mac,
                    mtu: mtu.unwrap_or(1500),
                    ..base
                };
                let (index, seen) = self.insert(link.namespace, single)?;
                self.flood_remote(link.namespace, index, None, Some(spec));
                if let Some(parent) = parent {
                    self.children.entry(parent).or_default().push((link.namespace, index));
                }
                Ok(vec![seen])
            }
        }
    }

    /// Moves a link, which goes down, loses what is on it and leaves its bridge.
    fn link_move(&mut self, link: &LinkRef, to: &LinkRef) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(link)?;
        let moved = self.space(link.namespace)?.links.get(&index).cloned();
        let moved = Link {
            name: to.name.as_str().into(),
            up: false,
            carrier: false,
            master: None,
            isolated: None,
            hairpin: None,
            ..moved.unwrap_or_default()
        };
        let (_, arrived) = self.insert(to.namespace, moved)?;
        let mut seen = Vec::new();
        self.delete_link(link.namespace, index, &mut seen);
        seen.push(arrived);
        Ok(seen)
    }

    fn flood(&mut self, flood: &Flood) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(&flood.link)?;
        let entry = (index, flood.end);
        let space = self.space(flood.link.namespace)?;
        if flood.on {
            space.floods.insert(entry);
        } else if !space.floods.remove(&entry) {
            return Err(refusal(ENOENT, "No such file or directory"));
        }
        let change = Change::Flood(index, flood.end, flood.on);
        Ok(vec![observed(flood.link.namespace, change)])
    }

    /// The kernel's own entry, that for the remote of a VXLAN tunnel, goes with its settings.
    fn flood_remote(&mut self, id: NamespaceId, index: u32, before: Option<&Spec>, now: Option<&Spec>) {
        let remote = |spec: Option<&Spec>| match spec {
            Some(Spec::Vxlan(vxlan)) => vxlan.remote,
            _ => None,
        };
        let (before, now) = (remote(before), remote(now));
        let Ok(space) = self.space(id) else { return };
        if let Some(gone) = before.filter(|_| before != now) {
            space.floods.remove(&(index, gone));
        }
        space
            .floods
            .extend(now.filter(|_| before != now).map(|now| (index, now)));
    }

    /// All keys and peers, as they are told at first.
    pub fn wireguards(&self) -> Vec<Observation> {
        let told = |(port, state): (&LinkName, &WireguardState)| {
            observed(
                state.namespace,
                Change::Wireguard(port.clone(), Some(Box::new(state.clone()))),
            )
        };
        self.wireguards.iter().map(told).collect()
    }

    fn wireguard(&mut self, operation: &WireguardOperation) -> Result<Vec<Observation>, Refusal> {
        let set = match operation {
            WireguardOperation::Set(set) => set,
            WireguardOperation::Forget { port } => {
                self.wireguards.remove(port);
                return Ok(vec![observed(NamespaceId::Host, Change::Wireguard(port.clone(), None))]);
            }
        };
        let state = WireguardState {
            namespace: set.link.namespace,
            index: self.find(&set.link)?,
            public_key: None,
            settings: set.settings.clone(),
            traffic: BTreeMap::new(),
        };
        self.wireguards.insert(set.port.clone(), state.clone());
        let change = Change::Wireguard(set.port.clone(), Some(Box::new(state)));
        Ok(vec![observed(set.link.namespace, change)])
    }

    fn change(&mut self, id: NamespaceId, index: u32, change: impl FnOnce(&mut Link)) -> Result<Observation, Refusal> {
        let space = self.space(id)?;
        let link = space
            .links
            .get_mut(&index)
            .ok_or_else(|| refusal(ENODEV, "No such device"))?;
        change(link);
        let link = link.clone();
        if !link.up {
            space.routes.retain(|route| route.index != Some(index));
        }
        Ok(observed(id, Change::LinkSet(link)))
    }

    fn link_set(&mut self, link: &LinkRef, set: &LinkChange) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(link)?;
        let id = link.namespace;
        if let Some(name) = &set.name {
            let taken = self
                .space(id)?
                .links
                .values()
                .any(|l| l.name == name.as_str() && l.index != index);
            if taken {
                return Err(refusal(EEXIST, "File exists"));
            }
        }
        let master = match &set.master {
            Some(Some(bridge)) => Some(Some(self.find(bridge)?)),
            Some(None) => Some(None),
            None => None,
        };
        if let (Some(master), Ok(space)) = (master, self.space(id))
            && space.links.get(&index).is_some_and(|link| link.master != master)
        {
            space.vlans.remove(&index);
        }
        if let Some(spec) = &set.spec {
            let before = self.space(id)?.links.get(&index).and_then(|link| link.spec.clone());
            self.flood_remote(id, index, before.as_ref(), Some(spec));
        }
        let set = set.clone();
        let seen = self.change(id, index, |l| {
            l.name = set.name.as_ref().map_or_else(|| l.name.clone(), |n| n.as_str().into());
            l.alias = set.alias.unwrap_or_else(|| l.alias.clone());
            l.group = set.group.unwrap_or(l.group);
            l.mac = set.mac.or(l.mac);
            l.mtu = set.mtu.unwrap_or(l.mtu);
            l.master = master.unwrap_or(l.master);
            l.address_generation_off = set.address_generation_off.or(l.address_generation_off);
            l.spec = set.spec.map(|spec| *spec).or_else(|| l.spec.take());
            l.isolated = if l.master.is_none() {
                None
            } else {
                set.isolated.or(l.isolated).or(Some(false))
            };
            l.hairpin = l.isolated.and(set.hairpin.or(l.hairpin).or(Some(false)));
            if let Some((has, set)) = l.bridge.as_deref_mut().zip(set.bridge.as_deref()) {
                has.change(set);
            }
            l.up = set.up.unwrap_or(l.up);
            l.carrier = l.up;
        })?;
        Ok(vec![seen])
    }

    fn delete_link(&mut self, id: NamespaceId, index: u32, seen: &mut Vec<Observation>) {
        let other = self.pairs.remove(&(id, index));
        for (id, index) in self.children.remove(&(id, index)).unwrap_or_default() {
            self.delete_link(id, index, seen);
        }
        let Some(space) = self.namespaces.get_mut(&id) else {
            return;
        };
        let Some(link) = space.links.remove(&index) else {
            return;
        };
        space.vlans.remove(&index);
        space.queues.remove(&index);
        space.mirrors.retain(|(of, _), to| *of != index && *to != index);
        space.floods.retain(|(of, _)| *of != index);
        space.addresses.retain(|a| a.index != index);
        space.routes.retain(|r| r.index != Some(index));
        let of_link = |path: &EcoString| path.split('/').nth(2) == Some(link.name.as_str());
        space.firewall.settings.retain(|path, _| !of_link(path));
        for link in space.links.values_mut().filter(|l| l.master == Some(index)) {
            link.master = None;
            link.isolated = None;
            link.hairpin = None;
            seen.push(observed(id, Change::LinkSet(link.clone())));
        }
        seen.push(observed(id, Change::LinkGone(index)));
        if let Some((id, index)) = other {
            self.delete_link(id, index, seen);
        }
    }

    fn address_add(&mut self, link: &LinkRef, address: IpNet) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(link)?;
        let space = self.space(link.namespace)?;
        if space.addresses.iter().any(|a| a.index == index && a.address == address) {
            return Err(refusal(EEXIST, "Address already assigned"));
        }
        let address = Address {
            index,
            address,
            protocol: PROTOCOL,
            state: AddressState::Ready,
        };
        space.addresses.push(address.clone());
        Ok(vec![observed(link.namespace, Change::AddressSet(address))])
    }

    fn address_del(&mut self, link: &LinkRef, address: IpNet) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(link)?;
        let space = self.space(link.namespace)?;
        let before = space.addresses.len();
        space.addresses.retain(|a| a.index != index || a.address != address);
        if space.addresses.len() == before {
            return Err(refusal(EADDRNOTAVAIL, "Cannot assign requested address"));
        }
        Ok(vec![observed(link.namespace, Change::AddressGone(index, address))])
    }

    /// Moves addresses, with all routes through their link that are not ours.
    fn addresses_move(&mut self, all: &AddressesMove) -> Result<Vec<Observation>, Refusal> {
        let (from, to) = (self.find(&all.from)?, self.find(&all.to)?);
        let space = self.space(all.to.namespace)?;
        let mut changes = Vec::new();
        for address in space.addresses.iter_mut().filter(|address| address.index == from) {
            if let Some(protocol) = takes(address, all.back) {
                (address.index, address.protocol) = (to, protocol);
                changes.push(Change::AddressSet(address.clone()));
                changes.push(Change::AddressGone(from, address.address));
            }
        }
        let is_foreign = |route: &InstalledRoute| route.index == Some(from) && route.protocol != PROTOCOL;
        for route in space.routes.iter_mut().filter(|route| is_foreign(route)) {
            changes.push(Change::RouteGone(route.clone()));
            route.index = Some(to);
            changes.push(Change::RouteSet(route.clone()));
        }
        let changes = changes.into_iter();
        Ok(changes.map(|change| observed(all.to.namespace, change)).collect())
    }

    fn route_add(&mut self, placed: &PlacedRoute, replace: bool) -> Result<Vec<Observation>, Refusal> {
        let PlacedRoute { namespace, link, route } = placed;
        let index = link.as_ref().map(|link| self.find(link)).transpose()?;
        let space = self.space(*namespace)?;
        if index.is_some_and(|index| !space.links.get(&index).is_some_and(|l| l.up)) {
            return Err(refusal(ENETUNREACH, "Network is unreachable"));
        }
        if let Some(gateway) = route.gateway {
            let reachable = space
                .addresses
                .iter()
                .any(|a| index.is_none_or(|index| a.index == index) && a.address.contains(&gateway));
            if !reachable {
                return Err(refusal(ENETUNREACH, "Nexthop has invalid gateway"));
            }
        }
        if replace {
            space.routes.retain(|r| r.route.slot() != route.slot());
        } else if space.routes.iter().any(|r| r.route.slot() == route.slot()) {
            return Err(refusal(EEXIST, "File exists"));
        }
        let route = InstalledRoute {
            index,
            route: route.clone(),
            protocol: PROTOCOL,
        };
        space.routes.push(route.clone());
        let change = if replace {
            Change::RouteReplaced(route)
        } else {
            Change::RouteSet(route)
        };
        Ok(vec![observed(*namespace, change)])
    }

    fn route_del(&mut self, placed: &PlacedRoute) -> Result<Vec<Observation>, Refusal> {
        let PlacedRoute { namespace, link, route } = placed;
        let index = link.as_ref().map(|link| self.find(link)).transpose()?;
        let space = self.space(*namespace)?;
        let at = space.routes.iter().position(|r| r.index == index && r.route == *route);
        let gone = space
            .routes
            .remove(at.ok_or_else(|| refusal(ESRCH, "No such process"))?);
        Ok(vec![observed(*namespace, Change::RouteGone(gone))])
    }

    /// Changes sets of the packet filter: all of it or nothing.
    fn elements(&mut self, change: &ElementChange) -> Result<Vec<Observation>, Refusal> {
        let space = self.space(NamespaceId::Host)?;
        let mut now = space.firewall.clone();
        if change.build {
            (now.intact, now.present) = (true, true);
        }
        if change.remove {
            now.clear();
            (now.intact, now.present) = (false, false);
        }
        for element in &change.delete {
            now.remove(&element.key)
                .ok_or_else(|| refusal(ENOENT, "No such file or directory"))?;
        }
        for element in &change.add {
            if !now.intact {
                return Err(refusal(ENOENT, "No such file or directory"));
            }
            if now.data(&element.key).is_some_and(|data| *data != element.data) {
                return Err(refusal(EEXIST, "File exists"));
            }
            let owner = change.owner.clone();
            now.insert(
                element.clone(),
                owner.unwrap_or_else(|| Owner {
                    table: EcoString::new(),
                    uuid: 0,
                }),
            );
        }
        space.firewall = now.clone();
        Ok(vec![observed(NamespaceId::Host, Change::FirewallReplaced(now))])
    }

    fn borrow(&mut self, borrow: &Borrow) -> Result<Vec<Observation>, Refusal> {
        let space = self.space(NamespaceId::Host)?;
        let link = borrow.path.split('/').nth(2);
        if link.is_some_and(|link| link != "all" && !space.links.values().any(|of| of.name == link)) {
            space.firewall.borrowed.remove(&borrow.path);
            space.firewall.settings.remove(&borrow.path);
        } else {
            let now = space
                .firewall
                .settings
                .get(&borrow.path)
                .cloned()
                .unwrap_or_else(|| "0".into());
            let value = match &borrow.value {
                Some(value) if *value != now => {
                    space.firewall.borrowed.entry(borrow.path.clone()).or_insert(now);
                    value.clone()
                }
                Some(value) => value.clone(),
                None => space.firewall.borrowed.remove(&borrow.path).unwrap_or(now),
            };
            space.firewall.settings.insert(borrow.path.clone(), value);
        }
        let value = space.firewall.settings.get(&borrow.path).cloned();
        let borrowed = space.firewall.borrowed.clone();
        Ok(vec![
            observed(NamespaceId::Host, Change::Setting(borrow.path.clone(), value)),
            observed(NamespaceId::Host, Change::Borrowed(borrowed)),
        ])
    }

    /// Takes the packet filter away, as somebody with `nft flush ruleset` would.
    pub fn flush_firewall(&mut self) -> Vec<Observation> {
        let Ok(space) = self.space(NamespaceId::Host) else {
            return Vec::new();
        };
        space.firewall.clear();
        (space.firewall.intact, space.firewall.present) = (false, false);
        let now = space.firewall.clone();
        vec![observed(NamespaceId::Host, Change::FirewallReplaced(now))]
    }

    /// Deletes a link by name, as somebody with `ip link del` would.
    pub fn delete_by_name(&mut self, id: NamespaceId, name: &LinkName) -> Vec<Observation> {
        let mut seen = Vec::new();
        let link = LinkRef {
            namespace: id,
            name: name.clone(),
            index: None,
        };
        if let Ok(index) = self.find(&link) {
            self.delete_link(id, index, &mut seen);
        }
        seen
    }
}

fn observed(namespace: NamespaceId, change: Change) -> Observation {
    Observation { namespace, change }
}

fn refusal(errno: i32, text: &str) -> Refusal {
    Refusal {
        errno,
        text: EcoString::from(text),
    }
}
