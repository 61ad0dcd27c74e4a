//! What the reconciler tells about rows: their state, what is in use, what happened.

use ecow::{EcoString, eco_format};
use ipnet::IpNet;

use crate::mirror::{Link, Mirror, Namespace, Stage};
use crate::name::Mac;
use crate::object::wireguard::WireguardState;
use crate::object::{Object, ObjectKey, OvsBridge, OvsPort, Owner, Port, PortKind, Role, Wanted};
use crate::status::rfc3339;
use crate::want::{Resolution, Want};

/// A row's state, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The kernel has what the row wants; it was read back.
    Converged,
    /// Work is under way.
    Pending,
    /// The kernel differs from what was applied, and healing is off.
    Drifted,
    /// Something that the row needs does not exist yet.
    Waiting,
    /// The kernel refused; it is tried again.
    Failed,
    /// Somebody else's object is in the way, or somebody else keeps changing it.
    Conflict,
}

/// What a row's object is in the kernel, for people to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The index of the link on the host.
    pub ifindex: Option<u32>,
    /// The hardware address in use (of a veth: that of the inner end).
    pub mac: Option<Mac>,
    /// The addresses in use (of a veth: those of the inner end).
    pub addresses: Vec<IpNet>,
    /// Whether packets can pass. `None`: there is no link.
    pub up: Option<bool>,
    /// More about it, as pairs for the row's `status`.
    pub notes: Notes,
    /// About each of its peers, by key: pairs for that one's `status`.
    pub peers: Vec<(EcoString, Notes)>,
}

/// Pairs for a row's `status`.
pub type Notes = Vec<(EcoString, EcoString)>;

/// A row's state, sent when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The row.
    pub owner: Owner,
    /// Its state.
    pub state: State,
    /// The commit sequence of the newest change of the row that this is about.
    pub cfg: u64,
    /// Attempts that failed since the row changed or last worked.
    pub attempts: u32,
    /// What is wrong, in words.
    pub error: Option<EcoString>,
    /// What is in the kernel.
    pub facts: Facts,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A row's change is in the kernel.
    Applied,
    /// The kernel refused a row's change.
    Failed,
    /// Somebody else changed what was applied.
    Drift,
    /// What somebody else changed is as wanted again.
    Healed,
    /// What a former run of the server made was found as wanted.
    Adopted,
    /// What a former run of the server made and nobody wants is gone.
    Collected,
    /// What had been adopted is left to itself again.
    Released,
    /// What had changed since a checkpoint was taken back.
    RolledBack,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// To which object.
    pub object: ObjectKey,
    /// For which row, where known.
    pub owner: Option<Owner>,
    /// Milliseconds since the row changed or the difference was seen.
    pub ms: u64,
    /// Details, in words.
    pub text: EcoString,
}

impl State {
    /// The word that stands in the rows' `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Pending => "pending",
            Self::Drifted => "drifted",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Conflict => "conflict",
        }
    }
}

impl State {
    /// The state of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [
            Self::Converged,
            Self::Pending,
            Self::Drifted,
            Self::Waiting,
            Self::Failed,
            Self::Conflict,
        ];
        all.into_iter().find(|state| state.as_str() == word)
    }
}

impl EventKind {
    /// The word that stands in the events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::Drift => "drift",
            Self::Healed => "healed",
            Self::Adopted => "adopted",
            Self::Collected => "collected",
            Self::Released => "released",
            Self::RolledBack => "rolled_back",
        }
    }
}

impl Facts {
    /// What the kernel has of a wanted object.
    pub fn of(wanted: &Wanted, want: &Want, have: &Mirror) -> Self {
        let Some(host) = have.host() else {
            return Self::default();
        };
        match &wanted.object {
            Object::Bridge(bridge) => host.link(&bridge.name).map(|link| Self::of_link(link, link, host)),
            Object::Port(port) => Self::of_port(port, want, have, host),
            Object::Addresses(on) => host.link(&on.link).map(|link| {
                let mut facts = Self::of_link(link, link, host);
                facts.addresses.retain(|address| on.addresses.contains(address));
                facts
            }),
            Object::Container(container) => Some(Self::of_container(&container.id, have)),
            Object::Mesh(mesh) => Some(Self::of_mesh(&mesh.id, have)),
            Object::OvsBridge(OvsBridge { name, .. }) | Object::OvsPort(OvsPort { name, .. }) => {
                let link = host.link(name).filter(|_| have.ovs().link_mark(name).is_some());
                let facts = link.map(|link| Self::of_link(link, link, host));
                match &wanted.object {
                    Object::OvsPort(port) if !port.is_internal() => facts.map(Self::without_notes),
                    _ => facts,
                }
            }
            Object::Wireguard(wireguard) => have.wireguard(&wireguard.port).map(Self::of_wireguard),
            Object::Routes(_)
            | Object::Dhcp(_)
            | Object::Firewall(_)
            | Object::NameServer(_)
            | Object::ResolvConf(_)
            | Object::Traffic(_) => None,
        }
        .unwrap_or_default()
    }

    fn of_port(port: &Port, want: &Want, have: &Mirror, host: &Namespace) -> Option<Self> {
        let inside = match want.resolution(&port.netns) {
            Resolution::Present(id) => have.namespace(id),
            Resolution::Unknown | Resolution::Absent(_) => None,
        };
        if let PortKind::Single(_) = port.kind {
            let link = inside?.link(&port.ifname)?;
            let mut facts = Self::of_link(link, link, inside?);
            let ends = inside?.floods(link.index).filter(|end| port.ends.contains(end));
            facts.peers = ends.map(|end| (eco_format!("{end}"), Notes::new())).collect();
            return Some(facts).filter(|_| want.mark().is_ours(link.group));
        }
        if let PortKind::Adopted(_) = port.kind {
            let link = host.link(&port.name).filter(|link| want.mark().taken(link).is_some())?;
            let facts = Self::of_link(link, link, host);
            // An uplink or a member is not what its row is about.
            let is_port = port.kind == PortKind::Adopted(Role::Port);
            return Some(if is_port { facts } else { facts.without_notes() });
        }
        let outer = host.link(&port.name).filter(|link| want.mark().is_ours(link.group))?;
        Some(
            match inside.and_then(|inside| Some((inside, inside.link_at(outer.peer?)?))) {
                Some((inside, inner)) => Self::of_link(outer, inner, inside),
                None => Self {
                    ifindex: Some(outer.index),
                    up: Some(false),
                    ..Self::default()
                },
            },
        )
    }

    fn without_notes(self) -> Self {
        Self {
            notes: Vec::new(),
            ..self
        }
    }

    fn of_container(id: &str, have: &Mirror) -> Self {
        let mut notes: Vec<(EcoString, EcoString)> = Vec::new();
        let state = have.containers().get(id);
        let word = match state {
            Some(state) if state.running => "running",
            Some(_) => "stopped",
            None => "absent",
        };
        notes.push(("container".into(), word.into()));
        if let Some(state) = state {
            if state.ours.is_some_and(|ours| ours.stage == Stage::Adopted) {
                notes.push(("adopted".into(), "true".into()));
            }
            if !state.outdated.is_empty() {
                let names: Vec<&str> = state.outdated.iter().map(EcoString::as_str).collect();
                notes.push(("restart".into(), names.join(",").into()));
            }
            notes.extend(state.firstboot.clone().map(|words| ("firstboot".into(), words)));
        }
        Self {
            notes,
            ..Self::default()
        }
    }

    fn of_mesh(id: &str, have: &Mirror) -> Self {
        let word = |joined| ("mesh".into(), EcoString::from(if joined { "joined" } else { "absent" }));
        let notes = match have.containers().mesh(id) {
            Some(state) => vec![
                word(true),
                ("mesh_networks".into(), state.networks.join(",").into()),
                ("mesh_ip".into(), state.addresses.join(",").into()),
            ],
            None => vec![word(false)],
        };
        Self {
            notes,
            ..Self::default()
        }
    }

    fn of_wireguard(state: &WireguardState) -> Self {
        let key = state.public_key.map(|key| ("public_key".into(), eco_format!("{key}")));
        let port = state
            .settings
            .listen_port
            .map(|port| ("listen_port".into(), eco_format!("{port}")));
        let peers = state.traffic.iter().map(|(key, traffic)| {
            let moment = match traffic.handshake {
                0 => "never".into(),
                seconds => rfc3339(seconds.saturating_mul(1_000)),
            };
            let mut notes: Notes = vec![
                ("latest_handshake".into(), moment),
                ("received".into(), eco_format!("{}", traffic.received)),
                ("sent".into(), eco_format!("{}", traffic.sent)),
            ];
            notes.extend(
                traffic
                    .endpoint
                    .map(|endpoint| ("endpoint".into(), eco_format!("{endpoint}"))),
            );
            (eco_format!("{key}"), notes)
        });
        Self {
            notes: key.into_iter().chain(port).collect(),
            peers: peers.collect(),
            ..Self::default()
        }
    }

    fn of_link(outer: &Link, inner: &Link, inside: &Namespace) -> Self {
        Self {
            ifindex: Some(outer.index),
            mac: inner.mac,
            addresses: inside
                .addresses(inner.index)
                .map(|a| a.address)
                .filter(|a| !is_link_local(a))
                .collect(),
            up: Some(outer.up && outer.carrier && inner.up && inner.carrier),
            notes: vec![("mtu".into(), eco_format!("{}", inner.mtu))],
            peers: Vec::new(),
        }
    }
}

fn is_link_local(address: &IpNet) -> bool {
    matches!(address, IpNet::V6(six) if six.addr().is_unicast_link_local())
}
