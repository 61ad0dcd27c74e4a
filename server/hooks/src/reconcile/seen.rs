//! What was seen of the kernel, and which objects it concerns.

use std::collections::BTreeSet;

use super::{Cause, ECHO_MS, Item, Output, Reconciler};
use crate::dhcp::Progress;
use crate::diff;
use crate::mirror::{Change, NamespaceId, Observation, Touched};
use crate::name::LinkName;
use crate::object::{NetnsRef, Object, ObjectKey, OvsMark, Port, Wanted};
use crate::report::State;
use crate::want::Resolution;

impl Reconciler {
    pub(super) fn resolved(&mut self, now_ms: u64, netns: NetnsRef, resolution: Resolution) {
        if self.want.users(&netns).next().is_none() {
            return;
        }
        if self.want.resolution(&netns) == resolution {
            return;
        }
        for key in self.want.users(&netns) {
            // That a namespace comes or goes is nobody's tampering with its links.
            if let Some(item) = self.items.get_mut(key).filter(|item| item.state == State::Converged) {
                item.state = State::Pending;
                item.cause = Cause::Row;
                item.since_ms = now_ms;
            }
            self.dirty.insert(key.clone());
        }
        if matches!(resolution, Resolution::Present(_)) {
            // It may be another one. What is left of one that is gone is still to be taken away.
            self.have.forget_resolv_conf(&netns);
        }
        self.want.resolve(netns, resolution);
    }

    pub(super) fn observed(&mut self, now_ms: u64, observations: Vec<Observation>) {
        for observation in observations {
            let resync =
                observation.namespace == NamespaceId::Host && matches!(observation.change, Change::Replaced(_));
            let touched = self.have.apply(observation);
            self.touched(now_ms, &touched);
            if resync {
                self.dirty.extend(self.items.keys().cloned());
                self.collect(now_ms);
            }
        }
    }

    pub(super) fn touched(&mut self, now_ms: u64, touched: &Touched) {
        let mut keys: BTreeSet<ObjectKey> = BTreeSet::new();
        for (id, name) in &touched.links {
            if *id == NamespaceId::Host {
                keys.extend(self.want.host_routes());
                let key = ObjectKey::Link(name.clone());
                if self.items.contains_key(&key) {
                    keys.insert(key);
                }
                let key = ObjectKey::OvsPort(name.clone());
                if self.items.contains_key(&key) {
                    keys.insert(key);
                }
                keys.extend(self.want.address_keys(name).cloned());
                let traffic = ObjectKey::Traffic(name.clone());
                keys.extend(Some(traffic).filter(|key| self.items.contains_key(key)));
                keys.extend(self.want.inner_end_on_host(name).cloned());
            } else {
                keys.extend(self.want.inhabitants(*id).cloned());
            }
        }
        for port in &touched.dhcp {
            keys.extend(self.lease_changed(port));
        }
        for link in &touched.mtus {
            let wanted = self.want.get(&ObjectKey::Link(link.clone()));
            if let Some(Object::Port(Port {
                bridge: Some(bridge), ..
            })) = wanted.map(|wanted| &wanted.object)
            {
                self.dirty.insert(ObjectKey::Link(bridge.clone()));
            }
        }
        for link in touched
            .mtus
            .iter()
            .filter(|link| self.is_passed(link))
            .collect::<Vec<_>>()
        {
            self.rethink_mtus(now_ms, link);
        }
        keys.extend(self.touched_firewall(now_ms, touched));
        for (_, name) in touched.existence.iter().filter(|(id, _)| *id == NamespaceId::Host) {
            keys.extend(self.want.dependents(&ObjectKey::Link(name.clone())).cloned());
            keys.extend(self.stray(now_ms, name));
        }
        keys.extend(touched.objects.iter().filter_map(|key| self.strayed(now_ms, key)));
        if touched.is_ovs {
            let is_switched = |wanted: &Wanted| matches!(wanted.object, Object::OvsBridge(_) | Object::OvsPort(_));
            let switched = |key: &&ObjectKey| self.want.get(key).is_some_and(is_switched);
            keys.extend(self.want.keys().filter(switched).cloned());
            self.collect(now_ms);
        }
        for netns in &touched.files {
            let stray = diff::stray_file(&self.want, &self.have, netns).filter(|_| self.loaded);
            keys.extend(stray.map(|key| self.noted(now_ms, key)));
            let wishes = self.want.resolv_confs(netns).map(|(owner, _)| owner.clone());
            keys.extend(wishes.map(|owner| ObjectKey::ResolvConf {
                netns: netns.clone(),
                owner,
            }));
        }
        for key in keys {
            self.hurry(now_ms, &key);
            self.dirty.insert(key);
        }
    }

    /// The objects that a change of the packet filter concerns; what of ours nobody wants is noted for collection.
    pub(super) fn touched_firewall(&mut self, now_ms: u64, touched: &Touched) -> BTreeSet<ObjectKey> {
        let mut keys: BTreeSet<ObjectKey> = BTreeSet::new();
        if touched.firewall {
            keys.extend(self.want.firewall_keys().cloned());
        }
        for path in &touched.settings {
            keys.extend(self.want.wanting_setting(path).cloned());
        }
        for (element, owners) in &touched.elements {
            let wanting: Vec<ObjectKey> = self.want.wanting_element(element).cloned().collect();
            let had = owners.iter().map(|owner| ObjectKey::Firewall { owner: owner.clone() });
            if wanting.is_empty() && self.loaded {
                for key in had.filter(|key| !self.items.contains_key(key)).collect::<Vec<_>>() {
                    let mut item = Item::new(now_ms);
                    item.cause = Cause::Collect;
                    self.put(key.clone(), item);
                    keys.insert(key);
                }
            }
            keys.extend(wanting);
            keys.extend(owners.iter().map(|owner| ObjectKey::Firewall { owner: owner.clone() }));
        }
        keys.retain(|key| self.items.contains_key(key));
        keys
    }

    /// What has this name if it is ours and nobody wants it: somebody renamed a link of ours, or moved an inner end here.
    pub(super) fn stray(&mut self, now_ms: u64, name: &LinkName) -> Option<ObjectKey> {
        let is_our_row = |mark: &OvsMark| self.want.mark().is_our_row(&mark.database);
        let key = match (self.have.ovs().port(name), self.have.ovs().bridge(name)) {
            (Some(row), _) if is_our_row(&row.mark) => ObjectKey::OvsPort(name.clone()),
            (_, Some(row)) if is_our_row(&row.mark) => ObjectKey::Link(name.clone()),
            _ => {
                let link = self.have.host()?.link(name)?;
                let is_ours = self.want.mark().owns(link) && self.want.inner_end_on_host(name).is_none();
                is_ours.then(|| ObjectKey::Link(name.clone()))?
            }
        };
        if !self.loaded || self.items.contains_key(&key) {
            return None;
        }
        let mut item = Item::new(now_ms);
        item.cause = Cause::Collect;
        self.put(key.clone(), item);
        Some(key)
    }

    /// A key that nobody wants, noted for collection unless it is already.
    pub(super) fn noted(&mut self, now_ms: u64, key: ObjectKey) -> ObjectKey {
        if !self.items.contains_key(&key) {
            let mut item = Item::new(now_ms);
            item.cause = Cause::Collect;
            self.put(key.clone(), item);
        }
        key
    }

    /// An object that is no link and changed, if it is known, or carries our mark and nobody wants it.
    pub(super) fn strayed(&mut self, now_ms: u64, key: &ObjectKey) -> Option<ObjectKey> {
        if self.items.contains_key(key) {
            return Some(key.clone());
        }
        if !self.loaded || !diff::collectable(&self.want, &self.have).contains(key) {
            return None;
        }
        let mut item = Item::new(now_ms);
        item.cause = Cause::Collect;
        self.put(key.clone(), item);
        Some(key.clone())
    }

    /// Tells of the lease of a port where its row has another. Gives the key of the client, where a row wants it.
    pub(super) fn lease_changed(&mut self, port: &LinkName) -> Option<ObjectKey> {
        let key = ObjectKey::Dhcp(port.clone());
        let progress = &self.have.dhcp(port)?.progress;
        let wanted = self.want.get(&key)?;
        let Object::Dhcp(dhcp) = &wanted.object else {
            return None;
        };
        let lease = match progress {
            Progress::Bound(lease) => Some(lease.clone()),
            Progress::Asking | Progress::Without(_) => None,
        };
        let output = Output::Lease(wanted.owner.clone(), lease.clone());
        if dhcp.lease != lease && !self.out.contains(&output) {
            self.out.push(output);
        }
        if let Some(lease) = lease {
            self.want.renew(port, lease.address, lease.expires);
        }
        Some(key)
    }

    /// An event on an object ends its wait for the next retry, unless it is the echo of the last one.
    pub(super) fn hurry(&mut self, now_ms: u64, key: &ObjectKey) {
        let Some(item) = self.items.get_mut(key) else { return };
        if item.due_ms > now_ms && now_ms >= item.tried_ms + ECHO_MS {
            self.retries.remove(&(item.due_ms, key.clone()));
            item.due_ms = 0;
            item.attempts = 0;
        }
    }

    pub(super) fn collect(&mut self, now_ms: u64) {
        if !self.loaded {
            return;
        }
        for key in diff::collectable(&self.want, &self.have) {
            if !self.items.contains_key(&key) {
                let mut item = Item::new(now_ms);
                item.cause = Cause::Collect;
                self.put(key.clone(), item);
            }
            self.dirty.insert(key);
        }
    }
}
