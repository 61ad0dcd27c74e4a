//! `db:DATABASE,TABLE,COLUMN`: a column of a served database that names remotes, or a file (ovsdb-server(1), "--remote").

use std::fmt;
use std::str::FromStr;

use ecow::EcoString;
use nonnet_engine::{Database, Row};
use nonnet_schema::{AtomicType, ColumnIndex, ColumnType, TableIndex};
use nonnet_sessions::Server;
use thiserror::Error;

/// What every such text begins with.
const PREFIX: &str = "db:";

/// The name of a column, in a database that may or may not be served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DbColumn {
    text: String,
    pub(crate) database: EcoString,
    pub(crate) table: EcoString,
    pub(crate) column: EcoString,
}

/// Why a text names no column; the words are ovsdb-server's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum ColumnError {
    #[error("\"{0}\": invalid syntax")]
    Syntax(String),
    #[error("\"{}\": no database named {}", .0.text, .0.database)]
    NoDatabase(DbColumn),
    #[error("\"{}\": no table named {}", .0.text, .0.table)]
    NoTable(DbColumn),
    #[error("\"{}\": table \"{}\" has no column \"{}\"", .0.text, .0.table, .0.column)]
    NoColumn(DbColumn),
    #[error("\"{}\": table \"{}\" column \"{}\" is not string or set of strings", .0.text, .0.table, .0.column)]
    NotStrings(DbColumn),
    #[error("Table `{0}' has missing or invalid `target' column")]
    NoTarget(EcoString),
}

/// A column that exists.
#[derive(Clone, Copy)]
pub(crate) struct FoundColumn<'a> {
    pub(crate) database: &'a Database,
    pub(crate) table: TableIndex,
    pub(crate) column: ColumnIndex,
}

impl DbColumn {
    /// Whether the text is meant to be one.
    pub(crate) fn is_named_by(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Looks the column up.
    ///
    /// # Errors
    /// What of it does not exist.
    pub(crate) fn find<'a>(&self, server: &'a Server) -> Result<FoundColumn<'a>, ColumnError> {
        let database = server
            .database(&self.database)
            .ok_or_else(|| ColumnError::NoDatabase(self.clone()))?;
        let table = database.schema().table_index(&self.table);
        let table = table.ok_or_else(|| ColumnError::NoTable(self.clone()))?;
        let column = database.schema().table(table).column_index(&self.column);
        let column = column.ok_or_else(|| ColumnError::NoColumn(self.clone()))?;
        Ok(FoundColumn {
            database,
            table,
            column,
        })
    }

    /// The first string in the column that is not empty; None where there is none.
    ///
    /// # Errors
    /// What of the column does not exist, or that it holds no strings.
    pub(crate) fn first_string(&self, server: &Server) -> Result<Option<String>, ColumnError> {
        let found = self.find(server)?;
        if !found.holds_strings() {
            return Err(ColumnError::NotStrings(self.clone()));
        }
        let mut strings = found.rows().flat_map(|row| row.get(found.column).keys());
        Ok(strings
            .find_map(|atom| atom.as_str().filter(|text| !text.is_empty()))
            .map(str::to_owned))
    }
}

impl FromStr for DbColumn {
    type Err = ColumnError;

    /// Commas side by side count as one, and what follows the third name is passed over, as by ovsdb-server.
    fn from_str(text: &str) -> Result<Self, ColumnError> {
        let names = text.strip_prefix(PREFIX).unwrap_or_default();
        let mut names = names.split(',').filter(|name| !name.is_empty());
        let (Some(database), Some(table), Some(column)) = (names.next(), names.next(), names.next()) else {
            return Err(ColumnError::Syntax(text.to_owned()));
        };
        Ok(Self {
            text: text.to_owned(),
            database: database.into(),
            table: table.into(),
            column: column.into(),
        })
    }
}

impl fmt::Display for DbColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'a> FoundColumn<'a> {
    /// The table's rows by UUID, so that the order does not depend on chance.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'a Row> + use<'a> {
        let mut rows: Vec<&Row> = self.database.table(self.table).rows().map(|row| &**row).collect();
        rows.sort_unstable_by_key(|row| row.uuid());
        rows.into_iter()
    }

    /// Whether it is a string or a set of strings.
    pub(crate) fn holds_strings(&self) -> bool {
        let type_ = self.type_();
        type_.key.kind == AtomicType::String && !type_.is_map()
    }

    /// The table whose rows it refers to, where it is a reference or a set of references.
    pub(crate) fn referenced(&self) -> Option<TableIndex> {
        let type_ = self.type_();
        let (table, _) = type_.key.reference().filter(|_| !type_.is_map())?;
        self.database.schema().table_index(table)
    }

    fn type_(&self) -> &'a ColumnType {
        &self.database.schema().table(self.table).column(self.column).type_
    }
}
