//! Changes that a slow client has not seen yet, merged per row.

use std::collections::BTreeMap;
use std::sync::Arc;

use nonnet_engine::{ChangeSet, RowChange, Snapshot};
use nonnet_schema::{MonitorRequest, TableIndex, Uuid};

use crate::limits::UNSENT_ROWS_MAX;

/// Changes merged so that each row's old is what the client knows, and its new what it is to know. Never larger than the rows themselves.
#[derive(Debug, Default)]
pub(crate) struct Merged(BTreeMap<(TableIndex, Uuid), RowChange>);

/// What a monitor of a congested session has not been sent.
///
/// A few rows are merged as they change. Beyond [`UNSENT_ROWS_MAX`] of them the database is remembered as it was then, which costs nothing
/// for each commit that follows, and is compared with what it has become when the client reads again.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    merged: Merged,
    /// The rows after what is merged; None where that is everything.
    since: Option<Arc<Snapshot>>,
}

impl Merged {
    /// Adds what `changes` does to the tables of `request`.
    pub(crate) fn add(&mut self, request: &MonitorRequest, changes: &ChangeSet) {
        for change in changes.changes() {
            if request.table(change.table).is_some() {
                self.add_change(change.clone());
            }
        }
    }

    fn add_change(&mut self, change: RowChange) {
        let key = (change.table, change.uuid);
        let merged = match self.0.remove(&key) {
            Some(earlier) => RowChange {
                new: change.new,
                ..earlier
            },
            None => change,
        };
        if merged.old != merged.new {
            self.0.insert(key, merged);
        }
    }

    /// Adds what became of the tables of `request` between two moments.
    fn add_difference(&mut self, request: &MonitorRequest, before: &Snapshot, after: &Snapshot) {
        for watched in &request.tables {
            let table = watched.table;
            let (before, after) = (before.table(table), after.table(table));
            if before.is_same(after) {
                continue;
            }
            for old in before.rows() {
                let new = after.row(old.uuid());
                if !new.is_some_and(|new| Arc::ptr_eq(old, new)) {
                    self.add_change(RowChange {
                        table,
                        uuid: old.uuid(),
                        old: Some(Arc::clone(old)),
                        new: new.cloned(),
                    });
                }
            }
            for new in after.rows().filter(|new| before.row(new.uuid()).is_none()) {
                self.add_change(RowChange {
                    table,
                    uuid: new.uuid(),
                    old: None,
                    new: Some(Arc::clone(new)),
                });
            }
        }
    }

    /// The changes by table and UUID.
    pub(crate) fn into_changes(self) -> Vec<RowChange> {
        self.0.into_values().collect()
    }
}

impl Unsent {
    /// Adds what `changes` does to the tables of `request`; `current` gives the rows after it.
    pub(crate) fn add(
        &mut self,
        request: &MonitorRequest,
        changes: &ChangeSet,
        current: impl FnOnce() -> Arc<Snapshot>,
    ) {
        if self.since.is_none() {
            self.merged.add(request, changes);
            self.since = (self.merged.0.len() > UNSENT_ROWS_MAX).then(current);
        }
    }

    /// Whether it is known at once.
    pub(crate) fn is_short(&self) -> bool {
        self.since.is_none()
    }

    /// All changes up to `now`, by table and UUID.
    pub(crate) fn into_changes(mut self, request: &MonitorRequest, now: &Snapshot) -> Vec<RowChange> {
        if let Some(since) = self.since {
            self.merged.add_difference(request, &since, now);
        }
        self.merged.into_changes()
    }
}
