//! The kernel objects that rows want, as plain values.
//!
//! A table's compile function makes them from a row; [`crate::diff`] compares them with the mirror of the kernel. Nothing here knows
//! rows, databases or netlink.

mod bridge;
pub mod container;
mod dhcp;
pub mod firewall;
mod flood;
mod moved;
mod names;
mod ovs;
mod port;
mod routes;
mod spec;
mod taken;
mod traffic;
mod vlans;
pub mod wireguard;

use std::fmt;
use std::net::IpAddr;

use ecow::EcoString;
use ipnet::IpNet;

pub use self::bridge::{Bridge, BridgeSettings};
pub use self::container::{Container, Mesh};
pub use self::dhcp::Dhcp;
pub use self::firewall::Firewall;
pub use self::flood::Flood;
pub use self::moved::{AddressesMove, Moved, Moving, TrialId, takes};
pub use self::names::{Listen, NameServer, ResolvConf, ResolvConfSet};
pub use self::ovs::{
    ANEW, COOKIE, DATAPATH_NETDEV, DROP, Flow, INTERNAL, OvsBridge, OvsGuard, OvsGuardTrace, OvsMark, OvsOperation,
    OvsPort, PATCH, QUEUE_LEFT,
};
pub use self::port::{Datapath, Port, PortKind, RANK, Role, Single};
pub use self::routes::Routes;
pub use self::spec::{
    Bond, BondHash, BondMode, Fit, Geneve, Ipvlan, IpvlanMode, IpvlanReach, Macvlan, MacvlanMode, Spec, Tap, Vlan,
    Vxlan,
};
pub use self::taken::{Former, Taken};
pub use self::traffic::{Hook, Shape, Traffic, TrafficChange, TrafficSet};
pub use self::vlans::{Membership, VLAN_DEFAULT, VLAN_MAX, Vlans};
pub use self::wireguard::Wireguard;
use crate::limits::ROUTE_TABLE_MAIN;
use crate::name::LinkName;

/// The row that wants an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The table's name.
    pub table: EcoString,
    /// The row's UUID, big-endian.
    pub uuid: u128,
}

/// What an object is called, unique on the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// The link of this name in the server's own namespace, with all that hangs on it (for a veth: the other end, its addresses and routes).
    Link(LinkName),
    /// The addresses that one owner wants on a link of the server's own namespace.
    Addresses {
        /// The link's name.
        link: LinkName,
        /// Who wants the addresses.
        owner: Owner,
    },
    /// The container of this id.
    Container(EcoString),
    /// The membership of the container of this id in a mesh network.
    Mesh(EcoString),
    /// The port of this name in Open vSwitch. (A bridge of Open vSwitch is known by its link.)
    OvsPort(LinkName),
    /// The routes of a namespace that leave through no port's link.
    Routes(NetnsRef),
    /// The DHCP client on the link of the port of this name.
    Dhcp(LinkName),
    /// The keys and peers on the `WireGuard` link of the port of this name.
    Wireguard(LinkName),
    /// What one owner wants of the packet filter.
    Firewall {
        /// Who wants it.
        owner: Owner,
    },
    /// The traffic of the pair with this end on the host.
    Traffic(LinkName),
    /// That names are answered where one owner wants it.
    NameServer {
        /// Who wants it.
        owner: Owner,
    },
    /// What one owner wants in the `resolv.conf` of a namespace.
    ResolvConf {
        /// The namespace.
        netns: NetnsRef,
        /// Who wants it.
        owner: Owner,
    },
}

/// A wanted object and the row that wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The row.
    pub owner: Owner,
    /// The object.
    pub object: Object,
}

/// A kernel object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Linux bridge.
    Bridge(Bridge),
    /// A port: one attachment.
    Port(Port),
    /// Addresses on a link that another row owns: a network's gateways on its bridge.
    Addresses(Addresses),
    /// A container.
    Container(Box<Container>),
    /// A container's membership in a mesh network.
    Mesh(Mesh),
    /// A bridge of Open vSwitch.
    OvsBridge(OvsBridge),
    /// A port of a bridge of Open vSwitch.
    OvsPort(OvsPort),
    /// Routes of a namespace that leave through no port's link.
    Routes(Routes),
    /// A DHCP client.
    Dhcp(Dhcp),
    /// Elements of the packet filter's sets, and settings that let packets pass.
    Firewall(Firewall),
    /// That names are answered on a network's gateways.
    NameServer(NameServer),
    /// The `resolv.conf` of a namespace.
    ResolvConf(ResolvConf),
    /// Rates and copies of a pair's traffic.
    Traffic(Traffic),
    /// Keys and peers of a `WireGuard` link.
    Wireguard(Box<Wireguard>),
}

/// Addresses on a link of the server's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The link's name.
    pub link: LinkName,
    /// The addresses, each with its prefix length.
    pub addresses: Vec<IpNet>,
}

/// How a row names a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetnsRef {
    /// The server's own.
    Host,
    /// By name: `/run/netns/NAME`, as `ip netns` has it.
    Name(EcoString),
    /// By the path of an nsfs file, such as `/proc/1234/ns/net` or what a container runtime hands out.
    Path(EcoString),
    /// That of a process.
    Pid(u32),
    /// That of the running LXC container of this id; else the namespace named like the id.
    Lxc {
        /// The container's id, which is its LXC name.
        id: EcoString,
    },
}

/// A route through a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The destination; host bits are zero.
    pub destination: IpNet,
    /// The next hop. `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The metric (priority). 0 is the kernel's default: none in IPv4, 1024 in IPv6.
    pub metric: u32,
    /// The routing table; 254 is the main one.
    pub table: u32,
    /// What happens to a packet that takes it.
    pub kind: RouteKind,
    /// The source address to prefer.
    pub source: Option<IpAddr>,
}

/// What tells a route from others in the kernel: destination, metric, table.
pub type RouteSlot = (IpNet, u32, u32);

/// What happens to a packet that takes a route (`rtm_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// It is forwarded.
    #[default]
    Unicast,
    /// It is dropped without a word.
    Blackhole,
    /// It is dropped and the sender learns that the host is unreachable.
    Unreachable,
    /// It is dropped and the sender learns that this is forbidden.
    Prohibit,
}

impl Owner {
    /// One before all others, which no row is.
    pub(crate) fn first() -> Self {
        Self {
            table: EcoString::new(),
            uuid: 0,
        }
    }

    /// The owner's mark on a link: `nonnet:<table>/<uuid>`, which goes to `IFLA_IFALIAS`.
    pub fn alias(&self) -> EcoString {
        ecow::eco_format!("nonnet:{self}")
    }

    /// The owner that a link's alias names, if the alias is ours.
    pub fn from_alias(alias: &str) -> Option<Self> {
        let (table, uuid) = alias.strip_prefix("nonnet:")?.split_once('/')?;
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        if groups != [8, 4, 4, 4, 12] || table.is_empty() {
            return None;
        }
        let uuid = u128::from_str_radix(&uuid.replace('-', ""), 16).ok()?;
        Some(Self {
            table: table.into(),
            uuid,
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let u = self.uuid;
        write!(
            f,
            "{}/{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            self.table,
            u >> 96,
            (u >> 80) & 0xffff,
            (u >> 64) & 0xffff,
            (u >> 48) & 0xffff,
            u & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => write!(f, "{name}"),
            Self::Addresses { link, owner } => write!(f, "addresses of {owner} on {link}"),
            Self::Container(id) => write!(f, "container {id}"),
            Self::Mesh(id) => write!(f, "mesh of container {id}"),
            Self::OvsPort(name) => write!(f, "ovs port {name}"),
            Self::Routes(netns) => write!(f, "routes of {netns}"),
            Self::Dhcp(port) => write!(f, "DHCP client of port {port}"),
            Self::Wireguard(port) => write!(f, "wireguard of port {port}"),
            Self::Firewall { owner } => write!(f, "firewall of {owner}"),
            Self::Traffic(link) => write!(f, "traffic of {link}"),
            Self::NameServer { owner } => write!(f, "name server of {owner}"),
            Self::ResolvConf { netns, owner } => write!(f, "resolv.conf of {owner} in {netns}"),
        }
    }
}

impl ObjectKey {
    /// The link on the host that the object is or hangs on; none for what hangs on no link.
    pub fn link(&self) -> Option<&LinkName> {
        match self {
            Self::Link(name)
            | Self::Addresses { link: name, .. }
            | Self::Dhcp(name)
            | Self::OvsPort(name)
            | Self::Wireguard(name)
            | Self::Traffic(name) => Some(name),
            Self::Routes(_)
            | Self::Container(_)
            | Self::Mesh(_)
            | Self::Firewall { .. }
            | Self::NameServer { .. }
            | Self::ResolvConf { .. } => None,
        }
    }
}

impl Wanted {
    /// The element of the packet filter that it wants under a key, if it does.
    pub fn element(&self, key: &firewall::ElementKey) -> Option<firewall::Element> {
        let Object::Firewall(Firewall { elements, .. }) = &self.object else {
            return None;
        };
        Some(firewall::Element {
            key: key.clone(),
            data: elements.get(key)?.clone(),
        })
    }

    /// What the object is called.
    pub fn key(&self) -> ObjectKey {
        match &self.object {
            Object::Bridge(bridge) => ObjectKey::Link(bridge.name.clone()),
            Object::Port(port) => ObjectKey::Link(port.name.clone()),
            Object::Addresses(a) => ObjectKey::Addresses {
                link: a.link.clone(),
                owner: self.owner.clone(),
            },
            Object::Container(container) => ObjectKey::Container(container.id.clone()),
            Object::Mesh(mesh) => ObjectKey::Mesh(mesh.id.clone()),
            Object::OvsBridge(bridge) => ObjectKey::Link(bridge.name.clone()),
            Object::OvsPort(port) => ObjectKey::OvsPort(port.name.clone()),
            Object::Routes(routes) => ObjectKey::Routes(routes.netns.clone()),
            Object::Dhcp(dhcp) => ObjectKey::Dhcp(dhcp.port.clone()),
            Object::Wireguard(wireguard) => ObjectKey::Wireguard(wireguard.port.clone()),
            Object::Firewall(_) => ObjectKey::Firewall {
                owner: self.owner.clone(),
            },
            Object::Traffic(traffic) => ObjectKey::Traffic(traffic.link.clone()),
            Object::NameServer(_) => ObjectKey::NameServer {
                owner: self.owner.clone(),
            },
            Object::ResolvConf(wish) => ObjectKey::ResolvConf {
                netns: wish.netns.clone(),
                owner: self.owner.clone(),
            },
        }
    }
}

impl Object {
    /// The objects that must exist before this one can: a port's bridge and parent, the link that addresses go on.
    pub fn depends_on(&self) -> Vec<ObjectKey> {
        match self {
            Self::Bridge(_)
            | Self::Routes(_)
            | Self::Container(_)
            | Self::Mesh(_)
            | Self::OvsBridge(_)
            | Self::NameServer(_)
            | Self::ResolvConf(_) => Vec::new(),
            Self::Port(port) => {
                let links = port.bridge.iter().chain(port.parent());
                links.cloned().map(ObjectKey::Link).collect()
            }
            Self::Addresses(addresses) => vec![ObjectKey::Link(addresses.link.clone())],
            Self::OvsPort(port) => [&port.bridge, &port.name]
                .map(|name| ObjectKey::Link(name.clone()))
                .into(),
            Self::Dhcp(dhcp) => vec![ObjectKey::Link(dhcp.port.clone())],
            Self::Wireguard(wireguard) => vec![ObjectKey::Link(wireguard.port.clone())],
            Self::Firewall(firewall) => firewall.link().cloned().map(ObjectKey::Link).into_iter().collect(),
            Self::Traffic(traffic) => vec![ObjectKey::Link(traffic.link.clone())],
        }
    }

    /// The namespace besides the server's own that the object reaches into.
    pub fn netns(&self) -> Option<&NetnsRef> {
        match self {
            Self::Port(port) => Some(&port.netns),
            Self::Routes(routes) => Some(&routes.netns),
            Self::Dhcp(dhcp) => Some(&dhcp.netns),
            Self::Mesh(mesh) => Some(&mesh.netns),
            Self::ResolvConf(wish) => Some(&wish.netns),
            Self::Traffic(traffic) => Some(&traffic.netns),
            Self::Wireguard(wireguard) => Some(&wireguard.netns),
            Self::Bridge(_)
            | Self::Addresses(_)
            | Self::Container(_)
            | Self::OvsBridge(_)
            | Self::OvsPort(_)
            | Self::Firewall(_)
            | Self::NameServer(_) => None,
        }
    }
}

impl Route {
    /// The default route through `gateway`, of the gateway's address family.
    pub fn default_via(gateway: IpAddr) -> Self {
        let any: IpAddr = match gateway {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        // A prefix length of 0 fits both families; /32 or /128 is what `From` gives.
        let destination = IpNet::new(any, 0).unwrap_or_else(|_| IpNet::from(any));
        Self::to(destination, Some(gateway))
    }

    /// A route to `destination`, through `gateway` or directly on the link, in the main table.
    pub fn to(destination: IpNet, gateway: Option<IpAddr>) -> Self {
        Self {
            destination: destination.trunc(),
            gateway,
            metric: 0,
            table: ROUTE_TABLE_MAIN,
            kind: RouteKind::Unicast,
            source: None,
        }
    }

    /// Whether it is a default route in the main table.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0 && self.table == ROUTE_TABLE_MAIN
    }

    /// What the kernel tells it from others by.
    pub fn slot(&self) -> RouteSlot {
        (self.destination, self.metric, self.table)
    }

    /// The same route with what the kernel fills in: IPv6 has no metric 0.
    pub fn settled(&self) -> Self {
        let mut route = self.clone();
        route.destination = route.destination.trunc();
        if matches!(route.destination, IpNet::V6(_)) && route.metric == 0 {
            route.metric = 1024;
        }
        route
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Blackhole => f.write_str("blackhole ")?,
            RouteKind::Unreachable => f.write_str("unreachable ")?,
            RouteKind::Prohibit => f.write_str("prohibit ")?,
        }
        if self.destination.prefix_len() == 0 {
            f.write_str("default")?;
        } else {
            write!(f, "{}", self.destination)?;
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        if self.table != ROUTE_TABLE_MAIN {
            write!(f, " table {}", self.table)?;
        }
        Ok(())
    }
}

impl fmt::Display for NetnsRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the server's own namespace"),
            Self::Name(name) => write!(f, "namespace {name}"),
            Self::Path(path) => write!(f, "namespace {path}"),
            Self::Pid(pid) => write!(f, "the namespace of process {pid}"),
            Self::Lxc { id } => write!(f, "the namespace of container {id}"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn alias_names_its_owner() {
        let owner = Owner {
            table: "ports".into(),
            uuid: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
        };
        assert_eq!(owner.alias(), "nonnet:ports/01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(Owner::from_alias(&owner.alias()), Some(owner));
        assert_eq!(Owner::from_alias("nonnet:ports/0123"), None);
        assert_eq!(Owner::from_alias("uplink"), None);
    }

    #[test]
    fn default_route_takes_the_family_of_its_gateway() {
        assert_eq!(
            Route::default_via("10.0.0.1".parse().unwrap()).to_string(),
            "default via 10.0.0.1"
        );
        let six = Route::default_via("fd00::1".parse().unwrap());
        assert_eq!(six.destination, "::/0".parse::<IpNet>().unwrap());
        assert_eq!(six.settled().metric, 1024);
    }
}
