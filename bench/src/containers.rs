//! Containers on a network, from one commit to a converged kernel; ovsdb-server has no such thing, so nonnetd runs alone there.
//!
//! The containers are named network namespaces in a namespace of the bench's own ([`namespace`]). One transaction inserts a bridge, a
//! network and a port per container; it is over when `host.cur_cfg` has reached it. Then one transaction deletes them all. The bench
//! asks the rows and the kernel whether it is true.

use anyhow::{Context, Result, bail, ensure};
use nonnet_tests::wire::Client;
use serde_json::{Value, json};

use crate::measure::{Clock, Round};
use crate::namespace;
use crate::options::Options;
use crate::program::Program;
use crate::server::Server;

/// The database that nonnetd serves without a schema of the user's.
const DATABASE: &str = "OpNonNet";

/// How long the kernel may take to follow a commit, in milliseconds.
const CONVERGE_MS_MAX: u64 = 15_000;

/// The rounds of attaching and of detaching.
#[derive(Debug, Default)]
pub struct Rounds {
    /// One commit attaches all containers.
    pub attach: Vec<Round>,
    /// One commit deletes all of it.
    pub detach: Vec<Round>,
}

/// Attaches and detaches the containers, round after round.
///
/// # Errors
/// When a row does not converge, or the kernel's links are not as many as the rows say.
pub fn run(program: &Program, options: &Options) -> Result<Rounds> {
    namespace::run_inside(|| {
        let count = options.containers();
        (0..count).try_for_each(|number| namespace::add(&container(number)))?;
        let server = Server::start_applying(program, options)?;
        let mut rounds = Rounds::default();
        for round in 0..options.rounds() {
            eprintln!("containers: round {} of {}", round + 1, options.rounds());
            let measured = one_round(&server, count, &mut rounds);
            measured.with_context(|| format!("round {}; nonnetd says: {}", round + 1, server.log()))?;
        }
        Ok(rounds)
    })
}

fn one_round(server: &Server, count: usize, rounds: &mut Rounds) -> Result<()> {
    let links_before = namespace::count_links()?;
    rounds.attach.push(commit_and_converge(server, attach(count))?);
    expect_converged(server, count)?;
    let links = namespace::count_links()?;
    // A veth each, and the bridge.
    ensure!(
        links == links_before + count + 1,
        "{links} links after {count} ports were attached to {links_before} links"
    );

    rounds.detach.push(commit_and_converge(server, detach())?);
    let links = namespace::count_links()?;
    ensure!(
        links == links_before,
        "{links} links after all ports were deleted, {links_before} before they came"
    );
    Ok(())
}

/// Commits the operations and waits until the kernel has followed.
fn commit_and_converge(server: &Server, mut operations: Vec<Value>) -> Result<Round> {
    operations.push(json!({"op": "select", "table": "host", "where": [], "columns": ["next_cfg"]}));
    let mut client = Client::connect(&server.socket())?;
    let clock = Clock::start(server)?;
    let results = succeed(&mut client, &operations)?;
    let sequence = results
        .last()
        .and_then(|result| result.pointer("/rows/0/next_cfg"))
        .and_then(Value::as_i64)
        .with_context(|| format!("host.next_cfg in {results:?}"))?;
    let arrived = json!({"op": "wait", "timeout": CONVERGE_MS_MAX, "table": "host", "where": [["cur_cfg", ">=", sequence]],
        "columns": ["failed"], "until": "!=", "rows": []});
    succeed(&mut client, &[arrived]).context("wait until the kernel has followed the commit")?;
    let latency = clock.elapsed();
    clock.stop(server, 1, vec![latency])
}

fn succeed(client: &mut Client, operations: &[Value]) -> Result<Vec<Value>> {
    let results = client.transact(DATABASE, operations)?;
    if let Some(failed) = results.iter().find(|result| result.get("error").is_some()) {
        bail!("an operation failed: {failed}");
    }
    Ok(results)
}

/// Fails unless each port says that it converged and the host counts no failure.
fn expect_converged(server: &Server, count: usize) -> Result<()> {
    let mut client = Client::connect(&server.socket())?;
    let ports = json!({"op": "select", "table": "ports", "where": [["status", "includes", ["map", [["state", "converged"]]]]],
        "columns": ["name"]});
    let host = json!({"op": "select", "table": "host", "where": [["failed", "==", 0]], "columns": ["cur_cfg"]});
    let results = succeed(&mut client, &[ports, host])?;
    let rows = |result: usize| {
        results
            .get(result)
            .and_then(|result| result["rows"].as_array())
            .map_or(0, Vec::len)
    };
    if rows(0) != count || rows(1) != 1 {
        let all = json!({"op": "select", "table": "ports", "where": [], "columns": ["name", "status", "error"]});
        let hosts = json!({"op": "select", "table": "host", "where": []});
        bail!(
            "{} of {count} ports converged: {:?}",
            rows(0),
            succeed(&mut client, &[all, hosts])?
        );
    }
    Ok(())
}

fn attach(count: usize) -> Vec<Value> {
    let mut operations = vec![
        json!({"op": "insert", "table": "bridges", "uuid-name": "bridge", "row": {"name": "bench0"}}),
        json!({"op": "insert", "table": "networks", "uuid-name": "network", "row": {"name": "bench",
            "bridge": ["named-uuid", "bridge"], "subnets": ["map", [["10.99.0.0/16", "10.99.0.1"]]]}}),
    ];
    operations.extend((0..count).map(|number| {
        json!({"op": "insert", "table": "ports", "row": {"name": container(number), "network": ["named-uuid", "network"],
            "netns": container(number)}})
    }));
    operations
}

fn detach() -> Vec<Value> {
    ["ports", "networks", "bridges"]
        .map(|table| json!({"op": "delete", "table": table, "where": []}))
        .to_vec()
}

fn container(number: usize) -> String {
    format!("bench-{number}")
}
