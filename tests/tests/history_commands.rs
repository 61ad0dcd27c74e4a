//! `nonnet log`, `show`, `diff A..B`, `blame`, `at`, `undo` and `restore` with a real nonnetd: what their users type, what they read, and how
//! it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics"
)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nonnet_tests::program;
use nonnet_tests::server::{Kind, Server};
use serde_json::{Value, json};

/// A database with names, references of every kind, owned rows, an immutable and an ephemeral column.
fn schema() -> Value {
    let reference = |table: &str, kind: &str, max: Value| json!({"type": {"key": {"type": "uuid", "refTable": table, "refType": kind}, "min": 0, "max": max}});
    json!({"name": "nets", "version": "1.0.0", "tables": {
        "bridge": {"isRoot": true, "indexes": [["name"]], "columns": {
            "name": {"type": "string", "mutable": false}, "mtu": {"type": {"key": "integer", "min": 0, "max": 1}},
            "state": {"type": "string", "ephemeral": true}}},
        "port": {"isRoot": true, "indexes": [["name"]], "columns": {
            "name": {"type": "string"}, "bridge": reference("bridge", "strong", json!(1)), "mirror": reference("port", "weak", json!(1)),
            "routes": reference("route", "strong", json!("unlimited")),
            "options": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}},
        "route": {"columns": {"to": {"type": "string"}}}}})
}

/// A server with a short history:
/// 1 makes bridges br0 and br1 and port p1 on br0 with a route, 2 sets p1's option, 3 moves p1 to br1, 4 deletes br0, 5 sets br1's MTU.
struct History {
    server: Server,
}

impl History {
    fn new() -> Result<Self> {
        let history = Self {
            server: Server::start_in_memory(Kind::Nonnetd, &schema())?,
        };
        let insert = |table: &str, name: &str, row: Value| json!({"op": "insert", "table": table, "uuid-name": name, "row": row});
        history.commit(
            "everything begins",
            vec![
                insert("bridge", "b0", json!({"name": "br0"})),
                insert("bridge", "b1", json!({"name": "br1"})),
                insert("route", "r", json!({"to": "10.0.0.0/8"})),
                insert(
                    "port",
                    "p",
                    json!({"name": "p1", "bridge": ["named-uuid", "b0"], "routes": ["named-uuid", "r"]}),
                ),
            ],
        )?;
        history.update("port", "p1", &json!({"options": ["map", [["speed", "fast"]]]}))?;
        let br1 = history.uuid("bridge", "br1")?;
        history.update("port", "p1", &json!({"bridge": ["uuid", br1]}))?;
        history.commit(
            "br0 is empty",
            vec![json!({"op": "delete", "table": "bridge", "where": [["name", "==", "br0"]]})],
        )?;
        history.update("bridge", "br1", &json!({"mtu": 1400}))?;
        Ok(history)
    }

    fn commit(&self, comment: &str, operations: Vec<Value>) -> Result<()> {
        let mut all = operations;
        all.push(json!({"op": "comment", "comment": comment}));
        self.ok(&["transact", &Value::Array(all).to_string()]).map(drop)
    }

    fn update(&self, table: &str, name: &str, row: &Value) -> Result<()> {
        let update = json!({"op": "update", "table": table, "where": [["name", "==", name]], "row": row});
        self.commit(&format!("set {name}"), vec![update])
    }

    fn uuid(&self, table: &str, name: &str) -> Result<String> {
        let select = json!([{"op": "select", "table": table, "where": [["name", "==", name]], "columns": ["_uuid"]}]);
        let found: Value = serde_json::from_str(&self.ok(&["transact", &select.to_string()])?)?;
        let uuid = found[0]["rows"][0]["_uuid"][1].as_str();
        uuid.map(str::to_owned).with_context(|| found.to_string())
    }

    /// The persistent columns of all rows, by the server.
    fn rows(&self) -> Result<Value> {
        let mut rows: Value = serde_json::from_str(&self.ok(&["query", "--json"])?)?;
        for bridge in rows["bridge"].as_array_mut().into_iter().flatten() {
            bridge.as_object_mut().context("bridge")?.remove("state");
        }
        Ok(rows)
    }

    /// Runs `nonnet` in the server's directory, which must end with that code; gives all that it says.
    fn says(&self, arguments: &[&str], code: i32) -> Result<String> {
        let mut command = program::tied(&program::ours("nonnet")?)?;
        command
            .current_dir(self.server.directory())
            .env("NONNET_SOCKET", self.server.remote())
            .args(["--db", "nets"])
            .args(arguments);
        let file = self.server.file();
        let file = file.to_str().context("path")?;
        match arguments {
            ["log" | "verify", ..] => command.arg(file),
            ["query" | "transact" | "schema", ..] => &mut command,
            _ => command.args(["--file", file]),
        };
        let output = program::run_command(&mut command, b"")?;
        let said = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
        ensure!(
            output.status.code() == Some(code),
            "{arguments:?} ended with {}: {said}",
            output.status
        );
        Ok(said)
    }

    fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.says(arguments, 0)
    }

    fn json(&self, arguments: &[&str], code: i32) -> Result<Value> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let said = self.says(&arguments, code)?;
        serde_json::from_str(&said).with_context(|| said)
    }

    /// The commits that `log` prints with these arguments, in its order.
    fn logged(&self, arguments: &[&str]) -> Result<Vec<u64>> {
        let arguments: Vec<&str> = ["log"].iter().chain(arguments).copied().chain(["--json"]).collect();
        let said = self.ok(&arguments)?;
        let seq = |line: &str| serde_json::from_str::<Value>(line)?["seq"].as_u64().context("seq");
        said.lines().map(seq).collect()
    }
}

#[test]
fn the_log_is_searched_by_row_user_and_time() -> Result<()> {
    let history = History::new()?;
    assert_eq!(history.logged(&[])?, [5, 4, 3, 2, 1, 0]);
    assert_eq!(history.logged(&["--row", "port:p1"])?, [3, 2, 1]);
    assert_eq!(
        history.logged(&["--table", "port", "--row", "p1", "--reverse"])?,
        [1, 2, 3]
    );
    assert_eq!(history.logged(&["--row", &history.uuid("bridge", "br1")?])?, [5, 1]);
    // It is gone, and still known.
    assert_eq!(history.logged(&["--row", "bridge:br0"])?, [4, 1]);
    assert_eq!(history.logged(&["--table", "bridge", "--limit", "2"])?, [5, 4]);
    assert_eq!(history.logged(&["--since", "3"])?, [5, 4, 3]);
    assert_eq!(history.logged(&["--since", "2", "--until", "head~2"])?, [3, 2]);
    assert_eq!(history.logged(&["--since", "2h", "--reverse", "-n", "2"])?, [0, 1]);
    assert!(history.logged(&["--until", "yesterday"])?.is_empty());
    assert!(history.logged(&["--since", "now"])?.is_empty());
    let uid = nix::unistd::getuid().to_string();
    assert_eq!(history.logged(&["--uid", &uid])?, [5, 4, 3, 2, 1]);
    assert!(history.logged(&["--uid", "4000000000"])?.is_empty());
    Ok(())
}

#[test]
fn a_time_between_two_commits_tells_them_apart() -> Result<()> {
    let history = History::new()?;
    let third = history.json(&["show", "3"], 0)?;
    let after = history.json(&["show", "4"], 0)?;
    // Times are printed to the millisecond, rounded: the one of a commit may be taken for just before it.
    let time = after["time"].as_str().context("time")?;
    let found = history.logged(&["--until", time, "-n", "1"])?;
    assert!([3, 4, 5].contains(&found[0]), "{found:?} {third} {after}");
    assert!(history.says(&["at", "2000-01-01"], 1)?.contains("the log begins at"));
    assert!(history.says(&["at", "2200-01-01"], 1)?.contains("is in the future"));
    Ok(())
}

#[test]
fn new_commits_are_followed() -> Result<()> {
    let history = History::new()?;
    let mut command = program::tied(&program::ours("nonnet")?)?;
    let file = history.server.file();
    command
        .args(["log", "--follow", "--json", "-n", "2"])
        .arg(&file)
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
    let mut next = || -> Result<Option<u64>> {
        let line = lines.next().context("the end")??;
        Ok(serde_json::from_str::<Value>(&line)?["seq"].as_u64())
    };
    assert_eq!((next()?, next()?), (Some(4), Some(5)));
    history.update("bridge", "br1", &json!({"mtu": 1500}))?;
    assert_eq!(next()?, Some(6));
    history.update("bridge", "br1", &json!({"mtu": 1600}))?;
    assert_eq!(next()?, Some(7));
    child.kill()?;
    child.wait()?;
    Ok(())
}

#[test]
fn a_commit_is_shown_by_number_hash_and_transaction_id() -> Result<()> {
    let history = History::new()?;
    let shown = history.json(&["show", "3"], 0)?;
    let hash = shown["hash"].as_str().context("hash")?.to_owned();
    let id = shown["id"].as_str().context("id")?.to_owned();
    for point in [&hash, &hash[..12], &id, "head~2"] {
        assert_eq!(history.json(&["show", point], 0)?, shown, "{point}");
    }
    let said = history.ok(&["show", "3"])?;
    for part in [
        "transaction 3 ",
        "\"set p1\"",
        "~ port p1\n",
        "    bridge br0 -> br1\n",
        &id,
        "operations 2",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = history.ok(&["show", "0"])?;
    assert!(said.starts_with("genesis 0 ") && said.contains("schema of "), "{said}");
    Ok(())
}

#[test]
fn what_differs_between_two_commits_is_their_net_effect() -> Result<()> {
    let history = History::new()?;
    let said = history.says(&["diff", "1..5"], 1)?;
    assert_eq!(
        said,
        "- bridge br0\n~ bridge br1\n    mtu - -> 1400\n~ port p1\n    bridge br0 -> br1\n    options:speed - -> fast\n"
    );
    let back = history.says(&["diff", "head..1"], 1)?;
    assert!(back.starts_with("+ bridge br0\n"), "{back}");
    assert_eq!(history.json(&["diff", "2.."], 1)?["after"], 5);
    assert_eq!(history.ok(&["diff", "5..head"])?, "");
    Ok(())
}

#[test]
fn blame_names_the_commit_of_each_column() -> Result<()> {
    let history = History::new()?;
    let blamed = history.json(&["blame", "port", "p1"], 0)?;
    let of = |blamed: &Value, column: &str| {
        (
            blamed["columns"][column]["value"].clone(),
            blamed["columns"][column]["commit"]["seq"].as_u64(),
        )
    };
    assert_eq!(of(&blamed, "bridge"), (json!("br1"), Some(3)));
    assert_eq!(of(&blamed, "options"), (json!({"speed": "fast"}), Some(2)));
    assert_eq!(of(&blamed, "name"), (json!("p1"), Some(1)));
    assert!(blamed["deleted"].is_null());
    let uuid = blamed["uuid"].as_str().context("uuid")?;
    assert_eq!(history.json(&["blame", "port", uuid], 0)?, blamed);
    let said = history.ok(&["blame", "port", "p1", "bridge"])?;
    let line = said
        .lines()
        .find(|line| line.starts_with("bridge "))
        .with_context(|| said.clone())?;
    assert!(
        line.contains(" br1 ") && line.contains(" 3 ") && line.contains("nonnet[") && line.ends_with("set p1"),
        "{said}"
    );
    let gone = history.json(&["blame", "bridge", "br0"], 0)?;
    assert_eq!(
        (gone["deleted"]["seq"].as_u64(), of(&gone, "name")),
        (Some(4), (json!("br0"), Some(1)))
    );
    Ok(())
}

#[test]
fn the_rows_of_then_are_shown_as_those_of_now() -> Result<()> {
    let history = History::new()?;
    let then = history.rows()?;
    history.commit(
        "all goes",
        vec![
            json!({"op": "delete", "table": "port", "where": []}),
            json!({"op": "delete", "table": "bridge", "where": []}),
        ],
    )?;
    assert_eq!(history.json(&["at", "5"], 0)?, then);
    let said = history.ok(&[
        "at",
        "1",
        "query",
        "port",
        "--where",
        "bridge=br0",
        "--columns",
        "name,bridge",
    ])?;
    assert!(
        said.starts_with("after commit 1, ") && said.contains("p1    br0"),
        "{said}"
    );
    let said = history.ok(&["at", "5", "query", "port", "--where", "bridge=br1", "--columns", "name"])?;
    assert!(said.contains("p1"), "{said}");
    assert!(history.ok(&["at", "head"])?.contains("no rows"));
    let said = history.says(&["at", "5", "query", "bridge", "--columns", "state"], 1)?;
    assert!(said.contains("the column state of bridge is ephemeral"), "{said}");
    Ok(())
}

#[test]
fn rows_from_before_a_conversion_have_the_columns_of_then() -> Result<()> {
    let mut history = History::new()?;
    let mut schema = schema();
    let columns = schema["tables"]["port"]["columns"].as_object_mut().context("columns")?;
    columns.remove("options");
    columns.insert("zone".to_owned(), json!({"type": "string"}));
    schema["version"] = "2.0.0".into();
    let path = history.server.directory().join("new.ovsschema");
    std::fs::write(&path, schema.to_string())?;
    history.server.stop()?;
    let (file, path) = (history.server.file(), path.to_str().context("path")?.to_owned());
    history.ok(&["schema", "convert", file.to_str().context("path")?, &path])?;
    history.server.run()?;
    let then = history.json(&["at", "5", "query", "port"], 0)?;
    assert_eq!(
        (&then[0]["options"], then[0].get("zone")),
        (&json!({"speed": "fast"}), None)
    );
    let now = history.json(&["at", "6", "query", "port"], 0)?;
    assert_eq!((now[0].get("options"), &now[0]["zone"]), (None, &json!("")));
    assert!(history.says(&["undo", "6"], 1)?.contains("brought a new schema"));
    let said = history.says(&["restore", "--to", "5"], 1)?;
    assert!(
        said.contains("! port p1: options is not in the schema any more"),
        "{said}"
    );
    let said = history.says(&["undo", "2"], 1)?;
    assert!(
        said.contains("! port p1: options is not in the schema any more"),
        "{said}"
    );
    Ok(())
}

#[test]
fn undo_gives_back_what_a_commit_took() -> Result<()> {
    let history = History::new()?;
    let before = history.rows()?;
    let said = history.ok(&["undo", "4", "--dry-run"])?;
    assert!(
        said.starts_with("+ bridge br0\n") && said.ends_with("this row would change; nothing was changed\n"),
        "{said}"
    );
    assert_eq!(history.rows()?, before);
    let said = history.ok(&["undo", "4"])?;
    assert!(
        said.contains("+ bridge br0\n") && said.contains("undo of 4: commit 6 "),
        "{said}"
    );
    // It has its UUID again.
    assert_eq!(
        history.json(&["blame", "bridge", "br0"], 0)?["uuid"],
        history.uuid("bridge", "br0")?.as_str()
    );
    assert_eq!(history.json(&["show", "head"], 0)?["comments"], json!(["undo of 4"]));
    assert_eq!(history.json(&["undo", "head"], 0)?["seq"], 7);
    assert_eq!(history.rows()?, before);
    Ok(())
}

#[test]
fn what_came_later_stands_against_an_undo_and_is_named() -> Result<()> {
    let history = History::new()?;
    let before = history.rows()?;
    let said = history.says(&["undo", "1"], 1)?;
    assert!(
        said.contains("! bridge br0: was deleted by commit 4, ") && said.contains("\"br0 is empty\""),
        "{said}"
    );
    assert!(
        said.contains("! port p1: bridge was changed by commit 3, ") && said.contains("\"set p1\""),
        "{said}"
    );
    assert!(said.contains("! port p1: options was changed by commit 2, "), "{said}");
    let conflicts = history.json(&["undo", "1"], 1)?;
    let named = |conflict: &Value| conflict["row"] == "br1" && conflict["column"] == "mtu" && conflict["commit"] == 5;
    assert!(
        conflicts["conflicts"]
            .as_array()
            .context("conflicts")?
            .iter()
            .any(named),
        "{conflicts}"
    );
    // The bridge that the port was on is gone.
    let said = history.says(&["undo", "3"], 1)?;
    assert!(
        said.contains("! port p1: bridge refers to bridge br0, which was deleted by commit 4, "),
        "{said}"
    );
    assert_eq!(history.rows()?, before);
    assert_eq!(history.logged(&["-n", "1"])?, [5]);
    Ok(())
}

#[test]
fn a_row_that_is_needed_now_is_not_taken_away() -> Result<()> {
    let history = History::new()?;
    history.commit(
        "br2 for p2",
        vec![json!({"op": "insert", "table": "bridge", "row": {"name": "br2"}})],
    )?;
    let br2 = history.uuid("bridge", "br2")?;
    history.update("port", "p1", &json!({"bridge": ["uuid", br2]}))?;
    let said = history.says(&["undo", "6"], 1)?;
    let expected = "! port p1: bridge refers to a row of bridge that would go; it was set so by commit 7, ";
    assert!(said.contains(expected), "{said}");
    Ok(())
}

#[test]
fn restore_makes_the_rows_as_they_were_in_a_commit_of_its_own() -> Result<()> {
    let history = History::new()?;
    let (then, now) = (history.json(&["at", "1"], 0)?, history.rows()?);
    let said = history.ok(&["restore", "--to", "1", "--dry-run"])?;
    assert!(
        said.contains("+ bridge br0\n") && said.contains("    bridge br1 -> br0\n"),
        "{said}"
    );
    assert_eq!((history.rows()?, history.logged(&["-n", "1"])?), (now.clone(), vec![5]));
    let said = history.ok(&["restore", "--to", "1"])?;
    assert!(said.contains("restore to 1: commit 6 "), "{said}");
    assert_eq!(history.rows()?, then);
    assert!(history.ok(&["restore", "--to", "1"])?.contains("nothing to change"));
    history.ok(&["restore", "--to", "5"])?;
    assert_eq!(history.rows()?, now);
    history.ok(&["restore", "--to", "0"])?;
    assert!(history.ok(&["query"])?.contains("no rows"));
    history.ok(&["undo", "head"])?;
    assert_eq!(history.rows()?, now);
    assert!(history.ok(&["verify"])?.contains("chain sound"));
    Ok(())
}

#[test]
fn one_table_is_restored_with_what_it_owns() -> Result<()> {
    let history = History::new()?;
    history.commit("p1 goes", vec![json!({"op": "delete", "table": "port", "where": []})])?;
    assert_eq!(history.rows()?["route"], json!([]));
    history.ok(&["restore", "--to", "5", "--table", "port"])?;
    assert_eq!(history.rows()?, history.json(&["at", "5"], 0)?);
    let said = history.says(&["restore", "--to", "1", "--table", "port"], 1)?;
    assert!(
        said.contains("! port p1: bridge refers to bridge br0, which was deleted by commit 4, "),
        "{said}"
    );
    history.ok(&["restore", "--to", "1", "--table", "bridge"])?;
    history.ok(&["restore", "--to", "1", "--table", "port"])?;
    assert_eq!(history.rows()?, history.json(&["at", "1"], 0)?);
    Ok(())
}

#[test]
fn wrong_input_is_named() -> Result<()> {
    let history = History::new()?;
    let check = |arguments: &[&str], code: i32, expected: &str| -> Result<()> {
        let said = history.says(arguments, code)?;
        ensure!(said.contains(expected), "{arguments:?}: {said}");
        Ok(())
    };
    check(&["show", "99"], 1, "there is no commit 99 yet: the newest is 5")?;
    check(
        &["show", "head~6"],
        1,
        "there is no commit 6 before the newest, which is 5",
    )?;
    check(
        &["show", "abcdef0123"],
        1,
        "no commit has a hash that begins with abcdef0123",
    )?;
    check(&["show", "tomorrow"], 2, "neither a commit nor a time")?;
    check(&["log", "--since", "2 parsecs"], 2, "2 parsecs")?;
    check(
        &["log", "--table", "nets"],
        1,
        "has no table \"nets\"; it has bridge, port, route",
    )?;
    check(&["log", "--row", "p1"], 1, "--row p1: neither a UUID nor TABLE:NAME")?;
    check(&["log", "--row", "port:p9"], 1, "the table port never had a row p9")?;
    check(&["log", "--uid", "nobody-of-that-name"], 1, "there is no such user")?;
    check(&["blame", "port", "p9"], 1, "the table port never had a row p9")?;
    check(&["blame", "port", "p1", "speed"], 1, "has no column \"speed\"")?;
    check(&["blame", "bridge", "br1", "state"], 1, "is ephemeral")?;
    check(&["blame", "route", "r"], 1, "the rows of route have no names")?;
    check(&["diff", "1..x"], 2, "1..x: x: neither a commit nor a time")?;
    check(&["diff", "..5"], 2, "the commit before the .. is missing")?;
    check(&["at", "5", "query", "nets"], 1, "has no table \"nets\"")?;
    check(&["undo", "0"], 1, "commit 0 is the beginning of the log")?;
    check(&["restore", "--to", "5", "--table", "nets"], 1, "has no table \"nets\"")?;
    Ok(())
}
