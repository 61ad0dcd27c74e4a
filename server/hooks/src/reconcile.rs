//! The reconciler: when to compare, run, retry and report.
//!
//! A state machine. Inputs are wanted objects per row, answers about namespaces, observations, outcomes of plans and the passing of time; outputs
//! are commands for the kernel side, reports per row, progress and events. Level-triggered: an input only says what to compare again.
//! One plan is under way at a time, besides steps that take long and go on by themselves: their objects rest until these end. The cost of a
//! commit is that of the objects it changes.
//!
//! An object is pending -> (run) -> converged | failed -> (retry) ...; waiting until what it needs appears; in conflict until what is in its
//! way leaves; drifted when somebody else changed it and healing is off.

mod input;
mod judge;
mod preview;
mod tell;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ecow::{EcoString, eco_format};

pub use self::input::{Desired, Heal, Input, Options, Output};
pub use self::preview::{Held, Preview};
use crate::dhcp::Progress;
use crate::diff;
use crate::limits::{PROTOCOL, RESYNC_MS};
use crate::mirror::{Change, Mirror, NamespaceId, Observation, Touched};
use crate::name::LinkName;
use crate::object::{NetnsRef, Object, ObjectKey, OvsMark, Owner, Port, Wanted};
use crate::plan::{Outcome, Plan};
use crate::report::{Report, State};
use crate::tables::host;
use crate::want::{Resolution, Want};

/// Milliseconds after an attempt in which an event may be its own echo, and so does not reset the retry.
const ECHO_MS: u64 = 1_000;

/// The state machine.
#[derive(Debug)]
pub struct Reconciler {
    options: Options,
    want: Want,
    have: Mirror,
    items: BTreeMap<ObjectKey, Item>,
    rows: BTreeMap<Owner, Row>,
    /// What is done about drift where a row says so.
    heal_of: BTreeMap<Owner, Heal>,
    dirty: BTreeSet<ObjectKey>,
    retries: BTreeSet<(u64, ObjectKey)>,
    running: Option<Running>,
    runs: u64,
    unsettled: BTreeMap<u64, usize>,
    loaded: bool,
    cfg: u64,
    /// The oldest commit that the newest change of rows may be of.
    unseen_cfg: u64,
    progress: Option<(u64, usize)>,
    resync_ms: u64,
    random: u64,
    stale_rows: BTreeSet<Owner>,
    bad_rows: usize,
    bad_removals: usize,
    out: Vec<Output>,
}

#[derive(Debug)]
struct Running {
    run: u64,
    keys: BTreeSet<ObjectKey>,
    plan: Plan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Found at the start.
    Start,
    /// A row changed, or something it waited for came.
    Row,
    /// Somebody else changed the kernel.
    Drift,
    /// It carries our mark and nobody wants it.
    Collect,
    /// It had been taken over, and is given back.
    Release,
}

/// How far the last attempt on an object has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// There was none, or nothing follows from it any more.
    None,
    /// Something that one of its steps started goes on.
    UnderWay,
    /// It had no error, so that the kernel must show what it did.
    Over,
}

/// What is known about an object.
#[derive(Debug)]
struct Item {
    state: State,
    error: Option<EcoString>,
    cause: Cause,
    /// The oldest commit of which this object was not read back.
    unsettled: Option<u64>,
    since_ms: u64,
    attempts: u32,
    tried_ms: u64,
    due_ms: u64,
    /// How far its last attempt has come.
    attempt: Attempt,
    /// Whether a commit changed it since its last run began.
    fresh: bool,
    /// Since when the rest of a former pair has been in the way.
    leaving_ms: Option<u64>,
    /// Whether it counts as a removal that did not work.
    counted: bool,
    /// When it was healed of late, and by what.
    heals: VecDeque<(u64, EcoString)>,
    /// Whether somebody else undid the same heal too often.
    contended: bool,
    /// Who wants it, or wanted it last.
    owner: Option<Owner>,
}

/// What is known about a row.
#[derive(Debug, Default)]
struct Row {
    cfg: u64,
    keys: BTreeSet<ObjectKey>,
    says: Option<(State, EcoString)>,
    /// Whether it counts as not working: everything was tried, and it is not as wanted.
    bad: bool,
    reported: Option<Report>,
}

impl Reconciler {
    /// A reconciler that knows nothing yet. It acts once it has the rows and the host's dump.
    pub fn new(options: Options) -> Self {
        Self {
            want: Want::new(options.mark),
            have: Mirror::default(),
            items: BTreeMap::new(),
            rows: BTreeMap::new(),
            heal_of: BTreeMap::new(),
            dirty: BTreeSet::new(),
            retries: BTreeSet::new(),
            running: None,
            runs: 0,
            unsettled: BTreeMap::new(),
            loaded: false,
            cfg: 0,
            unseen_cfg: 0,
            progress: None,
            resync_ms: 0,
            random: options.seed,
            stale_rows: BTreeSet::new(),
            bad_rows: 0,
            bad_removals: 0,
            out: Vec::new(),
            options,
        }
    }

    /// Takes one input at a time in milliseconds that never goes back, and gives what follows from it.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        match input {
            Input::Wanted { cfg, changes, heals } => {
                self.heals_are(now_ms, heals);
                self.wanted(now_ms, cfg, changes);
            }
            Input::Resolved { netns, resolution } => self.resolved(now_ms, netns, resolution),
            Input::Observed(observations) => self.observed(now_ms, observations),
            Input::Overrun => self.out.push(Output::Dump),
            Input::Ran {
                run,
                outcomes,
                observed,
            } => self.ran(now_ms, run, &outcomes, observed),
            Input::Finished {
                object,
                outcome,
                observed,
            } => self.finished(now_ms, &object, outcome, observed),
            Input::Tick => {}
        }
        self.timers(now_ms);
        self.work(now_ms);
        self.tell();
        std::mem::take(&mut self.out)
    }

    /// When the next [`Input::Tick`] is due, in milliseconds.
    pub fn deadline_ms(&self) -> u64 {
        self.retries
            .first()
            .map_or(self.resync_ms, |(due, _)| self.resync_ms.min(*due))
    }

    /// What would be done now for all rows.
    pub fn preview(&self) -> Plan {
        self.preview_of(&[], &BTreeMap::new()).plan
    }

    /// What the kernel is known to have.
    pub fn mirror(&self) -> &Mirror {
        &self.have
    }

    /// Takes in what rows say about drift. What drifted before is looked at again.
    fn heals_are(&mut self, now_ms: u64, heals: Vec<(Owner, Option<Heal>)>) {
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
    fn heal(&self, owner: Option<&Owner>) -> Heal {
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

    fn wanted(&mut self, now_ms: u64, cfg: u64, changes: Vec<(Owner, Desired)>) {
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

    fn row(&mut self, now_ms: u64, cfg: u64, cause: Cause, owner: Owner, desired: Desired) {
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

    fn want_object(&mut self, now_ms: u64, key: &ObjectKey, wanted: Wanted) {
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
        self.rethink_defaults(now_ms, key, [before, now]);
        self.dirty.extend(self.want.dependents(key).cloned());
    }

    fn release(&mut self, now_ms: u64, owner: &Owner, keys: BTreeSet<ObjectKey>) {
        for key in keys {
            let netns = self.want.get(&key).and_then(|w| w.object.netns()).cloned();
            if self.want.get(&key).is_some_and(|w| w.owner == *owner) {
                self.leave(&key);
            }
            self.rethink_ways(now_ms, &key);
            self.want.remove(&key, owner);
            self.leave_netns(now_ms, owner, netns.clone());
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
    fn leave(&mut self, key: &ObjectKey) {
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

    /// Gives up a namespace that no object reaches into any more, once nothing of ours is left there that goes with no link.
    fn leave_netns(&mut self, now_ms: u64, owner: &Owner, netns: Option<NetnsRef>) {
        let Some(netns) = netns.filter(|netns| self.want.users(netns).next().is_none()) else {
            return;
        };
        let inside = match self.want.resolution(&netns) {
            Resolution::Present(id) => self.have.namespace(id),
            Resolution::Unknown | Resolution::Absent(_) => None,
        };
        if inside.is_some_and(|inside| inside.routes(None).any(|route| route.protocol == PROTOCOL)) {
            self.soil(now_ms, Cause::Row, &ObjectKey::Routes(netns), owner);
        } else {
            self.unwatch(Some(netns));
        }
    }

    /// Nothing of an object is left where it was: those namespaces need not be observed for it any more.
    fn cleared(&mut self, key: &ObjectKey) {
        for netns in self.want.cleared(key) {
            self.unwatch(Some(netns));
        }
    }

    /// Whether other links may have their MTU from this one.
    fn is_passed(&self, link: &LinkName) -> bool {
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
    fn rethink_ways(&mut self, now_ms: u64, key: &ObjectKey) {
        if let ObjectKey::Link(link) | ObjectKey::OvsPort(link) = key
            && self.want.led_out_of(link).is_some()
        {
            self.rethink_mtus(now_ms, link);
        }
    }

    /// The links that have their MTU from this one may have another one now.
    fn rethink_mtus(&mut self, now_ms: u64, link: &LinkName) {
        for key in self.want.along(link) {
            // That a way is another one is nobody's tampering with what goes along it.
            if let Some(item) = self.items.get_mut(&key).filter(|item| item.state == State::Converged) {
                (item.state, item.cause, item.since_ms) = (State::Pending, Cause::Row, now_ms);
            }
            self.dirty.insert(key);
        }
    }

    /// Which of the ports of a namespace has the default route may be another one now.
    fn rethink_defaults(&mut self, now_ms: u64, changed: &ObjectKey, namespaces: [Option<NetnsRef>; 2]) {
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

    fn unwatch(&mut self, netns: Option<NetnsRef>) {
        if let Some(netns) = netns.filter(|n| *n != NetnsRef::Host && self.want.users(n).next().is_none()) {
            self.want.forget(&netns);
            self.out.push(Output::Unwatch(netns));
        }
    }

    /// Notes that a commit changed an object, which starts over.
    fn soil(&mut self, now_ms: u64, cause: Cause, key: &ObjectKey, owner: &Owner) {
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
    fn soil_firewall(&mut self, now_ms: u64, cause: Cause) {
        let keys: Vec<ObjectKey> = self.want.firewall_keys().cloned().collect();
        for key in keys {
            if let Some(owner) = self.want.get(&key).map(|wanted| wanted.owner.clone()) {
                self.soil(now_ms, cause, &key, &owner);
            }
        }
    }

    fn resolved(&mut self, now_ms: u64, netns: NetnsRef, resolution: Resolution) {
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

    fn observed(&mut self, now_ms: u64, observations: Vec<Observation>) {
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

    fn touched(&mut self, now_ms: u64, touched: &Touched) {
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
    fn touched_firewall(&mut self, now_ms: u64, touched: &Touched) -> BTreeSet<ObjectKey> {
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
    fn stray(&mut self, now_ms: u64, name: &LinkName) -> Option<ObjectKey> {
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
    fn noted(&mut self, now_ms: u64, key: ObjectKey) -> ObjectKey {
        if !self.items.contains_key(&key) {
            let mut item = Item::new(now_ms);
            item.cause = Cause::Collect;
            self.put(key.clone(), item);
        }
        key
    }

    /// An object that is no link and changed, if it is known, or carries our mark and nobody wants it.
    fn strayed(&mut self, now_ms: u64, key: &ObjectKey) -> Option<ObjectKey> {
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
    fn lease_changed(&mut self, port: &LinkName) -> Option<ObjectKey> {
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
    fn hurry(&mut self, now_ms: u64, key: &ObjectKey) {
        let Some(item) = self.items.get_mut(key) else { return };
        if item.due_ms > now_ms && now_ms >= item.tried_ms + ECHO_MS {
            self.retries.remove(&(item.due_ms, key.clone()));
            item.due_ms = 0;
            item.attempts = 0;
        }
    }

    fn collect(&mut self, now_ms: u64) {
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

    fn ran(&mut self, now_ms: u64, run: u64, outcomes: &[Outcome], observed: Vec<Observation>) {
        self.observed(now_ms, observed);
        let Some(running) = self.running.take_if(|running| running.run == run) else {
            return;
        };
        let mut errors: BTreeMap<&ObjectKey, EcoString> = BTreeMap::new();
        let mut started: BTreeSet<&ObjectKey> = BTreeSet::new();
        for (step, outcome) in running.plan.steps.iter().zip(outcomes) {
            let text = match outcome {
                Outcome::Done => continue,
                Outcome::Started => {
                    started.insert(&step.object);
                    continue;
                }
                Outcome::Failed(refusal) => eco_format!("{}: {refusal}", step.operation),
                Outcome::Skipped => eco_format!("{}: left out, since what it needs failed", step.operation),
            };
            errors.entry(&step.object).or_insert(text);
        }
        for key in &running.keys {
            let Some(mut item) = self.take(key) else { continue };
            if started.contains(key) {
                item.attempt = Attempt::UnderWay;
            }
            self.tried(now_ms, key, &mut item, errors.remove(key));
            self.put(key.clone(), item);
            self.dirty.insert(key.clone());
        }
    }

    fn finished(&mut self, now_ms: u64, key: &ObjectKey, outcome: Outcome, observed: Vec<Observation>) {
        self.observed(now_ms, observed);
        let Some(mut item) = self.take(key) else { return };
        item.attempt = Attempt::None;
        let error = match outcome {
            Outcome::Failed(refusal) => Some(eco_format!("{refusal}")),
            Outcome::Done | Outcome::Started | Outcome::Skipped => None,
        };
        self.tried(now_ms, key, &mut item, error);
        self.put(key.clone(), item);
        self.dirty.insert(key.clone());
        // Who waited for the end of this has it now, good or bad.
        self.dirty.extend(self.want.dependents(key).cloned());
    }

    /// Notes what became of an attempt.
    fn tried(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, error: Option<EcoString>) {
        item.tried_ms = now_ms;
        match error {
            // A commit in the meantime has made it another object, which has not been tried.
            _ if item.fresh => {}
            Some(text) => self.failed(now_ms, key, item, text),
            None if item.attempt == Attempt::UnderWay => {}
            None => item.attempt = Attempt::Over,
        }
    }

    fn timers(&mut self, now_ms: u64) {
        while let Some((due, key)) = self.retries.first().cloned().filter(|(due, _)| *due <= now_ms) {
            self.retries.remove(&(due, key.clone()));
            self.dirty.insert(key);
        }
        if self.loaded && now_ms >= self.resync_ms {
            self.resync_ms = now_ms + RESYNC_MS;
            self.out.push(Output::Dump);
        }
    }

    /// Takes an item out, with its part of the count of removals that did not work.
    fn take(&mut self, key: &ObjectKey) -> Option<Item> {
        let item = self.items.remove(key)?;
        self.bad_removals -= usize::from(item.counted);
        Some(item)
    }

    fn put(&mut self, key: ObjectKey, mut item: Item) {
        item.counted = self.want.get(&key).is_none() && is_bad(item.state);
        self.bad_removals += usize::from(item.counted);
        self.stale_rows.extend(self.want.get(&key).map(|w| w.owner.clone()));
        self.items.insert(key, item);
    }
}

impl Item {
    /// Whether what somebody else made of it is left: healing is off, or has been tried too often.
    fn is_left(&self) -> bool {
        self.state == State::Drifted || self.contended
    }

    /// Nothing follows any more from an attempt that is over.
    fn forget_attempt(&mut self) {
        if self.attempt == Attempt::Over {
            self.attempt = Attempt::None;
        }
    }

    fn new(now_ms: u64) -> Self {
        Self {
            state: State::Pending,
            error: None,
            cause: Cause::Row,
            unsettled: None,
            since_ms: now_ms,
            attempts: 0,
            tried_ms: 0,
            due_ms: 0,
            attempt: Attempt::None,
            fresh: true,
            counted: false,
            leaving_ms: None,
            heals: VecDeque::new(),
            contended: false,
            owner: None,
        }
    }
}

fn is_bad(state: State) -> bool {
    !matches!(state, State::Converged | State::Pending)
}
