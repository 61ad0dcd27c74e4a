//! Who wrote a record of the log, as people read it.

use std::fmt::Write as _;

use nix::unistd::{Uid, User};
use nonnet_chain::{Header, Meta, UNKNOWN_ID};
use serde_json::{Map, Value, json};

use crate::output::printable;

/// `alice (uid 1000) through nonnet[4711], unit nonnet.service`.
pub(crate) fn words(header: &Header, meta: &Meta) -> String {
    let mut words = match (header.uid, user_name(header.uid)) {
        (UNKNOWN_ID, _) if meta.address.is_empty() => "the server itself".to_owned(),
        (UNKNOWN_ID, _) => format!("unknown, from {}", meta.address),
        (uid, Some(name)) => format!("{name} (uid {uid})"),
        (uid, None) => format!("uid {uid}"),
    };
    let comm = header.comm();
    let process = match header.pid {
        UNKNOWN_ID => String::new(),
        pid => format!("[{pid}]"),
    };
    if !comm.is_empty() || !process.is_empty() {
        words.push_str(" through ");
        words.push_str(&comm);
        words.push_str(&process);
    }
    let unit = (!meta.unit.is_empty()).then(|| ("unit", meta.unit.as_str()));
    let details = meta
        .details
        .iter()
        .map(|(name, detail)| (name.as_str(), detail.as_str()));
    for (name, detail) in unit.into_iter().chain(details) {
        let _infallible = write!(words, ", {name} {detail}");
    }
    printable(&words)
}

/// The same for programs; what is not known is null.
pub(crate) fn to_json(header: &Header, meta: &Meta) -> Value {
    let known = |id: u32| (id != UNKNOWN_ID).then_some(id);
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let details: Map<String, Value> = meta
        .details
        .iter()
        .map(|(name, detail)| (name.to_string(), detail.as_str().into()))
        .collect();
    json!({
        "uid": known(header.uid), "user": user_name(header.uid), "gid": known(header.gid), "pid": known(header.pid),
        "comm": text(&header.comm()), "unit": text(&meta.unit), "remote": text(&meta.remote), "address": text(&meta.address),
        "details": details,
    })
}

fn user_name(uid: u32) -> Option<String> {
    if uid == UNKNOWN_ID {
        return None;
    }
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}
