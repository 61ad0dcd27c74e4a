//! The methods of the protocol, by name (RFC 7047 4.1, ovsdb-server(7) 4.1).

mod audit;
mod condition_change;
mod convert;
mod forward;
mod lock;
mod monitor;
mod plan;
mod transact;
mod update;

use nonnet_engine::Access;
use nonnet_schema::{Atom, ErrorKind, OvsdbError, ReplyError, error_reply_text, json, reply_text};
use serde_json::Value;

use crate::audit::AUDIT;
use crate::command::Outgoing;
use crate::lock::Mode;
use crate::monitor::Notation;
use crate::now::Now;
use crate::peer::SessionId;
use crate::served::Served;
use crate::server::Server;
use crate::session::{Matter, Session};

pub(crate) use monitor::Awaiting;
pub(crate) use plan::Planned;

/// What a lock method is answered with on a read-only session (ovsdb-server's words).
const LOCKS_READ_ONLY: &str = "lock and unlock methods not allowed, DB server is read only.";

/// What a method is answered with that the server does not have.
const UNKNOWN_METHOD: ReplyError = ReplyError::Text("unknown method");

/// What a method answers at once: the text of the result, or an error.
type Answer = Result<String, ReplyError>;

/// A request that is being answered.
#[derive(Clone, Copy)]
struct Call<'a> {
    session: SessionId,
    method: &'a str,
    params: &'a [Value],
    id: &'a Value,
}

impl Server {
    /// Answers a request, now or when what it waits for has come.
    pub(crate) fn request(&mut self, session: SessionId, method: &str, params: Vec<Value>, id: Value, now: Now) {
        let call = Call {
            session,
            method,
            params: &params,
            id: &id,
        };
        if is_of_audit(call.params) {
            self.show_audit(call.params, now);
        }
        let answer = match method {
            "transact" if is_of_audit(call.params) => return self.audit_request(session, params, id, now),
            "transact" => return self.transact_request(session, params, id, now),
            "nonnet_plan" => return self.plan_request(session, params, &id),
            "monitor" => return self.monitor(call, Notation::Update),
            "monitor_cond" | "monitor_cond_since" if !self.has_monitor_cond => Err(UNKNOWN_METHOD),
            "monitor_cond" => return self.monitor(call, Notation::Update2),
            "monitor_cond_since" => return self.monitor(call, Notation::Update3),
            "monitor_cond_change" => self.monitor_cond_change(call),
            "monitor_cancel" => self.monitor_cancel(call),
            "list_dbs" => Ok(self.list_dbs()),
            "get_schema" => return self.get_schema(call),
            "convert" => return self.convert(call, now),
            "get_server_id" => Ok(format!("\"{}\"", Atom::Uuid(self.id).to_message())),
            "echo" => Ok(json::to_text(&Value::Array(params))),
            "lock" | "steal" | "unlock" if self.is_read_only(session) => Err(ReplyError::Text(LOCKS_READ_ONLY)),
            "lock" => self.lock(call, Mode::Wait),
            "steal" => self.lock(call, Mode::Steal),
            "unlock" => self.unlock(call),
            "set_db_change_aware" => self.set_db_change_aware(call),
            _ => Err(UNKNOWN_METHOD),
        };
        self.reply(session, &id, answer);
    }

    /// Whether the session may not write.
    fn is_read_only(&self, session: SessionId) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|session| session.peer.read_only)
    }

    /// Replies with what depends on no database.
    fn reply(&mut self, session: SessionId, id: &Value, answer: Answer) {
        let text = match answer {
            Ok(result) => reply_text(id, &result),
            Err(error) => error_reply_text(id, &error),
        };
        self.push(session, None, Matter::Reply(id.clone()), Outgoing::Text(text));
    }

    fn list_dbs(&self) -> String {
        // People and tools look for their own databases; the server's own come last.
        let (own, users): (Vec<_>, Vec<_>) = self.names().into_iter().partition(|name| name.starts_with('_'));
        let mut out = String::new();
        json::write_sequence(users.into_iter().chain(own), &mut out, |name, out| {
            json::write_string(name, out);
        });
        out
    }

    fn get_schema(&mut self, call: Call<'_>) {
        let served = match self.database_param(call.method, call.params) {
            Ok(name) => self.databases.get(name),
            Err(error) => return self.reply(call.session, call.id, Err(error.into())),
        };
        let text = served.map(|served| served.database.schema().to_text());
        let gate = served.and_then(Served::schema_gate);
        let reply = Outgoing::Text(reply_text(call.id, &text.unwrap_or_default()));
        self.push(call.session, gate, Matter::Reply(call.id.clone()), reply);
    }

    fn set_db_change_aware(&mut self, call: Call<'_>) -> Answer {
        let [Value::Bool(aware)] = call.params else {
            return Err(OvsdbError::in_json(ErrorKind::AwareParams, &params_json(call.params)).into());
        };
        if let Some(session) = self.sessions.get_mut(&call.session) {
            session.aware = *aware;
        }
        Ok("{}".to_owned())
    }

    /// The database that the first parameter names.
    fn database_param<'a>(&self, method: &str, params: &'a [Value]) -> Result<&'a str, OvsdbError> {
        let Some(Value::String(name)) = params.first() else {
            return Err(OvsdbError::in_json(
                ErrorKind::NoDatabaseName(method.into()),
                &params_json(params),
            ));
        };
        if self.databases.contains_key(name.as_str()) {
            Ok(name)
        } else {
            Err(self.no_database(method, name, params))
        }
    }
}

/// Whether a request is about `_Nonnet`.
fn is_of_audit(params: &[Value]) -> bool {
    params.first().and_then(Value::as_str) == Some(AUDIT)
}

/// Whose role and certificate say what may be written.
fn access_of(session: Option<&Session>) -> Access<'_> {
    session.map_or(Access::default(), |session| Access {
        role: &session.peer.role,
        client: &session.peer.certificate_name,
    })
}

pub(crate) fn params_json(params: &[Value]) -> Value {
    Value::Array(params.to_vec())
}
