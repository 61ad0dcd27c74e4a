//! Messages come through whole, in order, however the stream is cut.

use std::fmt::Write as _;

use nonnet_rpc::Inbound;
use nonnet_schema::DEPTH_MAX;
use serde_json::{Value, json};
use tokio::task::yield_now;

use crate::fixture::{Server, read_exactly, write};

#[tokio::test]
async fn messages_cut_at_every_byte_come_through_whole() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    for byte in b" {\"id\":1,\"params\":[\"}\\\"{\"]}\n{\"id\":2}" {
        write(&mut client, [*byte]).await;
        yield_now().await;
    }
    assert_eq!(server.message().await.0, json!({"id": 1, "params": ["}\"{"]}));
    assert_eq!(server.message().await.0, json!({"id": 2}));
}

#[tokio::test]
async fn several_messages_in_one_write_come_apart_and_tell_their_newlines() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    write(&mut client, "{\"id\":1}{\"id\":2}\r\n{\"id\":3}").await;
    assert_eq!(server.message().await, (json!({"id": 1}), false));
    assert_eq!(server.message().await, (json!({"id": 2}), true));
    assert_eq!(server.message().await, (json!({"id": 3}), false));
}

#[tokio::test]
async fn many_messages_keep_their_order() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    let mut text = String::new();
    for id in 0..5000 {
        write!(text, "{{\"id\":{id}}}").unwrap();
    }
    let writing = tokio::spawn(async move {
        write(&mut client, text).await;
        client
    });
    for id in 0..5000 {
        assert_eq!(server.message().await.0, json!({"id": id}));
        accepted.outbox.finished(1);
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn last_of_equal_member_names_wins() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    write(&mut client, r#"{"id":1,"id":2}"#).await;
    assert_eq!(server.message().await.0, json!({"id": 2}));
}

#[tokio::test]
async fn deepest_message_is_parsed() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    let text = format!("{{\"a\":{}{}}}", "[".repeat(DEPTH_MAX - 1), "]".repeat(DEPTH_MAX - 1));
    write(&mut client, text).await;
    let (message, _) = server.message().await;
    let mut depth = 1;
    let mut inner = &message["a"];
    while let Value::Array(elements) = inner {
        depth += 1;
        let Some(first) = elements.first() else { break };
        inner = first;
    }
    assert_eq!(depth, DEPTH_MAX);
}

#[tokio::test]
async fn long_message_is_parsed_apart() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    let text = json!({"params": ["x".repeat(3_000_000)], "id": 1});
    write(&mut client, text.to_string()).await;
    assert_eq!(server.message().await.0, text);
}

#[tokio::test]
async fn replies_and_jobs_are_sent_in_order() {
    let mut server = Server::start();
    let (mut client, accepted) = server.connect().await;
    let outbox = accepted.outbox;
    outbox.send(b"one ".to_vec());
    outbox.send(nonnet_rpc::Payload::Job(Box::new(|| vec![b"two ".to_vec().into()])));
    outbox.send(b"three ".to_vec());
    outbox.send(Vec::new());
    outbox.send(b"four".to_vec());
    assert_eq!(read_exactly(&mut client, 18).await, b"one two three four");
    assert_eq!(outbox.backlog_bytes(), 0);
}

#[tokio::test]
async fn peer_is_who_the_kernel_says() {
    let mut server = Server::start();
    let (_client, accepted) = server.connect().await;
    let credentials = accepted.peer.credentials.unwrap();
    assert_eq!(credentials.uid, nix::unistd::getuid().as_raw());
    assert_eq!(credentials.gid, nix::unistd::getgid().as_raw());
    assert_eq!(credentials.pid, std::process::id());
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(accepted.peer.comm, comm.trim_end());
    assert!(accepted.peer.start_ticks > 0);
    assert_eq!(
        accepted.peer.remote,
        format!("punix:{}", server.path().display()).as_str()
    );
}

#[tokio::test]
async fn sessions_have_different_ids() {
    let mut server = Server::start();
    let (_one, first) = server.connect().await;
    let (_two, second) = server.connect().await;
    assert_ne!(first.session, second.session);
}

#[tokio::test]
async fn sessions_end_when_nobody_takes_their_events() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    server.events.close();
    while let Ok(event) = server.events.try_recv() {
        assert!(matches!(event, Inbound::Opened { .. }));
    }
    write(&mut client, "{}").await;
    assert_eq!(crate::fixture::read_to_end(&mut client).await, "");
}
