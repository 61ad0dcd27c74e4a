//! Stored rows: their bytes, how a record changes them, and the sum that tells whether all of them are there.
//!
//! ```text
//! fields = varint count, (text column, datum)*     persistent columns, strictly ascending by bytes
//! sum    = the first 16 bytes of keyed BLAKE3 over table, UUID and fields
//! setting 'rows' = u64 seq, u64 count, u128 sum of all sums modulo 2^128, 16 bytes of checksum
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use ecow::EcoString;
use nonnet_chain::canonical::{DecodeError, Input, Problem, write_datum, write_text, write_varint};
use nonnet_chain::{Body, DatumChange, MisfitDelta, RowDelta, RowOp, row_sum};
use nonnet_schema::{Datum, Uuid};
use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::layout::{Damage, OpenError};

/// The persistent columns of a row, sorted by name.
pub type Fields = Vec<(EcoString, Datum)>;

/// Changed rows by table and UUID.
pub(crate) type RowMap = BTreeMap<(EcoString, Uuid), ChangedRow>;

/// A row before and after some records; None where it is not there.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChangedRow {
    pub(crate) before: Option<Fields>,
    pub(crate) after: Option<Fields>,
}

impl ChangedRow {
    /// A row that no record has changed yet.
    pub(crate) fn unchanged(fields: Option<Fields>) -> Self {
        Self {
            before: fields.clone(),
            after: fields,
        }
    }
}

/// Which rows the table `row` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowsState {
    /// The record that they are as of.
    pub(crate) seq: u64,
    /// How many.
    pub(crate) count: u64,
    /// The sum of their sums.
    pub(crate) sum: u128,
}

impl RowsState {
    pub(crate) fn add(&mut self, sum: [u8; 16]) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(sum));
    }

    pub(crate) fn remove(&mut self, sum: [u8; 16]) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(u128::from_le_bytes(sum));
    }

    pub(crate) fn read(connection: &Connection, path: &Path) -> Result<Self, OpenError> {
        let bytes: Option<Vec<u8>> = connection
            .query_row("SELECT datum FROM setting WHERE name = 'rows'", (), |row| row.get(0))
            .optional()
            .map_err(OpenError::sqlite(path, "read"))?;
        let state = bytes.and_then(|bytes| Self::decode(&bytes).ok());
        state.ok_or_else(|| OpenError::damaged(path, Damage::Setting("rows")))
    }

    pub(crate) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO setting VALUES ('rows', ?)")?;
        statement.execute((self.encode(),)).map(drop)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.seq.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.sum.to_le_bytes());
        bytes.extend_from_slice(&row_sum("", Uuid::nil(), &bytes));
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input::new(bytes);
        let (seq, count) = (input.u64()?, input.u64()?);
        let sum = u128::from_le_bytes(input.array()?);
        let state = Self { seq, count, sum };
        if state.encode() == bytes {
            Ok(state)
        } else {
            Err(input.error(Problem::TooLong))
        }
    }
}

/// Encodes the fields of a row.
pub(crate) fn encode_fields(fields: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    write_varint(fields.len() as u64, &mut out);
    for (column, datum) in fields {
        write_text(column, &mut out);
        write_datum(datum, &mut out);
    }
    out
}

/// Decodes the fields of a row, and gives each to `put`.
pub(crate) fn decode_fields<'a>(bytes: &'a [u8], mut put: impl FnMut(&'a str, Datum)) -> Result<(), DecodeError> {
    let mut input = Input::new(bytes);
    for _ in 0..input.count()? {
        put(input.text()?, input.datum()?);
    }
    input.finish()
}

/// The row after `delta`.
pub(crate) fn apply(delta: &RowDelta, before: Option<Fields>) -> Result<Option<Fields>, MisfitDelta> {
    let mut fields = match (delta.op, before) {
        (RowOp::Insert, None) => Fields::new(),
        (RowOp::Modify, Some(fields)) => fields,
        (RowOp::Delete, Some(fields)) => {
            return if holds_all(delta, &fields) {
                Ok(None)
            } else {
                Err(MisfitDelta)
            };
        }
        _ => return Err(MisfitDelta),
    };
    for column in &delta.columns {
        let place = fields.binary_search_by(|(name, _)| name.cmp(&column.column));
        let old = place.ok().and_then(|at| fields.get(at)).map(|(_, datum)| datum);
        let new = column.change.apply(old)?;
        match (place, new) {
            (Ok(at), Some(datum)) => fields[at].1 = datum,
            (Err(at), Some(datum)) => fields.insert(at, (column.column.clone(), datum)),
            (Ok(at), None) => drop(fields.remove(at)),
            (Err(_), None) => {}
        }
    }
    Ok(Some(fields))
}

/// True where `fields` are those that a deleted row is said to have had.
fn holds_all(delta: &RowDelta, fields: &Fields) -> bool {
    let is_same = |(column, field): (&nonnet_chain::ColumnDelta, &(EcoString, Datum))| {
        let DatumChange::Whole { old: Some(old), .. } = &column.change else {
            return false;
        };
        (&column.column, old) == (&field.0, &field.1)
    };
    delta.columns.len() == fields.len() && delta.columns.iter().zip(fields).all(is_same)
}

/// Applies the changes of a record to `rows`; a row that is not in there yet is first got from `load`.
pub(crate) fn apply_body<E: From<Damage>>(
    body: &Body,
    rows: &mut RowMap,
    mut load: impl FnMut(&EcoString, Uuid) -> Result<Option<Fields>, E>,
) -> Result<(), E> {
    for delta in &body.rows {
        let key = (delta.table.clone(), delta.uuid);
        let row = match rows.remove(&key) {
            Some(row) => row,
            None => ChangedRow::unchanged(load(&delta.table, delta.uuid)?),
        };
        let problem = "the log says that it was another one before";
        let misfit = |_| Damage::row(&delta.table, delta.uuid, problem);
        let after = apply(delta, row.after).map_err(misfit)?;
        rows.insert(key, ChangedRow { after, ..row });
    }
    Ok(())
}

/// The bytes of a stored row with its sum; None where there is none.
pub(crate) fn read_row(
    connection: &Connection,
    table: &str,
    uuid: Uuid,
) -> rusqlite::Result<Option<(Vec<u8>, [u8; 16])>> {
    let mut statement = connection.prepare_cached("SELECT fields, sum FROM row WHERE tbl = ? AND uuid = ?")?;
    statement
        .query_row((table, uuid.as_bytes()), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Writes `rows` in place of what is stored of them, and counts them in `state`.
pub(crate) fn write_rows(transaction: &Transaction<'_>, rows: &RowMap, state: &mut RowsState) -> rusqlite::Result<()> {
    let mut old_sum = transaction.prepare_cached("SELECT sum FROM row WHERE tbl = ? AND uuid = ?")?;
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO row VALUES (?, ?, ?, ?)")?;
    let mut remove = transaction.prepare_cached("DELETE FROM row WHERE tbl = ? AND uuid = ?")?;
    for ((table, uuid), row) in rows {
        let key = (table.as_str(), uuid.as_bytes());
        if let Some(sum) = old_sum.query_row(key, |row| row.get(0)).optional()? {
            state.remove(sum);
        }
        if let Some(fields) = &row.after {
            let fields = encode_fields(fields);
            let sum = row_sum(table, *uuid, &fields);
            put.execute((table.as_str(), uuid.as_bytes(), fields, sum))?;
            state.add(sum);
        } else {
            remove.execute(key)?;
        }
    }
    Ok(())
}
