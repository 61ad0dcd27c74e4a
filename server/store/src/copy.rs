//! A copy of a database file, log and all.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::layout::{OpenError, beside};
use crate::lock::Lock;
use crate::open::resolved;
use crate::read::Reader;
use crate::sqlite::sync_directory;

/// Copies the database at `path`, also while a server writes it, to `target`, in the place of what is there: schema, log and rows as of
/// one moment, without the unused pages.
///
/// # Errors
/// Where either cannot be opened, or a server has the target open.
pub fn copy(path: &Path, target: &Path) -> Result<(), OpenError> {
    let source = Reader::open(path)?;
    let target = resolved(target)?;
    let _lock = Lock::take(&target)?;
    let new_path = beside(&target, ".new");
    let io = |doing| OpenError::io(&new_path, doing);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&new_path).map_err(io("make"))?;
    let vacuum = || -> rusqlite::Result<()> {
        source
            .connection()
            .execute("VACUUM INTO ?", (new_path.to_string_lossy(),))?;
        let connection = Connection::open_with_flags(&new_path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.close().map_err(|(_, error)| error)
    };
    let made = vacuum().map_err(OpenError::sqlite(&new_path, "write to"));
    let made = made.and_then(|()| file.sync_all().map_err(io("sync")));
    if let Err(error) = made {
        // The error that is told is the first.
        let _ = std::fs::remove_file(&new_path);
        return Err(error);
    }
    for leftover in ["-wal", "-shm", ".head"] {
        // What belonged to another file would be taken for damage of this one.
        let _ = std::fs::remove_file(beside(&target, leftover));
    }
    std::fs::rename(&new_path, &target).map_err(OpenError::io(&target, "make"))?;
    sync_directory(&target)
}
