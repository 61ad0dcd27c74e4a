//! What the parts of one remote share: its options, its sessions, and how its connection is doing.
//!
//! It opens nothing and waits for nothing.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ecow::EcoString;
use nonnet_sessions::{Peer, SessionId};
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use crate::{
    limits::REFUSAL_LOG_INTERVAL,
    options::RemoteOptions,
    outbox::Outbox,
    remote::Remote,
    status::{ConnectionState, RemoteStatus},
};

/// One remote, as its listener or dialler and its sessions see it.
pub(crate) struct Endpoint {
    /// The remote's text.
    pub(crate) name: EcoString,
    /// Whether silent peers are asked for a sign of life where the options do not say.
    is_probed: bool,
    options: watch::Sender<RemoteOptions>,
    state: Mutex<State>,
}

struct State {
    sessions: BTreeMap<SessionId, Outbox>,
    is_stopped: bool,
    /// Of remotes that dial.
    connection: Option<Connection>,
    /// When a refusal was last logged, and how many were not since.
    refusal_logged: Option<Instant>,
    refusals_unlogged: u64,
}

struct Connection {
    state: ConnectionState,
    connected: Option<Instant>,
    disconnected: Option<Instant>,
    last_error: Option<String>,
}

impl Endpoint {
    pub(crate) fn new(remote: &Remote, options: RemoteOptions) -> Self {
        let is_probed = match remote {
            Remote::PassiveTcp(_) | Remote::PassiveTls(_) | Remote::ActiveTcp(_) | Remote::ActiveTls(_) => true,
            Remote::PassiveUnix(_) | Remote::ActiveUnix(_) | Remote::PassiveFd(_) => false,
        };
        let connection = remote.is_active().then_some(Connection {
            state: ConnectionState::Connecting,
            connected: None,
            disconnected: None,
            last_error: None,
        });
        let state = State {
            sessions: BTreeMap::new(),
            is_stopped: false,
            connection,
            refusal_logged: None,
            refusals_unlogged: 0,
        };
        Self {
            name: EcoString::from(remote.to_string()),
            is_probed,
            options: watch::Sender::new(options),
            state: Mutex::new(state),
        }
    }

    /// The options as they are now.
    pub(crate) fn options(&self) -> RemoteOptions {
        self.options.borrow().clone()
    }

    /// The options, and how they change.
    pub(crate) fn watch(&self) -> watch::Receiver<RemoteOptions> {
        self.options.subscribe()
    }

    /// How a silent peer of the remote is to be treated.
    pub(crate) fn probing(&self) -> Probing<'_> {
        Probing {
            endpoint: self,
            options: self.watch(),
        }
    }

    /// Changes the options; sessions that cannot go on with the new ones are closed.
    pub(crate) fn configure(&self, options: RemoteOptions) {
        // Under the lock, so that a session that comes meanwhile is either closed or has the new options.
        let state = self.state();
        let old = self.options.send_replace(options);
        if self.options.borrow().ends_sessions_of(&old) {
            state.sessions.values().for_each(Outbox::close_after_flush);
        }
    }

    /// Takes in a session, and gives its peer what the options say about it. False once the remote is stopped.
    pub(crate) fn enter(&self, session: SessionId, outbox: &Outbox, peer: &mut Peer) -> bool {
        let mut state = self.state();
        if state.is_stopped {
            return false;
        }
        let options = self.options.borrow();
        peer.read_only = options.read_only;
        peer.role = options.role.clone();
        state.sessions.insert(session, outbox.clone());
        true
    }

    /// Lets go of a session that has ended.
    pub(crate) fn leave(&self, session: SessionId) {
        self.state().sessions.remove(&session);
    }

    /// Takes in no more sessions, and closes those it has once they have their replies.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.is_stopped = true;
        state.sessions.values().for_each(Outbox::close_after_flush);
    }

    /// How the remote is doing.
    pub(crate) fn status(&self) -> RemoteStatus {
        let state = self.state();
        let connection = state.connection.as_ref();
        let sec_since = |moment: Option<Instant>| moment.map(|moment| moment.elapsed().as_secs());
        RemoteStatus {
            is_connected: !state.sessions.is_empty(),
            state: connection.map(|connection| connection.state),
            sec_since_connect: sec_since(connection.and_then(|connection| connection.connected)),
            sec_since_disconnect: sec_since(connection.and_then(|connection| connection.disconnected)),
            last_error: connection.and_then(|connection| connection.last_error.clone()),
            n_connections: state.sessions.len(),
            bound_port: None,
            sessions: state.sessions.keys().copied().collect(),
        }
    }

    /// Logs that a client was not let in, unless another was just before.
    pub(crate) fn refused(&self, error: &str) {
        let mut state = self.state();
        if state
            .refusal_logged
            .is_some_and(|last| last.elapsed() < REFUSAL_LOG_INTERVAL)
        {
            state.refusals_unlogged += 1;
            return;
        }
        state.refusal_logged = Some(Instant::now());
        let unlogged = std::mem::take(&mut state.refusals_unlogged);
        drop(state);
        warn!("{}: {error}", self.name);
        if unlogged > 0 {
            warn!("{}: {unlogged} more clients were not let in before", self.name);
        }
    }

    /// Says that the remote is being dialled.
    pub(crate) fn connecting(&self) {
        self.change(|connection| connection.state = ConnectionState::Connecting);
    }

    /// Says that the remote was reached.
    pub(crate) fn connected(&self) {
        self.change(|connection| {
            connection.state = ConnectionState::Active;
            connection.connected = Some(Instant::now());
        });
    }

    /// Says that the remote could not be reached.
    pub(crate) fn failed(&self, error: String) {
        self.change(|connection| {
            connection.state = ConnectionState::Backoff;
            connection.last_error = Some(error);
        });
    }

    /// Says that the connection is over.
    pub(crate) fn disconnected(&self, error: String) {
        self.change(|connection| {
            connection.state = ConnectionState::Backoff;
            connection.disconnected = Some(Instant::now());
            connection.last_error = Some(error);
        });
    }

    /// Says whether a peer that was asked for a sign of life still owes one.
    fn idle(&self, is_idle: bool) {
        self.change(|connection| {
            connection.state = if is_idle {
                ConnectionState::Idle
            } else {
                ConnectionState::Active
            };
        });
    }

    fn change(&self, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = &mut self.state().connection {
            change(connection);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a silent peer is to be treated.
pub(crate) struct Probing<'a> {
    endpoint: &'a Endpoint,
    options: watch::Receiver<RemoteOptions>,
}

impl Probing<'_> {
    /// Waits until the peer has been silent since the given moment for as long as it may be, whatever that comes to be meanwhile.
    pub(crate) async fn silence_since(&mut self, moment: Instant) {
        loop {
            let interval = self.options.borrow_and_update().probe_interval(self.endpoint.is_probed);
            let silence = async {
                match interval {
                    Some(interval) => tokio::time::sleep_until(moment + interval).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = silence => return,
                changed = self.options.changed() => {
                    if changed.is_err() {
                        // The endpoint outlives this borrow of it, so this never happens.
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    /// Says whether the peer still owes a sign of life.
    pub(crate) fn idle(&self, is_idle: bool) {
        self.endpoint.idle(is_idle);
    }
}
