//! Where rows are read from: a server, or what a file held at some time.

use std::cell::RefCell;

use anyhow::{Context, Result, bail};
use nonnet_client::{Connection, OperationResult};
use nonnet_engine::{Outcome, write_results};
use nonnet_schema::{DatabaseSchema, json};
use nonnet_store::Contents;
use serde_json::{Map, Value};

use crate::loaded::Loaded;

/// Answers selects.
pub(crate) enum Source<'a> {
    /// A server, as it is now.
    Server(&'a Connection),
    /// The rows of some time, without ephemeral columns.
    Past(Box<RefCell<Loaded>>),
}

/// A row as a `select` gives it.
pub(crate) type Selected = Map<String, Value>;

impl Source<'_> {
    /// The rows of some time.
    pub(crate) fn past(contents: Contents) -> Result<Self> {
        let loaded = Loaded::new(contents.schema, contents.rows)?;
        Ok(Self::Past(Box::new(RefCell::new(loaded))))
    }

    /// Whether ephemeral columns are told.
    pub(crate) fn has_ephemeral(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// The rows that each of the `select` operations gives, all of one moment.
    pub(crate) async fn select(&self, schema: &DatabaseSchema, operations: Vec<Value>) -> Result<Vec<Vec<Selected>>> {
        match self {
            Self::Server(connection) => {
                let results = connection.transact(&schema.name, operations).await?;
                let rows = |result: OperationResult| match result {
                    OperationResult::Rows(rows) => rows,
                    _ => Vec::new(),
                };
                Ok(results.into_iter().map(rows).collect())
            }
            Self::Past(loaded) => {
                let outcome = loaded.borrow_mut().execute(&operations, "");
                let results = match outcome {
                    Outcome::Committed(commit) => commit.results,
                    Outcome::Failed(results) => results,
                    Outcome::Blocked { .. } => Vec::new(),
                };
                let mut text = String::new();
                write_results(&results, &mut text);
                let results: Vec<Value> = serde_json::from_str(&text).context("the rows of the file")?;
                results.iter().map(rows).collect()
            }
        }
    }
}

fn rows(result: &Value) -> Result<Vec<Selected>> {
    if result.get("error").is_some() {
        bail!("{}", json::to_text(result));
    }
    let rows = result.get("rows").and_then(Value::as_array).into_iter().flatten();
    Ok(rows.filter_map(|row| row.as_object().cloned()).collect())
}
