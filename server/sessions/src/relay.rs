//! Databases whose rows are another server's, the source (ovsdb-server(7), "Relay Service Model").
//!
//! The rows are kept in memory only. Reads and monitors are served here, with the transaction ids of the source; what writes is forwarded
//! to it. Until the source has told its rows the database is listed, but not available. Its state, and the events that change it:
//!
//! ```text
//! waiting  --Content-->  connected  --Lost-->  lost, for 30 s still connected by its row  --Tick-->  disconnected
//!                        connected  <--Content, Resumed--  lost, disconnected
//! ```

mod listing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ecow::EcoString;
use nonnet_chain::{Author, Request};
use nonnet_engine::{ChangeSet, Database, Transaction, commit};
use nonnet_schema::{DatabaseSchema, ErrorKind, OvsdbError, RowUpdate, TableIndex, Uuid};
use serde_json::Value;

use crate::audit::AUDIT;
use crate::catalog::{CATALOG, StartError};
use crate::command::{Command, SourceNews};
use crate::limits::RELAY_GRACE_MS;
use crate::method::params_json;
use crate::now::Now;
use crate::peer::SessionId;
use crate::relay::listing::State;
use crate::served::Served;
use crate::server::Server;
use crate::source::{self, SourceError};

/// A relayed database, whether it is available or not.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    /// Whether its row says that it is connected.
    is_connected: bool,
    /// When the source went, until the grace is over.
    lost_ms: Option<u64>,
    /// What the source has not answered, by number.
    pub(crate) forwarded: BTreeMap<u64, Forwarded>,
    /// Bytes of it.
    pub(crate) forwarded_bytes: usize,
    next_number: u64,
}

/// A transaction that the source has not answered.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) session: SessionId,
    pub(crate) id: Value,
    /// Of its text.
    pub(crate) bytes: usize,
}

impl Relay {
    /// When the grace is over.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.lost_ms.map(|lost| lost.saturating_add(RELAY_GRACE_MS))
    }

    pub(crate) fn add(&mut self, forwarded: Forwarded) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.forwarded_bytes += forwarded.bytes;
        self.forwarded.insert(number, forwarded);
        number
    }

    pub(crate) fn take(&mut self, number: u64) -> Option<Forwarded> {
        let taken = self.forwarded.remove(&number)?;
        self.forwarded_bytes = self.forwarded_bytes.saturating_sub(taken.bytes);
        Some(taken)
    }

    pub(crate) fn take_all(&mut self) -> BTreeMap<u64, Forwarded> {
        self.forwarded_bytes = 0;
        std::mem::take(&mut self.forwarded)
    }

    /// The number of a session's transaction.
    pub(crate) fn number_of(&self, session: SessionId, id: &Value) -> Option<u64> {
        let is_it = |forwarded: &Forwarded| forwarded.session == session && forwarded.id == *id;
        let mut all = self.forwarded.iter();
        all.find_map(|(number, forwarded)| is_it(forwarded).then_some(*number))
    }

    pub(crate) fn numbers_of(&self, session: SessionId) -> Vec<u64> {
        let of_session = self.forwarded.iter().filter(|(_, it)| it.session == session);
        of_session.map(|(number, _)| *number).collect()
    }

    pub(crate) fn waits(&self, session: SessionId, id: &Value) -> bool {
        self.number_of(session, id).is_some()
    }
}

impl Server {
    /// Lists a database whose rows come from another server, as [`Event::Source`](crate::Event::Source) tells.
    ///
    /// # Errors
    /// [`StartError`]; nothing has changed then.
    pub fn add_relay(&mut self, name: &EcoString, now: Now) -> Result<(), StartError> {
        if self.databases.contains_key(name) || self.relays.contains_key(name) {
            return Err(StartError::DuplicateName(name.clone()));
        }
        if let Some(catalog) = self.databases.get(CATALOG) {
            let changes = listing::add(&catalog.database, name, &mut self.entropy)?;
            self.commit_changes(CATALOG, &Author::default(), &Request::default(), now, changes)?;
        }
        self.relays.insert(name.clone(), Relay::default());
        Ok(())
    }

    /// As [`add_relay`](Self::add_relay), while sessions are open: those that are not aware of such changes are closed.
    ///
    /// # Errors
    /// [`StartError`]; nothing has changed then.
    pub fn serve_relay(&mut self, name: &EcoString, now: Now) -> Result<Vec<Command>, StartError> {
        self.add_relay(name, now)?;
        self.retry_parked(CATALOG, now);
        self.close_unaware();
        Ok(std::mem::take(&mut self.commands))
    }

    /// The names of all databases, available or not, in order.
    pub(crate) fn names(&self) -> BTreeSet<&EcoString> {
        let hidden = self.audit.as_ref().is_some_and(|audit| !audit.is_listed);
        let all = self.databases.keys().chain(self.relays.keys());
        all.filter(|name| !(hidden && *name == AUDIT)).collect()
    }

    /// Why there is no database of that name to serve a method.
    pub(crate) fn no_database(&self, method: &str, name: &str, params: &[Value]) -> OvsdbError {
        let (method, database) = (method.into(), name.into());
        if self.relays.contains_key(name) {
            ErrorKind::DatabaseNotAvailable { method, database }.into()
        } else {
            OvsdbError::in_json(ErrorKind::UnknownDatabase { method, database }, &params_json(params))
        }
    }

    /// Forgets a relay; its rows are gone already.
    pub(crate) fn remove_relay(&mut self, name: &str) {
        self.cancel_all_forwarded(&name.into());
        self.relays.remove(name);
    }

    /// Takes what a source tells.
    pub(crate) fn source(&mut self, database: &EcoString, news: SourceNews, now: Now) {
        if !self.relays.contains_key(database) {
            return;
        }
        let taken = match news {
            SourceNews::Content { schema, rows, id } => self.source_content(database, &schema, &rows, id, now),
            SourceNews::Resumed { rows, id } => self.source_update(database, &rows, id, now).map(|()| {
                self.set_connected(database, true, now);
            }),
            SourceNews::Update { rows, id } => self.source_update(database, &rows, id, now),
            SourceNews::Answered { number, answer } => {
                self.forward_answered(database, number, answer);
                Ok(())
            }
            SourceNews::Lost => {
                if let Some(relay) = self.relays.get_mut(database).filter(|relay| relay.is_connected) {
                    relay.lost_ms.get_or_insert(now.monotonic_ms);
                }
                Ok(())
            }
        };
        if let Err(error) = taken {
            self.commands.push(Command::Resync {
                database: database.clone(),
                reason: error.to_string(),
            });
        }
    }

    /// Says of relays whose source has been gone for too long that they are not connected.
    pub(crate) fn end_grace(&mut self, now: Now) {
        let is_over = |relay: &Relay| relay.deadline_ms().is_some_and(|deadline| deadline <= now.monotonic_ms);
        let over: Vec<EcoString> = self
            .relays
            .iter()
            .filter(|(_, relay)| is_over(relay))
            .map(|(name, _)| name.clone())
            .collect();
        for database in over {
            self.set_connected(&database, false, now);
        }
    }

    /// The rows of the source become those of the database: as changes where the schema is the same, else as another database.
    fn source_content(
        &mut self,
        name: &EcoString,
        schema: &Arc<DatabaseSchema>,
        rows: &[RowUpdate],
        id: Uuid,
        now: Now,
    ) -> Result<(), SourceError> {
        let earlier = self.databases.get(name);
        if let Some(served) = earlier.filter(|served| **served.database.schema() == **schema) {
            let mut transaction = Transaction::new(&served.database, &mut self.entropy);
            source::write(&mut transaction, rows)?;
            source::delete_others(&mut transaction, rows, all_tables(schema));
            let changes = commit(transaction)?;
            self.follow(name, id, changes, now);
            self.set_connected(name, true, now);
            return Ok(());
        }
        let mut database = Database::new(Arc::clone(schema), self.entropy.uuid().as_u64_pair().0);
        let mut transaction = Transaction::new(&database, &mut self.entropy);
        source::write(&mut transaction, rows)?;
        let changes = commit(transaction)?;
        database.apply(&changes);
        let replaced = self.databases.insert(name.clone(), Served::relayed(database, id));
        let is_replacement = replaced.is_some();
        if let Some(replaced) = replaced {
            self.cancel_monitors(name);
            self.cancel_parked(replaced);
            self.cancel_all_forwarded(name);
        }
        self.list(name, true, is_replacement, now);
        self.close_unaware();
        Ok(())
    }

    fn source_update(&mut self, name: &EcoString, rows: &[RowUpdate], id: Uuid, now: Now) -> Result<(), SourceError> {
        let Some(served) = self.databases.get(name) else {
            return Ok(());
        };
        let mut transaction = Transaction::new(&served.database, &mut self.entropy);
        source::write(&mut transaction, rows)?;
        let changes = commit(transaction)?;
        self.follow(name, id, changes, now);
        Ok(())
    }

    /// Does what a transaction of the source did.
    fn follow(&mut self, name: &EcoString, id: Uuid, changes: ChangeSet, now: Now) {
        let Some(served) = self.databases.get_mut(name) else {
            return;
        };
        let changes = Arc::new(changes);
        served.follow(id, &changes);
        let sequence = served.sequence();
        if changes.is_empty() {
            return;
        }
        self.update_monitors(name, &changes);
        self.commands.push(Command::Changed {
            database: name.clone(),
            changes,
            sequence,
        });
        self.retry_parked(name, now);
    }

    fn set_connected(&mut self, name: &EcoString, is_connected: bool, now: Now) {
        let Some(relay) = self.relays.get_mut(name) else {
            return;
        };
        relay.lost_ms = None;
        if relay.is_connected != is_connected {
            self.list(name, is_connected, false, now);
        }
    }

    /// Brings the row of a relayed database up to date; `anew` gives it another UUID, which says that it is another database now.
    fn list(&mut self, name: &EcoString, is_connected: bool, anew: bool, now: Now) {
        if let Some(relay) = self.relays.get_mut(name) {
            (relay.is_connected, relay.lost_ms) = (is_connected, None);
        }
        let schema = self
            .databases
            .get(name)
            .map(|served| served.database.schema().to_text());
        let state = State {
            name,
            is_connected,
            schema: schema.as_deref(),
        };
        let Some(catalog) = self.databases.get(CATALOG) else {
            return;
        };
        let listed = listing::update(&catalog.database, &state, anew, &mut self.entropy);
        let committed = listed
            .and_then(|changes| self.commit_changes(CATALOG, &Author::default(), &Request::default(), now, changes));
        // The rows are the server's own, so that nothing can be wrong with them; the database is served all the same.
        if let Err(error) = committed {
            tracing::warn!("{name}: its row in {CATALOG} is out of date: {error}");
        }
        self.retry_parked(CATALOG, now);
    }
}

fn all_tables(schema: &DatabaseSchema) -> impl Iterator<Item = TableIndex> {
    (0..schema.tables().len()).map(TableIndex)
}
