//! Set algebra on datums: what conditions compare and mutations compute.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::{Datum, Repr, SLICE_ELEMENTS_MAX};
use crate::atom::Atom;

impl Datum {
    /// True where every element of `part` (every pair, in a map) is in this datum.
    pub fn includes(&self, part: &Self) -> bool {
        part.len() <= self.len() && part.iter().all(|(key, value)| self.has(key, value))
    }

    /// True where no element of `other` (no pair, in a map) is in this datum.
    pub fn excludes(&self, other: &Self) -> bool {
        !other.iter().any(|(key, value)| self.has(key, value))
    }

    fn has(&self, key: &Atom, value: Option<&Atom>) -> bool {
        match value {
            None => self.contains_key(key),
            Some(value) => self.get(key) == Some(value),
        }
    }

    /// This datum with the elements of `more` whose keys it lacks; keys that it has keep their values (RFC 7047 5.1, `insert`).
    #[must_use]
    pub fn union(&self, more: &Self) -> Self {
        let missing = more.iter().filter(|(key, _)| !self.contains_key(key));
        self.edited(missing.map(|(key, value)| (key.clone(), Edit::put(value))))
    }

    /// This datum without the keys of `less`; where `less` is a map, without the pairs that are equal (RFC 7047 5.1, `delete`).
    #[must_use]
    pub fn subtract(&self, less: &Self) -> Self {
        let present = less.iter().filter(|(key, value)| self.has(key, *value));
        self.edited(present.map(|(key, _)| (key.clone(), Edit::Remove)))
    }

    /// The elements that `keep` admits.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&Atom, Option<&Atom>) -> bool) -> Self {
        let doomed: Vec<Atom> = self
            .iter()
            .filter(|(key, value)| !keep(key, *value))
            .map(|(key, _)| key.clone())
            .collect();
        self.edited(doomed.into_iter().map(|key| (key, Edit::Remove)))
    }

    /// This datum after `edits` of distinct keys. Costs O(edits * log n) on a large datum.
    pub(super) fn edited(&self, edits: impl Iterator<Item = (Atom, Edit)>) -> Self {
        let edits: Vec<_> = edits.collect();
        if edits.is_empty() {
            return self.clone();
        }
        match &self.0 {
            Repr::Map(pairs) => small_map(pairs.to_vec(), edits),
            Repr::LargeMap(pairs) => large_map(pairs.clone(), edits),
            Repr::LargeSet(keys) => large_set(keys.clone(), edits),
            Repr::One(only) => small_set(vec![only.clone()], edits),
            Repr::Set(keys) => small_set(keys.to_vec(), edits),
        }
    }
}

/// What becomes of one key.
pub(super) enum Edit {
    /// The key is put in, with a value in a map.
    Put(Option<Atom>),
    /// The key goes.
    Remove,
}

impl Edit {
    fn put(value: Option<&Atom>) -> Self {
        Self::Put(value.cloned())
    }
}

fn small_map(mut pairs: Vec<(Atom, Atom)>, edits: Vec<(Atom, Edit)>) -> Datum {
    for (key, edit) in edits {
        match (pairs.binary_search_by(|(k, _)| k.cmp(&key)), edit) {
            (Ok(at), Edit::Put(Some(value))) => pairs[at].1 = value,
            (Err(at), Edit::Put(Some(value))) => pairs.insert(at, (key, value)),
            (Ok(at), Edit::Remove) => {
                pairs.remove(at);
            }
            (_, Edit::Put(None)) | (Err(_), Edit::Remove) => {}
        }
    }
    Datum::sorted_map(pairs)
}

fn small_set(mut keys: Vec<Atom>, edits: Vec<(Atom, Edit)>) -> Datum {
    for (key, edit) in edits {
        match (keys.binary_search(&key), edit) {
            (Err(at), Edit::Put(_)) => keys.insert(at, key),
            (Ok(at), Edit::Remove) => {
                keys.remove(at);
            }
            _ => {}
        }
    }
    Datum::sorted_set(keys)
}

fn large_set(mut keys: OrdSet<Atom>, edits: Vec<(Atom, Edit)>) -> Datum {
    for (key, edit) in edits {
        match edit {
            Edit::Put(_) => keys.insert(key),
            Edit::Remove => keys.remove(&key),
        };
    }
    if keys.len() > SLICE_ELEMENTS_MAX {
        Datum(Repr::LargeSet(keys))
    } else {
        Datum::sorted_set(keys.into_iter().collect())
    }
}

fn large_map(mut pairs: OrdMap<Atom, Atom>, edits: Vec<(Atom, Edit)>) -> Datum {
    for (key, edit) in edits {
        match edit {
            Edit::Put(Some(value)) => {
                pairs.insert(key, value);
            }
            Edit::Put(None) => {}
            Edit::Remove => {
                pairs.remove(&key);
            }
        }
    }
    if pairs.len() > SLICE_ELEMENTS_MAX {
        Datum(Repr::LargeMap(pairs))
    } else {
        Datum(Repr::Map(pairs.into_iter().collect::<Arc<[_]>>()))
    }
}
