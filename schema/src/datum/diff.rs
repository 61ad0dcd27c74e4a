//! Differences between two datums of a column, as `update2` and the log of ovsdb-server carry them.
//!
//! For a composite column (`max` over 1): a set's difference is the symmetric one; a map's has the pairs of keys on one side only, and
//! the new pairs of keys whose values differ. For any other column the difference is the new datum.

use imbl::ordmap::DiffItem as MapDiff;
use imbl::ordset::DiffItem as SetDiff;

use super::algebra::Edit;
use super::{Datum, Repr};
use crate::atom::Atom;
use crate::types::ColumnType;

impl Datum {
    /// The difference that turns `old` into this datum. Costs O(changes) between two large datums that share most of their tree.
    #[must_use]
    pub fn diff_from(&self, old: &Self, type_: &ColumnType) -> Self {
        if !type_.is_composite() {
            return self.clone();
        }
        match (&old.0, &self.0) {
            (Repr::LargeSet(old), Repr::LargeSet(new)) => {
                let changed = old.diff(new).map(|item| match item {
                    SetDiff::Add(key) | SetDiff::Remove(key) => key.clone(),
                });
                Self::sorted_set(changed.collect())
            }
            (Repr::LargeMap(old), Repr::LargeMap(new)) => {
                let changed = old.diff(new).map(|item| match item {
                    MapDiff::Add(key, value)
                    | MapDiff::Remove(key, value)
                    | MapDiff::Update { new: (key, value), .. } => (key.clone(), value.clone()),
                });
                Self::sorted_map(changed.collect())
            }
            _ if type_.is_map() => self.small_map_diff(old),
            _ => {
                let gone = old.keys().filter(|key| !self.contains_key(key));
                let come = self.keys().filter(|key| !old.contains_key(key));
                let mut keys: Vec<Atom> = gone.chain(come).cloned().collect();
                keys.sort_unstable();
                Self::sorted_set(keys)
            }
        }
    }

    fn small_map_diff(&self, old: &Self) -> Self {
        let gone = old.iter().filter(|(key, _)| !self.contains_key(key));
        let come = self.iter().filter(|(key, value)| old.get(key) != *value);
        let pair = |(key, value): (&Atom, Option<&Atom>)| value.map(|value| (key.clone(), value.clone()));
        let mut pairs: Vec<(Atom, Atom)> = gone.chain(come).filter_map(pair).collect();
        pairs.sort_unstable();
        Self::sorted_map(pairs)
    }

    /// The datum that `diff` turns this one into.
    #[must_use]
    pub fn with_diff(&self, diff: &Self, type_: &ColumnType) -> Self {
        if !type_.is_composite() {
            return diff.clone();
        }
        self.edited(diff.iter().map(|(key, value)| {
            let same = match value {
                None => self.contains_key(key),
                Some(value) => self.get(key) == Some(value),
            };
            (key.clone(), if same { Edit::Remove } else { Edit::Put(value.cloned()) })
        }))
    }
}
