//! What a new schema made of the rows, as the record of a conversion holds it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ecow::EcoString;
use nonnet_engine::{Database, Row, Table};
use nonnet_schema::{ColumnIndex, TableIndex, TableSchema};

use crate::leaf::{ColumnDelta, DatumChange, RowDelta, RowOp};

/// A database before or after a conversion, as far as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredSide<'a> {
    /// Its rows.
    pub database: &'a Database,
    /// Tables whose rows are not stored.
    pub volatile: &'a [TableIndex],
}

/// Every row whose stored columns differ, in no particular order. A column that is not stored on one side is absent there.
pub(crate) fn converted_rows(before: StoredSide<'_>, after: StoredSide<'_>) -> Vec<RowDelta> {
    let mut deltas = Vec::new();
    for old in before.tables() {
        let new = after.table(&old.schema.name);
        let columns = StoredColumns::new(Some(old.schema), new.map(|new| new.schema));
        for row in old.rows.rows() {
            let became = new.and_then(|new| new.rows.row(row.uuid()));
            deltas.extend(columns.delta(&old.schema.name, Some(row), became));
        }
    }
    for new in after.tables() {
        let old = before.table(&new.schema.name);
        let columns = StoredColumns::new(None, Some(new.schema));
        for row in new.rows.rows() {
            if old.is_none_or(|old| old.rows.row(row.uuid()).is_none()) {
                deltas.extend(columns.delta(&new.schema.name, None, Some(row)));
            }
        }
    }
    deltas
}

/// A table whose rows are stored.
#[derive(Clone, Copy)]
struct StoredTable<'a> {
    schema: &'a TableSchema,
    rows: &'a Table,
}

impl<'a> StoredSide<'a> {
    /// Gives each stored row to `put`, with its table.
    pub(crate) fn for_each_row(self, mut put: impl FnMut(&'a TableSchema, &'a Row)) {
        for table in self.tables() {
            table.rows.rows().for_each(|row| put(table.schema, row));
        }
    }

    fn tables(self) -> impl Iterator<Item = StoredTable<'a>> {
        let tables = self.database.schema().tables();
        (0..tables.len()).filter_map(move |at| self.at(TableIndex(at)))
    }

    fn table(self, name: &str) -> Option<StoredTable<'a>> {
        self.at(self.database.schema().table_index(name)?)
    }

    fn at(self, index: TableIndex) -> Option<StoredTable<'a>> {
        (!self.volatile.contains(&index)).then(|| StoredTable {
            schema: self.database.schema().table(index),
            rows: self.database.table(index),
        })
    }
}

/// The stored columns of a table on either side, sorted by name, with their places where they are stored.
struct StoredColumns(BTreeMap<EcoString, (Option<ColumnIndex>, Option<ColumnIndex>)>);

impl StoredColumns {
    fn new(old: Option<&TableSchema>, new: Option<&TableSchema>) -> Self {
        let mut columns: BTreeMap<_, (Option<ColumnIndex>, Option<ColumnIndex>)> = BTreeMap::new();
        let stored = |table: &TableSchema| -> Vec<(EcoString, ColumnIndex)> {
            let columns = table.declared_columns().filter(|(_, column)| column.persistent);
            columns.map(|(at, column)| (column.name.clone(), at)).collect()
        };
        for (name, at) in old.map(stored).unwrap_or_default() {
            columns.entry(name).or_default().0 = Some(at);
        }
        for (name, at) in new.map(stored).unwrap_or_default() {
            columns.entry(name).or_default().1 = Some(at);
        }
        Self(columns)
    }

    fn delta(&self, table: &EcoString, old: Option<&Arc<Row>>, new: Option<&Arc<Row>>) -> Option<RowDelta> {
        let (op, uuid) = match (old, new) {
            (None, Some(new)) => (RowOp::Insert, new.uuid()),
            (Some(old), Some(_)) => (RowOp::Modify, old.uuid()),
            (Some(old), None) => (RowOp::Delete, old.uuid()),
            (None, None) => return None,
        };
        let change = |(column, (from, to)): (&EcoString, &(Option<ColumnIndex>, Option<ColumnIndex>))| {
            let datum = |row: Option<&Arc<Row>>, at: Option<ColumnIndex>| Some(row?.get(at?).clone());
            let (old, new) = (datum(old, *from), datum(new, *to));
            (old != new).then(|| ColumnDelta {
                column: column.clone(),
                change: DatumChange::Whole { old, new },
            })
        };
        let columns: Vec<ColumnDelta> = self.0.iter().filter_map(change).collect();
        (op != RowOp::Modify || !columns.is_empty()).then(|| RowDelta {
            table: table.clone(),
            uuid,
            op,
            columns,
        })
    }
}
