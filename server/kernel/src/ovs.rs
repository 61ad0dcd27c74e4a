//! Open vSwitch, by its database: a thread of its own, since what it is asked for takes as long as another daemon takes.
//!
//! Takes the operations of plans, gives what the database has and how each operation ended. It decides nothing, and changes no row that
//! does not carry our mark.

mod flowing;
mod flows;
mod rows;
mod table;
mod transaction;
mod worker;

use std::io;
use std::thread;

use ecow::EcoString;
use nonnet_client::Address;
use nonnet_hooks::mirror::Observation;
use nonnet_hooks::object::{ObjectKey, OvsOperation};
use nonnet_hooks::plan::Outcome;
use nonnet_hooks::reconcile::Input;
use nonnet_hooks::want::Mark;
use tokio::sync::mpsc::{Sender, UnboundedSender, unbounded_channel};

use crate::command::Wake;

/// The thread beside Open vSwitch. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OpenVswitch(UnboundedSender<Order>);

/// What the thread is asked for.
#[derive(Debug)]
enum Order {
    /// Carry operations out in one transaction; each is answered by an input of its own.
    Apply(Vec<(ObjectKey, OvsOperation)>),
    /// Tell everything.
    Tell,
}

/// The end of what was started for an object.
pub(crate) type End = (ObjectKey, Outcome);

/// Where answers go.
#[derive(Clone, Debug)]
pub(crate) struct Tell {
    /// What is seen goes to the reconciler.
    pub(crate) inputs: Sender<Input>,
    /// Ends go through the kernel thread: the links that were made by then are to be told before.
    pub(crate) ends: std::sync::mpsc::Sender<End>,
    pub(crate) wake: Wake,
}

impl OpenVswitch {
    /// Starts the thread beside the database at this address, which it waits for.
    pub(crate) fn start(address: Address, mark: Mark, tell: Tell) -> io::Result<Self> {
        let (orders, queue) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mark: EcoString = mark.row_mark();
        thread::Builder::new()
            .name("openvswitch".into())
            .spawn(move || runtime.block_on(worker::run(address, mark, queue, tell)))?;
        Ok(Self(orders))
    }

    /// Has operations carried out.
    pub(crate) fn apply(&self, operations: Vec<(ObjectKey, OvsOperation)>) {
        // The thread ends only when nobody takes its answers any more.
        let _ = self.0.send(Order::Apply(operations));
    }

    /// Has everything told anew.
    pub(crate) fn tell(&self) {
        let _ = self.0.send(Order::Tell);
    }
}

impl Tell {
    async fn observed(&self, observations: Vec<Observation>) -> Result<(), ()> {
        self.inputs.send(Input::Observed(observations)).await.map_err(drop)
    }

    pub(crate) fn finished(&self, object: ObjectKey, outcome: Outcome) -> Result<(), ()> {
        self.ends.send((object, outcome)).map_err(drop)?;
        self.wake.wake();
        Ok(())
    }
}
