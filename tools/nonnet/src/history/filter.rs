//! Which records, and which of their rows, are shown.

use nonnet_chain::RowDelta;
use nonnet_schema::Uuid;

use super::entry::Entry;

/// What is shown; by default everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only this table.
    pub(crate) table: Option<String>,
    /// Only this row.
    pub(crate) row: Option<Uuid>,
    /// Only this user.
    pub(crate) uid: Option<u32>,
}

impl Filter {
    /// The rows of a record that are shown; None where the record is not.
    pub(crate) fn rows<'e>(&self, entry: &'e Entry) -> Option<Vec<&'e RowDelta>> {
        if self.uid.is_some_and(|uid| entry.header.uid != uid) {
            return None;
        }
        let is_shown = |delta: &&RowDelta| {
            self.table.as_ref().is_none_or(|table| delta.table == *table)
                && self.row.is_none_or(|row| delta.uuid == row)
        };
        let rows: Vec<&RowDelta> = entry.rows().filter(is_shown).collect();
        let is_restricted = self.table.is_some() || self.row.is_some();
        (!rows.is_empty() || !is_restricted).then_some(rows)
    }
}
