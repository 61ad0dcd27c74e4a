//! The owner of all remotes and of the sessions they bring.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use nonnet_sessions::Peer;
use tokio::{net::UnixStream, sync::Semaphore, task::JoinHandle, time::timeout};
use tracing::{info, warn};

use crate::{
    accept::{AcceptLoop, Listener},
    bind::{ListenError, SocketFile, listen_tcp, listen_unix_as},
    dial::Dialler,
    endpoint::Endpoint,
    inbound::InboundSender,
    inherit::inherited,
    limits::{LINGER, SESSIONS_MAX},
    options::RemoteOptions,
    remote::Remote,
    session::{Common, serve_peer},
    status::RemoteStatus,
    stream::Stream,
    tls::{Tls, TlsDialler},
};

/// One remote that brings sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// As it was asked for.
    pub remote: Remote,
    /// The port listened on, on TCP and TLS; the kernel's choice where 0 was asked for.
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

/// Listens on remotes and dials them, and runs their sessions. Its methods need a tokio runtime.
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
    endpoint: Arc<Endpoint>,
    /// Accepts or dials.
    task: JoinHandle<()>,
    file: Option<SocketFile>,
}

impl Running {
    /// Brings in no more sessions.
    fn end(&self) {
        self.task.abort();
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
        self.task.abort();
    }
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

    /// Starts to listen, or to dial; sessions come from now on.
    ///
    /// A remote that cannot be dialled is no error: it is tried again and again.
    ///
    /// # Errors
    ///
    /// [`ListenError`] when the socket cannot be opened; nothing has changed then.
    pub fn start(&mut self, remote: Remote, options: RemoteOptions) -> Result<Listening, ListenError> {
        let endpoint = Arc::new(Endpoint::new(&remote, options));
        let running = self.run(remote, endpoint)?;
        let listening = running.listening.clone();
        self.running.push(running);
        Ok(listening)
    }

    fn run(&self, remote: Remote, endpoint: Arc<Endpoint>) -> Result<Running, ListenError> {
        let options = endpoint.options();
        let (listener, file) = match &remote {
            Remote::PassiveUnix(path) => {
                let (listener, file) = listen_unix_as(path, &options)?;
                (Listener::Unix(listener), Some(file))
            }
            Remote::PassiveTcp(address) => (Listener::Tcp(listen_tcp(*address, &options)?), None),
            Remote::PassiveTls(address) => (Listener::Tls(listen_tcp(*address, &options)?), None),
            Remote::PassiveFd(number) => (inherited(*number)?, None),
            Remote::ActiveUnix(_) | Remote::ActiveTcp(_) | Remote::ActiveTls(_) => {
                return Ok(self.dial(remote, endpoint));
            }
        };
        let port = listener.port();
        if let (Remote::PassiveTcp(asked) | Remote::PassiveTls(asked), Some(port)) = (&remote, port) {
            log_port(*asked, port);
        }
        let loop_of = AcceptLoop {
            endpoint: Arc::clone(&endpoint),
            listener,
            common: Arc::clone(&self.common),
            places: Arc::clone(&self.places),
            sessions_max: self.sessions_max,
        };
        Ok(Running {
            listening: Listening { remote, port },
            endpoint,
            task: tokio::spawn(loop_of.run()),
            file,
        })
    }

    fn dial(&self, remote: Remote, endpoint: Arc<Endpoint>) -> Running {
        let dialler = Dialler {
            remote: remote.clone(),
            endpoint: Arc::clone(&endpoint),
            common: Arc::clone(&self.common),
            places: Arc::clone(&self.places),
        };
        Running {
            listening: Listening { remote, port: None },
            endpoint,
            task: tokio::spawn(dialler.run()),
            file: None,
        }
    }

    /// Changes the options of a remote. Its sessions go on where only `inactivity_probe` and `max_backoff` change, and are closed where
    /// `dscp`, `read_only` or `role` do; it goes on to listen. `mode` and `group` are for the next start. False where there is no such
    /// remote.
    pub fn configure(&mut self, remote: &Remote, options: RemoteOptions) -> bool {
        let Some(running) = self.find(remote) else {
            return false;
        };
        running.endpoint.configure(options);
        true
    }

    /// How a remote is doing; None where there is no such remote.
    pub fn status(&self, remote: &Remote) -> Option<RemoteStatus> {
        let running = self.find(remote)?;
        Some(RemoteStatus {
            bound_port: running.listening.port,
            ..running.endpoint.status()
        })
    }

    /// Sets what TLS is made of for all remotes, from the next connection on. Nothing is read before then; [`Tls::check`] tells whether it
    /// will do.
    pub fn set_tls(&mut self, tls: Tls) {
        self.common.tls.set(tls);
    }

    /// A handle for connections to servers with the same TLS.
    pub fn tls_dialler(&self) -> TlsDialler {
        TlsDialler::new(Arc::clone(&self.common.tls))
    }

    fn find(&self, remote: &Remote) -> Option<&Running> {
        self.running.iter().find(|running| running.listening.remote == *remote)
    }

    /// A handle for sessions that come from elsewhere than a remote; they end with [`stop`](Self::stop) like all others.
    pub fn attacher(&self) -> Attacher {
        Attacher {
            common: Arc::clone(&self.common),
            places: Arc::clone(&self.places),
        }
    }

    /// The remotes, in the order they were started.
    pub fn list(&self) -> Vec<Listening> {
        self.running.iter().map(|running| running.listening.clone()).collect()
    }

    /// Stops a remote: nothing is accepted or dialled any more, its socket's file is removed, and its sessions are closed once what is
    /// queued for them has been written. False where there is no such remote.
    pub fn stop_remote(&mut self, remote: &Remote) -> bool {
        let found = self
            .running
            .iter()
            .position(|running| running.listening.remote == *remote);
        let Some(running) = found.map(|at| self.running.remove(at)) else {
            return false;
        };
        running.end();
        running.endpoint.stop();
        true
    }

    /// How many sessions are open, those included that are just being closed.
    pub fn sessions(&self) -> usize {
        self.sessions_max as usize - self.places.available_permits()
    }

    /// Stops accepting and removes the sockets' files; sessions go on.
    pub fn stop_accepting(&mut self) {
        self.common.stopping.store(true, Ordering::Relaxed);
        self.running.drain(..).for_each(|running| running.end());
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
