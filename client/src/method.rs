//! The methods of RFC 7047 4.1 with their params and results typed; monitors and locks have files of their own.

use nonnet_schema::DatabaseSchema;
use serde_json::Value;

use crate::{
    connection::Connection,
    error::{CallError, TransactError},
    result::{OperationResult, read_results},
};

impl Connection {
    /// The names of the databases served (RFC 7047 4.1.1), sorted; `_Server` is one of them.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn list_dbs(&self) -> Result<Vec<String>, CallError> {
        let result = self.call("list_dbs", Vec::new()).await?;
        let mut names: Vec<String> =
            serde_json::from_value(result).map_err(|error| not_understood("list_dbs", &error))?;
        names.sort();
        Ok(names)
    }

    /// The schema of a database (RFC 7047 4.1.2).
    ///
    /// # Errors
    ///
    /// [`CallError`]; an unknown database is refused by the server.
    pub async fn get_schema(&self, database: &str) -> Result<DatabaseSchema, CallError> {
        let result = self.call("get_schema", vec![database.into()]).await?;
        DatabaseSchema::parse(&result).map_err(|error| not_understood("get_schema", &error))
    }

    /// The server's id, fresh with each of its starts (`ovsdb-server(7)` 4.1.17).
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn get_server_id(&self) -> Result<String, CallError> {
        let result = self.call("get_server_id", Vec::new()).await?;
        serde_json::from_value(result).map_err(|error| not_understood("get_server_id", &error))
    }

    /// Asks the server to tell of databases that come and go instead of closing the connection (`ovsdb-server(7)` 4.1.16).
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn set_db_change_aware(&self, is_aware: bool) -> Result<(), CallError> {
        self.call("set_db_change_aware", vec![is_aware.into()])
            .await
            .map(|_| ())
    }

    /// Sends some values there and back (RFC 7047 4.1.11).
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn echo(&self, params: Vec<Value>) -> Result<Value, CallError> {
        self.call("echo", params).await
    }

    /// Executes operations as one transaction (RFC 7047 4.1.3); one result for each operation, in order.
    ///
    /// # Errors
    ///
    /// [`TransactError`] names the operation that failed; nothing has taken effect then.
    pub async fn transact(
        &self,
        database: &str,
        operations: Vec<Value>,
    ) -> Result<Vec<OperationResult>, TransactError> {
        let summaries: Vec<String> = operations.iter().map(summary_of).collect();
        let mut params = vec![Value::from(database)];
        params.extend(operations);
        let result = self.call("transact", params).await?;
        read_results(&summaries, result)
    }
}

pub(crate) fn not_understood(method: &str, details: &impl ToString) -> CallError {
    CallError::NotUnderstood {
        method: method.to_owned(),
        details: details.to_string(),
    }
}

/// What an operation is to do, in a few words.
fn summary_of(operation: &Value) -> String {
    let member = |name: &str| operation.get(name).and_then(Value::as_str);
    let op = member("op").unwrap_or("no \"op\"");
    match (op, member("table")) {
        ("insert", Some(table)) => format!("insert into \"{table}\""),
        ("delete" | "select", Some(table)) => format!("{op} from \"{table}\""),
        (_, Some(table)) => format!("{op} on \"{table}\""),
        (_, None) => op.to_owned(),
    }
}
