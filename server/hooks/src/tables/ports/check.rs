//! What cannot be right about a port as a whole, whichever columns say it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use nonnet_engine::Row;
use nonnet_schema::Uuid;

use super::{Blame, Port};
use crate::address;
use crate::fault::Fault;
use crate::object::{NetnsRef, Route, RouteKind};
use crate::tables::networks::IPV6_MTU_MIN;
use crate::tables::{Rows, Tables, switched};

pub(super) fn check_port(port: &Port, blame: &Blame<'_>) -> Result<(), Fault> {
    if port.netns == NetnsRef::Host
        && let Some(all) = port.behind.iter().find(|prefix| prefix.prefix_len() == 0)
    {
        let why = format!("the tunnel's own packets would take the route to {all}, too: it takes a namespace of its own, or options:routes false");
        return Err(blame.fault("peers", why));
    }
    let mut seen = BTreeSet::new();
    for address in &port.addresses {
        if !seen.insert(address.addr()) {
            return Err(blame.fault("addresses", format!("{} is there twice", address.addr())));
        }
    }
    let subnets = port.network.iter().flat_map(|network| &network.subnets);
    let mut nets = port.addresses.iter().chain(subnets.map(|subnet| &subnet.net));
    let ipv6 = nets.any(|net| net.addr().is_ipv6());
    if ipv6 && port.mtu.is_some_and(|mtu| mtu < IPV6_MTU_MIN) {
        return Err(blame.fault("mtu", format!("IPv6 needs an MTU of at least {IPV6_MTU_MIN}")));
    }
    // What a DHCP server says is on the link is not known yet.
    let mut on_link = on_link(port);
    on_link.extend(port.dhcp.then(|| IpNet::from(Ipv4Net::default())));
    for (at, gateway) in port.gateways.iter().enumerate() {
        if port.gateways[..at]
            .iter()
            .any(|other| other.is_ipv4() == gateway.is_ipv4())
        {
            return Err(blame.fault("gateways", "there can be one gateway per address family"));
        }
        if !reaches(&on_link, *gateway) {
            return Err(blame.fault("gateways", format!("gateway {gateway} is in no subnet of the port")));
        }
    }
    let mut destinations = BTreeSet::new();
    for route in &port.routes {
        if let Some(gateway) = route.gateway.filter(|gateway| !reaches(&on_link, *gateway)) {
            let why = format!(
                "gateway {gateway} of route {} is in no subnet of the port",
                route.destination
            );
            return Err(blame.fault("routes", why));
        }
        if !destinations.insert((route.destination, route.metric, route.table)) {
            return Err(blame.fault("routes", format!("route {} is there twice", route.destination)));
        }
    }
    Ok(())
}

/// Whether VLANs are told apart where the row speaks of them.
pub(super) fn check_vlans(tables: &Tables, rows: &dyn Rows, row: &Row, bridge: Option<Uuid>) -> Result<(), (&'static str, &'static str)> {
    let said = [
        ("tag", switched::tag(tables, row).is_some()),
        ("trunks", !row.get(tables.ports.trunks).is_empty()),
    ];
    let bridge = bridge.and_then(|uuid| rows.row(tables.bridges.this, uuid));
    let filters = bridge.is_some_and(|row| {
        switched::is_ovs(&tables.bridges, row) || row.get(tables.bridges.vlan_filtering).as_bool() == Some(true)
    });
    match said.into_iter().find(|(_, is_said)| *is_said && !filters) {
        Some((column, _)) => Err((column, "only a bridge of kind \"ovs\", or with vlan_filtering, tells VLANs apart")),
        None => Ok(()),
    }
}

/// The subnets that the port reaches without a gateway.
fn on_link(port: &Port) -> Vec<IpNet> {
    let subnets = port
        .network
        .iter()
        .flat_map(|network| network.subnets.iter().map(|subnet| subnet.net));
    let is_direct = |route: &&Route| route.gateway.is_none() && route.kind == RouteKind::Unicast;
    let direct = port.routes.iter().filter(is_direct);
    let direct = direct.map(|route| route.destination);
    port.addresses.iter().copied().chain(subnets).chain(direct).collect()
}

fn reaches(on_link: &[IpNet], gateway: IpAddr) -> bool {
    address::is_link_local(gateway) || on_link.iter().any(|net| net.contains(&gateway))
}
