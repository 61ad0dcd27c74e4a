//! What this crate holds at most, each with its unit and reason.
//!
//! The limits of one message stand beside the scanner: [`nonnet_schema::MESSAGE_BYTES_MAX`] and [`nonnet_schema::DEPTH_MAX`].

use std::time::Duration;

/// Sessions open at once, over all remotes: two file descriptors' worth within the usual 20,000, with room for namespaces and stores.
pub const SESSIONS_MAX: usize = 10_240;

/// Connections the kernel holds for us until they are accepted; a fleet that reconnects at once must not be refused.
pub const LISTEN_BACKLOG: u32 = 4096;

/// Events on their way to the state thread; beyond, all readers wait.
pub const INBOUND_QUEUED_MAX: usize = 1024;

/// Bytes in memory, roughly, of parsed messages on their way to the state thread; beyond, readers of long messages wait. It is that of the
/// two largest messages ([`nonnet_schema::PARSED_BYTES_MAX`]).
pub const INBOUND_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Messages shorter than this are not counted in [`INBOUND_BYTES_MAX`], since [`INBOUND_QUEUED_MAX`] bounds them well enough.
pub const INBOUND_WEIGHED_BYTES_MIN: usize = 32 * 1024;

/// Bytes that all sessions together may hold of messages that have not arrived whole; beyond, the oldest such message ends its session.
pub const UNFINISHED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Parts shorter than this are not counted in [`UNFINISHED_BYTES_MAX`], since the number of sessions bounds them well enough.
pub const UNFINISHED_BYTES_MIN: usize = 4096;

/// Bytes of long replies that all sessions together may hold encoded; beyond, replies wait to be encoded. A single one may be longer.
pub const REPLIES_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Replies shorter than this are not counted in [`REPLIES_BYTES_MAX`]; of others, whole units are.
pub const REPLY_UNIT_BYTES: usize = 64 * 1024;

/// How long a peer may take nothing of a long reply while others wait for the room that it takes.
pub const REPLY_STALL: Duration = Duration::from_secs(5);

/// Messages of one session read and not yet finished, waiting transactions included; beyond, its reader waits.
pub const REQUESTS_QUEUED_MAX: usize = 1024;

/// Bytes taken from the kernel by one read; a buffer of this size lies on the stack for as long as the read takes.
pub const READ_BYTES_MAX: usize = 16 * 1024;

/// A session whose output waits for its peer with more bytes than this is not read from (protocol: a client that does not take its
/// replies may not ask for more).
pub const BACKLOG_PAUSE_BYTES: usize = 64 * 1024;

/// A session with more bytes of output waiting than this is congested: the state thread should merge its updates until it has drained.
/// A session whose peer the kernel takes nothing for is so at once; this is for what one batch of events brings before anything is written.
pub const BACKLOG_CONGESTED_BYTES: usize = 256 * 1024;

/// A session with more bytes queued than this, behind the message being written, is closed when one more comes: it is not reading at all.
pub const OUTBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Places for messages that an empty queue of a session keeps for the next.
pub const QUEUE_KEPT_MAX: usize = 8;

/// What a reply that is not encoded yet counts in a session's backlog.
pub const JOB_BYTES_ASSUMED: usize = 16 * 1024;

/// Replies encoded, and long messages parsed, at the same time off the sessions' own tasks; more would only add memory.
pub const JOBS_PARALLEL_MAX: usize = 4;

/// Bytes gathered for one write to a socket; more than a socket's buffer takes at once is pointless.
pub const WRITE_BYTES_MAX: usize = 256 * 1024;

/// Messages gathered for one write to a socket; well below the kernel's 1,024.
pub const WRITE_SLICES_MAX: usize = 64;

/// Messages longer than this are parsed on a thread of their own, so that they do not hold up the sessions that share a worker.
pub const PARSE_INLINE_BYTES_MAX: usize = 256 * 1024;

/// Messages nested deeper than this are parsed on a thread of their own: a worker's stack is 2 MiB, and an unoptimised parser takes
/// almost as much for [`nonnet_schema::DEPTH_MAX`] levels.
pub const PARSE_INLINE_DEPTH_MAX: usize = 128;

/// The stack of such a thread, in bytes: four times what was measured for the deepest message.
pub const PARSE_STACK_BYTES: usize = 8 * 1024 * 1024;

/// How often a session that is not being read is looked at for a peer that has gone.
pub const HANGUP_POLL: Duration = Duration::from_millis(250);

/// How long a session closed on the server's initiative goes on discarding input, so that the last line reaches a peer that still sends.
pub const LINGER: Duration = Duration::from_secs(1);

/// How long an accept loop rests when file descriptors or memory have run out.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Failures to accept in a row, each of one connection only by its looks, after which the accept loop rests too.
pub const ACCEPT_FAILURES_MAX: u32 = 16;

/// A TCP peer silent for this long is asked with `echo`, and dropped when it stays silent as long again (ovsdb-server's default).
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The first wait before a remote is dialled again; it doubles from then on.
pub const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// The longest such wait, unless the remote's options have another (ovsdb-server's default).
pub const BACKOFF_MAX_DEFAULT: Duration = Duration::from_secs(8);

/// TLS handshakes under way at once, over all remotes; beyond, clients wait in the kernel's backlog.
pub const HANDSHAKES_MAX: usize = 512;

/// How long the handshake of a client may take; who has nothing to say does not stay.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Refused handshakes of a remote are logged at most this often.
pub const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes encrypted at once, and so held by a connection besides its outbox: four records of TLS.
pub const TLS_WRITE_BYTES_MAX: usize = 64 * 1024;

/// How long one attempt to dial a remote may take, its handshake included.
pub const DIAL_TIME_MAX: Duration = Duration::from_secs(10);

/// The code point of what is sent over TCP: internetwork control, so that a congested network can still be told what to do (the
/// default of recent versions of ovsdb-server; 3.1 has 0).
pub const DSCP_DEFAULT: u8 = 48;

/// The longest path a unix socket can have, in bytes: `sun_path` less its terminating zero (`unix(7)`).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The mode of a unix socket: its owner and group may connect.
pub const SOCKET_MODE: u32 = 0o660;

/// The port of OVSDB, where a remote names none (IANA `ovsdb`).
pub const PORT_DEFAULT: u16 = 6640;
