//! Real clients, unmodified: every subcommand of `ovsdb-client`, and the Python IDL. What they print on `nonnetd` is what they print on
//! `ovsdb-server`, up to the choice of UUIDs.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nonnet_tests::case;
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::rename::{Order, Renamer};
use nonnet_tests::server::{Kind, Server};
use serde_json::{Value, json};

/// How long a client that watches may take to print what it was told.
const WATCH_TIMEOUT: Duration = Duration::from_secs(20);

/// A client that prints until it is stopped.
struct Watcher {
    child: Child,
    output: PathBuf,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watcher {
    fn start(server: &Server, name: &str, arguments: &[&str]) -> Self {
        let output = server.directory().join(name);
        let mut command = program::tied(&program::system("ovsdb-client").unwrap()).unwrap();
        command.args(arguments).stdin(Stdio::null());
        command.stdout(File::create(&output).unwrap()).stderr(Stdio::null());
        Self {
            child: command.spawn().unwrap(),
            output,
        }
    }

    /// Waits until the output has this text.
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + WATCH_TIMEOUT;
        loop {
            let output = std::fs::read_to_string(&self.output).unwrap();
            if output.contains(text) && output.ends_with('\n') {
                return output;
            }
            assert!(Instant::now() < deadline, "{text:?} did not come; so far: {output}");
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the watching client ended with {status}: {output}");
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

fn start(kind: Kind) -> Server {
    Server::start(kind, &case::schema("things").unwrap()).unwrap()
}

/// Runs one subcommand that must succeed.
fn run(arguments: &[&str], input: &str) -> String {
    program::succeed(&program::system("ovsdb-client").unwrap(), arguments, input.as_bytes()).unwrap()
}

/// The lines with names for UUIDs.
fn renamed(transcript: &str) -> Vec<String> {
    let mut renamer = Renamer::default();
    transcript
        .lines()
        .map(|line| {
            renamer
                .canonical(&json!(line), Order::default())
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

/// Plays the same on both servers and compares what was printed.
fn compare(play: impl Fn(&Server) -> String) {
    let ours = renamed(&play(&start(Kind::Nonnetd)));
    let theirs = renamed(&play(&start(Kind::Reference)));
    assert_eq!(ours, theirs);
}

fn transact(server: &Server, operations: &[Value]) -> String {
    let mut params = vec![json!("things")];
    params.extend_from_slice(operations);
    run(&["transact", &server.remote(), &json!(params).to_string()], "")
}

fn insert(row: &Value) -> Value {
    json!({"op": "insert", "table": "t", "row": row})
}

fn first_row() -> Value {
    insert(&json!({"name": "one", "n": 1, "s": ["set", ["x", "y"]], "m": ["map", [["k", "v"]]], "o": "opt"}))
}

#[test]
fn schemas_are_shown() {
    compare(|server| {
        let remote = server.remote();
        let mut names: Vec<String> = run(&["list-dbs", &remote], "").lines().map(str::to_owned).collect();
        names.sort();
        let mut transcript = names.join("\n") + "\n";
        for arguments in [
            &["get-schema", &remote][..],
            &["get-schema", &remote, "things"],
            &["get-schema", &remote, "_Server"],
            &["get-schema-version", &remote, "things"],
            &["get-schema-cksum", &remote, "things"],
            &["get-schema-cksum", &remote, "_Server"],
            &["list-tables", &remote, "things"],
            &["list-columns", &remote, "things"],
            &["list-columns", &remote, "things", "u"],
            &["list-tables", &remote, "_Server"],
        ] {
            let output = run(arguments, "");
            // The tool prints columns in the order of a hash table that grew in the order of the message.
            let mut lines: Vec<&str> = output.lines().collect();
            lines.sort_unstable();
            transcript += &lines.join("\n");
            transcript += "\n";
        }
        transcript
    });
}

#[test]
fn transactions_and_queries_print_their_results() {
    compare(|server| {
        let select = json!({"op": "select", "table": "t", "where": []});
        let mut transcript = transact(server, &[first_row(), select.clone()]);
        transcript += &transact(server, &[json!({"op": "nosuch"})]);
        let query = json!(["things", select, {"op": "delete", "table": "t", "where": []}]).to_string();
        transcript += &run(&["query", &server.remote(), &query], "");
        transcript
            + &transact(
                server,
                &[json!({"op": "update", "table": "t", "where": [], "row": {"n": 2}})],
            )
    });
}

#[test]
fn a_dump_shows_all_rows_in_every_format() {
    compare(|server| {
        let remote = server.remote();
        transact(
            server,
            &[
                first_row(),
                json!({"op": "insert", "table": "u", "row": {"flag": true}}),
            ],
        );
        let mut transcript = run(&["dump", &remote, "things"], "");
        for format in ["table", "list", "csv", "json"] {
            transcript += &run(&["-f", format, "dump", &remote, "things", "t"], "");
        }
        transact(
            server,
            &[insert(&json!({"name": "two"})), insert(&json!({"name": "three"}))],
        );
        transcript + &run(&["dump", &remote, "things", "t", "name", "n", "o"], "")
    });
}

#[test]
fn a_backup_is_restored() {
    compare(|server| {
        let remote = server.remote();
        transact(
            server,
            &[
                first_row(),
                json!({"op": "insert", "table": "u", "row": {"name": "u", "flag": true}}),
            ],
        );
        let before = run(&["dump", &remote, "things"], "");
        let backup = run(&["backup", &remote, "things"], "");
        let file = server.directory().join("backup");
        std::fs::write(&file, &backup).unwrap();
        let select =
            json!(["things", {"op": "select", "table": "t", "where": [], "columns": ["name", "n", "s", "m", "o"]}]);
        let tool = program::system("ovsdb-tool").unwrap();
        let offline = program::succeed(
            &tool,
            &["query".as_ref(), file.as_os_str(), select.to_string().as_ref()],
            b"",
        )
        .unwrap();
        transact(
            server,
            &[
                json!({"op": "delete", "table": "t", "where": []}),
                insert(&json!({"name": "stray"})),
            ],
        );
        let restored = run(&["restore", &remote, "things"], &backup);
        before + &offline + &restored + &run(&["dump", &remote, "things"], "")
    });
}

#[test]
fn a_monitor_prints_every_change() {
    compare(|server| {
        let remote = server.remote();
        transact(server, &[first_row()]);
        let mut all = Watcher::start(server, "all", &["monitor", &remote, "things", "ALL"]);
        let mut one = Watcher::start(
            server,
            "one",
            &["-f", "csv", "monitor", &remote, "things", "t", "name,n,s"],
        );
        let mut later = Watcher::start(
            server,
            "later",
            &["monitor", &remote, "things", "t", "name,!insert,!delete"],
        );
        let mut cond = Watcher::start(
            server,
            "cond",
            &["monitor-cond", &remote, "things", r#"[["n",">",0]]"#, "t", "name,n,s,m"],
        );
        all.wait_for("initial");
        one.wait_for("initial");
        later.wait_for("initial");
        cond.wait_for("initial");
        transact(
            server,
            &[json!({"op": "update", "table": "t", "where": [], "row": {"name": "second", "n": 2}})],
        );
        cond.wait_for("second");
        let mutations = json!([
            ["s", "insert", ["set", ["z"]]],
            ["m", "insert", ["map", [["k3", "v3"]]]]
        ]);
        transact(
            server,
            &[json!({"op": "mutate", "table": "t", "where": [], "mutations": mutations})],
        );
        one.wait_for("z");
        transact(
            server,
            &[json!({"op": "update", "table": "t", "where": [], "row": {"name": "third"}})],
        );
        cond.wait_for("third");
        transact(server, &[json!({"op": "delete", "table": "t", "where": []})]);
        let transcript = all.wait_for("delete") + &one.wait_for("delete") + &cond.wait_for("delete");
        transcript + &later.wait_for("third")
    });
}

#[test]
fn monitor_cond_since_works_or_is_an_unknown_method() {
    let server = start(Kind::Nonnetd);
    let zero = "00000000-0000-0000-0000-000000000000";
    let mut client = server.connect().unwrap();
    let reply = client
        .call(
            "monitor_cond_since",
            &json!(["things", "m", {"t": [{"columns": ["name"]}]}, zero]),
        )
        .unwrap();
    if reply["error"] == Value::Null {
        transact(&server, &[first_row()]);
        let arguments = [
            "monitor-cond-since",
            &server.remote(),
            "things",
            zero,
            "[true]",
            "t",
            "name",
        ];
        Watcher::start(&server, "since", &arguments).wait_for("one");
    } else {
        assert_eq!(
            reply["error"], "unknown method",
            "clients fall back on these very words"
        );
    }
}

#[test]
fn locks_are_given_stolen_and_given_back() {
    compare(|server| {
        let remote = server.remote();
        let mut holder = Watcher::start(server, "holder", &["lock", &remote, "l"]);
        let mut transcript = holder.wait_for("true}\n");
        let mut waiter = Watcher::start(server, "waiter", &["lock", &remote, "l"]);
        transcript += &waiter.wait_for("false}\n");
        let mut thief = Watcher::start(server, "thief", &["steal", &remote, "l"]);
        transcript += &thief.wait_for("true}\n");
        transcript += &holder.wait_for("stolen\n[\"l\"]\n");
        drop(thief);
        transcript += &holder.wait_for("\nlocked\n[\"l\"]\n");
        drop(holder);
        transcript + &waiter.wait_for("\nlocked\n[\"l\"]\n")
    });
}

#[test]
fn wait_and_needs_conversion_see_the_database() {
    compare(|server| {
        let remote = server.remote();
        let schema = server.schema_path().display().to_string();
        let mut transcript = run(&["wait", &remote, "things", "added"], "");
        transcript += &run(&["wait", &remote, "things", "connected"], "");
        transcript += &run(&["wait", &remote, "nosuch", "removed"], "");
        transcript += &run(&["needs-conversion", &remote, &schema], "");
        let other = server.directory().join("other.ovsschema");
        let mut changed = case::schema("things").unwrap();
        changed["version"] = json!("2.0.0");
        changed["tables"]["new"] = json!({"columns": {"a": {"type": "string"}}});
        std::fs::write(&other, changed.to_string()).unwrap();
        transcript + &run(&["needs-conversion", &remote, &other.display().to_string()], "")
    });
}

#[test]
fn errors_are_shown_as_by_the_reference() {
    compare(|server| {
        let client = program::system("ovsdb-client").unwrap();
        let remote = server.remote();
        let mut transcript = String::new();
        for arguments in [
            &["dump", &remote, "nosuch"][..],
            &["get-schema", &remote, "nosuch"],
            &["list-columns", &remote, "things", "nosuch"],
            &["transact", &remote, r#"["nosuch"]"#],
            &["transact", &remote, "[]"],
            &["monitor", &remote, "things", "nosuch"],
            &["monitor-cond", &remote, "things", r#"[["nosuch","==",1]]"#, "t"],
        ] {
            let output = program::run(&client, arguments, b"").unwrap();
            let words = String::from_utf8(output.stderr).unwrap().replace(&remote, "SERVER");
            // Log lines begin with the time.
            let words: Vec<&str> = words.lines().filter(|line| !line.contains('|')).collect();
            let code = output.status.code().map_or_else(String::new, |code| code.to_string());
            transcript.extend([code.as_str(), " ", &words.join("\n"), "\n"]);
            transcript += &String::from_utf8(output.stdout).unwrap();
        }
        transcript
    });
}

#[test]
fn the_python_idl_works_unmodified() {
    let python = python();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/idl_session.py");
    compare(|server| {
        let schema = server.schema_path();
        program::succeed(
            &python,
            &[script.as_os_str(), server.remote().as_ref(), schema.as_os_str()],
            b"",
        )
        .unwrap()
    });
}

/// Python with the pinned `ovs`, in the virtual environment that tests/run makes.
fn python() -> PathBuf {
    let venv = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(3)
        .unwrap()
        .join("venv");
    let python = venv.join("bin/python");
    assert!(python.is_file(), "{} is missing: tests/run makes it", python.display());
    python
}
