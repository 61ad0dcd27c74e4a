//! The comparison of containers and of their memberships in networks: the one next thing to do, since each takes long.
//!
//! A container of somebody else's is taken over only by a row that wants it made or managed, and never destroyed. What a row made goes with the row, after
//! it has left its network, and the link by which it leaves goes last.

use std::collections::BTreeSet;

use ecow::eco_format;

use super::{For, Planner, Verdict};
use crate::mirror::{ContainerState, Ended, Mirror, Ownership, Stage};
use crate::name::LinkName;
use crate::object::container::{Container, ContainerOperation, Mesh, MeshOperation, Restart};
use crate::object::{ObjectKey, Owner};
use crate::plan::{Operation, Phase};
use crate::want::{Resolution, Want};

/// The keys of containers that carry our mark, and of memberships, that are not wanted.
pub(super) fn collectable(want: &Want, have: &Mirror) -> BTreeSet<ObjectKey> {
    let containers = have.containers();
    let ours = containers.all().filter(|state| is_ours(want, state).is_some());
    let ours = ours.map(|state| ObjectKey::Container(state.id.clone()));
    let meshes = containers.meshes().map(|state| ObjectKey::Mesh(state.mesh.id.clone()));
    ours.chain(meshes).filter(|key| want.get(key).is_none()).collect()
}

/// The mark of a container of this database's.
fn is_ours(want: &Want, state: &ContainerState) -> Option<Ownership> {
    state.ours.filter(|ours| want.mark().is_ours(ours.group))
}

impl Planner<'_> {
    pub(super) fn container(&mut self, of: For<'_>, owner: &Owner, container: &Container) -> Result<(), Verdict> {
        let containers = self.have.containers();
        if !containers.is_known() {
            return Err(Verdict::Unread("containers are being looked for".into()));
        }
        let next = match containers.get(&container.id) {
            Some(state) => self.next(owner, container, state)?,
            None if container.source.is_some() => {
                let mark = self.ownership(owner, Stage::Created);
                Some(ContainerOperation::Create(Box::new(container.clone()), mark))
            }
            None => {
                return Err(Verdict::Waiting(eco_format!(
                    "container {} does not exist; one is made only from a properties:template or golden_image",
                    container.id
                )));
            }
        };
        if let Some(operation) = next {
            self.step(of, Phase::Container, &[], Operation::Container(operation));
        }
        Ok(())
    }

    fn ownership(&self, owner: &Owner, stage: Stage) -> Ownership {
        Ownership {
            group: self.want.mark().group,
            uuid: owner.uuid,
            stage,
        }
    }

    /// The next thing to do with a container that is there.
    fn next(
        &self,
        owner: &Owner,
        container: &Container,
        state: &ContainerState,
    ) -> Result<Option<ContainerOperation>, Verdict> {
        let id = container.id.clone();
        let adopted = self.ownership(owner, Stage::Adopted);
        let ours = match (is_ours(self.want, state), state.ours) {
            (Some(ours), _) => ours,
            (None, Some(_)) => {
                return Err(Verdict::Conflict(eco_format!(
                    "container {id} carries the mark of another database of nonnet's"
                )));
            }
            (None, None) => return Ok(Some(ContainerOperation::Adopt(id, adopted))),
        };
        let other_row = ours.uuid != owner.uuid;
        match ours.stage {
            Stage::Adopted if other_row => return Ok(Some(ContainerOperation::Adopt(id, adopted))),
            Stage::Creating => return Ok(Some(ContainerOperation::Destroy(id))),
            // Another row had this id before: what it made is not what this one wants.
            Stage::Created if other_row => return Ok(Some(ContainerOperation::Destroy(id))),
            Stage::Created if state.settings != container.settings => {
                return Ok(Some(ContainerOperation::Configure(Box::new(container.clone()))));
            }
            Stage::Created | Stage::Adopted => {}
        }
        match (container.running, state.running) {
            (true, false) => {
                if let Some(ended) = &state.ended {
                    check_restart(container, ended)?;
                }
                Ok(Some(ContainerOperation::Start(Box::new(container.clone()))))
            }
            (true, true) if container.firstboot.is_some() && state.firstboot.is_none() => {
                Ok(Some(ContainerOperation::Start(Box::new(container.clone()))))
            }
            // One that ended by itself is stopped once more, so that its end is forgotten when it is wanted again.
            (false, running) if running || state.ended.is_some() => Ok(Some(ContainerOperation::Stop(id))),
            _ => Ok(None),
        }
    }

    pub(super) fn mesh(&mut self, of: For<'_>, mesh: &Mesh) -> Result<(), Verdict> {
        if mesh.rests {
            return Ok(());
        }
        let namespace = match self.want.resolution(&mesh.netns) {
            Resolution::Present(namespace) => namespace,
            Resolution::Unknown => return Err(Verdict::Unread(eco_format!("{} is being looked for", mesh.netns))),
            Resolution::Absent(reason) => return Err(Verdict::Waiting(reason)),
        };
        let operation = match self.have.containers().mesh(&mesh.id) {
            Some(have)
                if have.namespace == namespace && (&have.mesh.token, &have.mesh.link) == (&mesh.token, &mesh.link) =>
            {
                return Ok(());
            }
            // It is in a network by another token: that one is left first.
            Some(have) if have.namespace == namespace && have.mesh.token != mesh.token => {
                MeshOperation::Leave { id: mesh.id.clone() }
            }
            _ => MeshOperation::Join {
                mesh: mesh.clone(),
                namespace,
            },
        };
        self.step(of, Phase::Container, &[], Operation::Mesh(operation));
        Ok(())
    }

    /// Leaves the network of a container that nobody wants there, then stops and destroys the container if it carries our mark.
    pub(super) fn collect_container(&mut self, key: &ObjectKey) -> Result<(), Verdict> {
        let containers = self.have.containers();
        let operation = match key {
            ObjectKey::Mesh(id) if containers.mesh(id).is_some() => {
                Operation::Mesh(MeshOperation::Leave { id: id.clone() })
            }
            ObjectKey::Container(id) => {
                let Some(state) = containers.get(id) else { return Ok(()) };
                let Some(ours) = is_ours(self.want, state) else {
                    return Ok(());
                };
                if containers.mesh(id).is_some() {
                    return Err(Verdict::Waiting(eco_format!(
                        "container {id} has to leave its network first"
                    )));
                }
                Operation::Container(match ours.stage {
                    Stage::Adopted => ContainerOperation::Release(id.clone()),
                    Stage::Creating | Stage::Created => ContainerOperation::Destroy(id.clone()),
                })
            }
            _ => return Ok(()),
        };
        self.step(For { key, owner: None }, Phase::Container, &[], operation);
        Ok(())
    }

    /// A link stays as long as a container needs it to leave its network.
    pub(super) fn check_not_needed(&self, link: &LinkName) -> Result<(), Verdict> {
        let needs = self.have.containers().needs_link(link);
        // A membership that is wanted still lasts; its port was given up on purpose.
        let leaving = needs.filter(|id| self.want.get(&ObjectKey::Mesh((*id).clone())).is_none());
        match leaving {
            Some(id) => Err(Verdict::Waiting(eco_format!(
                "container {id} leaves its network through {link} first"
            ))),
            None => Ok(()),
        }
    }
}

/// Whether a container that stopped is to be started again now.
fn check_restart(container: &Container, ended: &Ended) -> Result<(), Verdict> {
    let (id, words) = (&container.id, &ended.words);
    let stays = match container.restart {
        Restart::Always => false,
        Restart::OnFailure => !ended.by_error,
        Restart::No => true,
    };
    if stays {
        let policy = container.restart.as_str();
        return Err(Verdict::Waiting(eco_format!(
            "container {id} stopped: {words}; properties:restart is \"{policy}\""
        )));
    }
    if !ended.rested {
        return Err(Verdict::Waiting(eco_format!(
            "container {id} stopped: {words}; it is started again after a rest"
        )));
    }
    Ok(())
}
