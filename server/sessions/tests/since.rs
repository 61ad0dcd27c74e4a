//! Monitors that come back (`monitor_cond_since`) and that change their conditions (`monitor_cond_change`).
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
use serde_json::{Value, json};

const ZEROS: &str = "00000000-0000-0000-0000-000000000000";

/// A request to monitor rows of `t` from a transaction on; gives the result.
fn since(rig: &mut Rig, requests: Value, last: &str) -> Value {
    let sent = rig.call(B, "monitor_cond_since", json!(["db", "m", {"t": requests}, last]));
    let [(B, reply)] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    rig.call(B, "monitor_cancel", json!(["m"]));
    reply["result"].clone()
}

/// The same where the log has to be read.
fn since_logged(rig: &mut Rig, requests: Value, last: &str) -> Value {
    let sent = rig.call(B, "monitor_cond_since", json!(["db", "m", {"t": requests}, last]));
    assert_eq!(sent, []);
    let sent = rig.log_answers();
    rig.call(B, "monitor_cancel", json!(["m"]));
    sent[0].1["result"].clone()
}

fn insert(rig: &mut Rig, row: Value) -> String {
    let sent = rig.commit(json!({"op": "insert", "table": "t", "row": row}));
    let (_, reply) = sent.iter().find(|sent| what(sent) == (A, "transact")).unwrap();
    reply["result"][0]["uuid"][1].as_str().unwrap().to_owned()
}

fn update(rig: &mut Rig, n: i64, row: Value) -> Vec<(SessionId, Value)> {
    rig.commit(json!({"op": "update", "table": "t", "where": [["n", "==", n]], "row": row}))
}

fn delete(rig: &mut Rig, n: i64) {
    rig.commit(json!({"op": "delete", "table": "t", "where": [["n", "==", n]]}));
}

/// More commits than memory keeps.
fn forget(rig: &mut Rig) {
    let sets = [json!(["set", [1, 2, 3]]), json!(["set", []])];
    for at in 0..=nonnet_sessions::limits::RECENT_ROWS_MAX {
        update(rig, 1_000, json!({"set": sets[at % 2]}));
    }
}

#[test]
fn an_update_bears_the_id_of_its_record_and_a_known_id_gets_what_changed_since() {
    let mut rig = Rig::new();
    let one = insert(&mut rig, json!({"n": 1}));
    let id_one = rig.newest();
    let requests = json!([{"columns": ["n", "set"]}]);
    let sent = rig.call(B, "monitor_cond_since", json!(["db", "m", {"t": &requests}, ZEROS]));
    let initial = json!({"t": {&one: {"initial": {"n": 1}}}});
    assert_eq!(sent[0].1["result"], json!([false, &id_one, initial]));
    let sent = rig.commit(json!({"op": "insert", "table": "t", "row": {"n": 2}}));
    let (_, notice) = sent.iter().find(|sent| what(sent) == (B, "update3")).unwrap();
    assert_eq!(notice["params"][1], json!(rig.newest()));
    rig.call(B, "monitor_cancel", json!(["m"]));
    let id_two = rig.newest();
    update(&mut rig, 1, json!({"set": ["set", [4, 5]]}));
    delete(&mut rig, 2);
    let three = insert(&mut rig, json!({"n": 3}));
    let newest = rig.newest();
    let result = since(&mut rig, requests.clone(), &id_two);
    let updates = result[2]["t"].as_object().unwrap();
    assert_eq!(
        (&result[0], &result[1], updates.len()),
        (&json!(true), &json!(newest), 3)
    );
    assert_eq!(updates[&one], json!({"modify": {"set": ["set", [4, 5]]}}));
    assert_eq!(updates[&three], json!({"insert": {"n": 3}}));
    assert!(updates.values().any(|update| *update == json!({"delete": null})));
    assert_eq!(since(&mut rig, requests.clone(), &newest), json!([true, newest, {}]));
    // Row 2 came and went: for who was away all the time it was never there.
    let result = since(&mut rig, requests, &id_one);
    assert_eq!(result[2]["t"].as_object().unwrap().len(), 2);
}

#[test]
fn conditions_apply_to_the_rows_as_they_were_and_as_they_are() {
    let mut rig = Rig::new();
    let rows: Vec<String> = (1..=4).map(|n| insert(&mut rig, json!({"n": n}))).collect();
    insert(&mut rig, json!({"n": 1_000}));
    let id = rig.newest();
    update(&mut rig, 1, json!({"n": 11}));
    update(&mut rig, 2, json!({"n": -2}));
    update(&mut rig, 3, json!({"set": 7}));
    let requests = json!([{"columns": ["n", "set"], "where": [["n", "<", 3], ["n", "==", 3]]}]);
    let expected = json!({"t": {
        &rows[0]: {"delete": null},
        &rows[1]: {"modify": {"n": -2}},
        &rows[2]: {"modify": {"set": 7}}}});
    let result = since(&mut rig, requests.clone(), &id);
    assert_eq!((&result[0], &result[2]), (&json!(true), &expected));
    forget(&mut rig);
    let result = since_logged(&mut rig, requests, &id);
    assert_eq!((&result[0], &result[2]), (&json!(true), &expected));
}

#[test]
fn an_old_id_is_looked_up_in_the_log_and_what_happens_meanwhile_is_told_once() {
    let mut rig = Rig::new();
    let one = insert(&mut rig, json!({"n": 1, "set": ["set", [1, 2, 3]]}));
    let id = rig.newest();
    insert(&mut rig, json!({"n": 1_000}));
    update(&mut rig, 1, json!({"set": ["set", [2, 3, 4]]}));
    forget(&mut rig);
    let requests = json!({"t": [{"columns": ["n", "set"], "where": [["n", "<", 1_000]]}]});
    let sent = rig.call(B, "monitor_cond_since", json!(["db", "m", requests, &id]));
    assert_eq!((sent, rig.reads.len()), (vec![], 1));
    // A commit that the read of the log sees, one that it does not, and one after the answer.
    let two = insert(&mut rig, json!({"n": 2}));
    let read = rig.reads.remove(0);
    let logged = rig.logged(read);
    let three = insert(&mut rig, json!({"n": 3}));
    update(&mut rig, 2, json!({"set": 9}));
    let database = "db".into();
    let id = read;
    let sent = rig.event(Event::Since { database, id, logged });
    let expected = json!({"t": {
        &one: {"modify": {"set": ["set", [1, 4]]}},
        &two: {"insert": {"n": 2, "set": 9}},
        &three: {"insert": {"n": 3}}}});
    assert_eq!(sent[0].1["result"], json!([true, rig.newest(), expected]));
    let sent = update(&mut rig, 3, json!({"set": 5}));
    let (_, notice) = sent.iter().find(|sent| what(sent) == (B, "update3")).unwrap();
    assert_eq!(
        notice["params"],
        json!(["m", rig.newest(), {"t": {&three: {"modify": {"set": 5}}}}])
    );
}

#[test]
fn an_unknown_id_gets_everything_and_a_cancelled_request_is_answered() {
    let mut rig = Rig::new();
    let one = insert(&mut rig, json!({"n": 1}));
    let requests = json!([{"columns": ["n"]}]);
    let unknown = "12345678-1234-1234-1234-123456789abc";
    let expected = json!([false, rig.newest(), {"t": {&one: {"initial": {"n": 1}}}}]);
    assert_eq!(since_logged(&mut rig, requests.clone(), unknown), expected);
    let params = json!(["db", "m", {"t": requests}, unknown]);
    assert_eq!(rig.call(B, "monitor_cond_since", params.clone()), []);
    rig.call(B, "monitor_cancel", json!(["m"]));
    let sent = rig.log_answers();
    assert_eq!(sent[0].1["error"], "canceled");
    // Whoever wants other rows before it has any gets everything first.
    assert_eq!(rig.call(B, "monitor_cond_since", params), []);
    let sent = rig.call(B, "monitor_cond_change", json!(["m", "m", {}]));
    assert_eq!(
        sent.iter().map(what).collect::<Vec<_>>(),
        [(B, "monitor_cond_since"), (B, "monitor_cond_change")]
    );
    assert_eq!(sent[0].1["result"], expected);
    assert_eq!(rig.log_answers(), []);
}

#[test]
fn what_is_ephemeral_is_told_to_who_may_have_missed_it() {
    let mut rig = Rig::new();
    let one = insert(&mut rig, json!({"n": 1, "status": "new"}));
    insert(&mut rig, json!({"n": 2, "status": "new"}));
    insert(&mut rig, json!({"n": 1_000}));
    let id = rig.newest();
    let records = rig.records.len();
    let requests = json!([{"columns": ["n", "status"], "where": [["n", "<", 1_000]]}]);
    rig.call(B, "monitor_cond_since", json!(["db", "e", {"t": &requests}, &id]));
    let sent = update(&mut rig, 1, json!({"status": "up"}));
    let (_, notice) = sent.iter().find(|sent| what(sent) == (B, "update3")).unwrap();
    assert_eq!((&notice["params"][1], rig.records.len()), (&json!(id), records));
    let expected = json!({"t": {&one: {"modify": {"status": "up"}}}});
    assert_eq!(since(&mut rig, requests.clone(), &id), json!([true, id, expected]));
    // Who does not look at it hears nothing.
    assert_eq!(since(&mut rig, json!([{"columns": ["n"]}]), &id), json!([true, id, {}]));
    forget(&mut rig);
    let result = since_logged(&mut rig, requests, &id);
    assert_eq!(result, json!([true, rig.newest(), expected]));
}

#[test]
fn ids_are_zeros_where_there_is_no_chain_and_wrong_ones_are_refused() {
    let mut rig = Rig::new();
    let requests = json!({"Database": [{"columns": ["name"]}]});
    let some = "12345678-1234-1234-1234-123456789abc";
    let sent = rig.call(B, "monitor_cond_since", json!(["_Server", "s", requests, some]));
    assert_eq!(
        (&sent[0].1["result"][0], &sent[0].1["result"][1]),
        (&json!(false), &json!(ZEROS))
    );
    for (params, details) in [
        (json!(["db", "m", {}]), "invalid parameters"),
        (json!(["db", "m", {}, ZEROS, 1]), "invalid parameters"),
        (json!(["db", "m", {}, 1]), "last-txn-id must be string"),
        (json!(["db", "m", {}, "1"]), "last-txn-id must be UUID format."),
    ] {
        let sent = rig.call(B, "monitor_cond_since", params);
        assert_eq!(sent[0].1["error"]["details"], details);
    }
}

#[test]
fn a_slow_session_gets_one_update3_with_the_newest_id() {
    let mut rig = Rig::new();
    rig.call(
        B,
        "monitor_cond_since",
        json!(["db", "m", {"t": {"columns": ["n"]}}, ZEROS]),
    );
    rig.event(Event::Congested { session: B });
    for n in 0..20 {
        insert(&mut rig, json!({"n": n}));
    }
    let sent = rig.event(Event::Drained { session: B });
    assert_eq!(sent.iter().map(what).collect::<Vec<_>>(), [(B, "update3")]);
    assert_eq!(sent[0].1["params"][1], json!(rig.newest()));
    assert_eq!(sent[0].1["params"][2]["t"].as_object().unwrap().len(), 20);
}

#[test]
fn what_was_undone_is_not_remembered() {
    let mut rig = Rig::new();
    let requests = json!([{"columns": ["n"]}]);
    insert(&mut rig, json!({"n": 1}));
    let id = rig.newest();
    rig.insert(A, 2);
    rig.unstored(2);
    assert_eq!(since(&mut rig, requests.clone(), &id), json!([true, &id, {}]));
    let three = insert(&mut rig, json!({"n": 3}));
    let expected = json!({"t": {&three: {"insert": {"n": 3}}}});
    assert_eq!(since(&mut rig, requests, &id), json!([true, rig.newest(), expected]));
}

#[test]
fn a_changed_condition_tells_the_rows_that_come_and_go() {
    let mut rig = Rig::new();
    let rows: Vec<String> = (1..=3).map(|n| insert(&mut rig, json!({"n": n}))).collect();
    let request = |condition: Value| json!({"t": [{"columns": ["n"], "where": condition}]});
    let first = request(json!([["n", "<", 3]]));
    rig.call(B, "monitor_cond", json!(["db", "m", &first]));
    rig.call(A, "monitor_cond_since", json!(["db", "a", &first, ZEROS]));
    // Congested: what it missed comes first, as the old condition says.
    rig.event(Event::Congested { session: B });
    update(&mut rig, 1, json!({"n": -1}));
    let changes = json!({"t": [{"where": [["n", ">", 1]]}]});
    let sent = rig.call(B, "monitor_cond_change", json!(["m", "new", changes]));
    let updates: Vec<_> = sent.iter().map(|(_, message)| &message["params"]).collect();
    assert_eq!(*updates[0], json!(["m", {"t": {&rows[0]: {"modify": {"n": -1}}}}]));
    assert_eq!(
        *updates[1],
        json!(["new", {"t": {&rows[0]: {"delete": null}, &rows[2]: {"insert": {"n": 3}}}}])
    );
    assert_eq!(sent[2].1["result"], json!({}));
    rig.event(Event::Drained { session: B });
    let sent = rig.call(A, "monitor_cond_change", json!(["a", "a", changes]));
    assert_eq!(sent[0].1["params"][1], json!(rig.newest()));
    assert_eq!(what(&sent[1]), (A, "monitor_cond_change"));
    let sent = update(&mut rig, 2, json!({"n": 7}));
    let mut told: Vec<_> = sent.iter().map(what).collect();
    told.sort_unstable();
    assert_eq!(told, [(A, "transact"), (A, "update3"), (B, "update2")]);
    // An entry without a condition leaves it, a table that is not named too; [] is every row.
    for changes in [json!({"t": [{}]}), json!({"t": []}), json!({})] {
        assert_eq!(
            rig.call(B, "monitor_cond_change", json!(["new", "new", changes])).len(),
            1
        );
    }
    let sent = rig.call(B, "monitor_cond_change", json!(["new", "new", {"t": [{"where": []}]}]));
    assert_eq!(sent[0].1["params"][1], json!({"t": {&rows[0]: {"insert": {"n": -1}}}}));
}

#[test]
fn a_plain_monitor_only_changes_its_name() {
    let mut rig = Rig::new();
    insert(&mut rig, json!({"n": 1}));
    rig.call(B, "monitor", json!(["db", "m", {"t": {"columns": ["n"]}}]));
    let changes = json!({"t": [{"where": [false]}]});
    let sent = rig.call(B, "monitor_cond_change", json!(["m", "other", changes]));
    assert_eq!(sent.iter().map(what).collect::<Vec<_>>(), [(B, "monitor_cond_change")]);
    let sent = update(&mut rig, 1, json!({"n": 2}));
    let (_, notice) = sent.iter().find(|sent| what(sent) == (B, "update")).unwrap();
    assert_eq!(notice["params"][0], "other");
}

#[test]
fn a_half_closed_session_is_answered_before_it_ends() {
    const C: SessionId = SessionId(3);
    let mut rig = Rig::new();
    rig.event(Event::Opened {
        session: C,
        peer: Peer::default(),
    });
    let unknown = "12345678-1234-1234-1234-123456789abc";
    rig.call(C, "monitor_cond_since", json!(["db", "m", {"t": {}}, unknown]));
    rig.event(Event::HalfClosed { session: C });
    assert_eq!(rig.closed, []);
    assert_eq!(
        rig.log_answers().iter().map(what).collect::<Vec<_>>(),
        [(C, "monitor_cond_since")]
    );
    assert_eq!(rig.closed, [C]);
}
