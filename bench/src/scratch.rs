//! The directory of a run, in which each server has its own: gone when the run ends, also when a signal ends it.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use tempfile::TempDir;

/// Tries to remove the directory on a signal; a server that still runs may put a file into it meanwhile.
const REMOVE_TRIES: usize = 10;

/// Makes the directory, in `parent` or the system's temporary directory.
///
/// From now on a thread waits for SIGINT, SIGTERM and SIGHUP: it removes the directory and ends the process, and the kernel kills the
/// servers with it. To be called before other threads are started, since they inherit that these signals are blocked.
pub fn make(parent: Option<&Path>) -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("nonnet-bench-");
    let directory = match parent {
        Some(parent) => builder
            .tempdir_in(parent)
            .with_context(|| format!("make a directory in {}", parent.display()))?,
        None => builder.tempdir().context("make a temporary directory")?,
    };
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("block signals")?;
    let path = directory.path().to_owned();
    thread::spawn(move || end_on(signals, &path));
    Ok(directory)
}

fn end_on(signals: SigSet, directory: &Path) {
    let Ok(signal) = signals.wait() else { return };
    for _ in 0..REMOVE_TRIES {
        if fs::remove_dir_all(directory).is_ok() {
            break;
        }
    }
    eprintln!("bench: ended by {signal}");
    std::process::exit(128 + signal as i32);
}
