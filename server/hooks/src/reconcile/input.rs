//! What goes into the reconciler and what comes out of it.

use ecow::EcoString;

use crate::dhcp::Lease;
use crate::mirror::Observation;
use crate::object::{NetnsRef, Object, ObjectKey, Owner};
use crate::plan::{Outcome, Plan};
use crate::report::{Event, Report};
use crate::want::{Mark, Resolution};

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
        /// What is done about drift of a row's objects, where the row came to say something else about it; `None`: it says nothing. The row of
        /// the host speaks for all that say nothing.
        heals: Vec<(Owner, Option<Heal>)>,
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
    /// What an object's steps started has ended, after [`Input::Ran`] said [`Outcome::Started`] of one of them.
    Finished {
        /// The object.
        object: ObjectKey,
        /// What became of it: done or failed.
        outcome: Outcome,
        /// What was seen until then.
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
    /// The port that this row is has another lease from a DHCP server than its row, or none; the row is to have it.
    Lease(Owner, Option<Lease>),
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
