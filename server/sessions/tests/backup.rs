//! Backups: their clients read only, and the rows of another server become commits of the database's own chain.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    missing_docs,
    reason = "a failed test panics"
)]

mod rig;

use nonnet_chain::Author;
use nonnet_schema::{DatabaseSchema, RowUpdate, TableIndex};
use nonnet_sessions::{Command, SourceError};
use rig::{A, Rig, SCHEMA};
use serde_json::{Value, json};

const ROW: &str = "00000000-0000-4000-8000-000000000001";

fn rows(json: &Value) -> Vec<RowUpdate> {
    RowUpdate::parse_all(json, &DatabaseSchema::from_text(SCHEMA).unwrap(), true).unwrap()
}

fn author() -> Author {
    Author {
        remote: "sync-from".into(),
        address: "tcp:192.0.2.1:6640".into(),
        ..Author::default()
    }
}

fn replicate(rig: &mut Rig, json: &Value, whole: &[TableIndex]) -> Result<Vec<Command>, SourceError> {
    rig.server.replicate("db", &author(), rig.now, &rows(json), whole)
}

#[test]
fn clients_of_a_backup_read_and_lock_but_do_not_write() {
    let mut rig = Rig::new();
    rig.server.set_backup("db", true);
    let sent = rig.insert(A, 1);
    let details = "insert operation not allowed when database server is in read only mode";
    assert_eq!(
        sent[0].1["result"],
        json!([{"error": "not allowed", "details": details}])
    );
    let select = json!(["db", {"op": "select", "table": "t", "where": []}]);
    assert_eq!(rig.call(A, "transact", select)[0].1["result"], json!([{"rows": []}]));
    assert_eq!(
        rig.call(A, "lock", json!(["l"]))[0].1["result"],
        json!({"locked": true})
    );
    let refused = rig.call(A, "convert", json!(["db", {}]));
    assert_eq!(refused[0].1["error"]["error"], "not allowed");
    rig.server.set_backup("db", false);
    assert_eq!(rig.insert(A, 1), []);
    assert_eq!(rig.rows(), 1);
}

#[test]
fn rows_of_the_other_server_are_commits_that_say_where_they_came_from() {
    let mut rig = Rig::new();
    rig.watch(A);
    rig.insert(A, 5);
    rig.stored(1);
    rig.server.set_backup("db", true);
    let whole = json!({"t": {ROW: {"new": {"n": 1, "set": ["set", [1, 2]]}}}});
    let commands = replicate(&mut rig, &whole, &[TableIndex(0)]).unwrap();
    let record = commands.iter().find_map(|command| match command {
        Command::Append { record, .. } => Some(record),
        _ => None,
    });
    let meta = record.unwrap().decode_body().unwrap().meta;
    assert_eq!((&*meta.remote, &*meta.address), ("sync-from", "tcp:192.0.2.1:6640"));
    // The row that was there before is not there any more.
    assert_eq!(rig.rows(), 1);
    let sent = rig.stored(2);
    assert_eq!(sent[0].1["params"][1]["t"].as_object().unwrap().len(), 2);
    replicate(&mut rig, &json!({"t": {ROW: {"old": {"n": 1}}}}), &[]).unwrap();
    assert_eq!(rig.rows(), 0);
}

#[test]
fn rows_that_break_the_schema_change_nothing() {
    let mut rig = Rig::new();
    let other = "00000000-0000-4000-8000-000000000002";
    let twice = json!({"t": {ROW: {"new": {"n": 1}}, other: {"new": {"n": 1}}}});
    let error = replicate(&mut rig, &twice, &[TableIndex(0)]).unwrap_err();
    assert!(error.to_string().contains("constraint violation"), "{error}");
    assert_eq!(rig.rows(), 0);
    let empty = json!({"t": {ROW: {"new": {"n": ["set", []]}}}});
    let error = replicate(&mut rig, &empty, &[]).unwrap_err();
    assert!(matches!(error, SourceError::Datum { .. }), "{error}");
}
