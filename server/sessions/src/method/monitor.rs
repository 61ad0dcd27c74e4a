//! `monitor`, `monitor_cond`, `monitor_cond_since` and `monitor_cancel`.
//!
//! A monitor that names an old transaction may have to wait for the log. Until it is answered it sees no update; the answer then shows
//! the database as it is at that moment, so that nothing is lost and nothing told twice.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use ecow::EcoString;
use nonnet_engine::Snapshot;
use nonnet_schema::{
    ErrorKind, MonitorRequest, OvsdbError, REPLY_TAIL, ReplyError, Uuid, error_reply_text, json, parse_uuid, reply_head,
};
use serde_json::Value;

use super::{Answer, Call, params_json};
use crate::command::{Command, Outgoing};
use crate::history::{Logged, Since};
use crate::limits::{
    CLAUSES_PER_MONITOR_MAX, ID_BYTES_MAX, LOG_READS_MAX, MONITORS_PER_SESSION_MAX, ROWS_ENCODED_INLINE_MAX,
};
use crate::monitor::{Delta, Monitor, Notation, SharedDelta, SharedText, initial_text};
use crate::peer::SessionId;
use crate::server::Server;
use crate::session::Matter;

/// A monitor that waits for what the log says.
#[derive(Debug)]
pub(crate) struct Awaiting {
    session: SessionId,
    /// The number in [`Monitor::waits_as`].
    number: u64,
    /// The id of the request to answer.
    reply_id: Value,
}

/// What is asked for, parsed.
struct Asked<'a> {
    database: &'a str,
    id: &'a Value,
    requests: &'a Value,
    request: Arc<MonitorRequest>,
    /// The newest transaction that the client has seen; zeros for none.
    last_id: Uuid,
}

/// What a monitor is answered from, wherever there is time.
struct Start {
    notation: Notation,
    request: Arc<MonitorRequest>,
    snapshot: Snapshot,
    shared: SharedText,
    /// What it has missed; None where it gets everything.
    delta: Option<(Box<Delta>, SharedDelta)>,
    newest_id: Uuid,
}

impl Server {
    pub(super) fn monitor(&mut self, call: Call<'_>, notation: Notation) {
        if let Err(error) = self.start_monitor(call, notation) {
            let text = error_reply_text(call.id, &ReplyError::Object(error));
            self.push(call.session, None, Matter::Reply(call.id.clone()), Outgoing::Text(text));
        }
    }

    fn start_monitor(&mut self, call: Call<'_>, notation: Notation) -> Result<(), OvsdbError> {
        let asked = self.monitor_params(call, notation)?;
        let requests_text = asked.requests.to_string();
        self.check_monitor_kept(call.session, None, requests_text.len())?;
        let (Some(served), Some(session)) = (self.databases.get(asked.database), self.sessions.get_mut(&call.session))
        else {
            return Ok(());
        };
        let mut since = served.since(asked.last_id, &asked.request);
        let key = (EcoString::from(asked.database), asked.last_id);
        if matches!(since, Since::Log) && self.log_reads.len() >= LOG_READS_MAX && !self.log_reads.contains_key(&key) {
            since = Since::Everything;
        }
        let number = matches!(since, Since::Log).then_some(self.next_await);
        session.monitors.push(Monitor {
            id: asked.id.clone(),
            id_text: json::to_text(asked.id).into(),
            database: asked.database.into(),
            group: (requests_text.into(), notation),
            unsent: None,
            waits_as: number,
        });
        let delta = match since {
            Since::Delta(delta) => Some(delta),
            Since::Everything => None,
            Since::Log => {
                let (session, reply_id) = (call.session, call.id.clone());
                let number = self.next_await;
                self.next_await += 1;
                let awaiting = Awaiting {
                    session,
                    number,
                    reply_id,
                };
                self.read_log(key, awaiting);
                return Ok(());
            }
        };
        self.answer_monitor(call.session, asked.id, call.id, &asked.request, delta);
        Ok(())
    }

    fn monitor_params<'a>(&self, call: Call<'a>, notation: Notation) -> Result<Asked<'a>, OvsdbError> {
        let database = self.database_param(call.method, call.params)?;
        let invalid = || {
            OvsdbError::in_json(
                ErrorKind::Params("invalid parameters".into()),
                &params_json(call.params),
            )
        };
        let served = self.databases.get(database).ok_or_else(invalid)?;
        // `monitor` passes over what follows; the others are strict.
        let (id, requests, last_id) = match (call.params, notation) {
            ([_, id, requests, ..], Notation::Update) | ([_, id, requests], Notation::Update2) => (id, requests, None),
            ([_, id, requests, last_id], Notation::Update3) => (id, requests, Some(last_id)),
            _ => return Err(invalid()),
        };
        // An id in use is told before faults of the requests, but for the grossest.
        if let Some(session) = self.sessions.get(&call.session).filter(|_| requests.is_object()) {
            check_limits(&json::to_text(id), session.monitors.len())?;
            if session.monitors.iter().any(|monitor| monitor.id == *id) {
                return Err(OvsdbError::in_json(ErrorKind::DuplicateMonitor, id));
            }
        }
        let request = MonitorRequest::parse(requests, served.database.schema(), notation != Notation::Update)?;
        check_clauses(&request)?;
        Ok(Asked {
            database,
            id,
            requests,
            request: Arc::new(request),
            last_id: last_id.map_or(Ok(Uuid::nil()), transaction_id)?,
        })
    }

    /// Has the log read, unless that is under way already.
    fn read_log(&mut self, key: (EcoString, Uuid), awaiting: Awaiting) {
        match self.log_reads.entry(key) {
            Entry::Occupied(mut all) => all.get_mut().push(awaiting),
            Entry::Vacant(none) => {
                let (database, id) = none.key().clone();
                none.insert(vec![awaiting]);
                self.commands.push(Command::ReadSince { database, id });
            }
        }
    }

    /// Answers the monitors that waited for what the log says of a transaction.
    pub(crate) fn log_read(&mut self, database: EcoString, id: Uuid, logged: Option<&Logged>) {
        for awaiting in self.log_reads.remove(&(database, id)).unwrap_or_default() {
            self.answer_awaiting(&awaiting, logged);
        }
    }

    fn answer_awaiting(&mut self, awaiting: &Awaiting, logged: Option<&Logged>) {
        let Some(session) = self.sessions.get_mut(&awaiting.session) else {
            return;
        };
        let mut monitors = session.monitors.iter_mut();
        let Some(monitor) = monitors.find(|monitor| monitor.waits_as == Some(awaiting.number)) else {
            // It was cancelled meanwhile, which answers the request too.
            let text = error_reply_text(&awaiting.reply_id, &ReplyError::Text("canceled"));
            let matter = Matter::Reply(awaiting.reply_id.clone());
            return self.push(awaiting.session, None, matter, Outgoing::Text(text));
        };
        monitor.waits_as = None;
        let (id, group) = (monitor.id.clone(), monitor.group.clone());
        let Some(served) = self.databases.get(&monitor.database) else {
            return;
        };
        // It was parsed before, with the same schema.
        let Some(request) = parse_group(&group.0, served.database.schema()) else {
            return;
        };
        let since = logged.map(|logged| served.since_logged(logged, &request));
        let delta = match since {
            Some(Since::Delta(delta)) => Some(delta),
            _ => None,
        };
        self.answer_monitor(awaiting.session, &id, &awaiting.reply_id, &request, delta);
    }

    /// Answers a monitor that waits for the log with everything, at once.
    pub(super) fn settle_monitor(&mut self, session: SessionId, id: &Value) {
        let waiting = self.sessions.get(&session).and_then(|session| {
            let monitor = session.monitors.iter().find(|monitor| monitor.id == *id)?;
            monitor.waits_as
        });
        let Some(number) = waiting else {
            return;
        };
        let is_it = |awaiting: &mut Awaiting| awaiting.session == session && awaiting.number == number;
        let taken: Vec<Awaiting> = self
            .log_reads
            .values_mut()
            .flat_map(|all| all.extract_if(.., is_it))
            .collect();
        for awaiting in taken {
            self.answer_awaiting(&awaiting, None);
        }
    }

    /// Has a monitor take part from now on, and replies with what it starts from.
    fn answer_monitor(
        &mut self,
        id: SessionId,
        monitor_id: &Value,
        reply_id: &Value,
        request: &Arc<MonitorRequest>,
        delta: Option<Box<Delta>>,
    ) {
        let monitor = self
            .sessions
            .get(&id)
            .and_then(|session| session.monitors.iter().find(|monitor| monitor.id == *monitor_id));
        let Some((monitor, served)) =
            monitor.and_then(|monitor| Some((monitor, self.databases.get_mut(&monitor.database)?)))
        else {
            return;
        };
        let (groups, generation) = (&mut served.groups, served.generation);
        groups.join(&monitor.group, request, id, &monitor.id_text);
        let delta = delta.map(|delta| {
            let shared = groups.delta(&monitor.group, generation, delta.from());
            (delta, shared)
        });
        let start = Start {
            notation: monitor.group.1,
            request: Arc::clone(request),
            snapshot: served.database.snapshot(),
            shared: groups.initial(&monitor.group, generation),
            delta,
            newest_id: served.transaction_id(),
        };
        let (gate, is_short, reply) = (served.gate(), start.is_short(), reply_id.clone());
        let encode = move || start.encode(&reply);
        let payload = if is_short {
            Outgoing::Shared(Bytes::from(encode().concat()))
        } else {
            Outgoing::Job(Box::new(encode))
        };
        self.push(id, gate, Matter::Initial(reply_id.clone()), payload);
    }

    pub(super) fn monitor_cancel(&mut self, call: Call<'_>) -> Answer {
        let [id] = call.params else {
            return Err(ReplyError::Text("invalid parameters"));
        };
        let found = self.sessions.get_mut(&call.session).and_then(|session| {
            let at = session.monitors.iter().position(|monitor| monitor.id == *id)?;
            Some(session.monitors.remove(at))
        });
        let Some(monitor) = found else {
            return Err(ReplyError::Text("unknown monitor"));
        };
        if let Some(served) = self.databases.get_mut(&monitor.database) {
            served.groups.leave(&monitor.group, call.session, &monitor.id_text);
        }
        Ok("{}".to_owned())
    }
}

impl Start {
    /// Whether few enough rows are looked at to do it at once.
    fn is_short(&self) -> bool {
        let tables = self.request.tables.iter();
        let rows = if let Some((delta, _)) = &self.delta {
            delta.len()
        } else {
            tables.map(|table| self.snapshot.table(table.table).len()).sum()
        };
        rows <= ROWS_ENCODED_INLINE_MAX
    }

    /// The reply in pieces: what all monitors of the group are told is held once for them.
    fn encode(&self, reply_id: &Value) -> Vec<Bytes> {
        let head = reply_head(reply_id);
        let initial = || initial_text(&self.shared, &self.snapshot, &self.request, self.notation);
        if self.notation != Notation::Update3 {
            return vec![head.into(), initial().clone(), REPLY_TAIL.into()];
        }
        let delta = self.delta.as_ref();
        let missed = delta.map(|(delta, shared)| shared.get_or_init(|| delta.encode().map(Bytes::from)));
        let (found, text) = match missed {
            Some(Ok(missed)) => (true, missed),
            // Where the log and the rows do not fit together, the rows are what counts.
            Some(Err(_)) | None => (false, initial()),
        };
        vec![
            format!("{head}[{found},\"{}\",", self.newest_id).into(),
            text.clone(),
            format!("]{REPLY_TAIL}").into(),
        ]
    }
}

/// The request that a group's key is the text of.
pub(super) fn parse_group(text: &str, schema: &nonnet_schema::DatabaseSchema) -> Option<Arc<MonitorRequest>> {
    let requests = serde_json::from_str(text).ok()?;
    MonitorRequest::parse(&requests, schema, true).ok().map(Arc::new)
}

pub(super) fn check_limits(id_text: &str, monitors: usize) -> Result<(), OvsdbError> {
    let text = if monitors >= MONITORS_PER_SESSION_MAX {
        format!("a session may have {MONITORS_PER_SESSION_MAX} monitors")
    } else if id_text.len() > ID_BYTES_MAX {
        format!("a monitor's id may have {ID_BYTES_MAX} bytes, not {}", id_text.len())
    } else {
        return Ok(());
    };
    Err(ErrorKind::ResourcesExhausted(text).into())
}

/// The clauses of all tables together are what every commit may have to be compared with.
pub(super) fn check_clauses(request: &MonitorRequest) -> Result<(), OvsdbError> {
    let clauses: usize = request.tables.iter().map(|table| table.condition.clauses.len()).sum();
    if clauses <= CLAUSES_PER_MONITOR_MAX {
        return Ok(());
    }
    let text = format!("a monitor may have {CLAUSES_PER_MONITOR_MAX} clauses, not {clauses}");
    Err(ErrorKind::ResourcesExhausted(text).into())
}

fn transaction_id(json: &Value) -> Result<Uuid, OvsdbError> {
    let text = json
        .as_str()
        .ok_or_else(|| OvsdbError::in_json(ErrorKind::TransactionIdNotString, json))?;
    parse_uuid(text).ok_or_else(|| OvsdbError::in_json(ErrorKind::TransactionIdNotUuid, json))
}
