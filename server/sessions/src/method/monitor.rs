//! `monitor`, `monitor_cond`, `monitor_cancel`, and the updates that follow.

use std::sync::Arc;

use nonnet_engine::ChangeSet;
use nonnet_schema::{ErrorKind, MonitorRequest, OvsdbError, ReplyError, error_reply_text, json, reply_text};

use super::{Answer, Call, params_json};
use crate::command::Outgoing;
use crate::limits::{ID_BYTES_MAX, MONITORS_PER_SESSION_MAX, ROWS_ENCODED_INLINE_MAX};
use crate::monitor::{Merged, Monitor, Notation, encode_changes, initial_text};
use crate::peer::SessionId;
use crate::server::Server;
use crate::session::Matter;

impl Server {
    pub(super) fn monitor(&mut self, call: Call<'_>, notation: Notation) {
        if let Err(error) = self.start_monitor(call, notation) {
            let text = error_reply_text(call.id, &ReplyError::Object(error));
            self.push(call.session, None, Matter::Reply(call.id.clone()), Outgoing::Text(text));
        }
    }

    fn start_monitor(&mut self, call: Call<'_>, notation: Notation) -> Result<(), OvsdbError> {
        let database = self.database_param(call.method, call.params)?;
        let invalid = || {
            OvsdbError::in_json(
                ErrorKind::Params("invalid parameters".into()),
                &params_json(call.params),
            )
        };
        // `monitor` passes over what follows; the others are strict.
        let (([_, id, requests, ..], Notation::Update) | ([_, id, requests], Notation::Update2)) =
            (call.params, notation)
        else {
            return Err(invalid());
        };
        let Some(served) = self.databases.get_mut(database) else {
            return Err(invalid());
        };
        let request = MonitorRequest::parse(requests, served.database.schema(), notation == Notation::Update2)?;
        let Some(session) = self.sessions.get_mut(&call.session) else {
            return Ok(());
        };
        let id_text: Arc<str> = json::to_text(id).into();
        check_limits(&id_text, session.monitors.len())?;
        if session.monitors.iter().any(|monitor| monitor.id == *id) {
            return Err(OvsdbError::in_json(ErrorKind::DuplicateMonitor, id));
        }
        let (request, group) = (Arc::new(request), (Arc::from(json::to_text(requests)), notation));
        served.groups.join(&group, &request, call.session, &id_text);
        let shared = served.groups.initial(&group, served.generation);
        let (snapshot, gate) = (served.database.snapshot(), served.gate());
        let rows: usize = request
            .tables
            .iter()
            .map(|table| snapshot.table(table.table).len())
            .sum();
        session.monitors.push(Monitor {
            id: id.clone(),
            id_text,
            group,
            unsent: None,
        });
        let reply_id = call.id.clone();
        let encode = move || reply_text(&reply_id, initial_text(&shared, &snapshot, &request, notation));
        let payload = if rows > ROWS_ENCODED_INLINE_MAX {
            Outgoing::Job(Box::new(encode))
        } else {
            Outgoing::Text(encode())
        };
        self.push(call.session, gate, Matter::Reply(call.id.clone()), payload);
        Ok(())
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
        for served in self.databases.values_mut() {
            served.groups.leave(&monitor.group, call.session, &monitor.id_text);
        }
        Ok("{}".to_owned())
    }

    /// Queues the updates of a commit for every monitor that sees any of it.
    pub(crate) fn update_monitors(&mut self, database: &str, changes: &ChangeSet) {
        let Some(served) = self.databases.get(database) else {
            return;
        };
        let gate = served.gate();
        let mut touched = Vec::new();
        for (key, group, text) in served.groups.encode(&served.database, changes) {
            for (id, monitor_id) in &group.members {
                let Some(session) = self.sessions.get_mut(id) else {
                    continue;
                };
                if session.congested {
                    merge(&mut session.monitors, monitor_id, &group.request, changes);
                } else if let Some(text) = &text {
                    let update = Outgoing::Text(update_text(key.1, monitor_id, text));
                    session.push(gate.clone(), Matter::Update, update);
                    touched.push(*id);
                }
            }
        }
        for id in touched {
            self.flush(id);
        }
    }

    /// Merges changes into what congested sessions have not been sent.
    pub(crate) fn merge_into_congested(&mut self, database: &str, changes: &ChangeSet) {
        let Some(served) = self.databases.get(database) else {
            return;
        };
        for session in self.sessions.values_mut().filter(|session| session.congested) {
            for monitor in &mut session.monitors {
                if let Some(group) = served.groups.get(&monitor.group) {
                    monitor.unsent.get_or_insert_default().add(&group.request, changes);
                }
            }
        }
    }

    /// A session that was slow gets what it missed, one update per monitor.
    pub(crate) fn drained(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.congested = false;
        let mut updates = Vec::new();
        for monitor in &mut session.monitors {
            let Some(unsent) = monitor.unsent.take().map(Merged::into_changes) else {
                continue;
            };
            // A monitor's group is in the one database that the monitor is of.
            for served in self.databases.values() {
                let Some(group) = served
                    .groups
                    .get(&monitor.group)
                    .filter(|group| group.has(id, &monitor.id_text))
                else {
                    continue;
                };
                let notation = monitor.group.1;
                if let Some(text) = encode_changes(served.database.schema(), &group.request, notation, &unsent) {
                    updates.push((
                        served.gate(),
                        Outgoing::Text(update_text(notation, &monitor.id_text, &text)),
                    ));
                }
            }
        }
        for (gate, update) in updates {
            self.push(id, gate, Matter::MergedUpdate, update);
        }
    }
}

fn merge(monitors: &mut [Monitor], id: &str, request: &MonitorRequest, changes: &ChangeSet) {
    if let Some(monitor) = monitors.iter_mut().find(|monitor| *monitor.id_text == *id) {
        monitor.unsent.get_or_insert_default().add(request, changes);
    }
}

fn check_limits(id_text: &str, monitors: usize) -> Result<(), OvsdbError> {
    let text = if monitors >= MONITORS_PER_SESSION_MAX {
        format!("a session may have {MONITORS_PER_SESSION_MAX} monitors")
    } else if id_text.len() > ID_BYTES_MAX {
        format!("a monitor's id may have {ID_BYTES_MAX} bytes, not {}", id_text.len())
    } else {
        return Ok(());
    };
    Err(ErrorKind::ResourcesExhausted(text).into())
}

fn update_text(notation: Notation, monitor_id: &str, updates: &str) -> String {
    format!(
        "{{\"id\":null,\"method\":\"{}\",\"params\":[{monitor_id},{updates}]}}",
        notation.method()
    )
}
