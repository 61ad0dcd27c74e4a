//! Databases that come and go while sessions are open (ovsdb-server(7) 4.1.16 and 4.1.17).
//!
//! A session that called `set_db_change_aware` is told: its monitors and waiting transactions of a database that goes are canceled. Any
//! other is closed whenever a database comes or goes, since it could not know that the list has changed.

use std::sync::Arc;

use ecow::EcoString;
use nonnet_chain::{Author, Chain, Request};
use nonnet_engine::{CommitHook, Database, Snapshot};
use nonnet_schema::{OvsdbError, ReplyError, error_reply_text, notification_text};

use crate::catalog::{self, CATALOG, StartError};
use crate::command::{Command, Outgoing};
use crate::lock::LocksOf;
use crate::now::Now;
use crate::peer::SessionId;
use crate::served::Served;
use crate::server::Server;
use crate::session::{Matter, Session};
use crate::usage::Usage;

/// Why a database goes on being served.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// No database of that name is served.
    #[error("no database named {0} is served")]
    Unknown(EcoString),
    /// It is one of the server's own.
    #[error("{0} is the server's own")]
    Reserved(EcoString),
    /// The list of databases refuses it.
    #[error(transparent)]
    Catalog(#[from] OvsdbError),
}

impl Server {
    /// The names of all databases, `_Server` included, in order.
    pub fn database_names(&self) -> impl Iterator<Item = &EcoString> {
        self.names().into_iter()
    }

    /// As [`add_database`](Self::add_database), while sessions are open: those that are not aware of such changes are closed.
    ///
    /// # Errors
    /// [`StartError`]; nothing has changed then.
    pub fn serve_database(
        &mut self,
        database: Database,
        chain: Chain,
        hook: Option<Box<dyn CommitHook>>,
        now: Now,
    ) -> Result<Vec<Command>, StartError> {
        self.add_database(database, chain, hook, now)?;
        self.retry_parked(CATALOG, now);
        self.close_unaware();
        Ok(std::mem::take(&mut self.commands))
    }

    /// Serves a database no longer. All its commits must be stored: what waits for one that is not would be sent.
    ///
    /// # Errors
    /// [`RemoveError`]; nothing has changed then.
    pub fn remove_database(&mut self, name: &str, now: Now) -> Result<Vec<Command>, RemoveError> {
        if name.starts_with('_') && self.databases.contains_key(name) {
            return Err(RemoveError::Reserved(name.into()));
        }
        if !self.databases.contains_key(name) && !self.relays.contains_key(name) {
            return Err(RemoveError::Unknown(name.into()));
        }
        let unlisted = match self.databases.get(CATALOG) {
            Some(listed) => catalog::remove_database(&listed.database, name, &mut self.entropy)?,
            None => return Err(RemoveError::Unknown(CATALOG.into())),
        };
        if let Some(audit) = &mut self.audit {
            audit.forget(name);
        }
        if let Some(removed) = self.databases.remove(name) {
            self.cancel_monitors(name);
            self.cancel_parked(removed);
        }
        self.remove_relay(name);
        self.commit_changes(CATALOG, &Author::default(), &Request::default(), now, unlisted)?;
        self.retry_parked(CATALOG, now);
        self.show_to_watchers(now);
        self.close_unaware();
        Ok(std::mem::take(&mut self.commands))
    }

    /// The sessions that a remote has brought; all of them for None.
    pub fn sessions_at(&self, remote: Option<&str>) -> Vec<SessionId> {
        let of_remote = |session: &&Session| remote.is_none_or(|remote| session.peer.remote == remote);
        self.sessions
            .values()
            .filter(of_remote)
            .map(|session| session.id)
            .collect()
    }

    /// The locks that a session has to do with.
    pub fn locks_of(&self, session: SessionId) -> LocksOf {
        self.locks.of(session)
    }

    /// Answers `monitor_cond` and `monitor_cond_since` as unknown from now on; monitors that are there stay.
    pub fn disable_monitor_cond(&mut self) {
        self.has_monitor_cond = false;
    }

    /// What the server holds now.
    pub fn usage(&self) -> Usage {
        Usage {
            snapshots: self
                .databases
                .values()
                .map(|served| served.database.snapshot())
                .collect::<Vec<Snapshot>>(),
            monitors: self.sessions.values().map(|session| session.monitors.len()).sum(),
            sessions: self.sessions.len(),
            triggers: self.sessions.values().map(|session| session.parked).sum(),
        }
    }

    pub(crate) fn cancel_monitors(&mut self, removed: &str) {
        let mut canceled: Vec<(SessionId, Arc<str>)> = Vec::new();
        for session in self.sessions.values_mut() {
            let id = session.id;
            session.monitors.retain(|monitor| {
                let goes = monitor.database == removed;
                // The request of one that still waits for the log is answered as canceled, below.
                if goes && monitor.waits_as.is_none() {
                    canceled.push((id, Arc::clone(&monitor.id_text)));
                }
                !goes
            });
        }
        let reads: Vec<_> = self
            .log_reads
            .keys()
            .filter(|(database, _)| database == removed)
            .cloned()
            .collect();
        for (database, transaction) in reads {
            self.log_read(database, transaction, None);
        }
        for (session, id) in canceled {
            let text = notification_text("monitor_canceled", &format!("[{id}]"));
            self.push(session, None, Matter::Notice, Outgoing::Text(text));
        }
    }

    pub(crate) fn cancel_parked(&mut self, removed: Served) {
        for parked in removed.parked {
            if let Some(session) = self.sessions.get_mut(&parked.session) {
                session.parked = session.parked.saturating_sub(1);
            }
            let text = error_reply_text(&parked.id, &ReplyError::Text("canceled"));
            self.push(parked.session, None, Matter::Reply(parked.id), Outgoing::Text(text));
        }
    }

    pub(crate) fn close_unaware(&mut self) {
        let unaware = self.sessions.values().filter(|session| !session.aware);
        let mut closed: Vec<SessionId> = unaware.map(|session| session.id).collect();
        // The same events give the same commands, in the same order.
        closed.sort_unstable();
        let close = |session| Command::Close { session };
        self.commands.extend(closed.into_iter().map(close));
    }
}
