//! How sessions end: half-closed, malformed, gone.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::fixture::{Server, read_to_end, write};

#[tokio::test(start_paused = true)]
async fn half_closed_client_gets_its_late_reply() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    write(&mut client, "{\"id\":1}\n").await;
    client.shutdown().await.unwrap();
    assert_eq!(server.message().await, (json!({"id": 1}), true));
    server.half_closed().await;
    tokio::time::sleep(std::time::Duration::from_mins(10)).await;
    accepted.outbox.send(b"{\"result\":[]}\n".to_vec());
    accepted.outbox.finished(1);
    accepted.outbox.close_after_flush();
    assert_eq!(read_to_end(&mut client).await, "{\"result\":[]}\n");
    server.closed().await;
}

#[tokio::test]
async fn client_that_sends_nothing_is_half_closed_too() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    client.shutdown().await.unwrap();
    server.half_closed().await;
}

#[tokio::test]
async fn half_closed_client_that_goes_is_noticed() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    write(&mut client, "{\"id\":1}").await;
    client.shutdown().await.unwrap();
    server.message().await;
    server.half_closed().await;
    drop(client);
    server.closed().await;
}

#[tokio::test]
async fn client_that_leaves_without_reading_is_closed() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    write(&mut client, "{\"id\":1}").await;
    drop(client);
    server.message().await;
    accepted.outbox.send(b"{}".to_vec());
    loop {
        match server.event().await {
            nonnet_rpc::Inbound::HalfClosed { .. } => {}
            nonnet_rpc::Inbound::Closed { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(accepted.outbox.is_closed());
}

async fn check_malformed(input: &str, details: &str) {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    write(&mut client, input).await;
    client.shutdown().await.unwrap();
    assert_eq!(server.malformed().await, details);
    accepted.outbox.send(b"why\n".to_vec());
    accepted.outbox.close_after_flush();
    assert_eq!(read_to_end(&mut client).await, "why\n");
    server.closed().await;
}

#[tokio::test]
async fn end_inside_a_message_is_malformed() {
    check_malformed(
        "{\"id\":",
        "byte 6: the stream ended inside the message that began at byte 0",
    )
    .await;
}

#[tokio::test]
async fn array_is_malformed() {
    check_malformed(
        "[]",
        "byte 0: a message must be a JSON object and begin with '{', but here is '['",
    )
    .await;
}

#[tokio::test]
async fn word_that_only_begins_like_http_is_malformed() {
    check_malformed(
        "PU",
        "byte 0: a message must be a JSON object and begin with '{', but here is 'P'",
    )
    .await;
}

#[tokio::test]
async fn object_that_is_not_json_is_malformed() {
    check_malformed(
        "  {\"a\":01}",
        "the message that begins at byte 2 is not JSON: invalid number at line 1 column 7",
    )
    .await;
}

#[tokio::test]
async fn number_beyond_a_double_is_malformed() {
    check_malformed(
        "{\"a\":1e400}",
        "the message that begins at byte 0 is not JSON: number out of range at line 1 column 10",
    )
    .await;
}

#[tokio::test]
async fn messages_before_a_malformed_one_still_come() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    write(&mut client, "{\"id\":1}{\"id\":2}x{\"id\":3}").await;
    assert_eq!(server.message().await.0, json!({"id": 1}));
    assert_eq!(server.message().await.0, json!({"id": 2}));
    assert!(server.malformed().await.starts_with("byte 16: "));
}

#[tokio::test]
async fn explanation_reaches_a_client_that_still_sends() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    // More than a socket's buffers take, so that input is left unread when the server closes.
    let garbage = vec![b'x'; 4 * 1024 * 1024];
    let (mut reading, mut writing) = client.split();
    let flood = async {
        let _ = writing.write_all(&garbage).await;
    };
    let serve = async {
        server.malformed().await;
        accepted.outbox.send(b"why\n".to_vec());
        accepted.outbox.close_after_flush();
        server.closed().await;
    };
    let (text, (), ()) = tokio::join!(read_to_end(&mut reading), flood, serve);
    assert_eq!(text, "why\n");
}

#[tokio::test]
async fn stop_flushes_and_ends_the_sessions() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    accepted.outbox.send(vec![b'x'; 1_000_000]);
    let path = server.path();
    let reading = tokio::spawn(async move { read_to_end(&mut client).await.len() });
    server.listeners.stop(crate::fixture::PATIENCE).await;
    assert_eq!(reading.await.unwrap(), 1_000_000);
    assert!(!path.exists());
}

#[tokio::test]
async fn stop_does_not_wait_for_a_client_that_does_not_read() {
    let mut server = Server::start();
    let (_client, accepted) = server.connect().await;
    accepted.outbox.send(vec![b'x'; 10_000_000]);
    server.listeners.stop(std::time::Duration::from_millis(100)).await;
    assert!(accepted.outbox.is_closed());
}
