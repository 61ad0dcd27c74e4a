//! What this user has verified of a database, kept outside of it: `$XDG_STATE_HOME/nonnet/verified/<db_id>.json`.
//!
//! ```text
//! {"seq": 4812, "hash": "...", "root": "...", "key": "..." or null}     of the newest record; bytes in hexadecimal
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nonnet_chain::tree::TreeHash;
use nonnet_chain::{Head, Header, PublicKey, RecordHash};
use nonnet_store::{Reader, Verified};
use serde_json::{Value, json};

use crate::proof_file::{hex, unhex};

/// The file of one database.
pub(crate) struct Memory {
    path: PathBuf,
}

impl Memory {
    /// That of a database file, by the id in its first record.
    pub(crate) fn of(file: &Path) -> Result<Self> {
        let reader = Reader::open(file)?;
        let genesis = reader.records(0..=0).next().transpose()?;
        let genesis = genesis.with_context(|| format!("{}: the first record is missing", file.display()))?;
        let header = Header::decode(&genesis.header).with_context(|| format!("{}: record 0", file.display()))?;
        let name = format!("{}.json", header.db_id.hyphenated());
        Ok(Self {
            path: state_directory()?.join("nonnet/verified").join(name),
        })
    }

    /// What was seen last; None the first time.
    pub(crate) fn read(&self) -> Result<Option<Verified>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| self.path.display().to_string()),
        };
        let verified = decode(&text).with_context(|| {
            let path = self.path.display();
            format!("{path}: it is not what nonnet wrote; remove it to verify everything once more")
        })?;
        Ok(Some(verified))
    }

    /// Keeps what was seen now, in the place of what was seen before.
    pub(crate) fn write(&self, verified: &Verified) -> Result<()> {
        let write = || -> std::io::Result<()> {
            if let Some(directory) = self.path.parent() {
                fs::create_dir_all(directory)?;
            }
            let new = self.path.with_extension("new");
            fs::write(&new, format!("{}\n", encode(verified)))?;
            fs::rename(new, &self.path)
        };
        write().with_context(|| self.path.display().to_string())
    }
}

/// The XDG base directory for what a program remembers.
fn state_directory() -> Result<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    match (variable("XDG_STATE_HOME"), variable("HOME")) {
        (Some(state), _) => Ok(state),
        (None, Some(home)) => Ok(home.join(".local/state")),
        (None, None) => bail!("where is to be kept what was verified? Neither XDG_STATE_HOME nor HOME is set"),
    }
}

fn encode(verified: &Verified) -> Value {
    json!({
        "seq": verified.head.seq, "hash": verified.head.hash.to_string(), "root": verified.root.to_string(),
        "key": verified.key.map(|key| hex(&key.0)),
    })
}

fn decode(text: &str) -> Result<Verified> {
    let json: Value = serde_json::from_str(text)?;
    let bytes = |name: &str| -> Result<[u8; 32]> {
        let bytes = unhex(&json[name]).and_then(|bytes| bytes.try_into().ok());
        bytes.with_context(|| format!("{name:?} is not 32 bytes in hexadecimal"))
    };
    Ok(Verified {
        head: Head {
            seq: json["seq"].as_u64().context("\"seq\" is no number")?,
            hash: RecordHash(bytes("hash")?),
        },
        root: TreeHash(bytes("root")?),
        key: match json["key"] {
            Value::Null => None,
            _ => Some(PublicKey(bytes("key")?)),
        },
    })
}
