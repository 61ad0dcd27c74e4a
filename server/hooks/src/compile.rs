//! Rows to wanted objects: all of them at the start, then those that a commit concerns.
//!
//! A commit concerns the rows it changed, the rows that refer to them and read what changed, and so on; also the rows that those refer to where
//! the reference is read from the other side (a bridge with IPv6 networks on it). The cost is that of the rows concerned.

use std::collections::BTreeSet;
use std::sync::Arc;

use nonnet_engine::{ChangeSet, Database, RowChange};
use nonnet_schema::{TableIndex, TableSchema};

use crate::object::Owner;
use crate::reconcile::Desired;
use crate::referrers::{Referrers, RowKey};
use crate::tables::{SchemaMismatch, Tables, View, owner};

/// Columns that belong to clients: nothing here reads them.
const UNREAD: &str = "external_ids";

/// Compiles rows, and knows which rows refer to which.
#[derive(Clone, Debug)]
pub struct Compiler {
    tables: Tables,
    referrers: Referrers,
}

impl Compiler {
    /// A compiler for a database as it is now.
    ///
    /// # Errors
    /// When its schema is not that of `OpNonNet`.
    pub fn new(database: &Database) -> Result<Self, SchemaMismatch> {
        Ok(Self {
            tables: Tables::find(database.schema())?,
            referrers: Referrers::new(database),
        })
    }

    /// Where the tables and columns are.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What every row wants.
    pub fn compile_all(&self, database: &Database) -> Vec<(Owner, Desired)> {
        let mut all = Vec::new();
        for at in 0..database.schema().tables().len() {
            for row in database.table(TableIndex(at)).rows() {
                let desired = self.desired(database, (TableIndex(at), row.uuid()));
                all.extend(desired.filter(|(_, desired)| *desired != Desired::Gone));
            }
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// What the rows want that a commit concerns. `database` has the changes already; each commit is given once, in order.
    pub fn compile(&mut self, database: &Database, changes: &ChangeSet) -> Vec<(Owner, Desired)> {
        let mut dirty: BTreeSet<RowKey> = BTreeSet::new();
        let mut queue: Vec<RowKey> = Vec::new();
        for change in changes.changes() {
            let schema = database.schema().table(change.table);
            if is_read(schema, change) {
                dirty.insert((change.table, change.uuid));
            }
            if changes_any(schema, change, self.tables.read_by_targets(change.table)) {
                let rows = [&change.old, &change.new].into_iter().flatten();
                dirty.extend(rows.flat_map(|row| self.referrers.targets(change.table, row)));
            }
            if changes_any(schema, change, self.tables.read_by_referrers(change.table)) {
                queue.push((change.table, change.uuid));
            }
        }
        // Referrers as they were and as they are: a row that let go changed itself.
        self.referrers.apply(changes);
        while let Some(read) = queue.pop() {
            for referrer in self.referrers.all_of(read).collect::<Vec<_>>() {
                if dirty.insert(referrer) && !self.tables.read_by_referrers(referrer.0).is_empty() {
                    queue.push(referrer);
                }
            }
        }
        dirty
            .into_iter()
            .filter_map(|key| self.desired(database, key))
            .collect()
    }

    /// What one row wants; `Gone` for a row that is no more or speaks through another; none for tables without effect.
    fn desired(&self, database: &Database, (table, uuid): RowKey) -> Option<(Owner, Desired)> {
        let view = View {
            tables: &self.tables,
            rows: database,
            referrers: &self.referrers,
        };
        let row = database.table(table).row(uuid);
        let desired = self.tables.wanted(&view, table, row.map(Arc::as_ref))?;
        Some((owner(&database.schema().table(table).name, uuid), desired))
    }
}

/// Whether a change is one that a compile function may see.
pub(crate) fn is_read(schema: &TableSchema, change: &RowChange) -> bool {
    let mut changed = change.changed_columns(schema);
    change.old.is_none()
        || change.new.is_none()
        || changed.any(|(_, column)| column.persistent && column.name != UNREAD)
}

fn changes_any(schema: &TableSchema, change: &RowChange, names: &[&str]) -> bool {
    !names.is_empty()
        && change
            .changed_columns(schema)
            .any(|(_, column)| names.contains(&column.name.as_str()))
}
