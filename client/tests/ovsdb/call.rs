//! Calls, many at a time.

use serde_json::json;
use tokio::task::JoinSet;

use crate::server::{DATABASE, Server, within};

#[tokio::test]
async fn databases_and_schema_are_read() {
    let server = Server::start().await;
    let connection = server.connect().await;
    assert_eq!(connection.list_dbs().await.unwrap(), [DATABASE, "_Server"]);
    let schema = connection.get_schema(DATABASE).await.unwrap();
    assert_eq!(schema.version, "1.2.3");
    assert_eq!(schema.tables().len(), 2);
    assert_eq!(connection.get_server_id().await.unwrap().len(), 36);
    assert_eq!(
        connection.echo(vec![json!({"a": [1]})]).await.unwrap(),
        json!([{"a": [1]}])
    );
    connection.set_db_change_aware(true).await.unwrap();
}

#[tokio::test]
async fn unknown_database_is_refused_in_the_servers_words() {
    let server = Server::start().await;
    let connection = server.connect().await;
    assert_eq!(
        connection.get_schema("Nothing").await.unwrap_err().to_string(),
        "get_schema: unknown database: get_schema request specifies unknown database Nothing (in [\"Nothing\"])"
    );
    assert!(
        connection
            .call("nonsense", Vec::new())
            .await
            .unwrap_err()
            .is_unknown_method()
    );
}

#[tokio::test]
async fn calls_beyond_the_limit_wait_for_a_place() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let mut calls = JoinSet::new();
    for number in 0..3000 {
        let connection = connection.clone();
        calls.spawn(async move {
            assert_eq!(connection.echo(vec![number.into()]).await.unwrap(), json!([number]));
        });
    }
    while let Some(done) = within(calls.join_next()).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn dropped_transaction_is_canceled() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let wait = json!({
        "op": "wait", "table": "thing", "where": [], "columns": ["name"], "until": "==", "rows": [{"name": "x"}],
    });
    let blocked = connection.transact(
        DATABASE,
        vec![wait, json!({"op": "delete", "table": "thing", "where": []})],
    );
    tokio::select! {
        biased;
        result = blocked => panic!("{result:?}"),
        echoed = connection.echo(Vec::new()) => { echoed.unwrap(); }
    }
    let insert = json!({"op": "insert", "table": "thing", "row": {"name": "x", "pair": 1}});
    connection.transact(DATABASE, vec![insert]).await.unwrap();
    let select = json!({"op": "select", "table": "thing", "where": []});
    let results = connection.transact(DATABASE, vec![select]).await.unwrap();
    assert_eq!(results[0].rows().len(), 1, "the deleting transaction was canceled");
}
