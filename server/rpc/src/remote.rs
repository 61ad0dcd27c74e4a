//! Where the server listens, in OVS syntax (`ovsdb-server(1)`, "--remote").
//!
//! Takes and gives text; it opens nothing.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    path::PathBuf,
    str::FromStr,
};

use thiserror::Error;

use crate::limits::PORT_DEFAULT;

/// A place to listen at.
///
/// `pssl:` and `pfd:` will be two more of these; `unix:`, `tcp:` and `ssl:` dial the client instead, and `db:` is a list of remotes kept in
/// a database, so they will be types of their own beside this one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Remote {
    /// `punix:PATH`: a unix socket; a relative path is relative to the working directory.
    PassiveUnix(PathBuf),
    /// `ptcp:[PORT][:IP]`: port 0 lets the kernel choose; without an address, all of IPv4.
    PassiveTcp(SocketAddr),
}

/// Why a text is not a remote this server can listen at.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RemoteError {
    /// A kind of remote that OVS has and this server does not have yet.
    #[error("{text}: {kind} remotes are not supported by nonnetd yet; use punix:PATH or ptcp:[PORT][:IP]")]
    NotSupported {
        /// The text given.
        text: String,
        /// The word before its first colon, with the colon.
        kind: &'static str,
    },
    /// Not a kind of remote at all.
    #[error("{text}: not a remote; nonnetd understands punix:PATH and ptcp:[PORT][:IP]")]
    Unknown {
        /// The text given.
        text: String,
    },
    /// `punix:` without a path.
    #[error("{text}: the path of the socket is missing after \"punix:\"")]
    PathMissing {
        /// The text given.
        text: String,
    },
    /// A port that is not a number from 0 to 65535.
    #[error("{text}: \"{port}\" is not a port; ptcp:[PORT][:IP] wants a number from 0 to 65535")]
    Port {
        /// The text given.
        text: String,
        /// What stands for the port.
        port: String,
    },
    /// An address that is not one of IPv4, or of IPv6 in brackets.
    #[error("{text}: \"{address}\" is not an IP address; IPv6 addresses stand in brackets, as in ptcp:6640:[::1]")]
    Address {
        /// The text given.
        text: String,
        /// What stands for the address.
        address: String,
    },
}

/// The kinds that OVS knows besides ours, each with its place kept in the syntax.
const KINDS_LATER: [&str; 6] = ["pssl:", "pfd:", "unix:", "tcp:", "ssl:", "db:"];

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        if let Some(path) = text.strip_prefix("punix:") {
            if path.is_empty() {
                return Err(RemoteError::PathMissing { text: text.to_owned() });
            }
            return Ok(Self::PassiveUnix(PathBuf::from(path)));
        }
        if let Some(rest) = text.strip_prefix("ptcp:") {
            return Ok(Self::PassiveTcp(parse_port_and_address(text, rest)?));
        }
        match KINDS_LATER.iter().copied().find(|kind| text.starts_with(kind)) {
            Some(kind) => Err(RemoteError::NotSupported {
                text: text.to_owned(),
                kind,
            }),
            None => Err(RemoteError::Unknown { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassiveUnix(path) => write!(formatter, "punix:{}", path.display()),
            Self::PassiveTcp(SocketAddr::V4(address)) if address.ip().is_unspecified() => {
                write!(formatter, "ptcp:{}", address.port())
            }
            Self::PassiveTcp(SocketAddr::V4(address)) => write!(formatter, "ptcp:{}:{}", address.port(), address.ip()),
            Self::PassiveTcp(SocketAddr::V6(address)) => {
                write!(formatter, "ptcp:{}:[{}", address.port(), address.ip())?;
                if address.scope_id() != 0 {
                    write!(formatter, "%{}", address.scope_id())?;
                }
                formatter.write_str("]")
            }
        }
    }
}

/// Reads `[PORT][:IP]`.
fn parse_port_and_address(text: &str, rest: &str) -> Result<SocketAddr, RemoteError> {
    let (port, address) = match rest.split_once(':') {
        Some((port, address)) => (port, Some(address)),
        None => (rest, None),
    };
    let port = match port {
        "" => PORT_DEFAULT,
        digits => digits.parse().map_err(|_| RemoteError::Port {
            text: text.to_owned(),
            port: digits.to_owned(),
        })?,
    };
    match address {
        None | Some("") => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        Some(address) => parse_address(address, port).ok_or_else(|| RemoteError::Address {
            text: text.to_owned(),
            address: address.to_owned(),
        }),
    }
}

fn parse_address(text: &str, port: u16) -> Option<SocketAddr> {
    let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return Some(SocketAddr::new(IpAddr::V4(text.parse().ok()?), port));
    };
    let (address, scope) = match inner.split_once('%') {
        Some((address, scope)) => (address, parse_scope(scope)?),
        None => (inner, 0),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    Some(SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope)))
}

/// An interface's index, given as a number or as its name.
fn parse_scope(scope: &str) -> Option<u32> {
    scope.parse().ok().or_else(|| nix::net::if_::if_nametoindex(scope).ok())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn check(text: &str, printed: &str) {
        let remote: Remote = text.parse().unwrap();
        assert_eq!(remote.to_string(), printed);
        assert_eq!(printed.parse(), Ok(remote));
    }

    fn message(text: &str) -> String {
        text.parse::<Remote>().unwrap_err().to_string()
    }

    #[test]
    fn remotes_print_as_they_are_read() {
        check("punix:/run/nonnet.db.sock", "punix:/run/nonnet.db.sock");
        check("ptcp:", "ptcp:6640");
        check("ptcp:0", "ptcp:0");
        check("ptcp::127.0.0.1", "ptcp:6640:127.0.0.1");
        check("ptcp:16640:10.0.0.1", "ptcp:16640:10.0.0.1");
        check("ptcp:6640:[::]", "ptcp:6640:[::]");
        check("ptcp:6640:[fe80::1%lo]", "ptcp:6640:[fe80::1%1]");
    }

    #[test]
    fn kinds_of_later_say_so() {
        assert_eq!(
            message("pssl:6640"),
            "pssl:6640: pssl: remotes are not supported by nonnetd yet; use punix:PATH or ptcp:[PORT][:IP]"
        );
        assert!(message("db:OpNonNet,host,managers").contains("db: remotes are not supported"));
        assert!(message("unix:/x").contains("unix: remotes are not supported"));
    }

    #[test]
    fn anything_else_names_what_is_understood() {
        assert_eq!(
            message("/run/x.sock"),
            "/run/x.sock: not a remote; nonnetd understands punix:PATH and ptcp:[PORT][:IP]"
        );
        assert_eq!(
            message("punix:"),
            "punix:: the path of the socket is missing after \"punix:\""
        );
        assert_eq!(
            message("ptcp:66400"),
            "ptcp:66400: \"66400\" is not a port; ptcp:[PORT][:IP] wants a number from 0 to 65535"
        );
        assert_eq!(
            message("ptcp:1:::1"),
            "ptcp:1:::1: \"::1\" is not an IP address; IPv6 addresses stand in brackets, as in ptcp:6640:[::1]"
        );
    }
}
