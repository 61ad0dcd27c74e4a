//! Rows of `OpNonNet` through the engine with its rules, and on to wanted objects and back as status.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod addresses;
mod bad_input;
mod checkpoints;
mod compiled;
mod containers;
mod dhcp;
mod firewall;
mod fixture;
mod host;
mod routes;
mod status;
