//! Strong references and garbage collection.

use std::collections::{BTreeMap, BTreeSet};

use nonnet_schema::{DatabaseSchema, ErrorKind, OvsdbError, Strength};

use crate::change_set::RowChange;
use crate::references::{Reference, RowKey, for_each_changed};
use crate::transaction::Transaction;

/// How this transaction changes the number of strong references to rows.
#[derive(Default)]
struct Adjustments(BTreeMap<RowKey, isize>);

impl Adjustments {
    /// Counts what `change` adds and takes; a reference of a row to itself does not count.
    fn count(&mut self, schema: &DatabaseSchema, change: &RowChange) {
        for_each_changed(schema, change, |reference, added| {
            if reference.strength == Strength::Strong && reference.target != (change.table, change.uuid) {
                *self.0.entry(reference.target).or_default() += if added { 1 } else { -1 };
            }
        });
    }

    fn references_to(&self, transaction: &Transaction<'_>, row: RowKey) -> usize {
        let before = transaction.database().references().strong_count(row);
        before.saturating_add_signed(self.0.get(&row).copied().unwrap_or(0))
    }
}

/// Checks every strong reference that the transaction changed, then deletes the rows of non-root tables that nothing refers to.
pub(super) fn check_and_collect(transaction: &mut Transaction<'_>) -> Result<(), OvsdbError> {
    let schema = transaction.schema();
    let changes: Vec<RowChange> = transaction.changes().collect();
    let mut adjustments = Adjustments::default();
    for change in &changes {
        check_targets(transaction, change)?;
        adjustments.count(schema, change);
    }
    for change in changes.iter().filter(|change| change.new.is_none()) {
        let count = adjustments.references_to(transaction, (change.table, change.uuid));
        if count > 0 {
            let table = schema.table(change.table).name.clone();
            return Err(ErrorKind::StillReferenced {
                table,
                row: change.uuid,
                count,
            }
            .into());
        }
    }
    collect_garbage(transaction, &changes, adjustments);
    Ok(())
}

/// Each strong reference that the row gained must point at a row.
fn check_targets(transaction: &Transaction<'_>, change: &RowChange) -> Result<(), OvsdbError> {
    let schema = transaction.schema();
    let mut dangling: Option<Reference> = None;
    for_each_changed(schema, change, |reference, added| {
        let (table, uuid) = reference.target;
        let exists = || transaction.row(table, uuid).is_some() || transaction.old(table, uuid).is_some();
        if added && reference.strength == Strength::Strong && dangling.is_none() && !exists() {
            dangling = Some(reference);
        }
    });
    let Some(Reference {
        column,
        target: (target_table, target),
        ..
    }) = dangling
    else {
        return Ok(());
    };
    let table = schema.table(change.table);
    Err(ErrorKind::DanglingReference {
        table: table.name.clone(),
        column: table.column(column).name.clone(),
        row: change.uuid,
        target,
        target_table: schema.table(target_table).name.clone(),
    }
    .into())
}

/// Deletes unreferenced rows of non-root tables among those that the transaction touched, and what only they referred to.
fn collect_garbage(transaction: &mut Transaction<'_>, changes: &[RowChange], mut adjustments: Adjustments) {
    let schema = transaction.schema();
    let touched = changes
        .iter()
        .filter(|change| change.new.is_some())
        .map(|change| (change.table, change.uuid));
    let mut candidates: BTreeSet<RowKey> = touched.chain(adjustments.0.keys().copied()).collect();
    while let Some(row @ (table, uuid)) = candidates.pop_first() {
        if schema.table(table).is_root || adjustments.references_to(transaction, row) > 0 {
            continue;
        }
        let Some(doomed) = transaction.row(table, uuid).cloned() else {
            continue;
        };
        transaction.delete(table, uuid);
        let loss = RowChange {
            table,
            uuid,
            old: Some(doomed),
            new: None,
        };
        adjustments.count(schema, &loss);
        for_each_changed(schema, &loss, |reference, _| {
            if reference.strength == Strength::Strong {
                candidates.insert(reference.target);
            }
        });
    }
}
