//! The layout of a database file, how connections to it are set up, and what can be wrong with it.
//!
//! ```text
//! log(seq, hash, header, body)   every record
//! row(tbl, uuid, fields, sum)    the rows as of a record
//! setting(name, datum)           'schema': the schema's text; 'rows': the record that the rows are as of, their number and their sum;
//!                                'txn': the first record that is not in txn (u64); 'rowlog': the first that is not in rowlog (u64)
//! txn(id, seq)                   from the first 8 bytes of a record's hash (big-endian) to its number; since format 2
//! rowlog(row, seq)               from the first 8 bytes of a row's UUID (big-endian) to the records that changed it; since format 3
//! tree(level, idx, hash)         whole nodes of the Merkle tree that are not made from the log each time (see `tree`); since format 3
//! checkpoint(size, note)         signed heads of the tree (see `checkpoint`); since format 3
//! ```
//!
//! Since format 3 there is a setting 'state' as well (see `state`). `application_id` is "NNC1", `user_version` the format.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nonnet_chain::tree::Node;
use nonnet_chain::{Fault, StateDigest};
use nonnet_schema::Uuid;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::limits::{BUSY_TIMEOUT, FORMAT_VERSION, FORMAT_VERSION_MIN};
use crate::{state, tree};

pub(crate) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"NNC1");

/// A table of the file.
struct Object {
    name: &'static str,
    /// The exact text that makes it.
    text: &'static str,
    /// The first format that has it.
    since: i32,
}

/// The objects of the file.
const OBJECTS: [Object; 7] = [
    Object {
        name: "log",
        text: "CREATE TABLE log(seq INTEGER PRIMARY KEY, hash BLOB, header BLOB, body BLOB)",
        since: 1,
    },
    Object {
        name: "row",
        text: "CREATE TABLE row(tbl TEXT, uuid BLOB, fields BLOB, sum BLOB, PRIMARY KEY(tbl, uuid)) WITHOUT ROWID",
        since: 1,
    },
    Object {
        name: "setting",
        text: "CREATE TABLE setting(name TEXT PRIMARY KEY, datum BLOB) WITHOUT ROWID",
        since: 1,
    },
    Object {
        name: "txn",
        text: "CREATE TABLE txn(id INTEGER, seq INTEGER, PRIMARY KEY(id, seq)) WITHOUT ROWID",
        since: 2,
    },
    Object {
        name: "rowlog",
        text: "CREATE TABLE rowlog(row INTEGER, seq INTEGER, PRIMARY KEY(row, seq)) WITHOUT ROWID",
        since: 3,
    },
    Object {
        name: "tree",
        text: "CREATE TABLE tree(level INTEGER, idx INTEGER, hash BLOB, PRIMARY KEY(level, idx)) WITHOUT ROWID",
        since: 3,
    },
    Object {
        name: "checkpoint",
        text: "CREATE TABLE checkpoint(size INTEGER PRIMARY KEY, note TEXT)",
        since: 3,
    },
];

/// Why a database cannot be opened, made or read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file, or an empty one.
    #[error("{} does not exist", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is one already.
    #[error("{} exists already", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another server has it open.
    #[error("{} is in use by {}", .path.display(), holder_text(*.pid))]
    InUse {
        /// The file.
        path: PathBuf,
        /// The server's process, where it could be learnt.
        pid: Option<u32>,
    },
    /// It is something else.
    #[error("{} is not a nonnet database, or its first page is damaged", .path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error(
        "{} has format {found}; this version reads up to {FORMAT_VERSION}: use a newer nonnet",
        .path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i32,
    },
    /// It is not what was written. Nothing was changed.
    #[error("{} is damaged: {damage}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// A record does not say any more what it did.
    #[error(
        "{} does not tell what the rows were before record {seq}: the body of that record was removed",
        .path.display()
    )]
    BodyRemoved {
        /// The file.
        path: PathBuf,
        /// The record.
        seq: u64,
    },
    /// A system call failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The database library failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the library says.
        source: rusqlite::Error,
    },
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Its pages do not make sense, as the database library says.
    #[error("{0}")]
    Pages(String),
    /// The tables are not ours.
    #[error("the definition of {0} is not ours")]
    Layout(String),
    /// A record.
    #[error("{0}")]
    Record(Fault),
    /// Records that were acknowledged have vanished.
    #[error(
        "{fault}. Its write-ahead log (-wal) was damaged or removed, or the file was replaced by an older copy; \
         where that was meant, remove the file ending in .head"
    )]
    LostRecords {
        /// Where the log ends, and which record was acknowledged.
        fault: Fault,
    },
    /// A row.
    #[error("row {uuid} of table {table}: {problem}")]
    Row {
        /// The row's table.
        table: String,
        /// The row.
        uuid: Uuid,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The rows as a whole.
    #[error("the rows are not those that were written: {found} rows, {expected} expected, sums {}", if *.same_sum { "alike" } else { "differ" })]
    Rows {
        /// Rows in the file.
        found: u64,
        /// Rows that were written.
        expected: u64,
        /// True where the sums are the same.
        same_sum: bool,
    },
    /// The rows against the log.
    #[error("the rows are not those that the log tells of: their digest is not the one of record {seq}")]
    State {
        /// The record.
        seq: u64,
    },
    /// The Merkle tree.
    #[error("the tree is not that of the records{}", .node.map_or_else(String::new, |node| format!(": node {} of level {}", node.index, node.level)))]
    Tree {
        /// The first node that is wrong; None where there are nodes too many.
        node: Option<Node>,
    },
    /// A checkpoint.
    #[error("the checkpoint of {size} records: {problem}")]
    Checkpoint {
        /// Records in its tree.
        size: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A head that was seen outside is not one of this log.
    #[error(
        "the first {size} records are not those of the head that was kept outside: the log was written anew, or forked before that"
    )]
    Forked {
        /// Records in the tree of that head.
        size: u64,
    },
    /// A head that was seen outside is of a longer log.
    #[error(
        "the log has {records} records, but a head of {size} was kept outside: the newest are gone, or an old copy was put back"
    )]
    Behind {
        /// Records that are here.
        records: u64,
        /// Records in the tree of that head.
        size: u64,
    },
    /// A setting.
    #[error("the setting {0} is missing or wrong")]
    Setting(&'static str),
    /// The file beside it that knows the newest record.
    #[error(
        "its checksum is wrong; without this file the server cannot tell whether records have vanished, and starts"
    )]
    HeadFile,
}

impl Damage {
    /// What is wrong with a row.
    pub(crate) fn row(table: &str, uuid: Uuid, problem: &'static str) -> Self {
        Self::Row {
            table: table.escape_default().to_string(),
            uuid,
            problem,
        }
    }
}

impl OpenError {
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            doing,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, damage: Damage) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            damage,
        }
    }

    /// Tells damage from other errors of the database library.
    pub(crate) fn sqlite(path: &Path, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| {
            let is_type = matches!(
                source,
                rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::Utf8Error(..)
            );
            match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt) => Self::damaged(path, Damage::Pages(source.to_string())),
                Some(ErrorCode::NotADatabase) => Self::NotOurs { path: path.to_owned() },
                _ if is_type => Self::damaged(path, Damage::Pages(source.to_string())),
                _ => Self::Sqlite {
                    path: path.to_owned(),
                    doing,
                    source,
                },
            }
        }
    }
}

/// The path of a file that stands beside the database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Makes the tables of an empty file.
pub(crate) fn make(connection: &Connection) -> rusqlite::Result<()> {
    for object in &OBJECTS {
        connection.execute_batch(object.text)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", FORMAT_VERSION)
}

/// Brings a file that [`check`] has passed up to the format of this version; `state` is the digest of its rows, which are as of record
/// `rows_seq`.
pub(crate) fn migrate(connection: &mut Connection, rows_seq: u64, state: &StateDigest) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = format(&transaction)?;
    for object in OBJECTS.iter().filter(|object| object.since > found) {
        transaction.execute_batch(object.text)?;
    }
    if found < 3 {
        tree::build(&transaction)?;
        state::write(&transaction, rows_seq, state)?;
    }
    if found < FORMAT_VERSION {
        transaction.pragma_update(None, "user_version", FORMAT_VERSION)?;
    }
    transaction.commit()
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Writing.
    Write,
    /// Reading, while another process may write.
    Read,
    /// Reading a file that nobody writes: not even an empty write-ahead log is made beside it.
    Check,
}

/// Opens a file that exists.
pub(crate) fn connect(path: &Path, purpose: Purpose) -> rusqlite::Result<Connection> {
    let has_wal = std::fs::metadata(beside(path, "-wal")).is_ok();
    let is_writer = purpose == Purpose::Write;
    let mode = if is_writer {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    } else {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    };
    let mode = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if purpose == Purpose::Check && !has_wal {
        Connection::open_with_flags(immutable_uri(path), mode | OpenFlags::SQLITE_OPEN_URI)?
    } else {
        Connection::open_with_flags(path, mode)?
    };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !is_writer)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // The log is synced by ourselves (fdatasync), and moved into the file when nobody waits.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    Ok(connection)
}

/// Checks that the file is ours, of a format that we read, and has exactly our tables.
pub(crate) fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let application: rusqlite::Result<i32> = connection.pragma_query_value(None, "application_id", |row| row.get(0));
    if application.map_err(OpenError::sqlite(path, "open"))? != APPLICATION_ID {
        return Err(OpenError::NotOurs { path: path.to_owned() });
    }
    let format = format(connection).map_err(OpenError::sqlite(path, "open"))?;
    match format {
        FORMAT_VERSION_MIN..=FORMAT_VERSION => {}
        found if found > FORMAT_VERSION => {
            return Err(OpenError::TooNew {
                path: path.to_owned(),
                found,
            });
        }
        _ => return Err(OpenError::NotOurs { path: path.to_owned() }),
    }
    let expected: Vec<&Object> = OBJECTS.iter().filter(|object| object.since <= format).collect();
    let found = objects(connection).map_err(OpenError::sqlite(path, "open"))?;
    let is_ours = |(name, text): &(String, String)| {
        expected
            .iter()
            .any(|object| (object.name, object.text) == (name.as_str(), text.as_str()))
    };
    if let Some((name, _)) = found.iter().find(|object| !is_ours(object)) {
        return Err(OpenError::damaged(
            path,
            Damage::Layout(name.escape_default().to_string()),
        ));
    }
    match expected
        .iter()
        .find(|object| !found.iter().any(|(name, _)| name == object.name))
    {
        Some(object) => Err(OpenError::damaged(path, Damage::Layout(object.name.to_owned()))),
        None => Ok(()),
    }
}

/// The format that the file says it has.
pub(crate) fn format(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn objects(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema")?;
    let found = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    found.collect()
}

/// The name under which the database library takes a file as one that nobody changes.
fn immutable_uri(path: &Path) -> OsString {
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend_from_slice(format!("%{byte:02x}").as_bytes()),
            _ => uri.push(*byte),
        }
    }
    uri.extend_from_slice(b"?immutable=1");
    OsString::from_vec(uri)
}

fn holder_text(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another server".to_owned(),
        |pid| format!("another server, process {pid}"),
    )
}
