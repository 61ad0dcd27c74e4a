//! The columns that remotes and files are read from, as the state follows them: it tells when one of their rows has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ecow::EcoString;
use nonnet_engine::{ChangeSet, Database};
use nonnet_sessions::Server;
use tokio::sync::Notify;

use crate::remotes::column::{ColumnError, DbColumn};
use crate::remotes::wanted::{Wanted, remotes_in};

/// What columns say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) remotes: Vec<Wanted>,
    /// The first string in each column, where it has one.
    pub(crate) files: BTreeMap<DbColumn, String>,
    /// Of columns that do not exist, and of rows that name nothing.
    pub(crate) errors: Vec<ColumnError>,
}

/// Which columns to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Those that name remotes.
    pub(crate) remotes: Vec<DbColumn>,
    /// Those that name files.
    pub(crate) files: Vec<DbColumn>,
}

/// The columns that were read last, and whom to tell when they may say something else.
#[derive(Debug)]
pub(crate) struct Followed {
    columns: Columns,
    changed: Arc<Notify>,
}

impl Columns {
    /// Reads all of them.
    pub(crate) fn read(&self, server: &Server) -> Contents {
        let mut contents = Contents::default();
        for column in &self.remotes {
            match column.find(server) {
                Ok(found) => {
                    for remote in remotes_in(found) {
                        match remote {
                            Ok(remote) => contents.remotes.push(remote),
                            Err(error) => contents.errors.push(error),
                        }
                    }
                }
                Err(error) => contents.errors.push(error),
            }
        }
        for column in &self.files {
            match column.first_string(server) {
                Ok(text) => contents.files.extend(text.map(|text| (column.clone(), text))),
                Err(error) => contents.errors.push(error),
            }
        }
        contents
    }

    /// The tables of a database whose rows they are read from.
    fn tables(&self, database: &Database) -> BTreeSet<EcoString> {
        let schema = database.schema();
        let mut tables = BTreeSet::new();
        for column in self.remotes.iter().chain(&self.files) {
            let table = schema.table_index(&column.table).map(|table| schema.table(table));
            let Some(table) = table.filter(|_| column.database == schema.name) else {
                continue;
            };
            let type_ = table
                .column_index(&column.column)
                .map(|index| &table.column(index).type_);
            let referenced = type_.and_then(|type_| type_.key.reference());
            tables.extend(referenced.map(|(table, _)| table.clone()));
            tables.insert(table.name.clone());
        }
        tables
    }
}

impl Followed {
    /// Nothing is followed yet; `changed` is notified.
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        Self {
            columns: Columns::default(),
            changed,
        }
    }

    /// Follows these columns, and reads them.
    pub(crate) fn read(&mut self, columns: Columns, server: &Server) -> Contents {
        self.columns = columns;
        self.columns.read(server)
    }

    /// Tells where rows have changed that a column is read from.
    pub(crate) fn rows_changed(&self, database: &Database, changes: &ChangeSet) {
        let is_of = |column: &DbColumn| column.database == database.schema().name;
        if !self.columns.remotes.iter().chain(&self.columns.files).any(is_of) {
            return;
        }
        let tables = self.columns.tables(database);
        let schema = database.schema();
        let is_followed = |table| tables.contains(&schema.table(table).name);
        if changes.changes().iter().any(|change| is_followed(change.table)) {
            self.changed.notify_one();
        }
    }

    /// Tells where a database has come, gone, or got another schema.
    pub(crate) fn databases_changed(&self) {
        self.changed.notify_one();
    }
}
