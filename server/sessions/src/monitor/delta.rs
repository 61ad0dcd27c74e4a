//! What a client that was away has missed: every row that changed since, as it was and as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nonnet_chain::{MisfitDelta, Past, PastRow};
use nonnet_engine::{ChangeSet, Row, RowChange, Snapshot};
use nonnet_schema::{
    Clause, ColumnIndex, DatabaseSchema, Datum, MonitorRequest, MonitoredTable, TableIndex, TableSchema, UUID_COLUMN,
    Uuid,
};

use super::merge::Merged;
use super::{Notation, encode_changes};

/// What a monitor has missed; encoded wherever there is time.
pub(crate) struct Delta(DeltaParts);

/// What a [`Delta`] is made of.
pub(crate) struct DeltaParts {
    /// The sequence number up to which the monitor has seen everything.
    pub(crate) from: u64,
    pub(crate) request: Arc<MonitorRequest>,
    /// The rows as they are.
    pub(crate) snapshot: Snapshot,
    /// The rows before the records that were read from the log.
    pub(crate) past: Option<Arc<Past>>,
    /// The commits after those, oldest first.
    pub(crate) recent: Vec<Arc<ChangeSet>>,
    /// Rows of whose columns that are not stored the client may know anything.
    pub(crate) uncertain: BTreeSet<(TableIndex, Uuid)>,
}

impl Delta {
    pub(crate) fn new(parts: DeltaParts) -> Self {
        Self(parts)
    }

    /// The sequence number up to which the monitor has seen everything.
    pub(crate) fn from(&self) -> u64 {
        self.0.from
    }

    /// Number of rows that are looked at.
    pub(crate) fn len(&self) -> usize {
        let recent: usize = self.0.recent.iter().map(|changes| changes.changes().len()).sum();
        recent + self.0.past.as_ref().map_or(0, |past| past.len()) + self.0.uncertain.len()
    }

    /// The `<table-updates2>`.
    ///
    /// # Errors
    /// [`MisfitDelta`] where the log and the rows do not belong together.
    pub(crate) fn encode(&self) -> Result<String, MisfitDelta> {
        let changes = self.changes()?;
        let schema = self.0.snapshot.schema();
        let text = encode_changes(schema, &self.0.request, Notation::Update3, &changes);
        Ok(text.unwrap_or_else(|| "{}".to_owned()))
    }

    fn changes(&self) -> Result<Vec<RowChange>, MisfitDelta> {
        let mut recent = Merged::default();
        for changes in &self.0.recent {
            recent.add(&self.0.request, changes);
        }
        let mut changes: BTreeMap<(TableIndex, Uuid), RowChange> = recent
            .into_changes()
            .into_iter()
            .map(|change| ((change.table, change.uuid), change))
            .collect();
        if let Some(past) = &self.0.past {
            self.add_past(past, &mut changes)?;
        }
        let watched = |(table, _): &&(TableIndex, Uuid)| self.0.request.table(*table).is_some();
        for (table, uuid) in self.0.uncertain.iter().filter(watched) {
            self.make_uncertain(*table, *uuid, &mut changes);
        }
        Ok(changes.into_values().collect())
    }

    /// Goes back from the rows before `changes` to those before the records of `past`.
    fn add_past(&self, past: &Past, changes: &mut BTreeMap<(TableIndex, Uuid), RowChange>) -> Result<(), MisfitDelta> {
        let schema = self.0.snapshot.schema();
        for (name, uuid, row) in past.rows() {
            let table = schema.table_index(name).ok_or(MisfitDelta)?;
            if self.0.request.table(table).is_none() {
                continue;
            }
            let current = self.0.snapshot.table(table).row(uuid);
            let (after, new) = match changes.remove(&(table, uuid)) {
                Some(change) => (change.old, change.new),
                None => (current.cloned(), current.cloned()),
            };
            let old = row_before(schema.table(table), uuid, row, after.as_deref())?;
            if old.is_some() || new.is_some() {
                changes.insert((table, uuid), RowChange { table, uuid, old, new });
            }
        }
        Ok(())
    }

    /// Has a row's columns that are not stored told as they are.
    fn make_uncertain(&self, table: TableIndex, uuid: Uuid, changes: &mut BTreeMap<(TableIndex, Uuid), RowChange>) {
        let (old, new) = if let Some(change) = changes.get(&(table, uuid)) {
            (change.old.clone(), change.new.clone())
        } else {
            let current = self.0.snapshot.table(table).row(uuid).cloned();
            (current.clone(), current)
        };
        let (Some(old), Some(new)) = (old, new) else {
            return;
        };
        let old = unlike(self.0.snapshot.schema().table(table), &old, &new);
        let (old, new) = (Some(Arc::new(old)), Some(new));
        changes.insert((table, uuid), RowChange { table, uuid, old, new });
    }
}

/// The row before the records; its columns that are not stored are those after them, its version is none that a row has.
fn row_before(
    schema: &TableSchema,
    uuid: Uuid,
    past: &PastRow,
    after: Option<&Row>,
) -> Result<Option<Arc<Row>>, MisfitDelta> {
    if !past.existed() {
        return Ok(None);
    }
    let mut fields = after.map_or_else(|| schema.default_fields(), |row| row.fields().to_vec());
    for (at, column) in schema.declared_columns().filter(|(_, column)| column.persistent) {
        fields[at.0] = past.datum(&column.name, after.map(|row| row.get(at)))?;
    }
    Ok(Some(Arc::new(Row::new(uuid, Uuid::nil(), fields))))
}

/// `old` with other data than `new` in every column that is not stored.
fn unlike(schema: &TableSchema, old: &Row, new: &Row) -> Row {
    let mut fields = old.fields().to_vec();
    for (at, _) in schema.declared_columns().filter(|(_, column)| !column.persistent) {
        fields[at.0] = if new.get(at).is_empty() {
            Datum::scalar(0_i64)
        } else {
            Datum::empty_set()
        };
    }
    Row::new(old.uuid(), Uuid::nil(), fields)
}

/// Whether the column's data end with the process.
fn is_column_transient(schema: &DatabaseSchema, table: TableIndex, column: ColumnIndex) -> bool {
    column != UUID_COLUMN && !schema.table(table).column(column).persistent
}

/// Whether a monitor of the table depends on columns that are not stored; `_version` is one.
pub(crate) fn is_transient(schema: &DatabaseSchema, table: &MonitoredTable) -> bool {
    let mut columns = table.columns.iter();
    columns.any(|(column, _)| is_column_transient(schema, table.table, *column))
        || is_condition_transient(schema, table)
}

/// Whether the condition does.
pub(crate) fn is_condition_transient(schema: &DatabaseSchema, table: &MonitoredTable) -> bool {
    table.condition.clauses.iter().any(|clause| {
        let Clause::Column { column, .. } = clause else {
            return false;
        };
        is_column_transient(schema, table.table, *column)
    })
}

/// Whether a column is watched whose changes are told as differences and which is not stored.
pub(crate) fn shows_transient_set(schema: &DatabaseSchema, table: &MonitoredTable) -> bool {
    table.columns.iter().any(|(column, _)| {
        is_column_transient(schema, table.table, *column)
            && schema.table(table.table).column(*column).type_.is_composite()
    })
}
