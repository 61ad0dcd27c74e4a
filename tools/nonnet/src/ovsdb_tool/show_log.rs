//! `show-log`: the records of a file, oldest first.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use jiff::Timestamp;
use nonnet_chain::{Body, ColumnDelta, DatumChange, Header, RowDelta, RowOp};
use nonnet_schema::{DatabaseSchema, Datum, TableSchema, UNLIMITED, json};
use nonnet_store::Reader;
use nonnet_store::ovsdb_file::{self, Transactions};
use serde_json::{Map, Value};

use super::file::{self, Format, not_ours, unopened, unread};

/// `_date` values below this are seconds: old servers wrote them so.
const DATE_SECONDS_END: i64 = i32::MAX as i64;

/// Prints the records; `verbosity` 1 adds the rows, 2 their columns.
pub(super) fn run(db: &Path, verbosity: u8, out: &mut impl Write) -> Result<()> {
    let names = HashMap::new();
    if file::standalone_format(db)? == Format::Nonnet {
        let (schema, reader) = (file::schema(db)?, Reader::open(db).map_err(|error| not_ours(&error))?);
        let mut printer = Printer {
            schema,
            verbosity,
            names,
            out,
        };
        return printer.nonnet(&reader);
    }
    let file = File::open(db).map_err(|cause| unopened(db, &cause))?;
    let read = ovsdb_file::transactions(BufReader::new(file));
    let (schema, transactions) = read.map_err(|error| unread(db, error))?;
    let mut printer = Printer {
        schema,
        verbosity,
        names,
        out,
    };
    printer.ovsdb(transactions, db)
}

struct Printer<'a, W> {
    schema: DatabaseSchema,
    verbosity: u8,
    /// What the rows so far are called, by their UUIDs' text.
    names: HashMap<String, String>,
    out: &'a mut W,
}

impl<W: Write> Printer<'_, W> {
    fn ovsdb(&mut self, mut transactions: Transactions<BufReader<File>>, db: &Path) -> Result<()> {
        self.begin(0)?;
        self.tell_schema()?;
        let mut number = 1;
        while let Some(transaction) = transactions.next_transaction()? {
            let transaction = transaction.map_err(|damage| anyhow!(damage.as_ovsdb_server_says(db)))?;
            self.begin(number)?;
            self.transaction(&transaction)?;
            number += 1;
        }
        Ok(())
    }

    fn nonnet(&mut self, reader: &Reader) -> Result<()> {
        for record in reader.records(0..=u64::MAX) {
            let record = record.map_err(|error| not_ours(&error))?;
            let header = Header::decode(&record.header).with_context(|| format!("record {}", record.seq))?;
            let bytes = record.body.as_deref().unwrap_or_default();
            let body = Body::decode(bytes).with_context(|| format!("record {}", record.seq))?;
            self.begin(record.seq)?;
            if let Some(text) = &body.schema {
                self.schema = DatabaseSchema::from_text(text)?;
                self.tell_schema()?;
                if body.rows.is_empty() {
                    continue;
                }
            }
            self.transaction(&self.as_transaction(&header, &body))?;
        }
        Ok(())
    }

    fn begin(&mut self, number: u64) -> Result<()> {
        Ok(write!(self.out, "record {number}:")?)
    }

    fn tell_schema(&mut self) -> Result<()> {
        let DatabaseSchema {
            name, version, cksum, ..
        } = &self.schema;
        writeln!(self.out, " \"{name}\" schema, version=\"{version}\", cksum=\"{cksum}\"")?;
        Ok(writeln!(self.out)?)
    }

    /// Prints a transaction as a file of ovsdb-server has it.
    fn transaction(&mut self, transaction: &Value) -> Result<()> {
        if let Some(date) = transaction.get("_date").and_then(json::as_integer) {
            let date_ms = if date < DATE_SECONDS_END {
                date.saturating_mul(1000)
            } else {
                date
            };
            match Timestamp::from_millisecond(date_ms) {
                Ok(date) => write!(self.out, " {}", date.strftime("%Y-%m-%d %H:%M:%S%.3f"))?,
                Err(_) => write!(self.out, " {date_ms} ms after 1970")?,
            }
        }
        if let Some(comment) = transaction.get("_comment").and_then(Value::as_str) {
            write!(self.out, " \"{comment}\"")?;
        }
        if self.verbosity > 0 {
            self.rows(transaction)?;
        }
        Ok(writeln!(self.out)?)
    }

    fn rows(&mut self, transaction: &Value) -> Result<()> {
        let is_diff = transaction.get("_is_diff") == Some(&Value::Bool(true));
        let tables = transaction.as_object().into_iter().flatten();
        let tables = tables.filter(|(name, rows)| !name.starts_with('_') && rows.is_object());
        for (number, (table, rows)) in tables.enumerate() {
            if number == 0 {
                writeln!(self.out)?;
            }
            for (uuid, columns) in rows.as_object().into_iter().flatten() {
                self.row(table, uuid, columns, is_diff)?;
            }
        }
        Ok(())
    }

    fn row(&mut self, table: &str, uuid: &str, columns: &Value, is_diff: bool) -> Result<()> {
        let start = uuid.get(..8).unwrap_or(uuid);
        let new_name = columns.get("name").map(json::to_text);
        let known = self.names.get(uuid);
        write!(self.out, "  table {table}")?;
        match (known, &new_name) {
            (None, Some(name)) => writeln!(self.out, " insert row {name} ({start}):")?,
            (None, None) => writeln!(self.out, " insert row {start}:")?,
            (Some(name), _) => {
                let diff = if is_diff { " diff" } else { "" };
                writeln!(self.out, " row {name} ({start}){diff}:")?;
            }
        }
        if columns.is_null() {
            self.names.remove(uuid);
            return Ok(writeln!(self.out, "    delete row")?);
        }
        if let Some(name) = new_name.or_else(|| known.is_none().then(|| start.to_owned())) {
            self.names.insert(uuid.to_owned(), name);
        }
        if self.verbosity > 1 {
            let table = self.schema.table_index(table).map(|index| self.schema.table(index));
            for (column, value) in columns.as_object().into_iter().flatten() {
                writeln!(self.out, "    {column}={}", value_text(table, column, value))?;
            }
        }
        Ok(())
    }

    /// A record of ours as a file of ovsdb-server would have it.
    fn as_transaction(&self, header: &Header, body: &Body) -> Value {
        let mut transaction = Map::new();
        transaction.insert("_date".into(), (header.time_us / 1000).into());
        transaction.insert("_is_diff".into(), true.into());
        if !body.meta.comments.is_empty() {
            let comments: Vec<&str> = body.meta.comments.iter().map(AsRef::as_ref).collect();
            transaction.insert("_comment".into(), comments.join("\n").into());
        }
        for row in &body.rows {
            let rows = transaction
                .entry(row.table.as_str())
                .or_insert_with(|| Map::new().into());
            rows[row.uuid.hyphenated().to_string()] = self.row_json(row);
        }
        transaction.into()
    }

    fn row_json(&self, row: &RowDelta) -> Value {
        if row.op == RowOp::Delete {
            return Value::Null;
        }
        let table = self
            .schema
            .table_index(&row.table)
            .map(|index| self.schema.table(index));
        let columns = row.columns.iter().filter_map(|delta| {
            let datum = written(table, row.op, delta)?;
            Some((delta.column.to_string(), datum.to_json()))
        });
        Value::Object(columns.collect())
    }
}

/// What a file of ovsdb-server would have of a column: of a new row what is not the default, of another one the difference.
fn written(table: Option<&TableSchema>, op: RowOp, delta: &ColumnDelta) -> Option<Datum> {
    let column = table.and_then(|table| Some(table.column(table.column_index(&delta.column)?)));
    match &delta.change {
        DatumChange::Whole { old, new } => {
            let (new, type_) = (new.as_ref()?, column.map(|column| &column.type_));
            match (op, old, type_) {
                (RowOp::Insert, _, Some(type_)) => (*new != Datum::default_for(type_)).then(|| new.clone()),
                (_, Some(old), Some(type_)) => Some(new.diff_from(old, type_)),
                _ => Some(new.clone()),
            }
        }
        DatumChange::Elements { gone, come } => {
            let type_ = column.map(|column| column.type_.resized(0, UNLIMITED))?;
            Some(come.diff_from(gone, &type_))
        }
    }
}

/// A value as `ovs-vsctl` would print it, or its JSON where it is none of the column's.
fn value_text(table: Option<&TableSchema>, column: &str, value: &Value) -> String {
    let column = table.and_then(|table| Some(table.column(table.column_index(column)?)));
    let datum = column.and_then(|column| Some((Datum::parse(value, &column.type_, None).ok()?, &column.type_)));
    match datum {
        Some((datum, type_)) => datum.to_message(type_.is_composite()),
        None => json::to_text(value),
    }
}
