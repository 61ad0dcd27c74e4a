//! What is at the other ends of a port that is a tunnel: keys, peers, and what is behind them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use nonnet_engine::Row;

use super::kind::Source;
use super::{Blame, Port};
use crate::fault::Fault;
use crate::object;
use crate::object::wireguard::Settings;
use crate::tables::{Rows, Tables, peers, references, text};

/// What the peers of a port are to it.
pub(super) enum Peers {
    /// It has none.
    None,
    /// It is a `WireGuard` with these settings.
    Wireguard(Settings),
    /// It is a VXLAN tunnel with these other ends.
    Vxlan(BTreeSet<IpAddr>),
}

/// The peers of a port: its own, and those of its network that are of its kind.
pub(super) fn own_peers(tables: &Tables, rows: &dyn Rows, source: &Source<'_>, kind: &object::PortKind) -> Result<Peers, Fault> {
    let columns = &tables.peers;
    let blame = Blame::new(tables, rows, source.row);
    let row = |uuid| rows.row(columns.this, uuid);
    let own: Vec<&Row> = references(source.row, tables.ports.peers).filter_map(row).collect();
    let word = source.word();
    if !matches!(word, "wireguard" | "vxlan") {
        let none = own.is_empty().then_some(Peers::None);
        return none.ok_or_else(|| blame.fault("peers", format!("a {word} has no peers")));
    }
    let is_other = |row: &&&Row| ![word, ""].contains(&text(row, columns.kind));
    if let Some(other) = own.iter().find(is_other) {
        let (kind, port) = (text(other, columns.kind), text(source.row, tables.ports.name));
        let why = format!("a {kind} is no peer of {word} port \"{port}\"");
        return Err(peers::fault(columns, other, "kind", why));
    }
    let shared = source.network.into_iter().flat_map(|row| references(row, tables.networks.peers));
    let shared = shared.filter_map(row).filter(|row| text(row, columns.kind) == word);
    let all = own.into_iter().chain(shared);
    if let object::PortKind::Single(single) = kind
        && let object::Spec::Vxlan(vxlan) = &single.spec
    {
        let is_ipv6 = vxlan.local.or(vxlan.remote).is_some_and(|address| address.is_ipv6());
        return peers::of_vxlan(columns, all, is_ipv6).map(Peers::Vxlan);
    }
    let settings = source.wireguard(peers::of_wireguard(columns, all)?);
    settings.map(Peers::Wireguard).map_err(|(column, why)| blame.fault(column, why))
}

/// The prefixes behind the peers of a port that routes through its link are made for.
pub(super) fn behind(source: &Source<'_>, wireguard: Option<&Settings>) -> Result<BTreeSet<IpNet>, (&'static str, String)> {
    let Some(settings) = wireguard else { return Ok(BTreeSet::new()) };
    if !source.makes_routes()? {
        return Ok(BTreeSet::new());
    }
    Ok(settings.peers.values().flat_map(|peer| &peer.allowed).copied().collect())
}

/// The keys and peers on the port's link.
pub(super) fn tunnel(port: &Port) -> Option<object::Wireguard> {
    let userspace = matches!(&port.kind, object::PortKind::Single(single) if single.spec == object::Spec::Tun);
    Some(object::Wireguard {
        port: port.name.clone(),
        netns: port.netns.clone(),
        ifname: port.ifname.clone(),
        userspace,
        settings: port.wireguard.clone()?,
    })
}
