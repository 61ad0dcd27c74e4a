//! Reading a database file, also while a server writes it. Never writes to it.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use nonnet_chain::tree::{ProofError, TreeHash, prove_inclusion};
use nonnet_chain::{Fault, Head, PublicKey, RecordHash, StoredRecord, Verifier};
use rusqlite::{Connection, OptionalExtension};

use crate::head_file::Heads;
use crate::layout::{self, Damage, OpenError, Purpose};
use crate::limits::READ_RECORDS;
use crate::open::{Checked, Contents};
use crate::tree::StoredNodes;
use crate::{checkpoint, keys};

/// A database file, open for reading.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
}

/// That a checkpoint has a record.
#[derive(Clone, Debug)]
pub struct Inclusion {
    /// The record.
    pub record: StoredRecord,
    /// The audit path.
    pub path: Vec<TreeHash>,
    /// The checkpoint.
    pub note: String,
    /// The key that the log names.
    pub key: PublicKey,
}

/// Records in order, as they are stored.
#[derive(Debug)]
pub struct Records<'a> {
    reader: &'a Reader,
    next: u64,
    last: u64,
    read: VecDeque<StoredRecord>,
    has_failed: bool,
}

impl Reader {
    /// Opens the database at `path`, without verifying it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if std::fs::metadata(path).map_err(OpenError::io(path, "open"))?.len() == 0 {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        let connection = layout::connect(path, Purpose::Read).map_err(OpenError::sqlite(path, "open"))?;
        layout::check(&connection, path)?;
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    /// The newest record, as its stored hash says.
    pub fn head(&self) -> Result<Option<Head>, OpenError> {
        head(&self.connection, &self.path)
    }

    /// The newest checkpoint: records in its tree, and the signed note; None where none was made yet.
    pub fn checkpoint(&self) -> Result<Option<(u64, String)>, OpenError> {
        let sqlite = |error| OpenError::sqlite(&self.path, "read")(error);
        // A file of format 1 or 2 that is only read has none.
        if layout::format(&self.connection).map_err(sqlite)? < 3 {
            return Ok(None);
        }
        checkpoint::newest(&self.connection).map_err(sqlite)
    }

    /// Record `seq` with the newest checkpoint, the path between them and the key that the log names now; None where there is no such
    /// record, or no checkpoint of it yet.
    pub fn inclusion(&self, seq: u64) -> Result<Option<Inclusion>, OpenError> {
        let sqlite = |error| OpenError::sqlite(&self.path, "read")(error);
        let _snapshot = self.connection.unchecked_transaction().map_err(sqlite)?;
        let (Some((size, note)), Some(key)) = (self.checkpoint()?, self.key()?) else {
            return Ok(None);
        };
        let Some(record) = self.records(seq..=seq).next().transpose()? else {
            return Ok(None);
        };
        match prove_inclusion(size, seq, &StoredNodes(&self.connection)) {
            Ok(path) => Ok(Some(Inclusion {
                record,
                path,
                note,
                key,
            })),
            Err(ProofError::BeyondTree { .. }) => Ok(None),
            Err(ProofError::Node(error)) => Err(sqlite(error)),
            Err(ProofError::Wrong) => Err(OpenError::damaged(&self.path, Damage::Tree { node: None })),
        }
    }

    /// The key that the log names for checkpoints; not verified.
    pub fn key(&self) -> Result<Option<PublicKey>, OpenError> {
        keys::in_force(&self.connection).map_err(OpenError::sqlite(&self.path, "read"))
    }

    /// The text of the schema.
    pub fn schema_text(&self) -> Result<String, OpenError> {
        schema_text(&self.connection, &self.path)
    }

    /// The records with sequence numbers in `range`; those that are not there are left out.
    pub fn records(&self, range: RangeInclusive<u64>) -> Records<'_> {
        Records {
            reader: self,
            next: *range.start(),
            last: *range.end(),
            read: VecDeque::new(),
            has_failed: false,
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Every row as of the newest record, the newest part of the log verified; a server may go on writing meanwhile.
    pub fn contents(&self) -> Result<Contents, OpenError> {
        // Read first: the log may go on, but not back.
        let heads = Heads::read(&self.path)?;
        let snapshot = self.connection.unchecked_transaction();
        let snapshot = snapshot.map_err(OpenError::sqlite(&self.path, "read"))?;
        let contents = Checked::read(&snapshot, &self.path, heads)?.into_contents();
        contents.ok_or_else(|| OpenError::damaged(&self.path, Damage::Setting("rows")))
    }

    fn read(&self, from: u64, to: u64) -> Result<VecDeque<StoredRecord>, OpenError> {
        let read = || -> rusqlite::Result<_> {
            let query = "SELECT seq, hash, header, body FROM log WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?";
            let mut statement = self.connection.prepare_cached(query)?;
            let (from, to) = (clamped(from), clamped(to));
            let records = statement.query_map((from, to, READ_RECORDS as i64), stored_record)?;
            records.collect()
        };
        read().map_err(OpenError::sqlite(&self.path, "read"))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<StoredRecord, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.is_empty() && !self.has_failed && self.next <= self.last {
            match self.reader.read(self.next, self.last) {
                Ok(read) => self.read = read,
                Err(error) => {
                    self.has_failed = true;
                    return Some(Err(error));
                }
            }
        }
        let record = self.read.pop_front()?;
        self.next = record.seq.saturating_add(1);
        Some(Ok(record))
    }
}

/// Verifies `records` in order.
pub(crate) fn verify(
    records: impl Iterator<Item = Result<StoredRecord, OpenError>>,
    mut verifier: Verifier,
    path: &Path,
    mut progress: impl FnMut(u64),
) -> Result<Verifier, OpenError> {
    for record in records {
        verifier
            .check(&record?)
            .map_err(|fault| OpenError::damaged(path, Damage::Record(fault)))?;
        if verifier.records().is_multiple_of(8192) {
            progress(verifier.records());
        }
    }
    Ok(verifier)
}

/// Checks that the record which is known to have been acknowledged is in the log.
pub(crate) fn check_heads(
    connection: &Connection,
    path: &Path,
    verifier: &Verifier,
    heads: Option<Heads>,
) -> Result<(), OpenError> {
    let Some(known) = heads.map(|heads| heads.known()) else {
        return Ok(());
    };
    let lost = |fault| OpenError::damaged(path, Damage::LostRecords { fault });
    verifier.check_known(known).map_err(lost)?;
    let stored: Option<[u8; 32]> = connection
        .query_row("SELECT hash FROM log WHERE seq = ?", (clamped(known.seq),), |row| {
            row.get(0)
        })
        .optional()
        .map_err(OpenError::sqlite(path, "read"))?;
    if stored == Some(known.hash.0) {
        return Ok(());
    }
    let kind = nonnet_chain::FaultKind::Replaced { known: known.hash };
    Err(lost(Fault { seq: known.seq, kind }))
}

/// The newest record, as its stored hash says.
pub(crate) fn head(connection: &Connection, path: &Path) -> Result<Option<Head>, OpenError> {
    let newest = "SELECT seq, hash FROM log ORDER BY seq DESC LIMIT 1";
    let head = connection.query_row(newest, (), |row| {
        Ok(Head {
            seq: row.get::<_, i64>(0)? as u64,
            hash: RecordHash(row.get(1)?),
        })
    });
    head.optional().map_err(OpenError::sqlite(path, "read"))
}

/// The text of the schema.
pub(crate) fn schema_text(connection: &Connection, path: &Path) -> Result<String, OpenError> {
    let text = connection.query_row("SELECT datum FROM setting WHERE name = 'schema'", (), |row| row.get(0));
    let text = text.optional().map_err(OpenError::sqlite(path, "read"))?;
    text.ok_or_else(|| OpenError::damaged(path, Damage::Setting("schema")))
}

/// A row of the table `log`.
pub(crate) fn stored_record(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredRecord> {
    Ok(StoredRecord {
        seq: row.get::<_, i64>(0)? as u64,
        hash: row.get(1)?,
        header: row.get(2)?,
        body: row.get(3)?,
    })
}

/// A sequence number as the file holds it.
fn clamped(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
