//! A strict reader of JSON objects: every member must be asked for, and be of the kinds asked for.
//!
//! The first fault is kept and wins; [`ObjectReader::finish`] also reports members that nobody asked for.

use std::collections::BTreeSet;
use std::ops::BitOr;

use ecow::EcoString;
use serde_json::{Map, Value};

use crate::error::{ErrorKind, OvsdbError, ParseFault};
use crate::json;

/// The kinds of JSON a member may be.
#[derive(Clone, Copy, Debug)]
pub struct Kinds(u8);

impl Kinds {
    /// `true` or `false`.
    pub const BOOLEAN: Self = Self(1);
    /// A number that is an integer.
    pub const INTEGER: Self = Self(2);
    /// Any number.
    pub const NUMBER: Self = Self(4);
    /// A string.
    pub const STRING: Self = Self(8);
    /// A string of the form `<id>`.
    pub const ID: Self = Self(16);
    /// An array.
    pub const ARRAY: Self = Self(32);
    /// An object.
    pub const OBJECT: Self = Self(64);
    /// Anything, null included.
    pub const ANY: Self = Self(255);

    fn admit(self, json: &Value) -> bool {
        let kind = match json {
            Value::Null => return self.0 == Self::ANY.0,
            Value::Bool(_) => Self::BOOLEAN.0,
            Value::Number(_) if json::as_integer(json).is_some() => Self::INTEGER.0 | Self::NUMBER.0,
            Value::Number(_) => Self::NUMBER.0,
            Value::String(text) if json::is_id(text) => Self::STRING.0 | Self::ID.0,
            Value::String(_) => Self::STRING.0,
            Value::Array(_) => Self::ARRAY.0,
            Value::Object(_) => Self::OBJECT.0,
        };
        self.0 & kind != 0
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Reads the members of one JSON object.
pub struct ObjectReader<'a> {
    json: &'a Value,
    members: Option<&'a Map<String, Value>>,
    subject: EcoString,
    used: BTreeSet<&'static str>,
    fault: Option<ParseFault>,
}

impl<'a> ObjectReader<'a> {
    /// Starts reading `json`; `subject` names it in errors.
    pub fn new(json: &'a Value, subject: EcoString) -> Self {
        let members = json.as_object();
        let fault = members.is_none().then_some(ParseFault::ObjectExpected);
        Self {
            json,
            members,
            subject,
            used: BTreeSet::new(),
            fault,
        }
    }

    /// The member `name`, which must be there and of one of `kinds`; None after a fault.
    pub fn required(&mut self, name: &'static str, kinds: Kinds) -> Option<&'a Value> {
        let members = self.members?;
        match members.get(name) {
            None => {
                self.raise(ParseFault::Missing(name));
                None
            }
            Some(value) => self.admitted(name, value, kinds),
        }
    }

    /// The member `name`, where it is there; it must then be of one of `kinds`.
    pub fn optional(&mut self, name: &'static str, kinds: Kinds) -> Option<&'a Value> {
        let value = self.members?.get(name)?;
        self.admitted(name, value, kinds)
    }

    fn admitted(&mut self, name: &'static str, value: &'a Value, kinds: Kinds) -> Option<&'a Value> {
        if kinds.admit(value) {
            self.used.insert(name);
            Some(value)
        } else {
            self.raise(ParseFault::Mismatch(name));
            None
        }
    }

    /// Records a fault, unless one came first.
    pub fn raise(&mut self, fault: ParseFault) {
        self.fault.get_or_insert(fault);
    }

    /// The object's own text.
    pub fn json(&self) -> &'a Value {
        self.json
    }

    /// # Errors
    /// The first fault so far.
    pub fn check(&self) -> Result<(), OvsdbError> {
        match &self.fault {
            None => Ok(()),
            Some(fault) => {
                let kind = ErrorKind::Parse {
                    subject: self.subject.clone(),
                    fault: fault.clone(),
                };
                // What is no object is not shown.
                Err(if self.members.is_some() {
                    OvsdbError::in_json(kind, self.json)
                } else {
                    kind.into()
                })
            }
        }
    }

    /// # Errors
    /// The first fault, or else the members that nobody asked for.
    pub fn finish(mut self) -> Result<(), OvsdbError> {
        let mut unused = self
            .members
            .into_iter()
            .flat_map(Map::keys)
            .filter(|name| !self.used.contains(name.as_str()));
        if let Some(first) = unused.next() {
            let fault = ParseFault::Unexpected(first.into(), unused.count());
            self.raise(fault);
        }
        self.check()
    }
}
