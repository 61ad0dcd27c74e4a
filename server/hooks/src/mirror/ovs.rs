//! What the database of Open vSwitch has: bridges and ports, whose they are, and what `ovs-vswitchd` made of them.

use std::collections::{BTreeMap, BTreeSet};

use ecow::EcoString;

use super::{NamespaceId, Touched};
use crate::name::LinkName;
use crate::object::{OvsBridge, OvsGuardTrace, OvsMark, OvsPort};

/// What `ovs-vswitchd` made of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OvsProgress {
    /// Why it has not taken the newest change of the row in; `None`: it has (`cur_cfg`).
    pub pending: Option<EcoString>,
    /// Its own words about what went wrong (`Interface.error`), or ours where it only says that something did (`ofport`).
    pub error: Option<EcoString>,
}

/// A bridge that Open vSwitch has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvsBridgeRow {
    /// Its settings. What the kernel knows about the local port is not among them: `ipv6` is false.
    pub bridge: OvsBridge,
    /// Whose it is.
    pub mark: OvsMark,
    /// What became of it.
    pub progress: OvsProgress,
}

/// A port that Open vSwitch has; the local ports of bridges are not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvsPortRow {
    /// Its settings, with `ipv6` false and without a guard.
    pub port: OvsPort,
    /// What its flows are.
    pub guard: Option<OvsGuardTrace>,
    /// Whether it is made otherwise than nonnet makes ports: several interfaces, another VLAN mode.
    pub is_foreign_shape: bool,
    /// The type of the quality of service that somebody else gave it.
    pub foreign_qos: Option<EcoString>,
    /// Whose it is.
    pub mark: OvsMark,
    /// What became of it.
    pub progress: OvsProgress,
}

/// One change of what is known about Open vSwitch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OvsChange {
    /// There is no database to talk to, for this reason.
    Absent(EcoString),
    /// The database was read: this is all there is.
    Replaced {
        /// Every bridge.
        bridges: Vec<OvsBridgeRow>,
        /// Every port but the local ones.
        ports: Vec<OvsPortRow>,
    },
    /// A bridge is new or changed.
    BridgeSet(OvsBridgeRow),
    /// The bridge of this name is gone.
    BridgeGone(LinkName),
    /// A port is new or changed.
    PortSet(OvsPortRow),
    /// The port of this name is gone.
    PortGone(LinkName),
}

/// What is known about Open vSwitch.
#[derive(Clone, Debug, Default)]
pub struct Ovs {
    /// Why its database cannot be talked to; `None`: it can.
    absent: Option<EcoString>,
    is_read: bool,
    bridges: BTreeMap<LinkName, OvsBridgeRow>,
    ports: BTreeMap<LinkName, OvsPortRow>,
    /// The index of the host's link that a port got when it came.
    devices: BTreeMap<LinkName, u32>,
}

impl Ovs {
    /// Why nothing can be said about it: nobody has looked yet (`Ok`), or its database is not there (`Err`). `None`: it is known.
    pub fn obstacle(&self) -> Option<Result<(), &EcoString>> {
        match &self.absent {
            Some(reason) => Some(Err(reason)),
            None => (!self.is_read).then_some(Ok(())),
        }
    }

    /// The bridge of this name.
    pub fn bridge(&self, name: &LinkName) -> Option<&OvsBridgeRow> {
        self.bridges.get(name)
    }

    /// The port of this name.
    pub fn port(&self, name: &LinkName) -> Option<&OvsPortRow> {
        self.ports.get(name)
    }

    /// All bridges.
    pub fn bridges(&self) -> impl Iterator<Item = &OvsBridgeRow> {
        self.bridges.values()
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = &OvsPortRow> {
        self.ports.values()
    }

    /// Whose the link of this name on the host is, where Open vSwitch makes it: the local port of a bridge, or an internal port.
    pub fn link_mark(&self, name: &LinkName) -> Option<&OvsMark> {
        let port = self.ports.get(name).filter(|row| row.port.is_internal());
        let bridge = self.bridges.get(name).map(|row| &row.mark);
        bridge.or(port.map(|row| &row.mark))
    }

    /// Whether the link of this name on the host, of that index, is another than the one that the port of that name got. `ovs-vswitchd` opens a
    /// device when its port comes; one that is deleted and made again at once leaves it with the one that is gone.
    pub fn has_other_device(&self, name: &LinkName, index: u32) -> bool {
        self.devices.get(name).is_some_and(|device| *device != index)
    }

    /// Notes which link of the host a port gets.
    pub(super) fn note_device(&mut self, name: &LinkName, link: Option<u32>) {
        match (self.ports.contains_key(name), link) {
            (false, _) => {
                self.devices.remove(name);
            }
            (true, Some(index)) => {
                self.devices.entry(name.clone()).or_insert(index);
            }
            (true, None) => {}
        }
    }

    pub(super) fn apply(&mut self, change: OvsChange, touched: &mut Touched) {
        match change {
            OvsChange::Absent(reason) => {
                self.touch_all(touched);
                *self = Self {
                    absent: Some(reason),
                    ..Self::default()
                };
                touched.is_ovs = true;
            }
            OvsChange::Replaced { bridges, ports } => self.replace(bridges, ports, touched),
            OvsChange::BridgeSet(row) => self.set_bridge(row, touched),
            OvsChange::BridgeGone(name) => {
                if self.bridges.remove(&name).is_some() {
                    touched.existence(NamespaceId::Host, name);
                }
            }
            OvsChange::PortSet(row) => self.set_port(row, touched),
            OvsChange::PortGone(name) => {
                if self.ports.remove(&name).is_some() {
                    touched.existence(NamespaceId::Host, name);
                }
            }
        }
    }

    fn replace(&mut self, bridges: Vec<OvsBridgeRow>, ports: Vec<OvsPortRow>, touched: &mut Touched) {
        touched.is_ovs = !self.is_read;
        (self.absent, self.is_read) = (None, true);
        let there: BTreeSet<LinkName> = bridges.iter().map(|row| row.bridge.name.clone()).collect();
        let gone = self.bridges.extract_if(.., |name, _| !there.contains(name));
        gone.for_each(|(name, _)| touched.existence(NamespaceId::Host, name));
        let there: BTreeSet<LinkName> = ports.iter().map(|row| row.port.name.clone()).collect();
        let gone = self.ports.extract_if(.., |name, _| !there.contains(name));
        gone.for_each(|(name, _)| touched.existence(NamespaceId::Host, name));
        for row in bridges {
            self.set_bridge(row, touched);
        }
        for row in ports {
            self.set_port(row, touched);
        }
    }

    fn set_bridge(&mut self, row: OvsBridgeRow, touched: &mut Touched) {
        let name = row.bridge.name.clone();
        match self.bridges.insert(name.clone(), row) {
            Some(old) if Some(&old) == self.bridges.get(&name) => {}
            // Who depends on a bridge waits for what becomes of it, not only for its being there.
            Some(_) | None => touched.existence(NamespaceId::Host, name),
        }
    }

    fn set_port(&mut self, row: OvsPortRow, touched: &mut Touched) {
        let name = row.port.name.clone();
        match self.ports.insert(name.clone(), row) {
            Some(old) if Some(&old) == self.ports.get(&name) => {}
            Some(_) | None => touched.existence(NamespaceId::Host, name),
        }
    }

    fn touch_all(&self, touched: &mut Touched) {
        for name in self.bridges.keys().chain(self.ports.keys()) {
            touched.existence(NamespaceId::Host, name.clone());
        }
    }
}
