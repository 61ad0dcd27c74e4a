//! Rows to wanted objects: all of them at the start, then those that a commit concerns.
//!
//! A commit concerns the rows it changed, the rows that refer to them and read what changed, and so on; also the rows that those refer to where
//! the reference is read from the other side (a bridge with IPv6 networks on it). The cost is that of the rows concerned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nonnet_engine::{ChangeSet, Database, RowChange};
use nonnet_schema::{TableIndex, TableSchema, Uuid};

use crate::directory::Directory;
use crate::healing;
use crate::naming;
use crate::object::{Moving, Owner};
use crate::reconcile::{Desired, Heal};
use crate::referrers::{Referrers, RowKey};
use crate::tables::{SchemaMismatch, Tables, View, checkpoints, owner};

/// Columns that belong to clients: nothing here reads them.
const UNREAD: &str = "external_ids";

/// Compiles rows, and knows which rows refer to which.
#[derive(Clone, Debug)]
pub struct Compiler {
    tables: Tables,
    referrers: Referrers,
    directory: Directory,
    moving: Moving,
}

impl Compiler {
    /// A compiler for a database as it is now.
    ///
    /// # Errors
    /// When its schema is not that of `OpNonNet`.
    pub fn new(database: &Database) -> Result<Self, SchemaMismatch> {
        let mut compiler = Self {
            tables: Tables::find(database.schema())?,
            referrers: Referrers::new(database),
            directory: Directory::default(),
            moving: Moving::default(),
        };
        compiler.moving = checkpoints::moving(&compiler.tables.checkpoints, database);
        let mut all = BTreeSet::new();
        for table in [compiler.tables.ports.this, compiler.tables.networks.this] {
            all.extend(database.table(table).rows().map(|row| (table, row.uuid())));
        }
        compiler.note_names(database, &mut all);
        Ok(compiler)
    }

    /// Where the tables and columns are.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What every row says about changes that others make to its objects, of those that say something.
    pub fn heals_all(&self, database: &Database) -> Vec<(Owner, Option<Heal>)> {
        healing::all(&self.tables, database)
    }

    /// What rows say about changes that others make to their objects, of those where a commit changed it.
    pub fn heals(&self, database: &Database, changes: &ChangeSet) -> Vec<(Owner, Option<Heal>)> {
        healing::changed(&self.tables, database, changes)
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
        self.note_names(database, &mut dirty);
        self.note_checkpoints(database, changes, &mut dirty);
        dirty
            .into_iter()
            .filter_map(|key| self.desired(database, key))
            .collect()
    }

    /// Takes the checkpoints as they are now, if that is news. Bridges with uplinks are others then.
    fn note_checkpoints(&mut self, database: &Database, changes: &ChangeSet, dirty: &mut BTreeSet<RowKey>) {
        let (columns, bridges) = (&self.tables.checkpoints, &self.tables.bridges);
        if !changes.changes().iter().any(|change| change.table == columns.this) {
            return;
        }
        let now = checkpoints::moving(columns, database);
        if now != self.moving {
            self.moving = now;
            let rows = database.table(bridges.this).rows();
            let with_uplinks = rows.filter(|row| !row.get(bridges.uplinks).is_empty());
            dirty.extend(with_uplinks.map(|row| (bridges.this, row.uuid())));
        }
    }

    /// The names of ports as they are now.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Takes the names of rows that changed. A network whose ports begin or end to have names is another one itself.
    fn note_names(&mut self, database: &Database, dirty: &mut BTreeSet<RowKey>) {
        let (ports, networks) = (self.tables.ports.this, self.tables.networks.this);
        let of = |table: TableIndex, dirty: &BTreeSet<RowKey>| -> Vec<Uuid> {
            let rows = dirty.iter().filter(|(of, _)| *of == table);
            rows.map(|(_, uuid)| *uuid).collect()
        };
        let mut had = BTreeMap::new();
        for uuid in of(ports, dirty) {
            let row = database.table(ports).row(uuid);
            let entry = row.and_then(|row| naming::entry(&self.tables, database, row));
            let before = self.directory.network_of(uuid.as_u128());
            for network in before.into_iter().chain(entry.as_ref().map(|entry| entry.network)) {
                had.entry(network).or_insert_with(|| self.directory.has_names(network));
            }
            self.directory.set_entry(uuid.as_u128(), entry);
        }
        let changed = had
            .into_iter()
            .filter(|(network, had)| self.directory.has_names(*network) != *had);
        dirty.extend(changed.map(|(network, _)| (networks, Uuid::from_u128(network))));
        for uuid in of(networks, dirty) {
            let view = View {
                tables: &self.tables,
                rows: database,
                referrers: &self.referrers,
                directory: &self.directory,
                moving: &self.moving,
            };
            let zone = database
                .table(networks)
                .row(uuid)
                .and_then(|row| naming::zone(&view, row));
            self.directory.set_zone(uuid.as_u128(), zone);
        }
    }

    /// What one row wants; `Gone` for a row that is no more or speaks through another; none for tables without effect.
    fn desired(&self, database: &Database, (table, uuid): RowKey) -> Option<(Owner, Desired)> {
        let view = View {
            tables: &self.tables,
            rows: database,
            referrers: &self.referrers,
            directory: &self.directory,
            moving: &self.moving,
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
