//! The wanted state: every object that some row wants, who wants it, and where the namespaces are that they reach into.
//!
//! Takes wanted objects per owner and answers about namespaces; gives lookups in time proportional to the answer. It must never look at the kernel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use ecow::EcoString;
use ipnet::{IpNet, Ipv4Net};

use crate::mirror::{Link, NamespaceId};
use crate::name::LinkName;
use crate::object::firewall::{ElementKey, Firewall};
use crate::object::{Dhcp, NetnsRef, Object, ObjectKey, Owner, ResolvConf, Taken, Wanted};

/// The groups that mark the links of one database (`IFLA_GROUP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The group of links that are in use.
    pub group: u32,
}

/// Where a namespace is that rows name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Nobody has answered yet: nothing may be decided.
    Unknown,
    /// It exists and is mirrored.
    Present(NamespaceId),
    /// It does not exist, for this reason.
    Absent(EcoString),
}

/// The wanted objects of all rows.
#[derive(Clone, Debug)]
pub struct Want {
    mark: Mark,
    claims: BTreeMap<ObjectKey, Vec<Wanted>>,
    namespaces: HashMap<NetnsRef, Resolution>,
    references: HashMap<NamespaceId, BTreeSet<NetnsRef>>,
    users: HashMap<NetnsRef, BTreeSet<ObjectKey>>,
    dependents: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// Where objects were that may still be there, and for whom.
    left: BTreeMap<ObjectKey, BTreeSet<(NetnsRef, Owner)>>,
    elements: HashMap<ElementKey, BTreeSet<ObjectKey>>,
    settings: HashMap<EcoString, BTreeSet<ObjectKey>>,
    /// The objects because of which there is a packet filter at all.
    filtering: BTreeSet<ObjectKey>,
    /// What leads out of a bridge: links of the server's own namespace.
    ways_out: HashMap<LinkName, BTreeSet<LinkName>>,
    /// The MTUs that rows name for the other ports of a bridge, and how many do.
    mtus: HashMap<LinkName, BTreeMap<u32, usize>>,
}

impl Mark {
    /// The mark of the database with this id.
    pub fn of(database: &[u8]) -> Self {
        let hash = blake3::derive_key("nonnet 2026 link group", database);
        let number = u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]);
        // Small numbers are what people give to groups by hand; the lowest bit tells the doomed.
        Self {
            group: (number & 0x3fff_fffe) | 0x4000_0000,
        }
    }

    /// The group of links that are about to be deleted together.
    pub fn reaper(self) -> u32 {
        self.group | 1
    }

    /// Whether a link of this group is ours.
    pub fn is_ours(self, group: u32) -> bool {
        group | 1 == self.reaper()
    }

    /// The mark of rows in the database of another daemon.
    pub fn row_mark(self) -> EcoString {
        ecow::eco_format!("{:08x}", self.group)
    }

    /// Whether a row with this mark in the database of another daemon is ours.
    pub fn is_our_row(self, mark: &str) -> bool {
        u32::from_str_radix(mark, 16) == Ok(self.group) && mark.len() == 8
    }
}

impl Mark {
    /// What a link's alias says of its being taken over by a row of ours.
    pub fn taken(self, link: &Link) -> Option<Taken> {
        Taken::from_alias(&link.alias).filter(|taken| self.is_ours(taken.group))
    }

    /// Whether a link is ours, made or taken over.
    pub fn owns(self, link: &Link) -> bool {
        self.is_ours(link.group) || self.taken(link).is_some()
    }

    /// Whether a group is one that marks the links of some database.
    pub fn is_some_marks(group: u32) -> bool {
        group >> 30 == 1
    }
}

impl Want {
    /// Nothing wanted, under this mark.
    pub fn new(mark: Mark) -> Self {
        Self {
            mark,
            claims: BTreeMap::new(),
            namespaces: HashMap::new(),
            references: HashMap::new(),
            users: HashMap::new(),
            dependents: HashMap::new(),
            left: BTreeMap::new(),
            elements: HashMap::new(),
            settings: HashMap::new(),
            filtering: BTreeSet::new(),
            ways_out: HashMap::new(),
            mtus: HashMap::new(),
        }
    }

    /// The mark of what is ours.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The wanted object of this key: of several owners that want it, the one that came first.
    pub fn get(&self, key: &ObjectKey) -> Option<&Wanted> {
        self.claims.get(key).and_then(|claims| claims.first())
    }

    /// All keys that are wanted.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.claims.keys()
    }

    /// Wants an object, in place of what the same owner wanted under the same key.
    pub fn insert(&mut self, wanted: Wanted) {
        let key = wanted.key();
        self.unlink(&key);
        let claims = self.claims.entry(key.clone()).or_default();
        match claims.iter_mut().find(|claim| claim.owner == wanted.owner) {
            Some(claim) => *claim = wanted,
            None => claims.push(wanted),
        }
        self.link(&key);
    }

    /// Wants an object no longer for this owner.
    pub fn remove(&mut self, key: &ObjectKey, owner: &Owner) {
        self.unlink(key);
        if let Some(claims) = self.claims.get_mut(key) {
            claims.retain(|claim| claim.owner != *owner);
            if claims.is_empty() {
                self.claims.remove(key);
            }
        }
        self.link(key);
    }

    /// Notes where a namespace is.
    pub fn resolve(&mut self, netns: NetnsRef, resolution: Resolution) {
        self.forget(&netns);
        if let Resolution::Present(id) = resolution {
            self.references.entry(id).or_default().insert(netns.clone());
        }
        self.namespaces.insert(netns, resolution);
    }

    /// Forgets where a namespace is, once no object reaches into it.
    pub fn forget(&mut self, netns: &NetnsRef) {
        if let Some(Resolution::Present(id)) = self.namespaces.remove(netns) {
            let left = self.references.get_mut(&id).map(|of| {
                of.remove(netns);
                of.len()
            });
            if left == Some(0) {
                self.references.remove(&id);
            }
        }
    }

    /// Where a namespace is.
    pub fn resolution(&self, netns: &NetnsRef) -> Resolution {
        match netns {
            NetnsRef::Host => Resolution::Present(NamespaceId::Host),
            other => self.namespaces.get(other).cloned().unwrap_or(Resolution::Unknown),
        }
    }

    /// The objects that reach into a namespace by this reference, or did and may still be there.
    pub fn users(&self, netns: &NetnsRef) -> impl Iterator<Item = &ObjectKey> {
        let left = self
            .left
            .iter()
            .filter(move |(_, places)| places.iter().any(|(left, _)| left == netns));
        self.users
            .get(netns)
            .into_iter()
            .flatten()
            .chain(left.map(|(key, _)| key))
    }

    /// Notes that what one owner wanted under a key was inside a namespace, and has to be taken away there.
    pub fn leave(&mut self, key: &ObjectKey, netns: NetnsRef, owner: Owner) {
        self.left.entry(key.clone()).or_default().insert((netns, owner));
    }

    /// The namespaces in which there may be something of a key that has to be taken away, and for whom it was there.
    pub fn left(&self, key: &ObjectKey) -> impl Iterator<Item = &(NetnsRef, Owner)> {
        self.left.get(key).into_iter().flatten()
    }

    /// The keys of which there may be something that has to be taken away.
    pub fn left_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.left.keys()
    }

    /// Notes that nothing of a key is left anywhere. Gives where it was.
    pub fn cleared(&mut self, key: &ObjectKey) -> Vec<NetnsRef> {
        let left = self.left.remove(key).unwrap_or_default();
        left.into_iter().map(|(netns, _)| netns).collect()
    }

    /// The objects that reach into a namespace, by whatever reference.
    pub fn inhabitants(&self, id: NamespaceId) -> impl Iterator<Item = &ObjectKey> {
        let references = self.references.get(&id).into_iter().flatten();
        references.flat_map(|netns| self.users(netns))
    }

    /// Whether a port in a namespace wants a setting below `/proc/sys/net` there.
    pub fn wants_sysctl(&self, id: NamespaceId, path: &str) -> bool {
        let host = (id == NamespaceId::Host).then(|| self.users(&NetnsRef::Host));
        let keys = self.inhabitants(id).chain(host.into_iter().flatten());
        let mut objects = keys.filter_map(|key| self.get(key)).map(|wanted| &wanted.object);
        objects.any(|object| matches!(object, Object::Port(port) if port.sysctls.contains_key(path)))
    }

    /// The objects that need this one.
    pub fn dependents(&self, key: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        self.dependents.get(key).into_iter().flatten()
    }

    /// The links that lead out of a bridge.
    pub(crate) fn ways_out(&self, bridge: &LinkName) -> impl Iterator<Item = &LinkName> {
        self.ways_out.get(bridge).into_iter().flatten()
    }

    /// The lowest MTU that a row names for a port of a bridge which does not lead out of it.
    pub(crate) fn lowest_mtu_on(&self, bridge: &LinkName) -> Option<u32> {
        self.mtus.get(bridge)?.keys().next().copied()
    }

    /// The bridge that a link leads out of.
    pub(crate) fn led_out_of(&self, link: &LinkName) -> Option<&LinkName> {
        let keys = [ObjectKey::Link(link.clone()), ObjectKey::OvsPort(link.clone())];
        keys.iter()
            .find_map(|key| way_out(self.get(key)?))
            .map(|(bridge, _)| bridge)
    }

    /// The links whose MTU may be another one when that of this link is.
    pub(crate) fn along(&self, link: &LinkName) -> BTreeSet<ObjectKey> {
        let mut found = BTreeSet::new();
        let mut queue = vec![link.clone()];
        while let Some(link) = queue.pop() {
            let key = ObjectKey::Link(link.clone());
            let on_it = self.dependents(&key);
            let on_it = on_it.filter_map(|key| match &self.get(key)?.object {
                Object::Port(port) => Some(&port.name),
                Object::OvsPort(port) if port.bridge == link => Some(&port.name),
                _ => None,
            });
            for next in on_it.chain(self.led_out_of(&link)) {
                if found.insert(ObjectKey::Link(next.clone())) {
                    queue.push(next.clone());
                }
            }
        }
        found
    }

    /// The keys under which owners want addresses on a link of the server's own namespace.
    pub fn address_keys<'a>(&'a self, link: &'a LinkName) -> impl Iterator<Item = &'a ObjectKey> {
        let from = ObjectKey::Addresses {
            link: link.clone(),
            owner: Owner::first(),
        };
        self.claims
            .range(from..)
            .map(|(key, _)| key)
            .take_while(move |key| key.link() == Some(link))
    }

    /// Notes that the lease which a port's row has ends at another time, which the row learns without being compiled again.
    pub fn renew(&mut self, port: &LinkName, address: Ipv4Net, expires: Option<u64>) {
        let claims = self.claims.get_mut(&ObjectKey::Dhcp(port.clone()));
        for claim in claims.into_iter().flatten() {
            if let Object::Dhcp(Dhcp { lease: Some(lease), .. }) = &mut claim.object
                && lease.address == address
            {
                lease.expires = expires;
            }
        }
    }

    /// The key of the routes of the server's own namespace, if any are wanted.
    pub fn host_routes(&self) -> Option<ObjectKey> {
        let key = ObjectKey::Routes(NetnsRef::Host);
        self.claims.contains_key(&key).then_some(key)
    }

    /// All addresses that owners want on a link of the server's own namespace.
    pub fn addresses_on(&self, link: &LinkName) -> BTreeSet<IpNet> {
        self.address_keys(link)
            .filter_map(|key| self.get(key))
            .flat_map(|wanted| match &wanted.object {
                Object::Addresses(on) => on.addresses.as_slice(),
                _ => &[],
            })
            .copied()
            .collect()
    }

    /// The addresses on which owners want names answered.
    pub fn listening(&self) -> BTreeSet<IpAddr> {
        let first = ObjectKey::NameServer { owner: Owner::first() };
        let servers = self.claims.range(first..);
        servers
            .take_while(|(key, _)| matches!(key, ObjectKey::NameServer { .. }))
            .filter_map(|(_, claims)| claims.first())
            .flat_map(|wanted| match &wanted.object {
                Object::NameServer(server) => server.addresses.iter().copied().collect(),
                _ => Vec::new(),
            })
            .collect()
    }

    /// Whether what an owner wrote for a namespace may be what it still wants: that of a container or process has several names.
    pub(crate) fn may_want_file(&self, netns: &NetnsRef, owner: &Owner) -> bool {
        let first = ObjectKey::ResolvConf {
            netns: NetnsRef::Host,
            owner: Owner::first(),
        };
        let keys = self.claims.range(first..).map(|(key, _)| key);
        let mut wishes = keys.map_while(|key| match key {
            ObjectKey::ResolvConf { netns, owner } => Some((netns, owner)),
            _ => None,
        });
        wishes.any(|(of, by)| match of {
            _ if of == netns => true,
            NetnsRef::Lxc { .. } | NetnsRef::Pid(_) => by == owner,
            NetnsRef::Host | NetnsRef::Name(_) | NetnsRef::Path(_) => false,
        })
    }

    /// What owners want in the `resolv.conf` of a namespace, in the order of the owners.
    pub fn resolv_confs<'a>(&'a self, netns: &'a NetnsRef) -> impl Iterator<Item = (&'a Owner, &'a ResolvConf)> {
        let first = ObjectKey::ResolvConf {
            netns: netns.clone(),
            owner: Owner::first(),
        };
        let of = move |key: &ObjectKey| matches!(key, ObjectKey::ResolvConf { netns: of, .. } if of == netns);
        let wishes = self.claims.range(first..).take_while(move |(key, _)| of(key));
        wishes
            .filter_map(|(_, claims)| claims.first())
            .filter_map(|wanted| match &wanted.object {
                Object::ResolvConf(wish) => Some((&wanted.owner, wish)),
                _ => None,
            })
    }

    /// The port whose inner end is wanted in the server's own namespace under this name.
    pub fn inner_end_on_host(&self, name: &LinkName) -> Option<&ObjectKey> {
        self.users(&NetnsRef::Host).find(|key| {
            self.get(key)
                .is_some_and(|w| matches!(&w.object, Object::Port(port) if port.ifname == *name && port.name != *name))
        })
    }

    /// Whether a port wants an end of its own in the server's own namespace under this name: what is on it is the port's business.
    pub fn has_end_on_host(&self, name: &LinkName) -> bool {
        self.users(&NetnsRef::Host).any(|key| {
            self.get(key)
                .is_some_and(|w| matches!(&w.object, Object::Port(port) if port.ifname == *name))
        })
    }

    /// The objects that want an element of the packet filter.
    pub fn wanting_element(&self, key: &ElementKey) -> impl Iterator<Item = &ObjectKey> {
        self.elements.get(key).into_iter().flatten()
    }

    /// The objects that want a setting of the server's own namespace, by its path.
    pub fn wanting_setting(&self, path: &str) -> impl Iterator<Item = &ObjectKey> {
        self.settings.get(path).into_iter().flatten()
    }

    /// The keys under which owners want something of the packet filter.
    pub fn firewall_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        let owner = Owner {
            table: EcoString::new(),
            uuid: 0,
        };
        let from = ObjectKey::Firewall { owner };
        self.claims
            .range(from..)
            .map(|(key, _)| key)
            .take_while(|key| matches!(key, ObjectKey::Firewall { .. }))
    }

    /// Whether something is wanted of the packet filter that does not only tell other rows' rules where a network is.
    pub fn filters(&self) -> bool {
        !self.filtering.is_empty()
    }

    /// Whether an object is only wanted if others want something, too, and they do not.
    pub fn is_dormant(&self, key: &ObjectKey) -> bool {
        matches!(key, ObjectKey::Firewall { .. }) && !self.filters()
    }

    fn unlink(&mut self, key: &ObjectKey) {
        if let Some(firewall) = firewall(&self.claims, key) {
            for element in firewall.elements.keys() {
                remove_from(&mut self.elements, element, key);
            }
            for setting in firewall.settings.keys() {
                remove_from(&mut self.settings, &setting.path, key);
            }
            self.filtering.remove(key);
        }
        if let Some((bridge, link)) = self.get(key).and_then(way_out).map(owned)
            && let Some(links) = self.ways_out.get_mut(&bridge)
        {
            links.remove(&link);
        }
        if let Some((bridge, mtu)) = self.get(key).and_then(own_mtu)
            && let Some(mtus) = self.mtus.get_mut(&bridge)
            && let Some(count) = mtus.get_mut(&mtu)
        {
            *count -= 1;
            mtus.retain(|_, count| *count > 0);
        }
        let (netns, on) = self.relations(key);
        if let Some(netns) = netns {
            remove_from(&mut self.users, &netns, key);
        }
        for on in on {
            remove_from(&mut self.dependents, &on, key);
        }
    }

    fn link(&mut self, key: &ObjectKey) {
        if let Some(firewall) = firewall(&self.claims, key) {
            for element in firewall.elements.keys() {
                self.elements.entry(element.clone()).or_default().insert(key.clone());
            }
            for setting in firewall.settings.keys() {
                self.settings
                    .entry(setting.path.clone())
                    .or_default()
                    .insert(key.clone());
            }
            if !firewall.is_passive() {
                self.filtering.insert(key.clone());
            }
        }
        if let Some((bridge, link)) = self.get(key).and_then(way_out).map(owned) {
            self.ways_out.entry(bridge).or_default().insert(link);
        }
        if let Some((bridge, mtu)) = self.get(key).and_then(own_mtu) {
            *self.mtus.entry(bridge).or_default().entry(mtu).or_default() += 1;
        }
        let (netns, on) = self.relations(key);
        if let Some(netns) = netns {
            self.users.entry(netns).or_default().insert(key.clone());
        }
        for on in on {
            self.dependents.entry(on).or_default().insert(key.clone());
        }
    }

    /// The namespace that the object of this key is in, and the objects that it needs.
    fn relations(&self, key: &ObjectKey) -> (Option<NetnsRef>, Vec<ObjectKey>) {
        let object = self.get(key).map(|wanted| &wanted.object);
        let netns = object.and_then(|object| object.netns().cloned());
        (netns, object.map(Object::depends_on).unwrap_or_default())
    }
}

/// The bridge that an object leads out of, and its link.
fn way_out(wanted: &Wanted) -> Option<(&LinkName, &LinkName)> {
    match &wanted.object {
        Object::Port(port) if port.leads_out() => Some((port.bridge.as_ref()?, &port.name)),
        // The other ports of a bridge of Open vSwitch are those of rows of their own.
        Object::OvsPort(port) if wanted.owner.table == "bridges" => Some((&port.bridge, &port.name)),
        _ => None,
    }
}

fn owned((bridge, link): (&LinkName, &LinkName)) -> (LinkName, LinkName) {
    (bridge.clone(), link.clone())
}

/// The MTU that a row names for a port which does not lead out of its bridge, and the bridge.
fn own_mtu(wanted: &Wanted) -> Option<(LinkName, u32)> {
    match &wanted.object {
        Object::Port(port) if !port.leads_out() => Some((port.bridge.clone()?, port.mtu?)),
        _ => None,
    }
}

fn firewall<'a>(claims: &'a BTreeMap<ObjectKey, Vec<Wanted>>, key: &ObjectKey) -> Option<&'a Firewall> {
    match claims.get(key)?.first().map(|wanted| &wanted.object) {
        Some(Object::Firewall(firewall)) => Some(firewall),
        _ => None,
    }
}

/// Takes `key` out of the set at `place`; a set that is left empty goes.
fn remove_from<K: Eq + Hash>(sets: &mut HashMap<K, BTreeSet<ObjectKey>>, place: &K, key: &ObjectKey) {
    if let Some(set) = sets.get_mut(place) {
        set.remove(key);
        if set.is_empty() {
            sets.remove(place);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use crate::object::{Addresses, Bridge, BridgeSettings};

    fn bridge(uuid: u128, stp: bool) -> Wanted {
        let name = LinkName::observed("br0");
        let object = Object::Bridge(Bridge {
            name,
            mac: None,
            mtu: None,
            settings: BridgeSettings {
                stp: Some(stp),
                ..BridgeSettings::NEW
            },
            ipv6: false,
            adopt: false,
        });
        Wanted {
            owner: Owner {
                table: "bridges".into(),
                uuid,
            },
            object,
        }
    }

    #[test]
    fn second_owner_takes_over_when_the_first_leaves() {
        let mut want = Want::new(Mark::of(b"x"));
        want.insert(bridge(1, false));
        want.insert(bridge(2, true));
        let key = bridge(1, false).key();
        assert_eq!(want.get(&key).unwrap().owner.uuid, 1);
        want.remove(&key, &bridge(1, false).owner);
        assert_eq!(want.get(&key).unwrap().owner.uuid, 2);
    }

    #[test]
    fn addresses_on_a_link_are_those_of_all_owners() {
        let mut want = Want::new(Mark::of(b"x"));
        for (uuid, link, address) in [
            (1, "br0", "10.0.0.1/24"),
            (2, "br0", "10.0.1.1/24"),
            (3, "br1", "10.0.2.1/24"),
        ] {
            let addresses = vec![address.parse().unwrap()];
            let object = Object::Addresses(Addresses {
                link: LinkName::observed(link),
                addresses,
            });
            want.insert(Wanted {
                owner: Owner {
                    table: "networks".into(),
                    uuid,
                },
                object,
            });
        }
        assert_eq!(want.addresses_on(&LinkName::observed("br0")).len(), 2);
        assert_eq!(want.dependents(&ObjectKey::Link(LinkName::observed("br1"))).count(), 1);
    }

    #[test]
    fn mark_tells_ours_and_doomed_from_all_others() {
        let mark = Mark::of(b"database");
        assert!(mark.is_ours(mark.group) && mark.is_ours(mark.reaper()));
        assert!(!mark.is_ours(0) && !mark.is_ours(77) && !mark.is_ours(mark.group ^ 2));
    }
}
