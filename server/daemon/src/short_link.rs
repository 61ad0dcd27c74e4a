//! The link `db.sock` beside the default socket: the name under which `ovsdb-client` and its kin look for a server.
//!
//! It is made only where nothing has that name, or a link of an earlier run has it; only such a link is ever removed.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tracing::warn;

/// The name that OVS programs look for in their run directory.
const NAME: &str = "db.sock";

/// The link; removed when dropped.
pub(crate) struct ShortLink {
    path: PathBuf,
    target: PathBuf,
}

impl ShortLink {
    /// Makes the link to a socket in the same directory. None where something else has the name.
    pub(crate) fn make(socket: &Path) -> Option<Self> {
        let link = Self {
            path: socket.with_file_name(NAME),
            target: PathBuf::from(socket.file_name()?),
        };
        if link.target == Path::new(NAME) || link.is_there() {
            return (link.target != Path::new(NAME)).then_some(link);
        }
        match symlink(&link.target, &link.path) {
            Ok(()) => Some(link),
            Err(cause) => {
                if cause.kind() != io::ErrorKind::AlreadyExists {
                    warn!("{}: not made: {cause}", link.path.display());
                }
                None
            }
        }
    }

    /// Whether the name is a link to our socket.
    fn is_there(&self) -> bool {
        fs::read_link(&self.path).is_ok_and(|target| target == self.target)
    }
}

impl Drop for ShortLink {
    fn drop(&mut self) {
        if self.is_there()
            && let Err(cause) = fs::remove_file(&self.path)
        {
            warn!("{}: not removed: {cause}", self.path.display());
        }
    }
}
