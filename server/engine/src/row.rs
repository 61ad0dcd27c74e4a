//! Rows: the fields of one row, `_uuid` and `_version` among them.

use nonnet_schema::{ColumnIndex, Datum, UUID_COLUMN, Uuid, VERSION_COLUMN};

/// A row as it is at one moment; shared, never changed in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    fields: Box<[Datum]>,
}

impl Row {
    /// A row of these fields, one per column of its table in the schema's order.
    pub fn new(uuid: Uuid, version: Uuid, mut fields: Vec<Datum>) -> Self {
        if let [uuid_field, version_field, ..] = fields.as_mut_slice() {
            *uuid_field = Datum::scalar(uuid);
            *version_field = Datum::scalar(version);
        }
        Self { fields: fields.into() }
    }

    /// The row's UUID.
    pub fn uuid(&self) -> Uuid {
        self.get(UUID_COLUMN).as_uuid().unwrap_or_default()
    }

    /// The row's version, new with every transaction that changes the row.
    pub fn version(&self) -> Uuid {
        self.get(VERSION_COLUMN).as_uuid().unwrap_or_default()
    }

    /// The field of a column, which must be of the row's own table.
    pub fn get(&self, column: ColumnIndex) -> &Datum {
        &self.fields[column.0]
    }

    /// All fields, in the schema's order.
    pub fn fields(&self) -> &[Datum] {
        &self.fields
    }

    /// Bytes it takes in memory, roughly.
    pub fn weight_bytes(&self) -> usize {
        self.fields.iter().map(Datum::weight_bytes).sum()
    }

    /// A copy with one field replaced.
    #[must_use]
    pub fn with(&self, column: ColumnIndex, datum: Datum) -> Self {
        let mut row = self.clone();
        row.set(column, datum);
        row
    }

    pub(crate) fn set(&mut self, column: ColumnIndex, datum: Datum) {
        self.fields[column.0] = datum;
    }
}
