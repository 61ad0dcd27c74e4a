//! The operations of a transaction, their shape checked (RFC 7047 5.2).
//!
//! This is the first of two steps: members, their kinds, the table. What a row, a condition or a mutation says is parsed when the
//! operation runs, since it may name rows that earlier operations inserted.

use serde_json::{Map, Value};

use crate::error::{OvsdbError, ParseFault};
use crate::reader::{Kinds, ObjectReader};
use crate::schema::{DatabaseSchema, TableIndex};

/// One operation, its arguments borrowed from the request.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// RFC 7047 5.2.1, and `uuid` (ovsdb-server(7) 5.2.1).
    Insert {
        /// Where the row goes.
        table: TableIndex,
        /// Its name within the transaction, an `<id>`.
        uuid_name: Option<&'a str>,
        /// The UUID it shall have.
        uuid: Option<&'a Value>,
        /// Its columns.
        row: &'a Value,
    },
    /// RFC 7047 5.2.2, and `sort`.
    Select {
        /// The table.
        table: TableIndex,
        /// Which rows.
        condition: &'a Value,
        /// Which columns; None for all.
        columns: Option<&'a Value>,
        /// Columns to sort by.
        sort: Option<&'a Value>,
    },
    /// RFC 7047 5.2.3.
    Update {
        /// The table.
        table: TableIndex,
        /// Which rows.
        condition: &'a Value,
        /// The new values.
        row: &'a Value,
    },
    /// RFC 7047 5.2.4.
    Mutate {
        /// The table.
        table: TableIndex,
        /// Which rows.
        condition: &'a Value,
        /// The mutations, in order.
        mutations: &'a [Value],
    },
    /// RFC 7047 5.2.5.
    Delete {
        /// The table.
        table: TableIndex,
        /// Which rows.
        condition: &'a Value,
    },
    /// RFC 7047 5.2.6.
    Wait {
        /// Milliseconds; None for ever.
        timeout: Option<&'a Value>,
        /// The table.
        table: TableIndex,
        /// Which rows.
        condition: &'a Value,
        /// Which columns; None for all.
        columns: Option<&'a Value>,
        /// `==` or `!=`.
        until: &'a Value,
        /// What they are compared with.
        rows: &'a [Value],
    },
    /// RFC 7047 5.2.7.
    Commit {
        /// Whether the reply waits for stable storage.
        durable: bool,
    },
    /// RFC 7047 5.2.8.
    Abort,
    /// RFC 7047 5.2.9.
    Comment {
        /// The text.
        text: &'a str,
    },
    /// RFC 7047 5.2.10.
    Assert {
        /// The lock's name.
        lock: &'a str,
    },
}

impl<'a> Operation<'a> {
    /// Parses the operation at `index` (from 0) of `count`.
    ///
    /// # Errors
    /// The first member that is missing or of a wrong kind, else the members that do not belong.
    pub fn parse(json: &'a Value, schema: &DatabaseSchema, index: usize, count: usize) -> Result<Self, OvsdbError> {
        let subject = format!("ovsdb operation {} of {count}", index + 1);
        let mut reader = ObjectReader::new(json, subject.into());
        let name = reader.required("op", Kinds::ID).and_then(Value::as_str);
        let operation = name.and_then(|name| {
            Self::parse_members(name, &mut reader, schema).unwrap_or_else(|UnknownOperation| {
                reader.raise(ParseFault::UnknownOperation(name.into()));
                None
            })
        });
        let json = reader.json();
        reader.finish()?;
        // A reader without a fault has given every required member.
        operation.ok_or_else(|| {
            let kind = crate::ErrorKind::Internal(format!("{}:{}: no operation and no fault", file!(), line!()));
            OvsdbError::in_json(kind, json)
        })
    }

    fn parse_members(
        name: &str,
        reader: &mut ObjectReader<'a>,
        schema: &DatabaseSchema,
    ) -> Result<Option<Self>, UnknownOperation> {
        Ok(match name {
            "insert" => Self::parse_insert(reader, schema),
            "select" => Self::parse_select(reader, schema),
            "update" => Self::parse_update(reader, schema),
            "mutate" => Self::parse_mutate(reader, schema),
            "delete" => Self::parse_delete(reader, schema),
            "wait" => Self::parse_wait(reader, schema),
            "commit" => reader.required("durable", Kinds::BOOLEAN).map(|durable| Self::Commit {
                durable: *durable == true,
            }),
            "abort" => Some(Self::Abort),
            "comment" => reader
                .required("comment", Kinds::STRING)
                .and_then(Value::as_str)
                .map(|text| Self::Comment { text }),
            "assert" => reader
                .required("lock", Kinds::ID)
                .and_then(Value::as_str)
                .map(|lock| Self::Assert { lock }),
            _ => return Err(UnknownOperation),
        })
    }

    fn parse_insert(reader: &mut ObjectReader<'a>, schema: &DatabaseSchema) -> Option<Self> {
        let table = parse_table(reader, schema);
        let uuid_name = reader.optional("uuid-name", Kinds::ID).and_then(Value::as_str);
        let uuid = reader.optional("uuid", Kinds::STRING);
        let row = reader.required("row", Kinds::OBJECT);
        Some(Self::Insert {
            table: table?,
            uuid_name,
            uuid,
            row: row?,
        })
    }

    fn parse_select(reader: &mut ObjectReader<'a>, schema: &DatabaseSchema) -> Option<Self> {
        let table = parse_table(reader, schema);
        let condition = reader.required("where", Kinds::ARRAY);
        let columns = reader.optional("columns", Kinds::ARRAY);
        let sort = reader.optional("sort", Kinds::ARRAY);
        Some(Self::Select {
            table: table?,
            condition: condition?,
            columns,
            sort,
        })
    }

    fn parse_update(reader: &mut ObjectReader<'a>, schema: &DatabaseSchema) -> Option<Self> {
        let table = parse_table(reader, schema);
        let condition = reader.required("where", Kinds::ARRAY);
        let row = reader.required("row", Kinds::OBJECT);
        Some(Self::Update {
            table: table?,
            condition: condition?,
            row: row?,
        })
    }

    fn parse_mutate(reader: &mut ObjectReader<'a>, schema: &DatabaseSchema) -> Option<Self> {
        let table = parse_table(reader, schema);
        let condition = reader.required("where", Kinds::ARRAY);
        let mutations = reader.required("mutations", Kinds::ARRAY).and_then(Value::as_array);
        Some(Self::Mutate {
            table: table?,
            condition: condition?,
            mutations: mutations?,
        })
    }

    fn parse_delete(reader: &mut ObjectReader<'a>, schema: &DatabaseSchema) -> Option<Self> {
        let table = parse_table(reader, schema);
        let condition = reader.required("where", Kinds::ARRAY);
        Some(Self::Delete {
            table: table?,
            condition: condition?,
        })
    }

    fn parse_wait(reader: &mut ObjectReader<'a>, schema: &DatabaseSchema) -> Option<Self> {
        let timeout = reader.optional("timeout", Kinds::INTEGER);
        let table = parse_table(reader, schema);
        let condition = reader.required("where", Kinds::ARRAY);
        let columns = reader.optional("columns", Kinds::ARRAY);
        let until = reader.required("until", Kinds::STRING);
        let rows = reader.required("rows", Kinds::ARRAY).and_then(Value::as_array);
        Some(Self::Wait {
            timeout,
            table: table?,
            condition: condition?,
            columns,
            until: until?,
            rows: rows?,
        })
    }

    /// The operation's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Insert { .. } => "insert",
            Self::Select { .. } => "select",
            Self::Update { .. } => "update",
            Self::Mutate { .. } => "mutate",
            Self::Delete { .. } => "delete",
            Self::Wait { .. } => "wait",
            Self::Commit { .. } => "commit",
            Self::Abort => "abort",
            Self::Comment { .. } => "comment",
            Self::Assert { .. } => "assert",
        }
    }

    /// False for the operations that a read-only database refuses.
    pub fn is_read_only(&self) -> bool {
        !matches!(
            self,
            Self::Insert { .. } | Self::Update { .. } | Self::Mutate { .. } | Self::Delete { .. } | Self::Commit { .. }
        )
    }
}

/// The members of a JSON object that holds a row; an array or a scalar has none.
pub fn row_members(json: &Value) -> impl Iterator<Item = (&String, &Value)> {
    json.as_object().into_iter().flat_map(Map::iter)
}

struct UnknownOperation;

fn parse_table(reader: &mut ObjectReader<'_>, schema: &DatabaseSchema) -> Option<TableIndex> {
    let name = reader.required("table", Kinds::ID)?.as_str()?;
    let table = schema.table_index(name);
    if table.is_none() {
        reader.raise(ParseFault::UnknownTable(name.into()));
    }
    table
}
