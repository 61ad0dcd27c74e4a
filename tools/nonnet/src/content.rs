//! The rows of some tables at one moment, and what people call them.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use nonnet_client::Connection;
use nonnet_schema::{ColumnSchema, DatabaseSchema, Datum, TableSchema, Uuid, parse_uuid};
use serde_json::{Map, Value, json};

use crate::catalog;
use crate::notation::{friendly_atom, to_friendly};
use crate::source::Source;
use crate::wanted::{RowName, friendly_owned, friendly_references};

/// A row: the datum of each column.
pub(crate) type Row = BTreeMap<String, Datum>;

/// The rows of some tables.
#[derive(Clone, Debug)]
pub(crate) struct Rows<'a> {
    schema: &'a DatabaseSchema,
    tables: BTreeMap<String, BTreeMap<Uuid, Row>>,
    /// For each table its rows by name.
    names: HashMap<String, HashMap<String, Uuid>>,
}

impl<'a> Rows<'a> {
    /// Reads the tables and all that they refer to, in one transaction.
    pub(crate) async fn read(connection: &Connection, schema: &'a DatabaseSchema, tables: &[&str]) -> Result<Self> {
        Self::read_from(&Source::Server(connection), schema, tables).await
    }

    /// The same from wherever rows are.
    pub(crate) async fn read_from(source: &Source<'_>, schema: &'a DatabaseSchema, tables: &[&str]) -> Result<Self> {
        let names = catalog::closure(schema, tables.iter().copied());
        let select = |table: &String| json!({"op": "select", "table": table, "where": []});
        let results = source.select(schema, names.iter().map(select).collect()).await?;
        let mut rows = Self::none(schema);
        for (name, result) in names.iter().zip(&results) {
            rows.add_table(name, result)?;
        }
        Ok(rows)
    }

    /// No rows.
    pub(crate) fn none(schema: &'a DatabaseSchema) -> Self {
        Self {
            schema,
            tables: BTreeMap::new(),
            names: HashMap::new(),
        }
    }

    /// Puts rows in the place of those of a table, as a `select` gives them.
    pub(crate) fn add_table(&mut self, name: &str, selected: &[Map<String, Value>]) -> Result<()> {
        let table = catalog::known_table(self.schema, name)?;
        let key = catalog::key_column(table).map(|key| key.name.as_str());
        let (mut rows, mut names) = (BTreeMap::new(), HashMap::new());
        for members in selected {
            let (uuid, row) = parse_row(table, members).with_context(|| format!("a row of {name} from the server"))?;
            if let Some(name) = key.and_then(|key| row.get(key)?.as_str()) {
                names.insert(name.to_owned(), uuid);
            }
            rows.insert(uuid, row);
        }
        self.names.insert(name.to_owned(), names);
        self.tables.insert(name.to_owned(), rows);
        Ok(())
    }

    /// The rows of a table.
    pub(crate) fn table(&self, name: &str) -> impl Iterator<Item = (Uuid, &Row)> {
        self.tables
            .get(name)
            .into_iter()
            .flatten()
            .map(|(uuid, row)| (*uuid, row))
    }

    /// A row.
    pub(crate) fn row(&self, table: &str, uuid: Uuid) -> Option<&Row> {
        self.tables.get(table)?.get(&uuid)
    }

    /// The row of that name.
    pub(crate) fn find(&self, table: &str, key: &str) -> Option<(Uuid, &Row)> {
        let uuid = *self.names.get(table)?.get(key)?;
        Some((uuid, self.row(table, uuid)?))
    }

    /// What people call a row: its name, or its UUID where it has none.
    pub(crate) fn name_of(&self, table: &TableSchema, uuid: Uuid) -> RowName {
        let key = || {
            let column = catalog::key_column(table)?;
            self.row(&table.name, uuid)?
                .get(column.name.as_str())?
                .as_str()
                .map(str::to_owned)
        };
        key().map_or(RowName::Uuid(uuid), RowName::Key)
    }

    /// A datum as files have it.
    pub(crate) fn friendly(&self, column: &ColumnSchema, datum: &Datum) -> Value {
        match catalog::target(self.schema, column) {
            Some(target) if column.type_.value.is_none() && target.is_root => {
                let names = datum.keys().filter_map(nonnet_schema::Atom::as_uuid);
                friendly_references(column, names.map(|uuid| self.name_of(target, uuid)).collect())
            }
            Some(target) if column.type_.value.is_none() && self.tables.contains_key(target.name.as_str()) => {
                let rows = datum.keys().filter_map(|uuid| self.row(&target.name, uuid.as_uuid()?));
                friendly_owned(target, rows.map(|row| |name: &str| row.get(name).cloned()))
            }
            _ => to_friendly(datum, &column.type_, &mut |_, atom| friendly_atom(atom)),
        }
    }
}

/// Reads a row as the server sends it.
fn parse_row(table: &TableSchema, members: &Map<String, Value>) -> Result<(Uuid, Row)> {
    let uuid = members.get("_uuid").and_then(|uuid| parse_uuid(uuid.get(1)?.as_str()?));
    let uuid = uuid.context("its _uuid is missing")?;
    let mut row = Row::new();
    for (name, value) in members.iter().filter(|(name, _)| !name.starts_with('_')) {
        let column = catalog::known_column(table, name)?;
        let datum = Datum::parse(value, &column.type_, None).with_context(|| format!("column {name}"))?;
        row.insert(name.clone(), datum);
    }
    Ok((uuid, row))
}
