//! The limits of this crate, each with its unit and its reason.

/// Bytes of a header: fixed, so that headers can be hashed, shipped and kept without their bodies.
pub const HEADER_BYTES: usize = 256;

/// Bytes of a body at most: what one transaction may write to the log; a quarter of the store's longest blob.
pub const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A datum with more elements than this, before and after, is recorded as the elements that went and came: one element more in a set of
/// ten thousand must not cost ten thousand.
pub const DIFFERENCE_ELEMENTS_MIN: usize = 64;

/// Bytes of a checkpoint with all its signatures: some witnesses' are 200 bytes each.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a varint at most: those of 64 bits at seven each.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Elements for which a decoder makes room before it has seen them: a count is only a claim.
pub(crate) const CLAIMED_ELEMENTS_MAX: usize = 1024;
