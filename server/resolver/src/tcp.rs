//! Questions over connections, on one address.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nonnet_hooks::directory::Directory;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::answer::{Answer, answer};
use crate::client::Places;
use crate::forward::Forwarder;
use crate::limits::{CONNECTION_IDLE_MS, QUESTION_BYTES_MAX};

/// How long to pause when no connection can be accepted, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a listener until it is dropped, and its connections with it.
pub(crate) async fn serve(
    listener: TcpListener,
    directory: watch::Receiver<Directory>,
    forwarder: Forwarder,
    places: Places,
) {
    let Ok(address) = listener.local_addr() else { return };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, client)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(place) = places.take(client.ip()) else {
            continue;
        };
        let (directory, forwarder) = (directory.clone(), forwarder.clone());
        connections.spawn(async move {
            let ended = converse(stream, address.ip(), client.ip(), &directory, &forwarder).await;
            if let Err(error) = ended {
                tracing::debug!(%error, %client, "a connection for names ends");
            }
            drop(place);
        });
    }
}

async fn converse(
    mut stream: TcpStream,
    listener: IpAddr,
    client: IpAddr,
    directory: &watch::Receiver<Directory>,
    forwarder: &Forwarder,
) -> io::Result<()> {
    let idle = Duration::from_millis(CONNECTION_IDLE_MS);
    loop {
        let question = match timeout(idle, read(&mut stream)).await {
            Ok(Ok(question)) => question,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let now = directory.borrow().clone();
        let bytes = match answer(&now, listener, client, &question) {
            Answer::Silence => return Ok(()),
            Answer::Ours(reply) => reply.encode(&question, None).unwrap_or_default(),
            Answer::Forward => forwarder.forward(&now, listener, client, &question, true).await,
        };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), bytes.as_slice()].concat();
        // A client that takes no answer holds its place no longer than one that asks nothing.
        timeout(idle, stream.write_all(&framed)).await??;
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUESTION_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the question is too long"));
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await?;
    Ok(question)
}
