//! Transactions on a relayed database that write: they go to the source, and its answer comes back.
//!
//! A transaction is run here first, so that its mistakes and its waits cost the source nothing. Whether it may be committed is for the
//! source to say, since its rows are newer.

use ecow::EcoString;
use nonnet_engine::Outcome;
use nonnet_schema::{ErrorKind, OvsdbError, ReplyError, error_reply_text, json, reply_text};
use serde_json::Value;

use super::transact::Place;
use crate::command::{Command, Outgoing};
use crate::limits::{FORWARDED_BYTES_MAX, FORWARDED_MAX};
use crate::peer::SessionId;
use crate::relay::Forwarded;
use crate::served::Parked;
use crate::server::Server;
use crate::session::Matter;

/// Whether the source must see a transaction that ended like this here: all its operations succeeded, and one of them writes.
pub(super) fn is_for_source(operations: &[Value], outcome: &Outcome) -> bool {
    let succeeded = match outcome {
        Outcome::Committed(_) => true,
        // A failed commit is one result more than there are operations.
        Outcome::Failed(results) => results.len() > operations.len(),
        Outcome::Blocked { .. } => false,
    };
    let writes = |operation: &Value| {
        let name = operation.get("op").and_then(Value::as_str);
        matches!(name, Some("insert" | "update" | "mutate" | "delete"))
    };
    succeeded && operations.iter().any(writes)
}

impl Server {
    /// Sends a transaction to the source; its session waits for the answer.
    pub(super) fn forward(&mut self, database: &str, parked: Parked, place: Place) {
        if place == Place::New && !self.may_wait(&parked) {
            return;
        }
        let params = params_text(database, &parked.operations);
        let Some(relay) = self.relays.get_mut(database) else {
            return;
        };
        let Parked { session, id, .. } = parked;
        let bytes = params.len();
        if relay.forwarded.len() >= FORWARDED_MAX || relay.forwarded_bytes + bytes > FORWARDED_BYTES_MAX {
            self.count_parked(session, -1);
            let text = "too many transactions wait for the source of this relay".to_owned();
            let error = OvsdbError::new(ErrorKind::ResourcesExhausted(text));
            return self.reply(session, &id, Err(error.into()));
        }
        let number = relay.add(Forwarded { session, id, bytes });
        self.commands.push(Command::Forward {
            database: database.into(),
            number,
            params,
        });
    }

    /// Passes the answer of the source on.
    pub(crate) fn forward_answered(&mut self, database: &str, number: u64, answer: Result<Value, Value>) {
        let forwarded = self.relays.get_mut(database).and_then(|relay| relay.take(number));
        let Some(Forwarded { session, id, .. }) = forwarded else {
            return;
        };
        self.count_parked(session, -1);
        let text = match answer {
            Ok(result) => reply_text(&id, &json::to_text(&result)),
            Err(error) => {
                let (id, error) = (json::to_text(&id), json::to_text(&error));
                format!("{{\"id\":{id},\"result\":null,\"error\":{error}}}")
            }
        };
        self.push(session, None, Matter::Reply(id), Outgoing::Text(text));
    }

    /// `cancel` of a transaction that the source has not answered.
    pub(super) fn cancel_forwarded(&mut self, session: SessionId, id: &Value) {
        let found = self.relays.iter_mut().find_map(|(database, relay)| {
            let number = relay.number_of(session, id)?;
            relay.take(number).map(|_| (database.clone(), number))
        });
        if let Some((database, number)) = found {
            self.commands.push(Command::Withdraw { database, number });
            self.answer_canceled(session, id);
        }
    }

    /// Forgets what a session that is gone has forwarded.
    pub(super) fn withdraw_all(&mut self, session: SessionId) {
        for (database, relay) in &mut self.relays {
            for number in relay.numbers_of(session) {
                relay.take(number);
                let database = database.clone();
                self.commands.push(Command::Withdraw { database, number });
            }
        }
    }

    /// Answers everything that waits for the source of a database as canceled.
    pub(crate) fn cancel_all_forwarded(&mut self, database: &EcoString) {
        let Some(relay) = self.relays.get_mut(database) else {
            return;
        };
        for (number, Forwarded { session, id, .. }) in relay.take_all() {
            let database = database.clone();
            self.commands.push(Command::Withdraw { database, number });
            self.answer_canceled(session, &id);
        }
    }

    fn answer_canceled(&mut self, session: SessionId, id: &Value) {
        self.count_parked(session, -1);
        let text = error_reply_text(id, &ReplyError::Text("canceled"));
        self.push(session, None, Matter::Reply(id.clone()), Outgoing::Text(text));
    }
}

/// The params of `transact`.
fn params_text(database: &str, operations: &[Value]) -> String {
    let mut text = String::from("[");
    json::write_string(database, &mut text);
    for operation in operations {
        text.push(',');
        json::write_value(operation, &mut text);
    }
    text.push(']');
    text
}
