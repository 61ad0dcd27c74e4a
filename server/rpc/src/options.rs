//! What can be set for a remote besides its text.
//!
//! The names are those of the columns of a `Manager` table and of a configuration file (`ovsdb-server(1)`).

use std::time::Duration;

use ecow::EcoString;

use crate::limits::{BACKOFF_MAX_DEFAULT, BACKOFF_MIN, DSCP_DEFAULT, PROBE_INTERVAL};

/// What can be set for a remote. `inactivity_probe` and `max_backoff` can change while its sessions go on; all others are part of what a
/// session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOptions {
    /// The longest wait between two attempts to dial; less than a second counts as a second.
    pub max_backoff: Duration,
    /// How long a peer may be silent before it is asked for a sign of life, and again before it is dropped; zero never asks. None is the
    /// default of the remote's kind: 5 s on TCP and TLS, never on unix sockets and inherited ones.
    pub inactivity_probe: Option<Duration>,
    /// The differentiated services code point of what is sent over TCP and TLS, 0 to 63; None is 48, internetwork control, as of
    /// recent versions of ovsdb-server (3.1 has 0).
    pub dscp: Option<u8>,
    /// Whether its sessions only read.
    pub read_only: bool,
    /// The role of its sessions; empty for no restriction.
    pub role: EcoString,
    /// The mode of the socket's file (`punix:` only); None for owner and group, 0660.
    pub mode: Option<u32>,
    /// The group that the socket's file is given, by number (`punix:` only); None for that of the process.
    pub group: Option<u32>,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            max_backoff: BACKOFF_MAX_DEFAULT,
            inactivity_probe: None,
            dscp: None,
            read_only: false,
            role: EcoString::new(),
            mode: None,
            group: None,
        }
    }
}

impl RemoteOptions {
    /// Whether sessions of these options cannot go on with the others.
    pub(crate) fn ends_sessions_of(&self, others: &Self) -> bool {
        self.code_point() != others.code_point() || self.read_only != others.read_only || self.role != others.role
    }

    /// The code point in use.
    pub(crate) fn code_point(&self) -> u8 {
        self.dscp.unwrap_or(DSCP_DEFAULT)
    }

    /// The longest wait in use.
    pub(crate) fn backoff_max(&self) -> Duration {
        self.max_backoff.max(BACKOFF_MIN)
    }

    /// How long a silent peer is waited for, or None for ever. The default depends on whether the kernel tells when the peer has gone.
    pub(crate) fn probe_interval(&self, goes_unnoticed: bool) -> Option<Duration> {
        let default = if goes_unnoticed { PROBE_INTERVAL } else { Duration::ZERO };
        Some(self.inactivity_probe.unwrap_or(default)).filter(|interval| !interval.is_zero())
    }
}
