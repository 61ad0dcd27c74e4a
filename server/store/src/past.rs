//! The rows as they were after a record: back from the stored rows, or on from them, by what the log says.

use std::collections::BTreeMap;

use ecow::EcoString;
use nonnet_chain::{Body, Past, PastRow, schema_hash};
use nonnet_schema::{DatabaseSchema, Datum, TableIndex, Uuid};
use rusqlite::Connection;

use crate::layout::{Damage, OpenError};
use crate::open::{Contents, StoredRow};
use crate::read::Reader;
use crate::rows::{self, ChangedRow, Fields, RowMap, RowsState};
use crate::stored::{self, Stored, stored_row};

/// The stored rows by table and UUID.
type AllRows = BTreeMap<(EcoString, Uuid), Fields>;

impl Reader {
    /// Every row as it was after record `seq`, under the schema of that time; None where there is no such record. The cost is that of the
    /// stored rows and of the records between them and `seq`.
    ///
    /// The sums of the stored rows are checked, the log is not.
    ///
    /// # Errors
    /// [`OpenError::BodyRemoved`] where a record on the way does not say any more what it did.
    pub fn contents_at(&self, seq: u64) -> Result<Option<Contents>, OpenError> {
        let snapshot = self.connection().unchecked_transaction();
        let snapshot = snapshot.map_err(OpenError::sqlite(self.path(), "read"))?;
        let Some(newest) = self.header(seq)? else {
            return Ok(None);
        };
        let text = self.schema_text_at(seq, newest.schema_hash)?;
        let wrong = || OpenError::damaged(self.path(), Damage::Setting("schema"));
        let schema = DatabaseSchema::from_text(&text).map_err(|_| wrong())?;
        let (stored, as_of) = self.stored_rows(&snapshot)?;
        let stored = if as_of < seq {
            self.forward(stored, as_of, seq)?
        } else {
            self.back(stored, seq, as_of, &schema)?
        };
        let typed = stored
            .into_iter()
            .map(|((table, uuid), fields)| self.typed(&schema, &table, uuid, fields));
        let rows = typed.collect::<Result<_, _>>()?;
        Ok(Some(Contents { schema, rows, newest }))
    }

    /// The persistent columns of a row after the newest record, sorted by name; None where there is no such row.
    pub fn row(&self, table: &str, uuid: Uuid) -> Result<Option<Fields>, OpenError> {
        let snapshot = self.connection().unchecked_transaction();
        let snapshot = snapshot.map_err(OpenError::sqlite(self.path(), "read"))?;
        let as_of = RowsState::read(&snapshot, self.path())?.seq;
        let stored = rows::read_row(&snapshot, table, uuid).map_err(OpenError::sqlite(self.path(), "read"))?;
        let stored = stored.map(|(bytes, sum)| self.fields((table, uuid, &bytes, sum)));
        let mut fields = stored.transpose()?;
        let mut later = Vec::new();
        for record in self.row_records(table, uuid)? {
            let record = record?;
            if record.header.seq <= as_of {
                break;
            }
            later.push(record.delta);
        }
        for delta in later.iter().rev() {
            let misfit = |_| self.row_error(table, uuid, "the log says that it was another one before");
            fields = rows::apply(delta, fields).map_err(misfit)?;
        }
        Ok(fields)
    }

    /// The rows of a table as they are stored: as of a record that may be a little behind the newest.
    pub fn stored_table(&self, table: &str) -> Result<Vec<(Uuid, Fields)>, OpenError> {
        let sqlite = |error| OpenError::sqlite(self.path(), "read")(error);
        let query = "SELECT tbl, uuid, fields, sum FROM row WHERE tbl = ?";
        let mut statement = self.connection().prepare_cached(query).map_err(sqlite)?;
        let mut stored = statement.query((table,)).map_err(sqlite)?;
        let mut found = Vec::new();
        while let Some(row) = stored.next().map_err(sqlite)? {
            let row = stored_row(row).map_err(sqlite)?;
            found.push((row.1, self.fields(row)?));
        }
        Ok(found)
    }

    fn fields(&self, row: Stored<'_>) -> Result<Fields, OpenError> {
        stored::checked_fields(row).map_err(|damage| OpenError::damaged(self.path(), damage))
    }

    /// The text of the schema after record `seq`, whose header has that hash of it.
    fn schema_text_at(&self, seq: u64, hash: [u8; 32]) -> Result<String, OpenError> {
        let newest = self.schema_text()?;
        if schema_hash(&newest) == hash {
            return Ok(newest);
        }
        // Some record before brought it: between one of another schema and one of this schema there is such a record.
        let (mut other, mut same) = (None, seq);
        while same > other.map_or(0, |other| other + 1) {
            let middle = other.map_or(same / 2, |other: u64| other + (same - other) / 2);
            let header = self.header(middle)?;
            if header.is_some_and(|header| header.schema_hash == hash) {
                same = middle;
            } else {
                other = Some(middle);
            }
        }
        let body = self.body(same)?;
        let text = body.schema.filter(|text| schema_hash(text) == hash);
        text.map(String::from)
            .ok_or_else(|| self.undecodable(same, "its schema is not in it"))
    }

    /// The decoded body of a record.
    fn body(&self, seq: u64) -> Result<Body, OpenError> {
        let record = self.records(seq..=seq).next().transpose()?;
        let bytes = record.and_then(|record| record.body);
        let bytes = bytes.ok_or_else(|| self.body_removed(seq))?;
        Body::decode(&bytes).map_err(|error| self.undecodable(seq, error))
    }

    /// The bodies of the records after `from` up to `to`.
    fn bodies(&self, from: u64, to: u64) -> impl Iterator<Item = Result<Body, OpenError>> {
        self.records(from.saturating_add(1)..=to).map(|record| {
            let record = record?;
            let bytes = record.body.ok_or_else(|| self.body_removed(record.seq))?;
            Body::decode(&bytes).map_err(|error| self.undecodable(record.seq, error))
        })
    }

    /// The stored rows, and the record that they are as of.
    fn stored_rows(&self, connection: &Connection) -> Result<(AllRows, u64), OpenError> {
        let expected = RowsState::read(connection, self.path())?;
        let mut rows = AllRows::new();
        stored::for_each_row(connection, self.path(), expected, |table, uuid, bytes| {
            let fields = stored::fields(table, uuid, bytes);
            let fields = fields.map_err(|damage| OpenError::damaged(self.path(), damage))?;
            rows.insert((table.into(), uuid), fields);
            Ok(())
        })?;
        Ok((rows, expected.seq))
    }

    fn forward(&self, stored: AllRows, as_of: u64, to: u64) -> Result<AllRows, OpenError> {
        let mut rows: RowMap = stored
            .into_iter()
            .map(|(key, fields)| (key, ChangedRow::unchanged(Some(fields))))
            .collect();
        for body in self.bodies(as_of, to) {
            rows::apply_body(&body?, &mut rows, |_, _| Ok::<_, Damage>(None))
                .map_err(|damage| OpenError::damaged(self.path(), damage))?;
        }
        Ok(rows
            .into_iter()
            .filter_map(|(key, row)| Some((key, row.after?)))
            .collect())
    }

    fn back(&self, mut rows: AllRows, to: u64, as_of: u64, schema: &DatabaseSchema) -> Result<AllRows, OpenError> {
        let mut past = Past::default();
        for body in self.bodies(to, as_of) {
            past.add(body?);
        }
        for (table, uuid, was) in past.rows() {
            let key = (table.clone(), uuid);
            let after = rows.remove(&key);
            if was.existed() {
                let fields = before(schema, table, was, after.as_ref());
                let misfit = || self.row_error(table, uuid, "the log says that it was another one before");
                rows.insert(key, fields.ok_or_else(misfit)?);
            }
        }
        Ok(rows)
    }

    fn typed(&self, schema: &DatabaseSchema, table: &str, uuid: Uuid, stored: Fields) -> Result<StoredRow, OpenError> {
        let unknown = || self.row_error(table, uuid, "the schema has no such table");
        let index: TableIndex = schema.table_index(table).ok_or_else(unknown)?;
        let columns = schema.table(index);
        let mut fields = columns.default_fields();
        for (name, datum) in stored {
            let Some(field) = columns.column_index(&name).and_then(|column| fields.get_mut(column.0)) else {
                return Err(self.row_error(table, uuid, "it has a column that the schema does not have"));
            };
            *field = datum;
        }
        Ok(StoredRow {
            table: index,
            uuid,
            fields,
        })
    }

    fn body_removed(&self, seq: u64) -> OpenError {
        OpenError::BodyRemoved {
            path: self.path().to_owned(),
            seq,
        }
    }

    fn row_error(&self, table: &str, uuid: Uuid, problem: &'static str) -> OpenError {
        OpenError::damaged(self.path(), Damage::row(table, uuid, problem))
    }
}

/// The row before what is past, under the schema of that time; None where the two do not fit.
fn before(schema: &DatabaseSchema, table: &str, was: &PastRow, after: Option<&Fields>) -> Option<Fields> {
    let columns = schema.table(schema.table_index(table)?);
    let persistent = columns.declared_columns().filter(|(_, column)| column.persistent);
    let mut fields = Fields::new();
    for (_, column) in persistent {
        let after: Option<&Datum> = after.and_then(|after| {
            let at = after.binary_search_by(|(name, _)| name.cmp(&column.name)).ok()?;
            after.get(at).map(|(_, datum)| datum)
        });
        fields.push((column.name.clone(), was.datum(&column.name, after).ok()?));
    }
    fields.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Some(fields)
}
