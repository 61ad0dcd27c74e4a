//! `nonnet transact`: operations of RFC 7047 5.2 in, results out.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::arguments::{Common, Transact};
use crate::document::{parse_documents, read_text};
use crate::output::Output;
use crate::server::address;

/// Sends the operations; 1 where one of them, or the commit, failed.
pub(crate) async fn run(common: &Common, options: &Transact, output: &mut Output) -> Result<u8> {
    let (text, name) = match &options.operations {
        Some(text) => (text.clone(), "the operations"),
        None => (read_text("-".as_ref())?, "standard input"),
    };
    let (database, operations) = read_operations(&parse_documents(&text, name)?, name)?;
    let database = database.unwrap_or_else(|| common.db.clone());
    let address = address(common)?;
    let connection = nonnet_client::Connection::connect(&address).await?;
    let mut params = vec![Value::from(database)];
    params.extend(operations);
    let results = connection.call("transact", params).await?;
    let has_failed = results
        .as_array()
        .into_iter()
        .flatten()
        .any(|result| result.get("error").is_some_and(|error| !error.is_null()));
    if output.is_json() {
        output.json_line(&results)?;
    } else {
        output.json(&results)?;
    }
    Ok(u8::from(has_failed))
}

/// The operations in any of the forms that people write, and the database where they name it.
fn read_operations(documents: &[Value], name: &str) -> Result<(Option<String>, Vec<Value>)> {
    let mut database = None;
    let mut operations = Vec::new();
    for document in documents {
        let params = match document {
            Value::Object(members) if members.contains_key("op") => std::slice::from_ref(document),
            Value::Object(members) => members.get("params").and_then(Value::as_array).with_context(|| {
                format!("{name}: neither an operation (\"op\") nor a transact request (\"params\")")
            })?,
            Value::Array(items) => items,
            _ => bail!("{name}: an operation is an object, as {{\"op\":\"select\",\"table\":\"lxc\",\"where\":[]}}"),
        };
        for param in params {
            match param {
                Value::String(text) if operations.is_empty() && database.is_none() => database = Some(text.clone()),
                // As users of the seed write them: all operations in one array.
                Value::Array(nested) => operations.extend(nested.iter().cloned()),
                other => operations.push(other.clone()),
            }
        }
    }
    Ok((database, operations))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, database: Option<&str>, count: usize) {
        let (found, operations) = read_operations(&parse_documents(text, "f").unwrap(), "f").unwrap();
        assert_eq!((found.as_deref(), operations.len()), (database, count), "{text}");
        assert!(
            operations.iter().all(|operation| operation["op"] == json!("select")),
            "{text}"
        );
    }

    #[test]
    fn operations_come_in_all_forms() {
        let select = r#"{"op":"select","table":"lxc","where":[]}"#;
        check(select, None, 1);
        check(&format!("{select}\n{select}"), None, 2);
        check(&format!("[{select},{select}]"), None, 2);
        check(&format!("[\"Db\",{select}]"), Some("Db"), 1);
        check(&format!("[\"Db\",[{select},{select}]]"), Some("Db"), 2);
        check(
            &format!("{{\"method\":\"transact\",\"params\":[\"Db\",[{select}]],\"id\":1}}"),
            Some("Db"),
            1,
        );
    }
}
