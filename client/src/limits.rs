//! What this crate holds at most and how long it waits, each with its unit and reason.

use std::time::Duration;

/// The longest reply or update accepted, in bytes: the first reply to a monitor holds a whole database.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Calls of one connection sent and not answered; more wait. Below the server's own limit, so that it never stops reading from us.
pub const CALLS_PENDING_MAX: usize = 1000;

/// Messages queued for the socket; beyond, callers wait.
pub const OUTGOING_QUEUED_MAX: usize = 1024;

/// Bytes gathered for one write.
pub const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Bytes asked for by one read.
pub const READ_BYTES_MAX: usize = 64 * 1024;

/// Notifications queued for one subscriber; beyond, the connection is given up, since the subscriber would miss some.
pub const NOTIFICATIONS_QUEUED_MAX: usize = 65_536;

/// How long a server may take to accept.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait before a unix socket is tried again on which too many others wait to be accepted.
pub const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A TCP server silent for this long is asked with `echo`, and given up when it stays silent as long again (as OVS clients do).
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The first wait before a replica connects again; each failure doubles it.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait before a replica connects again (OVS clients have 8 s too).
pub const BACKOFF_MAX: Duration = Duration::from_secs(8);

/// The port of OVSDB, where an address names none (IANA `ovsdb`).
pub const PORT_DEFAULT: u16 = 6640;

/// Messages of a [`Link`](crate::Link) that wait to be taken; beyond, the server is not read from.
pub const LINK_MESSAGES_QUEUED_MAX: usize = 16;

/// Messages of a [`Link`](crate::Link) longer than this, in bytes, are parsed on a thread of their own.
pub const PARSE_INLINE_BYTES_MAX: usize = 256 * 1024;
