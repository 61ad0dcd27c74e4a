//! The log in a file.
//!
//! One append is one transaction and, where it must be durable, one `fdatasync` of the write-ahead log. The rows follow in
//! [`Log::maintain`], in transactions of their own that need no sync: they can be made again from the log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nonnet_chain::tree::Tree;
use nonnet_chain::{Body, Checkpoint, Head, Header, Kind, PublicKey, Record, RecordHash, StateDigest};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::checkpoint::Signed;
use crate::head_file::HeadFile;
use crate::keys::{self, Keys, SharedKeys};
use crate::layout::{Damage, OpenError, beside};
use crate::limits::{
    CHECKPOINT_BUSY_BYTES, CHECKPOINT_IDLE_BYTES, FREE_PAGES_KEPT_SHARE, INDEXED_RECORDS_MAX, LAG_BYTES_MAX,
    LAG_RECORDS_MAX, MATERIALISED_BYTES_MAX, MATERIALISED_RECORDS_MAX,
};
use crate::lock::Lock;
use crate::log::{AppendError, Compaction, Log, broken_link};
use crate::rowlog;
use crate::rows::{self, Fields, RowMap, RowsState};
use crate::since;
use crate::{state, stored, tree};

/// Bytes of a page and of what the write-ahead log adds to it.
const FRAME_BYTES: u64 = 4096 + 24;

/// The log of one database file, which it alone writes for as long as it lives.
#[derive(Debug)]
pub struct SqliteLog {
    path: PathBuf,
    connection: Connection,
    wal: File,
    head: Head,
    synced: Head,
    head_file: HeadFile,
    rows: RowsState,
    /// The digest of the stored rows.
    state: StateDigest,
    /// The Merkle tree of all records.
    tree: Tree,
    keys: SharedKeys,
    signed: Signed,
    /// True once it was tried to make the next key.
    is_key_prepared: bool,
    /// What checkpoints say that they are of.
    origin: String,
    /// The first record whose id is not in the index of ids.
    indexed: u64,
    /// The first record whose rows are not in the index of rows.
    rows_indexed: u64,
    /// Bytes of the records that the rows lag behind.
    lag_bytes: u64,
    /// Bytes in the write-ahead log since it was last moved into the file, about.
    wal_bytes: u64,
    /// Held until the end; the last field, so that everything else is closed by then.
    _lock: Lock,
}

/// What stops background work.
enum Stop {
    Sqlite(rusqlite::Error),
    Damage(String),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage.to_string())
    }
}

impl SqliteLog {
    /// Takes a file that was checked; `lag_bytes` are those of the records after `rows.seq`.
    pub(crate) fn new(
        path: &Path,
        connection: Connection,
        (head, origin): (Head, String),
        (rows, state): (RowsState, StateDigest),
        lag_bytes: u64,
        lock: Lock,
    ) -> Result<Self, OpenError> {
        // Makes the write-ahead log exist, and shows now what would keep every commit from being written.
        connection
            .execute_batch("BEGIN IMMEDIATE; ROLLBACK")
            .map_err(OpenError::sqlite(path, "write to"))?;
        let wal_path = beside(path, "-wal");
        let wal = File::open(&wal_path).map_err(OpenError::io(&wal_path, "open"))?;
        wal.sync_all().map_err(OpenError::io(&wal_path, "sync"))?;
        sync_directory(path)?;
        let wal_bytes = wal.metadata().map_or(0, |metadata| metadata.len());
        let head_file = HeadFile::open(path, head)?;
        let indexed = since::indexed(&connection).map_err(OpenError::sqlite(path, "read"))?;
        let rows_indexed = rowlog::indexed(&connection).map_err(OpenError::sqlite(path, "read"))?;
        let tree = tree::read(&connection, head.seq + 1).map_err(OpenError::sqlite(path, "read"))?;
        let key = keys::in_force(&connection).map_err(OpenError::sqlite(path, "read"))?;
        let keys = SharedKeys::new(Keys::open(path, key)?);
        let signed = Signed::read(&connection).map_err(OpenError::sqlite(path, "read"))?;
        let path = path.to_owned();
        Ok(Self {
            path,
            connection,
            wal,
            head,
            synced: head,
            head_file,
            rows,
            state,
            tree,
            keys,
            signed,
            is_key_prepared: false,
            origin,
            indexed,
            rows_indexed,
            lag_bytes,
            wal_bytes,
            _lock: lock,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The record that the stored rows are as of.
    pub fn materialised_seq(&self) -> u64 {
        self.rows.seq
    }

    /// The keys that sign checkpoints, which whoever makes a new one uses as well.
    pub fn keys(&self) -> SharedKeys {
        self.keys.clone()
    }

    /// Has the next key ready before anybody asks for it: to make it takes two syncs.
    fn prepare_key(&mut self) {
        if self.is_key_prepared {
            return;
        }
        self.is_key_prepared = true;
        if let Err(error) = self.keys.lock().prepare() {
            tracing::warn!("the key of checkpoints is not replaced until the next start: {error}");
        }
    }

    fn write(&mut self, batch: &[Record]) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert_records(&transaction, batch)?;
        let mut tree = self.tree.clone();
        tree::add(&transaction, &mut tree, batch.iter().map(|record| record.hash))?;
        transaction.commit()?;
        self.tree = tree;
        self.follow_keys(batch);
        Ok(())
    }

    /// Puts the keys in force that records have brought.
    fn follow_keys(&mut self, batch: &[Record]) {
        for rotation in batch.iter().filter_map(brought_key) {
            self.is_key_prepared = false;
            if let Err(error) = self.keys.lock().written(rotation) {
                // The next start finds it beside the log that names it.
                tracing::warn!("no checkpoints are signed until the next start: {error}");
            }
        }
    }

    /// Signs the head where it is not signed, once its record has reached the disk: what others have seen must not vanish.
    fn sign_head(&mut self) -> Result<(), AppendError> {
        if self.signed.due(self.tree.size()).is_none() || self.keys.lock().current().is_none() {
            return Ok(());
        }
        if self.synced != self.head {
            self.sync()?;
        }
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size: self.tree.size(),
            root: self.tree.root(),
        };
        let keys = self.keys.lock();
        let Some(key) = keys.current() else {
            return Ok(());
        };
        let stored = self.signed.sign(&self.connection, &checkpoint, key);
        drop(keys);
        self.prepare_key();
        self.wal_bytes += 2 * FRAME_BYTES;
        self.settle(stored.map(drop).map_err(Stop::Sqlite))
    }

    fn records_after(&self, expected: Head) -> Vec<Record> {
        let read = || -> rusqlite::Result<Vec<Record>> {
            let mut statement = self
                .connection
                .prepare("SELECT hash, header, body FROM log WHERE seq >= ? ORDER BY seq")?;
            let records = statement.query_map((expected.seq as i64,), |row| {
                let header = Header::decode(row.get_ref(1)?.as_blob()?).ok();
                let (hash, body) = (RecordHash(row.get(0)?), row.get_ref(2)?.as_blob()?.into());
                Ok(header.map(|header| Record { header, hash, body }))
            })?;
            Ok(records
                .collect::<rusqlite::Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        };
        let mut records = read().unwrap_or_default();
        if records.first().is_some_and(|record| record.head() == expected) {
            records.remove(0);
            records
        } else {
            Vec::new()
        }
    }

    /// Brings the next records into the rows.
    fn materialise(&mut self) -> Result<(), AppendError> {
        let result = self.try_materialise();
        self.settle(result)
    }

    fn try_materialise(&mut self) -> Result<(), Stop> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut state = self.rows;
        let changed = changed_rows(&transaction, &mut state)?;
        if state.seq == self.rows.seq {
            return Err(Stop::Damage(format!("record {} is missing", state.seq + 1)));
        }
        let mut digest = self.state.clone();
        state::follow(&mut digest, &changed.rows);
        if changed.state_root != [0; 32] && changed.state_root != digest.root() {
            return Err(Damage::State { seq: state.seq }.into());
        }
        rows::write_rows(&transaction, &changed.rows, &mut state)?;
        state.write(&transaction)?;
        state::write(&transaction, state.seq, &digest)?;
        let indexed = since::index(&transaction, self.indexed)?;
        // Under load many at a time: each row costs a page of this index, and its changes stand together there.
        let is_row_index_due = state.seq == self.head.seq || self.head.seq >= self.rows_indexed + INDEXED_RECORDS_MAX;
        let rows_indexed = if is_row_index_due {
            rowlog::index(&transaction, self.rows_indexed)?
        } else {
            rowlog::Progress {
                next: self.rows_indexed,
                pages: 0,
            }
        };
        transaction.commit()?;
        (self.rows, self.state, self.indexed) = (state, digest, indexed);
        self.lag_bytes = if state.seq == self.head.seq {
            0
        } else {
            self.lag_bytes.saturating_sub(changed.bytes)
        };
        self.wal_bytes += FRAME_BYTES * (2 + changed.rows.len() as u64 + rows_indexed.pages) + changed.bytes;
        self.rows_indexed = rows_indexed.next;
        Ok(())
    }

    /// Brings the next records into the indexes, where the rows need nothing.
    fn index(&mut self) -> Result<(), AppendError> {
        let result = self.try_index();
        self.settle(result)
    }

    fn try_index(&mut self) -> Result<(), Stop> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let indexed = since::index(&transaction, self.indexed)?;
        let rows_indexed = rowlog::index(&transaction, self.rows_indexed)?;
        transaction.commit()?;
        if (indexed, rows_indexed.next) == (self.indexed, self.rows_indexed) {
            return Err(Stop::Damage(format!(
                "record {} is missing",
                indexed.min(rows_indexed.next)
            )));
        }
        self.wal_bytes += FRAME_BYTES * (2 + (indexed - self.indexed) / 64 + rows_indexed.pages);
        (self.indexed, self.rows_indexed) = (indexed, rows_indexed.next);
        Ok(())
    }

    /// Whether the indexes lack records.
    fn is_index_behind(&self) -> bool {
        self.indexed.min(self.rows_indexed) <= self.head.seq
    }

    /// Moves the write-ahead log into the file as far as no reader needs it; with `truncate` gives its room back too.
    fn move_wal(&mut self, truncate: bool) -> Result<(), AppendError> {
        let mode = if truncate {
            "PRAGMA wal_checkpoint(TRUNCATE)"
        } else {
            "PRAGMA wal_checkpoint(PASSIVE)"
        };
        self.wal_bytes = 0;
        let result = self.connection.query_row(mode, (), |_| Ok(()));
        self.settle(result.map_err(Stop::Sqlite))
    }

    /// Rewrites the file without its free pages, where these are many.
    fn drop_free_pages(&mut self) -> Result<(), AppendError> {
        let number = |pragma: &str| self.connection.query_row(pragma, (), |row| row.get::<_, i64>(0));
        let rewrite = || -> Result<(), Stop> {
            let (free, all) = (number("PRAGMA freelist_count")?, number("PRAGMA page_count")?);
            if free > all / FREE_PAGES_KEPT_SHARE {
                self.connection.execute_batch("VACUUM")?;
            }
            Ok(())
        };
        self.settle(rewrite())
    }

    /// Bytes of the file and its write-ahead log.
    fn bytes(&self) -> u64 {
        let of_file = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        of_file + self.wal.metadata().map_or(0, |metadata| metadata.len())
    }

    fn settle(&self, result: Result<(), Stop>) -> Result<(), AppendError> {
        result.map_err(|stop| match stop {
            Stop::Sqlite(error) => self.append_error(&error),
            Stop::Damage(cause) => AppendError::Failed {
                path: self.path.clone(),
                cause,
            },
        })
    }

    fn append_error(&self, error: &rusqlite::Error) -> AppendError {
        let (path, cause) = (self.path.clone(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                AppendError::Full { path, cause }
            }
            _ => AppendError::Failed { path, cause },
        }
    }

    fn is_lagging(&self) -> bool {
        let lag_records = self.head.seq.saturating_sub(self.rows.seq);
        lag_records > LAG_RECORDS_MAX || (lag_records > 0 && self.lag_bytes > LAG_BYTES_MAX)
    }
}

impl Log for SqliteLog {
    fn head(&self) -> Head {
        self.head
    }

    fn append(&mut self, batch: &[Record], expected: Head, durable: bool) -> Result<Head, AppendError> {
        if expected != self.head {
            return Err(AppendError::Conflict {
                head: self.head,
                between: self.records_after(expected),
            });
        }
        if let Some(cause) = broken_link(batch, expected) {
            return Err(AppendError::Failed {
                path: self.path.clone(),
                cause,
            });
        }
        if let Err(error) = self.write(batch) {
            match self.append_error(&error) {
                AppendError::Full { .. } if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                    // The write-ahead log may hold room that the file does not need any more.
                    self.move_wal(true)?;
                    self.write(batch).map_err(|error| self.append_error(&error))?;
                }
                other => return Err(other),
            }
        }
        self.head = batch.last().map_or(self.head, Record::head);
        let bytes: u64 = batch.iter().map(|record| record.bytes_len() as u64).sum();
        self.lag_bytes += bytes;
        self.wal_bytes += bytes + 2 * FRAME_BYTES;
        if durable {
            self.sync()?;
        } else {
            self.head_file.write(self.head, self.synced);
        }
        Ok(self.head)
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        self.wal.sync_data().map_err(|error| AppendError::Failed {
            path: beside(&self.path, "-wal"),
            cause: error.to_string(),
        })?;
        self.synced = self.head;
        self.head_file.write(self.head, self.synced);
        Ok(())
    }

    fn until_checkpoint(&self) -> Option<Duration> {
        let due = self.signed.due(self.tree.size())?;
        self.keys.lock().current().map(|_| due)
    }

    fn checkpoint(&mut self) -> Result<(), AppendError> {
        self.sign_head()
    }

    fn maintain(&mut self, idle: bool) -> Result<bool, AppendError> {
        if self.until_checkpoint().is_some_and(|due| due.is_zero()) {
            self.sign_head()?;
        }
        if idle && self.rows.seq < self.head.seq {
            self.materialise()?;
        } else if idle && self.is_index_behind() {
            self.index()?;
        }
        while self.is_lagging() {
            self.materialise()?;
        }
        let checkpoint_bytes = if idle {
            CHECKPOINT_IDLE_BYTES
        } else {
            CHECKPOINT_BUSY_BYTES
        };
        if self.wal_bytes > checkpoint_bytes {
            self.move_wal(false)?;
        }
        Ok(self.rows.seq < self.head.seq || self.is_index_behind())
    }

    fn compact(&mut self) -> Result<Compaction, AppendError> {
        let bytes_before = self.bytes();
        while self.maintain(true)? {}
        self.drop_free_pages()?;
        self.move_wal(true)?;
        Ok(Compaction {
            bytes_before,
            bytes_after: self.bytes(),
        })
    }
}

/// Inserts records into the log; the schema that one of them brings is then the one in force.
pub(crate) fn insert_records(connection: &Connection, batch: &[Record]) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT INTO log VALUES (?, ?, ?, ?)")?;
    for record in batch {
        let header = record.header.encode();
        insert.execute((record.header.seq as i64, record.hash.0, &header[..], &record.body[..]))?;
        if let Some(schema) = brought_schema(record) {
            connection.execute(
                "INSERT OR REPLACE INTO setting VALUES ('schema', ?)",
                (schema.as_str(),),
            )?;
        }
        if let Some(key) = brought_key(record) {
            keys::note(connection, record.header.seq, key)?;
        }
    }
    Ok(())
}

fn brought_schema(record: &Record) -> Option<ecow::EcoString> {
    (record.header.kind == Kind::Schema).then(|| record.decode_body().ok()?.schema)?
}

fn brought_key(record: &Record) -> Option<PublicKey> {
    let may_bring = matches!(record.header.kind, Kind::Genesis | Kind::KeyRotate);
    Some(may_bring.then(|| record.decode_body().ok()?.rotation)??.new)
}

/// Makes the names in the directory of `path` survive a loss of power.
pub(crate) fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let directory_file = File::open(directory).map_err(OpenError::io(directory, "open"))?;
    directory_file.sync_all().map_err(OpenError::io(directory, "sync"))
}

/// What the next records did to the rows.
#[derive(Default)]
struct Changed {
    rows: RowMap,
    /// Bytes of the records.
    bytes: u64,
    /// What the last of them says that the digest of the rows is.
    state_root: [u8; 32],
}

/// What the next records did to the rows; `state` then names the last of them.
fn changed_rows(transaction: &Transaction<'_>, state: &mut RowsState) -> Result<Changed, Stop> {
    let mut changed = Changed::default();
    let query = "SELECT seq, body, substr(header, 129, 32) FROM log WHERE seq > ? ORDER BY seq LIMIT ?";
    let mut statement = transaction.prepare_cached(query)?;
    let mut records = statement.query((state.seq as i64, MATERIALISED_RECORDS_MAX as i64))?;
    while let Some(record) = records.next()? {
        let seq = record.get::<_, i64>(0)? as u64;
        let encoded = record.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        changed.bytes += encoded.len() as u64 + nonnet_chain::HEADER_BYTES as u64;
        let body = Body::decode(encoded).map_err(|error| Stop::Damage(format!("record {seq}: {error}")))?;
        rows::apply_body(&body, &mut changed.rows, |table, uuid| {
            load_row(transaction, table, uuid)
        })?;
        (state.seq, changed.state_root) = (seq, record.get(2)?);
        if changed.bytes > MATERIALISED_BYTES_MAX {
            break;
        }
    }
    Ok(changed)
}

fn load_row(transaction: &Transaction<'_>, table: &str, uuid: nonnet_schema::Uuid) -> Result<Option<Fields>, Stop> {
    let Some((bytes, sum)) = rows::read_row(transaction, table, uuid)? else {
        return Ok(None);
    };
    Ok(Some(stored::checked_fields((table, uuid, &bytes, sum))?))
}
