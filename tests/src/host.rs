//! A host of a test's own: a [`Netns`] with `nonnetd` inside, and what a test asks of both.
//!
//! What is asked fails the test by a panic that shows the rows and what the server said, since a timeout alone explains nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::panic::Location;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

use crate::netns::{Inside, Netns};
use crate::program::{self, POLL_INTERVAL};
use crate::wire::Client;

/// How long a test waits for what should come soon, on a machine that may have much else to do.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Lines of the server's log that a failure shows.
const LOG_LINES_SHOWN: usize = 30;

/// The database that the rows are in.
pub const DATABASE: &str = "OpNonNet";

/// A namespace with a server in it. Both end with this value.
#[derive(Debug)]
pub struct Host {
    server: Option<Inside>,
    client: Option<Client>,
    /// The namespace.
    pub netns: Netns,
    arguments: Vec<String>,
}

impl Host {
    /// A namespace with a server in it that applies and heals.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Host::start`], with arguments for the server.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut host = Self::prepare(arguments);
        host.run();
        host
    }

    /// A namespace in which the server does not run yet.
    pub fn prepare(arguments: &[&str]) -> Self {
        Self {
            server: None,
            client: None,
            netns: Netns::alone().unwrap_or_else(|error| panic!("{error:#}")),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        }
    }

    /// Other arguments for the next [`Host::run`].
    pub fn arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    }

    /// Starts the server (again), and waits until it answers.
    #[track_caller]
    pub fn run(&mut self) {
        let program = program::ours("nonnetd").unwrap_or_else(|error| panic!("{error:#}"));
        self.run_command(&[&program.display().to_string()]);
    }

    /// Starts the server by this command line, which is continued by its arguments, and waits until it answers.
    #[track_caller]
    pub fn run_command(&mut self, words: &[&str]) {
        self.try_run(words)
            .unwrap_or_else(|error| panic!("the server does not start: {error:#}\n{}", self.log()));
    }

    fn try_run(&mut self, words: &[&str]) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let (program, rest) = words.split_first().context("no command")?;
        let mut command = self.netns.command(program);
        command.args(rest).args(&self.arguments);
        command.arg(format!("--remote=punix:{}", self.socket().display()));
        command.arg(self.file()).stdout(log.try_clone()?).stderr(log);
        let server = self.netns.spawn_command(&mut command)?;
        self.server = Some(server);
        let from = Instant::now();
        loop {
            if self
                .connect()
                .and_then(|mut client| client.call("echo", &json!([])))
                .is_ok()
            {
                return Ok(());
            }
            if from.elapsed() > PATIENCE {
                bail!("no answer within {PATIENCE:?}");
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Kills the server as a crash would.
    #[track_caller]
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Stops the server by SIGTERM.
    #[track_caller]
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    #[track_caller]
    fn end(&mut self, signal: Signal) {
        self.client = None;
        if let Some(mut server) = self.server.take() {
            server.signal(signal).unwrap_or_else(|error| panic!("{error:#}"));
            server.wait().unwrap_or_else(|error| panic!("{error:#}"));
        }
    }

    /// The process id of the server.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.server.as_ref().map_or_else(|| panic!("no server"), Inside::pid)
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.netns.directory().join("nonnet.db.sock")
    }

    /// The server's database.
    pub fn file(&self) -> PathBuf {
        self.netns.directory().join("nonnet.db")
    }

    /// A connection of one's own.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(&self.socket())
    }

    /// What the server has said since it was first started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.netns.directory().join("server.log")
    }

    /// The results of a transaction, whatever they are.
    #[track_caller]
    pub fn try_transact(&mut self, operations: &[Value]) -> Result<Vec<Value>> {
        if self.client.is_none() {
            self.client = Some(self.connect()?);
        }
        let answer = match &mut self.client {
            Some(client) => client.transact(DATABASE, operations),
            None => bail!("no connection"),
        };
        if answer.is_err() {
            self.client = None;
        }
        answer
    }

    /// The results of a transaction that is committed.
    #[track_caller]
    pub fn transact(&mut self, operations: &[Value]) -> Vec<Value> {
        let results = self
            .try_transact(operations)
            .unwrap_or_else(|error| panic!("{error:#}"));
        let failed = results
            .iter()
            .find(|result| result.get("error").is_some_and(|error| !error.is_null()));
        assert!(failed.is_none(), "{operations:?} failed: {failed:?}");
        results
    }

    /// The error of a transaction that is refused: its tag and its details.
    #[track_caller]
    pub fn refused(&mut self, operations: &[Value]) -> (String, String) {
        let results = self
            .try_transact(operations)
            .unwrap_or_else(|error| panic!("{error:#}"));
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let refusal = results
            .iter()
            .find(|result| result.get("error").is_some_and(|error| !error.is_null()))
            .unwrap_or_else(|| panic!("{operations:?} was committed: {results:?}"));
        (text(refusal.get("error")), text(refusal.get("details")))
    }

    /// All rows of a table; sets are arrays, maps are objects, references are texts.
    #[track_caller]
    pub fn rows(&mut self, table: &str) -> Vec<Value> {
        let select = json!({"op": "select", "table": table, "where": []});
        let results = self.transact(&[select]);
        let rows = results
            .first()
            .and_then(|result| result.get("rows"))
            .and_then(Value::as_array);
        rows.into_iter().flatten().map(plain_row).collect()
    }

    /// The row of that name (or id), if there is one.
    #[track_caller]
    pub fn find(&mut self, table: &str, name: &str) -> Option<Value> {
        let column = if table == "lxc" { "id" } else { "name" };
        self.rows(table).into_iter().find(|row| row[column] == name)
    }

    /// The row of that name (or id).
    #[track_caller]
    pub fn row(&mut self, table: &str, name: &str) -> Value {
        self.find(table, name)
            .unwrap_or_else(|| panic!("no row {name} in {table}"))
    }

    /// The state of a row.
    #[track_caller]
    pub fn state(&mut self, table: &str, name: &str) -> String {
        self.row(table, name)["status"]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The error of a row; empty where it has none.
    #[track_caller]
    pub fn error(&mut self, table: &str, name: &str) -> String {
        self.row(table, name)["error"].as_str().unwrap_or_default().to_owned()
    }

    /// The first IPv4 address that a port has.
    #[track_caller]
    pub fn ipv4(&mut self, port: &str) -> String {
        let addresses = self.row("ports", port)["addresses_in_use"].to_string();
        let mut words = addresses.split(|c: char| !c.is_ascii_digit() && c != '.');
        let first = words.find(|word| word.matches('.').count() == 3);
        first
            .unwrap_or_else(|| panic!("no IPv4 address: {addresses}"))
            .to_owned()
    }

    /// The newest commit, that which the kernel has followed, and how many rows are not as wanted.
    #[track_caller]
    pub fn progress(&mut self) -> (i64, i64, i64) {
        let rows = self.rows("host");
        let number = |column: &str| rows.first().and_then(|row| row[column].as_i64()).unwrap_or(-1);
        (number("next_cfg"), number("cur_cfg"), number("failed"))
    }

    /// Waits until everything that was committed is in the kernel, or has failed. Gives how many rows have.
    #[track_caller]
    pub fn settled(&mut self) -> i64 {
        self.until("the kernel follows", |host| {
            let (next, cur, _) = host.progress();
            cur >= next
        });
        self.progress().2
    }

    /// Waits until everything that was committed is in the kernel; nothing may have failed.
    #[track_caller]
    pub fn converged(&mut self) {
        self.until("everything is as wanted", |host| {
            let (next, cur, failed) = host.progress();
            cur >= next && failed == 0
        });
    }

    /// Waits until a row is in this state.
    #[track_caller]
    pub fn until_state(&mut self, table: &str, name: &str, state: &str) {
        self.until(&format!("{table} {name} is {state}"), |host| {
            host.find(table, name)
                .is_some_and(|row| row["status"]["state"] == state)
        });
    }

    /// Waits until this is true.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is_true: impl FnMut(&mut Self) -> bool) {
        let from = Instant::now();
        while !is_true(self) {
            if from.elapsed() > PATIENCE {
                self.give_up(what, Location::caller());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn give_up(&mut self, what: &str, at: &Location<'_>) -> ! {
        let mut text = String::new();
        for table in ["host", "bridges", "networks", "lxc", "ports", "events"] {
            for row in self.rows(table) {
                let _ = writeln!(text, "{table}: {row}");
            }
        }
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
        let addresses = self.netns.sh("ip -br addr").unwrap_or_default();
        panic!("{at}: not within {PATIENCE:?}: {what}\n{text}{addresses}{last}");
    }

    /// The number of the newest event.
    #[track_caller]
    pub fn last_event(&mut self) -> i64 {
        self.rows("events")
            .iter()
            .filter_map(|row| row["seq"].as_i64())
            .max()
            .unwrap_or(0)
    }

    /// Waits for an event of this kind after number `after` that tells of `about` in object or detail.
    #[track_caller]
    pub fn until_event(&mut self, after: i64, kind: &str, about: &str) {
        self.until(&format!("event {kind} of {about}"), |host| {
            host.events(after).iter().any(|event| {
                let tells = |column: &str| event[column].as_str().unwrap_or_default().contains(about);
                event["kind"] == kind && (tells("object") || tells("detail"))
            })
        });
    }

    /// The events after that number.
    #[track_caller]
    pub fn events(&mut self, after: i64) -> Vec<Value> {
        let rows = self.rows("events");
        rows.into_iter()
            .filter(|row| row["seq"].as_i64().is_some_and(|seq| seq > after))
            .collect()
    }

    /// Runs a shell command on the host; it must succeed. Gives what it printed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.netns.sh(script).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What the command line prints when it is asked for this; it must end with that status. Files are in the namespace's directory.
    #[track_caller]
    pub fn says(&self, words: &str, status: i32) -> String {
        let program = program::ours("nonnet").unwrap_or_else(|error| panic!("{error:#}"));
        let script = format!(
            "exec {} --socket {} {words}",
            program.display(),
            self.socket().display()
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(self.netns.directory())
            .output()
            .unwrap_or_else(|error| panic!("nonnet {words}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(status),
            "nonnet {words}: {text}\n{}",
            self.log()
        );
        text
    }

    /// True if a shell command on the host succeeds.
    #[track_caller]
    pub fn succeeds(&self, script: &str) -> bool {
        self.netns.try_sh(script).unwrap_or_else(|error| panic!("{error:#}")).0
    }

    /// Links of the host as `ip -json -details link` tells them, by name.
    #[track_caller]
    pub fn links(&self) -> BTreeMap<String, Value> {
        self.dumped("ip -json -details link show")
    }

    /// A link of the host.
    #[track_caller]
    pub fn link(&self, name: &str) -> Option<Value> {
        self.links().remove(name)
    }

    /// Links with addresses in a named namespace, as `ip -json -details address` tells them, by name.
    #[track_caller]
    pub fn links_in(&self, netns: &str) -> BTreeMap<String, Value> {
        self.dumped(&format!("ip -n {netns} -json -details address show"))
    }

    /// What a dump of `ip` tells, by name; one that something changed in the middle is taken again.
    #[track_caller]
    fn dumped(&self, script: &str) -> BTreeMap<String, Value> {
        loop {
            let text = self.sh(script);
            if !text.contains("Dump was interrupted") {
                return named(&text);
            }
        }
    }

    /// Sends one ping from a named namespace and gives whether it was answered.
    #[track_caller]
    pub fn pings(&self, netns: &str, address: &str) -> bool {
        self.succeeds(&format!("ip netns exec {netns} ping -n -c 1 -W 5 {address}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Before the namespace: what it wants to be healed must not be, while it ends.
        self.client = None;
        self.server = None;
    }
}

/// The operation that inserts a row into a table, under a name for other operations of the transaction.
pub fn insert(table: &str, name: &str, row: &Value) -> Value {
    json!({"op": "insert", "table": table, "uuid-name": name, "row": row})
}

/// The operation that deletes the row of a name (or id).
pub fn delete(table: &str, name: &str) -> Value {
    json!({"op": "delete", "table": table, "where": by_name(table, name)})
}

/// The operation that updates the row of a name (or id).
pub fn update(table: &str, name: &str, row: &Value) -> Value {
    json!({"op": "update", "table": table, "where": by_name(table, name), "row": row})
}

/// The operations that make a bridge, known as `bridge`, and a network on it, known as `network`, which has these subnets.
pub fn bridge_and_network(bridge: &str, network: &str, subnets: &[(&str, &str)]) -> Vec<Value> {
    let subnets: Vec<Value> = subnets
        .iter()
        .map(|(subnet, gateway)| json!([subnet, gateway]))
        .collect();
    let network_row = json!({"name": network, "bridge": ["named-uuid", "bridge"], "subnets": ["map", subnets],
        "ipam": "sequential"});
    vec![
        insert("bridges", "bridge", &json!({"name": bridge})),
        insert("networks", "network", &network_row),
    ]
}

/// The operation that puts a port on the network known as `network` into a named namespace.
pub fn port(name: &str, netns: &str) -> Value {
    json!({"op": "insert", "table": "ports", "row": {"name": name, "netns": netns, "network": ["named-uuid", "network"]}})
}

/// The elements of a set, which may have come bare.
pub fn elements(datum: &Value) -> Vec<Value> {
    datum.as_array().cloned().unwrap_or_else(|| vec![datum.clone()])
}

fn by_name(table: &str, name: &str) -> Value {
    let column = if table == "lxc" { "id" } else { "name" };
    json!([[column, "==", name]])
}

fn named(text: &str) -> BTreeMap<String, Value> {
    let links: Vec<Value> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let name = |link: &Value| link["ifname"].as_str().unwrap_or_default().to_owned();
    links.into_iter().map(|link| (name(&link), link)).collect()
}

fn plain_row(row: &Value) -> Value {
    let columns = row.as_object().cloned().unwrap_or_default();
    let columns: Map<String, Value> = columns.into_iter().map(|(name, datum)| (name, plain(&datum))).collect();
    Value::Object(columns)
}

/// A datum of the wire without its tags: a set is an array unless it has one element and came without a tag.
fn plain(datum: &Value) -> Value {
    let Some([Value::String(tag), content]) = datum.as_array().map(Vec::as_slice) else {
        return datum.clone();
    };
    match (tag.as_str(), content) {
        ("set", Value::Array(elements)) => elements.iter().map(plain).collect(),
        ("map", Value::Array(pairs)) => {
            let pair = |pair: &Value| (pair[0].as_str().unwrap_or_default().to_owned(), plain(&pair[1]));
            Value::Object(pairs.iter().map(pair).collect())
        }
        ("uuid", uuid) => uuid.clone(),
        _ => datum.clone(),
    }
}
