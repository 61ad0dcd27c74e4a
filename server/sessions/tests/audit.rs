//! `_Nonnet`: commits as they are stored, the newest thousand of them, sessions, and what the logs are asked for.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a failed test panics"
)]

mod rig;

use std::collections::{BTreeSet, HashMap};

use nonnet_chain::StoredRecord;
use nonnet_sessions::limits::{
    ASKED_MAX, CHANGES_BYTES_MAX, FOUND_ROWS_MAX, LOOKUPS_PER_TRANSACTION_MAX, ROWS_NAMED_MAX, SESSIONS_INTERVAL_MS,
    WINDOW_BODIES_BYTES_MAX, WINDOW_RECORDS_MAX,
};
use nonnet_sessions::{CommitLookup, Event, Server, SessionId};
use rig::{A, B, Rig, what};
use serde_json::{Value, json};

fn audited() -> Rig {
    let mut rig = Rig::new();
    rig.server.serve_audit(true, rig.now).unwrap();
    rig
}

fn commit(rig: &mut Rig, n: i64) -> Vec<(SessionId, Value)> {
    rig.commit(json!({"op": "insert", "table": "t", "row": {"n": n}}))
}

/// The rows of a `select` that needs no answer from outside.
fn select(rig: &mut Rig, condition: Value, columns: Value) -> Vec<Value> {
    let operation = json!({"op": "select", "table": "Commit", "where": condition, "columns": columns, "sort": ["seq"]});
    let sent = rig.call(B, "transact", json!(["_Nonnet", operation]));
    sent[0].1["result"][0]["rows"]
        .as_array()
        .unwrap_or_else(|| panic!("{sent:?}"))
        .clone()
}

fn seqs(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["seq"].as_i64().unwrap()).collect()
}

/// Asks for a `select` of the logs; gives what is to be looked for.
fn ask(rig: &mut Rig, condition: Value) -> (u64, CommitLookup) {
    let operation = json!({"op": "select", "table": "Commit", "where": condition, "columns": ["seq"], "sort": ["seq"]});
    let sent = rig.call(A, "transact", json!(["_Nonnet", operation]));
    assert_eq!(sent, [], "{condition}");
    let (number, mut lookups) = rig.lookups.pop().unwrap();
    (number, lookups.pop().unwrap())
}

/// Lets a lookup look at all records, and gives the reply to it.
fn answer(rig: &mut Rig, (number, mut lookup): (u64, CommitLookup)) -> Value {
    for record in stored(rig) {
        lookup.look(&"db".into(), &record).unwrap();
    }
    let results = vec![lookup.finish()];
    let sent = rig.event(Event::Looked { number, results });
    sent[0].1["result"].clone()
}

fn stored(rig: &Rig) -> Vec<StoredRecord> {
    let record = |record: &nonnet_chain::Record| StoredRecord {
        seq: record.header.seq,
        hash: record.hash.0.to_vec(),
        header: record.header.encode().to_vec(),
        body: Some(record.body.to_vec()),
    };
    rig.records.iter().map(record).collect()
}

#[test]
fn a_commit_is_shown_once_it_is_stored_and_never_where_it_could_not_be() {
    let mut rig = audited();
    rig.insert(A, 1);
    assert_eq!(select(&mut rig, json!([]), json!(["seq"])), [] as [Value; 0]);
    rig.stored(1);
    rig.insert(A, 2);
    rig.unstored(2);
    assert_eq!(seqs(&select(&mut rig, json!([]), json!(["seq"]))), [1]);
    let sent = commit(&mut rig, 3);
    assert_eq!(what(&sent[0]), (A, "transact"));
    let rows = select(
        &mut rig,
        json!([]),
        json!(["seq", "_uuid", "hash", "changes", "n_rows", "cut", "tables"]),
    );
    let record = rig.records.last().unwrap();
    assert_eq!(rows[1]["hash"], json!(record.hash.to_string()));
    assert_eq!(rows[1]["_uuid"], json!(["uuid", rig.newest()]));
    assert_eq!(
        (&rows[1]["n_rows"], &rows[1]["cut"], &rows[1]["tables"]),
        (&json!(1), &json!(false), &json!("t"))
    );
    let changes: Value = serde_json::from_str(rows[1]["changes"].as_str().unwrap()).unwrap();
    assert_eq!(
        changes,
        json!([{"table": "t", "uuid": changes[0]["uuid"], "op": "insert", "columns": {
            "n": {"new": 3}, "set": {"new": ["set", []]}}}])
    );
}

#[test]
fn monitors_of_every_version_are_told_each_commit_once_and_what_leaves_the_window() {
    for (method, update) in [
        ("monitor", "update"),
        ("monitor_cond", "update2"),
        ("monitor_cond_since", "update3"),
    ] {
        let mut rig = audited();
        commit(&mut rig, 0);
        let mut params = json!(["_Nonnet", "m", {"Commit": {"columns": ["seq"]}}]);
        if method == "monitor_cond_since" {
            params
                .as_array_mut()
                .unwrap()
                .push(json!("00000000-0000-0000-0000-000000000000"));
        }
        rig.call(B, method, params);
        let (mut come, mut gone) = (BTreeSet::new(), 0);
        for n in 1..=WINDOW_RECORDS_MAX as i64 + 50 {
            let sent = commit(&mut rig, n);
            let told = sent.iter().filter(|sent| what(sent) == (B, update));
            for (_, message) in told {
                let rows = message["params"].as_array().unwrap().last().unwrap()["Commit"].clone();
                for row in rows.as_object().unwrap().values() {
                    match row["new"]["seq"].as_i64().or(row["insert"]["seq"].as_i64()) {
                        Some(seq) => assert!(come.insert(seq), "{seq} came twice"),
                        None => gone += 1,
                    }
                }
            }
        }
        assert_eq!(come, (2..=WINDOW_RECORDS_MAX as i64 + 51).collect(), "{method}");
        assert_eq!(gone, 51, "{method}");
        let shown = rig.server.database("_Nonnet").unwrap().table_named("Commit").unwrap().1;
        assert_eq!(shown.len(), WINDOW_RECORDS_MAX);
    }
}

#[test]
fn no_row_is_made_while_nobody_asks() {
    let mut rig = audited();
    for n in 0..10 {
        commit(&mut rig, n);
    }
    let rows = |server: &Server| {
        server
            .database("_Nonnet")
            .unwrap()
            .table_named("Commit")
            .unwrap()
            .1
            .len()
    };
    assert_eq!(rows(&rig.server), 0);
    assert_eq!(select(&mut rig, json!([]), json!(["seq"])).len(), 10);
    assert_eq!(rows(&rig.server), 10);
}

#[test]
fn the_file_tells_what_was_committed_before_the_server_began() {
    let mut before = audited();
    for n in 0..5 {
        commit(&mut before, n);
    }
    let mut rig = audited();
    for record in stored(&before) {
        rig.server.load_commit("db", &record);
    }
    assert_eq!(seqs(&select(&mut rig, json!([]), json!(["seq"]))), [1, 2, 3, 4, 5]);
}

#[test]
fn clauses_say_which_records_are_looked_at() {
    let mut rig = audited();
    for n in 0..20 {
        commit(&mut rig, n);
    }
    let check = |rig: &mut Rig, condition: Value, expected: std::ops::RangeInclusive<u64>| {
        let (number, lookup) = ask(rig, condition.clone());
        assert_eq!(lookup.seqs(), expected, "{condition}");
        assert_eq!(lookup.logs(), [("db".into(), 20)]);
        answer(rig, (number, lookup))
    };
    let found = check(&mut rig, json!([["seq", ">=", 3], ["seq", "<", 6]]), 3..=5);
    assert_eq!(found, json!([{"rows": [{"seq": 3}, {"seq": 4}, {"seq": 5}]}]));
    assert_eq!(
        check(&mut rig, json!([["seq", "==", 7]]), 7..=7),
        json!([{"rows": [{"seq": 7}]}])
    );
    assert_eq!(
        check(
            &mut rig,
            json!([["seq", "==", -1]]),
            std::ops::RangeInclusive::new(1, 0)
        ),
        json!([{"rows": []}])
    );
    assert_eq!(
        check(&mut rig, json!([["seq", ">", i64::MAX]]), i64::MAX as u64..=u64::MAX),
        json!([{"rows": []}])
    );
    check(&mut rig, json!([["tables", "includes", "t"]]), 0..=u64::MAX);
    let (_, lookup) = ask(&mut rig, json!([["time", ">", 5], ["time", "<=", 9]]));
    assert_eq!(lookup.times_us(), 6..=9);
    let (_, lookup) = ask(&mut rig, json!([["database", "==", "other"]]));
    assert_eq!(lookup.logs(), []);
    let newest = rig.newest();
    let (number, lookup) = ask(&mut rig, json!([["_uuid", "==", ["uuid", newest]]]));
    assert_eq!(lookup.hash(), Some(newest.replace('-', "").as_str()));
    assert_eq!(answer(&mut rig, (number, lookup)), json!([{"rows": [{"seq": 20}]}]));
    let row = rig
        .server
        .database("db")
        .unwrap()
        .table_named("t")
        .unwrap()
        .1
        .rows()
        .next()
        .unwrap()
        .uuid();
    let (number, lookup) = ask(&mut rig, json!([["rows", "includes", ["uuid", row.to_string()]]]));
    assert_eq!(lookup.row(), Some(row));
    let found = answer(&mut rig, (number, lookup));
    assert_eq!(found[0]["rows"].as_array().unwrap().len(), 1);
}

#[test]
fn a_row_is_found_in_a_commit_of_more_rows_than_are_named() {
    let mut rig = audited();
    let operations: Vec<Value> = (0..=ROWS_NAMED_MAX)
        .map(|n| json!({"op": "insert", "table": "t", "row": {"n": n}}))
        .collect();
    let mut params = vec![json!("db")];
    params.extend(operations);
    rig.call(A, "transact", Value::Array(params));
    rig.stored(1);
    let shown = select(&mut rig, json!([]), json!(["seq", "rows", "n_rows", "cut", "changes"]));
    assert_eq!(shown[0]["n_rows"], json!(ROWS_NAMED_MAX + 1));
    assert_eq!(shown[0]["rows"][1].as_array().unwrap().len(), ROWS_NAMED_MAX);
    assert_eq!(shown[0]["cut"], json!(true));
    let changes = shown[0]["changes"].as_str().unwrap();
    assert!(changes.len() <= CHANGES_BYTES_MAX);
    assert!(
        serde_json::from_str::<Value>(changes)
            .unwrap()
            .as_array()
            .unwrap()
            .len()
            > 10
    );
    let uuids: Vec<String> = {
        let rows = rig.server.database("db").unwrap().table_named("t").unwrap().1;
        rows.rows().map(|row| row.uuid().to_string()).collect()
    };
    for uuid in uuids {
        let asked = ask(&mut rig, json!([["rows", "includes", ["uuid", uuid]]]));
        assert_eq!(answer(&mut rig, asked), json!([{"rows": [{"seq": 1}]}]));
    }
}

#[test]
fn several_selects_of_a_transaction_are_answered_in_order() {
    let mut rig = audited();
    for n in 0..3 {
        commit(&mut rig, n);
    }
    let of = |seq: i64| json!({"op": "select", "table": "Commit", "where": [["seq", "==", seq]], "columns": ["seq"]});
    let all = json!({"op": "select", "table": "Commit", "where": [], "columns": ["seq"], "sort": ["seq"]});
    rig.call(A, "transact", json!(["_Nonnet", of(2), all, of(1)]));
    let (number, lookups) = rig.lookups.pop().unwrap();
    let records = stored(&rig);
    let results = lookups.into_iter().map(|mut lookup| {
        for record in &records {
            lookup.look(&"db".into(), record).unwrap();
        }
        lookup.finish()
    });
    let sent = rig.event(Event::Looked {
        number,
        results: results.collect(),
    });
    let all = json!([{"seq": 1}, {"seq": 2}, {"seq": 3}]);
    assert_eq!(
        sent[0].1["result"],
        json!([{"rows": [{"seq": 2}]}, {"rows": all}, {"rows": [{"seq": 1}]}])
    );
}

#[test]
fn what_one_select_finds_has_a_limit() {
    let mut rig = audited();
    commit(&mut rig, 0);
    let (_, mut lookup) = ask(&mut rig, json!([["seq", ">=", 0]]));
    let record = stored(&rig).remove(0);
    for _ in 0..FOUND_ROWS_MAX {
        lookup.look(&"db".into(), &record).unwrap();
    }
    let error = lookup.look(&"db".into(), &record).unwrap_err().to_string();
    assert!(error.contains("10000 commits"), "{error}");
}

#[test]
fn lookups_under_way_have_a_limit_and_end_with_their_session() {
    let mut rig = audited();
    let select = json!({"op": "select", "table": "Commit", "where": [["seq", "==", 1]]});
    let many = vec![select.clone(); LOOKUPS_PER_TRANSACTION_MAX + 1];
    let mut params = vec![json!("_Nonnet")];
    params.extend(many);
    let sent = rig.call(A, "transact", Value::Array(params));
    assert_eq!(sent[0].1["error"]["error"], "resources exhausted");
    for _ in 0..ASKED_MAX {
        assert_eq!(rig.call(A, "transact", json!(["_Nonnet", select])), []);
    }
    let sent = rig.call(A, "transact", json!(["_Nonnet", select]));
    assert_eq!(sent[0].1["error"]["error"], "resources exhausted");
    rig.event(Event::Closed { session: A });
    assert_eq!(rig.call(B, "transact", json!(["_Nonnet", select])), []);
    let (number, _) = rig.lookups.remove(0);
    assert_eq!(
        rig.event(Event::Looked {
            number,
            results: Vec::new()
        }),
        []
    );
}

#[test]
fn a_client_that_half_closes_gets_what_it_asked_the_logs_for() {
    let mut rig = audited();
    commit(&mut rig, 0);
    let asked = ask(&mut rig, json!([["seq", "==", 1]]));
    assert_eq!(rig.event(Event::HalfClosed { session: A }), []);
    assert_eq!(rig.closed, []);
    assert_eq!(answer(&mut rig, asked), json!([{"rows": [{"seq": 1}]}]));
    assert_eq!(rig.closed, [A]);
}

#[test]
fn large_bodies_leave_the_window_before_a_thousand_commits() {
    let mut rig = audited();
    let set: Vec<i64> = (0..100_000).map(|n| n << 40).collect();
    for n in 0..20 {
        rig.commit(json!({"op": "insert", "table": "t", "row": {"n": n, "set": ["set", set]}}));
    }
    let bytes: usize = rig.records.iter().rev().take(15).map(|record| record.body.len()).sum();
    let each = bytes / 15;
    let rows = select(&mut rig, json!([]), json!(["seq", "cut"]));
    assert_eq!(rows.len(), WINDOW_BODIES_BYTES_MAX / each);
    assert!(rows.iter().all(|row| row["cut"] == json!(true)));
}

#[test]
fn nothing_in_it_can_be_written() {
    let mut rig = audited();
    commit(&mut rig, 0);
    for operation in [
        json!({"op": "insert", "table": "Commit", "row": {}}),
        json!({"op": "delete", "table": "Commit", "where": []}),
        json!({"op": "update", "table": "Session", "where": [], "row": {"comm": "x"}}),
        json!({"op": "mutate", "table": "Commit", "where": [], "mutations": [["seq", "+=", 1]]}),
    ] {
        let mut sent = rig.call(A, "transact", json!(["_Nonnet", operation]));
        if sent.is_empty() {
            sent = rig.event(Event::Backlogs { bytes: HashMap::new() });
        }
        assert_eq!(sent[0].1["result"][0]["error"], "not allowed", "{operation}: {sent:?}");
    }
    let sent = rig.call(A, "convert", json!(["_Nonnet", {"name": "_Nonnet", "tables": {}}]));
    assert_eq!(sent[0].1["error"]["error"], "not allowed");
    assert_eq!(seqs(&select(&mut rig, json!([]), json!(["seq"]))), [1]);
}

#[test]
fn bad_conditions_are_the_errors_of_every_database() {
    let mut rig = audited();
    for condition in [
        json!([["seq", "==", "one"]]),
        json!([["nothing", "==", 1]]),
        json!([["rows", "<", 1]]),
        json!([[1]]),
    ] {
        let operation = json!({"op": "select", "table": "Commit", "where": condition});
        let sent = rig.call(A, "transact", json!(["_Nonnet", operation]));
        assert!(sent[0].1["result"][0]["error"].is_string(), "{condition}: {sent:?}");
    }
    assert_eq!(rig.lookups.len(), 0);
}

#[test]
fn a_wait_ends_with_the_commit_that_it_waits_for() {
    let mut rig = audited();
    let wait = json!({"op": "wait", "table": "Commit", "where": [["seq", "==", 1]], "columns": ["seq"], "until": "==",
        "rows": [{"seq": 1}]});
    assert_eq!(rig.call(B, "transact", json!(["_Nonnet", wait])), []);
    let sent = commit(&mut rig, 0);
    assert!(
        sent.iter().any(|sent| sent.0 == B && sent.1["result"] == json!([{}])),
        "{sent:?}"
    );
}

#[test]
fn sessions_are_shown_with_their_locks_monitors_and_backlogs_once_a_second() {
    let mut rig = audited();
    rig.call(A, "lock", json!(["here"]));
    let select = json!({"op": "select", "table": "Session", "where": [], "columns": ["id", "locks", "monitors", "backlog", "waiting"], "sort": ["id"]});
    assert_eq!(rig.call(B, "transact", json!(["_Nonnet", select])), []);
    assert_eq!(rig.backlog_reads, 1);
    let bytes = HashMap::from([(B, 77)]);
    let sent = rig.event(Event::Backlogs { bytes });
    assert_eq!(
        sent[0].1["result"][0]["rows"],
        json!([
            {"id": 1, "locks": "here", "monitors": 0, "backlog": 0, "waiting": 0},
            {"id": 2, "locks": ["set", []], "monitors": 0, "backlog": 77, "waiting": 0}
        ])
    );
    let sent = rig.call(
        B,
        "monitor",
        json!(["_Nonnet", "m", {"Session": {"columns": ["id", "locks", "backlog"]}}]),
    );
    assert_eq!(sent[0].1["result"]["Session"].as_object().unwrap().len(), 2);
    rig.call(A, "unlock", json!(["here"]));
    // Nobody is told at once.
    rig.now.monotonic_ms += SESSIONS_INTERVAL_MS;
    assert!(rig.server.deadline_ms().is_some_and(|due| due <= rig.now.monotonic_ms));
    assert_eq!(rig.event(Event::Tick), []);
    assert_eq!(rig.backlog_reads, 2);
    let sent = rig.event(Event::Backlogs {
        bytes: HashMap::from([(B, 77)]),
    });
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(
        rig.server.deadline_ms(),
        Some(rig.now.monotonic_ms + SESSIONS_INTERVAL_MS)
    );
    rig.call(B, "monitor_cancel", json!(["m"]));
    rig.now.monotonic_ms += SESSIONS_INTERVAL_MS;
    rig.event(Event::Tick);
    assert_eq!((rig.backlog_reads, rig.server.deadline_ms()), (2, None));
}

#[test]
fn it_is_served_though_it_is_not_listed() {
    let mut rig = Rig::new();
    rig.server.serve_audit(false, rig.now).unwrap();
    let listed = |rig: &mut Rig| rig.call(A, "list_dbs", json!([]))[0].1["result"].clone();
    assert_eq!(listed(&mut rig), json!(["db", "_Server"]));
    commit(&mut rig, 0);
    assert_eq!(seqs(&select(&mut rig, json!([]), json!(["seq"]))), [1]);
    assert_eq!(listed(&mut audited()), json!(["db", "_Nonnet", "_Server"]));
}

#[test]
fn the_commits_of_a_database_that_is_removed_go() {
    let mut rig = audited();
    commit(&mut rig, 0);
    assert_eq!(seqs(&select(&mut rig, json!([]), json!(["seq"]))), [1]);
    rig.server.remove_database("db", rig.now).unwrap();
    assert_eq!(select(&mut rig, json!([]), json!(["seq"])), [] as [Value; 0]);
}
