//! Active and backup: nonnetd is a backup of ovsdb-server, ovsdb-server of nonnetd. The active server dies, the backup takes over; what
//! `ovs-appctl` says is what it says of ovsdb-server.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use nonnet_tests::case;
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::{Client, Session};
use serde_json::{Value, json};

/// How long something may take that is waited for: a lost server is tried again after 8 s at most.
const TIMEOUT: Duration = Duration::from_secs(30);

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn things() -> Value {
    case::schema("things").unwrap()
}

fn start(kind: Kind, schema: &Value, arguments: &[&str]) -> Server {
    let mut all = match kind {
        Kind::Nonnetd => vec!["--unixctl=ctl"],
        // It always has one, at the same place.
        Kind::Reference => vec![],
    };
    all.extend_from_slice(arguments);
    Server::start_with(kind, schema, &all).unwrap()
}

fn backup(kind: Kind, active: &Server, arguments: &[&str]) -> Server {
    let from = format!("--sync-from={}", active.remote());
    let mut all = vec![from.as_str()];
    all.extend_from_slice(arguments);
    start(kind, &things(), &all)
}

fn control(server: &Server, words: &[&str]) -> Output {
    let socket = server.directory().join("ctl");
    let mut arguments = vec!["-t", socket.to_str().unwrap()];
    arguments.extend_from_slice(words);
    program::run(&program::system("ovs-appctl").unwrap(), &arguments, b"").unwrap()
}

/// What a command answers that must succeed.
fn ask(server: &Server, words: &[&str]) -> String {
    let output = control(server, words);
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn status(server: &Server) -> String {
    ask(server, &["ovsdb-server/sync-status"])
}

fn wait_until_replicating(server: &Server) {
    wait_until("the backup replicates", || status(server).contains("replicating: "));
}

fn insert(table: &str, name: &str) -> Value {
    json!({"op": "insert", "table": table, "row": {"name": name}})
}

fn commit(server: &Server, operation: Value) -> Value {
    let results = server.connect().unwrap().transact("things", &[operation]).unwrap();
    results[0].clone()
}

fn names(server: &Server, table: &str) -> Vec<String> {
    let select = json!({"op": "select", "table": table, "where": [], "columns": ["name"]});
    let rows = commit(server, select)["rows"].as_array().unwrap().clone();
    let mut names: Vec<String> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn uuids(server: &Server) -> Value {
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["_uuid", "name", "s", "m", "o", "n"]});
    let mut rows = commit(server, select)["rows"].as_array().unwrap().clone();
    rows.sort_by_key(|row| row["name"].to_string());
    Value::Array(rows)
}

/// A backup follows, is read only, survives the end of the active server and takes over.
fn check_pair(mut active: Server, backup: &Server) {
    wait_until_replicating(backup);
    let rows = [
        insert("t", "first"),
        json!({"op": "insert", "table": "t", "row": {"name": "full", "n": 5, "o": "x", "s": ["set", ["a", "b"]],
            "m": ["map", [["k", "v"]]]}}),
        json!({"op": "mutate", "table": "t", "where": [["name", "==", "full"]],
            "mutations": [["s", "insert", "c"], ["s", "delete", "a"], ["m", "delete", "k"]]}),
        json!({"op": "update", "table": "t", "where": [["name", "==", "full"]], "row": {"o": ["set", []]}}),
        insert("t", "gone"),
        json!({"op": "delete", "table": "t", "where": [["name", "==", "gone"]]}),
    ];
    for operation in rows {
        let result = commit(&active, operation);
        assert!(result.get("error").is_none(), "{result}");
    }
    wait_until("the rows are the same, UUIDs included", || {
        uuids(backup) == uuids(&active)
    });
    let refused = commit(backup, insert("t", "no"));
    let details = "insert operation not allowed when database server is in read only mode";
    assert_eq!(refused, json!({"error": "not allowed", "details": details}));
    let select =
        json!({"op": "select", "table": "Database", "where": [["name", "==", "things"]], "columns": ["model"]});
    let listed = backup.connect().unwrap().transact("_Server", &[select]).unwrap();
    assert_eq!(listed[0]["rows"], json!([{"model": "standalone"}]));
    // It goes on after a restart of the active server.
    active.kill().unwrap();
    assert_eq!(names(backup, "t"), ["first", "full"]);
    assert!(status(backup).starts_with("state: backup\n"));
    active.run().unwrap();
    commit(&active, insert("t", "later"));
    wait_until("the backup follows again", || names(backup, "t").len() == 3);
    assert_eq!(uuids(backup), uuids(&active));
    // It takes over.
    active.kill().unwrap();
    let mut client = backup.connect().unwrap();
    client.call("echo", &json!([])).unwrap();
    assert_eq!(ask(backup, &["ovsdb-server/disconnect-active-ovsdb-server"]), "");
    if backup.kind() == Kind::Nonnetd {
        // As the manual says of both.
        client.receive_to_end().unwrap();
    }
    assert_eq!(status(backup), "state: active\n");
    assert!(commit(backup, insert("t", "own"))["uuid"].is_array());
    assert_eq!(names(backup, "t"), ["first", "full", "later", "own"]);
    // And goes back: its own row is not at the active server, so it goes.
    active.run().unwrap();
    assert_eq!(ask(backup, &["ovsdb-server/connect-active-ovsdb-server"]), "");
    wait_until("the backup has the rows of the active server", || {
        names(backup, "t") == ["first", "full", "later"]
    });
}

#[test]
fn nonnetd_is_a_backup_of_ovsdb_server() {
    let active = start(Kind::Reference, &things(), &[]);
    let backup = backup(Kind::Nonnetd, &active, &[]);
    check_pair(active, &backup);
}

#[test]
fn ovsdb_server_is_a_backup_of_nonnetd() {
    let active = start(Kind::Nonnetd, &things(), &[]);
    let backup = backup(Kind::Reference, &active, &[]);
    check_pair(active, &backup);
}

#[test]
fn the_log_says_where_the_rows_of_a_backup_came_from_and_they_survive_a_restart() {
    let active = start(Kind::Reference, &things(), &[]);
    commit(&active, insert("t", "first"));
    let mut backup = backup(Kind::Nonnetd, &active, &[]);
    wait_until("the row is there", || names(&backup, "t") == ["first"]);
    let rows = uuids(&backup);
    backup.stop().unwrap();
    let nonnet = program::ours("nonnet").unwrap();
    let file = backup.file();
    let log = program::succeed(&nonnet, &["log", file.to_str().unwrap(), "--format", "json"], b"").unwrap();
    assert!(log.contains("sync-from") && log.contains(&active.remote()), "{log}");
    backup.run().unwrap();
    assert_eq!(uuids(&backup), rows);
}

#[test]
fn excluded_tables_keep_their_own_rows() {
    let active = start(Kind::Reference, &things(), &[]);
    commit(&active, insert("u", "theirs"));
    commit(&active, insert("t", "first"));
    let from = active.remote();
    let backup = start(Kind::Nonnetd, &things(), &["--sync-exclude-tables=things:u"]);
    commit(&backup, insert("u", "own"));
    commit(&backup, insert("t", "own"));
    ask(&backup, &["ovsdb-server/set-active-ovsdb-server", &from]);
    ask(&backup, &["ovsdb-server/connect-active-ovsdb-server"]);
    wait_until_replicating(&backup);
    assert_eq!(names(&backup, "t"), ["first"]);
    assert_eq!(names(&backup, "u"), ["own"]);
    let shown = format!("state: backup\nreplicating: {from}\ndatabase: things\nexclude: things:u\n");
    assert_eq!(status(&backup), shown);
    ask(&backup, &["ovsdb-server/set-sync-exclude-tables", ""]);
    wait_until("the table is followed", || names(&backup, "u") == ["theirs"]);
}

#[test]
fn commands_answer_as_those_of_ovsdb_server() {
    let active = start(Kind::Reference, &things(), &[]);
    let from = active.remote();
    let option = format!("--sync-from={from}");
    let pair = [Kind::Nonnetd, Kind::Reference].map(|kind| start(kind, &things(), &[&option, "--active"]));
    let unset = [Kind::Nonnetd, Kind::Reference].map(|kind| start(kind, &things(), &[]));
    let check = |servers: &[Server; 2], words: &[&str]| {
        let [ours, theirs] = servers.each_ref().map(|server| control(server, words));
        let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!((ours.status, text(&ours)), (theirs.status, text(&theirs)), "{words:?}");
        text(&ours)
    };
    for words in [
        &["ovsdb-server/sync-status"][..],
        &["ovsdb-server/get-active-ovsdb-server"],
        &["ovsdb-server/get-sync-exclude-tables"],
        &["ovsdb-server/connect-active-ovsdb-server"],
        &["ovsdb-server/disconnect-active-ovsdb-server"],
        &["ovsdb-server/set-active-ovsdb-server"],
        &["ovsdb-server/set-active-ovsdb-server-probe-interval", "x"],
        &["ovsdb-server/set-active-ovsdb-server-probe-interval", "5000"],
    ] {
        check(&unset, words);
    }
    assert_eq!(check(&pair, &["ovsdb-server/sync-status"]), "state: active\n");
    assert_eq!(
        check(&pair, &["ovsdb-server/get-active-ovsdb-server"]),
        format!("{from}\n")
    );
    check(&pair, &["ovsdb-server/set-sync-exclude-tables", "things:u other:y"]);
    assert_eq!(
        check(&pair, &["ovsdb-server/get-sync-exclude-tables"]),
        "other:y,things:u\n"
    );
    check(&pair, &["ovsdb-server/connect-active-ovsdb-server"]);
    for server in &pair {
        wait_until_replicating(server);
    }
    assert!(check(&pair, &["ovsdb-server/sync-status"]).contains("exclude: other:y,things:u"));
    check(&pair, &["ovsdb-server/disconnect-active-ovsdb-server"]);
    assert_eq!(check(&pair, &["ovsdb-server/sync-status"]), "state: active\n");
    let nowhere = "unix:/nonexistent/db.sock";
    check(&pair, &["ovsdb-server/set-active-ovsdb-server", nowhere]);
    check(&pair, &["ovsdb-server/connect-active-ovsdb-server"]);
    assert_eq!(
        check(&pair, &["ovsdb-server/sync-status"]),
        format!("state: backup\nconnecting: {nowhere}\n")
    );
}

#[test]
fn a_server_that_cannot_be_followed_ends_the_replication() {
    let mut lacking = things();
    lacking["tables"]["t"]["columns"].as_object_mut().unwrap().remove("o");
    let mut more = things();
    more["tables"]["t"]["columns"]["more"] = json!({"type": "integer"});
    let other = json!({"name": "other", "tables": {"t": {"columns": {"name": {"type": "string"}}}}});
    let active = start(Kind::Reference, &things(), &[]);
    let from = format!("--sync-from={}", active.remote());
    for (schema, reason) in [
        (&lacking, "has no database that can be replicated"),
        (&other, "has no database that can be replicated"),
    ] {
        let backup = start(Kind::Nonnetd, schema, &[&from]);
        wait_until("the replication has ended", || status(&backup) == "state: active\n");
        assert!(backup.stderr().contains(reason), "{}", backup.stderr());
    }
    let backup = start(Kind::Nonnetd, &more, &[&from]);
    wait_until_replicating(&backup);
    // It does not follow itself.
    let own = backup.remote();
    ask(&backup, &["ovsdb-server/set-active-ovsdb-server", &own]);
    ask(&backup, &["ovsdb-server/connect-active-ovsdb-server"]);
    wait_until("the replication has ended", || status(&backup) == "state: active\n");
    assert!(backup.stderr().contains("Self replicating is not allowed"));
}

#[test]
fn the_kernel_is_left_alone_until_the_backup_becomes_active() {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let schema: Value =
        serde_json::from_str(&read(&program::repository().join("schema/schemas/nonnet.ovsschema"))).unwrap();
    let active = start(Kind::Nonnetd, &schema, &[]);
    let from = format!("--sync-from={}", active.remote());
    let bridge = json!({"op": "insert", "table": "bridges", "row": {"name": "nnbackup0"}});
    let created = active.connect().unwrap().transact("OpNonNet", &[bridge]).unwrap();
    assert!(created[0]["uuid"].is_array(), "{created:?}");
    // It only looks at the kernel, which is enough to see whether it does.
    let backup = start(Kind::Nonnetd, &schema, &[&from, "--kernel=observe"]);
    let column = |client: &mut Client, table: &str, column: &str| {
        let select = json!({"op": "select", "table": table, "where": [], "columns": [column]});
        client.transact("OpNonNet", &[select]).unwrap()[0]["rows"].clone()
    };
    let mut client = backup.connect().unwrap();
    wait_until("the bridge is there", || {
        column(&mut client, "bridges", "name") == json!([{"name": "nnbackup0"}])
    });
    let nothing = json!([{"status": ["map", []]}]);
    assert_eq!(column(&mut client, "bridges", "status"), nothing);
    ask(&backup, &["ovsdb-server/disconnect-active-ovsdb-server"]);
    let mut client = backup.connect().unwrap();
    wait_until("the row says what is with the kernel", || {
        column(&mut client, "bridges", "status") != nothing
    });
}
