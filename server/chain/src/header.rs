//! The header of a record: who, when, what came before, and the root of the body.

use nonnet_schema::Uuid;

use crate::canonical::{DecodeError, Input};
use crate::hash::RecordHash;
use crate::limits::HEADER_BYTES;

const MAGIC: [u8; 4] = *b"NNC1";

/// Stands for a uid, gid or pid that is not known: `(uid_t) -1`.
pub const UNKNOWN_ID: u32 = u32::MAX;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A transaction of a client.
    Transaction = 1,
    /// A new schema, with the changes of rows that it brought.
    Schema = 2,
    /// Bodies were removed.
    Prune = 3,
    /// The key that signs checkpoints was replaced.
    KeyRotate = 4,
    /// A lock changed hands.
    Lock = 5,
    /// A secret was erased.
    EraseSecret = 6,
    /// The first record: the database and its schema.
    Genesis = 7,
    /// The configuration or the access rules changed.
    Config = 8,
    /// What the kernel answered to a commit.
    Outcome = 9,
    /// The kernel was changed by somebody else.
    Drift = 10,
    /// Something of another chain.
    Import = 11,
    /// Where a restore begins.
    Restore = 12,
}

/// The flags of a header, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

/// A decoded header; encoded it is [`HEADER_BYTES`] long, little-endian:
///
/// ```text
/// off size field                                        off size field
///   0   4  magic "NNC1"                                 128  32  state_root (zero: not computed)
///   4   1  kind                                         160   4  uid
///   5   1  flags                                        164   4  gid
///   6   2  header length: 256                           168   4  pid
///   8   8  seq                                          172   4  role
///  16   8  time_us                                      176  16  txn_uid
///  24   8  boot_us                                      192   4  body_len
///  32  16  boot_id                                      196   4  n_rows
///  48  16  db_id                                        200   4  n_leaves
///  64  32  prev                                         204   4  epoch
///  96  32  body_root                                    208  16  comm, NUL padded
///                                                       224  32  schema_hash
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the record is.
    pub kind: Kind,
    /// See [`Flags`].
    pub flags: Flags,
    /// 0 for genesis, then one more each.
    pub seq: u64,
    /// `CLOCK_REALTIME`, microseconds since 1970.
    pub time_us: u64,
    /// `CLOCK_BOOTTIME`, microseconds since boot.
    pub boot_us: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Uuid,
    /// The database, fixed at genesis.
    pub db_id: Uuid,
    /// The record before; zero at genesis.
    pub prev: RecordHash,
    /// The root of the body.
    pub body_root: [u8; 32],
    /// The root of the [`StateDigest`](crate::StateDigest) of all stored rows after this record; zero in records of before format 3.
    pub state_root: [u8; 32],
    /// The peer's user, or [`UNKNOWN_ID`].
    pub uid: u32,
    /// The peer's group, or [`UNKNOWN_ID`].
    pub gid: u32,
    /// The peer's process, or [`UNKNOWN_ID`].
    pub pid: u32,
    /// The role that it acted in; 0 for none.
    pub role: u32,
    /// Names the transaction, given by the client or random.
    pub txn_uid: Uuid,
    /// Bytes of the body.
    pub body_len: u32,
    /// Rows that changed.
    pub n_rows: u32,
    /// Leaves of the body.
    pub n_leaves: u32,
    /// The leader's epoch; 0 on one machine.
    pub epoch: u32,
    /// The peer's `/proc/<pid>/comm`, padded with NUL.
    pub comm: [u8; 16],
    /// The hash of the schema that the record is written under.
    pub schema_hash: [u8; 32],
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not 256 of them.
    #[error("a header has 256 bytes, this one {0}")]
    Length(usize),
    /// They begin with something else.
    #[error("the magic is not \"NNC1\"")]
    Magic,
    /// The length field is not 256.
    #[error("the header says that it has {0} bytes")]
    LengthField(u16),
    /// No such kind.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// A flag that nobody sets.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    /// Anything else.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Transaction,
        Self::Schema,
        Self::Prune,
        Self::KeyRotate,
        Self::Lock,
        Self::EraseSecret,
        Self::Genesis,
        Self::Config,
        Self::Outcome,
        Self::Drift,
        Self::Import,
        Self::Restore,
    ];

    /// The kind of that number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Schema => "schema",
            Self::Prune => "prune",
            Self::KeyRotate => "key-rotate",
            Self::Lock => "lock",
            Self::EraseSecret => "erase-secret",
            Self::Genesis => "genesis",
            Self::Config => "config",
            Self::Outcome => "outcome",
            Self::Drift => "drift",
            Self::Import => "import",
            Self::Restore => "restore",
        }
    }
}

impl Flags {
    /// The client asked for durability (`commit` with `durable`).
    pub const DURABLE: Self = Self(1);
    /// `time_us` is below that of the record before.
    pub const CLOCK_STEPPED_BACK: Self = Self(2);
    /// The body holds the hash of a secret.
    pub const HAS_SECRET: Self = Self(4);
    /// The record came from another machine.
    pub const REPLICATED: Self = Self(8);
    /// Ephemeral columns changed too, which records do not hold.
    pub const HAS_EPHEMERAL: Self = Self(16);

    const ALL: u8 = 31;

    /// True where `flag` is set.
    pub fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// With `flag`, where `on`.
    #[must_use]
    pub fn with(self, flag: Self, on: bool) -> Self {
        if on { Self(self.0 | flag.0) } else { self }
    }
}

impl Header {
    /// The 256 bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(4, &[self.kind as u8, self.flags.0]);
        put(6, &(HEADER_BYTES as u16).to_le_bytes());
        put(8, &self.seq.to_le_bytes());
        put(16, &self.time_us.to_le_bytes());
        put(24, &self.boot_us.to_le_bytes());
        put(32, self.boot_id.as_bytes());
        put(48, self.db_id.as_bytes());
        put(64, &self.prev.0);
        put(96, &self.body_root);
        put(128, &self.state_root);
        put(160, &self.uid.to_le_bytes());
        put(164, &self.gid.to_le_bytes());
        put(168, &self.pid.to_le_bytes());
        put(172, &self.role.to_le_bytes());
        put(176, self.txn_uid.as_bytes());
        put(192, &self.body_len.to_le_bytes());
        put(196, &self.n_rows.to_le_bytes());
        put(200, &self.n_leaves.to_le_bytes());
        put(204, &self.epoch.to_le_bytes());
        put(208, &self.comm);
        put(224, &self.schema_hash);
        out
    }

    /// Decodes 256 bytes.
    ///
    /// # Errors
    /// The first field that cannot be.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() != HEADER_BYTES {
            return Err(HeaderError::Length(bytes.len()));
        }
        let mut input = Input::new(bytes);
        if input.array()? != MAGIC {
            return Err(HeaderError::Magic);
        }
        let [kind, flags] = input.array()?;
        let length = u16::from_le_bytes(input.array()?);
        if usize::from(length) != HEADER_BYTES {
            return Err(HeaderError::LengthField(length));
        }
        if flags & !Flags::ALL != 0 {
            return Err(HeaderError::Flags(flags));
        }
        let kind = Kind::from_byte(kind).ok_or(HeaderError::Kind(kind))?;
        Ok(Self::decode_fields(kind, Flags(flags), &mut input)?)
    }

    fn decode_fields(kind: Kind, flags: Flags, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            kind,
            flags,
            seq: input.u64()?,
            time_us: input.u64()?,
            boot_us: input.u64()?,
            boot_id: input.uuid()?,
            db_id: input.uuid()?,
            prev: RecordHash(input.array()?),
            body_root: input.array()?,
            state_root: input.array()?,
            uid: input.u32()?,
            gid: input.u32()?,
            pid: input.u32()?,
            role: input.u32()?,
            txn_uid: input.uuid()?,
            body_len: input.u32()?,
            n_rows: input.u32()?,
            n_leaves: input.u32()?,
            epoch: input.u32()?,
            comm: input.array()?,
            schema_hash: input.array()?,
        })
    }

    /// The hash of the record.
    pub fn hash(&self) -> RecordHash {
        RecordHash::of_header(&self.encode())
    }

    /// The peer's command name; what is not UTF-8 in it is replaced.
    pub fn comm(&self) -> String {
        let end = self.comm.iter().position(|byte| *byte == 0).unwrap_or(self.comm.len());
        String::from_utf8_lossy(&self.comm[..end]).into_owned()
    }
}
