//! What rows want, as it comes and goes: which objects a commit concerns, and what has to be compared again for it.

use std::collections::BTreeSet;

use super::{Cause, Desired, Heal, Item, Output, Reconciler};
use crate::limits::{PROTOCOL, RESYNC_MS};
use crate::mirror::Namespace;
use crate::name::LinkName;
use crate::object::{NetnsRef, Object, ObjectKey, Owner, Wanted};
use crate::report::State;
use crate::tables::host;
use crate::want::Resolution;

impl Reconciler {
    /// Takes in what rows say about drift. What drifted before is looked at again.
    pub(super) fn heals_are(&mut self, now_ms: u64, heals: Vec<(Owner, Option<Heal>)>) {
        if heals.is_empty() {
            return;
        }
        for (owner, heal) in heals {
            match heal {
                Some(heal) => self.heal_of.insert(owner, heal),
                None => self.heal_of.remove(&owner),
            };
        }
        let drifted = self.items.iter_mut().filter(|(_, item)| item.state == State::Drifted);
        for (_, item) in drifted {
            (item.state, item.cause, item.since_ms) = (State::Pending, Cause::Drift, now_ms);
        }
        self.dirty.extend(self.items.keys().cloned());
    }

    /// What is done about drift of an object that this row wants.
    pub(super) fn heal(&self, owner: Option<&Owner>) -> Heal {
        let own = owner.and_then(|owner| self.heal_of.get(owner));
        let host = || {
            self.heal_of
                .iter()
                .find(|(owner, _)| owner.table == host::Columns::NAME)
        };
        own.or_else(|| host().map(|(_, heal)| heal))
            .copied()
            .unwrap_or(self.options.heal)
    }

    pub(super) fn wanted(&mut self, now_ms: u64, cfg: u64, changes: Vec<(Owner, Desired)>) {
        // What changed may be of any commit since the last ones that were told of.
        self.unseen_cfg = cfg.min(self.cfg + 1);
        self.cfg = self.cfg.max(cfg);
        let cause = if self.loaded { Cause::Row } else { Cause::Start };
        let filtered = self.want.filters();
        for (owner, desired) in changes {
            self.row(now_ms, cfg, cause, owner, desired);
        }
        if self.want.filters() != filtered {
            self.soil_firewall(now_ms, cause);
        }
        if !self.loaded {
            self.loaded = true;
            self.resync_ms = now_ms + RESYNC_MS;
            self.collect(now_ms);
        }
    }

    pub(super) fn row(&mut self, now_ms: u64, cfg: u64, cause: Cause, owner: Owner, desired: Desired) {
        let mut row = self.rows.remove(&owner).unwrap_or_default();
        let before = std::mem::take(&mut row.keys);
        let (objects, says) = match desired {
            Desired::Objects(objects) => (objects, None),
            Desired::Waiting(reason) => (vec![], Some((State::Waiting, reason))),
            Desired::Invalid(reason) => (vec![], Some((State::Failed, reason))),
            Desired::Gone => {
                self.release(now_ms, &owner, before);
                self.bad_rows -= usize::from(row.bad);
                self.stale_rows.remove(&owner);
                return;
            }
        };
        row.cfg = cfg;
        row.says = says;
        for object in objects {
            let wanted = Wanted {
                owner: owner.clone(),
                object,
            };
            let key = wanted.key();
            row.keys.insert(key.clone());
            self.want_object(now_ms, &key, wanted);
            self.soil(now_ms, cause, &key, &owner);
        }
        let gone = before.difference(&row.keys).cloned().collect();
        self.release(now_ms, &owner, gone);
        self.rows.insert(owner.clone(), row);
        self.stale_rows.insert(owner);
    }

    pub(super) fn want_object(&mut self, now_ms: u64, key: &ObjectKey, wanted: Wanted) {
        let owner = wanted.owner.clone();
        let before = self.want.get(key).and_then(|w| w.object.netns()).cloned();
        let now = wanted.object.netns().cloned();
        if before != now {
            self.leave(key);
        }
        if let Some(netns) = now
            .as_ref()
            .filter(|n| **n != NetnsRef::Host && self.want.users(n).next().is_none())
        {
            self.out.push(Output::Watch(netns.clone()));
        }
        self.rethink_ways(now_ms, key);
        self.want.insert(wanted);
        self.rethink_ways(now_ms, key);
        self.leave_netns(now_ms, &owner, before.clone());
        self.rethink_sysctls(now_ms, key, before.as_ref());
        self.rethink_defaults(now_ms, key, [before, now]);
        self.dirty.extend(self.want.dependents(key).cloned());
    }

    pub(super) fn release(&mut self, now_ms: u64, owner: &Owner, keys: BTreeSet<ObjectKey>) {
        for key in keys {
            let netns = self.want.get(&key).and_then(|w| w.object.netns()).cloned();
            if self.want.get(&key).is_some_and(|w| w.owner == *owner) {
                self.leave(&key);
            }
            self.rethink_ways(now_ms, &key);
            self.want.remove(&key, owner);
            self.leave_netns(now_ms, owner, netns.clone());
            self.rethink_sysctls(now_ms, &key, netns.as_ref());
            self.rethink_defaults(now_ms, &key, [netns, None]);
            self.dirty.extend(self.want.dependents(&key).cloned());
            self.soil(now_ms, Cause::Row, &key, owner);
            // Somebody who waited for the name has it now.
            if let Some(heir) = self.want.get(&key).map(|w| w.owner.clone()) {
                self.stale_rows.insert(heir);
            }
        }
    }

    /// Notes where the object of a key is that is wanted there no longer, if nothing outside that namespace tells of it.
    pub(super) fn leave(&mut self, key: &ObjectKey) {
        let Some(Wanted {
            owner,
            object: Object::Port(port),
        }) = self.want.get(key).cloned()
        else {
            return;
        };
        if port.is_inside() {
            self.want.leave(key, port.netns, owner);
        }
    }

    /// The settings of a namespace that nobody wants any more are given back by whoever is left there.
    pub(super) fn rethink_sysctls(&mut self, now_ms: u64, changed: &ObjectKey, netns: Option<&NetnsRef>) {
        let Some(netns) = netns else { return };
        let Resolution::Present(id) = self.want.resolution(netns) else {
            return;
        };
        let is_left = self.have.namespace(id).is_some_and(|inside| {
            let mut paths = inside.sysctls_before().map(|(path, _)| path);
            paths.any(|path| !self.want.wants_sysctl(id, path))
        });
        let is_port = |key: &&ObjectKey| {
            *key != changed
                && self
                    .want
                    .get(key)
                    .is_some_and(|wanted| matches!(wanted.object, Object::Port(_)))
        };
        let Some(heir) = self.want.users(netns).find(is_port).filter(|_| is_left).cloned() else {
            return;
        };
        if let Some(item) = self.items.get_mut(&heir).filter(|item| item.state == State::Converged) {
            (item.state, item.cause, item.since_ms) = (State::Pending, Cause::Row, now_ms);
        }
        self.dirty.insert(heir);
    }

    /// Gives up a namespace that no object reaches into any more, once nothing of ours is left there that goes with no link.
    pub(super) fn leave_netns(&mut self, now_ms: u64, owner: &Owner, netns: Option<NetnsRef>) {
        let Some(netns) = netns.filter(|netns| self.want.users(netns).next().is_none()) else {
            return;
        };
        let inside = match self.want.resolution(&netns) {
            Resolution::Present(id) => self.have.namespace(id),
            Resolution::Unknown | Resolution::Absent(_) => None,
        };
        let is_left = |inside: &Namespace| {
            inside.routes(None).any(|route| route.protocol == PROTOCOL) || inside.sysctls_before().next().is_some()
        };
        if inside.is_some_and(is_left) {
            self.soil(now_ms, Cause::Row, &ObjectKey::Routes(netns), owner);
        } else {
            self.unwatch(Some(netns));
        }
    }

    /// Nothing of an object is left where it was: those namespaces need not be observed for it any more.
    pub(super) fn cleared(&mut self, key: &ObjectKey) {
        for netns in self.want.cleared(key) {
            self.unwatch(Some(netns));
        }
    }

    /// Whether other links may have their MTU from this one.
    pub(super) fn is_passed(&self, link: &LinkName) -> bool {
        match self
            .want
            .get(&ObjectKey::Link(link.clone()))
            .map(|wanted| &wanted.object)
        {
            Some(Object::Port(port)) => port.leads_out(),
            None => true,
            // What is on our own bridges follows what these are to have.
            Some(_) => false,
        }
    }

    /// What leads out of a bridge is about to change, or just did.
    pub(super) fn rethink_ways(&mut self, now_ms: u64, key: &ObjectKey) {
        if let ObjectKey::Link(link) | ObjectKey::OvsPort(link) = key
            && self.want.led_out_of(link).is_some()
        {
            self.rethink_mtus(now_ms, link);
        }
    }

    /// The links that have their MTU from this one may have another one now.
    pub(super) fn rethink_mtus(&mut self, now_ms: u64, link: &LinkName) {
        for key in self.want.along(link) {
            // That a way is another one is nobody's tampering with what goes along it.
            if let Some(item) = self.items.get_mut(&key).filter(|item| item.state == State::Converged) {
                (item.state, item.cause, item.since_ms) = (State::Pending, Cause::Row, now_ms);
            }
            self.dirty.insert(key);
        }
    }

    /// Which of the ports of a namespace has the default route may be another one now.
    pub(super) fn rethink_defaults(&mut self, now_ms: u64, changed: &ObjectKey, namespaces: [Option<NetnsRef>; 2]) {
        for netns in namespaces.into_iter().flatten() {
            for key in self.want.users(&netns).filter(|key| *key != changed) {
                let offers = self.want.get(key).is_some_and(|wanted| match &wanted.object {
                    Object::Port(port) => !port.defaults.is_empty(),
                    _ => false,
                });
                if !offers {
                    continue;
                }
                if let Some(item) = self.items.get_mut(key).filter(|item| item.state == State::Converged) {
                    (item.state, item.cause, item.since_ms) = (State::Pending, Cause::Row, now_ms);
                }
                self.dirty.insert(key.clone());
            }
        }
    }

    pub(super) fn unwatch(&mut self, netns: Option<NetnsRef>) {
        if let Some(netns) = netns.filter(|n| *n != NetnsRef::Host && self.want.users(n).next().is_none()) {
            self.want.forget(&netns);
            self.out.push(Output::Unwatch(netns));
        }
    }

    /// Notes that a commit changed an object, which starts over.
    pub(super) fn soil(&mut self, now_ms: u64, cause: Cause, key: &ObjectKey, owner: &Owner) {
        let wanted = self.want.get(key).map(|w| w.owner.clone());
        let mut item = self.take(key).unwrap_or_else(|| Item::new(now_ms));
        if item.unsettled.is_none() {
            item.unsettled = Some(self.unseen_cfg);
            *self.unsettled.entry(self.unseen_cfg).or_default() += 1;
        }
        item.owner = wanted.or_else(|| Some(owner.clone()));
        item.state = State::Pending;
        item.error = None;
        item.cause = cause;
        item.since_ms = now_ms;
        item.attempts = 0;
        item.due_ms = 0;
        item.forget_attempt();
        item.fresh = true;
        item.heals.clear();
        item.contended = false;
        self.put(key.clone(), item);
        self.dirty.insert(key.clone());
    }

    /// The packet filter as a whole is wanted now, or is not any more: that concerns all who want something of it.
    pub(super) fn soil_firewall(&mut self, now_ms: u64, cause: Cause) {
        let keys: Vec<ObjectKey> = self.want.firewall_keys().cloned().collect();
        for key in keys {
            if let Some(owner) = self.want.get(&key).map(|wanted| wanted.owner.clone()) {
                self.soil(now_ms, cause, &key, &owner);
            }
        }
    }
}
