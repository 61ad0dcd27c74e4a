//! The changed rows of a commit as JSON text, as much of it as fits.

use nonnet_chain::{ColumnDelta, DatumChange, RowDelta, RowOp};
use nonnet_schema::{Datum, json};

use crate::limits::CHANGES_BYTES_MAX;

/// The text of an array while it grows.
#[derive(Debug)]
pub(super) struct ChangesText {
    text: String,
    is_full: bool,
}

impl ChangesText {
    pub(super) fn new() -> Self {
        Self {
            text: "[".to_owned(),
            is_full: false,
        }
    }

    /// Adds a row. One whose columns do not fit is added without them; where that does not fit either, it and all after it are left out.
    pub(super) fn add(&mut self, row: &RowDelta) {
        if self.is_full {
            return;
        }
        let before = self.text.len();
        if before > 1 {
            self.text.push(',');
        }
        self.head(row);
        let head = self.text.len();
        self.text.push_str(",\"columns\":{");
        for (at, column) in row.columns.iter().enumerate() {
            if at > 0 {
                self.text.push(',');
            }
            self.column(column);
            if self.text.len() > CHANGES_BYTES_MAX {
                break;
            }
        }
        self.text.push_str("}}");
        // The bracket at the end comes besides.
        if self.text.len() < CHANGES_BYTES_MAX {
            return;
        }
        self.is_full = true;
        self.text.truncate(head);
        self.text.push('}');
        if self.text.len() >= CHANGES_BYTES_MAX {
            self.text.truncate(before);
        }
    }

    /// The whole text, and whether something was left out.
    pub(super) fn finish(mut self) -> (String, bool) {
        self.text.push(']');
        (self.text, self.is_full)
    }

    fn head(&mut self, row: &RowDelta) {
        let op = match row.op {
            RowOp::Insert => "insert",
            RowOp::Modify => "modify",
            RowOp::Delete => "delete",
        };
        self.text.push_str("{\"table\":");
        json::write_string(&row.table, &mut self.text);
        self.text.push_str(",\"uuid\":\"");
        self.text.push_str(&row.uuid.hyphenated().to_string());
        self.text.push_str("\",\"op\":\"");
        self.text.push_str(op);
        self.text.push('"');
    }

    fn column(&mut self, column: &ColumnDelta) {
        json::write_string(&column.column, &mut self.text);
        let (before, after) = match &column.change {
            DatumChange::Whole { old, new } => (("old", old.as_ref()), ("new", new.as_ref())),
            DatumChange::Elements { gone, come } => (("gone", Some(gone)), ("come", Some(come))),
        };
        self.text.push_str(":{");
        let is_both = before.1.is_some() && after.1.is_some();
        self.datum(before.0, before.1);
        if is_both {
            self.text.push(',');
        }
        self.datum(after.0, after.1);
        self.text.push('}');
    }

    fn datum(&mut self, name: &str, datum: Option<&Datum>) {
        if let Some(datum) = datum {
            json::write_string(name, &mut self.text);
            self.text.push(':');
            datum.write_json(&mut self.text);
        }
    }
}
