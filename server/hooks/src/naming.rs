//! What rows say about names: who has which, where they are answered, and what `resolv.conf` says.
//!
//! Takes rows of ports and networks, gives entries and zones of the [`Directory`](crate::directory::Directory) and wanted objects.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ecow::{EcoString, eco_format};
use nonnet_engine::Row;

use crate::dhcp::Lease;
use crate::directory::{Entry, Upstream, Zone};
use crate::dns::domain_name;
use crate::limits::NAMES_PER_PORT_MAX;
use crate::object::{NameServer, NetnsRef, ResolvConf};
use crate::tables::networks::{self, Network};
use crate::tables::{Rows, Tables, View, leases, reference, references, text, texts};

/// The property of a container that is its name in its own eyes.
const HOSTNAME: &str = "hostname";

/// Checks the names that a port's row gives it.
///
/// # Errors
/// What is wrong with the first bad one.
pub(crate) fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), EcoString> {
    for (at, name) in names.enumerate() {
        domain_name(name)?;
        if at >= NAMES_PER_PORT_MAX {
            return Err(eco_format!("there can be {NAMES_PER_PORT_MAX} of them"));
        }
    }
    Ok(())
}

/// The names and addresses of a port on a network, if it has names: its own, and that of its container.
pub(crate) fn entry(tables: &Tables, rows: &dyn Rows, row: &Row) -> Option<Entry> {
    let columns = &tables.ports;
    let network = reference(row, columns.network)?;
    let own: Vec<EcoString> = texts(row, columns.names)
        .filter_map(|name| domain_name(name).ok())
        .collect();
    let asks = !own.is_empty();
    let lxc = reference(row, columns.lxc).and_then(|uuid| rows.row(tables.lxc.this, uuid));
    let hostname = lxc.map(|row| {
        let given = row.get(tables.lxc.properties).get_str(HOSTNAME);
        given.unwrap_or_else(|| text(row, tables.lxc.id))
    });
    let names: BTreeSet<EcoString> = own
        .into_iter()
        .chain(hostname.and_then(|name| domain_name(name).ok()))
        .collect();
    if names.is_empty() {
        return None;
    }
    let plain = |text: &str| text.split('/').next().and_then(|text| text.parse::<IpAddr>().ok());
    let given = references(row, columns.leases)
        .filter_map(|uuid| rows.row(tables.leases.this, uuid))
        .filter(|lease| text(lease, tables.leases.source) != leases::STATIC)
        .filter_map(|lease| plain(text(lease, tables.leases.address)));
    Some(Entry {
        network: network.as_u128(),
        names: names.into_iter().collect(),
        addresses: texts(row, columns.addresses).filter_map(plain).chain(given).collect(),
        asks,
    })
}

/// The zone of a network whose names are answered.
pub(crate) fn zone(view: &View<'_>, row: &Row) -> Option<Zone> {
    let network = networks::network(&view.tables.networks, row).ok()?;
    let listens = answers_on(&network, view.directory.has_names(row.uuid().as_u128()));
    if listens.is_empty() {
        return None;
    }
    let dns = network.dns;
    let upstream = if !dns.servers.is_empty() {
        Upstream::Servers(dns.servers)
    } else if network.policy.internal {
        Upstream::Nowhere
    } else {
        Upstream::Host
    };
    Some(Zone {
        network: network.name,
        domain: dns.domain,
        subnets: network.subnets.iter().map(|subnet| subnet.net).collect(),
        listens,
        upstream,
        sees: dns.networks,
    })
}

/// That a network's names are answered on its gateways, where they are.
pub(crate) fn name_server(view: &View<'_>, row: &Row, network: &Network) -> Option<NameServer> {
    let addresses = answers_on(network, view.directory.has_names(row.uuid().as_u128()));
    let addresses: BTreeSet<IpAddr> = addresses.into_iter().collect();
    (!addresses.is_empty()).then_some(NameServer { addresses })
}

/// The `resolv.conf` of a port's namespace, where its network says something about names, or the row wants what a DHCP server said.
///
/// The nameservers are the gateways where names are answered there, else those of the network, then those of the lease; if there are none, those
/// of the host.
pub(crate) fn resolv_conf(
    network: Option<&Network>,
    netns: &NetnsRef,
    ports: &[IpAddr],
    lease: Option<&Lease>,
) -> Option<ResolvConf> {
    let is_off = network.is_some_and(|network| !network.dns.resolv_conf);
    if is_off || matches!(netns, NetnsRef::Host | NetnsRef::Path(_)) {
        return None;
    }
    let shared = network.and_then(|network| of_network(network, netns, ports));
    let Some(lease) = lease.filter(|lease| !lease.dns.is_empty()) else {
        return shared;
    };
    let mut file = shared.unwrap_or_else(|| ResolvConf {
        netns: netns.clone(),
        servers: Vec::new(),
        search: Vec::new(),
        options: Vec::new(),
    });
    file.servers.extend(lease.dns.iter().map(|server| IpAddr::V4(*server)));
    // A row of leases may have been written by anybody.
    file.search
        .extend(lease.domain.iter().filter_map(|domain| domain_name(domain).ok()));
    Some(file)
}

fn of_network(network: &Network, netns: &NetnsRef, ports: &[IpAddr]) -> Option<ResolvConf> {
    let dns = &network.dns;
    if !dns.given {
        return None;
    }
    let mut servers = answers_on(network, true);
    servers.retain(|server| ports.is_empty() || ports.iter().any(|port| port.is_ipv4() == server.is_ipv4()));
    if servers.is_empty() {
        servers.clone_from(&dns.servers);
    }
    if servers.is_empty() && network.policy.internal {
        return None;
    }
    Some(ResolvConf {
        netns: netns.clone(),
        servers,
        search: dns.domain.iter().chain(&dns.search).cloned().collect(),
        options: dns.options.clone(),
    })
}

/// The addresses on which a network's names are answered.
fn answers_on(network: &Network, has_names: bool) -> Vec<IpAddr> {
    if network.bridge.is_none() || !network.dns.answers(has_names) {
        return Vec::new();
    }
    network.subnets.iter().filter_map(|subnet| subnet.gateway).collect()
}
