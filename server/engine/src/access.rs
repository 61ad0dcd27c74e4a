//! Role-based access control (ovsdb-server(7), "Role-Based Access Control"): what a client with a role may write.
//!
//! In force where the schema has the table `RBAC_Role` and the client has a role. A role permits nothing but what the row that it names for
//! a table says. Reading is never restricted.

use std::sync::Arc;

use ecow::EcoString;
use nonnet_schema::{Atom, ColumnIndex, Datum, ErrorKind, OvsdbError, TableIndex, TableSchema};

use crate::row::Row;
use crate::transaction::Transaction;

/// Who asks, as its remote and its certificate say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Access<'a> {
    /// The role that the remote gives its clients; empty for one that restricts nothing.
    pub role: &'a str,
    /// The common name in the client's certificate; empty where it showed none.
    pub client: &'a str,
}

impl Access<'_> {
    /// The error for what this client may not do.
    pub fn prohibits(&self, what: String) -> OvsdbError {
        let client = if self.client.is_empty() { "(null)" } else { self.client };
        let (client, role) = (EcoString::from(client), EcoString::from(self.role));
        ErrorKind::Prohibited { client, role, what }.into()
    }

    /// Checks that a row with these fields may be inserted.
    pub(crate) fn check_insert(
        &self,
        transaction: &Transaction<'_>,
        table: TableIndex,
        fields: &[Datum],
    ) -> Result<(), OvsdbError> {
        let schema = transaction.schema().table(table);
        self.check(transaction, table, "row insertion into", |permission| {
            permission.covers(self.client, schema, fields) && permission.insert_delete()
        })
    }

    /// Checks that these rows may be deleted.
    pub(crate) fn check_delete(
        &self,
        transaction: &Transaction<'_>,
        table: TableIndex,
        rows: &[Arc<Row>],
    ) -> Result<(), OvsdbError> {
        let schema = transaction.schema().table(table);
        self.check(transaction, table, "row deletion from", |permission| {
            let covers = |row: &Arc<Row>| permission.covers(self.client, schema, row.fields());
            rows.iter().all(|row| covers(row) && permission.insert_delete())
        })
    }

    /// Checks that these columns of these rows may be changed by an operation that messages call `what`.
    pub(crate) fn check_change(
        &self,
        transaction: &Transaction<'_>,
        table: TableIndex,
        rows: &[Arc<Row>],
        columns: &(impl Iterator<Item = ColumnIndex> + Clone),
        what: &'static str,
    ) -> Result<(), OvsdbError> {
        let schema = transaction.schema().table(table);
        self.check(transaction, table, what, |permission| {
            let may_change = |column: ColumnIndex| permission.may_update(&schema.column(column).name);
            let covers = |row: &Arc<Row>| permission.covers(self.client, schema, row.fields());
            rows.iter().all(|row| covers(row) && columns.clone().all(may_change))
        })
    }

    fn check(
        &self,
        transaction: &Transaction<'_>,
        table: TableIndex,
        what: &str,
        permits: impl FnOnce(&Permission<'_>) -> bool,
    ) -> Result<(), OvsdbError> {
        if self.role.is_empty() {
            return Ok(());
        }
        let Some(roles) = transaction.schema().table_index("RBAC_Role") else {
            return Ok(());
        };
        let name = &transaction.schema().table(table).name;
        let permission = Permission::find(transaction, roles, self.role, name);
        if !self.client.is_empty() && permission.is_some_and(|permission| permits(&permission)) {
            return Ok(());
        }
        Err(self.prohibits(format!("{what} table \"{name}\".")))
    }
}

/// The row that says what a role may do with a table.
struct Permission<'a> {
    schema: &'a TableSchema,
    row: &'a Row,
}

impl<'a> Permission<'a> {
    fn find(transaction: &'a Transaction<'_>, roles: TableIndex, role: &str, table: &str) -> Option<Self> {
        let schema = transaction.schema();
        let role_schema = schema.table(roles);
        let (name, permissions) = (
            role_schema.column_index("name")?,
            role_schema.column_index("permissions")?,
        );
        let row = transaction
            .rows(roles)
            .find(|row| row.get(name).as_str() == Some(role))?;
        let uuid = row.get(permissions).get(&Atom::from(table))?.as_uuid()?;
        let (target, _) = role_schema.column(permissions).type_.value.as_ref()?.reference()?;
        let target = schema.table_index(target)?;
        let row = transaction.row(target, uuid)?;
        let schema = schema.table(target);
        Some(Self { schema, row })
    }

    /// Whether a row is one that the client may write: some column, or key of a map, that authorizes holds the client's name.
    fn covers(&self, client: &str, schema: &TableSchema, fields: &[Datum]) -> bool {
        let Some(authorization) = self.column("authorization") else {
            return false;
        };
        let datum = |column: &str| schema.column_index(column).and_then(|at| fields.get(at.0));
        authorization.keys().filter_map(Atom::as_str).any(|name| {
            let held = match name.split_once(':') {
                Some((column, key)) => datum(column).and_then(|datum| datum.get_str(key)),
                None => datum(name).and_then(Datum::as_str),
            };
            name.is_empty() || held == Some(client)
        })
    }

    fn insert_delete(&self) -> bool {
        self.column("insert_delete").and_then(Datum::as_bool) == Some(true)
    }

    fn may_update(&self, column: &str) -> bool {
        self.column("update")
            .is_some_and(|columns| columns.contains_key(&Atom::from(column)))
    }

    fn column(&self, name: &str) -> Option<&Datum> {
        self.schema.column_index(name).map(|at| self.row.get(at))
    }
}
