//! Writing a database as ovsdb-server does when it compacts one: the schema, and one transaction.

use std::io::{self, Write};

use nonnet_schema::{DatabaseSchema, TableSchema, json};
use sha1::{Digest, Sha1};

use super::MAGIC;
use super::read::hex;
use crate::open::StoredRow;

/// Writes the schema and, as one transaction of that date (milliseconds since 1970) with that comment, the rows: of each the persistent
/// columns that are not what they are by default.
pub fn write(
    out: &mut impl Write,
    schema: &DatabaseSchema,
    rows: &[StoredRow],
    date_ms: u64,
    comment: &str,
) -> io::Result<()> {
    write_record(out, schema.to_text())?;
    write_record(out, transaction(schema, rows, date_ms, comment))
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
    for rows in sorted.chunk_by(|a, b| a.table == b.table) {
        let Some(table) = rows.first().map(|row| schema.table(row.table)) else {
            continue;
        };
        let defaults = table.default_fields();
        text.push(',');
        json::write_string(&table.name, &mut text);
        text.push_str(":{");
        for (at, row) in rows.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            json::write_string(&row.uuid.hyphenated().to_string(), &mut text);
            text.push(':');
            write_row(table, row, &defaults, &mut text);
        }
        text.push('}');
    }
    text.push('}');
    text
}

fn write_row(table: &TableSchema, row: &StoredRow, defaults: &[nonnet_schema::Datum], text: &mut String) {
    text.push('{');
    let told = table
        .declared_columns()
        .filter(|(_, column)| column.persistent)
        .filter_map(|(at, column)| Some((column, row.fields.get(at.0)?, defaults.get(at.0)?)))
        .filter(|(_, field, default)| field != default);
    for (number, (column, field, _)) in told.enumerate() {
        if number > 0 {
            text.push(',');
        }
        json::write_string(&column.name, text);
        text.push(':');
        field.write_json(text);
    }
    text.push('}');
}
