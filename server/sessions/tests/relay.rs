//! Relayed databases: what the source tells is served, what writes goes to it, in which order, and who hears of it.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    missing_docs,
    reason = "a failed test panics"
)]

mod rig;

use std::sync::Arc;

use nonnet_schema::{DatabaseSchema, RowUpdate, Uuid};
use nonnet_sessions::{Event, SessionId, SourceNews};
use rig::{A, B, Rig, what};
use serde_json::{Value, json};

const SCHEMA: &str = r#"{"name": "far", "version": "1.0.0", "tables": {"t": {"isRoot": true, "columns": {
    "n": {"type": "integer"}, "set": {"type": {"key": "integer", "min": 0, "max": "unlimited"}}}}}}"#;

const NEWER: &str = r#"{"name": "far", "version": "2.0.0", "tables": {"t": {"isRoot": true, "columns": {
    "n": {"type": "integer"}, "m": {"type": "integer"}}}}}"#;

fn uuid(number: u64) -> Uuid {
    Uuid::from_u64_pair(0x4000, 0x8000_0000_0000_0000 | number)
}

fn rows(schema: &str, json: Value) -> Vec<RowUpdate> {
    RowUpdate::parse_all(&json, &DatabaseSchema::from_text(schema).unwrap(), false).unwrap()
}

fn content(schema: &str, rows_json: Value, id: u64) -> SourceNews {
    SourceNews::Content {
        schema: Arc::new(DatabaseSchema::from_text(schema).unwrap()),
        rows: rows(schema, rows_json),
        id: if id == 0 { Uuid::nil() } else { uuid(id) },
    }
}

fn row(number: u64, change: Value) -> Value {
    json!({"t": {uuid(number).to_string(): change}})
}

fn update(rows_json: Value, id: u64) -> SourceNews {
    SourceNews::Update {
        rows: rows(SCHEMA, rows_json),
        id: uuid(id),
    }
}

fn tell(rig: &mut Rig, news: SourceNews) -> Vec<(SessionId, Value)> {
    let database = "far".into();
    rig.event(Event::Source { database, news })
}

/// A relay that has told nothing, with two aware sessions.
fn waiting() -> Rig {
    let mut rig = Rig::new();
    rig.server.add_relay(&"far".into(), rig.now).unwrap();
    for session in [A, B] {
        rig.call(session, "set_db_change_aware", json!([true]));
    }
    rig
}

/// The same once the source has told one row as of transaction 100.
fn relay() -> Rig {
    let mut rig = waiting();
    assert_eq!(
        tell(&mut rig, content(SCHEMA, row(1, json!({"initial": {"n": 1}})), 100)),
        []
    );
    rig
}

fn insert(n: i64) -> Value {
    json!(["far", {"op": "insert", "table": "t", "row": {"n": n}}])
}

fn watch(rig: &mut Rig, session: SessionId, last: Uuid) -> Value {
    let params = json!(["far", "m", {"t": {"columns": ["n"]}}, last.to_string()]);
    let mut sent = rig.call(session, "monitor_cond_since", params);
    sent.remove(0).1["result"].take()
}

fn listed(rig: &mut Rig) -> Value {
    let operation = json!({"op": "select", "table": "Database", "where": [["name", "==", "far"]]});
    rig.call(A, "transact", json!(["_Server", operation]))[0].1["result"][0]["rows"][0].clone()
}

#[test]
fn a_relay_is_listed_and_not_available_until_its_source_has_told_its_rows() {
    let mut rig = waiting();
    let result = |sent: Vec<(SessionId, Value)>| sent[0].1.clone();
    assert_eq!(
        result(rig.call(A, "list_dbs", json!([])))["result"],
        json!(["db", "far", "_Server"])
    );
    for method in [
        "get_schema",
        "transact",
        "monitor",
        "monitor_cond",
        "monitor_cond_since",
    ] {
        let details = format!(
            "{method} request specifies database far which is not yet available because it has not completed joining \
             its cluster"
        );
        assert_eq!(
            result(rig.call(A, method, json!(["far", 1, {}])))["error"],
            json!({"error": "database not available", "details": details})
        );
    }
    let row = listed(&mut rig);
    assert_eq!(
        [&row["model"], &row["connected"], &row["leader"], &row["schema"]],
        [&json!("relay"), &json!(false), &json!(false), &json!(["set", []])]
    );
    tell(&mut rig, content(SCHEMA, json!({}), 1));
    let row = listed(&mut rig);
    assert_eq!([&row["connected"], &row["leader"]], [&json!(true), &json!(false)]);
    assert!(row["schema"].as_str().unwrap().contains("\"far\""));
    assert_eq!(rig.closed, []);
}

#[test]
fn who_does_not_know_of_changes_is_closed_when_the_database_becomes_available() {
    let mut rig = waiting();
    rig.call(B, "set_db_change_aware", json!([false]));
    tell(&mut rig, content(SCHEMA, json!({}), 1));
    assert_eq!(rig.closed, [B]);
}

#[test]
fn what_the_source_tells_reaches_monitors_with_its_transaction_ids() {
    let mut rig = relay();
    let initial = watch(&mut rig, A, Uuid::nil());
    assert_eq!(initial[0], json!(false));
    assert_eq!(initial[1], json!(uuid(100).to_string()));
    assert_eq!(initial[2], row(1, json!({"initial": {"n": 1}})));
    let sent = tell(&mut rig, update(row(2, json!({"insert": {"n": 2}})), 101));
    let params = json!(["m", uuid(101).to_string(), row(2, json!({"insert": {"n": 2}}))]);
    assert_eq!(sent, [(A, json!({"id": null, "method": "update3", "params": params}))]);
    let sent = tell(&mut rig, update(row(2, json!({"modify": {"n": 3}})), 102));
    assert_eq!(sent[0].1["params"][2], row(2, json!({"modify": {"n": 3}})));
}

#[test]
fn a_client_that_comes_back_resumes_by_the_ids_of_the_source() {
    let mut rig = relay();
    tell(&mut rig, update(row(2, json!({"insert": {"n": 2}})), 101));
    tell(&mut rig, update(row(1, json!({"delete": null})), 102));
    let news = json!({"t": {uuid(1).to_string(): {"delete": null}, uuid(2).to_string(): {"insert": {"n": 2}}}});
    assert_eq!(
        watch(&mut rig, A, uuid(100)),
        json!([true, uuid(102).to_string(), news])
    );
    assert_eq!(watch(&mut rig, B, uuid(102)), json!([true, uuid(102).to_string(), {}]));
    rig.call(A, "monitor_cancel", json!(["m"]));
    assert_eq!(watch(&mut rig, A, uuid(9))[0], json!(false));
    assert!(rig.reads.is_empty());
}

#[test]
fn a_source_without_ids_gives_none() {
    let mut rig = waiting();
    tell(&mut rig, content(SCHEMA, json!({}), 0));
    let zeros = Uuid::nil().to_string();
    assert_eq!(watch(&mut rig, A, Uuid::nil()), json!([false, zeros, {}]));
    let rows = rows(SCHEMA, row(2, json!({"insert": {"n": 2}})));
    let sent = tell(&mut rig, SourceNews::Update { rows, id: Uuid::nil() });
    assert_eq!(sent[0].1["params"][1], json!(zeros));
}

#[test]
fn a_source_that_loses_its_ids_still_lets_an_older_id_resume() {
    let mut rig = relay();
    let rows = rows(SCHEMA, row(2, json!({"insert": {"n": 2}})));
    tell(&mut rig, SourceNews::Update { rows, id: Uuid::nil() });
    let expected = json!([true, Uuid::nil().to_string(), row(2, json!({"insert": {"n": 2}}))]);
    assert_eq!(watch(&mut rig, A, uuid(100)), expected);
}

#[test]
fn what_writes_goes_to_the_source_and_its_update_comes_before_its_answer() {
    let mut rig = relay();
    watch(&mut rig, A, Uuid::nil());
    assert_eq!(rig.call(A, "transact", insert(7)), []);
    assert_eq!(rig.forwards, [(0, insert(7))]);
    let sent = tell(&mut rig, update(row(7, json!({"insert": {"n": 7}})), 101));
    assert_eq!(sent.iter().map(what).collect::<Vec<_>>(), [(A, "update3")]);
    let result = json!([{"uuid": ["uuid", uuid(7).to_string()]}]);
    let answer = Ok(result.clone());
    let sent = tell(&mut rig, SourceNews::Answered { number: 0, answer });
    assert_eq!(sent, [(A, json!({"id": "transact", "result": result, "error": null}))]);
    // An answer to what nobody asked is passed over.
    let answer = Ok(json!([]));
    assert_eq!(tell(&mut rig, SourceNews::Answered { number: 0, answer }), []);
}

#[test]
fn reads_mistakes_and_waits_stay_here() {
    let mut rig = relay();
    let select = json!(["far", {"op": "select", "table": "t", "where": [], "columns": ["n"]}]);
    assert_eq!(
        rig.call(A, "transact", select)[0].1["result"][0]["rows"],
        json!([{"n": 1}])
    );
    let mistake = json!(["far", {"op": "insert", "table": "t", "row": {"n": "x"}}]);
    assert!(rig.call(A, "transact", mistake)[0].1["result"][0]["error"].is_string());
    let wait = json!({"op": "wait", "table": "t", "where": [["n", "==", 9]], "columns": ["n"], "until": "==",
        "rows": [{"n": 9}]});
    let waits = json!(["far", wait, {"op": "insert", "table": "t", "row": {"n": 10}}]);
    assert_eq!(rig.call(A, "transact", waits.clone()), []);
    assert_eq!(rig.forwards, []);
    tell(&mut rig, update(row(9, json!({"insert": {"n": 9}})), 101));
    assert_eq!(rig.forwards, [(0, waits)]);
    let twice = rig.call(A, "transact", insert(1));
    assert_eq!(twice[0].1["error"]["details"], "transact: duplicate request ID");
}

#[test]
fn a_commit_that_would_fail_here_is_for_the_source_to_judge() {
    const UNIQUE: &str = r#"{"name": "far", "version": "1.0.0", "tables": {"t": {"isRoot": true, "indexes": [["n"]],
        "columns": {"n": {"type": "integer"}, "set": {"type": {"key": "integer", "min": 0, "max": "unlimited"}}}}}}"#;
    let mut rig = waiting();
    tell(&mut rig, content(UNIQUE, row(1, json!({"initial": {"n": 1}})), 100));
    assert_eq!(rig.call(A, "transact", insert(1)), []);
    assert_eq!(rig.forwards.len(), 1);
}

#[test]
fn canceled_and_abandoned_transactions_are_withdrawn() {
    let mut rig = relay();
    rig.call(A, "transact", insert(1));
    let message = json!({"method": "cancel", "params": ["transact"], "id": null});
    let canceled = Event::Message {
        session: A,
        message,
        newline: false,
    };
    assert_eq!(
        rig.event(canceled),
        [(A, json!({"id": "transact", "result": null, "error": "canceled"}))]
    );
    assert_eq!(rig.withdrawn, [0]);
    rig.call(B, "transact", insert(2));
    rig.event(Event::Closed { session: B });
    assert_eq!(rig.withdrawn, [0, 1]);
    let answer = Ok(json!([]));
    assert_eq!(tell(&mut rig, SourceNews::Answered { number: 1, answer }), []);
}

#[test]
fn errors_of_the_source_are_passed_on() {
    let mut rig = relay();
    rig.call(A, "transact", insert(1));
    let answer = Err(json!("canceled"));
    let sent = tell(&mut rig, SourceNews::Answered { number: 0, answer });
    assert_eq!(
        sent,
        [(A, json!({"id": "transact", "result": null, "error": "canceled"}))]
    );
}

#[test]
fn a_lost_source_is_connected_for_thirty_seconds_more() {
    let mut rig = relay();
    rig.now.monotonic_ms = 5_000;
    tell(&mut rig, SourceNews::Lost);
    assert_eq!(listed(&mut rig)["connected"], json!(true));
    assert_eq!(rig.server.deadline_ms(), Some(35_000));
    rig.now.monotonic_ms = 34_999;
    rig.event(Event::Tick);
    assert_eq!(listed(&mut rig)["connected"], json!(true));
    rig.now.monotonic_ms = 35_000;
    rig.event(Event::Tick);
    assert_eq!(listed(&mut rig)["connected"], json!(false));
    assert_eq!(rig.server.deadline_ms(), None);
    // What was told is still served.
    assert_eq!(watch(&mut rig, A, Uuid::nil())[2], row(1, json!({"initial": {"n": 1}})));
    let rows = rows(SCHEMA, row(1, json!({"modify": {"n": 2}})));
    let sent = tell(&mut rig, SourceNews::Resumed { rows, id: uuid(101) });
    assert_eq!(sent[0].1["params"][2], row(1, json!({"modify": {"n": 2}})));
    assert_eq!(listed(&mut rig)["connected"], json!(true));
}

#[test]
fn everything_told_anew_reaches_monitors_as_what_changed() {
    let mut rig = relay();
    watch(&mut rig, A, Uuid::nil());
    let rows = json!({"t": {uuid(2).to_string(): {"initial": {"n": 2}}, uuid(3).to_string(): {"initial": {"n": 3}}}});
    let sent = tell(&mut rig, content(SCHEMA, rows, 300));
    let changes = json!({"t": {uuid(1).to_string(): {"delete": null}, uuid(2).to_string(): {"insert": {"n": 2}},
        uuid(3).to_string(): {"insert": {"n": 3}}}});
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1["params"], json!(["m", uuid(300).to_string(), changes]));
}

#[test]
fn a_conversion_of_the_source_is_followed() {
    let mut rig = relay();
    watch(&mut rig, B, Uuid::nil());
    let before = listed(&mut rig)["_uuid"].clone();
    rig.call(A, "set_db_change_aware", json!([false]));
    rig.call(B, "transact", insert(1));
    let sent = tell(&mut rig, content(NEWER, row(1, json!({"initial": {"m": 1}})), 101));
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(B, "monitor_canceled"), (B, "transact")]
    );
    assert_eq!(sent[1].1["error"], "canceled");
    assert_eq!(rig.closed, [A]);
    let schema = rig.call(B, "get_schema", json!(["far"]))[0].1["result"].clone();
    assert_eq!(schema["version"], "2.0.0");
    assert_ne!(listed(&mut rig)["_uuid"], before);
}

#[test]
fn what_does_not_fit_is_asked_for_anew() {
    let mut rig = relay();
    tell(&mut rig, update(row(5, json!({"modify": {"n": 5}})), 101));
    assert_eq!(rig.resyncs.len(), 1);
    assert!(
        rig.resyncs[0].contains("is modified, but it is not there"),
        "{:?}",
        rig.resyncs
    );
}

#[test]
fn a_relay_can_be_removed_before_and_after_it_is_available() {
    let mut rig = waiting();
    rig.server.remove_database("far", rig.now).unwrap();
    assert!(rig.server.remove_database("far", rig.now).is_err());
    rig.server.serve_relay(&"far".into(), rig.now).unwrap();
    tell(&mut rig, content(SCHEMA, json!({}), 1));
    rig.call(A, "transact", insert(1));
    let commands = rig.server.remove_database("far", rig.now).unwrap();
    assert!(format!("{commands:?}").contains("canceled"));
    assert_eq!(
        rig.call(A, "list_dbs", json!([]))[0].1["result"],
        json!(["db", "_Server"])
    );
    assert_eq!(tell(&mut rig, update(json!({}), 2)), []);
}
