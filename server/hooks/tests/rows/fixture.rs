//! One `OpNonNet` database with its rules and its compiler.

use std::sync::Arc;

use nonnet_engine::{ChangeSet, Context, Database, Entropy, Outcome, Transaction, commit, execute, write_results};
use nonnet_hooks::commit::NonnetHook;
use nonnet_hooks::compile::Compiler;
use nonnet_hooks::object::{Object, Owner};
use nonnet_hooks::reconcile::Desired;
use nonnet_hooks::tables::{Tables, host};
use nonnet_schema::{DatabaseSchema, NONNET_SCHEMA};
use serde_json::{Value, json};

/// A host's database.
pub(crate) struct Host {
    /// The rows.
    pub(crate) database: Database,
    /// Where the columns are.
    pub(crate) tables: Tables,
    /// The compiler, fed with each commit.
    pub(crate) compiler: Compiler,
    hook: NonnetHook,
    entropy: Entropy,
    sequence: u64,
}

/// What a server that starts commits when its newest commit is `newest`.
pub(crate) fn start(tables: &Tables, database: &Database, entropy: &mut Entropy, newest: u64) -> ChangeSet {
    let mut transaction = Transaction::new(database, entropy);
    host::start(tables, &mut transaction, newest);
    commit(transaction).unwrap()
}

impl Host {
    /// As it is after a first start.
    pub(crate) fn new() -> Self {
        let schema = Arc::new(DatabaseSchema::from_text(NONNET_SCHEMA).unwrap());
        let mut database = Database::new(Arc::clone(&schema), 1);
        let mut entropy = Entropy::new([7; 32]);
        let tables = Tables::find(&schema).unwrap();
        let changes = start(&tables, &database, &mut entropy, 0);
        database.apply(&changes);
        Self {
            compiler: Compiler::new(&database).unwrap(),
            hook: NonnetHook::new(&schema).unwrap(),
            database,
            tables,
            entropy,
            sequence: 1,
        }
    }

    /// Runs operations. Gives the reply, and the changes where they are committed.
    pub(crate) fn run(&mut self, operations: &Value) -> (Value, Option<ChangeSet>) {
        let context = Context {
            elapsed_ms: 0,
            read_only: false,
            access: nonnet_engine::Access::default(),
            owns_lock: &|_| false,
            sequence: self.sequence + 1,
            hook: Some(&self.hook),
        };
        let operations = operations.as_array().unwrap();
        let (results, changes) = match execute(&self.database, operations, &context, &mut self.entropy) {
            Outcome::Committed(commit) => (commit.results, Some(commit.changes)),
            Outcome::Failed(results) => (results, None),
            Outcome::Blocked { .. } => panic!("blocked"),
        };
        let mut text = String::new();
        write_results(&results, &mut text);
        if let Some(changes) = &changes {
            self.database.apply(changes);
            self.sequence += u64::from(changes.is_persistent(self.database.schema()));
        }
        (serde_json::from_str(&text).unwrap(), changes)
    }

    /// Runs operations that must succeed, and gives what rows want now that the commit concerned.
    pub(crate) fn commit(&mut self, operations: &Value) -> Vec<(Owner, Desired)> {
        let (reply, changes) = self.run(operations);
        let changes = changes.unwrap_or_else(|| panic!("{reply}"));
        assert!(
            reply
                .as_array()
                .unwrap()
                .iter()
                .all(|result| result.get("error").is_none()),
            "{reply}"
        );
        self.compiler.compile(&self.database, &changes)
    }

    /// Runs operations that must fail at the commit, and gives the details of the error.
    pub(crate) fn refuse(&mut self, operations: &Value) -> String {
        let (reply, changes) = self.run(operations);
        assert!(changes.is_none(), "committed: {reply}");
        let error = reply.as_array().unwrap().last().unwrap();
        assert_eq!(error["error"], "constraint violation", "{reply}");
        assert_eq!(
            reply.as_array().unwrap().len(),
            operations.as_array().unwrap().len() + 1,
            "{reply}"
        );
        error["details"].as_str().unwrap().to_owned()
    }

    /// The rows of a table, with these columns.
    pub(crate) fn rows(&mut self, table: &str, columns: &[&str]) -> Vec<Value> {
        let select = json!([{"op": "select", "table": table, "where": [], "columns": columns}]);
        let (reply, _) = self.run(&select);
        reply[0]["rows"].as_array().unwrap_or_else(|| panic!("{reply}")).clone()
    }

    /// The only row of a table, with these columns.
    pub(crate) fn only(&mut self, table: &str, columns: &[&str]) -> Value {
        let rows = self.rows(table, columns);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.into_iter().next().unwrap()
    }

    /// The addresses in use, sorted.
    pub(crate) fn leases(&mut self) -> Vec<String> {
        let rows = self.rows("leases", &["address"]);
        let mut addresses: Vec<String> = rows
            .iter()
            .map(|row| row["address"].as_str().unwrap().to_owned())
            .collect();
        addresses.sort();
        addresses
    }

    /// A transaction of the server's own, applied.
    pub(crate) fn write(&mut self, write: impl FnOnce(&Tables, &mut Transaction<'_>)) -> ChangeSet {
        let mut transaction = Transaction::new(&self.database, &mut self.entropy);
        write(&self.tables, &mut transaction);
        let changes = nonnet_engine::commit(transaction).unwrap();
        self.database.apply(&changes);
        changes
    }
}

/// An insert.
pub(crate) fn insert(table: &str, row: &Value) -> Value {
    json!({"op": "insert", "table": table, "row": row, "uuid-name": name_of(table, row)})
}

/// A reference to the row that [`insert`] made in the same transaction.
pub(crate) fn named(table: &str, name: &str) -> Value {
    json!(["named-uuid", format!("{table}_{}", name.replace(['-', '.', '/'], "_"))])
}

/// An insert of a port into the namespace of its own name.
pub(crate) fn port(name: &str, more: &Value) -> Value {
    let mut row = json!({"name": name, "netns": name});
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    insert("ports", &row)
}

/// A container's row that wants a network of type `bridge`.
pub(crate) fn container(id: &str, bridge: &str, properties: &[(&str, &str)]) -> Value {
    let mut pairs = vec![json!(["network_type", "bridge"])];
    pairs.extend(properties.iter().map(|(key, value)| json!([key, value])));
    insert(
        "lxc",
        &json!({"id": id, "bridge": bridge, "properties": ["map", pairs]}),
    )
}

/// The objects that rows of one table want.
pub(crate) fn objects(desired: &[(Owner, Desired)], table: &str) -> Vec<Object> {
    let of_table = desired.iter().filter(|(owner, _)| owner.table == table);
    of_table
        .flat_map(|(_, desired)| match desired {
            Desired::Objects(objects) => objects.clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn name_of(table: &str, row: &Value) -> String {
    let name = ["name", "id", "destination"]
        .iter()
        .find_map(|key| row[key].as_str())
        .unwrap_or("row");
    let safe: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    format!("{table}_{safe}")
}
