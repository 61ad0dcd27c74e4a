//! Where a port is: its namespace, its name in there, its bridge.

use nonnet_engine::Row;
use nonnet_schema::Uuid;

use super::IFNAME;
use crate::link::check_name;
use crate::name::LinkName;
use crate::object::NetnsRef;
use crate::tables::networks::Network;
use crate::tables::{Rows, Tables, lxc, reference, text};

/// Bytes of a namespace's name at most: that of a file.
const NETNS_NAME_BYTES_MAX: usize = 255;

pub(super) fn bridge(own: Option<Uuid>, network: Option<&Network>) -> Result<Option<Uuid>, String> {
    let shared = network.and_then(|network| network.bridge);
    match (own, shared, network) {
        (Some(own), Some(shared), Some(network)) if own != shared => {
            Err(format!("network \"{}\" is on another bridge", network.name))
        }
        _ => Ok(own.or(shared)),
    }
}

/// The name of the end inside: what has no other end has the port's name where it stays on the host.
pub(super) fn ifname(
    text: &str,
    (name, netns): (&LinkName, &NetnsRef),
    is_pair: bool,
) -> Result<LinkName, (&'static str, String)> {
    let wrong = |error: crate::link::LinkError| ("ifname", error.to_string());
    if *netns != NetnsRef::Host {
        return check_name(if text.is_empty() { IFNAME } else { text }).map_err(wrong);
    }
    match (is_pair, text) {
        (true, "") => Err((
            "netns",
            "a port needs a namespace: its name, its path, or the id of a process in it; \
             a veth of which both ends stay on the host needs ifname"
                .into(),
        )),
        (true, same) if same == name.as_str() => Err(("ifname", "both ends cannot have the same name".into())),
        (true, other) => check_name(other).map_err(wrong),
        (false, "") => Ok(name.clone()),
        (false, same) if same == name.as_str() => Ok(name.clone()),
        (false, other) => Err(("ifname", format!("without a namespace the port is called {name}, not {other}"))),
    }
}

/// The namespace: `/path`, the number of a process (also `pid:NUMBER`), or a name; that of the container where the row belongs to one;
/// else the server's own.
pub(super) fn netns(tables: &Tables, rows: &dyn Rows, row: &Row) -> Result<NetnsRef, String> {
    let text = text(row, tables.ports.netns);
    if !text.is_empty() {
        return named_netns(text);
    }
    let lxc = reference(row, tables.ports.lxc).and_then(|uuid| rows.row(tables.lxc.this, uuid));
    Ok(match lxc {
        Some(lxc) => NetnsRef::Lxc {
            id: lxc::id(&tables.lxc, lxc).into(),
        },
        None => NetnsRef::Host,
    })
}

fn named_netns(text: &str) -> Result<NetnsRef, String> {
    if text.starts_with('/') {
        let parts = text.split('/').skip(1);
        if text.contains('\0') || parts.clone().any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("\"{text}\" is no path in plain form (no '//', '.', '..')"));
        }
        return Ok(NetnsRef::Path(text.into()));
    }
    let digits = text.strip_prefix("pid:").unwrap_or(text);
    if digits.len() < text.len() || text.bytes().all(|byte| byte.is_ascii_digit()) {
        let pid = digits
            .parse()
            .ok()
            .filter(|pid| *pid > 0 && i32::try_from(*pid).is_ok());
        return pid
            .map(NetnsRef::Pid)
            .ok_or_else(|| format!("\"{text}\" is not the id of a process"));
    }
    let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if matches!(text, "." | "..") || text.contains(refused) || text.len() > NETNS_NAME_BYTES_MAX {
        return Err(format!(
            "\"{text}\" is neither a namespace's name, nor its path (from '/'), nor the id of a process"
        ));
    }
    Ok(NetnsRef::Name(text.into()))
}
