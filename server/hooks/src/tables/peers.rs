//! The other ends of tunnels, owned by a port, or by a network for all its ports of that kind.
//!
//! A peer of kind `wireguard` has `key` (its public key), `allowed` (the prefixes that are behind it), and may have `endpoint` (`ADDRESS:PORT`),
//! `keepalive` (seconds) and `secret` (`file:PATH` of a key that both ends share). A peer of kind `vxlan` has `endpoint` (an address) alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ecow::EcoString;
use ipnet::IpNet;
use nonnet_engine::Row;

use crate::address;
use crate::fault::Fault;
use crate::limits::PEERS_MAX;
use crate::object::wireguard::{Peer, PublicKey, Secret};
use crate::tables::{number, text, texts};

super::columns!("peers"; kind, endpoint, key, allowed, secret, keepalive, status, error);

pub(crate) const READ_BY_REFERRERS: &[&str] = &["kind", "endpoint", "key", "allowed", "secret", "keepalive"];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// What a reference to a file begins with.
const FILE: &str = "file:";

/// Checks a peer by itself, as far as its row tells what it is a peer of.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn check(columns: &Columns, row: &Row) -> Result<(), Fault> {
    match text(row, columns.kind) {
        "wireguard" => wireguard(columns, row).map(drop),
        "vxlan" => vxlan(columns, row).map(drop),
        _ => Ok(()),
    }
}

/// The peers of a `WireGuard` link: each once, and no prefix behind two of them.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn of_wireguard<'a>(
    columns: &Columns,
    rows: impl Iterator<Item = &'a Row>,
) -> Result<BTreeMap<PublicKey, Peer>, Fault> {
    let mut peers = BTreeMap::new();
    let mut behind: BTreeMap<IpNet, PublicKey> = BTreeMap::new();
    for row in rows {
        let (key, peer) = wireguard(columns, row)?;
        for prefix in &peer.allowed {
            if let Some(other) = behind.insert(*prefix, key).filter(|other| *other != key) {
                let why = format!("{prefix} is behind peer {other} of the same link already: only one of them would get its packets");
                return Err(fault(columns, row, "allowed", why));
            }
        }
        if peers.insert(key, peer).is_some() {
            return Err(fault(columns, row, "key", "the link has this peer twice"));
        }
        if peers.len() > PEERS_MAX {
            return Err(fault(columns, row, "key", format!("a link has {PEERS_MAX} peers at most")));
        }
    }
    Ok(peers)
}

/// The other ends of a VXLAN tunnel, each once.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn of_vxlan<'a>(
    columns: &Columns,
    rows: impl Iterator<Item = &'a Row>,
    is_ipv6: bool,
) -> Result<BTreeSet<IpAddr>, Fault> {
    let mut ends = BTreeSet::new();
    for row in rows {
        let end = vxlan(columns, row)?;
        let wrong = |why: &str| Err(fault(columns, row, "endpoint", why));
        match (end.is_ipv6(), is_ipv6) {
            (true, false) => return wrong("the tunnel is one of IPv4: for IPv6 its port needs an options:local of that family"),
            (false, true) => return wrong("the tunnel is one of IPv6, as its options say"),
            _ if ends.len() >= PEERS_MAX => return wrong(&format!("a tunnel has {PEERS_MAX} peers at most")),
            _ if !ends.insert(end) => return wrong("the tunnel has this peer twice"),
            _ => {}
        }
    }
    Ok(ends)
}

fn vxlan(columns: &Columns, row: &Row) -> Result<IpAddr, Fault> {
    let unused = [
        ("key", columns.key),
        ("allowed", columns.allowed),
        ("secret", columns.secret),
        ("keepalive", columns.keepalive),
    ];
    if let Some((column, _)) = unused.into_iter().find(|(_, column)| !row.get(*column).is_empty()) {
        return Err(fault(columns, row, column, "a vxlan peer has nothing but its endpoint"));
    }
    let endpoint = text(row, columns.endpoint);
    if endpoint.is_empty() {
        return Err(fault(columns, row, "endpoint", "a vxlan peer needs its address"));
    }
    let why = |error| format!("{error}; the UDP port is that of the port's options:port");
    address::host(endpoint).map_err(|error| fault(columns, row, "endpoint", why(error)))
}

/// A fault of a peer's row.
pub(crate) fn fault(columns: &Columns, row: &Row, column: &str, why: impl std::fmt::Display) -> Fault {
    Fault::new(Columns::NAME, name(columns, row), column, why)
}

/// What a peer is called: by its key, else by its endpoint.
pub(crate) fn name<'a>(columns: &Columns, row: &'a Row) -> &'a str {
    let key = text(row, columns.key);
    if key.is_empty() { text(row, columns.endpoint) } else { key }
}

fn wireguard(columns: &Columns, row: &Row) -> Result<(PublicKey, Peer), Fault> {
    let wrong = |column: &'static str| move |why: String| fault(columns, row, column, why);
    let key = text(row, columns.key);
    if key.is_empty() {
        return Err(wrong("key")("a wireguard peer needs its public key".into()));
    }
    let key = key.parse::<PublicKey>().map_err(|why| wrong("key")(format!("\"{key}\": {why}")))?;
    let endpoint = Some(text(row, columns.endpoint)).filter(|endpoint| !endpoint.is_empty());
    let allowed = texts(row, columns.allowed).map(prefix);
    let keepalive = number(row, columns.keepalive).map(u16::try_from);
    let keepalive = keepalive.transpose().map_err(|why| wrong("keepalive")(why.to_string()))?;
    let peer = Peer {
        endpoint: endpoint.map(socket).transpose().map_err(wrong("endpoint"))?,
        allowed: allowed.collect::<Result<_, _>>().map_err(wrong("allowed"))?,
        keepalive: keepalive.unwrap_or(0),
        secret: secret(text(row, columns.secret)).map_err(wrong("secret"))?,
    };
    Ok((key, peer))
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    let form = "an endpoint is ADDRESS:PORT, such as 192.0.2.1:51820 or [2001:db8::1]:51820";
    let endpoint: SocketAddr = text.parse().map_err(|_| format!("\"{text}\": {form}"))?;
    let address = endpoint.ip();
    if endpoint.port() == 0 || address.is_unspecified() || address.is_multicast() {
        return Err(format!("\"{text}\" is nowhere: {form}"));
    }
    Ok(endpoint)
}

/// A prefix without host bits; an address alone is that of one host.
fn prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(host) = address::host(text) {
        return Ok(IpNet::from(host));
    }
    address::destination(text).map_err(|error| error.to_string())
}

fn secret(text: &str) -> Result<Secret, String> {
    if text.is_empty() {
        return Ok(Secret::None);
    }
    // The text may be the secret itself: it is not repeated.
    let path = text.strip_prefix(FILE).ok_or("it must name a file that has the secret, as file:/PATH")?;
    Ok(Secret::File(secret_path(path)?))
}

/// The path of a file that has a secret.
pub(crate) fn secret_path(text: &str) -> Result<EcoString, String> {
    let plain = text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
    if !plain || text.contains(char::is_control) {
        return Err("it takes the absolute path of a file in plain form (no '//', '.', '..')".into());
    }
    Ok(text.into())
}
