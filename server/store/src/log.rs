//! The log: where records go.
//!
//! Made so that it can stand on one file as well as on several machines: whoever appends says which record it believes to be the newest.

use std::path::PathBuf;
use std::time::Duration;

use nonnet_chain::{Head, Record};

/// Where records go, in order, each linked to the one before.
pub trait Log: Send {
    /// The newest record.
    fn head(&self) -> Head;

    /// Appends `batch` after `expected`, all of it or nothing; with `durable` it has reached the disk when this returns.
    ///
    /// # Errors
    /// See [`AppendError`].
    fn append(&mut self, batch: &[Record], expected: Head, durable: bool) -> Result<Head, AppendError>;

    /// Brings to the disk what was appended and has not reached it.
    ///
    /// # Errors
    /// [`AppendError::Failed`].
    fn sync(&mut self) -> Result<(), AppendError>;

    /// Does a piece of the work behind the log: all that can be done where `idle`, else only what cannot wait. True where more is left.
    ///
    /// # Errors
    /// [`AppendError::Full`] where it can be tried again later, or [`AppendError::Failed`].
    fn maintain(&mut self, idle: bool) -> Result<bool, AppendError>;

    /// How long until the head of the log should be signed; None where nothing is to be signed.
    fn until_checkpoint(&self) -> Option<Duration> {
        None
    }

    /// Signs the head of the log where it is not signed.
    ///
    /// # Errors
    /// [`AppendError::Full`] where it can be tried again later, or [`AppendError::Failed`].
    fn checkpoint(&mut self) -> Result<(), AppendError> {
        Ok(())
    }

    /// Gives back the room that the log does not need, however long that takes; no record is lost. Gives the bytes in use before and after.
    ///
    /// # Errors
    /// [`AppendError::Full`] where it can be tried again later, or [`AppendError::Failed`].
    fn compact(&mut self) -> Result<Compaction, AppendError> {
        Ok(Compaction::default())
    }
}

/// What a compaction has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Bytes on the disk before.
    pub bytes_before: u64,
    /// Bytes on the disk after.
    pub bytes_after: u64,
}

/// Why records were not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another record is the newest. Nothing was written.
    #[error("the log has gone on to record {}", .head.seq)]
    Conflict {
        /// The newest record.
        head: Head,
        /// The records after the expected one, where that is of this chain.
        between: Vec<Record>,
    },
    /// There is no room, or another program holds the file. Nothing was written; a later attempt may succeed.
    #[error("cannot write to {}: {cause}", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// Whether the records were written is unknown. Nobody may be answered, and the process must end: the next start reads what is there.
    #[error("failed to write to {}, the outcome is unknown: {cause}", .path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
}

impl AppendError {
    /// True where the process must end.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// The record of `batch` that does not follow the one before it, as a cause.
pub(crate) fn broken_link(batch: &[Record], expected: Head) -> Option<String> {
    let mut head = expected;
    for record in batch {
        if !record.follows(head) {
            return Some(format!(
                "record {} does not follow record {}",
                record.header.seq, head.seq
            ));
        }
        head = record.head();
    }
    None
}
