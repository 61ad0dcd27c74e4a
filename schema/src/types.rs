//! Base types with their constraints, and column types (RFC 7047 3.2).

use ecow::EcoString;
use serde_json::{Map, Value};

use crate::atom::{Atom, AtomicType, Real};
use crate::datum::Datum;
use crate::error::{ErrorKind, OvsdbError};
use crate::json;
use crate::reader::{Kinds, ObjectReader};

/// `max` of a type without a limit on its size; also how that limit prints in messages.
pub const UNLIMITED: u32 = u32::MAX;

/// What an atom of a base type may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// Anything of the atomic type.
    None,
    /// One of these: a set of at least one atom, in canonical order.
    Enum(Datum),
    /// An integer within both bounds.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A real within both bounds.
    Real {
        /// Smallest value.
        min: Option<Real>,
        /// Largest value.
        max: Option<Real>,
    },
    /// A string whose length in characters is within both bounds.
    Length {
        /// Fewest characters.
        min: u32,
        /// Most characters; [`UNLIMITED`] for no limit.
        max: u32,
    },
    /// The UUID of a row in `table`.
    Reference {
        /// Name of the table.
        table: EcoString,
        /// What happens when that row goes.
        strength: Strength,
    },
}

/// What a reference does to the row it points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// It must exist, and lives at least as long as the reference.
    Strong,
    /// It may vanish; the reference then vanishes too.
    Weak,
}

/// The type of a key or a value: an atomic type and a constraint.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseType {
    /// The atomic type.
    pub kind: AtomicType,
    /// What it may be.
    pub constraint: Constraint,
}

/// The type of a column: keys, values where it is a map, and how many.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnType {
    /// The elements of a set, or the keys of a map.
    pub key: BaseType,
    /// The values of a map.
    pub value: Option<BaseType>,
    /// Fewest elements: 0 or 1.
    pub min: u32,
    /// Most elements; [`UNLIMITED`] for no limit.
    pub max: u32,
}

impl BaseType {
    /// A base type without a constraint.
    pub fn plain(kind: AtomicType) -> Self {
        Self {
            kind,
            constraint: Constraint::None,
        }
    }

    /// Parses a `<base-type>`.
    pub fn parse(json: &Value) -> Result<Self, OvsdbError> {
        if json.is_string() {
            return Ok(Self::plain(parse_atomic(json)?));
        }
        let mut reader = ObjectReader::new(json, "ovsdb type".into());
        let kind_json = reader.required("type", Kinds::STRING);
        reader.check()?;
        let kind = parse_atomic(kind_json.unwrap_or(&Value::Null))?;
        let constraint = parse_constraint(&mut reader, json, kind)?;
        reader.finish()?;
        Ok(Self { kind, constraint })
    }

    /// The normalized form: a bare name where nothing constrains it.
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        match &self.constraint {
            Constraint::None => return self.kind.name().into(),
            Constraint::Enum(allowed) => {
                members.insert("enum".into(), allowed.to_json());
            }
            Constraint::Integer { min, max } => {
                insert_if(&mut members, "minInteger", (*min != i64::MIN).then_some(*min));
                insert_if(&mut members, "maxInteger", (*max != i64::MAX).then_some(*max));
            }
            Constraint::Real { min, max } => {
                insert_if(&mut members, "minReal", min.map(Real::get));
                insert_if(&mut members, "maxReal", max.map(Real::get));
            }
            Constraint::Length { min, max } => {
                insert_if(&mut members, "minLength", (*min != 0).then_some(*min));
                insert_if(&mut members, "maxLength", (*max != UNLIMITED).then_some(*max));
            }
            Constraint::Reference { table, strength } => {
                members.insert("refTable".into(), table.as_str().into());
                insert_if(&mut members, "refType", (*strength == Strength::Weak).then_some("weak"));
            }
        }
        members.insert("type".into(), self.kind.name().into());
        Value::Object(members)
    }

    /// The table referred to, and how.
    pub fn reference(&self) -> Option<(&EcoString, Strength)> {
        match &self.constraint {
            Constraint::Reference { table, strength } => Some((table, *strength)),
            _ => None,
        }
    }

    /// Checks an atom of this type's kind against the constraint. References are the commit's business.
    pub fn check(&self, atom: &Atom) -> Result<(), OvsdbError> {
        let kind = match (&self.constraint, atom) {
            (Constraint::Enum(allowed), _) if !allowed.contains_key(atom) => ErrorKind::NotAllowed {
                value: atom.to_message(),
                allowed: allowed.to_message(true),
            },
            (Constraint::Integer { min, max }, Atom::Integer(value)) if value < min || value > max => range_error(
                atom,
                (*min != i64::MIN).then(|| min.to_string()),
                (*max != i64::MAX).then(|| max.to_string()),
            ),
            (Constraint::Real { min, max }, Atom::Real(value))
                if min.is_some_and(|min| *value < min) || max.is_some_and(|max| *value > max) =>
            {
                let text = |bound: &Option<Real>| bound.map(|real| Atom::Real(real).to_message());
                range_error(atom, text(min), text(max))
            }
            (Constraint::Length { min, max }, Atom::String(value)) => match value.chars().count() {
                length if length < *min as usize => ErrorKind::TooShort {
                    value: value.clone(),
                    length,
                    min: *min,
                },
                length if length > *max as usize => ErrorKind::TooLong {
                    value: value.clone(),
                    length,
                    max: *max,
                },
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        Err(kind.into())
    }
}

impl ColumnType {
    /// Exactly one atom of a base type.
    pub fn scalar(key: BaseType) -> Self {
        Self {
            key,
            value: None,
            min: 1,
            max: 1,
        }
    }

    /// Parses a `<type>`.
    pub fn parse(json: &Value) -> Result<Self, OvsdbError> {
        match json {
            Value::String(_) => return Ok(Self::scalar(BaseType::parse(json)?)),
            Value::Object(_) => {}
            _ => return Err(OvsdbError::in_json(ErrorKind::TypeExpected, json)),
        }
        let mut reader = ObjectReader::new(json, "ovsdb type".into());
        let key = reader.required("key", Kinds::STRING | Kinds::OBJECT);
        let value = reader.optional("value", Kinds::STRING | Kinds::OBJECT);
        let min = reader.optional("min", Kinds::INTEGER);
        let max = reader.optional("max", Kinds::INTEGER | Kinds::STRING);
        reader.finish()?;
        let key = BaseType::parse(key.unwrap_or(&Value::Null))?;
        let value = value.map(BaseType::parse).transpose()?;
        let min = min.map_or(Ok(1), |min| parse_size(json, min))?;
        let max = match max {
            Some(Value::String(text)) if text == "unlimited" => UNLIMITED,
            Some(max) => parse_size(json, max)?,
            None => 1,
        };
        if min > 1 || max < 1 || min > max {
            return Err(OvsdbError::in_json(ErrorKind::TypeFailsConstraints, json));
        }
        Ok(Self { key, value, min, max })
    }

    /// The normalized form: a bare name for an unconstrained scalar.
    pub fn to_json(&self) -> Value {
        if self.is_scalar() && self.key.constraint == Constraint::None {
            return self.key.to_json();
        }
        let mut members = Map::new();
        members.insert("key".into(), self.key.to_json());
        insert_if(&mut members, "value", self.value.as_ref().map(BaseType::to_json));
        insert_if(&mut members, "min", (self.min != 1).then_some(self.min));
        match self.max {
            1 => {}
            UNLIMITED => {
                members.insert("max".into(), "unlimited".into());
            }
            max => {
                members.insert("max".into(), max.into());
            }
        }
        Value::Object(members)
    }

    /// Exactly one atom.
    pub fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }

    /// None or one atom.
    pub fn is_optional_scalar(&self) -> bool {
        self.value.is_none() && self.min == 0 && self.max == 1
    }

    /// Keys with values.
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// More than one element is possible, so that an update2 carries differences.
    pub fn is_composite(&self) -> bool {
        self.max > 1
    }

    /// True for the types on which arithmetic works: integers and reals, scalars and sets.
    pub fn is_numeric(&self) -> bool {
        !self.is_map() && matches!(self.key.kind, AtomicType::Integer | AtomicType::Real)
    }

    /// This type with other limits on its size.
    #[must_use]
    pub fn resized(&self, min: u32, max: u32) -> Self {
        Self {
            min,
            max,
            ..self.clone()
        }
    }

    /// The type as ovsdb-server names it in messages: `set of 1 to 2 integers`, `map of (string, uuid) pairs`.
    pub fn to_english(&self) -> String {
        let key = self.key.kind.name();
        if self.is_scalar() {
            return key.to_owned();
        }
        let class = if self.is_map() { "map" } else { "set" };
        let size = match (self.min, self.max) {
            (0, UNLIMITED) => String::new(),
            (min, UNLIMITED) => format!(" {min} or more"),
            (0, max) => format!(" up to {max}"),
            (min, max) => format!(" {min} to {max}"),
        };
        match &self.value {
            Some(value) => format!("{class} of{size} ({key}, {}) pairs", value.kind.name()),
            None => format!("{class} of{size} {key}s"),
        }
    }
}

fn parse_atomic(json: &Value) -> Result<AtomicType, OvsdbError> {
    let Value::String(name) = json else {
        return Err(OvsdbError::in_json(ErrorKind::AtomicTypeExpected, json));
    };
    AtomicType::from_name(name).ok_or_else(|| OvsdbError::in_json(ErrorKind::NotAtomicType(name.into()), json))
}

fn parse_constraint(reader: &mut ObjectReader<'_>, json: &Value, kind: AtomicType) -> Result<Constraint, OvsdbError> {
    if let Some(allowed) = reader.optional("enum", Kinds::ANY) {
        let type_ = ColumnType {
            key: BaseType::plain(kind),
            value: None,
            min: 1,
            max: UNLIMITED,
        };
        return Ok(Constraint::Enum(Datum::parse(allowed, &type_, None)?));
    }
    let crossed = |min, max| OvsdbError::in_json(ErrorKind::BoundsCrossed(min, max), json);
    match kind {
        AtomicType::Integer => {
            let min = reader.optional("minInteger", Kinds::INTEGER).and_then(json::as_integer);
            let max = reader.optional("maxInteger", Kinds::INTEGER).and_then(json::as_integer);
            let (low, high) = (min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX));
            if low > high {
                return Err(crossed("minInteger", "maxInteger"));
            }
            let constrained = (low, high) != (i64::MIN, i64::MAX);
            Ok(if constrained {
                Constraint::Integer { min: low, max: high }
            } else {
                Constraint::None
            })
        }
        AtomicType::Real => {
            let mut bound = |name| {
                reader
                    .optional(name, Kinds::NUMBER)
                    .and_then(json::as_real)
                    .and_then(Real::new)
            };
            // The extremes of the type bound nothing.
            let min = bound("minReal").filter(|min| min.get() > f64::MIN);
            let max = bound("maxReal").filter(|max| max.get() < f64::MAX);
            if let (Some(low), Some(high)) = (min, max)
                && low > high
            {
                return Err(crossed("minReal", "maxReal"));
            }
            let constrained = min.is_some() || max.is_some();
            Ok(if constrained {
                Constraint::Real { min, max }
            } else {
                Constraint::None
            })
        }
        AtomicType::String => {
            let min = parse_length(reader, "minLength")?;
            let max = parse_length(reader, "maxLength")?;
            let (low, high) = (min.unwrap_or(0), max.unwrap_or(UNLIMITED));
            if low > high {
                return Err(crossed("minLength", "maxLength"));
            }
            let constrained = (low, high) != (0, UNLIMITED);
            Ok(if constrained {
                Constraint::Length { min: low, max: high }
            } else {
                Constraint::None
            })
        }
        AtomicType::Uuid => parse_reference(reader),
        AtomicType::Boolean => Ok(Constraint::None),
    }
}

fn parse_length(reader: &mut ObjectReader<'_>, name: &'static str) -> Result<Option<u32>, OvsdbError> {
    let Some(json) = reader.optional(name, Kinds::INTEGER) else {
        return Ok(None);
    };
    json::as_integer(json)
        .and_then(|length| u32::try_from(length).ok())
        .map(Some)
        .ok_or_else(|| OvsdbError::in_json(ErrorKind::LengthRange(name), json))
}

fn parse_reference(reader: &mut ObjectReader<'_>) -> Result<Constraint, OvsdbError> {
    let Some(Value::String(table)) = reader.optional("refTable", Kinds::ID) else {
        return Ok(Constraint::None);
    };
    let strength = match reader.optional("refType", Kinds::STRING) {
        None => Strength::Strong,
        Some(Value::String(text)) if text == "strong" => Strength::Strong,
        Some(Value::String(text)) if text == "weak" => Strength::Weak,
        Some(other) => {
            let text = other.as_str().unwrap_or_default().into();
            return Err(OvsdbError::in_json(ErrorKind::BadRefType(text), other));
        }
    };
    Ok(Constraint::Reference {
        table: table.into(),
        strength,
    })
}

fn parse_size(type_json: &Value, json: &Value) -> Result<u32, OvsdbError> {
    json::as_integer(json)
        .and_then(|size| u32::try_from(size).ok())
        .ok_or_else(|| OvsdbError::in_json(ErrorKind::BadMinOrMax, type_json))
}

fn range_error(atom: &Atom, min: Option<String>, max: Option<String>) -> ErrorKind {
    let value = atom.to_message();
    match (min, max) {
        (Some(min), Some(max)) => ErrorKind::OutOfRange { value, min, max },
        (Some(min), None) => ErrorKind::BelowMinimum { value, min },
        (None, max) => ErrorKind::AboveMaximum {
            value,
            max: max.unwrap_or_default(),
        },
    }
}

fn insert_if<T: Into<Value>>(members: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), value.into());
    }
}
