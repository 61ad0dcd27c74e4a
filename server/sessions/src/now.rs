//! The time, as the outside tells it.

use nonnet_chain::Moment;

/// One reading of the clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_MONOTONIC`, milliseconds: what timeouts count by.
    pub monotonic_ms: u64,
    /// What records bear.
    pub moment: Moment,
}
