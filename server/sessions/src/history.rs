//! The recent past of a database: its newest commits with the rows as they were and as they became, found by transaction id.
//!
//! A commit of columns that are not stored bears the id of the newest record. So a client that has this id may have seen the commit or
//! not: its rows are uncertain, and their columns that are not stored are told again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use nonnet_chain::{Chain, Past};
use nonnet_engine::{ChangeSet, Database};
use nonnet_schema::{DatabaseSchema, MonitorRequest, TableIndex, Uuid};

use crate::limits::{RECENT_BYTES_MAX, RECENT_ROWS_MAX};
use crate::monitor::{Delta, DeltaParts, is_condition_transient, is_transient, shows_transient_set};

/// What there is to tell a client that has seen everything up to a transaction.
pub(crate) enum Since {
    /// What changed.
    Delta(Box<Delta>),
    /// Everything: the transaction is unknown, or what changed cannot be told exactly.
    Everything,
    /// The log must be asked.
    Log,
}

/// What the log says has changed since a transaction.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The transaction's sequence number.
    pub from: u64,
    /// That of the newest record that was read.
    pub to: u64,
    /// The changed rows as they were.
    pub past: Arc<Past>,
}

/// A record, by its place and its transaction id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) sequence: u64,
    pub(crate) id: Uuid,
}

/// The newest commits of one database.
pub(crate) struct History {
    /// The newest record when the process began, or that of the newest schema: what is not stored begins with it.
    begin: u64,
    /// The record before the oldest entry.
    base: u64,
    /// Its id; None where commits without a record that followed it have been forgotten.
    base_id: Option<Uuid>,
    entries: VecDeque<Entry>,
    /// Rows in all entries.
    rows: usize,
    /// Bytes of all entries, roughly.
    weight_bytes: usize,
    /// By table, the rows with the newest commit that changed a column of them that is not stored; empty for tables that have none.
    transient: Vec<HashMap<Uuid, u64>>,
    /// Tables whose rows are not stored.
    volatile: Vec<TableIndex>,
}

/// One commit.
struct Entry {
    /// The newest record after it.
    sequence: u64,
    /// That record's transaction id.
    id: Uuid,
    /// Whether the record is of this commit.
    is_recorded: bool,
    changes: Arc<ChangeSet>,
    /// Of its rows, as they were and as they became.
    weight_bytes: usize,
}

/// Bytes of the rows of a change set, roughly.
fn weight_of(changes: &ChangeSet) -> usize {
    let rows = changes.changes().iter().flat_map(|change| [&change.old, &change.new]);
    rows.flatten().map(|row| row.weight_bytes()).sum()
}

impl Position {
    /// The end of a chain.
    pub(crate) fn of(chain: &Chain) -> Self {
        let head = chain.head();
        Self {
            sequence: head.seq,
            id: head.hash.transaction_id(),
        }
    }
}

impl History {
    pub(crate) fn new(schema: &DatabaseSchema, chain: Option<&Chain>, volatile: Vec<TableIndex>) -> Self {
        let begin = chain.map_or(0, |chain| chain.head().seq);
        Self {
            begin,
            base: begin,
            base_id: chain.map(|chain| chain.head().hash.transaction_id()),
            entries: VecDeque::new(),
            rows: 0,
            weight_bytes: 0,
            transient: schema.tables().iter().map(|_| HashMap::new()).collect(),
            volatile,
        }
    }

    /// The same for a relayed database, which begins with what its source told first, as of the transaction of that id.
    pub(crate) fn of_relay(schema: &DatabaseSchema, begin: Position) -> Self {
        Self {
            begin: begin.sequence,
            base: begin.sequence,
            base_id: Some(begin.id).filter(|id| !id.is_nil()),
            ..Self::new(schema, None, Vec::new())
        }
    }

    /// Adds a commit after which `newest` is the newest record.
    pub(crate) fn add(
        &mut self,
        schema: &DatabaseSchema,
        newest: Position,
        is_recorded: bool,
        changes: &Arc<ChangeSet>,
    ) {
        for change in changes.changes() {
            let (Some(old), Some(new), Some(rows)) = (&change.old, &change.new, self.transient.get_mut(change.table.0))
            else {
                if let (None, Some(rows)) = (&change.new, self.transient.get_mut(change.table.0)) {
                    rows.remove(&change.uuid);
                }
                continue;
            };
            let mut columns = schema.table(change.table).declared_columns();
            if columns.any(|(at, column)| !column.persistent && old.get(at) != new.get(at)) {
                rows.insert(change.uuid, newest.sequence);
            }
        }
        self.rows += changes.changes().len();
        let weight_bytes = weight_of(changes);
        self.weight_bytes += weight_bytes;
        self.entries.push_back(Entry {
            sequence: newest.sequence,
            id: newest.id,
            is_recorded,
            changes: Arc::clone(changes),
            weight_bytes,
        });
        while (self.rows > RECENT_ROWS_MAX || (self.weight_bytes > RECENT_BYTES_MAX && self.entries.len() > 1))
            && let Some(oldest) = self.entries.pop_front()
        {
            self.rows -= oldest.changes.changes().len();
            self.weight_bytes -= oldest.weight_bytes;
            self.base = oldest.sequence;
            self.base_id = oldest.is_recorded.then_some(oldest.id);
        }
    }

    /// Forgets the commits from `sequence` on, which have been undone.
    pub(crate) fn undo_from(&mut self, sequence: u64) {
        while let Some(undone) = self.entries.pop_back_if(|entry| entry.sequence >= sequence) {
            self.rows -= undone.changes.changes().len();
            self.weight_bytes -= undone.weight_bytes;
        }
        if self.base >= sequence {
            self.base = sequence.saturating_sub(1);
            self.base_id = None;
        }
    }

    /// What a monitor that has seen everything up to the transaction of that id has missed.
    pub(crate) fn since(&self, id: Uuid, database: &Database, request: &Arc<MonitorRequest>) -> Since {
        let from = if self.base_id == Some(id) {
            Some(self.base)
        } else {
            let known = self
                .entries
                .iter()
                .rev()
                .find(|entry| entry.is_recorded && entry.id == id);
            known.map(|entry| entry.sequence)
        };
        let Some(from) = from else {
            return Since::Log;
        };
        let mut uncertain = BTreeSet::new();
        for entry in self
            .entries
            .iter()
            .filter(|entry| entry.sequence == from && !entry.is_recorded)
        {
            uncertain.extend(entry.changes.changes().iter().map(|change| (change.table, change.uuid)));
        }
        let is_volatile = |(table, _): &(TableIndex, Uuid)| self.volatile.contains(table);
        let watches = |(table, _): &&(TableIndex, Uuid)| request.table(*table).is_some();
        if uncertain.iter().filter(watches).any(is_volatile) {
            return Since::Everything;
        }
        self.delta(database, request, from, from, None, uncertain)
    }

    /// The same for an older transaction, of which the log told.
    pub(crate) fn since_logged(&self, logged: &Logged, database: &Database, request: &Arc<MonitorRequest>) -> Since {
        let is_volatile = |table: &TableIndex| self.volatile.contains(table);
        if self.base > logged.to || request.tables.iter().any(|table| is_volatile(&table.table)) {
            return Since::Everything;
        }
        let mut uncertain = BTreeSet::new();
        let schema = database.schema();
        for table in request.tables.iter().filter(|table| is_transient(schema, table)) {
            let rows = self.transient.get(table.table.0).into_iter().flatten();
            let touched = rows.filter(|(_, sequence)| **sequence >= logged.from);
            uncertain.extend(touched.map(|(uuid, _)| (table.table, *uuid)));
        }
        let past = Some(Arc::clone(&logged.past));
        self.delta(database, request, logged.from, logged.to, past, uncertain)
    }

    /// `past` tells of the records after `from` up to `to`, the entries of what followed.
    fn delta(
        &self,
        database: &Database,
        request: &Arc<MonitorRequest>,
        from: u64,
        to: u64,
        past: Option<Arc<Past>>,
        uncertain: BTreeSet<(TableIndex, Uuid)>,
    ) -> Since {
        let schema = database.schema();
        for table in &request.tables {
            let is_touched = || uncertain.iter().any(|(touched, _)| *touched == table.table);
            let is_exact = !shows_transient_set(schema, table) && !is_condition_transient(schema, table);
            // What an earlier process knew of columns that are not stored is gone.
            let is_lost = from <= self.begin && is_transient(schema, table);
            if is_lost || (!is_exact && is_touched()) {
                return Since::Everything;
            }
        }
        let later = self.entries.iter().filter(|entry| entry.sequence > to);
        Since::Delta(Box::new(Delta::new(DeltaParts {
            from,
            request: Arc::clone(request),
            snapshot: database.snapshot(),
            past,
            recent: later.map(|entry| Arc::clone(&entry.changes)).collect(),
            uncertain,
        })))
    }
}
