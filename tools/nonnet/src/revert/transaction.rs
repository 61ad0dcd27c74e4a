//! The transaction of a plan: it waits for every datum that it replaces to be what was read, and for no time.

use anyhow::{Result, bail};
use nonnet_chain::{DatumChange, RowDelta, RowOp};
use nonnet_client::Transaction;
use nonnet_schema::{DatabaseSchema, Datum};
use serde_json::{Map, Value, json};

/// The operations, with a comment.
pub(crate) fn of(schema: &DatabaseSchema, changes: &[RowDelta], comment: &str) -> Result<Transaction> {
    let mut transaction = Transaction::new(schema.name.as_str());
    transaction.comment(comment);
    for change in changes {
        let old = members(change, |old, _| old)?;
        let columns: Vec<&str> = match change.op {
            RowOp::Insert => vec!["_uuid"],
            _ => change.columns.iter().map(|column| column.column.as_str()).collect(),
        };
        let rows = match change.op {
            RowOp::Insert => Vec::new(),
            _ => vec![Value::Object(old)],
        };
        transaction.wait_until_equal(&change.table, this(change), &columns, rows, Some(0));
    }
    // A row that goes may have what one that comes needs: a name, an address.
    for op in [RowOp::Delete, RowOp::Insert, RowOp::Modify] {
        for change in changes.iter().filter(|change| change.op == op) {
            let new = members(change, |_, new| new)?;
            match op {
                RowOp::Delete => drop(transaction.delete(&change.table, this(change))),
                RowOp::Insert => drop(transaction.insert_as(&change.table, change.uuid, new)),
                RowOp::Modify => drop(transaction.update(&change.table, this(change), new)),
            }
        }
    }
    Ok(transaction)
}

/// A condition that only the row meets.
fn this(change: &RowDelta) -> Value {
    json!([["_uuid", "==", ["uuid", change.uuid.hyphenated().to_string()]]])
}

/// The columns with one side of their changes, as RFC 7047 writes them.
fn members(
    change: &RowDelta,
    side: impl for<'d> Fn(Option<&'d Datum>, Option<&'d Datum>) -> Option<&'d Datum>,
) -> Result<Map<String, Value>> {
    let mut members = Map::new();
    for column in &change.columns {
        let DatumChange::Whole { old, new } = &column.change else {
            bail!("the column {} is only known by its elements", column.column);
        };
        if let Some(datum) = side(old.as_ref(), new.as_ref()) {
            members.insert(column.column.to_string(), datum.to_json());
        }
    }
    Ok(members)
}
