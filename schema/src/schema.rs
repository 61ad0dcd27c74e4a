//! Schemas of databases, tables and columns (RFC 7047 3.2).

use std::collections::BTreeMap;

use ecow::EcoString;
use serde_json::{Map, Value};

use crate::datum::Datum;
use crate::error::{ErrorKind, OvsdbError};
use crate::json::{self, is_id};
use crate::reader::{Kinds, ObjectReader};
use crate::types::{ColumnType, Constraint, Strength};

/// The column `_uuid` of every table.
pub const UUID_COLUMN: ColumnIndex = ColumnIndex(0);
/// The column `_version` of every table.
pub const VERSION_COLUMN: ColumnIndex = ColumnIndex(1);

/// The place of a table in its database: tables are sorted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableIndex(pub usize);

/// The place of a column in its table: `_uuid`, `_version`, then the schema's columns sorted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnIndex(pub usize);

/// The schema of a database.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseSchema {
    /// The database's name.
    pub name: EcoString,
    /// `x.y.z`, or empty.
    pub version: EcoString,
    /// A checksum that tools put there, or empty; never interpreted.
    pub cksum: EcoString,
    tables: Vec<TableSchema>,
}

/// The schema of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSchema {
    /// The table's name.
    pub name: EcoString,
    /// Parsed and reported; it has no effect.
    pub mutable: bool,
    /// False where rows live only while something refers to them strongly.
    pub is_root: bool,
    /// Most rows at the end of a transaction.
    pub max_rows: u32,
    /// Sets of columns whose values together are unique, each in the order given.
    pub indexes: Vec<Vec<ColumnIndex>>,
    columns: Vec<ColumnSchema>,
}

/// The schema of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSchema {
    /// The column's name.
    pub name: EcoString,
    /// What it holds.
    pub type_: ColumnType,
    /// False where only an insert may set it.
    pub mutable: bool,
    /// False where it is not stored.
    pub persistent: bool,
}

impl DatabaseSchema {
    /// Parses a `<database-schema>`.
    ///
    /// # Errors
    /// The first fault, with the JSON it is in.
    pub fn parse(json: &Value) -> Result<Self, OvsdbError> {
        let mut reader = ObjectReader::new(json, "database schema".into());
        let name = reader.required("name", Kinds::ID);
        let version = reader.optional("version", Kinds::STRING);
        let cksum = reader.optional("cksum", Kinds::STRING);
        let tables = reader.required("tables", Kinds::OBJECT);
        reader.finish()?;
        let text = |json: Option<&Value>| EcoString::from(json.and_then(Value::as_str).unwrap_or_default());
        let version = text(version);
        if !version.is_empty() && !is_version(&version) {
            return Err(OvsdbError::in_json(ErrorKind::SchemaVersion(version), json));
        }
        let mut schema = Self {
            name: text(name),
            version,
            cksum: text(cksum),
            tables: Vec::new(),
        };
        for (name, table) in tables.and_then(Value::as_object).into_iter().flatten() {
            check_name(name, json)?;
            schema.tables.push(TableSchema::parse(name, table)?);
        }
        schema.tables.sort_by(|a, b| a.name.cmp(&b.name));
        schema.settle()?;
        Ok(schema)
    }

    /// Parses the text of an `.ovsschema` file.
    ///
    /// # Errors
    /// Line and column where it is no JSON; else as [`Self::parse`].
    pub fn from_text(text: &str) -> Result<Self, SchemaTextError> {
        let json: Value = serde_json::from_str(text)?;
        Ok(Self::parse(&json)?)
    }

    /// Applies the rules that concern several tables at once (ovsdb-server(7) 3.2).
    fn settle(&mut self) -> Result<(), OvsdbError> {
        let is_root: BTreeMap<EcoString, bool> = self
            .tables
            .iter()
            .map(|table| (table.name.clone(), table.is_root))
            .collect();
        let all_are_roots = !is_root.values().any(|root| *root);
        for table in &mut self.tables {
            table.is_root |= all_are_roots;
            for column in &mut table.columns {
                let bases = [("key", Some(&column.type_.key)), ("value", column.type_.value.as_ref())];
                let references = bases
                    .into_iter()
                    .filter_map(|(role, base)| Some((role, base?.reference()?)));
                let (mut strong_to_leaf, mut weak) = (false, false);
                for (role, (target, strength)) in references {
                    let Some(target_is_root) = is_root.get(target) else {
                        let (column, table) = (column.name.clone(), target.clone());
                        return Err(OvsdbError::new(ErrorKind::UndefinedTable { column, role, table }));
                    };
                    strong_to_leaf |= strength == Strength::Strong && !all_are_roots && !target_is_root;
                    weak |= strength == Strength::Weak;
                }
                // What keeps a row alive must survive a restart; what vanishes by itself must be changeable.
                column.persistent |= strong_to_leaf;
                column.mutable |= weak;
            }
        }
        Ok(())
    }

    /// The tables, sorted by name; a [`TableIndex`] counts along them.
    pub fn tables(&self) -> &[TableSchema] {
        &self.tables
    }

    /// The place of the table of that name.
    pub fn table_index(&self, name: &str) -> Option<TableIndex> {
        self.tables
            .binary_search_by(|table| table.name.as_str().cmp(name))
            .ok()
            .map(TableIndex)
    }

    /// The table at `index`, which must come from this schema.
    pub fn table(&self, index: TableIndex) -> &TableSchema {
        &self.tables[index.0]
    }

    /// The normalized form, as `get_schema` answers it.
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("name".into(), self.name.as_str().into());
        for (name, text) in [("version", &self.version), ("cksum", &self.cksum)] {
            if !text.is_empty() {
                members.insert(name.into(), text.as_str().into());
            }
        }
        let all_are_roots = self.tables.iter().all(|table| table.is_root);
        let tables = self
            .tables
            .iter()
            .map(|table| (table.name.to_string(), table.to_json(!all_are_roots)));
        members.insert("tables".into(), Value::Object(tables.collect()));
        Value::Object(members)
    }

    /// The normalized form as compact text with sorted members.
    pub fn to_text(&self) -> String {
        json::to_text(&self.to_json())
    }
}

impl TableSchema {
    pub(crate) fn parse(name: &str, json: &Value) -> Result<Self, OvsdbError> {
        let mut reader = ObjectReader::new(json, format!("table schema for table {name}").into());
        let columns = reader.required("columns", Kinds::OBJECT);
        let mutable = reader.optional("mutable", Kinds::BOOLEAN);
        let max_rows = reader.optional("maxRows", Kinds::INTEGER);
        let is_root = reader.optional("isRoot", Kinds::BOOLEAN);
        let indexes = reader.optional("indexes", Kinds::ARRAY);
        reader.finish()?;
        let max_rows = match max_rows.and_then(json::as_integer) {
            Some(rows) if rows < 1 => return Err(OvsdbError::in_json(ErrorKind::MaxRowsTooSmall, json)),
            Some(rows) => u32::try_from(rows).unwrap_or(u32::MAX),
            None => u32::MAX,
        };
        let mut schema = Self {
            name: name.into(),
            mutable: mutable.is_none_or(|mutable| *mutable == Value::Bool(true)),
            is_root: is_root == Some(&Value::Bool(true)),
            max_rows,
            indexes: Vec::new(),
            columns: vec![implicit_column("_uuid", true), implicit_column("_version", false)],
        };
        let columns = columns.and_then(Value::as_object).into_iter().flatten();
        for (name, column) in columns {
            check_name(name, json)?;
            schema.columns.push(ColumnSchema::parse(name, column)?);
        }
        if schema.columns.len() == 2 {
            return Err(OvsdbError::in_json(ErrorKind::NoColumns, json));
        }
        // The implicit names begin with "_", which sorts before no letter but may not start another name.
        schema.columns[2..].sort_by(|a, b| a.name.cmp(&b.name));
        for index in indexes.and_then(Value::as_array).into_iter().flatten() {
            let columns = schema.parse_index(index)?;
            schema.indexes.push(columns);
        }
        Ok(schema)
    }

    pub(crate) fn parse_index(&self, json: &Value) -> Result<Vec<ColumnIndex>, OvsdbError> {
        let columns = self.parse_columns(json)?;
        if columns.is_empty() {
            return Err(OvsdbError::in_json(ErrorKind::EmptyIndex, json));
        }
        match columns
            .iter()
            .map(|column| self.column(*column))
            .find(|column| !column.persistent)
        {
            Some(column) => Err(OvsdbError::in_json(
                ErrorKind::EphemeralIndex(column.name.clone()),
                json,
            )),
            None => Ok(columns),
        }
    }

    /// Parses an array of distinct column names.
    pub fn parse_columns(&self, json: &Value) -> Result<Vec<ColumnIndex>, OvsdbError> {
        let distinct = || OvsdbError::in_json(ErrorKind::DistinctColumnsExpected, json);
        let mut columns = Vec::new();
        for name in json.as_array().ok_or_else(distinct)? {
            let name = name.as_str().ok_or_else(distinct)?;
            let column = self
                .column_index(name)
                .ok_or_else(|| OvsdbError::in_json(ErrorKind::NotColumnName(name.into()), json))?;
            if columns.contains(&column) {
                return Err(distinct());
            }
            columns.push(column);
        }
        Ok(columns)
    }

    /// All columns, `_uuid` and `_version` first; a [`ColumnIndex`] counts along them.
    pub fn columns(&self) -> &[ColumnSchema] {
        &self.columns
    }

    /// The schema's own columns with their places: all but `_uuid` and `_version`.
    pub fn declared_columns(&self) -> impl Iterator<Item = (ColumnIndex, &ColumnSchema)> + Clone {
        self.columns
            .iter()
            .enumerate()
            .skip(2)
            .map(|(at, column)| (ColumnIndex(at), column))
    }

    /// The column at `index`, which must come from this table.
    pub fn column(&self, index: ColumnIndex) -> &ColumnSchema {
        &self.columns[index.0]
    }

    /// The place of the column of that name.
    pub fn column_index(&self, name: &str) -> Option<ColumnIndex> {
        match name {
            "_uuid" => Some(UUID_COLUMN),
            "_version" => Some(VERSION_COLUMN),
            _ => {
                let declared = self.columns.get(2..)?;
                declared
                    .binary_search_by(|column| column.name.as_str().cmp(name))
                    .ok()
                    .map(|at| ColumnIndex(at + 2))
            }
        }
    }

    /// The place of the column of that name; the error shows `json`.
    pub fn column_named(&self, name: &str, json: &Value) -> Result<ColumnIndex, OvsdbError> {
        self.column_index(name).ok_or_else(|| {
            let kind = ErrorKind::UnknownColumn {
                column: name.into(),
                table: self.name.clone(),
            };
            OvsdbError::in_json(kind, json)
        })
    }

    /// The fields of a row that has everything by default; `_uuid` and `_version` are all zeros.
    pub fn default_fields(&self) -> Vec<Datum> {
        self.columns
            .iter()
            .map(|column| Datum::default_for(&column.type_))
            .collect()
    }

    /// The normalized form; `isRoot` is told where `with_root` says that it makes a difference.
    pub fn to_json(&self, with_root: bool) -> Value {
        let mut members = Map::new();
        let columns = self
            .declared_columns()
            .map(|(_, column)| (column.name.to_string(), column.to_json()));
        members.insert("columns".into(), Value::Object(columns.collect()));
        if !self.mutable {
            members.insert("mutable".into(), false.into());
        }
        if with_root && self.is_root {
            members.insert("isRoot".into(), true.into());
        }
        if self.max_rows != u32::MAX {
            members.insert("maxRows".into(), self.max_rows.into());
        }
        if !self.indexes.is_empty() {
            let names = |index: &Vec<ColumnIndex>| {
                Value::Array(
                    index
                        .iter()
                        .map(|column| self.column(*column).name.as_str().into())
                        .collect(),
                )
            };
            members.insert("indexes".into(), Value::Array(self.indexes.iter().map(names).collect()));
        }
        Value::Object(members)
    }
}

impl ColumnSchema {
    pub(crate) fn parse(name: &str, json: &Value) -> Result<Self, OvsdbError> {
        let mut reader = ObjectReader::new(json, format!("schema for column {name}").into());
        let mutable = reader.optional("mutable", Kinds::BOOLEAN);
        let ephemeral = reader.optional("ephemeral", Kinds::BOOLEAN);
        let type_ = reader.required("type", Kinds::STRING | Kinds::OBJECT);
        reader.finish()?;
        Ok(Self {
            name: name.into(),
            type_: ColumnType::parse(type_.unwrap_or(&Value::Null))?,
            mutable: mutable.is_none_or(|mutable| *mutable == Value::Bool(true)),
            persistent: ephemeral.is_none_or(|ephemeral| *ephemeral == Value::Bool(false)),
        })
    }

    /// The normalized form.
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("type".into(), self.type_.to_json());
        if !self.mutable {
            members.insert("mutable".into(), false.into());
        }
        if !self.persistent {
            members.insert("ephemeral".into(), true.into());
        }
        Value::Object(members)
    }
}

/// Why the text of a schema is none.
#[derive(Debug, thiserror::Error)]
pub enum SchemaTextError {
    /// It is not JSON; the message has line and column.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is JSON, but not a schema.
    #[error(transparent)]
    Schema(#[from] OvsdbError),
}

fn implicit_column(name: &str, persistent: bool) -> ColumnSchema {
    let key = crate::types::BaseType {
        kind: crate::atom::AtomicType::Uuid,
        constraint: Constraint::None,
    };
    ColumnSchema {
        name: name.into(),
        type_: ColumnType::scalar(key),
        mutable: false,
        persistent,
    }
}

pub(crate) fn check_name(name: &str, json: &Value) -> Result<(), OvsdbError> {
    if name.starts_with('_') {
        Err(OvsdbError::in_json(ErrorKind::ReservedName, json))
    } else if !is_id(name) {
        Err(OvsdbError::in_json(ErrorKind::NameNotId, json))
    } else {
        Ok(())
    }
}

fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 3
        && parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}
