//! The file format of ovsdb-server's standalone databases (ovsdb(5), "Standalone Database File Format"), read and written.
//!
//! ```text
//! file   = record*                                       the first holds the schema, the others one transaction each
//! record = "OVSDB JSON " length " " SHA-1 "\n" body      both of the body, a JSON object with "\n" at its end
//! ```
//!
//! What is read is a [`OvsdbFile`]: a schema and rows. Reading stops at the first damaged record and keeps what came before; nothing here
//! ever changes a file that it reads, and a conversion in place keeps the original beside it.

mod append;
mod damage;
mod import;
mod lock;
mod read;
mod replay;
mod write;

use std::path::PathBuf;

use nonnet_chain::RecordTooLarge;
use nonnet_schema::{DatabaseSchema, OvsdbError, Uuid};

use crate::layout::OpenError;
use crate::open::StoredRow;

pub use append::append;
pub use import::{Converted, Origin, convert_in_place, import, is_ovsdb_file, open};
pub use lock::FileLock;
pub use read::{Transactions, read, transactions};
pub use write::{write, write_schema};

/// What begins every record.
const FILE_MARK: &[u8] = b"OVSDB ";

/// The word for a standalone database in the header of a record.
const MAGIC: &str = "JSON";

/// The word for a clustered one.
const CLUSTER_MAGIC: &str = "CLUSTER";

/// A database as a file of ovsdb-server holds it.
#[derive(Clone, Debug)]
pub struct OvsdbFile {
    /// The schema.
    pub schema: DatabaseSchema,
    /// Every row, sorted by table and UUID; ephemeral columns, `_uuid` and `_version` have their defaults.
    pub rows: Vec<StoredRow>,
    /// Sound records, that of the schema among them.
    pub records: u64,
    /// When the last transaction was written, milliseconds since 1970, where it says so.
    pub date_ms: Option<u64>,
    /// The SHA-1 of the whole file in lower-case hexadecimal, as `sha1sum` prints it.
    pub sha1: String,
    /// The first damaged record; the rows are those before it.
    pub damage: Option<RecordDamage>,
}

/// Where a file is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {record} at byte {offset}: {fault}")]
pub struct RecordDamage {
    /// The record as `ovsdb-tool show-log` counts: 0 is the schema.
    pub record: u64,
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// Where its body begins.
    pub body_offset: u64,
    /// Bytes of its body, as its header says; 0 where that is bad.
    pub body_bytes: u64,
    /// What is wrong with it.
    pub fault: RecordFault,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The line before the body is none.
    #[error("bad header \"{}\"", .0.escape_debug())]
    Header(String),
    /// The file ends too early.
    #[error("short body: {found} bytes of {expected}")]
    Short {
        /// Bytes that are there.
        found: u64,
        /// Bytes that the header says.
        expected: u64,
    },
    /// The body is not what was written.
    #[error("SHA-1 mismatch: the body has {found} but should have {expected}")]
    Checksum {
        /// That of the body.
        found: String,
        /// That in the header.
        expected: String,
    },
    /// The body is something else.
    #[error("bad JSON: {0}")]
    Json(String),
    /// It is JSON, but no schema.
    #[error("bad schema: {0}")]
    Schema(OvsdbError),
    /// It is JSON, but not an object where there must be one.
    #[error("{0} is not an object")]
    NotObject(String),
    /// The schema has no such table.
    #[error("unknown table {table}")]
    UnknownTable {
        /// The table.
        table: String,
        /// The transaction, or how it begins.
        syntax: String,
    },
    /// The table has no such column.
    #[error("unknown column {column} of table {table}")]
    UnknownColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The row, or how it begins.
        syntax: String,
    },
    /// The name of a row is not a UUID.
    #[error("\"{}\" in table {table} is not a UUID", .text.escape_debug())]
    BadUuid {
        /// The table.
        table: String,
        /// What stands there.
        text: String,
        /// The rows of the table, or how they begin.
        syntax: String,
    },
    /// A row is deleted that is not there.
    #[error("delete of unknown row {uuid} of table {table}")]
    UnknownRow {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
    },
    /// A column gets what it cannot hold.
    #[error("column {column} of row {uuid} of table {table}: {error}")]
    Value {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
        /// The column.
        column: String,
        /// Why.
        error: OvsdbError,
    },
    /// After a difference a column has too few or too many elements.
    #[error("column {column} of row {uuid} of table {table} would have {count} elements")]
    Size {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
        /// The column.
        column: String,
        /// How many.
        count: usize,
    },
}

/// Why a stream is no standalone database of ovsdb-server.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is something else.
    #[error("cannot identify file type: it is no database of ovsdb-server")]
    NotOvsdb,
    /// It is a server's part of a cluster.
    #[error(
        "it is part of a clustered (Raft) database, which is not supported; \
         `ovsdb-tool cluster-to-standalone NEW-FILE OLD-FILE` makes a standalone one of it"
    )]
    Clustered,
    /// Not even the schema can be read.
    #[error("unexpected file format: {0}")]
    FirstRecord(Box<RecordDamage>),
}

/// Why a file of ovsdb-server cannot be read, imported or converted.
#[derive(Debug, thiserror::Error)]
pub enum OvsdbFileError {
    /// It cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// A server or tool of Open vSwitch has it open for writing.
    #[error("{} is in use by {}", .path.display(), .pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    InUse {
        /// The file.
        path: PathBuf,
        /// The process, where the kernel tells it.
        pid: Option<i32>,
    },
    /// Its rows do not fit into one record.
    #[error("{}: {source}", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How large they are.
        source: RecordTooLarge,
    },
    /// The new file cannot be made.
    #[error(transparent)]
    Store(#[from] OpenError),
}
