//! Uniqueness of the schema's indexes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use nonnet_schema::{ColumnIndex, ErrorKind, OvsdbError, TableIndex, TableSchema};

use crate::change_set::RowChange;
use crate::row::Row;
use crate::table::{IndexKey, index_key};
use crate::transaction::Transaction;

/// Checks that no two rows agree on all columns of an index.
pub(super) fn check(transaction: &mut Transaction<'_>) -> Result<(), OvsdbError> {
    let changes: Vec<RowChange> = transaction.changes().collect();
    let schema = transaction.schema();
    for table_changes in changes.chunk_by(|a, b| a.table == b.table) {
        let table = table_changes[0].table;
        for (index, columns) in schema.table(table).indexes.iter().enumerate() {
            check_index(transaction, table_changes, table, index, columns)?;
        }
    }
    Ok(())
}

fn check_index(
    transaction: &Transaction<'_>,
    changes: &[RowChange],
    table: TableIndex,
    index: usize,
    columns: &[ColumnIndex],
) -> Result<(), OvsdbError> {
    let base = transaction.database().table(table);
    let mut seen: HashMap<IndexKey, &Arc<Row>> = HashMap::with_capacity(changes.len());
    for change in changes {
        let Some(row) = &change.new else {
            continue;
        };
        let key = index_key(row, columns);
        // A stored row with that key counts while this transaction has not moved it elsewhere.
        let stored = base.row_by_index(index, &key).filter(|other| {
            let now = transaction.row(table, other.uuid());
            other.uuid() != row.uuid() && now.is_some_and(|now| index_key(now, columns) == key)
        });
        if let Some(other) = stored.and_then(|other| transaction.row(table, other.uuid())) {
            return Err(duplicate(transaction, table, columns, row, other));
        }
        if let Some(other) = seen.insert(key, row) {
            return Err(duplicate(transaction, table, columns, row, other));
        }
    }
    Ok(())
}

fn duplicate(
    transaction: &Transaction<'_>,
    table: TableIndex,
    columns: &[ColumnIndex],
    a: &Row,
    b: &Row,
) -> OvsdbError {
    let schema = transaction.schema().table(table);
    let all = || schema.declared_columns().map(|(column, _)| column);
    let (first, second) = if all().map(|c| a.get(c)).cmp(all().map(|c| b.get(c))).is_ge() {
        (a, b)
    } else {
        (b, a)
    };
    let names = join(
        columns
            .iter()
            .map(|column| format!("\"{}\"", schema.column(*column).name)),
    );
    let mut text = format!(
        "Transaction causes multiple rows in \"{}\" table to have identical values ({}) for index on column{} {names}.",
        schema.name,
        values(schema, columns, first),
        if columns.len() > 1 { "s" } else { "" },
    );
    for (title, row) in [("First", first), ("Second", second)] {
        let state = describe(transaction.old(table, row.uuid()), row, schema, columns);
        let _infallible = write!(text, "  {title} row, with UUID {}, {state}", row.uuid());
    }
    ErrorKind::DuplicateIndex(text).into()
}

/// What the transaction did to a row, as far as the index is concerned.
fn describe(old: Option<&Arc<Row>>, new: &Row, schema: &TableSchema, columns: &[ColumnIndex]) -> String {
    match old {
        None => "was inserted by this transaction.".to_owned(),
        Some(old) if **old == *new => {
            "existed in the database before this transaction and was not modified by the transaction.".to_owned()
        }
        Some(old) if index_key(old, columns) == index_key(new, columns) => {
            "existed in the database before this transaction, which modified some of the row's columns but not any columns in \
             this index."
                .to_owned()
        }
        Some(old) => {
            format!("had the following index values before the transaction: {}.", values(schema, columns, old))
        }
    }
}

fn values(schema: &TableSchema, columns: &[ColumnIndex], row: &Row) -> String {
    join(
        columns
            .iter()
            .map(|column| row.get(*column).to_message(schema.column(*column).type_.is_composite())),
    )
}

/// `a`, `a and b`, `a, b, and c`.
fn join(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first, second] => format!("{first} and {second}"),
        [init @ .., last] => format!("{}, and {last}", init.join(", ")),
    }
}
