//! The dry run: what would be done, now or if rows changed, without doing it.

use std::collections::{BTreeMap, BTreeSet};

use ecow::EcoString;

use super::{Desired, Reconciler};
use crate::diff::{self, Diff, Verdict};
use crate::object::{NetnsRef, ObjectKey, Owner, Wanted};
use crate::plan::Plan;
use crate::want::{Resolution, Want};

/// What would be done.
#[derive(Clone, Debug, Default)]
pub struct Preview {
    /// The operations.
    pub plan: Plan,
    /// What would not be done, and why.
    pub held: Vec<Held>,
}

/// An object, or a row, that would not come true now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The object; none of a row that says nothing of its objects.
    pub object: Option<ObjectKey>,
    /// The row, where known.
    pub owner: Option<Owner>,
    /// What it would be: `waiting`, `conflict`, `failed`, or `pending` where the answer would be on its way.
    pub state: &'static str,
    /// Why.
    pub reason: EcoString,
}

impl Reconciler {
    /// The namespaces that changed rows name and nobody knows anything of: to be looked for before a preview.
    pub fn unresolved(&self, changes: &[(Owner, Desired)]) -> BTreeSet<NetnsRef> {
        let objects = changes.iter().flat_map(|(_, desired)| match desired {
            Desired::Objects(objects) => objects.as_slice(),
            Desired::Waiting(_) | Desired::Invalid(_) | Desired::Gone => &[],
        });
        let named = objects.filter_map(|object| object.netns());
        let unknown = named.filter(|netns| self.want.resolution(netns) == Resolution::Unknown);
        unknown.cloned().collect()
    }

    /// Whether a row wants something in a namespace.
    pub fn wants_in(&self, netns: &NetnsRef) -> bool {
        self.want.users(netns).next().is_some()
    }

    /// What would be done for all rows if these changed, with namespaces that were looked for.
    pub fn preview_of(&self, changes: &[(Owner, Desired)], found: &BTreeMap<NetnsRef, Resolution>) -> Preview {
        let mut want = self.want.clone();
        let mut keys: BTreeSet<ObjectKey> = want.keys().cloned().collect();
        let mut says: BTreeMap<&Owner, (&'static str, &EcoString)> = self
            .rows
            .iter()
            .filter_map(|(owner, row)| {
                row.says
                    .as_ref()
                    .map(|(state, reason)| (owner, (state.as_str(), reason)))
            })
            .collect();
        for (owner, desired) in changes {
            says.remove(owner);
            self.change(&mut want, owner, desired);
            match desired {
                Desired::Waiting(reason) => drop(says.insert(owner, ("waiting", reason))),
                Desired::Invalid(reason) => drop(says.insert(owner, ("failed", reason))),
                Desired::Objects(_) | Desired::Gone => {}
            }
        }
        for (netns, resolution) in found {
            want.resolve(netns.clone(), resolution.clone());
        }
        keys.extend(want.keys().cloned());
        keys.extend(diff::collectable(&want, &self.have));
        let Diff { plan, verdicts } = diff::plan(&want, &self.have, &keys);
        let rows = says.into_iter().map(|(owner, (state, reason))| Held {
            object: None,
            owner: Some(owner.clone()),
            state,
            reason: reason.clone(),
        });
        let objects = verdicts.into_iter().filter_map(|(key, verdict)| {
            let (state, reason) = match verdict {
                Verdict::Waiting(reason) => ("waiting", reason),
                Verdict::Conflict(reason) => ("conflict", reason),
                Verdict::Failed(reason) => ("failed", reason),
                Verdict::Settling(reason) | Verdict::Unread(reason) | Verdict::Leaving(reason) => ("pending", reason),
                Verdict::Equal | Verdict::Absent | Verdict::Planned => return None,
            };
            let owner = want.get(&key).map(|wanted| wanted.owner.clone());
            Some(Held {
                object: Some(key),
                owner,
                state,
                reason,
            })
        });
        let held = rows.chain(objects).collect();
        Preview { plan, held }
    }

    /// Wants of a row what it would want, and nothing that it wanted before.
    fn change(&self, want: &mut Want, owner: &Owner, desired: &Desired) {
        for key in self.rows.get(owner).into_iter().flat_map(|row| &row.keys) {
            want.remove(key, owner);
        }
        if let Desired::Objects(objects) = desired {
            for object in objects {
                want.insert(Wanted {
                    owner: owner.clone(),
                    object: object.clone(),
                });
            }
        }
    }
}
