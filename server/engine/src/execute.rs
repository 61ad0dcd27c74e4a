//! Runs the operations of a `transact` request (RFC 7047 4.1.3 and 5.2) and checks the commit.

mod read;
mod write;

use std::sync::Arc;

use nonnet_schema::{Condition, ErrorKind, Operation, OvsdbError, TableIndex, json};
use serde_json::Value;

use crate::access::Access;
use crate::change_set::ChangeSet;
use crate::check;
use crate::database::Database;
use crate::entropy::Entropy;
use crate::hook::CommitHook;
use crate::limits::{SELECTED_BYTES_MAX, STEPS_MAX};
use crate::row::Row;
use crate::transaction::Transaction;

pub use read::SelectedRows;

/// What a transaction is run with, beside the database and the operations.
pub struct Context<'a> {
    /// Milliseconds since the request came, for `wait`.
    pub elapsed_ms: u64,
    /// Whether operations that write are refused.
    pub read_only: bool,
    /// Whose operations they are, for what only some may write.
    pub access: Access<'a>,
    /// Whether the session owns the lock of that name, for `assert`.
    pub owns_lock: &'a dyn Fn(&str) -> bool,
    /// The number that the commit would get.
    pub sequence: u64,
    /// The database's own rules.
    pub hook: Option<&'a dyn CommitHook>,
}

/// What one operation answers.
#[derive(Clone, Debug)]
pub enum OperationResult {
    /// JSON text.
    Text(String),
    /// The rows of a `select`, to be encoded when and where it suits.
    Rows(SelectedRows),
    /// An operation that was never reached.
    Null,
    /// The operation, or the commit, failed.
    Error(OvsdbError),
}

/// How the transaction ended.
#[derive(Debug)]
pub enum Outcome {
    /// All operations succeeded and the commit checks hold; the change set is not yet applied.
    Committed(Commit),
    /// An operation or a check failed; nothing changes.
    Failed(Vec<OperationResult>),
    /// A `wait` does not hold yet: run it all again later.
    Blocked {
        /// Milliseconds since the request came after which it fails; None for never.
        timeout_ms: Option<u64>,
    },
}

/// A transaction that may be committed.
#[derive(Debug)]
pub struct Commit {
    /// One per operation.
    pub results: Vec<OperationResult>,
    /// What it does; empty where the net effect is nil.
    pub changes: ChangeSet,
    /// The texts of its `comment` operations.
    pub comments: Vec<String>,
    /// Whether a `commit` operation asked for stable storage.
    pub durable: bool,
}

/// Appends the results as the array that is the reply's `result`.
pub fn write_results(results: &[OperationResult], out: &mut String) {
    json::write_sequence(results.iter(), out, |result, out| match result {
        OperationResult::Text(text) => out.push_str(text),
        OperationResult::Rows(rows) => rows.write_json(out),
        OperationResult::Null => out.push_str("null"),
        OperationResult::Error(error) => error.write_json(out),
    });
}

/// Runs `operations` on `database`, which stays as it is.
pub fn execute(database: &Database, operations: &[Value], context: &Context<'_>, entropy: &mut Entropy) -> Outcome {
    let mut run = Run {
        transaction: Transaction::new(database, entropy),
        context,
        steps: 0,
        selected_bytes: 0,
        comments: Vec::new(),
        durable: false,
    };
    let writes = operations.iter().any(may_write) && !context.read_only;
    if let Some(hook) = context.hook.filter(|_| writes) {
        hook.begin(&mut run.transaction, context.sequence);
    }
    let mut results = Vec::with_capacity(operations.len() + 1);
    for (index, json) in operations.iter().enumerate() {
        match run.operation(json, index, operations.len()) {
            Ok(result) => results.push(result),
            Err(Stop::Failed(error)) => {
                if run.selected_bytes > SELECTED_BYTES_MAX {
                    // What came before is just what is too much.
                    results.fill(OperationResult::Null);
                }
                results.push(OperationResult::Error(error));
                results.resize(operations.len(), OperationResult::Null);
                return Outcome::Failed(results);
            }
            Err(Stop::Blocked { timeout_ms }) => return Outcome::Blocked { timeout_ms },
        }
    }
    let Run {
        mut transaction,
        comments,
        durable,
        ..
    } = run;
    let checked = match context.hook.filter(|_| writes) {
        Some(hook) => hook
            .prepare(&mut transaction)
            .and_then(|()| check::run(&mut transaction)),
        None => check::run(&mut transaction),
    };
    match checked {
        Ok(()) => Outcome::Committed(Commit {
            results,
            changes: transaction.into_change_set(),
            comments,
            durable,
        }),
        Err(error) => {
            results.push(OperationResult::Error(error));
            Outcome::Failed(results)
        }
    }
}

/// Checks and closes a transaction that was written without operations.
///
/// # Errors
/// The first commit check that fails.
pub fn commit(mut transaction: Transaction<'_>) -> Result<ChangeSet, OvsdbError> {
    check::run(&mut transaction)?;
    Ok(transaction.into_change_set())
}

/// False for what certainly writes nothing.
fn may_write(json: &Value) -> bool {
    !matches!(
        json.get("op").and_then(Value::as_str),
        Some("select" | "wait" | "abort" | "comment" | "assert")
    )
}

/// Why an operation has no result.
enum Stop {
    Failed(OvsdbError),
    /// Until its `wait` holds, or this many milliseconds after the request came.
    Blocked {
        timeout_ms: Option<u64>,
    },
}

impl<E: Into<OvsdbError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A transaction on its way through its operations.
struct Run<'a> {
    transaction: Transaction<'a>,
    context: &'a Context<'a>,
    /// Of [`STEPS_MAX`].
    steps: u64,
    /// Of [`SELECTED_BYTES_MAX`].
    selected_bytes: usize,
    comments: Vec<String>,
    durable: bool,
}

impl Run<'_> {
    fn operation(&mut self, json: &Value, index: usize, count: usize) -> Result<OperationResult, Stop> {
        let operation = Operation::parse(json, self.transaction.schema(), index, count)?;
        let result = match operation {
            Operation::Insert {
                table,
                uuid_name,
                uuid,
                row,
            } => self.insert(table, uuid_name, uuid, row)?,
            Operation::Select {
                table,
                condition,
                columns,
                sort,
            } => self.select(table, condition, columns, sort)?,
            Operation::Update { table, condition, row } => self.update(json, table, condition, row)?,
            Operation::Mutate {
                table,
                condition,
                mutations,
            } => self.mutate(table, condition, mutations)?,
            Operation::Delete { table, condition } => self.delete(table, condition)?,
            Operation::Wait { .. } => self.wait(operation)?,
            Operation::Commit { durable } => {
                self.durable |= durable;
                empty_object()
            }
            Operation::Abort => return Err(ErrorKind::Aborted.into()),
            Operation::Comment { text } => {
                self.comments.push(text.to_owned());
                empty_object()
            }
            Operation::Assert { lock } if (self.context.owns_lock)(lock) => empty_object(),
            Operation::Assert { lock } => return Err(ErrorKind::NotOwner(lock.into()).into()),
        };
        self.check_writable(&operation)?;
        Ok(result)
    }

    /// The rows that satisfy every clause, to each of which so many things are then done.
    ///
    /// # Errors
    /// That would be more than one transaction may do; it is refused before it is begun.
    fn matching(
        &mut self,
        table: TableIndex,
        condition: &Condition,
        steps_per_row: usize,
    ) -> Result<Vec<Arc<Row>>, OvsdbError> {
        let path = self.transaction.path(table, condition);
        self.count_steps(self.transaction.looked_at(table, &path), condition.clauses.len() + 1)?;
        let rows = self.transaction.matching_on(table, condition, &path);
        self.count_steps(rows.len(), steps_per_row)?;
        Ok(rows)
    }

    fn count_steps(&mut self, rows: usize, each: usize) -> Result<(), OvsdbError> {
        self.steps = self.steps.saturating_add((rows as u64).saturating_mul(each as u64));
        if self.steps > STEPS_MAX {
            let text = format!(
                "the transaction would compare or change rows {} times up to this operation; at most {STEPS_MAX} times are allowed",
                self.steps
            );
            return Err(ErrorKind::ResourcesExhausted(text).into());
        }
        Ok(())
    }

    fn check_writable(&self, operation: &Operation<'_>) -> Result<(), OvsdbError> {
        if operation.is_read_only() {
            return Ok(());
        }
        let database = &self.transaction.schema().name;
        if database.starts_with('_') {
            return Err(ErrorKind::ReservedDatabase {
                op: operation.name(),
                database: database.clone(),
            }
            .into());
        }
        if self.context.read_only {
            return Err(ErrorKind::ReadOnly(operation.name()).into());
        }
        Ok(())
    }
}

fn empty_object() -> OperationResult {
    OperationResult::Text("{}".to_owned())
}

fn count_of(rows: usize) -> OperationResult {
    OperationResult::Text(format!("{{\"count\":{rows}}}"))
}
