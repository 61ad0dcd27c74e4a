//! Carries out plans in the Linux kernel and observes it.
//!
//! - [`Kernel`]: the thread that talks rtnetlink, driven by [`Command`]s; its answers and events are the reconciler's inputs.
//! - [`Fake`]: the same in memory.
//! - [`Capabilities`]: what may and can be done here.
//! - [`process`]: other programs, run with a deadline.
//!
//! This crate never decides what should be: it does what a plan says and tells what the kernel and Open vSwitch say. It changes no link, address,
//! route or row of Open vSwitch but by a plan, and never leaves its own thread in a namespace that is not the server's.

mod command;
mod containers;
mod dhcp;
mod events;
mod fake;
mod finder;
mod firewall;
mod hub;
mod kernel;
pub mod limits;
mod live;
mod lxc;
mod mesh;
mod message;
mod netns;
mod offload;
mod ovs;
mod probe;
pub mod process;
mod runner;
mod spaces;
mod spec;
mod tap;
mod wire;

pub use command::Command;
pub use fake::Fake;
pub use kernel::{Inputs, Kernel, KernelError, Programs};
pub use probe::Capabilities;
