//! Rows to wanted kernel objects to plans.
//!
//! - [`checkpoint`]: when a checkpoint is closed, and what a rollback writes.
//! - [`commit`]: the rules of `OpNonNet` inside a transaction; [`ipam`] chooses addresses there.
//! - [`tables`]: one file per table, its columns and what its rows want; [`compile`] asks those that a commit concerns.
//! - [`directory`]: the names of ports, for a resolver.
//! - [`resolv_conf`]: the text of that file.
//! - [`status`]: what becomes of rows, as columns; [`statistics`]: what went through them.
//! - [`object`]: what rows want, as plain values.
//! - [`mirror`]: what the kernel has.
//! - [`diff`]: the comparison; it gives a [`plan::Plan`].
//! - [`reconcile`]: the loop around it as a state machine: when to plan, run, retry, report.
//!
//! This crate never talks to a kernel, reads a clock, draws a random number or waits: time, seeds and observations arrive as values.

pub mod address;
pub mod checkpoint;
pub mod commit;
pub mod compile;
pub mod dhcp;
pub mod diff;
pub mod directory;
mod dns;
pub mod fault;
mod healing;
pub mod ipam;
pub mod limits;
pub mod link;
pub mod mirror;
pub mod model;
pub mod name;
mod naming;
pub mod object;
pub mod options;
mod path;
pub mod plan;
pub mod reconcile;
pub mod referrers;
pub mod report;
pub mod resolv_conf;
pub mod statistics;
pub mod status;
pub mod sysctl;
pub mod tables;
pub mod want;
