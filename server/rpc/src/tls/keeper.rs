//! Keeps what connections are made with, and makes it anew when a file has changed.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{info, warn};

use crate::tls::{
    error::TlsError,
    load::{Loaded, load},
    settings::{CaCert, Tls},
};

/// The settings, and what was made of them.
#[derive(Debug, Default)]
pub(crate) struct TlsKeeper {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    tls: Tls,
    /// The files as they were when last read.
    stamps: Vec<Option<Stamp>>,
    loaded: Option<Arc<Loaded>>,
}

/// What tells that a file has changed; a file replaced within one tick of the clock has another inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl TlsKeeper {
    /// Sets what is used from the next connection on.
    pub(crate) fn set(&self, tls: Tls) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.tls != tls {
            *kept = Kept { tls, ..Kept::default() };
        }
    }

    /// What connections are made with now. Looks at the files and reads them where they have changed; what cannot be used then leaves what
    /// was there before in use.
    pub(crate) fn current(&self) -> Result<Arc<Loaded>, TlsError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read, so that a change in between is seen the next time.
        let stamps: Vec<_> = kept.tls.files().map(stamp).collect();
        match &kept.loaded {
            Some(loaded) if stamps == kept.stamps => return Ok(Arc::clone(loaded)),
            _ => {}
        }
        let result = kept.load();
        let changed = std::mem::replace(&mut kept.stamps, stamps) != kept.stamps;
        match (result, &kept.loaded) {
            (Ok(loaded), before) => {
                if before.is_some() {
                    info!("the files of TLS have changed and were read again");
                }
                let loaded = Arc::new(loaded);
                kept.loaded = Some(Arc::clone(&loaded));
                Ok(loaded)
            }
            (Err(error), Some(before)) => {
                if changed {
                    warn!("the files of TLS have changed, and what was read before stays in use: {error}");
                }
                Ok(Arc::clone(before))
            }
            (Err(error), None) => Err(error),
        }
    }
}

impl Kept {
    fn load(&self) -> Result<Loaded, TlsError> {
        let loaded = load(&self.tls)?;
        // Whoever can remove the file must not be able to have another authority believed.
        let had_authority = self.loaded.as_ref().is_some_and(|before| before.bootstrap.is_none());
        match (&self.tls.ca_cert, &loaded.bootstrap) {
            (Some(CaCert::Bootstrap(path)), Some(_)) if had_authority => {
                Err(TlsError::NotBootstrapped { path: path.clone() })
            }
            _ => Ok(loaded),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some(Stamp {
        device: found.dev(),
        inode: found.ino(),
        bytes: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
    })
}
