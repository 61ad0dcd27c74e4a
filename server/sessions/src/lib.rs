//! The meaning of the OVSDB protocol: sessions, methods, monitors, locks.
//!
//! Events in, commands out. This crate performs no I/O, reads no clock and draws no random number.

mod peer;

pub use peer::{Credentials, Peer, SessionId};
