//! Clients that come back: what they missed while they were away reaches them, and nothing else, on a standalone server too.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};

use nonnet_tests::case;
use nonnet_tests::program;
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::Client;
use serde_json::{Value, json};

/// Commits made while a client is away.
const COMMITS: usize = 5_000;

/// Rows before that, of which the client must not hear.
const ROWS: usize = 200;

const ZEROS: &str = "00000000-0000-0000-0000-000000000000";

fn start() -> Server {
    // The log is what is looked at, not how fast it reaches the disk.
    Server::start_with(
        Kind::Nonnetd,
        &case::schema("things").unwrap(),
        &["--durability=on-request"],
    )
    .unwrap()
}

/// Commits each operation by itself, a hundred under way at once.
fn commit_all(client: &mut Client, operations: impl Iterator<Item = Value>) {
    let operations: Vec<Value> = operations.collect();
    for some in operations.chunks(100) {
        let request = |(id, operation)| {
            json!({"id": ["c", id], "method": "transact", "params": ["things", operation]}).to_string()
        };
        let text: String = some.iter().enumerate().map(request).collect();
        client.send_bytes(text.as_bytes()).unwrap();
        for id in 0..some.len() {
            let reply = client.reply_to(&json!(["c", id])).unwrap();
            assert!(reply["result"][0].get("error").is_none(), "{reply}");
        }
    }
}

fn since(server: &Server, last: &str) -> Value {
    let requests = json!({"t": [{"columns": ["name", "n", "s"]}]});
    let mut client = server.connect().unwrap();
    let reply = client.call("monitor_cond_since", &json!(["things", "m", requests, last]));
    reply.unwrap()["result"].clone()
}

/// The kind of update of each row, with its number.
fn kinds(result: &Value) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    for update in result[2]["t"].as_object().unwrap().values() {
        for kind in update.as_object().unwrap().keys() {
            *kinds.entry(kind.as_str()).or_default() += 1;
        }
    }
    kinds
}

#[test]
fn only_the_rows_that_changed_in_five_thousand_commits_come_also_after_a_restart() {
    let mut server = start();
    let mut client = server.connect().unwrap();
    let insert = |n: usize| json!({"op": "insert", "table": "t", "row": {"name": format!("row {n}"), "n": 0}});
    commit_all(&mut client, (0..ROWS).map(insert));
    let before = since(&server, ZEROS);
    let id = before[1].as_str().unwrap().to_owned();
    assert_eq!(
        (&before[0], kinds(&before)),
        (&json!(false), BTreeMap::from([("initial", ROWS)]))
    );
    commit_all(
        &mut client,
        (1..=COMMITS).map(|n| {
            let condition = json!([["name", "==", format!("row {}", n % 5)]]);
            json!({"op": "mutate", "table": "t", "where": condition, "mutations": [["n", "+=", 1], ["s", "insert", n.to_string()]]})
        }),
    );
    commit_all(
        &mut client,
        [
            json!({"op": "delete", "table": "t", "where": [["name", "==", "row 9"]]}),
            insert(ROWS),
            insert(ROWS + 1),
            json!({"op": "delete", "table": "t", "where": [["name", "==", format!("row {ROWS}")]]}),
        ]
        .into_iter(),
    );
    let expected = BTreeMap::from([("modify", 5), ("delete", 1), ("insert", 1)]);
    let after = since(&server, &id);
    assert_eq!((&after[0], kinds(&after)), (&json!(true), expected));
    let newest = after[1].as_str().unwrap();
    for _ in 0..2 {
        drop(client);
        server.stop().unwrap();
        server.run().unwrap();
        client = server.connect().unwrap();
        assert_eq!(since(&server, &id), after);
        assert_eq!(since(&server, newest), json!([true, newest, {}]));
    }
}

#[test]
fn ovsdb_client_follows_from_an_id() {
    let server = start();
    let mut client = server.connect().unwrap();
    let insert = |name: &str| json!({"op": "insert", "table": "t", "row": {"name": name}});
    client.transact("things", &[insert("before")]).unwrap();
    let id = since(&server, ZEROS)[1].as_str().unwrap().to_owned();
    client.transact("things", &[insert("after")]).unwrap();
    let tool = program::system("ovsdb-client").unwrap();
    let mut command = program::tied(&tool).unwrap();
    let remote = server.remote();
    command.args(["--format=json", "monitor-cond-since", &remote, "things", &id]);
    command.args([r#"[["name","!=","x"]]"#, "t", "name"]);
    let output = server.directory().join("watched");
    command
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output).unwrap());
    let mut watcher = command.stderr(Stdio::null()).spawn().unwrap();
    let mut printed = String::new();
    for name in ["after", "now"] {
        if name == "now" {
            client.transact("things", &[insert("now")]).unwrap();
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !printed.contains(name) {
            assert!(std::time::Instant::now() < deadline, "{name} did not come: {printed}");
            std::thread::sleep(program::POLL_INTERVAL);
            printed = std::fs::read_to_string(&output).unwrap();
        }
    }
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    assert!(!printed.contains("before"), "{printed}");
}

/// A Python IDL that waits to be told to come back.
struct Idl {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Idl {
    fn start(server: &Server) -> Self {
        let target = std::env::current_exe().unwrap();
        let python = target.ancestors().nth(3).unwrap().join("venv/bin/python");
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/idl_resume.py");
        let mut command = program::tied(&python).unwrap();
        command.arg(script).arg(server.remote()).arg(server.schema_path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn seen(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Idl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_python_idl_comes_back_without_reading_everything_anew() {
    let mut server = start();
    let insert = |name: &str| json!({"op": "insert", "table": "t", "row": {"name": name, "s": ["set", ["x", "y"]]}});
    let durable = json!({"op": "commit", "durable": true});
    let change = json!({"op": "mutate", "table": "t", "where": [["name", "==", "first"]],
        "mutations": [["s", "delete", "x"], ["s", "insert", "z"]]});
    let mut client = server.connect().unwrap();
    client.transact("things", &[insert("first")]).unwrap();
    let mut idl = Idl::start(&server);
    assert_eq!(idl.seen(), "[('first', 0, ['x', 'y'])] 1");
    client
        .transact("things", &[insert("second"), change, durable.clone()])
        .unwrap();
    idl.go_on();
    assert_eq!(idl.seen(), "[('first', 0, ['y', 'z']), ('second', 0, ['x', 'y'])] 1");
    server.kill().unwrap();
    server.run().unwrap();
    let mut client = server.connect().unwrap();
    let delete = json!({"op": "delete", "table": "t", "where": [["name", "==", "second"]]});
    client.transact("things", &[insert("third"), delete]).unwrap();
    idl.go_on();
    assert_eq!(idl.seen(), "[('first', 0, ['y', 'z']), ('third', 0, ['x', 'y'])] 1");
}
