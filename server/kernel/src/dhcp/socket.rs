//! A packet socket on one link: packets of one protocol as they are, whether the link has an address or not (packet(7)).
//!
//! A filter in the kernel lets only those through that are looked for, so that a container's other traffic costs nothing.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nonnet_hooks::name::Mac;

use crate::filter::attach;

/// The hardware address of everybody on a link.
pub(super) const BROADCAST: Mac = Mac([0xff; 6]);

/// Bytes of the longest packet that is read.
pub(super) const PACKET_BYTES_MAX: usize = 2048;

/// The socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    index: u32,
    protocol: u16,
}

impl Socket {
    /// Opens a socket for a protocol (`ETH_P_...`) on the link of this index in the namespace of the calling thread, behind a filter whose
    /// offsets are from the start of that protocol's header.
    #[expect(unsafe_code, reason = "neither nix nor the standard library binds packet sockets")]
    pub(super) fn open(index: u32, protocol: u16, filter: &[libc::sock_filter]) -> io::Result<Self> {
        let flags = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0: nothing is heard before the filter is there.
        // SAFETY: the call takes three integers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let socket = Self {
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            index,
            protocol: protocol.to_be(),
        };
        socket.filter(filter)?;
        let address = socket.link_address(BROADCAST);
        // SAFETY: the address is one of AF_PACKET, and its length is that of its type.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), address_bytes()) })?;
        Ok(socket)
    }

    /// Puts another filter in the place of the one that is there.
    pub(super) fn filter(&self, filter: &[libc::sock_filter]) -> io::Result<()> {
        attach(self.fd.as_fd(), filter)
    }

    /// Sends a packet to a hardware address of the link.
    #[expect(unsafe_code, reason = "neither nix nor the standard library sends on packet sockets")]
    pub(super) fn send(&self, packet: &[u8], to: Mac) -> io::Result<()> {
        let address = self.link_address(to);
        // SAFETY: packet and address live until the call returns, and their lengths are their own.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                address_bytes(),
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// The next packet and who sent it, if there is one.
    #[expect(
        unsafe_code,
        reason = "neither nix nor the standard library receives from packet sockets"
    )]
    pub(super) fn receive(&self) -> Option<(Vec<u8>, Mac)> {
        let mut bytes = vec![0; PACKET_BYTES_MAX];
        let mut address = self.link_address(BROADCAST);
        let mut length = address_bytes();
        // SAFETY: the kernel writes at most as many bytes as the buffer and the address have.
        let count = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                0,
                (&raw mut address).cast(),
                &raw mut length,
            )
        };
        // An error such as that of a link which went down is told once and has no packet.
        bytes.truncate(usize::try_from(count).ok()?);
        let mac = address.sll_addr.first_chunk().copied().map(Mac)?;
        Some((bytes, mac))
    }

    fn link_address(&self, mac: Mac) -> libc::sockaddr_ll {
        let mut sll_addr = [0; 8];
        sll_addr[..mac.0.len()].copy_from_slice(&mac.0);
        libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: self.protocol,
            sll_ifindex: self.index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn address_bytes() -> libc::socklen_t {
    size_of::<libc::sockaddr_ll>() as libc::socklen_t
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
