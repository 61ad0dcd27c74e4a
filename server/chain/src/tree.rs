//! The Merkle tree over the records: that of RFC 6962 2.1, with SHA-256, whose leaf data are the 32 bytes of a record's hash.
//!
//! Level 0 has the leaves, node `n` of level `l` covers the records from `n << l` on, `1 << l` of them. Nodes that are whole never
//! change. The root of any size, and proofs, come from these.

use std::cell::RefCell;
use std::fmt;

use tlog_tiles::tlog::{self, Hash, HashReader};

use crate::hash::RecordHash;

/// A node of the tree, or its root.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeHash(pub [u8; 32]);

/// Which whole node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// 0 for leaves.
    pub level: u8,
    /// Counted from the left.
    pub index: u64,
}

/// The right edge of a tree: what is needed to add to it and to know its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// Whole nodes from the left, each as large as can be: one for each bit of the size.
    peaks: Vec<TreeHash>,
}

/// Where whole nodes are read.
pub trait Nodes {
    /// Why one cannot be read.
    type Error;

    /// The hash of a whole node.
    fn node(&self, node: Node) -> Result<TreeHash, Self::Error>;
}

/// Why there is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError<E> {
    /// The tree is smaller than that.
    #[error("the tree of {size} records has no record {seq}")]
    BeyondTree {
        /// Records in the tree.
        size: u64,
        /// What was asked for.
        seq: u64,
    },
    /// A node cannot be read.
    #[error(transparent)]
    Node(E),
    /// The proof does not lead to the root.
    #[error("the proof does not lead to the root")]
    Wrong,
}

impl TreeHash {
    /// The leaf that a record is.
    pub fn leaf(record: &RecordHash) -> Self {
        tlog::record_hash(&record.0).into()
    }

    /// The node above two others.
    pub fn above(left: Self, right: Self) -> Self {
        tlog::node_hash(Hash(left.0), Hash(right.0)).into()
    }
}

impl Tree {
    /// The tree of the first `size` records.
    ///
    /// # Errors
    /// That of a node that cannot be read.
    pub fn read<N: Nodes>(size: u64, nodes: &N) -> Result<Self, N::Error> {
        let levels = (0..u64::BITS as u8).rev().filter(|level| size >> level & 1 == 1);
        // What lies left of the peak are the higher bits of the size.
        let peak = |level: u8| {
            nodes.node(Node {
                level,
                index: (size >> level) - 1,
            })
        };
        let peaks = levels.map(peak).collect::<Result<_, _>>()?;
        Ok(Self { size, peaks })
    }

    /// Records in it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next record; gives each node that is whole now to `put`.
    pub fn add(&mut self, record: &RecordHash, mut put: impl FnMut(Node, TreeHash)) {
        let (mut hash, mut level) = (TreeHash::leaf(record), 0);
        let mut index = self.size;
        put(Node { level, index }, hash);
        while index & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = TreeHash::above(left, hash);
            (level, index) = (level + 1, index >> 1);
            put(Node { level, index }, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Its root; that of no records is the hash of nothing.
    pub fn root(&self) -> TreeHash {
        let mut peaks = self.peaks.iter().rev().copied();
        let Some(last) = peaks.next() else {
            return tlog::EMPTY_HASH.into();
        };
        peaks.fold(last, |right, left| TreeHash::above(left, right))
    }
}

/// Proves that the tree of `size` records has record `seq` (RFC 6962 2.1.1).
///
/// # Errors
/// [`ProofError::BeyondTree`], or that of a node that cannot be read.
pub fn prove_inclusion<N: Nodes>(size: u64, seq: u64, nodes: &N) -> Result<Vec<TreeHash>, ProofError<N::Error>> {
    if seq >= size {
        return Err(ProofError::BeyondTree { size, seq });
    }
    Reading::of(nodes, |reading| tlog::prove_record(size, seq, reading))
}

/// Proves that the tree of `size` records begins with that of the first `old` (RFC 6962 2.1.2). Nothing needs to be proven where `old` is 0.
///
/// # Errors
/// [`ProofError::BeyondTree`], or that of a node that cannot be read.
pub fn prove_consistency<N: Nodes>(size: u64, old: u64, nodes: &N) -> Result<Vec<TreeHash>, ProofError<N::Error>> {
    if old > size {
        return Err(ProofError::BeyondTree { size, seq: old - 1 });
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    Reading::of(nodes, |reading| tlog::prove_tree(size, old, reading))
}

/// Checks a proof of [`prove_inclusion`].
///
/// # Errors
/// [`ProofError::BeyondTree`] or [`ProofError::Wrong`].
pub fn check_inclusion(
    proof: &[TreeHash],
    (size, root): (u64, TreeHash),
    (seq, record): (u64, RecordHash),
) -> Result<(), ProofError<std::convert::Infallible>> {
    if seq >= size {
        return Err(ProofError::BeyondTree { size, seq });
    }
    let leaf = Hash(TreeHash::leaf(&record).0);
    tlog::check_record(&hashes(proof), size, Hash(root.0), seq, leaf).map_err(|_| ProofError::Wrong)
}

/// Checks a proof of [`prove_consistency`].
///
/// # Errors
/// [`ProofError::BeyondTree`] or [`ProofError::Wrong`].
pub fn check_consistency(
    proof: &[TreeHash],
    (size, root): (u64, TreeHash),
    (old, old_root): (u64, TreeHash),
) -> Result<(), ProofError<std::convert::Infallible>> {
    match old {
        0 if proof.is_empty() && old_root == tlog::EMPTY_HASH.into() => Ok(()),
        0 => Err(ProofError::Wrong),
        _ if old > size => Err(ProofError::BeyondTree { size, seq: old - 1 }),
        _ => tlog::check_tree(&hashes(proof), size, Hash(root.0), old, Hash(old_root.0)).map_err(|_| ProofError::Wrong),
    }
}

/// Reads nodes for a proof, and keeps the error of one that cannot be read.
struct Reading<'a, N: Nodes> {
    nodes: &'a N,
    failed: RefCell<Option<N::Error>>,
}

impl<'a, N: Nodes> Reading<'a, N> {
    fn of(
        nodes: &'a N,
        prove: impl FnOnce(&Self) -> Result<Vec<Hash>, tlog::Error>,
    ) -> Result<Vec<TreeHash>, ProofError<N::Error>> {
        let reading = Self {
            nodes,
            failed: RefCell::new(None),
        };
        let proof = prove(&reading);
        match (proof, reading.failed.into_inner()) {
            (Ok(proof), _) => Ok(proof.into_iter().map(TreeHash::from).collect()),
            (Err(_), Some(error)) => Err(ProofError::Node(error)),
            (Err(_), None) => Err(ProofError::Wrong),
        }
    }
}

impl<N: Nodes> HashReader for Reading<'_, N> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog::Error> {
        let read = |index: &u64| {
            let (level, index) = tlog::split_stored_hash_index(*index);
            self.nodes.node(Node { level, index })
        };
        let hashes: Result<Vec<TreeHash>, N::Error> = indexes.iter().map(read).collect();
        match hashes {
            Ok(read) => Ok(self::hashes(&read)),
            Err(error) => {
                *self.failed.borrow_mut() = Some(error);
                Err(tlog::Error::IndexesNotInTree)
            }
        }
    }
}

fn hashes(hashes: &[TreeHash]) -> Vec<Hash> {
    hashes.iter().map(|hash| Hash(hash.0)).collect()
}

impl From<Hash> for TreeHash {
    fn from(hash: Hash) -> Self {
        Self(hash.0)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeHash({self})")
    }
}
