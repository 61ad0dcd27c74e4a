//! The records that changed a row: an index from rows to records, which follows the log in the background.
//!
//! What the index lacks is looked through record by record, and what it says counts only where the record says so too: it can be lost and
//! made again. That it names every record is not verified by anything.

use std::collections::VecDeque;

use ecow::EcoString;
use nonnet_chain::{Header, Meta, RowDelta, body};
use nonnet_schema::Uuid;
use rusqlite::{Connection, OptionalExtension};

use crate::layout::{self, Damage, OpenError};
use crate::limits::{INDEXED_RECORDS_MAX, INDEXED_ROWS_MAX, ROW_SEQS_READ};
use crate::read::Reader;
use crate::since::key;

/// A record that changed a row.
#[derive(Clone, Debug)]
pub struct RowRecord {
    /// Its header.
    pub header: Header,
    /// Where it comes from.
    pub meta: Meta,
    /// What it did to the row.
    pub delta: RowDelta,
}

/// The numbers of the records that may have changed a row, newest first.
#[derive(Debug)]
pub struct RowSeqs<'a> {
    reader: &'a Reader,
    row: i64,
    /// Those that are known and come next.
    known: VecDeque<u64>,
    /// All that come later are below this.
    before: u64,
}

/// The records that changed a row, newest first.
#[derive(Debug)]
pub struct RowRecords<'a> {
    seqs: RowSeqs<'a>,
    table: EcoString,
    uuid: Uuid,
}

impl Reader {
    /// The numbers of the records that may have changed a row, newest first: all that did, and seldom one that changed another row whose UUID
    /// has the same first 8 bytes. Records that lost their bodies, and were not in the index before, are not among them.
    pub fn row_seqs(&self, uuid: Uuid) -> Result<RowSeqs<'_>, OpenError> {
        let from = self.rows_indexed()?;
        let mut known = VecDeque::new();
        for record in self.records(from..=u64::MAX) {
            let record = record?;
            let bytes = record.body.as_deref().unwrap_or_default();
            let uuids = body::row_uuids(bytes).map_err(|error| self.undecodable(record.seq, error))?;
            if uuids.contains(&uuid) {
                known.push_front(record.seq);
            }
        }
        Ok(RowSeqs {
            reader: self,
            row: key(uuid.as_bytes()),
            known,
            before: from,
        })
    }

    /// The records that changed a row, newest first; those without bodies are left out.
    pub fn row_records(&self, table: &str, uuid: Uuid) -> Result<RowRecords<'_>, OpenError> {
        Ok(RowRecords {
            seqs: self.row_seqs(uuid)?,
            table: table.into(),
            uuid,
        })
    }

    /// Whether questions for the records of a row are answered by the index: a file of an older format has none.
    pub fn has_row_index(&self) -> Result<bool, OpenError> {
        let format = layout::format(self.connection()).map_err(OpenError::sqlite(self.path(), "read"))?;
        Ok(format >= 3)
    }

    fn rows_indexed(&self) -> Result<u64, OpenError> {
        if !self.has_row_index()? {
            return Ok(0);
        }
        indexed(self.connection()).map_err(OpenError::sqlite(self.path(), "read"))
    }

    fn row_record(&self, seq: u64, table: &str, uuid: Uuid) -> Result<Option<RowRecord>, OpenError> {
        let Some(record) = self.records(seq..=seq).next().transpose()? else {
            return Ok(None);
        };
        let Some(bytes) = &record.body else { return Ok(None) };
        let found = body::row(bytes, table, uuid).map_err(|error| self.undecodable(seq, error))?;
        let Some((meta, delta)) = found else { return Ok(None) };
        let header = Header::decode(&record.header).map_err(|error| self.undecodable(seq, error))?;
        Ok(Some(RowRecord { header, meta, delta }))
    }

    pub(crate) fn undecodable(&self, seq: u64, error: impl std::fmt::Display) -> OpenError {
        OpenError::damaged(self.path(), Damage::Pages(format!("record {seq}: {error}")))
    }
}

impl Iterator for RowSeqs<'_> {
    type Item = Result<u64, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.known.is_empty() && self.before > 0 {
            let read = seqs(self.reader.connection(), self.row, self.before);
            match read.map_err(OpenError::sqlite(self.reader.path(), "read")) {
                Ok(read) => self.known = read,
                Err(error) => {
                    self.before = 0;
                    return Some(Err(error));
                }
            }
            self.before = self.known.back().copied().unwrap_or(0);
        }
        self.known.pop_front().map(Ok)
    }
}

impl Iterator for RowRecords<'_> {
    type Item = Result<RowRecord, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = match self.seqs.next()? {
                Ok(seq) => self.seqs.reader.row_record(seq, &self.table, self.uuid),
                Err(error) => Err(error),
            };
            if let Some(found) = found.transpose() {
                return Some(found);
            }
        }
    }
}

/// How far the index has come.
pub(crate) struct Progress {
    /// The first record that is not in it.
    pub(crate) next: u64,
    /// Pages that were written at most, about.
    pub(crate) pages: u64,
}

/// The first record that is not in the index.
pub(crate) fn indexed(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT datum FROM setting WHERE name = 'rowlog'")?;
    let bytes: Option<[u8; 8]> = statement.query_row((), |row| row.get(0)).optional()?;
    Ok(bytes.map_or(0, u64::from_le_bytes))
}

/// Brings the next records into the index.
pub(crate) fn index(connection: &Connection, from: u64) -> rusqlite::Result<Progress> {
    let mut next = from;
    let mut changes: Vec<(i64, i64)> = Vec::new();
    let mut select = connection.prepare_cached("SELECT seq, body FROM log WHERE seq >= ? ORDER BY seq LIMIT ?")?;
    let mut records = select.query((from as i64, INDEXED_RECORDS_MAX as i64))?;
    while let Some(record) = records.next()? {
        let seq: i64 = record.get(0)?;
        let bytes = record.get_ref(1)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        // A body that cannot be decoded is named by whoever needs it.
        let uuids = body::row_uuids(bytes.unwrap_or_default()).unwrap_or_default();
        changes.extend(uuids.iter().map(|uuid| (key(uuid.as_bytes()), seq)));
        next = seq as u64 + 1;
        if changes.len() > INDEXED_ROWS_MAX {
            break;
        }
    }
    // In the order of the index, so that each of its pages is visited once.
    changes.sort_unstable();
    let mut put = connection.prepare_cached("INSERT OR IGNORE INTO rowlog VALUES (?, ?)")?;
    let (mut pages, mut last) = (0, None);
    for (row, seq) in changes {
        put.execute((row, seq))?;
        pages += u64::from(last.replace(row) != Some(row));
    }
    let mut setting = connection.prepare_cached("INSERT OR REPLACE INTO setting VALUES ('rowlog', ?)")?;
    setting.execute((next.to_le_bytes(),))?;
    Ok(Progress { next, pages })
}

/// The newest records of a row below a number, by the index.
fn seqs(connection: &Connection, row: i64, before: u64) -> rusqlite::Result<VecDeque<u64>> {
    let newest = "SELECT seq FROM rowlog WHERE row = ? AND seq < ? ORDER BY seq DESC LIMIT ?";
    let mut statement = connection.prepare_cached(newest)?;
    let seqs = statement.query_map((row, before as i64, ROW_SEQS_READ as i64), |row| row.get::<_, i64>(0))?;
    seqs.map(|seq| Ok(seq? as u64)).collect()
}
