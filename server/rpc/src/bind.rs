//! Opens the sockets to listen on, and removes a unix socket's file again.
//!
//! It never deletes anything but a socket on which nobody listens, or the file it made itself.

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, setsockopt, socket as open_socket, sockopt,
};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};
use tracing::debug;

use crate::{
    limits::{LISTEN_BACKLOG, SOCKET_MODE, SOCKET_PATH_BYTES_MAX},
    options::RemoteOptions,
};

/// Why a remote cannot be listened on; each text names the path or address.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Another server listens on the socket.
    #[error("{}: another server is already listening on this socket", path.display())]
    InUse {
        /// Of the socket.
        path: PathBuf,
    },
    /// The path is taken by a directory.
    #[error("{}: is a directory; give the path of the socket itself, for example {}", path.display(), path.join("nonnet.db.sock").display())]
    IsDirectory {
        /// Of the directory.
        path: PathBuf,
    },
    /// The path is taken by something that is not a socket.
    #[error("{}: exists and is {kind}, not a socket; it was left alone: remove it or choose another path", path.display())]
    NotASocket {
        /// Of the file.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// The path does not fit into the kernel's address of a unix socket.
    #[error("{}: this path has {bytes} bytes, and that of a unix socket may have at most {SOCKET_PATH_BYTES_MAX}", path.display())]
    PathTooLong {
        /// Of the socket.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The directory the socket is to be made in does not exist.
    #[error("{}: the directory {} does not exist", path.display(), directory.display())]
    NoDirectory {
        /// Of the socket.
        path: PathBuf,
        /// That is missing.
        directory: PathBuf,
    },
    /// Another program has the port.
    #[error("{address}: another program is already listening on this port")]
    PortInUse {
        /// Asked for.
        address: SocketAddr,
    },
    /// The process was started without such a socket.
    #[error("pfd:{number}: file descriptor {number} is not a socket that listens ({cause})")]
    NotInherited {
        /// Of the file descriptor.
        number: RawFd,
        /// What it is instead.
        cause: io::Error,
    },
    /// The system refused.
    #[error("{subject}: cannot {verb}: {cause}")]
    System {
        /// The path or address.
        subject: String,
        /// What was tried.
        verb: &'static str,
        /// The system's answer.
        cause: io::Error,
    },
}

/// The file of a unix socket that this process made.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Removes the file, unless another has taken its place.
    ///
    /// # Errors
    ///
    /// The system's, `NotFound` where the file is gone already.
    pub fn remove(&self) -> io::Result<()> {
        let found = fs::symlink_metadata(&self.path)?;
        if (found.dev(), found.ino()) == (self.device, self.inode) {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

/// Listens on a unix socket for owner and group; needs a tokio runtime.
///
/// # Errors
///
/// [`ListenError`] when the socket cannot be opened; nothing has changed then.
pub fn listen_unix(path: &Path) -> Result<(UnixListener, SocketFile), ListenError> {
    listen_unix_as(path, &RemoteOptions::default())
}

/// Listens on a unix socket with the mode and the group of the options.
pub(crate) fn listen_unix_as(path: &Path, options: &RemoteOptions) -> Result<(UnixListener, SocketFile), ListenError> {
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(ListenError::PathTooLong {
            path: path.to_owned(),
            bytes,
        });
    }
    make_way(path)?;
    let socket = UnixSocket::new_stream().map_err(failed(path, "open a socket"))?;
    socket.bind(path).map_err(|cause| bind_error(path, cause))?;
    let made = fs::symlink_metadata(path).map_err(failed(path, "find the socket just made"))?;
    let file = SocketFile {
        path: path.to_owned(),
        device: made.dev(),
        inode: made.ino(),
    };
    // Nobody can connect before `listen`, so group and mode are right from the first connection on, whatever the umask.
    let listener = open_to(path, options).and_then(|()| socket.listen(LISTEN_BACKLOG).map_err(failed(path, "listen")));
    if listener.is_err() {
        // The error that is told is the first.
        let _ = file.remove();
    }
    Ok((listener?, file))
}

/// Gives a socket's file its group and its mode.
fn open_to(path: &Path, options: &RemoteOptions) -> Result<(), ListenError> {
    if let Some(group) = options.group {
        chown(path, None, Some(group)).map_err(failed(path, "set the group of the socket"))?;
    }
    let mode = options.mode.unwrap_or(SOCKET_MODE);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed(path, "set the mode of the socket"))
}

/// Sets the code point of what a TCP socket sends (RFC 2474).
pub(crate) fn set_code_point(socket: &impl AsFd, address: SocketAddr, code_point: u8) -> io::Result<()> {
    let class = i32::from(code_point) << 2;
    if address.is_ipv6() {
        setsockopt(socket, sockopt::Ipv6TClass, &class)?;
    }
    // An IPv6 socket may speak IPv4 too.
    setsockopt(socket, sockopt::Ipv4Tos, &class)?;
    Ok(())
}

/// Listens on a TCP port; needs a tokio runtime.
pub(crate) fn listen_tcp(address: SocketAddr, options: &RemoteOptions) -> Result<TcpListener, ListenError> {
    let refused = |verb| {
        move |cause| ListenError::System {
            subject: address.to_string(),
            verb,
            cause,
        }
    };
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(refused("open a socket"))?;
    socket.set_reuseaddr(true).map_err(refused("set SO_REUSEADDR"))?;
    // What is sent before a session is accepted has the code point too; where the system has none, sessions do without.
    if let Err(error) = set_code_point(&socket, address, options.code_point()) {
        debug!(%address, %error, "the code point of a listening socket was not set");
    }
    let taken_or = |verb| {
        move |cause: io::Error| match cause.kind() {
            io::ErrorKind::AddrInUse => ListenError::PortInUse { address },
            _ => refused(verb)(cause),
        }
    };
    socket.bind(address).map_err(taken_or("bind"))?;
    socket.listen(LISTEN_BACKLOG).map_err(taken_or("listen"))
}

/// Removes a socket that a dead server left behind; refuses if anything else is there.
fn make_way(path: &Path) -> Result<(), ListenError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed(path, "look at what is there")(cause)),
    };
    if found.is_dir() {
        return Err(ListenError::IsDirectory { path: path.to_owned() });
    }
    if !found.is_socket() {
        return Err(ListenError::NotASocket {
            path: path.to_owned(),
            kind: kind_of(found),
        });
    }
    if is_stale(path)? {
        match fs::remove_file(path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(failed(path, "remove the socket that an earlier server left")(cause));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether nobody listens on the socket.
fn is_stale(path: &Path) -> Result<bool, ListenError> {
    let system = |errno: nix::Error| failed(path, "find out whether a server is listening")(errno.into());
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let probe = open_socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(system)?;
    let address = UnixAddr::new(path).map_err(system)?;
    match connect_socket(probe.as_raw_fd(), &address) {
        Err(nix::Error::ECONNREFUSED) => Ok(true),
        Err(nix::Error::ENOENT) => Ok(false),
        // A datagram socket, or one whose backlog is full, is somebody's.
        Ok(()) | Err(nix::Error::EAGAIN | nix::Error::EPROTOTYPE) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(errno) => Err(system(errno)),
    }
}

fn kind_of(found: fs::FileType) -> &'static str {
    if found.is_symlink() {
        "a symbolic link"
    } else if found.is_file() {
        "a regular file"
    } else if found.is_fifo() {
        "a named pipe"
    } else {
        "a device"
    }
}

fn bind_error(path: &Path, cause: io::Error) -> ListenError {
    if cause.kind() == io::ErrorKind::NotFound
        && let Some(directory) = path.parent()
    {
        return ListenError::NoDirectory {
            path: path.to_owned(),
            directory: directory.to_owned(),
        };
    }
    failed(path, "make the socket")(cause)
}

fn failed(path: &Path, verb: &'static str) -> impl FnOnce(io::Error) -> ListenError {
    let subject = path.display().to_string();
    move |cause| ListenError::System { subject, verb, cause }
}
