//! The database `_Server`: which databases there are (ovsdb-server(5), ovsdb-server(7) 4.1.17).

use std::sync::Arc;

use ecow::EcoString;
use nonnet_engine::{ChangeSet, Database, Entropy, Row, Transaction, commit};
use nonnet_schema::{DatabaseSchema, Datum, OvsdbError, SERVER_SCHEMA, SchemaTextError, TableIndex};

/// The name of the database that lists the databases.
pub(crate) const CATALOG: &str = "_Server";

/// Why a database cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The schema of a database of the server's own is no schema.
    #[error("the built-in schema: {0}")]
    Schema(#[from] SchemaTextError),
    /// It lacks a table.
    #[error("the built-in schema has no table {0}")]
    MissingTable(EcoString),
    /// Another database has the name.
    #[error("a database named {0} is already served")]
    DuplicateName(EcoString),
    /// The list of databases refuses it.
    #[error(transparent)]
    Catalog(#[from] OvsdbError),
}

/// An empty `_Server`.
pub(crate) fn new_catalog(hash_seed: u64) -> Result<Database, StartError> {
    let schema = DatabaseSchema::from_text(SERVER_SCHEMA)?;
    Ok(Database::new(Arc::new(schema), hash_seed))
}

/// The change that adds a row for a database.
pub(crate) fn add_database(
    catalog: &Database,
    added: &DatabaseSchema,
    entropy: &mut Entropy,
) -> Result<ChangeSet, OvsdbError> {
    let Some(table) = catalog.schema().table_index("Database") else {
        return Ok(ChangeSet::default());
    };
    let mut transaction = Transaction::new(catalog, entropy);
    let fields = row_of(catalog.schema(), table, added);
    let uuid = transaction.new_uuid();
    transaction.insert(table, uuid, fields);
    commit(transaction)
}

/// The change that takes the row of a database out.
pub(crate) fn remove_database(catalog: &Database, name: &str, entropy: &mut Entropy) -> Result<ChangeSet, OvsdbError> {
    let Some(table) = catalog.schema().table_index("Database") else {
        return Ok(ChangeSet::default());
    };
    let mut transaction = Transaction::new(catalog, entropy);
    delete_row(&mut transaction, table, name);
    commit(transaction)
}

/// The change that puts another row in the place of that of a database with a new schema: its UUID tells one schema from the next.
pub(crate) fn replace_database(
    catalog: &Database,
    converted: &DatabaseSchema,
    entropy: &mut Entropy,
) -> Result<ChangeSet, OvsdbError> {
    let Some(table) = catalog.schema().table_index("Database") else {
        return Ok(ChangeSet::default());
    };
    let mut transaction = Transaction::new(catalog, entropy);
    delete_row(&mut transaction, table, &converted.name);
    let uuid = transaction.new_uuid();
    transaction.insert(table, uuid, row_of(catalog.schema(), table, converted));
    commit(transaction)
}

fn delete_row(transaction: &mut Transaction<'_>, table: TableIndex, name: &str) {
    let column = transaction.schema().table(table).column_index("name");
    let of_name = |row: &Row| column.is_some_and(|column| row.get(column).as_str() == Some(name));
    let row = transaction.rows(table).find(|row| of_name(row)).map(|row| row.uuid());
    if let Some(row) = row {
        transaction.delete(table, row);
    }
}

fn row_of(catalog: &DatabaseSchema, table: TableIndex, added: &DatabaseSchema) -> Vec<Datum> {
    let table = catalog.table(table);
    let mut fields = table.default_fields();
    let values = [
        ("name", Datum::scalar(added.name.as_str())),
        ("model", Datum::scalar("standalone")),
        ("connected", Datum::scalar(true)),
        ("leader", Datum::scalar(true)),
        ("schema", Datum::scalar(added.to_text().as_str())),
    ];
    for (name, datum) in values {
        if let Some(column) = table.column_index(name) {
            fields[column.0] = datum;
        }
    }
    fields
}
