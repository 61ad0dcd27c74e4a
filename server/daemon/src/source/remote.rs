//! Where a source is: an active connection method of Open vSwitch (ovsdb-client(1)).

use std::fmt;
use std::path::Path;

use nonnet_client::{Address, Input, Output, dial};
use nonnet_rpc::{Host, Remote, TlsDialler};

/// One remote of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceRemote {
    /// `unix:` or `tcp:`.
    Plain(Address),
    /// `ssl:`.
    Tls(Host),
}

impl SourceRemote {
    /// Reads `unix:PATH`, `tcp:IP:PORT` or `ssl:HOST:PORT`.
    ///
    /// # Errors
    /// In words that begin with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("ssl:") {
            return match text.parse::<Remote>() {
                Ok(Remote::ActiveTls(host)) => Ok(Self::Tls(host)),
                Ok(_) => Err(format!("{text}: no ssl:HOST:PORT")),
                Err(error) => Err(error.to_string()),
            };
        }
        let is_method = ["unix:", "tcp:"].iter().any(|method| text.starts_with(method));
        if !is_method {
            return Err(format!("{text}: a source is unix:PATH, tcp:IP:PORT or ssl:HOST:PORT"));
        }
        let address = text.parse::<Address>().map_err(|error| error.to_string())?;
        Ok(Self::Plain(address))
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
        if let Self::Plain(Address::Unix(path)) = self {
            *path = directory.join(&*path);
        }
    }

    /// Whether the other end can vanish without a word.
    pub(crate) fn needs_probe(&self) -> bool {
        !matches!(self, Self::Plain(Address::Unix(_)))
    }

    /// Whether it is reached with TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Connects.
    ///
    /// # Errors
    /// In words that name the remote, or what is missing for TLS.
    pub(crate) async fn connect(&self, tls: &TlsDialler) -> Result<(Input, Output), String> {
        match self {
            Self::Plain(address) => dial(address).await.map_err(|error| error.to_string()),
            Self::Tls(host) => {
                let connection = tls.dial(host).await.map_err(|error| format!("{self}: {error}"))?;
                let (input, output) = tokio::io::split(connection);
                Ok((Box::new(input), Box::new(output)))
            }
        }
    }
}

impl fmt::Display for SourceRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(address) => address.fmt(f),
            Self::Tls(host) => write!(f, "ssl:{host}"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_separated_by_commas() {
        let remotes =
            SourceRemote::parse_list("unix:/run/a.sock,tcp:127.0.0.1:6641,ssl:[::1]:6642,ssl:host:1").unwrap();
        let shown: Vec<String> = remotes.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["unix:/run/a.sock", "tcp:127.0.0.1:6641", "ssl:[::1]:6642", "ssl:host:1"]
        );
        for text in [
            "",
            "a.sock",
            "punix:/run/a.sock",
            "unix:a,",
            "bogus:x",
            "ssl:",
            "ssl:1.2.3.4:x",
            "pssl:1",
        ] {
            assert!(SourceRemote::parse_list(text).is_err(), "{text}");
        }
    }
}
