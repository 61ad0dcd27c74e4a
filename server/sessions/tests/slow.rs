//! Sessions that read slowly: what they missed comes merged, is right however much it is, and is never told of what was undone.
#![allow(
    clippy::expect_used,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a failed test panics"
)]

mod rig;

use std::collections::BTreeMap;

use nonnet_sessions::Event;
use rig::{A, B, Rig, what};
use serde_json::{Value, json};

/// The rows that a client of `update2` knows.
#[derive(Debug, Default, PartialEq)]
struct Replica(BTreeMap<String, Value>);

impl Replica {
    /// Takes what `B` was sent of its monitor.
    fn take(&mut self, sent: &[(nonnet_sessions::SessionId, Value)]) {
        for (_, message) in sent
            .iter()
            .filter(|(session, message)| *session == B && message["method"] == "update2")
        {
            for (uuid, update) in message["params"][1]["t"].as_object().unwrap() {
                let (kind, row) = update.as_object().unwrap().iter().next().unwrap();
                match kind.as_str() {
                    "delete" => assert!(self.0.remove(uuid).is_some(), "deleted, never seen: {message}"),
                    "insert" => assert!(
                        self.0.insert(uuid.clone(), row.clone()).is_none(),
                        "inserted twice: {message}"
                    ),
                    "modify" => {
                        let known = self.0.get_mut(uuid).expect("modified, never seen");
                        for (column, value) in row.as_object().unwrap() {
                            known[column] = value.clone();
                        }
                    }
                    other => panic!("{other}"),
                }
            }
        }
    }
}

fn rows_of(rig: &mut Rig) -> BTreeMap<String, Value> {
    let select = json!(["db", {"op": "select", "table": "t", "where": [], "columns": ["_uuid", "n"]}]);
    let sent = rig.call(A, "transact", select);
    let rows = sent[0].1["result"][0]["rows"].as_array().unwrap();
    let row = |row: &Value| (row["_uuid"][1].as_str().unwrap().to_owned(), json!({"n": row["n"]}));
    rows.iter().map(row).collect()
}

fn insert(n: i64) -> Value {
    json!({"op": "insert", "table": "t", "row": {"n": n}})
}

#[test]
fn a_session_that_missed_much_gets_the_difference_in_one_update() {
    let mut rig = Rig::new();
    rig.watch(B);
    let mut replica = Replica::default();
    for n in 1..=200 {
        replica.take(&rig.commit(insert(n)));
    }
    rig.event(Event::Congested { session: B });
    // Rows go, change, come, and come only to go again, on both sides of the limit of what is merged row by row.
    for n in 1..=150 {
        rig.commit(json!({"op": "delete", "table": "t", "where": [["n", "==", n]]}));
        rig.commit(insert(1000 + n));
        rig.commit(insert(-n));
        rig.commit(json!({"op": "delete", "table": "t", "where": [["n", "==", -n]]}));
    }
    rig.commit(json!({"op": "mutate", "table": "t", "where": [["n", ">", 150]], "mutations": [["n", "+=", 5000]]}));
    let sent = rig.event(Event::Drained { session: B });
    assert_eq!(sent.iter().map(what).collect::<Vec<_>>(), [(B, "update2")]);
    replica.take(&sent);
    assert_eq!(replica.0, rows_of(&mut rig));
    replica.take(&rig.commit(insert(7)));
    assert_eq!(replica.0, rows_of(&mut rig));
}

#[test]
fn a_session_that_missed_much_that_came_to_nothing_is_told_nothing() {
    let mut rig = Rig::new();
    rig.watch(B);
    rig.event(Event::Congested { session: B });
    for n in 1..=100 {
        rig.commit(insert(n));
    }
    rig.commit(json!({"op": "delete", "table": "t", "where": []}));
    let commands = rig.server.handle(Event::Drained { session: B }, rig.now);
    for command in commands {
        if let nonnet_sessions::Command::Send { payload, .. } = command {
            assert_eq!(payload.into_text(), "");
        }
    }
}

#[test]
fn a_congested_session_sees_what_it_did_before_it_hears_that_it_is_done() {
    let mut rig = Rig::new();
    rig.watch(B);
    rig.event(Event::Congested { session: B });
    rig.commit(insert(1));
    rig.insert(B, 2);
    let sent = rig.stored(2);
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(B, "update2"), (B, "transact")]
    );
    assert_eq!(sent[0].1["params"][1]["t"].as_object().unwrap().len(), 2);
}

#[test]
fn a_congested_session_with_an_update_of_what_was_undone_ends() {
    let mut rig = Rig::new();
    rig.watch(B);
    rig.insert(A, 1);
    rig.event(Event::Congested { session: B });
    let sent = rig.unstored(1);
    assert_eq!(sent.iter().map(what).collect::<Vec<_>>(), [(A, "transact")]);
    assert_eq!(rig.closed, [B]);
}

#[test]
fn a_congested_session_is_not_told_of_what_was_undone_meanwhile() {
    let mut rig = Rig::new();
    rig.watch(B);
    rig.event(Event::Congested { session: B });
    rig.commit(insert(1));
    for n in 2..=100 {
        rig.insert(A, n);
    }
    rig.unstored(2);
    assert_eq!(rig.closed, []);
    let sent = rig.event(Event::Drained { session: B });
    let mut replica = Replica::default();
    replica.take(&sent);
    assert_eq!(replica.0, rows_of(&mut rig));
    assert_eq!(replica.0.len(), 1);
}

#[test]
fn equal_monitors_are_sent_the_same_bytes() {
    let mut rig = Rig::new();
    rig.watch(A);
    rig.watch(B);
    let insert = json!({"method": "transact", "id": 1, "params": ["db", insert(1)]});
    let mut commands = rig.server.handle(
        Event::Message {
            session: A,
            message: insert,
            newline: false,
        },
        rig.now,
    );
    let stored = Event::Stored {
        database: "db".into(),
        sequence: 1,
    };
    commands.extend(rig.server.handle(stored, rig.now));
    let shared: Vec<*const u8> = commands
        .iter()
        .filter_map(|command| match command {
            nonnet_sessions::Command::Send {
                payload: nonnet_sessions::Outgoing::Shared(text),
                ..
            } => Some(text.as_ptr()),
            _ => None,
        })
        .collect();
    assert_eq!(shared.len(), 2);
    assert_eq!(shared[0], shared[1]);
}
