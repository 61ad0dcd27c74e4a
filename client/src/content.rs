//! The rows a replica holds, and how updates change them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use nonnet_schema::{ColumnSchema, DatabaseSchema, Datum, TableSchema, UNLIMITED, Uuid, parse_uuid};
use serde_json::{Map, Value, json};

use crate::{
    monitor::{MonitorVersion, Update},
    replica::{ReplicaError, RowChange, UpdateFault},
};

/// One row: a datum for each selected column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    columns: Arc<[Arc<str>]>,
    data: Vec<Datum>,
}

/// The rows of one table.
#[derive(Clone, Debug)]
pub struct Table {
    name: String,
    /// The selected columns, sorted by name.
    columns: Arc<[Arc<str>]>,
    schemas: Vec<ColumnSchema>,
    rows: HashMap<Uuid, Arc<Row>>,
}

/// The rows of all selected tables.
#[derive(Debug)]
pub(crate) struct Content {
    schema: DatabaseSchema,
    tables: BTreeMap<String, Table>,
}

impl Row {
    /// The datum of a column; none if it was not selected.
    pub fn get(&self, column: &str) -> Option<&Datum> {
        let at = self.columns.binary_search_by(|name| (**name).cmp(column)).ok()?;
        self.data.get(at)
    }

    /// All selected columns in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.columns.iter().map(|name| &**name).zip(&self.data)
    }
}

impl Table {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row with that UUID.
    pub fn get(&self, uuid: Uuid) -> Option<&Arc<Row>> {
        self.rows.get(&uuid)
    }

    /// All rows, in no order.
    pub fn rows(&self) -> impl Iterator<Item = (Uuid, &Arc<Row>)> {
        self.rows.iter().map(|(uuid, row)| (*uuid, row))
    }

    fn select(schema: &TableSchema, columns: Option<&[String]>) -> Result<Self, ReplicaError> {
        let mut schemas: Vec<ColumnSchema> = match columns {
            None => schema.declared_columns().map(|(_, column)| column.clone()).collect(),
            Some(columns) => columns
                .iter()
                .map(|column| find_column(schema, column))
                .collect::<Result<_, _>>()?,
        };
        schemas.sort_by(|one, other| one.name.cmp(&other.name));
        schemas.dedup_by(|one, other| one.name == other.name);
        let columns = schemas.iter().map(|column| Arc::from(column.name.as_str())).collect();
        Ok(Self {
            name: schema.name.to_string(),
            columns,
            schemas,
            rows: HashMap::new(),
        })
    }

    /// Takes one row's change; gives what became of it, if anything did.
    fn apply(&mut self, version: MonitorVersion, name: &str, change: &Value) -> Result<Option<RowChange>, UpdateFault> {
        let uuid = parse_uuid(name).ok_or(UpdateFault::NotUuid)?;
        let old = self.rows.get(&uuid).cloned();
        let new = match (version, change.as_object()) {
            (MonitorVersion::V1, Some(change)) => self.row_after_v1(change)?,
            (_, Some(change)) => self.row_after_v2(change, old.as_deref())?,
            (_, None) => return Err(UpdateFault::Shape),
        };
        let new = new.map(Arc::new);
        match &new {
            Some(row) => self.rows.insert(uuid, Arc::clone(row)),
            None => self.rows.remove(&uuid),
        };
        Ok((old != new).then(|| RowChange {
            table: self.name.clone(),
            uuid,
            old,
            new,
        }))
    }

    /// A row after `{"old":..., "new":...}`: `new` has all columns (RFC 7047 4.1.6).
    fn row_after_v1(&self, change: &Map<String, Value>) -> Result<Option<Row>, UpdateFault> {
        match (change.get("new"), change.get("old")) {
            (Some(Value::Object(new)), _) => self.with_columns(self.default_row(), new, |_, new, _| new).map(Some),
            (None, Some(_)) => Ok(None),
            _ => Err(UpdateFault::Shape),
        }
    }

    /// A row after one of `initial`, `insert`, `modify`, `delete` (`ovsdb-server(7)` 4.1.14).
    fn row_after_v2(&self, change: &Map<String, Value>, old: Option<&Row>) -> Result<Option<Row>, UpdateFault> {
        if let Some(Value::Object(new)) = change.get("initial").or_else(|| change.get("insert")) {
            return self.with_columns(self.default_row(), new, |_, new, _| new).map(Some);
        }
        if let Some(Value::Object(modified)) = change.get("modify") {
            let old = old.ok_or(UpdateFault::Unknown)?;
            let apply = |old: &Datum, diff: Datum, column: &ColumnSchema| old.with_diff(&diff, &column.type_);
            return self.with_columns(old.clone(), modified, apply).map(Some);
        }
        if change.contains_key("delete") {
            Ok(None)
        } else {
            Err(UpdateFault::Shape)
        }
    }

    /// Changes the columns of a row that are given; `combine` gets the old datum and the one given.
    fn with_columns(
        &self,
        mut row: Row,
        given: &Map<String, Value>,
        combine: impl Fn(&Datum, Datum, &ColumnSchema) -> Datum,
    ) -> Result<Row, UpdateFault> {
        for (name, value) in given {
            let at = self
                .columns
                .binary_search_by(|column| (**column).cmp(name.as_str()))
                .map_err(|_| UpdateFault::Column(name.clone()))?;
            let (Some(column), Some(datum)) = (self.schemas.get(at), row.data.get_mut(at)) else {
                return Err(UpdateFault::Column(name.clone()));
            };
            // A difference may have fewer or more elements than the column.
            let parsed =
                Datum::parse(value, &column.type_.resized(0, UNLIMITED), None).map_err(|error| UpdateFault::Value {
                    column: name.clone(),
                    error,
                })?;
            *datum = combine(datum, parsed, column);
        }
        Ok(row)
    }

    fn default_row(&self) -> Row {
        Row {
            columns: Arc::clone(&self.columns),
            data: self
                .schemas
                .iter()
                .map(|column| Datum::default_for(&column.type_))
                .collect(),
        }
    }
}

impl Content {
    /// No rows yet, of the tables selected.
    pub(crate) fn select(
        schema: DatabaseSchema,
        selected: &[(String, Option<Vec<String>>)],
    ) -> Result<Self, ReplicaError> {
        let mut tables = BTreeMap::new();
        for (name, columns) in selected {
            let at = schema.table_index(name).ok_or_else(|| ReplicaError::NoTable {
                database: schema.name.to_string(),
                table: name.clone(),
                known: schema.tables().iter().map(|table| table.name.to_string()).collect(),
            })?;
            tables.insert(name.clone(), Table::select(schema.table(at), columns.as_deref())?);
        }
        if selected.is_empty() {
            for table in schema.tables() {
                tables.insert(table.name.to_string(), Table::select(table, None)?);
            }
        }
        Ok(Self { schema, tables })
    }

    pub(crate) fn schema(&self) -> &DatabaseSchema {
        &self.schema
    }

    pub(crate) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// What asks a server for these tables.
    pub(crate) fn monitor_requests(&self) -> Map<String, Value> {
        let request = |table: &Table| {
            let columns: Vec<&str> = table.columns.iter().map(|name| &**name).collect();
            json!([{"columns": columns}])
        };
        self.tables
            .iter()
            .map(|(name, table)| (name.clone(), request(table)))
            .collect()
    }

    /// Whether the other's rows have the same columns of the same types.
    pub(crate) fn has_same_shape(&self, other: &Self) -> bool {
        self.tables.len() == other.tables.len()
            && self.tables.iter().all(|(name, table)| {
                other
                    .tables
                    .get(name)
                    .is_some_and(|other| other.schemas == table.schemas)
            })
    }

    /// Takes over the rows of another of the same shape.
    pub(crate) fn adopt_rows(&mut self, other: &Self) {
        for (name, table) in &mut self.tables {
            if let Some(other) = other.tables.get(name) {
                table.rows.clone_from(&other.rows);
            }
        }
    }

    /// Takes an update.
    pub(crate) fn apply(&mut self, update: &Update) -> Result<Vec<RowChange>, ReplicaError> {
        let mut changes = Vec::new();
        for (name, rows) in &update.tables {
            let fault = |row: &str, cause| ReplicaError::Update {
                table: name.clone(),
                row: row.to_owned(),
                cause,
            };
            let (Some(table), Some(rows)) = (self.tables.get_mut(name), rows.as_object()) else {
                return Err(fault("", UpdateFault::Shape));
            };
            for (row, change) in rows {
                let change = table
                    .apply(update.version, row, change)
                    .map_err(|cause| fault(row, cause))?;
                changes.extend(change);
            }
        }
        Ok(changes)
    }

    /// What has to change about the earlier rows to make them these.
    pub(crate) fn changes_since(&self, earlier: &Self) -> Vec<RowChange> {
        let mut changes = Vec::new();
        let none = HashMap::new();
        for (name, table) in &self.tables {
            let old_rows = earlier.tables.get(name).map_or(&none, |table| &table.rows);
            let change = |uuid: &Uuid, old: Option<&Arc<Row>>, new: Option<&Arc<Row>>| RowChange {
                table: name.clone(),
                uuid: *uuid,
                old: old.cloned(),
                new: new.cloned(),
            };
            let come = table
                .rows
                .iter()
                .filter(|(uuid, row)| old_rows.get(*uuid) != Some(*row));
            changes.extend(come.map(|(uuid, row)| change(uuid, old_rows.get(uuid), Some(row))));
            let gone = old_rows.iter().filter(|(uuid, _)| !table.rows.contains_key(*uuid));
            changes.extend(gone.map(|(uuid, row)| change(uuid, Some(row), None)));
        }
        changes
    }
}

fn find_column(schema: &TableSchema, column: &str) -> Result<ColumnSchema, ReplicaError> {
    let at = schema.column_index(column).ok_or_else(|| ReplicaError::NoColumn {
        table: schema.name.to_string(),
        column: column.to_owned(),
        known: schema
            .declared_columns()
            .map(|(_, column)| column.name.to_string())
            .collect(),
    })?;
    Ok(schema.column(at).clone())
}
