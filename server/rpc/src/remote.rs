//! Where the server listens and whom it dials, in OVS syntax (`ovsdb-server(1)`, "--remote").
//!
//! Takes and gives text; it opens nothing.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::RawFd,
    path::PathBuf,
    str::FromStr,
};

use thiserror::Error;

use crate::limits::PORT_DEFAULT;

/// A place to listen at, or a client to dial. (`db:DB,TABLE,COLUMN` is a list of remotes kept in a database, not a remote.)
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Remote {
    /// `punix:PATH`: a unix socket; a relative path is relative to the working directory.
    PassiveUnix(PathBuf),
    /// `ptcp:[PORT][:IP]`: port 0 lets the kernel choose; without an address, all of IPv4.
    PassiveTcp(SocketAddr),
    /// `pssl:[PORT][:IP]`: as `ptcp:`, with TLS.
    PassiveTls(SocketAddr),
    /// `pfd:FD`: a listening socket that the process was started with.
    PassiveFd(RawFd),
    /// `unix:PATH`: dials a unix socket; a relative path is relative to the working directory.
    ActiveUnix(PathBuf),
    /// `tcp:HOST[:PORT]`: dials.
    ActiveTcp(Host),
    /// `ssl:HOST[:PORT]`: dials, with TLS.
    ActiveTls(Host),
}

/// Whom to dial over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// By address.
    Address(SocketAddr),
    /// By a name that is looked up at each attempt.
    Name {
        /// As the system's resolver takes it.
        name: String,
        /// Of TCP.
        port: u16,
    },
}

/// Why a text is not a remote.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RemoteError {
    /// A list of remotes where one remote is wanted.
    #[error("{text}: a list of remotes in a database cannot stand here; give {KINDS}")]
    List {
        /// The text given.
        text: String,
    },
    /// Not a kind of remote at all.
    #[error("{text}: not a remote; nonnetd understands {KINDS}")]
    Unknown {
        /// The text given.
        text: String,
    },
    /// `punix:` or `unix:` without a path.
    #[error("{text}: the path of the socket is missing after \"{text}\"")]
    PathMissing {
        /// The text given.
        text: String,
    },
    /// A port that is not a number in range.
    #[error("{text}: \"{port}\" is not a port; {syntax} wants a number from {smallest} to 65535")]
    Port {
        /// The text given.
        text: String,
        /// What stands for the port.
        port: String,
        /// What would be right.
        syntax: &'static str,
        /// 0 where the kernel may choose.
        smallest: u16,
    },
    /// An address that is not one of IPv4, or of IPv6 in brackets.
    #[error("{text}: \"{address}\" is not an IP address; IPv6 addresses stand in brackets, as in {example}")]
    Address {
        /// The text given.
        text: String,
        /// What stands for the address.
        address: String,
        /// What would be right.
        example: &'static str,
    },
    /// `tcp:` or `ssl:` without a host.
    #[error("{text}: the host to dial is missing after \"{text}\"")]
    HostMissing {
        /// The text given.
        text: String,
    },
    /// `pfd:` with something else than the number of a file descriptor.
    #[error("{text}: \"{number}\" is not the number of a file descriptor")]
    Descriptor {
        /// The text given.
        text: String,
        /// What stands for the number.
        number: String,
    },
}

/// All kinds, for messages.
const KINDS: &str =
    "punix:PATH, ptcp:[PORT][:IP], pssl:[PORT][:IP], pfd:FD, unix:PATH, tcp:HOST[:PORT] and ssl:HOST[:PORT]";

/// How a kind is written that goes over TCP.
struct Syntax {
    syntax: &'static str,
    example: &'static str,
}

const PTCP: Syntax = Syntax {
    syntax: "ptcp:[PORT][:IP]",
    example: "ptcp:6640:[::1]",
};

const PSSL: Syntax = Syntax {
    syntax: "pssl:[PORT][:IP]",
    example: "pssl:6640:[::1]",
};

const TCP: Syntax = Syntax {
    syntax: "tcp:HOST[:PORT]",
    example: "tcp:[::1]:6640",
};

const SSL: Syntax = Syntax {
    syntax: "ssl:HOST[:PORT]",
    example: "ssl:[::1]:6640",
};

impl Remote {
    /// Whether the server dials, rather than listens.
    pub fn is_active(&self) -> bool {
        matches!(self, Self::ActiveUnix(_) | Self::ActiveTcp(_) | Self::ActiveTls(_))
    }

    /// Whether its sessions need [`Tls`](crate::Tls).
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::PassiveTls(_) | Self::ActiveTls(_))
    }
}

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let (kind, rest) = text
            .split_once(':')
            .ok_or_else(|| RemoteError::Unknown { text: text.to_owned() })?;
        match kind {
            "punix" => parse_path(text, rest).map(Self::PassiveUnix),
            "ptcp" => parse_passive(text, rest, &PTCP).map(Self::PassiveTcp),
            "pssl" => parse_passive(text, rest, &PSSL).map(Self::PassiveTls),
            "pfd" => parse_descriptor(text, rest).map(Self::PassiveFd),
            "unix" => parse_path(text, rest).map(Self::ActiveUnix),
            "tcp" => parse_active(text, rest, &TCP).map(Self::ActiveTcp),
            "ssl" => parse_active(text, rest, &SSL).map(Self::ActiveTls),
            "db" => Err(RemoteError::List { text: text.to_owned() }),
            _ => Err(RemoteError::Unknown { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassiveUnix(path) => write!(formatter, "punix:{}", path.display()),
            Self::PassiveTcp(address) => print_passive(formatter, "ptcp", *address),
            Self::PassiveTls(address) => print_passive(formatter, "pssl", *address),
            Self::PassiveFd(number) => write!(formatter, "pfd:{number}"),
            Self::ActiveUnix(path) => write!(formatter, "unix:{}", path.display()),
            Self::ActiveTcp(host) => write!(formatter, "tcp:{host}"),
            Self::ActiveTls(host) => write!(formatter, "ssl:{host}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => {
                print_ip(formatter, *address)?;
                write!(formatter, ":{}", address.port())
            }
            Self::Name { name, port } => write!(formatter, "{name}:{port}"),
        }
    }
}

fn print_passive(formatter: &mut fmt::Formatter<'_>, kind: &str, address: SocketAddr) -> fmt::Result {
    write!(formatter, "{kind}:{}", address.port())?;
    if address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return Ok(());
    }
    formatter.write_str(":")?;
    print_ip(formatter, address)
}

fn print_ip(formatter: &mut fmt::Formatter<'_>, address: SocketAddr) -> fmt::Result {
    match address {
        SocketAddr::V4(address) => write!(formatter, "{}", address.ip()),
        SocketAddr::V6(address) if address.scope_id() == 0 => write!(formatter, "[{}]", address.ip()),
        SocketAddr::V6(address) => write!(formatter, "[{}%{}]", address.ip(), address.scope_id()),
    }
}

fn parse_path(text: &str, path: &str) -> Result<PathBuf, RemoteError> {
    if path.is_empty() {
        return Err(RemoteError::PathMissing { text: text.to_owned() });
    }
    Ok(PathBuf::from(path))
}

fn parse_descriptor(text: &str, number: &str) -> Result<RawFd, RemoteError> {
    number
        .parse()
        .ok()
        .filter(|number| *number >= 0)
        .ok_or_else(|| RemoteError::Descriptor {
            text: text.to_owned(),
            number: number.to_owned(),
        })
}

/// Reads `[PORT][:IP]`.
fn parse_passive(text: &str, rest: &str, kind: &Syntax) -> Result<SocketAddr, RemoteError> {
    let (port, address) = match rest.split_once(':') {
        Some((port, address)) => (port, Some(address)),
        None => (rest, None),
    };
    let port = match port {
        "" => PORT_DEFAULT,
        digits => digits.parse().map_err(|_| RemoteError::Port {
            text: text.to_owned(),
            port: digits.to_owned(),
            syntax: kind.syntax,
            smallest: 0,
        })?,
    };
    match address {
        None | Some("") => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        Some(address) => parse_address(address, port).ok_or_else(|| RemoteError::Address {
            text: text.to_owned(),
            address: address.to_owned(),
            example: kind.example,
        }),
    }
}

/// Reads `HOST[:PORT]`.
fn parse_active(text: &str, rest: &str, kind: &Syntax) -> Result<Host, RemoteError> {
    let (host, port) = match rest.strip_prefix('[').and_then(|inner| inner.find(']')) {
        Some(end) => {
            let (host, port) = rest.split_at(end + 2);
            (host, port.strip_prefix(':').unwrap_or(port))
        }
        None if rest.starts_with('[') => (rest, ""),
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    if host.is_empty() {
        return Err(RemoteError::HostMissing { text: text.to_owned() });
    }
    let port = match port {
        "" => PORT_DEFAULT,
        digits => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| RemoteError::Port {
                text: text.to_owned(),
                port: digits.to_owned(),
                syntax: kind.syntax,
                smallest: 1,
            })?,
    };
    if let Some(address) = parse_address(host, port) {
        return Ok(Host::Address(address));
    }
    if !is_name(host) {
        return Err(RemoteError::Address {
            text: text.to_owned(),
            address: host.to_owned(),
            example: kind.example,
        });
    }
    Ok(Host::Name {
        name: host.to_owned(),
        port,
    })
}

/// Whether this can be a host's name; what has no letter is an address with a slip in it.
fn is_name(host: &str) -> bool {
    host.chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter))
        && host.contains(|letter: char| letter.is_ascii_alphabetic())
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
        check("pssl:", "pssl:6640");
        check("pssl:0:127.0.0.1", "pssl:0:127.0.0.1");
        check("pfd:3", "pfd:3");
        check("unix:client.sock", "unix:client.sock");
        check("tcp:10.0.0.1", "tcp:10.0.0.1:6640");
        check("tcp:[::1]:1234", "tcp:[::1]:1234");
        check("tcp:[fe80::1%lo]", "tcp:[fe80::1%1]:6640");
        check("ssl:manager.example:6641", "ssl:manager.example:6641");
    }

    #[test]
    fn anything_else_names_what_is_understood() {
        let kinds =
            "punix:PATH, ptcp:[PORT][:IP], pssl:[PORT][:IP], pfd:FD, unix:PATH, tcp:HOST[:PORT] and ssl:HOST[:PORT]";
        for text in ["/run/x.sock", "udp:1.2.3.4"] {
            assert_eq!(
                message(text),
                format!("{text}: not a remote; nonnetd understands {kinds}")
            );
        }
        assert_eq!(
            message("db:OpNonNet,host,managers"),
            format!("db:OpNonNet,host,managers: a list of remotes in a database cannot stand here; give {kinds}")
        );
        assert_eq!(
            message("punix:"),
            "punix:: the path of the socket is missing after \"punix:\""
        );
        assert_eq!(message("tcp:"), "tcp:: the host to dial is missing after \"tcp:\"");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            message("ptcp:66400"),
            "ptcp:66400: \"66400\" is not a port; ptcp:[PORT][:IP] wants a number from 0 to 65535"
        );
        assert_eq!(
            message("ptcp:1:::1"),
            "ptcp:1:::1: \"::1\" is not an IP address; IPv6 addresses stand in brackets, as in ptcp:6640:[::1]"
        );
        assert_eq!(
            message("ssl:1.2.3.4:0"),
            "ssl:1.2.3.4:0: \"0\" is not a port; ssl:HOST[:PORT] wants a number from 1 to 65535"
        );
        assert_eq!(
            message("tcp:1.2.3"),
            "tcp:1.2.3: \"1.2.3\" is not an IP address; IPv6 addresses stand in brackets, as in tcp:[::1]:6640"
        );
        assert!(message("tcp:[::1").contains("\"[::1\" is not an IP address"));
        assert_eq!(
            message("pfd:-1"),
            "pfd:-1: \"-1\" is not the number of a file descriptor"
        );
    }
}
