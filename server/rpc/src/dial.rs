//! The loop that dials one remote, serves the session that comes of it, and dials again when it has ended.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{
    net::{TcpSocket, TcpStream, UnixStream, lookup_host},
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use crate::{
    accept::{load_tls, prepare},
    backoff::Backoff,
    bind::set_code_point,
    endpoint::Endpoint,
    limits::DIAL_TIME_MAX,
    outbox::End,
    remote::{Host, Remote},
    session::{Common, serve},
    stream::Stream,
    tls::{TlsKeeper, TlsStream},
};

/// Dials until it is dropped; a session that it has brought goes on then.
pub(crate) struct Dialler {
    pub(crate) remote: Remote,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) common: Arc<Common>,
    pub(crate) places: Arc<Semaphore>,
}

impl Dialler {
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut told = None;
        loop {
            self.endpoint.connecting();
            let longest = || self.endpoint.options().backoff_max();
            let wait = match self.attempt().await {
                Ok(lasted) => {
                    told = None;
                    backoff.after_connection(lasted, longest())
                }
                Err(error) => {
                    // The same reason again and again is no news.
                    if told.as_ref() != Some(&error) {
                        warn!(
                            "{}: cannot connect: {error}; it is tried again and again",
                            self.endpoint.name
                        );
                        told = Some(error.clone());
                    }
                    self.endpoint.failed(error);
                    backoff.after_failure(longest())
                }
            };
            self.wait(wait).await;
        }
    }

    /// Dials once and serves the session; gives how long that lasted, or why it was not reached.
    async fn attempt(&self) -> Result<Duration, String> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| "all sessions of this server are taken".to_owned())?;
        let stream = match timeout(DIAL_TIME_MAX, self.dial()).await {
            Ok(dialled) => dialled?,
            Err(_) => return Err("Connection timed out".to_owned()),
        };
        info!("{}: connected", self.endpoint.name);
        let began = Instant::now();
        self.endpoint.connected();
        let (endpoint, common) = (Arc::clone(&self.endpoint), Arc::clone(&self.common));
        // In a task of its own, since the session ends in an orderly way even when the remote is no longer dialled.
        let session = tokio::spawn(async move { serve(stream, &endpoint, &common, place).await });
        let end = session.await.unwrap_or(End::JobFailed);
        let reason = reason_of(end);
        info!("{}: connection closed: {reason}", self.endpoint.name);
        self.endpoint.disconnected(reason.to_owned());
        Ok(began.elapsed())
    }

    async fn dial(&self) -> Result<Stream, String> {
        match &self.remote {
            Remote::ActiveUnix(path) => dial_unix(path).await.map_err(|error| plain(&error)),
            Remote::ActiveTcp(host) => {
                let code_point = self.endpoint.options().code_point();
                let tcp = dial_host(host, code_point).await;
                Ok(Stream::Tcp(tcp.map_err(|error| plain(&error))?))
            }
            Remote::ActiveTls(host) => {
                let code_point = self.endpoint.options().code_point();
                Ok(Stream::Tls(Box::new(
                    dial_tls(&self.common.tls, host, code_point).await?,
                )))
            }
            Remote::PassiveUnix(_) | Remote::PassiveTcp(_) | Remote::PassiveTls(_) | Remote::PassiveFd(_) => {
                Err("not a remote to dial".to_owned())
            }
        }
    }

    /// Waits before the next attempt; less where the longest wait becomes shorter meanwhile.
    async fn wait(&self, wait: Duration) {
        let mut options = self.endpoint.watch();
        let began = Instant::now();
        loop {
            let until = began + wait.min(options.borrow_and_update().backoff_max());
            tokio::select! {
                () = sleep_until(until) => return,
                // The endpoint outlives the loop.
                _ = options.changed() => {}
            }
        }
    }
}

/// Dials all addresses of a host, in turn, until one answers.
async fn dial_host(host: &Host, code_point: u8) -> io::Result<TcpStream> {
    let (name, port) = match host {
        Host::Address(address) => return dial_tcp(*address, code_point).await,
        Host::Name { name, port } => (name.as_str(), *port),
    };
    let mut last = io::Error::other("the name has no address");
    for address in lookup_host((name, port)).await? {
        match dial_tcp(address, code_point).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_tcp(address: SocketAddr, code_point: u8) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Where the system has no code points, sessions do without.
    let _ = set_code_point(&socket, address, code_point);
    let stream = socket.connect(address).await?;
    prepare(&stream, code_point)?;
    Ok(stream)
}

/// Dials a host and does the handshake, with what TLS is made of now.
///
/// # Errors
/// What is wrong with the settings of TLS, or why there is no connection.
pub(crate) async fn dial_tls(keeper: &Arc<TlsKeeper>, host: &Host, code_point: u8) -> Result<TlsStream, String> {
    let loaded = load_tls(keeper).await?;
    let tcp = dial_host(host, code_point).await.map_err(|error| plain(&error))?;
    let name = match host {
        Host::Address(address) => address.ip().to_string(),
        Host::Name { name, .. } => name.clone(),
    };
    let connected = TlsStream::connect(tcp, &loaded, &name).await;
    connected.map_err(|error| plain(&error))
}

async fn dial_unix(path: &Path) -> io::Result<Stream> {
    Ok(Stream::Unix(UnixStream::connect(path).await?))
}

/// Why a session ended, in the words that the status of a remote has for it.
fn reason_of(end: End) -> &'static str {
    match end {
        // A peer that has said it sends no more gets its replies, then the connection is closed.
        End::Flushed | End::PeerGone => "End of file",
        End::PeerSilent => "Connection timed out",
        End::Overflowed | End::Stalled => "the peer did not read",
        End::GaveWay => "the peer sent too slowly",
        End::Aborted | End::JobFailed | End::StateGone => "closed by the server",
    }
}

/// The system's words without Rust's number behind them.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
