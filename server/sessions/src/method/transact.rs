//! `transact` and `cancel`: transactions that commit, fail, or wait and are tried again.
//!
//! A transaction whose `wait` does not hold is parked: it runs again, from its first operation, after every change of its database, and
//! when its time is up. Parked transactions are tried in the order they came.

use bytes::Bytes;
use ecow::{EcoString, EcoVec};
use nonnet_chain::{Author, Request};
use nonnet_engine::{Commit, Context, OperationResult, Outcome, execute, write_results};
use nonnet_schema::{ErrorKind, OvsdbError, REPLY_TAIL, ReplyError, error_reply_text, json, reply_head};
use serde_json::Value;

use super::{access_of, params_json};
use crate::command::Outgoing;
use crate::limits::{OPERATIONS_MAX, PARKED_PER_SESSION_MAX, RETRY_ROUNDS_MAX, ROWS_ENCODED_INLINE_MAX};
use crate::now::Now;
use crate::peer::{Peer, SessionId};
use crate::served::{Parked, Served};
use crate::server::Server;
use crate::session::Matter;

/// Whether a try changed the database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    Changed,
    Unchanged,
}

impl Server {
    pub(super) fn transact_request(&mut self, session: SessionId, params: Vec<Value>, id: Value, now: Now) {
        let (database, operations) = match self.transact_params(session, params, &id) {
            Ok(parsed) => parsed,
            Err(error) => return self.reply(session, &id, Err(error.into())),
        };
        let parked = Parked {
            session,
            id,
            operations,
            since_ms: now.monotonic_ms,
            deadline_ms: None,
            weight_bytes: 0,
        };
        if self.attempt(&database, parked, now, Place::New) == Tried::Changed {
            self.retry_parked(&database, now);
        }
    }

    pub(super) fn transact_params(
        &self,
        session: SessionId,
        mut params: Vec<Value>,
        id: &Value,
    ) -> Result<(EcoString, EcoVec<Value>), OvsdbError> {
        let database = EcoString::from(self.database_param("transact", &params)?);
        let is_parked = |parked: &Parked| parked.session == session && parked.id == *id;
        let waits = self.sessions.get(&session).is_some_and(|session| session.parked > 0);
        let is_forwarded = || self.relays.values().any(|relay| relay.waits(session, id));
        if waits && (self.databases.values().flat_map(|served| &served.parked).any(is_parked) || is_forwarded()) {
            return Err(OvsdbError::in_json(
                ErrorKind::DuplicateRequestId,
                &params_json(&params),
            ));
        }
        // An operation is an object, so one array after the name can only hold the operations.
        let operations: EcoVec<Value> = match params.as_mut_slice() {
            [_, Value::Array(nested)] => std::mem::take(nested).into_iter().collect(),
            _ => params.into_iter().skip(1).collect(),
        };
        if operations.len() > OPERATIONS_MAX {
            let text = format!(
                "a transaction may have {OPERATIONS_MAX} operations, not {}",
                operations.len()
            );
            return Err(ErrorKind::ResourcesExhausted(text).into());
        }
        Ok((database, operations))
    }

    /// Runs a transaction once, and answers it unless it waits.
    fn attempt(&mut self, database: &str, parked: Parked, now: Now, place: Place) -> Tried {
        let Some(served) = self.databases.get(database) else {
            return Tried::Unchanged;
        };
        let locks = &self.locks;
        let access = access_of(self.sessions.get(&parked.session));
        let read_only = self.is_read_only(parked.session) || served.is_backup;
        let context = Context {
            elapsed_ms: now.monotonic_ms.saturating_sub(parked.since_ms),
            read_only,
            access,
            owns_lock: &|name| locks.is_owner(parked.session, name),
            sequence: served.sequence() + 1,
            hook: served.hook.as_deref(),
        };
        let outcome = execute(&served.database, &parked.operations, &context, &mut self.entropy);
        if served.is_relayed() && super::forward::is_for_source(&parked.operations, &outcome) {
            self.forward(database, parked, place);
            return Tried::Unchanged;
        }
        if !matches!(outcome, Outcome::Blocked { .. }) && place != Place::New {
            self.count_parked(parked.session, -1);
        }
        match outcome {
            Outcome::Committed(commit) => self.finish_commit(database, &parked, commit, now),
            Outcome::Failed(results) => {
                self.answer(database, &parked, results);
                Tried::Unchanged
            }
            Outcome::Blocked { timeout_ms } => {
                let deadline_ms = timeout_ms.map(|timeout| parked.since_ms.saturating_add(timeout));
                self.park(database, Parked { deadline_ms, ..parked }, place);
                Tried::Unchanged
            }
        }
    }

    fn finish_commit(&mut self, database: &str, parked: &Parked, commit: Commit, now: Now) -> Tried {
        let Commit {
            mut results,
            changes,
            comments,
            durable,
        } = commit;
        let tried = if changes.is_empty() {
            Tried::Unchanged
        } else {
            Tried::Changed
        };
        let author = self
            .sessions
            .get(&parked.session)
            .map(|session| author_of(&session.peer))
            .unwrap_or_default();
        let request = Request {
            id: json::to_text(&parked.id).into(),
            comments: comments.into_iter().map(EcoString::from).collect(),
            operations: parked.operations.len() as u32,
            txn_uid: self.entropy.uuid(),
            durable,
        };
        if let Err(error) = self.commit_changes(database, &author, &request, now, changes) {
            results.push(OperationResult::Error(error));
            self.answer(database, parked, results);
            return Tried::Unchanged;
        }
        self.answer(database, parked, results);
        tried
    }

    /// Replies with the results, once the state that they show is stored.
    fn answer(&mut self, database: &str, parked: &Parked, results: Vec<OperationResult>) {
        let gate = self.databases.get(database).and_then(Served::gate);
        let rows: usize = results
            .iter()
            .map(|result| {
                if let OperationResult::Rows(rows) = result {
                    rows.len()
                } else {
                    0
                }
            })
            .sum();
        let id = parked.id.clone();
        let encode = move || {
            let mut text = reply_head(&id);
            write_results(&results, &mut text);
            text.push_str(REPLY_TAIL);
            text
        };
        let payload = if rows > ROWS_ENCODED_INLINE_MAX {
            Outgoing::Job(Box::new(move || vec![Bytes::from(encode())]))
        } else {
            Outgoing::Text(encode())
        };
        self.send_unsent(parked.session);
        self.push(parked.session, gate, Matter::Reply(parked.id.clone()), payload);
    }

    fn park(&mut self, database: &str, mut parked: Parked, place: Place) {
        if place == Place::New {
            let operations = parked.operations.iter().map(json::weight_bytes);
            parked.weight_bytes = operations.sum::<usize>() + json::weight_bytes(&parked.id);
            if let Err(error) = self.check_parked_kept(&parked) {
                return self.reply(parked.session, &parked.id, Err(error.into()));
            }
            if !self.may_wait(&parked) {
                return;
            }
        }
        if let Some(served) = self.databases.get_mut(database) {
            served.parked.push_back(parked);
        }
    }

    /// Counts a new transaction among those of its session that wait; answers it with an error and gives false where those are too many.
    pub(super) fn may_wait(&mut self, parked: &Parked) -> bool {
        let session = parked.session;
        let waiting = self.sessions.get(&session).map_or(0, |session| session.parked);
        if waiting >= PARKED_PER_SESSION_MAX {
            let text = format!("a session may have {PARKED_PER_SESSION_MAX} transactions waiting");
            let error = OvsdbError::new(ErrorKind::ResourcesExhausted(text));
            self.reply(session, &parked.id, Err(error.into()));
            return false;
        }
        self.count_parked(session, 1);
        true
    }

    pub(super) fn count_parked(&mut self, session: SessionId, by: isize) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.parked = session.parked.saturating_add_signed(by);
        }
    }

    /// Tries the parked transactions of a database again, until a whole round changes nothing.
    pub(crate) fn retry_parked(&mut self, database: &str, now: Now) {
        for _ in 0..RETRY_ROUNDS_MAX {
            if self.retry_round(database, now, |_| true) == Tried::Unchanged {
                return;
            }
        }
        if let Some(served) = self.databases.get_mut(database) {
            served.is_retry_due = true;
        }
    }

    /// Tries those whose time is up.
    pub(crate) fn retry_expired(&mut self, now: Now) {
        let names: Vec<EcoString> = self.databases.keys().cloned().collect();
        for database in names {
            let served = self.databases.get_mut(&database);
            if served.is_some_and(|served| std::mem::take(&mut served.is_retry_due)) {
                self.retry_parked(&database, now);
            }
            let expired = |parked: &Parked| parked.deadline_ms.is_some_and(|deadline| deadline <= now.monotonic_ms);
            if self.retry_round(&database, now, expired) == Tried::Changed {
                self.retry_parked(&database, now);
            }
        }
    }

    fn retry_round(&mut self, database: &str, now: Now, is_due: impl Fn(&Parked) -> bool) -> Tried {
        let Some(served) = self
            .databases
            .get_mut(database)
            .filter(|served| served.parked.iter().any(&is_due))
        else {
            return Tried::Unchanged;
        };
        let mut tried = Tried::Unchanged;
        for parked in std::mem::take(&mut served.parked) {
            if !is_due(&parked) {
                self.park(database, parked, Place::Again);
            } else if self.attempt(database, parked, now, Place::Again) == Tried::Changed {
                tried = Tried::Changed;
            }
        }
        tried
    }

    /// `cancel`: the waiting transaction of that id is answered with an error.
    pub(crate) fn cancel(&mut self, session: SessionId, id: Option<&Value>) {
        let Some(id) = id else {
            return;
        };
        for served in self.databases.values_mut() {
            let found = served
                .parked
                .iter()
                .position(|parked| parked.session == session && parked.id == *id);
            if let Some(parked) = found.and_then(|at| served.parked.remove(at)) {
                self.count_parked(session, -1);
                let text = error_reply_text(&parked.id, &ReplyError::Text("canceled"));
                self.push(session, None, Matter::Reply(parked.id), Outgoing::Text(text));
                return;
            }
        }
        self.cancel_forwarded(session, id);
    }

    /// Forgets the waiting transactions of a session that is gone.
    pub(crate) fn drop_parked(&mut self, session: SessionId) {
        if self.sessions.get(&session).is_some_and(|session| session.parked > 0) {
            for served in self.databases.values_mut() {
                served.parked.retain(|parked| parked.session != session);
            }
        }
        self.withdraw_all(session);
        if let Some(audit) = &mut self.audit {
            audit.drop_session(session);
        }
        if let Some(session) = self.sessions.get_mut(&session) {
            session.parked = 0;
        }
    }
}

/// Where a transaction that is run comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A request.
    New,
    /// Those that wait.
    Again,
}

pub(super) fn author_of(peer: &Peer) -> Author {
    let named = [("certificate", &peer.certificate_name), ("role", &peer.role)];
    let known = named.into_iter().filter(|(_, detail)| !detail.is_empty());
    let details = known.map(|(name, detail)| (name.into(), detail.clone())).collect();
    Author {
        credentials: peer.credentials,
        comm: peer.comm.clone(),
        remote: peer.remote.clone(),
        address: peer.address.clone(),
        unit: peer.unit.clone(),
        start_ticks: peer.start_ticks,
        details,
    }
}
