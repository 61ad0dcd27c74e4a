//! What waits to be sent to one session, between the state thread, which never waits, and the session's writer.
//!
//! It holds bytes and jobs in order and counts them; it never touches the socket.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::limits::{
    BACKLOG_CONGESTED_BYTES, BACKLOG_PAUSE_BYTES, JOB_BYTES_ASSUMED, OUTBOX_BYTES_MAX, QUEUE_KEPT_MAX,
    REQUESTS_QUEUED_MAX, WRITE_BYTES_MAX, WRITE_SLICES_MAX,
};

/// A reply that is encoded when its turn comes, on a thread where it may take long; gives its pieces in order.
pub type Job = Box<dyn FnOnce() -> Vec<Bytes> + Send>;

/// One thing to send.
pub enum Payload {
    /// Sent as it is; one buffer may be queued for many sessions.
    Bytes(Bytes),
    /// Run once what stands before it has been written, then sent; what stands behind it waits.
    Job(Job),
}

impl Payload {
    fn weight_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Job(_) => JOB_BYTES_ASSUMED,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(formatter, "Bytes({} bytes)", bytes.len()),
            Self::Job(_) => formatter.write_str("Job"),
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Bytes::from(bytes))
    }
}

/// The state thread's end of a session: no call waits, and after the session's end no call does anything.
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

/// Why a session ended, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The state thread closed it and all was written.
    Flushed,
    /// The peer is gone.
    PeerGone,
    /// A TCP peer did not answer a probe.
    PeerSilent,
    /// It had more queued than [`OUTBOX_BYTES_MAX`].
    Overflowed,
    /// Its message was the oldest unfinished one when there was no room for more of them.
    GaveWay,
    /// It took nothing of a long reply while others waited for the room.
    Stalled,
    /// The state thread or the owner of the listeners ended it at once.
    Aborted,
    /// A job panicked.
    JobFailed,
    /// Nobody takes events any more.
    StateGone,
}

/// What the writer finds when it looks.
pub(crate) enum Taken {
    /// Buffers to write were put into the batch.
    Batch,
    /// A job to run; its result is to be given to [`Outbox::encoded`] and written.
    Job(Job),
    /// Nothing is left, and the session was congested before: tell the state thread.
    Drained,
    /// Nothing is left and nothing will come.
    Finished,
    /// Nothing is left for now.
    Nothing,
}

struct Shared {
    state: Mutex<State>,
    /// Messages read and not finished.
    requests: AtomicUsize,
    /// Wakes the writer.
    work: Notify,
    /// Wakes the reader when it may be allowed to read on.
    room: Notify,
    /// Ends the session.
    ended: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Payload>,
    /// The weight of the queue.
    queued_bytes: usize,
    /// What the writer has taken and the kernel has not.
    sending_bytes: usize,
    /// Whether the peer is slow, so that `Drained` is owed.
    congested: bool,
    closing: bool,
    /// Set once; nothing is queued any more.
    end: Option<End>,
}

impl State {
    fn backlog_bytes(&self) -> usize {
        self.queued_bytes + self.sending_bytes
    }

    /// What is to be done when all has been written.
    fn take_of_empty(&mut self) -> Taken {
        if self.queue.capacity() > QUEUE_KEPT_MAX {
            self.queue = VecDeque::new();
        }
        if std::mem::take(&mut self.congested) {
            Taken::Drained
        } else if self.closing {
            Taken::Finished
        } else {
            Taken::Nothing
        }
    }

    fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
    }
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            requests: AtomicUsize::new(0),
            work: Notify::new(),
            room: Notify::new(),
            ended: Notify::new(),
        }))
    }

    /// Queues something to send. A session that has more than [`OUTBOX_BYTES_MAX`] queued already is ended instead.
    pub fn send(&self, payload: impl Into<Payload>) {
        let payload = payload.into();
        let mut state = self.state();
        if state.end.is_some() || state.closing {
            return;
        }
        if state.queued_bytes > OUTBOX_BYTES_MAX {
            state.end(End::Overflowed);
            drop(state);
            self.0.ended.notify_one();
            return;
        }
        state.queued_bytes += payload.weight_bytes();
        state.queue.push_back(payload);
        state.congested |= state.backlog_bytes() > BACKLOG_CONGESTED_BYTES;
        drop(state);
        self.0.work.notify_one();
    }

    /// Says that so many of the session's messages have been answered, or need no answer and have been handled.
    pub fn finished(&self, messages: usize) {
        let less = |requests: usize| Some(requests.saturating_sub(messages));
        let _ = self.0.requests.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.0.room.notify_one();
    }

    /// Ends the session once everything queued so far has been written; what is sent after this is dropped.
    pub fn close_after_flush(&self) {
        self.state().closing = true;
        self.0.work.notify_one();
    }

    /// Ends the session now; what is queued is dropped.
    pub fn abort(&self) {
        self.state().end(End::Aborted);
        self.0.ended.notify_one();
    }

    /// Bytes that wait for the peer to take them; a job not run yet counts [`JOB_BYTES_ASSUMED`].
    pub fn backlog_bytes(&self) -> usize {
        self.state().backlog_bytes()
    }

    /// Whether the peer takes less than it is sent: the kernel has refused to take more, or more than [`BACKLOG_CONGESTED_BYTES`] have come
    /// to wait. If so, one [`Drained`](crate::Inbound::Drained) will follow, when nothing waits any more, unless the session ends before.
    pub fn congested(&self) -> bool {
        self.state().congested
    }

    /// Whether the session has ended, so that sending to it is pointless.
    pub fn is_closed(&self) -> bool {
        let state = self.state();
        state.closing || state.end.is_some()
    }

    /// Counts one message as read.
    pub(crate) fn started(&self) {
        self.0.requests.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the session may be read from.
    pub(crate) fn has_room(&self) -> bool {
        self.0.requests.load(Ordering::Acquire) < REQUESTS_QUEUED_MAX && self.backlog_bytes() <= BACKLOG_PAUSE_BYTES
    }

    /// Waits until [`has_room`](Self::has_room) may have changed.
    pub(crate) async fn room(&self) {
        self.0.room.notified().await;
    }

    /// Waits until [`take`](Self::take) may give something else than `Nothing`.
    pub(crate) async fn work(&self) {
        self.0.work.notified().await;
    }

    /// Waits until the session is ended from outside.
    pub(crate) async fn ended(&self) -> End {
        loop {
            if let Some(end) = self.state().end {
                return end;
            }
            self.0.ended.notified().await;
        }
    }

    /// Takes what is to be done next; the batch must be empty.
    pub(crate) fn take(&self, batch: &mut VecDeque<Bytes>) -> Taken {
        let mut state = self.state();
        let mut bytes = 0;
        while bytes < WRITE_BYTES_MAX && batch.len() < WRITE_SLICES_MAX {
            match state.queue.pop_front() {
                Some(Payload::Bytes(buffer)) if buffer.is_empty() => {}
                Some(Payload::Bytes(buffer)) => {
                    bytes += buffer.len();
                    batch.push_back(buffer);
                }
                Some(job) => {
                    state.queue.push_front(job);
                    break;
                }
                None => break,
            }
        }
        state.queued_bytes -= bytes;
        state.sending_bytes += bytes;
        if !batch.is_empty() {
            return Taken::Batch;
        }
        match state.queue.pop_front() {
            Some(Payload::Job(job)) => {
                state.queued_bytes -= JOB_BYTES_ASSUMED;
                state.sending_bytes += JOB_BYTES_ASSUMED;
                Taken::Job(job)
            }
            Some(payload @ Payload::Bytes(_)) => {
                state.queue.push_front(payload);
                Taken::Nothing
            }
            None => state.take_of_empty(),
        }
    }

    /// Replaces the weight of a job that was taken by that of its result.
    pub(crate) fn encoded(&self, bytes: usize) {
        let mut state = self.state();
        state.sending_bytes = state.sending_bytes.saturating_sub(JOB_BYTES_ASSUMED) + bytes;
        state.congested |= state.backlog_bytes() > BACKLOG_CONGESTED_BYTES;
    }

    /// Says that the kernel has taken so many bytes.
    pub(crate) fn written(&self, bytes: usize) {
        let mut state = self.state();
        state.sending_bytes = state.sending_bytes.saturating_sub(bytes);
        let has_room = state.backlog_bytes() <= BACKLOG_PAUSE_BYTES;
        drop(state);
        if has_room {
            self.0.room.notify_one();
        }
    }

    /// Says that the kernel takes nothing more for now.
    pub(crate) fn blocked(&self) {
        self.state().congested = true;
    }

    /// Marks the session as over.
    pub(crate) fn end(&self, end: End) {
        self.state().end(end);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half way through a change.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        formatter
            .debug_struct("Outbox")
            .field("backlog_bytes", &state.backlog_bytes())
            .field("requests", &self.0.requests.load(Ordering::Relaxed))
            .field("closing", &state.closing)
            .field("end", &state.end)
            .finish_non_exhaustive()
    }
}
