//! One OVSDB database in memory: tables, transactions, operations, commit checks, change sets (RFC 7047 3 to 5).
//!
//! A [`Database`] changes only by applying a [`ChangeSet`]; [`execute`] runs operations on an overlay and yields one. Applying the inverse
//! of a change set undoes it. This crate performs no I/O, reads no clock and draws no random number: time and [`Entropy`] are values.

mod access;
mod change_set;
mod check;
mod convert;
mod database;
mod entropy;
mod execute;
mod hook;
pub mod limits;
mod references;
mod row;
mod table;
mod transaction;

pub use access::Access;
pub use change_set::{ChangeSet, RowChange};
pub use convert::convert;
pub use database::{Database, Snapshot};
pub use entropy::Entropy;
pub use execute::{Commit, Context, OperationResult, Outcome, SelectedRows, commit, execute, write_results};
pub use hook::CommitHook;
pub use row::Row;
pub use table::{IndexKey, Table};
pub use transaction::Transaction;
