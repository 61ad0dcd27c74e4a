//! `--config-file`: remotes and databases from a file, which `ovsdb-server/reload` reads anew. Debian's ovsdb-server has none yet.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::Client;
use nonnet_tests::{case, control};
use serde_json::{Value, json};

/// How long something may take that is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server with a configuration file `config` in its directory; killed with the value.
struct Configured {
    directory: tempfile::TempDir,
    child: Child,
}

impl Configured {
    /// Starts with this configuration; the databases `a.db` and `b.db` of the same names are there.
    fn start(configuration: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            make_database(&directory.path().join(format!("{name}.db")), name);
        }
        Self::start_in(directory, configuration, "off")
    }

    /// Starts with the databases in a directory, and does that with the kernel.
    fn start_in(directory: tempfile::TempDir, configuration: &Value, kernel: &str) -> Self {
        std::fs::write(directory.path().join("config"), configuration.to_string()).unwrap();
        let child = command(directory.path(), kernel).spawn().unwrap();
        let configured = Self { directory, child };
        configured.wait_for("db.sock");
        configured
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn wait_for(&self, socket: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while Client::connect(&self.path(socket)).is_err() || !self.path("ctl").exists() {
            assert!(Instant::now() < deadline, "nobody listens on {socket}");
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn client(&self, socket: &str) -> Client {
        let mut client = Client::connect(&self.path(socket)).unwrap();
        client.call("set_db_change_aware", &json!([true])).unwrap();
        client
    }

    fn databases(&self) -> Value {
        self.client("db.sock").call("list_dbs", &json!([])).unwrap()["result"].take()
    }

    fn remotes(&self) -> String {
        control::ask(&self.path("ctl"), &["ovsdb-server/list-remotes"]).unwrap()
    }

    /// Puts another configuration in the place of the one before; the answer of `reload`.
    fn reload(&self, configuration: &str) -> Result<String, String> {
        std::fs::write(self.path("config"), configuration).unwrap();
        let words = ["ovsdb-server/reload"];
        let output = control::run(&self.path("ctl"), &words).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(stderr)
        }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(directory: &Path, kernel: &str) -> Command {
    let mut command = program::tied(&program::ours("nonnetd").unwrap()).unwrap();
    command
        .current_dir(directory)
        .env("OVS_RUNDIR", directory)
        .args(["--kernel", kernel, "--config-file=config", "--unixctl=ctl"])
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(directory.join("stderr")).unwrap());
    command
}

fn make_database(file: &Path, name: &str) {
    let schema = json!({"name": name, "tables": {"t": {"columns": {"n": {"type": "integer"}}}}});
    make_database_of(file, &schema);
}

fn make_database_of(file: &Path, schema: &Value) {
    let mut server = Server::prepare(Kind::Nonnetd, schema).unwrap();
    server.run().unwrap();
    server.stop().unwrap();
    for (from, to) in [
        ("test.db", file.to_owned()),
        ("test.db.head", file.with_extension("db.head")),
    ] {
        std::fs::copy(server.directory().join(from), to).unwrap();
    }
}

#[test]
fn what_the_file_says_is_served_and_reload_follows_it() {
    let server = Configured::start(&json!({
        "remotes": {"punix:db.sock": null, "punix:old.sock": {}},
        "databases": {"a.db": {}},
    }));
    assert_eq!(server.databases(), json!(["a", "_Nonnet", "_Server"]));
    assert_eq!(server.remotes(), "punix:db.sock\npunix:old.sock\n");
    let mut old = server.client("old.sock");
    let mut kept = server.client("db.sock");
    let next = json!({
        "remotes": {"punix:db.sock": {"inactivity-probe": 7000}, "punix:new.sock": {"read-only": true}},
        "databases": {"a.db": null, "b.db": {"service-model": "standalone"}},
    });
    assert_eq!(server.reload(&next.to_string()), Ok(String::new()));
    assert_eq!(server.databases(), json!(["a", "b", "_Nonnet", "_Server"]));
    assert_eq!(server.remotes(), "punix:db.sock\npunix:new.sock\n");
    // What goes takes its sessions along; what stays keeps them.
    assert!(old.receive_bytes_to_end().is_ok());
    assert!(!server.path("old.sock").exists());
    kept.call("echo", &json!([])).unwrap();
    let insert = json!({"op": "insert", "table": "t", "row": {"n": 1}});
    let refused = server
        .client("new.sock")
        .transact("b", std::slice::from_ref(&insert))
        .unwrap();
    assert_eq!(refused[0]["error"], "not allowed");
    kept.transact("b", &[insert]).unwrap();
    let last = json!({"remotes": {"punix:db.sock": {}}, "databases": {"b.db": {}}});
    assert_eq!(server.reload(&last.to_string()), Ok(String::new()));
    assert_eq!(server.databases(), json!(["b", "_Nonnet", "_Server"]));
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["n"]});
    assert_eq!(kept.transact("b", &[select]).unwrap()[0]["rows"], json!([{"n": 1}]));
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_the_error_says_where() {
    let good = json!({"remotes": {"punix:db.sock": {}}, "databases": {"a.db": {}}});
    let server = Configured::start(&good);
    let mut client = server.client("db.sock");
    make_database(&server.path("twin.db"), "a");
    for (configuration, told) in [
        ("{\"remotes\":\n {,}}".to_owned(), "config: no JSON: "),
        ("{\"remotes\":\n {,}}".to_owned(), "line 2 column 3"),
        (
            json!({"remotes": {"punix:other.sock": {"dscp": 99}}, "databases": {}}).to_string(),
            "\"remotes\" > \"punix:other.sock\" > \"dscp\" is 99",
        ),
        (
            json!({"remotes": {"punix:db.sock": {}}, "databases": {"nosuch.db": {}}}).to_string(),
            "nosuch.db: open failed (No such file or directory)",
        ),
        (
            json!({"remotes": {"punix:db.sock": {}}, "databases": {"b.db": {}, "a.db": {}, "twin.db": {}}}).to_string(),
            "twin.db: duplicate database name",
        ),
        (
            json!({"remotes": {"punix:one.sock": {}, "punix:/nonexistent/two.sock": {}}, "databases": {}}).to_string(),
            "\"remotes\" > \"punix:/nonexistent/two.sock\"",
        ),
        (
            json!({"databases": {"a.db": {"service-model": "clustered"}}}).to_string(),
            "\"databases\" > \"a.db\" > \"service-model\" is \"clustered\"",
        ),
    ] {
        let refused = server.reload(&configuration).unwrap_err();
        assert!(refused.contains(told), "{configuration}: {refused}");
        assert_eq!(
            server.databases(),
            json!(["a", "_Nonnet", "_Server"]),
            "{configuration}"
        );
        assert_eq!(server.remotes(), "punix:db.sock\n", "{configuration}");
        assert!(!server.path("one.sock").exists());
        client.call("echo", &json!([])).unwrap();
    }
    // What was opened to be looked at is free again.
    let both = json!({"remotes": {"punix:db.sock": {}}, "databases": {"a.db": {}, "b.db": {}}});
    assert_eq!(server.reload(&both.to_string()), Ok(String::new()));
}

#[test]
fn a_relay_comes_and_goes_with_the_file() {
    let source = Server::start(Kind::Reference, &case::schema("things").unwrap()).unwrap();
    let insert = json!({"op": "insert", "table": "t", "row": {"name": "a"}});
    source.connect().unwrap().transact("things", &[insert]).unwrap();
    let plain = json!({"remotes": {"punix:db.sock": {}}, "databases": {"a.db": {}}});
    let server = Configured::start(&plain);
    let mut relayed = plain.clone();
    relayed["databases"]["things"] = json!({"service-model": "relay", "source": {source.remote(): null}});
    // The same file again changes nothing.
    for _ in 0..2 {
        assert_eq!(server.reload(&relayed.to_string()), Ok(String::new()));
    }
    let mut client = server.client("db.sock");
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["name"]});
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let answer = client.call("transact", &json!(["things", select])).unwrap();
        if answer["result"][0]["rows"] == json!([{"name": "a"}]) {
            break;
        }
        assert!(Instant::now() < deadline, "{answer}");
        std::thread::sleep(POLL_INTERVAL);
    }
    assert_eq!(server.reload(&plain.to_string()), Ok(String::new()));
    assert_eq!(server.databases(), json!(["a", "_Nonnet", "_Server"]));
}

fn numbers(server: &Configured, database: &str) -> Vec<i64> {
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["n"]});
    let results = server.client("db.sock").transact(database, &[select]).unwrap();
    let rows = results[0]["rows"].as_array().unwrap();
    let mut numbers: Vec<i64> = rows.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Inserts a row; what came of it.
fn add(server: &Configured, database: &str, number: i64) -> Value {
    let insert = json!({"op": "insert", "table": "t", "row": {"n": number}});
    server.client("db.sock").transact(database, &[insert]).unwrap()[0].take()
}

fn wait_for_numbers(server: &Configured, database: &str, expected: &[i64]) {
    let deadline = Instant::now() + TIMEOUT;
    while numbers(server, database) != expected {
        let log = std::fs::read_to_string(server.path("stderr")).unwrap();
        assert!(
            Instant::now() < deadline,
            "{database}: {:?}: {log}",
            numbers(server, database)
        );
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn configuration(a: &Value, b: &Value) -> Value {
    json!({"remotes": {"punix:db.sock": {}}, "databases": {"a.db": a, "b.db": b}})
}

#[test]
fn backups_are_those_of_the_file_and_the_other_databases_stay_active() {
    let active = Configured::start(&configuration(&Value::Null, &Value::Null));
    let source = format!("unix:{}", active.path("db.sock").display());
    add(&active, "a", 1);
    add(&active, "b", 1);
    let backup = json!({"service-model": "active-backup", "backup": true, "source": {source.clone(): {"inactivity-probe": 9000}}});
    let mut without = backup.clone();
    without["exclude-tables"] = json!(["t"]);
    let ended = json!({"service-model": "active-backup", "backup": false});
    let server = Configured::start(&configuration(&backup, &Value::Null));
    wait_for_numbers(&server, "a", &[1]);
    assert_eq!(add(&server, "a", 9)["error"], "not allowed");
    assert!(add(&server, "b", 5)["uuid"].is_array(), "b is active");
    // Both, of one all tables.
    let both = configuration(&backup, &without).to_string();
    for number in [2, 3] {
        assert_eq!(server.reload(&both), Ok(String::new()));
        add(&active, "b", number);
        add(&active, "a", number);
    }
    wait_for_numbers(&server, "a", &[1, 2, 3]);
    assert_eq!(numbers(&server, "b"), [5]);
    assert_eq!(add(&server, "b", 9)["error"], "not allowed");
    let status = control::ask(&server.path("ctl"), &["ovsdb-server/sync-status"]).unwrap();
    assert!(status.contains(&format!("replicating: {source}\n")), "{status}");
    assert!(status.contains("exclude: b:t"), "{status}");
    // One is active again, the other still follows.
    assert_eq!(
        server.reload(&configuration(&ended, &backup).to_string()),
        Ok(String::new())
    );
    assert!(add(&server, "a", 7)["uuid"].is_array());
    wait_for_numbers(&server, "b", &[1, 2, 3]);
    add(&active, "a", 4);
    add(&active, "b", 4);
    wait_for_numbers(&server, "b", &[1, 2, 3, 4]);
    assert_eq!(numbers(&server, "a"), [1, 2, 3, 7]);
    // A database that comes is a backup from the beginning, and a database that goes is one no more.
    let alone = json!({"remotes": {"punix:db.sock": {}}, "databases": {"a.db": backup}});
    assert_eq!(server.reload(&alone.to_string()), Ok(String::new()));
    assert_eq!(
        server.reload(&configuration(&ended, &backup).to_string()),
        Ok(String::new())
    );
    wait_for_numbers(&server, "a", &[1, 2, 3, 4]);
    wait_for_numbers(&server, "b", &[1, 2, 3, 4]);
    assert_eq!(add(&server, "b", 9)["error"], "not allowed");
    // All are active.
    assert_eq!(
        server.reload(&configuration(&ended, &ended).to_string()),
        Ok(String::new())
    );
    let status = control::ask(&server.path("ctl"), &["ovsdb-server/sync-status"]).unwrap();
    assert_eq!(status, "state: active\n");
    assert!(add(&server, "a", 8)["uuid"].is_array());
    assert!(add(&server, "b", 8)["uuid"].is_array());
}

#[test]
fn the_kernel_is_left_alone_while_the_file_makes_its_database_a_backup() {
    let text = std::fs::read_to_string(program::repository().join("schema/schemas/nonnet.ovsschema")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let active = Server::start(Kind::Nonnetd, &schema).unwrap();
    let bridge = json!({"op": "insert", "table": "bridges", "row": {"name": "nnplan0"}});
    active.connect().unwrap().transact("OpNonNet", &[bridge]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    make_database_of(&directory.path().join("net.db"), &schema);
    let configuration = |service: &Value| json!({"remotes": {"punix:db.sock": {}}, "databases": {"net.db": service}});
    let backup = json!({"service-model": "active-backup", "backup": true, "source": {active.remote(): null}});
    // It only looks at the kernel, which is enough to see whether it does.
    let server = Configured::start_in(directory, &configuration(&backup), "observe");
    let has_status = || {
        let select = json!({"op": "select", "table": "bridges", "where": [], "columns": ["name", "status"]});
        let results = server.client("db.sock").transact("OpNonNet", &[select]).unwrap();
        let rows = results[0]["rows"].as_array().unwrap();
        rows.first().map(|row| row["status"] != json!(["map", []]))
    };
    let wait_for_status = |expected: Option<bool>| {
        let deadline = Instant::now() + TIMEOUT;
        while has_status() != expected {
            assert!(Instant::now() < deadline, "{:?}", has_status());
            std::thread::sleep(POLL_INTERVAL);
        }
    };
    wait_for_status(Some(false));
    assert_eq!(
        server.reload(&configuration(&Value::Null).to_string()),
        Ok(String::new())
    );
    wait_for_status(Some(true));
    // What the active server has told anew stays as it is, since nobody looks.
    assert_eq!(server.reload(&configuration(&backup).to_string()), Ok(String::new()));
    wait_for_status(Some(false));
}

#[test]
fn backups_of_different_servers_are_refused_by_name() {
    let backup = |source: &str| json!({"service-model": "active-backup", "backup": true, "source": {source: null}});
    let server = Configured::start(&configuration(&Value::Null, &Value::Null));
    let wanted = configuration(&backup("tcp:127.0.0.1:1"), &backup("tcp:127.0.0.1:2"));
    let refused = server.reload(&wanted.to_string()).unwrap_err();
    let told = "\"databases\" > \"a.db\" and \"databases\" > \"b.db\" are backups with different \"source\", tcp:127.0.0.1:1 and \
                tcp:127.0.0.1:2";
    assert!(refused.contains(told), "{refused}");
    assert!(add(&server, "a", 1)["uuid"].is_array());
    let wrong = server.reload(&configuration(&backup("bogus:x"), &Value::Null).to_string());
    assert!(
        wrong
            .unwrap_err()
            .contains("\"a.db\" > \"source\": bogus:x: a source is unix:PATH")
    );
}

#[test]
fn orders_that_the_file_would_contradict_are_refused() {
    let server = Configured::start(&json!({"remotes": {"punix:db.sock": {}}, "databases": {"a.db": {}}}));
    let expected = format!(
        "Update the {} and use ovsdb-server/reload instead",
        server.path("config").display()
    );
    for words in [
        ["ovsdb-server/add-db", "b.db"],
        ["ovsdb-server/remove-db", "a"],
        ["ovsdb-server/add-remote", "ptcp:0"],
        ["ovsdb-server/remove-remote", "punix:db.sock"],
        ["ovsdb-server/set-active-ovsdb-server", "tcp:127.0.0.1:1"],
        ["ovsdb-server/set-sync-exclude-tables", "a:t"],
    ] {
        assert_eq!(control::refusal(&server.path("ctl"), &words).unwrap(), expected);
    }
    control::ask(&server.path("ctl"), &["ovsdb-server/compact"]).unwrap();
}

#[test]
fn a_file_excludes_what_it_would_contradict_on_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config"), "{}").unwrap();
    let told = |words: &[&str]| {
        let output = program::run_command(command(directory.path(), "off").args(words), b"").unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(told(&["--remote=ptcp:0"]).contains("--config-file is mutually exclusive with --remote"));
    assert!(told(&["--sync-from=tcp:127.0.0.1:1"]).contains("--config-file is mutually exclusive with --sync-from"));
    assert!(told(&["a.db"]).contains("Databases should be specified in a config file"));
    std::fs::write(directory.path().join("config"), "[").unwrap();
    assert!(told(&[]).contains("config: no JSON: "));
    std::fs::write(directory.path().join("config"), "{\"databases\": {\"nosuch.db\": {}}}").unwrap();
    assert!(told(&[]).contains("nosuch.db"));
    assert!(!directory.path().join("nosuch.db").exists());
}

#[test]
fn reload_without_a_file_is_refused() {
    let server = Server::start_with(Kind::Nonnetd, &case::schema("things").unwrap(), &["--unixctl=ctl"]).unwrap();
    let refused = control::refusal(&server.directory().join("ctl"), &["ovsdb-server/reload"]).unwrap();
    assert_eq!(refused, "Configuration file was not specified on command line");
}
