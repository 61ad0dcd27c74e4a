//! A monitor of the server as a subscription: the initial state first, then the params of each `update2` (ovsdb-server(7) 4.1.13).

use std::sync::Arc;

use jsonrpsee::{PendingSubscriptionSink, SubscriptionMessage, SubscriptionSink};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{failure::Failure, link::Shared};

/// A subscription whose monitor has been asked for.
pub(crate) struct Starting {
    /// What the monitor is called on the session: the client's own name for it need not be unique.
    pub(crate) number: u64,
    /// What the client calls it.
    pub(crate) name: Box<RawValue>,
    pub(crate) pending: PendingSubscriptionSink,
}

/// A subscription that gets updates.
pub(crate) struct Monitor {
    name: Box<RawValue>,
    sink: SubscriptionSink,
}

impl Starting {
    pub(crate) async fn reject(self, failure: Failure) {
        self.pending.reject(failure).await;
    }

    /// Tells the client the subscription's id and the initial state. The monitor is cancelled when the client unsubscribes. None where the
    /// client is gone.
    pub(crate) async fn accept(self, initial: &RawValue, shared: &Arc<Shared>) -> Option<Monitor> {
        let sink = self.pending.accept().await.ok()?;
        let monitor = Monitor { name: self.name, sink };
        monitor.send(&initial).await;
        let (sink, shared, number) = (monitor.sink.clone(), Arc::clone(shared), self.number);
        tokio::spawn(async move {
            sink.closed().await;
            shared.cancel(number).await;
        });
        Some(monitor)
    }
}

impl Monitor {
    /// Sends the params of an `update2`.
    pub(crate) async fn update(&self, updates: &RawValue) {
        self.send(&(&self.name, updates)).await;
    }

    async fn send(&self, result: &impl Serialize) {
        if let Ok(text) = to_raw_value(result) {
            // An unsubscribed client gets nothing more.
            let _ = self.sink.send(SubscriptionMessage::from(text)).await;
        }
    }
}
