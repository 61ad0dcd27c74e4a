//! Verification of a whole file: log, tree, checkpoints and rows, against each other and against heads that were kept elsewhere.

use std::path::Path;

use nonnet_chain::tree::{Tree, TreeHash};
use nonnet_chain::{Body, Checkpoint, CheckpointError, Head, Header, PublicKey, RowName, StateDigest, Verifier};
use rusqlite::{Connection, OptionalExtension};

use crate::head_file::Heads;
use crate::layout::{self, Damage, OpenError};
use crate::limits::VERIFY_PROGRESS_RECORDS;
use crate::read::{self, Reader};
use crate::rows::{self, RowMap, RowsState};
use crate::tree::STORED_LEVEL;
use crate::{checkpoint, state, stored, tree};

/// What is verified apart from records, tree, checkpoints and the digest of the stored rows.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Replays all records, and compares the digest of the rows after each with the one that it names.
    pub every_state: bool,
    /// Heads that were seen outside of the file: the log must begin with each of these.
    pub heads: Vec<Checkpoint>,
    /// What an earlier verification found: the log must begin with that, and only what came after is read.
    pub since: Option<Verified>,
}

/// A log as far as it was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The newest record.
    pub head: Head,
    /// The root of the tree up to it.
    pub root: TreeHash,
    /// The key that signs checkpoints after it.
    pub key: Option<PublicKey>,
}

/// A file that is what was written.
#[derive(Clone, Debug)]
pub struct Sound {
    /// What the records say.
    pub verifier: Verifier,
    /// The root of the tree over all of them.
    pub root: TreeHash,
    /// Checkpoints whose root and signature are right.
    pub checkpoints: u64,
    /// Checkpoints of which no record that is here names the key.
    pub unsigned: u64,
    /// Stored rows.
    pub rows: u64,
}

impl Sound {
    /// What a later verification can go on from.
    pub fn verified(&self) -> Option<Verified> {
        Some(Verified {
            head: self.verifier.head()?,
            root: self.root,
            key: self.verifier.key(),
        })
    }
}

impl Reader {
    /// Verifies the file as it is now; a server may go on writing meanwhile. `progress` gets the number of records that passed, every few
    /// thousand.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] names the first fault.
    pub fn verify(&self, scope: &Scope, progress: impl FnMut(u64)) -> Result<Sound, OpenError> {
        // Read first: the log may go on while it is verified, but not back.
        let heads = Heads::read(self.path())?;
        let snapshot = self.connection().unchecked_transaction();
        let snapshot = snapshot.map_err(OpenError::sqlite(self.path(), "read"))?;
        let mut verification = Verification::new(self, &snapshot, scope)?;
        verification.records(progress)?;
        verification.rows()?;
        verification.finish(heads)
    }
}

struct Verification<'a> {
    reader: &'a Reader,
    connection: &'a Connection,
    has_tree: bool,
    verifier: Verifier,
    tree: Tree,
    /// Heads from outside that are not reached yet, the next one last.
    heads: Vec<Checkpoint>,
    /// The next checkpoint of the file.
    next: Option<(u64, String)>,
    checkpoints: u64,
    unsigned: u64,
    stored_nodes: u64,
    replayed: Option<(RowMap, StateDigest)>,
    rows: u64,
    /// The first record that is read.
    first: u64,
}

impl<'a> Verification<'a> {
    fn new(reader: &'a Reader, connection: &'a Connection, scope: &Scope) -> Result<Self, OpenError> {
        let format = layout::format(connection).map_err(OpenError::sqlite(reader.path(), "read"))?;
        let mut heads = scope.heads.clone();
        heads.sort_by_key(|head| std::cmp::Reverse(head.size));
        let mut verification = Self {
            reader,
            connection,
            has_tree: format >= 3,
            verifier: Verifier::from_genesis(),
            tree: Tree::default(),
            heads,
            next: None,
            checkpoints: 0,
            unsigned: 0,
            stored_nodes: 0,
            replayed: (scope.every_state && scope.since.is_none()).then(Default::default),
            rows: 0,
            first: 0,
        };
        verification.next = verification.checkpoint_after(0)?;
        if let Some(since) = scope.since.as_ref().filter(|_| verification.has_tree) {
            verification.begin_after(since)?;
        }
        Ok(verification)
    }

    /// Goes on after what was verified before, where that is still there.
    fn begin_after(&mut self, verified: &Verified) -> Result<(), OpenError> {
        let size = verified.head.seq + 1;
        let record = self
            .reader
            .records(verified.head.seq..=verified.head.seq)
            .next()
            .transpose()?;
        let Some(record) = record else {
            let records = self.reader.head()?.map_or(0, |head| head.seq + 1);
            return Err(self.damaged(Damage::Behind { records, size }));
        };
        let header = Header::decode(&record.header)
            .ok()
            .filter(|header| header.hash() == verified.head.hash);
        let tree = tree::read(self.connection, size).map_err(OpenError::sqlite(self.path(), "read"))?;
        let Some(header) = header.filter(|_| tree.root() == verified.root) else {
            return Err(self.damaged(Damage::Forked { size }));
        };
        self.stored_nodes = (STORED_LEVEL..64).map(|level| size >> level).sum();
        self.verifier = Verifier::after(&header, verified.key);
        self.next = self.checkpoint_after(size)?;
        (self.tree, self.first) = (tree, size);
        Ok(())
    }

    fn path(&self) -> &'a Path {
        self.reader.path()
    }

    fn damaged(&self, damage: Damage) -> OpenError {
        OpenError::damaged(self.path(), damage)
    }

    fn records(&mut self, mut progress: impl FnMut(u64)) -> Result<(), OpenError> {
        for record in self.reader.records(self.first..=u64::MAX) {
            let record = record?;
            let checked = self.verifier.check(&record);
            let header = checked.map_err(|fault| self.damaged(Damage::Record(fault)))?;
            self.grow(header.hash())?;
            self.check_heads()?;
            if let Some(body) = &record.body {
                self.replay(body, header.seq, header.state_root)?;
            }
            if self.verifier.records().is_multiple_of(VERIFY_PROGRESS_RECORDS) {
                progress(self.verifier.records());
            }
        }
        Ok(())
    }

    /// Adds a record to the tree, and compares what the file has of it.
    fn grow(&mut self, hash: nonnet_chain::RecordHash) -> Result<(), OpenError> {
        let mut whole = Vec::new();
        self.tree.add(&hash, |node, hash| {
            if node.level >= STORED_LEVEL {
                whole.push((node, hash));
            }
        });
        if !self.has_tree {
            return Ok(());
        }
        for (node, hash) in whole {
            let query = "SELECT hash FROM tree WHERE level = ? AND idx = ?";
            let stored: Option<Vec<u8>> = self
                .connection
                .query_row(query, (node.level, node.index as i64), |row| row.get(0))
                .optional()
                .map_err(OpenError::sqlite(self.path(), "read"))?;
            if stored.as_deref() != Some(&hash.0) {
                return Err(self.damaged(Damage::Tree { node: Some(node) }));
            }
            self.stored_nodes += 1;
        }
        Ok(())
    }

    /// Compares the heads of the tree at its present size.
    fn check_heads(&mut self) -> Result<(), OpenError> {
        let (size, root) = (self.tree.size(), self.is_head_due().then(|| self.tree.root()));
        while let Some(head) = self.heads.pop_if(|head| head.size <= size) {
            if Some(head.root) != root {
                return Err(self.damaged(Damage::Forked { size: head.size }));
            }
        }
        let Some((_, note)) = self.next.take_if(|(next, _)| *next == size) else {
            return Ok(());
        };
        let fault = |error: CheckpointError| Damage::Checkpoint {
            size,
            problem: error.to_string(),
        };
        let checkpoint = match self.verifier.key() {
            Some(key) => Checkpoint::verify(&note, key).inspect(|_| self.checkpoints += 1),
            None => Checkpoint::parse(&note).inspect(|_| self.unsigned += 1),
        };
        let checkpoint = checkpoint.map_err(|error| self.damaged(fault(error)))?;
        if (checkpoint.size, Some(checkpoint.root)) != (size, root) {
            let problem = "it was signed for other records than those that are here".to_owned();
            return Err(self.damaged(Damage::Checkpoint { size, problem }));
        }
        self.next = self.checkpoint_after(size)?;
        Ok(())
    }

    fn is_head_due(&self) -> bool {
        let size = self.tree.size();
        self.next.as_ref().is_some_and(|(next, _)| *next == size)
            || self.heads.last().is_some_and(|head| head.size <= size)
    }

    fn checkpoint_after(&self, size: u64) -> Result<Option<(u64, String)>, OpenError> {
        if !self.has_tree {
            return Ok(None);
        }
        checkpoint::after(self.connection, size).map_err(OpenError::sqlite(self.path(), "read"))
    }

    fn replay(&mut self, body: &[u8], seq: u64, root: [u8; 32]) -> Result<(), OpenError> {
        let path = self.path();
        let Some((rows, digest)) = &mut self.replayed else {
            return Ok(());
        };
        // The verifier has decoded it.
        let body = Body::decode(body).unwrap_or_default();
        let mut changed = RowMap::new();
        let load = |table: &ecow::EcoString, uuid| {
            let row = rows.get(&(table.clone(), uuid));
            Ok::<_, Damage>(row.and_then(|row| row.after.clone()))
        };
        rows::apply_body(&body, &mut changed, load).map_err(|damage| OpenError::damaged(path, damage))?;
        state::follow(digest, &changed);
        for (key, row) in changed {
            if row.after.is_some() {
                rows.insert(key, rows::ChangedRow { before: None, ..row });
            } else {
                rows.remove(&key);
            }
        }
        if root != [0; 32] && root != digest.root() {
            return Err(OpenError::damaged(path, Damage::State { seq }));
        }
        Ok(())
    }

    /// Compares the stored rows with the digest that the record names which they are as of.
    fn rows(&mut self) -> Result<(), OpenError> {
        let sqlite = |error| OpenError::sqlite(self.path(), "read")(error);
        let expected = RowsState::read(self.connection, self.path())?;
        let mut digest = StateDigest::default();
        stored::for_each_row(self.connection, self.path(), expected, |table, uuid, bytes| {
            let fields = stored::fields(table, uuid, bytes);
            let fields = fields.map_err(|damage| self.damaged(damage))?;
            state::add_row(&mut digest, RowName { table, uuid }, &fields);
            Ok(())
        })?;
        let query = "SELECT substr(header, 129, 32) FROM log WHERE seq = ?";
        let root: Option<[u8; 32]> = self
            .connection
            .query_row(query, (expected.seq as i64,), |row| row.get(0))
            .optional()
            .map_err(sqlite)?;
        if root.is_some_and(|root| root != [0; 32] && root != digest.root()) {
            return Err(self.damaged(Damage::State { seq: expected.seq }));
        }
        self.rows = expected.count;
        Ok(())
    }

    fn finish(self, heads: Option<Heads>) -> Result<Sound, OpenError> {
        read::check_heads(self.connection, self.path(), &self.verifier, heads)?;
        let records = self.tree.size();
        if let Some(size) = self.heads.last().map(|head| head.size) {
            return Err(self.damaged(Damage::Behind { records, size }));
        }
        if let Some((size, _)) = self.next {
            let problem = format!("the log has {records} records only");
            return Err(self.damaged(Damage::Checkpoint { size, problem }));
        }
        if self.has_tree {
            let count = self
                .connection
                .query_row("SELECT count(*) FROM tree", (), |row| row.get::<_, i64>(0));
            if count.map_err(OpenError::sqlite(self.path(), "read"))? as u64 != self.stored_nodes {
                return Err(self.damaged(Damage::Tree { node: None }));
            }
        }
        Ok(Sound {
            root: self.tree.root(),
            verifier: self.verifier,
            checkpoints: self.checkpoints,
            unsigned: self.unsigned,
            rows: self.rows,
        })
    }
}
