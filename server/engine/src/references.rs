//! Who refers to whom: counts of strong references, and the referrers of weak ones.
//!
//! Kept up to date from the differences between old and new rows, so that the checks of a commit cost what changed.

use imbl::OrdMap;
use nonnet_schema::{Atom, ColumnIndex, ColumnSchema, DatabaseSchema, Datum, Strength, TableIndex, Uuid};

use crate::change_set::{ChangeSet, RowChange};
use crate::row::Row;
use crate::table::HashMap;

/// A row by table and UUID.
pub(crate) type RowKey = (TableIndex, Uuid);

/// One reference in a datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The column that holds it.
    pub column: ColumnIndex,
    /// The row it points at, existing or not.
    pub target: RowKey,
    pub strength: Strength,
}

/// The references within one database.
#[derive(Clone, Debug)]
pub(crate) struct References {
    /// Number of strong references to a row from other rows.
    strong: HashMap<RowKey, usize>,
    /// The rows that weakly refer to a row, with the number of their references.
    weak: HashMap<RowKey, OrdMap<RowKey, usize>>,
}

impl References {
    pub(crate) fn new(hasher: &ahash::RandomState) -> Self {
        Self {
            strong: HashMap::with_hasher(hasher.clone()),
            weak: HashMap::with_hasher(hasher.clone()),
        }
    }

    /// Number of strong references to `target` from other rows.
    pub(crate) fn strong_count(&self, target: RowKey) -> usize {
        self.strong.get(&target).copied().unwrap_or(0)
    }

    /// The rows with weak references to `target`.
    pub(crate) fn weak_referrers(&self, target: RowKey) -> impl Iterator<Item = RowKey> {
        self.weak.get(&target).into_iter().flat_map(OrdMap::keys).copied()
    }

    pub(crate) fn apply(&mut self, schema: &DatabaseSchema, changes: &ChangeSet) {
        for change in changes.changes() {
            let row = (change.table, change.uuid);
            for_each_changed(schema, change, |reference, added| match reference.strength {
                Strength::Strong if reference.target == row => {}
                Strength::Strong => adjust(&mut self.strong, reference.target, added),
                Strength::Weak => {
                    let referrers = self.weak.entry(reference.target).or_default();
                    let count = referrers.get(&row).copied().unwrap_or(0);
                    match if added { count + 1 } else { count.saturating_sub(1) } {
                        0 => referrers.remove(&row),
                        count => referrers.insert(row, count),
                    };
                    if referrers.is_empty() {
                        self.weak.remove(&reference.target);
                    }
                }
            });
        }
    }
}

fn adjust(counts: &mut HashMap<RowKey, usize>, key: RowKey, added: bool) {
    let count = counts.get(&key).copied().unwrap_or(0);
    match if added { count + 1 } else { count.saturating_sub(1) } {
        0 => counts.remove(&key),
        count => counts.insert(key, count),
    };
}

/// Calls `visit` with every reference that a row lost (`false`) or gained (`true`).
pub(crate) fn for_each_changed(schema: &DatabaseSchema, change: &RowChange, mut visit: impl FnMut(Reference, bool)) {
    let table = schema.table(change.table);
    for (column, column_schema) in table.declared_columns().filter(|(_, column)| refers(column)) {
        let field = |row: &'_ Option<std::sync::Arc<Row>>| row.as_ref().map(|row| row.get(column).clone());
        let (old, new) = (field(&change.old), field(&change.new));
        let mut visit_all = |datum: &Datum, added| {
            for (key, value) in datum {
                for_each_in_element(schema, column, column_schema, key, value, &mut |reference| {
                    visit(reference, added);
                });
            }
        };
        match (old, new) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) if column_schema.type_.is_composite() => {
                for (key, _) in &new.diff_from(&old, &column_schema.type_) {
                    for (datum, added) in [(&old, false), (&new, true)] {
                        if datum.contains_key(key) {
                            let value = datum.get(key);
                            for_each_in_element(schema, column, column_schema, key, value, &mut |reference| {
                                visit(reference, added);
                            });
                        }
                    }
                }
            }
            (old, new) => {
                for (datum, added) in [(old, false), (new, true)] {
                    if let Some(datum) = datum {
                        visit_all(&datum, added);
                    }
                }
            }
        }
    }
}

/// True where the column's type holds references.
pub(crate) fn refers(column: &ColumnSchema) -> bool {
    column.type_.key.reference().is_some()
        || column
            .type_
            .value
            .as_ref()
            .is_some_and(|value| value.reference().is_some())
}

/// Calls `visit` with the references in one element of a column.
pub(crate) fn for_each_in_element(
    schema: &DatabaseSchema,
    column: ColumnIndex,
    column_schema: &ColumnSchema,
    key: &Atom,
    value: Option<&Atom>,
    visit: &mut dyn FnMut(Reference),
) {
    let type_ = &column_schema.type_;
    for (base, atom) in [(Some(&type_.key), Some(key)), (type_.value.as_ref(), value)] {
        let (Some(base), Some(target)) = (base, atom.and_then(Atom::as_uuid)) else {
            continue;
        };
        if let Some((table, strength)) = base.reference()
            && let Some(table) = schema.table_index(table)
        {
            visit(Reference {
                column,
                target: (table, target),
                strength,
            });
        }
    }
}
