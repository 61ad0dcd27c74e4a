//! Where `ovsdb-server` 3.1 and `nonnetd` may differ in a random test, each with its reason; anything else is a failure.
//!
//! What crashes `ovsdb-server`, or makes it write beyond its memory, is never generated (see [`crate::generate`]).

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Errors of a mutation that depend on the row; with several rows the first one reported is any of them.
const ROW_ERRORS: [&str; 3] = ["constraint violation", "domain error", "range error"];

/// What commit errors are about; with several violations the one reported is any of them.
const COMMIT_ERRORS: [&[&str]; 5] = [
    &["references nonexistent row"],
    &["cannot delete"],
    &["transaction causes"],
    &["Deletion of", "Weak reference column"],
    &["Transaction causes multiple rows"],
];

/// The member under which a row's error stands that may be another row's.
const ANY_ROW: &str = "of any row";

/// The locks a session owns, as far as it was told.
#[derive(Debug, Default)]
pub struct OwnedLocks(BTreeSet<String>);

impl OwnedLocks {
    /// Takes the answer to a request.
    pub fn answered(&mut self, request: &Value, reply: &Value) {
        let name = request["params"][0].to_string();
        match request["method"].as_str() {
            Some("lock" | "steal") if reply["result"]["locked"] == true => drop(self.0.insert(name)),
            Some("unlock") if reply.get("result").is_some_and(|result| !result.is_null()) => {
                self.0.remove(&name);
            }
            _ => {}
        }
    }

    /// Takes a notification; false where `ovsdb-server` tells the owner once more that it owns the lock, because another session has
    /// left the queue. That is harmless, and it is not in RFC 7047.
    pub fn notified(&mut self, notification: &Value) -> bool {
        let name = notification["params"][0].to_string();
        match notification["method"].as_str() {
            Some("locked") => return self.0.insert(name),
            Some("stolen") => drop(self.0.remove(&name)),
            _ => {}
        }
        true
    }
}

/// A reply to `cancel` that `ovsdb-server` sends to sessions only that have called `set_db_change_aware`; RFC 7047 4.1.4 has no
/// such condition.
pub fn is_cancellation(reply: &Value) -> bool {
    reply["error"] == "canceled"
}

/// A standalone `ovsdb-server` has no transaction ids: those of `nonnetd` go.
pub fn without_transaction_id(message: &mut Value, request: Option<&Value>) {
    if message["method"] == "update3" {
        message["params"][1] = json!("id");
    }
    if request.is_some_and(|request| request["method"] == "monitor_cond_since") && message["result"].is_array() {
        message["result"][1] = json!("id");
    }
}

/// A division can make a zero negative in `ovsdb-server`, which holds it equal to the other zero and tells of no change.
pub fn without_negative_zeros(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_negative_zeros),
        Value::Object(members) => members.values_mut().for_each(without_negative_zeros),
        Value::Number(number) if number.is_f64() && number.as_f64() == Some(0.0) => *value = json!(0),
        _ => {}
    }
}

/// The results of a transaction without what may differ: a text that changed after 3.1, whether a millisecond had passed when a `wait`
/// gave up, which of several violations a commit error names, and (see [`with_any_row`]) which row a mutation failed on.
pub fn comparable_results(operations: &[Value], results: &mut [Value]) {
    for (number, result) in results.iter_mut().enumerate() {
        if result["error"] == "duplicate uuid" {
            result["details"] = json!("This UUID would duplicate another.");
        }
        if result["error"] == "timed out" {
            result["details"] = json!("after some time or none");
        }
        match operations.get(number) {
            Some(operation) if operation["op"] == "mutate" && is_row_error(result) => {
                *result = json!({ ANY_ROW: result });
            }
            Some(_) => {}
            None => {
                let details = result["details"].as_str().unwrap_or_default();
                let kind = COMMIT_ERRORS
                    .iter()
                    .find(|alternatives| alternatives.iter().any(|words| details.contains(words)));
                result["details"] = kind.map_or_else(|| json!(details), |alternatives| json!(alternatives[0]));
            }
        }
    }
}

/// The same messages where any row may have been the first that a mutation failed on: rows are visited in no order.
pub fn with_any_row(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(with_any_row),
        Value::Object(members) => {
            if let Some(error) = members.get_mut(ANY_ROW) {
                *error = json!("an error");
            }
            members.values_mut().for_each(with_any_row);
        }
        _ => {}
    }
}

/// Messages without updates. When a transaction that waited commits after the one that released it, `ovsdb-server` tells some
/// sessions of both in one update, depending on the order in which it visits them; what the updates amount to is compared all the same.
pub fn without_updates(messages: &mut Vec<Value>) {
    messages.retain(|message| {
        !message["method"]
            .as_str()
            .is_some_and(|method| method.starts_with("update"))
    });
}

fn is_row_error(result: &Value) -> bool {
    result["error"]
        .as_str()
        .is_some_and(|error| ROW_ERRORS.contains(&error))
}
