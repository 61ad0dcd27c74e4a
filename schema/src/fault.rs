//! Every fault of a schema, each with its place; [`DatabaseSchema::parse`] stops at the first.

use serde_json::Value;

use crate::error::{ErrorKind, OvsdbError};
use crate::schema::{ColumnSchema, DatabaseSchema, TableSchema};
use crate::types::{BaseType, ColumnType};

/// Something wrong in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFault {
    /// Where, as RFC 6901 writes it: `/tables/Bridge/columns/name/type`; empty for the whole.
    pub path: String,
    /// What, as a server would answer.
    pub error: OvsdbError,
}

impl DatabaseSchema {
    /// Every fault of a `<database-schema>`, in the order of tables and columns by name; of one object the first. None for a sound one.
    pub fn faults(json: &Value) -> Vec<SchemaFault> {
        let mut faults = Vec::new();
        let mut rest = json.clone();
        if let Some(tables) = rest.get_mut("tables").and_then(Value::as_object_mut) {
            let names: Vec<String> = tables.keys().cloned().collect();
            for (name, table) in std::mem::take(tables) {
                check_table(&name, table, &names, &mut faults);
            }
        }
        if let Err(error) = Self::parse(&rest) {
            faults.insert(0, fault("", error));
        } else if faults.is_empty() {
            // What concerns several tables at once and was not found by itself.
            faults.extend(Self::parse(json).err().map(|error| fault("", error)));
        }
        faults
    }
}

fn fault(path: &str, error: OvsdbError) -> SchemaFault {
    let path = path.to_owned();
    SchemaFault { path, error }
}

/// Finds the faults of the table's columns and indexes, then of what is left without those.
fn check_table(name: &str, mut table: Value, tables: &[String], faults: &mut Vec<SchemaFault>) {
    let path = format!("/tables/{}", escaped(name));
    let mut has_sound_column = true;
    if let Some(columns) = table.get_mut("columns").and_then(Value::as_object_mut) {
        let had_any = !columns.is_empty();
        columns.retain(|column, json| {
            let path = format!("{path}/columns/{}", escaped(column));
            let found = column_faults(&path, column, json, tables);
            let is_sound = found.is_empty();
            faults.extend(found);
            is_sound
        });
        has_sound_column = !had_any || !columns.is_empty();
    }
    if !has_sound_column {
        // What is left says nothing about the table.
        return;
    }
    let indexes = table
        .get("indexes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if let Some(members) = table.as_object_mut().filter(|_| !indexes.is_empty()) {
        members.remove("indexes");
    }
    match (TableSchema::parse(name, &table), check_name(name)) {
        (_, Err(error)) | (Err(error), Ok(())) => faults.push(fault(&path, error)),
        (Ok(parsed), Ok(())) => {
            for (at, index) in indexes.iter().enumerate() {
                if let Err(error) = parsed.parse_index(index) {
                    faults.push(fault(&format!("{path}/indexes/{at}"), error));
                }
            }
        }
    }
}

fn column_faults(path: &str, name: &str, json: &Value, tables: &[String]) -> Vec<SchemaFault> {
    if let Err(error) = check_name(name) {
        return vec![fault(path, error)];
    }
    let type_ = json.get("type");
    if let Err(error) = ColumnSchema::parse(name, json) {
        let mut within = type_
            .map(|type_| type_faults(&format!("{path}/type"), type_))
            .unwrap_or_default();
        if within.is_empty() {
            within.push(fault(path, error));
        }
        return within;
    }
    let Some(Ok(type_)) = type_.map(ColumnType::parse) else {
        return Vec::new();
    };
    let bases = [("key", Some(&type_.key)), ("value", type_.value.as_ref())];
    let undefined = |(role, base): (&'static str, Option<&BaseType>)| {
        let (table, _) = base?.reference()?;
        let is_defined = tables.iter().any(|name| name == table.as_str());
        let (column, table) = (name.into(), table.clone());
        (!is_defined).then(|| {
            let error = ErrorKind::UndefinedTable { column, role, table }.into();
            fault(&format!("{path}/type/{role}/refTable"), error)
        })
    };
    bases.into_iter().filter_map(undefined).collect()
}

fn type_faults(path: &str, type_: &Value) -> Vec<SchemaFault> {
    let Err(error) = ColumnType::parse(type_) else {
        return Vec::new();
    };
    let bases = ["key", "value"]
        .into_iter()
        .filter_map(|role| Some((role, type_.get(role)?)));
    let within = bases.filter_map(|(role, base)| {
        let error = BaseType::parse(base).err()?;
        Some(fault(&format!("{path}/{role}"), error))
    });
    let within: Vec<SchemaFault> = within.collect();
    if within.is_empty() {
        vec![fault(path, error)]
    } else {
        within
    }
}

fn check_name(name: &str) -> Result<(), OvsdbError> {
    crate::schema::check_name(name, &Value::from(name))
}

/// A member's name within a path (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(schema: &Value, expected: &[(&str, &str)]) {
        let faults = DatabaseSchema::faults(schema);
        let found: Vec<(&str, String)> = faults
            .iter()
            .map(|it| (it.path.as_str(), it.error.kind().to_string()))
            .collect();
        let expected: Vec<(&str, String)> = expected
            .iter()
            .map(|(path, text)| (*path, (*text).to_owned()))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(DatabaseSchema::parse(schema).is_ok(), expected.is_empty());
    }

    #[test]
    fn a_sound_schema_has_no_fault() {
        let text: Value = serde_json::from_str(crate::NONNET_SCHEMA).unwrap();
        check(&text, &[]);
    }

    #[test]
    fn every_fault_is_found_at_its_place() {
        let schema = json!({"name": "d", "version": "1", "tables": {
            "a": {"columns": {
                "k": {"type": {"key": {"type": "integer", "minInteger": 5, "maxInteger": 1}, "value": "text"}},
                "m": {"type": {"key": "integer", "min": 2}},
                "r": {"type": {"key": {"type": "uuid", "refTable": "gone"}, "min": 0}},
                "x": {"type": "integer", "extra": 1},
                "_y": {"type": "integer"},
                "z": {"type": "integer", "ephemeral": true}},
                "indexes": [["z"], ["nope"]]},
            "b": {"columns": {}},
            "c/d": {"columns": {"n": {"type": "integer"}}},
            "e": {"columns": {"n": {"type": "integer"}}, "maxRows": 0}}});
        check(
            &schema,
            &[
                ("", "schema version \"1\" not in format x.y.z"),
                ("/tables/a/columns/_y", "names beginning with \"_\" are reserved"),
                ("/tables/a/columns/k/type/key", "minInteger exceeds maxInteger"),
                ("/tables/a/columns/k/type/value", "\"text\" is not an atomic-type"),
                ("/tables/a/columns/m/type", "ovsdb type fails constraint checks"),
                (
                    "/tables/a/columns/r/type/key/refTable",
                    "column r key refers to undefined table gone",
                ),
                (
                    "/tables/a/columns/x",
                    "Parsing schema for column x failed: Member 'extra' is present but not allowed here.",
                ),
                (
                    "/tables/a/indexes/0",
                    "ephemeral columns (such as z) may not be indexed",
                ),
                ("/tables/a/indexes/1", "nope is not a valid column name"),
                ("/tables/b", "table must have at least one column"),
                ("/tables/c~1d", "name must be a valid id"),
                ("/tables/e", "maxRows must be at least 1"),
            ],
        );
    }

    #[test]
    fn what_is_no_schema_at_all_has_one_fault() {
        check(&json!(5), &[("", "Parsing database schema failed: Object expected.")]);
        check(
            &json!({"tables": {}}),
            &[("", "Parsing database schema failed: Required 'name' member is missing.")],
        );
    }
}
