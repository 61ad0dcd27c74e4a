//! Locks between connections.

use nonnet_client::Transaction;

use crate::server::{DATABASE, Server, within};

#[tokio::test]
async fn free_lock_is_held_at_once_and_asserted() {
    let server = Server::start().await;
    let connection = server.connect().await;
    let mut lock = connection.lock("l").await.unwrap();
    assert!(lock.is_held());
    assert_eq!(lock.name(), "l");
    let mut transaction = Transaction::new(DATABASE);
    transaction.assert_lock("l");
    transaction.commit(&connection).await.unwrap();
    lock.unlock().await.unwrap();
    let mut transaction = Transaction::new(DATABASE);
    transaction.assert_lock("l");
    assert_eq!(
        transaction.commit(&connection).await.unwrap_err().to_string(),
        "operation 1 of 1 (assert): not owner: Asserted lock l not held."
    );
}

#[tokio::test]
async fn waiting_lock_is_won_when_its_owner_gives_it_back() {
    let server = Server::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    let first = one.lock("l").await.unwrap();
    let mut second = two.lock("l").await.unwrap();
    assert!(!second.is_held());
    first.unlock().await.unwrap();
    within(second.held()).await.unwrap();
    assert!(second.is_held());
}

#[tokio::test]
async fn dropped_lock_is_given_back() {
    let server = Server::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    drop(one.lock("l").await.unwrap());
    let mut second = two.lock("l").await.unwrap();
    within(second.held()).await.unwrap();
}

#[tokio::test]
async fn stolen_lock_is_noticed_and_regained() {
    let server = Server::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    let mut first = one.lock("l").await.unwrap();
    let mut second = two.steal("l").await.unwrap();
    assert!(second.is_held());
    assert!(!within(first.changed()).await.unwrap());
    second.unlock().await.unwrap();
    assert!(within(first.changed()).await.unwrap());
}

#[tokio::test]
async fn lock_is_lost_with_its_connection() {
    let mut server = Server::start().await;
    let connection = server.connect().await;
    let mut lock = connection.lock("l").await.unwrap();
    server.kill();
    within(lock.changed()).await.unwrap_err();
}
