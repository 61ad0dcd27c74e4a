//! A log that fails when told to, so that what happens then can be tested.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nonnet_chain::{Head, Record};

use crate::log::{AppendError, Log};

/// How an append fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// As on a full disk: nothing is written.
    Full,
    /// As when a write fails: nothing is written, which nobody can know.
    Failed,
    /// As when a sync fails: the records are written, which nobody can know.
    FailedAfterWriting,
}

/// A log around another one, of which some appends fail.
#[derive(Debug)]
pub struct Faulty<L> {
    inner: L,
    appends: u64,
    faults: BTreeMap<u64, InjectedFault>,
}

impl<L: Log> Faulty<L> {
    /// Fails the appends with these numbers, counted from 0.
    pub fn new(inner: L, faults: impl IntoIterator<Item = (u64, InjectedFault)>) -> Self {
        Self {
            inner,
            appends: 0,
            faults: faults.into_iter().collect(),
        }
    }

    /// The log within.
    pub fn into_inner(self) -> L {
        self.inner
    }
}

impl<L: Log> Log for Faulty<L> {
    fn head(&self) -> Head {
        self.inner.head()
    }

    fn append(&mut self, batch: &[Record], expected: Head, durable: bool) -> Result<Head, AppendError> {
        let fault = self.faults.get(&self.appends).copied();
        self.appends += 1;
        let (path, cause) = (PathBuf::from("faulty"), "injected fault".to_owned());
        match fault {
            None => self.inner.append(batch, expected, durable),
            Some(InjectedFault::Full) => Err(AppendError::Full { path, cause }),
            Some(InjectedFault::Failed) => Err(AppendError::Failed { path, cause }),
            Some(InjectedFault::FailedAfterWriting) => {
                self.inner.append(batch, expected, durable)?;
                Err(AppendError::Failed { path, cause })
            }
        }
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        self.inner.sync()
    }

    fn maintain(&mut self, idle: bool) -> Result<bool, AppendError> {
        self.inner.maintain(idle)
    }
}
