//! File descriptors: as many as the greatest number of sessions needs (`getrlimit(2)`, `RLIMIT_NOFILE`).

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nonnet_rpc::limits::SESSIONS_MAX;
use tracing::{debug, warn};

/// What is open beside sessions: databases, sockets listened on, network namespaces, the gateway's ends of its sessions.
const OTHERS_MAX: u64 = 1024;

/// Raises the limit of this process to what is needed, beyond the hard limit where this process may; says so where it is too low.
pub(crate) fn raise_limit() {
    let needed = SESSIONS_MAX as u64 + OTHERS_MAX;
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(cause) => return warn!("how many files may be open is not known: {cause}"),
    };
    if soft >= needed {
        return;
    }
    let is_raised = |to: u64, hard: u64| setrlimit(Resource::RLIMIT_NOFILE, to, hard).is_ok();
    if is_raised(needed, hard.max(needed)) {
        debug!("up to {needed} files may be open now, not only {soft}");
        return;
    }
    let possible = if is_raised(hard, hard) { hard } else { soft };
    warn!(
        "this process may open {possible} files (RLIMIT_NOFILE): enough for {} sessions, not for the {SESSIONS_MAX} that nonnetd serves; \
         raise LimitNOFILE= of its unit, or ulimit -n, to {needed}",
        possible.saturating_sub(OTHERS_MAX)
    );
}
