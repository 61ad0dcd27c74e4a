//! What can be wrong with the settings of TLS.

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
}
