//! Changes that a slow client has not seen yet, merged per row.

use std::collections::BTreeMap;

use nonnet_engine::{ChangeSet, RowChange};
use nonnet_schema::{MonitorRequest, TableIndex, Uuid};

/// Changes merged so that each row's old is what the client knows, and its new what it is to know. Never larger than the rows themselves.
#[derive(Debug, Default)]
pub(crate) struct Merged(BTreeMap<(TableIndex, Uuid), RowChange>);

impl Merged {
    /// Adds what `changes` does to the tables of `request`.
    pub(crate) fn add(&mut self, request: &MonitorRequest, changes: &ChangeSet) {
        for change in changes
            .changes()
            .iter()
            .filter(|change| request.table(change.table).is_some())
        {
            let key = (change.table, change.uuid);
            let merged = match self.0.remove(&key) {
                Some(earlier) => RowChange {
                    new: change.new.clone(),
                    ..earlier
                },
                None => change.clone(),
            };
            if merged.old != merged.new {
                self.0.insert(key, merged);
            }
        }
    }

    /// The changes by table and UUID.
    pub(crate) fn into_changes(self) -> Vec<RowChange> {
        self.0.into_values().collect()
    }
}
