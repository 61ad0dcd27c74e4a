//! Files of the real ovsdb-server: imported, exported, read back by its tools, and opened by nonnetd as they are.
//!
//! `NONNET_TESTS_SEED` repeats a run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, bail, ensure};
use nonnet_tests::generate::{Choices, DATABASE, Model};
use nonnet_tests::program::{self, number_from_environment};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::Client;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use serde_json::{Value, json};

/// Random databases of a run.
const DATABASES: u64 = 6;

/// Transactions that each of them sees.
const TRANSACTIONS: usize = 400;

/// Transactions after which the file is looked at again.
const LOOK_TRANSACTIONS: usize = 25;

/// Choices for a transaction, about.
const CHOICES: usize = 200;

/// How often other transactions are tried after ovsdb-server ended itself.
const ATTEMPTS_MAX: u64 = 10;

/// What 3.1 says when two weak references of one map meet.
const ASSERTION: &str = "assertion !ovsdb_row_find_weak_ref";

/// Where Debian keeps the schema of Open vSwitch.
const VSWITCH_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Rows by table and UUID, without `_version`.
type Rows = BTreeMap<(String, String), Value>;

/// A database of random rows, still served by the ovsdb-server that wrote it.
struct Written {
    server: Server,
    selects: Vec<Value>,
    rows: Rows,
}

impl Written {
    /// Random transactions; now and then `look` sees what there is. Where ovsdb-server ends itself over them, others are taken.
    fn new(seed: u64, mut look: impl FnMut(&Self) -> Result<()>) -> Result<Self> {
        for attempt in 0..ATTEMPTS_MAX {
            match Self::attempt(seed ^ attempt << 48, &mut look) {
                Err(error) if format!("{error:#}").contains(ASSERTION) => println!("ovsdb-server ended itself"),
                written => return written,
            }
        }
        bail!("ovsdb-server ended itself {ATTEMPTS_MAX} times")
    }

    fn attempt(seed: u64, look: &mut impl FnMut(&Self) -> Result<()>) -> Result<Self> {
        let mut random = SmallRng::seed_from_u64(seed);
        let numbers: Vec<u32> = (0..TRANSACTIONS * CHOICES).map(|_| random.next_u32() >> 4).collect();
        let mut choices = Choices::new(&numbers);
        let mut model = Model::new(&mut choices);
        let mut written = Self {
            server: Server::start(Kind::Reference, &model.schema())?,
            selects: model.selects(),
            rows: Rows::new(),
        };
        let mut client = written.server.connect()?;
        for number in 1..=TRANSACTIONS {
            let operations = model.transaction(&mut choices);
            let sent = client.transact(DATABASE, &operations);
            sent.with_context(|| written.server.stderr())?;
            if number % LOOK_TRANSACTIONS == 0 {
                written.rows = rows(&mut client, DATABASE, &written.selects)?;
                look(&written)?;
            }
        }
        Ok(written)
    }

    /// The rows as another process finds them after a start: ephemeral columns have their defaults.
    fn stored_rows(&self) -> Result<Rows> {
        let schema: Value = serde_json::from_slice(&std::fs::read(self.server.schema_path())?)?;
        let mut rows = self.rows.clone();
        for ((table, _), row) in &mut rows {
            for (name, column) in schema["tables"][table]["columns"].as_object().context("columns")? {
                if column["ephemeral"] == true {
                    row.as_object_mut().context("row")?.remove(name);
                }
            }
        }
        Ok(rows)
    }
}

/// What the selects answer.
fn rows(client: &mut Client, database: &str, selects: &[Value]) -> Result<Rows> {
    rows_of(selects, &client.transact(database, selects)?)
}

/// The rows in the results of the selects.
fn rows_of(selects: &[Value], results: &[Value]) -> Result<Rows> {
    let mut rows = Rows::new();
    for (select, result) in selects.iter().zip(results) {
        let table = select["table"].as_str().context("table")?;
        for row in result["rows"].as_array().with_context(|| result.to_string())? {
            rows.insert((table.to_owned(), row["_uuid"][1].to_string()), row.clone());
        }
    }
    Ok(rows)
}

/// The rows without what is not stored, as `known` has them.
fn without_ephemeral(mut rows: Rows, known: &Rows) -> Rows {
    for (key, row) in &mut rows {
        if let (Some(row), Some(known)) = (row.as_object_mut(), known.get(key)) {
            row.retain(|name, _| known.get(name).is_some());
        }
    }
    rows
}

fn nonnet(arguments: &[&str]) -> Result<Output> {
    program::run(&program::ours("nonnet")?, arguments, b"")
}

/// Runs `nonnet`, which must succeed, and returns its standard output.
fn succeed(arguments: &[&str]) -> Result<String> {
    program::succeed(&program::ours("nonnet")?, arguments, b"")
}

fn ovsdb_tool(arguments: &[&str]) -> Result<String> {
    program::succeed(&program::system("ovsdb-tool")?, arguments, b"")
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// A server that has not been started, with `file` as its database.
fn server_of(kind: Kind, schema: &Value, file: &Path) -> Result<Server> {
    let server = Server::prepare(kind, schema)?;
    std::fs::copy(file, server.file())?;
    Ok(server)
}

fn seeds() -> Result<impl Iterator<Item = u64>> {
    let seed = number_from_environment("NONNET_TESTS_SEED", u64::from(std::process::id()))?;
    println!("NONNET_TESTS_SEED={seed}");
    Ok((0..DATABASES).map(move |number| seed.wrapping_add(number)))
}

#[test]
fn random_databases_are_the_same_after_import_and_export() -> Result<()> {
    let mut count = 0;
    for seed in seeds()? {
        let there_and_back = || -> Result<usize> {
            let written = Written::new(seed, |_| Ok(()))?;
            let directory = tempfile::tempdir()?;
            let (ours, theirs) = (directory.path().join("ours.db"), directory.path().join("theirs.db"));
            let original = std::fs::read(written.server.file())?;
            succeed(&["import", text(&written.server.file())?, text(&ours)?])?;
            ensure!(
                std::fs::read(written.server.file())? == original,
                "the import changed the original"
            );
            succeed(&["export", text(&ours)?, text(&theirs)?])?;
            let schema = json!({"name": DATABASE, "tables": {}});
            let stored = written.stored_rows()?;
            for (kind, file) in [(Kind::Nonnetd, &ours), (Kind::Reference, &theirs)] {
                let mut server = server_of(kind, &schema, file)?;
                server.run()?;
                let found = without_ephemeral(rows(&mut server.connect()?, DATABASE, &written.selects)?, &stored);
                ensure!(found == stored, "{kind:?}: {found:#?}\nis not\n{stored:#?}");
                server.stop()?;
            }
            // What was exported and imported is exported the same.
            let again = directory.path().join("again.db");
            succeed(&["import", text(&theirs)?, text(&again)?])?;
            let (first, second) = (
                succeed(&["export", text(&ours)?])?,
                succeed(&["export", text(&again)?, "-"])?,
            );
            ensure!(schema_and_rows(&first) == schema_and_rows(&second), "{first}\n{second}");
            Ok(stored.len())
        };
        count += there_and_back().with_context(|| format!("NONNET_TESTS_SEED={seed}"))?;
    }
    println!("{count} rows of {DATABASES} databases were the same");
    ensure!(count > 0, "no random database had a row");
    Ok(())
}

/// The schema, and the rows of an export without date and comment, which tell where it is from.
fn schema_and_rows(export: &str) -> Vec<Value> {
    let bodies = export.lines().filter(|line| line.starts_with('{'));
    let without = |line: &str| {
        let mut json: Value = serde_json::from_str(line).unwrap();
        json.as_object_mut()
            .unwrap()
            .retain(|name, _| name != "_date" && name != "_comment");
        json
    };
    bodies.map(without).collect()
}

#[test]
fn a_file_is_imported_while_ovsdb_server_writes_it() -> Result<()> {
    let (mut looks, mut count) = (0, 0);
    for seed in seeds()? {
        let look = |written: &Written| -> Result<()> {
            let directory = tempfile::tempdir()?;
            let (ours, theirs) = (directory.path().join("ours.db"), directory.path().join("theirs.db"));
            succeed(&["import", text(&written.server.file())?, text(&ours)?])?;
            succeed(&["export", text(&ours)?, text(&theirs)?])?;
            let stored = written.stored_rows()?;
            let found = without_ephemeral(query(text(&theirs)?, &written.selects)?, &stored);
            ensure!(found == stored, "{found:#?}\nis not\n{stored:#?}");
            (looks, count) = (looks + 1, count + stored.len());
            Ok(())
        };
        Written::new(seed, look).with_context(|| format!("NONNET_TESTS_SEED={seed}"))?;
    }
    println!("{count} rows at {looks} moments were the same");
    ensure!(count > 0, "no random database had a row");
    Ok(())
}

/// What `ovsdb-tool` selects from a file.
fn query(file: &str, selects: &[Value]) -> Result<Rows> {
    let mut params = vec![json!(DATABASE)];
    params.extend_from_slice(selects);
    let text = ovsdb_tool(&["query", file, &Value::Array(params).to_string()])?;
    let results: Vec<Value> = serde_json::from_str(&text)?;
    rows_of(selects, &results)
}

#[test]
fn the_tools_of_ovsdb_read_an_export() -> Result<()> {
    let written = Written::new(seeds()?.next().context("a seed")?, |_| Ok(()))?;
    let directory = tempfile::tempdir()?;
    let (ours, theirs) = (directory.path().join("ours.db"), directory.path().join("theirs.db"));
    succeed(&["import", text(&written.server.file())?, text(&ours)?])?;
    succeed(&["export", text(&ours)?, text(&theirs)?])?;
    let theirs = text(&theirs)?;
    assert_eq!(ovsdb_tool(&["db-name", theirs])?, format!("{DATABASE}\n"));
    assert_eq!(ovsdb_tool(&["db-version", theirs])?, "1.0.0\n");
    ovsdb_tool(&["db-is-standalone", theirs])?;
    let log = ovsdb_tool(&["show-log", "-m", theirs])?;
    assert!(log.contains("record 1: ") && !log.contains("record 2: "), "{log}");
    assert!(
        log.contains(&format!("\"nonnet export of {DATABASE} at record 1 ")),
        "{log}"
    );
    assert_eq!(query(theirs, &written.selects)?.len(), written.rows.len());
    // A file that is there is not written over.
    let again = nonnet(&["export", text(&ours)?, theirs])?;
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8(again.stderr)?.contains("theirs.db"));
    Ok(())
}

#[test]
fn what_ovsdb_server_cannot_read_of_its_own_is_imported() -> Result<()> {
    let few = json!({"type": {"key": "integer", "min": 1, "max": 2}});
    let schema = json!({"name": "d", "tables": {"t": {"columns": {"few": few}}}});
    let server = Server::start(Kind::Reference, &schema)?;
    let mut client = server.connect()?;
    let update = |few: [u32; 2]| json!({"op": "update", "table": "t", "where": [], "row": {"few": ["set", few]}});
    client.transact("d", &[json!({"op": "insert", "table": "t", "row": {"few": 1}})])?;
    client.transact("d", &[update([1, 2])])?;
    // The difference has four elements: more than 3.1 reads.
    client.transact("d", &[update([3, 4])])?;
    assert!(std::fs::read_to_string(server.file())?.contains("[\"set\",[1,2,3,4]]"));
    let directory = tempfile::tempdir()?;
    let ours = directory.path().join("ours.db");
    succeed(&["import", text(&server.file())?, text(&ours)?])?;
    let export = succeed(&["export", text(&ours)?])?;
    assert!(export.contains("{\"few\":[\"set\",[3,4]]}"), "{export}");
    Ok(())
}

#[test]
fn a_running_server_is_exported_as_of_now() -> Result<()> {
    let schema = json!({"name": "d", "tables": {"t": {"columns": {"n": {"type": "integer"}}}}});
    let server = Server::start(Kind::Nonnetd, &schema)?;
    let mut client = server.connect()?;
    for n in 1..=20 {
        client.transact("d", &[json!({"op": "insert", "table": "t", "row": {"n": n}})])?;
        let export = succeed(&["export", text(&server.file())?])?;
        let last = export.lines().last().context("a line")?;
        let rows: Value = serde_json::from_str(last)?;
        assert_eq!(rows["t"].as_object().map(serde_json::Map::len), Some(n), "{export}");
    }
    Ok(())
}

#[test]
fn the_database_of_open_vswitch_comes_through() -> Result<()> {
    let schema: Value = serde_json::from_slice(&std::fs::read(VSWITCH_SCHEMA)?)?;
    let mut server = Server::start(Kind::Reference, &schema)?;
    let ovs_vsctl = program::system("ovs-vsctl")?;
    let vsctl = |server: &Server, words: &str| {
        let db = format!("--db={}", server.remote());
        let arguments: Vec<&str> = [db.as_str(), "--no-wait"].into_iter().chain(words.split(' ')).collect();
        program::succeed(&ovs_vsctl, &arguments, b"")
    };
    for words in [
        "init",
        "add-br br0 -- set Bridge br0 datapath_type=netdev other_config:hwaddr=02:00:00:00:00:01",
        "add-port br0 p1 tag=7 -- set Interface p1 type=internal external_ids:iface-id=a external_ids:vm=b",
        "add-port br0 p2 trunks=1,2,3 -- set Port p2 other_config:k=v",
        "add-bond br0 bond0 e1 e2 e3 -- set Port bond0 bond_mode=balance-slb",
        "set-controller br0 tcp:127.0.0.1:6653 -- set Bridge br0 protocols=OpenFlow13,OpenFlow14",
        "-- --id=@m create Mirror name=m0 select_all=true -- set Bridge br0 mirrors=@m",
        "del-port br0 p2",
        "set Open_vSwitch . external_ids:system-id=x other_config:a=b",
        "remove Interface p1 external_ids vm",
    ] {
        vsctl(&server, words)?;
    }
    let dump = |server: &Server| {
        let arguments = [
            "--no-headings",
            "--format=json",
            "dump",
            &server.remote(),
            "Open_vSwitch",
        ];
        let text = program::succeed(&program::system("ovsdb-client")?, &arguments, b"")?;
        let tables = text.lines().map(sorted_table).collect::<Result<Vec<Value>>>()?;
        ensure!(!tables.is_empty(), "an empty dump");
        Ok(tables)
    };
    let (show, expected) = (vsctl(&server, "show")?, dump(&server)?);
    server.stop()?;
    let directory = tempfile::tempdir()?;
    let (ours, theirs) = (directory.path().join("ours.db"), directory.path().join("theirs.db"));
    succeed(&["import", text(&server.file())?, text(&ours)?])?;
    succeed(&["export", text(&ours)?, text(&theirs)?])?;
    assert_eq!(
        ovsdb_tool(&["db-cksum", text(&theirs)?])?,
        ovsdb_tool(&["db-cksum", text(&server.file())?])?
    );
    for (kind, file) in [(Kind::Nonnetd, &ours), (Kind::Reference, &theirs)] {
        let mut copy = server_of(kind, &schema, file)?;
        copy.run()?;
        assert_eq!(vsctl(&copy, "show")?, show, "{kind:?}");
        assert_eq!(dump(&copy)?, expected, "{kind:?}");
    }
    Ok(())
}

/// A table of `ovsdb-client --format=json dump` with its rows in one order.
fn sorted_table(line: &str) -> Result<Value> {
    let mut table: Value = serde_json::from_str(line)?;
    if let Some(rows) = table["data"].as_array_mut() {
        rows.sort_by_key(Value::to_string);
    }
    Ok(table)
}

#[test]
fn a_damaged_file_is_named_by_record_and_imported_only_on_request() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (file, ours) = (directory.path().join("theirs.db"), directory.path().join("ours.db"));
    let mut server = things()?;
    server.stop()?;
    let sound = std::fs::read_to_string(server.file())?;
    let third = sound.match_indices("OVSDB JSON ").nth(2).context("a third record")?.0;
    let (before, last) = sound.split_at(third);
    let damaged = [
        (format!("{before}OVSDB XML 5\n"), "bad header"),
        (format!("{before}{}", &last[..last.len() - 5]), "short body"),
        (format!("{before}{}", last.replace("two", "tvo")), "SHA-1 mismatch"),
        (format!("{before}{}", record("{\"t\"")?), "bad JSON"),
        (format!("{before}{}", record("{\"z\":{}}")?), "unknown table z"),
    ];
    for (text_of_file, words) in damaged {
        std::fs::write(&file, text_of_file)?;
        let refused = nonnet(&["import", text(&file)?, text(&ours)?])?;
        let stderr = String::from_utf8(refused.stderr)?;
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(&format!("record 2 at byte {third}: {words}")),
            "{stderr}"
        );
        assert!(!ours.exists(), "{words}");
        let out = nonnet(&["import", text(&file)?, text(&ours)?, "--up-to-damage", "--format=json"])?;
        assert_eq!(out.status.code(), Some(0), "{words}");
        let report: Value = serde_json::from_slice(&out.stdout)?;
        assert_eq!(
            (&report["records"], &report["rows"]),
            (&json!(2), &json!(1)),
            "{report}"
        );
        assert_eq!(report["damage"]["offset"], json!(third), "{report}");
        // ovsdb-server keeps the same.
        let mut reference = server_of(Kind::Reference, &json!({"name": "d", "tables": {}}), &file)?;
        reference.run()?;
        let select = json!({"op": "select", "table": "t", "where": [], "columns": ["name"]});
        let kept = reference.connect()?.transact("d", &[select])?;
        assert_eq!(kept[0]["rows"], json!([{"name": "one"}]), "{words}");
        std::fs::remove_file(&ours)?;
    }
    Ok(())
}

#[test]
fn a_clustered_database_is_refused_with_a_way_out() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (file, ours) = (directory.path().join("cluster.db"), directory.path().join("ours.db"));
    let prepared = Server::prepare(Kind::Reference, &json!({"name": "d", "tables": {}}))?;
    let remote = "unix:cluster.sock";
    ovsdb_tool(&["create-cluster", text(&file)?, text(&prepared.schema_path())?, remote])?;
    let refused = nonnet(&["import", text(&file)?, text(&ours)?])?;
    let stderr = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr.contains("Raft") && stderr.contains("cluster-to-standalone"),
        "{stderr}"
    );
    let mut served = server_of(Kind::Nonnetd, &json!({"name": "d", "tables": {}}), &file)?;
    assert_ne!(served.run_to_end()?, Some(0));
    assert!(served.stderr().contains("cluster-to-standalone"), "{}", served.stderr());
    assert_eq!(std::fs::read(served.file())?, std::fs::read(&file)?);
    Ok(())
}

#[test]
fn nonnetd_converts_a_file_of_ovsdb_server_once_and_keeps_it() -> Result<()> {
    let mut reference = things()?;
    reference.stop()?;
    let original = std::fs::read(reference.file())?;
    let mut server = server_of(
        Kind::Nonnetd,
        &json!({"name": "other", "tables": {}}),
        &reference.file(),
    )?;
    server.run()?;
    let stderr = server.stderr();
    assert!(
        stderr.contains("converted from ovsdb-server's format with 2 rows of 3 records"),
        "{stderr}"
    );
    assert!(stderr.contains("test.db.ovsdb"), "{stderr}");
    let kept = server.directory().join("test.db.ovsdb");
    assert_eq!(std::fs::read(&kept)?, original);
    let insert = json!({"op": "insert", "table": "t", "row": {"name": "three"}});
    server.connect()?.transact("d", &[insert])?;
    server.kill()?;
    server.run()?;
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["name"], "sort": ["name"]});
    let found = server.connect()?.transact("d", &[select])?;
    assert_eq!(
        found[0]["rows"],
        json!([{"name": "one"}, {"name": "three"}, {"name": "two"}])
    );
    assert_eq!(
        server.stderr().matches("converted from").count(),
        1,
        "{}",
        server.stderr()
    );
    assert_eq!(std::fs::read(&kept)?, original);
    succeed(&["verify", text(&server.file())?])?;
    let log = succeed(&["log", text(&server.file())?])?;
    assert!(log.contains("import 1 ") && log.contains("test.db.ovsdb"), "{log}");
    Ok(())
}

#[test]
fn nonnetd_says_of_damage_what_ovsdb_server_says() -> Result<()> {
    let mut reference = things()?;
    reference.stop()?;
    let sound = std::fs::read_to_string(reference.file())?;
    let uuid = "aaaaaaaa-0000-4000-8000-000000000001";
    let good = record("{\"t\":{}}")?;
    let damaged = [
        "xxx\n".to_owned(),
        good[..good.len() - 3].to_owned(),
        good.replace("\"t\"", "\"u\""),
        record("{\"invalid\":{}}")?,
        record(&format!("{{\"t\":{{\"{uuid}\":{{\"z\":1}}}}}}"))?,
        record(&format!("{{\"t\":{{\"{uuid}\":{{\"name\":1}}}}}}"))?,
        record(&format!("{{\"t\":{{\"{uuid}\":null}}}}"))?,
        record("{\"t\":{\"x\":null}}")?,
    ];
    for tail in damaged {
        let words = |kind: Kind| -> Result<String> {
            let mut server = Server::prepare(kind, &json!({"name": "d", "tables": {}}))?;
            std::fs::write(server.file(), format!("{sound}{tail}"))?;
            server.run()?;
            let select = json!({"op": "select", "table": "t", "where": [], "columns": ["name"], "sort": ["name"]});
            let found = server.connect()?.transact("d", &[select])?;
            ensure!(
                found[0]["rows"] == json!([{"name": "one"}, {"name": "two"}]),
                "{kind:?}: {found:?}"
            );
            let directory = server.directory().display().to_string();
            let stderr = server.stderr().replace(&directory, "");
            let marks = ["syntax error", "syntax \"", "I/O error"];
            let line = stderr.lines().find(|line| marks.iter().any(|mark| line.contains(mark)));
            let line = line.with_context(|| format!("{kind:?} says nothing of {tail}: {stderr}"))?;
            let start = marks.iter().filter_map(|mark| line.find(mark)).min().unwrap_or(0);
            Ok(line[start..].to_owned())
        };
        assert_eq!(words(Kind::Nonnetd)?, words(Kind::Reference)?, "{tail}");
    }
    Ok(())
}

#[test]
fn nonnetd_takes_no_file_that_ovsdb_server_has_open() -> Result<()> {
    let reference = things()?;
    let original = std::fs::read(reference.file())?;
    let nonnetd = program::ours("nonnetd")?;
    let socket = format!("--remote=punix:{}", reference.directory().join("other.sock").display());
    let output = program::run(&nonnetd, &["--kernel", "off", &socket, text(&reference.file())?], b"")?;
    let (stderr, pid) = (String::from_utf8(output.stderr)?, reference.pid().context("it runs")?);
    assert!(!output.status.success());
    assert!(stderr.contains(&format!("in use by process {pid}")), "{stderr}");
    assert_eq!(std::fs::read(reference.file())?, original);
    reference.connect()?.transact("d", &[])?;
    Ok(())
}

/// An ovsdb-server whose file has three records: the schema and two rows.
fn things() -> Result<Server> {
    let schema = json!({"name": "d", "tables": {"t": {"columns": {"name": {"type": "string"}}}}});
    let server = Server::start(Kind::Reference, &schema)?;
    let mut client = server.connect()?;
    for name in ["one", "two"] {
        let results = client.transact("d", &[json!({"op": "insert", "table": "t", "row": {"name": name}})])?;
        if results[0]["uuid"].is_null() {
            bail!("{results:?}");
        }
    }
    Ok(server)
}

/// A record with that body, its hash right.
fn record(body: &str) -> Result<String> {
    let body = format!("{body}\n");
    let sum = program::succeed(&program::system("sha1sum")?, &["-"], body.as_bytes())?;
    let sha1 = sum.split(' ').next().context("a hash")?;
    Ok(format!("OVSDB JSON {} {sha1}\n{body}", body.len()))
}
