//! What is different on TCP: ports, addresses, probes.

use nonnet_rpc::{Inbound, InboundReceiver, Listeners, Remote, RemoteOptions, inbound_channel};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::fixture::{read_exactly, read_to_end, write};

fn listen(remote: &str) -> (Listeners, InboundReceiver, u16) {
    let (sender, events) = inbound_channel();
    let mut listeners = Listeners::new(sender);
    let remote: Remote = remote.parse().unwrap();
    let port = listeners.start(remote, RemoteOptions::default()).unwrap().port.unwrap();
    (listeners, events, port)
}

#[tokio::test]
async fn port_chosen_by_the_kernel_is_listed() {
    let (listeners, mut events, port) = listen("ptcp:0:127.0.0.1");
    assert_ne!(port, 0);
    assert_eq!(listeners.list()[0].port, Some(port));
    let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let Some(Inbound::Opened { peer, .. }) = events.recv().await else {
        panic!("not opened")
    };
    assert_eq!(peer.address, client.local_addr().unwrap().to_string().as_str());
    assert_eq!(peer.remote, "ptcp:0:127.0.0.1");
    assert_eq!(peer.credentials, None);
}

#[tokio::test]
async fn port_in_use_is_named() {
    let (mut listeners, _events, port) = listen("ptcp:0:127.0.0.1");
    let again: Remote = format!("ptcp:{port}:127.0.0.1").parse().unwrap();
    assert_eq!(
        listeners
            .start(again, RemoteOptions::default())
            .unwrap_err()
            .to_string(),
        format!("127.0.0.1:{port}: another program is already listening on this port")
    );
}

#[tokio::test]
async fn half_closed_client_gets_its_reply() {
    let (_listeners, mut events, port) = listen("ptcp:0:127.0.0.1");
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    write(&mut client, "{\"id\":1}\n").await;
    client.shutdown().await.unwrap();
    let Some(Inbound::Opened { outbox, .. }) = events.recv().await else {
        panic!("not opened")
    };
    assert!(matches!(
        events.recv().await,
        Some(Inbound::Message { newline: true, .. })
    ));
    assert!(matches!(events.recv().await, Some(Inbound::HalfClosed { .. })));
    outbox.send(b"{}\n".to_vec());
    outbox.close_after_flush();
    assert_eq!(read_to_end(&mut client).await, "{}\n");
    assert!(matches!(events.recv().await, Some(Inbound::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn silent_client_is_probed_and_dropped() {
    let (_listeners, mut events, port) = listen("ptcp:0:127.0.0.1");
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let Some(Inbound::Opened { .. }) = events.recv().await else {
        panic!("not opened")
    };
    let probe = br#"{"id":"echo","method":"echo","params":[]}"#;
    assert_eq!(read_exactly(&mut client, probe.len()).await, probe);
    write(&mut client, r#"{"id":"echo","result":[],"error":null}"#).await;
    let Some(Inbound::Message { message, .. }) = events.recv().await else {
        panic!("no answer")
    };
    assert_eq!(message, json!({"id": "echo", "result": [], "error": null}));
    assert_eq!(read_exactly(&mut client, probe.len()).await, probe);
    assert_eq!(read_to_end(&mut client).await, "");
    assert!(matches!(events.recv().await, Some(Inbound::Closed { .. })));
}
