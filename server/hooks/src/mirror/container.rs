//! What is observed of containers: which there are, whose they are, whether they run, and which networks they have joined.

use std::collections::{BTreeMap, BTreeSet};

use ecow::EcoString;

use super::NamespaceId;
use crate::name::LinkName;
use crate::object::ObjectKey;
use crate::object::container::Mesh;

/// A container as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Its id.
    pub id: EcoString,
    /// Whose it is; `None`: somebody else's.
    pub ours: Option<Ownership>,
    /// Whether it runs.
    pub running: bool,
    /// How it stopped, if that was by itself or by somebody else's hand.
    pub ended: Option<Ended>,
    /// The settings in its configuration, as far as they are ours.
    pub settings: BTreeMap<EcoString, EcoString>,
    /// The settings with which it does not run yet.
    pub outdated: BTreeSet<EcoString>,
    /// What became of the program for the first start; `None`: it has not run.
    pub firstboot: Option<EcoString>,
}

/// The mark of a container that nonnet has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The group that marks the links of the same database.
    pub group: u32,
    /// The row's UUID, big-endian.
    pub uuid: u128,
    /// How far it is.
    pub stage: Stage,
}

/// How far a container of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is being made, or its making was cut short.
    Creating,
    /// nonnet made it, and destroys it.
    Created,
    /// Somebody else made it; nonnet starts and stops it.
    Adopted,
}

/// How a container stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// In words.
    pub words: EcoString,
    /// Whether its first process ended by a signal or with an error, rather than that the container was shut down.
    pub by_error: bool,
    /// Whether it has rested long enough to be started again.
    pub rested: bool,
}

/// A membership in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshState {
    /// What was joined, as it was wanted then.
    pub mesh: Mesh,
    /// The namespace from which it was joined.
    pub namespace: NamespaceId,
    /// The networks' names.
    pub networks: Vec<EcoString>,
    /// The addresses there.
    pub addresses: Vec<EcoString>,
}

/// One change of what is observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerChange {
    /// All containers were looked at: these are all there are.
    Replaced(Vec<ContainerState>),
    /// A container is new or changed.
    Set(ContainerState),
    /// The container of this id is gone.
    Gone(EcoString),
    /// A container has joined a network.
    Joined(MeshState),
    /// The container of this id is in no network.
    Left(EcoString),
}

/// All containers.
#[derive(Clone, Debug, Default)]
pub struct Containers {
    /// `None`: nobody has looked yet.
    there: Option<BTreeMap<EcoString, ContainerState>>,
    meshes: BTreeMap<EcoString, MeshState>,
}

impl Containers {
    /// Whether anybody has looked.
    pub fn is_known(&self) -> bool {
        self.there.is_some()
    }

    /// The container of this id.
    pub fn get(&self, id: &str) -> Option<&ContainerState> {
        self.there.as_ref()?.get(id)
    }

    /// All of them, by id.
    pub fn all(&self) -> impl Iterator<Item = &ContainerState> {
        self.there.iter().flat_map(BTreeMap::values)
    }

    /// What the container of this id has joined.
    pub fn mesh(&self, id: &str) -> Option<&MeshState> {
        self.meshes.get(id)
    }

    /// All memberships, by the container's id.
    pub fn meshes(&self) -> impl Iterator<Item = &MeshState> {
        self.meshes.values()
    }

    /// The container that needs this link to leave its network.
    pub fn needs_link(&self, link: &LinkName) -> Option<&EcoString> {
        let needs = |state: &&MeshState| state.mesh.link.as_ref() == Some(link);
        self.meshes.values().find(needs).map(|state| &state.mesh.id)
    }

    /// Takes in a change and gives the objects that it touched.
    pub(super) fn apply(&mut self, change: ContainerChange) -> BTreeSet<ObjectKey> {
        let mut touched = BTreeSet::new();
        match change {
            ContainerChange::Replaced(all) => {
                let all: BTreeMap<EcoString, ContainerState> =
                    all.into_iter().map(|state| (state.id.clone(), state)).collect();
                let before = self.there.take().unwrap_or_default();
                let differs = |id: &&EcoString| before.get(*id) != all.get(*id);
                let ids = before.keys().chain(all.keys()).filter(differs);
                touched.extend(ids.cloned().map(ObjectKey::Container));
                self.there = Some(all);
            }
            ContainerChange::Set(state) => {
                let there = self.there.get_or_insert_default();
                if there.get(&state.id) != Some(&state) {
                    touched.insert(ObjectKey::Container(state.id.clone()));
                    there.insert(state.id.clone(), state);
                }
            }
            ContainerChange::Gone(id) => {
                if self.there.as_mut().and_then(|there| there.remove(&id)).is_some() {
                    touched.insert(ObjectKey::Container(id));
                }
            }
            ContainerChange::Joined(state) => {
                let id = state.mesh.id.clone();
                let link = state.mesh.link.clone();
                if self.meshes.get(&id) != Some(&state) {
                    self.meshes.insert(id.clone(), state);
                    touched.extend(those_of_mesh(id, link));
                }
            }
            ContainerChange::Left(id) => {
                if let Some(state) = self.meshes.remove(&id) {
                    touched.extend(those_of_mesh(id, state.mesh.link));
                }
            }
        }
        touched
    }
}

/// The objects that a membership concerns: itself, the container, which outlives it, and the link, which does too.
fn those_of_mesh(id: EcoString, link: Option<LinkName>) -> impl Iterator<Item = ObjectKey> {
    [ObjectKey::Mesh(id.clone()), ObjectKey::Container(id)]
        .into_iter()
        .chain(link.map(ObjectKey::Link))
}
