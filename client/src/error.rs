//! What can go wrong between a client and its server, one type per operation.

use std::{fmt, io, path::PathBuf};

use nonnet_schema::FramingError;
use serde_json::Value;
use thiserror::Error;

use crate::address::Address;

/// Why no connection came about.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// There is no socket at the path.
    #[error("{}: there is no such socket; is the server running, and is this the path it printed when it started?", path.display())]
    NoSocket {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is a socket, or a machine, but no server listens.
    #[error("{address}: no server is listening there")]
    NoServer {
        /// Where it was looked for.
        address: Address,
    },
    /// The socket's mode keeps us out.
    #[error("{}: no permission to connect; the socket is open to its owner and group only", path.display())]
    NoPermission {
        /// Of the socket.
        path: PathBuf,
    },
    /// What is at the path is not a socket.
    #[error("{}: is not a socket", path.display())]
    NotASocket {
        /// What was given.
        path: PathBuf,
    },
    /// The server did not accept in time.
    #[error("{address}: no answer within {seconds} s")]
    TimedOut {
        /// Where it was tried.
        address: Address,
        /// How long was waited.
        seconds: u64,
    },
    /// The system refused.
    #[error("{address}: cannot connect: {cause}")]
    System {
        /// Where it was tried.
        address: Address,
        /// The system's answer.
        cause: io::Error,
    },
}

/// Why a connection is over; the same for everybody who uses it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Lost {
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// The server explained why it closes the connection.
    #[error("the server closed the connection: {0}")]
    Explained(WireError),
    /// Reading or writing failed.
    #[error("{0}")]
    System(String),
    /// What the server sent is not a stream of JSON objects.
    #[error("the server sent what is not OVSDB: {0}")]
    Framing(FramingError),
    /// What the server sent is not a JSON-RPC message.
    #[error("the server sent what is not a JSON-RPC message: {0}")]
    Message(String),
    /// A TCP server did not answer a probe.
    #[error("the server has not answered for {seconds} s")]
    Silent {
        /// How long nothing came.
        seconds: u64,
    },
    /// A subscriber did not take its notifications.
    #[error("more notifications came than were taken")]
    Lagged,
    /// The last user of the connection has gone.
    #[error("the connection was dropped")]
    Dropped,
}

/// An error as it came over the wire: an error object (RFC 7047 3.1) or a bare string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The bare string, or the `error` member.
    pub tag: String,
    /// The `details` member.
    pub details: Option<String>,
    /// The `syntax` member: the JSON text it went wrong in.
    pub syntax: Option<String>,
}

impl WireError {
    /// What the server answers to a method it does not have; clients fall back to older methods on exactly this.
    pub const UNKNOWN_METHOD: &'static str = "unknown method";

    /// Reads an error object or a bare string; anything else becomes the tag as it is.
    pub fn from_json(json: &Value) -> Self {
        let member = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let tag = match json {
            Value::String(text) => text.clone(),
            _ => member("error").unwrap_or_else(|| json.to_string()),
        };
        Self {
            tag,
            details: member("details"),
            syntax: member("syntax"),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.tag)?;
        if let Some(details) = &self.details {
            write!(formatter, ": {details}")?;
        }
        if let Some(syntax) = &self.syntax {
            write!(formatter, " (in {syntax})")?;
        }
        Ok(())
    }
}

/// Why a call has no result.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CallError {
    /// The server answered with an error.
    #[error("{method}: {error}")]
    Refused {
        /// What was called.
        method: String,
        /// The answer.
        error: WireError,
    },
    /// The connection is over; whether the call took effect is unknown.
    #[error("{method}: the connection to {address} is lost: {lost}")]
    Lost {
        /// What was called.
        method: String,
        /// Of the server.
        address: Address,
        /// Why.
        lost: Box<Lost>,
    },
    /// The result is not what the method gives.
    #[error("{method}: the server's answer is not understood: {details}")]
    NotUnderstood {
        /// What was called.
        method: String,
        /// What is wrong with it.
        details: String,
    },
}

impl CallError {
    /// Whether the server does not have the method.
    pub fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Refused { error, .. } if error.tag == WireError::UNKNOWN_METHOD && error.details.is_none())
    }

    /// Whether the connection is over.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

/// Why a transaction did not commit; nothing of it has taken effect, unless the connection was lost.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TransactError {
    /// The request as a whole failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// One operation failed.
    #[error("operation {} of {count} ({summary}): {error}", index + 1)]
    Operation {
        /// Its place, counted from 0.
        index: usize,
        /// How many there were.
        count: usize,
        /// What it was to do, as in `insert into "lxc"`.
        summary: String,
        /// What the server says.
        error: WireError,
    },
    /// All operations succeeded, but not the commit: a constraint over several rows, or the disk.
    #[error("commit: {error}")]
    Commit {
        /// What the server says.
        error: WireError,
    },
}

impl TransactError {
    /// What the server says about it, where it has said something.
    pub fn wire_error(&self) -> Option<&WireError> {
        match self {
            Self::Operation { error, .. } | Self::Commit { error } | Self::Call(CallError::Refused { error, .. }) => {
                Some(error)
            }
            Self::Call(_) => None,
        }
    }
}
