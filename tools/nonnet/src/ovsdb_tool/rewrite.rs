//! `compact` and `convert`: a file as if it had just been made, in its place or elsewhere.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Error, Result, anyhow};
use nonnet_engine::Database;
use nonnet_schema::{DatabaseSchema, OVSDB_SERVER_VERSION};
use nonnet_store::ovsdb_file::{self, FileLock, OvsdbFileError};
use nonnet_store::{Conversion, ConvertError, Log as _, OpenError, StoredRow};

use super::file::{self, Format, as_ovsdb_error, not_ours, plain};
use super::{NAME, schema};
use crate::loaded::Loaded;
use crate::{origin, time};

/// Writes the rows anew, without what they were before. The log of a file of ours is kept whole: its rows are brought up to date, and a
/// copy has no unused pages.
pub(super) fn compact(db: &Path, target: Option<&Path>) -> Result<()> {
    match (file::standalone_format(db)?, target) {
        (Format::Nonnet, Some(target)) => nonnet_store::copy(db, target).map_err(|error| unwritten(db, &error)),
        (Format::Nonnet, None) => {
            let mut opened = nonnet_store::open(db).map_err(|error| unwritten(db, &error))?;
            while opened.log.maintain(true)? {}
            Ok(())
        }
        _ => rewrite(db, target, "compacted", |loaded| Ok(loaded.database)),
    }
}

/// Brings the rows under another schema.
pub(super) fn convert(db: &Path, schema_path: &Path, target: Option<&Path>) -> Result<()> {
    let wanted = schema::read(schema_path)?;
    if file::standalone_format(db)? == Format::Nonnet {
        if let Some(target) = target {
            nonnet_store::copy(db, target).map_err(|error| unwritten(db, &error))?;
        }
        let conversion = Conversion {
            author: origin::author(NAME, "convert"),
            moment: origin::moment(),
            seed: origin::seed()?,
        };
        let converted = nonnet_store::convert(target.unwrap_or(db), &wanted, &conversion);
        return converted.map(drop).map_err(|error| {
            if let Some(target) = target {
                // A copy under the old schema is not what was asked for.
                let _ = std::fs::remove_file(target);
            }
            match error {
                ConvertError::Misfit { error, .. } => anyhow!(as_ovsdb_error(&error, "")),
                ConvertError::Open(error) => unwritten(db, &error),
                error => anyhow!("ovsdb error: {error}"),
            }
        });
    }
    rewrite(db, target, "converted", |mut loaded| converted(&mut loaded, wanted))
}

fn converted(loaded: &mut Loaded, wanted: DatabaseSchema) -> Result<Database> {
    let Loaded { database, entropy } = loaded;
    let converted = nonnet_engine::convert(database, Arc::new(wanted), 1, None, entropy);
    converted.map_err(|error| anyhow!(as_ovsdb_error(&error, "")))
}

/// Writes what `change` makes of a file of ovsdb-server to another, or in its place.
fn rewrite(
    db: &Path,
    target: Option<&Path>,
    done: &str,
    change: impl FnOnce(Loaded) -> Result<Database>,
) -> Result<()> {
    // Through symbolic links, so that they stay.
    let source = db.canonicalize().map_err(|cause| file::unopened(db, &cause))?;
    let aside = beside(&source, ".tmp");
    let target_path = match target {
        Some(target) => target.canonicalize().unwrap_or_else(|_| target.to_owned()),
        None => aside,
    };
    let _source_lock = match target {
        Some(_) => None,
        None => Some(FileLock::take(&source).map_err(|error| unlocked(db, &error))?),
    };
    let _target_lock = FileLock::take(&target_path).map_err(|error| unlocked(&target_path, &error))?;
    let own = env!("CARGO_PKG_VERSION");
    let comment = format!("{done} by {NAME} {OVSDB_SERVER_VERSION} (nonnet {own})");
    let database = change(file::load(db)?)?;
    write(&target_path, &database, &comment)
        .map_err(|cause| anyhow!("I/O error: {}: write failed ({})", target_path.display(), plain(&cause)))?;
    if target.is_none() {
        let failed = || {
            format!(
                "failed to rename \"{}\" to \"{}\"",
                target_path.display(),
                source.display()
            )
        };
        std::fs::rename(&target_path, &source).with_context(failed)?;
        let parent = source.parent().unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .with_context(failed)?;
    }
    Ok(())
}

fn write(path: &Path, database: &Database, comment: &str) -> io::Result<()> {
    let schema = database.schema();
    let rows: Vec<StoredRow> = schema
        .tables()
        .iter()
        .filter_map(|table| database.table_named(&table.name))
        .flat_map(|(index, table)| {
            table.rows().map(move |row| StoredRow {
                table: index,
                uuid: row.uuid(),
                fields: row.fields().to_vec(),
            })
        })
        .collect();
    let mut bytes = Vec::new();
    ovsdb_file::write(&mut bytes, schema, &rows, time::now_us() / 1000, comment)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o660);
    let mut file = options.open(path)?;
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    written.inspect_err(|_| {
        // Half a file would be taken for a whole one.
        let _ = std::fs::remove_file(path);
    })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What `compact` and `convert` say of a lock that another process has.
fn unlocked(path: &Path, error: &OvsdbFileError) -> Error {
    match error {
        OvsdbFileError::InUse { .. } => locked(path),
        error => anyhow!("{}: failed to lock lockfile ({error})", path.display()),
    }
}

fn unwritten(db: &Path, error: &OpenError) -> Error {
    match error {
        OpenError::InUse { .. } => locked(db),
        error => not_ours(error),
    }
}

fn locked(path: &Path) -> Error {
    anyhow!(
        "{}: failed to lock lockfile (Resource temporarily unavailable)",
        path.display()
    )
}
