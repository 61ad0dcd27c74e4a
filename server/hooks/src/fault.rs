//! What is wrong with a row, as the client reads it.

use std::fmt;

use ecow::EcoString;
use nonnet_schema::{ErrorKind, OvsdbError};

/// A row that cannot be: which column of which row, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The table's name.
    pub table: EcoString,
    /// What people call the row: its name or id.
    pub row: EcoString,
    /// The column; for one key of a map `column:key`.
    pub column: EcoString,
    /// What is wrong.
    pub text: String,
}

impl Fault {
    /// A fault of that column of that row.
    pub fn new(table: &str, row: &str, column: &str, text: impl fmt::Display) -> Self {
        Self {
            table: table.into(),
            row: row.into(),
            column: column.into(),
            text: text.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            row,
            column,
            text,
        } = self;
        write!(f, "table {table}, row \"{row}\", column {column}: {text}")
    }
}

impl From<Fault> for OvsdbError {
    fn from(fault: Fault) -> Self {
        ErrorKind::Hook(fault.to_string()).into()
    }
}
