//! The log of transactions: each row that a transaction inserts, updates or deletes in a chosen table, as a line of the log
//! (ovsdb-server(1), "ovsdb-server/tlog-set").

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ecow::EcoString;
use nonnet_engine::{ChangeSet, Database, Row, RowChange};
use nonnet_schema::TableSchema;
use tracing::info;

/// Lines a minute that may be logged for long.
const LINES_PER_MINUTE: u64 = 30;

/// Lines that may be logged at once after a time of silence.
const LINES_AT_ONCE_MAX: u64 = 60;

/// What a line costs: so many tokens come in each millisecond as lines may be logged in a minute.
const LINE_TOKENS: u64 = 60_000;

/// Which tables are logged, and how much.
#[derive(Debug)]
pub(crate) struct TransactionLog {
    tables: BTreeSet<(EcoString, EcoString)>,
    is_limited: bool,
    tokens: u64,
    filled_ms: u64,
    dropped: u64,
}

impl TransactionLog {
    /// Nothing is logged yet.
    pub(crate) fn new() -> Self {
        Self {
            tables: BTreeSet::new(),
            is_limited: true,
            tokens: LINES_AT_ONCE_MAX * LINE_TOKENS,
            filled_ms: 0,
            dropped: 0,
        }
    }

    /// Starts or ends the log of a table.
    pub(crate) fn set(&mut self, database: EcoString, table: EcoString, on: bool) {
        let name = (database, table);
        if on {
            self.tables.insert(name);
        } else {
            self.tables.remove(&name);
        }
    }

    /// Whether lines beyond the limit are dropped.
    pub(crate) fn set_limited(&mut self, is_limited: bool) {
        self.is_limited = is_limited;
    }

    /// Forgets the tables of a database that has gone.
    pub(crate) fn forget(&mut self, database: &str) {
        self.tables.retain(|(of, _)| of != database);
    }

    /// The table of `ovsdb-server/tlog-list`.
    pub(crate) fn list<'a>(&self, databases: impl Iterator<Item = &'a Database>) -> String {
        let mut text = String::from("database        table                       logging\n");
        text.push_str("--------        -----                       -------\n");
        for schema in databases.map(Database::schema) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:16} ", schema.name);
            for table in schema.tables() {
                let shown = if self.has(&schema.name, &table.name) {
                    "ON"
                } else {
                    "OFF"
                };
                let _ = writeln!(text, "                {:27} {shown}", table.name);
            }
        }
        text
    }

    /// Logs what changed; `now_ms` is monotonic.
    pub(crate) fn changed(&mut self, database: &Database, changes: &ChangeSet, now_ms: u64) {
        if self.tables.is_empty() {
            return;
        }
        let schema = database.schema();
        for change in changes.changes() {
            let table = schema.table(change.table);
            if self.has(&schema.name, &table.name) && self.may_log(now_ms) {
                info!(target: "transaction", "{}", line(table, change));
            }
        }
    }

    fn has(&self, database: &EcoString, table: &EcoString) -> bool {
        // A few tables at most are logged, and they are looked for once per changed row.
        self.tables.iter().any(|(of, name)| of == database && name == table)
    }

    /// Takes the tokens of a line, where there are enough.
    fn may_log(&mut self, now_ms: u64) -> bool {
        if !self.is_limited {
            return true;
        }
        let gained = now_ms.saturating_sub(self.filled_ms).saturating_mul(LINES_PER_MINUTE);
        self.filled_ms = now_ms;
        self.tokens = self.tokens.saturating_add(gained).min(LINES_AT_ONCE_MAX * LINE_TOKENS);
        let Some(left) = self.tokens.checked_sub(LINE_TOKENS) else {
            self.dropped += 1;
            return false;
        };
        self.tokens = left;
        if self.dropped > 0 {
            info!(target: "transaction", "Dropped {} log messages due to excessive rate", self.dropped);
            self.dropped = 0;
        }
        true
    }
}

/// `table:T,op:OPERATION,COLUMN:DATUM,...`: the row as it is now, or as it was where it is deleted.
fn line(table: &TableSchema, change: &RowChange) -> String {
    let (operation, row) = match (&change.old, &change.new) {
        (None, Some(new)) => ("inserted", Some(new)),
        (Some(_), Some(new)) => ("updated", Some(new)),
        (old, None) => ("deleted", old.as_ref()),
    };
    let mut text = format!("table:{},op:{operation}", table.name);
    let fields = row.map_or(&[][..], |row| Row::fields(row));
    for (column, datum) in table.columns().iter().zip(fields) {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            ",{}:{}",
            column.name,
            datum.to_message(column.type_.is_composite())
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_dropped_until_time_has_passed() {
        let mut log = TransactionLog::new();
        let logged = |log: &mut TransactionLog, now_ms| (0..100).filter(|_| log.may_log(now_ms)).count();
        assert_eq!(logged(&mut log, 1_000), 60);
        assert_eq!(logged(&mut log, 1_001), 0);
        assert_eq!(logged(&mut log, 61_001), 30);
        log.set_limited(false);
        assert_eq!(logged(&mut log, 61_002), 100);
    }
}
