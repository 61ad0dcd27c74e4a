//! What makes the rows as they were after a commit, all of them or those of a table with what it owns.

use std::collections::BTreeSet;

use anyhow::Result;
use nonnet_chain::{DatumChange, RowDelta, RowOp};
use nonnet_schema::{Constraint, DatabaseSchema, Datum, Strength, TableSchema, Uuid};
use nonnet_store::Contents;

use super::conflict::Conflict;
use super::plan::Plan;
use super::references;
use crate::catalog;
use crate::checkpoint::CHECKPOINTS;
use crate::history::{History, between};

/// What is restored.
pub(crate) struct Restore<'a> {
    /// To what it was after this record.
    pub(crate) seq: u64,
    /// Only this table, and the rows that live by its rows alone.
    pub(crate) table: Option<&'a TableSchema>,
}

/// What restores the rows. Checkpoints of `OpNonNet` are left as they are: they tell of the log, not of the network.
pub(crate) fn restored(history: &History, restore: &Restore<'_>) -> Result<Plan> {
    let (was, now) = (history.contents_at(restore.seq)?, history.contents_at(history.head()?)?);
    let owned = restore.table.map(|table| owned_rows(&was, table));
    let is_restored = |change: &RowDelta| match (&owned, restore.table) {
        (Some(owned), Some(table)) => {
            change.table == table.name || change.op != RowOp::Delete && owned.contains(&change.uuid)
        }
        _ => change.table != CHECKPOINTS || !has_checkpoints(&history.schema),
    };
    let mut plan = Plan::default();
    for change in between(&now, &was).into_iter().filter(is_restored) {
        if let Some(change) = fit(change, &was.schema, &history.schema, &mut plan.conflicts) {
            plan.changes.push(change);
        }
    }
    references::check(history, &mut plan)?;
    Ok(plan)
}

/// Whether the table of checkpoints is the server's.
fn has_checkpoints(schema: &DatabaseSchema) -> bool {
    catalog::table(schema, CHECKPOINTS).is_some_and(|table| table.column_index("state").is_some())
}

/// The change under the schema of today: what is new in it stays as it is, what it lost cannot come back.
fn fit(
    mut change: RowDelta,
    old_schema: &DatabaseSchema,
    schema: &DatabaseSchema,
    conflicts: &mut Vec<Conflict>,
) -> Option<RowDelta> {
    let (name, uuid, op) = (change.table.clone(), change.uuid, change.op);
    let Some(table) = catalog::table(schema, &name) else {
        let problem = "is of a table that the schema does not have any more";
        conflicts.push(Conflict::row(&name, uuid, problem));
        return None;
    };
    let old_table = catalog::table(old_schema, &name);
    change.columns.retain(|delta| {
        let DatumChange::Whole { old, new } = &delta.change else {
            return false;
        };
        let column = table.column_index(&delta.column).map(|at| table.column(at));
        match (column, old, new) {
            (None, _, Some(new)) => {
                if !is_default(old_table, &delta.column, new) {
                    let gone = Conflict::row(&name, uuid, "is not in the schema any more");
                    conflicts.push(gone.column(&delta.column));
                }
                false
            }
            // A column that is newer than the state that comes back.
            (Some(_), Some(_), None) => op == RowOp::Delete,
            (Some(column), _, _) if op == RowOp::Modify && !column.mutable => {
                let fixed = Conflict::row(&name, uuid, "is immutable: no transaction can set it back");
                conflicts.push(fixed.column(&delta.column));
                false
            }
            (column, _, _) => column.is_some(),
        }
    });
    (op != RowOp::Modify || !change.columns.is_empty()).then_some(change)
}

fn is_default(table: Option<&TableSchema>, column: &str, datum: &Datum) -> bool {
    let column = table.and_then(|table| Some(table.column(table.column_index(column)?)));
    column.is_some_and(|column| *datum == Datum::default_for(&column.type_))
}

/// The rows of tables without a life of their own that rows of `table` had, at any distance.
fn owned_rows(was: &Contents, table: &TableSchema) -> BTreeSet<Uuid> {
    let mut owned = BTreeSet::new();
    let mut owners: BTreeSet<Uuid> = rows_of(was, table).collect();
    while !owners.is_empty() {
        let mut found = BTreeSet::new();
        for row in was.rows.iter().filter(|row| owners.contains(&row.uuid)) {
            for (at, column) in was.schema.table(row.table).declared_columns() {
                let bases = std::iter::once(&column.type_.key).chain(&column.type_.value);
                let owns = bases.into_iter().any(|base| is_owning(&was.schema, &base.constraint));
                if let Some(datum) = row.fields.get(at.0).filter(|_| owns) {
                    let atoms = datum.iter().flat_map(|(key, value)| std::iter::once(key).chain(value));
                    found.extend(atoms.filter_map(nonnet_schema::Atom::as_uuid));
                }
            }
        }
        owners = found.difference(&owned).copied().collect();
        owned.extend(found);
    }
    owned
}

fn rows_of(was: &Contents, table: &TableSchema) -> impl Iterator<Item = Uuid> {
    let index = was.schema.table_index(&table.name);
    let rows = was.rows.iter().filter(move |row| Some(row.table) == index);
    rows.map(|row| row.uuid)
}

/// Whether a reference keeps rows alive that would otherwise go.
fn is_owning(schema: &DatabaseSchema, constraint: &Constraint) -> bool {
    match constraint {
        Constraint::Reference {
            table,
            strength: Strength::Strong,
        } => catalog::table(schema, table).is_some_and(|table| !table.is_root),
        _ => false,
    }
}
