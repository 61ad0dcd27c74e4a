//! Transactions added to a file of ovsdb-server, as ovsdb-tool adds them.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use nonnet_engine::ChangeSet;
use nonnet_schema::DatabaseSchema;

use super::FileLock;
use super::write::changes_record;

/// Appends one transaction of that date (milliseconds since 1970), all of it or nothing, and syncs it. `_lock` is that of the file, which
/// was read to its end without damage since.
///
/// # Errors
/// The system's; the file is then as it was, where the system let that be.
pub fn append(
    path: &Path,
    _lock: &FileLock,
    schema: &DatabaseSchema,
    changes: &ChangeSet,
    date_ms: u64,
    comment: Option<&str>,
) -> io::Result<()> {
    let record = changes_record(schema, changes, date_ms, comment);
    let mut file = OpenOptions::new().append(true).open(path)?;
    let end = file.metadata()?.len();
    file.write_all(&record)
        .and_then(|()| file.sync_data())
        .inspect_err(|_| {
            // The error that is told is the first.
            let _ = file.set_len(end);
        })
}
