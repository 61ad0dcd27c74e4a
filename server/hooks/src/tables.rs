//! The tables of `OpNonNet`: where their columns are, and what their rows want.
//!
//! Each table has a file with its columns and a pure function from a row to what it wants of the kernel. A new table is that file, its
//! part of the schema, and its name in the list below. There are no handlers for insert, update or delete.

pub(crate) mod switched;

use std::collections::BTreeMap;
use std::sync::Arc;

use ecow::{EcoString, eco_format};
use nonnet_engine::{Database, Row, Transaction};
use nonnet_schema::{Atom, ColumnIndex, DatabaseSchema, Datum, TableIndex, Uuid};

use crate::directory::Directory;
use crate::object::{Moving, Owner};
use crate::reconcile::Desired;
use crate::referrers::Referrers;

/// The schema is not that of the tables here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schema has no column {column} in table {table}")]
pub struct SchemaMismatch {
    /// The table's name.
    pub table: &'static str,
    /// The column's name.
    pub column: &'static str,
}

/// Where rows are read: a database, or a transaction with its changes.
pub trait Rows {
    /// The row of that UUID.
    fn row(&self, table: TableIndex, uuid: Uuid) -> Option<&Row>;
}

/// What a table's function from row to wanted objects may look at.
pub struct View<'a> {
    /// Where the columns are.
    pub tables: &'a Tables,
    /// The rows.
    pub rows: &'a dyn Rows,
    /// Which rows refer to which.
    pub referrers: &'a Referrers,
    /// The names of ports.
    pub directory: &'a Directory,
    /// The checkpoints under which an uplink's addresses may move, or may not have moved.
    pub moving: &'a Moving,
}

/// A column's names in the schema become places: `columns!("table"; column, ...)` makes the table's `Columns`.
macro_rules! columns {
    ($table:literal; $($column:ident),+ $(,)?) => {
        #[doc = concat!("The places of table `", $table, "` and of its columns.")]
        #[derive(Clone, Copy, Debug)]
        pub struct Columns {
            /// The table.
            pub this: nonnet_schema::TableIndex,
            $(
                #[doc = concat!("Column `", stringify!($column), "`.")]
                pub $column: nonnet_schema::ColumnIndex,
            )+
        }

        impl Columns {
            /// The name of the table.
            pub const NAME: &'static str = $table;

            /// Finds the columns in a schema.
            ///
            /// # Errors
            /// The first that is missing.
            pub fn find(schema: &nonnet_schema::DatabaseSchema) -> Result<Self, crate::tables::SchemaMismatch> {
                let missing = |column| crate::tables::SchemaMismatch { table: $table, column };
                let this = schema.table_index($table).ok_or_else(|| missing("_uuid"))?;
                let columns = schema.table(this);
                Ok(Self {
                    this,
                    $($column: columns.column_index(stringify!($column)).ok_or_else(|| missing(stringify!($column)))?,)+
                })
            }
        }
    };
}
use columns;

/// Makes [`Tables`] from the tables' names. Each is a module with `Columns`, `READ_BY_REFERRERS` and `READ_BY_TARGETS`; those whose rows want
/// something of the kernel have `wanted`, too.
macro_rules! tables {
    (wanting: $($wanting:ident),+; others: $($other:ident),+ $(,)?) => {
        $(pub mod $wanting;)+
        $(pub mod $other;)+

        /// The places of all tables and columns.
        #[derive(Clone, Debug)]
        pub struct Tables {
            $(
                #[doc = concat!("Table `", stringify!($wanting), "`.")]
                pub $wanting: $wanting::Columns,
            )+
            $(
                #[doc = concat!("Table `", stringify!($other), "`.")]
                pub $other: $other::Columns,
            )+
        }

        impl Tables {
            /// Finds all columns in a schema.
            ///
            /// # Errors
            /// The first that is missing.
            pub fn find(schema: &DatabaseSchema) -> Result<Self, SchemaMismatch> {
                Ok(Self {
                    $($wanting: $wanting::Columns::find(schema)?,)+
                    $($other: $other::Columns::find(schema)?,)+
                })
            }

            /// What a row wants of the kernel, `Gone` where nothing or where another row speaks for it; none for tables without effect.
            ///
            /// `row` is none for a row that is no more.
            pub fn wanted(&self, view: &View<'_>, table: TableIndex, row: Option<&Row>) -> Option<Desired> {
                $(if table == self.$wanting.this {
                    return Some(row.map_or(Desired::Gone, |row| $wanting::wanted(view, row)));
                })+
                None
            }

            /// Names of the columns of a table that rows which refer to it read.
            pub fn read_by_referrers(&self, table: TableIndex) -> &'static [&'static str] {
                $(if table == self.$wanting.this {
                    return $wanting::READ_BY_REFERRERS;
                })+
                $(if table == self.$other.this {
                    return $other::READ_BY_REFERRERS;
                })+
                &[]
            }

            /// Names of the columns of a table that rows to which it refers read.
            pub fn read_by_targets(&self, table: TableIndex) -> &'static [&'static str] {
                $(if table == self.$wanting.this {
                    return $wanting::READ_BY_TARGETS;
                })+
                $(if table == self.$other.this {
                    return $other::READ_BY_TARGETS;
                })+
                &[]
            }
        }
    };
}

pub(crate) mod firewall;

tables!(wanting: bridges, host, lxc, networks, ports; others: checkpoints, events, forwards, leases, peers, routes);

impl Rows for Database {
    fn row(&self, table: TableIndex, uuid: Uuid) -> Option<&Row> {
        self.table(table).row(uuid).map(Arc::as_ref)
    }
}

impl Rows for Transaction<'_> {
    fn row(&self, table: TableIndex, uuid: Uuid) -> Option<&Row> {
        Transaction::row(self, table, uuid).map(Arc::as_ref)
    }
}

/// The owner that a row is.
pub fn owner(table: &str, uuid: Uuid) -> Owner {
    Owner {
        table: table.into(),
        uuid: uuid.as_u128(),
    }
}

/// What people call a row: `ports vi100`.
pub fn row_words(owner: &Owner, rows: &Database) -> EcoString {
    let name = rows.table_named(&owner.table).and_then(|(table, content)| {
        let schema = rows.schema().table(table);
        let column = ["name", "id"].iter().find_map(|name| schema.column_index(name))?;
        let row = content.row(Uuid::from_u128(owner.uuid))?;
        row.get(column).as_str().map(EcoString::from)
    });
    name.map_or_else(|| eco_format!("{owner}"), |name| eco_format!("{} {name}", owner.table))
}

/// The text of a string column; empty where an optional one is absent.
pub fn text(row: &Row, column: ColumnIndex) -> &str {
    row.get(column).as_str().unwrap_or_default()
}

/// The only UUID of a column, if it has one.
pub fn reference(row: &Row, column: ColumnIndex) -> Option<Uuid> {
    row.get(column).as_uuid()
}

/// All UUIDs of a column.
pub fn references(row: &Row, column: ColumnIndex) -> impl Iterator<Item = Uuid> {
    row.get(column).keys().filter_map(Atom::as_uuid)
}

/// The texts of a column under their keys.
pub fn text_map(row: &Row, column: ColumnIndex) -> BTreeMap<EcoString, EcoString> {
    let pairs = row.get(column).iter();
    let texts = pairs.filter_map(|(key, value)| Some((key.as_str()?.into(), value?.as_str()?.into())));
    texts.collect()
}

/// All texts of a column.
pub fn texts(row: &Row, column: ColumnIndex) -> impl Iterator<Item = &str> {
    row.get(column).keys().filter_map(Atom::as_str)
}

/// The number of an optional integer column whose bounds the schema keeps within 32 bits.
pub fn number(row: &Row, column: ColumnIndex) -> Option<u32> {
    row.get(column)
        .as_integer()
        .and_then(|integer| u32::try_from(integer).ok())
}

/// The set of distinct references, in any order.
pub(crate) fn reference_set(uuids: impl IntoIterator<Item = Uuid>) -> Datum {
    let uuids = uuids.into_iter().map(Atom::Uuid).collect();
    Datum::set(uuids).unwrap_or_else(|_| Datum::empty_set())
}

/// The set of distinct texts, in any order.
pub fn text_set<T: Into<EcoString>>(texts: impl IntoIterator<Item = T>) -> Datum {
    let texts: std::collections::BTreeSet<EcoString> = texts.into_iter().map(Into::into).collect();
    // The texts are distinct, which is all that could be wrong.
    Datum::set(texts.into_iter().map(Atom::String).collect()).unwrap_or_else(|_| Datum::empty_set())
}
