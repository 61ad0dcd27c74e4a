//! A database file of ours made from one of ovsdb-server: beside it, or in its place.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nonnet_chain::{Author, Chain, Head, Moment, PublicKey, Record, RecordTooLarge, Request};
use nonnet_engine::{ChangeSet, Row, RowChange};
use nonnet_schema::Uuid;

use super::lock::FileLock;
use super::{FILE_MARK, OvsdbFile, OvsdbFileError, ReadError, read};
use crate::keys::Keys;
use crate::layout::{OpenError, beside};
use crate::open::{create_with, resolved};

/// Who imports, when, and what random ids that takes.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who.
    pub author: Author,
    /// When.
    pub moment: Moment,
    /// The new database.
    pub db_id: Uuid,
    /// The transaction that brings the rows.
    pub txn_uid: Uuid,
}

/// What a conversion in place did.
#[derive(Clone, Debug)]
pub struct Converted {
    /// What the original held.
    pub source: OvsdbFile,
    /// Where the original is now.
    pub kept: PathBuf,
    /// The newest record of the new file.
    pub head: Head,
}

/// Whether the file begins as those of ovsdb-server do, clustered ones included.
pub fn is_ovsdb_file(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(FILE_MARK.len() as u64).read_to_end(&mut start)?;
    Ok(start == FILE_MARK)
}

/// Reads the standalone database at `path`, also while ovsdb-server writes it.
pub fn open(path: &Path) -> Result<OvsdbFile, OvsdbFileError> {
    let failed = |source| OvsdbFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(|error| failed(ReadError::Io(error)))?;
    read(BufReader::with_capacity(1 << 16, file)).map_err(failed)
}

/// Makes the database file at `path` with the rows of `source`, which was read from `source_path`: genesis, and one record that brings all
/// of them and names the source.
///
/// # Errors
/// [`OpenError::Exists`] where there is a file that is not empty.
pub fn import(path: &Path, source: &OvsdbFile, source_path: &Path, origin: &Origin) -> Result<Head, OvsdbFileError> {
    let key = Keys::make(&resolved(path)?)?;
    let records = records(source, source_path, origin, key);
    let (records, head) = records.map_err(|error| too_large(source_path, error))?;
    create_with(path, &source.schema, &records, None)?;
    Ok(head)
}

/// Puts a database file of ours in the place of the one of ovsdb-server at `path`, which stays beside it as `FILE.ovsdb`. What comes after
/// a damaged record stays in the original only.
///
/// # Errors
/// [`OvsdbFileError::InUse`] while ovsdb-server or a tool has it open for writing. Nothing has changed then.
pub fn convert_in_place(path: &Path, origin: &Origin) -> Result<Converted, OvsdbFileError> {
    let path = resolved(path)?;
    let _lock = FileLock::take(&path)?;
    let source = open(&path)?;
    let kept = kept_path(&path)?;
    let records = records(&source, &kept, origin, Keys::make(&path)?);
    let (records, head) = records.map_err(|error| too_large(&path, error))?;
    create_with(&path, &source.schema, &records, Some(&kept))?;
    Ok(Converted { source, kept, head })
}

fn records(
    source: &OvsdbFile,
    source_path: &Path,
    origin: &Origin,
    key: PublicKey,
) -> Result<([Record; 2], Head), RecordTooLarge> {
    let mut author = origin.author.clone();
    let (mut chain, genesis) = Chain::begin_signed(origin.db_id, &source.schema, &author, origin.moment, Some(key))?;
    let mut tell = |name: &str, detail: String| author.details.push((name.into(), detail.into()));
    tell("source", source_path.display().to_string());
    tell("source_sha1", source.sha1.clone());
    tell("source_records", source.records.to_string());
    if let Some(date) = source.date_ms {
        tell("source_date_ms", date.to_string());
    }
    if let Some(damage) = &source.damage {
        tell("source_damage", damage.to_string());
    }
    let request = Request {
        operations: source.rows.len() as u32,
        txn_uid: origin.txn_uid,
        durable: true,
        ..Request::default()
    };
    let rows = source.rows.iter().map(|row| RowChange {
        table: row.table,
        uuid: row.uuid,
        old: None,
        // The log holds no versions.
        new: Some(Arc::new(Row::new(row.uuid, Uuid::nil(), row.fields.clone()))),
    });
    let changes = ChangeSet::new(rows.collect());
    let import = chain.import(&author, &request, origin.moment, &changes, &source.schema)?;
    Ok(([genesis, import], chain.head()))
}

fn too_large(path: &Path, source: RecordTooLarge) -> OvsdbFileError {
    let path = path.to_owned();
    OvsdbFileError::TooLarge { path, source }
}

/// Where the original goes: `FILE.ovsdb`, or with a number where that is another file.
fn kept_path(path: &Path) -> Result<PathBuf, OpenError> {
    let inode = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    let own = inode(path).map_err(OpenError::io(path, "open"))?;
    let is_free = |kept: &PathBuf| match inode(kept) {
        // A conversion that was interrupted left it.
        Ok(found) => found == own,
        Err(_) => kept.symlink_metadata().is_err(),
    };
    let numbered = (1_u32..).map(|number| beside(path, &format!(".ovsdb.{number}")));
    let mut candidates = std::iter::once(beside(path, ".ovsdb")).chain(numbered);
    candidates.find(is_free).ok_or_else(|| OpenError::Exists {
        path: beside(path, ".ovsdb"),
    })
}
