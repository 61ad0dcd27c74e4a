//! Puts a transaction together, operation by operation (RFC 7047 5.2).
//!
//! It only collects JSON; the server checks it.

use nonnet_schema::Uuid;
use serde_json::{Map, Value, json};

use crate::{connection::Connection, error::TransactError, result::OperationResult, value};

/// A transaction not sent yet.
#[derive(Clone, Debug)]
pub struct Transaction {
    database: String,
    operations: Vec<Value>,
}

/// A row that a transaction inserts: it can be referred to before it has a UUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRow {
    name: String,
    operation: usize,
}

/// What a committed transaction gave.
#[derive(Clone, Debug)]
pub struct Committed {
    /// One for each operation, in order.
    pub results: Vec<OperationResult>,
}

impl Transaction {
    /// A transaction on a database, without operations.
    pub fn new(database: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            operations: Vec::new(),
        }
    }

    /// Inserts a row; columns that are not given have their defaults. Returns what stands for the row within this transaction.
    pub fn insert(&mut self, table: &str, row: Map<String, Value>) -> NewRow {
        let operation = self.operations.len();
        let name = format!("row{operation}");
        self.on_table(
            "insert",
            table,
            [("row", row.into()), ("uuid-name", name.as_str().into())],
        );
        NewRow { name, operation }
    }

    /// Inserts a row under a UUID of the client's choice, so that the transaction can be sent again safely.
    pub fn insert_as(&mut self, table: &str, uuid: Uuid, row: Map<String, Value>) -> NewRow {
        let new = self.insert(table, row);
        if let Some(Value::Object(insert)) = self.operations.last_mut() {
            insert.insert("uuid".to_owned(), uuid.hyphenated().to_string().into());
        }
        new
    }

    /// Sets columns of all rows that meet the condition.
    pub fn update(&mut self, table: &str, condition: Value, row: Map<String, Value>) -> &mut Self {
        self.on_table("update", table, [("where", condition), ("row", row.into())])
    }

    /// Changes columns of all rows that meet the condition by mutations (`[column, mutator, value]`).
    pub fn mutate(&mut self, table: &str, condition: Value, mutations: Vec<Value>) -> &mut Self {
        self.on_table("mutate", table, [("where", condition), ("mutations", mutations.into())])
    }

    /// Deletes all rows that meet the condition.
    pub fn delete(&mut self, table: &str, condition: Value) -> &mut Self {
        self.on_table("delete", table, [("where", condition)])
    }

    /// Reads all rows that meet the condition: the columns named, or all.
    pub fn select(&mut self, table: &str, condition: Value, columns: Option<&[&str]>) -> &mut Self {
        let members = [("where", condition)].into_iter();
        self.on_table(
            "select",
            table,
            members.chain(columns.map(|columns| ("columns", columns.into()))),
        )
    }

    /// Waits until the columns of the rows that meet the condition are those given; without a timeout in milliseconds, as long as it
    /// takes.
    pub fn wait_until_equal(
        &mut self,
        table: &str,
        condition: Value,
        columns: &[&str],
        rows: Vec<Value>,
        timeout_ms: Option<u64>,
    ) -> &mut Self {
        let members = [
            ("where", condition),
            ("columns", columns.into()),
            ("until", "==".into()),
            ("rows", rows.into()),
        ];
        let timeout = timeout_ms.map(|timeout_ms| ("timeout", timeout_ms.into()));
        self.on_table("wait", table, members.into_iter().chain(timeout))
    }

    /// Notes the reason of the transaction in the server's log.
    pub fn comment(&mut self, comment: &str) -> &mut Self {
        self.operation(json!({"op": "comment", "comment": comment}))
    }

    /// Fails the transaction unless this connection owns the lock.
    pub fn assert_lock(&mut self, lock: &str) -> &mut Self {
        self.operation(json!({"op": "assert", "lock": lock}))
    }

    /// Asks for the reply to be sent only once the commit survives a power cut.
    pub fn commit_durably(&mut self) -> &mut Self {
        self.operation(json!({"op": "commit", "durable": true}))
    }

    /// Fails the transaction after all has been tried: a rehearsal.
    pub fn abort(&mut self) -> &mut Self {
        self.operation(json!({"op": "abort"}))
    }

    /// Any operation as JSON.
    pub fn operation(&mut self, operation: Value) -> &mut Self {
        self.operations.push(operation);
        self
    }

    fn on_table(
        &mut self,
        op: &str,
        table: &str,
        members: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> &mut Self {
        let mut operation = Map::new();
        operation.insert("op".to_owned(), op.into());
        operation.insert("table".to_owned(), table.into());
        operation.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self.operation(operation.into())
    }

    /// The database it is for.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The operations so far.
    pub fn operations(&self) -> &[Value] {
        &self.operations
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Sends it and waits for its commit.
    ///
    /// # Errors
    ///
    /// [`TransactError`] names the operation that failed; nothing has taken effect then, unless the connection was lost.
    pub async fn commit(self, connection: &Connection) -> Result<Committed, TransactError> {
        let results = connection.transact(&self.database, self.operations).await?;
        Ok(Committed { results })
    }
}

impl NewRow {
    /// What refers to the row within its transaction: `["named-uuid", "..."]`.
    pub fn reference(&self) -> Value {
        json!(["named-uuid", self.name])
    }

    /// A `where` that only this row meets, within its transaction.
    pub fn where_is(&self) -> Value {
        value::where_equal("_uuid", self.reference())
    }
}

impl Committed {
    /// The UUID that a new row got. A row of a table that is not a root may have been deleted again at the commit, unreferred to.
    pub fn uuid_of(&self, row: &NewRow) -> Option<Uuid> {
        self.results.get(row.operation).and_then(OperationResult::inserted)
    }
}
