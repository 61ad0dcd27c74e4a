//! Whether the rows that a plan brings back find those that they refer to, and no row is left that refers to one that goes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use nonnet_chain::{DatumChange, RowDelta, RowOp};
use nonnet_schema::{BaseType, ColumnSchema, Constraint, Datum, Strength, Uuid};
use nonnet_store::RowRecord;

use super::conflict::Conflict;
use super::plan::Plan;
use crate::catalog;
use crate::history::History;
use crate::output::bare_or_quoted;

/// Adds the references that would dangle to the conflicts. A weak one would be dropped by the server, and the row would not be what it was.
pub(crate) fn check(history: &History, plan: &mut Plan) -> Result<()> {
    let named = |op: RowOp| -> BTreeSet<(&str, Uuid)> {
        let changes = plan.changes.iter().filter(move |change| change.op == op);
        changes.map(|change| (change.table.as_str(), change.uuid)).collect()
    };
    let (come, gone) = (named(RowOp::Insert), named(RowOp::Delete));
    let mut conflicts = Vec::new();
    let mut exists = BTreeMap::new();
    for change in plan.changes.iter().filter(|change| change.op != RowOp::Delete) {
        for (column, new) in new_datums(history, change) {
            let logged = references(column, new).filter(|(target, _)| is_logged(history, target));
            for (target, uuid) in logged {
                let is_there = if let Some(known) = exists.get(&(target, uuid)) {
                    *known
                } else {
                    let found = come.contains(&(target, uuid))
                        || !gone.contains(&(target, uuid)) && history.reader.row(target, uuid)?.is_some();
                    exists.insert((target, uuid), found);
                    found
                };
                if !is_there {
                    conflicts.push(dangling(history, change, column, (target, uuid))?);
                }
            }
        }
    }
    if !gone.is_empty() {
        conflicts.extend(left_behind(history, plan, &gone)?);
    }
    plan.conflicts.extend(conflicts);
    Ok(())
}

/// Whether the log tells of the rows of a table at all: it does not where all columns are ephemeral.
fn is_logged(history: &History, table: &str) -> bool {
    let table = catalog::table(&history.schema, table);
    table.is_some_and(|table| table.declared_columns().any(|(_, column)| column.persistent))
}

/// The columns of a change that are given something.
fn new_datums<'a>(
    history: &'a History,
    change: &'a RowDelta,
) -> impl Iterator<Item = (&'a ColumnSchema, &'a Datum)> + 'a {
    let table = catalog::table(&history.schema, &change.table);
    change.columns.iter().filter_map(move |delta| {
        let column = table?.column(table?.column_index(&delta.column)?);
        match &delta.change {
            DatumChange::Whole { new: Some(new), .. } => Some((column, new)),
            _ => None,
        }
    })
}

/// The rows that a datum refers to.
fn references<'a>(column: &'a ColumnSchema, datum: &'a Datum) -> impl Iterator<Item = (&'a str, Uuid)> {
    let key = target(&column.type_.key);
    let value = column.type_.value.as_ref().and_then(target);
    datum.iter().flat_map(move |(k, v)| {
        let key = key.and_then(|table| Some((table, k.as_uuid()?)));
        let value = value.and_then(|table| Some((table, v?.as_uuid()?)));
        key.into_iter().chain(value)
    })
}

/// The table that atoms of a type refer to.
fn target(base: &BaseType) -> Option<&str> {
    match &base.constraint {
        Constraint::Reference { table, .. } => Some(table),
        _ => None,
    }
}

fn dangling(
    history: &History,
    change: &RowDelta,
    column: &ColumnSchema,
    (table, uuid): (&str, Uuid),
) -> Result<Conflict> {
    let mut name = uuid.hyphenated().to_string();
    let mut by = None;
    if let Some(record) = history.reader.row_records(table, uuid)?.next().transpose()? {
        let key = catalog::table(&history.schema, table).and_then(catalog::key_column);
        let told = record
            .delta
            .columns
            .iter()
            .find(|delta| key.is_some_and(|key| key.name == delta.column));
        if let Some(DatumChange::Whole { old: Some(old), .. }) = told.map(|delta| &delta.change) {
            name = old.as_str().map(bare_or_quoted).unwrap_or(name);
        }
        by = Some(record).filter(|record| record.delta.op == RowOp::Delete);
    }
    let problem = match by {
        Some(_) => format!("refers to {table} {name}, which was deleted"),
        None => format!("refers to {table} {name}, which is not there"),
    };
    let conflict = Conflict::row(&change.table, change.uuid, problem);
    Ok(conflict.column(&column.name).by(by))
}

/// Rows of today that refer strongly to rows that go, and are not changed by the plan themselves.
fn left_behind(history: &History, plan: &Plan, gone: &BTreeSet<(&str, Uuid)>) -> Result<Vec<Conflict>> {
    let changed: BTreeSet<(&str, Uuid, &str)> = plan
        .changes
        .iter()
        .flat_map(|change| {
            let columns = change.columns.iter();
            columns.map(|delta| (change.table.as_str(), change.uuid, delta.column.as_str()))
        })
        .collect();
    let tables: BTreeSet<&str> = gone.iter().map(|(table, _)| *table).collect();
    let today = history.contents_at(history.head()?)?;
    let mut conflicts = Vec::new();
    for row in &today.rows {
        let table = today.schema.table(row.table);
        if gone.contains(&(table.name.as_str(), row.uuid)) {
            continue;
        }
        for (at, column) in table.declared_columns() {
            let is_strong = strong_targets(column).any(|target| tables.contains(target));
            let is_changed = changed.contains(&(table.name.as_str(), row.uuid, column.name.as_str()));
            let datum = row.fields.get(at.0).filter(|_| is_strong && !is_changed);
            let found = datum.and_then(|datum| references(column, datum).find(|reference| gone.contains(reference)));
            if let Some((target, _)) = found {
                let problem = format!("refers to a row of {target} that would go; it was set so");
                let conflict = Conflict::row(&table.name, row.uuid, problem).column(&column.name);
                conflicts.push(conflict.by(last_change(history, &table.name, row.uuid, &column.name)?));
            }
        }
    }
    Ok(conflicts)
}

/// The newest record that names a column of a row.
fn last_change(history: &History, table: &str, uuid: Uuid, column: &str) -> Result<Option<RowRecord>> {
    for record in history.reader.row_records(table, uuid)? {
        let record = record?;
        if record.delta.columns.iter().any(|delta| delta.column == column) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The tables whose rows a column keeps alive.
fn strong_targets(column: &ColumnSchema) -> impl Iterator<Item = &str> {
    let bases = std::iter::once(&column.type_.key).chain(&column.type_.value);
    bases.filter_map(|base| match &base.constraint {
        Constraint::Reference {
            table,
            strength: Strength::Strong,
        } => Some(table.as_str()),
        _ => None,
    })
}
