//! The file that tells which process the server is (ovsdb-server(1), "Daemon Options").
//!
//! Its lock, not its presence, says that the server lives: what a killed server left behind stops nobody. It never removes the file of
//! another process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tracing::warn;

/// The file, locked; removed when dropped.
pub(crate) struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Makes the file, locks it, and puts the number of this process into it.
    ///
    /// # Errors
    /// Where another process holds it, unless `overwrite` is set; or the system's.
    pub(crate) fn make(path: &Path, overwrite: bool) -> anyhow::Result<Self> {
        let named = || path.display().to_string();
        if !overwrite && let Some(pid) = holder(path).with_context(named)? {
            bail!("{}: already running as pid {pid}, aborting", path.display());
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".tmp{}", std::process::id()));
        let made = PathBuf::from(name);
        // Locked and filled before it bears its name: whoever finds it finds a whole one.
        let lock_and_move = || -> io::Result<File> {
            let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&made)?;
            fcntl(&file, FcntlArg::F_SETLK(&whole_file()))?;
            writeln!(file, "{}", std::process::id())?;
            fs::rename(&made, path)?;
            Ok(file)
        };
        let file = lock_and_move()
            .inspect_err(|_| drop(fs::remove_file(&made)))
            .with_context(named)?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let is_ours = |found: &fs::Metadata| {
            let own = self.file.metadata();
            own.is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
        };
        if fs::metadata(&self.path).is_ok_and(|found| is_ours(&found))
            && let Err(cause) = fs::remove_file(&self.path)
        {
            warn!("{}: not removed: {cause}", self.path.display());
        }
    }
}

/// The process that has the file locked.
fn holder(path: &Path) -> io::Result<Option<i32>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let mut lock = whole_file();
    fcntl(file.as_fd(), FcntlArg::F_GETLK(&mut lock))?;
    Ok((lock.l_type != libc::F_UNLCK as i16).then_some(lock.l_pid))
}

/// A lock for writing of the whole file, as ovsdb-server takes it.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
