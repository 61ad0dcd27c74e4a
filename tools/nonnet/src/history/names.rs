//! What the rows of the log are called: a change of a row seldom says it.

use std::cell::RefCell;
use std::collections::HashMap;

use anyhow::{Result, bail};
use memchr::memmem;
use nonnet_chain::{Body, DatumChange, RowDelta};
use nonnet_schema::{Atom, DatabaseSchema, Datum, TableSchema, Uuid, parse_uuid};
use nonnet_store::Reader;
use serde_json::Value;

use super::History;
use crate::catalog;
use crate::limits::LOG_STEP_RECORDS;
use crate::notation::{friendly_atom, to_friendly};
use crate::output::bare_or_quoted;

/// The names of rows: those that records told, else those of today, else the last ones of rows that are gone.
pub(crate) struct Names<'a> {
    schema: &'a DatabaseSchema,
    reader: &'a Reader,
    known: RefCell<HashMap<Uuid, Option<String>>>,
    /// Whether the log can be asked for the records of a row.
    is_indexed: bool,
}

impl<'a> Names<'a> {
    /// No names yet.
    pub(crate) fn new(history: &'a History) -> Result<Self> {
        Ok(Self {
            schema: &history.schema,
            reader: &history.reader,
            known: RefCell::default(),
            is_indexed: history.reader.has_row_index()?,
        })
    }

    /// Learns what rows are called, if their changes say so: of a row that came or went they do.
    pub(crate) fn learn_all<'d>(&self, deltas: impl IntoIterator<Item = &'d RowDelta>) {
        for delta in deltas {
            let key = catalog::table(self.schema, &delta.table).and_then(catalog::key_column);
            if let Some(name) = key.and_then(|key| told(delta, &key.name)) {
                self.known.borrow_mut().insert(delta.uuid, Some(name.to_owned()));
            }
        }
    }

    /// What a row is called: its UUID where it has no name.
    pub(crate) fn of(&self, table: &str, uuid: Uuid) -> String {
        let named = self.known.borrow().get(&uuid).cloned();
        let named = named.unwrap_or_else(|| {
            let found = self.look_up(table, uuid);
            self.known.borrow_mut().insert(uuid, found.clone());
            found
        });
        named.unwrap_or_else(|| uuid.hyphenated().to_string())
    }

    /// A datum of a column as files have it, references by name.
    pub(crate) fn friendly(&self, table: &str, column: &str, datum: &Datum) -> Value {
        let table = catalog::table(self.schema, table);
        let Some(column) = table.and_then(|table| Some(table.column(table.column_index(column)?))) else {
            // A column that the schema no longer has.
            return datum.to_json();
        };
        let target = catalog::target(self.schema, column).map(|target| target.name.as_str());
        let mut name = |_: &nonnet_schema::BaseType, atom: &Atom| match (target, atom.as_uuid()) {
            (Some(target), Some(uuid)) => self.of(target, uuid).into(),
            _ => friendly_atom(atom),
        };
        to_friendly(datum, &column.type_, &mut name)
    }

    /// The name of a row today, or the last one that it had. What cannot be read is told by whoever needs it; a name is only a name.
    fn look_up(&self, table: &str, uuid: Uuid) -> Option<String> {
        let key = catalog::key_column(catalog::table(self.schema, table)?)?;
        if let Ok(Some(row)) = self.reader.row(table, uuid) {
            return key_of(key.name.as_str(), &row);
        }
        if !self.is_indexed {
            return None;
        }
        let mut records = self.reader.row_records(table, uuid).ok()?;
        records.find_map(|record| told(&record.ok()?.delta, &key.name).map(str::to_owned))
    }
}

/// The row of a table that is given by its UUID or its name; of several that had the name, the newest. It may be gone by now.
///
/// # Errors
/// Where the table never had such a row.
pub(crate) fn find_row(history: &History, table: &TableSchema, text: &str) -> Result<Uuid> {
    let reader = &history.reader;
    if let Some(uuid) = parse_uuid(text) {
        if reader.row_records(&table.name, uuid)?.next().transpose()?.is_none() {
            bail!("the table {} never had a row {text}", table.name);
        }
        return Ok(uuid);
    }
    let Some(key) = catalog::key_column(table) else {
        bail!("the rows of {} have no names: give the UUID of one", table.name);
    };
    for (uuid, row) in reader.stored_table(&table.name)? {
        if key_of(&key.name, &row).as_deref() == Some(text) {
            let today = reader.row(&table.name, uuid)?;
            if today.is_some_and(|today| key_of(&key.name, &today).as_deref() == Some(text)) {
                return Ok(uuid);
            }
        }
    }
    match last_called(history, table, &key.name, text)? {
        Some(uuid) => Ok(uuid),
        None => bail!("the table {} never had a row {}", table.name, bare_or_quoted(text)),
    }
}

/// The row that had a name last, by what the log says.
fn last_called(history: &History, table: &TableSchema, key: &str, name: &str) -> Result<Option<Uuid>> {
    let finder = memmem::Finder::new(name);
    let mut end = Some(history.head()?);
    while let Some(last) = end {
        let start = last.saturating_sub(LOG_STEP_RECORDS - 1);
        let records: Vec<_> = history.reader.records(start..=last).collect::<Result<_, _>>()?;
        for record in records.iter().rev() {
            // What is damaged is told of by whoever shows it.
            let bytes = record.body.as_deref().filter(|bytes| finder.find(bytes).is_some());
            let Some(Ok(body)) = bytes.map(Body::decode) else {
                continue;
            };
            let mut deltas = body.rows.iter().filter(|delta| delta.table == table.name);
            if let Some(delta) = deltas.find(|delta| told_any(delta, key).any(|told| told == name)) {
                return Ok(Some(delta.uuid));
            }
        }
        end = start.checked_sub(1);
    }
    Ok(None)
}

fn key_of<S: AsRef<str>>(key: &str, row: &[(S, Datum)]) -> Option<String> {
    let (_, datum) = row.iter().find(|(column, _)| column.as_ref() == key)?;
    datum.as_str().map(str::to_owned)
}

/// The name that a change gives to a row, or took with it.
fn told<'d>(delta: &'d RowDelta, key: &str) -> Option<&'d str> {
    told_any(delta, key).next()
}

/// The names that a change tells, the newer first.
fn told_any<'d>(delta: &'d RowDelta, key: &str) -> impl Iterator<Item = &'d str> {
    let column = delta.columns.iter().find(|column| column.column == key);
    let sides = column.map(|column| match &column.change {
        DatumChange::Whole { old, new } => [new.as_ref(), old.as_ref()],
        DatumChange::Elements { .. } => [None, None],
    });
    sides.into_iter().flatten().flatten().filter_map(Datum::as_str)
}
