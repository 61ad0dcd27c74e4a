//! A kernel in memory behind the same commands: for tests of what drives it.
//!
//! Takes commands, gives inputs, from a [`Model`] that a test holds too: it adds namespaces, breaks links, and fails the operation of its choice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ecow::eco_format;
use nonnet_hooks::mirror::{Change, NamespaceId, Observation};
use nonnet_hooks::model::Model;
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::NetnsRef;
use nonnet_hooks::reconcile::Input;
use nonnet_hooks::want::Resolution;
use tokio::sync::mpsc::UnboundedSender;

use crate::command::Command;

/// The fake, shared between a test and what it tests.
#[derive(Clone, Debug)]
pub struct Fake(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    model: Model,
    places: BTreeMap<NetnsRef, NamespaceId>,
    watched: BTreeSet<NetnsRef>,
    inputs: Option<UnboundedSender<Input>>,
    operations: u64,
    fails: BTreeSet<u64>,
    next_inode: u64,
}

impl Fake {
    /// A kernel with nothing but the server's own namespace.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            model: Model::new(),
            places: BTreeMap::new(),
            watched: BTreeSet::new(),
            inputs: None,
            operations: 0,
            fails: BTreeSet::new(),
            next_inode: 4_026_532_000,
        })))
    }

    /// Makes a namespace that rows name like this.
    pub fn add_namespace(&self, netns: &NetnsRef) {
        let mut state = self.state();
        let id = NamespaceId::Inode(state.next_inode);
        state.next_inode += 1;
        state.model.add_namespace(id);
        state.places.insert(netns.clone(), id);
        state.resolve(netns);
    }

    /// Takes a namespace away.
    pub fn remove_namespace(&self, netns: &NetnsRef) {
        let mut state = self.state();
        if let Some(id) = state.places.remove(netns) {
            let seen = state.model.remove_namespace(id);
            state.resolve(netns);
            state.send(Input::Observed(seen));
        }
    }

    /// Deletes a link of the server's own namespace, as somebody else would.
    pub fn delete_link(&self, name: &LinkName) {
        let mut state = self.state();
        let seen = state.model.delete_by_name(NamespaceId::Host, name);
        state.send(Input::Observed(seen));
    }

    /// Makes a link of somebody else's in the server's own namespace.
    pub fn add_foreign(&self, name: &str, kind: &str) {
        let mut state = self.state();
        let seen = state.model.add_foreign(NamespaceId::Host, name, kind);
        state.send(Input::Observed(seen));
    }

    /// Refuses the operation of this number; the first of all is 0.
    pub fn fail(&self, operation: u64) {
        self.state().fails.insert(operation);
    }

    /// How many operations were carried out or refused.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// A copy of what the kernel has.
    pub fn model(&self) -> Model {
        self.state().model.clone()
    }

    pub(crate) fn start(&self, inputs: UnboundedSender<Input>) {
        let mut state = self.state();
        state.inputs = Some(inputs);
        state.dump();
    }

    pub(crate) fn obey(&self, command: Command) {
        let mut state = self.state();
        match command {
            Command::Run { run, plan } => {
                let State {
                    model,
                    operations,
                    fails,
                    ..
                } = &mut *state;
                let (outcomes, observed) = model.run(&plan, None, |_| {
                    *operations += 1;
                    fails.remove(&(*operations - 1))
                });
                state.send(Input::Ran {
                    run,
                    outcomes,
                    observed,
                });
            }
            Command::Watch(netns) => {
                state.watched.insert(netns.clone());
                state.resolve(&netns);
            }
            Command::Unwatch(netns) => {
                state.watched.remove(&netns);
            }
            Command::Dump => state.dump(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn send(&self, input: Input) {
        if let Some(inputs) = &self.inputs {
            // Nobody listens any more when the test is over.
            let _ = inputs.send(input);
        }
    }

    fn replaced(&self, id: NamespaceId) -> Option<Observation> {
        Some(Observation {
            namespace: id,
            change: Change::Replaced(self.model.dump(id)?),
        })
    }

    fn resolve(&self, netns: &NetnsRef) {
        if !self.watched.contains(netns) {
            return;
        }
        let resolution = match self.places.get(netns) {
            Some(id) => {
                self.send(Input::Observed(self.replaced(*id).into_iter().collect()));
                Resolution::Present(*id)
            }
            None => Resolution::Absent(eco_format!("{netns} does not exist")),
        };
        self.send(Input::Resolved {
            netns: netns.clone(),
            resolution,
        });
    }

    fn dump(&self) {
        let inside = self.watched.iter().filter_map(|netns| self.places.get(netns));
        let ids = inside.copied().chain([NamespaceId::Host]);
        let mut observed = self.model.containers();
        observed.push(Observation {
            namespace: NamespaceId::Host,
            change: Change::Ovs(self.model.dump_ovs()),
        });
        observed.extend(ids.filter_map(|id| self.replaced(id)));
        self.send(Input::Observed(observed));
    }
}
