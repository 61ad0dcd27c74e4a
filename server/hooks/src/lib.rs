//! Rows to wanted kernel objects to plans.
//!
//! - [`object`]: what rows want, as plain values.
//! - [`mirror`]: what the kernel has.
//! - [`diff`]: the comparison; it gives a [`plan::Plan`].
//! - [`reconcile`]: the loop around it as a state machine: when to plan, run, retry, report.
//!
//! This crate never talks to a kernel, reads a clock, draws a random number or waits: time, seeds and observations arrive as values.

pub mod diff;
pub mod limits;
pub mod mirror;
pub mod model;
pub mod name;
pub mod object;
pub mod plan;
pub mod reconcile;
pub mod report;
pub mod want;
