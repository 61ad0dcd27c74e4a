//! `query` and `transact`: the operations of a `transact` request on a file.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use nonnet_chain::Request;
use nonnet_engine::{Commit, OperationResult, Outcome, write_results};
use nonnet_schema::json;
use nonnet_store::{Log as _, ovsdb_file};
use serde_json::Value;

use super::NAME;
use super::file::{self, Writable, plain};
use crate::loaded::Loaded;
use crate::{origin, time};

/// The database with rules that its schema does not tell.
const NETWORK_DATABASE: &str = "OpNonNet";

/// What a `wait` answers that would have to wait.
const NO_TRIGGERS: &str = "{\"details\":\"triggers not supported\",\"error\":\"not supported\"}";

/// Prints what the operations answer; the file stays as it is.
pub(super) fn query(db: &Path, text: &str, role: Option<&str>, out: &mut impl Write) -> Result<()> {
    let mut loaded = file::load(db)?;
    let run = Run::new(&mut loaded, text, role)?;
    Ok(writeln!(out, "{}", run.text)?)
}

/// Prints what the operations answer, once their changes are in the file.
pub(super) fn transact(db: &Path, text: &str, role: Option<&str>, out: &mut impl Write) -> Result<()> {
    let (mut loaded, writable) = file::load_to_write(db)?;
    let Run { text, commit } = Run::new(&mut loaded, text, role)?;
    let schema = loaded.database.schema();
    if let Some(commit) = commit.filter(|commit| commit.changes.is_persistent(schema)) {
        if schema.name == NETWORK_DATABASE {
            bail!("{NETWORK_DATABASE}: nonnetd alone knows what its rows may hold; use `nonnet transact`");
        }
        write(db, &loaded, writable, &commit)?;
    }
    Ok(writeln!(out, "{text}")?)
}

fn write(db: &Path, loaded: &Loaded, writable: Writable, commit: &Commit) -> Result<()> {
    let schema = loaded.database.schema();
    let moment = origin::moment();
    match writable {
        Writable::Ovsdb(lock) => {
            let comment = (!commit.comments.is_empty()).then(|| commit.comments.join("\n"));
            let date_ms = time::now_us() / 1000;
            let appended = ovsdb_file::append(db, &lock, schema, &commit.changes, date_ms, comment.as_deref());
            appended.map_err(|cause| anyhow!("I/O error: {}: write failed ({})", db.display(), plain(&cause)))
        }
        Writable::Nonnet(mut log, mut chain) => {
            let request = Request {
                comments: commit.comments.iter().map(|comment| comment.as_str().into()).collect(),
                operations: u32::try_from(commit.results.len()).unwrap_or(u32::MAX),
                txn_uid: origin::random_uuid()?,
                durable: true,
                ..Request::default()
            };
            let expected = chain.head();
            let author = origin::author(NAME, "transact");
            let record = chain.commit(&author, &request, moment, &commit.changes, schema)?;
            log.append(&[record], expected, true)?;
            // So that the next start has little to replay; the record is written, whatever becomes of this.
            while matches!(log.maintain(true), Ok(true)) {}
            Ok(())
        }
    }
}

/// A transaction that was run.
struct Run {
    /// The answer.
    text: String,
    /// What there is to write, where it succeeded.
    commit: Option<Commit>,
}

impl Run {
    fn new(loaded: &mut Loaded, text: &str, role: Option<&str>) -> Result<Self> {
        let request: Value = serde_json::from_str(text).map_err(|error| anyhow!("\"{text}\": {error}"))?;
        if !request.is_array() && !request.is_object() {
            bail!("\"{text}\": syntax error at beginning of input");
        }
        let operations = match request.as_array().map(Vec::as_slice) {
            Some([Value::String(name), operations @ ..]) if *name == loaded.database.schema().name.as_str() => {
                operations
            }
            Some(_) => return Ok(Self::malformed("database name expected as first parameter", &request)),
            None => return Ok(Self::malformed("array expected", &request)),
        };
        let role = role.unwrap_or_default();
        let (results, commit) = match loaded.execute(operations, role) {
            Outcome::Committed(commit) => (commit.results.clone(), Some(commit)),
            Outcome::Failed(results) => (results, None),
            Outcome::Blocked { .. } => (loaded.results_until_blocked(operations, role), None),
        };
        let mut text = String::new();
        write_results(&results, &mut text);
        Ok(Self { text, commit })
    }
}

impl Run {
    fn malformed(details: &str, request: &Value) -> Self {
        let mut text = format!("{{\"details\":\"{details}\",\"error\":\"syntax error\",\"syntax\":");
        json::write_string(&json::to_text(request), &mut text);
        text.push('}');
        Self { text, commit: None }
    }
}

impl Loaded {
    /// The results of a transaction that would have to wait, which only a server can.
    fn results_until_blocked(&mut self, operations: &[Value], role: &str) -> Vec<OperationResult> {
        let ends = 0..operations.len();
        let mut is_blocked = |end: &usize| matches!(self.execute(&operations[..=*end], role), Outcome::Blocked { .. });
        let at = ends.clone().find(&mut is_blocked).unwrap_or(ends.end);
        let mut results = match self.execute(&operations[..at], role) {
            Outcome::Committed(commit) => commit.results,
            Outcome::Failed(mut results) => {
                // The checks of a commit that never came.
                results.truncate(at);
                results
            }
            Outcome::Blocked { .. } => Vec::new(),
        };
        results.push(OperationResult::Text(NO_TRIGGERS.to_owned()));
        results.resize(operations.len(), OperationResult::Null);
        results
    }
}
