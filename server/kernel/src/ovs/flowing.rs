//! What is to be done with flows, one thing after the other on a thread of its own: the changes that wait, and looks at what is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ecow::EcoString;
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{ObjectKey, OvsGuard, OvsOperation};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::flows::{Bridges, Guards, PortNumber};
use super::rows::Rows;
use crate::limits::{OVS_FLOWS_INTERVAL, OVS_FLOWS_PAUSE, OVS_FLOWS_PORTS};

/// A guard that a port is to have, or to lose.
#[derive(Debug)]
pub(super) struct Guarding {
    key: ObjectKey,
    port: LinkName,
    guard: Option<OvsGuard>,
}

/// Flows to change and bridges to look at.
#[derive(Debug)]
pub(super) struct Flowing {
    bridges: Bridges,
    pub(super) queue: VecDeque<Guarding>,
    /// Flows that are to go, of ports that are gone.
    stale: BTreeMap<LinkName, Vec<PortNumber>>,
    /// The bridges that are to be looked at now.
    looks: BTreeSet<LinkName>,
    /// The bridges that have had a guard: these are looked at again and again.
    watched: BTreeSet<LinkName>,
    next_look: Instant,
    task: Option<Task>,
}

#[derive(Debug)]
struct Task {
    bridge: LinkName,
    keys: Vec<ObjectKey>,
    work: JoinHandle<(Result<(), EcoString>, Result<Guards, EcoString>)>,
}

/// What was done.
pub(super) struct Flowed {
    pub(super) bridge: LinkName,
    /// The objects that it was done for.
    pub(super) keys: Vec<ObjectKey>,
    /// Whether the flows could be changed.
    pub(super) set: Result<(), EcoString>,
    /// What there is since.
    pub(super) read: Result<Guards, EcoString>,
}

impl Guarding {
    /// What an operation asks for; nothing where it is not about flows.
    pub(super) fn of((key, operation): (ObjectKey, OvsOperation)) -> Option<Self> {
        match operation {
            OvsOperation::GuardSet { name, set, .. } => Some(Self {
                key,
                port: name,
                guard: set,
            }),
            _ => None,
        }
    }
}

impl Flowing {
    pub(super) fn new(bridges: Bridges) -> Self {
        Self {
            bridges,
            queue: VecDeque::new(),
            stale: BTreeMap::new(),
            looks: BTreeSet::new(),
            watched: BTreeSet::new(),
            next_look: Instant::now(),
            task: None,
        }
    }

    /// Whether something is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.task.is_some()
    }

    /// When bridges are to be looked at again.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.watched.is_empty() && self.looks.is_empty()).then_some(self.next_look)
    }

    /// Has a port held.
    pub(super) fn hold(&mut self, key: ObjectKey, port: LinkName, guard: OvsGuard) {
        let guard = Some(guard);
        self.queue.push_back(Guarding { key, port, guard });
    }

    /// Forgets what was to be done for an object of which something else is asked now.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.queue.retain(|guarding| guarding.key != *key);
    }

    /// Something has changed in Open vSwitch.
    pub(super) fn hurry(&mut self) {
        self.next_look = self.next_look.min(Instant::now() + OVS_FLOWS_PAUSE);
    }

    /// Has the bridges of ours looked at that have had a guard.
    pub(super) fn look(&mut self, rows: &Rows) {
        let there: BTreeSet<&LinkName> = rows.our_bridges().collect();
        self.watched.retain(|bridge| there.contains(bridge));
        self.looks.extend(self.watched.iter().cloned());
        self.next_look = Instant::now() + OVS_FLOWS_INTERVAL;
    }

    /// Has all bridges of ours looked at.
    pub(super) fn look_at_all(&mut self, rows: &Rows) {
        self.looks.extend(rows.our_bridges().cloned());
    }

    /// Begins what is next, if nothing is under way. `place` knows the bridge and number of a port; the objects of ports without are given back.
    pub(super) fn launch(&mut self, place: impl Fn(&LinkName) -> Option<(LinkName, PortNumber)>) -> Vec<ObjectKey> {
        let mut lost = Vec::new();
        if self.task.is_some() {
            return lost;
        }
        let mut now: Option<LinkName> = None;
        let (mut keys, mut guards, mut later) = (Vec::new(), Vec::new(), VecDeque::new());
        while let Some(guarding) = self.queue.pop_front() {
            let Some((bridge, number)) = place(&guarding.port) else {
                lost.push(guarding.key);
                continue;
            };
            if guards.len() >= OVS_FLOWS_PORTS || *now.get_or_insert_with(|| bridge.clone()) != bridge {
                later.push_back(guarding);
                continue;
            }
            keys.push(guarding.key);
            guards.push((number, guarding.guard));
        }
        self.queue = later;
        let next = now.or_else(|| self.stale.keys().next().cloned());
        let Some(bridge) = next.or_else(|| self.looks.first().cloned()) else {
            return lost;
        };
        self.looks.remove(&bridge);
        let stale = self.stale.remove(&bridge).unwrap_or_default();
        let reused = |port: &PortNumber| guards.iter().any(|(number, _)| number == port);
        let stale: Vec<_> = stale
            .into_iter()
            .filter(|port| !reused(port))
            .map(|port| (port, None))
            .collect();
        guards.extend(stale);
        if !keys.is_empty() {
            self.watched.insert(bridge.clone());
        }
        let (bridges, name) = (self.bridges.clone(), bridge.clone());
        let work = spawn_blocking(move || {
            let set = if guards.is_empty() {
                Ok(())
            } else {
                bridges.set(&name, &guards)
            };
            (set, bridges.read(&name))
        });
        self.task = Some(Task { bridge, keys, work });
        lost
    }

    /// Waits for the end of what is under way, if something is.
    pub(super) async fn done(&mut self) -> Flowed {
        let Some(task) = &mut self.task else {
            return std::future::pending().await;
        };
        let ended = (&mut task.work).await;
        let (bridge, keys) = (task.bridge.clone(), std::mem::take(&mut task.keys));
        self.task = None;
        let died = |error: tokio::task::JoinError| {
            let reason = ecow::eco_format!("{error}");
            (Err(reason.clone()), Err(reason))
        };
        let (set, read) = ended.unwrap_or_else(died);
        Flowed {
            bridge,
            keys,
            set,
            read,
        }
    }

    /// Notes that a bridge has guards, and which of them are of ports that are gone.
    pub(super) fn seen(&mut self, bridge: &LinkName, gone: Vec<PortNumber>) {
        self.watched.insert(bridge.clone());
        if !gone.is_empty() {
            self.stale.insert(bridge.clone(), gone);
        }
    }

    /// Ends everything; gives the objects for which something was to be done.
    pub(super) fn give_up(&mut self) -> Vec<ObjectKey> {
        let waiting = self.queue.drain(..).map(|guarding| guarding.key);
        let mut keys: Vec<ObjectKey> = waiting.collect();
        keys.extend(self.task.take().into_iter().flat_map(|task| task.keys));
        keys
    }
}
