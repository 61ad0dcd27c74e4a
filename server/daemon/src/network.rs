//! Between the state thread and the kernel: changed rows go there, the state of rows comes back.
//!
//! Neither side waits for the other. Changes that the kernel's side has not taken yet are merged per row, so that what waits is never
//! more than the rows themselves.

use std::sync::{Arc, Mutex, PoisonError};

use ecow::EcoString;
use nonnet_chain::Author;
use nonnet_engine::{ChangeSet, Database, Transaction};
use nonnet_hooks::dhcp::Lease;
use nonnet_hooks::object::Owner;
use nonnet_hooks::tables::events::EventLog;
use nonnet_hooks::tables::{Tables, leases};
use nonnet_schema::Uuid;
use nonnet_sessions::Now;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, mpsc};

use crate::plan::PlanRequest;
use crate::report::Reports;

/// Reports on their way to the state thread; beyond, the kernel's side merges them.
const REPORTS_QUEUED_MAX: usize = 64;

/// The state thread's end.
pub(crate) struct NetworkLink {
    database: EcoString,
    tables: Tables,
    events: EventLog,
    changes: Changes,
    reports: mpsc::Receiver<Reports>,
    plans: UnboundedSender<PlanRequest>,
}

/// The kernel side's end.
pub(crate) struct OtherEnd {
    pub(crate) changes: Changes,
    pub(crate) reports: mpsc::Sender<Reports>,
    pub(crate) plans: UnboundedReceiver<PlanRequest>,
}

/// What has changed since the kernel's side last looked.
#[derive(Clone, Default)]
pub(crate) struct Changes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    pending: Mutex<Option<Pending>>,
    news: Notify,
}

/// Changed rows, and all rows as they are now.
pub(crate) struct Pending {
    pub(crate) changes: ChangeSet,
    pub(crate) rows: Database,
    pub(crate) sequence: u64,
}

impl NetworkLink {
    /// A link for a database, with the other side's ends.
    pub(crate) fn new(database: &Database, tables: Tables) -> (Self, OtherEnd) {
        let (sender, reports) = mpsc::channel(REPORTS_QUEUED_MAX);
        let changes = Changes::default();
        let (plans, asked) = mpsc::unbounded_channel();
        let (name, events) = (database.schema().name.clone(), EventLog::new(&tables, database));
        (
            Self {
                database: name,
                tables,
                events,
                changes: changes.clone(),
                reports,
                plans,
            },
            OtherEnd {
                changes,
                reports: sender,
                plans: asked,
            },
        )
    }

    /// The database whose rows the kernel follows.
    pub(crate) fn database(&self) -> &EcoString {
        &self.database
    }

    /// Writes reports in a transaction of the server's own.
    pub(crate) fn write(&mut self, reports: Reports, transaction: &mut Transaction<'_>, now: Now) {
        reports.write(&self.tables, &mut self.events, transaction, now.moment.time_us / 1_000);
    }

    /// Writes into `transaction`, which is commit `sequence`, that it rolls a checkpoint back.
    pub(crate) fn tell_rolled_back(
        &mut self,
        checkpoint: &str,
        detail: &str,
        sequence: u64,
        transaction: &mut Transaction<'_>,
        now: Now,
    ) {
        let time_ms = now.moment.time_us / 1_000;
        let told = (checkpoint, detail);
        self.events
            .record_rollback(&self.tables, transaction, told, sequence, time_ms);
    }

    /// Writes into `transaction`, which is commit `sequence`, what a DHCP server gave a port, or that it has nothing from there any more.
    pub(crate) fn write_lease(
        &self,
        (port, lease): (&Owner, Option<&Lease>),
        sequence: u64,
        transaction: &mut Transaction<'_>,
    ) {
        let uuid = Uuid::from_u128(port.uuid);
        if let Err(address) = leases::write_dhcp(&self.tables, transaction, uuid, lease, sequence) {
            tracing::warn!("a DHCP server gave {address} to {port}, which somebody else has on this host");
        }
    }

    /// Reads the events anew after a transaction that was not applied.
    pub(crate) fn forget_events(&mut self, database: &Database) {
        self.events = EventLog::new(&self.tables, database);
    }

    /// True for that database.
    pub(crate) fn follows(&self, database: &str) -> bool {
        self.database == database
    }

    /// Who writes the rows' state.
    pub(crate) fn author() -> Author {
        Author {
            remote: "reconciler".into(),
            comm: "nonnetd".into(),
            ..Author::default()
        }
    }

    /// Tells of changed rows.
    pub(crate) fn changed(&self, changes: &Arc<ChangeSet>, rows: Database, sequence: u64) {
        let mut pending = self.changes.0.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = match pending.take() {
            Some(earlier) => earlier.changes.then(changes),
            None => ChangeSet::clone(changes),
        };
        *pending = Some(Pending {
            changes,
            rows,
            sequence,
        });
        drop(pending);
        self.changes.0.news.notify_one();
    }

    /// Asks what would be done if rows changed; false where the kernel's side has ended.
    pub(crate) fn plan(&self, request: PlanRequest) -> bool {
        self.plans.send(request).is_ok()
    }

    /// The next reports; None when the kernel's side has ended.
    pub(crate) async fn next_reports(&mut self) -> Option<Reports> {
        self.reports.recv().await
    }
}

impl Changes {
    /// Takes all changes that there are now.
    pub(crate) fn take_now(&self) -> Option<Pending> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits for changes and takes all of them.
    pub(crate) async fn take(&self) -> Pending {
        loop {
            match self.take_now() {
                Some(pending) => return pending,
                None => self.0.news.notified().await,
            }
        }
    }
}
