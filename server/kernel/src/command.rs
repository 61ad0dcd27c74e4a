//! What the kernel side is asked to do, and how its thread is woken for it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nonnet_hooks::object::NetnsRef;
use nonnet_hooks::plan::Plan;
use nonnet_hooks::reconcile::Output;

/// A command of the reconciler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Carry out a plan; answered by `Input::Ran`.
    Run {
        /// The number of the run.
        run: u64,
        /// The plan.
        plan: Plan,
    },
    /// Find and observe a namespace; answered by `Input::Resolved`, now and whenever that changes.
    Watch(NetnsRef),
    /// Observe a namespace no longer by this reference.
    Unwatch(NetnsRef),
    /// Read everything; answered by `Input::Observed`.
    Dump,
}

/// Wakes the kernel thread.
#[derive(Clone, Debug)]
pub(crate) struct Wake(Arc<EventFd>);

impl Command {
    /// The command in a reconciler's output.
    ///
    /// # Errors
    /// Gives the output back when it is not for the kernel but for the rows.
    #[expect(
        clippy::result_large_err,
        reason = "an output that is not for the kernel is no error"
    )]
    pub fn from_output(output: Output) -> Result<Self, Output> {
        match output {
            Output::Run { run, plan } => Ok(Self::Run { run, plan }),
            Output::Watch(netns) => Ok(Self::Watch(netns)),
            Output::Unwatch(netns) => Ok(Self::Unwatch(netns)),
            Output::Dump => Ok(Self::Dump),
            Output::Lease(..) | Output::Report(_) | Output::Progress { .. } | Output::Event(_) => Err(output),
        }
    }
}

impl Wake {
    pub(crate) fn new() -> nix::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_value_and_flags(0, flags)?)))
    }

    pub(crate) fn wake(&self) {
        // A full counter has woken the thread already.
        let _ = self.0.write(1);
    }

    pub(crate) fn clear(&self) {
        let _ = self.0.read();
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
