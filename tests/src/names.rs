//! A directory for the front of PATH in which our programs bear the names of Open vSwitch's.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::program;

/// Each name, and which of our programs it is a link to.
const NAMES: [(&str, &str); 2] = [("ovsdb-server", "nonnetd"), ("ovsdb-tool", "nonnet")];

/// The directory; gone with the value.
#[derive(Debug)]
pub struct Names {
    directory: TempDir,
}

impl Names {
    /// Makes the links.
    ///
    /// # Errors
    /// When our programs are not built.
    pub fn make() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("nonnet-names-").tempdir()?;
        for (name, ours) in NAMES {
            symlink(program::ours(ours)?, directory.path().join(name))?;
        }
        Ok(Self { directory })
    }

    /// Where the links are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The path of a link.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A PATH on which the links come first, and the system's directories for administrators are.
    pub fn search_path(&self) -> OsString {
        let mut path = self.directory.path().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path.push(":/usr/sbin:/sbin");
        path
    }
}
