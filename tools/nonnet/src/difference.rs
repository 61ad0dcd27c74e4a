//! What has to change about the rows there are to make them those that a file wants.
//!
//! Only columns that the file mentions are compared, and none that the server tells. The order is that of the tables' references, then
//! that of the file; rows to delete come last, by name.

use std::collections::{BTreeMap, HashSet};

use nonnet_schema::{ColumnSchema, DatabaseSchema, Datum, Uuid};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::catalog;
use crate::content::{Row, Rows};
use crate::output::{bare_or_quoted, change_words};
use crate::state::State;
use crate::wanted::{Content, LXC, RowName, Wanted, WantedRow};

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Modify,
    Delete,
}

/// A change of one row.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) action: Action,
    pub(crate) table: String,
    /// What people call the row.
    pub(crate) key: String,
    /// The row, where there is one already.
    pub(crate) uuid: Option<Uuid>,
    pub(crate) columns: Vec<ColumnChange>,
    /// The row as it was read; empty for a new one.
    pub(crate) before: Row,
}

/// A change of one column.
#[derive(Clone, Debug)]
pub(crate) struct ColumnChange {
    pub(crate) column: String,
    /// In the JSON of files.
    pub(crate) old: Option<Value>,
    pub(crate) new: Option<Value>,
    /// What goes to the server.
    pub(crate) content: Option<Content>,
}

/// A reference to a row that is neither in the file nor in the database.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{place}.{column}: there is no \"{name}\" in {table}, neither in the file nor in the database")]
pub(crate) struct UnknownReference {
    place: String,
    column: String,
    table: String,
    name: String,
}

/// Compares what is wanted with what is there.
pub(crate) fn compare(
    state: &State,
    rows: &Rows<'_>,
    schema: &DatabaseSchema,
    prune: bool,
) -> Result<Vec<Change>, UnknownReference> {
    let in_file: HashSet<(&str, &str)> = state
        .rows
        .iter()
        .map(|row| (row.table.as_str(), row.key.as_str()))
        .collect();
    check_references(state, &in_file, rows, schema)?;
    let tables = catalog::describable(schema);
    let named: Vec<&str> = tables
        .into_iter()
        .filter(|table| state.tables.iter().any(|name| name == table))
        .collect();
    let mut changes = Vec::new();
    for table in &named {
        let wanted = state.rows.iter().filter(|row| row.table == *table);
        changes.extend(wanted.filter_map(|wanted| change_of(wanted, rows, schema)));
    }
    if prune {
        for table in named.iter().rev() {
            changes.extend(unwanted(table, &in_file, rows, schema));
        }
    }
    Ok(changes)
}

/// What a change is in one line: `+ lxc 100: bridge br0, running true`.
pub(crate) fn line(change: &Change) -> String {
    let sign = match change.action {
        Action::Create => '+',
        Action::Modify => '~',
        Action::Delete => '-',
    };
    let columns: Vec<String> = change.columns.iter().map(ColumnChange::words).collect();
    let separator = if columns.is_empty() { "" } else { ": " };
    format!(
        "{sign} {} {}{separator}{}",
        change.table,
        bare_or_quoted(&change.key),
        columns.join(", ")
    )
}

/// A change for programs.
pub(crate) fn to_json(change: &Change) -> Value {
    let action = match change.action {
        Action::Create => "create",
        Action::Modify => "modify",
        Action::Delete => "delete",
    };
    let column = |column: &ColumnChange| {
        let mut members = Map::new();
        members.extend(column.old.clone().map(|old| ("old".to_owned(), old)));
        members.extend(column.new.clone().map(|new| ("new".to_owned(), new)));
        (column.column.clone(), Value::Object(members))
    };
    let columns: Map<String, Value> = change.columns.iter().map(column).collect();
    json!({"action": action, "table": change.table, "row": change.key, "columns": columns})
}

impl ColumnChange {
    /// `mtu 1500 -> 1400`, or `mtu 1400` of a new row.
    pub(crate) fn words(&self) -> String {
        change_words(&self.column, self.old.as_ref(), self.new.as_ref())
    }
}

impl Change {
    /// What a column is to be, where it changes.
    pub(crate) fn new_value(&self, column: &str) -> Option<&Value> {
        self.columns.iter().find(|change| change.column == column)?.new.as_ref()
    }
}

fn change_of(wanted: &WantedRow, rows: &Rows<'_>, schema: &DatabaseSchema) -> Option<Change> {
    let table = catalog::table(schema, &wanted.table)?;
    let existing = rows.find(&wanted.table, &wanted.key);
    let columns: Vec<ColumnChange> = if let Some((_, row)) = existing {
        let differs = |(name, new): (&String, &Wanted)| {
            let column = table.column(table.column_index(name)?);
            let old = current(rows, column, row);
            (old != new.friendly).then(|| ColumnChange::new(name, Some(old), new))
        };
        wanted.columns.iter().filter_map(differs).collect()
    } else {
        let mut columns: BTreeMap<&String, &Wanted> = wanted.defaults.iter().collect();
        columns.extend(&wanted.columns);
        let new = columns
            .into_iter()
            .map(|(name, new)| ColumnChange::new(name, None, new));
        new.collect()
    };
    if existing.is_some() && columns.is_empty() {
        return None;
    }
    Some(Change {
        action: if existing.is_some() {
            Action::Modify
        } else {
            Action::Create
        },
        table: wanted.table.clone(),
        key: wanted.key.clone(),
        uuid: existing.map(|(uuid, _)| uuid),
        columns,
        before: existing.map(|(_, row)| row.clone()).unwrap_or_default(),
    })
}

impl ColumnChange {
    fn new(column: &str, old: Option<Value>, new: &Wanted) -> Self {
        Self {
            column: column.to_owned(),
            old,
            new: Some(new.friendly.clone()),
            content: Some(new.content.clone()),
        }
    }
}

fn current(rows: &Rows<'_>, column: &ColumnSchema, row: &Row) -> Value {
    match row.get(column.name.as_str()) {
        Some(datum) => rows.friendly(column, datum),
        None => rows.friendly(column, &Datum::default_for(&column.type_)),
    }
}

/// The rows of a table that the file does not have. A row that hangs on a container is the server's own.
fn unwanted(table: &str, in_file: &HashSet<(&str, &str)>, rows: &Rows<'_>, schema: &DatabaseSchema) -> Vec<Change> {
    let Some(table_schema) = catalog::table(schema, table) else {
        return Vec::new();
    };
    let mut changes = Vec::new();
    for (uuid, row) in rows.table(table) {
        let RowName::Key(key) = rows.name_of(table_schema, uuid) else {
            continue;
        };
        let is_wanted = in_file.contains(&(table, key.as_str()));
        let is_servers = row.get(LXC).is_some_and(|container| !container.is_empty());
        if !is_wanted && !is_servers {
            changes.push(Change {
                action: Action::Delete,
                table: table.to_owned(),
                key,
                uuid: Some(uuid),
                columns: Vec::new(),
                before: row.clone(),
            });
        }
    }
    changes.sort_by(|one, other| one.key.cmp(&other.key));
    changes
}

fn check_references(
    state: &State,
    in_file: &HashSet<(&str, &str)>,
    rows: &Rows<'_>,
    schema: &DatabaseSchema,
) -> Result<(), UnknownReference> {
    for row in &state.rows {
        for (name, wanted) in &row.columns {
            let Content::References(names) = &wanted.content else {
                continue;
            };
            let column =
                catalog::table(schema, &row.table).and_then(|table| Some(table.column(table.column_index(name)?)));
            let Some(target) = column.and_then(|column| catalog::target(schema, column)) else {
                continue;
            };
            for reference in names {
                let RowName::Key(key) = reference else { continue };
                let is_in_file = in_file.contains(&(target.name.as_str(), key.as_str()));
                if !is_in_file && rows.find(&target.name, key).is_none() {
                    return Err(UnknownReference {
                        place: row.place.clone(),
                        column: name.clone(),
                        table: target.name.to_string(),
                        name: key.clone(),
                    });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
