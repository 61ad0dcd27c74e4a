//! Verification: whether stored records are the chain that they claim to be.
//!
//! Takes records in the order of the store, one at a time, and names the first fault. What it cannot see: a chain that ends early or was
//! written anew in whole. For that, compare the head with one that was kept elsewhere.

use crate::Body;
use crate::body;
use crate::canonical::DecodeError;
use crate::chain::Head;
use crate::checkpoint::PublicKey;
use crate::hash::{BodyHasher, RecordHash, schema_hash};
use crate::header::{Header, HeaderError, Kind};
use crate::limits::HEADER_BYTES;
use crate::rotation::Rotation;

/// A record as the store holds it, nothing of it trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Where it is stored.
    pub seq: u64,
    /// The hash beside it.
    pub hash: Vec<u8>,
    /// The bytes of its header.
    pub header: Vec<u8>,
    /// The bytes of its body; None where it was removed.
    pub body: Option<Vec<u8>>,
}

/// The first fault of a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {seq}: {kind}")]
pub struct Fault {
    /// The record at which it shows.
    pub seq: u64,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What can be wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// The header is not what was written: it and its hash do not fit.
    #[error("the header was edited: it does not fit its hash")]
    EditedHeader,
    /// The header fits its hash, yet cannot be one.
    #[error("the header is malformed: {0}")]
    MalformedHeader(HeaderError),
    /// The body is not what was written: it does not fit the root in its header.
    #[error("the body was edited: it does not fit its header")]
    EditedBody,
    /// The body fits its header, yet cannot be one.
    #[error("the body is malformed: {0}")]
    MalformedBody(DecodeError),
    /// The body is gone, and no record says that it was removed.
    #[error("the body is missing")]
    MissingBody,
    /// A record is gone before this one.
    #[error("records from {expected} on are missing before it")]
    MissingRecord {
        /// The first one that is gone.
        expected: u64,
    },
    /// A record of another place stands here.
    #[error("the record at this place is record {found}")]
    Reordered {
        /// Which one.
        found: u64,
    },
    /// It does not name the hash of the record before.
    #[error("it does not link to the record before it")]
    BrokenLink,
    /// It is of another database.
    #[error("it belongs to another database")]
    ForeignRecord,
    /// The schema in force is not the one that it names.
    #[error("it names another schema than the one in force")]
    WrongSchema,
    /// A key-rotate record without a key, or with one that the key in force did not sign.
    #[error("it brings a new key that the one in force did not sign")]
    UnsignedKey,
    /// The chain ends before a record that is known to have been written.
    #[error("the log ends here, but record {known} was acknowledged")]
    Truncated {
        /// The newest one that is known.
        known: u64,
    },
    /// Another record stands where one is known.
    #[error("it is not the record that was acknowledged: that one had the hash {known}")]
    Replaced {
        /// The hash that is known.
        known: RecordHash,
    },
}

/// Verifies records in order.
#[derive(Clone, Debug)]
pub struct Verifier {
    next: u64,
    last: Option<Header>,
    head: Option<Head>,
    records: u64,
    key: Option<PublicKey>,
    lost_keys: Vec<u64>,
}

impl Verifier {
    /// Verifies from the first record on.
    pub fn from_genesis() -> Self {
        Self::from_seq(0)
    }

    /// Verifies from record `seq` on; its link to the record before is taken as it is.
    pub fn from_seq(seq: u64) -> Self {
        Self {
            next: seq,
            last: None,
            head: None,
            records: 0,
            key: None,
            lost_keys: Vec::new(),
        }
    }

    /// Verifies from the record after the one with that header on, where `key` signs checkpoints.
    pub fn after(last: &Header, key: Option<PublicKey>) -> Self {
        Self {
            last: Some(*last),
            head: Some(Head {
                seq: last.seq,
                hash: last.hash(),
            }),
            key,
            ..Self::from_seq(last.seq + 1)
        }
    }

    /// The newest record that passed.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// The header of the newest record that passed.
    pub fn last_header(&self) -> Option<&Header> {
        self.last.as_ref()
    }

    /// Records that passed.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The key that signs checkpoints after the newest record that passed; None where no record that passed brought one.
    pub fn key(&self) -> Option<PublicKey> {
        self.key
    }

    /// The records that brought a new key while the one before was not to be had, so that nothing before them is bound by a key.
    pub fn lost_keys(&self) -> &[u64] {
        &self.lost_keys
    }

    /// Verifies the next record and gives its header.
    ///
    /// # Errors
    /// The first fault; the verifier must not be used after it.
    pub fn check(&mut self, record: &StoredRecord) -> Result<Header, Fault> {
        let fault = |kind| Fault { seq: record.seq, kind };
        if record.seq != self.next {
            return Err(fault(FaultKind::MissingRecord { expected: self.next }));
        }
        let (header, hash) = self.check_header(record).map_err(fault)?;
        let rotation = check_body(record, &header).map_err(fault)?;
        self.check_key(&header, rotation).map_err(fault)?;
        self.head = Some(Head { seq: record.seq, hash });
        self.last = Some(header);
        self.next += 1;
        self.records += 1;
        Ok(header)
    }

    /// Compares the end of the chain with a head that is known from elsewhere, where that is the record checked last or a later one.
    ///
    /// # Errors
    /// [`FaultKind::Truncated`] or [`FaultKind::Replaced`].
    pub fn check_known(&self, known: Head) -> Result<(), Fault> {
        match self.head {
            Some(head) if head.seq > known.seq || head == known => Ok(()),
            Some(head) if head.seq == known.seq => Err(Fault {
                seq: head.seq,
                kind: FaultKind::Replaced { known: known.hash },
            }),
            head => Err(Fault {
                seq: head.map_or(0, |head| head.seq),
                kind: FaultKind::Truncated { known: known.seq },
            }),
        }
    }

    fn check_key(&mut self, header: &Header, rotation: Option<Rotation>) -> Result<(), FaultKind> {
        let Some(rotation) = rotation else {
            return if header.kind == Kind::KeyRotate {
                Err(FaultKind::UnsignedKey)
            } else {
                Ok(())
            };
        };
        let is_of_key = match (&rotation.old, self.key) {
            (Some((old, _)), Some(key)) => *old == key,
            // Verification began after the record that brought it.
            (Some(_), None) => self.records < header.seq,
            (None, key) => {
                self.lost_keys.extend(key.map(|_| header.seq));
                true
            }
        };
        let may_have = matches!(header.kind, Kind::KeyRotate | Kind::Genesis);
        if !may_have || !is_of_key || !rotation.is_signed(header) {
            return Err(FaultKind::UnsignedKey);
        }
        self.key = Some(rotation.new);
        Ok(())
    }

    fn check_header(&self, record: &StoredRecord) -> Result<(Header, RecordHash), FaultKind> {
        let bytes: &[u8; HEADER_BYTES] = record
            .header
            .as_slice()
            .try_into()
            .map_err(|_| FaultKind::MalformedHeader(HeaderError::Length(record.header.len())))?;
        let hash = RecordHash::of_header(bytes);
        if record.hash != hash.0 {
            return Err(FaultKind::EditedHeader);
        }
        let header = Header::decode(bytes).map_err(FaultKind::MalformedHeader)?;
        if header.seq != record.seq {
            return Err(FaultKind::Reordered { found: header.seq });
        }
        self.check_link(&header)?;
        Ok((header, hash))
    }

    fn check_link(&self, header: &Header) -> Result<(), FaultKind> {
        let prev = match (header.seq, self.head) {
            (0, _) => RecordHash::ZERO,
            (_, Some(head)) => head.hash,
            (_, None) => header.prev,
        };
        if header.prev != prev || (header.seq == 0) != (header.kind == Kind::Genesis) {
            return Err(FaultKind::BrokenLink);
        }
        match &self.last {
            Some(last) if last.db_id != header.db_id => Err(FaultKind::ForeignRecord),
            Some(last) if last.schema_hash != header.schema_hash && header.kind != Kind::Schema => {
                Err(FaultKind::WrongSchema)
            }
            _ => Ok(()),
        }
    }
}

fn check_body(record: &StoredRecord, header: &Header) -> Result<Option<Rotation>, FaultKind> {
    let bytes = record.body.as_ref().ok_or(FaultKind::MissingBody)?;
    if bytes.len() as u64 != u64::from(header.body_len) {
        return Err(FaultKind::EditedBody);
    }
    // Bytes that cannot be cut into leaves cannot have had this root.
    let leaves = body::leaves(bytes).map_err(|_| FaultKind::EditedBody)?;
    let mut root = BodyHasher::new();
    for leaf in &leaves {
        root.add(leaf);
    }
    if root.root() != header.body_root || leaves.len() as u64 != u64::from(header.n_leaves) {
        return Err(FaultKind::EditedBody);
    }
    let body = Body::decode(bytes).map_err(FaultKind::MalformedBody)?;
    if body.rows.len() as u64 != u64::from(header.n_rows) {
        return Err(FaultKind::EditedBody);
    }
    match &body.schema {
        Some(text) if schema_hash(text) != header.schema_hash => Err(FaultKind::WrongSchema),
        None if matches!(header.kind, Kind::Genesis | Kind::Schema) => Err(FaultKind::WrongSchema),
        _ => Ok(body.rotation),
    }
}
