//! Writing a database as ovsdb-server does when it compacts one: the schema, and one transaction.

use std::borrow::Cow;
use std::io::{self, Write};

use nonnet_engine::{ChangeSet, RowChange};
use nonnet_schema::{ColumnIndex, ColumnSchema, DatabaseSchema, Datum, TableIndex, TableSchema, Uuid, json};
use sha1::{Digest, Sha1};

use super::MAGIC;
use super::read::hex;
use crate::open::StoredRow;

/// Writes an empty database: the schema alone.
pub fn write_schema(out: &mut impl Write, schema: &DatabaseSchema) -> io::Result<()> {
    write_record(out, schema.to_text())
}

/// Writes the schema and, as one transaction of that date (milliseconds since 1970) with that comment, the rows: of each the persistent
/// columns that are not what they are by default.
pub fn write(
    out: &mut impl Write,
    schema: &DatabaseSchema,
    rows: &[StoredRow],
    date_ms: u64,
    comment: &str,
) -> io::Result<()> {
    write_schema(out, schema)?;
    write_record(out, transaction(schema, rows, date_ms, comment))
}

/// The record of a transaction: the persistent part of `changes`, columns of rows that were there as differences.
pub(super) fn changes_record(
    schema: &DatabaseSchema,
    changes: &ChangeSet,
    date_ms: u64,
    comment: Option<&str>,
) -> Vec<u8> {
    let is_diff = changes.changes().iter().all(|change| {
        let table = schema.table(change.table);
        let (Some(old), Some(new)) = (&change.old, &change.new) else {
            return true;
        };
        // ovsdb-server 3.1 takes a difference of more elements than the column may have for damage.
        stored_columns(change, table).all(|(at, column)| {
            let diff = new.get(at).diff_from(old.get(at), &column.type_);
            diff.len() <= column.type_.max as usize
        })
    });
    let mut text = format!("{{\"_date\":{date_ms}");
    if let Some(comment) = comment {
        text.push_str(",\"_comment\":");
        json::write_string(comment, &mut text);
    }
    if is_diff {
        text.push_str(",\"_is_diff\":true");
    }
    let stored = changes.changes().iter();
    let stored: Vec<&RowChange> = stored
        .filter(|change| change.is_persistent(schema.table(change.table)))
        .collect();
    let place = |change: &RowChange| (change.table, change.uuid);
    write_tables(
        schema,
        &stored,
        place,
        &mut text,
        |table, defaults, change, text| match (&change.old, &change.new) {
            (_, None) => text.push_str("null"),
            (None, Some(new)) => {
                let differs = |at: ColumnIndex| defaults.get(at.0).filter(|default| *default != new.get(at));
                let columns = stored_columns(change, table).filter(|(at, _)| differs(*at).is_some());
                write_columns(columns.map(|(at, column)| (column, Cow::Borrowed(new.get(at)))), text);
            }
            (Some(old), Some(new)) => {
                let datum = |at: ColumnIndex, column: &ColumnSchema| {
                    if is_diff {
                        Cow::Owned(new.get(at).diff_from(old.get(at), &column.type_))
                    } else {
                        Cow::Borrowed(new.get(at))
                    }
                };
                let columns = stored_columns(change, table);
                write_columns(columns.map(|(at, column)| (column, datum(at, column))), text);
            }
        },
    );
    text.push('}');
    let mut record = Vec::new();
    // A vector takes everything.
    let _infallible = write_record(&mut record, text);
    record
}

/// Writes `,"TABLE":{"UUID":ROW,...}` for each table that has some of `rows`, which are in the order of their tables.
fn write_tables<T>(
    schema: &DatabaseSchema,
    rows: &[&T],
    place: impl Fn(&T) -> (TableIndex, Uuid),
    text: &mut String,
    write_row: impl Fn(&TableSchema, &[Datum], &T, &mut String),
) {
    for rows in rows.chunk_by(|a, b| place(a).0 == place(b).0) {
        let Some(table) = rows.first().map(|row| schema.table(place(row).0)) else {
            continue;
        };
        let defaults = table.default_fields();
        text.push(',');
        json::write_string(&table.name, text);
        text.push_str(":{");
        for (at, row) in rows.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            json::write_string(&place(row).1.hyphenated().to_string(), text);
            text.push(':');
            write_row(table, &defaults, row, text);
        }
        text.push('}');
    }
}

/// The columns that changed and are stored.
fn stored_columns<'a>(
    change: &'a RowChange,
    table: &'a TableSchema,
) -> impl Iterator<Item = (ColumnIndex, &'a ColumnSchema)> {
    change.changed_columns(table).filter(|(_, column)| column.persistent)
}

fn write_columns<'a>(columns: impl Iterator<Item = (&'a ColumnSchema, Cow<'a, Datum>)>, text: &mut String) {
    text.push('{');
    for (number, (column, datum)) in columns.enumerate() {
        if number > 0 {
            text.push(',');
        }
        json::write_string(&column.name, text);
        text.push(':');
        datum.write_json(text);
    }
    text.push('}');
}

fn write_record(out: &mut impl Write, mut body: String) -> io::Result<()> {
    body.push('\n');
    let sha1 = hex(&Sha1::digest(body.as_bytes()));
    writeln!(out, "OVSDB {MAGIC} {} {sha1}", body.len())?;
    out.write_all(body.as_bytes())
}

fn transaction(schema: &DatabaseSchema, rows: &[StoredRow], date_ms: u64, comment: &str) -> String {
    let mut sorted: Vec<&StoredRow> = rows.iter().collect();
    sorted.sort_unstable_by_key(|row| (row.table, row.uuid));
    let mut text = format!("{{\"_date\":{date_ms},\"_comment\":");
    json::write_string(comment, &mut text);
    let place = |row: &StoredRow| (row.table, row.uuid);
    write_tables(schema, &sorted, place, &mut text, |table, defaults, row, text| {
        write_row(table, row, defaults, text);
    });
    text.push('}');
    text
}

fn write_row(table: &TableSchema, row: &StoredRow, defaults: &[Datum], text: &mut String) {
    let told = table
        .declared_columns()
        .filter(|(_, column)| column.persistent)
        .filter_map(|(at, column)| Some((column, row.fields.get(at.0)?, defaults.get(at.0)?)))
        .filter(|(_, field, default)| field != default);
    write_columns(told.map(|(column, field, _)| (column, Cow::Borrowed(field))), text);
}
