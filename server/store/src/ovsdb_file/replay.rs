//! What transaction records do to rows.

use std::collections::BTreeMap;

use nonnet_schema::{ColumnIndex, DatabaseSchema, Datum, TableIndex, TableSchema, UNLIMITED, Uuid, json, parse_uuid};
use serde_json::Value;

use super::RecordFault;
use crate::limits::OVSDB_SHOWN_BYTES_MAX;
use crate::open::StoredRow;

/// `_date` values below this are seconds: old servers wrote them so (milliseconds were that small in February 1970 only).
const DATE_SECONDS_END: u64 = 1 << 32;

/// A row with its fields after the transaction; None where it is deleted.
type Changed = ((TableIndex, Uuid), Option<Vec<Datum>>);

/// The rows so far.
pub(super) struct Replay {
    schema: DatabaseSchema,
    /// Fields by default, for each table.
    templates: Vec<Vec<Datum>>,
    rows: BTreeMap<(TableIndex, Uuid), Vec<Datum>>,
    date_ms: Option<u64>,
}

/// A row that is about to change, for the words of a fault.
struct Place<'a> {
    table: &'a TableSchema,
    uuid: Uuid,
}

impl Replay {
    pub(super) fn new(schema: DatabaseSchema) -> Self {
        let templates = schema.tables().iter().map(TableSchema::default_fields).collect();
        Self {
            schema,
            templates,
            rows: BTreeMap::new(),
            date_ms: None,
        }
    }

    /// Applies the whole transaction, or nothing of it.
    pub(super) fn apply(&mut self, transaction: &Value) -> Result<(), RecordFault> {
        let is_diff = transaction.get("_is_diff") == Some(&Value::Bool(true));
        let (mut changed, mut date_ms) = (Vec::new(), None);
        for (name, member) in transaction.as_object().into_iter().flatten() {
            match (name.as_str(), json::as_integer(member)) {
                ("_comment", _) => {}
                ("_is_diff", _) if member.is_boolean() => {}
                ("_date", Some(date)) => date_ms = Some(milliseconds(date)),
                _ => {
                    let table = self.schema.table_index(name).ok_or_else(|| RecordFault::UnknownTable {
                        table: name.clone(),
                        syntax: shown(transaction),
                    })?;
                    self.table(table, member, is_diff, &mut changed)?;
                }
            }
        }
        for (key, fields) in changed {
            match fields {
                Some(fields) => self.rows.insert(key, fields),
                None => self.rows.remove(&key),
            };
        }
        self.date_ms = date_ms.or(self.date_ms);
        Ok(())
    }

    pub(super) fn finish(self) -> (DatabaseSchema, Vec<StoredRow>, Option<u64>) {
        let stored = |((table, uuid), fields)| StoredRow { table, uuid, fields };
        (self.schema, self.rows.into_iter().map(stored).collect(), self.date_ms)
    }

    fn table(
        &self,
        index: TableIndex,
        rows: &Value,
        is_diff: bool,
        changed: &mut Vec<Changed>,
    ) -> Result<(), RecordFault> {
        let table = self.schema.table(index);
        let name = table.name.as_str();
        let members = rows
            .as_object()
            .ok_or_else(|| RecordFault::NotObject(format!("table {name}")))?;
        for (text, row) in members {
            let uuid = parse_uuid(text).ok_or_else(|| RecordFault::BadUuid {
                table: name.to_owned(),
                text: text.clone(),
                syntax: shown(rows),
            })?;
            let place = Place { table, uuid };
            let old = self.rows.get(&(index, uuid));
            let new = match (row, old) {
                (Value::Null, None) => {
                    let table = name.to_owned();
                    return Err(RecordFault::UnknownRow { table, uuid });
                }
                (Value::Null, Some(_)) => None,
                (_, Some(old)) => Some(place.changed(old.clone(), row, is_diff)?),
                (_, None) => {
                    let template = self.templates.get(index.0).cloned().unwrap_or_default();
                    Some(place.changed(template, row, false)?)
                }
            };
            changed.push(((index, uuid), new));
        }
        Ok(())
    }
}

impl Place<'_> {
    /// The fields after the columns in `row` have been set, or changed by differences.
    fn changed(&self, mut fields: Vec<Datum>, row: &Value, is_diff: bool) -> Result<Vec<Datum>, RecordFault> {
        let columns = row
            .as_object()
            .ok_or_else(|| RecordFault::NotObject(format!("row {} of table {}", self.uuid, self.table.name)))?;
        for (name, value) in columns {
            let column = self.table.column_index(name).filter(|_| !name.starts_with('_'));
            let column = column.ok_or_else(|| RecordFault::UnknownColumn {
                table: self.table.name.to_string(),
                column: name.clone(),
                syntax: shown(row),
            })?;
            if let Some(field) = fields.get_mut(column.0) {
                *field = self.datum(field, column, value, is_diff)?;
            }
        }
        Ok(fields)
    }

    fn datum(&self, old: &Datum, column: ColumnIndex, value: &Value, is_diff: bool) -> Result<Datum, RecordFault> {
        let schema = self.table.column(column);
        let wrong = |error| RecordFault::Value {
            table: self.table.name.to_string(),
            uuid: self.uuid,
            column: schema.name.to_string(),
            error,
        };
        let type_ = &schema.type_;
        if !is_diff || !type_.is_composite() {
            return Datum::parse(value, type_, None).map_err(wrong);
        }
        // A difference holds what goes and what comes: it may be larger than any value of the column.
        let diff = Datum::parse(value, &type_.resized(0, UNLIMITED), None).map_err(wrong)?;
        let new = old.with_diff(&diff, type_);
        if (type_.min as usize..=type_.max as usize).contains(&new.len()) {
            return Ok(new);
        }
        Err(RecordFault::Size {
            table: self.table.name.to_string(),
            uuid: self.uuid,
            column: schema.name.to_string(),
            count: new.len(),
        })
    }
}

/// The text of a faulty object, cut where it is long.
fn shown(json: &Value) -> String {
    let mut text = json::to_text(json);
    if text.len() > OVSDB_SHOWN_BYTES_MAX {
        text.truncate(text.floor_char_boundary(OVSDB_SHOWN_BYTES_MAX));
        text.push_str("...");
    }
    text
}

fn milliseconds(date: i64) -> u64 {
    match u64::try_from(date).unwrap_or(0) {
        seconds @ 0..DATE_SECONDS_END => seconds * 1000,
        milliseconds => milliseconds,
    }
}
