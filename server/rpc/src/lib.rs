//! JSON-RPC 1.0 byte streams over unix and TCP sockets and TLS (RFC 7047 4).
//!
//! Takes remotes in OVS syntax; gives the thread that owns all state one channel of [`Inbound`] events, and for each session an [`Outbox`]
//! that never makes it wait. Cutting, parsing, writing and every limit of a connection happen here.
//!
//! This crate never looks into a message, and nothing a client does can make it hold more than `limits` says.

mod accept;
mod backoff;
mod bind;
mod dial;
mod endpoint;
mod http;
mod inbound;
mod inherit;
mod large;
pub mod limits;
mod listeners;
mod options;
mod outbox;
mod parse;
mod peer;
mod reader;
mod refuse;
mod remote;
mod session;
mod status;
mod stream;
mod tls;
mod unfinished;
mod writer;

pub use bind::{ListenError, SocketFile, listen_unix};
pub use inbound::{Inbound, InboundReceiver, InboundSender, Weight, inbound_channel};
pub use listeners::{Attacher, Listeners, Listening};
pub use options::RemoteOptions;
pub use outbox::{Job, Outbox, Payload};
pub use peer::identify_unix;
pub use remote::{Host, Remote, RemoteError};
pub use status::{ConnectionState, RemoteStatus};
pub use tls::{CaCert, Tls, TlsConnection, TlsDialler, TlsError};
