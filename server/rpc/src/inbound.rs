//! What the sessions tell the thread that owns all state: one closed list of events on one bounded channel.

use std::sync::Arc;

use nonnet_sessions::{Peer, SessionId};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    limits::{INBOUND_BYTES_MAX, INBOUND_QUEUED_MAX, INBOUND_WEIGHED_BYTES_MIN},
    outbox::Outbox,
};

/// One thing that happened to one session.
///
/// For each session: first `Opened`; then any number of `Message` and `Drained`; at most one of `Malformed` and `HalfClosed`, after which no
/// `Message` follows; last, and always, `Closed`.
#[derive(Debug)]
pub enum Inbound {
    /// A client has connected.
    Opened {
        /// Its session, fresh.
        session: SessionId,
        /// Who it is.
        peer: Peer,
        /// How to send to it.
        outbox: Outbox,
    },
    /// One message, a JSON object not looked into yet. Each must be finished with [`Outbox::finished`], notifications and replies too.
    Message {
        /// Whose.
        session: SessionId,
        /// The object; of members with the same name the last has won.
        message: Value,
        /// Whether an end of line followed it; the reply should then have one.
        newline: bool,
        /// Its share of the limit of [`INBOUND_BYTES_MAX`]; drop it with the event.
        weight: Weight,
    },
    /// The rest of the stream has no meaning. The state thread sends one line that says so, and [`Outbox::close_after_flush`].
    Malformed {
        /// Whose.
        session: SessionId,
        /// What is wrong, for the client.
        details: String,
    },
    /// The client will send nothing more but still reads: finish its requests, then [`Outbox::close_after_flush`].
    HalfClosed {
        /// Whose.
        session: SessionId,
    },
    /// A session that was [congested](Outbox::congested) has had everything written.
    Drained {
        /// Whose.
        session: SessionId,
    },
    /// The session is over: nobody reads what is sent to it.
    Closed {
        /// Whose.
        session: SessionId,
    },
}

/// Where sessions put their events.
pub type InboundSender = mpsc::Sender<Inbound>;

/// Where the state thread takes them from.
pub type InboundReceiver = mpsc::Receiver<Inbound>;

/// The channel between the sessions and the state thread.
pub fn inbound_channel() -> (InboundSender, InboundReceiver) {
    mpsc::channel(INBOUND_QUEUED_MAX)
}

/// A long message's share of what may be on its way to the state thread; given back when dropped.
#[derive(Debug)]
pub struct Weight {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Hands out the shares of [`INBOUND_BYTES_MAX`].
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    bytes: Arc<Semaphore>,
}

impl Scale {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(INBOUND_BYTES_MAX)),
        }
    }

    /// Waits until a message of that many bytes may be parsed and sent on.
    pub(crate) async fn weigh(&self, bytes: usize) -> Weight {
        if bytes < INBOUND_WEIGHED_BYTES_MIN {
            return Weight { _permit: None };
        }
        let share = u32::try_from(bytes.min(INBOUND_BYTES_MAX)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        Weight {
            _permit: Arc::clone(&self.bytes).acquire_many_owned(share).await.ok(),
        }
    }
}
