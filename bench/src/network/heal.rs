//! A link that somebody deletes by hand: from the kernel's word that it is gone until the row says that it is back.

use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nonnet_tests::program;
use nonnet_tests::wire::Client;
use serde_json::json;

use super::comparison::Comparison;
use super::nonnet::Nonnet;
use super::side::{Side, container, succeed};
use crate::measure::Round;
use crate::namespace;
use crate::options::Options;
use crate::program::Program;

/// The name of the workload.
pub(super) const NAME: &str = "heal/link";

/// Deletions in one run, for each round of the others. More than four in ten seconds would be taken for another manager.
const DELETIONS: usize = 3;

/// How long a link may stay away, in milliseconds.
const BACK_MS_MAX: u64 = 15_000;

/// `RTNLGRP_LINK` and `RTM_DELLINK` of linux/rtnetlink.h.
const LINK_GROUP: u32 = 1;
const RTM_DELLINK: u16 = 17;

/// Bytes of `struct nlmsghdr`; the family is the first byte after it.
const HEADER_BYTES: usize = 16;

/// Bytes of the longest event.
const EVENT_BYTES_MAX: usize = 64 << 10;

/// Each deletion hits another container, since one object that is healed again and again is left to whoever fights for it.
pub(super) fn run(program: &Program, options: &Options) -> Result<Comparison> {
    let count = options.rounds() * DELETIONS;
    eprintln!("{NAME}: {count} links");
    let rounds = namespace::run_inside(|| {
        (0..count).try_for_each(|number| namespace::add(&container(number)))?;
        let mut nonnet = Nonnet::start(program, options)?;
        nonnet.attach(0..count)?;
        let links = namespace::count_links()?;
        let rounds = (0..count)
            .map(|number| one(&mut nonnet, &container(number)))
            .collect::<Result<Vec<Round>>>()
            .with_context(|| nonnet.log())?;
        ensure!(namespace::count_links()? == links, "not all links are back");
        Ok(rounds)
    })?;
    Ok(Comparison::alone(NAME, rounds))
}

fn one(nonnet: &mut Nonnet, link: &str) -> Result<Round> {
    nonnet.rest()?;
    let last = newest_event(nonnet)?;
    let socket = nonnet.server().socket();
    let (ip, cpu) = (program::system("ip")?, nonnet.cpu()?);
    let deletions = link_events()?;
    let (gone, back) = thread::scope(|scope| {
        let gone = scope.spawn(move || first_deletion(&deletions));
        let back = scope.spawn(move || healed_after(&socket, last));
        let deleted = succeed(&ip, &["link", "delete", link], &[], "");
        let joined = (gone.join(), back.join());
        deleted?;
        match joined {
            (Ok(gone), Ok(back)) => Ok((gone?, back?)),
            _ => bail!("a thread that waits panicked"),
        }
    })?;
    nonnet.rest()?;
    Ok(Round {
        operations: 1,
        wall: back.saturating_duration_since(gone),
        cpu: nonnet.cpu()?.saturating_sub(cpu),
        latencies: Vec::new(),
    })
}

fn newest_event(nonnet: &mut Nonnet) -> Result<i64> {
    let results = nonnet.succeed(&[json!({"op": "select", "table": "events", "where": [], "columns": ["seq"]})])?;
    let rows = results.first().and_then(|result| result["rows"].as_array());
    let numbers = rows.into_iter().flatten().filter_map(|row| row["seq"].as_i64());
    Ok(numbers.max().unwrap_or(0))
}

/// Waits until something was healed after that event. Gives when it was told.
fn healed_after(socket: &Path, last: i64) -> Result<Instant> {
    let mut client = Client::connect(socket)?;
    let healed = json!({"op": "wait", "timeout": BACK_MS_MAX, "table": "events",
        "where": [["kind", "==", "healed"], ["seq", ">", last]], "columns": ["kind"], "until": "!=", "rows": []});
    let results = client.transact("OpNonNet", &[healed])?;
    let now = Instant::now();
    let failed = results.iter().find_map(|result| result.get("error"));
    ensure!(failed.is_none(), "the link is not back: {failed:?}");
    Ok(now)
}

fn link_events() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.add_membership(LINK_GROUP)?;
    Ok(socket)
}

/// Waits until a link is deleted. Gives when the kernel said so.
fn first_deletion(events: &Socket) -> Result<Instant> {
    let mut buffer = Vec::with_capacity(EVENT_BYTES_MAX);
    loop {
        buffer.clear();
        events.recv(&mut buffer, 0)?;
        let now = Instant::now();
        let (kind, family) = (buffer.get(4..6), buffer.get(HEADER_BYTES));
        // A bridge tells with its own family that it lost a port.
        if kind == Some(&RTM_DELLINK.to_ne_bytes()) && family == Some(&0) {
            return Ok(now);
        }
    }
}
