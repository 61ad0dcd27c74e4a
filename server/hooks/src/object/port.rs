//! A port: one attachment of something to a network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ecow::EcoString;
use ipnet::IpNet;

use super::{Moving, NetnsRef, Route, Spec, Vlans};
use crate::name::{LinkName, Mac};

/// A port: a link with an end at `ifname` in `netns`, and what is on that end. A pair has its other end, `name`, in the server's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own of a link")]
pub struct Port {
    /// Its name, unique on the host: that of the end on the host where there is one.
    pub name: LinkName,
    /// The name of the end inside.
    pub ifname: LinkName,
    /// The namespace of the end inside.
    pub netns: NetnsRef,
    /// What kind of link it is.
    pub kind: PortKind,
    /// The hardware address of the end inside. `None` leaves it to the kernel.
    pub mac: Option<Mac>,
    /// The MTU in bytes, of both ends of a pair. `None` leaves it to the kernel.
    pub mtu: Option<u32>,
    /// The bridge that the end on the host is a port of.
    pub bridge: Option<LinkName>,
    /// The datapath that the end on the host is a port of, where it is one of Open vSwitch.
    pub datapath: Option<Datapath>,
    /// Addresses of the end inside, each with its prefix length.
    pub addresses: Vec<IpNet>,
    /// The other ends of a VXLAN tunnel that get each frame for which no better place is known, besides its remote.
    pub ends: BTreeSet<IpAddr>,
    /// Routes inside, through this link.
    pub routes: Vec<Route>,
    /// Default routes that it offers, one per address family. Of the ports of a namespace, the one with the lowest rank, and among equals the
    /// first name, has its own in effect; none has where a port's `routes` have a default route.
    pub defaults: Vec<Route>,
    /// What its default routes are weighed by.
    pub rank: u32,
    /// Whether the port carries IPv6; if not, it gets no link-local address (`addr_gen_mode none`).
    pub ipv6: bool,
    /// Whether it is set up.
    pub up: bool,
    /// Whether its bridge keeps it from the other ports that are isolated.
    pub isolated: bool,
    /// Whether its bridge sends back to it what came from it: what a container sends to a port of the host that is published for it.
    pub hairpin: bool,
    /// The VLANs that it is in on its bridge, where that filters by them.
    pub vlans: Option<Vlans>,
    /// Settings below `/proc/sys/net` of the namespace, path to value (`ipv4/conf/eth0/rp_filter` to `0`).
    pub sysctls: BTreeMap<EcoString, EcoString>,
    /// Of an uplink: when its addresses move to its bridge.
    pub moving: Moving,
}

/// The rank of a port whose row gives none.
pub const RANK: u32 = 100;
/// Where Open vSwitch forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// In the kernel, where its datapath is the master of its links.
    Kernel,
    /// In user space, where packets are read as they are: the end inside makes its checksums itself.
    UserSpace,
}

/// What kind of link a port is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PortKind {
    /// A veth pair.
    #[default]
    Veth,
    /// A link without another end.
    Single(Box<Single>),
    /// A link of the server's own namespace that somebody else made and the row takes over.
    Adopted(Role),
}

/// What a link is taken over for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To be a port as any other.
    Port,
    /// To lead out of a bridge: it carries no addresses of its own, which may be on the bridge instead.
    Uplink,
    /// To be a member of a bond.
    Member,
}

/// A link without another end: it is at `ifname` in `netns`, which has the port's name where that is the server's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single {
    /// Its kind and settings.
    pub spec: Spec,
    /// The link of the server's own namespace that it is on or sends through.
    pub parent: Option<LinkName>,
}

impl Port {
    /// A veth pair of these names, into that namespace, with nothing on it.
    pub fn new(name: LinkName, ifname: LinkName, netns: NetnsRef) -> Self {
        Self {
            name,
            ifname,
            netns,
            kind: PortKind::default(),
            mac: None,
            mtu: None,
            bridge: None,
            datapath: None,
            addresses: Vec::new(),
            ends: BTreeSet::new(),
            routes: Vec::new(),
            defaults: Vec::new(),
            rank: RANK,
            ipv6: false,
            up: true,
            isolated: false,
            hairpin: false,
            vlans: None,
            sysctls: BTreeMap::new(),
            moving: Moving::default(),
        }
    }

    /// A link that somebody else made, taken over to be a port of that bridge or a member of that bond.
    pub fn taken(name: LinkName, of: LinkName, role: Role) -> Self {
        Self {
            kind: PortKind::Adopted(role),
            bridge: Some(of),
            ..Self::new(name.clone(), name, NetnsRef::Host)
        }
    }

    /// The link of the server's own namespace that the port is on or sends through.
    pub fn parent(&self) -> Option<&LinkName> {
        match &self.kind {
            PortKind::Veth | PortKind::Adopted(_) => None,
            PortKind::Single(single) => single.parent.as_ref(),
        }
    }

    /// The link without another end that the port is, if it is one.
    pub fn single(&self) -> Option<&Single> {
        match &self.kind {
            PortKind::Single(single) => Some(single),
            PortKind::Veth | PortKind::Adopted(_) => None,
        }
    }

    /// Whether frames leave its bridge through it for somewhere else, so that its MTU is that of others on the bridge, too.
    pub fn leads_out(&self) -> bool {
        match &self.kind {
            PortKind::Veth | PortKind::Adopted(Role::Member) => false,
            PortKind::Adopted(Role::Port | Role::Uplink) => true,
            PortKind::Single(single) => !matches!(single.spec, Spec::Tap(_) | Spec::Dummy | Spec::Wireguard),
        }
    }

    /// Whether all of the port is in `netns`, so that nothing in the server's own namespace tells of it.
    pub fn is_inside(&self) -> bool {
        matches!(self.kind, PortKind::Single(_)) && self.netns != NetnsRef::Host
    }
}
