//! Plans that clients ask for: what would be done in the kernel, worked out on the kernel's side, as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nonnet_engine::{ChangeSet, Database};
use nonnet_hooks::object::{NetnsRef, Owner};
use nonnet_hooks::reconcile::{Desired, Preview, Reconciler};
use nonnet_hooks::tables::row_words;
use nonnet_hooks::want::Resolution;
use serde_json::{Value, json};

/// How long a plan waits for namespaces that have to be looked for.
const LOOK_MS_MAX: u64 = 1_000;

/// What is asked for.
pub(crate) struct PlanRequest {
    pub(crate) number: u64,
    /// What would change.
    pub(crate) changes: Arc<ChangeSet>,
    /// All rows as they would be.
    pub(crate) rows: Box<Database>,
}

/// A plan that waits for namespaces.
pub(crate) struct PendingPlan {
    number: u64,
    rows: Box<Database>,
    desired: Vec<(Owner, Desired)>,
    /// Those that are looked for, and nobody has said where they are.
    open: BTreeSet<NetnsRef>,
    found: BTreeMap<NetnsRef, Resolution>,
    due_ms: u64,
}

impl PendingPlan {
    /// A plan for what rows would want; [`PendingPlan::looked_for`] are to be looked for.
    pub(crate) fn new(
        request: PlanRequest,
        desired: Vec<(Owner, Desired)>,
        reconciler: &Reconciler,
        now_ms: u64,
    ) -> Self {
        Self {
            number: request.number,
            rows: request.rows,
            open: reconciler.unresolved(&desired),
            desired,
            found: BTreeMap::new(),
            due_ms: now_ms.saturating_add(LOOK_MS_MAX),
        }
    }

    /// The namespaces that the plan has looked for.
    pub(crate) fn looked_for(&self) -> impl Iterator<Item = &NetnsRef> {
        self.open.iter().chain(self.found.keys())
    }

    /// When it waits no longer.
    pub(crate) fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Takes in where a namespace is.
    pub(crate) fn resolved(&mut self, netns: &NetnsRef, resolution: &Resolution) {
        if self.open.remove(netns) {
            self.found.insert(netns.clone(), resolution.clone());
        }
    }

    /// Whether nothing is looked for any more.
    pub(crate) fn is_ready(&self, now_ms: u64) -> bool {
        self.open.is_empty() || now_ms >= self.due_ms
    }

    /// The answer, by number.
    pub(crate) fn answer(&self, reconciler: &Reconciler) -> (u64, Value) {
        let preview = reconciler.preview_of(&self.desired, &self.found);
        (self.number, to_json(&preview, &self.rows))
    }
}

fn to_json(preview: &Preview, rows: &Database) -> Value {
    let row = |owner: Option<&Owner>| owner.map(|owner| row_words(owner, rows).to_string());
    let steps = preview.plan.steps.iter().map(|step| {
        json!({
            "object": step.object.to_string(), "row": row(step.owner.as_ref()), "operation": step.operation.to_string(),
        })
    });
    let held = preview.held.iter().map(|held| {
        let object = held.object.as_ref().map(ToString::to_string);
        json!({
            "object": object, "row": row(held.owner.as_ref()), "state": held.state, "reason": held.reason.as_str(),
        })
    });
    json!({"steps": steps.collect::<Vec<Value>>(), "held": held.collect::<Vec<Value>>()})
}
