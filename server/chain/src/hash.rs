//! The hashes of the chain: BLAKE3, keyed with a context of its own for each use, so that no hash of one kind can stand for another.

use std::fmt;
use std::sync::LazyLock;

use nonnet_schema::Uuid;

use crate::limits::HEADER_BYTES;

const HEADER_CONTEXT: &str = "nonnet 2026-01 commit header v1";
const LEAF_CONTEXT: &str = "nonnet 2026-01 commit leaf v1";
const BODY_CONTEXT: &str = "nonnet 2026-01 commit body v1";
const SCHEMA_CONTEXT: &str = "nonnet 2026-01 schema v1";
const ROW_CONTEXT: &str = "nonnet 2026-01 stored row v1";
const ELEMENT_CONTEXT: &str = "nonnet 2026-01 state element v1";
const STATE_CONTEXT: &str = "nonnet 2026-01 state root v1";

static HEADER_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| blake3::derive_key(HEADER_CONTEXT, b""));
static LEAF_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| blake3::derive_key(LEAF_CONTEXT, b""));
static BODY_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| blake3::derive_key(BODY_CONTEXT, b""));
static SCHEMA_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| blake3::derive_key(SCHEMA_CONTEXT, b""));
static ROW_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| blake3::derive_key(ROW_CONTEXT, b""));
static ELEMENT_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| blake3::derive_key(ELEMENT_CONTEXT, b""));
static STATE_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| blake3::derive_key(STATE_CONTEXT, b""));

/// Bytes of a state digest.
pub const STATE_BYTES: usize = 2048;

/// The hash of a record: keyed BLAKE3 of its header, which holds the root of its body.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordHash(pub [u8; 32]);

impl RecordHash {
    /// What stands before the first record.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of an encoded header.
    pub fn of_header(header: &[u8; HEADER_BYTES]) -> Self {
        Self(*blake3::keyed_hash(&HEADER_KEY, header).as_bytes())
    }

    /// The transaction id that OVSDB clients see: the first 16 bytes.
    pub fn transaction_id(&self) -> Uuid {
        Uuid::from_u128(u128::from_be_bytes(first_16(&self.0)))
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordHash({self})")
    }
}

/// The hash of a schema's normalized text, as headers hold it.
pub fn schema_hash(text: &str) -> [u8; 32] {
    *blake3::keyed_hash(&SCHEMA_KEY, text.as_bytes()).as_bytes()
}

/// The checksum of a stored row: the first 16 bytes of keyed BLAKE3 over table name, 0, UUID and the encoded fields.
pub fn row_sum(table: &str, uuid: Uuid, fields: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(&ROW_KEY);
    hasher
        .update(table.as_bytes())
        .update(&[0])
        .update(uuid.as_bytes())
        .update(fields);
    first_16(hasher.finalize().as_bytes())
}

/// Eight bytes that stand for others without showing them.
pub fn derived_name(context: &str, of: &[u8]) -> [u8; 8] {
    let mut name = [0; 8];
    name.copy_from_slice(&blake3::derive_key(context, of)[..8]);
    name
}

/// The hash of an element of a state digest, as long as the digest.
pub(crate) fn expanded_element(element: &[u8]) -> [u8; STATE_BYTES] {
    let mut expanded = [0; STATE_BYTES];
    let mut hasher = blake3::Hasher::new_keyed(&ELEMENT_KEY);
    hasher.update(element).finalize_xof().fill(&mut expanded);
    expanded
}

/// The hash of a state digest, as headers hold it.
pub(crate) fn state_root(digest: &[u8; STATE_BYTES]) -> [u8; 32] {
    *blake3::keyed_hash(&STATE_KEY, digest).as_bytes()
}

/// The hash of a leaf of a body.
pub(crate) fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&LEAF_KEY, leaf).as_bytes()
}

/// The root of a body: keyed BLAKE3 over the keyed hashes of its leaves, in order.
pub(crate) struct BodyHasher(blake3::Hasher);

impl BodyHasher {
    pub(crate) fn new() -> Self {
        Self(blake3::Hasher::new_keyed(&BODY_KEY))
    }

    pub(crate) fn add(&mut self, leaf: &[u8]) {
        self.add_hash(&leaf_hash(leaf));
    }

    pub(crate) fn add_hash(&mut self, hash: &[u8; 32]) {
        self.0.update(hash);
    }

    pub(crate) fn root(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

fn first_16(bytes: &[u8; 32]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&bytes[..16]);
    first
}
