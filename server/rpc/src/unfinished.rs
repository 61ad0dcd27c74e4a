//! Messages that have not arrived whole: how much of them all sessions hold together, and who gives way when that is too much.
//!
//! The oldest gives way: who sends a long message gets it through in time, who sends one for ever does not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Notify;

use crate::limits::{UNFINISHED_BYTES_MAX, UNFINISHED_BYTES_MIN};

/// What all sessions hold.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held_bytes: usize,
    /// The longer ones, oldest first.
    parts: BTreeMap<u64, Part>,
    next_age: u64,
}

#[derive(Debug)]
struct Part {
    bytes: usize,
    give_way: Arc<Notify>,
}

/// What one session holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    all: &'a Unfinished,
    /// Where its part stands; None while that is short.
    age: Option<u64>,
    give_way: Arc<Notify>,
}

impl Unfinished {
    pub(crate) fn share(&self) -> Share<'_> {
        Share {
            all: self,
            age: None,
            give_way: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, age: u64) -> Option<Part> {
        let part = self.parts.remove(&age)?;
        self.held_bytes -= part.bytes;
        Some(part)
    }
}

impl Share<'_> {
    /// Says how much the session holds now, and whether that is of a message that has just begun.
    pub(crate) fn hold(&mut self, bytes: usize, is_new: bool) {
        if self.age.is_none() && bytes < UNFINISHED_BYTES_MIN {
            return;
        }
        let mut state = self.all.state();
        if let Some(age) = self.age
            && state.remove(age).is_none()
        {
            // It is to give way; nothing of it counts any more.
            return;
        }
        if bytes < UNFINISHED_BYTES_MIN {
            self.age = None;
            return;
        }
        let age = self.age.filter(|_| !is_new).unwrap_or_else(|| {
            state.next_age += 1;
            state.next_age
        });
        self.age = Some(age);
        let give_way = Arc::clone(&self.give_way);
        state.parts.insert(age, Part { bytes, give_way });
        state.held_bytes += bytes;
        while state.held_bytes > UNFINISHED_BYTES_MAX
            && let Some(oldest) = state.parts.keys().next().copied()
            && let Some(part) = state.remove(oldest)
        {
            part.give_way.notify_one();
        }
    }

    /// Waits until the session is to give way.
    pub(crate) async fn gives_way(&self) {
        self.give_way.notified().await;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if let Some(age) = self.age {
            self.all.state().remove(age);
        }
    }
}

/// The line for a session that gives way.
pub(crate) fn refusal() -> Bytes {
    let details = format!(
        "this server holds {UNFINISHED_BYTES_MAX} bytes of messages that have not arrived whole, and this session's is the oldest; \
         send it again, faster"
    );
    let error = json!({"error": "resources exhausted", "details": details});
    Bytes::from(json!({"id": null, "result": null, "error": error}).to_string() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_told(share: &Share<'_>) -> bool {
        use std::future::Future;
        let told = std::pin::pin!(share.gives_way());
        told.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
            .is_ready()
    }

    #[test]
    fn the_oldest_message_gives_way() {
        let all = Unfinished::default();
        let (mut first, mut second, mut third) = (all.share(), all.share(), all.share());
        first.hold(UNFINISHED_BYTES_MAX / 2, false);
        second.hold(UNFINISHED_BYTES_MAX / 4, false);
        // It has finished one and begun another.
        first.hold(UNFINISHED_BYTES_MAX / 2, true);
        third.hold(UNFINISHED_BYTES_MAX / 2, false);
        assert_eq!(
            (is_told(&first), is_told(&second), is_told(&third)),
            (false, true, false)
        );
        second.hold(UNFINISHED_BYTES_MAX, false);
        assert_eq!((is_told(&first), is_told(&third)), (false, false));
        drop(first);
        third.hold(UNFINISHED_BYTES_MAX, false);
        assert!(!is_told(&third));
        drop((second, third));
        assert_eq!(all.state().held_bytes, 0);
    }
}
