//! A server whose state thread is the test itself.

use std::{path::PathBuf, time::Duration};

use nonnet_rpc::{Inbound, InboundReceiver, Listeners, Outbox, Remote, RemoteOptions, inbound_channel};
use nonnet_sessions::{Peer, SessionId};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) directory: TempDir,
    pub(crate) listeners: Listeners,
    pub(crate) events: InboundReceiver,
}

/// One accepted session, as the state thread knows it.
pub(crate) struct Accepted {
    pub(crate) session: SessionId,
    pub(crate) peer: Peer,
    pub(crate) outbox: Outbox,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with_sessions_max(16)
    }

    pub(crate) fn with_sessions_max(sessions_max: u32) -> Self {
        let (sender, events) = inbound_channel();
        let directory = tempfile::tempdir().unwrap();
        let mut listeners = Listeners::with_sessions_max(sender, sessions_max);
        listeners
            .start(
                Remote::PassiveUnix(directory.path().join("sock")),
                RemoteOptions::default(),
            )
            .unwrap();
        Self {
            directory,
            listeners,
            events,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    pub(crate) async fn connect(&mut self) -> (UnixStream, Accepted) {
        let client = UnixStream::connect(self.path()).await.unwrap();
        (client, self.opened().await)
    }

    pub(crate) async fn event(&mut self) -> Inbound {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    pub(crate) async fn opened(&mut self) -> Accepted {
        match self.event().await {
            Inbound::Opened { session, peer, outbox } => Accepted { session, peer, outbox },
            other => panic!("expected Opened, got {other:?}"),
        }
    }

    pub(crate) async fn message(&mut self) -> (Value, bool) {
        match self.event().await {
            Inbound::Message { message, newline, .. } => (message, newline),
            other => panic!("expected Message, got {other:?}"),
        }
    }

    pub(crate) async fn malformed(&mut self) -> String {
        match self.event().await {
            Inbound::Malformed { details, .. } => details,
            other => panic!("expected Malformed, got {other:?}"),
        }
    }

    pub(crate) async fn half_closed(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, Inbound::HalfClosed { .. }), "{event:?}");
    }

    pub(crate) async fn drained(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, Inbound::Drained { .. }), "{event:?}");
    }

    pub(crate) async fn closed(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, Inbound::Closed { .. }), "{event:?}");
    }
}

/// Everything up to the end of the stream, as text.
pub(crate) async fn read_to_end(client: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = String::new();
    timeout(PATIENCE, client.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    text
}

/// Exactly so many bytes.
pub(crate) async fn read_exactly(client: &mut (impl AsyncReadExt + Unpin), bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    timeout(PATIENCE, client.read_exact(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    buffer
}

pub(crate) async fn write(client: &mut (impl AsyncWriteExt + Unpin), bytes: impl AsRef<[u8]>) {
    timeout(PATIENCE, client.write_all(bytes.as_ref()))
        .await
        .unwrap()
        .unwrap();
}
