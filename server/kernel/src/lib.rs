//! Carries out plans in the Linux kernel and observes it.
//!
//! - [`Kernel`]: the thread that talks rtnetlink, driven by [`Command`]s; its answers and events are the reconciler's inputs.
//! - [`Fake`]: the same in memory.
//! - [`Statistics`]: what went through links.
//! - [`Capabilities`]: what may and can be done here.
//! - [`process`]: other programs, run with a deadline.
//!
//! This crate never decides what should be: it does what a plan says and tells what the kernel and Open vSwitch say. It changes no link, address,
//! route, file or row of Open vSwitch but by a plan, and never leaves its own thread in a namespace that is not the server's.

mod bridge;
mod command;
mod containers;
mod dhcp;
mod dump;
mod events;
mod fake;
mod files;
mod filter;
mod finder;
mod firewall;
mod flood;
mod hub;
mod kernel;
pub mod limits;
mod listen;
mod live;
mod lxc;
mod mesh;
mod message;
mod moved;
mod netns;
mod offload;
mod ovs;
mod probe;
pub mod process;
mod resolv_conf;
mod runner;
mod secret_file;
mod spaces;
mod spec;
mod statistics;
mod tap;
mod traffic;
mod wire;
mod wireguard;

pub use command::Command;
pub use fake::Fake;
pub use kernel::{Inputs, Kernel, KernelError, Programs};
pub use listen::Listening;
pub use probe::Capabilities;
pub use statistics::Statistics;
