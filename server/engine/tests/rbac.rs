//! What clients with a role may write: `rbac.json` holds what ovsdb-server 3.1 answered to a client with a certificate, over a remote with
//! that role, and to one without (over TCP, with an empty name here).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed test panics")]

use std::sync::Arc;

use nonnet_engine::{Access, Context, Database, Entropy, Outcome, execute, write_results};
use nonnet_schema::DatabaseSchema;
use serde_json::{Value, json};

fn run(database: &Database, access: Access<'_>, operations: &Value) -> (Vec<Value>, Outcome) {
    let context = Context {
        elapsed_ms: 0,
        read_only: false,
        access,
        owns_lock: &|_| false,
        sequence: 1,
        hook: None,
    };
    let outcome = execute(
        database,
        operations.as_array().unwrap(),
        &context,
        &mut Entropy::new([5; 32]),
    );
    let mut text = String::new();
    match &outcome {
        Outcome::Committed(commit) => write_results(&commit.results, &mut text),
        Outcome::Failed(results) => write_results(results, &mut text),
        Outcome::Blocked { .. } => panic!("no operation waits"),
    }
    (serde_json::from_str(&text).unwrap(), outcome)
}

fn database(list: &Value) -> Database {
    let mut database = Database::new(Arc::new(DatabaseSchema::parse(&list["schema"]).unwrap()), 1);
    match run(&database, Access::default(), &list["rows"]) {
        (_, Outcome::Committed(commit)) => database.apply(&commit.changes),
        (results, _) => panic!("{results:?}"),
    }
    database
}

/// A result as the list has it.
fn essence(result: &Value) -> Value {
    if let Some(tag) = result.get("error") {
        return json!({"error": tag, "details": result["details"]});
    }
    match (result.get("uuid"), result.get("rows")) {
        (Some(_), _) => json!("inserted"),
        (_, Some(_)) => json!("selected"),
        (None, None) => result.clone(),
    }
}

#[test]
fn roles_permit_what_ovsdb_server_lets_them_do() {
    let list: Value = serde_json::from_str(include_str!("rbac.json")).unwrap();
    let database = database(&list);
    for case in list["cases"].as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap();
        let access = Access {
            role: text("role"),
            client: text("client"),
        };
        let (results, _) = run(&database, access, &case["operations"]);
        let found: Vec<Value> = results.iter().map(essence).collect();
        assert_eq!(json!(found), case["results"], "{case}");
    }
}

#[test]
fn without_a_role_or_without_the_table_nothing_is_restricted() {
    let list: Value = serde_json::from_str(include_str!("rbac.json")).unwrap();
    let insert = json!([{"op": "insert", "table": "Closed", "row": {}}]);
    let client = "chassis-1";
    let (results, _) = run(&database(&list), Access { role: "", client }, &insert);
    assert_eq!(essence(&results[0]), "inserted");
    let mut schema = list["schema"].clone();
    schema["tables"].as_object_mut().unwrap().remove("RBAC_Role");
    let plain = Database::new(Arc::new(DatabaseSchema::parse(&schema).unwrap()), 1);
    let (results, _) = run(&plain, Access { role: "ctl", client }, &insert);
    assert_eq!(essence(&results[0]), "inserted");
}
