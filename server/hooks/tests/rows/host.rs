//! The host row and its counters.

use serde_json::json;

use crate::fixture::{Host, insert};

#[test]
fn select_in_the_same_transaction_sees_its_own_next_cfg() {
    let mut host = Host::new();
    let (reply, changes) = host.run(&json!([
        insert("bridges", &json!({"name": "br0"})),
        {"op": "select", "table": "host", "where": [], "columns": ["next_cfg"]},
    ]));
    assert_eq!(reply[1]["rows"][0]["next_cfg"], 2);
    assert!(changes.is_some());
    assert_eq!(host.only("host", &["next_cfg"])["next_cfg"], 2);
}

#[test]
fn transaction_without_persistent_change_leaves_next_cfg() {
    let mut host = Host::new();
    host.commit(&json!([insert("bridges", &json!({"name": "br0"}))]));
    let (_, changes) = host.run(&json!([
        {"op": "update", "table": "bridges", "where": [], "row": {"stp": false}},
        {"op": "delete", "table": "ports", "where": []},
    ]));
    assert!(changes.unwrap().is_empty());
    assert_eq!(host.only("host", &["next_cfg"])["next_cfg"], 2);
}

#[test]
fn host_row_comes_back_when_deleted() {
    let mut host = Host::new();
    host.commit(&json!([{"op": "delete", "table": "host", "where": []}]));
    assert_eq!(host.only("host", &["next_cfg"])["next_cfg"], 2);
}

#[test]
fn start_with_a_host_row_sets_its_next_cfg_and_nothing_else() {
    let mut host = Host::new();
    let before = host.only("host", &["_uuid"]);
    let changes = {
        let tables = host.tables.clone();
        let mut entropy = nonnet_engine::Entropy::new([9; 32]);
        crate::fixture::start(&tables, &host.database, &mut entropy, 9)
    };
    host.database.apply(&changes);
    assert!(!changes.is_persistent(host.database.schema()));
    assert_eq!(host.only("host", &["_uuid"]), before);
    assert_eq!(host.only("host", &["next_cfg"])["next_cfg"], 9);
}
