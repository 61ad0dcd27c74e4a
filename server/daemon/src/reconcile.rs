//! The task between rows and kernel: it compiles what changed, drives the reconciler, and reports.
//!
//! The reconciler decides; here its inputs meet: commits, the kernel, the clock.

use std::time::Duration;

use nonnet_hooks::compile::Compiler;
use nonnet_hooks::reconcile::{Input, Reconciler};
use nonnet_hooks::statistics::interval_seconds;
use nonnet_kernel::{Command, Inputs, Kernel};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::names::Names;
use crate::network::{Changes, Pending};
use crate::plan::{PendingPlan, PlanRequest};
use crate::report::Reports;
use crate::statistics::Interval;

/// The kernel's side of the network link.
pub(crate) struct Reconciling {
    pub(crate) kernel: Kernel,
    pub(crate) inputs: Inputs,
    pub(crate) changes: Changes,
    pub(crate) reports: mpsc::Sender<Reports>,
    pub(crate) plans: mpsc::UnboundedReceiver<PlanRequest>,
    /// Plans that wait for namespaces.
    pub(crate) pending_plans: Vec<PendingPlan>,
    pub(crate) compiler: Compiler,
    pub(crate) reconciler: Reconciler,
    pub(crate) clock: Clock,
    pub(crate) names: Names,
    pub(crate) interval: Interval,
    /// Every row at the start.
    pub(crate) start: Input,
}

impl Reconciling {
    /// Starts a thread for it, so that many changed rows hold up no client.
    pub(crate) fn start(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("reconciler".into())
            .spawn(move || runtime.block_on(self.run()))?;
        Ok(())
    }

    /// Runs until the server has stopped or serves the database no longer. What is in the kernel stays there.
    async fn run(mut self) {
        let mut unsent = Reports::default();
        let reports = self.reports.clone();
        self.names.publish(self.compiler.directory());
        let start = std::mem::replace(&mut self.start, Input::Tick);
        self.handle(start, &mut unsent);
        loop {
            let now_ms = self.clock.now().monotonic_ms;
            let plans_due = self.pending_plans.iter().map(PendingPlan::due_ms);
            let due_ms = plans_due.chain([self.reconciler.deadline_ms()]).min().unwrap_or(now_ms);
            let until_due = Duration::from_millis(due_ms.saturating_sub(now_ms));
            let input = tokio::select! {
                // What is known goes out before more is learnt.
                biased;
                permit = reports.reserve(), if !unsent.is_empty() => {
                    let Ok(permit) = permit else {
                        return;
                    };
                    permit.send(std::mem::take(&mut unsent));
                    continue;
                }
                pending = self.changes.take() => self.wanted(&pending),
                Some(request) = self.plans.recv() => {
                    self.plan(request, &mut unsent);
                    continue;
                }
                input = self.inputs.recv() => match input {
                    Some(input) => input,
                    None => return,
                },
                () = self.names.serve() => continue,
                () = tokio::time::sleep(until_due) => Input::Tick,
                // The database is not served any more.
                () = reports.closed() => return,
            };
            if let Input::Resolved { netns, resolution } = &input {
                self.pending_plans
                    .iter_mut()
                    .for_each(|plan| plan.resolved(netns, resolution));
            }
            self.handle(input, &mut unsent);
            self.answer_plans(&mut unsent);
        }
    }

    /// What rows want that have changed.
    fn wanted(&mut self, pending: &Pending) -> Input {
        let changes = self.compiler.compile(&pending.rows, &pending.changes);
        self.names.publish(self.compiler.directory());
        self.interval
            .set(interval_seconds(self.compiler.tables(), &pending.rows));
        Input::Wanted {
            cfg: pending.sequence,
            changes,
            heals: self.compiler.heals(&pending.rows, &pending.changes),
        }
    }

    /// Begins to work a plan out: namespaces that nobody has looked for are looked for first.
    fn plan(&mut self, request: PlanRequest, unsent: &mut Reports) {
        // What would change builds on what has changed.
        if let Some(pending) = self.changes.take_now() {
            let wanted = self.wanted(&pending);
            self.handle(wanted, unsent);
        }
        let desired = self.compiler.clone().compile(&request.rows, &request.changes);
        let plan = PendingPlan::new(request, desired, &self.reconciler, self.clock.now().monotonic_ms);
        for netns in plan.looked_for() {
            self.kernel.send(Command::Watch(netns.clone()));
        }
        self.pending_plans.push(plan);
        self.answer_plans(unsent);
    }

    fn answer_plans(&mut self, unsent: &mut Reports) {
        let now_ms = self.clock.now().monotonic_ms;
        let ready = |plan: &mut PendingPlan| plan.is_ready(now_ms);
        for plan in self.pending_plans.extract_if(.., ready).collect::<Vec<_>>() {
            unsent.add_plan(plan.answer(&self.reconciler));
            for netns in plan.looked_for() {
                self.kernel.send(Command::Unwatch(netns.clone()));
                if self.reconciler.wants_in(netns) {
                    // A row has come that names it: whoever watches it is told where it is.
                    self.kernel.send(Command::Watch(netns.clone()));
                }
            }
        }
    }

    /// Gives the reconciler an input, the kernel its commands, and keeps what is to be told.
    fn handle(&mut self, input: Input, unsent: &mut Reports) {
        for output in self.reconciler.handle(self.clock.now().monotonic_ms, input) {
            match Command::from_output(output) {
                Ok(command) => self.kernel.send(command),
                Err(report) => unsent.add(report),
            }
        }
    }
}
