//! The owner of all sockets the server listens on and of the sessions they bring.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ecow::EcoString;
use nix::sys::socket::{setsockopt, sockopt::KeepAlive};
use nonnet_sessions::Peer;
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    bind::{ListenError, SocketFile, listen_tcp, listen_unix},
    inbound::InboundSender,
    limits::{ACCEPT_FAILURES_MAX, ACCEPT_PAUSE, LINGER, SESSIONS_MAX},
    refuse::refuse,
    remote::Remote,
    session::{Common, serve, serve_peer},
    stream::Stream,
};

/// One remote that is being listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// As it was asked for.
    pub remote: Remote,
    /// The port in use, on TCP; the kernel's choice where 0 was asked for.
    pub port: Option<u16>,
}

/// Brings in sessions whose clients some other listener of this process has accepted.
#[derive(Clone)]
pub struct Attacher {
    common: Arc<Common>,
    places: Arc<Semaphore>,
}

impl Attacher {
    /// Serves a session over `stream` for `peer`, whoever holds the stream's other end; needs a tokio runtime. False where all
    /// [`SESSIONS_MAX`] places are taken: nothing has happened then.
    #[must_use]
    pub fn attach(&self, stream: UnixStream, peer: Peer) -> bool {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return false;
        };
        let common = Arc::clone(&self.common);
        tokio::spawn(serve_peer(Stream::Unix(stream), peer, common, place));
        true
    }
}

/// Listens on remotes and runs the sessions they accept. Its methods need a tokio runtime.
///
/// Dropping it stops the accepting but neither removes the sockets' files nor ends the sessions; [`stop`](Self::stop) does.
pub struct Listeners {
    common: Arc<Common>,
    places: Arc<Semaphore>,
    sessions_max: u32,
    running: Vec<Running>,
}

struct Running {
    listening: Listening,
    accepting: JoinHandle<()>,
    file: Option<SocketFile>,
}

impl Running {
    fn end(self) {
        self.accepting.abort();
        if let Some(file) = &self.file
            && let Err(cause) = file.remove()
            && cause.kind() != io::ErrorKind::NotFound
        {
            warn!(remote = %self.listening.remote, %cause, "the socket's file was not removed");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listeners {
    /// No remotes yet; all sessions will put their events there.
    pub fn new(inbound: InboundSender) -> Self {
        Self::with_sessions_max(inbound, SESSIONS_MAX as u32)
    }

    /// As [`new`](Self::new), with another limit than [`SESSIONS_MAX`].
    pub fn with_sessions_max(inbound: InboundSender, sessions_max: u32) -> Self {
        Self {
            common: Arc::new(Common::new(inbound)),
            places: Arc::new(Semaphore::new(sessions_max as usize)),
            sessions_max,
            running: Vec::new(),
        }
    }

    /// Starts to listen; sessions come from now on.
    ///
    /// # Errors
    ///
    /// [`ListenError`] when the socket cannot be opened; nothing has changed then.
    pub fn start(&mut self, remote: Remote) -> Result<Listening, ListenError> {
        let (listener, file, port) = match &remote {
            Remote::PassiveUnix(path) => {
                let (listener, file) = listen_unix(path)?;
                (Listener::Unix(listener), Some(file), None)
            }
            Remote::PassiveTcp(address) => {
                let listener = listen_tcp(*address)?;
                let port = listener.local_addr().ok().map(|bound| bound.port());
                (Listener::Tcp(listener), None, port)
            }
        };
        if let (Remote::PassiveTcp(asked), Some(port)) = (&remote, port) {
            log_port(*asked, port);
        }
        let loop_of = AcceptLoop {
            remote: EcoString::from(remote.to_string()),
            listener,
            common: Arc::clone(&self.common),
            places: Arc::clone(&self.places),
            sessions_max: self.sessions_max,
        };
        let listening = Listening { remote, port };
        self.running.push(Running {
            listening: listening.clone(),
            accepting: tokio::spawn(loop_of.run()),
            file,
        });
        Ok(listening)
    }

    /// A handle for sessions that come from elsewhere than a remote; they end with [`stop`](Self::stop) like all others.
    pub fn attacher(&self) -> Attacher {
        Attacher {
            common: Arc::clone(&self.common),
            places: Arc::clone(&self.places),
        }
    }

    /// The remotes being listened on, in the order they were started.
    pub fn list(&self) -> Vec<Listening> {
        self.running.iter().map(|running| running.listening.clone()).collect()
    }

    /// Stops accepting on one remote and removes its socket's file; its sessions go on. False where it is not being listened on.
    pub fn stop_remote(&mut self, remote: &Remote) -> bool {
        let found = self
            .running
            .iter()
            .position(|running| running.listening.remote == *remote);
        let Some(running) = found.map(|at| self.running.remove(at)) else {
            return false;
        };
        running.end();
        true
    }

    /// How many sessions are open, those included that are just being closed.
    pub fn sessions(&self) -> usize {
        self.sessions_max as usize - self.places.available_permits()
    }

    /// Stops accepting and removes the sockets' files; sessions go on.
    pub fn stop_accepting(&mut self) {
        self.common.stopping.store(true, Ordering::Relaxed);
        self.running.drain(..).for_each(Running::end);
    }

    /// Stops accepting, writes out what is queued for each session, and ends them all; after the given grace by force.
    ///
    /// The events of the ending sessions still come, so the state thread must go on taking them, or have dropped its receiver.
    pub async fn stop(mut self, grace: Duration) {
        self.stop_accepting();
        for outbox in self.common.outboxes() {
            outbox.close_after_flush();
        }
        let all_gone = self.places.acquire_many(self.sessions_max);
        if timeout(grace, all_gone).await.is_ok() {
            return;
        }
        let outboxes = self.common.outboxes();
        for outbox in &outboxes {
            outbox.abort();
        }
        if timeout(LINGER, self.places.acquire_many(self.sessions_max))
            .await
            .is_err()
        {
            warn!(sessions = self.sessions(), "sessions were still open at the end");
        }
    }
}

/// Says the port the kernel chose; scripts wait for these words (ovsdb-server's `socket_util`).
fn log_port(asked: SocketAddr, port: u16) {
    match asked {
        SocketAddr::V4(address) => {
            info!(target: "socket_util", "{}:{}: listening on port {port}", address.port(), address.ip());
        }
        SocketAddr::V6(address) => {
            info!(target: "socket_util", "{}:[{}]: listening on port {port}", address.port(), address.ip());
        }
    }
}

struct AcceptLoop {
    remote: EcoString,
    listener: Listener,
    common: Arc<Common>,
    places: Arc<Semaphore>,
    sessions_max: u32,
}

impl AcceptLoop {
    async fn run(self) {
        let mut failures = 0;
        loop {
            match self.listener.accept().await {
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

    /// Rests where accepting again at once would fail again at once; a single failure is most often a client that has gone (`accept(2)`).
    async fn recover(&self, error: &io::Error, failures: u32) {
        if !is_shortage(error) && failures < ACCEPT_FAILURES_MAX {
            return;
        }
        if failures == 1 || failures == ACCEPT_FAILURES_MAX {
            warn!(remote = %self.remote, %error, "cannot accept sessions for now");
        }
        sleep(ACCEPT_PAUSE).await;
    }

    fn admit(&self, stream: Stream) {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(serve(stream, self.remote.clone(), Arc::clone(&self.common), place));
            }
            Err(_) => refuse(&stream, self.sessions_max),
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Replies are single writes; waiting to gather more would only delay them.
                stream.set_nodelay(true)?;
                setsockopt(&stream, KeepAlive, &true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// Whether the process or the system has run out of something.
fn is_shortage(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}
