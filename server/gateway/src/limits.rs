//! What the gateway holds at most, each with its unit and reason.
//!
//! A request's body may have [`nonnet_schema::MESSAGE_BYTES_MAX`] bytes, as any message; the limits of a session apply to each connection.

use std::time::Duration;

/// HTTP connections open at once: people's pages and scripts, not a fleet's agents, which speak OVSDB itself.
pub const CONNECTIONS_MAX: usize = 256;

/// Calls of one connection without an answer; one more ends the connection.
pub const CALLS_PER_CONNECTION_MAX: usize = 1024;

/// Bytes of requests of one connection that the server has not taken yet; more end the connection. Two of the longest messages.
pub const UNSENT_BYTES_MAX: usize = 2 * nonnet_schema::MESSAGE_BYTES_MAX;

/// Subscriptions of one WebSocket.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: u32 = 1024;

/// Messages on their way to one WebSocket. When they are not taken, the session is not read, and the server merges its updates.
pub const MESSAGES_QUEUED_MAX: u32 = 16;

/// The buffer for the server's messages is given back when it grew beyond so many bytes.
pub const LINE_BYTES_KEPT: usize = 64 * 1024;

/// How long the state thread may take to answer before `/healthz` calls it ill.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long accepting rests after a failure, which is most often a lack of file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
