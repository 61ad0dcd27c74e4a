//! Monitor requests: which tables, columns, rows and kinds of change a client wants to see (RFC 7047 4.1.5, ovsdb-server(7) 4.1.12).

use serde_json::Value;

use crate::condition::Condition;
use crate::error::{ErrorKind, OvsdbError};
use crate::reader::{Kinds, ObjectReader};
use crate::schema::{ColumnIndex, DatabaseSchema, TableIndex, TableSchema, UUID_COLUMN};

/// The kinds of change a client wants (RFC 7047 4.1.5, `<monitor-select>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "RFC 7047 has these four")]
pub struct Select {
    /// The rows that are there at the start.
    pub initial: bool,
    /// Rows that come.
    pub insert: bool,
    /// Rows that go.
    pub delete: bool,
    /// Rows that change.
    pub modify: bool,
}

/// What a client wants to see of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct MonitoredTable {
    /// The table.
    pub table: TableIndex,
    /// Each column with the kinds of change in which it is shown.
    pub columns: Vec<(ColumnIndex, Select)>,
    /// The kinds of change that any column is shown in.
    pub select: Select,
    /// Which rows, as a disjunction.
    pub condition: Condition,
}

/// All that one monitor asks for, by table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MonitorRequest {
    /// The tables, in the order of the schema, each once.
    pub tables: Vec<MonitoredTable>,
}

impl Select {
    /// All kinds of change.
    pub const ALL: Self = Self {
        initial: true,
        insert: true,
        delete: true,
        modify: true,
    };
    /// None.
    pub const NONE: Self = Self {
        initial: false,
        insert: false,
        delete: false,
        modify: false,
    };

    fn parse(json: &Value, table: &str) -> Result<Self, OvsdbError> {
        let mut reader = ObjectReader::new(json, format!("table {table} select").into());
        let mut flag = |name| reader.optional(name, Kinds::BOOLEAN).is_none_or(|flag| *flag == true);
        let select = Self {
            initial: flag("initial"),
            insert: flag("insert"),
            delete: flag("delete"),
            modify: flag("modify"),
        };
        reader.finish()?;
        Ok(select)
    }

    fn or(self, other: Self) -> Self {
        Self {
            initial: self.initial | other.initial,
            insert: self.insert | other.insert,
            delete: self.delete | other.delete,
            modify: self.modify | other.modify,
        }
    }
}

impl MonitorRequest {
    /// Parses `<monitor-requests>`; `conditional` where the method knows `where`.
    pub fn parse(json: &Value, schema: &DatabaseSchema, conditional: bool) -> Result<Self, OvsdbError> {
        let Some(requests) = json.as_object() else {
            return Err(OvsdbError::in_json(ErrorKind::MonitorRequestsNotObject, json));
        };
        let mut tables = Vec::with_capacity(requests.len());
        for (name, requests) in requests {
            let index = schema
                .table_index(name)
                .ok_or_else(|| OvsdbError::new(ErrorKind::MonitorTable(name.as_str().into())))?;
            tables.push(MonitoredTable::parse(
                index,
                schema.table(index),
                requests,
                conditional,
            )?);
        }
        Ok(Self { tables })
    }

    /// What is asked of a table.
    pub fn table(&self, index: TableIndex) -> Option<&MonitoredTable> {
        self.tables.iter().find(|table| table.table == index)
    }
}

impl MonitoredTable {
    fn parse(index: TableIndex, table: &TableSchema, json: &Value, conditional: bool) -> Result<Self, OvsdbError> {
        let mut parsed = Self {
            table: index,
            columns: Vec::new(),
            select: Select::NONE,
            condition: Condition::default(),
        };
        // A bare object stands for an array of one.
        let requests = json.as_array().map_or(std::slice::from_ref(json), Vec::as_slice);
        for (at, request) in requests.iter().enumerate() {
            let condition = parsed.parse_request(table, request, conditional)?;
            if at == 0 {
                parsed.condition = condition;
            }
        }
        Ok(parsed)
    }

    fn parse_request(&mut self, table: &TableSchema, json: &Value, conditional: bool) -> Result<Condition, OvsdbError> {
        let mut reader = ObjectReader::new(json, format!("table {}", table.name).into());
        let columns = reader.optional("columns", Kinds::ARRAY);
        let condition = if conditional {
            reader.optional("where", Kinds::ARRAY)
        } else {
            None
        };
        let select = reader.optional("select", Kinds::OBJECT);
        reader.finish()?;
        let condition = condition.map_or(Ok(Condition::default()), |json| Condition::parse(json, table, None))?;
        let select = select.map_or(Ok(Select::ALL), |json| Select::parse(json, &table.name))?;
        self.select = self.select.or(select);
        match columns {
            Some(columns) => self.add_columns(table, columns, select)?,
            None => {
                for (at, _) in table
                    .columns()
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| *at != UUID_COLUMN.0)
                {
                    self.add_column(table, ColumnIndex(at), select, json)?;
                }
            }
        }
        Ok(condition)
    }

    fn add_columns(&mut self, table: &TableSchema, json: &Value, select: Select) -> Result<(), OvsdbError> {
        for name in json.as_array().into_iter().flatten() {
            let Some(name) = name.as_str() else {
                return Err(OvsdbError::in_json(ErrorKind::ColumnNamesExpected, json));
            };
            let column = table
                .column_index(name)
                .ok_or_else(|| OvsdbError::in_json(ErrorKind::NotColumnName(name.into()), json))?;
            self.add_column(table, column, select, json)?;
        }
        Ok(())
    }

    fn add_column(
        &mut self,
        table: &TableSchema,
        column: ColumnIndex,
        select: Select,
        json: &Value,
    ) -> Result<(), OvsdbError> {
        if self.columns.iter().any(|(seen, _)| *seen == column) {
            let name = table.column(column).name.clone();
            return Err(OvsdbError::in_json(ErrorKind::RepeatedColumn(name), json));
        }
        self.columns.push((column, select));
        Ok(())
    }
}
