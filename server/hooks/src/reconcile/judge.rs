//! The reconciler's judgement: what a comparison means for an object, and whether its steps run now.

use std::collections::{BTreeSet, HashMap};

use ecow::{EcoString, eco_format};

use super::{Attempt, Cause, Heal, Item, Output, Reconciler, Running};
use crate::dhcp::Progress;
use crate::diff::{self, Diff, Verdict};
use crate::limits::{
    CONTENDED_WINDOW_MS, HEALS_MAX, HEALS_REMEMBERED_MAX, LEAVING_MS, OBJECTS_PER_PLAN_MAX, RETRY_MS_MAX, RETRY_MS_MIN,
};
use crate::object::wireguard::WireguardOperation;
use crate::object::{Object, ObjectKey};
use crate::plan::{Operation, Plan, Step};
use crate::report::{EventKind, State};

/// Attempts without an error after which a change that does not show in the kernel counts as failed.
const UNSEEN_ATTEMPTS_MAX: u32 = 3;

/// What is to be done about a pair of which one end is known to be gone.
const MAKE_AGAIN: EcoString = EcoString::inline("make it again");

impl Reconciler {
    /// Compares what is dirty and starts the next run.
    pub(super) fn work(&mut self, now_ms: u64) {
        while self.running.is_none() && self.loaded && self.have.host().is_some() && !self.dirty.is_empty() {
            let keys = self.next_keys();
            let (keys, plan) = self.compare(now_ms, keys);
            if !plan.is_empty() {
                self.runs += 1;
                let concerned = plan.steps.iter().map(|step| step.object.clone()).collect();
                let run = self.runs;
                for key in &keys {
                    if let Some(item) = self.items.get_mut(key) {
                        item.forget_attempt();
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
    pub(super) fn compare(&mut self, now_ms: u64, mut keys: BTreeSet<ObjectKey>) -> (BTreeSet<ObjectKey>, Plan) {
        loop {
            let Diff { plan, verdicts } = diff::plan(&self.want, &self.have, &keys);
            let before = keys.len();
            let mut steps: HashMap<&ObjectKey, Vec<&Step>> = HashMap::new();
            for step in &plan.steps {
                steps.entry(&step.object).or_default().push(step);
            }
            for (key, verdict) in &verdicts {
                let steps = steps.get(key).map_or(&[][..], Vec::as_slice);
                if !self.judge(now_ms, key, verdict, steps) {
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
    pub(super) fn next_keys(&mut self) -> BTreeSet<ObjectKey> {
        if self.dirty.len() <= OBJECTS_PER_PLAN_MAX {
            return std::mem::take(&mut self.dirty);
        }
        let leaf = |key: &ObjectKey| {
            self.want
                .get(key)
                .is_some_and(|w| matches!(w.object, Object::Port(_) | Object::OvsPort(_)))
        };
        let mut order: Vec<ObjectKey> = self.dirty.iter().filter(|key| !leaf(key)).cloned().collect();
        order.extend(self.dirty.iter().filter(|key| leaf(key)).cloned());
        order.truncate(OBJECTS_PER_PLAN_MAX);
        let keys: BTreeSet<ObjectKey> = order.into_iter().collect();
        self.dirty.retain(|key| !keys.contains(key));
        keys
    }

    /// Takes note of a verdict. Gives whether the object's steps may run.
    pub(super) fn judge(&mut self, now_ms: u64, key: &ObjectKey, verdict: &Verdict, steps: &[&Step]) -> bool {
        if let ObjectKey::Dhcp(port) = key {
            self.lease_changed(port);
        }
        let mut item = self.take(key).unwrap_or_else(|| Item::new(now_ms));
        if !matches!(verdict, Verdict::Leaving(_)) && item.leaving_ms.take().is_some() {
            self.retries.remove(&(item.due_ms, key.clone()));
            item.due_ms = 0;
        }
        if matches!(verdict, Verdict::Equal | Verdict::Absent) {
            self.cleared(key);
        }
        let runs = match verdict {
            _ if item.attempt == Attempt::UnderWay => false,
            Verdict::Equal => {
                self.converged(now_ms, key, &mut item);
                false
            }
            Verdict::Absent => {
                self.converged(now_ms, key, &mut item);
                self.stale_rows.extend(item.owner);
                if let ObjectKey::Routes(netns) = key {
                    self.unwatch(Some(netns.clone()));
                }
                return true;
            }
            Verdict::Settling(_) | Verdict::Unread(_) if item.is_left() => false,
            Verdict::Settling(reason) => {
                if item.state == State::Converged {
                    // The kernel does this by itself, as when a link comes back: nobody tampered.
                    (item.cause, item.since_ms) = (Cause::Row, now_ms);
                }
                item.state = State::Pending;
                item.error = Some(reason.clone());
                item.attempts = 0;
                item.forget_attempt();
                false
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
            // That a container stops by itself is drift, too.
            Verdict::Waiting(reason)
                if matches!(key, ObjectKey::Container(_))
                    && item.state == State::Converged
                    && !self.heals(now_ms, key, &mut item, reason) =>
            {
                false
            }
            Verdict::Waiting(_) if matches!(key, ObjectKey::Container(_)) && item.is_left() => false,
            Verdict::Waiting(reason) if self.needs_busy(key) => {
                item.state = State::Pending;
                item.error = Some(reason.clone());
                false
            }
            Verdict::Waiting(reason) => {
                if item.error.as_ref() != Some(reason) && self.is_said_by_client(key, reason) {
                    self.event(now_ms, EventKind::Failed, key, &item, reason.clone());
                }
                self.stand(&mut item, State::Waiting, reason);
                false
            }
            Verdict::Failed(reason) => {
                if item.state != State::Failed || item.error.as_ref() != Some(reason) {
                    self.event(now_ms, EventKind::Failed, key, &item, reason.clone());
                }
                self.stand(&mut item, State::Failed, reason);
                false
            }
            Verdict::Conflict(reason) => {
                if item.state != State::Conflict {
                    self.event(now_ms, EventKind::Failed, key, &item, reason.clone());
                }
                self.stand(&mut item, State::Conflict, reason);
                false
            }
            Verdict::Planned => self.planned(now_ms, key, &mut item, steps),
        };
        self.put(key.clone(), item);
        // What has no steps is not held: leaving it in keeps the verdicts of those that depend on it.
        runs || !matches!(verdict, Verdict::Planned)
    }

    /// Whether it is a DHCP client that says why there is no lease.
    fn is_said_by_client(&self, key: &ObjectKey, reason: &EcoString) -> bool {
        let client = match key {
            ObjectKey::Dhcp(port) => self.have.dhcp(port),
            _ => None,
        };
        client.is_some_and(|client| matches!(&client.progress, Progress::Without(why) if why == reason))
    }

    /// Whether something that an object needs is being made.
    fn needs_busy(&self, key: &ObjectKey) -> bool {
        let needs = self.want.get(key).map(|wanted| wanted.object.depends_on());
        let is_busy = |key: &ObjectKey| {
            let item = self.items.get(key);
            item.is_some_and(|item| item.attempt == Attempt::UnderWay)
        };
        needs.unwrap_or_default().iter().any(is_busy)
    }

    /// The rest of a former pair is in the way: if it does not go soon, it is somebody else's.
    pub(super) fn leaving(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, reason: &EcoString) {
        if item.is_left() || (item.state == State::Converged && !self.heals(now_ms, key, item, &MAKE_AGAIN)) {
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

    pub(super) fn stand(&mut self, item: &mut Item, state: State, reason: &EcoString) {
        item.state = state;
        item.error = Some(reason.clone());
        if item.cause == Cause::Drift {
            item.cause = Cause::Row;
        }
        self.settle(item);
    }

    pub(super) fn converged(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item) {
        let healed_lately = |(at, _): &(u64, EcoString)| now_ms < at + CONTENDED_WINDOW_MS;
        if item.contended && item.heals.back().is_some_and(healed_lately) {
            return;
        }
        item.contended = false;
        if item.state != State::Converged {
            let kind = match item.cause {
                Cause::Start => EventKind::Adopted,
                Cause::Row => EventKind::Applied,
                Cause::Drift => EventKind::Healed,
                Cause::Collect => EventKind::Collected,
                Cause::Release => EventKind::Released,
            };
            if !self.want.is_dormant(key) {
                self.event(now_ms, kind, key, item, EcoString::new());
            }
            // Who waited for it need not see any event: at a start it was there before it was known to be as wanted.
            let waits = |key: &&ObjectKey| self.items.get(*key).is_some_and(|item| item.state != State::Converged);
            self.dirty.extend(self.want.dependents(key).filter(waits).cloned());
        }
        item.state = State::Converged;
        item.error = None;
        item.attempts = 0;
        item.forget_attempt();
        self.retries.remove(&(item.due_ms, key.clone()));
        item.due_ms = 0;
        self.settle(item);
    }

    /// The kernel differs from what is wanted: whether to run these steps now.
    pub(super) fn planned(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, steps: &[&Step]) -> bool {
        let first = steps.first().map(|step| eco_format!("{}", step.operation));
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
        if item.is_left() {
            return false;
        }
        if item.attempt == Attempt::Over {
            self.unseen(now_ms, key, item, &first);
        }
        let read = |step: &&Step| match &step.operation {
            // The sockets of a former run of the server ended with it.
            Operation::Sysctl { was: None, .. }
            | Operation::Offload { was: None, .. }
            | Operation::Borrow(_)
            | Operation::Listen(_) => true,
            Operation::ResolvConf(set) => set.was.is_none(),
            Operation::Wireguard(WireguardOperation::Set(set)) => set.was.is_none(),
            _ => false,
        };
        if item.cause == Cause::Start && !steps.iter().all(read) {
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
        let gives_back =
            |step: &&Step| matches!(&step.operation, Operation::LinkSet { set, .. } if set.alias.is_some());
        let is_link = matches!(key, ObjectKey::Link(_));
        if is_link && self.want.get(key).is_none() && steps.iter().any(gives_back) {
            item.cause = Cause::Release;
        }
        true
    }

    /// The last run had no error, yet the kernel does not show what it did: read it again, and try again soon.
    pub(super) fn unseen(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, first: &EcoString) {
        item.forget_attempt();
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
    pub(super) fn heals(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, first: &EcoString) -> bool {
        let heal = self.heal(item.owner.as_ref());
        if heal == Heal::Off {
            return false;
        }
        item.since_ms = now_ms;
        item.cause = Cause::Drift;
        self.event(now_ms, EventKind::Drift, key, item, first.clone());
        if heal == Heal::Report {
            item.state = State::Drifted;
            item.error = Some(eco_format!("changed by somebody else; to take it back: {first}"));
            return false;
        }
        item.heals.retain(|(at, _)| at + CONTENDED_WINDOW_MS > now_ms);
        // Several things that somebody breaks are no contest; the same one again and again is.
        let same = item.heals.iter().filter(|(_, operation)| operation == first).count();
        if same >= HEALS_MAX || item.heals.len() >= HEALS_REMEMBERED_MAX {
            item.state = State::Conflict;
            item.contended = true;
            item.error = Some(eco_format!(
                "contended: healed {} times in {} s and changed again; left as it is until the row changes",
                if same >= HEALS_MAX { same } else { item.heals.len() },
                CONTENDED_WINDOW_MS / 1_000
            ));
            return false;
        }
        item.heals.push_back((now_ms, first.clone()));
        if same > 0 {
            // Who takes all addresses away looks whether they are gone and goes on until they are: a pause lets them end.
            item.state = State::Pending;
            item.due_ms = now_ms + (RETRY_MS_MIN << (same - 1).min(HEALS_MAX));
            self.retries.insert((item.due_ms, key.clone()));
        }
        true
    }

    pub(super) fn failed(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item, text: EcoString) {
        item.attempts += 1;
        item.forget_attempt();
        self.delay(now_ms, key, item);
        self.settle(item);
        // Who took it to be on its way waits for it now.
        self.dirty.extend(self.want.dependents(key).cloned());
        if item.state != State::Failed || item.error.as_ref() != Some(&text) {
            self.event(now_ms, EventKind::Failed, key, item, text.clone());
        }
        item.state = State::Failed;
        item.error = Some(text);
    }

    pub(super) fn delay(&mut self, now_ms: u64, key: &ObjectKey, item: &mut Item) {
        let exponent = item.attempts.saturating_sub(1).min(16);
        let wait = (RETRY_MS_MIN << exponent).min(RETRY_MS_MAX);
        // Three quarters to five quarters of it, so that objects that failed together do not retry together.
        let jitter = self.draw() % (wait / 2 + 1);
        item.due_ms = now_ms + wait - wait / 4 + jitter;
        self.retries.insert((item.due_ms, key.clone()));
    }

    /// The next number of a splitmix64 sequence.
    pub(super) fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn settle(&mut self, item: &mut Item) {
        let Some(cfg) = item.unsettled.take() else { return };
        let left = self.unsettled.get_mut(&cfg).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            self.unsettled.remove(&cfg);
        }
    }
}
