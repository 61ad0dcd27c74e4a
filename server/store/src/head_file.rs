//! `FILE.head`: the newest record that was acknowledged, beside the file that holds it.
//!
//! Written in place after each append, before anybody is answered, and never synced: it costs one write to the page cache. It tells at
//! the next start whether records have vanished, which `SQLite` does not when the end of its write-ahead log is damaged.
//!
//! ```text
//!   0  4 magic "NNH1"   4  4 zero   8 16 boot id
//!  24  8 seq  32 32 hash of the newest record written: must be there at a start in the same boot
//!  64  8 seq  72 32 hash of the newest record synced: must be there at any start
//! 104 16 checksum
//! ```

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nonnet_chain::canonical::{DecodeError, Input, Problem};
use nonnet_chain::{Head, RecordHash, row_sum};
use nonnet_schema::{Uuid, parse_uuid};

use crate::layout::{Damage, OpenError, beside};

const MAGIC: [u8; 8] = *b"NNH1\0\0\0\0";
const SUMMED_BYTES: usize = 104;
const BYTES: usize = SUMMED_BYTES + 16;
const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    boot_id: Uuid,
    written: Head,
    synced: Head,
}

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct HeadFile {
    file: File,
    path: PathBuf,
    boot_id: Uuid,
    has_warned: bool,
}

impl Heads {
    /// Reads the file beside the database at `path`; None where there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, OpenError> {
        let head_path = beside(path, ".head");
        let bytes = match std::fs::read(&head_path) {
            // A loss of power may leave the name of a file that was being made, and nothing in it.
            Ok(bytes) if bytes.is_empty() => return Ok(None),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io(&head_path, "read")(error)),
        };
        Self::decode(&bytes)
            .map(Some)
            .map_err(|_| OpenError::damaged(&head_path, Damage::HeadFile))
    }

    /// The record that must be in the log now.
    pub(crate) fn known(&self) -> Head {
        if self.boot_id == boot_id() {
            self.written
        } else {
            self.synced
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(self.boot_id.as_bytes());
        for head in [self.written, self.synced] {
            bytes.extend_from_slice(&head.seq.to_le_bytes());
            bytes.extend_from_slice(&head.hash.0);
        }
        bytes.extend_from_slice(&row_sum("", Uuid::nil(), &bytes));
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input::new(bytes);
        let wrong = input.error(Problem::TooShort);
        let magic: [u8; 8] = input.array()?;
        let boot_id = input.uuid()?;
        let written = Head {
            seq: input.u64()?,
            hash: RecordHash(input.array()?),
        };
        let synced = Head {
            seq: input.u64()?,
            hash: RecordHash(input.array()?),
        };
        let sum = row_sum("", Uuid::nil(), bytes.get(..SUMMED_BYTES).unwrap_or_default());
        if magic != MAGIC || input.array()? != sum || bytes.len() != BYTES {
            return Err(wrong);
        }
        Ok(Self {
            boot_id,
            written,
            synced,
        })
    }
}

impl HeadFile {
    /// Opens the file, or makes it, so that a loss of power finds it whole, and writes `head` to it.
    pub(crate) fn open(path: &Path, head: Head) -> Result<Self, OpenError> {
        let head_path = beside(path, ".head");
        let io = |doing| OpenError::io(&head_path, doing);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&head_path).map_err(io("open"))?;
        let boot_id = boot_id();
        let heads = Heads {
            boot_id,
            written: head,
            synced: head,
        };
        file.write_all_at(&heads.encode(), 0).map_err(io("write"))?;
        file.set_len(BYTES as u64).map_err(io("write"))?;
        file.sync_all().map_err(io("sync"))?;
        Ok(Self {
            file,
            path: head_path,
            boot_id,
            has_warned: false,
        })
    }

    /// Notes the newest record written and the newest one synced.
    pub(crate) fn write(&mut self, written: Head, synced: Head) {
        let heads = Heads {
            boot_id: self.boot_id,
            written,
            synced,
        };
        // An older head raises no false alarm, so a failure costs only what this file is for.
        if let Err(error) = self.file.write_all_at(&heads.encode(), 0)
            && !self.has_warned
        {
            self.has_warned = true;
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }
}

/// This boot of the machine; nil where the kernel does not tell.
fn boot_id() -> Uuid {
    let text = std::fs::read_to_string(BOOT_ID_PATH).unwrap_or_default();
    parse_uuid(text.trim()).unwrap_or_default()
}
