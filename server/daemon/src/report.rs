//! What the kernel's side has to say about rows, put into their ephemeral columns.

use nonnet_engine::Transaction;
use nonnet_schema::{ColumnIndex, Datum, TableIndex, Uuid};

/// New values of columns.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// Each with the row and the column it is for.
    pub(crate) values: Vec<(TableIndex, Uuid, ColumnIndex, Datum)>,
}

impl Reports {
    /// Puts the values into the rows that still exist.
    pub(crate) fn write(self, transaction: &mut Transaction<'_>) {
        for (table, uuid, column, datum) in self.values {
            transaction.set(table, uuid, column, datum);
        }
    }
}
