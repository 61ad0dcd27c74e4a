//! A served database gets a new schema: what the real clients see, and that a crash around it loses nothing.
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use nonnet_tests::program;
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::Session;
use serde_json::{Value, json};

fn schema(columns: &[&str]) -> Value {
    let columns: serde_json::Map<String, Value> = columns
        .iter()
        .map(|column| ((*column).to_owned(), json!({"type": "string"})))
        .collect();
    let version = format!("{}.0.0", columns.len());
    json!({"name": "d", "version": version, "tables": {"t": {"isRoot": true, "columns": columns}}})
}

fn insert(row: &Value) -> Value {
    json!({"op": "insert", "table": "t", "row": row})
}

fn select() -> Value {
    json!({"op": "select", "table": "t", "where": []})
}

fn write_schema(server: &Server, name: &str, schema: &Value) -> Result<std::path::PathBuf> {
    let path = server.directory().join(name);
    std::fs::write(&path, schema.to_string())?;
    Ok(path)
}

fn client(server: &Server, arguments: &[&str]) -> Result<String> {
    let remote = server.remote();
    let (command, rest) = arguments.split_first().context("a command")?;
    let mut all = vec!["--timeout=20", *command, &remote];
    all.extend(rest);
    program::succeed(&program::system("ovsdb-client")?, &all, b"")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// A program whose standard output is read line by line; killed with the value.
struct Following {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Following {
    fn start(server: &Server, arguments: &[&str]) -> Result<Self> {
        let mut command = program::tied(&program::system("ovsdb-client")?)?;
        command
            .args(["--timeout=60"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.env("OVS_RUNDIR", server.directory());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, lines })
    }

    /// Reads until a line contains `wanted`.
    fn wait_for(&mut self, wanted: &str) -> Result<()> {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            ensure!(
                self.lines.read_line(&mut line)? > 0,
                "it ended before {wanted:?}, after {seen}"
            );
            if line.contains(wanted) {
                return Ok(());
            }
            seen.push_str(&line);
        }
    }

    /// What it says on standard error until it ends.
    fn complaint(&mut self) -> Result<String> {
        let mut text = String::new();
        let mut errors = self.child.stderr.take().context("its errors")?;
        errors.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ovsdb_client_converts(kind: Kind) -> Result<()> {
    let server = Server::start(kind, &schema(&["a"]))?;
    let wide = write_schema(&server, "wide", &schema(&["a", "b"]))?;
    let mut session = server.connect()?;
    session.call("set_db_change_aware", &json!([true]))?;
    session.transact("d", &[insert(&json!({"a": "x"}))])?;
    assert_eq!(client(&server, &["needs-conversion", text(&wide)])?.trim(), "yes");
    client(&server, &["convert", text(&wide)])?;
    assert_eq!(client(&server, &["needs-conversion", text(&wide)])?.trim(), "no");
    assert_eq!(client(&server, &["get-schema-version", "d"])?.trim(), "2.0.0");
    let rows = session.transact("d", &[select()])?;
    assert_eq!(
        (&rows[0]["rows"][0]["a"], &rows[0]["rows"][0]["b"]),
        (&json!("x"), &json!(""))
    );
    let narrow = json!({"name": "d", "tables": {"t": {"columns": {"a": {"type": "integer"}}}}});
    let narrow = write_schema(&server, "narrow", &narrow)?;
    let error = client(&server, &["convert", text(&narrow)]).map(|_| ()).unwrap_err();
    ensure!(format!("{error:#}").contains("expected integer"), "{error:#}");
    assert_eq!(client(&server, &["get-schema-version", "d"])?.trim(), "2.0.0");
    Ok(())
}

#[test]
fn ovsdb_client_converts_and_knows_when_it_is_needed() {
    for kind in [Kind::Reference, Kind::Nonnetd] {
        ovsdb_client_converts(kind).unwrap();
    }
}

#[test]
fn a_monitor_of_ovsdb_client_ends_as_that_of_a_removed_database() {
    for kind in [Kind::Reference, Kind::Nonnetd] {
        let server = Server::start(kind, &schema(&["a"])).unwrap();
        let wide = write_schema(&server, "wide", &schema(&["a", "b"])).unwrap();
        let remote = server.remote();
        let arguments = ["monitor-cond", &remote, "d", "[true]", "t", "--format=json"];
        let mut monitor = Following::start(&server, &arguments).unwrap();
        let mut session = server.connect().unwrap();
        session.call("set_db_change_aware", &json!([true])).unwrap();
        // Once it has seen a row, it has told the server that it is aware.
        session.transact("d", &[insert(&json!({"a": "before"}))]).unwrap();
        monitor.wait_for("before").unwrap();
        client(&server, &["convert", text(&wide)]).unwrap();
        let complaint = monitor.complaint().unwrap();
        assert!(complaint.contains("d database was removed"), "{kind:?}: {complaint}");
        session
            .transact("d", &[insert(&json!({"a": "after", "b": "new"}))])
            .unwrap();
    }
}

#[test]
fn a_crash_around_a_conversion_leaves_one_schema_or_the_other_with_all_rows() {
    let mut server = Server::start(Kind::Nonnetd, &schema(&["a"])).unwrap();
    let rows: Vec<Value> = (0..500).map(|n| insert(&json!({"a": format!("row {n}")}))).collect();
    server.connect().unwrap().transact("d", &rows).unwrap();
    let shapes = [schema(&["a", "b"]), schema(&["a"])];
    let (mut acknowledged, mut version) = (0, String::new());
    for round in 0..12_usize {
        let wanted = &shapes[round % 2];
        let mut session = server.connect().unwrap();
        session
            .send(&json!({"id": 1, "method": "convert", "params": ["d", wanted]}).to_string())
            .unwrap();
        // Every other time it is killed at once, whatever has become of the request; else after the answer.
        let is_answered = round % 4 >= 2;
        if is_answered {
            assert_eq!(session.receive().unwrap()["result"], json!({}));
            acknowledged += 1;
        }
        server.kill().unwrap();
        server.run().unwrap();
        let mut session = server.connect().unwrap();
        let found = session.call("get_schema", &json!(["d"])).unwrap()["result"].take();
        if is_answered {
            assert_eq!(found["version"], wanted["version"], "round {round}");
        } else {
            let before = version.is_empty() || found["version"] == json!(version);
            assert!(
                before || found["version"] == wanted["version"],
                "round {round}: {found}"
            );
        }
        version = found["version"].as_str().unwrap().to_owned();
        let rows = session.transact("d", &[select()]).unwrap();
        assert_eq!(rows[0]["rows"].as_array().unwrap().len(), 500, "round {round}");
    }
    assert_eq!(acknowledged, 6);
    server.stop().unwrap();
    let verified = program::succeed(
        &program::ours("nonnet").unwrap(),
        &["verify", text(&server.file())],
        b"",
    );
    assert!(verified.unwrap().contains("sound"), "the chain verifies");
}

#[test]
fn ovs_vsctl_works_in_a_loop_while_its_database_is_converted() {
    let vswitch = program::system_schema("/usr/share/openvswitch/vswitch.ovsschema").unwrap();
    let mut newer = vswitch.clone();
    newer["version"] = json!("99.0.0");
    newer["tables"]["Bridge"]["columns"]["more"] = json!({"type": {"key": "string", "min": 0}});
    let server = Server::start(Kind::Nonnetd, &vswitch).unwrap();
    let db = format!("--db={}", server.remote());
    let vsctl = program::system("ovs-vsctl").unwrap();
    let run = |arguments: &[&str]| {
        let mut all = vec!["--retry", "--timeout=20", "--no-wait", db.as_str()];
        all.extend(arguments);
        program::succeed(&vsctl, &all, b"").unwrap()
    };
    run(&["init"]);
    let paths = [
        write_schema(&server, "old", &vswitch).unwrap(),
        write_schema(&server, "new", &newer).unwrap(),
    ];
    std::thread::scope(|scope| {
        let converting = scope.spawn(|| {
            for round in 0..6 {
                client(&server, &["convert", text(&paths[(round + 1) % 2])]).unwrap();
            }
        });
        for bridge in 0..15 {
            run(&["add-br", &format!("br{bridge}")]);
        }
        converting.join().unwrap();
    });
    assert_eq!(run(&["list-br"]).lines().count(), 15);
    client(&server, &["convert", text(&paths[1])]).unwrap();
    run(&["set", "Bridge", "br3", "datapath_type=netdev"]);
    let update = json!({"op": "update", "table": "Bridge", "where": [["name", "==", "br3"]], "row": {"more": "a"}});
    let select =
        json!({"op": "select", "table": "Bridge", "where": [["more", "==", "a"]], "columns": ["datapath_type"]});
    let results = server
        .connect()
        .unwrap()
        .transact("Open_vSwitch", &[update, select])
        .unwrap();
    assert_eq!(results[1], json!({"rows": [{"datapath_type": "netdev"}]}));
}

#[test]
fn nonnet_checks_compares_and_converts_schemas() {
    let mut server = Server::start(Kind::Nonnetd, &schema(&["a"])).unwrap();
    let nonnet = program::ours("nonnet").unwrap();
    let run = |arguments: &[&str]| {
        let mut all = vec!["schema"];
        all.extend(arguments);
        let output = program::run(&nonnet, &all, b"").unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let wide = write_schema(&server, "wide", &schema(&["a", "b"])).unwrap();
    let broken = write_schema(
        &server,
        "broken",
        &json!({"name": "d", "tables": {"t": {"columns": {"x": {"type": "text"}}}}}),
    );
    let (socket, file, broken) = (server.socket(), server.file(), broken.unwrap());
    assert_eq!(run(&["check", text(&wide)]), (Some(0), String::new()));
    let (code, said) = run(&["check", text(&broken)]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("/tables/t/columns/x/type: \"text\" is not an atomic-type"),
        "{said}"
    );
    let expected = "~ database: version 1.0.0 -> 2.0.0\n+ t.b: a new column: string\n";
    for old in [&socket, &file] {
        assert_eq!(
            run(&["diff", text(old), text(&wide), "--db", "d"]),
            (Some(1), expected.to_owned())
        );
    }
    let (code, said) = run(&["convert", text(&file), text(&wide)]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("name the server's socket") && said.contains("in use"),
        "{said}"
    );
    let (code, said) = run(&["convert", text(&socket), text(&wide)]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("d converted from version 1.0.0 to version 2.0.0"),
        "{said}"
    );
    assert_eq!(
        run(&["diff", text(&socket), text(&wide), "--db", "d"]),
        (Some(0), String::new())
    );
    server.stop().unwrap();
    let (code, said) = run(&["convert", text(&file), text(&server.schema_path())]);
    assert_eq!(code, Some(0), "{said}");
    server.run().unwrap();
    let found = server.connect().unwrap().call("get_schema", &json!(["d"])).unwrap();
    assert_eq!(found["result"]["version"], "1.0.0");
}

/// The schema of `OpNonNet` as an earlier nonnetd had it.
fn earlier_networks(version: &str) -> Value {
    let mut schema: Value = serde_json::from_str(nonnet_schema::NONNET_SCHEMA).unwrap();
    schema["version"] = version.into();
    let tables = schema["tables"].as_object_mut().unwrap();
    tables.remove("checkpoints");
    tables["networks"]["columns"].as_object_mut().unwrap().remove("nat");
    schema
}

#[test]
fn networks_of_an_earlier_nonnetd_are_upgraded_and_lose_nothing() {
    let built_in = serde_json::from_str(nonnet_schema::NONNET_SCHEMA).unwrap();
    let mut server = Server::start(Kind::Nonnetd, &built_in).unwrap();
    let row = json!({"op": "insert", "table": "networks", "row": {"name": "lan"}});
    server.connect().unwrap().transact("OpNonNet", &[row]).unwrap();
    server.stop().unwrap();

    let nonnet = program::ours("nonnet").unwrap();
    let earlier = write_schema(&server, "earlier", &earlier_networks("0.9.0")).unwrap();
    let file = server.file();
    program::succeed(&nonnet, &["schema", "convert", text(&file), text(&earlier)], b"").unwrap();
    server.run().unwrap();
    let mut session = server.connect().unwrap();
    let found = session.call("get_schema", &json!(["OpNonNet"])).unwrap();
    assert_eq!(found["result"]["version"], built_in["version"]);
    let select = json!({"op": "select", "table": "networks", "where": [], "columns": ["name", "nat"]});
    let rows = session.transact("OpNonNet", &[select]).unwrap();
    assert_eq!(rows[0], json!({"rows": [{"name": "lan", "nat": ["map", []]}]}));
    assert!(
        server.stderr().contains("upgraded from version 0.9.0 of its schema"),
        "{}",
        server.stderr()
    );
    server.stop().unwrap();
    program::succeed(&nonnet, &["verify", text(&file)], b"").unwrap();
}

#[test]
fn networks_with_a_schema_that_somebody_changed_are_left_as_they_are() {
    let mut changed = earlier_networks("7.0.0");
    changed["tables"]["networks"]["columns"]["colour"] = json!({"type": "string"});
    let server = Server::start(Kind::Nonnetd, &changed).unwrap();
    let found = server
        .connect()
        .unwrap()
        .call("get_schema", &json!(["OpNonNet"]))
        .unwrap();
    assert_eq!(found["result"]["version"], "7.0.0");
    assert!(
        server
            .stderr()
            .contains("served as it is, without effect on the kernel"),
        "{}",
        server.stderr()
    );
}
