//! The clocks, read here and nowhere else in the server's state.

use std::fs;

use nix::time::{ClockId, clock_gettime};
use nonnet_chain::Moment;
use nonnet_schema::{Uuid, parse_uuid};
use nonnet_sessions::Now;

/// Reads the clocks of this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    boot_id: Uuid,
}

impl Clock {
    /// The clock of the running kernel; a boot id that cannot be read is all zeros.
    pub(crate) fn new() -> Self {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            boot_id: parse_uuid(text.trim()).unwrap_or_default(),
        }
    }

    /// The time.
    pub(crate) fn now(self) -> Now {
        Now {
            monotonic_ms: read_us(ClockId::CLOCK_MONOTONIC) / 1_000,
            moment: Moment {
                time_us: read_us(ClockId::CLOCK_REALTIME),
                boot_us: read_us(ClockId::CLOCK_BOOTTIME),
                boot_id: self.boot_id,
            },
        }
    }
}

/// Microseconds; 0 for a clock that the kernel does not have, which none is.
fn read_us(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        time.tv_sec().cast_unsigned() * 1_000_000 + time.tv_nsec().cast_unsigned() / 1_000
    })
}
