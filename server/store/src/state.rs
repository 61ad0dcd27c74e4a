//! The digest of the stored rows, kept beside them.
//!
//! ```text
//! setting 'state' = u64 seq, 2,048 bytes of digest (see `StateDigest`), 16 bytes of checksum
//! ```

use nonnet_chain::canonical::{DecodeError, Input, Problem};
use nonnet_chain::{RowName, StateDigest, row_sum};
use nonnet_schema::{Datum, Uuid};
use rusqlite::{Connection, OptionalExtension};

use crate::rows::{Fields, RowMap};

/// Reads the digest of the rows as of record `seq`; None where there is none, as in files of before format 3.
pub(crate) fn read(connection: &Connection, seq: u64) -> rusqlite::Result<Option<StateDigest>> {
    let query = "SELECT datum FROM setting WHERE name = 'state'";
    let bytes: Option<Vec<u8>> = connection.query_row(query, (), |row| row.get(0)).optional()?;
    let stored = bytes.and_then(|bytes| decode(&bytes).ok());
    Ok(stored.filter(|(as_of, _)| *as_of == seq).map(|(_, digest)| digest))
}

/// Writes the digest of the rows as of record `seq`.
pub(crate) fn write(connection: &Connection, seq: u64, digest: &StateDigest) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO setting VALUES ('state', ?)")?;
    statement.execute((encode(seq, digest),)).map(drop)
}

/// Adds a row to the digest.
pub(crate) fn add_row(digest: &mut StateDigest, row: RowName<'_>, fields: &Fields) {
    digest.add_row(row, named(fields));
}

/// Brings the digest from the rows before to those after.
pub(crate) fn follow(digest: &mut StateDigest, rows: &RowMap) {
    for ((table, uuid), row) in rows {
        let name = RowName { table, uuid: *uuid };
        let (before, after) = (row.before.as_ref(), row.after.as_ref());
        digest.change_row(name, before.map(named), after.map(named));
        for (column, old) in before.into_iter().flatten() {
            digest.change_datum(name, column, Some(old), datum(after, column));
        }
        for (column, new) in after.into_iter().flatten() {
            if datum(before, column).is_none() {
                digest.change_datum(name, column, None, Some(new));
            }
        }
    }
}

fn named(fields: &Fields) -> impl Iterator<Item = (&str, &Datum)> + Clone {
    fields.iter().map(|(column, datum)| (column.as_str(), datum))
}

fn datum<'a>(fields: Option<&'a Fields>, column: &str) -> Option<&'a Datum> {
    let fields = fields?;
    let at = fields.binary_search_by(|(name, _)| name.as_str().cmp(column)).ok()?;
    Some(&fields[at].1)
}

fn encode(seq: u64, digest: &StateDigest) -> Vec<u8> {
    let mut bytes = seq.to_le_bytes().to_vec();
    bytes.extend_from_slice(&digest.to_bytes());
    bytes.extend_from_slice(&row_sum("", Uuid::nil(), &bytes));
    bytes
}

fn decode(bytes: &[u8]) -> Result<(u64, StateDigest), DecodeError> {
    let mut input = Input::new(bytes);
    let (seq, digest) = (input.u64()?, StateDigest::from_bytes(&input.array()?));
    if encode(seq, &digest) == bytes {
        Ok((seq, digest))
    } else {
        Err(input.error(Problem::TooLong))
    }
}
