//! The tree against an implementation of RFC 6962 that is not ours.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::LazyLock;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use nonnet_chain::RecordHash;
use nonnet_chain::tree::{
    Node, Nodes, Tree, TreeHash, check_consistency, check_inclusion, prove_consistency, prove_inclusion,
};
use proptest::prelude::*;
use sha2::Sha256;

const SIZE_MAX: u64 = 300;

/// Whole nodes in memory.
#[derive(Default)]
struct Memory(HashMap<Node, TreeHash>);

impl Nodes for Memory {
    type Error = Infallible;

    fn node(&self, node: Node) -> Result<TreeHash, Infallible> {
        Ok(self.0[&node])
    }
}

fn record(seq: u64) -> RecordHash {
    RecordHash(*blake3::hash(&seq.to_le_bytes()).as_bytes())
}

/// Ours of `SIZE_MAX` records, its root at every size, and theirs at every size.
type Grown = (Memory, Vec<TreeHash>, Vec<MemoryBackedTree<Sha256, [u8; 32]>>);

static GROWN: LazyLock<Grown> = LazyLock::new(grown);

fn grown() -> Grown {
    let (mut tree, mut memory) = (Tree::default(), Memory::default());
    let mut theirs = MemoryBackedTree::<Sha256, [u8; 32]>::new();
    let (mut roots, mut all) = (vec![tree.root()], vec![theirs.clone()]);
    for seq in 0..SIZE_MAX {
        tree.add(&record(seq), |node, hash| {
            memory.0.insert(node, hash);
        });
        theirs.push(record(seq).0);
        roots.push(tree.root());
        all.push(theirs.clone());
    }
    (memory, roots, all)
}

fn bytes(proof: &[TreeHash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn roots_and_proofs_of_all_sizes_are_those_of_another_implementation() {
    let (memory, roots, theirs) = &*GROWN;
    for n in 0..=SIZE_MAX {
        let (root, their) = (roots[n as usize], &theirs[n as usize]);
        assert_eq!(root.0, their.root().as_bytes().as_slice(), "root of {n}");
        assert_eq!(
            Tree::read(n, memory).unwrap().root(),
            root,
            "root of {n} from its nodes"
        );
        for m in 0..n {
            let proof = prove_inclusion(n, m, memory).unwrap();
            let expected = their.prove_inclusion(m as usize);
            assert_eq!(bytes(&proof), expected.as_bytes(), "record {m} of {n}");
            check_inclusion(&proof, (n, root), (m, record(m))).unwrap();
        }
        for m in 1..=n {
            let proof = prove_consistency(n, m, memory).unwrap();
            let expected = their.prove_consistency((n - m) as usize);
            assert_eq!(bytes(&proof), expected.as_bytes(), "{m} records of {n}");
            check_consistency(&proof, (n, root), (m, roots[m as usize])).unwrap();
        }
    }
}

#[test]
fn what_is_not_in_the_tree_has_no_proof() {
    let (memory, roots, _) = &*GROWN;
    assert!(prove_inclusion(10, 10, memory).is_err());
    assert!(prove_consistency(10, 11, memory).is_err());
    assert!(check_inclusion(&[], (1, roots[1]), (1, record(1))).is_err());
    assert!(check_consistency(&[], (1, roots[1]), (2, roots[2])).is_err());
    assert_eq!(prove_consistency(10, 0, memory).unwrap(), []);
    check_consistency(&[], (10, roots[10]), (0, roots[0])).unwrap();
    assert!(check_consistency(&[], (10, roots[10]), (0, roots[1])).is_err());
}

proptest! {
    #[test]
    fn a_changed_proof_is_refused(n in 2..SIZE_MAX, m in 0..SIZE_MAX, at in any::<prop::sample::Index>(), bit in 0..256_usize) {
        let (memory, roots, _) = &*GROWN;
        let m = m % n;
        let mut proof = prove_inclusion(n, m, memory).unwrap();
        let at = at.index(proof.len());
        proof[at].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(check_inclusion(&proof, (n, roots[n as usize]), (m, record(m))).is_err());
        proof.pop();
        prop_assert!(check_inclusion(&proof, (n, roots[n as usize]), (m, record(m))).is_err());
        let mut proof = prove_consistency(n, m.max(1), memory).unwrap();
        if !proof.is_empty() {
            let at = at % proof.len();
            proof[at].0[bit / 8] ^= 1 << (bit % 8);
            let (new, old) = ((n, roots[n as usize]), (m.max(1), roots[m.max(1) as usize]));
            prop_assert!(check_consistency(&proof, new, old).is_err());
        }
    }
}
