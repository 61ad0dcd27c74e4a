//! Files with secrets: read anew for every use, and refused where others than their owner can read them. Nothing here prints what is in them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use ecow::{EcoString, eco_format};

/// Why a file gave no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// In words, which begin with its path.
    pub(crate) words: EcoString,
    /// Whether there is no such file.
    pub(crate) is_missing: bool,
}

/// Reads a file of at most that many bytes.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<String, Unreadable> {
    let unreadable = |error: io::Error| Unreadable {
        words: eco_format!("{} cannot be read: {error}", path.display()),
        is_missing: error.kind() == io::ErrorKind::NotFound,
    };
    let unfit = |why: EcoString| Unreadable {
        words: eco_format!("{} {why}", path.display()),
        is_missing: false,
    };
    // Opening a pipe must not wait for who writes to it.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(unfit("is no file".into()));
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(unfit(eco_format!("is open to others (mode {mode:04o}); chmod 600 it")));
    }
    if about.uid() != 0 && about.uid() != nix::unistd::geteuid().as_raw() {
        return Err(unfit("belongs to another user".into()));
    }
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > bytes_max {
        return Err(unfit(eco_format!("has more than {bytes_max} bytes")));
    }
    Ok(text)
}
