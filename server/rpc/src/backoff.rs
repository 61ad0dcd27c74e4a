//! How long to wait before a remote is dialled again (ovsdb-server's `reconnect`).
//!
//! Pure: durations in, durations out.

use std::time::Duration;

use crate::limits::BACKOFF_MIN;

/// The wait before the next attempt. It begins with [`BACKOFF_MIN`], doubles with each attempt that fails, and begins anew after a
/// connection that lasted.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    wait: Duration,
}

impl Backoff {
    /// The wait after an attempt that failed.
    pub(crate) fn after_failure(&mut self, longest: Duration) -> Duration {
        self.wait = (self.wait * 2).clamp(BACKOFF_MIN, longest);
        self.wait
    }

    /// The wait after a connection that lasted so long. One that ended at once counts as a failure, so that a peer that accepts and
    /// refuses is not dialled in a hurry.
    pub(crate) fn after_connection(&mut self, lasted: Duration, longest: Duration) -> Duration {
        if lasted >= self.wait.max(BACKOFF_MIN) {
            self.wait = Duration::ZERO;
        }
        self.after_failure(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_doubles_up_to_the_longest_and_begins_anew_after_a_connection_that_lasted() {
        let longest = Duration::from_secs(6);
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..5).map(|_| backoff.after_failure(longest).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 6, 6]);
        let in_a_hurry = backoff.after_connection(Duration::from_millis(10), longest);
        assert_eq!(in_a_hurry, longest);
        assert_eq!(backoff.after_connection(Duration::from_mins(1), longest), BACKOFF_MIN);
        assert_eq!(backoff.after_failure(longest).as_secs(), 2);
    }
}
