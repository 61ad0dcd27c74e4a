//! When a source is tried again: each of its remotes once without delay, then after 1, 2, 4 and 8 seconds, as OVSDB clients do.

use std::time::Duration;

use tokio::time::Instant;

const DELAY_MIN: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(8);

/// The attempts so far.
#[derive(Debug)]
pub(crate) struct Attempts {
    remotes: usize,
    /// The next remote.
    next: usize,
    /// Attempts that are made without delay.
    free: usize,
    delay: Duration,
    began: Instant,
}

impl Attempts {
    /// Of so many remotes, at least one.
    pub(crate) fn new(remotes: usize) -> Self {
        Self {
            remotes,
            next: 0,
            free: remotes,
            delay: DELAY_MIN,
            began: Instant::now(),
        }
    }

    /// The remote to try now, by its place.
    pub(crate) fn begin(&mut self) -> usize {
        let remote = self.next;
        self.next = (self.next + 1) % self.remotes.max(1);
        self.free = self.free.saturating_sub(1);
        self.began = Instant::now();
        remote
    }

    /// How long to wait after an attempt has ended; `followed` where the source was reached.
    pub(crate) fn delay(&mut self, followed: bool) -> Duration {
        // A source that ends each connection at once is no better than one that cannot be reached.
        if followed && self.began.elapsed() > self.delay {
            (self.free, self.delay) = (self.remotes, DELAY_MIN);
        }
        if self.free > 0 {
            return Duration::ZERO;
        }
        let delay = self.delay;
        self.delay = (2 * delay).min(DELAY_MAX);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_remote_is_tried_at_once_and_then_ever_more_seldom() {
        let mut attempts = Attempts::new(2);
        let tried: Vec<(usize, u64)> = (0..7)
            .map(|_| (attempts.begin(), attempts.delay(false).as_secs()))
            .collect();
        assert_eq!(tried, [(0, 0), (1, 1), (0, 2), (1, 4), (0, 8), (1, 8), (0, 8)]);
    }

    #[test]
    fn a_source_that_ends_each_connection_at_once_is_tried_ever_more_seldom() {
        let mut attempts = Attempts::new(1);
        let delays: Vec<u64> = (0..3)
            .map(|_| {
                attempts.begin();
                attempts.delay(true).as_secs()
            })
            .collect();
        assert_eq!(delays, [1, 2, 4]);
    }
}
