//! nonnetd: one commit, and the wait until the kernel has followed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nonnet_tests::program;
use nonnet_tests::wire::Client;
use serde_json::{Value, json};

use super::side::{self, Side, container, host_port};
use crate::options::Options;
use crate::program::Program;
use crate::server::Server;

/// The database that nonnetd serves without a schema of the user's.
const DATABASE: &str = "OpNonNet";

/// The row of the network that the containers are on.
const NETWORK: &str = "b5a2d3ee-0a3f-4a6c-9a51-5d3c1ff1d5a1";

/// How long the kernel may take to follow a commit, in milliseconds.
const CONVERGE_MS_MAX: u64 = 15_000;

/// The side.
pub(super) struct Nonnet {
    server: Server,
    client: Client,
}

impl Nonnet {
    /// Starts nonnetd in the namespaces of the calling thread, with a network.
    pub(super) fn start(nonnetd: &Program, options: &Options) -> Result<Self> {
        let server = Server::start_applying(nonnetd, options)?;
        let mut client = Client::connect(&server.socket())?;
        let network = [
            json!({"op": "insert", "table": "bridges", "uuid-name": "bridge", "row": {"name": "bench0"}}),
            json!({"op": "insert", "table": "networks", "uuid": NETWORK, "row": {"name": "bench", "bridge": ["named-uuid", "bridge"],
                "subnets": ["map", [["10.99.0.0/16", "10.99.0.1"]]], "nat": ["map", [["ipv4", "masquerade"]]]}}),
        ];
        commit_and_converge(&mut client, &network)?;
        Ok(Self { server, client })
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Runs operations; each must succeed.
    pub(super) fn succeed(&mut self, operations: &[Value]) -> Result<Vec<Value>> {
        succeed(&mut self.client, operations)
    }

    /// Commits operations and waits until the kernel has followed.
    pub(super) fn commit(&mut self, operations: &[Value]) -> Result<()> {
        commit_and_converge(&mut self.client, operations)
    }

    /// Fails unless these containers' ports say that they converged, and no row of the host failed.
    fn expect_converged(&mut self, containers: Range<usize>) -> Result<()> {
        let wanted: BTreeSet<String> = containers.map(container).collect();
        let ports = json!({"op": "select", "table": "ports",
            "where": [["status", "includes", ["map", [["state", "converged"]]]]], "columns": ["name"]});
        let host = json!({"op": "select", "table": "host", "where": [["failed", "==", 0]], "columns": ["cur_cfg"]});
        let results = self.succeed(&[ports, host])?;
        let rows = |result: usize| results[result]["rows"].as_array().into_iter().flatten();
        let converged: BTreeSet<String> = rows(0)
            .filter_map(|row| row["name"].as_str())
            .map(str::to_owned)
            .collect();
        if !wanted.is_subset(&converged) || rows(1).count() != 1 {
            let all = json!({"op": "select", "table": "ports", "where": [], "columns": ["name", "status", "error"]});
            let hosts = json!({"op": "select", "table": "host", "where": []});
            bail!("not all of {wanted:?} converged: {:?}", self.succeed(&[all, hosts])?);
        }
        Ok(())
    }
}

impl Side for Nonnet {
    fn attach(&mut self, containers: Range<usize>) -> Result<()> {
        let rows: Vec<Value> = containers.clone().flat_map(port).collect();
        self.commit(&rows)
    }

    fn check(&mut self, containers: Range<usize>) -> Result<()> {
        self.expect_converged(containers.clone())?;
        let rules = side::succeed(&program::system("nft")?, &["list", "ruleset"], &[], "")?;
        for number in containers {
            let published = format!("tcp . {} ", host_port(number));
            ensure!(
                rules.contains(&published),
                "the port of {} is not published",
                container(number)
            );
        }
        Ok(())
    }

    fn detach(&mut self, containers: Range<usize>) -> Result<()> {
        let rows: Vec<Value> = containers
            .map(|number| json!({"op": "delete", "table": "ports", "where": [["name", "==", container(number)]]}))
            .collect();
        self.commit(&rows)
    }

    fn cpu(&self) -> Result<Duration> {
        self.server.cpu_time()
    }

    fn rest(&self) -> Result<()> {
        self.server.cpu_time_at_rest().map(drop)
    }

    fn log(&self) -> String {
        format!("nonnetd says: {}", self.server.log())
    }
}

/// A container's port with one published port.
fn port(number: usize) -> [Value; 2] {
    let forward = format!("forward{number}");
    [
        json!({"op": "insert", "table": "forwards", "uuid-name": forward,
            "row": {"protocol": "tcp", "port": host_port(number), "target": 80}}),
        json!({"op": "insert", "table": "ports", "row": {"name": container(number), "netns": container(number),
            "network": ["uuid", NETWORK], "forwards": ["named-uuid", forward]}}),
    ]
}

fn commit_and_converge(client: &mut Client, operations: &[Value]) -> Result<()> {
    let mut operations = operations.to_vec();
    operations.push(json!({"op": "select", "table": "host", "where": [], "columns": ["next_cfg"]}));
    let results = succeed(client, &operations)?;
    let sequence = results
        .last()
        .and_then(|result| result.pointer("/rows/0/next_cfg"))
        .and_then(Value::as_i64)
        .with_context(|| format!("host.next_cfg in {results:?}"))?;
    let arrived = json!({"op": "wait", "timeout": CONVERGE_MS_MAX, "table": "host", "where": [["cur_cfg", ">=", sequence]],
        "columns": ["failed"], "until": "!=", "rows": []});
    succeed(client, &[arrived])
        .map(drop)
        .context("wait until the kernel has followed the commit")
}

fn succeed(client: &mut Client, operations: &[Value]) -> Result<Vec<Value>> {
    let results = client.transact(DATABASE, operations)?;
    let failed = results.iter().find(|result| result.get("error").is_some());
    ensure!(failed.is_none(), "an operation failed: {failed:?}");
    Ok(results)
}
