//! The commit record and the hash chain.
//!
//! A record is a header of 256 bytes and a body. The header holds the hash of the header before it and the root of its body, so that
//! whoever knows one hash can prove every record up to it, and bodies can go while headers stay. The formats stand byte by byte at
//! [`Header`], [`body`], [`RowDelta`] and [`canonical`]; they never change in place.
//!
//! This crate never reads a clock, a random source, a file or a socket: times, identifiers and people arrive as values. Its decoders
//! take any bytes, and answer with an error or a value whose encoding is exactly those bytes.

pub mod body;
pub mod canonical;
mod chain;
mod checkpoint;
mod conversion;
mod hash;
mod header;
mod leaf;
mod limits;
mod past;
mod proof;
mod rotation;
mod state;
pub mod tree;
mod verify;

pub use body::Body;
pub use chain::{Author, Chain, Credentials, Head, Moment, Record, RecordTooLarge, Request};
pub use checkpoint::{Checkpoint, CheckpointError, PublicKey, SecretKey, origin};
pub use conversion::StoredSide;
pub use hash::{RecordHash, STATE_BYTES, derived_name, row_sum, schema_hash};
pub use header::{Flags, Header, HeaderError, Kind, UNKNOWN_ID};
pub use leaf::{ColumnDelta, DatumChange, Meta, MisfitDelta, RowDelta, RowOp};
pub use limits::{BODY_BYTES_MAX, DIFFERENCE_ELEMENTS_MIN, HEADER_BYTES, NOTE_BYTES_MAX};
pub use past::{Past, PastRow};
pub use proof::{Proof, ProofFault, Proven, Shown};
pub use rotation::Rotation;
pub use state::{RowName, StateDigest};
pub use verify::{Fault, FaultKind, StoredRecord, Verifier};
