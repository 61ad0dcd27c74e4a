//! `nonnet_plan`: what would be done outside of the database if a transaction were committed. It has the parameters of `transact`.
//!
//! The operations run as those of `transact` do, rules and checks included, and nothing is committed. The result has `results`, which is what
//! `transact` would reply, and where these have no error `plan`, which whoever follows the rows works out; null where nobody does.

use std::sync::Arc;

use nonnet_engine::{Context, Outcome, execute, write_results};
use nonnet_schema::{ErrorKind, OvsdbError, json, reply_text};
use serde_json::Value;

use super::access_of;
use crate::command::{Command, Outgoing};
use crate::limits::PLANS_MAX;
use crate::peer::SessionId;
use crate::server::Server;
use crate::session::Matter;

/// A plan that is being worked out.
pub(crate) struct Planned {
    session: SessionId,
    id: Value,
    /// The text of the results.
    results: String,
}

impl Server {
    pub(super) fn plan_request(&mut self, session: SessionId, params: Vec<Value>, id: &Value) {
        let (database, operations) = match self.transact_params(session, params, id) {
            Ok(parsed) => parsed,
            Err(error) => return self.reply(session, id, Err(error.into())),
        };
        if self.plans.len() >= PLANS_MAX {
            let text = format!("{PLANS_MAX} plans are being worked out already");
            return self.reply(
                session,
                id,
                Err(OvsdbError::new(ErrorKind::ResourcesExhausted(text)).into()),
            );
        }
        let Some(served) = self.databases.get(&database) else {
            return;
        };
        let locks = &self.locks;
        let context = Context {
            elapsed_ms: u64::MAX,
            read_only: self
                .sessions
                .get(&session)
                .is_some_and(|session| session.peer.read_only)
                || served.is_backup,
            access: access_of(self.sessions.get(&session)),
            owns_lock: &|name| locks.is_owner(session, name),
            sequence: served.sequence() + 1,
            hook: served.hook.as_deref(),
        };
        match execute(&served.database, &operations, &context, &mut self.entropy) {
            Outcome::Committed(commit) => {
                let mut rows = served.database.clone();
                rows.apply(&commit.changes);
                let number = self.next_plan;
                self.next_plan += 1;
                let mut results = String::new();
                write_results(&commit.results, &mut results);
                let id = id.clone();
                self.plans.insert(number, Planned { session, id, results });
                self.commands.push(Command::Plan {
                    database,
                    number,
                    changes: Arc::new(commit.changes),
                    rows: Box::new(rows),
                });
            }
            Outcome::Failed(results) => {
                let mut text = String::new();
                write_results(&results, &mut text);
                self.reply(session, id, Ok(format!("{{\"results\":{text}}}")));
            }
            // The time of a `wait` is up at once.
            Outcome::Blocked { .. } => {
                let text = "a transaction that would wait cannot be planned".to_owned();
                self.reply(
                    session,
                    id,
                    Err(OvsdbError::new(ErrorKind::ResourcesExhausted(text)).into()),
                );
            }
        }
    }

    /// Replies with a plan that was worked out.
    pub(crate) fn planned(&mut self, number: u64, plan: &Value) {
        let Some(Planned { session, id, results }) = self.plans.remove(&number) else {
            return;
        };
        let plan = json::to_text(plan);
        let text = reply_text(&id, &format!("{{\"results\":{results},\"plan\":{plan}}}"));
        self.push(session, None, Matter::Reply(id), Outgoing::Text(text));
    }

    /// Forgets the plans of a session that is gone.
    pub(crate) fn drop_plans(&mut self, session: SessionId) {
        self.plans.retain(|_, planned| planned.session != session);
    }
}
