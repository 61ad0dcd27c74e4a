//! Database files of either format, and what `ovsdb-tool` says of those that it cannot read.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use anyhow::{Error, Result, anyhow, bail};
use nonnet_chain::Chain;
use nonnet_schema::{DatabaseSchema, OvsdbError};
use nonnet_store::ovsdb_file::{self, FileLock, OvsdbFileError, ReadError};
use nonnet_store::{OpenError, Opened, Reader, SqliteLog};

use crate::loaded::Loaded;

/// Which service model a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Standalone,
    Clustered,
}

/// Who wrote a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// ovsdb-server, a standalone database.
    Ovsdb,
    /// ovsdb-server, a part of a cluster.
    OvsdbCluster,
    /// We.
    Nonnet,
}

/// A file with the lock that lets it be written.
pub(super) enum Writable {
    Ovsdb(FileLock),
    Nonnet(Box<SqliteLog>, Chain),
}

/// Who wrote the file.
pub(super) fn format(path: &Path) -> Result<Format> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    read.map_err(|cause| unopened(path, &cause))?;
    match start.as_slice() {
        [] => bail!("ovsdb error: {}: cannot identify file type", path.display()),
        start if start.starts_with(b"OVSDB JSON ") => Ok(Format::Ovsdb),
        start if start.starts_with(b"OVSDB CLUSTER ") => Ok(Format::OvsdbCluster),
        b"SQLite format 3\0" => Ok(Format::Nonnet),
        _ => bail!("ovsdb error: {}: unexpected file format", path.display()),
    }
}

/// As [`format()`], of standalone databases alone.
pub(super) fn standalone_format(path: &Path) -> Result<Format> {
    match format(path)? {
        Format::OvsdbCluster => {
            let shown = path.display();
            bail!("ovsdb error: {shown}: cannot apply this operation to clustered database file")
        }
        format => Ok(format),
    }
}

/// `db-is-clustered` and `db-is-standalone`: the exit status is 2 where it is not.
pub(super) fn is_kind(path: &Path, kind: Kind) -> Result<u8> {
    let found = match format(path)? {
        Format::OvsdbCluster => Kind::Clustered,
        Format::Ovsdb | Format::Nonnet => Kind::Standalone,
    };
    Ok(if found == kind { 0 } else { 2 })
}

/// The commands for clustered databases alone.
pub(super) fn not_clustered(path: &Path) -> Result<()> {
    let shown = path.display();
    match format(path)? {
        Format::OvsdbCluster => bail!("{shown}: clustered (Raft) databases are not supported by nonnet"),
        Format::Ovsdb | Format::Nonnet => bail!("{shown}: not a clustered database"),
    }
}

/// The schema in a database.
pub(super) fn schema(path: &Path) -> Result<DatabaseSchema> {
    match standalone_format(path)? {
        Format::Nonnet => {
            let text = Reader::open(path).and_then(|reader| reader.schema_text());
            let text = text.map_err(|error| not_ours(&error))?;
            DatabaseSchema::from_text(&text).map_err(|error| anyhow!("ovsdb error: {}: {error}", path.display()))
        }
        Format::Ovsdb | Format::OvsdbCluster => {
            let file = File::open(path).map_err(|cause| unopened(path, &cause))?;
            let read = ovsdb_file::transactions(BufReader::new(file));
            let (schema, _) = read.map_err(|error| unread(path, error))?;
            Ok(schema)
        }
    }
}

/// What a file holds, for reading; a server may go on writing meanwhile.
pub(super) fn load(path: &Path) -> Result<Loaded> {
    match standalone_format(path)? {
        Format::Nonnet => {
            let contents = Reader::open(path).and_then(|reader| reader.contents());
            let contents = contents.map_err(|error| not_ours(&error))?;
            Loaded::new(contents.schema, contents.rows)
        }
        Format::Ovsdb | Format::OvsdbCluster => load_ovsdb(path),
    }
}

/// What a file holds, locked so that it can be written to.
pub(super) fn load_to_write(path: &Path) -> Result<(Loaded, Writable)> {
    match standalone_format(path)? {
        Format::Nonnet => {
            let opened = nonnet_store::open(path).map_err(|error| match error {
                OpenError::InUse { .. } => locked(path),
                error => not_ours(&error),
            })?;
            let Opened {
                log,
                schema,
                rows,
                chain,
                ..
            } = opened;
            Ok((Loaded::new(schema, rows)?, Writable::Nonnet(Box::new(log), chain)))
        }
        Format::Ovsdb | Format::OvsdbCluster => {
            let lock = FileLock::take(path).map_err(|error| unlocked(path, error))?;
            Ok((load_ovsdb(path)?, Writable::Ovsdb(lock)))
        }
    }
}

fn load_ovsdb(path: &Path) -> Result<Loaded> {
    let file = File::open(path).map_err(|cause| unopened(path, &cause))?;
    let read = ovsdb_file::read(BufReader::with_capacity(1 << 16, file));
    let read = read.map_err(|error| unread(path, error))?;
    match read.damage {
        Some(damage) => Err(anyhow!(damage.as_ovsdb_server_says(path))),
        None => Loaded::new(read.schema, read.rows),
    }
}

/// The system's words without Rust's number behind them.
pub(super) fn plain(cause: &io::Error) -> String {
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// An error of the schema or of a value, in ovsdb-server's words; `context` is what was being done.
pub(super) fn as_ovsdb_error(error: &OvsdbError, context: &str) -> String {
    let words = format!("{}: {context}{}", error.kind().tag(), error.kind());
    match error.syntax() {
        Some(syntax) => format!("syntax \"{syntax}\": {words}"),
        None => words,
    }
}

/// Why a file of ovsdb-server cannot be locked.
pub(super) fn unlocked(path: &Path, error: OvsdbFileError) -> Error {
    match error {
        OvsdbFileError::InUse { .. } => locked(path),
        OvsdbFileError::Store(OpenError::Io { source, .. }) => {
            anyhow!(
                "I/O error: {}: failed to lock lockfile ({})",
                path.display(),
                plain(&source)
            )
        }
        error => anyhow!("ovsdb error: {error}"),
    }
}

/// Why a file cannot be opened.
pub(super) fn unopened(path: &Path, cause: &io::Error) -> Error {
    anyhow!("I/O error: {}: open failed ({})", path.display(), plain(cause))
}

/// Why a file of ours cannot be read or written.
pub(super) fn not_ours(error: &OpenError) -> Error {
    anyhow!("ovsdb error: {error}")
}

/// Why a file of ovsdb-server cannot be read.
pub(super) fn unread(path: &Path, error: ReadError) -> Error {
    match error {
        ReadError::FirstRecord(damage) => anyhow!(damage.as_ovsdb_server_says(path)),
        ReadError::Io(cause) => unopened(path, &cause),
        error => anyhow!("ovsdb error: {}: {error}", path.display()),
    }
}

fn locked(path: &Path) -> Error {
    let shown = path.display();
    anyhow!("I/O error: {shown}: failed to lock lockfile (Resource temporarily unavailable)")
}
