//! Tables: rows by UUID and by each unique index, in persistent maps.

use std::sync::Arc;

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use nonnet_schema::{ColumnIndex, Datum, TableSchema, Uuid};

use crate::row::Row;

/// A persistent hash map: a clone costs O(1), a change O(log n).
pub(crate) type HashMap<K, V> = GenericHashMap<K, V, ahash::RandomState, DefaultSharedPtr>;

/// The values of an index's columns in one row, in the index's order.
pub type IndexKey = Box<[Datum]>;

/// The rows of one table.
#[derive(Clone, Debug)]
pub struct Table {
    rows: HashMap<Uuid, Arc<Row>>,
    /// One per index of the schema.
    indexes: Vec<HashMap<IndexKey, Uuid>>,
}

impl Table {
    pub(crate) fn new(schema: &TableSchema, hasher: &ahash::RandomState) -> Self {
        let indexes = schema
            .indexes
            .iter()
            .map(|_| HashMap::with_hasher(hasher.clone()))
            .collect();
        Self {
            rows: HashMap::with_hasher(hasher.clone()),
            indexes,
        }
    }

    /// The row of that UUID.
    pub fn row(&self, uuid: Uuid) -> Option<&Arc<Row>> {
        self.rows.get(&uuid)
    }

    /// All rows, in no particular order.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.values()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// True where both surely hold the same rows, since one is an unchanged clone of the other.
    pub fn is_same(&self, other: &Self) -> bool {
        self.rows.ptr_eq(&other.rows)
    }

    /// The row whose columns of the schema's index number `index` hold `key`.
    pub fn row_by_index(&self, index: usize, key: &[Datum]) -> Option<&Arc<Row>> {
        self.indexes.get(index)?.get(key).and_then(|uuid| self.rows.get(uuid))
    }

    pub(crate) fn remove(&mut self, schema: &TableSchema, row: &Row) {
        self.rows.remove(&row.uuid());
        for (columns, index) in schema.indexes.iter().zip(&mut self.indexes) {
            index.remove(&index_key(row, columns));
        }
    }

    pub(crate) fn insert(&mut self, schema: &TableSchema, row: Arc<Row>) {
        for (columns, index) in schema.indexes.iter().zip(&mut self.indexes) {
            index.insert(index_key(&row, columns), row.uuid());
        }
        self.rows.insert(row.uuid(), row);
    }

    pub(crate) fn replace(&mut self, schema: &TableSchema, old: &Row, new: Arc<Row>) {
        for (columns, index) in schema.indexes.iter().zip(&mut self.indexes) {
            if columns.iter().any(|column| old.get(*column) != new.get(*column)) {
                // Another row may already have taken the old key over in the same change set.
                let old_key = index_key(old, columns);
                if index.get(&old_key) == Some(&old.uuid()) {
                    index.remove(&old_key);
                }
                index.insert(index_key(&new, columns), new.uuid());
            }
        }
        self.rows.insert(new.uuid(), new);
    }
}

/// The key of a row in an index over `columns`.
pub(crate) fn index_key(row: &Row, columns: &[ColumnIndex]) -> IndexKey {
    columns.iter().map(|column| row.get(*column).clone()).collect()
}
