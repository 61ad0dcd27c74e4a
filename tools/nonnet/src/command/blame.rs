//! `nonnet blame`: for each column of a row its value, and the commit that gave it this value.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use nonnet_chain::{ColumnDelta, DatumChange, RowOp};
use nonnet_schema::{ColumnSchema, Datum, TableSchema, Uuid};
use nonnet_store::RowRecord;
use serde_json::{Map, Value, json};

use crate::arguments::{Blame, Common};
use crate::catalog;
use crate::history::{History, Names, find_row};
use crate::output::{Colour, NOTHING, Output, bare_or_quoted, printable, words};
use crate::{time, who};

/// A row with where its columns come from.
struct Blamed<'a> {
    /// The record that deleted it.
    deleted: Option<RowRecord>,
    /// By name, in the order of the schema: what the column holds, or held last, and the record that says so since.
    columns: Vec<(&'a ColumnSchema, Datum, Option<RowRecord>)>,
}

/// Prints where the columns of a row come from.
pub(crate) fn run(common: &Common, options: &Blame, output: &mut Output) -> Result<u8> {
    let history = History::open(options.file.as_deref(), common)?;
    let table = catalog::known_table(&history.schema, &options.table)?;
    let column = options.column.as_deref().map(|name| catalog::known_column(table, name));
    let column = column.transpose()?;
    if let Some(column) = column.filter(|column| !column.persistent) {
        bail!(
            "the column {} of {} is ephemeral: the log does not hold it",
            column.name,
            table.name
        );
    }
    let uuid = find_row(&history, table, &options.row)?;
    let is_asked = |found: &ColumnSchema| column.is_none_or(|column| column.name == found.name);
    let blamed = blame(&history, table, uuid, is_asked)?;
    let names = Names::new(&history)?;
    if output.is_json() {
        output.json(&to_json(table, uuid, &blamed, &names))?;
    } else {
        print(table, uuid, &blamed, &names, output)?;
    }
    Ok(0)
}

fn blame<'a>(
    history: &History,
    table: &'a TableSchema,
    uuid: Uuid,
    is_asked: impl Fn(&ColumnSchema) -> bool,
) -> Result<Blamed<'a>> {
    let persistent = table.declared_columns().filter(|(_, column)| column.persistent);
    let asked = persistent.map(|(_, column)| column).filter(|column| is_asked(column));
    let mut records = history.reader.row_records(&table.name, uuid)?.peekable();
    let mut deleted = None;
    if let Some(Ok(newest)) = records.peek()
        && newest.delta.op == RowOp::Delete
    {
        deleted = records.next().transpose()?;
    }
    let mut values = match &deleted {
        Some(deleted) => old_values(&deleted.delta.columns),
        None => history.reader.row(&table.name, uuid)?.into_iter().flatten().collect(),
    };
    let mut columns: Vec<(&ColumnSchema, Datum, Option<RowRecord>)> = asked
        .filter_map(|column| Some((column, values.remove(&column.name)?, None)))
        .collect();
    let mut left = columns.len();
    for record in records {
        if left == 0 {
            break;
        }
        let record = record?;
        // A row of that UUID that was deleted before is another one.
        if record.delta.op == RowOp::Delete {
            break;
        }
        for (_, _, since) in columns
            .iter_mut()
            .filter(|(column, _, since)| since.is_none() && names(&record, &column.name))
        {
            *since = Some(record.clone());
            left -= 1;
        }
    }
    Ok(Blamed { deleted, columns })
}

fn names(record: &RowRecord, column: &str) -> bool {
    record.delta.columns.iter().any(|delta| delta.column == column)
}

/// What the columns of a deleted row held.
fn old_values(columns: &[ColumnDelta]) -> BTreeMap<ecow::EcoString, Datum> {
    let old = |delta: &ColumnDelta| match &delta.change {
        DatumChange::Whole { old: Some(old), .. } => Some((delta.column.clone(), old.clone())),
        _ => None,
    };
    columns.iter().filter_map(old).collect()
}

fn print(table: &TableSchema, uuid: Uuid, blamed: &Blamed<'_>, names: &Names<'_>, output: &mut Output) -> Result<()> {
    let (name, now_us) = (names.of(&table.name, uuid), time::now_us());
    let title = format!("{} {} {}", table.name, bare_or_quoted(&name), uuid.hyphenated());
    let title = output.coloured(Colour::Bold, &title);
    output.line(&title)?;
    if let Some(record) = &blamed.deleted {
        let cells = origin_cells(record, now_us);
        let line = format!("deleted by commit {}", cells.join(", "));
        let line = output.coloured(Colour::Red, &line);
        output.line(&line)?;
    }
    let row = |(column, datum, since): &(&ColumnSchema, Datum, Option<RowRecord>)| {
        let value = words(&names.friendly(&table.name, &column.name, datum));
        let mut cells = vec![column.name.to_string(), value];
        match since {
            Some(record) => cells.extend(origin_cells(record, now_us)),
            // The body of the record that said so was removed.
            None => cells.extend(std::iter::repeat_n(NOTHING.to_owned(), 4)),
        }
        cells
    };
    let rows: Vec<Vec<String>> = blamed.columns.iter().map(row).collect();
    Ok(output.table(&["COLUMN", "VALUE", "COMMIT", "WHEN", "WHO", "COMMENT"], &rows)?)
}

/// Number, time, who and comment.
fn origin_cells(record: &RowRecord, now_us: u64) -> Vec<String> {
    let comments: Vec<String> = record.meta.comments.iter().map(|text| printable(text)).collect();
    vec![
        record.header.seq.to_string(),
        time::ago(record.header.time_us, now_us),
        who::words(&record.header, &record.meta),
        comments.join("; "),
    ]
}

fn to_json(table: &TableSchema, uuid: Uuid, blamed: &Blamed<'_>, names: &Names<'_>) -> Value {
    let column = |(column, datum, since): &(&ColumnSchema, Datum, Option<RowRecord>)| {
        let mut members = Map::new();
        members.insert("value".to_owned(), names.friendly(&table.name, &column.name, datum));
        members.insert("commit".to_owned(), since.as_ref().map_or(Value::Null, origin_json));
        (column.name.to_string(), Value::Object(members))
    };
    let columns: Map<String, Value> = blamed.columns.iter().map(column).collect();
    json!({
        "table": table.name.as_str(), "row": names.of(&table.name, uuid), "uuid": uuid.hyphenated().to_string(),
        "deleted": blamed.deleted.as_ref().map(origin_json), "columns": columns,
    })
}

fn origin_json(record: &RowRecord) -> Value {
    let (header, meta) = (&record.header, &record.meta);
    let comments: Vec<&str> = meta.comments.iter().map(AsRef::as_ref).collect();
    json!({
        "seq": header.seq, "hash": header.hash().to_string(), "time": time::local(header.time_us),
        "who": who::to_json(header, meta), "comments": comments,
    })
}
