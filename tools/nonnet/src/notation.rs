//! Datums in the JSON of state files: a set is an array, a map an object, an optional column a value or null.
//!
//! The notation of RFC 7047 is understood as well; nothing a column can hold looks like it.

use nonnet_schema::{Atom, AtomicType, BaseType, ColumnType, Datum, OvsdbError};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// Why JSON is no datum of a column.
#[derive(Debug, Error)]
pub(crate) enum NotationError {
    #[error("{expected} is expected, not {found}")]
    Shape {
        expected: &'static str,
        found: &'static str,
    },
    #[error("the member \"{member}\": {cause}")]
    Member { member: String, cause: Box<NotationError> },
    #[error("{0}")]
    Value(String),
}

/// The datum that JSON stands for in a column of that type.
pub(crate) fn parse_datum(json: &Value, type_: &ColumnType) -> Result<Datum, NotationError> {
    let wire = to_wire(json, type_)?;
    Datum::parse(&wire, type_, None).map_err(|error| NotationError::Value(reason(&error)))
}

/// The notation of RFC 7047 for what a file says.
fn to_wire(json: &Value, type_: &ColumnType) -> Result<Value, NotationError> {
    if is_wire(json) {
        return Ok(json.clone());
    }
    if let Some(value) = &type_.value {
        let members = match json {
            Value::Object(members) => members,
            Value::Null => return Ok(json!(["map", []])),
            other => return shape("an object", other),
        };
        let pair = |(name, member): (&String, &Value)| {
            let key = atom_to_wire(&Value::from(name.as_str()), &type_.key);
            let value = atom_to_wire(member, value);
            Ok(json!([within(name, key)?, within(name, value)?]))
        };
        let pairs = members.iter().map(pair).collect::<Result<Vec<_>, NotationError>>()?;
        return Ok(json!(["map", pairs]));
    }
    match json {
        Value::Array(items) if type_.max > 1 || type_.min == 0 => {
            let atoms = items.iter().map(|item| atom_to_wire(item, &type_.key));
            Ok(json!(["set", atoms.collect::<Result<Vec<_>, _>>()?]))
        }
        Value::Null if type_.min == 0 => Ok(json!(["set", []])),
        other => atom_to_wire(other, &type_.key),
    }
}

/// Numbers and booleans count as text where text is wanted, and the other way round.
fn atom_to_wire(json: &Value, base: &BaseType) -> Result<Value, NotationError> {
    let expected = match base.kind {
        AtomicType::Integer | AtomicType::Real => "a number",
        AtomicType::Boolean => "true or false",
        AtomicType::String => "text",
        AtomicType::Uuid => "a UUID",
    };
    let wire = match (base.kind, json) {
        (AtomicType::String, Value::String(_))
        | (AtomicType::Integer | AtomicType::Real, Value::Number(_))
        | (AtomicType::Boolean, Value::Bool(_)) => Some(json.clone()),
        (AtomicType::String, Value::Number(number)) => Some(number.to_string().into()),
        (AtomicType::String, Value::Bool(boolean)) => Some(boolean.to_string().into()),
        (AtomicType::Integer, Value::String(text)) => text.parse::<i64>().ok().map(Value::from),
        (AtomicType::Real, Value::String(text)) => text.parse::<f64>().ok().map(Value::from),
        (AtomicType::Boolean, Value::String(text)) => text.parse::<bool>().ok().map(Value::from),
        (AtomicType::Uuid, Value::String(text)) => Some(json!(["uuid", text])),
        _ => None,
    };
    wire.map_or_else(|| shape(expected, json), Ok)
}

/// A datum as files have it; `name` gives what stands for a UUID.
pub(crate) fn to_friendly(datum: &Datum, type_: &ColumnType, name: &mut dyn FnMut(&BaseType, &Atom) -> Value) -> Value {
    if let Some(value_type) = &type_.value {
        let mut members = Map::new();
        for (key, value) in datum {
            let key = match name(&type_.key, key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            members.insert(key, value.map_or(Value::Null, |value| name(value_type, value)));
        }
        return Value::Object(members);
    }
    let mut atoms: Vec<Value> = datum.keys().map(|key| name(&type_.key, key)).collect();
    if type_.max == 1 {
        atoms.pop().unwrap_or(Value::Null)
    } else {
        Value::Array(atoms)
    }
}

/// An atom as files have it, a UUID as its text.
pub(crate) fn friendly_atom(atom: &Atom) -> Value {
    match atom {
        Atom::Integer(integer) => (*integer).into(),
        Atom::Real(real) => real.get().into(),
        Atom::Boolean(boolean) => (*boolean).into(),
        Atom::String(text) => text.as_str().into(),
        Atom::Uuid(uuid) => uuid.hyphenated().to_string().into(),
    }
}

/// What an error says, without the tag and the JSON that a reader of the file does not know.
fn reason(error: &OvsdbError) -> String {
    error.kind().to_string()
}

/// True for `["set", [...]]`, `["map", [...]]`, `["uuid", "..."]` and `["named-uuid", "..."]`.
fn is_wire(json: &Value) -> bool {
    match json.as_array().map(Vec::as_slice) {
        Some([Value::String(tag), Value::Array(_)]) => tag == "set" || tag == "map",
        Some([Value::String(tag), Value::String(text)]) => tag == "uuid" && nonnet_schema::parse_uuid(text).is_some(),
        _ => false,
    }
}

fn within<T>(member: &str, result: Result<T, NotationError>) -> Result<T, NotationError> {
    result.map_err(|cause| NotationError::Member {
        member: member.to_owned(),
        cause: Box::new(cause),
    })
}

fn shape<T>(expected: &'static str, found: &Value) -> Result<T, NotationError> {
    Err(NotationError::Shape {
        expected,
        found: kind_of(found),
    })
}

/// What a JSON value is, in words.
pub(crate) fn kind_of(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use nonnet_schema::{DatabaseSchema, NONNET_SCHEMA};

    use super::*;

    fn column_type(table: &str, column: &str) -> ColumnType {
        let schema = DatabaseSchema::from_text(NONNET_SCHEMA).unwrap();
        let table = schema.table(schema.table_index(table).unwrap()).clone();
        table.column(table.column_index(column).unwrap()).type_.clone()
    }

    fn check(table: &str, column: &str, json: &Value, friendly: &Value) {
        let type_ = column_type(table, column);
        let datum = parse_datum(json, &type_).unwrap();
        assert_eq!(
            to_friendly(&datum, &type_, &mut |_, atom| friendly_atom(atom)),
            *friendly,
            "{json}"
        );
    }

    fn message(table: &str, column: &str, json: &Value) -> String {
        parse_datum(json, &column_type(table, column)).unwrap_err().to_string()
    }

    #[test]
    fn files_speak_plain_json() {
        check("bridges", "mtu", &json!(1400), &json!(1400));
        check("bridges", "mtu", &json!("1400"), &json!(1400));
        check("bridges", "mtu", &json!(null), &json!(null));
        check("bridges", "mtu", &json!(["set", []]), &json!(null));
        check("ports", "addresses", &json!(["10.0.0.2/24"]), &json!(["10.0.0.2/24"]));
        check("ports", "addresses", &json!("10.0.0.2/24"), &json!(["10.0.0.2/24"]));
        check(
            "lxc",
            "properties",
            &json!({"memory": 1024, "firewall": true}),
            &json!({"memory": "1024", "firewall": "true"}),
        );
        check("lxc", "properties", &json!(["map", [["a", "b"]]]), &json!({"a": "b"}));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(
            message("lxc", "running", &json!(5)),
            "true or false is expected, not a number"
        );
        assert_eq!(
            message("lxc", "properties", &json!({"features": ["nesting"]})),
            "the member \"features\": text is expected, not an array"
        );
        assert!(message("bridges", "mtu", &json!(5)).contains("68"));
        assert!(message("networks", "ipam", &json!("by hand")).contains("deterministic"));
    }
}
