//! The database `_Nonnet`: who committed what, and who is connected.
//!
//! Its rows are made when somebody asks for them, or watches: a commit that nobody watches costs a place in a [`Window`]. `Commit` shows
//! what is stored, never what may yet be undone. What is older than the windows is in the logs; see [`CommitLookup`].

mod changes;
mod commit;
mod lookup;
mod session;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ecow::EcoString;
use nonnet_chain::{Record, StoredRecord};
use nonnet_engine::{ChangeSet, Database, Entropy, Transaction, commit};
use nonnet_schema::{AUDIT_SCHEMA, DatabaseSchema, OvsdbError, TableIndex};
use serde_json::Value;

use crate::catalog::StartError;
use crate::peer::SessionId;

use commit::{Extent, body_fields, header_fields};
use window::Window;

pub use lookup::CommitLookup;
pub(crate) use lookup::read_context;
pub(crate) use session::SessionRows;

/// The name of the database.
pub(crate) const AUDIT: &str = "_Nonnet";

/// What `_Nonnet` is made of.
pub(crate) struct Audit {
    /// Whether it is in the lists of databases.
    pub(crate) is_listed: bool,
    pub(crate) commits: TableIndex,
    pub(crate) sessions: SessionRows,
    /// The newest commits, by database.
    windows: BTreeMap<EcoString, Window>,
    /// Transactions that wait for what the outside is asked, by number.
    pub(crate) asked: BTreeMap<u64, Asked>,
    /// The number of the next of these.
    pub(crate) next_asked: u64,
    /// When the outside is asked for the backlogs again, on the monotonic clock; None while nobody watches sessions.
    pub(crate) due_ms: Option<u64>,
}

/// A transaction that waits for what the outside is asked.
pub(crate) struct Asked {
    pub(crate) session: SessionId,
    pub(crate) id: Value,
    pub(crate) about: About,
}

/// What is asked.
pub(crate) enum About {
    /// The logs: the results that need none of them are there already.
    Logs(Vec<Option<nonnet_engine::OperationResult>>),
    /// The backlogs of the sessions, for a transaction with these parameters.
    Backlogs(Vec<Value>),
}

impl Audit {
    /// An empty `_Nonnet` with what it is made of.
    pub(crate) fn new(is_listed: bool, hash_seed: u64) -> Result<(Self, Database), StartError> {
        let schema = DatabaseSchema::from_text(AUDIT_SCHEMA)?;
        let missing = |table: &str| StartError::MissingTable(table.into());
        let audit = Self {
            is_listed,
            commits: schema.table_index("Commit").ok_or_else(|| missing("Commit"))?,
            sessions: SessionRows::new(schema.table_index("Session").ok_or_else(|| missing("Session"))?),
            windows: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_asked: 0,
            due_ms: None,
        };
        Ok((audit, Database::new(Arc::new(schema), hash_seed)))
    }

    /// Takes a record of a database as its file has it, newer than those before it.
    pub(crate) fn load(&mut self, database: &str, record: &StoredRecord) {
        self.windows.entry(database.into()).or_default().load(record);
    }

    /// Takes a record that is to be stored.
    pub(crate) fn committed(&mut self, database: &EcoString, record: &Record) {
        if let Some(window) = self.windows.get_mut(database) {
            window.committed(record);
        } else {
            self.windows.entry(database.clone()).or_default().committed(record);
        }
    }

    /// Notes that everything up to `sequence` is stored.
    pub(crate) fn stored(&mut self, database: &str, sequence: u64) {
        if let Some(window) = self.windows.get_mut(database) {
            window.stored(sequence);
        }
    }

    /// Forgets the records from `sequence` on, which could not be stored.
    pub(crate) fn undo_from(&mut self, database: &str, sequence: u64) {
        if let Some(window) = self.windows.get_mut(database) {
            window.undo_from(sequence);
        }
    }

    /// Forgets a database that is served no longer; its rows go with the next change.
    pub(crate) fn forget(&mut self, database: &str) {
        if let Some(window) = self.windows.get_mut(database) {
            window.clear();
        }
    }

    /// The databases that have logs, each with its newest stored record.
    pub(crate) fn logs(&self) -> Vec<(EcoString, u64)> {
        let newest = |(name, window): (&EcoString, &Window)| Some((name.clone(), window.newest()?));
        self.windows.iter().filter_map(newest).collect()
    }

    /// The change that makes the rows of `Commit` those of the windows.
    pub(crate) fn commit_changes(&mut self, shown: &Database, entropy: &mut Entropy) -> Result<ChangeSet, OvsdbError> {
        let mut transaction = Transaction::new(shown, entropy);
        let table = transaction.schema().table(self.commits);
        for (database, window) in &mut self.windows {
            let news = window.take_news();
            for uuid in news.gone {
                transaction.delete(self.commits, uuid);
            }
            for record in news.come {
                let mut fields = header_fields(table, database, &record.header, &record.hash);
                body_fields(&mut fields, table, record.body.as_deref(), Extent::Shown);
                transaction.insert(self.commits, record.hash.transaction_id(), fields);
            }
        }
        commit(transaction)
    }

    /// A number for a transaction that waits for what the outside is asked.
    pub(crate) fn ask(&mut self, asked: Asked) -> u64 {
        let number = self.next_asked;
        self.next_asked += 1;
        self.asked.insert(number, asked);
        number
    }

    /// Forgets what a session waits for that is gone.
    pub(crate) fn drop_session(&mut self, session: SessionId) {
        self.asked.retain(|_, asked| asked.session != session);
    }
}

/// The bytes that wait for each session to be read.
pub(crate) type Backlogs = HashMap<SessionId, usize>;
