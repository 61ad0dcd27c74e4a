//! Takes over a listening socket that the process was started with (socket activation, `pfd:`).

use std::{
    io,
    net::TcpListener as StdTcpListener,
    os::{
        fd::{BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixListener as StdUnixListener,
    },
};

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt::AcceptConn};
use std::os::fd::AsRawFd;
use tokio::net::{TcpListener, UnixListener};

use crate::{accept::Listener, bind::ListenError};

/// The socket of that number. It is duplicated, so whoever holds it besides keeps it, and it goes on to listen when we no longer do.
pub(crate) fn inherited(number: RawFd) -> Result<Listener, ListenError> {
    duplicate(number)
        .and_then(listener)
        .map_err(|cause| ListenError::NotInherited { number, cause })
}

fn listener(socket: OwnedFd) -> io::Result<Listener> {
    if !getsockopt(&socket, AcceptConn)? {
        return Err(io::Error::other("it is a socket that does not listen"));
    }
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    match address.family() {
        Some(AddressFamily::Unix) => {
            let listener = StdUnixListener::from(socket);
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener).map(Listener::Unix)
        }
        Some(AddressFamily::Inet | AddressFamily::Inet6) => {
            let listener = StdTcpListener::from(socket);
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener).map(Listener::Tcp)
        }
        _ => Err(io::Error::other("it is neither a unix nor a TCP socket")),
    }
}

#[expect(
    unsafe_code,
    reason = "a number from the command line has no owner that could be asked"
)]
fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number is not negative, and it is only given to fcntl(2), which refuses one that is not open.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    inherited.try_clone_to_owned()
}
