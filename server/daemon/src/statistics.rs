//! A thread that reads the counters of links now and then, and reports them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use nonnet_kernel::Statistics;
use tokio::sync::mpsc;
use tracing::warn;

use crate::report::Reports;

/// How often to see whether the server has stopped, where counters are not read.
const IDLE: Duration = Duration::from_hours(1);

/// The thread, and how often it looks.
#[derive(Debug)]
pub(crate) struct Interval {
    changes: Sender<Option<u64>>,
    seconds: Option<u64>,
}

impl Interval {
    /// Starts the thread in the network namespace of the calling one; it ends with the reports' receiver or with this value.
    pub(crate) fn start(seconds: Option<u64>, reports: mpsc::Sender<Reports>) -> std::io::Result<Self> {
        let statistics = Statistics::open()?;
        let (changes, queue) = channel();
        thread::Builder::new()
            .name("statistics".into())
            .spawn(move || run(statistics, seconds, &queue, &reports))?;
        Ok(Self { changes, seconds })
    }

    /// From now on counters are read this often; None: not at all.
    pub(crate) fn set(&mut self, seconds: Option<u64>) {
        if self.seconds != seconds {
            self.seconds = seconds;
            // The thread ends only when nobody reads reports any more.
            let _ = self.changes.send(seconds);
        }
    }
}

fn run(
    mut statistics: Statistics,
    mut seconds: Option<u64>,
    changed: &Receiver<Option<u64>>,
    reports: &mpsc::Sender<Reports>,
) {
    loop {
        match changed.recv_timeout(seconds.map_or(IDLE, Duration::from_secs)) {
            Ok(other) => seconds = other,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if seconds.is_none() => {}
            Err(RecvTimeoutError::Timeout) => match statistics.read() {
                Ok(counters) => {
                    if reports.blocking_send(Reports::of_counters(counters)).is_err() {
                        return;
                    }
                }
                Err(error) => warn!(%error, "the counters of links cannot be read"),
            },
        }
    }
}
