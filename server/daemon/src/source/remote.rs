//! Where a source is: an active connection method of Open vSwitch (ovsdb-client(1)).

use std::fmt;
use std::path::Path;

use nonnet_client::{Address, Input, Output, dial};

/// One remote of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceRemote {
    address: Address,
}

impl SourceRemote {
    /// Reads `unix:PATH` or `tcp:IP:PORT`.
    ///
    /// # Errors
    /// In words that begin with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let is_method = ["unix:", "tcp:"].iter().any(|method| text.starts_with(method));
        if !is_method {
            return Err(format!("{text}: a source is unix:PATH or tcp:IP:PORT"));
        }
        let address = text.parse::<Address>().map_err(|error| error.to_string())?;
        Ok(Self { address })
    }

    /// Reads one or more, separated by commas.
    ///
    /// # Errors
    /// As of the first that is none.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(Self::parse).collect()
    }

    /// Makes a path independent of the working directory.
    pub(crate) fn settle(&mut self, directory: &Path) {
        if let Address::Unix(path) = &mut self.address {
            *path = directory.join(&*path);
        }
    }

    /// Whether the other end can vanish without a word.
    pub(crate) fn needs_probe(&self) -> bool {
        !matches!(self.address, Address::Unix(_))
    }

    /// Connects.
    ///
    /// # Errors
    /// In words that name the remote.
    pub(crate) async fn connect(&self) -> Result<(Input, Output), String> {
        dial(&self.address).await.map_err(|error| error.to_string())
    }
}

impl fmt::Display for SourceRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_separated_by_commas() {
        let remotes = SourceRemote::parse_list("unix:/run/a.sock,tcp:127.0.0.1:6641").unwrap();
        let shown: Vec<String> = remotes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["unix:/run/a.sock", "tcp:127.0.0.1:6641"]);
        for text in ["", "a.sock", "punix:/run/a.sock", "unix:a,", "bogus:x"] {
            assert!(SourceRemote::parse_list(text).is_err(), "{text}");
        }
    }
}
