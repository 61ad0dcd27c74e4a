//! JSON notation of values (RFC 7047 5.1), for the rows and conditions of transactions.

use nonnet_schema::Uuid;
use serde_json::{Value, json};

/// `["uuid", "..."]`.
pub fn uuid(uuid: Uuid) -> Value {
    json!(["uuid", uuid.hyphenated().to_string()])
}

/// `["set", [...]]`, of any number of atoms.
pub fn set(atoms: impl IntoIterator<Item = impl Into<Value>>) -> Value {
    let atoms: Vec<Value> = atoms.into_iter().map(Into::into).collect();
    json!(["set", atoms])
}

/// `["set", []]`.
pub fn empty_set() -> Value {
    json!(["set", []])
}

/// `["map", []]`.
pub fn empty_map() -> Value {
    json!(["map", []])
}

/// `["map", [[key, value], ...]]`.
pub fn map(pairs: impl IntoIterator<Item = (impl Into<Value>, impl Into<Value>)>) -> Value {
    let pairs: Vec<Value> = pairs
        .into_iter()
        .map(|(key, value)| json!([key.into(), value.into()]))
        .collect();
    json!(["map", pairs])
}

/// A `where` that only the row with that UUID meets.
pub fn where_uuid(row: Uuid) -> Value {
    where_equal("_uuid", uuid(row))
}

/// A `where` that the rows meet whose column has that value.
pub fn where_equal(column: &str, value: impl Into<Value>) -> Value {
    json!([[column, "==", value.into()]])
}
