//! LXC containers and their membership in a mesh network, as rows want them.

use std::collections::BTreeMap;
use std::fmt;

use ecow::EcoString;

use super::NetnsRef;
use crate::mirror::{NamespaceId, Ownership};
use crate::name::LinkName;

/// A container that nonnet makes, starts, stops and destroys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id, which is its LXC name.
    pub id: EcoString,
    /// What it is made from; `None`: it must be there already.
    pub source: Option<Source>,
    /// What counts when it is made and never changes: `storage`, `rootfs_size` (GiB), `unprivileged`, by property.
    pub creation: BTreeMap<EcoString, EcoString>,
    /// What its configuration says: `hostname`, `memory` (MiB), `cores` ..., by property.
    pub settings: BTreeMap<EcoString, EcoString>,
    /// A program of this host that runs inside once, after the first start.
    pub firstboot: Option<EcoString>,
    /// Whether it is to run.
    pub running: bool,
    /// What happens when it stops by itself, or by somebody else's hand.
    pub restart: Restart,
}

/// What a container is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A template: `busybox`, `download:debian/bookworm/amd64`, a root file system's archive, or Proxmox's `STORAGE:vztmpl/FILE`.
    Template(EcoString),
    /// A copy of another container, by its name, or of a directory, by its path.
    Golden(EcoString),
}

/// When a container that stopped is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always, ever more slowly.
    #[default]
    Always,
    /// When its first process ended by a signal or with an error.
    OnFailure,
    /// Never.
    No,
}

/// A container's membership in a Netmaker network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// The container's id.
    pub id: EcoString,
    /// Its namespace.
    pub netns: NetnsRef,
    /// The variable that holds the token.
    pub token: EcoString,
    /// The link by which the network's server is reached: it stays until the network is left.
    pub link: Option<LinkName>,
    /// Whether the container is not to run, so that nothing is done about the membership.
    pub rests: bool,
}

/// One change of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerOperation {
    /// Make it, with this mark, which is there before it.
    Create(Box<Container>, Ownership),
    /// Take over one that somebody else made: it is started and stopped, and never destroyed.
    Adopt(EcoString, Ownership),
    /// Write its settings, and give those to the running container that it can take.
    Configure(Box<Container>),
    /// Start it.
    Start(Box<Container>),
    /// Stop it: ask it to, then force it.
    Stop(EcoString),
    /// Destroy it and all that it holds; it is stopped first.
    Destroy(EcoString),
    /// Give back one that was taken over: it stays as it is.
    Release(EcoString),
}

/// One change of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeshOperation {
    /// Join the network that the token stands for.
    Join {
        /// The membership.
        mesh: Mesh,
        /// Where the container's namespace is.
        namespace: NamespaceId,
    },
    /// Leave all networks.
    Leave {
        /// The container's id.
        id: EcoString,
    },
}

impl Source {
    /// The property that says so.
    pub fn property(&self) -> (&'static str, &EcoString) {
        match self {
            Self::Template(template) => ("template", template),
            Self::Golden(golden) => ("golden_image", golden),
        }
    }
}

impl Restart {
    /// The word that stands in `properties:restart`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::No => "no",
        }
    }

    /// The policy of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Always, Self::OnFailure, Self::No]
            .into_iter()
            .find(|policy| policy.as_str() == word)
    }
}

impl ContainerOperation {
    /// The container's id.
    pub fn id(&self) -> &EcoString {
        match self {
            Self::Create(container, _) | Self::Configure(container) | Self::Start(container) => &container.id,
            Self::Adopt(id, _) | Self::Stop(id) | Self::Destroy(id) | Self::Release(id) => id,
        }
    }

    /// The operation that takes this one back, where there is one: what a destroyed container held is gone for good.
    pub fn inverse(&self) -> Option<Self> {
        Some(match self {
            Self::Create(container, _) => Self::Destroy(container.id.clone()),
            Self::Adopt(id, _) => Self::Release(id.clone()),
            Self::Start(container) => Self::Stop(container.id.clone()),
            Self::Configure(_) | Self::Stop(_) | Self::Destroy(_) | Self::Release(_) => return None,
        })
    }
}

impl MeshOperation {
    /// The container's id.
    pub fn id(&self) -> &EcoString {
        match self {
            Self::Join { mesh, .. } => &mesh.id,
            Self::Leave { id } => id,
        }
    }
}

impl fmt::Display for ContainerOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(container, _) => {
                write!(f, "create container {}", container.id)?;
                if let Some(source) = &container.source {
                    let (property, value) = source.property();
                    write!(f, " {property} {value}")?;
                }
                for (property, value) in &container.creation {
                    write!(f, " {property} {value}")?;
                }
                Ok(())
            }
            Self::Adopt(id, _) => write!(f, "take over container {id}"),
            Self::Configure(container) => {
                write!(f, "configure container {}", container.id)?;
                for (property, value) in &container.settings {
                    write!(f, " {property} {value}")?;
                }
                Ok(())
            }
            Self::Start(container) => write!(f, "start container {}", container.id),
            Self::Stop(id) => write!(f, "stop container {id}"),
            Self::Destroy(id) => write!(f, "destroy container {id}"),
            Self::Release(id) => write!(f, "give back container {id}"),
        }
    }
}

impl fmt::Display for MeshOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join { mesh, .. } => write!(f, "join container {} to the network of {}", mesh.id, mesh.token),
            Self::Leave { id } => write!(f, "take container {id} out of its network"),
        }
    }
}
