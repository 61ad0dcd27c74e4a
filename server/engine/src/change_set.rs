//! Change sets: what one transaction did, old and new of every row it changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use nonnet_schema::{ColumnIndex, ColumnSchema, DatabaseSchema, TableIndex, TableSchema, Uuid};

use crate::row::Row;

/// What became of one row: inserted (no old), deleted (no new), or modified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The row's table.
    pub table: TableIndex,
    /// The row.
    pub uuid: Uuid,
    /// As it was.
    pub old: Option<Arc<Row>>,
    /// As it is.
    pub new: Option<Arc<Row>>,
}

/// Every row that a transaction changed, once, sorted by table and UUID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    changes: Vec<RowChange>,
}

impl RowChange {
    /// The declared columns that a row of this table gained, lost or changed: all of them for an insert or a delete.
    pub fn changed_columns<'a>(
        &'a self,
        table: &'a TableSchema,
    ) -> impl Iterator<Item = (ColumnIndex, &'a ColumnSchema)> {
        table
            .declared_columns()
            .filter(|(column, _)| match (&self.old, &self.new) {
                (Some(old), Some(new)) => old.get(*column) != new.get(*column),
                _ => true,
            })
    }

    /// True where what changed outlives the process: an insert, a delete, or a persistent column.
    pub fn is_persistent(&self, table: &TableSchema) -> bool {
        self.old.is_none() || self.new.is_none() || self.changed_columns(table).any(|(_, column)| column.persistent)
    }
}

impl ChangeSet {
    /// The change set of `changes`, each of another row.
    pub fn new(mut changes: Vec<RowChange>) -> Self {
        changes.sort_unstable_by_key(|change| (change.table, change.uuid));
        Self { changes }
    }

    /// The changes, sorted by table and UUID.
    pub fn changes(&self) -> &[RowChange] {
        &self.changes
    }

    /// True where nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes of other tables than these.
    #[must_use]
    pub fn without(&self, tables: &[TableIndex]) -> Self {
        Self {
            changes: self
                .changes
                .iter()
                .filter(|change| !tables.contains(&change.table))
                .cloned()
                .collect(),
        }
    }

    /// True where some change outlives the process.
    pub fn is_persistent(&self, schema: &DatabaseSchema) -> bool {
        self.changes
            .iter()
            .any(|change| change.is_persistent(schema.table(change.table)))
    }

    /// The change set that does what this one and then `next` do.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        let mut joined: BTreeMap<(TableIndex, Uuid), RowChange> = BTreeMap::new();
        for change in self.changes.iter().chain(&next.changes) {
            let key = (change.table, change.uuid);
            let change = match joined.remove(&key) {
                Some(earlier) => RowChange {
                    new: change.new.clone(),
                    ..earlier
                },
                None => change.clone(),
            };
            if change.old != change.new {
                joined.insert(key, change);
            }
        }
        Self {
            changes: joined.into_values().collect(),
        }
    }

    /// The change set that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let invert = |change: &RowChange| RowChange {
            old: change.new.clone(),
            new: change.old.clone(),
            table: change.table,
            uuid: change.uuid,
        };
        Self {
            changes: self.changes.iter().map(invert).collect(),
        }
    }
}
