//! A log in memory: for databases that need not outlive the process, and for tests.

use std::path::PathBuf;

use nonnet_chain::{Head, Record};

use crate::log::{AppendError, Log, broken_link};

/// A log that ends with the process.
#[derive(Debug)]
pub struct MemoryLog {
    head: Head,
    records: Vec<Record>,
}

impl MemoryLog {
    /// A log whose newest record is `head`; records before it are not kept.
    pub fn after(head: Head) -> Self {
        Self {
            head,
            records: Vec::new(),
        }
    }

    /// The records that were appended.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

impl Log for MemoryLog {
    fn head(&self) -> Head {
        self.head
    }

    fn append(&mut self, batch: &[Record], expected: Head, _durable: bool) -> Result<Head, AppendError> {
        if expected != self.head {
            let after = self.records.iter().position(|record| record.head() == expected);
            let between = after.and_then(|at| self.records.get(at + 1..)).unwrap_or_default();
            return Err(AppendError::Conflict {
                head: self.head,
                between: between.to_vec(),
            });
        }
        if let Some(cause) = broken_link(batch, expected) {
            return Err(AppendError::Failed {
                path: PathBuf::from("memory"),
                cause,
            });
        }
        self.records.extend_from_slice(batch);
        self.head = batch.last().map_or(self.head, Record::head);
        Ok(self.head)
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        Ok(())
    }

    fn maintain(&mut self, _idle: bool) -> Result<bool, AppendError> {
        Ok(false)
    }
}
