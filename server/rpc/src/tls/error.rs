//! What can be wrong with the settings of TLS.

use std::{io, path::PathBuf};

use thiserror::Error;

/// What is wrong with the settings of TLS; each text names the option and the file.
#[derive(Debug, Error)]
pub enum TlsError {
    /// An option without which there is no TLS was not given.
    #[error("{option} is missing; pssl: and ssl: remotes need {what}")]
    Missing {
        /// The option.
        option: &'static str,
        /// What it is for.
        what: &'static str,
    },
    /// A file cannot be read.
    #[error("{option}={}: {cause}", path.display())]
    Unreadable {
        /// The option.
        option: &'static str,
        /// The file it names.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// A file has not what it should have.
    #[error("{option}={}: {problem}", path.display())]
    Content {
        /// The option.
        option: &'static str,
        /// The file it names.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Key and certificate are of two pairs.
    #[error("--private-key={} is not the key of --certificate={}", private_key.display(), certificate.display())]
    Mismatch {
        /// The key's file.
        private_key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// An option that chooses among what TLS has chooses nothing that there is.
    #[error("{option}={given}: none of these is supported; there are {known}")]
    NoneLeft {
        /// The option.
        option: &'static str,
        /// What it was given.
        given: String,
        /// All that could be chosen.
        known: String,
    },
    /// Nothing came to be known yet that could vouch for a client.
    #[error("--bootstrap-ca-cert={}: there is no such file yet, and only an ssl: remote makes it", path.display())]
    NotBootstrapped {
        /// The file.
        path: PathBuf,
    },
    /// The library refused.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}
