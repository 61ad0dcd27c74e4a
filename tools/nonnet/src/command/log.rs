//! `nonnet log`: the commits of a database file, with who made them and what they changed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nonnet_chain::{Body, ColumnDelta, DatumChange, Header, Meta, RowDelta, RowOp, StoredRecord};
use nonnet_schema::{DatabaseSchema, Datum, TableSchema, Uuid};
use nonnet_store::Reader;
use serde_json::{Map, Value, json};

use crate::arguments::{Common, Log};
use crate::catalog;
use crate::limits::{LOG_STEP_RECORDS, NAME_RECORDS_MAX};
use crate::notation::{friendly_atom, to_friendly};
use crate::output::{Colour, NOTHING, Output, bare_or_quoted, change_words, printable, words};
use crate::server::database_file;
use crate::{time, who};

/// Prints the log.
pub(crate) fn run(common: &Common, options: &Log, output: &mut Output) -> Result<u8> {
    let (reader, schema) = open(&database_file(options.file.as_deref(), common)?)?;
    if let Some(table) = &options.table {
        catalog::known_table(&schema, table)?;
    }
    let Some(head) = reader.head()? else {
        return Ok(0);
    };
    let mut printer = Printer {
        table: options.table.as_deref(),
        left: options.limit.unwrap_or(u64::MAX),
        ..Printer::new(&schema, output)
    };
    if options.reverse {
        // The names come by before they are needed.
        for record in reader.records(0..=head.seq) {
            printer.print(&record?)?;
            if printer.left == 0 {
                break;
            }
        }
        return Ok(0);
    }
    printer.newest_first(&reader, 0, head.seq)?;
    Ok(0)
}

/// Prints what came after a commit, newest first. Gives how many commits that are.
pub(crate) fn since(common: &Common, base: u64, output: &mut Output) -> Result<u64> {
    let (reader, schema) = open(&database_file(None, common)?)?;
    let Some(head) = reader.head()?.filter(|head| head.seq > base) else {
        return Ok(0);
    };
    Printer::new(&schema, output).newest_first(&reader, base + 1, head.seq)?;
    Ok(head.seq - base)
}

fn open(file: &Path) -> Result<(Reader, DatabaseSchema)> {
    let reader = Reader::open(file)?;
    let schema = DatabaseSchema::from_text(&reader.schema_text()?);
    let schema = schema.with_context(|| format!("{}: schema", file.display()))?;
    Ok((reader, schema))
}

struct Printer<'a> {
    schema: &'a DatabaseSchema,
    /// The only table that is shown.
    table: Option<&'a str>,
    /// Commits that are still to be printed.
    left: u64,
    now_us: u64,
    /// What the rows seen so far are called.
    keys: HashMap<Uuid, String>,
    output: &'a mut Output,
}

/// One changed row, ready to be shown.
struct ShownRow<'a> {
    delta: &'a RowDelta,
    /// What people call it.
    key: String,
    columns: Vec<(&'a ColumnDelta, Value, Value)>,
}

impl<'a> Printer<'a> {
    /// A printer of all commits and tables.
    fn new(schema: &'a DatabaseSchema, output: &'a mut Output) -> Self {
        Self {
            schema,
            table: None,
            left: u64::MAX,
            now_us: time::now_us(),
            keys: HashMap::new(),
            output,
        }
    }
}

impl Printer<'_> {
    /// Prints the records from `last` back to `first`.
    fn newest_first(&mut self, reader: &Reader, first: u64, last: u64) -> Result<()> {
        self.learn_names(reader, last)?;
        let mut end = Some(last);
        while let Some(last) = end.filter(|last| self.left > 0 && *last >= first) {
            let start = last.saturating_sub(LOG_STEP_RECORDS - 1).max(first);
            let records: Vec<StoredRecord> = reader.records(start..=last).collect::<Result<_, _>>()?;
            for record in records.iter().rev() {
                if self.left > 0 {
                    self.print(record)?;
                }
            }
            end = start.checked_sub(1);
        }
        Ok(())
    }

    fn print(&mut self, record: &StoredRecord) -> Result<()> {
        let header = Header::decode(&record.header).with_context(|| format!("record {}", record.seq))?;
        let body = match &record.body {
            Some(bytes) => Some(Body::decode(bytes).with_context(|| format!("record {}", record.seq))?),
            None => None,
        };
        for delta in body.iter().flat_map(|body| &body.rows) {
            self.learn_name(delta);
        }
        let deltas = body.iter().flat_map(|body| &body.rows);
        let deltas: Vec<&RowDelta> = deltas
            .filter(|delta| self.table.is_none_or(|table| delta.table == table))
            .collect();
        if self.table.is_some() && deltas.is_empty() {
            return Ok(());
        }
        self.left -= 1;
        let rows: Vec<ShownRow<'_>> = deltas.into_iter().map(|delta| self.shown(delta)).collect();
        let meta = body.as_ref().map(|body| body.meta.clone()).unwrap_or_default();
        if self.output.is_json() {
            return self.print_json(record, &header, &meta, &rows);
        }
        self.print_head(&header, &meta, &hex(&record.hash)?)?;
        if body.is_none() {
            self.output.line("    (the body was removed)")?;
        }
        if let Some(schema) = body.as_ref().and_then(|body| body.schema.as_ref()) {
            self.output.line(&format!("    schema of {} bytes", schema.len()))?;
        }
        for row in &rows {
            self.print_row(row)?;
        }
        Ok(self.output.line("")?)
    }

    fn print_head(&mut self, header: &Header, meta: &Meta, hash: &str) -> Result<()> {
        let title = format!("{} {} {hash}", header.kind.name(), header.seq);
        let title = self.output.coloured(Colour::Bold, &title);
        self.output.line(&title)?;
        let (at, ago) = (time::local(header.time_us), time::ago(header.time_us, self.now_us));
        self.output.line(&format!("    {at} ({ago})"))?;
        self.output.line(&format!("    by {}", who::words(header, meta)))?;
        for comment in &meta.comments {
            self.output.line(&format!("    \"{}\"", printable(comment)))?;
        }
        Ok(())
    }

    fn print_row(&mut self, row: &ShownRow<'_>) -> Result<()> {
        let (sign, colour) = match row.delta.op {
            RowOp::Insert => ('+', Colour::Green),
            RowOp::Modify => ('~', Colour::Yellow),
            RowOp::Delete => ('-', Colour::Red),
        };
        let columns: Vec<String> = row
            .columns
            .iter()
            .map(|(delta, old, new)| column_words(row.delta.op, delta, old, new))
            .collect();
        let separator = if columns.is_empty() { "" } else { ": " };
        let line = format!(
            "    {sign} {} {}{separator}{}",
            row.delta.table,
            bare_or_quoted(&row.key),
            columns.join(", ")
        );
        let line = self.output.coloured(colour, &line);
        Ok(self.output.line(&line)?)
    }

    fn print_json(&mut self, record: &StoredRecord, header: &Header, meta: &Meta, rows: &[ShownRow<'_>]) -> Result<()> {
        let rows: Vec<Value> = rows.iter().map(row_json).collect();
        let comments: Vec<&str> = meta.comments.iter().map(AsRef::as_ref).collect();
        self.output.json_line(&json!({
            "seq": header.seq, "hash": hex(&record.hash)?, "prev": header.prev.to_string(), "kind": header.kind.name(),
            "time": time::local(header.time_us), "who": who::to_json(header, meta), "comments": comments,
            "operations": meta.operations, "rows": rows,
        }))?;
        Ok(())
    }

    fn shown<'a>(&self, delta: &'a RowDelta) -> ShownRow<'a> {
        let table = catalog::table(self.schema, &delta.table);
        let key_column = table.and_then(catalog::key_column).map(|key| key.name.as_str());
        let columns = delta.columns.iter().map(|column| {
            let (old, new) = match &column.change {
                DatumChange::Whole { old, new } => (old.as_ref(), new.as_ref()),
                DatumChange::Elements { gone, come } => (Some(gone), Some(come)),
            };
            let friendly =
                |datum: Option<&Datum>| datum.map_or(Value::Null, |datum| self.friendly(table, &column.column, datum));
            (column, friendly(old), friendly(new))
        });
        let is_shown = |column: &ColumnDelta, old: &Value, new: &Value| {
            // The name stands before the columns.
            delta.op == RowOp::Modify || !is_nothing(old, new) && Some(column.column.as_str()) != key_column
        };
        ShownRow {
            delta,
            key: self.key(delta),
            columns: columns
                .filter(|(column, old, new)| is_shown(column, old, new))
                .collect(),
        }
    }

    /// Finds out what the rows are called that the newest records change.
    fn learn_names(&mut self, reader: &Reader, newest: u64) -> Result<()> {
        for record in reader.records(newest.saturating_sub(NAME_RECORDS_MAX)..=newest) {
            // A damaged record is told of when its turn comes.
            let Some(Ok(body)) = record?.body.map(|bytes| Body::decode(&bytes)) else {
                continue;
            };
            for delta in &body.rows {
                self.learn_name(delta);
            }
        }
        Ok(())
    }

    /// What the row is called, if the record says so: of a row that came or went it does.
    fn learn_name(&mut self, delta: &RowDelta) {
        let key = catalog::table(self.schema, &delta.table).and_then(catalog::key_column);
        let told = key.and_then(|key| delta.columns.iter().find(|column| column.column == key.name));
        if let Some(DatumChange::Whole { old, new }) = told.map(|column| &column.change)
            && let Some(name) = new.as_ref().or(old.as_ref()).and_then(Datum::as_str)
        {
            self.keys.insert(delta.uuid, name.to_owned());
        }
    }

    fn key(&self, delta: &RowDelta) -> String {
        self.keys
            .get(&delta.uuid)
            .cloned()
            .unwrap_or_else(|| delta.uuid.hyphenated().to_string())
    }

    fn friendly(&self, table: Option<&TableSchema>, column: &str, datum: &Datum) -> Value {
        let known = table.and_then(|table| Some(table.column(table.column_index(column)?)));
        let mut name = |_: &nonnet_schema::BaseType, atom: &nonnet_schema::Atom| match atom
            .as_uuid()
            .and_then(|uuid| self.keys.get(&uuid))
        {
            Some(key) => key.as_str().into(),
            None => friendly_atom(atom),
        };
        match known {
            Some(column) => to_friendly(datum, &column.type_, &mut name),
            // A column that the schema no longer has.
            None => datum.to_json(),
        }
    }
}

fn column_words(op: RowOp, delta: &ColumnDelta, old: &Value, new: &Value) -> String {
    let column = &delta.column;
    match (op, &delta.change) {
        (_, DatumChange::Elements { .. }) => {
            let mut text = column.to_string();
            for (sign, elements) in [('-', words(old)), ('+', words(new))] {
                if elements != NOTHING {
                    let _infallible = write!(text, " {sign}({elements})");
                }
            }
            text
        }
        (RowOp::Insert, _) => change_words(column, None, Some(new)),
        (RowOp::Delete, _) => change_words(column, Some(old), None),
        (RowOp::Modify, _) => change_words(column, Some(old), Some(new)),
    }
}

fn row_json(row: &ShownRow<'_>) -> Value {
    let op = match row.delta.op {
        RowOp::Insert => "insert",
        RowOp::Modify => "modify",
        RowOp::Delete => "delete",
    };
    let mut columns = Map::new();
    for (delta, old, new) in &row.columns {
        let change = match delta.change {
            DatumChange::Whole { .. } => json!({"old": old, "new": new}),
            DatumChange::Elements { .. } => json!({"gone": old, "come": new}),
        };
        columns.insert(delta.column.to_string(), change);
    }
    let uuid = row.delta.uuid.hyphenated().to_string();
    json!({"table": row.delta.table.as_str(), "row": row.key, "uuid": uuid, "op": op, "columns": columns})
}

/// Whether a column of a row that came or went holds nothing worth a word.
fn is_nothing(old: &Value, new: &Value) -> bool {
    let is_empty = |value: &Value| words(value) == NOTHING || value == "";
    is_empty(old) && is_empty(new)
}

fn hex(hash: &[u8]) -> Result<String> {
    match <[u8; 32]>::try_from(hash) {
        Ok(hash) => Ok(nonnet_chain::RecordHash(hash).to_string()),
        Err(_) => bail!("a hash of the log has {} bytes; see `nonnet verify`", hash.len()),
    }
}
