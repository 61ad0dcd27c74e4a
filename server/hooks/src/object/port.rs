//! A port: one attachment of something to a network.

use std::collections::BTreeMap;

use ecow::EcoString;
use ipnet::IpNet;

use super::{NetnsRef, Route};
use crate::name::{LinkName, Mac};

/// A port: a link with an end at `ifname` in `netns`, and what is on that end. A pair has its other end, `name`, in the server's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Addresses of the end inside, each with its prefix length.
    pub addresses: Vec<IpNet>,
    /// Routes inside, through this link; the gateway is [`Route::default_via`].
    pub routes: Vec<Route>,
    /// Whether the port carries IPv6; if not, it gets no link-local address (`addr_gen_mode none`).
    pub ipv6: bool,
    /// Settings below `/proc/sys/net` of the namespace, path to value (`ipv4/conf/eth0/rp_filter` to `0`).
    pub sysctls: BTreeMap<EcoString, EcoString>,
}

/// What kind of link a port is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PortKind {
    /// A veth pair.
    #[default]
    Veth,
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
            addresses: Vec::new(),
            routes: Vec::new(),
            ipv6: false,
            sysctls: BTreeMap::new(),
        }
    }
}
