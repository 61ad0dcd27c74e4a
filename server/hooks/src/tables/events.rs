//! What happened of late: rows that the server writes and nobody stores.

use std::collections::VecDeque;

use nonnet_engine::{Database, Row, Transaction};
use nonnet_schema::{Atom, Datum, Uuid};

use crate::limits::EVENTS_MAX;
use crate::report::{Event, EventKind};
use crate::tables::Tables;

super::columns!("events"; seq, time, object, kind, cfg, ms, detail);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// The rows of table `events`, oldest first.
#[derive(Clone, Debug)]
pub struct EventLog {
    rows: VecDeque<Uuid>,
    next: i64,
}

/// What is written of an event.
struct Line<'a> {
    object: &'a str,
    kind: EventKind,
    cfg: u64,
    ms: u64,
    detail: &'a str,
}

impl EventLog {
    /// The log as a database has it.
    pub fn new(tables: &Tables, database: &Database) -> Self {
        let columns = &tables.events;
        let seq = |row: &Row| row.get(columns.seq).as_integer().unwrap_or(0);
        let mut rows: Vec<(i64, Uuid)> = database
            .table(columns.this)
            .rows()
            .map(|row| (seq(row), row.uuid()))
            .collect();
        rows.sort_unstable();
        Self {
            next: rows.last().map_or(1, |(last, _)| last + 1),
            rows: rows.into_iter().map(|(_, uuid)| uuid).collect(),
        }
    }

    /// Writes an event at `time_ms` since 1970 about commit `cfg`; the oldest make room. When the transaction is not applied, make the log anew.
    pub fn record(
        &mut self,
        tables: &Tables,
        transaction: &mut Transaction<'_>,
        event: &Event,
        cfg: u64,
        time_ms: u64,
    ) {
        let object = event
            .owner
            .as_ref()
            .map_or_else(|| event.object.to_string(), ToString::to_string);
        let detail = match (&event.owner, event.text.as_str()) {
            (None, detail) => detail.to_owned(),
            (Some(_), "") => event.object.to_string(),
            (Some(_), detail) => format!("{}: {detail}", event.object),
        };
        let line = Line {
            object: &object,
            kind: event.kind,
            cfg,
            ms: event.ms,
            detail: &detail,
        };
        self.write(tables, transaction, &line, time_ms);
    }

    /// Writes that a checkpoint was rolled back by commit `cfg`, at `time_ms` since 1970.
    pub fn record_rollback(
        &mut self,
        tables: &Tables,
        transaction: &mut Transaction<'_>,
        (checkpoint, detail): (&str, &str),
        cfg: u64,
        time_ms: u64,
    ) {
        let line = Line {
            object: &format!("checkpoints {checkpoint}"),
            kind: EventKind::RolledBack,
            cfg,
            ms: 0,
            detail,
        };
        self.write(tables, transaction, &line, time_ms);
    }

    fn write(&mut self, tables: &Tables, transaction: &mut Transaction<'_>, line: &Line<'_>, time_ms: u64) {
        let columns = &tables.events;
        while self.rows.len() >= EVENTS_MAX {
            if let Some(oldest) = self.rows.pop_front() {
                transaction.delete(columns.this, oldest);
            }
        }
        let integer = |number: u64| Datum::scalar(i64::try_from(number).unwrap_or(i64::MAX));
        let text = |text: &str| Datum::scalar(Atom::from(text));
        let mut fields = transaction.schema().table(columns.this).default_fields();
        let values = [
            (columns.seq, Datum::scalar(self.next)),
            (columns.time, integer(time_ms)),
            (columns.object, text(line.object)),
            (columns.kind, text(line.kind.as_str())),
            (columns.cfg, integer(line.cfg)),
            (columns.ms, integer(line.ms)),
            (columns.detail, text(line.detail)),
        ];
        for (column, datum) in values {
            fields[column.0] = datum;
        }
        let uuid = transaction.new_uuid();
        transaction.insert(columns.this, uuid, fields);
        self.rows.push_back(uuid);
        self.next += 1;
    }
}
