//! The meaning of the OVSDB protocol: sessions, methods, monitors, locks, waiting transactions (RFC 7047 4, ovsdb-server(7) 4).
//!
//! [`Event`]s in, [`Command`]s out. A reply or an update is sent only once the state that it shows is stored, and a session sees the
//! updates of a commit before its reply. This crate performs no I/O, reads no clock and draws no random number.

mod audit;
mod catalog;
mod command;
mod history;
pub mod limits;
mod lock;
mod method;
mod monitor;
mod now;
mod peer;
mod ration;
mod relay;
mod roster;
mod served;
mod server;
mod session;
mod source;
mod usage;

pub use audit::CommitLookup;
pub use catalog::StartError;
pub use command::{Command, Event, Outgoing, SourceNews};
pub use history::Logged;
pub use lock::LocksOf;
pub use now::Now;
pub use peer::{Credentials, Peer, SessionId};
pub use roster::RemoveError;
pub use server::Server;
pub use source::SourceError;
pub use usage::Usage;
