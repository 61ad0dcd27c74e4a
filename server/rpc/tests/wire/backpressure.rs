//! A client that does not read costs a bounded amount of memory and delays nobody.

use nonnet_rpc::{
    Payload,
    limits::{BACKLOG_CONGESTED_BYTES, OUTBOX_BYTES_MAX},
};
use serde_json::json;

use crate::fixture::{Server, read_exactly, read_to_end, write};

#[tokio::test]
async fn client_that_stops_reading_is_not_read_from_and_told_when_drained() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    let outbox = accepted.outbox;
    assert!(!outbox.congested());
    let chunk = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
    let mut sent = 0;
    while outbox.backlog_bytes() <= BACKLOG_CONGESTED_BYTES {
        outbox.send(chunk.clone());
        sent += chunk.len();
        tokio::task::yield_now().await;
    }
    assert!(outbox.congested());
    write(&mut client, "{\"id\":1}").await;
    // Served meanwhile.
    let (mut other, _) = server.connect().await;
    write(&mut other, "{\"id\":2}").await;
    assert_eq!(server.message().await.0, json!({"id": 2}));
    read_exactly(&mut client, sent).await;
    let mut seen = (false, false);
    while seen != (true, true) {
        match server.event().await {
            nonnet_rpc::Inbound::Drained { session } => {
                assert_eq!(session, accepted.session);
                assert!(!seen.0, "told twice");
                seen.0 = true;
            }
            nonnet_rpc::Inbound::Message { message, .. } => {
                assert_eq!(message, json!({"id": 1}));
                seen.1 = true;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!outbox.congested());
    assert_eq!(outbox.backlog_bytes(), 0);
}

#[tokio::test]
async fn session_is_congested_as_soon_as_the_kernel_takes_no_more() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    let mut sent = 0;
    while !accepted.outbox.congested() {
        accepted.outbox.send(vec![b'x'; 100]);
        sent += 100;
        tokio::task::yield_now().await;
    }
    assert!(accepted.outbox.backlog_bytes() < 10_000, "{sent} bytes were sent");
    read_exactly(&mut client, sent).await;
    server.drained().await;
    assert!(!accepted.outbox.congested());
}

#[tokio::test]
async fn session_that_is_not_congested_is_not_told_that_it_drained() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    accepted.outbox.send(vec![b'x'; 10_000]);
    read_exactly(&mut client, 10_000).await;
    write(&mut client, "{\"id\":1}").await;
    assert_eq!(server.message().await.0, json!({"id": 1}));
}

#[tokio::test]
async fn one_long_reply_may_exceed_every_threshold() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    let bytes = OUTBOX_BYTES_MAX + 10_000_000;
    accepted
        .outbox
        .send(Payload::Job(Box::new(move || vec![vec![b'x'; bytes].into()])));
    accepted.outbox.send(b"}".to_vec());
    let read = tokio::spawn(async move { read_exactly(&mut client, bytes + 1).await.len() });
    server.drained().await;
    assert_eq!(read.await.unwrap(), bytes + 1);
}

#[tokio::test]
async fn session_with_too_much_queued_is_closed() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    let chunk = bytes::Bytes::from(vec![b'x'; 1024 * 1024]);
    for _ in 0..80 {
        accepted.outbox.send(chunk.clone());
    }
    server.closed().await;
    assert!(accepted.outbox.is_closed());
    assert_eq!(accepted.outbox.backlog_bytes(), 0);
    assert!(read_to_end(&mut client).await.len() < OUTBOX_BYTES_MAX);
    // Nothing happens any more.
    accepted.outbox.send(chunk);
    assert_eq!(accepted.outbox.backlog_bytes(), 0);
}

#[tokio::test]
async fn failed_job_ends_its_session_only() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    let (_other, _) = server.connect().await;
    accepted.outbox.send(Payload::Job(Box::new(|| panic!("on purpose"))));
    server.closed().await;
    assert_eq!(read_to_end(&mut client).await, "");
    assert_eq!(server.listeners.sessions(), 1);
}
