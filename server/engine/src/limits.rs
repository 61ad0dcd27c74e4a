//! What one transaction may make the engine do and hold. Longer ones are for several transactions.

/// Comparisons and changes of single rows in one transaction: a clause looked at for a row, a column or an element put into a row. The
/// thread that owns the state does some 50 million in a second, and all clients wait for it.
pub const STEPS_MAX: u64 = 250_000_000;

/// Bytes of all rows that one transaction selects, roughly: a backup of a large database fits.
pub const SELECTED_BYTES_MAX: usize = 1024 * 1024 * 1024;
