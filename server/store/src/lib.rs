//! Where records and rows are kept.
//!
//! One `SQLite` file per database holds the log (every record of the chain) and the rows as of a record; the rows follow the log in the
//! background. Beside `FILE` stand `FILE-wal` and `FILE-shm`, which belong to it, `FILE.lock`, held by the server that has it open, and
//! `FILE.head`, which knows the newest record that was acknowledged.
//!
//! What is promised:
//! - A record that was acknowledged is there at the next start, after a crash of the process always, after a loss of power where it was
//!   synced (with [`Durability::EveryCommit`]: always).
//! - After an error of which the outcome is unknown nothing is answered: see [`AppendError::Failed`].
//! - [`open`] finds a damaged byte in the rows, in the newest [`VERIFIED_RECORDS_MAX`] records, in the pages of a file of up to
//!   [`CHECKED_FILE_BYTES_MAX`], or in the write-ahead log where that made acknowledged records vanish. It names what it found and changes
//!   nothing. Older records are verified by [`Reader::verify`].
//!
//! What is not promised: `SQLite` drops the end of a damaged write-ahead log without a word. `FILE.head` tells, unless it was lost or is
//! itself older, which it is after a loss of power by as much as the kernel had not written of it yet (it is never synced: half a minute
//! on common settings). Then damage to the very newest records, on top of a loss of power, goes unnoticed; so does somebody who replaces
//! `FILE` and `FILE.head` alike by older copies. Heads kept on other machines are the remedy for both.
//!
//! Files of ovsdb-server itself are read and written in [`ovsdb_file`].
//!
//! This crate never interprets a transaction, and never deletes or repairs anything that it finds damaged.

mod checkpoint;
mod convert;
mod copy;
mod faulty;
mod head_file;
mod keys;
mod layout;
mod limits;
mod lock;
mod log;
mod machine;
mod memory;
mod open;
pub mod ovsdb_file;
mod past;
mod read;
mod rowlog;
mod rows;
mod since;
mod sqlite;
mod state;
mod stored;
mod time;
mod tree;
mod verify;
mod writer;

pub use convert::{Conversion, ConvertError, convert};
pub use copy::copy;
pub use faulty::{Faulty, InjectedFault};
pub use keys::{Keys, SharedKeys};
pub use layout::{Damage, OpenError};
pub use limits::{CHECKED_FILE_BYTES_MAX, FORMAT_VERSION, HASHES_FOUND_MAX, QUEUED_BATCHES_MAX, VERIFIED_RECORDS_MAX};
pub use log::{AppendError, Compaction, Log};
pub use memory::MemoryLog;
pub use open::{Contents, Opened, StoredRow, create, open};
pub use read::{Inclusion, Reader, Records};
pub use rowlog::{RowRecord, RowRecords, RowSeqs};
pub use rows::Fields;
pub use since::Since;
pub use sqlite::SqliteLog;
pub use verify::{Scope, Sound, Verified};
pub use writer::{Batch, Compacted, Completion, Durability, QueueError, Writer};
