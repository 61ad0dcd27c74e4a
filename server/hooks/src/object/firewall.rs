//! What a row wants of the packet filter: elements of sets that fixed rules look into, and settings that let packets pass.
//!
//! The rules are the same on every host, whatever the rows are; only the contents of the sets differ. A [`Set`] says what its elements are made of.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ecow::EcoString;
use ipnet::IpNet;

use self::words::Words;
use crate::name::{LinkName, Mac};
use crate::object::Owner;

/// What one row wants of the packet filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Elements of sets.
    pub elements: BTreeMap<ElementKey, Vec<Part>>,
    /// Settings of the server's own namespace, with their values.
    pub settings: BTreeMap<Setting, EcoString>,
}

/// A setting below `/proc/sys/net` of the server's own namespace that is borrowed: its old value comes back when nobody needs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Setting {
    /// The path below `/proc/sys/net`, with slashes.
    pub path: EcoString,
    /// The link whose setting it is.
    pub link: Option<LinkName>,
}

/// What tells an element from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementKey {
    /// The set.
    pub set: Set,
    /// Its key, one part per field of the set's key.
    pub key: Vec<Part>,
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// What it is found by.
    pub key: ElementKey,
    /// What is found; empty where the set is no map.
    pub data: Vec<Part>,
}

/// One part of a key or of data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A link's name.
    Link(LinkName),
    /// An address.
    Address(IpAddr),
    /// All addresses of a subnet.
    Subnet(IpNet),
    /// A hardware address.
    Mac(Mac),
    /// A transport protocol.
    Protocol(Protocol),
    /// A port.
    Port(u16),
    /// All ports from the first to the last.
    Ports(u16, u16),
}

/// A transport protocol with ports, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

/// What a field of a set's key or data holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The number of the address family that the set is for (`meta nfproto`); no part stands for it.
    Family,
    /// A link's name.
    Link,
    /// An address of IPv4.
    Ipv4,
    /// An address of IPv6.
    Ipv6,
    /// A hardware address.
    Mac,
    /// A transport protocol.
    Protocol,
    /// A port.
    Port,
}

/// The shape of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its name.
    pub name: &'static str,
    /// Whether it is in the table of family `bridge`, not `inet`.
    pub bridge: bool,
    /// The fields of its key.
    pub key: &'static [Field],
    /// The fields of what it gives; empty for a set that is no map.
    pub data: &'static [Field],
    /// Whether its keys are ranges.
    pub ranges: bool,
}

/// A set that the rules look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// Pairs of links between which packets may pass whatever isolation says: a bridge with itself.
    Within,
    /// Bridges on which this host is the gateway of a network.
    Routed,
    /// Bridges of networks that other networks are kept from.
    Isolated,
    /// Bridges of networks without a way out or in.
    Internal,
    /// Bridges behind which ports are that the host reaches at its loopback addresses.
    Localnet,
    /// Pairs of IPv4 subnets of networks whose ports are kept from each other.
    Private4,
    /// The same of IPv6.
    Private6,
    /// IPv4 subnets that this host is the gateway of, with their bridge.
    Local4,
    /// The same of IPv6.
    Local6,
    /// IPv4 subnets whose packets leave with the address of the link that they leave by.
    Masquerade4,
    /// The same of IPv6.
    Masquerade6,
    /// IPv4 subnets whose packets leave with a fixed address.
    Source4,
    /// The same of IPv6.
    Source6,
    /// Pairs of IPv4 subnets within a network: what comes back to it by way of the host gets the host's address.
    Hairpin4,
    /// The same of IPv6.
    Hairpin6,
    /// Forwards from one port of an IPv4 address.
    Forward4,
    /// The same of IPv6.
    Forward6,
    /// Forwards from ports of an IPv4 address to the same ports.
    Range4,
    /// The same of IPv6.
    Range6,
    /// Forwards from one port of any IPv4 address of the host.
    Any4,
    /// The same of IPv6.
    Any6,
    /// Forwards from ports of any IPv4 address of the host to the same ports.
    AnyRange4,
    /// The same of IPv6.
    AnyRange6,
    /// Ports of bridges whose packets must have their own addresses.
    Guarded,
    /// The hardware addresses of those.
    GuardedMac,
    /// The IPv4 addresses of those.
    Guarded4,
    /// The IPv6 addresses of those.
    Guarded6,
}

impl Set {
    /// All sets.
    pub const ALL: [Self; 27] = [
        Self::Within,
        Self::Routed,
        Self::Isolated,
        Self::Internal,
        Self::Localnet,
        Self::Private4,
        Self::Private6,
        Self::Local4,
        Self::Local6,
        Self::Masquerade4,
        Self::Masquerade6,
        Self::Source4,
        Self::Source6,
        Self::Hairpin4,
        Self::Hairpin6,
        Self::Forward4,
        Self::Forward6,
        Self::Range4,
        Self::Range6,
        Self::Any4,
        Self::Any6,
        Self::AnyRange4,
        Self::AnyRange6,
        Self::Guarded,
        Self::GuardedMac,
        Self::Guarded4,
        Self::Guarded6,
    ];

    /// Its shape.
    pub fn shape(self) -> Shape {
        use Field::{Family, Ipv4, Ipv6, Link, Mac, Port, Protocol};
        let set = |name, key| Shape {
            name,
            bridge: false,
            key,
            data: &[],
            ranges: false,
        };
        let ranges = |name, key| Shape {
            ranges: true,
            ..set(name, key)
        };
        let map = |name, key, data| Shape { data, ..set(name, key) };
        let range_map = |name, key, data| Shape {
            data,
            ..ranges(name, key)
        };
        let bridge = |name, key| Shape {
            bridge: true,
            ..set(name, key)
        };
        match self {
            Self::Within => set("within", &[Link, Link]),
            Self::Routed => set("routed", &[Link]),
            Self::Isolated => set("isolated", &[Link]),
            Self::Internal => set("internal", &[Link]),
            Self::Localnet => set("localnet", &[Link]),
            Self::Private4 => ranges("private4", &[Ipv4, Ipv4]),
            Self::Private6 => ranges("private6", &[Ipv6, Ipv6]),
            Self::Local4 => ranges("local4", &[Ipv4, Link]),
            Self::Local6 => ranges("local6", &[Ipv6, Link]),
            Self::Masquerade4 => ranges("masquerade4", &[Family, Ipv4]),
            Self::Masquerade6 => ranges("masquerade6", &[Family, Ipv6]),
            Self::Source4 => range_map("source4", &[Family, Ipv4], &[Ipv4]),
            Self::Source6 => range_map("source6", &[Family, Ipv6], &[Ipv6]),
            Self::Hairpin4 => ranges("hairpin4", &[Ipv4, Ipv4]),
            Self::Hairpin6 => ranges("hairpin6", &[Ipv6, Ipv6]),
            Self::Forward4 => map("forward4", &[Protocol, Ipv4, Port], &[Ipv4, Port]),
            Self::Forward6 => map("forward6", &[Protocol, Ipv6, Port], &[Ipv6, Port]),
            Self::Range4 => range_map("range4", &[Protocol, Ipv4, Port], &[Ipv4]),
            Self::Range6 => range_map("range6", &[Protocol, Ipv6, Port], &[Ipv6]),
            Self::Any4 => map("any4", &[Protocol, Port], &[Ipv4, Port]),
            Self::Any6 => map("any6", &[Protocol, Port], &[Ipv6, Port]),
            Self::AnyRange4 => range_map("anyrange4", &[Protocol, Port], &[Ipv4]),
            Self::AnyRange6 => range_map("anyrange6", &[Protocol, Port], &[Ipv6]),
            Self::Guarded => bridge("guarded", &[Link]),
            Self::GuardedMac => bridge("guarded_mac", &[Link, Mac]),
            Self::Guarded4 => bridge("guarded4", &[Link, Ipv4]),
            Self::Guarded6 => bridge("guarded6", &[Link, Ipv6]),
        }
    }
}

/// What the kernel has of the packet filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Whether the tables, chains, rules and sets are there as they should be.
    pub intact: bool,
    /// Whether anything of them is there.
    pub present: bool,
    /// Whether the kernel has no packet filter at all.
    pub unsupported: bool,
    /// What of somebody else's keeps packets from passing, in words.
    pub obstacles: BTreeSet<EcoString>,
    /// Settings of the server's own namespace that were read, with their values.
    pub settings: BTreeMap<EcoString, EcoString>,
    /// Settings that were changed, with their values from before.
    pub borrowed: BTreeMap<EcoString, EcoString>,
    elements: BTreeMap<ElementKey, (Vec<Part>, Owner)>,
    by_owner: BTreeMap<Owner, BTreeSet<ElementKey>>,
}

/// A change of sets, carried out at once or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElementChange {
    /// Whether the tables, chains, rules and sets are to be made as they should be, first.
    pub build: bool,
    /// Whether the tables are to go, with all that is in them.
    pub remove: bool,
    /// Elements that go, as they are.
    pub delete: Vec<Element>,
    /// Elements that come.
    pub add: Vec<Element>,
    /// Who wants what comes.
    pub owner: Option<Owner>,
}

/// What is done with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Borrow {
    /// The path below `/proc/sys/net` of the server's own namespace.
    pub path: EcoString,
    /// The value that is needed; `None` gives back the one from before.
    pub value: Option<EcoString>,
}

impl Firewall {
    /// Wants an element.
    pub fn add(&mut self, set: Set, key: impl IntoIterator<Item = Part>, data: impl IntoIterator<Item = Part>) {
        let key = ElementKey {
            set,
            key: key.into_iter().collect(),
        };
        self.elements.insert(key, data.into_iter().collect());
    }

    /// Wants packets of a family to be forwarded.
    pub fn forwarding(&mut self, ipv4: bool) {
        let path = if ipv4 {
            "ipv4/ip_forward"
        } else {
            "ipv6/conf/all/forwarding"
        };
        let setting = Setting {
            path: path.into(),
            link: None,
        };
        self.settings.insert(setting, "1".into());
    }

    /// Wants packets to pass between this host's loopback addresses and a link.
    pub fn route_localnet(&mut self, link: &LinkName) {
        let setting = Setting {
            path: ecow::eco_format!("ipv4/conf/{link}/route_localnet"),
            link: Some(link.clone()),
        };
        self.settings.insert(setting, "1".into());
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty() && self.settings.is_empty()
    }

    /// The link without which not everything can be there.
    pub fn link(&self) -> Option<&LinkName> {
        self.settings.keys().find_map(|setting| setting.link.as_ref())
    }

    /// Whether all that is wanted only tells other rows' rules where the network is, and changes nothing by itself.
    pub fn is_passive(&self) -> bool {
        use Set::{Hairpin4, Hairpin6, Local4, Local6, Routed, Within};
        let passive = |key: &ElementKey| matches!(key.set, Within | Routed | Local4 | Local6 | Hairpin4 | Hairpin6);
        self.settings.is_empty() && self.elements.keys().all(passive)
    }

    /// Whether packets are to pass through this host.
    pub fn forwards(&self) -> bool {
        self.settings.keys().any(|setting| setting.link.is_none())
    }
}

impl Installed {
    /// What there is where the kernel has no packet filter at all.
    pub fn unsupported() -> Self {
        Self {
            unsupported: true,
            ..Self::default()
        }
    }

    /// Nothing but settings that were changed, with their values from before.
    pub fn borrowed(borrowed: BTreeMap<EcoString, EcoString>) -> Self {
        Self {
            borrowed,
            ..Self::default()
        }
    }

    /// What is found by a key.
    pub fn data(&self, key: &ElementKey) -> Option<&Vec<Part>> {
        self.elements.get(key).map(|(data, _)| data)
    }

    /// All elements, with who wanted them.
    pub fn elements(&self) -> impl Iterator<Item = (&ElementKey, &Vec<Part>, &Owner)> {
        self.elements.iter().map(|(key, (data, owner))| (key, data, owner))
    }

    /// The elements that an owner wanted.
    pub fn of<'a>(&'a self, owner: &Owner) -> impl Iterator<Item = &'a ElementKey> + use<'a> {
        self.by_owner.get(owner).into_iter().flatten()
    }

    /// Takes in an element; gives whether that changes anything.
    pub fn insert(&mut self, element: Element, owner: Owner) -> bool {
        let Element { key, data } = element;
        let now = (data, owner);
        if self.elements.get(&key) == Some(&now) {
            return false;
        }
        self.remove(&key);
        self.by_owner.entry(now.1.clone()).or_default().insert(key.clone());
        self.elements.insert(key, now);
        true
    }

    /// Takes out an element; gives who wanted it.
    pub fn remove(&mut self, key: &ElementKey) -> Option<Owner> {
        let (_, owner) = self.elements.remove(key)?;
        if let Some(of) = self.by_owner.get_mut(&owner) {
            of.remove(key);
            if of.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        Some(owner)
    }

    /// Takes out all elements.
    pub fn clear(&mut self) {
        self.elements.clear();
        self.by_owner.clear();
    }
}

impl ElementChange {
    /// The change that takes this one back, where there is one: what went with the tables is gone.
    pub fn inverse(&self) -> Option<Self> {
        if self.remove {
            return None;
        }
        if self.build {
            return Some(Self {
                remove: true,
                ..Self::default()
            });
        }
        Some(Self {
            delete: self.add.clone(),
            add: self.delete.clone(),
            owner: self.owner.clone(),
            ..Self::default()
        })
    }
}

impl Protocol {
    /// The protocol of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "sctp" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The protocol of that number.
    pub fn numbered(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| *protocol as u8 == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => write!(f, "{name}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Subnet(net) => write!(f, "{net}"),
            Self::Mac(mac) => write!(f, "{mac}"),
            Self::Protocol(protocol) => write!(f, "{protocol}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Ports(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |parts: &[Part]| parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ");
        write!(f, "{} {{ {}", self.key.set.shape().name, joined(&self.key.key))?;
        if !self.data.is_empty() {
            write!(f, " : {}", joined(&self.data))?;
        }
        f.write_str(" }")
    }
}

impl fmt::Display for ElementChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.build {
            parts.push("build the firewall".to_owned());
        }
        parts.extend(self.delete.iter().map(|element| format!("delete {}", Words(element))));
        parts.extend(self.add.iter().map(|element| format!("add {}", Words(element))));
        if self.remove {
            parts.push("remove the firewall".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Borrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "write {value} to {} in host", self.path),
            None => write!(f, "give {} in host its old value back", self.path),
        }
    }
}
