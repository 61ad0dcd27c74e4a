//! What takes back one commit: every column that it changed must still be as it left it.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use ecow::EcoString;
use nonnet_chain::{ColumnDelta, DatumChange, Kind, RowDelta, RowOp};
use nonnet_schema::{Datum, Uuid};
use nonnet_store::RowRecord;

use super::conflict::Conflict;
use super::plan::Plan;
use super::references;
use crate::catalog;
use crate::history::History;

/// A row today, by column.
type Today = BTreeMap<EcoString, Datum>;

/// What takes back the record of that number.
pub(crate) fn undone(history: &History, seq: u64) -> Result<Plan> {
    let entry = history.entry(seq)?;
    match (&entry.body, entry.header.kind) {
        (None, _) => bail!("the body of commit {seq} was removed: the log does not tell any more what it did"),
        (_, Kind::Genesis) => bail!("commit {seq} is the beginning of the log"),
        (_, Kind::Schema) => bail!(
            "commit {seq} brought a new schema; `nonnet schema convert` brings another, \
             `nonnet show {seq} --json` has what rows lost"
        ),
        (Some(body), kind) if body.rows.is_empty() => bail!("commit {seq} ({}) changed no rows", kind.name()),
        _ => {}
    }
    let mut plan = Plan::default();
    for delta in entry.rows() {
        undo_row(history, seq, delta, &mut plan)?;
    }
    references::check(history, &mut plan)?;
    Ok(plan)
}

fn undo_row(history: &History, seq: u64, delta: &RowDelta, plan: &mut Plan) -> Result<()> {
    let (table, uuid) = (delta.table.as_str(), delta.uuid);
    let Some(schema) = catalog::table(&history.schema, table) else {
        let gone = Conflict::row(table, uuid, "is of a table that the schema does not have any more");
        plan.conflicts.push(gone);
        return Ok(());
    };
    let today: Option<Today> = history.reader.row(table, uuid)?.map(|row| row.into_iter().collect());
    let later = |wanted: &dyn Fn(&RowRecord) -> bool| later(history, seq, table, uuid, wanted);
    match (delta.op, &today) {
        (RowOp::Delete, Some(_)) => {
            let by = later(&|record| record.delta.op == RowOp::Insert)?;
            plan.conflicts.push(Conflict::row(table, uuid, "was made again").by(by));
            return Ok(());
        }
        (RowOp::Insert | RowOp::Modify, None) => {
            let by = later(&|record| record.delta.op == RowOp::Delete)?;
            plan.conflicts.push(Conflict::row(table, uuid, "was deleted").by(by));
            return Ok(());
        }
        _ => {}
    }
    let today = today.unwrap_or_default();
    let mut columns = Vec::new();
    for column in &delta.columns {
        let name = column.column.as_str();
        let Some(index) = schema.column_index(name) else {
            let gone = Conflict::row(table, uuid, "is not in the schema any more").column(name);
            plan.conflicts.push(gone);
            continue;
        };
        let now = today.get(name);
        let Ok(before) = column.change.unapply(now) else {
            let by = later(&|record| record.delta.columns.iter().any(|delta| delta.column == name))?;
            plan.conflicts
                .push(Conflict::row(table, uuid, "was changed").column(name).by(by));
            continue;
        };
        if delta.op == RowOp::Modify && !schema.column(index).mutable {
            let fixed = Conflict::row(table, uuid, "is immutable: no transaction can set it back").column(name);
            plan.conflicts.push(fixed);
            continue;
        }
        columns.push(ColumnDelta {
            column: column.column.clone(),
            change: DatumChange::Whole {
                old: now.cloned(),
                new: before,
            },
        });
    }
    plan.changes.push(RowDelta {
        table: delta.table.clone(),
        uuid,
        op: match delta.op {
            RowOp::Insert => RowOp::Delete,
            RowOp::Modify => RowOp::Modify,
            RowOp::Delete => RowOp::Insert,
        },
        columns,
    });
    Ok(())
}

/// The newest record of a row after `seq` that did something.
fn later(
    history: &History,
    seq: u64,
    table: &str,
    uuid: Uuid,
    wanted: &dyn Fn(&RowRecord) -> bool,
) -> Result<Option<RowRecord>> {
    for record in history.reader.row_records(table, uuid)? {
        let record = record?;
        if record.header.seq <= seq {
            break;
        }
        if wanted(&record) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}
