//! The updates that follow a monitor's answer: one per commit, or one for many where a session is slow.

use nonnet_engine::ChangeSet;
use nonnet_schema::{MonitorRequest, Uuid};

use crate::command::Outgoing;
use crate::monitor::{Monitor, Notation, encode_changes};
use crate::peer::SessionId;
use crate::server::Server;
use crate::session::{Gate, Matter};

impl Server {
    /// Queues the updates of a commit for every monitor that sees any of it.
    pub(crate) fn update_monitors(&mut self, database: &str, changes: &ChangeSet) {
        let Some(served) = self.databases.get(database) else {
            return;
        };
        let (gate, newest_id) = (served.gate(), served.transaction_id());
        let mut touched = Vec::new();
        for (key, group, text) in served.groups.encode(&served.database, changes) {
            for (id, monitor_id) in &group.members {
                let Some(session) = self.sessions.get_mut(id) else {
                    continue;
                };
                if session.congested {
                    merge(&mut session.monitors, monitor_id, &group.request, changes);
                } else if let Some(text) = &text {
                    let update = Outgoing::Text(update_text(key.1, monitor_id, newest_id, text));
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
            let monitors = session.monitors.iter_mut();
            for monitor in monitors.filter(|monitor| monitor.database == database && monitor.waits_as.is_none()) {
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
        for at in 0..session.monitors.len() {
            if let Some((gate, update)) = self.unsent_update(id, at) {
                self.push(id, gate, Matter::MergedUpdate, update);
            }
        }
    }

    /// Takes what a session's monitor has not been sent, and encodes it.
    pub(super) fn unsent_update(&mut self, id: SessionId, at: usize) -> Option<(Option<Gate>, Outgoing)> {
        let monitor = self.sessions.get_mut(&id)?.monitors.get_mut(at)?;
        let unsent = monitor.unsent.take()?.into_changes();
        let served = self.databases.get(&monitor.database)?;
        let (group, notation) = (served.groups.get(&monitor.group)?, monitor.group.1);
        let text = encode_changes(served.database.schema(), &group.request, notation, &unsent)?;
        let update = update_text(notation, &monitor.id_text, served.transaction_id(), &text);
        Some((served.gate(), Outgoing::Text(update)))
    }
}

/// A notification.
pub(super) fn update_text(notation: Notation, monitor_id: &str, newest_id: Uuid, updates: &str) -> String {
    let method = notation.method();
    if notation == Notation::Update3 {
        format!("{{\"id\":null,\"method\":\"{method}\",\"params\":[{monitor_id},\"{newest_id}\",{updates}]}}")
    } else {
        format!("{{\"id\":null,\"method\":\"{method}\",\"params\":[{monitor_id},{updates}]}}")
    }
}

fn merge(monitors: &mut [Monitor], id: &str, request: &MonitorRequest, changes: &ChangeSet) {
    if let Some(monitor) = monitors.iter_mut().find(|monitor| *monitor.id_text == *id) {
        monitor.unsent.get_or_insert_default().add(request, changes);
    }
}
