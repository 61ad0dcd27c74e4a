//! Each limit is reached with a clear end, and does no harm to others.

use nonnet_rpc::limits::REQUESTS_QUEUED_MAX;
use nonnet_schema::{DEPTH_MAX, MESSAGE_BYTES_MAX};
use serde_json::json;
use tokio::net::UnixStream;

use crate::fixture::{Server, read_to_end, write};

#[tokio::test]
async fn message_of_the_longest_length_comes_through() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    let text = format!("{{\"a\":\"{}\"}}", "x".repeat(MESSAGE_BYTES_MAX - 8));
    let writing = tokio::spawn(async move {
        write(&mut client, text).await;
        client
    });
    assert_eq!(
        server.message().await.0["a"].as_str().unwrap().len(),
        MESSAGE_BYTES_MAX - 8
    );
    writing.await.unwrap();
}

#[tokio::test]
async fn longer_message_is_malformed_before_it_has_arrived() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    let text = format!("{{\"a\":\"{}", "x".repeat(MESSAGE_BYTES_MAX));
    let writing = tokio::spawn(async move {
        write(&mut client, text).await;
        client
    });
    assert_eq!(
        server.malformed().await,
        "byte 0: the message that begins here is longer than 16777216 bytes"
    );
    writing.await.unwrap();
}

#[tokio::test]
async fn deeper_message_is_malformed() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    write(&mut client, format!("{{\"a\":{}", "[".repeat(DEPTH_MAX))).await;
    assert_eq!(
        server.malformed().await,
        "byte 1004: more than 1000 arrays and objects nested in each other"
    );
}

#[tokio::test]
async fn connection_beyond_the_last_session_is_told_and_closed() {
    let mut server = Server::with_sessions_max(2);
    let (first, _) = server.connect().await;
    let (_second, accepted) = server.connect().await;
    let mut third = UnixStream::connect(server.path()).await.unwrap();
    assert_eq!(
        read_to_end(&mut third).await,
        "{\"error\":{\"details\":\"this server already has its maximum of 2 sessions; try again later\",\
         \"error\":\"resources exhausted\"},\"id\":null,\"result\":null}\n"
    );
    drop(first);
    server.half_closed().await;
    server.closed().await;
    while server.listeners.sessions() == 2 {
        tokio::task::yield_now().await;
    }
    let (_fourth, another) = server.connect().await;
    assert_ne!(another.session, accepted.session);
}

#[tokio::test]
async fn reading_pauses_at_too_many_unanswered_requests_and_loses_none() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    let count = REQUESTS_QUEUED_MAX + 500;
    write(&mut client, "{\"id\":0}".repeat(count)).await;
    for _ in 0..REQUESTS_QUEUED_MAX {
        server.message().await;
    }
    assert!(server.events.try_recv().is_err());
    // Another session is served meanwhile.
    let (mut other, _) = server.connect().await;
    write(&mut other, "{\"id\":\"other\"}").await;
    assert_eq!(server.message().await.0, json!({"id": "other"}));
    accepted.outbox.finished(1);
    server.message().await;
    accepted.outbox.finished(REQUESTS_QUEUED_MAX);
    for _ in 0..499 {
        server.message().await;
    }
}

#[tokio::test]
async fn client_that_leaves_unanswered_requests_behind_is_noticed() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    write(&mut client, "{\"id\":0}".repeat(REQUESTS_QUEUED_MAX + 500)).await;
    for _ in 0..REQUESTS_QUEUED_MAX {
        server.message().await;
    }
    drop(client);
    server.closed().await;
}
