//! The loop that accepts the sessions of one remote that listens.

use std::{io, sync::Arc};

use nix::sys::socket::{setsockopt, sockopt::KeepAlive};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    bind::set_code_point,
    endpoint::Endpoint,
    limits::{ACCEPT_FAILURES_MAX, ACCEPT_PAUSE, HANDSHAKE_TIME_MAX},
    refuse::{refuse, refuse_unheard},
    session::{Common, serve},
    stream::Stream,
    tls::{Loaded, TlsKeeper, TlsStream},
};

/// A socket that is listened on.
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener),
}

impl Listener {
    /// The port, on TCP and TLS.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(listener) | Self::Tls(listener) => listener.local_addr().ok().map(|bound| bound.port()),
        }
    }
}

/// A connection as it comes.
enum Incoming {
    Plain(Stream),
    /// Its handshake is still to be done; the permit is its place among [`HANDSHAKES_MAX`](crate::limits::HANDSHAKES_MAX).
    Tls(TcpStream, OwnedSemaphorePermit),
}

/// Accepts sessions until it is dropped.
pub(crate) struct AcceptLoop {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) listener: Listener,
    pub(crate) common: Arc<Common>,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) sessions_max: u32,
}

impl AcceptLoop {
    pub(crate) async fn run(self) {
        let mut failures = 0;
        loop {
            match self.accept().await {
                Ok(incoming) => {
                    failures = 0;
                    self.admit(incoming);
                }
                Err(error) => {
                    failures += 1;
                    self.recover(&error, failures).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Incoming> {
        match &self.listener {
            Listener::Unix(listener) => Ok(Incoming::Plain(Stream::Unix(listener.accept().await?.0))),
            Listener::Tcp(listener) => Ok(Incoming::Plain(Stream::Tcp(self.accept_tcp(listener).await?))),
            Listener::Tls(listener) => {
                let turn = Arc::clone(&self.common.handshakes).acquire_owned().await;
                // The semaphore is never closed.
                let turn = turn.map_err(io::Error::other)?;
                Ok(Incoming::Tls(self.accept_tcp(listener).await?, turn))
            }
        }
    }

    async fn accept_tcp(&self, listener: &TcpListener) -> io::Result<TcpStream> {
        let (stream, _) = listener.accept().await?;
        prepare(&stream, self.endpoint.options().code_point())?;
        Ok(stream)
    }

    /// Rests where accepting again at once would fail again at once; a single failure is most often a client that has gone (`accept(2)`).
    async fn recover(&self, error: &io::Error, failures: u32) {
        if !is_shortage(error) && failures < ACCEPT_FAILURES_MAX {
            return;
        }
        if failures == 1 || failures == ACCEPT_FAILURES_MAX {
            warn!(remote = %self.endpoint.name, %error, "cannot accept sessions for now");
        }
        sleep(ACCEPT_PAUSE).await;
    }

    fn admit(&self, incoming: Incoming) {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let (endpoint, common) = (Arc::clone(&self.endpoint), Arc::clone(&self.common));
        match (incoming, place) {
            (Incoming::Plain(stream), Ok(place)) => {
                tokio::spawn(async move { serve(stream, &endpoint, &common, place).await });
            }
            (Incoming::Tls(stream, turn), Ok(place)) => {
                tokio::spawn(async move {
                    let secured = secure(stream, &common).await;
                    drop(turn);
                    match secured {
                        Ok(stream) => {
                            serve(stream, &endpoint, &common, place).await;
                        }
                        Err(error) => endpoint.refused(&error),
                    }
                });
            }
            (Incoming::Plain(stream), Err(_)) => refuse(&stream, self.sessions_max),
            (Incoming::Tls(..), Err(_)) => refuse_unheard(self.sessions_max),
        }
    }
}

/// Does the handshake of a client.
async fn secure(stream: TcpStream, common: &Arc<Common>) -> Result<Stream, String> {
    let peer = stream.peer_addr().map(|address| address.to_string());
    let peer = peer.unwrap_or_else(|_| "a client that has gone".to_owned());
    let handshake = async {
        let loaded = load_tls(&common.tls).await?;
        let accepted = TlsStream::accept(stream, &loaded).await;
        accepted.map_err(|error| format!("TLS with {peer} failed: {error}"))
    };
    match timeout(HANDSHAKE_TIME_MAX, handshake).await {
        Ok(accepted) => Ok(Stream::Tls(Box::new(accepted?))),
        Err(_) => Err(format!("TLS with {peer} failed: it took too long")),
    }
}

/// What TLS is made of now; files are read on another thread than that of the sessions.
pub(crate) async fn load_tls(keeper: &Arc<TlsKeeper>) -> Result<Arc<Loaded>, String> {
    let keeper = Arc::clone(keeper);
    let loaded = spawn_blocking(move || keeper.current()).await;
    loaded
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// Sets on a connected socket what all our TCP sessions have.
pub(crate) fn prepare(stream: &TcpStream, code_point: u8) -> io::Result<()> {
    // Replies are single writes; waiting to gather more would only delay them.
    stream.set_nodelay(true)?;
    setsockopt(stream, KeepAlive, &true)?;
    if let Err(error) = set_code_point(stream, stream.local_addr()?, code_point) {
        debug!(%error, "the code point of a session was not set");
    }
    Ok(())
}

/// Whether the process or the system has run out of something.
fn is_shortage(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}
