//! How a remote is doing, in the terms of the status columns of a `Manager` table (`vswitch.xml`, "Status").

use std::fmt;

use nonnet_sessions::SessionId;

/// How a remote is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteStatus {
    /// Whether it has a session.
    pub is_connected: bool,
    /// What its one connection is doing; None for remotes that listen.
    pub state: Option<ConnectionState>,
    /// Whole seconds since the last connection was made; None for remotes that listen, and where there was none.
    pub sec_since_connect: Option<u64>,
    /// Whole seconds since the last connection was lost; None for remotes that listen, and where none was lost.
    pub sec_since_disconnect: Option<u64>,
    /// Why the last attempt to connect, or the last connection, ended; None for remotes that listen, and where it is not known.
    pub last_error: Option<String>,
    /// How many sessions it has.
    pub n_connections: usize,
    /// The port it listens on, on TCP and TLS.
    pub bound_port: Option<u16>,
    /// Its sessions.
    pub sessions: Vec<SessionId>,
}

/// What a remote that dials is doing.
///
/// `Connecting` -> `Active` | `Backoff`; `Active` <-> `Idle`; `Active` | `Idle` -> `Backoff`; `Backoff` -> `Connecting`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// It waits before it tries again.
    Backoff,
    /// It is being connected, the handshake of TLS included.
    Connecting,
    /// It has a session.
    Active,
    /// It has a session whose peer was asked for a sign of life and has not answered yet.
    Idle,
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Backoff => "BACKOFF",
            Self::Connecting => "CONNECTING",
            Self::Active => "ACTIVE",
            Self::Idle => "IDLE",
        })
    }
}
