//! The lock that ovsdb-server and ovsdb-tool take on a file that they write: a POSIX lock on `.NAME.~lock~` beside it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::OvsdbFileError;
use crate::layout::OpenError;

/// Held as long as the value lives; the lock file stays.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Locks the file at `path`, whether it exists or not.
    ///
    /// # Errors
    /// [`OvsdbFileError::InUse`] where another process has it.
    pub fn take(path: &Path) -> Result<Self, OvsdbFileError> {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".~lock~");
        let lock_path = path.with_file_name(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&lock_path).map_err(OpenError::io(&lock_path, "open"))?;
        let mut whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
            Ok(_) => Ok(Self { _file: file }),
            Err(Errno::EACCES | Errno::EAGAIN) => {
                let asked = fcntl(&file, FcntlArg::F_GETLK(&mut whole));
                let pid = (asked.is_ok() && whole.l_pid > 0).then_some(whole.l_pid);
                let path = path.to_owned();
                Err(OvsdbFileError::InUse { path, pid })
            }
            Err(error) => Err(OpenError::io(&lock_path, "lock")(error.into()).into()),
        }
    }
}
