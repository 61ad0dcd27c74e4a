//! Making and opening a database file.
//!
//! Opening first reads the file so that nothing can be written to it: pages, layout, the newest part of the log, every row. Only what
//! passed is opened for writing. The rows that it gives are as of the newest record.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ecow::EcoString;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nonnet_chain::{Body, Chain, Header, Record, RowName, StateDigest, Verifier, schema_hash};
use nonnet_schema::{DatabaseSchema, Datum, TableIndex, Uuid};
use rusqlite::{Connection, OpenFlags};

use crate::head_file::Heads;
use crate::layout::{self, Damage, OpenError, Purpose, beside};
use crate::limits::{CHECKED_FILE_BYTES_MAX, COUNTED_ROWS_MAX, VERIFIED_RECORDS_MAX};
use crate::lock::Lock;
use crate::machine;
use crate::read;
use crate::rows::{self, ChangedRow, RowMap, RowsState};
use crate::sqlite::{SqliteLog, insert_records, sync_directory};
use crate::{state, stored, tree};

/// An open database.
#[derive(Debug)]
pub struct Opened {
    /// Where records go from now on.
    pub log: SqliteLog,
    /// The schema.
    pub schema: DatabaseSchema,
    /// Every row as of the newest record, in no particular order.
    pub rows: Vec<StoredRow>,
    /// The end of the chain.
    pub chain: Chain,
    /// Records that were verified.
    pub verified: u64,
    /// Records that the rows were behind.
    pub replayed: u64,
}

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// The row's table.
    pub table: TableIndex,
    /// The row.
    pub uuid: Uuid,
    /// One field per column in the schema's order; `_uuid`, `_version` and ephemeral columns have their defaults.
    pub fields: Vec<Datum>,
}

/// What a database holds as of one moment.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The schema.
    pub schema: DatabaseSchema,
    /// Every row, in no particular order.
    pub rows: Vec<StoredRow>,
    /// The header of the newest record.
    pub newest: Header,
}

/// Makes the database file at `path`, with `genesis`, which was begun with that schema, as its first
/// record; see [`Chain::begin`]. All of it or nothing.
///
/// # Errors
/// [`OpenError::Exists`] where there is a file that is not empty.
pub fn create(path: &Path, schema: &DatabaseSchema, genesis: &Record) -> Result<(), OpenError> {
    create_with(path, schema, std::slice::from_ref(genesis), None)
}

/// Makes a database file with its first records; where `kept` names a path, in the place of a file that gets that name.
pub(crate) fn create_with(
    path: &Path,
    schema: &DatabaseSchema,
    records: &[Record],
    kept: Option<&Path>,
) -> Result<(), OpenError> {
    let path = resolved(path)?;
    let _lock = Lock::take(&path)?;
    if kept.is_none() && std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0) {
        return Err(OpenError::Exists { path });
    }
    let new_path = beside(&path, ".new");
    for leftover in [
        new_path.clone(),
        beside(&new_path, "-journal"),
        beside(&new_path, "-wal"),
        beside(&path, ".head"),
    ] {
        match std::fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::io(&leftover, "remove")(error));
            }
            _ => {}
        }
    }
    let io = |doing| OpenError::io(&new_path, doing);
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new_path)
        .map_err(io("make"))?;
    fill(&new_path, schema, records).map_err(OpenError::sqlite(&new_path, "write to"))?;
    file.sync_all().map_err(io("sync"))?;
    if let Some(kept) = kept {
        keep(&path, kept)?;
    }
    std::fs::rename(&new_path, &path).map_err(OpenError::io(&path, "make"))?;
    sync_directory(&path)
}

/// Opens the database at `path` and checks it.
///
/// # Errors
/// [`OpenError::Missing`] where there is none; whatever else is wrong with it, nothing is changed.
pub fn open(path: &Path) -> Result<Opened, OpenError> {
    let path = resolved(path)?;
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > 0 => {}
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(OpenError::io(&path, "open")(error)),
        _ => return Err(OpenError::Missing { path }),
    }
    let lock = Lock::take(&path)?;
    drop_cache(&path);
    let Checked {
        schema,
        rows,
        rows_state,
        stored_state,
        state,
        verifier,
        replayed,
        lag_bytes,
    } = Checked::load(&path)?;
    let damaged = || OpenError::damaged(&path, Damage::Setting("rows"));
    let header = verifier.last_header().ok_or_else(damaged)?;
    let chain = Chain::after(header, state);
    let origin = nonnet_chain::origin(&machine::name(), &schema.name, chain.db_id());
    let mut connection = layout::connect(&path, Purpose::Write).map_err(OpenError::sqlite(&path, "open"))?;
    layout::migrate(&mut connection, rows_state.seq, &stored_state).map_err(OpenError::sqlite(&path, "write to"))?;
    let log = SqliteLog::new(
        &path,
        connection,
        (chain.head(), origin),
        (rows_state, stored_state),
        lag_bytes,
        lock,
    )?;
    Ok(Opened {
        log,
        schema,
        rows,
        chain,
        verified: verifier.records(),
        replayed,
    })
}

/// What a check of the whole file found.
pub(crate) struct Checked {
    schema: DatabaseSchema,
    rows: Vec<StoredRow>,
    rows_state: RowsState,
    /// The digest of the stored rows.
    stored_state: StateDigest,
    /// The digest of the rows after the newest record.
    state: StateDigest,
    verifier: Verifier,
    replayed: u64,
    lag_bytes: u64,
}

/// Every row as of the newest record.
struct LoadedRows {
    rows: Vec<StoredRow>,
    stored_state: StateDigest,
    state: StateDigest,
}

/// What the log says of the rows since they were stored.
#[derive(Default)]
struct Tail {
    bodies: Vec<Body>,
    touched: HashSet<(EcoString, Uuid)>,
    bytes: u64,
}

impl Checked {
    fn load(path: &Path) -> Result<Self, OpenError> {
        let connection = layout::connect(path, Purpose::Check).map_err(OpenError::sqlite(path, "open"))?;
        layout::check(&connection, path)?;
        check_pages(&connection, path)?;
        let heads = Heads::read(path)?;
        Self::read(&connection, path, heads)
    }

    /// Reads and checks what `connection` sees, which must not change meanwhile; `heads` was read before.
    pub(crate) fn read(connection: &Connection, path: &Path, heads: Option<Heads>) -> Result<Self, OpenError> {
        let rows_state = RowsState::read(connection, path)?;
        let (verifier, tail) = verify_tail(connection, path, rows_state.seq)?;
        read::check_heads(connection, path, &verifier, heads)?;
        let wrong = |name| OpenError::damaged(path, Damage::Setting(name));
        let header = verifier.last_header().ok_or_else(|| wrong("rows"))?;
        if rows_state.seq > header.seq {
            return Err(wrong("rows"));
        }
        let text = read::schema_text(connection, path)?;
        if schema_hash(&text) != header.schema_hash {
            return Err(wrong("schema"));
        }
        let schema = DatabaseSchema::from_text(&text).map_err(|_| wrong("schema"))?;
        let loader = Loader {
            path,
            schema: &schema,
            templates: templates(&schema),
        };
        let LoadedRows {
            rows,
            stored_state,
            state,
        } = loader.load(connection, rows_state, &tail)?;
        let is_known = header.state_root != [0; 32];
        if is_known && state.root() != header.state_root {
            return Err(OpenError::damaged(path, Damage::State { seq: header.seq }));
        }
        let replayed = tail.bodies.len() as u64;
        Ok(Self {
            schema,
            rows,
            rows_state,
            stored_state,
            state,
            verifier,
            replayed,
            lag_bytes: tail.bytes,
        })
    }

    /// Schema, rows and the newest record.
    pub(crate) fn into_contents(self) -> Option<Contents> {
        Some(Contents {
            newest: *self.verifier.last_header()?,
            schema: self.schema,
            rows: self.rows,
        })
    }
}

/// The path without symbolic links, so that one file has one lock.
pub(crate) fn resolved(path: &Path) -> Result<PathBuf, OpenError> {
    let io = |doing| OpenError::io(path, doing);
    if path.exists() {
        return path.canonicalize().map_err(io("open"));
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let name = path
        .file_name()
        .ok_or_else(|| io("open")(std::io::ErrorKind::InvalidFilename.into()))?;
    Ok(parent.canonicalize().map_err(OpenError::io(parent, "open"))?.join(name))
}

fn fill(path: &Path, schema: &DatabaseSchema, records: &[Record]) -> rusqlite::Result<()> {
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let transaction = connection.transaction()?;
    layout::make(&transaction)?;
    transaction.execute("INSERT INTO setting VALUES ('schema', ?)", (schema.to_text(),))?;
    RowsState::default().write(&transaction)?;
    state::write(&transaction, 0, &StateDigest::default())?;
    insert_records(&transaction, records)?;
    tree::build(&transaction)?;
    transaction.commit()?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.close().map_err(|(_, error)| error)
}

/// Gives the file at `path` a second name, or copies it where the file system knows no such thing.
fn keep(path: &Path, kept: &Path) -> Result<(), OpenError> {
    match std::fs::hard_link(path, kept) {
        Ok(()) => Ok(()),
        // It was given the name already.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => {
            std::fs::copy(path, kept).map_err(OpenError::io(kept, "write to"))?;
            let copy = File::open(kept).map_err(OpenError::io(kept, "open"))?;
            copy.sync_all().map_err(OpenError::io(kept, "sync"))
        }
    }
}

/// After an unclean end, has the kernel read from the disk instead of its memory: after a failed sync the two may differ.
fn drop_cache(path: &Path) {
    if std::fs::metadata(beside(path, "-wal")).is_ok_and(|metadata| metadata.len() > 0) {
        for file in [path.to_owned(), beside(path, "-wal")] {
            if let Ok(file) = File::open(file) {
                // Only an advice: where it is not taken, the checks see what readers would see.
                let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
            }
        }
    }
}

fn check_pages(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let pragma = if bytes > CHECKED_FILE_BYTES_MAX {
        "PRAGMA quick_check('row')"
    } else {
        "PRAGMA quick_check"
    };
    let read = || -> rusqlite::Result<String> { connection.query_row(pragma, (), |row| row.get(0)) };
    match read().map_err(OpenError::sqlite(path, "check"))? {
        text if text == "ok" => Ok(()),
        text => Err(OpenError::damaged(path, Damage::Pages(text.replace('\n', " ")))),
    }
}

/// Verifies the newest records, at least all those after `rows_seq`, and decodes the latter.
fn verify_tail(connection: &Connection, path: &Path, rows_seq: u64) -> Result<(Verifier, Tail), OpenError> {
    let newest = read::head(connection, path)?.map_or(0, |head| head.seq);
    let from = rows_seq
        .saturating_add(1)
        .min((newest + 1).saturating_sub(VERIFIED_RECORDS_MAX));
    let mut statement = connection
        .prepare("SELECT seq, hash, header, body FROM log WHERE seq >= ? ORDER BY seq")
        .map_err(OpenError::sqlite(path, "read"))?;
    let mut tail = Tail::default();
    let records = statement.query_map((from as i64,), read::stored_record);
    let records = records.map_err(OpenError::sqlite(path, "read"))?.map(|record| {
        let record = record.map_err(OpenError::sqlite(path, "read"))?;
        if record.seq > rows_seq {
            // What cannot be decoded is named by the verifier.
            let encoded = record.body.as_deref().unwrap_or_default();
            let body = Body::decode(encoded).unwrap_or_default();
            tail.bytes += encoded.len() as u64 + record.header.len() as u64;
            tail.touched
                .extend(body.rows.iter().map(|row| (row.table.clone(), row.uuid)));
            tail.bodies.push(body);
        }
        Ok(record)
    });
    let verifier = read::verify(records, Verifier::from_seq(from), path, |_| ())?;
    Ok((verifier, tail))
}

/// Fields by default, for each table.
fn templates(schema: &DatabaseSchema) -> Vec<Vec<Datum>> {
    schema
        .tables()
        .iter()
        .map(nonnet_schema::TableSchema::default_fields)
        .collect()
}

struct Loader<'a> {
    path: &'a Path,
    schema: &'a DatabaseSchema,
    templates: Vec<Vec<Datum>>,
}

impl Loader<'_> {
    /// Loads every row, checks that none is missing, and applies the tail of the log.
    fn load(&self, connection: &Connection, expected: RowsState, tail: &Tail) -> Result<LoadedRows, OpenError> {
        let mut touched: RowMap = tail
            .touched
            .iter()
            .map(|key| (key.clone(), ChangedRow::default()))
            .collect();
        let known_state = state::read(connection, expected.seq).map_err(OpenError::sqlite(self.path, "read"))?;
        let is_counted = known_state.is_none() || expected.count <= COUNTED_ROWS_MAX;
        let mut counted = StateDigest::default();
        let mut loaded = Vec::with_capacity(expected.count.min(1 << 24) as usize);
        stored::for_each_row(connection, self.path, expected, |table, uuid, bytes| {
            let entry = touched.get_mut(&(EcoString::from(table), uuid));
            let entry = entry.filter(|_| !tail.bodies.is_empty());
            if is_counted || entry.is_some() {
                let fields = stored::fields(table, uuid, bytes);
                let fields = fields.map_err(|damage| OpenError::damaged(self.path, damage))?;
                if is_counted {
                    state::add_row(&mut counted, RowName { table, uuid }, &fields);
                }
                if let Some(entry) = entry {
                    *entry = ChangedRow::unchanged(Some(fields));
                    return Ok(());
                }
            }
            loaded.push(self.typed(table, uuid, bytes)?);
            Ok(())
        })?;
        if is_counted && known_state.as_ref().is_some_and(|known| *known != counted) {
            return Err(OpenError::damaged(self.path, Damage::State { seq: expected.seq }));
        }
        let stored_state = known_state.unwrap_or(counted);
        self.replay(tail, &mut touched)?;
        let mut state = stored_state.clone();
        state::follow(&mut state, &touched);
        for ((table, uuid), row) in touched {
            if let Some(fields) = row.after {
                loaded.push(self.typed(&table, uuid, &rows::encode_fields(&fields))?);
            }
        }
        Ok(LoadedRows {
            rows: loaded,
            stored_state,
            state,
        })
    }

    fn replay(&self, tail: &Tail, touched: &mut RowMap) -> Result<(), OpenError> {
        for body in &tail.bodies {
            rows::apply_body(body, touched, |_, _| Ok::<_, Damage>(None))
                .map_err(|damage| OpenError::damaged(self.path, damage))?;
        }
        Ok(())
    }

    fn typed(&self, table: &str, uuid: Uuid, bytes: &[u8]) -> Result<StoredRow, OpenError> {
        let unknown = || self.row_error(table, uuid, "the schema has no such table");
        let index = self.schema.table_index(table).ok_or_else(unknown)?;
        let columns = self.schema.table(index);
        let mut fields = self.templates.get(index.0).ok_or_else(unknown)?.clone();
        let mut is_known = true;
        let decoded = rows::decode_fields(bytes, |name, datum| match columns.column_index(name) {
            Some(column) => fields[column.0] = datum,
            None => is_known = false,
        });
        decoded.map_err(|_| self.row_error(table, uuid, "its columns cannot be decoded"))?;
        if !is_known {
            return Err(self.row_error(table, uuid, "it has a column that the schema does not have"));
        }
        Ok(StoredRow {
            table: index,
            uuid,
            fields,
        })
    }

    fn row_error(&self, table: &str, uuid: Uuid, problem: &'static str) -> OpenError {
        OpenError::damaged(self.path, Damage::row(table, uuid, problem))
    }
}
