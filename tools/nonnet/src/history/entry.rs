//! One record of the log, decoded.

use anyhow::{Context, Result, bail};
use nonnet_chain::{Body, Header, Meta, RecordHash, RowDelta, StoredRecord};

/// A decoded record.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    /// Its hash as it is stored.
    pub(crate) hash: RecordHash,
    /// None where the body was removed.
    pub(crate) body: Option<Body>,
}

impl Entry {
    /// Decodes a record.
    pub(crate) fn decode(record: &StoredRecord) -> Result<Self> {
        let place = || format!("record {}", record.seq);
        let body = record.body.as_deref().map(Body::decode).transpose();
        Ok(Self {
            header: Header::decode(&record.header).with_context(place)?,
            hash: hex(&record.hash)?,
            body: body.with_context(place)?,
        })
    }

    /// The changed rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &RowDelta> {
        self.body.iter().flat_map(|body| &body.rows)
    }

    /// Where it comes from.
    pub(crate) fn meta(&self) -> Meta {
        self.body.as_ref().map(|body| body.meta.clone()).unwrap_or_default()
    }
}

/// A hash as it is stored, which prints as hexadecimal digits.
pub(crate) fn hex(hash: &[u8]) -> Result<RecordHash> {
    match <[u8; 32]>::try_from(hash) {
        Ok(hash) => Ok(RecordHash(hash)),
        Err(_) => bail!("a hash of the log has {} bytes; see `nonnet verify`", hash.len()),
    }
}
