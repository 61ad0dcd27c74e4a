//! By chance: whoever comes back at any time, from any transaction, and is told what changed, then knows what one who starts anew knows.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a failed test panics"
)]

mod rig;

use std::collections::{BTreeMap, BTreeSet};

use nonnet_sessions::{Event, SessionId};
use rig::{A, B, Rig};
use serde_json::{Value, json};

const ZEROS: &str = "00000000-0000-0000-0000-000000000000";

/// Steps of one run, and returns after each.
const STEPS: usize = 600;
const RETURNS: usize = 2;

/// Steps between two times at which memory is made to forget.
const FORGET_EVERY: usize = 200;

/// Rows that are there to make memory forget.
const FORGETTING_ROWS: usize = 32;

/// What a client knows: the columns of each row, elements of the set apart.
#[derive(Clone, Debug, Default, PartialEq)]
struct Replica {
    id: String,
    rows: BTreeMap<String, (Value, BTreeSet<i64>, Value)>,
}

impl Replica {
    /// Applies `<table-updates2>` as the clients do, but forgives nothing.
    fn apply(&mut self, id: &Value, updates: &Value) {
        id.as_str().unwrap().clone_into(&mut self.id);
        for (uuid, update) in updates["t"].as_object().into_iter().flatten() {
            let (kind, columns) = update.as_object().unwrap().iter().next().unwrap();
            match kind.as_str() {
                "delete" => assert!(self.rows.remove(uuid).is_some(), "{uuid} was not there"),
                "modify" => change(self.rows.get_mut(uuid).unwrap(), columns),
                _ => {
                    let mut row = (json!(0), BTreeSet::new(), json!(["set", []]));
                    change(&mut row, columns);
                    assert!(self.rows.insert(uuid.clone(), row).is_none(), "{uuid} was there");
                }
            }
        }
    }
}

fn change((n, set, status): &mut (Value, BTreeSet<i64>, Value), columns: &Value) {
    for (column, datum) in columns.as_object().unwrap() {
        match column.as_str() {
            "n" => *n = datum.clone(),
            "status" => *status = datum.clone(),
            _ => {
                let single = [datum.clone()];
                for element in datum[1].as_array().map_or(&single[..], Vec::as_slice) {
                    let element = element.as_i64().unwrap();
                    if !set.remove(&element) {
                        set.insert(element);
                    }
                }
            }
        }
    }
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn operation(chance: &mut Chance) -> Value {
    let condition = json!([["n", "==", chance.below(30)]]);
    let elements: Vec<u64> = (0..chance.below(60)).map(|_| chance.below(90)).collect();
    let elements: BTreeSet<u64> = elements.into_iter().collect();
    let set = json!(["set", elements]);
    let status = json!(["up", "down", ["set", []]])[chance.below(3) as usize].clone();
    match chance.below(8) {
        0 | 1 => {
            json!({"op": "insert", "table": "t", "row": {"n": chance.below(30), "set": set, "status": status}})
        }
        2 => json!({"op": "delete", "table": "t", "where": condition}),
        3 => json!({"op": "update", "table": "t", "where": condition, "row": {"n": chance.below(30)}}),
        4 | 5 => json!({"op": "update", "table": "t", "where": condition, "row": {"status": status}}),
        6 => json!({"op": "update", "table": "t", "where": condition, "row": {"set": set, "status": status}}),
        _ => json!({"op": "mutate", "table": "t", "where": condition,
            "mutations": [["set", "insert", chance.below(90)], ["set", "delete", chance.below(90)]]}),
    }
}

/// Starts or resumes a monitor; gives what was found, and the reply's parts.
fn monitor(rig: &mut Rig, session: SessionId, request: &Value, id: &str) -> (bool, Value, Value) {
    let mut sent = rig.call(session, "monitor_cond_since", json!(["db", "m", request, id]));
    if sent.is_empty() {
        sent = rig.log_answers();
    }
    let result = &sent[0].1["result"];
    (result[0] == true, result[1].clone(), result[2].clone())
}

fn play(seed: u64, request: &Value) -> [usize; 2] {
    let (mut rig, mut chance) = (Rig::new(), Chance(seed));
    let (mut live, mut saved, mut found_counts) = (Replica::default(), Vec::<Replica>::new(), [0; 2]);
    // The process began with a record that says nothing of what is not stored.
    for n in 0..FORGETTING_ROWS {
        rig.commit(json!({"op": "insert", "table": "t", "row": {"n": 5_000 + n}}));
    }
    let (_, id, initial) = monitor(&mut rig, B, request, ZEROS);
    live.apply(&id, &initial);
    for step in 0..STEPS {
        let operation = operation(&mut chance);
        for (session, message) in rig.commit(operation) {
            if session == B {
                live.apply(&message["params"][1], &message["params"][2]);
            }
        }
        if step % FORGET_EVERY == FORGET_EVERY - 1 {
            rig.event(Event::Closed { session: B });
            forget(&mut rig);
            let peer = nonnet_sessions::Peer::default();
            rig.event(Event::Opened { session: B, peer });
            live = Replica::default();
            let (_, id, initial) = monitor(&mut rig, B, request, ZEROS);
            live.apply(&id, &initial);
        }
        if chance.below(4) == 0 {
            saved.push(live.clone());
        }
        for _ in 0..RETURNS.min(saved.len()) {
            let mut back = saved[chance.below(saved.len() as u64) as usize].clone();
            let (found, id, updates) = monitor(&mut rig, A, request, &back.id);
            if !found {
                back.rows.clear();
            }
            back.apply(&id, &updates);
            rig.call(A, "monitor_cancel", json!(["m"]));
            found_counts[usize::from(found)] += 1;
            assert_eq!(back.rows, live.rows, "seed {seed}, step {step}");
        }
    }
    found_counts
}

/// Changes of more rows than memory keeps, none of which is in the log.
fn forget(rig: &mut Rig) {
    for at in 0..=nonnet_sessions::limits::RECENT_ROWS_MAX / FORGETTING_ROWS {
        let status = at.to_string();
        rig.commit(json!({"op": "update", "table": "t", "where": [["n", ">=", 5_000]], "row": {"status": status}}));
    }
}

#[test]
fn whoever_comes_back_knows_what_one_who_starts_anew_knows() {
    let columns = json!(["n", "set", "status"]);
    let requests = [
        json!({"t": [{"columns": columns}]}),
        json!({"t": [{"columns": columns, "where": [["n", "<", 12], ["set", "includes", 7]]}]}),
        json!({"t": [{"columns": columns, "where": [["status", "==", "up"], ["n", "<", 4]]}]}),
    ];
    for (seed, request) in requests.iter().enumerate() {
        let [anew, found] = play(seed as u64 + 1, request);
        println!("{request}: {found} were told what changed, {anew} everything");
        assert!(found > STEPS / 4, "{request}: {found} of {}", anew + found);
    }
}
