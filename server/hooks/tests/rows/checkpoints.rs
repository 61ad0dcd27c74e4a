//! Checkpoints over the rows: any changes and a rollback give the rows of before.

use std::collections::BTreeMap;
use std::sync::Arc;

use nonnet_engine::Database;
use nonnet_hooks::checkpoint::{Before, Checkpoints, Step, Time};
use nonnet_hooks::limits::CHECKPOINTS_OPEN_MAX;
use nonnet_hooks::object::{Object, Owner};
use nonnet_hooks::reconcile::Desired;
use nonnet_schema::TableIndex;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{Host, container, insert, named, objects, port};

const AT: Time = Time {
    monotonic_ms: 1_000,
    time_ms: 1_000,
};

fn checkpoint(name: &str, timeout: u64) -> Value {
    insert("checkpoints", &json!({"name": name, "timeout": timeout}))
}

/// All persistent columns of all rows but those of checkpoints, as text.
fn stored(database: &Database) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for (at, schema) in database.schema().tables().iter().enumerate() {
        let persistent = || schema.declared_columns().filter(|(_, column)| column.persistent);
        if schema.name == "checkpoints" || schema.name == "events" {
            continue;
        }
        for row in database.table(TableIndex(at)).rows() {
            let fields = persistent().map(|(at, column)| format!("{} {:?}", column.name, row.get(at)));
            all.insert(format!("{} {}", schema.name, row.uuid()), fields.collect());
        }
    }
    all
}

#[derive(Clone, Debug)]
enum Edit {
    Port { name: u8, mtu: u32 },
    Container { id: u8 },
    Mtu { mtu: u32 },
    DropPort { name: u8 },
    DropContainer { id: u8 },
    Network { number: u8 },
    DropNetwork { number: u8 },
    Note { text: u8 },
}

impl Edit {
    fn operations(&self) -> Value {
        let by = |column: &str, value: String| json!([[column, "==", value]]);
        match self {
            Self::Port { name, mtu } => json!([port(&format!("p{name}"), &json!({"mtu": mtu}))]),
            Self::Container { id } => json!([container(
                &format!("10{id}"),
                "br0",
                &[("ipv4", &format!("10.9.0.{id}/24"))]
            )]),
            Self::Mtu { mtu } => json!([{"op": "update", "table": "bridges", "where": [], "row": {"mtu": mtu}}]),
            Self::DropPort { name } => {
                json!([{"op": "delete", "table": "ports", "where": by("name", format!("p{name}"))}])
            }
            Self::DropContainer { id } => {
                json!([{"op": "delete", "table": "lxc", "where": by("id", format!("10{id}"))}])
            }
            Self::Network { number } => {
                let bridge = insert("bridges", &json!({"name": format!("nb{number}")}));
                let row = json!({"name": format!("net{number}"), "bridge": named("bridges", &format!("nb{number}")),
                    "subnets": ["map", [[format!("10.{}.0.0/24", 100 + number), format!("10.{}.0.1", 100 + number)]]]});
                json!([bridge, insert("networks", &row)])
            }
            Self::DropNetwork { number } => json!([
                {"op": "delete", "table": "networks", "where": by("name", format!("net{number}"))},
                {"op": "delete", "table": "bridges", "where": by("name", format!("nb{number}"))}]),
            Self::Note { text } => json!([
                {"op": "update", "table": "host", "where": [], "row": {"external_ids": ["map", [["note", format!("{text}")]]]}}]),
        }
    }
}

fn step() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0_u8..4, 1300_u32..1303).prop_map(|(name, mtu)| Edit::Port { name, mtu }),
        (2_u8..5).prop_map(|id| Edit::Container { id }),
        (1300_u32..1303).prop_map(|mtu| Edit::Mtu { mtu }),
        (0_u8..4).prop_map(|name| Edit::DropPort { name }),
        (2_u8..5).prop_map(|id| Edit::DropContainer { id }),
        (0_u8..3).prop_map(|number| Edit::Network { number }),
        (0_u8..3).prop_map(|number| Edit::DropNetwork { number }),
        (0_u8..9).prop_map(|text| Edit::Note { text }),
    ]
}

/// Runs operations, whether they are committed or not; tells the checkpoints of them.
fn run(host: &mut Host, checkpoints: &mut Checkpoints, operations: &Value, sequence: &mut u64) {
    let (_, changes) = host.run(operations);
    if let Some(changes) = changes.filter(|changes| !changes.is_empty()) {
        *sequence += 1;
        checkpoints.changed(&host.database, &[(Arc::new(changes), *sequence)], AT.monotonic_ms);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_changes_and_a_rollback_give_the_rows_of_before(
        first in prop::collection::vec(step(), 0..12),
        later in prop::collection::vec(step(), 0..24),
    ) {
        let mut host = Host::new();
        let mut sequence = 1;
        let mut checkpoints = Checkpoints::new(&host.tables, 0, true);
        for step in &first {
            run(&mut host, &mut checkpoints, &step.operations(), &mut sequence);
        }
        let before = stored(&host.database);
        // The transaction that opens it belongs to it.
        let operations = json!([checkpoint("c", 5), insert("bridges", &json!({"name": "more0"}))]);
        run(&mut host, &mut checkpoints, &operations, &mut sequence);
        for step in &later {
            run(&mut host, &mut checkpoints, &step.operations(), &mut sequence);
        }
        prop_assert_eq!(checkpoints.next(AT), Some(Step::Tell));
        let told = host.write(|_, transaction| checkpoints.tell(transaction, AT));
        prop_assert!(!told.is_persistent(host.database.schema()));
        prop_assert_eq!(checkpoints.next(AT), None);
        let due = Time { monotonic_ms: 6_000, time_ms: 6_000 };
        prop_assert_eq!(checkpoints.deadline_ms(), Some(6_000));
        let Some(Step::RollBack { checkpoint, reason, .. }) = checkpoints.next(due) else {
            panic!("{:?}", checkpoints.next(due));
        };
        prop_assert_eq!(reason.as_str(), "not confirmed within 5 s");
        let changes = host.write(|_, transaction| checkpoints.roll_back(checkpoint, transaction));
        prop_assert_eq!(stored(&host.database), before);
        checkpoints.changed(&host.database, &[(Arc::new(changes), sequence + 1)], 6_000);
        prop_assert_eq!(checkpoints.next(due), None);
        let row = host.only("checkpoints", &["state"]);
        prop_assert_eq!(&row["state"], "rolled_back");
    }
}

#[test]
fn a_checkpoint_knows_the_rows_before_it_when_several_commits_come_at_once() {
    let mut host = Host::new();
    let mut checkpoints = Checkpoints::new(&host.tables, 0, true);
    let before = stored(&host.database);
    let first = host
        .run(&json!([checkpoint("c", 1), insert("bridges", &json!({"name": "br0"}))]))
        .1
        .unwrap();
    let second = host
        .run(&json!([{"op": "update", "table": "bridges", "where": [], "row": {"mtu": 1400}}]))
        .1
        .unwrap();
    checkpoints.changed(&host.database, &[(Arc::new(first), 2), (Arc::new(second), 3)], 0);
    host.write(|_, transaction| checkpoints.tell(transaction, AT));
    let Some(Step::RollBack { checkpoint, base, .. }) = checkpoints.next(AT) else {
        panic!("{:?}", checkpoints.next(AT));
    };
    assert_eq!(base, 1);
    host.write(|_, transaction| checkpoints.roll_back(checkpoint, transaction));
    assert_eq!(stored(&host.database), before);
}

#[test]
fn a_rollback_that_was_not_stored_is_tried_again_later() {
    let mut host = Host::new();
    let mut checkpoints = Checkpoints::new(&host.tables, 0, true);
    let opened = host
        .run(&json!([checkpoint("c", 1), insert("bridges", &json!({"name": "br0"}))]))
        .1
        .unwrap();
    checkpoints.changed(&host.database, &[(Arc::new(opened), 2)], 0);
    host.write(|_, transaction| checkpoints.tell(transaction, AT));
    let Some(Step::RollBack { checkpoint, .. }) = checkpoints.next(AT) else {
        panic!("{:?}", checkpoints.next(AT));
    };
    let changes = host.write(|_, transaction| checkpoints.roll_back(checkpoint, transaction));
    checkpoints.changed(&host.database, &[(Arc::new(changes.clone()), 3)], AT.monotonic_ms);
    assert_eq!(checkpoints.next(AT), None);
    let inverse = Arc::new(changes.inverse());
    host.database.apply(&inverse);
    checkpoints.changed(&host.database, &[(inverse, 2)], AT.monotonic_ms);
    assert_eq!(checkpoints.next(AT), None);
    let later = Time {
        monotonic_ms: checkpoints.deadline_ms().unwrap(),
        ..AT
    };
    assert!(later.monotonic_ms > AT.monotonic_ms);
    assert!(matches!(checkpoints.next(later), Some(Step::RollBack { .. })));
}

#[test]
fn a_checkpoint_of_before_the_start_waits_for_the_log() {
    let mut host = Host::new();
    host.commit(&json!([insert("bridges", &json!({"name": "br0"}))]));
    let before = host.database.clone();
    host.commit(&json!([checkpoint("c", 60), {"op": "update", "table": "bridges", "where": [], "row": {"mtu": 1400}}]));
    let mut checkpoints = Checkpoints::new(&host.tables, 3, true);
    let left = checkpoints.left_open(&host.database);
    let [(uuid, 2)] = left.as_slice() else {
        panic!("{left:?}")
    };
    checkpoints.resume(&host.database, *uuid, 70_000, Before::Unknown, 1_000);
    host.write(|_, transaction| checkpoints.tell(transaction, AT));
    assert_eq!(
        checkpoints.next(AT),
        Some(Step::Read {
            checkpoint: *uuid,
            base: 2
        })
    );
    checkpoints.reading(*uuid);
    assert_eq!(checkpoints.next(AT), None);
    checkpoints.learn(*uuid, Before::Known(Box::new(before.clone())));
    assert!(matches!(checkpoints.next(AT), Some(Step::RollBack { .. })));
    host.write(|_, transaction| checkpoints.roll_back(*uuid, transaction));
    assert_eq!(stored(&host.database), stored(&before));
}

#[test]
fn only_so_many_checkpoints_are_open() {
    let mut host = Host::new();
    let many: Vec<Value> = (0..CHECKPOINTS_OPEN_MAX)
        .map(|at| checkpoint(&format!("c{at}"), 5))
        .collect();
    host.commit(&json!(many));
    let details = host.refuse(&json!([checkpoint("more", 5)]));
    assert!(details.contains("at most 16"), "{details}");
    host.commit(&json!([checkpoint("mark", 0)]));
}

/// The trial that is open and how many were rolled back, as the uplink of the only bridge among these rows knows them.
fn moving(desired: &[(Owner, Desired)]) -> Option<(bool, usize)> {
    objects(desired, "bridges").into_iter().find_map(|object| match object {
        Object::Port(port) => Some((port.moving.open.is_some(), port.moving.rolled_back.len())),
        _ => None,
    })
}

#[test]
fn uplinks_hear_of_checkpoints_that_are_rolled_back_by_themselves() {
    let mut host = Host::new();
    let bridge = insert("bridges", &json!({"name": "up0", "uplinks": "eth0"}));
    assert_eq!(moving(&host.commit(&json!([bridge]))), Some((false, 0)));
    // Nobody must confirm what is all or nothing: it saves nobody who has lost the way.
    let all = insert(
        "checkpoints",
        &json!({"name": "all", "timeout": 0, "on_error": "rollback"}),
    );
    assert_eq!(moving(&host.commit(&json!([all]))), None);
    assert_eq!(moving(&host.commit(&json!([checkpoint("try", 60)]))), Some((true, 0)));
    assert_eq!(moving(&host.commit(&json!([port("p1", &json!({}))]))), None);
    let confirm =
        json!([{"op": "update", "table": "checkpoints", "where": [["name", "==", "try"]], "row": {"confirmed": true}}]);
    assert_eq!(moving(&host.commit(&confirm)), Some((false, 0)));
}
