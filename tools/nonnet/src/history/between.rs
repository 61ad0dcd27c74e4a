//! What differs between the rows at two moments, as one change.

use std::collections::{BTreeMap, BTreeSet};

use nonnet_chain::{ColumnDelta, DatumChange, RowDelta, RowOp};
use nonnet_schema::{Datum, TableSchema, Uuid};
use nonnet_store::{Contents, StoredRow};

/// The change from one to the other, sorted by table and UUID, each datum whole. Columns and tables that only one schema has are absent on the other side.
pub(crate) fn between(before: &Contents, after: &Contents) -> Vec<RowDelta> {
    let (old, new) = (Side::new(before), Side::new(after));
    let keys: BTreeSet<_> = old.rows.keys().chain(new.rows.keys()).copied().collect();
    keys.into_iter()
        .filter_map(|(table, uuid)| delta(table, uuid, old.rows.get(&(table, uuid)), new.rows.get(&(table, uuid))))
        .collect()
}

type Found<'a> = (&'a TableSchema, &'a StoredRow);

/// The rows at one moment.
struct Side<'a> {
    rows: BTreeMap<(&'a str, Uuid), Found<'a>>,
}

impl<'a> Side<'a> {
    fn new(contents: &'a Contents) -> Self {
        let rows = contents.rows.iter().map(|row| {
            let table = contents.schema.table(row.table);
            ((table.name.as_str(), row.uuid), (table, row))
        });
        Self { rows: rows.collect() }
    }
}

fn delta(table: &str, uuid: Uuid, old: Option<&Found<'_>>, new: Option<&Found<'_>>) -> Option<RowDelta> {
    let op = match (old, new) {
        (None, Some(_)) => RowOp::Insert,
        (Some(_), Some(_)) => RowOp::Modify,
        (Some(_), None) => RowOp::Delete,
        (None, None) => return None,
    };
    let (old, new) = (
        old.map(columns).unwrap_or_default(),
        new.map(columns).unwrap_or_default(),
    );
    let mut names: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let change = |name: &str| {
        let (old, new) = (old.get(name).copied(), new.get(name).copied());
        (op != RowOp::Modify || old != new).then(|| ColumnDelta {
            column: name.into(),
            change: DatumChange::Whole {
                old: old.cloned(),
                new: new.cloned(),
            },
        })
    };
    let columns: Vec<ColumnDelta> = names.into_iter().filter_map(change).collect();
    (op != RowOp::Modify || !columns.is_empty()).then(|| RowDelta {
        table: table.into(),
        uuid,
        op,
        columns,
    })
}

/// The persistent columns of a row by name.
fn columns<'a>((table, row): &Found<'a>) -> BTreeMap<&'a str, &'a Datum> {
    let persistent = table.declared_columns().filter(|(_, column)| column.persistent);
    persistent
        .filter_map(|(at, column)| Some((column.name.as_str(), row.fields.get(at.0)?)))
        .collect()
}
