//! The Merkle tree of the log in the file.
//!
//! Only whole nodes over 256 records or more are stored, one for every 256 records and then ever fewer: what is below is made from the
//! hashes in the log. The tree follows each record in the transaction that brings it.

use nonnet_chain::RecordHash;
use nonnet_chain::tree::{Node, Nodes, Tree, TreeHash};
use rusqlite::Connection;

use crate::limits::TREE_READ_RECORDS;

/// The lowest level that is stored: that of a tile of C2SP tlog-tiles.
pub(crate) const STORED_LEVEL: u8 = 8;

/// The nodes of a file.
#[derive(Debug)]
pub(crate) struct StoredNodes<'a>(pub(crate) &'a Connection);

impl Nodes for StoredNodes<'_> {
    type Error = rusqlite::Error;

    fn node(&self, node: Node) -> rusqlite::Result<TreeHash> {
        if node.level < STORED_LEVEL {
            return self.made(node);
        }
        let query = "SELECT hash FROM tree WHERE level = ? AND idx = ?";
        let mut statement = self.0.prepare_cached(query)?;
        statement.query_row((node.level, node.index as i64), |row| Ok(TreeHash(row.get(0)?)))
    }
}

impl StoredNodes<'_> {
    /// A node made from the log.
    fn made(&self, node: Node) -> rusqlite::Result<TreeHash> {
        let (first, count) = (node.index << node.level, 1 << node.level);
        let mut subtree = Tree::default();
        for_each_hash(self.0, first, count, |hash| subtree.add(&hash, |_, _| ()))?;
        if subtree.size() == count {
            Ok(subtree.root())
        } else {
            Err(rusqlite::Error::QueryReturnedNoRows)
        }
    }
}

/// The tree of the first `size` records.
pub(crate) fn read(connection: &Connection, size: u64) -> rusqlite::Result<Tree> {
    Tree::read(size, &StoredNodes(connection))
}

/// Adds records to the tree, and stores the nodes that are whole then.
pub(crate) fn add(
    connection: &Connection,
    tree: &mut Tree,
    records: impl Iterator<Item = RecordHash>,
) -> rusqlite::Result<()> {
    let mut whole = Vec::new();
    for record in records {
        tree.add(&record, |node, hash| {
            if node.level >= STORED_LEVEL {
                whole.push((node, hash));
            }
        });
    }
    if whole.is_empty() {
        return Ok(());
    }
    let mut put = connection.prepare_cached("INSERT INTO tree VALUES (?, ?, ?)")?;
    for (node, hash) in whole {
        put.execute((node.level, node.index as i64, hash.0))?;
    }
    Ok(())
}

/// Makes the tree of a log that has none.
pub(crate) fn build(connection: &Connection) -> rusqlite::Result<()> {
    let mut tree = Tree::default();
    let mut hashes = Vec::new();
    loop {
        for_each_hash(connection, tree.size(), TREE_READ_RECORDS, |hash| hashes.push(hash))?;
        if hashes.is_empty() {
            return Ok(());
        }
        add(connection, &mut tree, hashes.drain(..))?;
    }
}

fn for_each_hash(
    connection: &Connection,
    first: u64,
    count: u64,
    mut put: impl FnMut(RecordHash),
) -> rusqlite::Result<()> {
    let query = "SELECT hash FROM log WHERE seq >= ? ORDER BY seq LIMIT ?";
    let mut statement = connection.prepare_cached(query)?;
    let mut hashes = statement.query((first as i64, count as i64))?;
    while let Some(row) = hashes.next()? {
        put(RecordHash(row.get(0)?));
    }
    Ok(())
}
