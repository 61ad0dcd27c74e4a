//! Opens the socket of a connection.

use std::{io, path::Path};

use nonnet_schema::FramingError;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::{
    address::Address,
    error::{ConnectError, Lost},
    limits::CONNECT_TIMEOUT,
};

/// What is read from.
pub(crate) type Input = Box<dyn AsyncRead + Send + Unpin>;

/// What is written to.
pub(crate) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects to a server.
pub(crate) async fn open(address: &Address) -> Result<(Input, Output), ConnectError> {
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)
                .await
                .map_err(|cause| unix_error(path, cause))?;
            let (input, output) = stream.into_split();
            Ok((Box::new(input), Box::new(output)))
        }
        Address::Tcp(socket) => {
            let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(socket)).await {
                Ok(connected) => connected.map_err(|cause| tcp_error(address, cause))?,
                Err(_) => {
                    return Err(ConnectError::TimedOut {
                        address: address.clone(),
                        seconds: CONNECT_TIMEOUT.as_secs(),
                    });
                }
            };
            // Requests are single writes; waiting to gather more would only delay them.
            stream.set_nodelay(true).map_err(|cause| tcp_error(address, cause))?;
            let (input, output) = stream.into_split();
            Ok((Box::new(input), Box::new(output)))
        }
    }
}

fn unix_error(path: &Path, cause: io::Error) -> ConnectError {
    let path = path.to_owned();
    match cause.kind() {
        io::ErrorKind::NotFound => ConnectError::NoSocket { path },
        io::ErrorKind::PermissionDenied => ConnectError::NoPermission { path },
        // The kernel says "refused" of a file that is no socket, too.
        io::ErrorKind::ConnectionRefused if path.is_file() || path.is_dir() => ConnectError::NotASocket { path },
        io::ErrorKind::ConnectionRefused => ConnectError::NoServer {
            address: Address::Unix(path),
        },
        _ => ConnectError::System {
            address: Address::Unix(path),
            cause,
        },
    }
}

fn tcp_error(address: &Address, cause: io::Error) -> ConnectError {
    let address = address.clone();
    match cause.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::NoServer { address },
        _ => ConnectError::System { address, cause },
    }
}

impl From<FramingError> for Lost {
    fn from(error: FramingError) -> Self {
        match error {
            // A server that ends in the middle of a message has gone, not erred.
            FramingError::Unfinished { .. } => Self::Closed,
            other => Self::Framing(other),
        }
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::System(error.to_string()),
        }
    }
}
