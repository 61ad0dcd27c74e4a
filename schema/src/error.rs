//! Every error that goes to a client, with its tag and its text.
//!
//! An error on the wire is `{"error": tag, "details": text?, "syntax": json-text?}` (RFC 7047 3.1). The tags and texts are those of
//! ovsdb-server, since clients match on them; each stands here and nowhere else.

use std::fmt;

use ecow::EcoString;
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::json;

/// An error as a client sees it: what went wrong, and the JSON it went wrong in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvsdbError(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    syntax: Option<String>,
}

/// What went wrong. The `Display` form is the `details` member.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each text says what its variant is")]
pub enum ErrorKind {
    // The shape of a request.
    #[error("Parsing {subject} failed: {fault}")]
    Parse { subject: EcoString, fault: ParseFault },
    #[error("row must be JSON object")]
    RowNotObject,
    #[error("expected {0}")]
    AtomExpected(&'static str),
    #[error("expected [\"{0}\", <{1}>]")]
    PairExpected(&'static str, &'static str),
    #[error("expected 2-element array")]
    TwoElementsExpected,
    #[error("\"{0}\" is not a valid UUID")]
    NotUuid(EcoString),
    #[error("named-uuid string is not a valid <id>")]
    NamedUuidNotId,
    #[error("{class} must have exactly one member but {present} are present")]
    SizeNotOne { class: &'static str, present: usize },
    #[error("{class} must have {min} to {max} members but {present} are present")]
    Size {
        class: &'static str,
        min: u32,
        max: u32,
        present: usize,
    },
    #[error("map contains duplicate key")]
    DuplicateKey,
    #[error("set contains duplicate")]
    DuplicateElement,
    #[error("array of distinct column names expected")]
    DistinctColumnsExpected,
    #[error("{0} is not a valid column name")]
    NotColumnName(EcoString),
    #[error("bad uuid")]
    BadUuid,
    #[error("timeout must be nonnegative")]
    NegativeTimeout,
    #[error("\"until\" must be \"==\" or \"!=\"")]
    BadUntil,
    #[error("Parse error in condition.")]
    BadClause,
    #[error("Parse error in mutation.")]
    BadMutation,
    #[error("No column {column} in table {table}.")]
    UnknownColumn { column: EcoString, table: EcoString },
    #[error("No function named {0}.")]
    UnknownFunction(EcoString),
    #[error("No mutator named {0}.")]
    UnknownMutator(EcoString),
    #[error("Type mismatch: \"{operator}\" operator may not be applied to column {column} of type {english}.")]
    OperatorMismatch {
        operator: &'static str,
        column: EcoString,
        english: String,
    },

    // Schemas.
    #[error("schema version \"{0}\" not in format x.y.z")]
    SchemaVersion(EcoString),
    #[error("names beginning with \"_\" are reserved")]
    ReservedName,
    #[error("name must be a valid id")]
    NameNotId,
    #[error("table must have at least one column")]
    NoColumns,
    #[error("maxRows must be at least 1")]
    MaxRowsTooSmall,
    #[error("index must have at least one column")]
    EmptyIndex,
    #[error("ephemeral columns (such as {0}) may not be indexed")]
    EphemeralIndex(EcoString),
    #[error("\"{0}\" is not an atomic-type")]
    NotAtomicType(EcoString),
    #[error("atomic-type expected")]
    AtomicTypeExpected,
    #[error("ovsdb type expected")]
    TypeExpected,
    #[error("bad min or max value")]
    BadMinOrMax,
    #[error("ovsdb type fails constraint checks")]
    TypeFailsConstraints,
    #[error("{0} exceeds {1}")]
    BoundsCrossed(&'static str, &'static str),
    #[error("{0} out of valid range 0 to 4294967295")]
    LengthRange(&'static str),
    #[error("refType must be \"strong\" or \"weak\" (not \"{0}\")")]
    BadRefType(EcoString),
    #[error("column {column} {role} refers to undefined table {table}")]
    UndefinedTable {
        column: EcoString,
        role: &'static str,
        table: EcoString,
    },

    // Values against their constraints.
    #[error("{0}")]
    NotUtf8(EcoString),
    #[error("{value} is not one of the allowed values ({allowed})")]
    NotAllowed { value: String, allowed: String },
    #[error("{value} is not in the valid range {min} to {max} (inclusive)")]
    OutOfRange { value: String, min: String, max: String },
    #[error("{value} is less than minimum allowed value {min}")]
    BelowMinimum { value: String, min: String },
    #[error("{value} is greater than maximum allowed value {max}")]
    AboveMaximum { value: String, max: String },
    #[error("\"{value}\" length {length} is less than minimum allowed length {min}")]
    TooShort { value: EcoString, length: usize, min: u32 },
    #[error("\"{value}\" length {length} is greater than maximum allowed length {max}")]
    TooLong { value: EcoString, length: usize, max: u32 },

    // Operations.
    #[error(
        "This UUID would duplicate a UUID already present within the \"{table}\" table or deleted from this table within the same transaction."
    )]
    DuplicateUuid { table: EcoString },
    #[error("This \"uuid-name\" appeared on an earlier \"insert\" operation.")]
    DuplicateUuidName,
    #[error("Cannot update immutable column {column} in table {table}.")]
    ImmutableUpdate { column: EcoString, table: EcoString },
    #[error("Cannot mutate immutable column {column} in table {table}.")]
    ImmutableMutate { column: EcoString, table: EcoString },
    #[error("Result of \"{0}\" operation is out of range.")]
    ResultOutOfRange(&'static str),
    #[error("Division by zero.")]
    DivisionByZero,
    #[error("Result of \"{0}\" operation contains duplicates.")]
    ResultDuplicates(&'static str),
    #[error("Attempted to store {count} elements in {english}.")]
    ResultSize { count: usize, english: String },
    #[error("{}", timed_out_text(*.0))]
    TimedOut(u64),
    #[error("aborted by request")]
    Aborted,
    #[error("Asserted lock {0} not held.")]
    NotOwner(EcoString),
    #[error("{0} operation not allowed when database server is in read only mode")]
    ReadOnly(&'static str),
    #[error("{op} operation not allowed on table in reserved database {database}")]
    ReservedDatabase { op: &'static str, database: EcoString },

    // The commit.
    #[error("Table {table} column {column} row {row} references nonexistent row {target} in table {target_table}.")]
    DanglingReference {
        table: EcoString,
        column: EcoString,
        row: Uuid,
        target: Uuid,
        target_table: EcoString,
    },
    #[error("cannot delete {table} row {row} because of {count} remaining reference(s)")]
    StillReferenced { table: EcoString, row: Uuid, count: usize },
    #[error(
        "transaction causes \"{table}\" table to contain {rows} rows, greater than the schema-defined limit of {max} row(s)"
    )]
    TooManyRows { table: EcoString, rows: usize, max: u32 },
    #[error("{0}")]
    WeakReference(String),
    #[error("{0}")]
    DuplicateIndex(String),
    #[error("{0}")]
    Hook(String),

    // Methods.
    #[error("{0} request params must begin with <db-name>")]
    NoDatabaseName(EcoString),
    #[error("{method} request specifies unknown database {database}")]
    UnknownDatabase { method: EcoString, database: EcoString },
    #[error(
        "{method} request specifies database {database} which is not yet available because it has not completed joining its cluster"
    )]
    DatabaseNotAvailable { method: EcoString, database: EcoString },
    #[error("transact: duplicate request ID")]
    DuplicateRequestId,
    #[error("{0}")]
    Params(EcoString),
    #[error("{0} request params must be <id>")]
    LockParams(&'static str),
    #[error("must issue \"unlock\" before new \"{0}\"")]
    LockHeld(&'static str),
    #[error("unlock: \"unlock\" without \"lock\" or \"steal\"")]
    UnlockWithoutLock,
    #[error("set_db_change_aware: true or false parameter expected")]
    AwareParams,
    #[error("RBAC rules for client \"{client}\" role \"{role}\" prohibit {what}")]
    Prohibited {
        client: EcoString,
        role: EcoString,
        what: String,
    },
    #[error("conversion is not allowed for read-only database {0}")]
    ConvertReadOnly(EcoString),
    #[error("new schema name ({schema}) does not match database name ({database})")]
    SchemaName { schema: EcoString, database: EcoString },

    // Monitors.
    #[error("monitor-requests must be object")]
    MonitorRequestsNotObject,
    #[error("no table named {0}")]
    MonitorTable(EcoString),
    #[error("duplicate monitor ID")]
    DuplicateMonitor,
    #[error("array of column names expected")]
    ColumnNamesExpected,
    #[error("column {0} mentioned more than once")]
    RepeatedColumn(EcoString),
    #[error("last-txn-id must be string")]
    TransactionIdNotString,
    #[error("last-txn-id must be UUID format.")]
    TransactionIdNotUuid,
    #[error("unknown monitor session")]
    UnknownMonitor,
    #[error("monitor-cond-change-requests must be object")]
    ConditionChangesNotObject,
    #[error("no table named {0} in monitor session")]
    NotMonitored(EcoString),
    #[error("table {0} no monitor-cond-change JSON array")]
    ConditionChangesNotArray(EcoString),
    #[error("changing columns is unsupported")]
    ColumnsChange,

    // The server's own state.
    #[error("{0}")]
    ResourcesExhausted(String),
    #[error("{subject}: write failed")]
    WriteFailed { subject: EcoString, io_error: EcoString },
    #[error("{0}")]
    Internal(String),
}

/// What the strict object reader found (ovsdb-server's `ovsdb-parser.c`).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each text says what its variant is")]
pub enum ParseFault {
    #[error("Object expected.")]
    ObjectExpected,
    #[error("Required '{0}' member is missing.")]
    Missing(&'static str),
    #[error("Type mismatch for member '{0}'.")]
    Mismatch(&'static str),
    #[error("{}", unexpected_text(.0, *.1))]
    Unexpected(EcoString, usize),
    #[error("No operation \"{0}\"")]
    UnknownOperation(EcoString),
    #[error("No table named {0}.")]
    UnknownTable(EcoString),
}

fn unexpected_text(member: &str, others: usize) -> String {
    match others {
        0 => format!("Member '{member}' is present but not allowed here."),
        1 => format!("Member '{member}' and 1 other member are present but not allowed here."),
        n => format!("Member '{member}' and {n} other members are present but not allowed here."),
    }
}

fn timed_out_text(elapsed_ms: u64) -> String {
    match elapsed_ms {
        0 => "\"where\" clause test failed".to_owned(),
        n => format!("\"wait\" timed out after {n} ms"),
    }
}

impl ErrorKind {
    /// The `error` member: ovsdb-server's tag for this kind.
    pub fn tag(&self) -> &'static str {
        use ErrorKind as K;
        match self {
            K::DuplicateKey | K::DuplicateElement => "ovsdb error",
            K::UnknownColumn { .. } => "unknown column",
            K::UnknownFunction(_) => "unknown function",
            K::UnknownMutator(_) => "unknown mutator",
            K::UnknownDatabase { .. } => "unknown database",
            K::DatabaseNotAvailable { .. } => "database not available",
            K::NotUtf8(_)
            | K::NotAllowed { .. }
            | K::OutOfRange { .. }
            | K::BelowMinimum { .. }
            | K::AboveMaximum { .. }
            | K::TooShort { .. }
            | K::TooLong { .. }
            | K::ImmutableUpdate { .. }
            | K::ImmutableMutate { .. }
            | K::ResultDuplicates(_)
            | K::ResultSize { .. }
            | K::TooManyRows { .. }
            | K::WeakReference(_)
            | K::DuplicateIndex(_)
            | K::Hook(_) => "constraint violation",
            K::DuplicateUuid { .. } => "duplicate uuid",
            K::DuplicateUuidName => "duplicate uuid-name",
            K::ResultOutOfRange(_) => "range error",
            K::DivisionByZero => "domain error",
            K::TimedOut(_) => "timed out",
            K::Aborted => "aborted",
            K::NotOwner(_) => "not owner",
            K::ReadOnly(_) | K::ReservedDatabase { .. } | K::ConvertReadOnly(_) => "not allowed",
            K::Prohibited { .. } => "permission error",
            K::SchemaName { .. } => "invalid parameters",
            K::DanglingReference { .. } | K::StillReferenced { .. } => "referential integrity violation",
            K::ResourcesExhausted(_) => "resources exhausted",
            K::WriteFailed { .. } => "I/O error",
            K::Internal(_) => "internal error",
            _ => "syntax error",
        }
    }
}

impl OvsdbError {
    /// An error with nothing to point at.
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, syntax: None }))
    }

    /// An error in `json`, shown as its compact text with sorted members.
    pub fn in_json(kind: ErrorKind, json: &Value) -> Self {
        Self(Box::new(Inner {
            kind,
            syntax: Some(json::to_text(json)),
        }))
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The JSON text it went wrong in.
    pub fn syntax(&self) -> Option<&str> {
        self.0.syntax.as_deref()
    }

    /// Appends the error object to `out`.
    pub fn write_json(&self, out: &mut String) {
        out.push_str("{\"details\":");
        json::write_string(&self.0.kind.to_string(), out);
        out.push_str(",\"error\":");
        json::write_string(self.0.kind.tag(), out);
        if let ErrorKind::WriteFailed { io_error, .. } = &self.0.kind {
            out.push_str(",\"io-error\":");
            json::write_string(io_error, out);
        }
        if let Some(syntax) = &self.0.syntax {
            out.push_str(",\"syntax\":");
            json::write_string(syntax, out);
        }
        out.push('}');
    }

    /// The error object as text.
    pub fn to_json_text(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }
}

impl From<ErrorKind> for OvsdbError {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for OvsdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.tag(), self.0.kind)?;
        if let Some(syntax) = &self.0.syntax {
            write!(f, " (in {syntax})")?;
        }
        Ok(())
    }
}

impl std::error::Error for OvsdbError {}
