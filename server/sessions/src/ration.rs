//! What sessions may make the server keep for them: each has a share of its own for sure, and beyond it what is left of a common one.
//!
//! So one client cannot take from others what they need, and all together cannot take more than there is.

use std::collections::HashMap;

use nonnet_schema::{ErrorKind, OvsdbError};

use crate::limits::{
    MONITOR_BYTES_COMMON_MAX, MONITOR_BYTES_MIN, MONITOR_BYTES_OWN_MAX, PARKED_BYTES_COMMON_MAX, PARKED_BYTES_MAX,
    PARKED_BYTES_OWN_MAX,
};
use crate::monitor::Monitor;
use crate::peer::SessionId;
use crate::served::Parked;
use crate::server::Server;

/// Bytes that may be kept of one kind of thing.
struct Ration {
    own: usize,
    common: usize,
    what: &'static str,
}

const MONITORS: Ration = Ration {
    own: MONITOR_BYTES_OWN_MAX,
    common: MONITOR_BYTES_COMMON_MAX,
    what: "monitors",
};

const PARKED: Ration = Ration {
    own: PARKED_BYTES_OWN_MAX,
    common: PARKED_BYTES_COMMON_MAX,
    what: "waiting transactions",
};

impl Ration {
    /// Whether a session may come to keep `wanted` bytes while the others keep what they do.
    fn check(&self, wanted: usize, others: impl Iterator<Item = usize>) -> Result<(), OvsdbError> {
        let Self { own, common, what } = self;
        let beyond = |kept: usize| kept.saturating_sub(*own);
        if wanted <= *own || beyond(wanted) + others.map(beyond).sum::<usize>() <= *common {
            return Ok(());
        }
        let text = format!(
            "this session would have {wanted} bytes of {what}; beyond {own} all sessions share {common}, and those are taken"
        );
        Err(ErrorKind::ResourcesExhausted(text).into())
    }
}

impl Server {
    /// Checks that a session may have a monitor of that request's text besides those it has, that at `replaced` aside.
    pub(crate) fn check_monitor_kept(
        &self,
        id: SessionId,
        replaced: Option<usize>,
        request_bytes: usize,
    ) -> Result<(), OvsdbError> {
        let kept = |monitors: &[Monitor]| monitors.iter().map(Monitor::kept_bytes).sum::<usize>();
        let own = self.sessions.get(&id).map_or(0, |session| {
            let replaced = replaced.and_then(|at| session.monitors.get(at));
            kept(&session.monitors) - replaced.map_or(0, Monitor::kept_bytes)
        });
        let others = self.sessions.iter().filter(|(other, _)| **other != id);
        let wanted = own + monitor_bytes(request_bytes);
        MONITORS.check(wanted, others.map(|(_, session)| kept(&session.monitors)))
    }

    /// Checks that a session may have a transaction wait.
    pub(crate) fn check_parked_kept(&self, parked: &Parked) -> Result<(), OvsdbError> {
        let wanted = parked.kept_bytes();
        if wanted > PARKED_BYTES_MAX {
            let text = format!(
                "a transaction that waits may take {PARKED_BYTES_MAX} bytes of memory, not {wanted}; it is tried again with every commit"
            );
            return Err(ErrorKind::ResourcesExhausted(text).into());
        }
        let mut kept: HashMap<SessionId, usize> = HashMap::new();
        for other in self.databases.values().flat_map(|served| &served.parked) {
            *kept.entry(other.session).or_default() += other.kept_bytes();
        }
        let own = kept.remove(&parked.session).unwrap_or(0);
        PARKED.check(own + wanted, kept.into_values())
    }
}

/// What a monitor is taken to cost whose request has a text of so many bytes: the text, what was read from it, and the time of each commit.
pub(crate) fn monitor_bytes(request_bytes: usize) -> usize {
    MONITOR_BYTES_MIN + 2 * request_bytes
}
