//! What one client, and all of them together, may make the server hold.

/// Operations in one transaction: a restore of a large database fits, a flood does not.
pub const OPERATIONS_MAX: usize = 200_000;

/// Monitors of one session: IDLs hold one per database.
pub const MONITORS_PER_SESSION_MAX: usize = 1_024;

/// Locks that one session holds or waits for.
pub const LOCKS_PER_SESSION_MAX: usize = 1_024;

/// Transactions of one session that wait for a condition.
pub const PARKED_PER_SESSION_MAX: usize = 1_000;

/// Rows in a reply beyond which it is encoded off the state thread.
pub const ROWS_ENCODED_INLINE_MAX: usize = 200;

/// Bytes of the JSON text of a client's id (request, monitor) that is repeated in everything sent.
pub const ID_BYTES_MAX: usize = 65_536;
