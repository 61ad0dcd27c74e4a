//! Change sets undo what they did: rows, unique indexes and references are as before, however long the history.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed test panics")]

use std::sync::Arc;

use nonnet_engine::{Commit, Context, Database, Entropy, OperationResult, Outcome, execute, write_results};
use nonnet_schema::{DatabaseSchema, TableIndex};
use proptest::prelude::*;
use serde_json::{Value, json};

const SCHEMA: &str = r#"{"name": "zoo", "tables": {
    "cages": {"isRoot": true, "indexes": [["name"]], "columns": {
        "name": {"type": "string"},
        "animals": {"type": {"key": {"type": "uuid", "refTable": "animals"}, "min": 0, "max": "unlimited"}},
        "seen": {"type": {"key": {"type": "uuid", "refTable": "animals", "refType": "weak"}, "min": 0, "max": "unlimited"}}}},
    "animals": {"columns": {"name": {"type": "string"}}}}}"#;

fn database() -> Database {
    Database::new(Arc::new(DatabaseSchema::from_text(SCHEMA).unwrap()), 7)
}

fn run(database: &Database, operations: &[Value], entropy: &mut Entropy) -> Option<Commit> {
    let context = Context {
        elapsed_ms: 0,
        read_only: false,
        access: nonnet_engine::Access::default(),
        owns_lock: &|_| false,
        sequence: 1,
        hook: None,
    };
    match execute(database, operations, &context, entropy) {
        Outcome::Committed(commit) => Some(commit),
        Outcome::Failed(_) | Outcome::Blocked { .. } => None,
    }
}

/// All rows with all fields, and whether each row can be found by its index.
fn state(database: &Database) -> Vec<String> {
    let mut rows = Vec::new();
    for (at, schema) in database.schema().tables().iter().enumerate() {
        let table = database.table(TableIndex(at));
        for row in table.rows() {
            let found = schema.indexes.iter().enumerate().all(|(index, columns)| {
                let key: Vec<_> = columns.iter().map(|column| row.get(*column).clone()).collect();
                table.row_by_index(index, &key) == Some(row)
            });
            rows.push(format!("{} {found} {:?}", schema.name, row.fields()));
        }
    }
    rows.sort();
    rows
}

#[derive(Clone, Debug)]
enum Step {
    Cage { name: u8, animals: u8 },
    Rename { from: u8, to: u8 },
    See { cage: u8, other: u8 },
    Release { cage: u8 },
    Delete { cage: u8 },
}

impl Step {
    fn operations(&self, database: &Database) -> Vec<Value> {
        let at = |cage: &u8| json!([["name", "==", format!("cage{cage}")]]);
        match self {
            Self::Cage { name, animals } => {
                let mut operations: Vec<Value> = (0..*animals)
                    .map(|n| json!({"op": "insert", "table": "animals", "uuid-name": format!("a{n}"), "row": {"name": format!("{n}")}}))
                    .collect();
                let names: Vec<Value> = (0..*animals).map(|n| json!(["named-uuid", format!("a{n}")])).collect();
                let row = json!({"name": format!("cage{name}"), "animals": ["set", names]});
                operations.push(json!({"op": "insert", "table": "cages", "row": row}));
                operations
            }
            Self::Rename { from, to } => {
                vec![json!({"op": "update", "table": "cages", "where": at(from), "row": {"name": format!("cage{to}")}})]
            }
            Self::See { cage, other } => {
                let (_, cages) = database.table_named("cages").unwrap();
                let column = database.schema().tables()[1].column_index("animals").unwrap();
                let name = database.schema().tables()[1].column_index("name").unwrap();
                let other = format!("cage{other}");
                let seen = cages
                    .rows()
                    .find(|row| row.get(name).as_str() == Some(&other))
                    .map(|row| row.get(column).to_json());
                let seen = seen.unwrap_or_else(|| json!(["set", []]));
                vec![
                    json!({"op": "mutate", "table": "cages", "where": at(cage), "mutations": [["seen", "insert", seen]]}),
                ]
            }
            Self::Release { cage } => {
                vec![json!({"op": "update", "table": "cages", "where": at(cage), "row": {"animals": ["set", []]}})]
            }
            Self::Delete { cage } => vec![json!({"op": "delete", "table": "cages", "where": at(cage)})],
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..4, 0_u8..80).prop_map(|(name, animals)| Step::Cage { name, animals }),
        1 => (0_u8..4, 0_u8..4).prop_map(|(from, to)| Step::Rename { from, to }),
        2 => (0_u8..4, 0_u8..4).prop_map(|(cage, other)| Step::See { cage, other }),
        1 => (0_u8..4).prop_map(|cage| Step::Release { cage }),
        1 => (0_u8..4).prop_map(|cage| Step::Delete { cage }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_commit_can_be_undone_and_done_again(steps in prop::collection::vec(step(), 1..20)) {
        let (mut database, mut entropy) = (database(), Entropy::new([3; 32]));
        let mut history = Vec::new();
        for step in &steps {
            let before = state(&database);
            let operations = step.operations(&database);
            if let Some(commit) = run(&database, &operations, &mut entropy) {
                prop_assert_eq!(&state(&database), &before);
                database.apply(&commit.changes);
                history.push((before, commit.changes));
            }
        }
        let last = state(&database);
        for (before, changes) in history.iter().rev() {
            database.apply(&changes.inverse());
            prop_assert_eq!(&state(&database), before);
        }
        // References were undone as well: what could be done then can be done again, with the same end.
        for (_, changes) in &history {
            database.apply(changes);
        }
        prop_assert_eq!(state(&database), last);
        let joined = history.iter().fold(nonnet_engine::ChangeSet::default(), |all, (_, changes)| all.then(changes));
        database.apply(&joined.inverse());
        prop_assert_eq!(state(&database), Vec::<String>::new());
    }
}

#[test]
fn a_row_whose_last_reference_goes_is_collected_in_the_same_commit() {
    let (mut database, mut entropy) = (database(), Entropy::new([1; 32]));
    for step in [Step::Cage { name: 1, animals: 70 }, Step::Cage { name: 2, animals: 0 }] {
        let commit = run(&database, &step.operations(&database), &mut entropy).unwrap();
        database.apply(&commit.changes);
    }
    let seen = run(
        &database,
        &Step::See { cage: 2, other: 1 }.operations(&database),
        &mut entropy,
    )
    .unwrap();
    database.apply(&seen.changes);
    let release = run(
        &database,
        &Step::Release { cage: 1 }.operations(&database),
        &mut entropy,
    )
    .unwrap();
    // 70 animals go, and both cages change: one lets go, the other loses its weak references.
    assert_eq!(release.changes.changes().len(), 72);
    database.apply(&release.changes);
    let select = json!({"op": "select", "table": "cages", "where": [], "columns": ["seen"]});
    let results = run(&database, &[select], &mut entropy).unwrap().results;
    let mut text = String::new();
    write_results(&results, &mut text);
    assert_eq!(text, r#"[{"rows":[{"seen":["set",[]]}]}]"#);
    assert!(matches!(results.as_slice(), [OperationResult::Rows(rows)] if rows.len() == 1));
}

#[test]
fn a_snapshot_stays_while_the_database_goes_on() {
    let (mut database, mut entropy) = (database(), Entropy::new([1; 32]));
    let empty = database.snapshot();
    let commit = run(
        &database,
        &Step::Cage { name: 1, animals: 1 }.operations(&database),
        &mut entropy,
    )
    .unwrap();
    database.apply(&commit.changes);
    assert!(empty.table(TableIndex(0)).is_empty());
    assert_eq!(database.table(TableIndex(0)).len(), 1);
}
