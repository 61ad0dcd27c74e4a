//! Links: made, set, moved and deleted; a pair dies together, and a link takes along what is on it.

use ecow::EcoString;

use super::{EEXIST, ENODEV, EOPNOTSUPP, Model, observed, refusal};
use crate::mirror::{Change, Link, NamespaceId, Observation};
use crate::name::{LinkName, Mac};
use crate::object::{BridgeSettings, Vlans};
use crate::plan::{LinkChange, LinkRef, NewLink, Refusal};

impl Model {
    /// Makes a link of somebody else's.
    pub fn add_foreign(&mut self, id: NamespaceId, name: &str, kind: &str) -> Vec<Observation> {
        let link = Link {
            name: name.into(),
            kind: kind.into(),
            mtu: 1500,
            up: true,
            bridge: (kind == "bridge").then(|| Box::new(BridgeSettings::NEW)),
            ..Link::default()
        };
        self.insert(id, link).map(|(_, seen)| vec![seen]).unwrap_or_default()
    }

    /// Deletes a link by name, as somebody with `ip link del` would.
    pub fn delete_by_name(&mut self, id: NamespaceId, name: &LinkName) -> Vec<Observation> {
        let mut seen = Vec::new();
        let link = LinkRef {
            namespace: id,
            name: name.clone(),
            index: None,
        };
        if let Ok(index) = self.find(&link) {
            self.delete_link(id, index, &mut seen);
        }
        seen
    }

    pub(super) fn insert(&mut self, id: NamespaceId, mut link: Link) -> Result<(u32, Observation), Refusal> {
        self.seed += 1;
        let seed = self.seed;
        let space = self.space(id)?;
        if space.links.values().any(|other| other.name == link.name) {
            return Err(refusal(EEXIST, "File exists"));
        }
        space.last_index += 1;
        link.index = space.last_index;
        link.address_generation_off = Some(false);
        link.mac = link.mac.or_else(|| Some(Mac::derived(&seed.to_le_bytes())));
        space.links.insert(link.index, link.clone());
        Ok((link.index, observed(id, Change::LinkSet(link))))
    }

    pub(super) fn link_add(&mut self, link: &LinkRef, group: u32, new: &NewLink) -> Result<Vec<Observation>, Refusal> {
        let base = Link {
            name: link.name.as_str().into(),
            group,
            mtu: 1500,
            ..Link::default()
        };
        match new {
            NewLink::Bridge { mac, mtu, settings } => {
                let mtu = mtu.unwrap_or(1500);
                let mut has = BridgeSettings::NEW;
                has.change(settings);
                let bridge = Link {
                    kind: "bridge".into(),
                    mac: *mac,
                    mtu,
                    bridge: Some(Box::new(has)),
                    ..base
                };
                Ok(vec![self.insert(link.namespace, bridge)?.1])
            }
            NewLink::Veth { peer, peer_mac, mtu } => {
                let base = Link {
                    kind: "veth".into(),
                    mtu: mtu.unwrap_or(1500),
                    ..base
                };
                let inner = Link {
                    name: peer.name.as_str().into(),
                    mac: *peer_mac,
                    ..base.clone()
                };
                let (inside, _) = self.insert(peer.namespace, inner)?;
                let outside = match self.insert(link.namespace, base) {
                    Ok((outside, _)) => outside,
                    Err(refused) => {
                        self.space(peer.namespace)?.links.remove(&inside);
                        return Err(refused);
                    }
                };
                let (near, far) = ((link.namespace, outside), (peer.namespace, inside));
                self.pairs.insert(near, far);
                self.pairs.insert(far, near);
                let mut seen = Vec::new();
                for ((id, index), (_, other)) in [(near, far), (far, near)] {
                    seen.push(self.change(id, index, |l| l.peer = Some(other))?);
                }
                Ok(seen)
            }
            NewLink::Single { spec, parent, mac, mtu } => {
                let parent = parent
                    .as_ref()
                    .map(|parent| Ok((parent.namespace, self.find(parent)?)))
                    .transpose()?;
                let single = Link {
                    kind: spec.kind().into(),
                    spec: Some(spec.clone()),
                    peer: parent.map(|(_, index)| index),
                    mac: *mac,
                    mtu: mtu.unwrap_or(1500),
                    ..base
                };
                let (index, seen) = self.insert(link.namespace, single)?;
                self.flood_remote(link.namespace, index, None, Some(spec));
                if let Some(parent) = parent {
                    self.children.entry(parent).or_default().push((link.namespace, index));
                }
                Ok(vec![seen])
            }
        }
    }

    pub(super) fn link_set(&mut self, link: &LinkRef, set: &LinkChange) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(link)?;
        let id = link.namespace;
        if let Some(name) = &set.name {
            let taken = self
                .space(id)?
                .links
                .values()
                .any(|l| l.name == name.as_str() && l.index != index);
            if taken {
                return Err(refusal(EEXIST, "File exists"));
            }
        }
        let master = match &set.master {
            Some(Some(bridge)) => Some(Some(self.find(bridge)?)),
            Some(None) => Some(None),
            None => None,
        };
        if let (Some(master), Ok(space)) = (master, self.space(id))
            && space.links.get(&index).is_some_and(|link| link.master != master)
        {
            space.vlans.remove(&index);
        }
        if let Some(spec) = &set.spec {
            let before = self.space(id)?.links.get(&index).and_then(|link| link.spec.clone());
            self.flood_remote(id, index, before.as_ref(), Some(spec));
        }
        let set = set.clone();
        let seen = self.change(id, index, |l| {
            l.name = set.name.as_ref().map_or_else(|| l.name.clone(), |n| n.as_str().into());
            l.alias = set.alias.unwrap_or_else(|| l.alias.clone());
            l.group = set.group.unwrap_or(l.group);
            l.mac = set.mac.or(l.mac);
            l.mtu = set.mtu.unwrap_or(l.mtu);
            l.master = master.unwrap_or(l.master);
            l.address_generation_off = set.address_generation_off.or(l.address_generation_off);
            l.spec = set.spec.map(|spec| *spec).or_else(|| l.spec.take());
            l.isolated = if l.master.is_none() {
                None
            } else {
                set.isolated.or(l.isolated).or(Some(false))
            };
            l.hairpin = l.isolated.and(set.hairpin.or(l.hairpin).or(Some(false)));
            if let Some((has, set)) = l.bridge.as_deref_mut().zip(set.bridge.as_deref()) {
                has.change(set);
            }
            l.up = set.up.unwrap_or(l.up);
            l.carrier = l.up;
        })?;
        Ok(vec![seen])
    }

    /// Moves a link, which goes down, loses what is on it and leaves its bridge.
    pub(super) fn link_move(&mut self, link: &LinkRef, to: &LinkRef) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(link)?;
        let moved = self.space(link.namespace)?.links.get(&index).cloned();
        let moved = Link {
            name: to.name.as_str().into(),
            up: false,
            carrier: false,
            master: None,
            isolated: None,
            hairpin: None,
            ..moved.unwrap_or_default()
        };
        let (_, arrived) = self.insert(to.namespace, moved)?;
        let mut seen = Vec::new();
        self.delete_link(link.namespace, index, &mut seen);
        seen.push(arrived);
        Ok(seen)
    }

    fn change(&mut self, id: NamespaceId, index: u32, change: impl FnOnce(&mut Link)) -> Result<Observation, Refusal> {
        let space = self.space(id)?;
        let link = space
            .links
            .get_mut(&index)
            .ok_or_else(|| refusal(ENODEV, "No such device"))?;
        change(link);
        let link = link.clone();
        if !link.up {
            space.routes.retain(|route| route.index != Some(index));
        }
        Ok(observed(id, Change::LinkSet(link)))
    }

    pub(super) fn vlans(
        &mut self,
        link: &LinkRef,
        change: impl FnOnce(&mut Vlans),
    ) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(link)?;
        let space = self.space(link.namespace)?;
        let master = space.links.get(&index).and_then(|port| port.master);
        let filters = master.and_then(|master| space.links.get(&master)?.bridge.as_ref()?.vlan_filtering);
        if filters.is_none() {
            return Err(refusal(EOPNOTSUPP, "it is no port of a bridge"));
        }
        let vlans = space.vlans.entry(index).or_insert_with(|| Vlans::access(None, []));
        change(vlans);
        let told = Change::Vlans(index, vlans.clone());
        Ok(vec![observed(link.namespace, told)])
    }

    pub(super) fn delete_link(&mut self, id: NamespaceId, index: u32, seen: &mut Vec<Observation>) {
        let other = self.pairs.remove(&(id, index));
        for (id, index) in self.children.remove(&(id, index)).unwrap_or_default() {
            self.delete_link(id, index, seen);
        }
        let Some(space) = self.namespaces.get_mut(&id) else {
            return;
        };
        let Some(link) = space.links.remove(&index) else {
            return;
        };
        space.vlans.remove(&index);
        space.queues.remove(&index);
        space.mirrors.retain(|(of, _), to| *of != index && *to != index);
        space.floods.retain(|(of, _)| *of != index);
        space.addresses.retain(|a| a.index != index);
        space.routes.retain(|r| r.index != Some(index));
        let of_link = |path: &EcoString| path.split('/').nth(2) == Some(link.name.as_str());
        space.firewall.settings.retain(|path, _| !of_link(path));
        for link in space.links.values_mut().filter(|l| l.master == Some(index)) {
            link.master = None;
            link.isolated = None;
            link.hairpin = None;
            seen.push(observed(id, Change::LinkSet(link.clone())));
        }
        seen.push(observed(id, Change::LinkGone(index)));
        if let Some((id, index)) = other {
            self.delete_link(id, index, seen);
        }
    }
}
