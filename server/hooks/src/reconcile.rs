//! The reconciler: when to compare, run, retry and report.
//!
//! A state machine. Inputs are wanted objects per row, answers about namespaces, observations, outcomes of plans and the passing of time; outputs
//! are commands for the kernel side, reports per row, progress and events. Level-triggered: an input only says what to compare again.
//! One plan is under way at a time. The cost of a commit is that of the objects it changes.
//!
//! An object is pending -> (run) -> converged | failed -> (retry) ...; waiting until what it needs appears; in conflict until what is in its
//! way leaves; drifted when somebody else changed it and healing is off.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ecow::{EcoString, eco_format};

use crate::diff::{self, Diff, Verdict};
use crate::limits::{
    CONTENDED_WINDOW_MS, HEALS_MAX, LEAVING_MS, OBJECTS_PER_PLAN_MAX, RESYNC_MS, RETRY_MS_MAX, RETRY_MS_MIN,
};
use crate::mirror::{Change, Mirror, NamespaceId, Observation, Touched};
use crate::object::{NetnsRef, Object, ObjectKey, Owner, Wanted};
use crate::plan::{Operation, Outcome, Plan, Step};
use crate::report::{Event, EventKind, Facts, Report, State};
use crate::want::{Mark, Resolution, Want};

/// Attempts without an error after which a change that does not show in the kernel counts as failed.
const UNSEEN_ATTEMPTS_MAX: u32 = 3;

/// Milliseconds after an attempt in which an event may be its own echo, and so does not reset the retry.
const ECHO_MS: u64 = 1_000;

/// What is done about a change that somebody else made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heal {
    /// It is taken back.
    #[default]
    On,
    /// It is reported as the row's state.
    Report,
    /// Nothing.
    Off,
}

/// How the reconciler behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The mark of what is ours.
    pub mark: Mark,
    /// What is done about drift.
    pub heal: Heal,
    /// Whether plans are only reported, never run.
    pub observe_only: bool,
    /// The seed of the jitter between retries.
    pub seed: u64,
}

/// What a row wants now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Desired {
    /// These objects, and nothing else.
    Objects(Vec<Object>),
    /// Nothing yet, for this reason.
    Waiting(EcoString),
    /// Something that cannot be, for this reason.
    Invalid(EcoString),
    /// Nothing any more: the row is deleted.
    Gone,
}

/// What the reconciler is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Rows changed at a commit. The first one has every row and stands for the start.
    Wanted {
        /// The sequence of the newest commit that it covers.
        cfg: u64,
        /// The changed rows.
        changes: Vec<(Owner, Desired)>,
    },
    /// Where a watched namespace is. Its dump was observed before.
    Resolved {
        /// How rows name it.
        netns: NetnsRef,
        /// Where it is.
        resolution: Resolution,
    },
    /// The kernel said something. A dump of all namespaces ends with that of the host.
    Observed(Vec<Observation>),
    /// Events were lost.
    Overrun,
    /// A plan was carried out.
    Ran {
        /// The number it was given.
        run: u64,
        /// What became of its steps, in their order.
        outcomes: Vec<Outcome>,
        /// What the kernel said until then.
        observed: Vec<Observation>,
    },
    /// Time passed.
    Tick,
}

/// What the reconciler wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Carry out a plan and answer with [`Input::Ran`].
    Run {
        /// The number of this run.
        run: u64,
        /// The plan.
        plan: Plan,
    },
    /// Find a namespace, observe it, and answer with [`Input::Resolved`] now and whenever that changes.
    Watch(NetnsRef),
    /// Observe a namespace no longer by this reference.
    Unwatch(NetnsRef),
    /// Dump all observed namespaces.
    Dump,
    /// A row's state changed.
    Report(Report),
    /// Commits up to `cur_cfg` were read back; `failed` rows did not converge.
    Progress {
        /// The newest commit of which everything was read back.
        cur_cfg: u64,
        /// Rows that are not as wanted, and removals that did not work.
        failed: usize,
    },
    /// Something happened.
    Event(Event),
}

/// The state machine.
#[derive(Debug)]
pub struct Reconciler {
    options: Options,
    want: Want,
    have: Mirror,
    items: BTreeMap<ObjectKey, Item>,
    rows: BTreeMap<Owner, Row>,
    dirty: BTreeSet<ObjectKey>,
    retries: BTreeSet<(u64, ObjectKey)>,
    running: Option<Running>,
    runs: u64,
    unsettled: BTreeMap<u64, usize>,
    loaded: bool,
    cfg: u64,
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
    /// Whether its last run had no error, so that the kernel must show it.
    ran: bool,
    /// Whether a commit changed it since its last run began.
    fresh: bool,
    /// Since when the rest of a former pair has been in the way.
    leaving_ms: Option<u64>,
    /// Whether it counts as a removal that did not work.
    counted: bool,
    heals: VecDeque<u64>,
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
            dirty: BTreeSet::new(),
            retries: BTreeSet::new(),
            running: None,
            runs: 0,
            unsettled: BTreeMap::new(),
            loaded: false,
            cfg: 0,
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
            Input::Wanted { cfg, changes } => self.wanted(now_ms, cfg, changes),
            Input::Resolved { netns, resolution } => self.resolved(now_ms, netns, resolution),
            Input::Observed(observations) => self.observed(now_ms, observations),
            Input::Overrun => self.out.push(Output::Dump),
            Input::Ran {
                run,
                outcomes,
                observed,
            } => self.ran(now_ms, run, &outcomes, observed),
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

    /// What would be done for these rows' objects if they were applied now, for a dry run against the kernel.
    pub fn preview(&self) -> Plan {
        let mut keys: BTreeSet<ObjectKey> = self.want.keys().cloned().collect();
        keys.extend(diff::collectable(&self.want, &self.have));
        diff::plan(&self.want, &self.have, &keys).plan
    }

    /// What the kernel is known to have.
    pub fn mirror(&self) -> &Mirror {
        &self.have
    }

    fn wanted(&mut self, now_ms: u64, cfg: u64, changes: Vec<(Owner, Desired)>) {
        self.cfg = self.cfg.max(cfg);
        let cause = if self.loaded { Cause::Row } else { Cause::Start };
        for (owner, desired) in changes {
            self.row(now_ms, cfg, cause, owner, desired);
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
                self.release(now_ms, cfg, &owner, before);
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
            self.want_object(&key, wanted);
            self.soil(now_ms, cfg, cause, &key, &owner);
        }
        let gone = before.difference(&row.keys).cloned().collect();
        self.release(now_ms, cfg, &owner, gone);
        self.rows.insert(owner.clone(), row);
        self.stale_rows.insert(owner);
    }

    fn want_object(&mut self, key: &ObjectKey, wanted: Wanted) {
        let before = self.want.get(key).and_then(|w| w.object.netns()).cloned();
        let now = wanted.object.netns().cloned();
        if let Some(netns) = now.filter(|n| *n != NetnsRef::Host && self.want.users(n).next().is_none()) {
            self.out.push(Output::Watch(netns));
        }
        self.want.insert(wanted);
        self.unwatch(before);
        self.dirty.extend(self.want.dependents(key).cloned());
    }

    fn release(&mut self, now_ms: u64, cfg: u64, owner: &Owner, keys: BTreeSet<ObjectKey>) {
        for key in keys {
            let netns = self.want.get(&key).and_then(|w| w.object.netns()).cloned();
            self.want.remove(&key, owner);
            self.unwatch(netns);
            self.dirty.extend(self.want.dependents(&key).cloned());
            self.soil(now_ms, cfg, Cause::Row, &key, owner);
            // Somebody who waited for the name has it now.
            if let Some(heir) = self.want.get(&key).map(|w| w.owner.clone()) {
                self.stale_rows.insert(heir);
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
    fn soil(&mut self, now_ms: u64, cfg: u64, cause: Cause, key: &ObjectKey, owner: &Owner) {
        let wanted = self.want.get(key).map(|w| w.owner.clone());
        let mut item = self.take(key).unwrap_or_else(|| Item::new(now_ms));
        if item.unsettled.is_none() {
            item.unsettled = Some(cfg);
            *self.unsettled.entry(cfg).or_default() += 1;
        }
        item.owner = wanted.or_else(|| Some(owner.clone()));
        item.state = State::Pending;
        item.error = None;
        item.cause = cause;
        item.since_ms = now_ms;
        item.attempts = 0;
        item.due_ms = 0;
        item.ran = false;
        item.fresh = true;
        item.heals.clear();
        self.put(key.clone(), item);
        self.dirty.insert(key.clone());
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
                let key = ObjectKey::Link(name.clone());
                if self.items.contains_key(&key) {
                    keys.insert(key);
                }
                keys.extend(self.want.address_keys(name).cloned());
                keys.extend(self.want.inner_end_on_host(name).cloned());
            } else {
                keys.extend(self.want.inhabitants(*id).cloned());
            }
        }
        for (_, name) in touched.existence.iter().filter(|(id, _)| *id == NamespaceId::Host) {
            keys.extend(self.want.dependents(&ObjectKey::Link(name.clone())).cloned());
        }
        for key in keys {
            self.hurry(now_ms, &key);
            self.dirty.insert(key);
        }
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
        for (step, outcome) in running.plan.steps.iter().zip(outcomes) {
            let text = match outcome {
                Outcome::Done => continue,
                Outcome::Failed(refusal) => eco_format!("{}: {refusal}", step.operation),
                Outcome::Skipped => eco_format!("{}: left out, since what it needs failed", step.operation),
            };
            errors.entry(&step.object).or_insert(text);
        }
        for key in &running.keys {
            let Some(mut item) = self.take(key) else { continue };
            item.tried_ms = now_ms;
            match errors.remove(key) {
                // A commit during the run has made it another object, which has not been tried.
                _ if item.fresh => {}
                Some(text) => self.failed(now_ms, key, &mut item, text),
                None => item.ran = true,
            }
            self.put(key.clone(), item);
            self.dirty.insert(key.clone());
        }
    }

    fn failed(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, text: EcoString) {
        item.attempts += 1;
        item.ran = false;
        self.delay(now_ms, key, item);
        self.settle(item);
        if item.state != State::Failed || item.error.as_ref() != Some(&text) {
            self.event(now_ms, EventKind::Failed, key, item, text.clone());
        }
        item.state = State::Failed;
        item.error = Some(text);
    }

    fn delay(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item) {
        let exponent = item.attempts.saturating_sub(1).min(16);
        let wait = (RETRY_MS_MIN << exponent).min(RETRY_MS_MAX);
        // Three quarters to five quarters of it, so that objects that failed together do not retry together.
        let jitter = self.draw() % (wait / 2 + 1);
        item.due_ms = now_ms + wait - wait / 4 + jitter;
        self.retries.insert((item.due_ms, key.clone()));
    }

    /// The next number of a splitmix64 sequence.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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

    /// Compares what is dirty and starts the next run.
    fn work(&mut self, now_ms: u64) {
        while self.running.is_none() && self.loaded && self.have.host().is_some() && !self.dirty.is_empty() {
            let keys = self.next_keys();
            let (keys, plan) = self.compare(now_ms, keys);
            if !plan.is_empty() {
                self.runs += 1;
                let concerned = plan.steps.iter().map(|step| step.object.clone()).collect();
                let run = self.runs;
                for key in &keys {
                    if let Some(item) = self.items.get_mut(key) {
                        item.ran = false;
                        item.fresh = false;
                        item.tried_ms = now_ms;
                    }
                }
                self.out.push(Output::Run {
                    run,
                    plan: plan.clone(),
                });
                self.running = Some(Running {
                    run,
                    keys: concerned,
                    plan,
                });
            }
        }
    }

    /// Compares objects and judges each. Gives those whose steps may run now, and the plan for them.
    fn compare(&mut self, now_ms: u64, mut keys: BTreeSet<ObjectKey>) -> (BTreeSet<ObjectKey>, Plan) {
        loop {
            let Diff { plan, verdicts } = diff::plan(&self.want, &self.have, &keys);
            let before = keys.len();
            for (key, verdict) in &verdicts {
                if !self.judge(now_ms, key, verdict, &plan) {
                    keys.remove(key);
                }
            }
            if keys.len() == before {
                return (keys, plan);
            }
            // Without those that are held back, who depends on them is another matter.
        }
    }

    /// Some of the dirty keys: who is depended on first.
    fn next_keys(&mut self) -> BTreeSet<ObjectKey> {
        if self.dirty.len() <= OBJECTS_PER_PLAN_MAX {
            return std::mem::take(&mut self.dirty);
        }
        let leaf = |key: &ObjectKey| self.want.get(key).is_some_and(|w| matches!(w.object, Object::Veth(_)));
        let mut order: Vec<ObjectKey> = self.dirty.iter().filter(|key| !leaf(key)).cloned().collect();
        order.extend(self.dirty.iter().filter(|key| leaf(key)).cloned());
        order.truncate(OBJECTS_PER_PLAN_MAX);
        let keys: BTreeSet<ObjectKey> = order.into_iter().collect();
        self.dirty.retain(|key| !keys.contains(key));
        keys
    }

    /// Takes note of a verdict. Gives whether the object's steps may run.
    fn judge(&mut self, now_ms: u64, key: &ObjectKey, verdict: &Verdict, plan: &Plan) -> bool {
        let mut item = self.take(key).unwrap_or_else(|| Item::new(now_ms));
        if !matches!(verdict, Verdict::Leaving(_)) && item.leaving_ms.take().is_some() {
            self.retries.remove(&(item.due_ms, key.clone()));
            item.due_ms = 0;
        }
        let runs = match verdict {
            Verdict::Equal => {
                self.converged(now_ms, key, &mut item);
                false
            }
            Verdict::Absent => {
                self.converged(now_ms, key, &mut item);
                self.stale_rows.extend(item.owner);
                return true;
            }
            Verdict::Unread(reason) => {
                if item.state == State::Converged && !self.heals(now_ms, key, &mut item, reason) {
                    self.put(key.clone(), item);
                    return true;
                }
                item.state = State::Pending;
                item.error = Some(reason.clone());
                false
            }
            Verdict::Leaving(reason) => {
                self.leaving(now_ms, key, &mut item, reason);
                false
            }
            Verdict::Waiting(reason) => {
                self.stand(&mut item, State::Waiting, reason);
                false
            }
            Verdict::Conflict(reason) => {
                if item.state != State::Conflict {
                    self.event(now_ms, EventKind::Failed, key, &item, reason.clone());
                }
                self.stand(&mut item, State::Conflict, reason);
                false
            }
            Verdict::Planned => self.planned(now_ms, key, &mut item, plan),
        };
        self.put(key.clone(), item);
        // What has no steps is not held: leaving it in keeps the verdicts of those that depend on it.
        runs || !matches!(verdict, Verdict::Planned)
    }

    /// The rest of a former pair is in the way: if it does not go soon, it is somebody else's.
    fn leaving(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, reason: &EcoString) {
        if item.state == State::Converged && !self.heals(now_ms, key, item, reason) {
            return;
        }
        let since = *item.leaving_ms.get_or_insert(now_ms);
        if now_ms >= since + LEAVING_MS {
            self.stand(item, State::Conflict, reason);
            return;
        }
        item.state = State::Pending;
        item.error = Some(reason.clone());
        self.retries.remove(&(item.due_ms, key.clone()));
        item.due_ms = since + LEAVING_MS;
        self.retries.insert((item.due_ms, key.clone()));
    }

    fn stand(&mut self, item: &mut Item, state: State, reason: &EcoString) {
        item.state = state;
        item.error = Some(reason.clone());
        if item.cause == Cause::Drift {
            item.cause = Cause::Row;
        }
        self.settle(item);
    }

    fn converged(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item) {
        let contended = item.state == State::Conflict && item.heals.len() >= HEALS_MAX;
        if contended
            && item
                .heals
                .back()
                .is_some_and(|last| now_ms < last + CONTENDED_WINDOW_MS)
        {
            return;
        }
        if item.state != State::Converged {
            let kind = match item.cause {
                Cause::Start => EventKind::Adopted,
                Cause::Row => EventKind::Applied,
                Cause::Drift => EventKind::Healed,
                Cause::Collect => EventKind::Collected,
            };
            self.event(now_ms, kind, key, item, EcoString::new());
        }
        item.state = State::Converged;
        item.error = None;
        item.attempts = 0;
        item.ran = false;
        self.retries.remove(&(item.due_ms, key.clone()));
        item.due_ms = 0;
        self.settle(item);
    }

    /// The kernel differs from what is wanted: whether to run the plan now.
    fn planned(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, plan: &Plan) -> bool {
        let first = plan
            .steps
            .iter()
            .find(|step| step.object == *key)
            .map(|step| eco_format!("{}", step.operation));
        let first = first.unwrap_or_default();
        if self.options.observe_only {
            let text = eco_format!("not applied, since the server only observes: {first}");
            item.state = State::Waiting;
            item.error = Some(text);
            self.settle(item);
            return false;
        }
        if item.state == State::Converged && !self.heals(now_ms, key, item, &first) {
            return false;
        }
        let contended = item.state == State::Conflict && item.heals.len() >= HEALS_MAX;
        if contended || item.state == State::Drifted {
            return false;
        }
        if item.ran {
            self.unseen(now_ms, key, item, &first);
        }
        let read = |step: &Step| matches!(step.operation, Operation::Sysctl { was: None, .. });
        if item.cause == Cause::Start && !plan.steps.iter().filter(|step| step.object == *key).all(read) {
            // What is not as wanted at the start is not adopted but made.
            item.cause = Cause::Row;
        }
        if item.due_ms > now_ms {
            return false;
        }
        if item.state != State::Failed {
            item.state = State::Pending;
            item.error = None;
        }
        true
    }

    /// The last run had no error, yet the kernel does not show what it did: read it again, and try again soon.
    fn unseen(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, first: &EcoString) {
        item.ran = false;
        if item.attempts + 1 >= UNSEEN_ATTEMPTS_MAX {
            let text = eco_format!("the kernel took the change but does not show it: {first}");
            self.failed(now_ms, key, item, text);
        } else {
            item.attempts += 1;
            self.delay(now_ms, key, item);
        }
        if !self.out.contains(&Output::Dump) {
            self.out.push(Output::Dump);
        }
    }

    /// Somebody else changed a converged object: whether to take it back.
    fn heals(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, first: &EcoString) -> bool {
        if self.options.heal == Heal::Off {
            return false;
        }
        item.since_ms = now_ms;
        item.cause = Cause::Drift;
        self.event(now_ms, EventKind::Drift, key, item, first.clone());
        if self.options.heal == Heal::Report {
            item.state = State::Drifted;
            item.error = Some(eco_format!("changed by somebody else; to take it back: {first}"));
            return false;
        }
        item.heals.retain(|at| at + CONTENDED_WINDOW_MS > now_ms);
        if item.heals.len() >= HEALS_MAX {
            item.state = State::Conflict;
            item.error = Some(eco_format!(
                "contended: healed {HEALS_MAX} times in {} s and changed again; left as it is until the row changes",
                CONTENDED_WINDOW_MS / 1_000
            ));
            return false;
        }
        item.heals.push_back(now_ms);
        true
    }

    fn settle(&mut self, item: &mut Item) {
        let Some(cfg) = item.unsettled.take() else { return };
        let left = self.unsettled.get_mut(&cfg).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            self.unsettled.remove(&cfg);
        }
    }

    fn event(&mut self, now_ms: u64, kind: EventKind, key: &ObjectKey, item: &Item, text: EcoString) {
        let owner = item.owner.clone();
        let ms = now_ms.saturating_sub(item.since_ms);
        self.out.push(Output::Event(Event {
            kind,
            object: key.clone(),
            owner,
            ms,
            text,
        }));
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

    /// Reports the rows whose objects were looked at, if anything about them changed, and the progress.
    fn tell(&mut self) {
        for owner in std::mem::take(&mut self.stale_rows) {
            let Some(row) = self.rows.get(&owner) else { continue };
            let report = self.report(&owner, row);
            let unsettled = |key: &ObjectKey| self.items.get(key).is_some_and(|item| item.unsettled.is_some());
            let under_way = report.state == State::Pending && row.keys.iter().any(unsettled);
            let bad = report.state != State::Converged && !under_way;
            let Some(row) = self.rows.get_mut(&owner) else { continue };
            self.bad_rows = self.bad_rows + usize::from(bad) - usize::from(std::mem::replace(&mut row.bad, bad));
            if row.reported.as_ref() == Some(&report) {
                continue;
            }
            row.reported = Some(report.clone());
            self.out.push(Output::Report(report));
        }
        let cur_cfg = self
            .unsettled
            .first_key_value()
            .map_or(self.cfg, |(cfg, _)| cfg.saturating_sub(1));
        let progress = (cur_cfg, self.bad_rows + self.bad_removals);
        if self.loaded && self.have.host().is_some() && self.progress != Some(progress) {
            self.progress = Some(progress);
            self.out.push(Output::Progress {
                cur_cfg,
                failed: progress.1,
            });
        }
    }

    fn report(&self, owner: &Owner, row: &Row) -> Report {
        let (mut state, mut error) = match &row.says {
            Some((state, reason)) => (*state, Some(reason.clone())),
            None => (State::Converged, None),
        };
        let mut attempts = 0;
        let mut facts = Facts::default();
        for key in &row.keys {
            let Some(wanted) = self.want.get(key) else { continue };
            let (of, why) = if wanted.owner == *owner {
                let item = self.items.get(key);
                attempts = attempts.max(item.map_or(0, |item| item.attempts));
                item.map_or((State::Pending, None), |item| (item.state, item.error.clone()))
            } else {
                (
                    State::Conflict,
                    Some(eco_format!("{key} is already wanted by {}", wanted.owner)),
                )
            };
            if of > state || (of == state && error.is_none()) {
                state = of;
                error = why;
            }
            if wanted.owner == *owner && facts.ifindex.is_none() {
                facts = Facts::of(wanted, &self.want, &self.have);
            }
        }
        Report {
            owner: owner.clone(),
            state,
            cfg: row.cfg,
            attempts,
            error,
            facts,
        }
    }
}

impl Item {
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
            ran: false,
            fresh: true,
            counted: false,
            leaving_ms: None,
            heals: VecDeque::new(),
            owner: None,
        }
    }
}

fn is_bad(state: State) -> bool {
    !matches!(state, State::Converged | State::Pending)
}
