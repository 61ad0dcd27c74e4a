//! What rows of networks and ports want of the packet filter.
//!
//! `networks.nat` maps `ipv4` and `ipv6` to `masquerade` (packets leave with the address of the link that they leave by), to an address (they
//! leave with that one) or to `none`. `networks.isolation` is `open` (other networks reach it by way of this host, which forwards for it),
//! `network` (they do not) or `port` (neither do its own ports each other); where it is absent, nothing is forbidden, and nothing is switched on.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use nonnet_engine::Row;
use nonnet_schema::Atom;

use crate::fault::Fault;
use crate::name::{LinkName, Mac};
use crate::object::firewall::{Part, Set};
use crate::object::{Firewall, OvsGuard};
use crate::tables::forwards::{self, Forward, Listen};
use crate::tables::networks::{Network, Subnet};
use crate::tables::{View, networks, references, text};

/// What keeps a network apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Nothing, and nothing is asked for.
    #[default]
    Absent,
    /// Other networks are to reach it.
    Open,
    /// Other networks are kept from it.
    Network,
    /// Other networks are kept from it, and its ports from each other.
    Port,
}

/// The source of packets of one family that leave a network for the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The address of the link that they leave by.
    Masquerade,
    /// This address.
    Address(IpAddr),
}

/// What a network's row says about the packet filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    pub isolation: Isolation,
    pub internal: bool,
    /// The sources of IPv4 and IPv6 packets.
    pub sources: [Option<Source>; 2],
}

/// Reads the columns `nat`, `isolation` and `internal`.
///
/// # Errors
/// The first that is wrong.
pub(crate) fn policy(columns: &networks::Columns, row: &Row) -> Result<Policy, Fault> {
    let fault = |column: &str, why: String| Fault::new(networks::Columns::NAME, text(row, columns.name), column, why);
    let internal = row.get(columns.internal).as_bool().unwrap_or(false);
    let mut sources = [None; 2];
    for (family, source) in row.get(columns.nat) {
        let family = family.as_str().unwrap_or_default();
        let column = format!("nat:{family}");
        let ipv4 = match family {
            "ipv4" => true,
            "ipv6" => false,
            _ => {
                return Err(fault(
                    "nat",
                    format!("\"{family}\" is no key of it: there are ipv4 and ipv6"),
                ));
            }
        };
        let said = source.and_then(Atom::as_str).unwrap_or_default();
        let source = source_of(said, ipv4).map_err(|why| fault(&column, why))?;
        if source.is_some() && internal {
            return Err(fault(&column, "an internal network has no way out".into()));
        }
        if source.is_some() && row.get(columns.bridge).is_empty() {
            return Err(fault(
                &column,
                "packets pass this host only from a bridge, and the network has none".into(),
            ));
        }
        sources[usize::from(!ipv4)] = source;
    }
    let isolation = match text(row, columns.isolation) {
        "open" => Isolation::Open,
        "network" => Isolation::Network,
        "port" => Isolation::Port,
        _ => Isolation::Absent,
    };
    Ok(Policy {
        isolation,
        internal,
        sources,
    })
}

fn source_of(said: &str, ipv4: bool) -> Result<Option<Source>, String> {
    match said {
        "none" => Ok(None),
        "masquerade" => Ok(Some(Source::Masquerade)),
        _ => {
            let why = || format!("\"{said}\" is neither \"masquerade\" nor \"none\" nor an address of this family");
            let address: IpAddr = said.parse().map_err(|_| why())?;
            if address.is_ipv4() != ipv4 || address.is_unspecified() || address.is_loopback() || address.is_multicast()
            {
                return Err(why());
            }
            Ok(Some(Source::Address(address)))
        }
    }
}

/// What a network on a bridge wants.
pub(crate) fn of_network(network: &Network, bridge: &LinkName) -> Firewall {
    let mut firewall = Firewall::default();
    let Policy {
        isolation,
        internal,
        sources,
    } = network.policy;
    let link = || Part::Link(bridge.clone());
    let routed = network.subnets.iter().any(|subnet| subnet.gateway.is_some());
    let kept = internal || matches!(isolation, Isolation::Network | Isolation::Port);
    if !routed && !kept {
        return firewall;
    }
    firewall.add(Set::Within, [link(), link()], []);
    if routed {
        firewall.add(Set::Routed, [link()], []);
    }
    if internal {
        firewall.add(Set::Internal, [link()], []);
    }
    if matches!(isolation, Isolation::Network | Isolation::Port) {
        firewall.add(Set::Isolated, [link()], []);
    }
    for subnet in &network.subnets {
        let ipv4 = subnet.net.addr().is_ipv4();
        if subnet.gateway.is_some() {
            firewall.add(of_family(ipv4, Set::Local4, Set::Local6), [net(subnet.net), link()], []);
            if isolation == Isolation::Open && !internal {
                firewall.forwarding(ipv4);
            }
        }
        add_source(&mut firewall, subnet, sources[usize::from(!ipv4)]);
        for other in network
            .subnets
            .iter()
            .filter(|other| other.net.addr().is_ipv4() == ipv4)
        {
            let pair = || [net(subnet.net), net(other.net)];
            firewall.add(of_family(ipv4, Set::Hairpin4, Set::Hairpin6), pair(), []);
            if isolation == Isolation::Port {
                firewall.add(of_family(ipv4, Set::Private4, Set::Private6), pair(), []);
            }
        }
    }
    firewall
}

fn add_source(firewall: &mut Firewall, subnet: &Subnet, source: Option<Source>) {
    let ipv4 = subnet.net.addr().is_ipv4();
    match source {
        None => return,
        Some(Source::Masquerade) => {
            let set = of_family(ipv4, Set::Masquerade4, Set::Masquerade6);
            firewall.add(set, [net(subnet.net)], []);
        }
        Some(Source::Address(address)) => {
            let set = of_family(ipv4, Set::Source4, Set::Source6);
            firewall.add(set, [net(subnet.net)], [Part::Address(address)]);
        }
    }
    firewall.forwarding(ipv4);
}

/// What a port is, as far as the packet filter sees it.
pub(crate) struct PortFacts<'a> {
    /// Its link on the host, a port of the bridge.
    pub link: &'a LinkName,
    pub bridge: Option<&'a LinkName>,
    /// The hardware address of the end inside.
    pub mac: Option<Mac>,
    /// The addresses of the end inside.
    pub addresses: &'a [IpNet],
    /// Whether the bridge is one of Open vSwitch, whose frames the packet filter does not see.
    pub switched: bool,
}

/// What a port's row wants.
///
/// # Errors
/// The first forward that is wrong.
pub(crate) fn of_port(view: &View<'_>, row: &Row, facts: &PortFacts<'_>) -> Result<Firewall, Fault> {
    let columns = &view.tables.ports;
    let mut firewall = Firewall::default();
    let is_on = |column| row.get(column).as_bool().unwrap_or(false);
    if facts.bridge.is_some() && !facts.switched && is_on(columns.anti_spoof) {
        guard(&mut firewall, facts);
    }
    let rows = references(row, columns.forwards).filter_map(|uuid| view.rows.row(view.tables.forwards.this, uuid));
    for row in rows {
        let forward = forwards::forward(&view.tables.forwards, row)?;
        publish(&mut firewall, &forward, facts);
    }
    Ok(firewall)
}

/// What a port's row wants of the flows of its bridge of Open vSwitch: the same as of the packet filter elsewhere.
pub(crate) fn flows(view: &View<'_>, row: &Row, facts: &PortFacts<'_>) -> Option<OvsGuard> {
    let is_on = row.get(view.tables.ports.anti_spoof).as_bool() == Some(true);
    let own = facts.addresses.iter().map(IpNet::addr);
    (is_on && facts.switched).then(|| OvsGuard {
        mac: facts.mac,
        addresses: own.chain(facts.mac.map(|mac| link_local(mac).into())).collect(),
    })
}

/// Only the port's own addresses may be used, the link-local one that the kernel makes among them.
fn guard(firewall: &mut Firewall, facts: &PortFacts<'_>) {
    let link = || Part::Link(facts.link.clone());
    firewall.add(Set::Guarded, [link()], []);
    if let Some(mac) = facts.mac {
        firewall.add(Set::GuardedMac, [link(), Part::Mac(mac)], []);
        firewall.add(Set::Guarded6, [link(), Part::Address(link_local(mac).into())], []);
    }
    for address in facts.addresses {
        let address = address.addr();
        let set = of_family(address.is_ipv4(), Set::Guarded4, Set::Guarded6);
        firewall.add(set, [link(), Part::Address(address)], []);
    }
}

/// The link-local address made of a hardware address (RFC 4291, appendix A).
fn link_local(Mac(mac): Mac) -> Ipv6Addr {
    let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
    let (vendor, own) = mac.split_at(3);
    octets[8..11].copy_from_slice(vendor);
    octets[13..].copy_from_slice(own);
    // The bit that says that an address is unique everywhere is the other way round here.
    octets[8] ^= 2;
    octets.into()
}

/// Packets for the forward's ports go to the port's first address of the family.
fn publish(firewall: &mut Firewall, forward: &Forward, facts: &PortFacts<'_>) {
    for ipv4 in [true, false] {
        let mut own = facts.addresses.iter().map(IpNet::addr);
        let own = own.find(|address| address.is_ipv4() == ipv4 && !crate::address::is_link_local(*address));
        let (Some(to), true) = (own, forward.listen.has(ipv4)) else {
            continue;
        };
        publish_family(firewall, forward, ipv4, to);
        firewall.forwarding(ipv4);
        let loopback = match forward.listen {
            Listen::Address(address) => address.is_loopback(),
            Listen::Any | Listen::AnyIpv4 | Listen::AnyIpv6 => true,
        };
        if let (true, true, Some(bridge)) = (ipv4, loopback, facts.bridge) {
            firewall.add(Set::Localnet, [Part::Link(bridge.clone())], []);
            firewall.route_localnet(bridge);
        }
    }
}

fn publish_family(firewall: &mut Firewall, forward: &Forward, ipv4: bool, to: IpAddr) {
    let protocol = Part::Protocol(forward.protocol);
    let listen = match forward.listen {
        Listen::Address(address) => Some(Part::Address(address)),
        Listen::Any | Listen::AnyIpv4 | Listen::AnyIpv6 => None,
    };
    let key = |port: Part| std::iter::once(protocol.clone()).chain(listen.clone()).chain([port]);
    let (one, many) = match (ipv4, &listen) {
        (true, Some(_)) => (Set::Forward4, Set::Range4),
        (true, None) => (Set::Any4, Set::AnyRange4),
        (false, Some(_)) => (Set::Forward6, Set::Range6),
        (false, None) => (Set::Any6, Set::AnyRange6),
    };
    if forward.count > 1 && forward.target == forward.port {
        let ports = Part::Ports(forward.port, forward.last());
        firewall.add(many, key(ports), [Part::Address(to)]);
        return;
    }
    for (port, target) in (forward.port..=forward.last()).zip(forward.target..=u16::MAX) {
        firewall.add(one, key(Part::Port(port)), [Part::Address(to), Part::Port(target)]);
    }
}

fn of_family(ipv4: bool, four: Set, six: Set) -> Set {
    if ipv4 { four } else { six }
}

/// A subnet as part of a key; one address alone stands for itself.
fn net(net: IpNet) -> Part {
    if net.prefix_len() == net.max_prefix_len() {
        Part::Address(net.addr())
    } else {
        Part::Subnet(net.trunc())
    }
}
