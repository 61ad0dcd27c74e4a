//! The MTU of the way that frames take.
//!
//! Takes what is wanted and the links that the host has; gives the MTU of links whose rows name none. What leads out of a bridge decides: its
//! uplinks, and the tunnels and VLANs that are its ports. A tunnel takes what its underlay leaves to it, a link on another one has that one's
//! MTU, a bridge the smallest of what leads out of it, and the other ports have their bridge's. Pure.

use std::net::IpAddr;

use crate::mirror::Namespace;
use crate::name::LinkName;
use crate::object::{Bridge, Object, ObjectKey, Port, PortKind, Spec};
use crate::want::Want;

/// The MTU where nothing says otherwise (`ETH_DATA_LEN`).
pub(crate) const ETHERNET_MTU: u32 = 1500;

/// Bytes of the headers that VXLAN and Geneve put before a frame: Ethernet, IP, UDP, their own.
const OVERHEAD_IPV4: u32 = 14 + 20 + 8 + 8;
const OVERHEAD_IPV6: u32 = 14 + 40 + 8 + 8;

/// Links on links at most that are followed; rows could make a circle.
const DEPTH_MAX: usize = 6;

/// What is wanted, and what the host has.
#[derive(Clone, Copy)]
pub(crate) struct Paths<'a> {
    want: &'a Want,
    host: &'a Namespace,
}

impl<'a> Paths<'a> {
    pub(crate) fn new(want: &'a Want, host: &'a Namespace) -> Self {
        Self { want, host }
    }

    /// The MTU of a bridge. `None` leaves it to whoever made it.
    pub(crate) fn of_bridge(self, bridge: &Bridge) -> Option<u32> {
        self.bridge(bridge, DEPTH_MAX)
    }

    /// The MTU of a port. `None` leaves it to the kernel.
    pub(crate) fn of_port(self, port: &Port) -> Option<u32> {
        self.port(port, DEPTH_MAX)
    }

    fn bridge(self, bridge: &Bridge, left: usize) -> Option<u32> {
        if bridge.mtu.is_some() || bridge.adopt {
            return bridge.mtu;
        }
        // The kernel lowers a bridge to the least of its ports, which is no reason to lower these.
        let ports = self.want.lowest_mtu_on(&bridge.name);
        let all = self.way_out(&bridge.name, left).into_iter().chain(ports);
        Some(all.min().unwrap_or(ETHERNET_MTU))
    }

    fn port(self, port: &Port, left: usize) -> Option<u32> {
        if port.mtu.is_some() || left == 0 {
            return port.mtu;
        }
        let Some(single) = port.single() else {
            return match port.kind {
                PortKind::Adopted(_) => None,
                _ => self.through_bridge(port, left),
            };
        };
        let parent = || self.link(single.parent.as_ref()?, left - 1);
        match &single.spec {
            Spec::Macvlan(_) | Spec::Macvtap(_) | Spec::Ipvlan(_) | Spec::Vlan(_) => parent(),
            Spec::Vxlan(vxlan) => {
                let ends = [vxlan.local, vxlan.remote];
                Some(self.tunnel(parent(), ends, left))
            }
            Spec::Geneve(geneve) => Some(self.tunnel(None, [None, geneve.remote], left)),
            Spec::Tap(_) | Spec::Dummy => self.through_bridge(port, left),
            Spec::Bond(_) | Spec::Wireguard | Spec::Tun => None,
        }
    }

    /// The MTU of a port that leads nowhere but to its bridge.
    fn through_bridge(self, port: &Port, left: usize) -> Option<u32> {
        let bridge = match (&port.bridge, self.want.get(&ObjectKey::OvsPort(port.name.clone()))) {
            (Some(bridge), _) => bridge,
            (None, wanted) => match &wanted?.object {
                Object::OvsPort(on) => &on.bridge,
                _ => return None,
            },
        };
        match &self.want.get(&ObjectKey::Link(bridge.clone()))?.object {
            Object::Bridge(of) if !of.adopt => of.mtu.or_else(|| self.way_out(bridge, left)).or(Some(ETHERNET_MTU)),
            Object::OvsBridge(of) => of.mtu.or_else(|| self.way_out(bridge, left)),
            _ => self.had(bridge),
        }
    }

    /// The smallest MTU of what leads out of a bridge.
    fn way_out(self, bridge: &LinkName, left: usize) -> Option<u32> {
        let left = left.checked_sub(1)?;
        let ways = self.want.ways_out(bridge);
        ways.filter_map(|name| self.link(name, left)).min()
    }

    /// The MTU of a link of the host: as it is wanted, or where that says nothing, as it is.
    fn link(self, name: &LinkName, left: usize) -> Option<u32> {
        let wanted = self.want.get(&ObjectKey::Link(name.clone()));
        match wanted.map(|wanted| &wanted.object) {
            Some(Object::Bridge(bridge)) if !bridge.adopt => self.bridge(bridge, left),
            Some(Object::Bridge(bridge)) => bridge.mtu.or_else(|| self.had(name)),
            Some(Object::OvsBridge(bridge)) => bridge.mtu.or_else(|| self.way_out(name, left)),
            Some(Object::Port(port)) => {
                let mtu = self.port(port, left);
                mtu.or_else(|| self.had(name).filter(|_| !self.is_derived(port)))
            }
            _ => self.had(name),
        }
    }

    /// Whether the MTU of a port comes from other links. What it has now may then be due to what depends on it, where rows make a circle.
    fn is_derived(self, port: &Port) -> bool {
        let is_described = |bridge: &LinkName| self.want.get(&ObjectKey::Link(bridge.clone())).is_some();
        let is_switched = || self.want.get(&ObjectKey::OvsPort(port.name.clone())).is_some();
        // The link that a tunnel's other end is reached through may be the bridge that the tunnel is a port of.
        let is_tunnel =
            matches!(port.single(), Some(single) if matches!(single.spec, Spec::Vxlan(_) | Spec::Geneve(_)));
        port.parent().is_some()
            || is_tunnel
            || (!port.leads_out() && (is_switched() || port.bridge.as_ref().is_some_and(is_described)))
    }

    fn had(self, name: &LinkName) -> Option<u32> {
        self.host.link(name).map(|link| link.mtu)
    }

    /// What a tunnel leaves of its underlay: the link that it is on, else that with its own address, else that on whose network its other end is.
    fn tunnel(self, parent: Option<u32>, [local, remote]: [Option<IpAddr>; 2], left: usize) -> u32 {
        let underlay = parent
            .or_else(|| self.underlay(local?, |own, address| own.addr() == address, left))
            .or_else(|| self.underlay(remote?, |own, address| own.contains(&address), left));
        let is_ipv6 = local.or(remote).is_some_and(|address| address.is_ipv6());
        let overhead = if is_ipv6 { OVERHEAD_IPV6 } else { OVERHEAD_IPV4 };
        underlay.unwrap_or(ETHERNET_MTU).saturating_sub(overhead)
    }

    fn underlay(self, address: IpAddr, is_it: fn(&ipnet::IpNet, IpAddr) -> bool, left: usize) -> Option<u32> {
        let left = left.checked_sub(1)?;
        let has = |index| self.host.addresses(index).any(|own| is_it(&own.address, address));
        let link = self.host.links().find(|link| has(link.index))?;
        self.link(&LinkName::observed(&link.name), left)
    }
}
