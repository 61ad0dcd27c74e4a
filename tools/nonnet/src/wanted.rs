//! What a state file wants of one row: read from JSON under the schema of its table.

use std::collections::BTreeMap;

use nonnet_schema::{AtomicType, ColumnSchema, DatabaseSchema, Datum, TableSchema, Uuid, parse_uuid};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::catalog;
use crate::notation::{friendly_atom, kind_of, parse_datum, to_friendly};

/// The plugin, and table, of containers.
pub(crate) const LXC: &str = "lxc";

/// What a file wants one column to be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// In the JSON of files, in canonical order, complete: what is compared and shown.
    pub(crate) friendly: Value,
    /// What goes to the server.
    pub(crate) content: Content,
}

/// What goes to the server for a column.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Datum(Datum),
    References(Vec<RowName>),
    /// Rows of this table that live and die with their owner: their columns.
    Owned(String, Vec<BTreeMap<String, Datum>>),
}

/// How a row is referred to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowName {
    Key(String),
    Uuid(Uuid),
}

/// A row that a file wants.
#[derive(Clone, Debug)]
pub(crate) struct WantedRow {
    pub(crate) table: String,
    /// What people call it.
    pub(crate) key: String,
    /// Where it stands, for messages.
    pub(crate) place: String,
    /// The columns that the file mentions, but the key.
    pub(crate) columns: BTreeMap<String, Wanted>,
    /// What a new row has in columns that the file does not mention, where that is not the schema's default.
    pub(crate) defaults: BTreeMap<String, Wanted>,
}

/// What is wrong with a document.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{place}: {text}")]
pub(crate) struct StateError {
    pub(crate) place: String,
    pub(crate) text: String,
}

pub(crate) type Result<T> = std::result::Result<T, StateError>;

/// Reads a row of a table that files can describe.
pub(crate) fn read_row(table: &TableSchema, json: &Value, place: &str, schema: &DatabaseSchema) -> Result<WantedRow> {
    let Value::Object(members) = json else {
        return fault(place, expected("an object", json));
    };
    let Some(key_column) = catalog::key_column(table) else {
        return fault(place, format!("rows of {} have no names", table.name));
    };
    let Some(key_json) = members.get(key_column.name.as_str()) else {
        return fault(place, format!("\"{}\" is missing", key_column.name));
    };
    let key_place = format!("{place}.{}", key_column.name);
    let key_datum = parse_datum(key_json, &key_column.type_).or_else(|error| fault(&key_place, error.to_string()))?;
    let Some(key) = key_datum.as_str().filter(|key| !key.is_empty()).map(str::to_owned) else {
        return fault(&key_place, "must not be empty");
    };
    let mut columns = BTreeMap::new();
    for (name, member) in members
        .iter()
        .filter(|(name, _)| !is_comment(name) && name.as_str() != key_column.name)
    {
        let place = format!("{place}.{name}");
        columns.insert(name.clone(), read_column(table, name, member, &place, schema)?);
    }
    let mut defaults = BTreeMap::new();
    if table.name == LXC && table.column_index("veth").is_some() {
        defaults.insert("veth".to_owned(), text(&format!("vi{key}")));
    }
    Ok(WantedRow {
        table: table.name.to_string(),
        key,
        place: place.to_owned(),
        columns,
        defaults,
    })
}

fn read_column(table: &TableSchema, name: &str, json: &Value, place: &str, schema: &DatabaseSchema) -> Result<Wanted> {
    let column = catalog::known_column(table, name).or_else(|error| fault(place, error.to_string()))?;
    if !column.persistent {
        return fault(place, "is told by the server; it cannot be wanted");
    }
    match catalog::target(schema, column) {
        _ if column
            .type_
            .value
            .as_ref()
            .is_some_and(|value| value.kind == AtomicType::Uuid) =>
        {
            fault(place, "a map of references cannot be written in a file")
        }
        Some(target) if target.is_root => references(target, column, json, place),
        Some(target) => owned(target, column, json, place, schema),
        None => match parse_datum(json, &column.type_) {
            Ok(datum) => Ok(Wanted {
                friendly: to_friendly(&datum, &column.type_, &mut |_, atom| friendly_atom(atom)),
                content: Content::Datum(datum),
            }),
            Err(error) => fault(place, error.to_string()),
        },
    }
}

/// Rows that are written inside their owner.
fn owned(
    target: &TableSchema,
    column: &ColumnSchema,
    json: &Value,
    place: &str,
    schema: &DatabaseSchema,
) -> Result<Wanted> {
    let mut rows = Vec::new();
    for (at, item) in items_of(json).into_iter().enumerate() {
        let place = format!("{place}[{at}]");
        let Value::Object(members) = item else {
            return fault(&place, expected("an object", item));
        };
        let mut row: BTreeMap<String, Datum> = BTreeMap::new();
        for (_, column) in target.declared_columns().filter(|(_, column)| column.persistent) {
            row.insert(column.name.to_string(), Datum::default_for(&column.type_));
        }
        for (name, member) in members.iter().filter(|(name, _)| !is_comment(name)) {
            let place = format!("{place}.{name}");
            match read_column(target, name, member, &place, schema)?.content {
                Content::Datum(datum) => row.insert(name.clone(), datum),
                _ => return fault(&place, "cannot be written in a file"),
            };
        }
        rows.push(row);
    }
    check_count(rows.len(), column, place)?;
    Ok(Wanted {
        friendly: friendly_owned(target, rows.iter().map(|row| |name: &str| row.get(name).cloned())),
        content: Content::Owned(target.name.to_string(), rows),
    })
}

/// Rows that live with their owner, as files have them: complete, in canonical order.
pub(crate) fn friendly_owned<F: Fn(&str) -> Option<Datum>>(
    table: &TableSchema,
    rows: impl Iterator<Item = F>,
) -> Value {
    let mut objects: Vec<Map<String, Value>> = Vec::new();
    for row in rows {
        let mut object = Map::new();
        for (_, column) in table.declared_columns().filter(|(_, column)| column.persistent) {
            let datum = row(&column.name).unwrap_or_else(|| Datum::default_for(&column.type_));
            if datum != Datum::default_for(&column.type_) {
                let friendly = to_friendly(&datum, &column.type_, &mut |_, atom| friendly_atom(atom));
                object.insert(column.name.to_string(), friendly);
            }
        }
        objects.push(object);
    }
    objects.sort_by_cached_key(|object| Value::Object(object.clone()).to_string());
    Value::Array(objects.into_iter().map(Value::Object).collect())
}

/// Names of rows, as files have them: in canonical order.
pub(crate) fn friendly_references(column: &ColumnSchema, mut names: Vec<RowName>) -> Value {
    names.sort();
    let mut names: Vec<Value> = names
        .into_iter()
        .map(|name| match name {
            RowName::Key(key) => key.into(),
            RowName::Uuid(uuid) => uuid.hyphenated().to_string().into(),
        })
        .collect();
    if column.type_.max == 1 {
        names.pop().unwrap_or(Value::Null)
    } else {
        Value::Array(names)
    }
}

fn references(target: &TableSchema, column: &ColumnSchema, json: &Value, place: &str) -> Result<Wanted> {
    let has_names = catalog::key_column(target).is_some();
    let mut names = Vec::new();
    for item in items_of(json) {
        let name = match item {
            Value::String(text) if has_names => RowName::Key(text.clone()),
            Value::Number(number) if has_names => RowName::Key(number.to_string()),
            Value::String(text) => match parse_uuid(text) {
                Some(uuid) => RowName::Uuid(uuid),
                None => {
                    return fault(
                        place,
                        format!("rows of {} have no names; their UUID is expected", target.name),
                    );
                }
            },
            other => return fault(place, expected(&format!("the name of a row of {}", target.name), other)),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    check_count(names.len(), column, place)?;
    Ok(Wanted {
        friendly: friendly_references(column, names.clone()),
        content: Content::References(names),
    })
}

fn check_count(count: usize, column: &ColumnSchema, place: &str) -> Result<()> {
    let (min, max) = (column.type_.min as usize, column.type_.max as usize);
    match count {
        count if count < min => fault(place, "must not be empty"),
        count if count > max => fault(place, format!("{count} elements; at most {max} are possible")),
        _ => Ok(()),
    }
}

/// What stands in an array, or alone, or not at all.
fn items_of(json: &Value) -> Vec<&Value> {
    match json {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    }
}

fn text(value: &str) -> Wanted {
    Wanted {
        friendly: value.into(),
        content: Content::Datum(Datum::scalar(nonnet_schema::Atom::from(value))),
    }
}

pub(crate) fn is_comment(name: &str) -> bool {
    name.starts_with('_')
}

pub(crate) fn expected(what: &str, found: &Value) -> String {
    format!("{what} is expected, not {}", kind_of(found))
}

pub(crate) fn fault<T>(place: &str, text: impl Into<String>) -> Result<T> {
    Err(StateError {
        place: place.to_owned(),
        text: text.into(),
    })
}
