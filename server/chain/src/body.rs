//! Bodies: the leaves of a record in order.
//!
//! ```text
//! body = (varint byte length, leaf)*
//! leaf = tag, content
//!        0 meta: always the first and nowhere else (see `Meta`)
//!        1 row: sorted by table and UUID (see `RowDelta`)
//!        2 schema: the rest is its normalized text; after meta in genesis and schema records
//!        3 a new key: the key of checkpoints: in key-rotate records after meta, in genesis after the schema (see `Rotation`)
//!        4 and up: for the kinds of record that need more; a decoder that does not know one skips it
//! ```
//!
//! The body's root is the keyed hash over the keyed hashes of the leaves, without their lengths. Since a varint has one form only, the
//! leaves, their number and the length of the body determine its bytes.

use ecow::EcoString;
use nonnet_schema::Uuid;

use crate::canonical::{DecodeError, Input, Problem, write_varint};
use crate::hash;
use crate::leaf::{LEAF_META, LEAF_ROTATION, LEAF_ROW, LEAF_SCHEMA, Meta, RowDelta, expect_tag};
use crate::limits::BODY_BYTES_MAX;
use crate::rotation::Rotation;

/// A decoded body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Leaf 0.
    pub meta: Meta,
    /// The normalized text of the schema, in genesis and schema records.
    pub schema: Option<EcoString>,
    /// The key of checkpoints, in key-rotate records and genesis.
    pub rotation: Option<Rotation>,
    /// The changed rows, sorted by table and UUID.
    pub rows: Vec<RowDelta>,
    /// Leaves of kinds that this version does not know.
    pub unknown_leaves: u32,
}

/// An encoded body with what its header says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EncodedBody {
    pub(crate) bytes: Vec<u8>,
    pub(crate) root: [u8; 32],
    pub(crate) n_leaves: u32,
}

impl Body {
    pub(crate) fn encode(&self) -> EncodedBody {
        let (mut bytes, mut leaf, mut n_leaves) = (Vec::new(), Vec::new(), 0);
        let mut root = hash::BodyHasher::new();
        let mut put = |leaf: &mut Vec<u8>| {
            write_varint(leaf.len() as u64, &mut bytes);
            bytes.extend_from_slice(leaf);
            root.add(leaf);
            n_leaves += 1;
            leaf.clear();
            bytes.len()
        };
        self.meta.encode(&mut leaf);
        put(&mut leaf);
        if let Some(schema) = &self.schema {
            leaf.push(LEAF_SCHEMA);
            leaf.extend_from_slice(schema.as_bytes());
            put(&mut leaf);
        }
        if let Some(rotation) = &self.rotation {
            rotation.encode(&mut leaf);
            put(&mut leaf);
        }
        for row in &self.rows {
            row.encode(&mut leaf);
            if put(&mut leaf) > BODY_BYTES_MAX {
                // Too large, however much follows.
                break;
            }
        }
        EncodedBody {
            bytes,
            root: root.root(),
            n_leaves,
        }
    }

    /// Decodes the bytes of a body.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = Self::default();
        for (at, leaf) in leaves(bytes)?.into_iter().enumerate() {
            body.decode_leaf(at, leaf).map_err(|error| within(bytes, leaf, error))?;
        }
        Ok(body)
    }

    fn decode_leaf(&mut self, at: usize, leaf: &[u8]) -> Result<(), DecodeError> {
        let mut input = Input::new(leaf);
        match (at, leaf.first()) {
            (0, _) => self.meta = Meta::decode(leaf)?,
            (1, Some(&LEAF_SCHEMA)) => {
                expect_tag(&mut input, LEAF_SCHEMA)?;
                let text = std::str::from_utf8(input.bytes(leaf.len() - 1)?);
                self.schema = Some(text.map_err(|_| input.error(Problem::BadText))?.into());
            }
            (1 | 2, Some(&LEAF_ROTATION)) if self.rotation.is_none() && self.rows.is_empty() => {
                self.rotation = Some(Rotation::decode(leaf)?);
            }
            (_, Some(&LEAF_ROW)) => {
                let row = RowDelta::decode(leaf)?;
                if self
                    .rows
                    .last()
                    .is_some_and(|last| (&last.table, last.uuid) >= (&row.table, row.uuid))
                {
                    return Err(input.error(Problem::OutOfOrder));
                }
                self.rows.push(row);
            }
            (_, Some(&(LEAF_META | LEAF_SCHEMA | LEAF_ROTATION))) => return Err(input.error(Problem::OutOfOrder)),
            (_, Some(_)) => self.unknown_leaves += 1,
            (_, None) => return Err(input.error(Problem::TooShort)),
        }
        Ok(())
    }
}

/// The leaves of a body, undecoded.
pub fn leaves(bytes: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    let mut input = Input::new(bytes);
    let mut leaves = Vec::new();
    while !input.is_empty() {
        let length = input.count()?;
        leaves.push(input.bytes(length)?);
    }
    Ok(leaves)
}

/// The UUIDs of the rows that a body changes, without what became of them.
///
/// # Errors
/// Where a leaf does not begin as it should.
pub fn row_uuids(bytes: &[u8]) -> Result<Vec<Uuid>, DecodeError> {
    let mut uuids = Vec::new();
    for leaf in leaves(bytes)? {
        uuids.extend(row_uuid(leaf).map_err(|error| within(bytes, leaf, error))?);
    }
    Ok(uuids)
}

/// What a body says of a row of that table, and of where it comes from; None where it does not change the row.
///
/// # Errors
/// Where the leaves of these cannot be decoded.
pub fn row(bytes: &[u8], table: &str, uuid: Uuid) -> Result<Option<(Meta, RowDelta)>, DecodeError> {
    let leaves = leaves(bytes)?;
    for leaf in &leaves {
        let of_leaf = |error| within(bytes, leaf, error);
        if row_uuid(leaf).map_err(of_leaf)? == Some(uuid) {
            let delta = RowDelta::decode(leaf).map_err(of_leaf)?;
            if delta.table != table {
                continue;
            }
            let meta = leaves.first().map(|leaf| Meta::decode(leaf)).transpose()?;
            return Ok(meta.map(|meta| (meta, delta)));
        }
    }
    Ok(None)
}

/// The row that a leaf is about.
fn row_uuid(leaf: &[u8]) -> Result<Option<Uuid>, DecodeError> {
    if leaf.first() != Some(&LEAF_ROW) {
        return Ok(None);
    }
    let mut input = Input::new(leaf);
    expect_tag(&mut input, LEAF_ROW)?;
    input.text()?;
    Ok(Some(input.uuid()?))
}

/// The error of a leaf, counted from the start of the body.
fn within(body: &[u8], leaf: &[u8], error: DecodeError) -> DecodeError {
    let start = (leaf.as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
    DecodeError {
        offset: start + error.offset,
        ..error
    }
}
