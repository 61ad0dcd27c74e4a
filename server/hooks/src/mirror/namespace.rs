//! One namespace's state: its links by index and name, and what is on each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ecow::{EcoString, eco_format};
use ipnet::IpNet;

use super::{Address, Change, InstalledRoute, Link, NamespaceId, Queue, Snapshot, Touched, firewall};
use crate::name::LinkName;
use crate::object::firewall::Installed;
use crate::object::{Hook, Vlans};

/// One namespace's state.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) names: HashMap<EcoString, u32>,
    pub(super) addresses: BTreeMap<u32, BTreeMap<IpNet, Address>>,
    pub(super) routes: BTreeMap<Option<u32>, BTreeSet<InstalledRoute>>,
    pub(super) sysctls: BTreeMap<EcoString, EcoString>,
    /// What settings said before they were written.
    pub(super) sysctls_before: BTreeMap<EcoString, EcoString>,
    pub(super) offloads: BTreeMap<u32, bool>,
    pub(super) vlans: BTreeMap<u32, Vlans>,
    pub(super) firewall: Option<Installed>,
    pub(super) queues: BTreeMap<u32, Queue>,
    pub(super) floods: BTreeMap<u32, BTreeSet<IpAddr>>,
    pub(super) mirrors: BTreeMap<(u32, Hook), u32>,
}

impl Namespace {
    /// The link of this name.
    pub fn link(&self, name: &LinkName) -> Option<&Link> {
        self.names.get(name.as_str()).and_then(|index| self.links.get(index))
    }

    /// The link of this index.
    pub fn link_at(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// All links, by index.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The addresses of the link of this index, in order.
    pub fn addresses(&self, index: u32) -> impl Iterator<Item = &Address> {
        self.addresses.get(&index).into_iter().flat_map(BTreeMap::values)
    }

    /// The address on the link of this index, if it is there.
    pub fn address(&self, index: u32, address: &IpNet) -> Option<&Address> {
        self.addresses.get(&index).and_then(|of| of.get(address))
    }

    /// The routes through the link of this index (`None`: through none).
    pub fn routes(&self, index: Option<u32>) -> impl Iterator<Item = &InstalledRoute> {
        self.routes.get(&index).into_iter().flatten()
    }

    /// All routes.
    pub fn all_routes(&self) -> impl Iterator<Item = &InstalledRoute> {
        self.routes.values().flatten()
    }

    /// Where the VXLAN tunnel of this index sends what it knows no better place for.
    pub fn floods(&self, index: u32) -> impl Iterator<Item = IpAddr> {
        self.floods.get(&index).into_iter().flatten().copied()
    }

    /// The root queue of the link of this index, where it is not the kernel's default.
    pub fn queue(&self, index: u32) -> Option<&Queue> {
        self.queues.get(&index)
    }

    /// The link to which a copy of ours goes of what the link of this index sees at a hook.
    pub fn mirror(&self, index: u32, hook: Hook) -> Option<u32> {
        self.mirrors.get(&(index, hook)).copied()
    }

    /// The last read value of a setting below `/proc/sys/net`.
    pub fn sysctl(&self, path: &str) -> Option<&EcoString> {
        self.sysctls.get(path)
    }

    /// The settings below `/proc/sys/net` that were written, with the values from before.
    pub fn sysctls_before(&self) -> impl Iterator<Item = (&EcoString, &EcoString)> {
        self.sysctls_before.iter()
    }

    /// Whether the link of this index leaves checksums of what it sends to others, as last read.
    pub fn offload(&self, index: u32) -> Option<bool> {
        self.offloads.get(&index).copied()
    }

    /// What there is of the packet filter, once read.
    pub fn firewall(&self) -> Option<&Installed> {
        self.firewall.as_ref()
    }

    /// The VLANs that the port of a bridge with this index is in. `None`: they were not told.
    pub fn vlans(&self, index: u32) -> Option<&Vlans> {
        self.vlans.get(&index)
    }

    /// Whether there is the link that a setting is of, if it is of one.
    fn has_link_of(&self, path: &str) -> bool {
        let mut parts = path.split('/').skip(1);
        match (parts.next(), parts.next()) {
            (Some("conf" | "neigh"), Some(link)) if !matches!(link, "all" | "default") => self.names.contains_key(link),
            _ => true,
        }
    }

    fn set_link(&mut self, id: NamespaceId, link: Link, touched: &mut Touched) {
        let old = self.links.get(&link.index);
        if old == Some(&link) {
            return;
        }
        if let Some(old) = old.filter(|old| old.name != link.name) {
            let name = LinkName::observed(&old.name);
            // A swap of names may have given the old name to another link already.
            if self.names.get(&old.name) == Some(&link.index) {
                self.names.remove(&old.name);
            }
            // Its settings go with it to the new name.
            let own = eco_format!("/{}/", old.name);
            self.sysctls_before.retain(|path, _| !path.contains(own.as_str()));
            touched.existence(id, name);
        }
        let name = LinkName::observed(&link.name);
        if id == NamespaceId::Host && old.is_none_or(|old| old.mtu != link.mtu) {
            touched.mtus.insert(name.clone());
        }
        if self.names.insert(link.name.clone(), link.index) == Some(link.index) {
            touched.link(id, name);
        } else {
            touched.existence(id, name);
        }
        // IPv4 routes of a link that goes down vanish without an event (`fib_sync_down_dev`).
        if !link.up && self.links.get(&link.index).is_some_and(|old| old.up) {
            self.routes.remove(&Some(link.index));
        }
        if link.master.is_none() {
            self.vlans.remove(&link.index);
        }
        self.links.insert(link.index, link);
    }

    fn drop_link(&mut self, id: NamespaceId, index: u32, touched: &mut Touched) {
        self.addresses.remove(&index);
        self.routes.remove(&Some(index));
        self.offloads.remove(&index);
        self.queues.remove(&index);
        self.floods.remove(&index);
        self.mirrors.retain(|(of, _), to| *of != index && *to != index);
        self.vlans.remove(&index);
        let Some(link) = self.links.remove(&index) else { return };
        if self.names.get(&link.name) == Some(&index) {
            self.names.remove(&link.name);
            // The next link of that name begins with settings of its own.
            let own = eco_format!("/{}/", link.name);
            self.sysctls.retain(|path, _| !path.contains(own.as_str()));
            self.sysctls_before.retain(|path, _| !path.contains(own.as_str()));
        }
        if let Some(firewall) = &mut self.firewall {
            let of_link = |path: &EcoString| path.split('/').nth(2) == Some(link.name.as_str());
            firewall.settings.retain(|path, _| !of_link(path));
        }
        let name = LinkName::observed(&link.name);
        if id == NamespaceId::Host {
            touched.mtus.insert(name.clone());
        }
        touched.existence(id, name);
    }

    pub(super) fn touch(&self, id: NamespaceId, index: Option<u32>, touched: &mut Touched) {
        match index.map(|index| self.links.get(&index)) {
            Some(Some(link)) => touched.link(id, LinkName::observed(&link.name)),
            Some(None) => {}
            // A route through no link may belong to any port of the namespace: lo stands for all.
            None => touched.link(id, LinkName::loopback()),
        }
    }

    fn set_address(&mut self, id: NamespaceId, address: Address, touched: &mut Touched) {
        let index = address.index;
        let of = self.addresses.entry(index).or_default();
        if of.get(&address.address) != Some(&address) {
            of.insert(address.address, address);
            self.touch(id, Some(index), touched);
        }
    }

    fn set_route(&mut self, id: NamespaceId, route: InstalledRoute, touched: &mut Touched) {
        let index = route.index;
        if self.routes.entry(index).or_default().insert(route) {
            self.touch(id, index, touched);
        }
    }

    fn set_vlans(&mut self, id: NamespaceId, index: u32, vlans: Vlans, touched: &mut Touched) {
        if self.vlans.get(&index) != Some(&vlans) {
            self.vlans.insert(index, vlans);
            self.touch(id, Some(index), touched);
        }
    }

    pub(super) fn replace(&mut self, id: NamespaceId, snapshot: Snapshot, touched: &mut Touched) {
        let present: BTreeSet<u32> = snapshot.links.iter().map(|l| l.index).collect();
        let gone: Vec<u32> = self.links.keys().copied().filter(|i| !present.contains(i)).collect();
        for index in gone {
            self.drop_link(id, index, touched);
        }
        for link in snapshot.links {
            self.set_link(id, link, touched);
        }
        for (index, vlans) in snapshot.vlans {
            self.set_vlans(id, index, vlans, touched);
        }
        let mut addresses: BTreeMap<u32, BTreeMap<IpNet, Address>> = BTreeMap::new();
        for address in snapshot.addresses {
            addresses
                .entry(address.index)
                .or_default()
                .insert(address.address, address);
        }
        let before = std::mem::replace(&mut self.addresses, addresses);
        let indexes: BTreeSet<u32> = before.keys().chain(self.addresses.keys()).copied().collect();
        for index in indexes {
            if before.get(&index) != self.addresses.get(&index) {
                self.touch(id, Some(index), touched);
            }
        }
        self.replace_routes(id, snapshot.routes, touched);
        if let Some(firewall) = snapshot.firewall {
            self.replace_firewall(firewall, touched);
        }
        self.replace_floods(id, snapshot.floods, touched);
        let (queues, mirrors) = (&mut self.queues, &mut self.mirrors);
        let mut indexes: BTreeSet<u32> = queues
            .keys()
            .copied()
            .chain(mirrors.keys().map(|(of, _)| *of))
            .collect();
        let before = (std::mem::take(queues), std::mem::take(mirrors));
        queues.extend(snapshot.queues);
        mirrors.extend(snapshot.mirrors.into_iter().map(|(of, hook, to)| ((of, hook), to)));
        indexes.extend(queues.keys().copied().chain(mirrors.keys().map(|(of, _)| *of)));
        for index in indexes {
            let hooks = [Hook::Ingress, Hook::Egress];
            let same = hooks
                .iter()
                .all(|hook| before.1.get(&(index, *hook)) == self.mirrors.get(&(index, *hook)));
            if !same || before.0.get(&index) != self.queues.get(&index) {
                self.touch(id, Some(index), touched);
            }
        }
    }

    fn replace_floods(&mut self, id: NamespaceId, floods: Vec<(u32, IpAddr)>, touched: &mut Touched) {
        let mut by_link: BTreeMap<u32, BTreeSet<IpAddr>> = BTreeMap::new();
        for (index, end) in floods {
            by_link.entry(index).or_default().insert(end);
        }
        let before = std::mem::replace(&mut self.floods, by_link);
        let indexes: BTreeSet<u32> = before.keys().chain(self.floods.keys()).copied().collect();
        for index in indexes {
            if before.get(&index) != self.floods.get(&index) {
                self.touch(id, Some(index), touched);
            }
        }
    }

    fn replace_routes(&mut self, id: NamespaceId, routes: Vec<InstalledRoute>, touched: &mut Touched) {
        let mut by_link: BTreeMap<Option<u32>, BTreeSet<InstalledRoute>> = BTreeMap::new();
        for route in routes {
            by_link.entry(route.index).or_default().insert(route);
        }
        let before = std::mem::replace(&mut self.routes, by_link);
        let indexes: BTreeSet<Option<u32>> = before.keys().chain(self.routes.keys()).copied().collect();
        for index in indexes {
            if before.get(&index) != self.routes.get(&index) {
                self.touch(id, index, touched);
            }
        }
    }

    pub(super) fn change(&mut self, id: NamespaceId, change: Change, touched: &mut Touched) {
        match change {
            // What is of the whole host is not here.
            Change::Replaced(_)
            | Change::Gone
            | Change::Dhcp(..)
            | Change::Wireguard(..)
            | Change::Container(_)
            | Change::Ovs(_)
            | Change::Nameservers(_)
            | Change::ResolvConf(..)
            | Change::Listening(..) => {}
            Change::RoutesReplaced(routes) => self.replace_routes(id, routes, touched),
            Change::LinkSet(link) => self.set_link(id, link, touched),
            Change::LinkGone(index) => self.drop_link(id, index, touched),
            Change::AddressSet(address) => self.set_address(id, address, touched),
            Change::AddressGone(index, address) => {
                if self
                    .addresses
                    .get_mut(&index)
                    .and_then(|of| of.remove(&address))
                    .is_some()
                {
                    self.touch(id, Some(index), touched);
                }
            }
            Change::RouteSet(route) => self.set_route(id, route, touched),
            Change::RouteReplaced(route) => {
                let same = |other: &InstalledRoute| other.route.slot() == route.route.slot() && *other != route;
                let gone: Vec<InstalledRoute> = self.all_routes().filter(|other| same(other)).cloned().collect();
                for other in gone {
                    self.change(id, Change::RouteGone(other), touched);
                }
                self.set_route(id, route, touched);
            }
            Change::RouteGone(route) => {
                if self.routes.get_mut(&route.index).is_some_and(|of| of.remove(&route)) {
                    self.touch(id, route.index, touched);
                }
            }
            Change::Offload(index, on) => {
                if self.offloads.insert(index, on) != Some(on) {
                    self.touch(id, Some(index), touched);
                }
            }
            Change::Flood(index, end, on) => {
                let ends = self.floods.entry(index).or_default();
                let changed = if on { ends.insert(end) } else { ends.remove(&end) };
                if changed {
                    self.touch(id, Some(index), touched);
                }
            }
            Change::Queue(index, queue) => {
                let before = match queue.clone() {
                    Some(queue) => self.queues.insert(index, queue),
                    None => self.queues.remove(&index),
                };
                if before != queue {
                    self.touch(id, Some(index), touched);
                }
            }
            Change::Mirror(index, hook, to) => {
                let before = match to {
                    Some(to) => self.mirrors.insert((index, hook), to),
                    None => self.mirrors.remove(&(index, hook)),
                };
                if before != to {
                    self.touch(id, Some(index), touched);
                }
            }
            Change::Vlans(index, vlans) => self.set_vlans(id, index, vlans, touched),
            // It went with its link, of which the kernel has told already.
            Change::SysctlBefore(path, _) | Change::Sysctl(path, _) if !self.has_link_of(&path) => {}
            Change::SysctlBefore(path, value) => {
                self.sysctls_before.entry(path).or_insert(value);
            }
            Change::Sysctl(path, value) => {
                if self.sysctls_before.get(&path) == Some(&value) {
                    self.sysctls_before.remove(&path);
                }
                if self.sysctls.insert(path, value.clone()) != Some(value) {
                    touched.link(id, LinkName::loopback());
                }
            }
            Change::FirewallReplaced(installed) => self.replace_firewall(installed, touched),
            change @ (Change::Obstacles(_)
            | Change::ElementSet(..)
            | Change::ElementGone(_)
            | Change::Setting(..)
            | Change::Borrowed(_)) => {
                if let Some(firewall) = &mut self.firewall {
                    firewall::change(firewall, change, touched);
                }
            }
        }
    }
}
