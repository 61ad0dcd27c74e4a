//! Where the gateway listens.

use std::{fmt, path::PathBuf, str::FromStr};

use thiserror::Error;

/// `unix:PATH`; a relative path is relative to the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub(crate) path: PathBuf,
}

/// Why a text is not an address the gateway listens at.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// `unix:` without a path.
    #[error("{text}: the path of the socket is missing after \"unix:\"")]
    PathMissing {
        /// The text given.
        text: String,
    },
    /// Anything but a unix socket.
    #[error(
        "{text}: the HTTP gateway listens on unix:PATH only; a TCP address needs a token and a check of Host and Origin, \
         which the gateway does not have yet, and without them any web page and any user of this host could reach it"
    )]
    NotUnix {
        /// The text given.
        text: String,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(AddressError::PathMissing { text: text.to_owned() }),
            Some(path) => Ok(Self { path: path.into() }),
            None => Err(AddressError::NotUnix { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unix:{}", self.path.display())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn only_unix_sockets_are_listened_at() {
        assert_eq!(
            "unix:/run/x.http".parse::<Address>().unwrap().to_string(),
            "unix:/run/x.http"
        );
        for text in ["127.0.0.1:6680", "tcp:6680", "/run/x.http", ""] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("listens on unix:PATH only"), "{error}");
            assert!(error.contains("needs a token"), "{error}");
        }
        assert!("unix:".parse::<Address>().is_err());
    }
}
