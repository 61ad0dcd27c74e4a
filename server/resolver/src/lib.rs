//! Answers the names of a host's networks and forwards the rest.
//!
//! - [`Resolver`]: a thread that serves the sockets it is given, each for the network that listens there.
//! - [`answer`]: what is known, as messages. Pure.
//! - `forward`: what is not known, from other nameservers.
//!
//! It answers only who is in the network that it is asked for, or on the host itself. It reads the committed names as they are when a question comes;
//! it never opens a listening socket, and never writes a file.

pub mod answer;
mod client;
mod forward;
pub mod limits;
mod resolver;
mod tcp;
mod udp;
mod upstream;

pub use resolver::{Order, Resolver};
