//! Files of JSON documents: read in one go, told apart, and refused with line, column and reason.
//!
//! Takes text, gives JSON values. It knows nothing of what the documents mean.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use thiserror::Error;

use crate::limits::FILE_BYTES_MAX;

/// Why a file could not be read as JSON documents.
#[derive(Debug, Error)]
pub(crate) enum DocumentError {
    #[error("{source_name}: cannot be read: {cause}")]
    Read { source_name: String, cause: std::io::Error },
    #[error("{source_name}: longer than {FILE_BYTES_MAX} bytes")]
    TooLong { source_name: String },
    #[error("{source_name}: is not text: byte {offset} is not UTF-8")]
    NotText { source_name: String, offset: usize },
    #[error("{source_name}: is empty; a state file holds a JSON object, see `nonnet apply --help`")]
    Empty { source_name: String },
    #[error("{source_name}:{line}:{column}: {reason}\n{excerpt}")]
    Syntax {
        source_name: String,
        line: usize,
        column: usize,
        reason: String,
        /// The line with a mark below the place.
        excerpt: String,
    },
}

/// What a path is called in messages.
pub(crate) fn source_name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Reads a file; `-` is standard input.
pub(crate) fn read_text(path: &Path) -> Result<String, DocumentError> {
    let source_name = source_name(path);
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    if let Err(cause) = read {
        return Err(DocumentError::Read { source_name, cause });
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(DocumentError::TooLong { source_name });
    }
    String::from_utf8(bytes).map_err(|error| DocumentError::NotText {
        source_name,
        offset: error.utf8_error().valid_up_to(),
    })
}

/// The JSON documents of a text, one after the other.
pub(crate) fn parse_documents(text: &str, source_name: &str) -> Result<Vec<Value>, DocumentError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Strict>() {
        let Strict(value) = document.map_err(|error| syntax_error(text, source_name, &error))?;
        documents.push(value);
    }
    if documents.is_empty() {
        return Err(DocumentError::Empty {
            source_name: source_name.to_owned(),
        });
    }
    Ok(documents)
}

/// A JSON value of which no object has a member twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Value, E> {
        Ok(boolean.into())
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Value, E> {
        Ok(integer.into())
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Value, E> {
        Ok(integer.into())
    }

    fn visit_f64<E>(self, real: f64) -> Result<Value, E> {
        Ok(Number::from_f64(real).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = BTreeMap::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("the member \"{name}\" stands here twice")));
            }
            let Strict(value) = members.next_value()?;
            object.insert(name, value);
        }
        Ok(Value::Object(object.into_iter().collect::<Map<_, _>>()))
    }
}

/// The parser's error with its place and its reason in plain words.
fn syntax_error(text: &str, source_name: &str, error: &serde_json::Error) -> DocumentError {
    let said = error.to_string();
    let said = said
        .rsplit_once(" at line ")
        .map_or(said.as_str(), |(reason, _)| reason);
    let (offset, reason) = explain(text, offset_of(text, error.line(), error.column()), said);
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = text[line_start..offset].chars().count() + 1;
    let shown = text[line_start..].lines().next().unwrap_or_default().replace('\t', " ");
    let excerpt = format!(
        "{line:>5} | {}\n      | {}^",
        crate::output::printable(&shown),
        " ".repeat(column - 1)
    );
    DocumentError::Syntax {
        source_name: source_name.to_owned(),
        line,
        column,
        reason,
        excerpt,
    }
}

/// The byte that the parser's line and column (in bytes, from 1; 0 after a line break) tell.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let mut offset = (line_start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Where the fault really is, and what it is.
fn explain(text: &str, offset: usize, said: &str) -> (usize, String) {
    let found = text[offset..].chars().next();
    let before = text[..offset].trim_end();
    if said == "trailing comma" {
        let comma = if before.ends_with(',') {
            before.len() - 1
        } else {
            offset
        };
        return (comma, "a comma too much: nothing follows it".to_owned());
    }
    let is_value_or_key = said == "expected value" || said.starts_with("key must be a string");
    let reason = match found {
        Some(',') if is_value_or_key => "a comma too much".to_owned(),
        Some('/' | '#') => "JSON has no comments; remove it, or write a member whose name starts with \"_\"".to_owned(),
        Some('\'') => "strings stand in double quotes".to_owned(),
        Some('"' | '{' | '[') if said.starts_with("expected `,`") => {
            return (before.len().min(offset), "a comma is missing here".to_owned());
        }
        _ if said.starts_with("EOF") => format!(
            "the file ends too early ({})",
            said.replace("EOF while parsing", "within")
        ),
        _ => said.to_owned(),
    };
    (offset, reason)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn fault(text: &str) -> (usize, usize, String) {
        match parse_documents(text, "f").unwrap_err() {
            DocumentError::Syntax {
                line, column, reason, ..
            } => (line, column, reason),
            other => (0, 0, other.to_string()),
        }
    }

    fn check(text: &str, line: usize, column: usize, reason: &str) {
        let found = fault(text);
        assert_eq!((found.0, found.1), (line, column), "{text}: {}", found.2);
        assert!(found.2.contains(reason), "{text}: {}", found.2);
    }

    #[test]
    fn a_comma_too_much_is_shown_where_it_stands() {
        check("{\n  \"a\": 1,\n}", 2, 9, "a comma too much");
        check("{\"a\": [1, 2,]}", 1, 12, "a comma too much");
        check("{\"a\": [1,, 2]}", 1, 10, "a comma too much");
        check("{\"a\": 1,, \"b\": 2}", 1, 9, "a comma too much");
        check("{},{}", 1, 3, "a comma too much");
    }

    #[test]
    fn comments_are_named() {
        check("{\n \"a\": 1, // why\n \"b\": 2}", 2, 10, "no comments");
        check("# state\n{}", 1, 1, "no comments");
    }

    #[test]
    fn other_faults_have_a_place() {
        check("{\"a\": 1\n \"b\": 2}", 1, 8, "a comma is missing");
        check("{\"a\": 'x'}", 1, 7, "double quotes");
        check("{\"a\": 1, \"a\": 2}", 1, 12, "\"a\" stands here twice");
        assert!(fault("{\"a\": [1").2.contains("ends too early"));
        assert!(fault("  \n").2.contains("is empty"));
    }

    #[test]
    fn places_count_characters() {
        check("{\"\u{e9}\u{e9}\": 1,}", 1, 9, "a comma too much");
    }

    #[test]
    fn two_documents_in_one_file_are_two() {
        assert_eq!(parse_documents("{\"a\":1}\n{\"b\":2}{}", "f").unwrap().len(), 3);
    }
}
