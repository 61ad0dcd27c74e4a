//! The leaf of a record that brings a new key for checkpoints.
//!
//! ```text
//! leaf      = 3, 32 bytes new public key, 0                                          the first key of a chain, or the one before is lost
//!           | 3, 32 bytes new public key, 1, 32 bytes old public key, 64 bytes signature
//! signature = Ed25519 by the old key over "nonnet 2026-01 key rotation v1", db_id, u64 seq of the record, 32 bytes prev, new public key
//! ```
//!
//! What is signed names the record before, so a rotation is a signature of all that came before it, by a key that is destroyed then: who
//! steals the key in force can rewrite nothing from before it came.

use crate::canonical::{DecodeError, Input, Problem};
use crate::chain::Head;
use crate::checkpoint::{PublicKey, SecretKey};
use crate::header::Header;
use crate::leaf::{LEAF_ROTATION, expect_tag};
use nonnet_schema::Uuid;

const CONTEXT: &[u8] = b"nonnet 2026-01 key rotation v1";

/// A new key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// What is in force from this record on.
    pub new: PublicKey,
    /// What was in force, and its signature; None for the first key, and where the one before was lost.
    pub old: Option<(PublicKey, [u8; 64])>,
}

impl Rotation {
    /// The rotation that comes after `before` in the chain of that database.
    pub(crate) fn after(before: Head, db_id: Uuid, new: PublicKey, old: Option<&SecretKey>) -> Self {
        let statement = statement(db_id, before.seq.wrapping_add(1), &before.hash.0, new);
        let sign = |old: &SecretKey| (old.public(), old.sign(&statement));
        Self {
            new,
            old: old.map(sign),
        }
    }

    /// True where the old key signed it, as the rotation of that record; a first one has nothing to check.
    pub fn is_signed(&self, header: &Header) -> bool {
        self.old.as_ref().is_none_or(|(old, signature)| {
            old.verifies(
                &statement(header.db_id, header.seq, &header.prev.0, self.new),
                signature,
            )
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(LEAF_ROTATION);
        out.extend_from_slice(&self.new.0);
        out.push(u8::from(self.old.is_some()));
        if let Some((old, signature)) = &self.old {
            out.extend_from_slice(&old.0);
            out.extend_from_slice(signature);
        }
    }

    /// Decodes a whole leaf.
    pub fn decode(leaf: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input::new(leaf);
        expect_tag(&mut input, LEAF_ROTATION)?;
        let new = PublicKey(input.array()?);
        let old = match input.byte()? {
            0 => None,
            1 => Some((PublicKey(input.array()?), input.array()?)),
            other => return Err(input.error(Problem::UnknownTag(other))),
        };
        input.finish()?;
        Ok(Self { new, old })
    }
}

fn statement(db_id: Uuid, seq: u64, prev: &[u8; 32], new: PublicKey) -> Vec<u8> {
    [CONTEXT, db_id.as_bytes(), &seq.to_le_bytes(), prev, &new.0].concat()
}
