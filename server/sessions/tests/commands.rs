//! The server as a pure machine: events in, commands out. No socket, no disk, no clock.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a failed test panics"
)]

mod rig;

use nonnet_sessions::{Event, Peer, SessionId};
use rig::{A, B, Rig, what};
use serde_json::json;

#[test]
fn nothing_is_said_of_a_commit_until_it_is_stored_and_then_updates_come_before_the_reply() {
    let mut rig = Rig::new();
    rig.watch(A);
    rig.watch(B);
    assert_eq!(rig.insert(A, 1), []);
    assert_eq!(rig.records.len(), 1);
    let sent = rig.stored(1);
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(A, "update2"), (A, "transact"), (B, "update2")]
    );
}

#[test]
fn a_read_waits_for_the_commit_that_it_saw_and_an_echo_keeps_its_place() {
    let mut rig = Rig::new();
    rig.insert(A, 1);
    assert_eq!(
        rig.call(
            B,
            "transact",
            json!(["db", {"op": "select", "table": "t", "where": [], "columns": ["n"]}])
        ),
        []
    );
    assert_eq!(rig.call(B, "echo", json!([1])), []);
    let sent = rig.stored(1);
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(A, "transact"), (B, "transact"), (B, "echo")]
    );
    assert_eq!(sent[1].1["result"][0]["rows"], json!([{"n": 1}]));
    // Nothing is under way any more: a read is answered at once.
    assert_eq!(
        rig.call(
            B,
            "transact",
            json!(["db", {"op": "select", "table": "t", "where": [["n", "==", 2]]}])
        )
        .len(),
        1
    );
}

#[test]
fn what_could_not_be_stored_is_undone_and_its_clients_are_told() {
    let mut rig = Rig::new();
    rig.watch(B);
    rig.insert(A, 1);
    rig.stored(1);
    rig.insert(A, 2);
    rig.call(
        A,
        "transact",
        json!(["db", {"op": "delete", "table": "t", "where": []}]),
    );
    assert_eq!(rig.rows(), 0);
    let sent = rig.unstored(2);
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(A, "transact"), (A, "transact")]
    );
    for (_, reply) in &sent {
        assert_eq!(reply["error"]["error"], "I/O error");
        assert_eq!(reply["error"]["io-error"], "No space left on device");
    }
    assert_eq!((rig.rows(), rig.server.sequence("db")), (1, Some(1)));
    // The next commit takes the number again, and B hears of it alone.
    rig.insert(A, 3);
    assert_eq!(rig.records.last().unwrap().header.seq, 2);
    let sent = rig.stored(2);
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(A, "transact"), (B, "update2")]
    );
}

#[test]
fn a_monitor_that_began_with_what_was_undone_ends_with_its_session() {
    let mut rig = Rig::new();
    rig.insert(A, 1);
    assert_eq!(
        rig.call(B, "monitor_cond", json!(["db", "m", {"t": {"columns": ["n"]}}])),
        []
    );
    let sent = rig.unstored(1);
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(A, "transact"), (B, "monitor_cond")]
    );
    assert_eq!(sent[1].1["error"]["error"], "I/O error");
    assert_eq!(rig.closed, [B]);
}

#[test]
fn a_session_that_does_not_read_gets_one_merged_update_when_it_does() {
    let mut rig = Rig::new();
    rig.watch(B);
    rig.event(Event::Congested { session: B });
    for n in 1..=50 {
        rig.insert(A, n);
        let sent = rig.stored(n.cast_unsigned());
        assert_eq!(sent.iter().map(what).collect::<Vec<_>>(), [(A, "transact")]);
    }
    rig.call(
        A,
        "transact",
        json!(["db", {"op": "delete", "table": "t", "where": [["n", ">", 2]]}]),
    );
    rig.stored(51);
    let sent = rig.event(Event::Drained { session: B });
    assert_eq!(sent.iter().map(what).collect::<Vec<_>>(), [(B, "update2")]);
    assert_eq!(sent[0].1["params"][1]["t"].as_object().unwrap().len(), 2);
    rig.insert(A, 99);
    assert_eq!(rig.stored(52).len(), 2);
}

#[test]
fn a_waiting_transaction_goes_on_when_its_condition_comes_true() {
    let mut rig = Rig::new();
    let wait = json!({"op": "wait", "table": "t", "where": [["n", "==", 7]], "columns": ["n"], "until": "==", "rows": [{"n": 7}]});
    assert_eq!(
        rig.call(
            B,
            "transact",
            json!(["db", wait, {"op": "insert", "table": "t", "row": {"n": 8}}])
        ),
        []
    );
    rig.insert(A, 6);
    rig.insert(A, 7);
    assert_eq!(rig.rows(), 3);
    let sent = rig.stored(3);
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(A, "transact"), (A, "transact"), (B, "transact")]
    );
}

#[test]
fn a_wait_fails_when_its_time_is_up_and_a_half_closed_session_ends_after_it() {
    let mut rig = Rig::new();
    let wait =
        json!({"op": "wait", "timeout": 30, "table": "t", "where": [], "columns": ["n"], "until": "!=", "rows": []});
    rig.call(B, "transact", json!(["db", wait]));
    rig.event(Event::HalfClosed { session: B });
    assert_eq!(rig.closed, []);
    assert_eq!(rig.server.deadline_ms(), Some(30));
    rig.now.monotonic_ms = 31;
    let sent = rig.event(Event::Tick);
    assert_eq!(sent[0].1["result"][0]["details"], "\"wait\" timed out after 31 ms");
    assert_eq!(rig.closed, [B]);
    assert_eq!(rig.server.deadline_ms(), None);
}

#[test]
fn a_cancelled_transaction_is_always_answered() {
    let mut rig = Rig::new();
    let wait = json!({"op": "wait", "table": "t", "where": [], "columns": ["n"], "until": "!=", "rows": []});
    rig.call(B, "transact", json!(["db", wait]));
    let message = json!({"method": "cancel", "params": ["transact"], "id": null});
    let sent = rig.event(Event::Message {
        session: B,
        message,
        newline: false,
    });
    assert_eq!(
        sent,
        [(B, json!({"id": "transact", "result": null, "error": "canceled"}))]
    );
    assert_eq!(rig.finished, 2);
}

#[test]
fn what_is_ephemeral_is_told_but_neither_recorded_nor_awaited() {
    let mut rig = Rig::new();
    rig.call(B, "monitor_cond", json!(["db", "m", {"t": {"columns": ["status"]}}]));
    rig.insert(A, 1);
    rig.stored(1);
    let update = json!({"op": "update", "table": "t", "where": [], "row": {"status": "fine"}});
    let sent = rig.call(A, "transact", json!(["db", update]));
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(B, "update2"), (A, "transact")]
    );
    assert_eq!(rig.records.len(), 1);
}

#[test]
fn a_session_that_ends_gives_up_its_locks_monitors_and_waits() {
    let mut rig = Rig::new();
    rig.watch(B);
    rig.call(B, "lock", json!(["l"]));
    rig.call(A, "lock", json!(["l"]));
    let wait = json!({"op": "wait", "table": "t", "where": [], "columns": ["n"], "until": "!=", "rows": []});
    rig.call(B, "transact", json!(["db", wait]));
    let sent = rig.event(Event::Closed { session: B });
    assert_eq!(sent, [(A, json!({"id": null, "method": "locked", "params": ["l"]}))]);
    rig.insert(A, 1);
    assert_eq!(rig.stored(1).iter().map(what).collect::<Vec<_>>(), [(A, "transact")]);
}

#[test]
fn a_read_only_session_neither_writes_nor_locks() {
    const READER: SessionId = SessionId(3);
    let mut rig = Rig::new();
    let peer = Peer {
        read_only: true,
        ..Peer::default()
    };
    rig.event(Event::Opened { session: READER, peer });
    let sent = rig.insert(READER, 1);
    assert_eq!(sent[0].1["result"][0]["error"], "not allowed");
    for method in ["lock", "steal", "unlock"] {
        let sent = rig.call(READER, method, json!(["l"]));
        let refusal = "lock and unlock methods not allowed, DB server is read only.";
        assert_eq!(sent[0].1["error"], refusal, "{method}");
    }
    assert_eq!(rig.records.len(), 0);
    assert_eq!(
        rig.call(A, "lock", json!(["l"]))[0].1["result"],
        json!({"locked": true})
    );
}

#[test]
fn every_message_is_finished_once() {
    let mut rig = Rig::new();
    rig.insert(A, 1);
    rig.insert(A, 1);
    rig.call(A, "echo", json!([]));
    rig.call(A, "no such method", json!([]));
    rig.event(Event::Message {
        session: A,
        message: json!({"id": "echo", "result": []}),
        newline: false,
    });
    rig.stored(1);
    assert_eq!(rig.finished, 5);
    let sent = rig.event(Event::Message {
        session: A,
        message: json!({"id": 3, "result": []}),
        newline: false,
    });
    assert_eq!(sent[0].1["error"]["error"], "syntax error");
    assert_eq!((rig.finished, rig.closed), (6, vec![A]));
}
