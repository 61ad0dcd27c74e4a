//! Drives the client against the real `ovsdb-server`, in temporary directories.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a failed test panics, and a test crate has no documentation"
)]

mod call;
mod connect;
mod lock;
mod monitor;
mod replica;
mod server;
mod transact;
