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
mod rows;
mod seen;
mod tell;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ecow::{EcoString, eco_format};

pub use self::input::{Desired, Heal, Input, Options, Output};
pub use self::preview::{Held, Preview};
use crate::limits::RESYNC_MS;
use crate::mirror::{Mirror, Observation};
use crate::object::{ObjectKey, Owner};
use crate::plan::{Outcome, Plan};
use crate::report::{Report, State};
use crate::want::Want;

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
