//! The comparison of what rows want of Open vSwitch with what its database has, and with the links it makes on the host.
//!
//! A row there is changed only where it carries our mark. What `ovs-vswitchd` says went wrong is the verdict: it takes changes in though they
//! do not work.

use ecow::eco_format;

use super::{End, For, Planner, Verdict, reference};
use crate::mirror::{Link, Namespace, NamespaceId, OvsBridgeRow, OvsPortRow, OvsProgress};
use crate::name::LinkName;
use crate::object::{Object, ObjectKey, OvsBridge, OvsGuard, OvsMark, OvsOperation, OvsPort, Owner, QUEUE_LEFT};
use crate::plan::{LinkChange, Operation, Phase};

/// The kinds of the links that Open vSwitch makes, in user space and in the kernel.
const OVS_LINK_KINDS: [&str; 2] = ["tun", "openvswitch"];

impl<'a> Planner<'a> {
    pub(super) fn ovs_bridge(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        bridge: &OvsBridge,
        host: &'a Namespace,
    ) -> Result<(), Verdict> {
        self.ovs_known()?;
        let name = &bridge.name;
        let Some(row) = self.have.ovs().bridge(name) else {
            if self.have.ovs().port(name).is_some() {
                return Err(Verdict::Conflict(eco_format!(
                    "the name {name} is taken by a port of Open vSwitch"
                )));
            }
            let needs = match host.link(name) {
                Some(link) if self.want.mark().is_ours(link.group) => vec![self.delete(of, NamespaceId::Host, link)],
                _ => vec![],
            };
            if needs.is_empty() {
                check_free(name, host)?;
            }
            let operation = self.bridge_set(bridge, owner, None);
            self.ovs_step(of, &needs, operation);
            return Ok(());
        };
        if !self.is_our_row(&row.mark) {
            return Err(Verdict::Conflict(eco_format!(
                "Open vSwitch has a bridge named {name} that is not nonnet's"
            )));
        }
        let wanted = OvsBridge {
            ipv6: false,
            ..bridge.clone()
        };
        if row.bridge != wanted || row.mark.owner.as_ref() != Some(owner) {
            let operation = self.bridge_set(bridge, owner, Some(row.bridge.clone()));
            self.ovs_step(of, &[], operation);
        } else {
            check_progress(&row.progress)?;
        }
        self.ovs_link(of, name, bridge.ipv6, host)
    }

    pub(super) fn ovs_port(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        port: &OvsPort,
        host: &'a Namespace,
    ) -> Result<(), Verdict> {
        self.ovs_known()?;
        let name = &port.name;
        let row = self.have.ovs().port(name);
        let is_bridge = self.have.ovs().bridge(name).is_some();
        if is_bridge || row.is_some_and(|row| !self.is_our_row(&row.mark)) {
            return Err(Verdict::Conflict(eco_format!(
                "Open vSwitch has a port named {name} that is not nonnet's"
            )));
        }
        if row.is_some() && self.has_lost_device(port, host) {
            // In user space the switch holds on to the link that is gone, and does not see that another one has its name.
            self.ovs_step(of, &[], OvsOperation::PortDel { name: name.clone() });
            return Ok(());
        }
        let mut needs = self.ovs_bridge_of(port)?;
        needs.extend(self.ovs_device(port, host)?);
        let mut wanted = OvsPort {
            ipv6: false,
            guard: None,
            ..port.clone()
        };
        if let Some(qos) = row.and_then(|row| row.foreign_qos.as_ref()) {
            if wanted.leaves_queue && qos != QUEUE_LEFT {
                let why = eco_format!("port {name} of Open vSwitch has a QoS of type {qos} that is not nonnet's");
                return Err(Verdict::Conflict(why));
            }
            // What somebody else gave the port stays.
            wanted.leaves_queue = false;
        }
        let same =
            |row: &&OvsPortRow| row.port == wanted && !row.is_foreign_shape && row.mark.owner.as_ref() == Some(owner);
        if let Some(row) = row.filter(same) {
            check_progress(&row.progress)?;
            if row.guard != port.guard.as_ref().map(OvsGuard::trace) {
                let operation = OvsOperation::GuardSet {
                    name: name.clone(),
                    set: port.guard.clone(),
                    was: row.guard,
                };
                self.ovs_step(of, &needs, operation);
            }
        } else {
            if row.is_none() && port.is_internal() {
                check_free(name, host)?;
            }
            let operation = OvsOperation::PortSet {
                port: OvsPort {
                    leaves_queue: wanted.leaves_queue,
                    ..port.clone()
                },
                mark: self.ovs_mark(owner),
                was: row.map(|row| row.port.clone()),
            };
            self.ovs_step(of, &needs, operation);
        }
        if port.is_internal() && row.is_some() {
            self.ovs_link(of, name, port.ipv6, host)?;
        }
        Ok(())
    }

    /// Deletes what carries our mark under a key that is not wanted. Gives what is in the way.
    pub(super) fn collect_ovs(&mut self, key: &ObjectKey) -> Result<(), Verdict> {
        let of = For { key, owner: None };
        match key {
            ObjectKey::Link(name) => {
                if self.is_ovs_bridge_of_ours(name) {
                    self.check_no_foreign_ports(name)?;
                    self.ovs_step(of, &[], OvsOperation::BridgeDel { name: name.clone() });
                }
            }
            ObjectKey::OvsPort(name) => {
                let row = self.have.ovs().port(name);
                if row.is_some_and(|row| self.is_our_row(&row.mark)) {
                    self.ovs_step(of, &[], OvsOperation::PortDel { name: name.clone() });
                }
            }
            ObjectKey::Addresses { .. }
            | ObjectKey::Routes(_)
            | ObjectKey::Dhcp(_)
            | ObjectKey::Traffic(_)
            | ObjectKey::NameServer { .. }
            | ObjectKey::ResolvConf { .. }
            | ObjectKey::Container(_)
            | ObjectKey::Mesh(_)
            | ObjectKey::Wireguard(_)
            | ObjectKey::Firewall { .. } => {}
        }
        Ok(())
    }

    /// Whether a link is ours: made, taken over, or one that Open vSwitch makes for a row of ours.
    pub(super) fn owns(&self, link: &Link) -> bool {
        self.want.mark().owns(link) || self.is_ovs_link_of_ours(&LinkName::observed(&link.name))
    }

    /// Whether Open vSwitch has a bridge of ours of this name.
    pub(super) fn is_ovs_bridge_of_ours(&self, name: &LinkName) -> bool {
        let row = self.have.ovs().bridge(name);
        row.is_some_and(|row| self.is_our_row(&row.mark))
    }

    fn is_ovs_link_of_ours(&self, name: &LinkName) -> bool {
        self.have
            .ovs()
            .link_mark(name)
            .is_some_and(|mark| self.is_our_row(mark))
    }

    /// A link that Open vSwitch is about to make. `None`: it is there, or not Open vSwitch's affair.
    pub(super) fn ovs_link_to_come(&self, name: &LinkName, host: &Namespace) -> Option<Verdict> {
        let internal = self.want.get(&ObjectKey::OvsPort(name.clone())).map(|w| &w.object);
        let local = self.want.get(&ObjectKey::Link(name.clone())).map(|w| &w.object);
        let is_ovs = matches!(local, Some(Object::OvsBridge(_)))
            || matches!(internal, Some(Object::OvsPort(port)) if port.is_internal());
        if !is_ovs || (host.link(name).is_some() && self.is_ovs_link_of_ours(name)) {
            return None;
        }
        let reason = eco_format!("Open vSwitch has not made link {name} yet");
        let keys = [ObjectKey::Link(name.clone()), ObjectKey::OvsPort(name.clone())];
        let is_under_way = keys
            .iter()
            .any(|key| self.diff.verdicts.get(key) == Some(&Verdict::Planned));
        Some(if is_under_way {
            Verdict::Unread(reason)
        } else {
            Verdict::Waiting(reason)
        })
    }

    /// Whether the queue of a link is safe from Open vSwitch: it is no port, or one whose queue is left alone.
    pub(super) fn ovs_leaves_queue(&self, name: &LinkName) -> Result<(), Verdict> {
        let key = ObjectKey::OvsPort(name.clone());
        if self.want.get(&key).is_none() {
            return Ok(());
        }
        let is_left = |row: &OvsPortRow| row.port.leaves_queue || row.foreign_qos.as_deref() == Some(QUEUE_LEFT);
        match self.have.ovs().port(name) {
            Some(row) if is_left(row) && row.progress.pending.is_none() => return Ok(()),
            Some(OvsPortRow {
                foreign_qos: Some(qos), ..
            }) if qos != QUEUE_LEFT => {
                return Err(Verdict::Waiting(eco_format!(
                    "port {name} of Open vSwitch has a QoS of type {qos}"
                )));
            }
            _ => {}
        }
        let reason = eco_format!("Open vSwitch does not leave the queue of {name} alone yet");
        Err(match self.diff.verdicts.get(&key) {
            Some(Verdict::Planned | Verdict::Unread(_)) => Verdict::Unread(reason),
            _ => Verdict::Waiting(reason),
        })
    }

    fn bridge_set(&self, bridge: &OvsBridge, owner: &Owner, was: Option<OvsBridge>) -> OvsOperation {
        OvsOperation::BridgeSet {
            bridge: bridge.clone(),
            mark: self.ovs_mark(owner),
            was,
        }
    }

    fn ovs_mark(&self, owner: &Owner) -> OvsMark {
        OvsMark {
            database: self.want.mark().row_mark(),
            owner: Some(owner.clone()),
        }
    }

    fn is_our_row(&self, mark: &OvsMark) -> bool {
        self.want.mark().is_our_row(&mark.database)
    }

    /// Nothing can be said before Open vSwitch's database was read.
    fn ovs_known(&self) -> Result<(), Verdict> {
        match self.have.ovs().obstacle() {
            None => Ok(()),
            Some(Ok(())) => Err(Verdict::Unread("Open vSwitch has not been read yet".into())),
            Some(Err(reason)) => Err(Verdict::Waiting(eco_format!("Open vSwitch is not there: {reason}"))),
        }
    }

    fn ovs_step(&mut self, of: For<'_>, needs: &[usize], operation: OvsOperation) -> usize {
        self.step(of, Phase::Switch, needs, Operation::Ovs(operation))
    }

    /// The bridge of a port: the steps that make it, all in the transaction that makes the port.
    fn ovs_bridge_of(&self, port: &OvsPort) -> Result<Vec<usize>, Verdict> {
        let name = &port.bridge;
        let there = |row: &OvsBridgeRow| self.is_our_row(&row.mark);
        match self.diff.verdicts.get(&ObjectKey::Link(name.clone())) {
            Some(
                Verdict::Waiting(reason)
                | Verdict::Conflict(reason)
                | Verdict::Failed(reason)
                | Verdict::Leaving(reason),
            ) => Err(Verdict::Waiting(eco_format!("bridge {name}: {reason}"))),
            Some(Verdict::Unread(reason)) => Err(Verdict::Unread(reason.clone())),
            Some(Verdict::Planned) => Ok(vec![]),
            Some(Verdict::Equal | Verdict::Settling(_) | Verdict::Absent) | None => {
                match self.have.ovs().bridge(name) {
                    Some(row) if there(row) => Ok(vec![]),
                    _ => Err(Verdict::Waiting(eco_format!(
                        "Open vSwitch has no bridge {name} of nonnet's"
                    ))),
                }
            }
        }
    }

    /// The link of the host that a port is for: the step that makes it, if a row wants it.
    fn ovs_device(&self, port: &OvsPort, host: &Namespace) -> Result<Option<usize>, Verdict> {
        let key = ObjectKey::Link(port.name.clone());
        if !port.interface.is_empty() || self.want.get(&key).is_none() {
            return Ok(None);
        }
        let name = &port.name;
        match self.diff.verdicts.get(&key) {
            Some(Verdict::Planned) => Ok(self.made.get(&key).copied()),
            Some(Verdict::Unread(reason) | Verdict::Leaving(reason)) => Err(Verdict::Unread(reason.clone())),
            Some(Verdict::Waiting(reason) | Verdict::Conflict(reason) | Verdict::Failed(reason)) => {
                Err(Verdict::Waiting(eco_format!("link {name}: {reason}")))
            }
            Some(Verdict::Equal | Verdict::Settling(_) | Verdict::Absent) | None => match host.link(name) {
                Some(_) => Ok(None),
                None => Err(Verdict::Waiting(eco_format!("link {name} does not exist"))),
            },
        }
    }

    /// Whether the link of the host that a port came for, and which a row of ours makes, is gone or another one now.
    fn has_lost_device(&self, port: &OvsPort, host: &Namespace) -> bool {
        let key = ObjectKey::Link(port.name.clone());
        let is_lost = match host.link(&port.name) {
            Some(link) => self.have.ovs().has_other_device(&port.name, link.index),
            None => true,
        };
        port.interface.is_empty() && self.want.get(&key).is_some() && is_lost
    }

    /// The link that Open vSwitch made on the host: up, and with IPv6 only where there is some.
    fn ovs_link(&mut self, of: For<'_>, name: &LinkName, ipv6: bool, host: &'a Namespace) -> Result<(), Verdict> {
        let Some(link) = host.link(name) else {
            return Err(Verdict::Waiting(eco_format!(
                "Open vSwitch has {name}, but its link is not there: does ovs-vswitchd run?"
            )));
        };
        let end = End {
            link: reference(NamespaceId::Host, link),
            have: Some((host, link)),
            needs: vec![],
        };
        let set = LinkChange {
            address_generation_off: Some(!ipv6),
            up: Some(true),
            ..LinkChange::default()
        };
        self.configure(of, &end, &set);
        Ok(())
    }

    fn check_no_foreign_ports(&self, bridge: &LinkName) -> Result<(), Verdict> {
        let foreign = |row: &&OvsPortRow| row.port.bridge == *bridge && !self.is_our_row(&row.mark);
        let names: Vec<&str> = self
            .have
            .ovs()
            .ports()
            .filter(foreign)
            .map(|row| row.port.name.as_str())
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Verdict::Conflict(eco_format!(
            "bridge {bridge} is not deleted: it has ports that are not nonnet's ({})",
            names.join(", ")
        )))
    }
}

/// A link of another kind under the name of one that Open vSwitch is to make.
fn check_free(name: &LinkName, host: &Namespace) -> Result<(), Verdict> {
    match host.link(name) {
        Some(link) if !OVS_LINK_KINDS.contains(&link.kind.as_str()) => {
            let kind = if link.kind.is_empty() {
                "device"
            } else {
                link.kind.as_str()
            };
            Err(Verdict::Conflict(eco_format!(
                "the name {name} is taken by a {kind} that is not Open vSwitch's"
            )))
        }
        _ => Ok(()),
    }
}

fn check_progress(progress: &OvsProgress) -> Result<(), Verdict> {
    match (&progress.pending, &progress.error) {
        (Some(pending), _) => Err(Verdict::Waiting(pending.clone())),
        (None, Some(error)) => Err(Verdict::Failed(error.clone())),
        (None, None) => Ok(()),
    }
}
