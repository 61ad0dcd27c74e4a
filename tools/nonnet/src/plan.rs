//! Changes as one transaction that fails where somebody else changed a row since it was read.

use std::collections::HashMap;

use nonnet_client::{OperationResult, TransactError, Transaction};
use nonnet_schema::{DatabaseSchema, Datum, Uuid};
use serde_json::{Map, Value, json};

use crate::catalog;
use crate::checkpoint::CHECKPOINTS;
use crate::content::Rows;
use crate::difference::{Action, Change};
use crate::output::bare_or_quoted;
use crate::wanted::{Content, RowName};

/// How a rehearsal is kept from being committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Two rows in a table that may have one: refused at the commit, when rules over all rows have spoken.
    TooManyRows,
    /// `abort`: rules over all rows are not asked.
    Abort,
}

/// A transaction and what each of its operations is for.
#[derive(Debug)]
pub(crate) struct Plan {
    transaction: Transaction,
    /// For each operation the row it is about.
    subjects: Vec<Option<String>>,
    /// The operation that tells the commit's sequence number.
    sequence_at: Option<usize>,
    stop: Option<Stop>,
    /// What people call the rows that there were, for messages of the server.
    known: Vec<(Uuid, String)>,
}

/// What came of a plan that the server refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A row is not what it was when it was read.
    Outdated,
    /// It was a rehearsal, and nothing else was wrong with it.
    Rehearsed,
    /// What the server says, with the row it says it about.
    Refused(anyhow::Error),
}

impl Plan {
    /// The transaction that makes the changes, and the row of a checkpoint before them; a rehearsal cannot be committed.
    pub(crate) fn new(
        changes: &[Change],
        rows: &Rows<'_>,
        schema: &DatabaseSchema,
        comment: &str,
        checkpoint: Option<&Value>,
        is_rehearsal: bool,
    ) -> Self {
        let mut builder = Builder {
            plan: Self {
                transaction: Transaction::new(schema.name.as_str()),
                subjects: Vec::new(),
                sequence_at: None,
                stop: None,
                known: changes
                    .iter()
                    .filter_map(|change| Some((change.uuid?, bare_or_quoted(&change.key))))
                    .collect(),
            },
            rows,
            schema,
            names: HashMap::new(),
            owned: 0,
        };
        builder.push(None, json!({"op": "comment", "comment": comment}));
        if let Some(checkpoint) = checkpoint {
            builder.open_checkpoint(checkpoint);
        }
        for change in changes {
            builder.guard(change);
        }
        let created = changes.iter().filter(|change| change.action == Action::Create);
        for (at, change) in created.enumerate() {
            let name = format!("new{at}");
            builder.names.insert((change.table.as_str(), change.key.as_str()), name);
        }
        for change in changes {
            builder.change(change);
        }
        builder.ask_sequence();
        if is_rehearsal {
            builder.stop();
        }
        builder.plan
    }

    /// The transaction.
    pub(crate) fn transaction(&self) -> Transaction {
        self.transaction.clone()
    }

    /// The commit's sequence number, where the server has told it.
    pub(crate) fn sequence(&self, results: &[OperationResult]) -> Option<u64> {
        let row = results.get(self.sequence_at?)?.rows().first()?;
        row.get("next_cfg")?.as_u64()
    }

    /// What an error means.
    pub(crate) fn explain(&self, error: TransactError) -> Refusal {
        match (&error, self.stop) {
            (TransactError::Operation { error, .. }, _) if error.tag == "timed out" => return Refusal::Outdated,
            (TransactError::Operation { error, .. }, Some(Stop::Abort)) if error.tag == "aborted" => {
                return Refusal::Rehearsed;
            }
            (TransactError::Commit { error }, Some(Stop::TooManyRows)) if error.tag == "constraint violation" => {
                let details = error.details.as_deref().unwrap_or_default();
                if details.starts_with("transaction causes \"host\" table to contain") {
                    return Refusal::Rehearsed;
                }
            }
            _ => {}
        }
        let subject = match &error {
            TransactError::Operation { index, .. } => self.subjects.get(*index).cloned().flatten(),
            _ => None,
        };
        let said = match error {
            TransactError::Call(_) => None,
            _ => error.wire_error().map(|error| self.with_names(error.to_string())),
        };
        Refusal::Refused(match (subject, said) {
            (Some(subject), Some(said)) => anyhow::anyhow!("{subject}: {said}; nothing was changed"),
            (None, Some(said)) => anyhow::anyhow!("{said}; nothing was changed"),
            (_, None) => error.into(),
        })
    }
}

impl Plan {
    /// A message of the server with the rows' names in the place of their UUIDs.
    fn with_names(&self, mut text: String) -> String {
        for (uuid, name) in &self.known {
            let uuid = uuid.hyphenated().to_string();
            if text.contains(&uuid) {
                text = text.replace(&uuid, name);
            }
        }
        text
    }
}

struct Builder<'a> {
    plan: Plan,
    rows: &'a Rows<'a>,
    schema: &'a DatabaseSchema,
    /// The names that new rows have within the transaction, by table and key.
    names: HashMap<(&'a str, &'a str), String>,
    /// Rows inserted that live with their owner.
    owned: usize,
}

impl<'a> Builder<'a> {
    fn push(&mut self, subject: Option<&Change>, operation: Value) {
        self.plan.transaction.operation(operation);
        let subject = subject.map(|change| format!("{} {}", change.table, bare_or_quoted(&change.key)));
        self.plan.subjects.push(subject);
    }

    /// Inserts the row of a checkpoint in the place of one of that name that is closed.
    fn open_checkpoint(&mut self, row: &Value) {
        let closed = json!([["name", "==", row["name"]], ["state", "!=", "open"]]);
        self.push(None, json!({"op": "delete", "table": CHECKPOINTS, "where": closed}));
        self.push(None, json!({"op": "insert", "table": CHECKPOINTS, "row": row}));
    }

    /// Makes sure that the row still is what it was when it was read.
    fn guard(&mut self, change: &Change) {
        let Some(table) = catalog::table(self.schema, &change.table) else {
            return;
        };
        let (condition, columns, rows) = match (change.uuid, catalog::key_column(table)) {
            (Some(uuid), _) => {
                let is_compared = |name: &str| match change.action {
                    Action::Delete => table.column_index(name).is_some_and(|at| table.column(at).persistent),
                    _ => change.columns.iter().any(|column| column.column == name),
                };
                let compared = change.before.iter().filter(|(name, _)| is_compared(name));
                let row: Map<String, Value> = compared.map(|(name, datum)| (name.clone(), datum.to_json())).collect();
                (
                    json!([["_uuid", "==", uuid_json(uuid)]]),
                    row.keys().cloned().collect(),
                    vec![Value::Object(row)],
                )
            }
            (None, Some(key)) => (
                json!([[key.name.as_str(), "==", change.key]]),
                vec![key.name.to_string()],
                Vec::new(),
            ),
            (None, None) => return,
        };
        let guard = json!({
            "op": "wait", "table": change.table, "where": condition, "columns": columns, "until": "==", "rows": rows, "timeout": 0,
        });
        self.push(Some(change), guard);
    }

    fn change(&mut self, change: &'a Change) {
        let mut row = Map::new();
        for column in &change.columns {
            if let Some(content) = &column.content {
                let value = self.value(change, &column.column, content);
                row.insert(column.column.clone(), value);
            }
        }
        let condition = change.uuid.map(|uuid| json!([["_uuid", "==", uuid_json(uuid)]]));
        let table = &change.table;
        let operation = match change.action {
            Action::Delete => json!({"op": "delete", "table": table, "where": condition}),
            Action::Modify => json!({"op": "update", "table": table, "where": condition, "row": row}),
            Action::Create => {
                let key = catalog::table(self.schema, table).and_then(catalog::key_column);
                row.extend(key.map(|key| (key.name.to_string(), Value::from(change.key.as_str()))));
                let name = self.names.get(&(table.as_str(), change.key.as_str()));
                json!({"op": "insert", "table": table, "row": row, "uuid-name": name})
            }
        };
        self.push(Some(change), operation);
    }

    /// A column's new value; inserts the rows that it owns.
    fn value(&mut self, change: &Change, column: &str, content: &Content) -> Value {
        let references: Vec<Value> = match content {
            Content::Datum(datum) => return datum.to_json(),
            Content::References(names) => names.iter().map(|name| self.reference(change, column, name)).collect(),
            Content::Owned(table, rows) => rows.iter().map(|row| self.insert_owned(change, table, row)).collect(),
        };
        json!(["set", references])
    }

    fn reference(&self, change: &Change, column: &str, name: &RowName) -> Value {
        let key = match name {
            RowName::Uuid(uuid) => return uuid_json(*uuid),
            RowName::Key(key) => key,
        };
        let table = catalog::table(self.schema, &change.table);
        let column = table.and_then(|table| Some(table.column(table.column_index(column)?)));
        let target = column
            .and_then(|column| catalog::target(self.schema, column))
            .map_or("", |target| target.name.as_str());
        match (self.names.get(&(target, key.as_str())), self.rows.find(target, key)) {
            (None, Some((uuid, _))) => uuid_json(uuid),
            (Some(name), _) => json!(["named-uuid", name]),
            // The comparison has refused names of rows that do not exist.
            (None, None) => uuid_json(Uuid::nil()),
        }
    }

    fn insert_owned(&mut self, change: &Change, table: &str, row: &std::collections::BTreeMap<String, Datum>) -> Value {
        let name = format!("owned{}", self.owned);
        self.owned += 1;
        let row: Map<String, Value> = row
            .iter()
            .map(|(name, datum)| (name.clone(), datum.to_json()))
            .collect();
        self.push(
            Some(change),
            json!({"op": "insert", "table": table, "row": row, "uuid-name": name}),
        );
        json!(["named-uuid", name])
    }

    /// A commit's sequence number can be read within it.
    fn ask_sequence(&mut self) {
        let host = catalog::table(self.schema, "host");
        if host.is_some_and(|host| host.column_index("next_cfg").is_some()) {
            self.plan.sequence_at = Some(self.plan.subjects.len());
            self.push(
                None,
                json!({"op": "select", "table": "host", "where": [], "columns": ["next_cfg"]}),
            );
        }
    }

    fn stop(&mut self) {
        if catalog::table(self.schema, "host").is_some_and(|host| host.max_rows == 1) {
            self.plan.stop = Some(Stop::TooManyRows);
            for _ in 0..2 {
                self.push(None, json!({"op": "insert", "table": "host", "row": {}}));
            }
        } else {
            self.plan.stop = Some(Stop::Abort);
            self.push(None, json!({"op": "abort"}));
        }
    }
}

fn uuid_json(uuid: Uuid) -> Value {
    nonnet_client::value::uuid(uuid)
}
