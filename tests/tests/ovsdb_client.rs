//! Every subcommand of the real `ovsdb-client`: what it prints on `nonnetd` is what it prints on `ovsdb-server`, to the byte where rows are made
//! with UUIDs that the test names, else up to the choice of UUIDs.

use std::fmt::Write;
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

/// Plays the same on both servers and compares what was printed to the byte.
fn compare_bytes(play: impl Fn(&Server) -> String) {
    let ours = play(&start(Kind::Nonnetd));
    let theirs = play(&start(Kind::Reference));
    for (our, their) in ours.lines().zip(theirs.lines()) {
        assert_eq!(our, their, "ours:\n{ours}\ntheirs:\n{theirs}");
    }
    assert_eq!(ours, theirs);
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

fn insert_as(digit: &str, table: &str, row: &Value) -> Value {
    let uuid = format!("{}-0000-4000-8000-000000000000", digit.repeat(8));
    json!({"op": "insert", "table": table, "uuid": uuid, "row": row})
}

/// One row: how the rows of one update are ordered is the choice of a hash table.
fn fill_one(server: &Server) {
    let row = json!({"name": "a \"quoted\" name, with a comma", "n": -5, "o": "", "s": ["set", ["y", "x", "<b>"]],
        "m": ["map", [["k", "v"], ["", "empty"]]], "m1": ["map", [["one", "1"]]], "s2": ["set", [20, 3]]});
    transact(server, &[insert_as("3", "t", &row)]);
}

/// Rows with UUIDs that sort in another order than their names.
fn fill(server: &Server) {
    fill_one(server);
    transact(
        server,
        &[
            insert_as(
                "2",
                "t",
                &json!({"name": "caf\u{e9}\n", "n": 9_223_372_036_854_775_807_i64}),
            ),
            insert_as("1", "t", &json!({})),
            insert_as("5", "u", &json!({"name": "u", "flag": true})),
            insert_as("4", "u", &json!({"name": "v"})),
        ],
    );
}

/// Runs a subcommand that may fail: exit status, standard output, and standard error without what was logged.
fn told(arguments: &[&str], input: &str) -> String {
    let client = program::system("ovsdb-client").unwrap();
    let output = program::run(&client, arguments, input.as_bytes()).unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    let words: Vec<&str> = words.lines().filter(|line| !line.contains('|')).collect();
    let printed = String::from_utf8(output.stdout).unwrap();
    format!("{}\n{printed}{}\n", output.status, words.join("\n"))
}

#[test]
fn a_dump_is_the_same_to_the_byte_in_every_format() {
    compare_bytes(|server| {
        fill(server);
        let remote = server.remote();
        let mut transcript = String::new();
        for format in ["table", "list", "csv", "html", "json"] {
            for data in ["string", "bare", "json"] {
                transcript += &run(&["-f", format, "-d", data, "dump", &remote, "things"], "");
            }
        }
        transcript += &run(&["--no-headings", "dump", &remote, "things", "u"], "");
        transcript += &run(&["--bare", "dump", &remote, "things", "t", "name", "s"], "");
        transcript += &run(
            &["--pretty", "-f", "json", "dump", &remote, "things", "t", "m", "m1"],
            "",
        );
        transcript += &run(&["dump", &remote, "things", "t", "_uuid", "s2"], "");
        transcript + &told(&["dump", &remote, "things", "t", "nosuch"], "")
    });
}

#[test]
fn server_and_database_may_be_left_out() {
    compare_bytes(|server| {
        fill(server);
        let mut transcript = String::new();
        for arguments in [
            &["list-tables"][..],
            &["dump"],
            &["get-schema-version", "things"],
            &["dump", "u"],
        ] {
            let mut command = program::tied(&program::system("ovsdb-client").unwrap()).unwrap();
            command.args(arguments).env("OVS_RUNDIR", server.directory());
            let output = program::run_command(&mut command, b"").unwrap();
            let mut lines: Vec<String> = String::from_utf8(output.stdout)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect();
            if arguments == ["list-tables"] {
                lines.sort();
            }
            lines.insert(0, format!("{arguments:?} {}", output.status));
            transcript += &lines.join("\n");
            transcript += "\n";
        }
        transcript
    });
}

/// The second record of a backup, without the time at which it was made.
fn backed_up(backup: &str) -> Value {
    let mut records: Vec<Value> = backup
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), 2, "a schema and the rows: {backup}");
    records[1].as_object_mut().unwrap().remove("_date").unwrap();
    Value::Array(records)
}

#[test]
fn a_backup_has_the_rows_and_restores_them_by_force_where_the_schema_is_another() {
    compare(|server| {
        fill(server);
        let remote = server.remote();
        let backup = run(&["backup", &remote, "things"], "");
        let mut transcript = backed_up(&backup).to_string() + "\n";
        transact(server, &[insert(&json!({"name": "stray"}))]);
        transcript += &told(&["restore", &remote, "things"], &backup);
        transcript += &run(&["dump", &remote, "things"], "");

        // The same rows with another checksum of the schema.
        let file = server.directory().join("changed.db");
        let changed = server.directory().join("changed.ovsschema");
        let mut schema = case::schema("things").unwrap();
        schema["version"] = json!("1.0.1");
        std::fs::write(&changed, schema.to_string()).unwrap();
        std::fs::write(&file, &backup).unwrap();
        let tool = program::system("ovsdb-tool").unwrap();
        program::succeed(&tool, &["convert".as_ref(), file.as_os_str(), changed.as_os_str()], b"").unwrap();
        let converted = std::fs::read_to_string(&file).unwrap();
        transact(server, &[json!({"op": "delete", "table": "t", "where": []})]);
        transcript += &told(&["restore", &remote, "things"], &converted);
        transcript += &told(&["--force", "restore", &remote, "things"], &converted);
        transcript += &run(&["dump", &remote, "things"], "");
        transcript + &told(&["restore", &remote, "things"], "no database file\n")
    });
}

/// Names what a standalone `ovsdb-server` never has: the id of a transaction.
fn without_last_ids(text: &str) -> String {
    let mut result = String::new();
    for line in text.lines() {
        let line = match line.split_once("last_id: ") {
            Some((before, _)) => [before, "last_id: ID"].concat(),
            None => line.to_owned(),
        };
        result += &line;
        result += "\n";
    }
    result
}

#[test]
fn monitors_of_all_versions_print_the_same_in_every_format() {
    compare_bytes(|server| {
        fill_one(server);
        let remote = server.remote();
        let condition = r#"[["n","<",100],["name","==","later"]]"#;
        let mut watchers = Vec::new();
        for format in ["table", "list", "csv", "html", "json"] {
            let of_table = [
                &["-f", format, "monitor", &remote, "things", "t", "name,n,o,s,m"][..],
                &[
                    "-f",
                    format,
                    "monitor-cond",
                    &remote,
                    "things",
                    condition,
                    "t",
                    "name,n,o,s,m",
                ],
                &[
                    "-f",
                    format,
                    "monitor-cond-since",
                    &remote,
                    "things",
                    condition,
                    "t",
                    "name,n,o,s,m",
                ],
            ];
            for (version, arguments) in of_table.into_iter().enumerate() {
                let name = format!("{format}-{version}");
                watchers.push(Watcher::start(server, &name, arguments));
            }
        }
        let all = |watchers: &mut Vec<Watcher>, text: &str| {
            for watcher in watchers {
                watcher.wait_for(text);
            }
        };
        let change = |operation: Value| transact(server, &[operation]);
        let rename = |from: &str, to: &str| json!({"op": "update", "table": "t", "where": [["name", "==", from]], "row": {"name": to}});
        all(&mut watchers, "quoted");
        change(insert_as(
            "6",
            "t",
            &json!({"name": "first", "n": 1, "s": ["set", ["p", "q"]]}),
        ));
        all(&mut watchers, "first");
        change(json!({"op": "mutate", "table": "t", "where": [["name", "==", "first"]],
            "mutations": [["s", "insert", "sixth"], ["s", "delete", "p"], ["m", "insert", ["map", [["mk", "mv"]]]]]}));
        all(&mut watchers, "sixth");
        change(json!({"op": "update", "table": "t", "where": [["name", "==", "first"]], "row": {"o": "optional"}}));
        all(&mut watchers, "optional");
        change(rename("first", "later"));
        all(&mut watchers, "later");
        change(
            json!({"op": "update", "table": "t", "where": [["name", "==", "later"]], "row": {"n": 500, "o": "leaving"}}),
        );
        all(&mut watchers, "leaving");
        change(json!({"op": "delete", "table": "t", "where": [["name", "==", "later"]]}));
        all(&mut watchers, "delete");
        change(insert_as("7", "t", &json!({"name": "at last", "n": 2})));
        let seen: Vec<String> = watchers
            .iter_mut()
            .map(|watcher| without_last_ids(&watcher.wait_for("at last")))
            .collect();
        seen.join("\n\n")
    });
}

#[test]
fn a_monitor_prints_the_kinds_of_changes_that_each_column_asks_for() {
    compare_bytes(|server| {
        fill_one(server);
        let groups = ["name,!initial", "n,!insert", "s,!modify,!delete"];
        let remote = server.remote();
        let arguments = [&["monitor", &remote, "things", "t"][..], &groups].concat();
        let mut watcher = Watcher::start(server, "watcher", &arguments);
        watcher.wait_for("initial");
        let changes = [
            insert_as("6", "t", &json!({"name": "first", "n": 1, "s": "x"})),
            json!({"op": "update", "table": "t", "where": [["name", "==", "first"]], "row": {"s": "y"}}),
            json!({"op": "update", "table": "t", "where": [["name", "==", "first"]], "row": {"n": 2, "s": "z"}}),
            json!({"op": "delete", "table": "t", "where": [["name", "==", "first"]]}),
        ];
        for change in changes {
            transact(server, &[change]);
            // Each is a message of its own.
            std::thread::sleep(POLL_INTERVAL);
        }
        watcher.wait_for("delete")
    });
}

#[test]
fn a_condition_is_changed_while_a_monitor_runs() {
    compare_bytes(|server| {
        fill_one(server);
        let remote = server.remote();
        let mut transcript = String::new();
        // ovsdb-client listens for ovs-appctl only in the background. Should the test fail, it ends with its server.
        let of_version = [
            ["monitor-cond", "things", r#"[["n","<",0]]"#],
            ["monitor-cond-since", "things", r#"[["n","<",0]]"#],
        ];
        for [version, database, condition] in of_version {
            let output = server.directory().join(version);
            let pid_file = server.directory().join([version, ".pid"].concat());
            let log = server.directory().join([version, ".log"].concat());
            let mut command = program::tied(&program::system("ovsdb-client").unwrap()).unwrap();
            command
                .env("OVS_RUNDIR", server.directory())
                .args(["--detach", "--no-chdir", "-vconsole:off"])
                .arg(format!("--pidfile={}", pid_file.display()))
                .arg(format!("--log-file={}", log.display()))
                .args([version, &remote, database, condition, "t", "name,n"])
                .stdin(Stdio::null())
                .stdout(File::create(&output).unwrap())
                .stderr(Stdio::null());
            assert!(command.status().unwrap().success(), "{version} does not start");
            let seen = |text: &str| {
                let deadline = Instant::now() + WATCH_TIMEOUT;
                loop {
                    let printed = std::fs::read_to_string(&output).unwrap();
                    if printed.contains(text) {
                        return printed;
                    }
                    assert!(Instant::now() < deadline, "{text:?} did not come; so far: {printed}");
                    std::thread::sleep(POLL_INTERVAL);
                }
            };
            seen("quoted");
            let pid = std::fs::read_to_string(&pid_file).unwrap();
            let control = server.directory().join(format!("ovsdb-client.{}.ctl", pid.trim()));
            let change = |table: &str, condition: &str| {
                let appctl = program::system("ovs-appctl").unwrap();
                let arguments = [
                    "-t",
                    control.to_str().unwrap(),
                    "ovsdb-client/cond_change",
                    table,
                    condition,
                ];
                program::succeed(&appctl, &arguments, b"").unwrap()
            };
            transcript += &change("t", "[false]");
            seen("delete");
            transcript += &change("t", r#"[["n","==",-5]]"#);
            seen("insert");
            transcript += &change("t", "[true]");
            transact(server, &[insert(&json!({"name": "the last"}))]);
            let printed = seen("the last");
            // The row just inserted has a UUID that the server chose.
            let lines: Vec<String> = without_last_ids(&printed)
                .lines()
                .map(|line| {
                    if line.contains("the last") {
                        "the last".to_owned()
                    } else {
                        line.to_owned()
                    }
                })
                .collect();
            transcript += &lines.join("\n");
            transact(
                server,
                &[json!({"op": "delete", "table": "t", "where": [["name", "==", "the last"]]})],
            );
            end_client(pid.trim());
        }
        transcript
    });
}

/// Ends a client that went into the background.
fn end_client(pid: &str) {
    let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
}

#[test]
fn a_monitor_ends_when_the_server_ends() {
    let play = |kind| {
        let mut server = start(kind);
        fill(&server);
        let mut watcher = Watcher::start(
            &server,
            "watcher",
            &["monitor", &server.remote(), "things", "t", "name"],
        );
        watcher.wait_for("quoted");
        server.stop().unwrap();
        let deadline = Instant::now() + WATCH_TIMEOUT;
        loop {
            if let Some(status) = watcher.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the client goes on without a server");
            std::thread::sleep(POLL_INTERVAL);
        }
    };
    assert_eq!(play(Kind::Nonnetd), play(Kind::Reference));
}

#[test]
fn wait_sees_databases_come_and_go() {
    let play = |kind| {
        let argument = "--unixctl=ctl";
        let arguments: &[&str] = if kind == Kind::Nonnetd { &[argument] } else { &[] };
        let server = Server::start_with(kind, &case::schema("things").unwrap(), arguments).unwrap();
        let remote = server.remote();
        let control = server.directory().join("ctl");
        let file = server.directory().join("refs.db");
        let schema = program::repository().join("tests/cases/schemas/refs.ovsschema");
        let tool = program::system("ovsdb-tool").unwrap();
        program::succeed(&tool, &["create".as_ref(), file.as_os_str(), schema.as_os_str()], b"").unwrap();
        let operate = |command: &str, argument: &str| {
            let appctl = program::system("ovs-appctl").unwrap();
            program::succeed(&appctl, &["-t", control.to_str().unwrap(), command, argument], b"").unwrap()
        };
        let waiting = |state: &str| {
            let mut command = program::tied(&program::system("ovsdb-client").unwrap()).unwrap();
            command.args(["wait", &remote, "refs", state]).stdin(Stdio::null());
            command.spawn().unwrap()
        };
        let ends = |mut child: Child| {
            let deadline = Instant::now() + WATCH_TIMEOUT;
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return status.code();
                }
                if Instant::now() > deadline {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    panic!("the wait did not end");
                }
                std::thread::sleep(POLL_INTERVAL);
            }
        };
        let (added, connected) = (waiting("added"), waiting("connected"));
        let mut transcript = told(&["--timeout=1", "wait", &remote, "refs", "added"], "");
        operate("ovsdb-server/add-db", file.to_str().unwrap());
        writeln!(transcript, "{:?} {:?}", ends(added), ends(connected)).unwrap();
        transcript += &run(&["dump", &remote, "refs"], "");
        let removed = waiting("removed");
        transcript += &told(&["--timeout=1", "wait", &remote, "refs", "removed"], "");
        operate("ovsdb-server/remove-db", "refs");
        writeln!(transcript, "{:?}", ends(removed)).unwrap();
        transcript + &told(&["dump", &remote, "refs"], "").replace(&remote, "SERVER")
    };
    assert_eq!(play(Kind::Nonnetd), play(Kind::Reference));
}

#[test]
fn an_unlock_without_a_lock_is_told() {
    compare_bytes(|server| {
        let remote = server.remote();
        let mut watcher = Watcher::start(server, "unlock", &["unlock", &remote, "l"]);
        // It stays, as `lock` does.
        let deadline = Instant::now() + Duration::from_millis(300);
        while Instant::now() < deadline {
            assert!(watcher.child.try_wait().unwrap().is_none(), "unlock does not end");
            std::thread::sleep(POLL_INTERVAL);
        }
        std::fs::read_to_string(&watcher.output).unwrap()
    });
}

/// Writes a schema that differs from that of `things` beside it, and gives its path.
fn changed_schema(server: &Server, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut schema = case::schema("things").unwrap();
    change(&mut schema);
    let path = server.directory().join(name);
    std::fs::write(&path, schema.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn a_database_is_converted_while_it_is_served() {
    compare_bytes(|server| {
        fill(server);
        let remote = server.remote();
        let next = changed_schema(server, "next", |schema| {
            schema["version"] = json!("2.0.0");
            let tables = schema["tables"].as_object_mut().unwrap();
            tables.remove("u");
            tables.insert("v".to_owned(), json!({"columns": {"a": {"type": "string"}}}));
            let columns = tables["t"]["columns"].as_object_mut().unwrap();
            columns.remove("m1");
            columns.insert("r".to_owned(), json!({"type": {"key": "real", "min": 0, "max": 1}}));
            columns.insert("o".to_owned(), json!({"type": {"key": "string", "min": 0, "max": 2}}));
        });
        let mut watcher = Watcher::start(server, "watcher", &["monitor", &remote, "things", "t", "name,n"]);
        watcher.wait_for("quoted");
        let mut transcript = told(&["needs-conversion", &remote, &next], "");
        transcript += &told(&["convert", &remote, &next], "");
        transcript += &told(&["needs-conversion", &remote, &next], "");
        transcript += &told(&["get-schema-version", &remote, "things"], "");
        transcript += &told(&["get-schema-cksum", &remote, "things"], "");
        transcript += &told(&["dump", &remote, "things"], "");
        transact(server, &[insert_as("6", "v", &json!({"a": "new"}))]);
        transcript += &told(&["dump", &remote, "things", "v"], "");
        // What watched is told that its view is gone.
        let deadline = Instant::now() + WATCH_TIMEOUT;
        let status = loop {
            if let Some(status) = watcher.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the monitor goes on with the old schema");
            std::thread::sleep(POLL_INTERVAL);
        };
        writeln!(transcript, "{status}").unwrap();
        let back = server.schema_path().display().to_string();
        transcript += &told(&["convert", &remote, &back], "");
        transcript + &told(&["dump", &remote, "things"], "")
    });
}

#[test]
fn a_conversion_that_does_not_fit_changes_nothing() {
    compare_bytes(|server| {
        // With more rows than one, ovsdb-server 3.1 ends itself over the second of these.
        fill_one(server);
        let remote = server.remote();
        let before = run(&["dump", &remote, "things"], "");
        let changes: [fn(&mut Value); 4] = [
            |schema| schema["tables"]["t"]["columns"]["name"]["type"] = json!("integer"),
            |schema| {
                schema["tables"]["t"]["columns"]["n"]["type"] = json!({"key": {"type": "integer", "minInteger": 0}});
            },
            |schema| schema["tables"]["t"]["columns"]["s"]["type"] = json!({"key": "string", "min": 0, "max": 2}),
            |schema| schema["tables"]["t"]["indexes"] = json!([["o"], ["n", "nosuch"]]),
        ];
        let mut transcript = String::new();
        for (index, change) in changes.into_iter().enumerate() {
            let path = changed_schema(server, &format!("bad-{index}"), change);
            transcript += &told(&["convert", &remote, &path], "").replace(&remote, "SERVER");
        }
        let after = run(&["dump", &remote, "things"], "");
        assert_eq!(before, after);
        transcript.replace(&server.directory().display().to_string(), "DIRECTORY")
    });
}
