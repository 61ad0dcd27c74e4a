//! The fields of a row of `Commit`.

use std::collections::BTreeSet;

use ecow::EcoString;
use nonnet_chain::{Header, Meta, RecordHash, RowDelta, UNKNOWN_ID, body};
use nonnet_schema::{Atom, Datum, TableSchema, UUID_COLUMN, Uuid};

use super::changes::ChangesText;
use crate::limits::{COMMENTS_BYTES_MAX, ROWS_NAMED_MAX};

/// The columns that a header fills.
pub(super) const HEADER_COLUMNS: [&str; 12] = [
    "_uuid", "database", "seq", "hash", "prev", "kind", "time", "uid", "gid", "pid", "comm", "n_rows",
];

/// How much of a body is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent<'a> {
    /// What a row shows at most.
    Shown,
    /// All of it: every table is named, and these rows are if they changed, however many others did.
    Whole(&'a [Uuid]),
}

/// A row with what the header says.
pub(super) fn header_fields(
    table: &TableSchema,
    database: &EcoString,
    header: &Header,
    hash: &RecordHash,
) -> Vec<Datum> {
    let mut fields = table.default_fields();
    let known = |id: u32| Datum::optional((id != UNKNOWN_ID).then_some(i64::from(id)));
    put(
        &mut fields,
        table,
        [
            ("database", Datum::scalar(database.clone())),
            ("seq", Datum::scalar(header.seq as i64)),
            ("hash", Datum::scalar(hash.to_string().as_str())),
            ("prev", Datum::scalar(header.prev.to_string().as_str())),
            ("kind", Datum::scalar(header.kind.name())),
            ("time", Datum::scalar(header.time_us as i64)),
            ("uid", known(header.uid)),
            ("gid", known(header.gid)),
            ("pid", known(header.pid)),
            ("comm", Datum::scalar(header.comm().as_str())),
            ("n_rows", Datum::scalar(i64::from(header.n_rows))),
        ],
    );
    if let Some(uuid) = fields.get_mut(UUID_COLUMN.0) {
        *uuid = Datum::scalar(hash.transaction_id());
    }
    fields
}

/// Adds what the body says; nothing where it was removed or cannot be decoded.
pub(super) fn body_fields(fields: &mut [Datum], table: &TableSchema, bytes: Option<&[u8]>, extent: Extent<'_>) {
    let leaves = bytes.and_then(|bytes| body::leaves(bytes).ok()).unwrap_or_default();
    let Some(meta) = leaves.first().and_then(|leaf| Meta::decode(leaf).ok()) else {
        return put(fields, table, [("cut", Datum::scalar(true))]);
    };
    // Leaves that are no rows are the schema and what later versions know.
    let mut rows = leaves.iter().skip(1).filter_map(|leaf| RowDelta::decode(leaf).ok());
    let mut named = Named::default();
    match extent {
        Extent::Shown => rows.by_ref().take(ROWS_NAMED_MAX).for_each(|row| named.add(&row, &[])),
        Extent::Whole(wanted) => rows.by_ref().for_each(|row| named.add(&row, wanted)),
    }
    let is_rest = rows.next().is_some();
    let (comments, is_comment_cut) = comments(&meta);
    let (changes, is_change_cut) = named.changes.finish();
    let is_cut = is_rest || named.is_cut || is_comment_cut || is_change_cut;
    let set = |atoms: BTreeSet<Atom>| Datum::set(atoms.into_iter().collect()).unwrap_or_else(|_| Datum::empty_set());
    put(
        fields,
        table,
        [
            ("remote", Datum::scalar(meta.remote)),
            ("address", Datum::scalar(meta.address)),
            ("unit", Datum::scalar(meta.unit)),
            ("details", Datum::string_map(meta.details)),
            ("comments", set(comments)),
            ("operations", Datum::scalar(i64::from(meta.operations))),
            ("tables", set(named.tables)),
            ("rows", set(named.rows)),
            ("changes", Datum::scalar(changes.as_str())),
            ("cut", Datum::scalar(is_cut)),
        ],
    );
}

/// What is said of the changed rows.
struct Named {
    tables: BTreeSet<Atom>,
    rows: BTreeSet<Atom>,
    changes: ChangesText,
    is_cut: bool,
}

impl Default for Named {
    fn default() -> Self {
        Self {
            tables: BTreeSet::new(),
            rows: BTreeSet::new(),
            changes: ChangesText::new(),
            is_cut: false,
        }
    }
}

impl Named {
    fn add(&mut self, row: &RowDelta, wanted: &[Uuid]) {
        let table = Atom::from(row.table.clone());
        if !self.tables.contains(&table) {
            self.tables.insert(table);
        }
        if self.rows.len() < ROWS_NAMED_MAX || wanted.contains(&row.uuid) {
            self.rows.insert(Atom::from(row.uuid));
        } else {
            self.is_cut = true;
        }
        self.changes.add(row);
    }
}

/// The distinct comments that fit.
fn comments(meta: &Meta) -> (BTreeSet<Atom>, bool) {
    let (mut kept, mut bytes) = (BTreeSet::new(), 0);
    for comment in &meta.comments {
        bytes += comment.len();
        if bytes > COMMENTS_BYTES_MAX {
            return (kept, true);
        }
        kept.insert(Atom::from(comment.clone()));
    }
    (kept, false)
}

fn put<const N: usize>(fields: &mut [Datum], table: &TableSchema, values: [(&str, Datum); N]) {
    for (name, datum) in values {
        if let Some(column) = table.column_index(name) {
            fields[column.0] = datum;
        }
    }
}
