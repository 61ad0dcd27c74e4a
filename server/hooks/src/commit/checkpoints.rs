//! The rules of table `checkpoints`: one that is inserted is open from the commit before on, and is closed once.
//!
//! The server alone says what has become of one (`state`, `error`); clients ask (`confirmed`, `rollback`). A client that gives `base` marks an
//! older commit, to go back to.

use nonnet_engine::{Row, RowChange, Transaction};
use nonnet_schema::{ColumnIndex, Datum};

use crate::fault::Fault;
use crate::limits::CHECKPOINTS_OPEN_MAX;
use crate::tables::checkpoints::{CheckpointState, Columns, base, is_all_or_nothing, is_set, timeout_s};
use crate::tables::{Tables, text};

/// Settles what becomes of the checkpoints that the transaction changes; `sequence` is the number that its commit would get.
///
/// # Errors
/// The first checkpoint that cannot be what it is to be.
pub(super) fn settle(tables: &Tables, transaction: &mut Transaction<'_>, sequence: u64) -> Result<(), Fault> {
    let columns = &tables.checkpoints;
    let changes: Vec<RowChange> = transaction
        .changes()
        .filter(|change| change.table == columns.this)
        .collect();
    for change in &changes {
        match (change.old.as_deref(), change.new.as_deref()) {
            (None, Some(new)) => begin(columns, transaction, new, sequence)?,
            (Some(old), Some(new)) => change_state(columns, transaction, old, new)?,
            (Some(old), None) if CheckpointState::of(columns, old) == Some(CheckpointState::Open) => {
                let text = "the checkpoint is open: confirm it or roll it back before it is deleted";
                return Err(fault(columns, old, "state", text));
            }
            _ => {}
        }
    }
    let is_open = |row: &Row| CheckpointState::of(columns, row) == Some(CheckpointState::Open);
    let opened = changes.iter().filter_map(|change| change.new.as_deref()).next_back();
    let open = transaction.rows(columns.this).filter(|row| is_open(row)).count();
    match opened {
        Some(row) if open > CHECKPOINTS_OPEN_MAX => {
            let text = format!("{open} checkpoints would be open; at most {CHECKPOINTS_OPEN_MAX} may be");
            Err(fault(columns, row, "state", text))
        }
        _ => Ok(()),
    }
}

fn begin(columns: &Columns, transaction: &mut Transaction<'_>, row: &Row, sequence: u64) -> Result<(), Fault> {
    let newest = sequence.saturating_sub(1);
    for (column, name) in [(columns.state, "state"), (columns.error, "error")] {
        if !row.get(column).is_empty() {
            return Err(fault(columns, row, name, "is written by the server alone"));
        }
    }
    let is_closed_by_server = timeout_s(columns, row).is_some() || is_all_or_nothing(columns, row);
    let is_mark = !row.get(columns.base).is_empty();
    if is_mark && is_closed_by_server {
        let text = "an older commit can be marked only without timeout and without on_error";
        return Err(fault(columns, row, "base", text));
    }
    if is_mark && base(columns, row).is_none_or(|base| base > newest) {
        return Err(fault(
            columns,
            row,
            "base",
            format!("there is no such commit; the newest is {newest}"),
        ));
    }
    if is_set(row, columns.rollback) && !is_mark {
        return Err(fault(columns, row, "rollback", "there is nothing to roll back yet"));
    }
    let state = if is_closed_by_server && !is_set(row, columns.confirmed) {
        CheckpointState::Open
    } else {
        CheckpointState::Confirmed
    };
    if !is_mark {
        let base = i64::try_from(newest).unwrap_or(i64::MAX);
        transaction.set(columns.this, row.uuid(), columns.base, Datum::scalar(base));
    }
    set_state(columns, transaction, row, state);
    Ok(())
}

fn change_state(columns: &Columns, transaction: &mut Transaction<'_>, old: &Row, new: &Row) -> Result<(), Fault> {
    for (column, name) in told(columns) {
        if old.get(column) != new.get(column) {
            return Err(fault(columns, new, name, "is written by the server alone"));
        }
    }
    let state = CheckpointState::of(columns, old);
    let (confirmed, rollback) = (is_set(new, columns.confirmed), is_set(new, columns.rollback));
    let is_asked = |column: ColumnIndex| is_set(new, column) && !is_set(old, column);
    if state == Some(CheckpointState::RolledBack) && (is_asked(columns.confirmed) || is_asked(columns.rollback)) {
        let name = if is_asked(columns.confirmed) {
            "confirmed"
        } else {
            "rollback"
        };
        let text = format!("the checkpoint was rolled back: {}", text(old, columns.error));
        return Err(fault(columns, new, name, text));
    }
    if confirmed && rollback && is_asked(columns.confirmed) {
        return Err(fault(columns, new, "confirmed", "it is to be rolled back"));
    }
    if state == Some(CheckpointState::Confirmed) && !confirmed {
        let text = "a confirmation cannot be withdrawn; rollback takes back what has changed since";
        return Err(fault(columns, new, "confirmed", text));
    }
    if state == Some(CheckpointState::Open) && confirmed {
        set_state(columns, transaction, new, CheckpointState::Confirmed);
    }
    Ok(())
}

fn set_state(columns: &Columns, transaction: &mut Transaction<'_>, row: &Row, state: CheckpointState) {
    let confirmed = state == CheckpointState::Confirmed;
    let (this, uuid) = (columns.this, row.uuid());
    transaction.set(this, uuid, columns.state, state.to_datum());
    transaction.set(this, uuid, columns.confirmed, Datum::scalar(confirmed));
    if state != CheckpointState::Open {
        transaction.set(this, uuid, columns.deadline, Datum::empty_set());
    }
}

/// The columns that the server alone writes.
fn told(columns: &Columns) -> [(ColumnIndex, &'static str); 3] {
    [
        (columns.base, "base"),
        (columns.state, "state"),
        (columns.error, "error"),
    ]
}

fn fault(columns: &Columns, row: &Row, column: &str, error: impl std::fmt::Display) -> Fault {
    Fault::new(Columns::NAME, text(row, columns.name), column, error)
}
