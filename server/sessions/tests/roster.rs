//! Databases that come and go while sessions are open: who is told, who is closed, and in which order.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    missing_docs,
    reason = "a failed test panics"
)]

mod rig;

use std::sync::Arc;

use nonnet_chain::{Author, Chain};
use nonnet_engine::Database;
use nonnet_schema::{DatabaseSchema, Uuid};
use nonnet_sessions::{Command, RemoveError, SessionId};
use rig::{A, B, Rig, what};
use serde_json::{Value, json};

/// What the commands send to whom, and whom they close.
fn split(commands: Vec<Command>) -> (Vec<(SessionId, Value)>, Vec<SessionId>) {
    let (mut sent, mut closed) = (Vec::new(), Vec::new());
    for command in commands {
        match command {
            Command::Send { session, payload } => {
                sent.push((session, serde_json::from_str(&payload.into_text()).unwrap()));
            }
            Command::Close { session } => closed.push(session),
            _ => {}
        }
    }
    (sent, closed)
}

fn remove(rig: &mut Rig) -> (Vec<(SessionId, Value)>, Vec<SessionId>) {
    split(rig.server.remove_database("db", rig.now).unwrap())
}

#[test]
fn who_knows_of_changes_is_told_and_everybody_else_is_closed() {
    let mut rig = Rig::new();
    rig.call(B, "set_db_change_aware", json!([true]));
    rig.call(
        B,
        "monitor",
        json!(["_Server", "list", {"Database": [{"columns": ["name"]}]}]),
    );
    rig.watch(B);
    let wait = json!({"op": "wait", "table": "t", "where": [], "columns": ["n"], "until": "==", "rows": [{"n": 9}]});
    assert_eq!(rig.call(B, "transact", json!(["db", wait])), []);
    let (sent, closed) = remove(&mut rig);
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(B, "monitor_canceled"), (B, "transact"), (B, "update")]
    );
    assert_eq!(sent[0].1["params"], json!(["m"]));
    assert_eq!(sent[1].1["error"], "canceled");
    assert_eq!(closed, [A]);
    assert_eq!(
        rig.call(B, "monitor_cancel", json!(["m"]))[0].1["error"],
        "unknown monitor"
    );
}

#[test]
fn a_monitor_that_waits_for_the_log_is_answered_when_its_database_goes() {
    let mut rig = Rig::new();
    rig.call(B, "set_db_change_aware", json!([true]));
    let unknown = "12345678-1234-1234-1234-123456789abc";
    assert_eq!(
        rig.call(B, "monitor_cond_since", json!(["db", "m", {"t": [{}]}, unknown])),
        []
    );
    let (sent, _) = remove(&mut rig);
    assert_eq!(sent.iter().map(what).collect::<Vec<_>>(), [(B, "monitor_cond_since")]);
    assert_eq!(sent[0].1["error"], "canceled");
    assert_eq!(rig.log_answers(), []);
}

#[test]
fn a_database_that_comes_closes_who_does_not_know_of_it() {
    let mut rig = Rig::new();
    rig.call(A, "set_db_change_aware", json!([true]));
    let wait = json!({"op": "wait", "table": "Database", "where": [["name", "==", "new"]], "columns": ["name"],
        "until": "==", "rows": [{"name": "new"}]});
    assert_eq!(rig.call(A, "transact", json!(["_Server", wait])), []);
    let schema = DatabaseSchema::from_text(r#"{"name": "new", "tables": {}}"#).unwrap();
    let (chain, _) = Chain::begin(Uuid::nil(), &schema, &Author::default(), rig.now.moment).unwrap();
    let database = Database::new(Arc::new(schema), 5);
    let served = rig.server.serve_database(database, chain, None, rig.now).unwrap();
    let (sent, closed) = split(served);
    assert_eq!(sent.iter().map(what).collect::<Vec<_>>(), [(A, "transact")]);
    assert_eq!(closed, [B]);
}

#[test]
fn the_servers_own_and_unknown_databases_are_not_removed() {
    let mut rig = Rig::new();
    let reserved = rig.server.remove_database("_Server", rig.now).unwrap_err();
    assert!(matches!(reserved, RemoveError::Reserved(_)), "{reserved}");
    let unknown = rig.server.remove_database("nosuch", rig.now).unwrap_err();
    assert!(matches!(unknown, RemoveError::Unknown(_)), "{unknown}");
    assert_eq!(rig.server.sessions_at(None).len(), 2);
}
