//! Opens the socket of a connection.

use std::{io, net::SocketAddr, path::Path};

use nonnet_schema::FramingError;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

use crate::{
    address::Address,
    error::{ConnectError, Lost},
    limits::{BUSY_PAUSE, CONNECT_TIMEOUT},
};

/// What is read from.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;

/// What is written to.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects to a server.
pub(crate) async fn open(address: &Address) -> Result<(Input, Output), ConnectError> {
    let opening = async {
        match address {
            Address::Unix(path) => open_unix(path).await,
            Address::Tcp(socket) => open_tcp(*socket).await,
        }
    };
    timeout(CONNECT_TIMEOUT, opening).await.unwrap_or_else(|_| {
        Err(ConnectError::TimedOut {
            address: address.clone(),
            seconds: CONNECT_TIMEOUT.as_secs(),
        })
    })
}

async fn open_unix(path: &Path) -> Result<(Input, Output), ConnectError> {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => {
                let (input, output) = stream.into_split();
                return Ok((Box::new(input), Box::new(output)));
            }
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => sleep(BUSY_PAUSE).await,
            Err(cause) => return Err(unix_error(path, cause)),
        }
    }
}

async fn open_tcp(socket: SocketAddr) -> Result<(Input, Output), ConnectError> {
    let stream = TcpStream::connect(socket)
        .await
        .map_err(|cause| tcp_error(socket, cause))?;
    // Requests are single writes; waiting to gather more would only delay them.
    stream.set_nodelay(true).map_err(|cause| tcp_error(socket, cause))?;
    let (input, output) = stream.into_split();
    Ok((Box::new(input), Box::new(output)))
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

fn tcp_error(socket: SocketAddr, cause: io::Error) -> ConnectError {
    let address = Address::Tcp(socket);
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
