//! `_Nonnet` by the real `ovsdb-client`: what it says of commits is what `nonnet log` says, newest and oldest, and who watches is told each once.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nonnet_tests::case;
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::{Client, Session};
use serde_json::{Value, json};

/// Commits by this process: more than are in memory.
const COMMITS: usize = 1_200;

/// Commits that watchers are told.
const WATCHED: usize = 500;

/// A user that commits through `ovsdb-client`.
const UID: u32 = 12_345;

/// How long a client that watches may take to print what it was told.
const WATCH_TIMEOUT: Duration = Duration::from_mins(1);

fn start() -> Server {
    let server = Server::start_with_audit(&case::schema("things").unwrap()).unwrap();
    // Another user finds the socket.
    for path in [server.directory(), &server.socket()] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    server
}

fn ovsdb_client(arguments: &[&str]) -> String {
    program::succeed(&program::system("ovsdb-client").unwrap(), arguments, b"").unwrap()
}

fn insert(table: &str, name: &str) -> Value {
    json!({"op": "insert", "table": table, "row": {"name": name}})
}

/// Commits transactions, a hundred under way at once.
fn commit_all(client: &mut Client, transactions: &[Vec<Value>]) {
    for some in transactions.chunks(100) {
        for (id, operations) in some.iter().enumerate() {
            let mut params = vec![json!("things")];
            params.extend_from_slice(operations);
            let request = json!({"id": ["c", id], "method": "transact", "params": params});
            client.send_bytes(request.to_string().as_bytes()).unwrap();
        }
        for id in 0..some.len() {
            let reply = client.reply_to(&json!(["c", id])).unwrap();
            assert!(reply["result"][0].get("error").is_none(), "{reply}");
        }
    }
}

/// Commits as another user.
fn commit_as_user(server: &Server, operation: &Value) {
    let (uid, gid) = (format!("--reuid={UID}"), format!("--regid={UID}"));
    let client = program::system("ovsdb-client").unwrap();
    let params = json!(["things", {"op": "comment", "comment": "by the user"}, operation]).to_string();
    let arguments = [
        &uid,
        &gid,
        "--clear-groups",
        client.to_str().unwrap(),
        "transact",
        &server.remote(),
        &params,
    ];
    program::succeed(&program::system("setpriv").unwrap(), &arguments, b"").unwrap();
}

/// What `ovsdb-client` finds, sorted by number.
fn select(server: &Server, condition: &Value) -> Vec<Value> {
    let operation = json!({"op": "select", "table": "Commit", "where": condition, "sort": ["seq"]});
    let printed = ovsdb_client(&["query", &server.remote(), &json!(["_Nonnet", operation]).to_string()]);
    let results: Value = serde_json::from_str(&printed).unwrap();
    let mut rows = results[0]["rows"]
        .as_array()
        .unwrap_or_else(|| panic!("{condition}: {results}"))
        .clone();
    for row in &mut rows {
        // That of the row, which is made anew each time.
        row["_version"].take();
    }
    rows
}

/// What `nonnet log` finds, likewise.
fn log(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let file = server.file();
    let mut all = vec!["log", "--json", "--reverse", file.to_str().unwrap()];
    all.extend_from_slice(arguments);
    let printed = program::succeed(&program::ours("nonnet").unwrap(), &all, b"").unwrap();
    printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The elements of a set on the wire.
fn elements(set: &Value) -> Vec<Value> {
    match set {
        Value::Array(tagged) if tagged[0] == "set" => tagged[1].as_array().unwrap().clone(),
        scalar => vec![scalar.clone()],
    }
}

/// What both say of a commit, from the row.
fn of_row(row: &Value) -> Value {
    let known = |column: &str| elements(&row[column]).first().cloned().unwrap_or(Value::Null);
    let changes: Value = serde_json::from_str(row["changes"].as_str().unwrap()).unwrap();
    let rows = changes.as_array().unwrap().iter();
    let rows: Vec<Value> = rows.map(|row| json!([row["table"], row["uuid"], row["op"]])).collect();
    json!({"seq": row["seq"], "hash": row["hash"], "prev": row["prev"], "kind": row["kind"], "uid": known("uid"),
        "gid": known("gid"), "pid": known("pid"), "comm": row["comm"], "comments": elements(&row["comments"]),
        "operations": row["operations"], "rows": rows})
}

/// The same from the line of the log.
fn of_line(line: &Value) -> Value {
    let who = &line["who"];
    let rows = line["rows"].as_array().unwrap().iter();
    let rows: Vec<Value> = rows.map(|row| json!([row["table"], row["uuid"], row["op"]])).collect();
    json!({"seq": line["seq"], "hash": line["hash"], "prev": line["prev"], "kind": line["kind"], "uid": who["uid"],
        "gid": who["gid"], "pid": who["pid"], "comm": who["comm"], "comments": line["comments"],
        "operations": line["operations"], "rows": rows})
}

#[track_caller]
fn assert_same(rows: &[Value], lines: &[Value]) {
    let (rows, lines): (Vec<Value>, Vec<Value>) =
        (rows.iter().map(of_row).collect(), lines.iter().map(of_line).collect());
    assert!(!lines.is_empty());
    assert_eq!(rows, lines);
}

/// The same for lines that do not show all rows of a commit.
#[track_caller]
fn assert_same_but_rows(rows: &[Value], lines: &[Value]) {
    let without = |mut commit: Value| {
        commit["rows"].take();
        commit
    };
    let rows: Vec<Value> = rows.iter().map(of_row).map(without).collect();
    let lines: Vec<Value> = lines.iter().map(of_line).map(without).collect();
    assert!(!lines.is_empty());
    assert_eq!(rows, lines);
}

fn check_all(server: &Server, row: &str) {
    let newest = log(server, &[]).len() as u64 - 1;
    assert_eq!(newest, COMMITS as u64 + 20);
    let shown = select(server, &json!([]));
    assert_same(&shown, &log(server, &["--since", &(newest - 999).to_string()]));
    assert_same(
        &select(server, &json!([["uid", "==", UID]])),
        &log(server, &["--uid", &UID.to_string()]),
    );
    assert_same_but_rows(
        &select(server, &json!([["tables", "includes", "u"]])),
        &log(server, &["--table", "u"]),
    );
    assert_same_but_rows(
        &select(server, &json!([["rows", "includes", ["uuid", row]]])),
        &log(server, &["--row", row]),
    );
    let range = select(server, &json!([["seq", ">", 9], ["seq", "<=", 40]]));
    assert_same(&range, &log(server, &["--since", "10", "--until", "40"]));
    // The clock is not set back meanwhile, but two commits may be of the same microsecond.
    let (first, last) = (&range[0]["time"], &range[30]["time"]);
    let of_time = select(server, &json!([["time", ">=", first], ["time", "<=", last]]));
    let outside = |row: &&Value| row["time"].as_i64() < first.as_i64() || row["time"].as_i64() > last.as_i64();
    assert_eq!(of_time.iter().find(outside), None);
    for row in &range {
        assert!(of_time.contains(row), "{row}");
    }
    assert!(of_time.len() < range.len() + 10, "{}", of_time.len());
    let by_hash = select(server, &json!([["hash", "==", range[0]["hash"]]]));
    assert_eq!(by_hash, select(server, &json!([["seq", "==", 10]])));
    assert_eq!(by_hash, select(server, &json!([["_uuid", "==", range[0]["_uuid"]]])));
    assert_eq!(by_hash.len(), 1);
    let both = select(server, &json!([["uid", "==", UID], ["seq", ">=", newest - 4]]));
    assert_same(
        &both,
        &log(
            server,
            &["--uid", &UID.to_string(), "--since", &(newest - 4).to_string()],
        ),
    );
    for nothing in [
        json!([["seq", "==", newest + 1]]),
        json!([["database", "==", "_Server"]]),
        json!([["hash", "==", "no hash"]]),
        json!([["time", "<", 1_000_000]]),
        json!([["rows", "includes", ["uuid", "00000000-0000-4000-8000-000000000000"]]]),
    ] {
        assert_eq!(select(server, &nothing), [] as [Value; 0], "{nothing}");
    }
}

#[test]
fn selects_find_what_nonnet_log_finds_also_after_a_restart() {
    let mut server = start();
    let mut client = server.connect().unwrap();
    let results = client.transact("things", &[insert("t", "first")]).unwrap();
    let row = results[0]["uuid"][1].as_str().unwrap().to_owned();
    let transactions: Vec<Vec<Value>> = (1..COMMITS)
        .map(|n| match n % 100 {
            0 => vec![json!({"op": "comment", "comment": format!("number {n}")}), insert("u", "one"), insert("t", "two")],
            50 => vec![json!({"op": "mutate", "table": "t", "where": [["name", "==", "first"]], "mutations": [["n", "+=", 1]]})],
            _ => vec![insert("t", "some")],
        })
        .collect();
    commit_all(&mut client, &transactions);
    for _ in 0..20 {
        commit_as_user(&server, &insert("t", "of a user"));
    }
    check_all(&server, &row);
    server.stop().unwrap();
    server.run().unwrap();
    check_all(&server, &row);
}

/// The numbers that `ovsdb-client` printed with an action.
fn printed(output: &Path, action: &str) -> Vec<u64> {
    let text = fs::read_to_string(output).unwrap();
    let mut seqs = Vec::new();
    // One of them prints an id before; the end may be half a line.
    for table in text
        .lines()
        .filter_map(|line| line.find('{').map(|start| &line[start..]))
    {
        let Ok(table) = serde_json::from_str::<Value>(table) else {
            continue;
        };
        for row in table["data"].as_array().unwrap() {
            if row[1] == action {
                // `monitor_cond_since` leaves out what is the default.
                seqs.push(row[2].as_u64().unwrap_or(0));
            }
        }
    }
    seqs
}

#[test]
fn who_watches_is_told_each_of_five_hundred_commits_once() {
    let server = start();
    let mut client = server.connect().unwrap();
    client.transact("things", &[insert("t", "before")]).unwrap();
    let (remote, all) = (server.remote(), json!([]).to_string());
    let commands: [&[&str]; 2] = [
        &["monitor", "--format=json", &remote, "_Nonnet", "Commit", "seq"],
        &[
            "monitor-cond-since",
            "--format=json",
            &remote,
            "_Nonnet",
            &all,
            "Commit",
            "seq",
        ],
    ];
    let mut watchers = Vec::new();
    for (at, arguments) in commands.iter().enumerate() {
        let output = server.directory().join(format!("watcher-{at}"));
        let mut command = program::tied(&program::system("ovsdb-client").unwrap()).unwrap();
        command.args(*arguments).stdin(Stdio::null());
        command.stdout(File::create(&output).unwrap());
        watchers.push((command.spawn().unwrap(), output));
    }
    let wait = |what: &str, is_done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + WATCH_TIMEOUT;
        while !is_done() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(POLL_INTERVAL);
        }
    };
    for (_, output) in &watchers {
        wait("no initial rows", &|| {
            printed(output, "initial") == [0, 1] || printed(output, "initial") == [1, 0]
        });
    }
    let transactions: Vec<Vec<Value>> = (0..WATCHED).map(|_| vec![insert("t", "watched")]).collect();
    commit_all(&mut client, &transactions);
    for (_, output) in &watchers {
        wait("too few commits", &|| printed(output, "insert").len() >= WATCHED);
        let told = printed(output, "insert");
        let distinct: BTreeSet<u64> = told.iter().copied().collect();
        assert_eq!(told.len(), WATCHED);
        assert_eq!(distinct, (2..2 + WATCHED as u64).collect());
    }
    for (mut child, _) in watchers {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn tools_find_their_database_beside_it_and_read_it_by_name() {
    let server = start();
    let mut client = server.connect().unwrap();
    client.transact("things", &[insert("t", "one")]).unwrap();
    let remote = server.remote();
    assert_eq!(ovsdb_client(&["list-dbs", &remote]), "_Nonnet\n_Server\nthings\n");
    assert_eq!(
        ovsdb_client(&["list-tables", &remote]),
        ovsdb_client(&["list-tables", &remote, "things"])
    );
    assert!(ovsdb_client(&["dump", &remote, "_Nonnet", "Commit", "seq", "kind"]).contains("transaction 1"));
    let sessions = ovsdb_client(&["dump", "--format=csv", &remote, "_Nonnet", "Session", "comm"]);
    assert!(sessions.lines().any(|line| line == "ovsdb-client"), "{sessions}");
    let catalog = json!({"op": "select", "table": "Database", "where": [], "columns": ["name"], "sort": ["name"]});
    let listed = client.transact("_Server", &[catalog]).unwrap();
    assert_eq!(
        listed[0]["rows"],
        json!([{"name": "_Nonnet"}, {"name": "_Server"}, {"name": "things"}])
    );
}

#[test]
fn sessions_that_are_watched_are_told_within_seconds() {
    let server = start();
    let (mut client, mut other) = (server.connect().unwrap(), server.connect().unwrap());
    let request = json!({"Session": {"columns": ["id", "locks", "monitors"]}});
    client.call("monitor_cond", &json!(["_Nonnet", "m", request])).unwrap();
    other.call("lock", &json!(["mine"])).unwrap();
    loop {
        let update = client.receive().unwrap();
        if update["method"] == "update2" && update["params"][1].to_string().contains("mine") {
            break;
        }
    }
}

#[test]
fn bad_requests_are_refused_and_nothing_is_written() {
    let server = start();
    let mut client = server.connect().unwrap();
    let delete = json!({"op": "delete", "table": "Commit", "where": []});
    let results = client.transact("_Nonnet", &[delete]).unwrap();
    assert_eq!(results[0]["error"], "not allowed");
    for condition in [
        json!([["seq", "==", "one"]]),
        json!([["nothing", "==", 1]]),
        json!([["tables", "<", "t"]]),
    ] {
        let select = json!({"op": "select", "table": "Commit", "where": condition});
        let results = client.transact("_Nonnet", &[select]).unwrap();
        assert!(results[0]["error"].is_string(), "{condition}: {results:?}");
    }
    let select = json!({"op": "select", "table": "Commit", "where": [["seq", "==", 0]], "columns": ["nothing"]});
    let after = json!({"op": "select", "table": "Commit", "where": [["seq", "==", 0]]});
    let results = client.transact("_Nonnet", &[select, after]).unwrap();
    assert!(results[0]["error"].is_string(), "{results:?}");
    assert_eq!(results[1], Value::Null);
    let many = vec![json!({"op": "select", "table": "Commit", "where": [["seq", "==", 0]]}); 17];
    let mut params = vec![json!("_Nonnet")];
    params.extend(many);
    let reply = client.call("transact", &Value::Array(params)).unwrap();
    assert_eq!(reply["error"]["error"], "resources exhausted", "{reply}");
    assert_eq!(server.kind(), Kind::Nonnetd);
    assert_eq!(select_kinds(&mut client), json!([{"kind": "genesis"}]));
}

fn select_kinds(client: &mut Client) -> Value {
    let select = json!({"op": "select", "table": "Commit", "where": [["seq", ">=", 0]], "columns": ["kind"]});
    client.transact("_Nonnet", &[select]).unwrap()[0]["rows"].clone()
}
