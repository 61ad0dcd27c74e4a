//! A new schema while sessions are open: who is told what and when, and that nothing has happened where it cannot be stored.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    missing_docs,
    reason = "a test"
)]

mod rig;

use nonnet_chain::{Kind, RowOp};
use nonnet_sessions::{Event, Peer, SessionId};
use rig::{A, B, Rig, what};
use serde_json::{Value, json};

const C: SessionId = SessionId(3);

/// The schema of the rig with another column more.
fn wider() -> Value {
    let mut schema: Value = serde_json::from_str(rig::SCHEMA).unwrap();
    schema["version"] = json!("2.0.0");
    schema["tables"]["t"]["columns"]["more"] = json!({"type": "string"});
    schema
}

fn aware(rig: &mut Rig, session: SessionId) {
    rig.call(session, "set_db_change_aware", json!([true]));
}

fn convert(rig: &mut Rig, session: SessionId) -> Vec<(SessionId, Value)> {
    rig.call(session, "convert", json!(["db", wider()]))
}

fn whats(sent: &[(SessionId, Value)]) -> Vec<(SessionId, &str)> {
    sent.iter().map(what).collect()
}

fn park(rig: &mut Rig, session: SessionId) {
    let wait = json!({"op": "wait", "table": "t", "where": [["n", "==", 7]], "columns": ["n"], "until": "==", "rows": [{"n": 7}]});
    assert_eq!(rig.call(session, "transact", json!(["db", wait])), []);
}

fn columns(rig: &mut Rig, session: SessionId) -> usize {
    let sent = rig.call(session, "get_schema", json!(["db"]));
    sent[0].1["result"]["tables"]["t"]["columns"].as_object().unwrap().len()
}

#[test]
fn nobody_hears_of_it_before_it_is_stored() {
    let mut rig = Rig::new();
    aware(&mut rig, A);
    rig.watch(A);
    park(&mut rig, A);
    rig.watch(B);
    park(&mut rig, B);
    assert_eq!(convert(&mut rig, A), []);
    assert_eq!(rig.closed, []);
    // What shows the new schema waits, too.
    assert_eq!(rig.call(C, "get_schema", json!(["db"])), []);
    let sent = rig.stored(1);
    assert_eq!(
        whats(&sent),
        [
            (A, "monitor_canceled"),
            (A, "convert"),
            (A, "transact"),
            (C, "get_schema")
        ][..3]
    );
    assert_eq!(sent[0].1["params"], json!(["m"]));
    assert_eq!(sent[1].1["result"], json!({}));
    assert_eq!(sent[2].1["error"], "canceled");
    assert_eq!(rig.closed, [B]);
    assert_eq!(columns(&mut rig, A), 4);
}

#[test]
fn who_asks_without_being_aware_gets_the_reply_and_is_closed() {
    let mut rig = Rig::new();
    rig.watch(A);
    park(&mut rig, A);
    convert(&mut rig, A);
    let sent = rig.stored(1);
    assert_eq!(whats(&sent), [(A, "convert")]);
    assert_eq!(rig.closed, [A, B]);
    // Nothing more is sent to it, whatever it asks for.
    assert_eq!(rig.call(A, "list_dbs", json!([])), []);
}

#[test]
fn a_session_is_owed_what_it_asked_for_before() {
    let mut rig = Rig::new();
    rig.insert(B, 1);
    convert(&mut rig, A);
    let sent = rig.stored(1);
    assert_eq!(whats(&sent), [(B, "transact")]);
    assert_eq!(rig.closed, []);
    assert_eq!(whats(&rig.stored(2)), [(A, "convert")]);
    assert_eq!(rig.closed, [A, B]);
}

#[test]
fn a_session_that_comes_after_it_stays() {
    let mut rig = Rig::new();
    convert(&mut rig, A);
    let peer = Peer::default();
    rig.event(Event::Opened { session: C, peer });
    assert_eq!(rig.call(C, "get_schema", json!(["db"])), []);
    let sent = rig.stored(1);
    assert_eq!(whats(&sent), [(A, "convert"), (C, "get_schema")]);
    assert!(!rig.closed.contains(&C));
}

#[test]
fn a_conversion_that_cannot_be_stored_has_not_happened() {
    let mut rig = Rig::new();
    aware(&mut rig, A);
    rig.watch(B);
    park(&mut rig, B);
    rig.insert(A, 1);
    rig.stored(1);
    convert(&mut rig, A);
    // Something under the new schema, which fails with it.
    rig.call(
        A,
        "transact",
        json!(["db", {"op": "insert", "table": "t", "row": {"n": 5, "more": "x"}}]),
    );
    let sent = rig.unstored(2);
    assert_eq!(whats(&sent), [(A, "convert"), (A, "transact")]);
    for (_, reply) in &sent {
        assert_eq!(reply["error"]["error"], "I/O error", "{reply}");
    }
    assert_eq!(rig.closed, []);
    assert_eq!((columns(&mut rig, A), rig.rows()), (3, 1));
    // Monitors and waiting transactions go on; so does the chain.
    rig.insert(A, 7);
    let sent = rig.stored(2);
    assert_eq!(whats(&sent), [(A, "transact"), (B, "update2"), (B, "transact")]);
    let newest = rig.records.last().unwrap().header;
    assert_eq!((newest.seq, newest.prev), (2, rig.records[0].hash));
    assert_eq!(newest.schema_hash, rig.records[0].header.schema_hash);
}

#[test]
fn commits_before_one_that_fails_are_undone_under_their_own_schema() {
    let mut rig = Rig::new();
    aware(&mut rig, A);
    aware(&mut rig, B);
    rig.watch(B);
    rig.insert(A, 1);
    convert(&mut rig, A);
    rig.call(
        A,
        "transact",
        json!(["db", {"op": "insert", "table": "t", "row": {"n": 5, "more": "x"}}]),
    );
    let sent = rig.unstored(1);
    assert_eq!(whats(&sent), [(A, "transact"), (A, "convert"), (A, "transact")]);
    assert_eq!((rig.rows(), columns(&mut rig, A)), (0, 3));
    rig.insert(A, 2);
    assert_eq!(whats(&rig.stored(1)), [(A, "transact"), (B, "update2")]);
}

#[test]
fn a_monitor_begun_under_a_schema_that_is_undone_costs_the_connection() {
    let mut rig = Rig::new();
    aware(&mut rig, A);
    aware(&mut rig, B);
    rig.watch(B);
    convert(&mut rig, A);
    assert_eq!(
        rig.call(B, "monitor_cond", json!(["db", "m", {"t": {"columns": ["more"]}}])),
        []
    );
    rig.unstored(1);
    assert_eq!(rig.closed, [B]);
}

#[test]
fn the_record_tells_what_became_of_the_rows() {
    let mut rig = Rig::new();
    rig.insert(A, 1);
    rig.stored(1);
    convert(&mut rig, A);
    let record = rig.records.last().unwrap();
    assert_eq!(record.header.kind, Kind::Schema);
    let body = record.decode_body().unwrap();
    assert!(body.schema.unwrap().contains("\"more\""));
    assert_eq!(body.meta.request_id, "\"convert\"");
    let [row] = body.rows.as_slice() else {
        panic!("{:?}", body.rows)
    };
    assert_eq!((row.op, row.columns.len()), (RowOp::Modify, 1));
    assert_eq!(row.columns[0].column, "more");
}

#[test]
fn an_id_from_before_is_answered_with_everything_one_from_after_is_not() {
    let mut rig = Rig::new();
    aware(&mut rig, A);
    aware(&mut rig, B);
    rig.commit(json!({"op": "insert", "table": "t", "row": {"n": 1}}));
    let before = rig.newest();
    convert(&mut rig, A);
    rig.stored(2);
    let converted = rig.newest();
    rig.commit(json!({"op": "insert", "table": "t", "row": {"n": 2}}));
    let since = |rig: &mut Rig, monitor: &str, id: &str| {
        let request = json!({"t": {"columns": ["n", "more"]}});
        let sent = rig.call(B, "monitor_cond_since", json!(["db", monitor, request, id]));
        let sent = if sent.is_empty() {
            let id = rig.reads.remove(0);
            rig.event(Event::Since {
                database: "db".into(),
                id,
                logged: None,
            })
        } else {
            sent
        };
        let result = sent[0].1["result"].clone();
        (result[0] == true, result[2]["t"].as_object().unwrap().len())
    };
    assert_eq!(since(&mut rig, "one", &before), (false, 2));
    assert_eq!(since(&mut rig, "two", &converted), (true, 1));
    let newest = rig.newest();
    rig.commit(json!({"op": "insert", "table": "t", "row": {"n": 3}}));
    assert_eq!(since(&mut rig, "three", &newest), (true, 1));
}

#[test]
fn a_monitor_that_waits_for_the_log_is_answered_under_the_old_schema() {
    let mut rig = Rig::new();
    aware(&mut rig, A);
    aware(&mut rig, B);
    rig.commit(json!({"op": "insert", "table": "t", "row": {"n": 1}}));
    let request = json!({"t": {"columns": ["n"]}});
    let old = "00000000-0000-4000-8000-000000000001";
    assert_eq!(rig.call(B, "monitor_cond_since", json!(["db", "m", request, old])), []);
    let sent = convert(&mut rig, A);
    assert_eq!(whats(&sent), [(B, "monitor_cond_since")]);
    assert_eq!(sent[0].1["result"][0], false);
    assert_eq!(whats(&rig.stored(2)), [(A, "convert"), (B, "monitor_canceled")]);
    let id = rig.reads.remove(0);
    assert_eq!(
        rig.event(Event::Since {
            database: "db".into(),
            id,
            logged: None
        }),
        []
    );
}

#[test]
fn the_list_of_databases_shows_the_new_schema_in_a_new_row_once_it_is_stored() {
    let mut rig = Rig::new();
    aware(&mut rig, A);
    let request = json!({"Database": {"columns": ["name", "schema"]}});
    rig.call(A, "monitor", json!(["_Server", "s", request]));
    convert(&mut rig, A);
    let sent = rig.stored(1);
    assert_eq!(whats(&sent), [(A, "convert"), (A, "update")]);
    let rows: Vec<&Value> = sent[1].1["params"][1]["Database"]
        .as_object()
        .unwrap()
        .values()
        .collect();
    assert_eq!(rows.len(), 2);
    let new = rows.iter().find_map(|row| row.get("new")).unwrap();
    assert!(new["schema"].as_str().unwrap().contains("\"more\""));
}

#[test]
fn what_may_not_be_converted_is_said_in_the_words_of_ovsdb_server() {
    let mut rig = Rig::new();
    let mut error = |params: Value| rig.call(A, "convert", params)[0].1["error"].clone();
    let cases = [
        (
            json!([]),
            "syntax error",
            "convert request params must begin with <db-name>",
        ),
        (
            json!(["nope", {}]),
            "unknown database",
            "convert request specifies unknown database nope",
        ),
        (json!(["db"]), "syntax error", "array expected"),
        (json!(["db", {}, 1]), "syntax error", "array expected"),
        (
            json!(["db", 1]),
            "syntax error",
            "Parsing database schema failed: Object expected.",
        ),
        (
            json!(["db", {"name": "other", "tables": {}}]),
            "invalid parameters",
            "new schema name (other) does not match database name (db)",
        ),
        (
            json!(["_Server", 1]),
            "not allowed",
            "conversion is not allowed for read-only database _Server",
        ),
    ];
    for (params, tag, details) in cases {
        let error = error(params);
        assert_eq!(
            (error["error"].as_str(), error["details"].as_str()),
            (Some(tag), Some(details))
        );
    }
    let peer = Peer {
        read_only: true,
        ..Peer::default()
    };
    rig.event(Event::Opened { session: C, peer });
    let sent = rig.call(C, "convert", json!(["db"]));
    assert_eq!(
        sent[0].1["error"]["details"],
        "conversion is not allowed for read-only database db"
    );
    assert_eq!(rig.records.len(), 0);
}

#[test]
fn a_role_may_not_convert_and_its_commits_name_the_certificate() {
    let mut rig = Rig::new();
    for (name, shown) in [("chassis-1", "chassis-1"), ("", "(null)")] {
        let peer = Peer {
            role: "ctl".into(),
            certificate_name: name.into(),
            ..Peer::default()
        };
        rig.event(Event::Opened { session: C, peer });
        let sent = rig.call(C, "convert", json!(["db"]));
        let details = format!(
            "RBAC rules for client \"{shown}\" role \"ctl\" prohibit \"convert\" of database db (only the root role may convert databases)"
        );
        assert_eq!(
            sent[0].1["error"],
            json!({"error": "permission error", "details": details})
        );
        rig.insert(C, 1);
        rig.event(Event::Closed { session: C });
        let body = rig.records.remove(0).decode_body().unwrap();
        let details: Vec<(&str, &str)> = body
            .meta
            .details
            .iter()
            .map(|(name, detail)| (&**name, &**detail))
            .collect();
        let expected = [("certificate", "chassis-1"), ("role", "ctl")];
        assert_eq!(details, expected[usize::from(name.is_empty())..]);
        rig.call(
            A,
            "transact",
            json!(["db", {"op": "delete", "table": "t", "where": []}]),
        );
        rig.records.clear();
    }
}

#[test]
fn what_a_session_asks_for_that_will_be_closed_does_not_happen() {
    let mut rig = Rig::new();
    aware(&mut rig, A);
    convert(&mut rig, A);
    assert_eq!(rig.insert(B, 1), []);
    assert_eq!((rig.rows(), rig.records.len()), (0, 1));
    assert_eq!(whats(&rig.stored(1)), [(A, "convert")]);
    assert_eq!((rig.closed.as_slice(), rig.rows()), ([B].as_slice(), 0));
}

#[test]
fn what_a_session_asks_for_that_is_not_closed_after_all_is_answered() {
    let mut rig = Rig::new();
    aware(&mut rig, A);
    convert(&mut rig, A);
    assert_eq!(rig.insert(B, 1), []);
    assert_eq!(whats(&rig.unstored(1)), [(A, "convert")]);
    assert_eq!(rig.rows(), 1);
    assert_eq!(whats(&rig.stored(1)), [(B, "transact")]);
    assert_eq!(rig.closed, []);
}
