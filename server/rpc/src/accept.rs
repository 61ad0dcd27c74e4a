//! The loop that accepts the sessions of one remote that listens.

use std::{io, sync::Arc};

use nix::sys::socket::{setsockopt, sockopt::KeepAlive};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::Semaphore,
    time::sleep,
};
use tracing::{debug, warn};

use crate::{
    bind::set_code_point,
    endpoint::Endpoint,
    limits::{ACCEPT_FAILURES_MAX, ACCEPT_PAUSE},
    refuse::refuse,
    session::{Common, serve},
    stream::Stream,
};

/// A socket that is listened on.
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// The port, on TCP.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(listener) => listener.local_addr().ok().map(|bound| bound.port()),
        }
    }
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
                Ok(stream) => {
                    failures = 0;
                    self.admit(stream);
                }
                Err(error) => {
                    failures += 1;
                    self.recover(&error, failures).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match &self.listener {
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                prepare(&stream, self.endpoint.options().code_point())?;
                Ok(Stream::Tcp(stream))
            }
        }
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

    fn admit(&self, stream: Stream) {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                let (endpoint, common) = (Arc::clone(&self.endpoint), Arc::clone(&self.common));
                tokio::spawn(async move {
                    serve(stream, &endpoint, &common, place).await;
                });
            }
            Err(_) => refuse(&stream, self.sessions_max),
        }
    }
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
