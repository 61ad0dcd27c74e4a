//! JSON-RPC 2.0 over HTTP POST and WebSocket, for clients that do not speak RFC 7047's stream: scripts, programs, and later the dashboard.
//!
//! Takes HTTP connections on a unix socket; gives the server one ordinary session for each, with the credentials of the process that
//! connected. Methods bear OVSDB's names, positional params and results; `monitor_cond` is a subscription.
//!
//! This crate knows no database and decides nothing: what a session may do is decided by the server, from its peer. It never listens on
//! TCP, answers no GET with a change of anything, and holds no more than `limits` says, however slowly a client reads.

mod address;
mod connection;
mod failure;
mod gateway;
pub mod limits;
mod link;
mod method;
mod monitor;
mod route;

pub use address::{Address, AddressError};
pub use gateway::{Access, Gateway, StartError};
