//! What is different with TLS: who is let in, what becomes of those who are not, and that a stopped reader is noticed behind it too.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream as StdTcpStream,
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::RcvBuf};
use nonnet_rpc::{
    CaCert, ConnectionState, Inbound, InboundReceiver, Listeners, Remote, RemoteOptions, Tls, inbound_channel,
    limits::{BACKLOG_CONGESTED_BYTES, HANDSHAKE_TIME_MAX},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    fixture::{Accepted, PATIENCE, write},
    pki::Pki,
};

/// What is sent to a client that does not read; the kernel holds about 4 MiB of it.
const SENT_UNREAD_BYTES: usize = 24 * 1024 * 1024;

const CHUNK_BYTES: usize = 64 * 1024;

struct Side {
    listeners: Listeners,
    events: InboundReceiver,
    remote: Remote,
    port: Option<u16>,
}

impl Side {
    fn start(remote: &str, tls: Tls) -> Self {
        let (sender, events) = inbound_channel();
        let mut listeners = Listeners::new(sender);
        listeners.set_tls(tls);
        let remote: Remote = remote.parse().unwrap();
        let port = listeners.start(remote.clone(), RemoteOptions::default()).unwrap().port;
        Self {
            listeners,
            events,
            remote,
            port,
        }
    }

    fn listen(tls: Tls) -> Self {
        Self::start("pssl:0:127.0.0.1", tls)
    }

    fn dial(port: u16, tls: Tls) -> Self {
        Self::start(&format!("ssl:127.0.0.1:{port}"), tls)
    }

    async fn event(&mut self) -> Inbound {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    async fn opened(&mut self) -> Accepted {
        match self.event().await {
            Inbound::Opened { session, peer, outbox } => Accepted { session, peer, outbox },
            other => panic!("expected Opened, got {other:?}"),
        }
    }

    /// Waits for the remote's last error.
    async fn error(&self) -> String {
        loop {
            let status = self.listeners.status(&self.remote).unwrap();
            if let Some(error) = status.last_error {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A client that reads only when it is told to.
fn connect(port: u16, pki: &Pki, name: &str) -> StreamOwned<ClientConnection, StdTcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pki.path("ca.pem")).unwrap())
        .unwrap();
    let chain = vec![CertificateDer::from_pem_file(pki.path(&format!("{name}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pki.path(&format!("{name}.key"))).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let tcp = StdTcpStream::connect(("127.0.0.1", port)).unwrap();
    setsockopt(&tcp, RcvBuf, &CHUNK_BYTES).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(connection, tcp)
}

#[tokio::test]
async fn messages_go_both_ways_and_each_side_knows_the_others_name() {
    let pki = Pki::new();
    let mut server = Side::listen(pki.tls("server"));
    let mut client = Side::dial(server.port.unwrap(), pki.tls("client"));
    let (at_server, at_client) = (server.opened().await, client.opened().await);
    assert_eq!(at_server.peer.certificate_name, "client");
    assert_eq!(at_server.peer.remote, "pssl:0:127.0.0.1");
    assert!(at_server.peer.address.starts_with("127.0.0.1:"));
    assert_eq!(at_client.peer.certificate_name, "server");
    let long = "x".repeat(1_000_000);
    at_server
        .outbox
        .send(json!({"from": "server", "long": long}).to_string().into_bytes());
    at_client
        .outbox
        .send(json!({"from": "client", "long": long}).to_string().into_bytes());
    for (side, from) in [(&mut server, "client"), (&mut client, "server")] {
        let message = loop {
            match side.event().await {
                Inbound::Message { message, .. } => break message,
                Inbound::Drained { .. } => {}
                other => panic!("expected Message, got {other:?}"),
            }
        };
        assert_eq!((&message["from"], &message["long"]), (&json!(from), &json!(long)));
    }
    let status = client.listeners.status(&client.remote).unwrap();
    assert!(status.is_connected);
    assert_eq!(status.state, Some(ConnectionState::Active));
    // What was sent before the end arrives before the end.
    at_server.outbox.send(b"{\"last\":1}".to_vec());
    at_server.outbox.close_after_flush();
    let is_drained = |event: &Inbound| matches!(event, Inbound::Drained { .. });
    let mut left = Vec::new();
    while left.len() < 2 {
        left.extend(Some(client.event().await).filter(|event| !is_drained(event)));
    }
    assert!(
        matches!(left[..], [Inbound::Message { .. }, Inbound::HalfClosed { .. }]),
        "{left:?}"
    );
}

#[tokio::test]
async fn client_of_another_authority_is_not_let_in() {
    let (pki, other) = (Pki::new(), Pki::new());
    let mut server = Side::listen(pki.tls("server"));
    let foreign = Tls {
        ca_cert: Some(CaCert::File(pki.path("ca.pem"))),
        ..other.tls("client")
    };
    let client = Side::dial(server.port.unwrap(), foreign);
    assert_eq!(client.error().await, "End of file");
    assert!(server.events.try_recv().is_err());
}

#[tokio::test]
async fn server_of_another_authority_is_not_believed() {
    let (pki, other) = (Pki::new(), Pki::new());
    let mut server = Side::listen(other.tls("server"));
    let client = Side::dial(server.port.unwrap(), pki.tls("client"));
    assert_eq!(client.error().await, "invalid peer certificate: UnknownIssuer");
    assert!(server.events.try_recv().is_err());
}

#[tokio::test]
async fn anybody_is_let_in_where_no_authority_is_wanted() {
    let (pki, other) = (Pki::new(), Pki::new());
    let open = Tls {
        ca_cert: Some(CaCert::None),
        ..pki.tls("server")
    };
    let mut server = Side::listen(open);
    let foreign = Tls {
        ca_cert: Some(CaCert::None),
        ..other.tls("client")
    };
    let _client = Side::dial(server.port.unwrap(), foreign);
    assert_eq!(server.opened().await.peer.certificate_name, "");
}

#[tokio::test]
async fn plain_text_gets_an_alert_and_no_session() {
    let pki = Pki::new();
    let mut server = Side::listen(pki.tls("server"));
    let mut client = TcpStream::connect(("127.0.0.1", server.port.unwrap())).await.unwrap();
    write(&mut client, "{\"method\":\"list_dbs\",\"params\":[],\"id\":1}\n").await;
    let mut answer = Vec::new();
    // The rest of what was sent may have the connection reset.
    let _ = timeout(PATIENCE, client.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "the alert of TLS: {answer:?}");
    assert!(server.events.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn client_that_says_nothing_is_dropped() {
    let pki = Pki::new();
    let server = Side::listen(pki.tls("server"));
    let began = Instant::now();
    let mut client = TcpStream::connect(("127.0.0.1", server.port.unwrap())).await.unwrap();
    assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert!(began.elapsed() >= HANDSHAKE_TIME_MAX);
    assert!(began.elapsed() < 2 * HANDSHAKE_TIME_MAX);
    while server.listeners.sessions() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn reader_that_stops_is_noticed_and_loses_nothing() {
    let pki = Pki::new();
    pki.tls("client");
    let mut server = Side::listen(pki.tls("server"));
    let port = server.port.unwrap();
    let client = tokio::task::spawn_blocking(move || {
        let mut client = connect(port, &pki, "client");
        client.write_all(b"{\"id\":1}").unwrap();
        client
    });
    let accepted = server.opened().await;
    assert!(matches!(server.event().await, Inbound::Message { .. }));
    let mut client = client.await.unwrap();
    let mut sent = Vec::new();
    // More than the kernel takes for a peer whose buffer is small.
    for number in 0..SENT_UNREAD_BYTES / CHUNK_BYTES {
        let chunk = (number as u32).to_le_bytes().repeat(CHUNK_BYTES / 4);
        sent.extend_from_slice(&chunk);
        accepted.outbox.send(chunk);
        tokio::task::yield_now().await;
    }
    assert!(accepted.outbox.backlog_bytes() > BACKLOG_CONGESTED_BYTES);
    let expected = sent.len();
    let received = tokio::task::spawn_blocking(move || {
        let mut received = vec![0; expected];
        client.read_exact(&mut received).unwrap();
        received
    });
    assert!(matches!(server.event().await, Inbound::Drained { .. }));
    assert!(
        received.await.unwrap() == sent,
        "what was sent in pieces has come in order"
    );
}

#[tokio::test]
async fn files_that_change_are_for_the_next_connection_once_they_fit() {
    let pki = Pki::new();
    let tls = pki.tls("server");
    let mut server = Side::listen(tls.clone());
    let port = server.port.unwrap();
    let name_seen = async |server: &mut Side| {
        let mut client = Side::dial(port, pki.tls("client"));
        let accepted = server.opened().await;
        let name = client.opened().await.peer.certificate_name;
        client.listeners.stop_remote(&client.remote);
        loop {
            match server.event().await {
                Inbound::HalfClosed { .. } => accepted.outbox.close_after_flush(),
                Inbound::Closed { .. } => return name,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(name_seen(&mut server).await, "server");
    pki.tls("successor");
    fs::rename(pki.path("successor.key"), tls.private_key.unwrap()).unwrap();
    // Half of the change is not used.
    assert_eq!(name_seen(&mut server).await, "server");
    fs::rename(pki.path("successor.pem"), tls.certificate.unwrap()).unwrap();
    assert_eq!(name_seen(&mut server).await, "successor");
}

#[tokio::test]
async fn first_server_is_believed_once_and_then_only_its_authority() {
    let (pki, other) = (Pki::new(), Pki::new());
    let believed = pki.path("believed.pem");
    let bootstrapping = Tls {
        ca_cert: Some(CaCert::Bootstrap(believed.clone())),
        ..pki.tls("client")
    };
    let without_chain = Side::listen(pki.tls("server"));
    let client = Side::dial(without_chain.port.unwrap(), bootstrapping.clone());
    assert!(client.error().await.contains("is not self-signed"));
    assert!(!believed.exists());
    let with_chain = Tls {
        peer_ca_cert: Some(pki.path("ca.pem")),
        ..pki.tls("server")
    };
    let mut server = Side::listen(with_chain);
    let mut client = Side::dial(server.port.unwrap(), bootstrapping.clone());
    // The connection that brought the authority is not used.
    assert_eq!(client.opened().await.peer.certificate_name, "server");
    assert!(
        client
            .listeners
            .status(&client.remote)
            .unwrap()
            .last_error
            .unwrap()
            .starts_with("killing")
    );
    let authority = |path| CertificateDer::from_pem_file(path).unwrap();
    assert_eq!(authority(believed.clone()), authority(pki.path("ca.pem")));
    assert!(matches!(server.event().await, Inbound::Opened { .. }));
    let stranger = Tls {
        peer_ca_cert: Some(other.path("ca.pem")),
        ca_cert: Some(CaCert::None),
        ..other.tls("stranger")
    };
    let stranger = Side::listen(stranger);
    let wary = Side::dial(stranger.port.unwrap(), bootstrapping);
    assert_eq!(wary.error().await, "invalid peer certificate: UnknownIssuer");
}

#[test]
fn what_is_missing_or_wrong_names_option_and_file() {
    let pki = Pki::new();
    let good = pki.tls("server");
    good.check().unwrap();
    let message = |tls: Tls| tls.check().unwrap_err().to_string();
    assert_eq!(
        message(Tls::default()),
        "--private-key is missing; pssl: and ssl: remotes need the key that this server proves itself with"
    );
    let absent = Tls {
        certificate: Some("/nowhere/cert.pem".into()),
        ..good.clone()
    };
    assert_eq!(
        message(absent),
        "--certificate=/nowhere/cert.pem: No such file or directory (os error 2)"
    );
    let swapped = Tls {
        private_key: good.certificate.clone(),
        ..good.clone()
    };
    let path = pki.path("server.pem");
    assert_eq!(
        message(swapped),
        format!("--private-key={}: it has no private key in PEM", path.display())
    );
    pki.tls("other");
    let mismatch = Tls {
        private_key: Some(pki.path("other.key")),
        ..good.clone()
    };
    assert_eq!(
        message(mismatch),
        format!(
            "--private-key={} is not the key of --certificate={}",
            pki.path("other.key").display(),
            path.display()
        )
    );
    let nobody = Tls { ca_cert: None, ..good };
    assert!(message(nobody).starts_with("--ca-cert is missing; "));
}
