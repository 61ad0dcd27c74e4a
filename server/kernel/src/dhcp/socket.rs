//! A packet socket on one link: IPv4 packets as they are, whether the link has an address or not (packet(7)).
//!
//! A filter in the kernel lets only packets from DHCP servers to clients through, so that a container's other traffic costs nothing.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nonnet_hooks::name::Mac;

use crate::filter::{attach, instruction};

/// The hardware address of everybody on a link.
pub(super) const BROADCAST: Mac = Mac([0xff; 6]);

/// Bytes of the longest packet that is read.
const PACKET_BYTES_MAX: usize = 2048;

/// `ETH_P_IP` in network byte order, as packet sockets want it.
const PROTOCOL: u16 = (libc::ETH_P_IP as u16).to_be();

/// The socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    index: u32,
}

/// UDP to port 68, unfragmented. Offsets are from the start of the IPv4 header.
const FILTER: [libc::sock_filter; 8] = [
    instruction(0x30, 0, 0, 9),      // the protocol
    instruction(0x15, 0, 5, 17),     // is UDP
    instruction(0x28, 0, 0, 6),      // the place in the whole packet
    instruction(0x45, 3, 0, 0x1fff), // is its start
    instruction(0xb1, 0, 0, 0),      // behind the header
    instruction(0x48, 0, 0, 2),      // the port
    instruction(0x15, 1, 0, 68),     // is the client's
    instruction(0x06, 0, 0, 0),      // nothing of it
];

impl Socket {
    /// Opens a socket on the link of this index in the namespace of the calling thread.
    #[expect(unsafe_code, reason = "neither nix nor the standard library binds packet sockets")]
    pub(super) fn open(index: u32) -> io::Result<Self> {
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
        };
        let mut all = FILTER.to_vec();
        all.push(instruction(0x06, 0, 0, PACKET_BYTES_MAX as u32));
        attach(socket.fd.as_fd(), &all)?;
        let address = link_address(index, BROADCAST);
        // SAFETY: the address is one of AF_PACKET, and its length is that of its type.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), address_bytes()) })?;
        Ok(socket)
    }

    /// Sends a packet to a hardware address of the link.
    #[expect(unsafe_code, reason = "neither nix nor the standard library sends on packet sockets")]
    pub(super) fn send(&self, packet: &[u8], to: Mac) -> io::Result<()> {
        let address = link_address(self.index, to);
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
        let mut address = link_address(0, BROADCAST);
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
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn link_address(index: u32, mac: Mac) -> libc::sockaddr_ll {
    let mut sll_addr = [0; 8];
    sll_addr[..mac.0.len()].copy_from_slice(&mac.0);
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: PROTOCOL,
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr,
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
