//! Checkpoints while the server runs: when each is closed, and what a rollback writes.
//!
//! A state machine. Commits, reports of the reconciler and the passing of time go in; [`Checkpoints::next`] gives what is to be done. It knows
//! for each open checkpoint all rows as they were before it, which costs what has changed since, and for others that a client wants back what
//! the log tells. A rollback brings every persistent column of every table back, whoever wrote it since, but for the checkpoints themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use ecow::{EcoString, eco_format};
use nonnet_engine::{ChangeSet, Database, Row, Transaction};
use nonnet_schema::{Atom, Datum, TableIndex, TableSchema, Uuid};

use crate::limits::ROLLBACK_RETRY_MS;
use crate::object::Owner;
use crate::report::{Report, State};
use crate::tables::checkpoints::{CheckpointState, Columns, base, is_all_or_nothing, is_set, timeout_s};
use crate::tables::{Tables, row_words, text};

/// The checkpoints that are open, or to be rolled back.
#[derive(Debug)]
pub struct Checkpoints {
    columns: Columns,
    /// Tables that a rollback leaves alone.
    except: [TableIndex; 2],
    /// Whether somebody tells what becomes of rows in the kernel.
    is_followed: bool,
    /// The newest commit when the server began: what it tells of rows says nothing about older ones.
    begin: u64,
    kept: BTreeMap<Uuid, Kept>,
}

/// All rows before a checkpoint.
#[derive(Clone, Debug)]
pub enum Before {
    /// These.
    Known(Box<Database>),
    /// The log has not been asked.
    Unknown,
    /// The log is being read.
    Awaited,
    /// They cannot be had any more, for this reason.
    Lost(EcoString),
}

/// One checkpoint.
#[derive(Debug)]
struct Kept {
    name: EcoString,
    base: u64,
    before: Before,
    /// On the monotonic clock; negative for a time before it began.
    opened_ms: i64,
    timeout_s: Option<u64>,
    is_all_or_nothing: bool,
    /// Why it is to be rolled back now.
    reason: Option<EcoString>,
    /// Whether all of its first transaction has come true.
    is_settled: bool,
    /// Whether its row says until when it is open.
    is_told: bool,
    /// When a rollback that could not be stored is tried again.
    retry_ms: u64,
    /// The commit that closed it, which may not be stored.
    closed: Option<u64>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read from the log what has changed since `base`, and give it to [`Checkpoints::learn`].
    Read {
        /// The checkpoint.
        checkpoint: Uuid,
        /// The commit to go back to.
        base: u64,
    },
    /// Commit what [`Checkpoints::roll_back`] writes.
    RollBack {
        /// The checkpoint.
        checkpoint: Uuid,
        /// Its name.
        name: EcoString,
        /// The commit to go back to.
        base: u64,
        /// Why.
        reason: EcoString,
    },
    /// Commit what [`Checkpoints::confirm`] writes.
    Confirm(Uuid),
    /// Write what [`Checkpoints::tell`] has to say; it is not stored.
    Tell,
}

/// The time.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// On the monotonic clock.
    pub monotonic_ms: u64,
    /// Since 1970.
    pub time_ms: u64,
}

impl Checkpoints {
    /// No checkpoints yet, of a database whose newest commit is `begin`. Without `is_followed` nobody tells what becomes of rows in the kernel.
    pub fn new(tables: &Tables, begin: u64, is_followed: bool) -> Self {
        Self {
            columns: tables.checkpoints,
            except: [tables.checkpoints.this, tables.events.this],
            is_followed,
            begin,
            kept: BTreeMap::new(),
        }
    }

    /// The rows of checkpoints that a former run of the server left open or was to roll back, with the commits that they go back to.
    pub fn left_open(&self, rows: &Database) -> Vec<(Uuid, u64)> {
        let is_open = |row: &&Arc<Row>| match CheckpointState::of(&self.columns, row) {
            Some(CheckpointState::Open) => true,
            Some(CheckpointState::Confirmed) => is_set(row, self.columns.rollback),
            Some(CheckpointState::RolledBack) | None => false,
        };
        let open = rows.table(self.columns.this).rows().filter(is_open);
        open.map(|row| (row.uuid(), base(&self.columns, row).unwrap_or(0)))
            .collect()
    }

    /// Goes on with a checkpoint that a former run left open: it was opened so long ago.
    pub fn resume(&mut self, rows: &Database, checkpoint: Uuid, age_ms: u64, before: Before, now_ms: u64) {
        if let Some(row) = rows.table(self.columns.this).row(checkpoint) {
            let opened_ms = to_signed(now_ms).saturating_sub(to_signed(age_ms));
            let mut kept = Kept::new(&self.columns, row, before, opened_ms);
            kept.is_settled = !self.is_followed;
            self.kept.insert(checkpoint, kept);
        }
    }

    /// Takes in commits, oldest first, each with its number; `rows` has all of them.
    pub fn changed(&mut self, rows: &Database, commits: &[(Arc<ChangeSet>, u64)], now_ms: u64) {
        let this = self.columns.this;
        let is_concerned = |changes: &ChangeSet| changes.changes().iter().any(|change| change.table == this);
        if !commits.iter().any(|(changes, _)| is_concerned(changes)) {
            return;
        }
        let mut before = rows.clone();
        let mut all_before = Vec::with_capacity(commits.len());
        for (changes, _) in commits.iter().rev() {
            before.apply(&changes.inverse());
            all_before.push(before.clone());
        }
        for ((changes, sequence), before) in commits.iter().zip(all_before.into_iter().rev()) {
            for change in changes.changes().iter().filter(|change| change.table == this) {
                match &change.new {
                    Some(row) => self.row_changed(row, &before, *sequence, now_ms),
                    None => drop(self.kept.remove(&change.uuid)),
                }
            }
        }
    }

    fn row_changed(&mut self, row: &Row, before: &Database, sequence: u64, now_ms: u64) {
        let (columns, uuid) = (&self.columns, row.uuid());
        let state = CheckpointState::of(columns, row);
        let is_asked = is_set(row, columns.rollback);
        if !self.kept.contains_key(&uuid) {
            let before = match state {
                Some(CheckpointState::Open) => Before::Known(Box::new(before.clone())),
                Some(CheckpointState::Confirmed) if is_asked => Before::Unknown,
                _ => return,
            };
            let mut kept = Kept::new(columns, row, before, to_signed(now_ms));
            kept.is_settled = !self.is_followed;
            self.kept.insert(uuid, kept);
        }
        let Some(kept) = self.kept.get_mut(&uuid) else { return };
        let timeout_s = timeout_s(columns, row);
        kept.is_told &= kept.timeout_s == timeout_s;
        kept.timeout_s = timeout_s;
        kept.is_all_or_nothing = is_all_or_nothing(columns, row);
        if is_asked && kept.reason.is_none() {
            kept.reason = Some("as asked".into());
        }
        let is_wanted = state == Some(CheckpointState::Open) || (state == Some(CheckpointState::Confirmed) && is_asked);
        if is_wanted && kept.closed.take().is_some() {
            // What closed it could not be stored.
            kept.retry_ms = now_ms.saturating_add(ROLLBACK_RETRY_MS);
        } else if !is_wanted {
            kept.closed.get_or_insert(sequence);
        }
    }

    /// Everything up to `sequence` is stored: what was closed by then stays so.
    pub fn stored(&mut self, sequence: u64) {
        self.kept
            .retain(|_, kept| kept.closed.is_none_or(|closed| closed > sequence));
    }

    /// Takes in what became of a row.
    pub fn reported(&mut self, report: &Report, rows: &Database) {
        if !matches!(report.state, State::Failed | State::Conflict) {
            return;
        }
        let begin = self.begin;
        for kept in self.kept.values_mut() {
            let is_listening = kept.closed.is_none() && kept.is_all_or_nothing && kept.reason.is_none();
            if is_listening && kept.has_changed(&report.owner, report.cfg, begin, rows) {
                let error = report.error.as_deref().unwrap_or("no reason is known");
                let row = row_words(&report.owner, rows);
                kept.reason = Some(eco_format!("{row}: {}: {error}", report.state.as_str()));
            }
        }
    }

    /// Takes in how far the kernel has followed.
    pub fn progress(&mut self, cur_cfg: u64) {
        for kept in self.kept.values_mut() {
            kept.is_settled |= cur_cfg > kept.base;
        }
    }

    /// When something is due by itself, on the monotonic clock.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.kept.values().filter_map(Kept::due_ms).min()
    }

    /// What is to be done now; asked again after it was done.
    pub fn next(&self, now: Time) -> Option<Step> {
        let is_due = |kept: &Kept| kept.due_ms().is_some_and(|due| due <= now.monotonic_ms);
        if self.kept.values().any(|kept| !kept.is_told) {
            return Some(Step::Tell);
        }
        // With the oldest the others are gone.
        let mut due: Vec<(&Uuid, &Kept)> = self.kept.iter().filter(|(_, kept)| is_due(kept)).collect();
        due.sort_unstable_by_key(|(_, kept)| kept.base);
        for (checkpoint, kept) in due {
            let (checkpoint, base) = (*checkpoint, kept.base);
            match &kept.before {
                Before::Known(_) => {
                    return Some(Step::RollBack {
                        checkpoint,
                        name: kept.name.clone(),
                        base,
                        reason: kept.why(),
                    });
                }
                Before::Unknown => return Some(Step::Read { checkpoint, base }),
                Before::Awaited | Before::Lost(_) => {}
            }
        }
        let settled = self.kept.iter().find(|(_, kept)| {
            let is_asked = kept.reason.is_some() || kept.closed.is_some();
            !is_asked && kept.timeout_s.is_none() && kept.is_all_or_nothing && kept.is_settled
        });
        settled.map(|(checkpoint, _)| Step::Confirm(*checkpoint))
    }

    /// Notes that the log is being read for a checkpoint.
    pub fn reading(&mut self, checkpoint: Uuid) {
        if let Some(kept) = self.kept.get_mut(&checkpoint) {
            kept.before = Before::Awaited;
        }
    }

    /// Takes in what the log told of the rows before a checkpoint.
    pub fn learn(&mut self, checkpoint: Uuid, before: Before) {
        if let Some(kept) = self.kept.get_mut(&checkpoint) {
            kept.is_told &= !matches!(before, Before::Lost(_));
            kept.before = before;
        }
    }

    /// Notes that a checkpoint could not be closed: a rollback is tried again after a while, a confirmation when the kernel has followed again.
    pub fn failed(&mut self, checkpoint: Uuid, now_ms: u64) {
        if let Some(kept) = self.kept.get_mut(&checkpoint) {
            kept.retry_ms = now_ms.saturating_add(ROLLBACK_RETRY_MS);
            kept.is_settled = false;
        }
    }

    /// Writes the rows as they were before a checkpoint, and that it was rolled back; with it all younger ones that are open.
    pub fn roll_back(&self, checkpoint: Uuid, transaction: &mut Transaction<'_>) {
        let Some((kept, Before::Known(before))) = self.kept.get(&checkpoint).map(|kept| (kept, &kept.before)) else {
            return;
        };
        restore(before, transaction, &self.except);
        let columns = &self.columns;
        self.close(checkpoint, CheckpointState::RolledBack, Some(kept.why()), transaction);
        let is_younger = |row: &&Arc<Row>| {
            CheckpointState::of(columns, row) == Some(CheckpointState::Open)
                && row.uuid() != checkpoint
                && base(columns, row).is_some_and(|base| base >= kept.base)
        };
        let younger: Vec<Uuid> = transaction
            .rows(columns.this)
            .filter(is_younger)
            .map(|row| row.uuid())
            .collect();
        for other in younger {
            let reason = eco_format!("with checkpoint {}, which is older", kept.name);
            self.close(other, CheckpointState::RolledBack, Some(reason), transaction);
        }
    }

    /// Writes that a checkpoint is confirmed.
    pub fn confirm(&self, checkpoint: Uuid, transaction: &mut Transaction<'_>) {
        self.close(checkpoint, CheckpointState::Confirmed, None, transaction);
    }

    fn close(
        &self,
        checkpoint: Uuid,
        state: CheckpointState,
        error: Option<EcoString>,
        transaction: &mut Transaction<'_>,
    ) {
        let columns = &self.columns;
        let confirmed = state == CheckpointState::Confirmed;
        for (column, datum) in [
            (columns.state, state.to_datum()),
            (columns.confirmed, Datum::scalar(confirmed)),
            (columns.error, Datum::optional(error)),
            (columns.deadline, Datum::empty_set()),
        ] {
            transaction.set(columns.this, checkpoint, column, datum);
        }
    }

    /// Writes until when checkpoints are open, and what cannot be rolled back.
    pub fn tell(&mut self, transaction: &mut Transaction<'_>, now: Time) {
        let columns = self.columns;
        for (checkpoint, kept) in self.kept.iter_mut().filter(|(_, kept)| !kept.is_told) {
            kept.is_told = true;
            let left = kept
                .deadline_ms()
                .map(|at| at.saturating_sub(to_signed(now.monotonic_ms)));
            let deadline = left.map(|left| to_signed(now.time_ms).saturating_add(left));
            if kept.closed.is_none() {
                transaction.set(columns.this, *checkpoint, columns.deadline, Datum::optional(deadline));
            }
            if let Before::Lost(reason) = &kept.before {
                let text = eco_format!("cannot be rolled back: {reason}");
                transaction.set(
                    columns.this,
                    *checkpoint,
                    columns.error,
                    Datum::scalar(Atom::String(text)),
                );
            }
        }
    }
}

impl Kept {
    fn new(columns: &Columns, row: &Row, before: Before, opened_ms: i64) -> Self {
        Self {
            name: text(row, columns.name).into(),
            base: base(columns, row).unwrap_or(0),
            before,
            opened_ms,
            timeout_s: timeout_s(columns, row),
            is_all_or_nothing: is_all_or_nothing(columns, row),
            reason: is_set(row, columns.rollback).then(|| "as asked".into()),
            is_settled: false,
            is_told: false,
            retry_ms: 0,
            closed: None,
        }
    }

    fn deadline_ms(&self) -> Option<i64> {
        let timeout_s = self.timeout_s?;
        Some(
            self.opened_ms
                .saturating_add(to_signed(timeout_s.saturating_mul(1_000))),
        )
    }

    /// When it is to be rolled back.
    fn due_ms(&self) -> Option<u64> {
        if self.closed.is_some() || matches!(self.before, Before::Awaited | Before::Lost(_)) {
            return None;
        }
        let due = match (&self.reason, self.deadline_ms()) {
            (Some(_), _) => 0,
            (None, Some(deadline)) => u64::try_from(deadline).unwrap_or(0),
            (None, None) => return None,
        };
        Some(due.max(self.retry_ms))
    }

    fn why(&self) -> EcoString {
        match (&self.reason, self.timeout_s) {
            (Some(reason), _) => reason.clone(),
            (None, timeout) => eco_format!("not confirmed within {} s", timeout.unwrap_or(0)),
        }
    }

    /// Whether a row is another than before the checkpoint, or one that a change since has concerned.
    fn has_changed(&self, owner: &Owner, cfg: u64, begin: u64, rows: &Database) -> bool {
        if cfg > self.base.max(begin) {
            return true;
        }
        let (Before::Known(before), Some((table, now))) = (&self.before, rows.table_named(&owner.table)) else {
            return false;
        };
        let schema = rows.schema().table(table);
        let uuid = Uuid::from_u128(owner.uuid);
        match (before.table(table).row(uuid), now.row(uuid)) {
            (Some(before), Some(now)) => differs(schema, before, now),
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }
}

/// Brings the persistent columns of all rows to what `before` holds; rows that came since go, rows that went come back under their UUIDs.
fn restore(before: &Database, transaction: &mut Transaction<'_>, except: &[TableIndex]) {
    let schema = transaction.schema();
    for (at, table_schema) in schema.tables().iter().enumerate() {
        let table = TableIndex(at);
        let (was, is) = (before.table(table), transaction.database().table(table));
        if except.contains(&table) || was.is_same(is) {
            continue;
        }
        let come: Vec<Uuid> = is
            .rows()
            .map(|row| row.uuid())
            .filter(|uuid| was.row(*uuid).is_none())
            .collect();
        for uuid in come {
            transaction.delete(table, uuid);
        }
        for row in was.rows() {
            match is.row(row.uuid()) {
                Some(now) if Arc::ptr_eq(now, row) => {}
                Some(now) if differs(table_schema, row, now) => {
                    let mut restored = Row::clone(now);
                    for (column, _) in persistent_columns(table_schema) {
                        restored = restored.with(column, row.get(column).clone());
                    }
                    transaction.replace(table, restored);
                }
                Some(_) => {}
                None => {
                    let mut fields = table_schema.default_fields();
                    for (column, _) in persistent_columns(table_schema) {
                        if let Some(field) = fields.get_mut(column.0) {
                            *field = row.get(column).clone();
                        }
                    }
                    transaction.insert(table, row.uuid(), fields);
                }
            }
        }
    }
}

fn persistent_columns(
    table: &TableSchema,
) -> impl Iterator<Item = (nonnet_schema::ColumnIndex, &nonnet_schema::ColumnSchema)> {
    table.declared_columns().filter(|(_, column)| column.persistent)
}

fn differs(table: &TableSchema, before: &Row, now: &Row) -> bool {
    persistent_columns(table).any(|(column, _)| before.get(column) != now.get(column))
}

fn to_signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
