//! Keys in files: a line of base64, as `wg genkey` and `wg genpsk` write it. A key shows itself to nobody but `wg`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecow::{EcoString, eco_format};

use crate::limits::KEY_FILE_BYTES_MAX;
use crate::secret_file;

/// A secret key, as text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// The key in a file.
    pub(super) fn read(path: &str) -> Result<Self, EcoString> {
        Self::find(path)?.ok_or_else(|| eco_format!("{path} does not exist"))
    }

    /// The key in a file, which is made with a new one if there is none.
    pub(super) fn read_or_make(path: &str) -> Result<Self, EcoString> {
        if let Some(key) = Self::find(path)? {
            return Ok(key);
        }
        make(Path::new(path)).map_err(|error| eco_format!("{path} cannot be made: {error}"))?;
        Self::read(path)
    }

    /// None where there is no such file.
    fn find(path: &str) -> Result<Option<Self>, EcoString> {
        match secret_file::read(Path::new(path), KEY_FILE_BYTES_MAX) {
            Ok(text) => match Self::of_text(text.trim()) {
                Some(key) => Ok(Some(key)),
                None => Err(eco_format!("{path} has no key of 32 octets in base64")),
            },
            Err(unreadable) if unreadable.is_missing => Ok(None),
            Err(unreadable) => Err(unreadable.words),
        }
    }

    /// The key of that text, as `wg` writes it.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let octets: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
        Some(Self(STANDARD.encode(octets)))
    }

    /// For `wg`, and nobody else.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// Writes a new key: all of it or nothing, and never over another.
fn make(path: &Path) -> io::Result<()> {
    let mut octets = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    // As RFC 7748 5 has private keys, so that every program shows the same one.
    octets[0] &= 0xf8;
    octets[31] = (octets[31] & 0x7f) | 0x40;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = directory.join(format!(".{name}.{}", std::process::id()));
    let written = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(format!("{}\n", STANDARD.encode(octets)).as_bytes())?;
        file.sync_all()?;
        fs::hard_link(&fresh, path)
    };
    let made = written();
    let _ = fs::remove_file(&fresh);
    match made {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_that_is_missing_is_made_once_and_is_for_its_owner_alone() {
        let directory = std::env::temp_dir().join(format!("nonnet-key-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("key");
        let text = path.to_str().unwrap();
        assert!(Key::read(text).is_err());
        let made = Key::read_or_make(text).unwrap_or_else(|error| unreachable!("{error}"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(Key::read_or_make(text) == Ok(made));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Key::read_or_make(text).err().unwrap();
        assert!(error.contains("open to others"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no key\n").unwrap();
        let error = Key::read_or_make(text).err().unwrap();
        assert!(error.contains("has no key") && !error.contains("no key\n"), "{error}");
        fs::remove_dir_all(directory).unwrap();
    }
}
