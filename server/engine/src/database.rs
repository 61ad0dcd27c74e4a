//! A database: its schema, its tables, and who refers to whom.
//!
//! It changes only by change sets. A [`Snapshot`] costs O(1) and stays as it is while the database goes on.

use std::sync::Arc;

use nonnet_schema::{DatabaseSchema, Datum, TableIndex, Uuid};

use crate::change_set::{ChangeSet, RowChange};
use crate::entropy::Entropy;
use crate::references::References;
use crate::row::Row;
use crate::table::Table;

/// One database as of one moment.
#[derive(Clone, Debug)]
pub struct Database {
    schema: Arc<DatabaseSchema>,
    tables: Vec<Table>,
    references: References,
    hasher: ahash::RandomState,
}

/// The rows of a database as of one moment, to be read elsewhere.
#[derive(Clone, Debug)]
pub struct Snapshot {
    schema: Arc<DatabaseSchema>,
    tables: Vec<Table>,
}

impl Database {
    /// An empty database. `hash_seed` keys its hash tables, so that clients cannot choose UUIDs that collide.
    pub fn new(schema: Arc<DatabaseSchema>, hash_seed: u64) -> Self {
        let hasher = ahash::RandomState::with_seeds(hash_seed, hash_seed.rotate_left(17), !hash_seed, 0x6e6f_6e6e_6574);
        Self::with_hasher(schema, &hasher)
    }

    /// An empty database of another schema, with hash tables keyed as these are.
    pub(crate) fn empty_with(&self, schema: Arc<DatabaseSchema>) -> Self {
        Self::with_hasher(schema, &self.hasher)
    }

    fn with_hasher(schema: Arc<DatabaseSchema>, hasher: &ahash::RandomState) -> Self {
        let tables = schema.tables().iter().map(|table| Table::new(table, hasher)).collect();
        Self {
            schema,
            tables,
            references: References::new(hasher),
            hasher: hasher.clone(),
        }
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<DatabaseSchema> {
        &self.schema
    }

    /// The table at `index`, which must come from this database's schema.
    pub fn table(&self, index: TableIndex) -> &Table {
        &self.tables[index.0]
    }

    /// The table of that name.
    pub fn table_named(&self, name: &str) -> Option<(TableIndex, &Table)> {
        self.schema.table_index(name).map(|index| (index, self.table(index)))
    }

    pub(crate) fn references(&self) -> &References {
        &self.references
    }

    /// The rows as they are now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            schema: Arc::clone(&self.schema),
            tables: self.tables.clone(),
        }
    }

    /// Brings the rows from each change's old to its new. The inverse of a change set undoes it.
    pub fn apply(&mut self, changes: &ChangeSet) {
        // Rows that go make room in the unique indexes for rows that come.
        for change in changes.changes().iter().filter(|change| change.new.is_none()) {
            if let Some(old) = &change.old {
                self.tables[change.table.0].remove(self.schema.table(change.table), old);
            }
        }
        for change in changes.changes() {
            let (table, schema) = (&mut self.tables[change.table.0], self.schema.table(change.table));
            match (&change.old, &change.new) {
                (Some(old), Some(new)) => table.replace(schema, old, Arc::clone(new)),
                (None, Some(new)) => table.insert(schema, Arc::clone(new)),
                (_, None) => {}
            }
        }
        self.references.apply(&self.schema, changes);
    }

    /// Puts in a stored row without any check; `fields` holds every column of the table, `_uuid` and `_version` whatever they are.
    pub fn load(&mut self, table: TableIndex, uuid: Uuid, fields: Vec<Datum>, entropy: &mut Entropy) {
        let new = Arc::new(Row::new(uuid, entropy.uuid(), fields));
        let old = self.table(table).row(uuid).cloned();
        self.apply(&ChangeSet::new(vec![RowChange {
            table,
            uuid,
            old,
            new: Some(new),
        }]));
    }
}

impl Snapshot {
    /// The schema.
    pub fn schema(&self) -> &Arc<DatabaseSchema> {
        &self.schema
    }

    /// The table at `index`, which must come from this schema.
    pub fn table(&self, index: TableIndex) -> &Table {
        &self.tables[index.0]
    }
}
