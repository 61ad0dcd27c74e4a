//! Which rows refer to which, kept up to date from change sets.

use std::collections::{BTreeSet, HashMap};

use nonnet_engine::{ChangeSet, Database, Row, RowChange};
use nonnet_schema::{Atom, BaseType, ColumnIndex, DatabaseSchema, TableIndex, Uuid};

/// A row by table and UUID.
pub type RowKey = (TableIndex, Uuid);

/// The rows that refer to each row.
#[derive(Clone, Debug, Default)]
pub struct Referrers {
    /// For each table, its columns that hold references, with the table referred to.
    columns: Vec<Vec<(ColumnIndex, TableIndex)>>,
    of: HashMap<RowKey, BTreeSet<RowKey>>,
}

impl Referrers {
    /// Those of all rows of a database.
    pub fn new(database: &Database) -> Self {
        let schema = database.schema();
        let columns = schema.tables().iter().map(|table| {
            let targets = table.declared_columns().flat_map(|(column, column_schema)| {
                let type_ = &column_schema.type_;
                let bases = [Some(&type_.key), type_.value.as_ref()];
                bases
                    .into_iter()
                    .flatten()
                    .filter_map(move |base| Some((column, target(schema, base)?)))
            });
            targets.collect()
        });
        let mut referrers = Self {
            columns: columns.collect(),
            of: HashMap::new(),
        };
        for at in 0..schema.tables().len() {
            for row in database.table(TableIndex(at)).rows() {
                referrers.add((TableIndex(at), row.uuid()), row);
            }
        }
        referrers
    }

    /// Takes what a commit changed.
    pub fn apply(&mut self, changes: &ChangeSet) {
        for change in changes.changes() {
            self.change(change);
        }
    }

    /// The rows of one table that refer to `row`.
    pub fn of(&self, row: RowKey, table: TableIndex) -> impl Iterator<Item = Uuid> {
        self.all_of(row)
            .filter(move |(of, _)| *of == table)
            .map(|(_, uuid)| uuid)
    }

    /// All rows that refer to `row`, by table.
    pub fn all_of(&self, row: RowKey) -> impl Iterator<Item = RowKey> {
        self.of.get(&row).into_iter().flatten().copied()
    }

    /// The rows that `row` of that table refers to.
    pub fn targets(&self, table: TableIndex, row: &Row) -> Vec<RowKey> {
        let mut targets = Vec::new();
        for (column, target) in self.columns.get(table.0).into_iter().flatten() {
            for (key, value) in row.get(*column) {
                for uuid in [Some(key), value].into_iter().flatten().filter_map(Atom::as_uuid) {
                    targets.push((*target, uuid));
                }
            }
        }
        targets
    }

    fn change(&mut self, change: &RowChange) {
        let key = (change.table, change.uuid);
        if let Some(old) = &change.old {
            for target in self.targets(change.table, old) {
                if let Some(of) = self.of.get_mut(&target) {
                    of.remove(&key);
                    if of.is_empty() {
                        self.of.remove(&target);
                    }
                }
            }
        }
        if let Some(new) = &change.new {
            self.add(key, new);
        }
    }

    fn add(&mut self, key: RowKey, row: &Row) {
        for target in self.targets(key.0, row) {
            self.of.entry(target).or_default().insert(key);
        }
    }
}

fn target(schema: &DatabaseSchema, base: &BaseType) -> Option<TableIndex> {
    base.reference().and_then(|(table, _)| schema.table_index(table))
}
