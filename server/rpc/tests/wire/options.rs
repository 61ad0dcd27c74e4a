//! What the options of a remote do, and what its status says; remotes that dial without TLS; sockets that were inherited.

use std::{os::fd::AsRawFd, os::unix::fs::MetadataExt, time::Duration};

use nonnet_rpc::{ConnectionState, Inbound, InboundReceiver, Listeners, Remote, RemoteOptions, inbound_channel};
use tokio::{
    net::{TcpStream, UnixListener, UnixStream},
    time::timeout,
};

use crate::fixture::{PATIENCE, read_exactly, read_to_end, write};

const PROBE: &str = r#"{"id":"echo","method":"echo","params":[]}"#;

fn start(remote: &str, options: RemoteOptions) -> (Listeners, InboundReceiver, Remote) {
    let (sender, events) = inbound_channel();
    let mut listeners = Listeners::new(sender);
    let remote: Remote = remote.parse().unwrap();
    listeners.start(remote.clone(), options).unwrap();
    (listeners, events, remote)
}

async fn event(events: &mut InboundReceiver) -> Inbound {
    timeout(PATIENCE, events.recv()).await.unwrap().unwrap()
}

fn port(listeners: &Listeners) -> u16 {
    listeners.list()[0].port.unwrap()
}

#[tokio::test]
async fn sessions_have_what_the_options_say_and_end_when_that_changes() {
    let options = RemoteOptions {
        read_only: true,
        role: "ovn-controller".into(),
        ..RemoteOptions::default()
    };
    let (mut listeners, mut events, remote) = start("ptcp:0:127.0.0.1", options.clone());
    let mut client = TcpStream::connect(("127.0.0.1", port(&listeners))).await.unwrap();
    let Inbound::Opened { session, peer, .. } = event(&mut events).await else {
        panic!("not opened")
    };
    assert_eq!((peer.read_only, peer.role.as_str()), (true, "ovn-controller"));
    let status = listeners.status(&remote).unwrap();
    assert_eq!(
        (status.is_connected, status.n_connections, status.state),
        (true, 1, None)
    );
    assert_eq!(
        (status.sessions, status.bound_port),
        (vec![session], Some(port(&listeners)))
    );
    let slower = RemoteOptions {
        inactivity_probe: Some(Duration::from_mins(1)),
        ..options
    };
    assert!(listeners.configure(&remote, slower.clone()));
    write(&mut client, "{\"id\":1}").await;
    assert!(matches!(event(&mut events).await, Inbound::Message { .. }));
    let other_role = RemoteOptions {
        role: "".into(),
        ..slower
    };
    assert!(listeners.configure(&remote, other_role));
    assert_eq!(read_to_end(&mut client).await, "");
    drop(client);
    assert!(matches!(event(&mut events).await, Inbound::Closed { .. }));
    assert!(!listeners.status(&remote).unwrap().is_connected);
    let _client = TcpStream::connect(("127.0.0.1", port(&listeners))).await.unwrap();
    let Inbound::Opened { peer, .. } = event(&mut events).await else {
        panic!("not opened")
    };
    assert_eq!(peer.role, "");
}

#[tokio::test]
async fn stopped_remote_has_no_sessions() {
    let (mut listeners, mut events, remote) = start("ptcp:0:127.0.0.1", RemoteOptions::default());
    let mut client = TcpStream::connect(("127.0.0.1", port(&listeners))).await.unwrap();
    assert!(matches!(event(&mut events).await, Inbound::Opened { .. }));
    assert!(listeners.stop_remote(&remote));
    assert_eq!(read_to_end(&mut client).await, "");
    assert_eq!(listeners.status(&remote), None);
    assert!(!listeners.stop_remote(&remote));
}

#[tokio::test(start_paused = true)]
async fn unix_peer_is_probed_where_the_options_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let (mut listeners, mut events, remote) = start(&format!("punix:{}", path.display()), RemoteOptions::default());
    let mut client = UnixStream::connect(&path).await.unwrap();
    assert!(matches!(event(&mut events).await, Inbound::Opened { .. }));
    assert!(timeout(Duration::from_hours(1), events.recv()).await.is_err());
    // It holds for sessions that are there already.
    let options = RemoteOptions {
        inactivity_probe: Some(Duration::from_secs(3)),
        ..RemoteOptions::default()
    };
    listeners.configure(&remote, options);
    assert_eq!(read_exactly(&mut client, PROBE.len()).await, PROBE.as_bytes());
    assert_eq!(read_to_end(&mut client).await, "");
}

#[tokio::test(start_paused = true)]
async fn tcp_peer_is_left_in_peace_where_the_probe_is_zero() {
    let options = RemoteOptions {
        inactivity_probe: Some(Duration::ZERO),
        ..RemoteOptions::default()
    };
    let (listeners, mut events, _) = start("ptcp:0:127.0.0.1", options);
    let mut client = TcpStream::connect(("127.0.0.1", port(&listeners))).await.unwrap();
    assert!(matches!(event(&mut events).await, Inbound::Opened { .. }));
    assert!(timeout(Duration::from_hours(1), events.recv()).await.is_err());
    write(&mut client, "{\"id\":1}").await;
    assert!(matches!(event(&mut events).await, Inbound::Message { .. }));
}

#[tokio::test]
async fn dialled_peer_is_served_and_dialled_again_when_it_has_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("client");
    let remote = format!("unix:{}", path.display());
    let (mut listeners, mut events, remote) = start(&remote, RemoteOptions::default());
    loop {
        let status = listeners.status(&remote).unwrap();
        assert!(!status.is_connected);
        if status.state == Some(ConnectionState::Backoff) {
            assert_eq!(status.last_error.unwrap(), "No such file or directory");
            break;
        }
        tokio::task::yield_now().await;
    }
    let peer = UnixListener::bind(&path).unwrap();
    for _ in 0..2 {
        let (mut client, _) = timeout(PATIENCE, peer.accept()).await.unwrap().unwrap();
        let Inbound::Opened { peer, outbox, .. } = event(&mut events).await else {
            panic!("not opened")
        };
        assert_eq!(peer.remote, remote.to_string());
        let status = listeners.status(&remote).unwrap();
        assert_eq!((status.is_connected, status.n_connections), (true, 1));
        assert_eq!(status.state, Some(ConnectionState::Active));
        write(&mut client, "{\"id\":1}").await;
        assert!(matches!(event(&mut events).await, Inbound::Message { .. }));
        outbox.finished(1);
        outbox.send(b"{\"id\":1}".to_vec());
        assert_eq!(read_exactly(&mut client, 8).await, b"{\"id\":1}");
        drop(client);
        assert!(matches!(event(&mut events).await, Inbound::HalfClosed { .. }));
        outbox.close_after_flush();
        assert!(matches!(event(&mut events).await, Inbound::Closed { .. }));
    }
    listeners.stop_remote(&remote);
}

#[tokio::test]
async fn inherited_sockets_are_listened_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (_unix, mut events, _) = start(&format!("pfd:{}", unix.as_raw_fd()), RemoteOptions::default());
    let _client = UnixStream::connect(&path).await.unwrap();
    assert!(matches!(event(&mut events).await, Inbound::Opened { .. }));
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (listeners, mut events, _) = start(&format!("pfd:{}", tcp.as_raw_fd()), RemoteOptions::default());
    let bound = tcp.local_addr().unwrap();
    assert_eq!(port(&listeners), bound.port());
    let _client = TcpStream::connect(bound).await.unwrap();
    assert!(matches!(event(&mut events).await, Inbound::Opened { .. }));
}

#[tokio::test]
async fn what_is_no_inherited_socket_is_refused() {
    let (sender, _events) = inbound_channel();
    let mut listeners = Listeners::new(sender);
    let file = tempfile::tempfile().unwrap();
    let number = file.as_raw_fd();
    for number in [number, 999_999] {
        let error = listeners
            .start(Remote::PassiveFd(number), RemoteOptions::default())
            .unwrap_err();
        let expected = format!("pfd:{number}: file descriptor {number} is not a socket that listens (");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn socket_has_mode_and_group_of_the_options() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let group = nix::unistd::getegid().as_raw();
    let options = RemoteOptions {
        mode: Some(0o606),
        group: Some(group),
        ..RemoteOptions::default()
    };
    let (_listeners, _events, _) = start(&format!("punix:{}", path.display()), options);
    let made = std::fs::metadata(&path).unwrap();
    assert_eq!((made.mode() & 0o777, made.gid()), (0o606, group));
}
