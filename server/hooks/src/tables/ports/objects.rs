//! The objects that a port is, and what goes with it: its firewall, its traffic, its DHCP client.

use std::net::IpAddr;

use ecow::{EcoString, eco_format};
use ipnet::IpNet;
use nonnet_engine::Row;

use super::addresses::{all_addresses, gateway};
use super::peers::tunnel;
use super::{Port, traffic};
use crate::dhcp::Lease;
use crate::fault::Fault;
use crate::name::Mac;
use crate::naming;
use crate::object::{self, Moving, NetnsRef, Object, Route, Vlans};
use crate::options;
use crate::tables::firewall::{self, PortFacts};
use crate::tables::{View, bridges, lxc, reference, switched};

/// The objects that a port is, and what goes with it.
///
/// # Errors
/// The first forward that is wrong.
pub(super) fn objects(view: &View<'_>, row: &Row, port: Port, lease: Option<&Lease>) -> Result<Vec<Object>, Fault> {
    let switch = switched::ovs_bridge(view.tables, view.rows, port.bridge);
    let network = port.network.clone();
    let tunnel = tunnel(&port);
    let told = lease.filter(|_| port.options.dns);
    let port = object(view, row, port, lease);
    let facts = PortFacts {
        link: &port.name,
        bridge: port.bridge.as_ref(),
        mac: port.mac,
        addresses: &port.addresses,
        switched: switch.is_some(),
    };
    let guard = firewall::flows(view, row, &facts);
    let firewall = firewall::of_port(view, row, &facts)?;
    let firewall = Some(firewall).filter(|firewall| !firewall.is_empty());
    let addresses: Vec<IpAddr> = port.addresses.iter().map(IpNet::addr).collect();
    let traffic = traffic::wanted(view, row, &port);
    let names = naming::resolv_conf(network.as_ref(), &port.netns, &addresses, told);
    let mut objects = match switch {
        Some(bridge) => switched::port(view.tables, (row, bridge), port, (traffic.as_ref(), guard)),
        None => vec![Object::Port(port)],
    };
    objects.extend(firewall.map(Object::Firewall));
    objects.extend(traffic.map(Object::Traffic));
    objects.extend(names.map(Object::ResolvConf));
    objects.extend(tunnel.map(|tunnel| Object::Wireguard(Box::new(tunnel))));
    Ok(objects)
}

/// The DHCP client of a port.
pub(super) fn client(view: &View<'_>, row: &Row, port: &Port, lease: Option<Lease>) -> object::Dhcp {
    let mut request = port.options.request.clone();
    if request.client_id.is_empty() {
        // RFC 4361: no interface told apart, a DUID of type UUID (RFC 6355).
        request.client_id = [&[255, 0, 0, 0, 0, 0, 4], row.uuid().as_bytes().as_slice()].concat();
    }
    if !port.options.named {
        let lxc = reference(row, view.tables.ports.lxc).and_then(|uuid| view.rows.row(view.tables.lxc.this, uuid));
        let name = match (&port.netns, lxc) {
            (_, Some(lxc)) => Some(lxc::id(&view.tables.lxc, lxc).into()),
            (NetnsRef::Name(name), None) => Some(name.clone()),
            _ => None,
        };
        request.host_name = name.filter(|name: &EcoString| options::is_host_name(name));
    }
    object::Dhcp {
        port: port.name.clone(),
        netns: port.netns.clone(),
        ifname: port.ifname.clone(),
        request,
        lease,
    }
}

/// The object that a port is, with what a DHCP server gave it.
fn object(view: &View<'_>, row: &Row, port: Port, lease: Option<&Lease>) -> object::Port {
    let addresses = all_addresses(view, row, &port);
    let gateways = [true, false].into_iter().filter_map(|ipv4| gateway(&port, &addresses, ipv4));
    let mut defaults: Vec<Route> = gateways.map(Route::default_via).collect();
    let mut routes = port.routes;
    for route in lease.map(Lease::routes).into_iter().flatten() {
        let place = if route.is_default() { &mut defaults } else { &mut routes };
        if place.iter().all(|other| other.slot() != route.slot()) {
            place.push(route);
        }
    }
    // The kernel makes a route to each subnet that the port has an address in.
    let is_connected = |prefix: &IpNet| addresses.iter().any(|own| own.trunc() == *prefix);
    for prefix in port.behind.iter().filter(|prefix| !is_connected(prefix)) {
        let route = Route::to(*prefix, None);
        let place = if route.is_default() { &mut defaults } else { &mut routes };
        if place.iter().all(|other| other.slot() != route.slot()) {
            place.push(route);
        }
    }
    if port.options.rank.is_none() {
        defaults.clear();
    }
    let mut sysctls = port.sysctls;
    if port.options.accept_ra {
        // 2: also where the namespace forwards.
        for (name, value) in [("accept_ra", "2"), ("autoconf", "1")] {
            let path = eco_format!("ipv6/conf/{}/{name}", port.ifname);
            sysctls.entry(path).or_insert_with(|| value.into());
        }
    }
    let bridge = port
        .bridge
        .and_then(|uuid| view.rows.row(view.tables.bridges.this, uuid));
    object::Port {
        mac: port.mac.or_else(|| derived_mac(&port.kind, row)),
        kind: port.kind,
        datapath: None,
        up: port.up,
        isolated: port.isolated,
        hairpin: port.bridge.is_some() && !row.get(view.tables.ports.forwards).is_empty(),
        mtu: port.mtu.or(lease.and_then(|lease| lease.mtu)),
        vlans: bridge
            .filter(|row| row.get(view.tables.bridges.vlan_filtering).as_bool() == Some(true))
            .map(|_| Vlans::access(switched::tag(view.tables, row), switched::vlans(row, view.tables.ports.trunks))),
        bridge: bridge.and_then(|row| bridges::link_name(&view.tables.bridges, row).ok()),
        ipv6: port.options.accept_ra || addresses.iter().any(|address| address.addr().is_ipv6()),
        name: port.name,
        ifname: port.ifname,
        netns: port.netns,
        addresses,
        ends: port.ends,
        routes,
        defaults,
        rank: port.options.rank.unwrap_or(u32::MAX),
        sysctls,
        moving: Moving::default(),
    }
}

/// The hardware address of a link whose row names none: always the same, except where the kernel takes that of the link below.
fn derived_mac(kind: &object::PortKind, row: &Row) -> Option<Mac> {
    use object::{MacvlanMode, PortKind, Spec};
    let inherits = match kind {
        PortKind::Veth => false,
        PortKind::Single(single) => match &single.spec {
            Spec::Macvlan(macvlan) | Spec::Macvtap(macvlan) => macvlan.mode == MacvlanMode::Passthru,
            Spec::Ipvlan(_) | Spec::Vlan(_) | Spec::Bond(_) | Spec::Wireguard | Spec::Tun => true,
            Spec::Vxlan(_) | Spec::Geneve(_) | Spec::Tap(_) | Spec::Dummy => false,
        },
        PortKind::Adopted(_) => true,
    };
    (!inherits).then(|| Mac::derived(row.uuid().as_bytes()))
}
