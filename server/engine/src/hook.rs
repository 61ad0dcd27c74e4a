//! Where a database's own rules join a transaction.

use nonnet_schema::{DatabaseSchema, OvsdbError, TableIndex};

use crate::transaction::Transaction;

/// Rules beyond the schema, run inside each transaction that may write.
///
/// A hook reads and writes rows through the transaction. It performs no I/O: what it needs to know it holds already.
pub trait CommitHook: Send {
    /// The tables whose rows live only as long as the process: what happens to them is neither stored nor recorded.
    fn volatile_tables(&self, _schema: &DatabaseSchema) -> Vec<TableIndex> {
        Vec::new()
    }

    /// The same rules for a database of another schema.
    ///
    /// # Errors
    /// What the rules need and the schema does not have, naming table and column.
    fn rebound(&self, schema: &DatabaseSchema) -> Result<Box<dyn CommitHook>, OvsdbError>;

    /// Called before the first operation. `sequence` is the number that the commit would get.
    fn begin(&self, transaction: &mut Transaction<'_>, sequence: u64);

    /// Called after the last operation and before the commit checks.
    ///
    /// # Errors
    /// What forbids the commit, naming row and column.
    fn prepare(&self, transaction: &mut Transaction<'_>) -> Result<(), OvsdbError>;
}
