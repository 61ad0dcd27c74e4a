//! Transactions, and which operation is to blame.

use nonnet_client::{OperationResult, Transaction, value};
use nonnet_schema::Uuid;
use serde_json::json;

use crate::server::{DATABASE, Server, row};

#[tokio::test]
async fn rows_are_written_and_read() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let mut transaction = Transaction::new(DATABASE);
    let part = transaction.insert("part", row(json!({"name": "wheel"})));
    let thing = transaction.insert(
        "thing",
        row(json!({
            "name": "cart",
            "pair": 1,
            "parts": value::set([part.reference()]),
            "notes": value::map([("colour", "red")]),
        })),
    );
    transaction
        .mutate("thing", thing.where_is(), vec![json!(["count", "+=", 3])])
        .update("thing", thing.where_is(), row(json!({"weight": 1.5})))
        .comment("a cart")
        .select("thing", json!([]), Some(&["name", "count", "weight", "parts", "notes"]))
        .commit_durably();
    let committed = transaction.commit(&connection).await.unwrap();
    let part = committed.uuid_of(&part).unwrap();
    assert!(committed.uuid_of(&thing).is_some());
    assert_eq!(committed.results[2].count(), Some(1));
    assert_eq!(committed.results[4], OperationResult::Done);
    let expected = json!({
        "name": "cart", "count": 3, "weight": 1.5, "parts": value::uuid(part), "notes": value::map([("colour", "red")]),
    });
    assert_eq!(committed.results[5].rows(), [row(expected)]);
}

#[tokio::test]
async fn row_gets_the_uuid_of_the_clients_choice() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let uuid = Uuid::from_u128(0x1234_5678_9abc_def0);
    let mut transaction = Transaction::new(DATABASE);
    let thing = transaction.insert_as("thing", uuid, row(json!({"name": "x", "pair": 1})));
    transaction.delete("thing", value::where_uuid(uuid));
    let committed = transaction.commit(&connection).await.unwrap();
    assert_eq!(committed.uuid_of(&thing), Some(uuid));
    assert_eq!(committed.results[1].count(), Some(1));
}

#[tokio::test]
async fn failed_operation_is_named() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let mut transaction = Transaction::new(DATABASE);
    transaction.comment("first");
    transaction.insert("thing", row(json!({"nmae": "x"})));
    transaction.delete("thing", json!([]));
    let error = transaction.commit(&connection).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "operation 2 of 3 (insert into \"thing\"): unknown column: No column nmae in table thing. (in {\"nmae\":\"x\"})"
    );
    assert_eq!(error.wire_error().unwrap().tag, "unknown column");
}

#[tokio::test]
async fn failed_commit_is_told_from_a_failed_operation() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let mut transaction = Transaction::new(DATABASE);
    transaction.insert("thing", row(json!({"name": "x", "pair": 1})));
    transaction.insert("thing", row(json!({"name": "x", "pair": 1})));
    let error = transaction.commit(&connection).await.unwrap_err().to_string();
    assert!(
        error.starts_with("commit: constraint violation: Transaction causes multiple rows in \"thing\""),
        "{error}"
    );
}

#[tokio::test]
async fn aborted_and_timed_out_transactions_say_so() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let mut transaction = Transaction::new(DATABASE);
    transaction.insert("thing", row(json!({"name": "x", "pair": 1})));
    transaction.abort();
    assert_eq!(
        transaction.commit(&connection).await.unwrap_err().to_string(),
        "operation 2 of 2 (abort): aborted: aborted by request"
    );
    let mut transaction = Transaction::new(DATABASE);
    transaction.wait_until_equal("thing", json!([]), &["name"], vec![json!({"name": "x"})], Some(0));
    assert_eq!(
        transaction.commit(&connection).await.unwrap_err().to_string(),
        "operation 1 of 1 (wait on \"thing\"): timed out: \"where\" clause test failed"
    );
}
