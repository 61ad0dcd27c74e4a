//! Weak references: those to rows that are gone, or never were, are removed.

use std::collections::BTreeSet;

use ecow::EcoString;
use nonnet_schema::{ColumnIndex, DatabaseSchema, Datum, ErrorKind, OvsdbError, Strength, Uuid, VERSION_COLUMN};

use crate::references::{RowKey, for_each_changed, for_each_in_element};
use crate::transaction::Transaction;

/// Columns with dangling references: by row and column.
type Dangling = BTreeSet<(RowKey, ColumnIndex)>;

/// Removes every weak reference that dangles after this transaction.
pub(super) fn remove_dangling(transaction: &mut Transaction<'_>) -> Result<(), OvsdbError> {
    for ((table, uuid), column) in find_dangling(transaction) {
        let Some(row) = transaction.row(table, uuid).cloned() else {
            continue;
        };
        let schema = transaction.schema();
        let (table_schema, datum) = (schema.table(table), row.get(column));
        let column_schema = table_schema.column(column);
        let kept = datum.filtered(|key, value| {
            let mut exists = true;
            for_each_in_element(schema, column, column_schema, key, value, &mut |reference| {
                let (table, uuid) = reference.target;
                exists &= reference.strength == Strength::Strong || transaction.row(table, uuid).is_some();
            });
            exists
        });
        if kept.len() < column_schema.type_.min as usize {
            let removed = Removed {
                count: datum.len() - kept.len(),
                column: &column_schema.name,
                table: &table_schema.name,
                row: uuid,
                inserted: transaction.old(table, uuid).is_none(),
                was_default: datum.as_uuid() == Some(Uuid::nil()),
            };
            return Err(removed.into_error());
        }
        transaction.set(table, uuid, column, kept);
        // A row that is as it was because it lost what it gained counts as modified all the same.
        if transaction.row(table, uuid) == transaction.old(table, uuid) {
            let version = Datum::scalar(transaction.new_uuid());
            transaction.set(table, uuid, VERSION_COLUMN, version);
        }
    }
    Ok(())
}

/// The columns to look at: those that gained a reference, and those that refer to a row that this transaction deletes.
fn find_dangling(transaction: &Transaction<'_>) -> Dangling {
    let schema = transaction.schema();
    let mut dangling = Dangling::new();
    let mut referrers: BTreeSet<RowKey> = BTreeSet::new();
    for change in transaction.changes() {
        let row = (change.table, change.uuid);
        if change.new.is_none() {
            referrers.extend(transaction.database().references().weak_referrers(row));
        }
        for_each_changed(schema, &change, |reference, added| {
            let (table, uuid) = reference.target;
            if added && reference.strength == Strength::Weak && transaction.row(table, uuid).is_none() {
                dangling.insert((row, reference.column));
            }
        });
    }
    for row @ (table, _) in referrers {
        dangling.extend(weak_columns(schema, table).map(|column| (row, column)));
    }
    dangling
}

fn weak_columns(schema: &DatabaseSchema, table: nonnet_schema::TableIndex) -> impl Iterator<Item = ColumnIndex> {
    let is_weak =
        |base: &nonnet_schema::BaseType| base.reference().is_some_and(|(_, strength)| strength == Strength::Weak);
    schema
        .table(table)
        .declared_columns()
        .filter(move |(_, column)| is_weak(&column.type_.key) || column.type_.value.as_ref().is_some_and(is_weak))
        .map(|(column, _)| column)
}

/// References that were removed from a column which may not be that small.
struct Removed<'a> {
    count: usize,
    column: &'a EcoString,
    table: &'a EcoString,
    row: Uuid,
    inserted: bool,
    was_default: bool,
}

impl Removed<'_> {
    fn into_error(self) -> OvsdbError {
        let Self {
            count,
            column,
            table,
            row,
            inserted,
            was_default,
        } = self;
        let text = if inserted && was_default {
            format!(
                "Weak reference column \"{column}\" in \"{table}\" row {row} (inserted within this transaction) contained \
                 all-zeros UUID (probably as the default value for this column) but deleting this value caused a constraint \
                 volation because this column is not allowed to be empty."
            )
        } else {
            let inserted = if inserted {
                "(inserted within this transaction) "
            } else {
                ""
            };
            format!(
                "Deletion of {count} weak reference(s) to deleted (or never-existing) rows from column \"{column}\" in \
                 \"{table}\" row {row} {inserted}caused this column to become empty, but constraints on this column \
                 disallow an empty column."
            )
        };
        ErrorKind::WeakReference(text).into()
    }
}
