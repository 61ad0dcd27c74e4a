//! `transact` on `_Nonnet`, and what it shows to those who ask or watch.
//!
//! A transaction of nothing but `select`, `comment` and `abort` has the logs looked through for each `select` on `Commit` with a condition on a
//! column; see [`CommitLookup`]. Every other one reads the rows of the database, in which `Commit` has the newest commits only.

use bytes::Bytes;
use nonnet_chain::{Author, Request};
use nonnet_engine::{OperationResult, Outcome, execute, write_results};
use nonnet_schema::{Condition, ErrorKind, Operation, OvsdbError, REPLY_TAIL, reply_head};
use serde_json::Value;

use crate::audit::{AUDIT, About, Asked, Audit, Backlogs, CommitLookup, read_context};
use crate::catalog::{self, CATALOG, StartError};
use crate::command::{Command, Outgoing};
use crate::limits::{ASKED_MAX, LOOKUPS_PER_TRANSACTION_MAX, SESSIONS_INTERVAL_MS};
use crate::now::Now;
use crate::peer::SessionId;
use crate::served::Served;
use crate::server::Server;
use crate::session::Matter;

/// The operations of a transaction, as far as they are known: those that have the logs looked through, and the results of the others.
struct Parts {
    lookups: Vec<CommitLookup>,
    /// None where a lookup tells.
    results: Vec<Option<OperationResult>>,
}

impl Server {
    /// Serves `_Nonnet` from now on: before any other database is added, so that it knows all their commits. `is_listed` tells whether it is in
    /// the lists of databases, where ovsdb-server has no such.
    ///
    /// # Errors
    /// The built-in schema is none.
    pub fn serve_audit(&mut self, is_listed: bool, now: Now) -> Result<(), StartError> {
        let (audit, database) = Audit::new(is_listed, self.entropy.uuid().as_u64_pair().0)?;
        let schema = std::sync::Arc::clone(database.schema());
        self.databases.insert(AUDIT.into(), Served::new(database, None, None));
        self.audit = Some(audit);
        if let Some(listed) = self.databases.get(CATALOG).filter(|_| is_listed) {
            let changes = catalog::add_database(&listed.database, &schema, &mut self.entropy)?;
            self.commit_changes(CATALOG, &Author::default(), &Request::default(), now, changes)?;
        }
        Ok(())
    }

    /// Takes a record that the file of a database has, newer than those before it: `_Nonnet` shows the newest.
    pub fn load_commit(&mut self, database: &str, record: &nonnet_chain::StoredRecord) {
        if let Some(audit) = &mut self.audit {
            audit.load(database, record);
        }
    }

    /// Brings the rows up to date for who is about to read them.
    pub(super) fn show_audit(&mut self, params: &[Value], now: Now) {
        self.show_commits(now);
        let is_monitor_of_sessions = params.get(2).is_some_and(|requests| requests.get("Session").is_some());
        if !is_monitor_of_sessions {
            return;
        }
        self.show_sessions(now);
        if let Some(audit) = &mut self.audit {
            // Whoever begins to watch sessions is told their backlogs next; where nobody does, that is the end of it.
            audit.due_ms.get_or_insert(now.monotonic_ms);
        }
    }

    /// Brings the rows of commits up to date where somebody watches them.
    pub(crate) fn show_to_watchers(&mut self, now: Now) {
        let is_watched = |served: &Served| !served.groups.is_empty() || !served.parked.is_empty();
        if self.databases.get(AUDIT).is_some_and(is_watched) {
            self.show_commits(now);
        }
    }

    fn show_commits(&mut self, now: Now) {
        if let (Some(audit), Some(served)) = (&mut self.audit, self.databases.get(AUDIT)) {
            let changes = audit.commit_changes(&served.database, &mut self.entropy);
            self.show(changes, now);
        }
    }

    fn show_sessions(&mut self, now: Now) {
        if let (Some(audit), Some(served)) = (&mut self.audit, self.databases.get(AUDIT)) {
            let (rows, entropy) = (&mut audit.sessions, &mut self.entropy);
            let changes = rows.changes(&served.database, &self.sessions, &self.locks, entropy);
            self.show(changes, now);
        }
    }

    fn show(&mut self, changes: Result<nonnet_engine::ChangeSet, OvsdbError>, now: Now) {
        // The tables have no rule that a row could break, and the database no record that could be too large.
        let Ok(changes) = changes else { return };
        if changes.is_empty() {
            return;
        }
        let shown = self.commit_changes(AUDIT, &Author::default(), &Request::default(), now, changes);
        if shown.is_ok() {
            self.retry_parked(AUDIT, now);
        }
    }

    /// Asks for the backlogs where that is due and somebody watches sessions.
    pub(crate) fn ask_backlogs(&mut self, now: Now) {
        let Some(audit) = &mut self.audit else { return };
        if audit.due_ms.is_none_or(|due| due > now.monotonic_ms) {
            return;
        }
        audit.due_ms = None;
        let table = audit.sessions.table;
        if self
            .databases
            .get(AUDIT)
            .is_some_and(|served| served.groups.watch(table))
        {
            self.commands.push(Command::ReadBacklogs);
        }
    }

    /// Shows the sessions with their backlogs, and runs the transactions that waited for these.
    pub(crate) fn backlogs(&mut self, bytes: Backlogs, now: Now) {
        let Some(audit) = &mut self.audit else { return };
        audit.sessions.backlogs = bytes;
        audit.due_ms = Some(now.monotonic_ms.saturating_add(SESSIONS_INTERVAL_MS));
        let is_waiting = |_: &u64, asked: &mut Asked| matches!(asked.about, About::Backlogs(_));
        let waiting: Vec<Asked> = audit.asked.extract_if(.., is_waiting).map(|(_, asked)| asked).collect();
        for asked in &waiting {
            self.count_parked(asked.session, -1);
        }
        self.show_sessions(now);
        for Asked { session, id, about } in waiting {
            if let About::Backlogs(params) = about {
                self.transact_request(session, params, id, now);
            }
        }
    }

    pub(super) fn audit_request(&mut self, session: SessionId, params: Vec<Value>, id: Value, now: Now) {
        if names_sessions(&params) {
            self.show_sessions(now);
        }
        if let Some(parts) = self.parts(&params) {
            return self.look(session, id, parts);
        }
        if self.audit.is_none() || !names_sessions(&params) {
            return self.transact_request(session, params, id, now);
        }
        let about = About::Backlogs(params);
        if self.ask(Asked { session, id, about }).is_some() {
            self.commands.push(Command::ReadBacklogs);
        }
    }

    /// Takes a transaction apart that has nothing but `select`, `comment` and `abort`, no fault, and at least one lookup.
    fn parts(&mut self, params: &[Value]) -> Option<Parts> {
        let operations = operations_of(params);
        let mut parts = Parts {
            lookups: Vec::new(),
            results: Vec::new(),
        };
        for (at, json) in operations.iter().enumerate() {
            let (audit, served) = (self.audit.as_ref()?, self.databases.get(AUDIT)?);
            let schema = served.database.schema();
            let lookup = match Operation::parse(json, schema, at, operations.len()).ok()? {
                Operation::Select { table, condition, .. } => {
                    let condition = Condition::parse(condition, schema.table(table), None).ok()?;
                    let seed = seed(&mut self.entropy);
                    let lookup = || CommitLookup::new(schema, table, json, condition, audit.logs(), seed);
                    (table == audit.commits).then(lookup).flatten()
                }
                Operation::Comment { .. } | Operation::Abort => None,
                _ => return None,
            };
            let operation = std::slice::from_ref(json);
            let result = match lookup {
                Some(lookup) => {
                    parts.lookups.push(lookup);
                    None
                }
                None => match execute(&served.database, operation, &read_context(), &mut self.entropy) {
                    Outcome::Committed(commit) => Some(commit.results.into_iter().next()?),
                    Outcome::Failed(results) => Some(results.into_iter().next()?),
                    Outcome::Blocked { .. } => return None,
                },
            };
            parts.results.push(result);
        }
        Some(parts).filter(|parts| !parts.lookups.is_empty())
    }

    fn look(&mut self, session: SessionId, id: Value, parts: Parts) {
        let Parts { lookups, results } = parts;
        if lookups.len() > LOOKUPS_PER_TRANSACTION_MAX {
            let text = format!(
                "a transaction may have the logs looked through for {LOOKUPS_PER_TRANSACTION_MAX} operations, not {}",
                lookups.len()
            );
            return self.reply(
                session,
                &id,
                Err(OvsdbError::new(ErrorKind::ResourcesExhausted(text)).into()),
            );
        }
        let about = About::Logs(results);
        if let Some(number) = self.ask(Asked { session, id, about }) {
            self.commands.push(Command::Look { number, lookups });
        }
    }

    /// Has a transaction wait; it is refused where too many do.
    fn ask(&mut self, asked: Asked) -> Option<u64> {
        let audit = self.audit.as_mut()?;
        if audit.asked.len() >= ASKED_MAX {
            let text = format!("{ASKED_MAX} transactions on {AUDIT} are under way already");
            let error = OvsdbError::new(ErrorKind::ResourcesExhausted(text));
            self.reply(asked.session, &asked.id, Err(error.into()));
            return None;
        }
        let session = asked.session;
        let number = audit.ask(asked);
        // A session that closes its half of the stream is still answered.
        self.count_parked(session, 1);
        Some(number)
    }

    /// Replies with what the logs told.
    pub(crate) fn looked(&mut self, number: u64, found: Vec<OperationResult>) {
        let asked = self.audit.as_mut().and_then(|audit| audit.asked.remove(&number));
        let Some(Asked {
            session,
            id,
            about: About::Logs(results),
        }) = asked
        else {
            return;
        };
        self.count_parked(session, -1);
        let mut found = found.into_iter();
        let mut has_failed = false;
        let results = results.into_iter().map(|known| {
            if has_failed {
                return OperationResult::Null;
            }
            let result = known.or_else(|| found.next()).unwrap_or(OperationResult::Null);
            has_failed = matches!(result, OperationResult::Error(_));
            result
        });
        let (results, reply_id): (Vec<OperationResult>, Value) = (results.collect(), id.clone());
        let encode = move || {
            let mut text = reply_head(&reply_id);
            write_results(&results, &mut text);
            text.push_str(REPLY_TAIL);
            vec![Bytes::from(text)]
        };
        self.send_unsent(session);
        self.push(session, None, Matter::Reply(id), Outgoing::Job(Box::new(encode)));
    }
}

fn seed(entropy: &mut nonnet_engine::Entropy) -> [u8; 32] {
    let mut seed = [0; 32];
    for half in seed.chunks_exact_mut(16) {
        half.copy_from_slice(entropy.uuid().as_bytes());
    }
    seed
}

/// The operations, wherever they stand in the parameters.
fn operations_of(params: &[Value]) -> &[Value] {
    match params {
        [_, Value::Array(nested)] => nested,
        [_, operations @ ..] => operations,
        [] => &[],
    }
}

fn names_sessions(params: &[Value]) -> bool {
    let is_of_sessions = |operation: &Value| operation.get("table").and_then(Value::as_str) == Some("Session");
    operations_of(params).iter().any(is_of_sessions)
}
