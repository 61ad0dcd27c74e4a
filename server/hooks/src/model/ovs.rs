//! Open vSwitch in memory: bridges, ports, and the links that it makes for them.

use std::collections::BTreeMap;

use ecow::eco_format;

use super::{EEXIST, ENODEV, Model, observed, refusal};
use crate::mirror::{Change, Link, NamespaceId, Observation, OvsBridgeRow, OvsChange, OvsPortRow, OvsProgress};
use crate::name::LinkName;
use crate::object::{OvsBridge, OvsGuard, OvsOperation, OvsPort};
use crate::plan::Refusal;

#[derive(Clone, Debug, Default)]
pub(super) struct Switch {
    bridges: BTreeMap<LinkName, OvsBridgeRow>,
    ports: BTreeMap<LinkName, OvsPortRow>,
}

impl Model {
    /// All that Open vSwitch has.
    pub fn dump_ovs(&self) -> OvsChange {
        let ports = self.switch.ports.values().map(|row| OvsPortRow {
            progress: self.progress(&row.port),
            ..row.clone()
        });
        OvsChange::Replaced {
            bridges: self.switch.bridges.values().cloned().collect(),
            ports: ports.collect(),
        }
    }

    /// Makes a bridge of somebody else's in Open vSwitch.
    pub fn add_foreign_ovs_bridge(&mut self, bridge: OvsBridge) {
        let _ = self.ovs(&OvsOperation::BridgeSet {
            bridge,
            mark: crate::object::OvsMark::default(),
            was: None,
        });
    }

    pub(super) fn ovs(&mut self, operation: &OvsOperation) -> Result<Vec<Observation>, Refusal> {
        let mut seen = Vec::new();
        match operation {
            OvsOperation::BridgeSet { bridge, mark, .. } => {
                let row = OvsBridgeRow {
                    bridge: OvsBridge {
                        ipv6: false,
                        ..bridge.clone()
                    },
                    mark: mark.clone(),
                    progress: OvsProgress::default(),
                };
                let is_new = self.switch.bridges.insert(bridge.name.clone(), row).is_none();
                if is_new && self.switch.ports.contains_key(&bridge.name) {
                    self.switch.bridges.remove(&bridge.name);
                    return Err(refusal(EEXIST, "constraint violation"));
                }
                self.make_link(&bridge.name, is_new, &mut seen);
            }
            OvsOperation::BridgeDel { name } => {
                self.switch.bridges.remove(name);
                let on_it = self.switch.ports.extract_if(.., |_, row| row.port.bridge == *name);
                let gone: Vec<LinkName> = on_it
                    .filter(|(_, row)| row.port.is_internal())
                    .map(|(name, _)| name)
                    .collect();
                for name in gone.iter().chain([name]) {
                    seen.extend(self.delete_by_name(NamespaceId::Host, name));
                }
            }
            OvsOperation::PortSet { port, mark, .. } => {
                if !self.switch.bridges.contains_key(&port.bridge) {
                    return Err(refusal(ENODEV, "no such bridge"));
                }
                let was = self.switch.ports.get(&port.name);
                let guard = was
                    .filter(|was| was.port.bridge == port.bridge)
                    .and_then(|was| was.guard);
                let row = OvsPortRow {
                    guard,
                    port: OvsPort {
                        ipv6: false,
                        guard: None,
                        ..port.clone()
                    },
                    is_foreign_shape: false,
                    foreign_qos: None,
                    mark: mark.clone(),
                    progress: OvsProgress::default(),
                };
                let is_new = self.switch.ports.insert(port.name.clone(), row).is_none();
                if port.is_internal() {
                    self.make_link(&port.name, is_new, &mut seen);
                }
            }
            OvsOperation::GuardSet { name, set, .. } => {
                let port = self.switch.ports.get_mut(name);
                let port = port.ok_or_else(|| refusal(ENODEV, "no such port"))?;
                port.guard = set.as_ref().map(OvsGuard::trace);
            }
            OvsOperation::PortDel { name } => {
                let row = self.switch.ports.remove(name);
                if row.is_some_and(|row| row.port.is_internal()) {
                    seen.extend(self.delete_by_name(NamespaceId::Host, name));
                }
            }
        }
        seen.push(observed(NamespaceId::Host, Change::Ovs(self.dump_ovs())));
        Ok(seen)
    }

    fn make_link(&mut self, name: &LinkName, is_new: bool, seen: &mut Vec<Observation>) {
        let link = Link {
            name: name.as_str().into(),
            kind: "tun".into(),
            mtu: 1500,
            ..Link::default()
        };
        if is_new {
            seen.extend(self.insert(NamespaceId::Host, link).map(|(_, seen)| seen));
        }
    }

    fn progress(&self, port: &OvsPort) -> OvsProgress {
        let links = self.namespaces.get(&NamespaceId::Host).map(|space| &space.links);
        let is_there = links.is_some_and(|links| links.values().any(|link| link.name == port.name.as_str()));
        let error = eco_format!("could not open network device {} (No such device)", port.name);
        OvsProgress {
            pending: None,
            error: (port.interface.is_empty() && !is_there).then_some(error),
        }
    }
}
