//! What became of rows in the kernel, as the server tells in their `status` and `error`.

use nonnet_schema::{DatabaseSchema, Datum, TableSchema};
use serde_json::{Value, json};

use crate::catalog;
use crate::content::{Row, Rows};
use crate::output::{Colour, bare_or_quoted, printable};

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowState {
    pub(crate) table: String,
    /// What people call the row.
    pub(crate) key: String,
    /// A word of the server; none where it told nothing.
    pub(crate) state: Option<String>,
    pub(crate) error: Option<String>,
}

impl RowState {
    /// What became of the row of that name, where there is one and its table tells.
    pub(crate) fn of(table: &str, key: &str, rows: &Rows<'_>, schema: &DatabaseSchema) -> Option<Self> {
        let table_schema = catalog::table(schema, table).filter(|table| tells_state(table))?;
        let (_, row) = rows.find(table, key)?;
        let state = row
            .get("status")
            .and_then(|status| status.get_str("state"))
            .map(str::to_owned);
        let error = text(row, "error");
        let has_link =
            table_schema.column_index("ifindex").is_none() || row.get("ifindex").is_some_and(|at| !at.is_empty());
        let lost = state.as_deref() == Some("converged") && !has_link;
        Some(Self {
            table: table.to_owned(),
            key: key.to_owned(),
            error: error.or_else(|| lost.then(|| "its link is missing".to_owned())),
            state: if lost { Some("drifted".to_owned()) } else { state },
        })
    }

    /// Whether the kernel has what the row wants.
    pub(crate) fn is_converged(&self) -> bool {
        self.state.as_deref() == Some("converged")
    }

    /// Whether the kernel refused, or something is in the way.
    pub(crate) fn is_failed(&self) -> bool {
        matches!(self.state.as_deref(), Some("failed" | "conflict"))
    }

    /// `waiting: no namespace "100" yet`.
    pub(crate) fn words(&self) -> String {
        let state = self
            .state
            .as_deref()
            .unwrap_or("not realised: the server tells no state");
        match &self.error {
            Some(error) => printable(&format!("{state}: {error}")),
            None => printable(state),
        }
    }

    /// `! ports vi100: waiting`.
    pub(crate) fn line(&self) -> String {
        format!("! {} {}: {}", self.table, bare_or_quoted(&self.key), self.words())
    }

    pub(crate) fn colour(&self) -> Colour {
        match self.state.as_deref() {
            Some("converged") => Colour::Green,
            Some("failed" | "conflict") => Colour::Red,
            _ => Colour::Yellow,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"table": self.table, "row": self.key, "state": self.state, "error": self.error})
    }
}

/// Whether the rows of a table tell what became of them.
fn tells_state(table: &TableSchema) -> bool {
    table.column_index("status").is_some()
}

fn text(row: &Row, column: &str) -> Option<String> {
    row.get(column)
        .and_then(Datum::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}
