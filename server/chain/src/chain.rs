//! The chain: what a new record is linked to, and records themselves.

use std::fmt;
use std::sync::Arc;

use ecow::EcoString;
use nonnet_engine::{ChangeSet, RowChange};
use nonnet_schema::{DatabaseSchema, Uuid};

use crate::body::Body;
use crate::canonical::DecodeError;
use crate::checkpoint::{PublicKey, SecretKey};
use crate::conversion::{StoredSide, converted_rows};
use crate::hash::{RecordHash, schema_hash};
use crate::header::{Flags, Header, Kind, UNKNOWN_ID};
use crate::leaf::{Meta, RowDelta};
use crate::limits::{BODY_BYTES_MAX, HEADER_BYTES};
use crate::rotation::Rotation;
use crate::state::StateDigest;

/// The newest record of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// Its sequence number.
    pub seq: u64,
    /// Its hash.
    pub hash: RecordHash,
}

/// A moment, on the clocks that records hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_REALTIME`, microseconds since 1970.
    pub time_us: u64,
    /// `CLOCK_BOOTTIME`, microseconds since boot.
    pub boot_us: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Uuid,
}

/// What the kernel says of a peer (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id.
    pub pid: u32,
}

/// Who asks: filled from what the kernel says, never from what the client says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// None where the transport tells none.
    pub credentials: Option<Credentials>,
    /// `/proc/<pid>/comm`; cut at 16 bytes.
    pub comm: EcoString,
    /// The remote that accepted the peer, in OVS syntax; for the server itself what it does (`start`).
    pub remote: EcoString,
    /// The peer's address; empty on a unix socket.
    pub address: EcoString,
    /// The peer's systemd unit or cgroup; empty where unknown.
    pub unit: EcoString,
    /// Start of the peer's process in clock ticks since boot; 0 where unknown.
    pub start_ticks: u64,
    /// What else is known, by name.
    pub details: Vec<(EcoString, EcoString)>,
}

/// What is asked, apart from the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The id of the JSON-RPC request, as JSON text.
    pub id: EcoString,
    /// The text of each `comment` operation, in order.
    pub comments: Vec<EcoString>,
    /// Operations of the transaction.
    pub operations: u32,
    /// Names the transaction: given by the client or random.
    pub txn_uid: Uuid,
    /// True where a `commit` operation asked for durability.
    pub durable: bool,
}

/// An encoded record with its hash. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The header.
    pub header: Header,
    /// The hash of the header.
    pub hash: RecordHash,
    /// The bytes of the body.
    pub body: Arc<[u8]>,
}

/// The end of a chain, to which records are added. Its clone is a place to go back to when a record could not be stored; it is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    db_id: Uuid,
    head: Head,
    schema_hash: [u8; 32],
    time_us: u64,
    /// Of the rows after the newest record.
    state: Arc<StateDigest>,
    state_root: [u8; 32],
}

/// A transaction that writes more than a record may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transaction would write {bytes} bytes or more to the log; at most {BODY_BYTES_MAX} are allowed")]
pub struct RecordTooLarge {
    /// Bytes of its body.
    pub bytes: usize,
}

impl Chain {
    /// Begins a chain: the first record holds the schema.
    ///
    /// # Errors
    /// [`RecordTooLarge`] for a schema of that size.
    pub fn begin(
        db_id: Uuid,
        schema: &DatabaseSchema,
        author: &Author,
        moment: Moment,
    ) -> Result<(Self, Record), RecordTooLarge> {
        Self::begin_signed(db_id, schema, author, moment, None)
    }

    /// The same where the first record names the key that signs checkpoints.
    ///
    /// # Errors
    /// [`RecordTooLarge`] for a schema of that size.
    pub fn begin_signed(
        db_id: Uuid,
        schema: &DatabaseSchema,
        author: &Author,
        moment: Moment,
        key: Option<PublicKey>,
    ) -> Result<(Self, Record), RecordTooLarge> {
        let text = schema.to_text();
        let schema_hash = schema_hash(&text);
        let before = Head {
            seq: u64::MAX,
            hash: RecordHash::ZERO,
        };
        let mut chain = Self {
            db_id,
            head: before,
            schema_hash,
            time_us: 0,
            state_root: StateDigest::default().root(),
            state: Arc::default(),
        };
        let body = Body {
            schema: Some(text.into()),
            rotation: key.map(|key| Rotation::after(before, db_id, key, None)),
            ..Body::default()
        };
        let record = chain.add(
            Kind::Genesis,
            author,
            &Request::default(),
            moment,
            Flags::default(),
            body,
        )?;
        Ok((chain, record))
    }

    /// Goes on after the record with that header, where `state` is the digest of the stored rows.
    pub fn after(last: &Header, state: StateDigest) -> Self {
        Self {
            state_root: state.root(),
            state: Arc::new(state),
            db_id: last.db_id,
            head: Head {
                seq: last.seq,
                hash: last.hash(),
            },
            schema_hash: last.schema_hash,
            time_us: last.time_us,
        }
    }

    /// The newest record.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The digest of the rows after the newest record.
    pub fn state(&self) -> &StateDigest {
        &self.state
    }

    /// The database, as genesis named it.
    pub fn db_id(&self) -> Uuid {
        self.db_id
    }

    /// Adds the record of a transaction: the persistent part of `changes`, which are of `schema`.
    ///
    /// # Errors
    /// [`RecordTooLarge`]; the chain is then as it was.
    pub fn commit(
        &mut self,
        author: &Author,
        request: &Request,
        moment: Moment,
        changes: &ChangeSet,
        schema: &DatabaseSchema,
    ) -> Result<Record, RecordTooLarge> {
        let is_ephemeral = |change: &RowChange| {
            let mut columns = change.changed_columns(schema.table(change.table));
            columns.any(|(_, column)| !column.persistent)
        };
        let has_ephemeral = changes.changes().iter().any(is_ephemeral);
        let flags = Flags::default().with(Flags::HAS_EPHEMERAL, has_ephemeral);
        self.add_changes(Kind::Transaction, author, request, moment, flags, (changes, schema))
    }

    /// Adds the record of rows that come from elsewhere, of which the author's details tell: the persistent part of `changes`, which are of
    /// `schema`.
    ///
    /// # Errors
    /// [`RecordTooLarge`]; the chain is then as it was.
    pub fn import(
        &mut self,
        author: &Author,
        request: &Request,
        moment: Moment,
        changes: &ChangeSet,
        schema: &DatabaseSchema,
    ) -> Result<Record, RecordTooLarge> {
        self.add_changes(
            Kind::Import,
            author,
            request,
            moment,
            Flags::default(),
            (changes, schema),
        )
    }

    /// Adds the record of a new schema, with what it made of the rows. A column that it added is absent before, one that it dropped absent
    /// after; the rows of a dropped table are deleted.
    ///
    /// # Errors
    /// [`RecordTooLarge`]; the chain is then as it was.
    pub fn convert(
        &mut self,
        author: &Author,
        request: &Request,
        moment: Moment,
        (before, after): (StoredSide<'_>, StoredSide<'_>),
    ) -> Result<Record, RecordTooLarge> {
        let mut rows = converted_rows(before, after);
        rows.sort_unstable_by(|a, b| (&a.table, a.uuid).cmp(&(&b.table, b.uuid)));
        let text = after.database.schema().to_text();
        let state = StateDigest::of(after);
        let before = self.clone();
        self.schema_hash = schema_hash(&text);
        self.state_root = state.root();
        self.state = Arc::new(state);
        let body = Body {
            schema: Some(text.into()),
            rows,
            ..Body::default()
        };
        let record = self.add(Kind::Schema, author, request, moment, Flags::default(), body);
        if record.is_err() {
            *self = before;
        }
        record
    }

    /// Adds the record of a new key for checkpoints, signed by the one in force where there is one.
    ///
    /// # Errors
    /// [`RecordTooLarge`], which it never is.
    pub fn rotate(
        &mut self,
        author: &Author,
        request: &Request,
        moment: Moment,
        (old, new): (Option<&SecretKey>, PublicKey),
    ) -> Result<Record, RecordTooLarge> {
        let body = Body {
            rotation: Some(Rotation::after(self.head, self.db_id, new, old)),
            ..Body::default()
        };
        self.add(Kind::KeyRotate, author, request, moment, Flags::default(), body)
    }

    fn add_changes(
        &mut self,
        kind: Kind,
        author: &Author,
        request: &Request,
        moment: Moment,
        flags: Flags,
        (changes, schema): (&ChangeSet, &DatabaseSchema),
    ) -> Result<Record, RecordTooLarge> {
        let before = (Arc::clone(&self.state), self.state_root);
        let mut body = Body::default();
        let state = Arc::make_mut(&mut self.state);
        for change in changes.changes() {
            let table = schema.table(change.table);
            if let Some(delta) = RowDelta::of(change, table) {
                state.follow(change, &delta, table);
                body.rows.push(delta);
            }
        }
        self.state_root = self.state.root();
        let record = self.add(kind, author, request, moment, flags, body);
        if record.is_err() {
            (self.state, self.state_root) = before;
        }
        record
    }

    fn add(
        &mut self,
        kind: Kind,
        author: &Author,
        request: &Request,
        moment: Moment,
        flags: Flags,
        mut body: Body,
    ) -> Result<Record, RecordTooLarge> {
        body.meta = meta(author, request);
        let encoded = body.encode();
        if encoded.bytes.len() > BODY_BYTES_MAX {
            return Err(RecordTooLarge {
                bytes: encoded.bytes.len(),
            });
        }
        let unknown = Credentials {
            uid: UNKNOWN_ID,
            gid: UNKNOWN_ID,
            pid: UNKNOWN_ID,
        };
        let Credentials { uid, gid, pid } = author.credentials.unwrap_or(unknown);
        let header = Header {
            kind,
            flags: flags
                .with(Flags::DURABLE, request.durable)
                .with(Flags::CLOCK_STEPPED_BACK, moment.time_us < self.time_us),
            seq: self.head.seq.wrapping_add(1),
            time_us: moment.time_us,
            boot_us: moment.boot_us,
            boot_id: moment.boot_id,
            db_id: self.db_id,
            prev: self.head.hash,
            body_root: encoded.root,
            state_root: self.state_root,
            uid,
            gid,
            pid,
            role: 0,
            txn_uid: request.txn_uid,
            body_len: encoded.bytes.len() as u32,
            n_rows: body.rows.len() as u32,
            n_leaves: encoded.n_leaves,
            epoch: 0,
            comm: padded(&author.comm),
            schema_hash: self.schema_hash,
        };
        let record = Record {
            header,
            hash: header.hash(),
            body: encoded.bytes.into(),
        };
        (self.head, self.time_us) = (record.head(), moment.time_us);
        Ok(record)
    }
}

impl Record {
    /// The chain's head once this record is its newest.
    pub fn head(&self) -> Head {
        Head {
            seq: self.header.seq,
            hash: self.hash,
        }
    }

    /// True where this record comes next after `head`.
    pub fn follows(&self, head: Head) -> bool {
        self.header.seq == head.seq.wrapping_add(1) && self.header.prev == head.hash
    }

    /// Decodes the body.
    pub fn decode_body(&self) -> Result<Body, DecodeError> {
        Body::decode(&self.body)
    }

    /// Bytes of header and body.
    pub fn bytes_len(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header { kind, seq, n_rows, .. } = &self.header;
        write!(f, "Record({seq} {} rows={n_rows} {})", kind.name(), self.hash)
    }
}

fn meta(author: &Author, request: &Request) -> Meta {
    Meta {
        start_ticks: author.start_ticks,
        operations: request.operations,
        remote: author.remote.clone(),
        address: author.address.clone(),
        unit: author.unit.clone(),
        request_id: request.id.clone(),
        comments: request.comments.clone(),
        details: author.details.clone(),
    }
}

fn padded(comm: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    let length = comm.len().min(padded.len());
    padded[..length].copy_from_slice(&comm.as_bytes()[..length]);
    padded
}
