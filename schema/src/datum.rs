//! Datums: what one column of one row holds (RFC 7047 5.1, `<value>`).
//!
//! A datum is a sequence of distinct keys in canonical order, each with a value where the column is a map. Few elements are a shared
//! slice; many are a persistent sorted tree, so that one element more or less costs O(log n). Which of the two a datum is follows from
//! its size alone, so that equal datums are equal in memory.

mod algebra;
mod convert;
mod diff;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ecow::EcoString;
use imbl::{OrdMap, OrdSet};
use serde_json::Value;
use uuid::Uuid;

use crate::atom::{Atom, NamedUuids, tagged};
use crate::error::{ErrorKind, OvsdbError};
use crate::json;
use crate::types::ColumnType;

/// Most elements that are kept in a slice.
const SLICE_ELEMENTS_MAX: usize = 64;

/// What an element weighs beside the text of its string.
const ELEMENT_BYTES_MIN: usize = 24;

/// What an element of many is taken to weigh.
const ELEMENT_BYTES_ASSUMED: usize = 64;

/// The value of a column in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datum(Repr);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Repr {
    /// One key: a scalar, or a set of one element.
    One(Atom),
    /// No key, or two up to [`SLICE_ELEMENTS_MAX`].
    Set(Arc<[Atom]>),
    /// Up to [`SLICE_ELEMENTS_MAX`] pairs.
    Map(Arc<[(Atom, Atom)]>),
    /// More keys than that.
    LargeSet(OrdSet<Atom>),
    /// More pairs than that.
    LargeMap(OrdMap<Atom, Atom>),
}

/// The elements of a datum in canonical order: each key, with its value in a map.
pub enum Elements<'a> {
    /// A lone key, until it was given.
    One(Option<&'a Atom>),
    /// A small set.
    Set(std::slice::Iter<'a, Atom>),
    /// A small map.
    Map(std::slice::Iter<'a, (Atom, Atom)>),
    /// A large set.
    LargeSet(Box<imbl::ordset::Iter<'a, Atom, imbl::shared_ptr::DefaultSharedPtr>>),
    /// A large map.
    LargeMap(Box<imbl::ordmap::Iter<'a, Atom, Atom, imbl::shared_ptr::DefaultSharedPtr>>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = (&'a Atom, Option<&'a Atom>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(key) => key.take().map(|key| (key, None)),
            Self::Set(keys) => keys.next().map(|key| (key, None)),
            Self::Map(pairs) => pairs.next().map(|(key, value)| (key, Some(value))),
            Self::LargeSet(keys) => keys.next().map(|key| (key, None)),
            Self::LargeMap(pairs) => pairs.next().map(|(key, value)| (key, Some(value))),
        }
    }
}

impl Datum {
    /// A datum of one key and no value.
    pub fn scalar(atom: impl Into<Atom>) -> Self {
        Self(Repr::One(atom.into()))
    }

    /// The set without elements.
    pub fn empty_set() -> Self {
        Self(Repr::Set(Arc::from([])))
    }

    /// The map without pairs.
    pub fn empty_map() -> Self {
        Self(Repr::Map(Arc::from([])))
    }

    /// The default datum of a column type (RFC 7047 5.2.1).
    pub fn default_for(type_: &ColumnType) -> Self {
        match (type_.min, &type_.value) {
            (0, None) => Self::empty_set(),
            (0, Some(_)) => Self::empty_map(),
            (_, None) => Self(Repr::One(type_.key.kind.default_atom())),
            (_, Some(value)) => Self::small_map(vec![(type_.key.kind.default_atom(), value.kind.default_atom())]),
        }
    }

    /// The set of `keys`, in any order.
    ///
    /// # Errors
    /// [`ErrorKind::DuplicateElement`].
    pub fn set(mut keys: Vec<Atom>) -> Result<Self, OvsdbError> {
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ErrorKind::DuplicateElement.into());
        }
        Ok(Self::sorted_set(keys))
    }

    /// The map of `pairs`, in any order.
    ///
    /// # Errors
    /// [`ErrorKind::DuplicateKey`].
    pub fn map(mut pairs: Vec<(Atom, Atom)>) -> Result<Self, OvsdbError> {
        pairs.sort_unstable();
        if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(ErrorKind::DuplicateKey.into());
        }
        Ok(Self::sorted_map(pairs))
    }

    /// A map from strings to strings; of equal keys the last wins.
    pub fn string_map<K: Into<EcoString>, V: Into<EcoString>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs: std::collections::BTreeMap<Atom, Atom> = pairs
            .into_iter()
            .map(|(key, value)| (Atom::String(key.into()), Atom::String(value.into())))
            .collect();
        Self::sorted_map(pairs.into_iter().collect())
    }

    /// None or one atom, as an optional scalar holds it.
    pub fn optional(atom: Option<impl Into<Atom>>) -> Self {
        atom.map_or_else(Self::empty_set, Self::scalar)
    }

    /// The set of distinct, sorted `keys`.
    pub(crate) fn sorted_set(mut keys: Vec<Atom>) -> Self {
        Self(match keys.len() {
            1 => match keys.pop() {
                Some(key) => Repr::One(key),
                None => Repr::Set(Arc::from([])),
            },
            0..=SLICE_ELEMENTS_MAX => Repr::Set(keys.into()),
            _ => Repr::LargeSet(keys.into_iter().collect()),
        })
    }

    /// The map of `pairs` with distinct, sorted keys.
    pub(crate) fn sorted_map(pairs: Vec<(Atom, Atom)>) -> Self {
        if pairs.len() <= SLICE_ELEMENTS_MAX {
            Self::small_map(pairs)
        } else {
            Self(Repr::LargeMap(pairs.into_iter().collect()))
        }
    }

    fn small_map(pairs: Vec<(Atom, Atom)>) -> Self {
        Self(Repr::Map(pairs.into()))
    }

    /// Parses a `<value>` of type `type_`, constraints included.
    ///
    /// # Errors
    /// Shape, size, each atom in order, duplicates: the first of these that is wrong.
    pub fn parse(
        json: &Value,
        type_: &ColumnType,
        mut names: Option<&mut (dyn NamedUuids + '_)>,
    ) -> Result<Self, OvsdbError> {
        let class = if type_.is_map() { "map" } else { "set" };
        if !type_.is_map() && !is_set_form(json) {
            let atom = Atom::parse(json, type_.key.kind, names)?;
            type_.key.check(&atom)?;
            return Ok(Self(Repr::One(atom)));
        }
        let Some(Value::Array(items)) = tagged(json, class) else {
            return Err(OvsdbError::in_json(ErrorKind::PairExpected(class, "array"), json));
        };
        check_size(json, type_, class, items.len())?;
        let mut atom = |json: &Value, base: &crate::types::BaseType| -> Result<Atom, OvsdbError> {
            let atom = Atom::parse(json, base.kind, names.as_deref_mut())?;
            base.check(&atom)?;
            Ok(atom)
        };
        let Some(value_type) = &type_.value else {
            return Self::set(
                items
                    .iter()
                    .map(|item| atom(item, &type_.key))
                    .collect::<Result<_, _>>()?,
            );
        };
        let mut pairs = Vec::with_capacity(items.len());
        for item in items {
            let Some([key, value]) = item.as_array().map(Vec::as_slice) else {
                return Err(OvsdbError::in_json(ErrorKind::TwoElementsExpected, item));
            };
            pairs.push((atom(key, &type_.key)?, atom(value, value_type)?));
        }
        Self::map(pairs)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::One(_) => 1,
            Repr::Set(keys) => keys.len(),
            Repr::Map(pairs) => pairs.len(),
            Repr::LargeSet(keys) => keys.len(),
            Repr::LargeMap(pairs) => pairs.len(),
        }
    }

    /// Bytes it takes in memory or as text, roughly: exact for strings of few elements, by the number of elements for many.
    pub fn weight_bytes(&self) -> usize {
        if self.len() > SLICE_ELEMENTS_MAX {
            return self.len().saturating_mul(ELEMENT_BYTES_ASSUMED);
        }
        let weight = |atom: &Atom| ELEMENT_BYTES_MIN + atom.as_str().map_or(0, str::len);
        self.iter()
            .map(|(key, value)| weight(key) + value.map_or(0, weight))
            .sum()
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True for a map, also an empty one.
    pub fn is_map(&self) -> bool {
        matches!(self.0, Repr::Map(_) | Repr::LargeMap(_))
    }

    /// The elements in canonical order.
    pub fn iter(&self) -> Elements<'_> {
        match &self.0 {
            Repr::One(key) => Elements::One(Some(key)),
            Repr::Set(keys) => Elements::Set(keys.iter()),
            Repr::Map(pairs) => Elements::Map(pairs.iter()),
            Repr::LargeSet(keys) => Elements::LargeSet(Box::new(keys.iter())),
            Repr::LargeMap(pairs) => Elements::LargeMap(Box::new(pairs.iter())),
        }
    }

    /// The keys in canonical order.
    pub fn keys(&self) -> impl Iterator<Item = &Atom> {
        self.iter().map(|(key, _)| key)
    }

    /// The only key, where there is exactly one and no value.
    pub fn as_scalar(&self) -> Option<&Atom> {
        if let Repr::One(atom) = &self.0 {
            Some(atom)
        } else {
            None
        }
    }

    /// The only key as a UUID.
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.as_scalar().and_then(Atom::as_uuid)
    }

    /// The only key as text.
    pub fn as_str(&self) -> Option<&str> {
        self.as_scalar().and_then(Atom::as_str)
    }

    /// The only key as an integer.
    pub fn as_integer(&self) -> Option<i64> {
        self.as_scalar().and_then(Atom::as_integer)
    }

    /// The only key as a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        self.as_scalar().and_then(Atom::as_bool)
    }

    /// True where `key` is among the keys.
    pub fn contains_key(&self, key: &Atom) -> bool {
        match &self.0 {
            Repr::One(only) => only == key,
            Repr::Set(keys) => keys.binary_search(key).is_ok(),
            Repr::Map(_) | Repr::LargeMap(_) => self.get(key).is_some(),
            Repr::LargeSet(keys) => keys.contains(key),
        }
    }

    /// The value of `key` in a map.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        match &self.0 {
            Repr::Map(pairs) => pairs
                .binary_search_by(|(k, _)| k.cmp(key))
                .ok()
                .and_then(|at| pairs.get(at))
                .map(|(_, value)| value),
            Repr::LargeMap(pairs) => pairs.get(key),
            _ => None,
        }
    }

    /// The text that the text `key` has in a map of strings.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(&Atom::from(key)).and_then(Atom::as_str)
    }

    /// Checks every atom against the constraints of `type_`.
    pub fn check(&self, type_: &ColumnType) -> Result<(), OvsdbError> {
        for (key, value) in self {
            type_.key.check(key)?;
            if let (Some(base), Some(value)) = (&type_.value, value) {
                base.check(value)?;
            }
        }
        Ok(())
    }

    /// Appends the datum as the server prints it: one key bare, a map always as a map.
    pub fn write_json(&self, out: &mut String) {
        if let Repr::One(atom) = &self.0 {
            return atom.write_json(out);
        }
        out.push_str(if self.is_map() { "[\"map\"," } else { "[\"set\"," });
        json::write_sequence(self.iter(), out, |(key, value), out| match value {
            None => key.write_json(out),
            Some(value) => {
                out.push('[');
                key.write_json(out);
                out.push(',');
                value.write_json(out);
                out.push(']');
            }
        });
        out.push(']');
    }

    /// The datum as a JSON value; reals keep all their digits.
    pub fn to_json(&self) -> Value {
        let atom = |atom: &Atom| match atom {
            Atom::Integer(integer) => Value::from(*integer),
            Atom::Real(real) => Value::from(real.get()),
            Atom::Boolean(boolean) => Value::from(*boolean),
            Atom::String(text) => Value::from(text.as_str()),
            Atom::Uuid(uuid) => Value::from(vec!["uuid".to_owned(), uuid.hyphenated().to_string()]),
        };
        if let Repr::One(only) = &self.0 {
            return atom(only);
        }
        let items: Vec<Value> = self
            .iter()
            .map(|(key, value)| match value {
                None => atom(key),
                Some(value) => Value::Array(vec![atom(key), atom(value)]),
            })
            .collect();
        Value::Array(vec![
            if self.is_map() { "map" } else { "set" }.into(),
            Value::Array(items),
        ])
    }

    /// The datum as error messages show it: `a`, `[a, b]`, `{k=v}`; `composite` where its type may hold several elements.
    pub fn to_message(&self, composite: bool) -> String {
        let mut out = String::new();
        let (open, close) = if self.is_map() { ('{', '}') } else { ('[', ']') };
        let bracketed = composite || self.is_empty();
        if bracketed {
            out.push(open);
        }
        for (i, (key, value)) in self.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            key.write_message(&mut out);
            if let Some(value) = value {
                out.push('=');
                value.write_message(&mut out);
            }
        }
        if bracketed {
            out.push(close);
        }
        out
    }
}

/// Canonical order: by number of elements, then by keys, then by values.
impl Ord for Datum {
    fn cmp(&self, other: &Self) -> Ordering {
        self.len()
            .cmp(&other.len())
            .then_with(|| self.keys().cmp(other.keys()))
            .then_with(|| {
                self.iter()
                    .map(|(_, value)| value)
                    .cmp(other.iter().map(|(_, value)| value))
            })
    }
}

impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Datum {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for element in self {
            element.hash(state);
        }
    }
}

impl From<Atom> for Datum {
    fn from(atom: Atom) -> Self {
        Self::scalar(atom)
    }
}

impl<'a> IntoIterator for &'a Datum {
    type Item = (&'a Atom, Option<&'a Atom>);
    type IntoIter = Elements<'a>;

    fn into_iter(self) -> Elements<'a> {
        self.iter()
    }
}

/// True for `["set", ...]`, by the first element alone.
fn is_set_form(json: &Value) -> bool {
    json.as_array()
        .and_then(|items| items.first())
        .is_some_and(|first| first == "set")
}

fn check_size(json: &Value, type_: &ColumnType, class: &'static str, present: usize) -> Result<(), OvsdbError> {
    if (type_.min as usize..=type_.max as usize).contains(&present) {
        return Ok(());
    }
    let kind = if type_.min == 1 && type_.max == 1 {
        ErrorKind::SizeNotOne { class, present }
    } else {
        ErrorKind::Size {
            class,
            min: type_.min,
            max: type_.max,
            present,
        }
    };
    Err(OvsdbError::in_json(kind, json))
}
