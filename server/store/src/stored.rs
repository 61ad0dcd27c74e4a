//! The table `row` as it is read: each row against its checksum, all of them against their number and sum.

use std::path::Path;

use nonnet_chain::row_sum;
use nonnet_schema::Uuid;
use rusqlite::Connection;

use crate::layout::{Damage, OpenError};
use crate::rows::{self, Fields, RowsState};

/// A row of the table: its own table, its UUID, its encoded fields and their checksum.
pub(crate) type Stored<'a> = (&'a str, Uuid, &'a [u8], [u8; 16]);

/// Gives each row whose checksum is right to `put`, and checks that all that are `expected` are there and no others.
pub(crate) fn for_each_row(
    connection: &Connection,
    path: &Path,
    expected: RowsState,
    mut put: impl FnMut(&str, Uuid, &[u8]) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let sqlite = |error| OpenError::sqlite(path, "read")(error);
    let mut found = RowsState {
        seq: expected.seq,
        ..RowsState::default()
    };
    let mut statement = connection
        .prepare("SELECT tbl, uuid, fields, sum FROM row")
        .map_err(sqlite)?;
    let mut stored = statement.query(()).map_err(sqlite)?;
    while let Some(row) = stored.next().map_err(sqlite)? {
        let row = stored_row(row).map_err(sqlite)?;
        check_sum(row).map_err(|damage| OpenError::damaged(path, damage))?;
        let (table, uuid, bytes, sum) = row;
        found.add(sum);
        put(table, uuid, bytes)?;
    }
    if found == expected {
        return Ok(());
    }
    let damage = Damage::Rows {
        found: found.count,
        expected: expected.count,
        same_sum: found.sum == expected.sum,
    };
    Err(OpenError::damaged(path, damage))
}

/// The columns of a row, its checksum checked.
pub(crate) fn checked_fields(row: Stored<'_>) -> Result<Fields, Damage> {
    check_sum(row)?;
    let (table, uuid, bytes, _) = row;
    fields(table, uuid, bytes)
}

/// The columns of a row whose checksum is right.
pub(crate) fn fields(table: &str, uuid: Uuid, bytes: &[u8]) -> Result<Fields, Damage> {
    let mut fields = Fields::new();
    let decoded = rows::decode_fields(bytes, |column, datum| fields.push((column.into(), datum)));
    decoded.map_err(|_| Damage::row(table, uuid, "its columns cannot be decoded"))?;
    Ok(fields)
}

/// Columns `tbl, uuid, fields, sum` of the table.
pub(crate) fn stored_row<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Stored<'a>> {
    let uuid: [u8; 16] = row.get(1)?;
    Ok((
        row.get_ref(0)?.as_str()?,
        Uuid::from_bytes(uuid),
        row.get_ref(2)?.as_blob()?,
        row.get(3)?,
    ))
}

fn check_sum((table, uuid, bytes, sum): Stored<'_>) -> Result<(), Damage> {
    if row_sum(table, uuid, bytes) == sum {
        Ok(())
    } else {
        Err(Damage::row(table, uuid, "its checksum is wrong"))
    }
}
