//! Databases that come from another server (`relay:DATABASE:REMOTES`): nonnetd relays ovsdb-server, ovsdb-server relays nonnetd, nonnetd
//! relays a relay. Sources are killed, started again, converted and stopped; clients and their transactions go on.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nonnet_tests::case;
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::{Client, Session};
use serde_json::{Value, json};

/// How long something may take that is waited for: a relay tries again after 8 s at most.
const TIMEOUT: Duration = Duration::from_secs(30);

const ZEROS: &str = "00000000-0000-0000-0000-000000000000";

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn source(kind: Kind) -> Server {
    Server::start(kind, &case::schema("things").unwrap()).unwrap()
}

/// A relay that is not yet connected.
fn relay_of_remotes(kind: Kind, remotes: &str) -> Server {
    let arguments: &[&str] = match kind {
        Kind::Nonnetd => &["--unixctl=ctl"],
        Kind::Reference => &[],
    };
    Server::start_relay(kind, "things", remotes, arguments).unwrap()
}

/// A relay that has everything.
fn relay(kind: Kind, source: &Server) -> Server {
    let relay = relay_of_remotes(kind, &source.remote());
    wait_until_available(&relay, "things");
    relay
}

fn wait_until_available(relay: &Server, database: &str) {
    wait_until("the relay has the database", || {
        let schema = relay
            .connect()
            .and_then(|mut client| client.call("get_schema", &json!([database])));
        schema.is_ok_and(|reply| reply["result"].is_object())
    });
}

fn insert(name: &str) -> Value {
    json!({"op": "insert", "table": "t", "row": {"name": name}})
}

fn names(server: &Server) -> Vec<String> {
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["name"], "sort": ["name"]});
    let mut client = server.connect().unwrap();
    let results = client.transact("things", &[select]).unwrap();
    let rows = results[0]["rows"].as_array().unwrap();
    let mut names: Vec<String> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn watch(client: &mut Client, last: &str) -> Value {
    let params = json!(["things", "m", {"t": [{"columns": ["name"]}]}, last]);
    client.call("monitor_cond_since", &params).unwrap()["result"].clone()
}

fn aware(server: &Server) -> Client {
    let mut client = server.connect().unwrap();
    client.call("set_db_change_aware", &json!([true])).unwrap();
    client
}

/// Writes through a relay, and looks at both ends.
fn check_pair(relay: &Server, source: &Server) {
    let mut client = relay.connect().unwrap();
    watch(&mut client, ZEROS);
    let request = json!({"id": "mine", "method": "transact", "params": ["things", insert("through")]});
    client.send(&request.to_string()).unwrap();
    let first = client.receive().unwrap();
    assert_eq!(first["method"], "update3", "the update comes before the reply: {first}");
    let reply = client.receive().unwrap();
    assert_eq!((&reply["id"], &reply["error"]), (&json!("mine"), &Value::Null));
    assert!(reply["result"][0]["uuid"].is_array(), "{reply}");
    assert_eq!(names(source), ["through"]);
    // The other way round.
    source
        .connect()
        .unwrap()
        .transact("things", &[insert("beyond")])
        .unwrap();
    let update = client.receive().unwrap();
    assert!(update.to_string().contains("beyond"), "{update}");
    assert_eq!(names(relay), ["beyond", "through"]);
    // What is wrong, and what only reads, is answered like everywhere.
    for operations in [
        json!([{"op": "insert", "table": "t", "row": {"nosuch": 1}}]),
        json!([insert("no"), {"op": "abort"}]),
        json!([{"op": "wait", "table": "t", "where": [["name", "==", "x"]], "columns": ["name"], "until": "==",
            "rows": [{"name": "x"}], "timeout": 0}, insert("no")]),
        json!([{"op": "mutate", "table": "t", "where": [["name", "==", "beyond"]], "mutations": [["n", "+=", 2]]}]),
        json!([{"op": "select", "table": "t", "where": [["name", "==", "beyond"]], "columns": ["n"]}]),
    ] {
        let operations = operations.as_array().unwrap();
        let ours = client.transact("things", operations).unwrap();
        let is_mutation = operations[0]["op"] == "mutate";
        if !is_mutation {
            let theirs = source.connect().unwrap().transact("things", operations).unwrap();
            // An insert that came to nothing had a UUID of its own.
            assert_eq!((ours.len(), ours.last()), (theirs.len(), theirs.last()));
        }
    }
    let row = listed(relay);
    assert_eq!(
        (&row["model"], &row["connected"], &row["leader"]),
        (&json!("relay"), &json!(true), &json!(false))
    );
    check_order(relay, source);
}

/// Two hundred transactions, all under way at once, arrive in order.
fn check_order(relay: &Server, source: &Server) {
    let mut watcher = source.connect().unwrap();
    let requests = json!({"u": [{"columns": ["name"], "select": {"initial": false}}]});
    watcher.call("monitor", &json!(["things", "u", requests])).unwrap();
    let mut client = relay.connect().unwrap();
    let wanted: Vec<String> = (0..200).map(|n| format!("row {n:03}")).collect();
    let text: String = wanted
        .iter()
        .map(|name| {
            let operation = json!({"op": "insert", "table": "u", "row": {"name": name}});
            json!({"id": name, "method": "transact", "params": ["things", operation]}).to_string()
        })
        .collect();
    client.send_bytes(text.as_bytes()).unwrap();
    let replies: Vec<Value> = wanted.iter().map(|_| client.receive().unwrap()["id"].clone()).collect();
    assert_eq!(replies, wanted.iter().map(|name| json!(name)).collect::<Vec<_>>());
    let mut seen = Vec::new();
    while seen.len() < wanted.len() {
        let update = watcher.receive().unwrap();
        let rows = update["params"][1]["u"].as_object().unwrap().values();
        let mut rows: Vec<String> = rows
            .map(|row| row["new"]["name"].as_str().unwrap().to_owned())
            .collect();
        rows.sort();
        seen.extend(rows);
    }
    assert_eq!(seen, wanted);
}

fn listed(server: &Server) -> Value {
    let select = json!({"op": "select", "table": "Database", "where": [["name", "==", "things"]]});
    let results = server.connect().unwrap().transact("_Server", &[select]).unwrap();
    results[0]["rows"][0].clone()
}

#[test]
fn nonnetd_relays_ovsdb_server() {
    let source = source(Kind::Reference);
    check_pair(&relay(Kind::Nonnetd, &source), &source);
}

#[test]
fn ovsdb_server_relays_nonnetd() {
    let source = source(Kind::Nonnetd);
    check_pair(&relay(Kind::Reference, &source), &source);
}

#[test]
fn nonnetd_relays_a_relay_of_nonnetd_with_its_transaction_ids() {
    let source = source(Kind::Nonnetd);
    let middle = relay(Kind::Nonnetd, &source);
    let end = relay(Kind::Nonnetd, &middle);
    check_pair(&end, &source);
    let id = |server: &Server| watch(&mut server.connect().unwrap(), ZEROS)[1].clone();
    assert_ne!(id(&source), json!(ZEROS));
    assert_eq!(id(&end), id(&source));
}

#[test]
fn before_the_source_was_there_ours_answers_as_ovsdb_server() {
    let ours = relay_of_remotes(Kind::Nonnetd, "unix:nosuch.sock");
    let theirs = relay_of_remotes(Kind::Reference, "unix:nosuch.sock");
    let requests = [
        ("list_dbs", json!([])),
        ("get_schema", json!(["things"])),
        ("transact", json!(["things", insert("x")])),
        ("monitor", json!(["things", 1, {}])),
        ("monitor_cond", json!(["things", 1, {}])),
        ("monitor_cond_since", json!(["things", 1, {}, ZEROS])),
        ("get_schema", json!(["nosuch"])),
        ("lock", json!(["x"])),
    ];
    let ask = |server: &Server| -> Vec<Value> {
        let mut client = server.connect().unwrap();
        let calls = requests
            .iter()
            .map(|(method, params)| client.call(method, params).unwrap());
        calls
            .map(|mut reply| {
                // The reference leaves out what is null.
                reply.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                reply
            })
            .collect()
    };
    assert_eq!(ask(&ours), ask(&theirs));
    let row = |server: &Server| {
        let mut row = listed(server);
        row.as_object_mut().unwrap().retain(|name, _| !name.starts_with('_'));
        row
    };
    assert_eq!(row(&ours), row(&theirs));
}

#[test]
fn a_source_that_is_killed_and_started_again_loses_nothing() {
    let mut source = source(Kind::Nonnetd);
    let relay = relay(Kind::Nonnetd, &source);
    let mut client = aware(&relay);
    client.transact("things", &[insert("before")]).unwrap();
    let id = watch(&mut client, ZEROS)[1].as_str().unwrap().to_owned();
    source.kill().unwrap();
    wait_until("the relay has noticed", || relay.stderr().contains("is lost"));
    let queued = json!({"id": "queued", "method": "transact", "params": ["things", insert("queued")]});
    client.send(&queued.to_string()).unwrap();
    // Meanwhile everything can be read.
    assert_eq!(names(&relay), ["before"]);
    assert_eq!(listed(&relay)["connected"], json!(true));
    source.run().unwrap();
    let reply = client.reply_to(&json!("queued")).unwrap();
    assert!(reply["result"][0]["uuid"].is_array(), "{reply}");
    // The relay asked for what it had missed, not for everything.
    assert!(
        relay
            .stderr()
            .contains(&format!("0 rows changed after transaction {id}")),
        "{}",
        relay.stderr()
    );
    // So does a client of the relay.
    let delta = watch(&mut aware(&relay), &id);
    assert_eq!(delta[0], json!(true));
    assert_eq!(delta[2]["t"].as_object().unwrap().len(), 1, "{delta}");
    assert_eq!(names(&source), ["before", "queued"]);
}

#[test]
fn what_the_source_was_sent_and_did_not_answer_is_canceled() {
    let mut source = source(Kind::Reference);
    let relay = relay(Kind::Nonnetd, &source);
    let mut client = relay.connect().unwrap();
    source.signal(Signal::SIGSTOP).unwrap();
    let sent = json!({"id": "sent", "method": "transact", "params": ["things", insert("sent")]});
    client.send(&sent.to_string()).unwrap();
    // What the relay does first comes first: it has seen the transaction before it answers this, and sent it before the next.
    for _ in 0..2 {
        client.call("echo", &json!([])).unwrap();
    }
    source.kill().unwrap();
    let reply = client.reply_to(&json!("sent")).unwrap();
    assert_eq!((&reply["error"], &reply["result"]), (&json!("canceled"), &Value::Null));
    source.run().unwrap();
    let retried = client.transact("things", &[insert("again")]).unwrap();
    assert!(retried[0]["uuid"].is_array(), "{retried:?}");
}

#[test]
fn the_next_remote_is_followed_when_one_is_gone() {
    let (mut first, second) = (source(Kind::Nonnetd), source(Kind::Nonnetd));
    first.connect().unwrap().transact("things", &[insert("first")]).unwrap();
    second
        .connect()
        .unwrap()
        .transact("things", &[insert("second")])
        .unwrap();
    let remotes = format!("unix:nosuch.sock,{},{}", first.remote(), second.remote());
    let relay = relay_of_remotes(Kind::Nonnetd, &remotes);
    wait_until_available(&relay, "things");
    let mut client = aware(&relay);
    let initial = watch(&mut client, ZEROS);
    assert!(initial.to_string().contains("first"), "{initial}");
    first.kill().unwrap();
    let update = client.receive().unwrap();
    let rows = update["params"][2]["t"].as_object().unwrap();
    assert_eq!(rows.len(), 2, "one row goes and one comes: {update}");
    assert_eq!(names(&relay), ["second"]);
}

#[test]
fn a_conversion_of_the_source_is_followed() {
    // Debian's ovsdb-server, which does not show the new schema in `_Server`, is followed by nonnetd but not by itself.
    for (source_kind, relay_kind) in [
        (Kind::Reference, Kind::Nonnetd),
        (Kind::Nonnetd, Kind::Nonnetd),
        (Kind::Nonnetd, Kind::Reference),
    ] {
        let source = source(source_kind);
        let relay = relay(relay_kind, &source);
        check_conversion(&source, &relay);
    }
}

fn check_conversion(source: &Server, relay: &Server) {
    let (mut knowing, mut unknowing) = (aware(relay), relay.connect().unwrap());
    for client in [&mut knowing, &mut unknowing] {
        watch(client, ZEROS);
    }
    let mut schema = case::schema("things").unwrap();
    schema["version"] = json!("2.0.0");
    schema["tables"]["t"]["columns"]["more"] = json!({"type": "integer"});
    let converted = source
        .connect()
        .unwrap()
        .call("convert", &json!(["things", schema]))
        .unwrap();
    assert_eq!(converted["result"], json!({}));
    let canceled = knowing.receive().unwrap();
    assert_eq!(
        (&canceled["method"], &canceled["params"]),
        (&json!("monitor_canceled"), &json!(["m"]))
    );
    unknowing.receive_to_end().unwrap();
    let schema = knowing.call("get_schema", &json!(["things"])).unwrap();
    assert_eq!(schema["result"]["version"], "2.0.0");
    let results = knowing.transact("things", &[json!({"op": "insert", "table": "t", "row": {"more": 1}})]);
    assert!(results.unwrap()[0]["uuid"].is_array());
}

#[test]
fn a_conversion_is_for_the_source() {
    let source = source(Kind::Reference);
    let relay = relay(Kind::Nonnetd, &source);
    let schema = case::schema("things").unwrap();
    let refused = relay
        .connect()
        .unwrap()
        .call("convert", &json!(["things", schema]))
        .unwrap();
    assert_eq!(
        refused["error"],
        json!({"error": "not allowed", "details": "conversion is not allowed for read-only database things"})
    );
}

#[test]
fn a_silent_source_is_given_up_after_the_probe_interval() {
    let source = Server::start_with(
        Kind::Reference,
        &case::schema("things").unwrap(),
        &["--remote=ptcp:0:127.0.0.1", "-vconsole:info"],
    )
    .unwrap();
    let told = source.stderr();
    let port = told
        .split("listening on port ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    let relay = relay_of_remotes(Kind::Nonnetd, &format!("tcp:127.0.0.1:{port}"));
    wait_until_available(&relay, "things");
    let control = relay.directory().join("ctl");
    let appctl = |words: &[&str]| {
        let mut arguments = vec!["-t", control.to_str().unwrap()];
        arguments.extend_from_slice(words);
        program::succeed(&program::system("ovs-appctl").unwrap(), &arguments, b"").unwrap()
    };
    let command = "ovsdb-server/set-relay-source-probe-interval";
    assert_eq!(
        appctl(&[command, "x"]),
        "Invalid probe interval, integer value expected\n"
    );
    assert_eq!(appctl(&[command, "100"]), "");
    source.signal(Signal::SIGSTOP).unwrap();
    wait_until("the relay has given the source up", || {
        relay.stderr().contains("is lost")
    });
    source.signal(Signal::SIGCONT).unwrap();
    let mut client = relay.connect().unwrap();
    assert!(client.transact("things", &[insert("x")]).unwrap()[0]["uuid"].is_array());
}

#[test]
fn relays_are_added_and_removed_while_the_server_runs() {
    let source = source(Kind::Reference);
    let schema = json!({"name": "own", "tables": {}});
    let server = Server::start_with(Kind::Nonnetd, &schema, &["--unixctl=ctl"]).unwrap();
    let control = server.directory().join("ctl");
    let appctl = |words: &[&str]| {
        let mut arguments = vec!["-t", control.to_str().unwrap()];
        arguments.extend_from_slice(words);
        program::run(&program::system("ovs-appctl").unwrap(), &arguments, b"").unwrap()
    };
    let relay = format!("relay:things:{}", source.remote());
    let stdout = |words: &[&str]| String::from_utf8(appctl(words).stdout).unwrap();
    assert!(appctl(&["ovsdb-server/add-db", &relay]).status.success());
    assert!(!appctl(&["ovsdb-server/add-db", &relay]).status.success());
    assert!(!appctl(&["ovsdb-server/add-db", "relay:other:bogus"]).status.success());
    assert_eq!(stdout(&["ovsdb-server/list-dbs"]), "_Server\nown\nthings\n");
    wait_until_available(&server, "things");
    assert!(appctl(&["ovsdb-server/compact", "things"]).status.success());
    assert!(appctl(&["ovsdb-server/remove-db", "things"]).status.success());
    assert_eq!(stdout(&["ovsdb-server/list-dbs"]), "_Server\nown\n");
}

#[test]
fn ovn_nbctl_works_through_relays_and_ovs_vsctl_wants_a_leader() {
    let schema = std::fs::read_to_string(Path::new("/usr/share/ovn/ovn-nb.ovsschema")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    for kind in [Kind::Reference, Kind::Nonnetd] {
        let source = Server::start(kind, &schema).unwrap();
        let relay = Server::start_relay(Kind::Nonnetd, "OVN_Northbound", &source.remote(), &[]).unwrap();
        wait_until_available(&relay, "OVN_Northbound");
        let nbctl = |server: &Server, words: &[&str]| {
            let remote = format!("--db={}", server.remote());
            let mut arguments = vec![remote.as_str(), "--no-leader-only", "--timeout=20"];
            arguments.extend_from_slice(words);
            program::run(&program::system("ovn-nbctl").unwrap(), &arguments, b"").unwrap()
        };
        let stdout = |server: &Server, words: &[&str]| {
            let output = nbctl(server, words);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{words:?}: {stderr}");
            String::from_utf8(output.stdout).unwrap()
        };
        stdout(
            &relay,
            &[
                "ls-add",
                "ls0",
                "--",
                "set",
                "Logical_Switch",
                "ls0",
                "other_config:a=b",
            ],
        );
        stdout(&relay, &["lsp-add", "ls0", "p1"]);
        assert_eq!(
            stdout(&source, &["get", "Logical_Switch", "ls0", "other_config:a"]),
            "b\n"
        );
        assert!(stdout(&relay, &["show"]).contains("port p1"));
        stdout(&source, &["ls-del", "ls0"]);
        wait_until("the switch is gone", || stdout(&relay, &["ls-list"]).is_empty());
        // It insists on a leader, of ovsdb-server's own relays too.
        let remote = format!("--db={}", relay.remote());
        let arguments = [remote.as_str(), "--no-wait", "--timeout=20", "init"];
        let refused = program::run(&program::system("ovs-vsctl").unwrap(), &arguments, b"").unwrap();
        assert!(!refused.status.success());
    }
}
