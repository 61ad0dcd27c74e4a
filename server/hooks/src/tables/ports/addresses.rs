//! The addresses of a port, those that its row names and those that it was given, and its gateways.

use std::net::IpAddr;

use ipnet::IpNet;
use nonnet_engine::Row;

use super::Port;
use crate::address;
use crate::tables::networks::Network;
use crate::tables::{View, leases, references, text};

/// The subnet of a network that a text names.
pub(super) fn named_subnet(text: &str, network: &Network) -> Option<IpNet> {
    let named: IpNet = text.parse().ok()?;
    let mut subnets = network.subnets.iter().map(|subnet| subnet.net);
    // Both addresses of a point-to-point subnet are hosts', so that its text may be one of them.
    subnets.find(|subnet| *subnet == named && subnet.prefix_len() + 1 < subnet.max_prefix_len())
}

/// An address with its prefix length; within a network the subnet says it.
pub(super) fn static_address(text: &str, network: Option<&Network>) -> Result<IpNet, String> {
    let Some(network) = network else {
        return address::interface(text).map_err(|error| error.to_string());
    };
    let (plain, length) = text.split_once('/').unwrap_or((text, ""));
    let host = address::host(plain).map_err(|error| error.to_string())?;
    if address::is_link_local(host) && !length.is_empty() {
        return address::interface(text).map_err(|error| error.to_string());
    }
    let subnet = network.subnet_of(host);
    let subnet = subnet.ok_or_else(|| format!("{host} is in no subnet of network \"{}\"", network.name))?;
    let net = IpNet::new(host, subnet.net.prefix_len()).map_err(|error| error.to_string())?;
    if !length.is_empty() && length.parse() != Ok(net.prefix_len()) {
        return Err(format!(
            "\"{text}\" has another prefix length than its subnet {}",
            subnet.net
        ));
    }
    if subnet.gateway == Some(host) {
        return Err(format!("{host} is the gateway of network \"{}\"", network.name));
    }
    address::check_in_subnet(host, subnet.net).map_err(|error| error.to_string())?;
    Ok(net)
}

/// The addresses that the row names, then those that it was given.
pub(super) fn all_addresses(view: &View<'_>, row: &Row, port: &Port) -> Vec<IpNet> {
    let columns = &view.tables.leases;
    let mut addresses = port.addresses.clone();
    let given = references(row, view.tables.ports.leases)
        .filter_map(|uuid| view.rows.row(columns.this, uuid))
        .filter(|lease| text(lease, columns.source) != leases::STATIC);
    addresses.extend(given.filter_map(|lease| {
        if let Some(lease) = leases::dhcp_lease(columns, lease) {
            return Some(IpNet::V4(lease.address));
        }
        let address: IpAddr = text(lease, columns.address).parse().ok()?;
        let subnet = port.network.as_ref()?.subnet_of(address)?;
        IpNet::new(address, subnet.net.prefix_len()).ok()
    }));
    addresses.sort_unstable();
    addresses
}

/// The gateway of one family: the row's own, else that of the network's subnet in which the port has an address.
pub(super) fn gateway(port: &Port, addresses: &[IpNet], ipv4: bool) -> Option<IpAddr> {
    let own = port.gateways.iter().find(|gateway| gateway.is_ipv4() == ipv4);
    let shared = || {
        let network = port.network.as_ref()?;
        let mut of_family = addresses.iter().filter(|address| address.addr().is_ipv4() == ipv4);
        of_family.find_map(|address| network.subnet_of(address.addr())?.gateway)
    };
    own.copied().or_else(shared)
}
