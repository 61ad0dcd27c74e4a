//! What one client, and all of them together, may make the server hold.

/// Operations in one transaction: a restore of a large database fits, a flood does not.
pub const OPERATIONS_MAX: usize = 200_000;

/// Monitors of one session: IDLs hold one per database.
pub const MONITORS_PER_SESSION_MAX: usize = 1_024;

/// What a monitor is taken to cost at least, in bytes: it is looked at with every commit.
pub const MONITOR_BYTES_MIN: usize = 4 * 1024;

/// Bytes of monitors that each session may have whatever the others have: sixteen of all columns of a table, or one of hundreds of clauses.
pub const MONITOR_BYTES_OWN_MAX: usize = 64 * 1024;

/// Bytes of monitors that all sessions together may have beyond their own shares: conditions of some hundred large chassis of OVN.
pub const MONITOR_BYTES_COMMON_MAX: usize = 1024 * 1024 * 1024;

/// Clauses of one monitor, all tables together; a row that changes may be compared with each.
pub const CLAUSES_PER_MONITOR_MAX: usize = 65_536;

/// Locks that one session holds or waits for.
pub const LOCKS_PER_SESSION_MAX: usize = 1_024;

/// Bytes of a lock's name.
pub const LOCK_NAME_BYTES_MAX: usize = 256;

/// Transactions of one session that wait for a condition.
pub const PARKED_PER_SESSION_MAX: usize = 1_000;

/// What a waiting transaction is taken to cost at least, in bytes: it is tried again with every commit.
pub const PARKED_BYTES_MIN: usize = 1024;

/// Bytes in memory of one transaction that waits. Those that do not have to wait may be as long as a message.
pub const PARKED_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of waiting transactions that each session may have whatever the others have: sixteen small ones.
pub const PARKED_BYTES_OWN_MAX: usize = 32 * 1024;

/// Bytes of waiting transactions that all sessions together may have beyond their own shares.
pub const PARKED_BYTES_COMMON_MAX: usize = 16 * 1024 * 1024;

/// Rounds in which waiting transactions are tried again at once, one having made another possible; then other sessions have their turn.
pub const RETRY_ROUNDS_MAX: usize = 64;

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

/// Bytes of those rows, roughly; the newest commit is kept whatever its size.
pub const RECENT_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Transactions that the logs are searched for at the same time; who asks for one more gets everything at once.
pub const LOG_READS_MAX: usize = 64;

/// Transactions of one relayed database that its source has not answered; one more is refused.
pub const FORWARDED_MAX: usize = 16_384;

/// Bytes of their texts.
pub const FORWARDED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a relay that has lost its source says that it is connected, in milliseconds: a source that restarts is no reason for clients
/// to go elsewhere (ovsdb-server's figure).
pub const RELAY_GRACE_MS: u64 = 30_000;

/// Plans that are worked out at the same time; each holds the rows as they would be.
pub const PLANS_MAX: usize = 16;

/// Commits of each database that `_Nonnet` shows and whose records are kept in memory for that.
pub const WINDOW_RECORDS_MAX: usize = 1_000;

/// Bytes of the bodies of those records, per database; where they are large there are fewer, but for the newest.
pub const WINDOW_BODIES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of the text of what a commit changed, in `_Nonnet`: some thirty rows; the log has all.
pub const CHANGES_BYTES_MAX: usize = 8 * 1024;

/// Bytes of the comments of a commit there.
pub const COMMENTS_BYTES_MAX: usize = 8 * 1024;

/// Rows that a commit changed which are named there.
pub const ROWS_NAMED_MAX: usize = 1_000;

/// Commits that one `select` has looked at in the logs: about two seconds.
pub const LOOKED_AT_MAX: usize = 200_000;

/// Commits that one `select` finds in the logs.
pub const FOUND_ROWS_MAX: usize = 10_000;

/// Bytes of those in memory, roughly.
pub const FOUND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Operations of one transaction that have the logs looked through.
pub const LOOKUPS_PER_TRANSACTION_MAX: usize = 16;

/// Transactions on `_Nonnet` that wait for the logs or for what sessions have not read; one more is refused.
pub const ASKED_MAX: usize = 64;

/// How often those are told anew who watch sessions, in milliseconds.
pub const SESSIONS_INTERVAL_MS: u64 = 1_000;
