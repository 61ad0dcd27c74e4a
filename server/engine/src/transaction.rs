//! A transaction: an overlay of changed rows over a database that stays as it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use nonnet_schema::{ColumnIndex, Condition, DatabaseSchema, Datum, NamedUuids, TableIndex, UUID_COLUMN, Uuid};

use crate::change_set::{ChangeSet, RowChange};
use crate::database::Database;
use crate::entropy::Entropy;
use crate::row::Row;
use crate::table::{IndexKey, index_key};

/// A way to the rows of a condition.
pub(crate) enum Path {
    /// The row of that UUID; none where no row can have it.
    Row(Option<Uuid>),
    /// The rows under that key of the index at that place in the schema.
    Index(usize, Vec<Datum>),
    /// All rows.
    Scan,
}

/// Changes in the making. Reads see them; the database does not.
pub struct Transaction<'a> {
    database: &'a Database,
    entropy: &'a mut Entropy,
    overlay: Vec<BTreeMap<Uuid, Overlaid>>,
    /// Changed rows by the keys they have now; built when a `where` first uses the index.
    overlay_indexes: HashMap<(TableIndex, usize), HashMap<IndexKey, Vec<Uuid>>>,
    names: HashMap<String, NamedRow>,
}

/// One changed row; neither old nor new for one that came and went.
#[derive(Clone, Debug)]
struct Overlaid {
    old: Option<Arc<Row>>,
    new: Option<Arc<Row>>,
}

#[derive(Clone, Copy, Debug)]
struct NamedRow {
    uuid: Uuid,
    inserted: bool,
}

impl<'a> Transaction<'a> {
    /// A transaction without changes.
    pub fn new(database: &'a Database, entropy: &'a mut Entropy) -> Self {
        let overlay = database.schema().tables().iter().map(|_| BTreeMap::new()).collect();
        Self {
            database,
            entropy,
            overlay,
            overlay_indexes: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// The database underneath, without the changes.
    pub fn database(&self) -> &'a Database {
        self.database
    }

    /// The schema.
    pub fn schema(&self) -> &'a DatabaseSchema {
        self.database.schema()
    }

    /// A UUID that no row has.
    pub fn new_uuid(&mut self) -> Uuid {
        self.entropy.uuid()
    }

    /// The row, as this transaction sees it.
    pub fn row(&self, table: TableIndex, uuid: Uuid) -> Option<&Arc<Row>> {
        match self.overlay[table.0].get(&uuid) {
            Some(overlaid) => overlaid.new.as_ref(),
            None => self.database.table(table).row(uuid),
        }
    }

    /// The table's rows, as this transaction sees them, in no particular order.
    pub fn rows(&self, table: TableIndex) -> impl Iterator<Item = &Arc<Row>> {
        let overlay = &self.overlay[table.0];
        let unchanged = self
            .database
            .table(table)
            .rows()
            .filter(|row| overlay.is_empty() || !overlay.contains_key(&row.uuid()));
        unchanged.chain(overlay.values().filter_map(|overlaid| overlaid.new.as_ref()))
    }

    /// Number of the table's rows.
    pub fn row_count(&self, table: TableIndex) -> usize {
        let change: isize = self.overlay[table.0]
            .values()
            .map(|overlaid| isize::from(overlaid.new.is_some()) - isize::from(overlaid.old.is_some()))
            .sum();
        self.database.table(table).len().saturating_add_signed(change)
    }

    /// The rows whose columns of the schema's index number `index` hold `key`. Within a transaction there may be several.
    pub fn rows_by_index(&mut self, table: TableIndex, index: usize, key: &[Datum]) -> Vec<Arc<Row>> {
        let overlay = &self.overlay[table.0];
        let unchanged = self.database.table(table).row_by_index(index, key);
        let mut found: Vec<_> = unchanged
            .filter(|row| !overlay.contains_key(&row.uuid()))
            .cloned()
            .into_iter()
            .collect();
        if !overlay.is_empty() {
            let columns = &self.database.schema().table(table).indexes[index];
            let built = self.overlay_indexes.entry((table, index)).or_insert_with(|| {
                let mut built: HashMap<IndexKey, Vec<Uuid>> = HashMap::new();
                for row in overlay.values().filter_map(|overlaid| overlaid.new.as_ref()) {
                    built.entry(index_key(row, columns)).or_default().push(row.uuid());
                }
                built
            });
            let changed = built
                .get(key)
                .into_iter()
                .flatten()
                .filter_map(|uuid| overlay.get(uuid)?.new.clone());
            found.extend(changed);
        }
        found
    }

    /// The rows that satisfy every clause: by UUID or by an index where the condition allows it, else by looking at each.
    pub fn matching(&mut self, table: TableIndex, condition: &Condition) -> Vec<Arc<Row>> {
        let path = self.path(table, condition);
        self.matching_on(table, condition, &path)
    }

    /// The rows on that path that satisfy every clause.
    pub(crate) fn matching_on(&mut self, table: TableIndex, condition: &Condition, path: &Path) -> Vec<Arc<Row>> {
        let holds = |row: &Arc<Row>| condition.all_hold(row.fields());
        match path {
            Path::Row(uuid) => {
                let row = uuid.and_then(|uuid| self.row(table, uuid));
                row.filter(|row| holds(row)).cloned().into_iter().collect()
            }
            Path::Index(index, key) => {
                let mut rows = self.rows_by_index(table, *index, key);
                rows.retain(holds);
                rows
            }
            Path::Scan => self.rows(table).filter(|row| holds(row)).cloned().collect(),
        }
    }

    /// How many rows are looked at on that path.
    pub(crate) fn looked_at(&self, table: TableIndex, path: &Path) -> usize {
        match path {
            Path::Row(_) | Path::Index(..) => 1,
            Path::Scan => self.database.table(table).len() + self.overlay[table.0].len(),
        }
    }

    /// The shortest way to the rows that satisfy every clause.
    pub(crate) fn path(&self, table: TableIndex, condition: &Condition) -> Path {
        if let Some(uuid) = condition.equal_to(UUID_COLUMN) {
            return Path::Row(uuid.as_uuid());
        }
        let key = |columns: &Vec<ColumnIndex>| {
            columns
                .iter()
                .map(|column| condition.equal_to(*column).cloned())
                .collect()
        };
        let indexes = self.schema().table(table).indexes.iter().enumerate();
        indexes
            .map(|(at, columns)| (at, key(columns)))
            .find_map(|(at, key): (_, Option<Vec<_>>)| Some(Path::Index(at, key?)))
            .unwrap_or(Path::Scan)
    }

    /// True where a new row may have that UUID: no row has it, nor had it when the transaction began.
    pub fn may_create(&self, table: TableIndex, uuid: Uuid) -> bool {
        self.database.table(table).row(uuid).is_none() && self.row(table, uuid).is_none()
    }

    /// Inserts a row of these fields, one per column; `_uuid` and `_version` are set here.
    pub fn insert(&mut self, table: TableIndex, uuid: Uuid, fields: Vec<Datum>) {
        let row = Row::new(uuid, self.entropy.uuid(), fields);
        self.put(table, uuid, Some(&Arc::new(row)));
    }

    /// Puts `row` in the place of the row of the same UUID; a row that is equal stays as it is.
    pub fn replace(&mut self, table: TableIndex, row: Row) {
        if self.row(table, row.uuid()).is_none_or(|current| **current != row) {
            self.put(table, row.uuid(), Some(&Arc::new(row)));
        }
    }

    /// Sets one column of a row, where the row exists.
    pub fn set(&mut self, table: TableIndex, uuid: Uuid, column: ColumnIndex, datum: Datum) {
        if let Some(row) = self.row(table, uuid) {
            let row = row.with(column, datum);
            self.replace(table, row);
        }
    }

    /// Deletes a row, where it exists.
    pub fn delete(&mut self, table: TableIndex, uuid: Uuid) {
        if self.row(table, uuid).is_some() {
            self.put(table, uuid, None);
        }
    }

    fn put(&mut self, table: TableIndex, uuid: Uuid, new: Option<&Arc<Row>>) {
        let database = self.database;
        let overlaid = self.overlay[table.0].entry(uuid).or_insert_with(|| {
            let old = database.table(table).row(uuid).cloned();
            Overlaid { new: old.clone(), old }
        });
        let before = std::mem::replace(&mut overlaid.new, new.cloned());
        for ((_, index), built) in self.overlay_indexes.iter_mut().filter(|((t, _), _)| *t == table) {
            let columns = &database.schema().table(table).indexes[*index];
            if let Some(uuids) = before.as_ref().and_then(|row| built.get_mut(&index_key(row, columns))) {
                uuids.retain(|other| *other != uuid);
            }
            if let Some(row) = new {
                built.entry(index_key(row, columns)).or_default().push(uuid);
            }
        }
    }

    /// The changes so far, by table and UUID; rows that are as they were are not among them.
    pub fn changes(&self) -> impl Iterator<Item = RowChange> {
        self.overlay.iter().enumerate().flat_map(|(table, rows)| {
            rows.iter()
                .filter(|(_, overlaid)| overlaid.old != overlaid.new)
                .map(move |(uuid, overlaid)| RowChange {
                    table: TableIndex(table),
                    uuid: *uuid,
                    old: overlaid.old.clone(),
                    new: overlaid.new.clone(),
                })
        })
    }

    /// What became of one row so far: its state before this transaction, where the transaction touched it.
    pub(crate) fn old(&self, table: TableIndex, uuid: Uuid) -> Option<&Arc<Row>> {
        match self.overlay[table.0].get(&uuid) {
            Some(overlaid) => overlaid.old.as_ref(),
            None => self.database.table(table).row(uuid),
        }
    }

    /// The changes as a change set, each modified row with a new version.
    pub(crate) fn into_change_set(self) -> ChangeSet {
        let changes: Vec<RowChange> = self.changes().collect();
        let entropy = self.entropy;
        let renewed = changes.into_iter().map(|mut change| {
            if let (Some(_), Some(new)) = (&change.old, &mut change.new) {
                let version = Datum::scalar(entropy.uuid());
                Arc::make_mut(new).set(nonnet_schema::VERSION_COLUMN, version);
            }
            change
        });
        ChangeSet::new(renewed.collect())
    }

    /// Ties a name to the UUID of the row that an insert makes.
    ///
    /// # Errors
    /// Nothing to say but that an earlier insert bore the name.
    pub(crate) fn name_row(&mut self, name: &str, chosen: Option<Uuid>) -> Result<Uuid, NameTaken> {
        let mut uuid = self.resolve(name);
        let Some(named) = self.names.get_mut(name).filter(|named| !named.inserted) else {
            return Err(NameTaken);
        };
        if let Some(chosen) = chosen {
            uuid = chosen;
        }
        *named = NamedRow { uuid, inserted: true };
        Ok(uuid)
    }
}

/// An earlier insert of the transaction bore the name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameTaken;

impl NamedUuids for Transaction<'_> {
    fn resolve(&mut self, name: &str) -> Uuid {
        if let Some(named) = self.names.get(name) {
            return named.uuid;
        }
        let uuid = self.entropy.uuid();
        self.names.insert(name.to_owned(), NamedRow { uuid, inserted: false });
        uuid
    }
}
