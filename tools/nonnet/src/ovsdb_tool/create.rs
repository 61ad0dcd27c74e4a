//! `create`: an empty database in ovsdb-server's format, so that either server can take it; ours converts it when it is first opened.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Result, anyhow};
use nonnet_store::ovsdb_file::{self, FileLock};

use super::file::{plain, unlocked};
use super::schema;

/// Makes the file, which must not exist.
pub(super) fn run(db: &Path, schema_path: &Path) -> Result<()> {
    let schema = schema::read(schema_path)?;
    let _lock = FileLock::take(db).map_err(|error| unlocked(db, error))?;
    let failed = |cause: &io::Error| anyhow!("I/O error: {}: create failed ({})", db.display(), plain(cause));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o660);
    let mut file = options.open(db).map_err(|cause| failed(&cause))?;
    let mut bytes = Vec::new();
    let written = ovsdb_file::write_schema(&mut bytes, &schema);
    let written = written
        .and_then(|()| file.write_all(&bytes))
        .and_then(|()| file.sync_all());
    written.map_err(|cause| {
        // Half a file would be taken for a whole one.
        let _ = std::fs::remove_file(db);
        failed(&cause)
    })
}
