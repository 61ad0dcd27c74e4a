//! What the server is told about a client of the gateway, and what the gateway says of a server that does not answer.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

use std::{path::PathBuf, time::Duration};

use nonnet_gateway::{Access, Gateway, limits::CALLS_PER_CONNECTION_MAX};
use nonnet_rpc::{Inbound, InboundReceiver, Listeners, inbound_channel};
use nonnet_sessions::{Credentials, Peer};
use serde_json::{Value, json};
use soketto::handshake::Client;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use tokio_util::compat::TokioAsyncReadCompatExt;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A gateway before a state thread that is the test.
struct Fixture {
    gateway: Gateway,
    inbound: InboundReceiver,
    directory: TempDir,
    _listeners: Listeners,
}

impl Fixture {
    fn new(access: Access) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (sender, inbound) = inbound_channel();
        let listeners = Listeners::new(sender);
        let address = format!("unix:{}", directory.path().join("http").display());
        let gateway = Gateway::start(address.parse().unwrap(), access, listeners.attacher()).unwrap();
        Self {
            gateway,
            inbound,
            directory,
            _listeners: listeners,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("http")
    }

    async fn ask(&self, request: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.path()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn opened(&mut self) -> Peer {
        match timeout(TIMEOUT, self.inbound.recv()).await.unwrap().unwrap() {
            Inbound::Opened { peer, .. } => peer,
            other => panic!("{other:?}"),
        }
    }
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn session_bears_the_credentials_of_the_http_client() {
    for (access, read_only) in [(Access::ReadOnly, true), (Access::Write, false)] {
        let mut fixture = Fixture::new(access);
        let _client = fixture.ask(HEALTH).await;
        let peer = fixture.opened().await;
        assert_eq!(peer.remote, format!("http:unix:{}", fixture.path().display()));
        assert_eq!(
            peer.credentials,
            Some(Credentials {
                uid: nix::unistd::getuid().as_raw(),
                gid: nix::unistd::getgid().as_raw(),
                pid: std::process::id(),
            })
        );
        assert_eq!(peer.read_only, read_only);
    }
}

#[tokio::test]
async fn silent_server_is_ill_after_a_second() {
    let fixture = Fixture::new(Access::ReadOnly);
    let mut client = fixture.ask(HEALTH).await;
    let mut answer = String::new();
    timeout(TIMEOUT, client.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn websocket_with_too_many_calls_is_told_and_ended() {
    let fixture = Fixture::new(Access::ReadOnly);
    let stream = UnixStream::connect(fixture.path()).await.unwrap();
    let mut handshake = Client::new(stream.compat(), "nonnet", "/rpc");
    handshake.handshake().await.unwrap();
    let (mut sender, mut receiver) = handshake.into_builder().finish();
    for id in 0..=CALLS_PER_CONNECTION_MAX {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "echo", "params": []});
        sender.send_text(call.to_string()).await.unwrap();
    }
    sender.flush().await.unwrap();
    let (mut answers, mut text) = (Vec::new(), Vec::new());
    while timeout(TIMEOUT, receiver.receive_data(&mut text))
        .await
        .unwrap()
        .is_ok()
    {
        answers.push(serde_json::from_slice::<Value>(&text).unwrap());
        text.clear();
    }
    let exhausted = |answer: &&Value| answer["error"]["data"]["error"] == "resources exhausted";
    assert_eq!(answers.iter().filter(exhausted).count(), 1);
    assert!(answers.iter().all(|answer| answer["error"].is_object()));
}

#[tokio::test]
async fn client_that_goes_ends_its_session() {
    let mut fixture = Fixture::new(Access::ReadOnly);
    let client = fixture.ask(HEALTH).await;
    fixture.opened().await;
    drop(client);
    let ended = async { while !matches!(fixture.inbound.recv().await, Some(Inbound::Closed { .. })) {} };
    timeout(TIMEOUT, ended).await.unwrap();
}

#[tokio::test]
async fn stop_ends_idle_connections_and_removes_the_socket() {
    let fixture = Fixture::new(Access::ReadOnly);
    let mut client = fixture.ask("").await;
    let path = fixture.path();
    timeout(TIMEOUT, fixture.gateway.stop(TIMEOUT)).await.unwrap();
    assert!(!path.exists());
    assert_eq!(client.read(&mut [0; 16]).await.unwrap_or(0), 0);
}
