//! Atoms: the single values of RFC 7047 5.1, in canonical order.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use ecow::EcoString;
use serde_json::Value;
use uuid::Uuid;

use crate::error::{ErrorKind, OvsdbError};
use crate::json;

/// The type of an atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AtomicType {
    /// A 64-bit signed integer.
    Integer,
    /// A finite IEEE double.
    Real,
    /// True or false.
    Boolean,
    /// UTF-8 text without NUL.
    String,
    /// A 128-bit UUID.
    Uuid,
}

impl AtomicType {
    /// The name in a schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Integer, Self::Real, Self::Boolean, Self::String, Self::Uuid]
            .into_iter()
            .find(|t| t.name() == name)
    }

    /// The default atom (RFC 7047 5.2.1): zero, false, empty, all zeros.
    pub fn default_atom(self) -> Atom {
        match self {
            Self::Integer => Atom::Integer(0),
            Self::Real => Atom::Real(Real::default()),
            Self::Boolean => Atom::Boolean(false),
            Self::String => Atom::String(EcoString::new()),
            Self::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }
}

/// A finite real, never negative zero, so that it has a total order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Real(f64);

impl Real {
    /// None for an infinity or a NaN.
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero turns -0.0 into 0.0.
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// The value.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// One value. Atoms of one column are all of one variant; their order is the canonical one (numeric, false first, bytes).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    /// An integer.
    Integer(i64),
    /// A real.
    Real(Real),
    /// A boolean.
    Boolean(bool),
    /// A string.
    String(EcoString),
    /// A UUID.
    Uuid(Uuid),
}

/// Where the names of rows that a transaction inserts become UUIDs (RFC 7047 5.1, `<named-uuid>`).
pub trait NamedUuids {
    /// The UUID that `name` stands for; the same one each time within a transaction.
    fn resolve(&mut self, name: &str) -> Uuid;
}

impl Atom {
    /// Parses an atom of type `kind`, its constraints left unchecked.
    pub fn parse(
        json: &Value,
        kind: AtomicType,
        names: Option<&mut (dyn NamedUuids + '_)>,
    ) -> Result<Self, OvsdbError> {
        let parsed = match (kind, json) {
            (AtomicType::Integer, _) => json::as_integer(json).map(Self::Integer),
            (AtomicType::Real, _) => json::as_real(json).and_then(Real::new).map(Self::Real),
            (AtomicType::Boolean, Value::Bool(boolean)) => Some(Self::Boolean(*boolean)),
            (AtomicType::String, Value::String(text)) => Some(Self::String(checked_text(text)?)),
            (AtomicType::Uuid, _) => return parse_uuid_atom(json, names).map(Self::Uuid),
            _ => None,
        };
        parsed.ok_or_else(|| OvsdbError::in_json(ErrorKind::AtomExpected(kind.name()), json))
    }

    /// The atom's type.
    pub fn kind(&self) -> AtomicType {
        match self {
            Self::Integer(_) => AtomicType::Integer,
            Self::Real(_) => AtomicType::Real,
            Self::Boolean(_) => AtomicType::Boolean,
            Self::String(_) => AtomicType::String,
            Self::Uuid(_) => AtomicType::Uuid,
        }
    }

    /// The integer, where it is one.
    pub fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(integer) = self {
            Some(*integer)
        } else {
            None
        }
    }

    /// The boolean, where it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Boolean(boolean) = self {
            Some(*boolean)
        } else {
            None
        }
    }

    /// The text, where it is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The UUID, where it is one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        if let Self::Uuid(uuid) = self { Some(*uuid) } else { None }
    }

    /// Appends the atom in the notation of RFC 7047 5.1.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Self::Integer(integer) => json::write_integer(*integer, out),
            Self::Real(real) => json::write_real(real.0, out),
            Self::Boolean(boolean) => out.push_str(if *boolean { "true" } else { "false" }),
            Self::String(text) => json::write_string(text, out),
            Self::Uuid(uuid) => {
                out.push_str("[\"uuid\",\"");
                out.push_str(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
                out.push_str("\"]");
            }
        }
    }

    /// Appends the atom as error messages show it: strings bare where they look like words.
    pub fn write_message(&self, out: &mut String) {
        match self {
            Self::String(text) if is_bare(text) => out.push_str(text),
            Self::Uuid(uuid) => out.push_str(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            other => other.write_json(out),
        }
    }

    /// The atom as error messages show it.
    pub fn to_message(&self) -> String {
        let mut out = String::new();
        self.write_message(&mut out);
        out
    }
}

impl From<&str> for Atom {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<EcoString> for Atom {
    fn from(text: EcoString) -> Self {
        Self::String(text)
    }
}

impl From<i64> for Atom {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<bool> for Atom {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<Uuid> for Atom {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

/// A UUID in its 36-character form, hex digits of either case; no other form is one on the wire.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 {
        Uuid::try_parse(text).ok()
    } else {
        None
    }
}

/// The second element of `[tag, x]`, where `json` is that.
pub(crate) fn tagged<'a>(json: &'a Value, tag: &str) -> Option<&'a Value> {
    match json.as_array().map(Vec::as_slice) {
        Some([Value::String(first), second]) if first == tag => Some(second),
        _ => None,
    }
}

fn checked_text(text: &str) -> Result<EcoString, OvsdbError> {
    if text.contains('\0') {
        return Err(ErrorKind::NotUtf8("not a valid UTF-8 string: invalid UTF-8 sequence 0x00".into()).into());
    }
    Ok(text.into())
}

fn parse_uuid_atom(json: &Value, names: Option<&mut (dyn NamedUuids + '_)>) -> Result<Uuid, OvsdbError> {
    if let Some(Value::String(text)) = tagged(json, "uuid") {
        return parse_uuid(text).ok_or_else(|| OvsdbError::in_json(ErrorKind::NotUuid(text.into()), json));
    }
    match (tagged(json, "named-uuid"), names) {
        (Some(Value::String(name)), Some(names)) if json::is_id(name) => Ok(names.resolve(name)),
        (Some(Value::String(_)), Some(_)) => Err(OvsdbError::in_json(ErrorKind::NamedUuidNotId, json)),
        _ => Err(OvsdbError::in_json(ErrorKind::PairExpected("uuid", "string"), json)),
    }
}

fn is_bare(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        && text != "true"
        && text != "false"
        && parse_uuid(text).is_none()
}
