//! Sockets on which names are answered.
//!
//! Takes addresses of the server's own namespace, gives sockets on port 53 there; who serves them is elsewhere. The address need not be there yet.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

/// Where names are asked for.
const PORT: u16 = 53;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// What becomes of an address on which names are answered.
#[derive(Debug)]
pub enum Listening {
    /// These sockets are open there now.
    Open {
        /// The address.
        address: IpAddr,
        /// For datagrams.
        udp: UdpSocket,
        /// For connections.
        tcp: TcpListener,
    },
    /// It is to be let go of.
    Close(IpAddr),
}

/// Opens the sockets of an address.
pub(crate) fn open(address: IpAddr) -> io::Result<Listening> {
    let udp = bound(address, SockType::Datagram)?;
    let tcp = bound(address, SockType::Stream)?;
    listen(&tcp, Backlog::new(BACKLOG)?)?;
    Ok(Listening::Open {
        address,
        udp: UdpSocket::from(udp),
        tcp: TcpListener::from(tcp),
    })
}

fn bound(address: IpAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, kind, flags, None)?;
    // A gateway comes with its bridge, and is tentative at first where it is of IPv6.
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind_to(&socket, SocketAddr::new(address, PORT))?;
    Ok(socket)
}

fn bind_to(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?)
}
