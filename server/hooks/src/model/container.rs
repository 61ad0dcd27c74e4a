//! Containers in memory: what is worked on for long elsewhere is done at once.

use std::collections::BTreeMap;

use ecow::EcoString;

use super::{EEXIST, EINVAL, observed, refusal};
use crate::mirror::{Change, ContainerChange, ContainerState, Ended, MeshState, NamespaceId, Observation, Stage};
use crate::object::container::{ContainerOperation, MeshOperation};
use crate::plan::Refusal;

#[derive(Clone, Debug, Default)]
pub(super) struct Containers {
    there: BTreeMap<EcoString, ContainerState>,
    meshes: BTreeMap<EcoString, MeshState>,
}

impl Containers {
    pub(super) fn all(&self) -> Vec<Observation> {
        let there = self.there.values().cloned().collect();
        let joined = self.meshes.values().cloned().map(ContainerChange::Joined);
        let changes = std::iter::once(ContainerChange::Replaced(there)).chain(joined);
        changes.map(told).collect()
    }

    pub(super) fn add_foreign(&mut self, id: &str) -> Observation {
        let state = stopped(id.into());
        self.there.insert(id.into(), state.clone());
        told(ContainerChange::Set(state))
    }

    pub(super) fn end(&mut self, id: &str) -> Option<Observation> {
        let state = self.there.get_mut(id).filter(|state| state.running)?;
        state.running = false;
        state.ended = Some(Ended {
            words: "it stopped".into(),
            by_error: true,
            rested: true,
        });
        Some(told(ContainerChange::Set(state.clone())))
    }

    pub(super) fn apply(&mut self, operation: &ContainerOperation) -> Result<Vec<Observation>, Refusal> {
        let id = operation.id().clone();
        if let ContainerOperation::Create(container, ours) = operation {
            if self.there.contains_key(&id) {
                return Err(refusal(EEXIST, "it is there already"));
            }
            let state = ContainerState {
                ours: Some(*ours),
                settings: container.settings.clone(),
                ..stopped(id.clone())
            };
            self.there.insert(id, state.clone());
            return Ok(vec![told(ContainerChange::Set(state))]);
        }
        let missing = || refusal(EINVAL, "there is no such container");
        let state = self.there.get_mut(&id).ok_or_else(missing)?;
        match operation {
            ContainerOperation::Create(..) => {}
            ContainerOperation::Adopt(_, ours) => state.ours = Some(*ours),
            ContainerOperation::Release(_) => state.ours = None,
            ContainerOperation::Configure(container) => state.settings = container.settings.clone(),
            ContainerOperation::Start(container) => {
                (state.running, state.ended) = (true, None);
                state.firstboot = container.firstboot.as_ref().map(|_| "done".into());
            }
            ContainerOperation::Stop(_) => (state.running, state.ended) = (false, None),
            ContainerOperation::Destroy(_) => {
                // The real one refuses, too: what it did not make it does not destroy.
                if state.ours.is_none_or(|ours| ours.stage == Stage::Adopted) {
                    return Err(refusal(EINVAL, "it is not nonnet's to destroy"));
                }
                self.there.remove(&id);
                return Ok(vec![told(ContainerChange::Gone(id))]);
            }
        }
        Ok(vec![told(ContainerChange::Set(state.clone()))])
    }

    pub(super) fn join(&mut self, operation: &MeshOperation) -> Vec<Observation> {
        match operation {
            MeshOperation::Join { mesh, namespace } => {
                let state = MeshState {
                    mesh: mesh.clone(),
                    namespace: *namespace,
                    networks: vec!["net".into()],
                    addresses: Vec::new(),
                };
                self.meshes.insert(mesh.id.clone(), state.clone());
                vec![told(ContainerChange::Joined(state))]
            }
            MeshOperation::Leave { id } => {
                self.meshes.remove(id);
                vec![told(ContainerChange::Left(id.clone()))]
            }
        }
    }
}

fn stopped(id: EcoString) -> ContainerState {
    ContainerState {
        id,
        ours: None,
        running: false,
        ended: None,
        settings: BTreeMap::new(),
        outdated: std::collections::BTreeSet::new(),
        firstboot: None,
    }
}

fn told(change: ContainerChange) -> Observation {
    observed(NamespaceId::Host, Change::Container(change))
}
