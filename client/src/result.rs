//! The results of a transaction (RFC 7047 5.2).

use nonnet_schema::{Uuid, parse_uuid};
use serde_json::{Map, Value};

use crate::{
    error::{CallError, TransactError, WireError},
    method::not_understood,
};

/// What one operation gave.
#[derive(Clone, Debug, PartialEq)]
pub enum OperationResult {
    /// `insert`: the new row.
    Inserted(Uuid),
    /// `select`: the rows, each a map from column to value.
    Rows(Vec<Map<String, Value>>),
    /// `update`, `mutate`, `delete`: how many rows matched.
    Count(u64),
    /// `wait`, `commit`, `comment`, `assert`: nothing.
    Done,
}

impl OperationResult {
    /// The new row's UUID, of an `insert`.
    pub fn inserted(&self) -> Option<Uuid> {
        match self {
            Self::Inserted(uuid) => Some(*uuid),
            _ => None,
        }
    }

    /// The rows of a `select`; none of any other operation.
    pub fn rows(&self) -> &[Map<String, Value>] {
        match self {
            Self::Rows(rows) => rows,
            _ => &[],
        }
    }

    /// How many rows matched, of an operation that counts them.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Count(count) => Some(*count),
            _ => None,
        }
    }
}

/// Reads the result of a `transact`: the first error wherever it stands, or one result for each operation.
pub(crate) fn read_results(summaries: &[String], result: Value) -> Result<Vec<OperationResult>, TransactError> {
    let Value::Array(elements) = result else {
        return Err(shape("it is not an array").into());
    };
    if let Some((index, error)) = elements
        .iter()
        .enumerate()
        .find(|(_, element)| element.get("error").is_some())
    {
        let error = WireError::from_json(error);
        return Err(match summaries.get(index) {
            Some(summary) => TransactError::Operation {
                index,
                count: summaries.len(),
                summary: summary.clone(),
                error,
            },
            None => TransactError::Commit { error },
        });
    }
    if elements.len() != summaries.len() {
        let details = format!("{} results for {} operations", elements.len(), summaries.len());
        return Err(shape(&details).into());
    }
    elements
        .into_iter()
        .map(|element| read_result(element).map_err(TransactError::from))
        .collect()
}

fn read_result(element: Value) -> Result<OperationResult, CallError> {
    let Value::Object(mut members) = element else {
        return Err(shape("a result is not an object"));
    };
    if let Some(uuid) = members.get("uuid") {
        return read_uuid(uuid)
            .map(OperationResult::Inserted)
            .ok_or_else(|| shape("\"uuid\" is not a UUID"));
    }
    if let Some(count) = members.get("count") {
        return count
            .as_u64()
            .map(OperationResult::Count)
            .ok_or_else(|| shape("\"count\" is not a count"));
    }
    match members.remove("rows") {
        Some(rows) => serde_json::from_value(rows)
            .map(OperationResult::Rows)
            .map_err(|error| not_understood("transact", &error)),
        None => Ok(OperationResult::Done),
    }
}

/// The UUID in `["uuid", "..."]`.
pub(crate) fn read_uuid(json: &Value) -> Option<Uuid> {
    match json.as_array().map(Vec::as_slice) {
        Some([Value::String(tag), Value::String(text)]) if tag == "uuid" => parse_uuid(text),
        _ => None,
    }
}

fn shape(details: &str) -> CallError {
    not_understood("transact", &details)
}
