//! The updates that follow a monitor's answer: one per commit, or one for many where a session is slow.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;
use nonnet_engine::{ChangeSet, Snapshot};
use nonnet_schema::Uuid;

use crate::command::Outgoing;
use crate::monitor::{Notation, encode_changes};
use crate::peer::SessionId;
use crate::server::Server;
use crate::session::{Gate, Matter};

impl Server {
    /// Queues the updates of a commit for every monitor that sees any of it. Monitors that ask for the same are sent the same bytes.
    pub(crate) fn update_monitors(&mut self, database: &str, changes: &ChangeSet) {
        let Some(served) = self.databases.get(database) else {
            return;
        };
        let (gate, newest_id) = (served.gate(), served.transaction_id());
        let rows = OnceCell::new();
        let mut touched = Vec::new();
        for (key, group) in served.groups.concerned(changes) {
            // Where everybody is congested nothing is encoded.
            let text = OnceCell::new();
            let encode = || encode_changes(served.database.schema(), &group.request, key.1, changes.changes());
            let mut line: Option<(&Arc<str>, Bytes)> = None;
            for (id, monitor_id) in &group.members {
                let Some(session) = self.sessions.get_mut(id) else {
                    continue;
                };
                if session.congested {
                    if let Some(monitor) = session
                        .monitors
                        .iter_mut()
                        .find(|monitor| monitor.id_text == *monitor_id)
                    {
                        let unsent = monitor.unsent.get_or_insert_default();
                        unsent.add(&group.request, changes, || current_rows(&rows, &served.database));
                    }
                } else if let Some(text) = text.get_or_init(encode) {
                    let (_, line) = match line.take_if(|(id, _)| *id == monitor_id) {
                        Some(same) => line.insert(same),
                        None => line.insert((
                            monitor_id,
                            Outgoing::shared_line(update_text(key.1, monitor_id, newest_id, text)),
                        )),
                    };
                    session.push_line(gate.clone(), line);
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
        let rows = OnceCell::new();
        for session in self.sessions.values_mut().filter(|session| session.congested) {
            let monitors = session.monitors.iter_mut();
            for monitor in monitors.filter(|monitor| monitor.database == database && monitor.waits_as.is_none()) {
                if let Some(group) = served.groups.get(&monitor.group) {
                    let unsent = monitor.unsent.get_or_insert_default();
                    unsent.add(&group.request, changes, || current_rows(&rows, &served.database));
                }
            }
        }
    }

    /// A session that was slow gets what it missed, one update per monitor.
    pub(crate) fn drained(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.congested = false;
            self.send_unsent(id);
        }
    }

    /// Queues what the session's monitors have not been sent, such as before a reply: a client sees what it did before it hears that it is
    /// done (ovsdb-server's order).
    pub(crate) fn send_unsent(&mut self, id: SessionId) {
        let monitors = self.sessions.get(&id).map_or(0, |session| session.monitors.len());
        for at in 0..monitors {
            if let Some((gate, update)) = self.unsent_update(id, at) {
                self.push(id, gate, Matter::MergedUpdate, update);
            }
        }
    }

    /// Takes what a session's monitor has not been sent, to be encoded wherever there is time.
    pub(super) fn unsent_update(&mut self, id: SessionId, at: usize) -> Option<(Option<Gate>, Outgoing)> {
        let monitor = self.sessions.get_mut(&id)?.monitors.get_mut(at)?;
        let unsent = monitor.unsent.take()?;
        let served = self.databases.get(&monitor.database)?;
        let (request, notation) = (Arc::clone(&served.groups.get(&monitor.group)?.request), monitor.group.1);
        let (now, newest_id) = (served.database.snapshot(), served.transaction_id());
        let (id_text, is_short) = (Arc::clone(&monitor.id_text), unsent.is_short());
        let encode = move || {
            let changes = unsent.into_changes(&request, &now);
            let text = encode_changes(now.schema(), &request, notation, &changes)?;
            Some(update_text(notation, &id_text, newest_id, &text))
        };
        let update = if is_short {
            Outgoing::Text(encode()?)
        } else {
            Outgoing::Job(Box::new(move || encode().map(Bytes::from).into_iter().collect()))
        };
        Some((served.gate(), update))
    }
}

/// The rows as they are, remembered once for all monitors that need them.
fn current_rows(rows: &OnceCell<Arc<Snapshot>>, database: &nonnet_engine::Database) -> Arc<Snapshot> {
    Arc::clone(rows.get_or_init(|| Arc::new(database.snapshot())))
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
