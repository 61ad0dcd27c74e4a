//! What a new schema makes of a database, or why it does not fit; the errors are those that ovsdb-server 3.1 gave.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    missing_docs,
    reason = "a test"
)]

use std::sync::Arc;

use nonnet_engine::{Context, Database, Entropy, Outcome, convert, execute, write_results};
use nonnet_schema::DatabaseSchema;
use serde_json::{Value, json};

fn schema(tables: &Value) -> Arc<DatabaseSchema> {
    Arc::new(DatabaseSchema::parse(&json!({"name": "d", "tables": tables})).unwrap())
}

fn run(database: &Database, operations: &[Value]) -> (Value, Outcome) {
    let context = Context {
        elapsed_ms: 0,
        read_only: false,
        access: nonnet_engine::Access::default(),
        owns_lock: &|_| false,
        sequence: 1,
        hook: None,
    };
    let outcome = execute(database, operations, &context, &mut Entropy::new([3; 32]));
    let mut text = String::new();
    match &outcome {
        Outcome::Committed(commit) => write_results(&commit.results, &mut text),
        Outcome::Failed(results) => write_results(results, &mut text),
        Outcome::Blocked { .. } => panic!("no operation waits"),
    }
    (serde_json::from_str(&text).unwrap(), outcome)
}

/// A database of these tables with what the operations insert.
fn database(tables: &Value, operations: &[Value]) -> Database {
    let mut database = Database::new(schema(tables), 1);
    match run(&database, operations) {
        (_, Outcome::Committed(commit)) => database.apply(&commit.changes),
        (results, _) => panic!("{results}"),
    }
    database
}

fn insert(table: &str, row: Value) -> Value {
    json!({"op": "insert", "table": table, "row": row})
}

/// The rows of each table by name, without UUIDs; or the error.
fn converted(database: &Database, tables: &Value) -> Value {
    let after = convert(database, schema(tables), 9, None, &mut Entropy::new([4; 32]));
    let after = match after {
        Ok(after) => after,
        Err(error) => return serde_json::from_str(&error.to_json_text()).unwrap(),
    };
    let mut all = json!({});
    for table in after.schema().tables() {
        let names: Vec<&str> = table
            .declared_columns()
            .map(|(_, column)| column.name.as_str())
            .collect();
        let select = json!({"op": "select", "table": table.name.as_str(), "where": [], "columns": names});
        all[table.name.as_str()] = run(&after, &[select]).0[0]["rows"].take();
    }
    all
}

#[track_caller]
fn check(before: &Value, row: Value, after: &Value, expected: &Value) {
    let database = database(&json!({"t": {"columns": before}}), &[insert("t", row)]);
    let converted = converted(&database, &json!({"t": {"columns": after}}));
    let found = converted.get("t").map_or(&converted, |rows| &rows[0]);
    assert_eq!(found, expected);
}

fn column(type_: Value) -> Value {
    json!({"c": {"type": type_}})
}

#[test]
fn types_may_widen() {
    for (before, after, datum, expected) in [
        (json!("integer"), json!("real"), json!(5), json!(5)),
        (
            json!("string"),
            json!({"key": "string", "min": 0}),
            json!("a"),
            json!("a"),
        ),
        (
            json!({"key": "integer", "min": 0, "max": 2}),
            json!({"key": "real", "min": 0, "max": "unlimited"}),
            json!(["set", [2, 1]]),
            json!(["set", [1, 2]]),
        ),
        (
            json!({"key": {"type": "string", "enum": ["set", ["a", "b"]]}}),
            json!("string"),
            json!("b"),
            json!("b"),
        ),
        (
            json!({"key": "integer", "value": "integer", "min": 0, "max": 2}),
            json!({"key": "real", "value": "real", "min": 0, "max": 3}),
            json!(["map", [[1, 2]]]),
            json!(["map", [[1, 2]]]),
        ),
    ] {
        check(
            &column(before),
            json!({"c": datum}),
            &column(after),
            &json!({"c": expected}),
        );
    }
}

#[test]
fn data_must_fit_tighter_types() {
    let text = |tag: &str, details: &str| json!({"error": tag, "details": details});
    let shape = |details: &str, syntax: &str| json!({"error": "syntax error", "details": details, "syntax": syntax});
    let set = json!({"key": "integer", "min": 0, "max": "unlimited"});
    let optional = json!({"key": "integer", "min": 0});
    for (before, after, datum, expected) in [
        (
            json!("string"),
            json!("integer"),
            json!("abc"),
            shape("expected integer", "\"abc\""),
        ),
        (
            json!("integer"),
            json!("string"),
            json!(5),
            shape("expected string", "5"),
        ),
        (
            json!("real"),
            json!("integer"),
            json!(2.5),
            shape("expected integer", "2.5"),
        ),
        (
            json!("real"),
            json!("integer"),
            json!(5.0),
            shape("expected integer", "5"),
        ),
        (
            json!("string"),
            json!({"key": {"type": "string", "enum": ["set", ["x", "y"]]}}),
            json!("abc"),
            text("constraint violation", "abc is not one of the allowed values ([x, y])"),
        ),
        (
            json!("integer"),
            json!({"key": {"type": "integer", "minInteger": 6}}),
            json!(5),
            text("constraint violation", "5 is less than minimum allowed value 6"),
        ),
        (
            set.clone(),
            json!({"key": "integer", "min": 0, "max": 2}),
            json!(["set", [1, 2, 3]]),
            shape("set must have 0 to 2 members but 3 are present", "[\"set\",[1,2,3]]"),
        ),
        (
            set.clone(),
            json!("integer"),
            json!(["set", [1, 2, 3]]),
            shape(
                "set must have exactly one member but 3 are present",
                "[\"set\",[1,2,3]]",
            ),
        ),
        (
            set.clone(),
            json!({"key": "integer", "value": "integer", "min": 0, "max": 5}),
            json!(["set", [1, 2, 3]]),
            shape("expected [\"map\", <array>]", "[\"set\",[1,2,3]]"),
        ),
        (
            set,
            json!({"key": {"type": "uuid", "refTable": "t"}, "min": 0, "max": 9}),
            json!(["set", [1, 2, 3]]),
            shape("expected [\"uuid\", <string>]", "1"),
        ),
        (
            optional.clone(),
            json!({"key": "integer", "value": "integer", "min": 0}),
            json!(["set", []]),
            shape("expected [\"map\", <array>]", "[\"set\",[]]"),
        ),
        (
            optional,
            json!("integer"),
            json!(["set", []]),
            shape("set must have exactly one member but 0 are present", "[\"set\",[]]"),
        ),
    ] {
        check(&column(before), json!({"c": datum}), &column(after), &expected);
    }
}

#[test]
fn integers_that_become_one_real_are_duplicates() {
    let set = |key: &str| column(json!({"key": key, "min": 0, "max": 2}));
    let row = json!({"c": ["set", [9_007_199_254_740_992_i64, 9_007_199_254_740_993_i64]]});
    let expected = json!({"error": "ovsdb error", "details": "set contains duplicate"});
    check(&set("integer"), row, &set("real"), &expected);
}

#[test]
fn new_columns_hold_defaults_which_no_constraint_is_asked_about() {
    let after = json!({
        "c": {"type": "integer"}, "s": {"type": "string"}, "o": {"type": {"key": "string", "min": 0}},
        "e": {"type": {"key": {"type": "string", "enum": ["set", ["x", "y"]]}}}});
    let expected = json!({"c": 1, "s": "", "o": ["set", []], "e": ""});
    check(&column(json!("integer")), json!({"c": 1}), &after, &expected);
}

#[test]
fn ephemeral_columns_keep_what_they_hold() {
    let columns = |ephemeral: bool| json!({"c": {"type": "string", "ephemeral": ephemeral}});
    for (before, after) in [(true, true), (true, false), (false, true)] {
        check(
            &columns(before),
            json!({"c": "up"}),
            &columns(after),
            &json!({"c": "up"}),
        );
    }
}

const REFERENCE: &str = r#"{"key": {"type": "uuid", "refTable": "leaf"}, "min": 0, "max": "unlimited"}"#;

fn reference() -> Value {
    serde_json::from_str(REFERENCE).unwrap()
}

fn tree(columns: &[&str]) -> Value {
    let columns: serde_json::Map<_, _> = columns
        .iter()
        .map(|column| ((*column).to_owned(), json!({"type": reference()})))
        .collect();
    json!({"root": {"isRoot": true, "columns": columns}, "leaf": {"columns": {"n": {"type": "integer"}}}})
}

fn with_leaves() -> Database {
    let leaf = |n: i64| json!({"op": "insert", "table": "leaf", "uuid-name": format!("l{n}"), "row": {"n": n}});
    let root = insert("root", json!({"a": ["named-uuid", "l1"], "b": ["named-uuid", "l2"]}));
    database(&tree(&["a", "b"]), &[leaf(1), leaf(2), root])
}

#[test]
fn rows_that_only_a_dropped_column_referred_to_are_collected() {
    let database = with_leaves();
    assert_eq!(
        converted(&database, &tree(&["a", "b"]))["leaf"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(converted(&database, &tree(&["b"]))["leaf"], json!([{"n": 2}]));
}

#[test]
fn rows_keep_their_uuids_and_get_new_versions() {
    let before = with_leaves();
    let after = convert(
        &before,
        Arc::clone(before.schema()),
        9,
        None,
        &mut Entropy::new([4; 32]),
    )
    .unwrap();
    for (old, new) in [("root", 1), ("leaf", 2)].map(|(name, count)| {
        assert_eq!(after.table_named(name).unwrap().1.len(), count);
        (before.table_named(name).unwrap().1, after.table_named(name).unwrap().1)
    }) {
        for row in old.rows() {
            let converted = new.row(row.uuid()).unwrap();
            assert_eq!(row.fields()[2..], converted.fields()[2..]);
            assert_ne!(row.version(), converted.version());
        }
    }
}

#[test]
fn what_refers_to_the_converted_rows_is_known_afterwards() {
    let before = with_leaves();
    let after = convert(&before, schema(&tree(&["a"])), 9, None, &mut Entropy::new([4; 32])).unwrap();
    let delete = json!({"op": "delete", "table": "leaf", "where": []});
    let details = run(&after, &[delete]).0[1]["details"].to_string();
    assert!(details.contains("because of 1 remaining reference(s)"), "{details}");
}

#[test]
fn references_must_hold_under_the_new_schema() {
    let refer = |table: &str, strength: &str, min: u32| json!({"type": {"key": {"type": "uuid", "refTable": table, "refType": strength}, "min": min, "max": 1}});
    let tables = |r: Value| {
        json!({
        "a": {"isRoot": true, "columns": {"n": {"type": "integer"}, "r": r}},
        "b": {"isRoot": true, "columns": {"n": {"type": "integer"}}},
        "c": {"isRoot": true, "columns": {"n": {"type": "integer"}}}})
    };
    let b = json!({"op": "insert", "table": "b", "uuid-name": "b", "row": {}});
    let database = database(
        &tables(refer("b", "strong", 0)),
        &[b, insert("a", json!({"r": ["named-uuid", "b"]}))],
    );
    let error = |r: Value| converted(&database, &tables(r))["error"].clone();
    assert_eq!(error(refer("c", "strong", 0)), "referential integrity violation");
    assert_eq!(error(refer("c", "weak", 1)), "constraint violation");
    assert_eq!(error(refer("b", "weak", 1)), Value::Null);
    let dropped = converted(&database, &tables(refer("c", "weak", 0)));
    assert_eq!(dropped["a"][0]["r"], json!(["set", []]));
}

#[test]
fn indexes_and_max_rows_are_checked() {
    let tables = |extra: &Value| {
        let mut table = json!({"columns": {"n": {"type": "integer"}, "m": {"type": "integer"}}});
        for (name, value) in extra.as_object().unwrap() {
            table[name] = value.clone();
        }
        json!({"t": table})
    };
    let rows = [
        insert("t", json!({"n": 1, "m": 1})),
        insert("t", json!({"n": 1, "m": 2})),
    ];
    let database = database(&tables(&json!({})), &rows);
    let details = |extra: Value| converted(&database, &tables(&extra))["details"].to_string();
    assert!(details(json!({"indexes": [["n"]]})).contains("identical values (1) for index on column \\\"n\\\""));
    assert!(details(json!({"indexes": [["n"]]})).contains("was inserted by this transaction."));
    assert!(details(json!({"maxRows": 1})).contains("to contain 2 rows, greater than"));
    assert_eq!(details(json!({"maxRows": 2, "indexes": [["n", "m"]]})), "null");
}
