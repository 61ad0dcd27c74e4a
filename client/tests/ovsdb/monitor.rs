//! Monitors in each notation the server may have.

use nonnet_client::{Address, Connection, Monitor, MonitorError, MonitorVersion, Transaction, value};
use serde_json::{Value, json};

use crate::server::{DATABASE, Server, row, within};

async fn insert(connection: &Connection, name: &str) {
    let mut transaction = Transaction::new(DATABASE);
    transaction.insert("thing", row(json!({"name": name, "pair": 1})));
    transaction.commit(connection).await.unwrap();
}

async fn monitor(connection: &Connection) -> Monitor {
    let requests = json!({"thing": [{"columns": ["name"]}]});
    connection.monitor(DATABASE, requests, None).await.unwrap()
}

fn only_row(tables: &serde_json::Map<String, Value>) -> Value {
    let rows = tables["thing"].as_object().unwrap();
    assert_eq!(rows.len(), 1);
    rows.values().next().unwrap().clone()
}

async fn check(server: &Server, address: &Address, version: MonitorVersion, initial: Value, inserted: Value) {
    let connection = Connection::connect(address).await.unwrap();
    insert(&connection, "one").await;
    let mut monitor = monitor(&connection).await;
    assert_eq!(monitor.version(), version);
    let first = monitor.next().await.unwrap();
    assert!(first.is_complete);
    assert_eq!(only_row(&first.tables), initial);
    insert(&server.connect().await, "two").await;
    let second = within(monitor.next()).await.unwrap();
    assert!(!second.is_complete);
    assert_eq!(only_row(&second.tables), inserted);
}

#[tokio::test]
async fn newest_method_is_used_where_there_is_one() {
    let server = Server::start().await;
    let (initial, inserted) = (json!({"initial": {"name": "one"}}), json!({"insert": {"name": "two"}}));
    check(&server, &server.address(), MonitorVersion::V3, initial, inserted).await;
}

#[tokio::test]
async fn server_without_monitor_cond_since_is_asked_for_monitor_cond() {
    let server = Server::start().await;
    let address = server.without("monitor_cond_since");
    let (initial, inserted) = (json!({"initial": {"name": "one"}}), json!({"insert": {"name": "two"}}));
    check(&server, &address, MonitorVersion::V2, initial, inserted).await;
}

#[tokio::test]
async fn server_without_conditions_is_asked_for_monitor() {
    let server = Server::start().await;
    server.control("ovsdb-server/disable-monitor-cond");
    let (initial, inserted) = (json!({"new": {"name": "one"}}), json!({"new": {"name": "two"}}));
    check(&server, &server.address(), MonitorVersion::V1, initial, inserted).await;
}

#[tokio::test]
async fn other_errors_do_not_fall_back() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let error = connection
        .monitor(DATABASE, json!({"nothing": [{}]}), None)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("monitor_cond_since: syntax error: no table named nothing"),
        "{error}"
    );
}

#[tokio::test]
async fn own_change_is_there_before_its_reply() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let mut monitor = monitor(&connection).await;
    monitor.next().await.unwrap();
    insert(&connection, "one").await;
    tokio::select! {
        biased;
        update = monitor.next() => assert_eq!(only_row(&update.unwrap().tables), json!({"insert": {"name": "one"}})),
        () = std::future::ready(()) => panic!("the update was not there yet"),
    }
}

#[tokio::test]
async fn dropped_monitor_is_canceled() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let mut all = connection.notifications();
    drop(monitor(&connection).await);
    insert(&connection, "one").await;
    let kept = monitor(&connection).await;
    let mut transaction = Transaction::new(DATABASE);
    transaction.delete("thing", value::where_equal("name", "one"));
    transaction.commit(&connection).await.unwrap();
    let notification = within(all.next()).await.unwrap();
    let rows = &notification.params[2]["thing"];
    assert_eq!(
        rows.as_object().unwrap().values().next().unwrap(),
        &json!({"delete": null})
    );
    drop(kept);
}

#[tokio::test]
async fn monitor_ends_with_its_server() {
    let mut server = Server::start().await;
    let connection = server.connect().await;
    let mut monitor = monitor(&connection).await;
    monitor.next().await.unwrap();
    server.kill();
    assert!(matches!(within(monitor.next()).await, Err(MonitorError::Lost(_))));
}

#[tokio::test]
async fn removed_database_cancels_its_monitors() {
    let server = Server::start().await;
    let connection = server.connect().await;
    connection.set_db_change_aware(true).await.unwrap();
    let mut monitor = monitor(&connection).await;
    monitor.next().await.unwrap();
    let status = std::process::Command::new("ovs-appctl")
        .arg("-t")
        .arg(server.path("ctl"))
        .args(["ovsdb-server/remove-db", DATABASE])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(within(monitor.next()).await, Err(MonitorError::Canceled));
}
