//! What has changed since a transaction: its record is found by its id, and the log read from there.
//!
//! The index of ids follows the log in the background, as the rows do; what it lacks is looked through record by record.

use nonnet_chain::{Body, Past};
use nonnet_schema::Uuid;
use rusqlite::{Connection, OptionalExtension};

use crate::layout::{self, OpenError};
use crate::limits::{HASHES_FOUND_MAX, INDEXED_RECORDS_MAX, PAST_WEIGHT_MAX};
use crate::read::Reader;

/// What has changed since a transaction.
#[derive(Clone, Debug)]
pub struct Since {
    /// The transaction's sequence number.
    pub from: u64,
    /// That of the newest record that was read.
    pub to: u64,
    /// The changed rows as they were.
    pub past: Past,
}

impl Reader {
    /// What has changed since the transaction of that id (see `RecordHash::transaction_id`); None where the log does not have it, or does
    /// not say any more what the rows were.
    pub fn since(&self, id: Uuid) -> Result<Option<Since>, OpenError> {
        let found = find(self.connection(), id).map_err(OpenError::sqlite(self.path(), "read"))?;
        let Some(from) = found else {
            return Ok(None);
        };
        self.since_record(from, u64::MAX)
    }

    /// What has changed in the records after `from`, up to `until` or the newest before it; None where the log does not say any more what the
    /// rows were, or where that is more than can be held.
    pub fn since_record(&self, from: u64, until: u64) -> Result<Option<Since>, OpenError> {
        let mut since = Since {
            from,
            to: from,
            past: Past::default(),
        };
        for record in self.records(from.saturating_add(1)..=until) {
            let record = record?;
            let Some(Ok(body)) = record.body.as_deref().map(Body::decode) else {
                return Ok(None);
            };
            // A new schema may have changed what rows consist of.
            if body.schema.is_some() {
                return Ok(None);
            }
            since.past.add(body);
            since.to = record.seq;
            if since.past.weight() > PAST_WEIGHT_MAX {
                return Ok(None);
            }
        }
        Ok(Some(since))
    }
}

impl Reader {
    /// The numbers of the records whose hashes begin with these hexadecimal digits in lower case, at most [`HASHES_FOUND_MAX`] of them.
    pub fn seqs_of_hash(&self, prefix: &str) -> Result<Vec<u64>, OpenError> {
        with_prefix(self.connection(), prefix).map_err(OpenError::sqlite(self.path(), "read"))
    }
}

fn with_prefix(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<u64>> {
    let mut found = Vec::new();
    let mut from = 0;
    if layout::format(connection)? >= 2 {
        // What all hashes with the prefix have at least and at most in the index.
        let bound = |digit: &str| {
            let digits: String = prefix.chars().take(16).collect();
            let padded = digits + &digit.repeat(16_usize.saturating_sub(prefix.len()));
            u64::from_str_radix(&padded, 16).unwrap_or_default().cast_signed()
        };
        let by_index = "SELECT log.seq FROM txn JOIN log USING (seq) \
             WHERE txn.id BETWEEN ? AND ? AND substr(lower(hex(log.hash)), 1, ?) = ? LIMIT ?";
        let mut statement = connection.prepare_cached(by_index)?;
        let limit = HASHES_FOUND_MAX as i64;
        let arguments = (bound("0"), bound("f"), prefix.len() as i64, prefix, limit);
        let seqs = statement.query_map(arguments, |row| row.get::<_, i64>(0))?;
        for seq in seqs {
            found.push(seq? as u64);
        }
        from = indexed(connection)?;
    }
    let by_hash = "SELECT seq FROM log WHERE seq >= ? AND substr(lower(hex(hash)), 1, ?) = ? LIMIT ?";
    let mut statement = connection.prepare_cached(by_hash)?;
    let left = HASHES_FOUND_MAX.saturating_sub(found.len()) as i64;
    let seqs = statement.query_map((from as i64, prefix.len() as i64, prefix, left), |row| {
        row.get::<_, i64>(0)
    })?;
    for seq in seqs {
        found.push(seq? as u64);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The first record that is not in the index.
pub(crate) fn indexed(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT datum FROM setting WHERE name = 'txn'")?;
    let bytes: Option<[u8; 8]> = statement.query_row((), |row| row.get(0)).optional()?;
    Ok(bytes.map_or(0, u64::from_le_bytes))
}

/// Brings the next records into the index; gives the first that is not in it then.
pub(crate) fn index(connection: &Connection, from: u64) -> rusqlite::Result<u64> {
    let mut next = from;
    let mut put = connection.prepare_cached("INSERT OR IGNORE INTO txn VALUES (?, ?)")?;
    let mut select = connection.prepare_cached("SELECT seq, hash FROM log WHERE seq >= ? ORDER BY seq LIMIT ?")?;
    let mut records = select.query((from as i64, INDEXED_RECORDS_MAX as i64))?;
    while let Some(record) = records.next()? {
        let (seq, hash): (i64, [u8; 32]) = (record.get(0)?, record.get(1)?);
        put.execute((key(&hash), seq))?;
        next = seq as u64 + 1;
    }
    let mut setting = connection.prepare_cached("INSERT OR REPLACE INTO setting VALUES ('txn', ?)")?;
    setting.execute((next.to_le_bytes(),))?;
    Ok(next)
}

/// The sequence number of the record whose hash begins with `id`.
fn find(connection: &Connection, id: Uuid) -> rusqlite::Result<Option<u64>> {
    // A file of format 1 that is only read has no index.
    let indexed = if layout::format(connection)? < 2 {
        0
    } else {
        let by_index = "SELECT log.seq FROM txn JOIN log USING (seq) WHERE txn.id = ? AND substr(log.hash, 1, 16) = ?";
        let mut statement = connection.prepare_cached(by_index)?;
        let found = statement.query_row((key(id.as_bytes()), id.as_bytes()), |row| row.get::<_, i64>(0));
        if let Some(seq) = found.optional()? {
            return Ok(Some(seq as u64));
        }
        indexed(connection)?
    };
    let by_hash = "SELECT seq FROM log WHERE seq >= ? AND substr(hash, 1, 16) = ? LIMIT 1";
    let mut statement = connection.prepare_cached(by_hash)?;
    let found = statement.query_row((indexed as i64, id.as_bytes()), |row| row.get::<_, i64>(0));
    Ok(found.optional()?.map(|seq| seq as u64))
}

/// What an index holds of a hash or a UUID: its first 8 bytes.
pub(crate) fn key(hash: &[u8]) -> i64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
    i64::from_be_bytes(bytes)
}
