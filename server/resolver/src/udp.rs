//! Questions in datagrams, on one address.

use std::net::SocketAddr;
use std::sync::Arc;

use nonnet_hooks::directory::Directory;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::answer::{Answer, answer, datagram_bytes_max};
use crate::forward::Forwarder;
use crate::limits::QUESTION_BYTES_MAX;

/// Serves a socket until it is dropped.
pub(crate) async fn serve(socket: UdpSocket, directory: watch::Receiver<Directory>, forwarder: Forwarder) {
    let Ok(listener) = socket.local_addr() else { return };
    let socket = Arc::new(socket);
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An answer that could not be delivered is told here; the next question is another matter.
                tracing::debug!(%error, "a datagram cannot be read");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        let now = directory.borrow().clone();
        match answer(&now, listener.ip(), client.ip(), bytes) {
            Answer::Silence => {}
            Answer::Ours(reply) => {
                if let Some(bytes) = reply.encode(bytes, Some(datagram_bytes_max(bytes))) {
                    send(&socket, &bytes, client).await;
                }
            }
            Answer::Forward => {
                let question = bytes.to_vec();
                let (socket, forwarder) = (Arc::clone(&socket), forwarder.clone());
                tokio::spawn(async move {
                    let answer = forwarder
                        .forward(&now, listener.ip(), client.ip(), &question, false)
                        .await;
                    send(&socket, &answer, client).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%error, %client, "an answer cannot be sent");
    }
}
