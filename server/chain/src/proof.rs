//! The proof that a log has a record, and that this record did something to a row, for whoever has neither the log nor our programs.
//!
//! It leads from the leaves of the record's body over the body's root to its header, from the hash of that over the tree to the root of a
//! checkpoint, and from there to the key that signed it. Of a proof for one row the other rows show their hashes only.

use crate::body::{Body, leaves};
use crate::canonical::DecodeError;
use crate::checkpoint::{Checkpoint, CheckpointError, PublicKey};
use crate::hash::{BodyHasher, leaf_hash};
use crate::header::{Header, HeaderError};
use crate::leaf::RowDelta;
use crate::limits::HEADER_BYTES;
use crate::tree::{TreeHash, check_inclusion};

/// A proof. Nothing in it is trusted before [`Proof::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The header of the record.
    pub header: Vec<u8>,
    /// What is shown of its body.
    pub shown: Shown,
    /// The audit path of the record in the tree of the checkpoint (RFC 6962 2.1.1).
    pub path: Vec<TreeHash>,
    /// The checkpoint, as a signed note.
    pub note: String,
    /// The key that signed it.
    pub key: PublicKey,
}

/// What a proof shows of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All of it.
    Body(Vec<u8>),
    /// One leaf, and the hashes of all.
    Leaf {
        /// The leaf's bytes.
        leaf: Vec<u8>,
        /// Its place, counted from 0.
        index: usize,
        /// The hashes of all leaves, in order.
        hashes: Vec<[u8; 32]>,
    },
}

/// What a proof proves.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The header of the record.
    pub header: Header,
    /// The rows that are shown, with what the record did to them.
    pub rows: Vec<RowDelta>,
    /// The checkpoint that it is proven by.
    pub checkpoint: Checkpoint,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// The header.
    #[error("the header: {0}")]
    Header(HeaderError),
    /// The body.
    #[error("the body: {0}")]
    Body(DecodeError),
    /// What is shown of the body is not of this record.
    #[error("what is shown is not the body of the record")]
    OtherBody,
    /// The checkpoint.
    #[error("the checkpoint: {0}")]
    Checkpoint(CheckpointError),
    /// The path does not lead from the record to the checkpoint.
    #[error("the record is not in the tree of the checkpoint")]
    NotInTree,
}

impl Shown {
    /// Of `body`, the leaf of that row; None where the record does not have it.
    pub fn row(body: &[u8], is_row: impl Fn(&RowDelta) -> bool) -> Result<Option<Self>, DecodeError> {
        let leaves = leaves(body)?;
        let is_that = |leaf: &&[u8]| RowDelta::decode(leaf).is_ok_and(|delta| is_row(&delta));
        let Some(index) = leaves.iter().position(is_that) else {
            return Ok(None);
        };
        Ok(Some(Self::Leaf {
            leaf: leaves[index].to_vec(),
            index,
            hashes: leaves.iter().map(|leaf| leaf_hash(leaf)).collect(),
        }))
    }

    /// The root of the body, the number of its leaves, and the rows that are shown.
    fn read(&self) -> Result<([u8; 32], usize, Vec<RowDelta>), ProofFault> {
        let mut root = BodyHasher::new();
        match self {
            Self::Body(body) => {
                let leaves = leaves(body).map_err(ProofFault::Body)?;
                for leaf in &leaves {
                    root.add(leaf);
                }
                let rows = Body::decode(body).map_err(ProofFault::Body)?.rows;
                Ok((root.root(), leaves.len(), rows))
            }
            Self::Leaf { leaf, index, hashes } => {
                if hashes.get(*index) != Some(&leaf_hash(leaf)) {
                    return Err(ProofFault::OtherBody);
                }
                for hash in hashes {
                    root.add_hash(hash);
                }
                let row = RowDelta::decode(leaf).map_err(ProofFault::Body)?;
                Ok((root.root(), hashes.len(), vec![row]))
            }
        }
    }
}

impl Proof {
    /// Checks every step.
    ///
    /// # Errors
    /// The first that does not lead on.
    pub fn check(&self) -> Result<Proven, ProofFault> {
        let length = HeaderError::Length(self.header.len());
        let bytes: &[u8; HEADER_BYTES] = self
            .header
            .as_slice()
            .try_into()
            .map_err(|_| ProofFault::Header(length))?;
        let header = Header::decode(bytes).map_err(ProofFault::Header)?;
        let (root, n_leaves, rows) = self.shown.read()?;
        if root != header.body_root || n_leaves as u64 != u64::from(header.n_leaves) {
            return Err(ProofFault::OtherBody);
        }
        let checkpoint = Checkpoint::verify(&self.note, self.key).map_err(ProofFault::Checkpoint)?;
        let (tree, record) = ((checkpoint.size, checkpoint.root), (header.seq, header.hash()));
        check_inclusion(&self.path, tree, record).map_err(|_| ProofFault::NotInTree)?;
        Ok(Proven {
            header,
            rows,
            checkpoint,
        })
    }
}
