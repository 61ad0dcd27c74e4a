//! Monitors: what of a change which client sees, in which notation (RFC 7047 4.1.5 and 4.1.6, ovsdb-server(7) 4.1.12 to 4.1.15).
//!
//! Monitors of one database that ask for the same in the same notation form a [`Group`]: a commit is encoded once for all of them.

mod delta;
mod encode;
mod merge;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use ecow::EcoString;
use nonnet_chain::MisfitDelta;
use nonnet_engine::{ChangeSet, Snapshot};
use nonnet_schema::MonitorRequest;
use serde_json::Value;

use crate::peer::SessionId;

pub(crate) use delta::{Delta, DeltaParts, is_condition_transient, is_transient, shows_transient_set};
pub(crate) use encode::{encode_changes, encode_initial};
pub(crate) use merge::Merged;

/// The notation of updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Notation {
    /// `monitor`: old and new rows.
    Update,
    /// `monitor_cond`: rows that start, change and stop to match, as differences.
    Update2,
    /// `monitor_cond_since`: the same with the id of the newest transaction.
    Update3,
}

impl Notation {
    /// The method of the notification.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Update2 => "update2",
            Self::Update3 => "update3",
        }
    }
}

/// One client's monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    /// As the client named it.
    pub(crate) id: Value,
    /// The id's text.
    pub(crate) id_text: Arc<str>,
    /// The name of its database.
    pub(crate) database: EcoString,
    /// What it belongs to.
    pub(crate) group: GroupKey,
    /// What a congested session has not been sent yet.
    pub(crate) unsent: Option<Merged>,
    /// Set until it is answered, while the log is read: it is no member of its group yet, and sees nothing. No other monitor has the number.
    pub(crate) waits_as: Option<u64>,
}

/// What monitors must agree on to be encoded together: the request's text, with sorted members, and the notation.
pub(crate) type GroupKey = (Arc<str>, Notation);

/// Monitors that see the same.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) request: Arc<MonitorRequest>,
    /// The sessions, each with its monitor's id.
    pub(crate) members: Vec<(SessionId, Arc<str>)>,
    /// The initial state as last encoded, with the generation of the database it shows.
    initial: Option<(u64, SharedText)>,
    /// What those who were away have missed as last encoded, with that generation and the sequence number they left at.
    delta: Option<(u64, u64, SharedDelta)>,
}

/// A text that the first who needs it encodes.
pub(crate) type SharedText = Arc<OnceLock<String>>;

/// A [`Delta`] that the first who needs it encodes.
pub(crate) type SharedDelta = Arc<OnceLock<Result<String, MisfitDelta>>>;

/// The monitors of one database.
#[derive(Debug, Default)]
pub(crate) struct Groups(HashMap<GroupKey, Group>);

impl Groups {
    /// Adds a member to the group of `key`, which is made where there is none.
    pub(crate) fn join(&mut self, key: &GroupKey, request: &Arc<MonitorRequest>, session: SessionId, id: &Arc<str>) {
        let group = self.0.entry(key.clone()).or_insert_with(|| Group {
            request: Arc::clone(request),
            members: Vec::new(),
            initial: None,
            delta: None,
        });
        group.members.push((session, Arc::clone(id)));
    }

    /// Takes a member out; a group without members ends.
    pub(crate) fn leave(&mut self, key: &GroupKey, session: SessionId, id: &str) {
        if let Some(group) = self.0.get_mut(key) {
            group
                .members
                .retain(|(member, member_id)| *member != session || **member_id != *id);
            if group.members.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// The group of `key`.
    pub(crate) fn get(&self, key: &GroupKey) -> Option<&Group> {
        self.0.get(key)
    }

    /// What a commit looks like to each group that sees any of it.
    pub(crate) fn encode<'a>(
        &'a self,
        snapshot: &'a nonnet_engine::Database,
        changes: &'a ChangeSet,
    ) -> impl Iterator<Item = (&'a GroupKey, &'a Group, Option<String>)> {
        self.0
            .iter()
            .filter(|(_, group)| group.concerns(changes))
            .map(|(key, group)| {
                let text = encode_changes(snapshot.schema(), &group.request, key.1, changes.changes());
                (key, group, text)
            })
    }

    /// The place for what has changed in a group from the record `from` to `generation`; members that come back together share it.
    pub(crate) fn delta(&mut self, key: &GroupKey, generation: u64, from: u64) -> SharedDelta {
        let Some(group) = self.0.get_mut(key) else {
            return SharedDelta::default();
        };
        match &group.delta {
            Some((as_of, since, text)) if (*as_of, *since) == (generation, from) => Arc::clone(text),
            _ => {
                let text = SharedDelta::default();
                group.delta = Some((generation, from, Arc::clone(&text)));
                text
            }
        }
    }

    /// The place for the initial state of a group as of `generation`; members that come before the next change share it.
    pub(crate) fn initial(&mut self, key: &GroupKey, generation: u64) -> SharedText {
        let Some(group) = self.0.get_mut(key) else {
            return SharedText::default();
        };
        match &group.initial {
            Some((as_of, text)) if *as_of == generation => Arc::clone(text),
            _ => {
                let text = SharedText::default();
                group.initial = Some((generation, Arc::clone(&text)));
                text
            }
        }
    }
}

impl Group {
    fn concerns(&self, changes: &ChangeSet) -> bool {
        changes
            .changes()
            .iter()
            .any(|change| self.request.table(change.table).is_some())
    }
}

/// The initial state for a monitor, from `shared` where another has encoded it already.
pub(crate) fn initial_text<'a>(
    shared: &'a SharedText,
    snapshot: &Snapshot,
    request: &MonitorRequest,
    notation: Notation,
) -> &'a str {
    shared.get_or_init(|| encode_initial(snapshot, request, notation))
}
