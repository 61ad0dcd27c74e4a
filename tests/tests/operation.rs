//! How the server is operated: `ovs-appctl` on its control socket, pid file, background, log file, and the socket's short name. All with
//! the programs of the operating system, in the words of `ovsdb-server`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::{Client, Session};
use nonnet_tests::{case, control};
use serde_json::{Value, json};

/// How long something may take that is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server with a control socket.
fn start(kind: Kind) -> Server {
    let schema = case::schema("things").unwrap();
    match kind {
        // It always has one, at the same place.
        Kind::Reference => Server::start(kind, &schema).unwrap(),
        Kind::Nonnetd => Server::start_with(kind, &schema, &["--unixctl=ctl"]).unwrap(),
    }
}

fn control(directory: &Path, words: &[&str]) -> Output {
    control::run(&directory.join("ctl"), words).unwrap()
}

/// What a command answers that must succeed.
fn ask(server: &Server, words: &[&str]) -> String {
    control::ask(&server.directory().join("ctl"), words).unwrap()
}

/// The words of a command that must fail.
fn refusal(server: &Server, words: &[&str]) -> String {
    control::refusal(&server.directory().join("ctl"), words).unwrap()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A database file of another schema that a running server can add.
fn another_file(server: &Server, name: &str) -> PathBuf {
    let schema = json!({"name": name, "tables": {"t": {"columns": {"n": {"type": "integer"}}}}});
    let mut other = Server::prepare(server.kind(), &schema).unwrap();
    if server.kind() == Kind::Nonnetd {
        other.run().unwrap();
        other.stop().unwrap();
    }
    let path = server.directory().join(format!("{name}.db"));
    std::fs::copy(other.file(), &path).unwrap();
    let head = other.directory().join("test.db.head");
    if head.exists() {
        std::fs::copy(head, server.directory().join(format!("{name}.db.head"))).unwrap();
    }
    path
}

#[test]
fn commands_answer_as_those_of_ovsdb_server() {
    let (ours, theirs) = (start(Kind::Nonnetd), start(Kind::Reference));
    for words in [
        &["ovsdb-server/list-dbs"][..],
        &["ovsdb-server/sync-status"],
        &["ovsdb-server/compact"],
        &["ovsdb-server/compact", "things"],
        &["ovsdb-server/get-db-storage-status", "things"],
        &["ovsdb-server/get-db-storage-status", "_Server"],
        &["ovsdb-server/add-remote", "ptcp:0:127.0.0.1"],
        &["ovsdb-server/remove-remote", "ptcp:0:127.0.0.1"],
        &["vlog/set", "console:off"],
        &["vlog/set", "ANY:file:dbg"],
        &["vlog/set", "facility:local1"],
        &["vlog/close"],
        &["vlog/disable-rate-limit"],
        &["vlog/enable-rate-limit", "transaction"],
        &["ovsdb-server/perf-counters-show"],
        &["ovsdb-server/perf-counters-clear"],
        &["ovsdb-server/memory-trim-on-compaction", "on"],
        &["ovsdb-server/tlog-set", "things:t", "on"],
        &["ovsdb-server/tlog-list"],
        &["ovsdb-server/tlog-set", ":things::t", "OFF"],
        &["ovsdb-server/tlog-list"],
    ] {
        assert_eq!(ask(&ours, words), ask(&theirs, words), "{words:?}");
    }
    let remotes = ask(&ours, &["ovsdb-server/list-remotes"]);
    assert_eq!(remotes, format!("punix:{}\n", ours.socket().display()));
    assert!(ask(&ours, &["version"]).starts_with("nonnetd "));
    assert!(ask(&ours, &["coverage/show"]).contains("events never hit"));
    let list = ask(&ours, &["list-commands"]);
    assert!(list.starts_with("The available commands are:\n"), "{list}");
    assert!(list.contains("\n  ovsdb-server/add-db     DB\n"), "{list}");
}

#[test]
fn refusals_are_in_the_words_of_ovsdb_server() {
    let (ours, theirs) = (start(Kind::Nonnetd), start(Kind::Reference));
    for words in [
        &["nosuch"][..],
        &["version", "more"],
        &["ovsdb-server/add-remote"],
        &["ovsdb-server/list-dbs", "more"],
        &["ovsdb-server/remove-remote", "punix:nosuch"],
        &["ovsdb-server/add-db", "nosuch.db"],
        &["ovsdb-server/add-db", "test.db"],
        &["ovsdb-server/remove-db", "nosuch"],
        &["ovsdb-server/remove-db", "_Server"],
        &["ovsdb-server/compact", "_Server"],
        &["ovsdb-server/compact", "nosuch"],
        &["ovsdb-server/get-db-storage-status", "nosuch"],
        &["vlog/set", "bogus"],
        &["vlog/set", "facility:bogus"],
        &["vlog/disable-rate-limit", "bogus"],
        &["coverage/read-counter", "bogus"],
        &["ovsdb-server/memory-trim-on-compaction", "maybe"],
        &["ovsdb-server/tlog-set", "things:t"],
        &["ovsdb-server/tlog-set", "things:t", "maybe"],
        &["ovsdb-server/tlog-set", "things", "on"],
        &["ovsdb-server/tlog-set", "things:t:u", "on"],
        &["ovsdb-server/tlog-set", "nosuch:t", "on"],
        &["ovsdb-server/tlog-set", "things:nosuch", "on"],
        &["vlog/reopen"],
    ] {
        assert_eq!(refusal(&ours, words), refusal(&theirs, words), "{words:?}");
    }
}

#[test]
fn memory_is_shown_by_ovsdb_servers_keys_and_counts() {
    let line = |kind| {
        let server = start(kind);
        let mut client = server.connect().unwrap();
        let row = json!({"op": "insert", "table": "t", "row": {"name": "a", "s": ["set", ["x", "y"]]}});
        client.transact("things", &[row]).unwrap();
        client.call("monitor", &json!(["things", "m", {"t": [{}]}])).unwrap();
        ask(&server, &["memory/show"])
    };
    let (ours, theirs) = (line(Kind::Nonnetd), line(Kind::Reference));
    let known: Vec<&str> = theirs
        .split_whitespace()
        // What nonnetd has no such thing of, or what moves by itself.
        .filter(|word| !["txn-", "json-", "raft-"].iter().any(|begin| word.starts_with(begin)))
        .collect();
    assert_eq!(ours.split_whitespace().collect::<Vec<_>>(), known, "{theirs}");
}

#[test]
fn remotes_come_and_go() {
    let server = start(Kind::Nonnetd);
    let second = server.directory().join("second.sock");
    let remote = format!("punix:{}", second.display());
    ask(&server, &["ovsdb-server/add-remote", &remote]);
    ask(&server, &["ovsdb-server/add-remote", &remote]);
    assert!(ask(&server, &["ovsdb-server/list-remotes"]).contains(&remote));
    let mut client = Client::connect(&second).unwrap();
    client.call("echo", &json!([])).unwrap();
    ask(&server, &["ovsdb-server/remove-remote", &remote]);
    assert_eq!(client.receive_bytes_to_end().unwrap(), b"");
    assert!(!second.exists());
    let refused = refusal(&server, &["ovsdb-server/add-remote", "pigeon:1"]);
    assert!(refused.contains("pigeon:1"), "{refused}");
    server.connect().unwrap().call("echo", &json!([])).unwrap();
}

#[test]
fn reconnect_closes_every_session() {
    let server = start(Kind::Nonnetd);
    let mut client = server.connect().unwrap();
    client.call("set_db_change_aware", &json!([true])).unwrap();
    ask(&server, &["ovsdb-server/reconnect"]);
    assert_eq!(client.receive_bytes_to_end().unwrap(), b"");
    server.connect().unwrap().call("echo", &json!([])).unwrap();
}

#[test]
fn monitor_cond_can_be_made_unknown_to_sessions_that_come() {
    let answers = |kind| {
        let server = start(kind);
        let mut client = server.connect().unwrap();
        client.call("echo", &json!([])).unwrap();
        assert_eq!(ask(&server, &["ovsdb-server/disable-monitor-cond"]), "");
        assert_eq!(client.receive_bytes_to_end().unwrap(), b"");
        let mut client = server.connect().unwrap();
        let methods = ["monitor_cond", "monitor_cond_since", "monitor"];
        methods.map(|method| {
            let mut answer = client.call(method, &json!(["things", method, {"t": [{}]}])).unwrap();
            answer["error"].take()
        })
    };
    let ours = answers(Kind::Nonnetd);
    assert_eq!(ours, answers(Kind::Reference));
    assert_eq!(ours[0], "unknown method");
}

/// The lines of the log of transactions, with UUIDs and the order of columns out of the way.
fn logged_transactions(kind: Kind) -> Vec<Vec<String>> {
    let schema = case::schema("things").unwrap();
    let mut arguments = vec!["--log-file=log"];
    if kind == Kind::Nonnetd {
        arguments.push("--unixctl=ctl");
    }
    let server = Server::start_with(kind, &schema, &arguments).unwrap();
    ask(&server, &["ovsdb-server/tlog-set", "things:t", "on"]);
    let mut client = server.connect().unwrap();
    for operation in [
        json!({"op": "insert", "table": "t", "row": {"name": "a", "s": ["set", ["x", "two words"]]}}),
        json!({"op": "update", "table": "t", "where": [], "row": {"n": 7}}),
        json!({"op": "delete", "table": "t", "where": []}),
    ] {
        client.transact("things", &[operation]).unwrap();
    }
    ask(&server, &["ovsdb-server/tlog-set", "things:t", "off"]);
    let insert = json!({"op": "insert", "table": "t", "row": {"name": "unseen"}});
    client.transact("things", &[insert]).unwrap();
    let log = std::fs::read_to_string(server.directory().join("log")).unwrap();
    let lines = log.lines().filter_map(|line| line.split_once("|transaction|INFO|"));
    lines
        .map(|(_, text)| {
            let (begin, fields) = text.split_at(text.find(",name:").unwrap_or(text.len()));
            let words = begin.split(',').chain(fields.split(','));
            let mut words: Vec<String> = words
                .filter(|word| !word.contains("_uuid:"))
                .map(str::to_owned)
                .collect();
            words.retain(|word| !word.contains("_version:"));
            words.sort();
            words
        })
        .collect()
}

#[test]
fn transactions_of_a_table_are_logged_when_asked() {
    let ours = logged_transactions(Kind::Nonnetd);
    assert_eq!(ours.len(), 3, "{ours:?}");
    assert_eq!(ours, logged_transactions(Kind::Reference));
}

#[test]
fn compaction_truncates_the_write_ahead_log_and_keeps_the_records() {
    let mut server = start(Kind::Nonnetd);
    let mut client = server.connect().unwrap();
    for number in 0..50 {
        let row = json!({"op": "insert", "table": "t", "row": {"name": format!("row {number}")}});
        client.transact("things", &[row]).unwrap();
    }
    let wal = server.directory().join("test.db-wal");
    assert!(std::fs::metadata(&wal).unwrap().len() > 0);
    ask(&server, &["ovsdb-server/compact", "things"]);
    assert_eq!(std::fs::metadata(&wal).unwrap().len(), 0);
    server.stop().unwrap();
    server.run().unwrap();
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["name"]});
    let rows = server.connect().unwrap().transact("things", &[select]).unwrap();
    assert_eq!(rows[0]["rows"].as_array().unwrap().len(), 50);
}

#[test]
fn the_json_form_of_answers_is_that_of_newer_ovs_appctl() {
    let server = start(Kind::Nonnetd);
    let mut control = Client::connect(&server.directory().join("ctl")).unwrap();
    let set = control.call("set-options", &json!(["--format", "json"])).unwrap();
    assert_eq!(set["error"], Value::Null, "{set}");
    let listed = control.call("ovsdb-server/list-dbs", &json!([])).unwrap();
    assert_eq!(
        listed["result"],
        json!({"reply-format": "plain", "reply": "_Server\nthings"})
    );
    let refused = control.call("set-options", &json!(["--format=xml"])).unwrap();
    assert_eq!(refused["error"], "option format has invalid value xml\n");
}

#[test]
fn exit_ends_the_server_after_its_answer() {
    let mut server = start(Kind::Nonnetd);
    assert_eq!(ask(&server, &["exit"]), "");
    assert_eq!(server.wait().unwrap(), Some(0));
    assert!(!server.directory().join("ctl").exists());
    assert!(!server.socket().exists());
}

/// The messages that come to a client that knows of changes, while a database comes and goes.
fn aware_messages(kind: Kind) -> Vec<Value> {
    let server = start(kind);
    let file = another_file(&server, "more");
    let file = file.to_str().unwrap();
    let (mut unaware, mut aware) = (server.connect().unwrap(), server.connect().unwrap());
    unaware.call("echo", &json!([])).unwrap();
    aware.call("set_db_change_aware", &json!([true])).unwrap();
    let listed = json!(["_Server", "list", {"Database": [{"columns": ["name"]}]}]);
    aware.call("monitor", &listed).unwrap();
    ask(&server, &["ovsdb-server/add-db", file]);
    assert_eq!(unaware.receive_bytes_to_end().unwrap(), b"");
    let mut messages = vec![aware.receive().unwrap()];
    let inserted = aware
        .transact("more", &[json!({"op": "insert", "table": "t", "row": {"n": 1}})])
        .unwrap();
    assert!(inserted[0]["uuid"].is_array(), "{inserted:?}");
    aware.call("monitor", &json!(["more", ["m", 1], {"t": [{}]}])).unwrap();
    let wait = json!({"op": "wait", "table": "t", "where": [], "columns": ["n"], "until": "==", "rows": [{"n": 2}]});
    aware
        .send(&json!({"id": "waits", "method": "transact", "params": ["more", wait]}).to_string())
        .unwrap();
    aware.call("echo", &json!([])).unwrap();
    let mut unaware = server.connect().unwrap();
    unaware.call("echo", &json!([])).unwrap();
    ask(&server, &["ovsdb-server/remove-db", "more"]);
    assert_eq!(unaware.receive_bytes_to_end().unwrap(), b"");
    for _ in 0..3 {
        messages.push(aware.receive().unwrap());
    }
    let gone = aware.call("get_schema", &json!(["more"])).unwrap();
    messages.push(gone["error"]["error"].clone());
    // The file is free, and what was committed is in it.
    ask(&server, &["ovsdb-server/add-db", file]);
    messages.push(aware.receive().unwrap());
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["n"]});
    messages.extend(aware.transact("more", &[select]).unwrap());
    messages
}

/// Without UUIDs, and with errors in one form.
fn comparable(messages: Vec<Value>) -> Vec<Value> {
    messages
        .into_iter()
        .map(|mut message| {
            if let Some(table) = message.pointer_mut("/params/1/Database") {
                *table = table.as_object().unwrap().values().cloned().collect();
            }
            if let Some(members) = message.as_object_mut() {
                members.retain(|_, value| !value.is_null());
            }
            message
        })
        .collect()
}

#[test]
fn clients_learn_of_databases_that_come_and_go() {
    let ours = comparable(aware_messages(Kind::Nonnetd));
    assert_eq!(ours, comparable(aware_messages(Kind::Reference)));
    assert!(
        ours.contains(&json!({"method": "monitor_canceled", "params": [["m", 1]]})),
        "{ours:?}"
    );
    assert!(ours.contains(&json!({"id": "waits", "error": "canceled"})), "{ours:?}");
}

#[test]
fn a_database_of_the_same_name_is_refused() {
    let server = start(Kind::Nonnetd);
    let file = another_file(&server, "things");
    let words = ["ovsdb-server/add-db", file.to_str().unwrap()];
    let expected = format!("ovsdb error: {}: duplicate database name", file.display());
    assert_eq!(refusal(&server, &words), expected);
}

/// A `nonnetd` command in a directory of its own, which it serves.
fn nonnetd(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program::ours("nonnetd").unwrap());
    command
        .current_dir(directory)
        .env("OVS_RUNDIR", directory)
        .env_remove("OVS_LOGDIR")
        .args(["--kernel", "off"])
        .args(arguments);
    command
}

/// Ends a server in the background whatever becomes of the test.
struct Background(PathBuf);

impl Background {
    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

#[test]
fn detach_returns_when_the_server_serves_and_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let background = Background(directory.path().join("nonnetd.pid"));
    let words = [
        "--detach",
        "--pidfile",
        "--log-file=log",
        "--unixctl=ctl",
        "-vconsole:info",
        "-vsyslog:off",
    ];
    let output = program::run_command(&mut nonnetd(directory.path(), &words), b"").unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut client = Client::connect(&directory.path().join("nonnet.db.sock")).unwrap();
    client.call("list_dbs", &json!([])).unwrap();
    let pid = background.pid().unwrap();
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    for stream in 0..3 {
        let stream = std::fs::read_link(format!("/proc/{pid}/fd/{stream}")).unwrap();
        assert_eq!(stream, Path::new("/dev/null"));
    }
    let exit = control(directory.path(), &["exit"]);
    assert!(exit.status.success(), "{}", String::from_utf8_lossy(&exit.stderr));
    wait_until("the end of the server", || {
        !Path::new(&format!("/proc/{pid}/stat")).exists() || is_zombie(pid)
    });
    for name in ["nonnetd.pid", "ctl", "db.sock", "nonnet.db.sock"] {
        assert!(
            std::fs::symlink_metadata(directory.path().join(name)).is_err(),
            "{name} was left behind"
        );
    }
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.contains("|daemon|INFO|"), "{log}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

fn is_zombie(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn detach_without_words_prints_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let background = Background(directory.path().join("nonnetd.pid"));
    let output = program::run_command(
        &mut nonnetd(directory.path(), &["--detach", "--pidfile", "--no-chdir"]),
        b"",
    );
    let output = output.unwrap();
    assert_eq!(
        (output.status.code(), output.stdout, output.stderr),
        (Some(0), vec![], vec![])
    );
    let pid = background.pid().unwrap();
    let here = directory.path().canonicalize().unwrap();
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), here);
}

#[test]
fn detach_fails_with_the_reason_where_the_server_cannot_start() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("nonnet.db"), "no database ".repeat(1000)).unwrap();
    let output = program::run_command(&mut nonnetd(directory.path(), &["--detach", "--pidfile"]), b"").unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("nonnet.db"), "{stderr}");
    assert!(!directory.path().join("nonnetd.pid").exists());
}

#[test]
fn a_pid_file_belongs_to_one_process_while_it_lives() {
    let directory = tempfile::tempdir().unwrap();
    let background = Background(directory.path().join("nonnetd.pid"));
    // What a killed server has left behind stops nobody.
    std::fs::write(&background.0, "1\n").unwrap();
    let first = program::run_command(&mut nonnetd(directory.path(), &["--detach", "--pidfile"]), b"").unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let pid = background.pid().unwrap();
    let second = nonnetd(directory.path(), &["--pidfile", "other.db"]).output().unwrap();
    assert!(!second.status.success());
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert!(stderr.contains(&format!("already running as pid {pid}")), "{stderr}");
    // `ovs-appctl` finds the server by its pid file.
    kill(pid, Signal::SIGTERM).unwrap();
    wait_until("the end of the pid file", || !background.0.exists());
}

/// A connection to the default socket of a server in a directory; None where nobody answers there.
fn answer(directory: &Path) -> Option<Value> {
    let mut client = Client::connect(&directory.join("nonnet.db.sock")).ok()?;
    client.call("list_dbs", &json!([])).ok()
}

#[test]
fn a_server_that_crashes_is_started_again_with_what_it_was_told() {
    let server = Server::prepare(Kind::Nonnetd, &case::schema("things").unwrap()).unwrap();
    let directory = server.directory();
    let added = another_file(&server, "more");
    let background = Background(directory.join("nonnetd.pid"));
    let words = [
        "--detach",
        "--monitor",
        "--pidfile",
        "--unixctl=ctl",
        "--log-file=log",
        "-vconsole:off",
    ];
    let output = program::run_command(&mut nonnetd(directory, &words), b"").unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    let first = background.pid().unwrap();
    ask(&server, &["ovsdb-server/add-db", added.to_str().unwrap()]);
    let second = directory.join("second.sock");
    ask(
        &server,
        &["ovsdb-server/add-remote", &format!("punix:{}", second.display())],
    );
    let remotes = ask(&server, &["ovsdb-server/list-remotes"]);
    kill(first, Signal::SIGSEGV).unwrap();
    wait_until("another server", || {
        background.pid().is_some_and(|pid| pid != first) && answer(directory).is_some()
    });
    let names = json!(["OpNonNet", "more", "_Nonnet", "_Server"]);
    assert_eq!(answer(directory).unwrap()["result"], names);
    assert_eq!(
        Client::connect(&second).unwrap().call("list_dbs", &json!([])).unwrap()["result"],
        names
    );
    assert_eq!(ask(&server, &["ovsdb-server/list-remotes"]), remotes);
    assert_eq!(
        std::fs::read_link(directory.join("db.sock")).unwrap(),
        Path::new("nonnet.db.sock")
    );
    // Whoever is asked to end, ends, and so does its supervisor.
    let pid = background.pid().unwrap();
    ask(&server, &["exit"]);
    wait_until("the end of the server", || {
        answer(directory).is_none() && !background.0.exists()
    });
    wait_until("the end of the supervisor", || {
        let log = std::fs::read_to_string(directory.join("log")).unwrap();
        log.contains(&format!("|daemon|INFO|pid {pid} died, exit status 0, exiting"))
    });
    let log = std::fs::read_to_string(directory.join("log")).unwrap();
    let crash = format!("|daemon|ERR|1 crashes: pid {first} died, killed (Segmentation fault), restarting");
    assert!(log.contains(&crash), "{log}");
}

#[test]
fn a_server_that_ends_by_itself_is_not_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let output = program::run_command(&mut nonnetd(directory.path(), &["--monitor", "--run=exit 3"]), b"").unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("died, exit status 3, exiting"), "{stderr}");
    // A start that fails fails in the foreground.
    std::fs::write(directory.path().join("bad.db"), "no database ".repeat(1000)).unwrap();
    let words = ["--monitor", "--detach", "--pidfile", "bad.db"];
    let output = program::run_command(&mut nonnetd(directory.path(), &words), b"").unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("bad.db"));
}

#[test]
fn flags_without_a_meaning_here_are_accepted_or_refused_plainly() {
    let directory = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        let output = program::run_command(&mut nonnetd(directory.path(), words), b"").unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let accepted = [
        "--no-self-confinement",
        "--syslog-method=null",
        "--syslog-target=127.0.0.1:514",
        "--no-chdir",
        "--run=true",
    ];
    let (code, stderr) = run(&accepted);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("nothing is sent to syslog"), "{stderr}");
    for (word, told) in [
        ("--record", "does not record"),
        ("--replay=/x", "does not record"),
        ("--syslog-method=pigeon", "unsupported syslog method 'pigeon'"),
    ] {
        let (code, stderr) = run(&[word, "--run=true"]);
        assert!(code == Some(1) && stderr.contains(told), "{word}: {code:?} {stderr}");
    }
}

#[test]
fn a_server_without_databases_takes_them_in_later() {
    let server = Server::prepare(Kind::Nonnetd, &case::schema("things").unwrap()).unwrap();
    let file = another_file(&server, "more");
    let words = [
        "--no-dbs",
        "--remote=punix:nonnet.db.sock",
        "--unixctl=ctl",
        "--detach",
        "--pidfile",
    ];
    let background = Background(server.directory().join("nonnetd.pid"));
    let output = program::run_command(&mut nonnetd(server.directory(), &words), b"").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        answer(server.directory()).unwrap()["result"],
        json!(["_Nonnet", "_Server"])
    );
    ask(&server, &["ovsdb-server/add-db", file.to_str().unwrap()]);
    assert_eq!(
        answer(server.directory()).unwrap()["result"],
        json!(["more", "_Nonnet", "_Server"])
    );
    assert!(!server.directory().join("nonnet.db").exists());
    drop(background);
}

#[test]
fn run_ends_the_server_with_the_status_of_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let words = ["--run=ovsdb-client list-dbs > names; exit 7"];
    let output = program::run_command(&mut nonnetd(directory.path(), &words), b"").unwrap();
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = std::fs::read_to_string(directory.path().join("names")).unwrap();
    assert!(names.contains("OpNonNet"), "{names}");
}

#[test]
fn the_log_file_is_opened_anew_on_sighup_and_on_order() {
    let server = Server::start_with(
        Kind::Nonnetd,
        &case::schema("things").unwrap(),
        &["--unixctl=ctl", "--log-file=nonnetd.log", "--remote=ptcp:0:127.0.0.1"],
    )
    .unwrap();
    let (log, old) = (
        server.directory().join("nonnetd.log"),
        server.directory().join("old.log"),
    );
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.contains("|socket_util|INFO|0:127.0.0.1: listening on port "),
        "{text}"
    );
    std::fs::rename(&log, &old).unwrap();
    server.signal(Signal::SIGHUP).unwrap();
    wait_until("the new log", || log.exists());
    std::fs::rename(&log, &old).unwrap();
    ask(&server, &["vlog/reopen"]);
    assert!(log.exists());
    let levels = ask(&server, &["vlog/list"]);
    assert!(levels.contains("\ndaemon            INFO"), "{levels}");
    ask(&server, &["vlog/set", "daemon:file:off"]);
    let levels = ask(&server, &["vlog/list"]);
    let line = levels.lines().find(|line| line.starts_with("daemon")).unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["daemon", "INFO", "OFF", "OFF"]
    );
}

#[test]
fn ovsdb_client_finds_the_default_socket_by_its_short_name() {
    let directory = tempfile::tempdir().unwrap();
    let background = Background(directory.path().join("nonnetd.pid"));
    let started = program::run_command(&mut nonnetd(directory.path(), &["--detach", "--pidfile"]), b"").unwrap();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let mut dump = Command::new(program::system("ovsdb-client").unwrap());
    dump.arg("dump").env("OVS_RUNDIR", directory.path());
    let dumped = program::run_command(&mut dump, b"").unwrap();
    let text = String::from_utf8_lossy(&dumped.stdout);
    assert!(
        text.contains("host table"),
        "{text}{}",
        String::from_utf8_lossy(&dumped.stderr)
    );
    kill(background.pid().unwrap(), Signal::SIGTERM).unwrap();
    wait_until("the end of the pid file", || !background.0.exists());
    assert!(std::fs::symlink_metadata(directory.path().join("db.sock")).is_err());
}

#[test]
fn what_somebody_else_calls_db_sock_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("db.sock");
    std::fs::write(&taken, "somebody's").unwrap();
    let output = program::run_command(&mut nonnetd(directory.path(), &["--run=true"]), b"").unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "somebody's");
}
