//! Checkpoints in the file: when the next is due, and how long they are kept.
//!
//! `checkpoint(size, note)` has every checkpoint of the last while, and of the time before one for every thousand records.

use std::time::{Duration, Instant};

use nonnet_chain::{Checkpoint, SecretKey};
use rusqlite::{Connection, OptionalExtension};

use crate::limits::{CHECKPOINT_DELAY, CHECKPOINT_RECORDS_MAX, CHECKPOINTS_KEPT};

/// What has been signed.
#[derive(Debug)]
pub(crate) struct Signed {
    /// Records in the tree of the newest checkpoint.
    size: u64,
    /// When it was made, where this process made it.
    at: Option<Instant>,
    /// Checkpoints made since old ones were dropped.
    made: u64,
}

impl Signed {
    /// What the file has.
    pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let size = newest(connection)?.map_or(0, |(size, _)| size);
        Ok(Self {
            size,
            at: None,
            made: 0,
        })
    }

    /// How long until the next checkpoint is due, of a log with that many records; None where the newest is signed.
    pub(crate) fn due(&self, records: u64) -> Option<Duration> {
        if records <= self.size {
            return None;
        }
        if records - self.size >= CHECKPOINT_RECORDS_MAX {
            return Some(Duration::ZERO);
        }
        let since = self.at.map_or(CHECKPOINT_DELAY, |at| at.elapsed());
        Some(CHECKPOINT_DELAY.saturating_sub(since))
    }

    /// Signs and stores a checkpoint; false where its origin cannot be signed for.
    pub(crate) fn sign(
        &mut self,
        connection: &Connection,
        checkpoint: &Checkpoint,
        key: &SecretKey,
    ) -> rusqlite::Result<bool> {
        let Ok(note) = checkpoint.sign(key) else {
            return Ok(false);
        };
        let mut put = connection.prepare_cached("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)")?;
        put.execute((checkpoint.size as i64, note))?;
        self.made += 1;
        if self.made >= CHECKPOINTS_KEPT {
            drop_old(connection)?;
            self.made = 0;
        }
        (self.size, self.at) = (checkpoint.size, Some(Instant::now()));
        Ok(true)
    }
}

/// The newest checkpoint: records in its tree, and the note.
pub(crate) fn newest(connection: &Connection) -> rusqlite::Result<Option<(u64, String)>> {
    let query = "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1";
    connection.query_row(query, (), stored).optional()
}

/// The next checkpoint of a tree larger than `size`.
pub(crate) fn after(connection: &Connection, size: u64) -> rusqlite::Result<Option<(u64, String)>> {
    let query = "SELECT size, note FROM checkpoint WHERE size > ? ORDER BY size LIMIT 1";
    let mut statement = connection.prepare_cached(query)?;
    statement.query_row((size as i64,), stored).optional()
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<(u64, String)> {
    Ok((row.get::<_, i64>(0)? as u64, row.get(1)?))
}

/// Of all but the newest, keeps one for every thousand records.
fn drop_old(connection: &Connection) -> rusqlite::Result<()> {
    let old = "DELETE FROM checkpoint WHERE \
               size < (SELECT min(size) FROM (SELECT size FROM checkpoint ORDER BY size DESC LIMIT ?1)) AND \
               size NOT IN (SELECT max(size) FROM checkpoint GROUP BY size / ?2)";
    connection
        .execute(old, (CHECKPOINTS_KEPT as i64, CHECKPOINT_RECORDS_MAX as i64))
        .map(drop)
}
