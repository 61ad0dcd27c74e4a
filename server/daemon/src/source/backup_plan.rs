//! Which files a configuration file makes backups, and of which server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::source::SourceRemote;

/// What a configuration file says about backups; files that it does not name are active.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BackupPlan {
    /// The server to follow; None where nothing is a backup.
    pub(crate) remote: Option<SourceRemote>,
    /// How long that server may be silent before it is asked; None for the default, zero asks never.
    pub(crate) probe: Option<Duration>,
    /// The files in full, each with the tables that are not followed.
    pub(crate) files: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl BackupPlan {
    pub(crate) fn contains(&self, file: &Path) -> bool {
        self.files.contains_key(file)
    }
}
