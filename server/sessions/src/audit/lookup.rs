//! A `select` on `Commit` with a condition: which records of the logs are looked at, and the rows that come of them.
//!
//! The clauses on these columns say which records: `database`, `seq` and `time` (a range each), `rows` (`includes`: the records of a row) and
//! `_uuid` or `hash` (`==`: a record by its hash). All other clauses are compared with each of these records, of which
//! [`LOOKED_AT_MAX`] are looked at.

use std::ops::RangeInclusive;
use std::sync::Arc;

use ecow::EcoString;
use nonnet_chain::StoredRecord;
use nonnet_engine::{Access, ChangeSet, Context, Database, Entropy, OperationResult, Outcome, Row, RowChange, execute};
use nonnet_schema::{
    Atom, Clause, Condition, DatabaseSchema, Datum, ErrorKind, Function, OvsdbError, TableIndex, TableSchema, Uuid,
};
use serde_json::Value;

use super::commit::{Extent, HEADER_COLUMNS, body_fields, header_fields};
use super::window::Kept;
use crate::limits::{FOUND_BYTES_MAX, FOUND_ROWS_MAX, LOOKED_AT_MAX};

/// A `select` that the logs are looked through for.
#[derive(Debug)]
pub struct CommitLookup {
    schema: Arc<DatabaseSchema>,
    table: TableIndex,
    operation: Value,
    condition: Condition,
    /// The places in the condition of the clauses that a header suffices for.
    header_clauses: Vec<usize>,
    logs: Vec<(EcoString, u64)>,
    seqs: RangeInclusive<u64>,
    times_us: RangeInclusive<u64>,
    row: Option<Uuid>,
    /// The rows that the condition names.
    named: Vec<Uuid>,
    hash: Option<String>,
    seed: [u8; 32],
    looked_at: usize,
    found: Vec<(Uuid, Vec<Datum>)>,
    found_bytes: usize,
}

impl CommitLookup {
    /// Takes a `select` on the table; `logs` are the databases, each with its newest record that may be shown. None where the condition has
    /// no clause on a column.
    pub(crate) fn new(
        schema: &Arc<DatabaseSchema>,
        table: TableIndex,
        operation: &Value,
        condition: Condition,
        logs: Vec<(EcoString, u64)>,
        seed: [u8; 32],
    ) -> Option<Self> {
        let columns = schema.table(table);
        let is_column = |clause: &Clause| matches!(clause, Clause::Column { .. });
        if !condition.clauses.iter().any(is_column) {
            return None;
        }
        let header = HEADER_COLUMNS.map(|name| columns.column_index(name));
        let is_of_header = |clause: &Clause| match clause {
            Clause::Column { column, .. } => header.contains(&Some(*column)),
            Clause::Literal(_) => true,
        };
        let places = condition.clauses.iter().enumerate();
        let header_clauses = places
            .filter(|(_, clause)| is_of_header(clause))
            .map(|(at, _)| at)
            .collect();
        let mut lookup = Self {
            schema: Arc::clone(schema),
            table,
            operation: operation.clone(),
            header_clauses,
            logs,
            seqs: 0..=u64::MAX,
            times_us: 0..=u64::MAX,
            row: None,
            named: Vec::new(),
            hash: None,
            seed,
            looked_at: 0,
            found: Vec::new(),
            found_bytes: 0,
            condition: Condition::default(),
        };
        for clause in &condition.clauses {
            lookup.narrow(clause, columns);
        }
        lookup.condition = condition;
        Some(lookup)
    }

    /// The databases to look through, each with the newest record that may be shown.
    pub fn logs(&self) -> Vec<(EcoString, u64)> {
        self.logs.clone()
    }

    /// The sequence numbers of the records; empty where start is after end.
    pub fn seqs(&self) -> RangeInclusive<u64> {
        self.seqs.clone()
    }

    /// Their times, in microseconds since 1970; 0 and the greatest number stand for no limit.
    pub fn times_us(&self) -> RangeInclusive<u64> {
        self.times_us.clone()
    }

    /// A row that they changed; None for any.
    pub fn row(&self) -> Option<Uuid> {
        self.row
    }

    /// What their hashes begin with, in lower case hexadecimal digits; None for anything.
    pub fn hash(&self) -> Option<&str> {
        self.hash.as_deref()
    }

    /// Looks at a record.
    ///
    /// # Errors
    /// Too many records are looked at or found.
    pub fn look(&mut self, database: &EcoString, record: &StoredRecord) -> Result<(), OvsdbError> {
        self.looked_at += 1;
        if self.looked_at > LOOKED_AT_MAX {
            return Err(too_much(format!(
                "the condition has more than {LOOKED_AT_MAX} commits looked at; one on seq, time or rows would have fewer"
            )));
        }
        let Some(record) = Kept::decode(record) else {
            let kind = ErrorKind::Internal(format!("record {} of {database} cannot be decoded", record.seq));
            return Err(kind.into());
        };
        let table = self.schema.table(self.table);
        let mut fields = header_fields(table, database, &record.header, &record.hash);
        let clauses = &self.condition.clauses;
        if !self.header_clauses.iter().all(|at| clauses[*at].holds(&fields)) {
            return Ok(());
        }
        body_fields(&mut fields, table, record.body.as_deref(), Extent::Whole(&self.named));
        if !self.condition.all_hold(&fields) {
            return Ok(());
        }
        self.found_bytes += fields.iter().map(Datum::weight_bytes).sum::<usize>();
        if self.found.len() >= FOUND_ROWS_MAX || self.found_bytes > FOUND_BYTES_MAX {
            return Err(too_much(format!(
                "more than {FOUND_ROWS_MAX} commits or {FOUND_BYTES_MAX} bytes satisfy the condition; ask for a range of seq or time"
            )));
        }
        self.found.push((record.hash.transaction_id(), fields));
        Ok(())
    }

    /// The result of the `select` over the records that were looked at.
    pub fn finish(self) -> OperationResult {
        let mut entropy = Entropy::new(self.seed);
        let mut rows = Database::new(Arc::clone(&self.schema), entropy.uuid().as_u64_pair().0);
        let found = self.found.into_iter().map(|(uuid, fields)| RowChange {
            table: self.table,
            uuid,
            old: None,
            new: Some(Arc::new(Row::new(uuid, entropy.uuid(), fields))),
        });
        let found = ChangeSet::new(found.collect());
        rows.apply(&found);
        match execute(&rows, &[self.operation], &read_context(), &mut entropy) {
            Outcome::Committed(commit) => commit.results,
            Outcome::Failed(results) => results,
            Outcome::Blocked { .. } => Vec::new(),
        }
        .pop()
        .unwrap_or(OperationResult::Null)
    }

    /// Lets a clause say which records are looked at.
    fn narrow(&mut self, clause: &Clause, table: &TableSchema) {
        let Clause::Column {
            column,
            function,
            argument,
        } = clause
        else {
            return;
        };
        let is_equal = *function == Function::Equal || *function == Function::Includes;
        match (table.column(*column).name.as_str(), argument.as_scalar()) {
            ("seq", Some(Atom::Integer(bound))) => narrow_range(&mut self.seqs, *function, *bound),
            ("time", Some(Atom::Integer(bound))) => narrow_range(&mut self.times_us, *function, *bound),
            ("database", Some(Atom::String(name))) if is_equal => self.logs.retain(|(log, _)| log == name),
            ("hash", Some(Atom::String(hash))) if is_equal && is_hash(hash) => self.hash = Some(hash.to_string()),
            ("hash", Some(_)) if is_equal => self.logs.clear(),
            ("_uuid", Some(Atom::Uuid(id))) if is_equal => self.hash = Some(id.simple().to_string()),
            ("rows", _) => {
                self.named.extend(argument.keys().filter_map(Atom::as_uuid));
                if is_equal && self.row.is_none() {
                    self.row = argument.keys().find_map(Atom::as_uuid);
                }
            }
            _ => {}
        }
    }
}

/// What a `select` of the server's own rows is run with.
pub(crate) fn read_context<'a>() -> Context<'a> {
    Context {
        elapsed_ms: 0,
        read_only: true,
        access: Access::default(),
        owns_lock: &|_| false,
        sequence: 0,
        hook: None,
    }
}

/// Nothing but what a hash prints as finds one.
fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn narrow_range(range: &mut RangeInclusive<u64>, function: Function, bound: i64) {
    // Nothing is below 0; a range whose start is after its end has nothing in it.
    let (first, last) = match function {
        Function::Equal | Function::Includes => (Some(bound), Some(bound)),
        Function::Less => (None, Some(bound.saturating_sub(1))),
        Function::LessOrEqual => (None, Some(bound)),
        Function::Greater => (Some(bound.saturating_add(1)), None),
        Function::GreaterOrEqual => (Some(bound), None),
        Function::NotEqual | Function::Excludes => return,
    };
    if last.is_some_and(|last| last < 0) {
        *range = RangeInclusive::new(1, 0);
        return;
    }
    let first = first.and_then(|first| u64::try_from(first).ok()).unwrap_or(0);
    let last = last.and_then(|last| u64::try_from(last).ok()).unwrap_or(u64::MAX);
    *range = first.max(*range.start())..=last.min(*range.end());
}

fn too_much(text: String) -> OvsdbError {
    ErrorKind::ResourcesExhausted(text).into()
}
