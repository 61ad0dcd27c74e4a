//! What one client, and all of them together, may make the server hold.

/// Operations in one transaction: a restore of a large database fits, a flood does not.
pub const OPERATIONS_MAX: usize = 200_000;

/// Monitors of one session: IDLs hold one per database.
pub const MONITORS_PER_SESSION_MAX: usize = 1_024;

/// Locks that one session holds or waits for.
pub const LOCKS_PER_SESSION_MAX: usize = 1_024;

/// Transactions of one session that wait for a condition.
pub const PARKED_PER_SESSION_MAX: usize = 1_000;

/// Rows of which a congested monitor remembers what the client knows of them; of more, the whole database is remembered, all rows that
/// have not changed since shared with it.
pub const UNSENT_ROWS_MAX: usize = 64;

/// Rows in a reply beyond which it is encoded off the state thread.
pub const ROWS_ENCODED_INLINE_MAX: usize = 200;

/// Bytes of the JSON text of a client's id (request, monitor) that is repeated in everything sent.
pub const ID_BYTES_MAX: usize = 65_536;

/// Changed rows of recent commits that are kept as they were and as they became, per database: what clients that were away for a short
/// while have missed is told from them; of older commits the log tells.
pub const RECENT_ROWS_MAX: usize = 16_384;

/// Transactions that the logs are searched for at the same time; who asks for one more gets everything at once.
pub const LOG_READS_MAX: usize = 64;

/// Transactions of one relayed database that its source has not answered; one more is refused.
pub const FORWARDED_MAX: usize = 16_384;

/// Bytes of their texts.
pub const FORWARDED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a relay that has lost its source says that it is connected, in milliseconds: a source that restarts is no reason for clients
/// to go elsewhere (ovsdb-server's figure).
pub const RELAY_GRACE_MS: u64 = 30_000;
