//! `FILE.key`: the key that signs the checkpoints of the database beside it, and `FILE.key.next`: the one that comes after it.
//!
//! ```text
//! nonnet checkpoint key v1
//! <base64 of 32 bytes>
//! ```
//!
//! Both are for the owner only. The next key reaches the disk before the record that brings it, and takes the place of the old one once that
//! record is written; the bytes of the old one are overwritten first. A disk may keep copies of what was overwritten: where that matters,
//! the directory belongs on a file system in memory, or the disk is encrypted.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nonnet_chain::{PublicKey, SecretKey};
use rusqlite::{Connection, OptionalExtension};
use zeroize::Zeroizing;

use crate::layout::{OpenError, beside};
use crate::limits::KEY_FILE_BYTES_MAX;
use crate::sqlite::sync_directory;

const MARK: &str = "nonnet checkpoint key v1";

/// The keys of a database.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    current: Option<SecretKey>,
    next: Option<SecretKey>,
}

/// Keys that the writer of a log and whoever makes records share.
#[derive(Clone, Debug)]
pub struct SharedKeys(Arc<Mutex<Keys>>);

impl SharedKeys {
    pub(crate) fn new(keys: Keys) -> Self {
        Self(Arc::new(Mutex::new(keys)))
    }

    /// Takes them for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, Keys> {
        // Whoever panicked with them has left whole keys.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    /// The public key of a database that is about to be made, whose keys are made now where there are none.
    pub fn make(database: &Path) -> Result<PublicKey, OpenError> {
        let mut keys = Self::read(database)?;
        if let Some(current) = &keys.current {
            return Ok(current.public());
        }
        let public = keys.prepare()?;
        keys.promote()?;
        Ok(public)
    }

    /// Reads the keys beside a database where `in_force` is the key that its log names.
    pub(crate) fn open(database: &Path, in_force: Option<PublicKey>) -> Result<Self, OpenError> {
        let mut keys = Self::read(database)?;
        let is_in_force = |key: &SecretKey| Some(key.public()) == in_force;
        if keys.next.as_ref().is_some_and(is_in_force) {
            // The record was written, and the process ended before the key took its place.
            keys.promote()?;
        }
        keys.current = keys.current.take().filter(is_in_force);
        Ok(keys)
    }

    fn read(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database, ".key");
        Ok(Self {
            current: read(&path)?,
            next: read(&beside(database, ".key.next"))?,
            path,
        })
    }

    /// The key in force; None where the log names none, or one that is not here.
    pub fn current(&self) -> Option<&SecretKey> {
        self.current.as_ref()
    }

    /// The key in force with the public part of the next one, once both are there.
    pub fn rotation(&self) -> Option<(&SecretKey, PublicKey)> {
        Some((self.current.as_ref()?, self.next.as_ref()?.public()))
    }

    /// The public part of the next key, which is made and brought to the disk where there is none.
    pub fn prepare(&mut self) -> Result<PublicKey, OpenError> {
        if let Some(next) = &self.next {
            return Ok(next.public());
        }
        let path = self.next_path();
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|error| OpenError::io(&path, "make")(error.into()))?;
        let key = SecretKey::from_seed(&seed);
        write(&path, &key).map_err(OpenError::io(&path, "write to"))?;
        sync_directory(&path)?;
        let public = key.public();
        self.next = Some(key);
        Ok(public)
    }

    /// Puts the next key in the place of the old one, where it is that of a record which is written now.
    pub(crate) fn written(&mut self, public: PublicKey) -> Result<(), OpenError> {
        if self.next.as_ref().is_some_and(|next| next.public() == public) {
            self.promote()?;
        }
        Ok(())
    }

    fn promote(&mut self) -> Result<(), OpenError> {
        match overwrite(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(OpenError::io(&self.path, "write to")(error));
            }
            _ => {}
        }
        std::fs::rename(self.next_path(), &self.path).map_err(OpenError::io(&self.path, "make"))?;
        sync_directory(&self.path)?;
        self.current = self.next.take();
        Ok(())
    }

    fn next_path(&self) -> PathBuf {
        beside(&self.path, ".next")
    }
}

/// The key that the log names, as the setting 'key' says: `u64 seq of the record, 32 bytes public key`.
pub(crate) fn in_force(connection: &Connection) -> rusqlite::Result<Option<PublicKey>> {
    let query = "SELECT datum FROM setting WHERE name = 'key'";
    let bytes: Option<[u8; 40]> = connection.query_row(query, (), |row| row.get(0)).optional()?;
    Ok(bytes.map(|bytes| {
        let mut key = [0; 32];
        key.copy_from_slice(&bytes[8..]);
        PublicKey(key)
    }))
}

/// Notes the key that a record brings.
pub(crate) fn note(connection: &Connection, seq: u64, key: PublicKey) -> rusqlite::Result<()> {
    let bytes = [&seq.to_le_bytes()[..], &key.0].concat();
    connection
        .execute("INSERT OR REPLACE INTO setting VALUES ('key', ?)", (bytes,))
        .map(drop)
}

fn read(path: &Path) -> Result<Option<SecretKey>, OpenError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(path, "open")(error)),
    };
    let mut text = Zeroizing::new(String::new());
    let read = file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(OpenError::io(path, "read"))?;
    // A loss of power may leave the name of a file that was being made, and nothing in it.
    if text.bytes().all(|byte| byte == 0) {
        return Ok(None);
    }
    let seed = text
        .trim_end()
        .strip_prefix(MARK)
        .and_then(|seed| seed.strip_prefix('\n'));
    let seed = seed.and_then(|seed| STANDARD.decode(seed).ok()).map(Zeroizing::new);
    match seed
        .and_then(|seed| <[u8; 32]>::try_from(seed.as_slice()).ok())
        .map(Zeroizing::new)
    {
        Some(seed) => Ok(Some(SecretKey::from_seed(&seed))),
        None => Err(OpenError::io(path, "read")(std::io::Error::new(
            ErrorKind::InvalidData,
            format!("it is no key: a line {MARK:?} and one with base64 of 32 bytes are expected"),
        ))),
    }
}

fn write(path: &Path, key: &SecretKey) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let text = Zeroizing::new(format!("{MARK}\n{}\n", *Zeroizing::new(STANDARD.encode(key.seed()))));
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn overwrite(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len().min(KEY_FILE_BYTES_MAX);
    file.write_all(&vec![0; length as usize])?;
    file.sync_all()
}
