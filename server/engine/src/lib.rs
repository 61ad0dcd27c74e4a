//! One OVSDB database in memory.

mod change_set;
mod row;

pub use change_set::{ChangeSet, RowChange};
pub use row::Row;
