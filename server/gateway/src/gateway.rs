//! The listening socket and its connections, from accept to the clean end.

use std::{fmt, io, sync::Arc, time::Duration};

use ecow::EcoString;
use hyper::body::Incoming;
use jsonrpsee::{
    RpcModule,
    core::{RegisterMethodError, middleware::RpcServiceBuilder},
    server::{
        BatchRequestConfig, HttpRequest, ServerBuilder, ServerConfig, StopHandle, serve_with_graceful_shutdown,
        stop_channel,
    },
};
use nonnet_rpc::{Attacher, ListenError, SocketFile, identify_unix, listen_unix};
use nonnet_schema::MESSAGE_BYTES_MAX;
use thiserror::Error;
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    address::Address,
    connection::Connection,
    limits::{ACCEPT_PAUSE, CONNECTIONS_MAX, MESSAGES_QUEUED_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX},
    method::{Refusing, module},
    route::answer,
};

/// What a connection beyond [`CONNECTIONS_MAX`] gets.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 36\r\n\
    Connection: close\r\n\r\nThe gateway has all its connections\n";

/// What clients of the gateway may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look.
    ReadOnly,
    /// Whatever a client of the server may.
    Write,
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::Write => "writable",
        })
    }
}

/// Why the gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The socket cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Two methods have one name.
    #[error("the gateway's methods: {0}")]
    Methods(#[from] RegisterMethodError),
}

/// Serves HTTP on one socket; its methods need a tokio runtime.
///
/// Dropping it ends the connections at their next pause but leaves the socket's file; [`stop`](Self::stop) does it all.
pub struct Gateway {
    phase: watch::Sender<Phase>,
    accepting: JoinHandle<()>,
    file: Option<SocketFile>,
    address: Address,
}

/// `Open` -> `Closed` (no more connections) -> `Ending` (none at all).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Closed,
    Ending,
}

impl Gateway {
    /// Starts to listen; each connection becomes a session there once it calls something.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the socket cannot be opened; nothing has changed then.
    pub fn start(address: Address, access: Access, attacher: Attacher) -> Result<Self, StartError> {
        let methods = module()?;
        let (listener, file) = listen_unix(&address.path)?;
        let (phase, phases) = watch::channel(Phase::Open);
        let door = Door {
            remote: EcoString::from(format!("http:{address}")),
            access,
            attacher,
            methods,
            phases,
        };
        Ok(Self {
            phase,
            accepting: tokio::spawn(door.run(listener)),
            file: Some(file),
            address,
        })
    }

    /// Stops accepting and removes the socket's file; connections go on.
    pub fn stop_accepting(&mut self) {
        self.phase.send_if_modified(|phase| {
            let is_open = *phase == Phase::Open;
            *phase = (*phase).max(Phase::Closed);
            is_open
        });
        if let Some(file) = self.file.take()
            && let Err(cause) = file.remove()
            && cause.kind() != io::ErrorKind::NotFound
        {
            warn!(address = %self.address, %cause, "the socket's file was not removed");
        }
    }

    /// Lets each connection finish its calls, then ends it; after the given grace by force.
    pub async fn stop(mut self, grace: Duration) {
        self.stop_accepting();
        self.phase.send_replace(Phase::Ending);
        if timeout(grace, &mut self.accepting).await.is_err() {
            // With the task go the connections it holds.
            self.accepting.abort();
        }
    }
}

/// What accepting needs.
struct Door {
    remote: EcoString,
    access: Access,
    attacher: Attacher,
    methods: RpcModule<()>,
    phases: watch::Receiver<Phase>,
}

impl Door {
    async fn run(self, listener: UnixListener) {
        let mut connections = JoinSet::new();
        let mut phases = self.phases.clone();
        loop {
            tokio::select! {
                () = reached(&mut phases, Phase::Closed) => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                        connections.spawn(self.serve(stream));
                    }
                    Ok((stream, _)) => {
                        tokio::spawn(refuse(stream));
                    }
                    Err(error) => {
                        warn!(remote = %self.remote, %error, "cannot accept connections for now");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// Serves one connection to its end, which for a WebSocket is long after its upgrade.
    fn serve(&self, stream: UnixStream) -> impl Future<Output = ()> + Send + use<> {
        let mut peer = identify_unix(&stream, self.remote.clone());
        peer.read_only = self.access == Access::ReadOnly;
        let (stop, handle) = stop_channel();
        let connection = Arc::new(Connection::new(peer, self.attacher.clone(), handle.clone()));
        let (methods, mut phases) = (self.methods.clone(), self.phases.clone());
        async move {
            let ended = handle.clone();
            let serving = async move {
                exchange(stream, connection, methods, stop).await;
                // Whoever serves the connection holds a stop handle.
                ended.stopped().await;
            };
            tokio::pin!(serving);
            tokio::select! {
                () = &mut serving => return,
                () = reached(&mut phases, Phase::Ending) => {}
            }
            // Stopped already is as good.
            let _ = handle.stop();
            serving.await;
        }
    }
}

async fn exchange(stream: UnixStream, connection: Arc<Connection>, methods: RpcModule<()>, stop: StopHandle) {
    let middleware = RpcServiceBuilder::new().layer_fn(|service| Refusing { service });
    let rpc = ServerBuilder::default()
        .set_config(config())
        .set_rpc_middleware(middleware)
        .to_service_builder()
        .build(methods, stop.clone());
    let service =
        tower::service_fn(move |request: HttpRequest<Incoming>| answer(request, Arc::clone(&connection), rpc.clone()));
    if let Err(error) = serve_with_graceful_shutdown(stream, service, stop.shutdown()).await {
        debug!(%error, "HTTP connection ended");
    }
}

fn config() -> ServerConfig {
    ServerConfig::builder()
        .max_request_body_size(MESSAGE_BYTES_MAX as u32)
        // As long as the server makes them.
        .max_response_body_size(u32::MAX)
        .max_subscriptions_per_connection(SUBSCRIPTIONS_PER_CONNECTION_MAX)
        .set_message_buffer_capacity(MESSAGES_QUEUED_MAX)
        // One transaction has many operations; nothing else is worth a batch.
        .set_batch_request_config(BatchRequestConfig::Disabled)
        .build()
}

/// Waits for a phase or a later one; a gateway that was dropped has reached them all.
async fn reached(phases: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phases.wait_for(|phase| *phase >= wanted).await;
}

async fn refuse(mut stream: UnixStream) {
    warn!("an HTTP connection was refused: all {CONNECTIONS_MAX} are taken");
    // The buffer of a fresh socket takes it at once; a client that is gone needs no answer.
    let _ = stream.write_all(FULL).await;
}
