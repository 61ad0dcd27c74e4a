//! nonnetd as an OVSDB client of another server, from which databases come: those that are relayed, and those of a backup.
//!
//! Each source has a task of its own, which connects, follows, and connects again. What it hears it sends to the state thread as events, in
//! the order it heard them; what is to be sent it takes as orders. It never looks at what the rows mean.

mod attempts;
mod backup;
mod backup_plan;
mod conversation;
mod exclusion;
mod relay;
mod relay_argument;
mod remote;
mod replication;
mod role;

use std::collections::HashMap;
use std::time::Duration;

use ecow::EcoString;
use nonnet_rpc::TlsDialler;
use nonnet_sessions::SourceNews;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

pub(crate) use crate::source::backup_plan::BackupPlan;
pub(crate) use crate::source::exclusion::Exclusion;
pub(crate) use crate::source::relay_argument::RelayArgument;
pub(crate) use crate::source::remote::SourceRemote;
pub(crate) use crate::source::replication::Replication;
pub(crate) use crate::source::role::RoleOrder;

use crate::source::backup::BackupNews;
use crate::source::relay::{Order, RelayTask};

/// Events of sources that wait for the state thread; beyond, the sources are not read from.
const EVENTS_QUEUED_MAX: usize = 64;

/// How long the source of a relay may be silent before it is asked (ovsdb-server's figure).
const RELAY_PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Something that happened at a source.
pub(crate) struct SourceEvent(pub(crate) News);

/// What happened.
pub(crate) enum News {
    /// At the source of a relayed database.
    Relay { database: EcoString, news: SourceNews },
    /// At the active server that this one is a backup of, as heard by the task of that number.
    Backup { run: u64, news: BackupNews },
}

/// The way of all events to the state thread.
pub(crate) fn source_channel() -> (mpsc::Sender<SourceEvent>, mpsc::Receiver<SourceEvent>) {
    mpsc::channel(EVENTS_QUEUED_MAX)
}

/// The sources of all relayed databases.
pub(crate) struct Relays {
    links: HashMap<EcoString, RelayLink>,
    tls: TlsDialler,
    events: mpsc::Sender<SourceEvent>,
    probe: watch::Sender<Duration>,
}

/// The way to one source; its task ends with it.
struct RelayLink {
    /// As on the command line.
    argument: String,
    needs_tls: bool,
    /// As many wait as transactions are forwarded, which the sessions limit.
    orders: mpsc::UnboundedSender<Order>,
    task: AbortHandle,
}

impl Drop for RelayLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relays {
    /// No sources yet.
    pub(crate) fn new(tls: TlsDialler, events: mpsc::Sender<SourceEvent>) -> Self {
        Self {
            links: HashMap::new(),
            tls,
            events,
            probe: watch::Sender::new(RELAY_PROBE_INTERVAL),
        }
    }

    /// Follows the source of a database from now on.
    pub(crate) fn start(&mut self, relay: RelayArgument) {
        let (orders, receiver) = mpsc::unbounded_channel();
        let (database, argument) = (relay.database.clone(), relay.to_argument());
        let needs_tls = relay.remotes.iter().any(SourceRemote::is_tls);
        let (tls, events) = (self.tls.clone(), self.events.clone());
        let task = RelayTask::new(relay, tls, receiver, events, self.probe.subscribe());
        let task = tokio::spawn(task.run()).abort_handle();
        let link = RelayLink {
            argument,
            needs_tls,
            orders,
            task,
        };
        self.links.insert(database, link);
    }

    /// The databases that are relayed, each with its argument on the command line.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = (&EcoString, &String)> {
        self.links.iter().map(|(database, link)| (database, &link.argument))
    }

    /// Whether a source is reached with TLS.
    pub(crate) fn need_tls(&self) -> bool {
        self.links.values().any(|link| link.needs_tls)
    }

    /// Whether a database is relayed.
    pub(crate) fn contains(&self, database: &str) -> bool {
        self.links.contains_key(database)
    }

    /// Leaves the source of a database.
    pub(crate) fn stop(&mut self, database: &str) {
        self.links.remove(database);
    }

    /// Sends a transaction to the source of a database.
    pub(crate) fn forward(&self, database: &str, number: u64, params: String) {
        self.order(database, Order::Forward { number, params });
    }

    /// Takes a transaction back.
    pub(crate) fn withdraw(&self, database: &str, number: u64) {
        self.order(database, Order::Withdraw { number });
    }

    /// Has everything told anew.
    pub(crate) fn resync(&self, database: &str, reason: String) {
        self.order(database, Order::Resync { reason });
    }

    /// Sets how long a source may be silent before it is asked; zero asks none.
    pub(crate) fn set_probe_interval(&self, interval: Duration) {
        self.probe.send_replace(interval);
    }

    fn order(&self, database: &str, order: Order) {
        if let Some(link) = self.links.get(database) {
            // The task ends only with the link.
            let _ = link.orders.send(order);
        }
    }
}
