//! The names of a host's networks: what a resolver answers from.
//!
//! Takes the settings of networks and the names of ports, a row at a time; answers questions. A clone costs nothing and stays as it is, so
//! that who answers never waits for who commits. Names are seen within their network, and from networks that say so. It must never hold
//! what is not committed.

use std::net::IpAddr;
use std::sync::Arc;

use ecow::{EcoString, eco_format};
use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;

use crate::limits::{ADDRESSES_PER_ANSWER_MAX, NAMES_PER_ANSWER_MAX};

/// A row, by its UUID.
type Id = u128;

/// Where questions go that a network has no answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// To the nameservers of the host.
    Host,
    /// To these.
    Servers(Vec<IpAddr>),
    /// Nowhere: nothing leaves the network.
    Nowhere,
}

/// What a network says about its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The network's name.
    pub network: EcoString,
    /// The domain of its names, in lower case.
    pub domain: Option<EcoString>,
    /// Its subnets; who asks must have an address there, and the names of addresses there are known here or not at all.
    pub subnets: Vec<IpNet>,
    /// The addresses on which it is answered.
    pub listens: Vec<IpAddr>,
    /// Where other questions go.
    pub upstream: Upstream,
    /// Other networks whose names are seen from it.
    pub sees: Vec<EcoString>,
}

/// A port's names and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The network.
    pub network: Id,
    /// The names, in lower case.
    pub names: Vec<EcoString>,
    /// The addresses, without prefix lengths.
    pub addresses: Vec<IpAddr>,
    /// Whether the row asks for names itself, and does not only have one of a container.
    pub asks: bool,
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It has these addresses, of both families; `apex` is the top of its zone.
    Addresses {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// The name of the zone.
        apex: EcoString,
    },
    /// It exists and has no addresses.
    Empty {
        /// The name of the zone.
        apex: EcoString,
    },
    /// It does not exist.
    Missing {
        /// The name of the zone.
        apex: EcoString,
    },
    /// It is none of ours.
    Elsewhere,
}

/// The names that an address has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// These, complete with their domain.
    Names(Vec<EcoString>),
    /// None, and nobody else knows one: the address is in a subnet of the network.
    Missing,
    /// It is none of ours.
    Elsewhere,
}

/// All names.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    zones: OrdMap<Id, Arc<Zone>>,
    by_network: OrdMap<EcoString, Id>,
    by_listener: OrdMap<IpAddr, Id>,
    entries: OrdMap<Id, Arc<Entry>>,
    names: OrdMap<(Id, EcoString), OrdSet<(IpAddr, Id)>>,
    addresses: OrdMap<(Id, IpAddr), OrdSet<(EcoString, Id)>>,
    asking: OrdMap<Id, usize>,
}

impl Directory {
    /// Sets or takes away the zone of the network with this id.
    pub fn set_zone(&mut self, id: Id, zone: Option<Zone>) {
        if let Some(old) = self.zones.remove(&id) {
            if self.by_network.get(&old.network) == Some(&id) {
                self.by_network.remove(&old.network);
            }
            for address in &old.listens {
                if self.by_listener.get(address) == Some(&id) {
                    self.by_listener.remove(address);
                }
            }
        }
        if let Some(zone) = zone {
            self.by_network.insert(zone.network.clone(), id);
            for address in &zone.listens {
                self.by_listener.insert(*address, id);
            }
            self.zones.insert(id, Arc::new(zone));
        }
    }

    /// Sets or takes away the names of the port with this id.
    pub fn set_entry(&mut self, id: Id, entry: Option<Entry>) {
        if let Some(old) = self.entries.remove(&id) {
            for (name, address) in pairs(&old) {
                take(&mut self.names, &(old.network, name.clone()), &(address, id));
                take(&mut self.addresses, &(old.network, address), &(name.clone(), id));
            }
            if old.asks {
                let left = self.asking.get(&old.network).map_or(0, |count| count - 1);
                if left == 0 {
                    self.asking.remove(&old.network);
                } else {
                    self.asking.insert(old.network, left);
                }
            }
        }
        if let Some(entry) = entry {
            for (name, address) in pairs(&entry) {
                let key = (entry.network, name.clone());
                self.names.entry(key).or_default().insert((address, id));
                let key = (entry.network, address);
                self.addresses.entry(key).or_default().insert((name.clone(), id));
            }
            if entry.asks {
                *self.asking.entry(entry.network).or_insert(0) += 1;
            }
            self.entries.insert(id, Arc::new(entry));
        }
    }

    /// The network of the port with this id.
    pub fn network_of(&self, port: Id) -> Option<Id> {
        self.entries.get(&port).map(|entry| entry.network)
    }

    /// Whether some port of the network asks for names.
    pub fn has_names(&self, network: Id) -> bool {
        self.asking.contains_key(&network)
    }

    /// The network that is answered on an address.
    pub fn network_at(&self, listener: IpAddr) -> Option<Id> {
        self.by_listener.get(&listener).copied()
    }

    /// The zone of a network.
    pub fn zone(&self, network: Id) -> Option<&Zone> {
        self.zones.get(&network).map(Arc::as_ref)
    }

    /// Whether the server itself listens on this address.
    pub fn is_listener(&self, address: IpAddr) -> bool {
        self.by_listener.contains_key(&address)
    }

    /// Looks up a name (in lower case, without a dot at its end) as it is seen from a network.
    pub fn lookup(&self, from: Id, name: &str) -> Lookup {
        let Some(zone) = self.zones.get(&from) else {
            return Lookup::Elsewhere;
        };
        let mut authority = None;
        for id in self.seen(from, zone) {
            let domain = self.zones.get(&id).and_then(|zone| zone.domain.clone());
            let Some(domain) = domain else { continue };
            if name == domain {
                return Lookup::Empty { apex: domain };
            }
            let Some(relative) = name
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
            else {
                continue;
            };
            match self.within(id, relative) {
                Some(addresses) if addresses.is_empty() => return Lookup::Empty { apex: domain },
                Some(addresses) => {
                    return Lookup::Addresses {
                        addresses,
                        apex: domain,
                    };
                }
                None => authority = authority.or(Some(domain)),
            }
        }
        for id in self.seen(from, zone) {
            if let Some(addresses) = self.exact(id, name) {
                let apex = name.into();
                return Lookup::Addresses { addresses, apex };
            }
        }
        authority.map_or(Lookup::Elsewhere, |apex| Lookup::Missing { apex })
    }

    /// The names of an address as they are seen from a network.
    pub fn pointer(&self, from: Id, address: IpAddr) -> Pointer {
        let Some(zone) = self.zones.get(&from) else {
            return Pointer::Elsewhere;
        };
        for id in self.seen(from, zone) {
            let Some(names) = self.addresses.get(&(id, address)) else {
                continue;
            };
            let domain = self.zones.get(&id).and_then(|zone| zone.domain.as_ref());
            let complete = |name: &EcoString| match domain {
                Some(domain) => eco_format!("{name}.{domain}"),
                None => name.clone(),
            };
            let mut names: Vec<EcoString> = names.iter().map(|(name, _)| complete(name)).collect();
            names.dedup();
            names.truncate(NAMES_PER_ANSWER_MAX);
            return Pointer::Names(names);
        }
        if zone.subnets.iter().any(|subnet| subnet.contains(&address)) {
            return Pointer::Missing;
        }
        Pointer::Elsewhere
    }

    /// The network itself, then those that it sees.
    fn seen(&self, from: Id, zone: &Zone) -> Vec<Id> {
        let others = zone.sees.iter().filter_map(|name| self.by_network.get(name).copied());
        std::iter::once(from).chain(others).collect()
    }

    /// The addresses of a name without domain in one network.
    fn exact(&self, network: Id, name: &str) -> Option<Vec<IpAddr>> {
        let found = self.names.get(&(network, name.into()))?;
        let mut addresses: Vec<IpAddr> = found.iter().map(|(address, _)| *address).collect();
        addresses.dedup();
        // Each family by itself: a question is about one of them.
        let mut left = [ADDRESSES_PER_ANSWER_MAX; 2];
        addresses.retain(|address| {
            let left = &mut left[usize::from(address.is_ipv6())];
            let fits = *left > 0;
            *left = left.saturating_sub(1);
            fits
        });
        Some(addresses)
    }

    /// As [`Self::exact`]; empty where the name is only part of longer ones.
    fn within(&self, network: Id, name: &str) -> Option<Vec<IpAddr>> {
        if let Some(addresses) = self.exact(network, name) {
            return Some(addresses);
        }
        let end = eco_format!(".{name}");
        let of = self.names.range((network, EcoString::new())..);
        // Names with dots are few; the search is bounded by the network's names.
        let mut of = of.take_while(|((id, _), _)| *id == network);
        of.any(|((_, longer), _)| longer.ends_with(end.as_str())).then(Vec::new)
    }
}

fn pairs(entry: &Entry) -> impl Iterator<Item = (&EcoString, IpAddr)> {
    entry
        .names
        .iter()
        .flat_map(|name| entry.addresses.iter().map(move |address| (name, *address)))
}

fn take<K: Ord + Clone, V: Ord + Clone>(sets: &mut OrdMap<K, OrdSet<V>>, key: &K, value: &V) {
    let Some(set) = sets.get_mut(key) else { return };
    set.remove(value);
    if set.is_empty() {
        sets.remove(key);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn zone(network: &str, domain: Option<&str>, sees: &[&str]) -> Zone {
        Zone {
            network: network.into(),
            domain: domain.map(Into::into),
            subnets: vec!["10.0.0.0/24".parse().unwrap()],
            listens: vec![],
            upstream: Upstream::Host,
            sees: sees.iter().map(|name| (*name).into()).collect(),
        }
    }

    fn entry(network: Id, names: &[&str], addresses: &[&str]) -> Entry {
        Entry {
            network,
            names: names.iter().map(|name| (*name).into()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            asks: true,
        }
    }

    fn addresses(lookup: Lookup) -> Vec<String> {
        match lookup {
            Lookup::Addresses { addresses, .. } => addresses.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn two_networks() -> Directory {
        let mut directory = Directory::default();
        directory.set_zone(1, Some(zone("a", Some("a.test"), &[])));
        directory.set_zone(2, Some(zone("b", None, &["a"])));
        directory.set_entry(10, Some(entry(1, &["web", "db.deep"], &["10.0.0.2", "fd00::2"])));
        directory.set_entry(20, Some(entry(2, &["cache"], &["10.0.1.2"])));
        directory
    }

    #[test]
    fn name_is_known_bare_and_in_its_domain() {
        let directory = two_networks();
        assert_eq!(addresses(directory.lookup(1, "web")), ["10.0.0.2", "fd00::2"]);
        assert_eq!(addresses(directory.lookup(1, "web.a.test")), ["10.0.0.2", "fd00::2"]);
        assert_eq!(directory.lookup(1, "example.org"), Lookup::Elsewhere);
        assert!(matches!(directory.lookup(1, "no.a.test"), Lookup::Missing { apex } if apex == "a.test"));
        assert!(matches!(directory.lookup(1, "deep.a.test"), Lookup::Empty { .. }));
        assert!(matches!(directory.lookup(1, "a.test"), Lookup::Empty { .. }));
        assert_eq!(directory.lookup(1, "xa.test"), Lookup::Elsewhere);
    }

    #[test]
    fn name_is_seen_from_its_own_network_and_from_those_that_say_so() {
        let directory = two_networks();
        assert_eq!(directory.lookup(1, "cache"), Lookup::Elsewhere);
        assert_eq!(addresses(directory.lookup(2, "web")), ["10.0.0.2", "fd00::2"]);
        assert_eq!(addresses(directory.lookup(2, "cache")), ["10.0.1.2"]);
    }

    #[test]
    fn address_has_names_only_while_its_port_does() {
        let mut directory = two_networks();
        let address = "10.0.0.2".parse().unwrap();
        let names = directory.pointer(1, address);
        assert_eq!(
            names,
            Pointer::Names(vec!["db.deep.a.test".into(), "web.a.test".into()])
        );
        assert_eq!(directory.pointer(1, "192.0.2.1".parse().unwrap()), Pointer::Elsewhere);
        assert!(directory.has_names(1));
        let before = directory.clone();
        directory.set_entry(10, None);
        assert_eq!(directory.pointer(1, address), Pointer::Missing);
        assert!(!directory.has_names(1));
        assert!(before.has_names(1), "a clone stays as it is");
        assert_eq!(directory.lookup(1, "web"), Lookup::Elsewhere);
    }
}
