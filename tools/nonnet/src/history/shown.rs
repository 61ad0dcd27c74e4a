//! One changed row, ready to be shown.

use std::fmt::Write as _;

use nonnet_chain::{ColumnDelta, DatumChange, RowDelta, RowOp};
use nonnet_schema::Datum;
use serde_json::{Map, Value, json};

use super::names::Names;
use crate::catalog;
use crate::output::{Colour, NOTHING, bare_or_quoted, change_words, words};

/// A changed row with what people call it and its columns.
#[derive(Clone, Debug)]
pub(crate) struct ShownRow {
    table: String,
    uuid: String,
    op: RowOp,
    key: String,
    columns: Vec<ShownColumn>,
}

/// A changed column; for a change by elements old holds those that went, new those that came.
#[derive(Clone, Debug)]
struct ShownColumn {
    name: String,
    is_whole: bool,
    old: Value,
    new: Value,
}

impl ShownRow {
    /// Makes a change readable; `key_column` is left out of a row that came or went, for its name stands before the columns.
    pub(crate) fn new(delta: &RowDelta, names: &Names<'_>, schema: &nonnet_schema::DatabaseSchema) -> Self {
        let key_column = catalog::table(schema, &delta.table).and_then(catalog::key_column);
        let shown = |column: &ColumnDelta| {
            let (old, new, is_whole) = match &column.change {
                DatumChange::Whole { old, new } => (old.as_ref(), new.as_ref(), true),
                DatumChange::Elements { gone, come } => (Some(gone), Some(come), false),
            };
            let friendly = |datum: Option<&Datum>| {
                datum.map_or(Value::Null, |datum| names.friendly(&delta.table, &column.column, datum))
            };
            let (old, new, name) = (friendly(old), friendly(new), column.column.to_string());
            ShownColumn {
                name,
                is_whole,
                old,
                new,
            }
        };
        let is_worth_it = |column: &ShownColumn| {
            let is_key = key_column.is_some_and(|key| key.name == column.name);
            delta.op == RowOp::Modify || !(is_key || is_nothing(&column.old) && is_nothing(&column.new))
        };
        Self {
            table: delta.table.to_string(),
            uuid: delta.uuid.hyphenated().to_string(),
            op: delta.op,
            key: names.of(&delta.table, delta.uuid),
            columns: delta.columns.iter().map(shown).filter(is_worth_it).collect(),
        }
    }

    /// Its table, and what people call it.
    pub(crate) fn name(&self) -> (&str, &str) {
        (&self.table, &self.key)
    }

    /// The colour of its lines.
    pub(crate) fn colour(&self) -> Colour {
        match self.op {
            RowOp::Insert => Colour::Green,
            RowOp::Modify => Colour::Yellow,
            RowOp::Delete => Colour::Red,
        }
    }

    /// `~ lxc 100: bridge br0 -> br1, running true -> false`.
    pub(crate) fn line(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| column.words(self.op)).collect();
        let separator = if columns.is_empty() { "" } else { ": " };
        format!("{}{separator}{}", self.title(), columns.join(", "))
    }

    /// The row, then each column on a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self
            .columns
            .iter()
            .map(|column| format!("    {}", column.words(self.op)));
        std::iter::once(self.title()).chain(columns).collect()
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let op = match self.op {
            RowOp::Insert => "insert",
            RowOp::Modify => "modify",
            RowOp::Delete => "delete",
        };
        let columns: Map<String, Value> = self
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.to_json()))
            .collect();
        json!({"table": self.table, "row": self.key, "uuid": self.uuid, "op": op, "columns": columns})
    }

    fn title(&self) -> String {
        let sign = match self.op {
            RowOp::Insert => '+',
            RowOp::Modify => '~',
            RowOp::Delete => '-',
        };
        format!("{sign} {} {}", self.table, bare_or_quoted(&self.key))
    }
}

impl ShownColumn {
    fn words(&self, op: RowOp) -> String {
        if !self.is_whole {
            let mut text = self.name.clone();
            for (sign, elements) in [('-', words(&self.old)), ('+', words(&self.new))] {
                if elements != NOTHING {
                    let _infallible = write!(text, " {sign}({elements})");
                }
            }
            return text;
        }
        match op {
            RowOp::Insert => change_words(&self.name, None, Some(&self.new)),
            RowOp::Delete => change_words(&self.name, Some(&self.old), None),
            RowOp::Modify => change_words(&self.name, Some(&self.old), Some(&self.new)),
        }
    }

    fn to_json(&self) -> Value {
        if self.is_whole {
            json!({"old": self.old, "new": self.new})
        } else {
            json!({"gone": self.old, "come": self.new})
        }
    }
}

/// Whether a column of a row that came or went holds nothing worth a word.
fn is_nothing(value: &Value) -> bool {
    words(value) == NOTHING || value == ""
}
