//! Long replies on their way to peers: how much of them all sessions hold together.
//!
//! A peer that takes nothing of its reply for a while loses its session when others wait for the room.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits::{REPLIES_BYTES_MAX, REPLY_UNIT_BYTES};

/// The room for long replies.
#[derive(Debug)]
pub(crate) struct LargeReplies {
    units: Semaphore,
    /// Sessions that wait for some.
    waiting: AtomicUsize,
}

impl LargeReplies {
    pub(crate) fn new() -> Self {
        Self {
            units: Semaphore::new(REPLIES_BYTES_MAX / REPLY_UNIT_BYTES),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for the room for a reply; None for a short one. The longest takes all of it.
    pub(crate) async fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let units = (bytes / REPLY_UNIT_BYTES).min(REPLIES_BYTES_MAX / REPLY_UNIT_BYTES);
        if units == 0 {
            return None;
        }
        let _waiting = Waiting::new(&self.waiting);
        // The semaphore is never closed.
        self.units
            .acquire_many(u32::try_from(units).unwrap_or(u32::MAX))
            .await
            .ok()
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// Counts one that waits, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
