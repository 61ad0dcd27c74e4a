//! Monitors: what of a change which client sees, in which notation (RFC 7047 4.1.5 and 4.1.6, ovsdb-server(7) 4.1.12 to 4.1.15).
//!
//! Monitors of one database that ask for the same in the same notation form a [`Group`]: a commit is encoded once for all of them.

mod delta;
mod encode;
mod merge;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use ecow::EcoString;
use nonnet_chain::MisfitDelta;
use nonnet_engine::{ChangeSet, Snapshot};
use nonnet_schema::{MonitorRequest, TableIndex};
use serde_json::Value;

use crate::peer::SessionId;
use crate::ration::monitor_bytes;

pub(crate) use delta::{Delta, DeltaParts, is_condition_transient, is_transient, shows_transient_set};
pub(crate) use encode::{encode_changes, encode_initial};
pub(crate) use merge::Unsent;

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
    pub(crate) unsent: Option<Unsent>,
    /// Set until it is answered, while the log is read: it is no member of its group yet, and sees nothing. No other monitor has the number.
    pub(crate) waits_as: Option<u64>,
}

impl Monitor {
    /// What it is taken to cost, in bytes.
    pub(crate) fn kept_bytes(&self) -> usize {
        monitor_bytes(self.group.0.len()) + self.id_text.len()
    }
}

/// What monitors must agree on to be encoded together: the request's text, with sorted members, and the notation.
pub(crate) type GroupKey = (Arc<str>, Notation);

/// Monitors that see the same.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) request: Arc<MonitorRequest>,
    /// The sessions, each with its monitor's id.
    pub(crate) members: BTreeSet<(SessionId, Arc<str>)>,
    /// The initial state as last encoded, with the generation of the database it shows; kept by those who are to be sent it.
    initial: Option<(u64, Weak<Initial>)>,
    /// What those who were away have missed as last encoded, with that generation and the sequence number they left at; kept likewise.
    delta: Option<(u64, u64, Weak<Missed>)>,
}

/// The text of an initial state, which the first who needs it encodes.
type Initial = OnceLock<Bytes>;

/// The text of a [`Delta`], likewise.
type Missed = OnceLock<Result<Bytes, MisfitDelta>>;

/// A text that the first who needs it encodes.
pub(crate) type SharedText = Arc<Initial>;

/// A [`Delta`] that the first who needs it encodes.
pub(crate) type SharedDelta = Arc<Missed>;

/// The monitors of one database.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_request: HashMap<GroupKey, Group>,
    /// The newest initial state and the newest delta are kept for those who come one after the other; no older one is.
    newest_initial: SharedText,
    newest_delta: SharedDelta,
}

impl Groups {
    /// Adds a member to the group of `key`, which is made where there is none.
    pub(crate) fn join(&mut self, key: &GroupKey, request: &Arc<MonitorRequest>, session: SessionId, id: &Arc<str>) {
        let group = self.by_request.entry(key.clone()).or_insert_with(|| Group {
            request: Arc::clone(request),
            members: BTreeSet::new(),
            initial: None,
            delta: None,
        });
        group.members.insert((session, Arc::clone(id)));
    }

    /// Takes a member out; a group without members ends.
    pub(crate) fn leave(&mut self, key: &GroupKey, session: SessionId, id: &Arc<str>) {
        if let Some(group) = self.by_request.get_mut(key) {
            group.members.remove(&(session, Arc::clone(id)));
            if group.members.is_empty() {
                self.by_request.remove(key);
            }
        }
    }

    /// The group of `key`.
    pub(crate) fn get(&self, key: &GroupKey) -> Option<&Group> {
        self.by_request.get(key)
    }

    /// The groups that watch a table in which something changed.
    pub(crate) fn concerned<'a>(&'a self, changes: &'a ChangeSet) -> impl Iterator<Item = (&'a GroupKey, &'a Group)> {
        self.by_request.iter().filter(|(_, group)| group.concerns(changes))
    }

    /// Whether anybody watches anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_request.is_empty()
    }

    /// Whether anybody watches that table.
    pub(crate) fn watch(&self, table: TableIndex) -> bool {
        self.by_request
            .values()
            .any(|group| group.request.table(table).is_some())
    }

    /// The place for what has changed in a group from the record `from` to `generation`; members that come back together share it.
    pub(crate) fn delta(&mut self, key: &GroupKey, generation: u64, from: u64) -> SharedDelta {
        let Some(group) = self.by_request.get_mut(key) else {
            return SharedDelta::default();
        };
        let known = group.delta.as_ref();
        let known = known.filter(|(as_of, since, _)| (*as_of, *since) == (generation, from));
        let text = known.and_then(|(.., text)| text.upgrade()).unwrap_or_default();
        group.delta = Some((generation, from, Arc::downgrade(&text)));
        self.newest_delta = Arc::clone(&text);
        text
    }

    /// The place for the initial state of a group as of `generation`; members that come before the next change share it.
    pub(crate) fn initial(&mut self, key: &GroupKey, generation: u64) -> SharedText {
        let Some(group) = self.by_request.get_mut(key) else {
            return SharedText::default();
        };
        let known = group.initial.as_ref().filter(|(as_of, _)| *as_of == generation);
        let text = known.and_then(|(_, text)| text.upgrade()).unwrap_or_default();
        group.initial = Some((generation, Arc::downgrade(&text)));
        self.newest_initial = Arc::clone(&text);
        text
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
) -> &'a Bytes {
    shared.get_or_init(|| Bytes::from(encode_initial(snapshot, request, notation)))
}
