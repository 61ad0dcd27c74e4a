//! Replicas are equal to what a select gives, whatever the notation and whatever happens to the server.

use std::collections::BTreeMap;

use nonnet_client::{Address, Connection, NewRow, Replica, ReplicaEvent, RowChange, Selection, Transaction, value};
use nonnet_schema::{Uuid, parse_uuid};
use serde_json::{Map, Value, json};

use crate::server::{DATABASE, Server, row, within};

/// All rows by table and UUID, as JSON.
type Rows = BTreeMap<(String, Uuid), Map<String, Value>>;

async fn selected(connection: &Connection) -> Rows {
    let mut rows = Rows::new();
    for table in ["part", "thing"] {
        let mut transaction = Transaction::new(DATABASE);
        transaction.select(table, json!([]), None);
        let committed = transaction.commit(connection).await.unwrap();
        for row in committed.results[0].rows() {
            let mut row = row.clone();
            let uuid = parse_uuid(row["_uuid"][1].as_str().unwrap()).unwrap();
            row.remove("_uuid");
            row.remove("_version");
            rows.insert((table.to_owned(), uuid), row);
        }
    }
    rows
}

fn replicated(replica: &Replica) -> Rows {
    let mut rows = Rows::new();
    for table in replica.tables() {
        for (uuid, row) in table.rows() {
            let row = row
                .iter()
                .map(|(column, datum)| (column.to_owned(), datum.to_json()))
                .collect();
            rows.insert((table.name().to_owned(), uuid), row);
        }
    }
    rows
}

async fn changed(replica: &mut Replica) -> Vec<RowChange> {
    match within(replica.next()).await {
        ReplicaEvent::Changed(changes) => changes,
        other => panic!("{other:?}"),
    }
}

async fn lost(replica: &mut Replica) {
    let event = within(replica.next()).await;
    assert!(matches!(event, ReplicaEvent::Lost(_)), "{event:?}");
}

async fn synced(replica: &mut Replica) -> Vec<RowChange> {
    match within(replica.next()).await {
        ReplicaEvent::Synced(changes) => changes,
        other => panic!("{other:?}"),
    }
}

/// Transactions that put each column through each kind of change.
fn changes() -> Vec<Transaction> {
    let all = || json!([["name", "==", "cart"]]);
    let mut transactions = Vec::new();
    let mut add = |make: &dyn Fn(&mut Transaction)| {
        let mut transaction = Transaction::new(DATABASE);
        make(&mut transaction);
        transactions.push(transaction);
    };
    let updates = [
        json!({"count": 7, "weight": 2.5}),
        json!({"weight": value::set([0.25])}),
        json!({"weight": value::empty_set(), "flags": value::set(["a", "b", "c"])}),
        json!({"flags": value::set(["b", "d"]), "pair": value::set([1, 2])}),
        json!({"flags": value::empty_set(), "pair": 2}),
        json!({"pair": value::set([3, 4])}),
        json!({"notes": value::map([("a", "1"), ("b", "2"), ("c", "3")]), "one_note": value::map([("x", 1)])}),
        json!({"notes": value::map([("a", "1"), ("b", "9"), ("d", "4")]), "one_note": value::map([("x", 2)])}),
        json!({"notes": value::empty_map(), "one_note": value::empty_map()}),
    ];
    for update in updates {
        add(&|transaction| {
            transaction.update("thing", all(), row(update.clone()));
        });
    }
    add(&|transaction| {
        let parts: Vec<NewRow> = ["wheel", "axle"]
            .iter()
            .map(|name| transaction.insert("part", row(json!({"name": name}))))
            .collect();
        let references = value::set(parts.iter().map(NewRow::reference));
        transaction.mutate("thing", all(), vec![json!(["parts", "insert", references])]);
    });
    add(&|transaction| {
        transaction.update("part", json!([["name", "==", "axle"]]), row(json!({"name": "shaft"})));
        transaction.mutate("thing", all(), vec![json!(["count", "*=", -2])]);
    });
    add(&|transaction| {
        transaction.update("thing", all(), row(json!({"parts": value::empty_set()})));
    });
    add(&|transaction| {
        transaction.insert("thing", row(json!({"name": "sledge", "pair": 5})));
        transaction.delete("thing", all());
    });
    transactions
}

async fn check_follows(server: &Server, address: &Address) {
    let writer = server.connect().await;
    let mut transaction = Transaction::new(DATABASE);
    transaction.insert(
        "thing",
        row(json!({"name": "cart", "pair": 1, "flags": value::set(["z"])})),
    );
    transaction.commit(&writer).await.unwrap();
    let mut replica = Replica::open(address, DATABASE, Selection::all()).await.unwrap();
    assert_eq!(replicated(&replica), selected(&writer).await);
    for transaction in changes() {
        let operations = transaction.operations().to_vec();
        transaction.commit(&writer).await.unwrap();
        let changes = changed(&mut replica).await;
        assert!(!changes.is_empty());
        assert_eq!(replicated(&replica), selected(&writer).await, "after {operations:?}");
    }
}

#[tokio::test]
async fn replica_follows_update3() {
    let server = Server::start().await;
    check_follows(&server, &server.address()).await;
}

#[tokio::test]
async fn replica_follows_update2() {
    let server = Server::start().await;
    check_follows(&server, &server.without("monitor_cond_since")).await;
}

#[tokio::test]
async fn replica_follows_update() {
    let server = Server::start().await;
    server.control("ovsdb-server/disable-monitor-cond");
    check_follows(&server, &server.address()).await;
}

#[tokio::test]
async fn large_sets_and_maps_are_followed() {
    let server = Server::start().await;
    let writer = server.connect().await;
    let mut replica = Replica::open(&server.address(), DATABASE, Selection::all())
        .await
        .unwrap();
    let mut transaction = Transaction::new(DATABASE);
    let flags = (0..500).map(|n| format!("flag{n}"));
    let notes = (0..500).map(|n| (format!("key{n}"), format!("value{n}")));
    transaction.insert(
        "thing",
        row(json!({"name": "x", "pair": 1, "flags": value::set(flags), "notes": value::map(notes)})),
    );
    transaction.commit(&writer).await.unwrap();
    changed(&mut replica).await;
    let mut transaction = Transaction::new(DATABASE);
    let mutations = vec![
        json!(["flags", "delete", value::set(["flag7", "flag8"])]),
        json!(["flags", "insert", "new"]),
        json!(["notes", "delete", value::set(["key7"])]),
        json!(["notes", "insert", value::map([("new", "one")])]),
    ];
    transaction.mutate("thing", json!([]), mutations);
    transaction.commit(&writer).await.unwrap();
    changed(&mut replica).await;
    assert_eq!(replicated(&replica), selected(&writer).await);
}

#[tokio::test]
async fn change_has_the_row_before_and_after() {
    let server = Server::start().await;
    let writer = server.connect().await;
    let selection = Selection::all().columns("thing", &["name", "count"]);
    let mut replica = Replica::open(&server.address(), DATABASE, selection).await.unwrap();
    assert!(replica.table("part").is_none());
    let mut transaction = Transaction::new(DATABASE);
    let new = transaction.insert("thing", row(json!({"name": "x", "count": 1, "pair": 1})));
    let uuid = transaction.commit(&writer).await.unwrap().uuid_of(&new).unwrap();
    let changes = changed(&mut replica).await;
    assert_eq!(
        (changes.len(), changes[0].uuid, changes[0].old.is_none()),
        (1, uuid, true)
    );
    let mut transaction = Transaction::new(DATABASE);
    transaction.update("thing", value::where_uuid(uuid), row(json!({"count": 2})));
    transaction.commit(&writer).await.unwrap();
    let changes = changed(&mut replica).await;
    let count =
        |row: &Option<std::sync::Arc<nonnet_client::Row>>| row.as_ref().and_then(|row| row.get("count")?.as_integer());
    assert_eq!((count(&changes[0].old), count(&changes[0].new)), (Some(1), Some(2)));
    assert_eq!(replica.table("thing").unwrap().get(uuid), changes[0].new.as_ref());
}

#[tokio::test]
async fn unknown_table_or_column_is_named() {
    let server = Server::start().await;
    let error = |selection| {
        let address = server.address();
        async move {
            Replica::open(&address, DATABASE, selection)
                .await
                .unwrap_err()
                .to_string()
        }
    };
    assert_eq!(
        error(Selection::all().table("thingy")).await,
        "the database \"Things\" has no table \"thingy\"; it has part, thing"
    );
    assert_eq!(
        error(Selection::all().columns("part", &["nmae"])).await,
        "the table \"part\" has no column \"nmae\"; it has name"
    );
}

#[tokio::test]
async fn restarted_server_is_found_again() {
    let mut server = Server::start().await;
    let writer = server.connect().await;
    let mut transaction = Transaction::new(DATABASE);
    transaction.insert("thing", row(json!({"name": "kept", "pair": 1})));
    transaction.insert("thing", row(json!({"name": "gone", "pair": 1})));
    transaction.commit(&writer).await.unwrap();
    let mut replica = Replica::open(&server.address(), DATABASE, Selection::all())
        .await
        .unwrap();
    let before = replicated(&replica);
    server.kill();
    lost(&mut replica).await;
    assert!(replica.connection().is_none());
    assert_eq!(replicated(&replica), before);
    server.run().await;
    let writer = server.connect().await;
    let mut transaction = Transaction::new(DATABASE);
    transaction.delete("thing", value::where_equal("name", "gone"));
    transaction.insert("thing", row(json!({"name": "come", "pair": 1})));
    transaction.commit(&writer).await.unwrap();
    assert_eq!(synced(&mut replica).await.len(), 2);
    assert_eq!(replicated(&replica), selected(&writer).await);
    let mut transaction = Transaction::new(DATABASE);
    transaction.delete("thing", json!([]));
    transaction.commit(&writer).await.unwrap();
    changed(&mut replica).await;
    assert!(replica.table("thing").unwrap().is_empty());
}

#[tokio::test]
async fn server_that_names_transactions_tells_only_what_came_after() {
    let server = Server::start_cluster().await;
    let writer = server.connect().await;
    let mut transaction = Transaction::new(DATABASE);
    for number in 0..50 {
        transaction.insert("thing", row(json!({"name": format!("thing{number}"), "pair": 1})));
    }
    transaction.commit(&writer).await.unwrap();
    // The server forgets a transaction that has as many values as its database, so the last one known is a small one.
    let mut transaction = Transaction::new(DATABASE);
    transaction.update("thing", value::where_equal("name", "thing8"), row(json!({"count": 1})));
    transaction.commit(&writer).await.unwrap();
    let mut replica = Replica::open(&server.address(), DATABASE, Selection::all())
        .await
        .unwrap();
    let since = replica.last_transaction().unwrap().to_owned();
    server.control("ovsdb-server/reconnect");
    lost(&mut replica).await;
    let writer = server.connect().await;
    let mut transaction = Transaction::new(DATABASE);
    transaction.update(
        "thing",
        value::where_equal("name", "thing7"),
        row(json!({"flags": value::set(["a", "b"])})),
    );
    transaction.commit(&writer).await.unwrap();
    let requests = json!({"thing": [{"columns": ["name"]}]});
    let mut monitor = writer.monitor(DATABASE, requests, Some(&since)).await.unwrap();
    assert!(!monitor.next().await.unwrap().is_complete);
    assert_eq!(synced(&mut replica).await.len(), 1);
    assert_ne!(replica.last_transaction(), Some(since.as_str()));
    assert_eq!(replicated(&replica), selected(&writer).await);
}
