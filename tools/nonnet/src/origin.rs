//! Who runs this, and when, for the records that the command line adds to files itself.

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use nonnet_chain::{Author, Credentials, Moment};
use nonnet_schema::{Uuid, parse_uuid};

use crate::time;

/// This process, doing that; `comm` is the name of the program.
pub(crate) fn author(comm: &str, doing: &str) -> Author {
    Author {
        credentials: Some(Credentials {
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            pid: std::process::id(),
        }),
        comm: comm.into(),
        remote: doing.into(),
        ..Author::default()
    }
}

/// Now, on all clocks.
pub(crate) fn moment() -> Moment {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Moment {
        time_us: time::now_us(),
        boot_us: clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
            time.tv_sec().cast_unsigned() * 1_000_000 + time.tv_nsec().cast_unsigned() / 1000
        }),
        boot_id: parse_uuid(boot_id.trim()).unwrap_or_default(),
    }
}

/// Random bytes of the system.
pub(crate) fn seed() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(bytes)
}

/// A random UUID (RFC 9562, version 4).
pub(crate) fn random_uuid() -> Result<Uuid> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Uuid::from_bytes(bytes))
}
