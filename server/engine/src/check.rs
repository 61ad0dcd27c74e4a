//! The checks of a commit, in ovsdb-server's order; each may change rows before the next looks at them.
//!
//! 1. Rows that are as they were do not count: [`Transaction::changes`] leaves them out.
//! 2. Strong references point at rows; rows that go are not referred to; rows of non-root tables that nothing refers to go too.
//! 3. No table has more rows than `maxRows`.
//! 4. Weak references to rows that are gone, or never were, go; what remains is not too little.
//! 5. The columns of each index are unique together.

mod index;
mod strong;
mod weak;

use nonnet_schema::{ErrorKind, OvsdbError, TableIndex};

use crate::transaction::Transaction;

/// Checks the transaction's final state and completes it.
///
/// # Errors
/// The first rule that is broken.
pub(crate) fn run(transaction: &mut Transaction<'_>) -> Result<(), OvsdbError> {
    strong::check_and_collect(transaction)?;
    check_max_rows(transaction)?;
    weak::remove_dangling(transaction)?;
    index::check(transaction)
}

fn check_max_rows(transaction: &Transaction<'_>) -> Result<(), OvsdbError> {
    let schema = transaction.schema();
    for (at, table) in schema.tables().iter().enumerate() {
        // A table that was loaded with too many rows may still shrink, or stay.
        let (before, rows) = (
            transaction.database().table(TableIndex(at)).len(),
            transaction.row_count(TableIndex(at)),
        );
        if rows > table.max_rows as usize && rows > before {
            return Err(ErrorKind::TooManyRows {
                table: table.name.clone(),
                rows,
                max: table.max_rows,
            }
            .into());
        }
    }
    Ok(())
}
