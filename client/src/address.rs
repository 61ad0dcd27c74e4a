//! Where a server is to be found, in OVS syntax (`ovsdb-client(1)`).

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use thiserror::Error;

use crate::limits::PORT_DEFAULT;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `unix:PATH`, or a bare path.
    Unix(PathBuf),
    /// `tcp:IP[:PORT]`; an IPv6 address stands in brackets.
    Tcp(SocketAddr),
}

/// Why a text is not an address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// Nothing, or nothing behind the colon.
    #[error("\"{text}\": the path of the server's socket is missing")]
    PathMissing {
        /// The text given.
        text: String,
    },
    /// Not an IP address, with a port or without.
    #[error(
        "\"{text}\": after \"tcp:\" an IP address and a port are expected, as in tcp:127.0.0.1:6640 or tcp:[::1]:6640"
    )]
    Tcp {
        /// The text given.
        text: String,
    },
    /// A kind of address that OVS has and this client does not.
    #[error("\"{text}\": {kind} addresses are not supported; use unix:PATH, tcp:IP:PORT, or the path of a socket")]
    NotSupported {
        /// The text given.
        text: String,
        /// The word before its first colon, with the colon.
        kind: &'static str,
    },
    /// The address of a listening server, by its looks.
    #[error("\"{text}\": that is where a server listens; to connect to it, use {instead}")]
    Passive {
        /// The text given.
        text: String,
        /// What was probably meant.
        instead: String,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(rest) = text.strip_prefix("tcp:") {
            let address = parse_tcp(rest).ok_or_else(|| AddressError::Tcp { text: text.to_owned() })?;
            return Ok(Self::Tcp(address));
        }
        if let Some(path) = text.strip_prefix("punix:") {
            return Err(AddressError::Passive {
                text: text.to_owned(),
                instead: format!("unix:{path}"),
            });
        }
        if text.starts_with("ptcp:") {
            return Err(AddressError::Passive {
                text: text.to_owned(),
                instead: "tcp:IP:PORT".to_owned(),
            });
        }
        if let Some(kind) = ["ssl:", "pssl:"].into_iter().find(|kind| text.starts_with(kind)) {
            return Err(AddressError::NotSupported {
                text: text.to_owned(),
                kind,
            });
        }
        match text.strip_prefix("unix:").unwrap_or(text) {
            "" => Err(AddressError::PathMissing { text: text.to_owned() }),
            path => Ok(Self::Unix(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Tcp(address) => write!(formatter, "tcp:{address}"),
        }
    }
}

fn parse_tcp(rest: &str) -> Option<SocketAddr> {
    if let Ok(address) = rest.parse() {
        return Some(address);
    }
    let alone = match rest.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?),
        None => IpAddr::V4(rest.parse().ok()?),
    };
    Some(SocketAddr::new(alone, PORT_DEFAULT))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn check(text: &str, printed: &str) {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), printed);
    }

    fn message(text: &str) -> String {
        text.parse::<Address>().unwrap_err().to_string()
    }

    #[test]
    fn addresses_print_as_they_are_read() {
        check("unix:/run/x.sock", "unix:/run/x.sock");
        check("nonnet.db.sock", "unix:nonnet.db.sock");
        check("tcp:127.0.0.1:16640", "tcp:127.0.0.1:16640");
        check("tcp:127.0.0.1", "tcp:127.0.0.1:6640");
        check("tcp:[::1]:1", "tcp:[::1]:1");
        check("tcp:[::1]", "tcp:[::1]:6640");
    }

    #[test]
    fn anything_else_is_explained() {
        assert!(message("tcp:localhost:1").contains("tcp:127.0.0.1:6640"));
        assert_eq!(
            message("punix:/run/x"),
            "\"punix:/run/x\": that is where a server listens; to connect to it, use unix:/run/x"
        );
        assert!(message("ssl:1.2.3.4:1").contains("ssl: addresses are not supported"));
        assert!(message("").contains("the path of the server's socket is missing"));
    }
}
