//! What a network device does instead of the kernel (`ethtool -K`): checksums of what is sent.
//!
//! A veth leaves them undone, since they are not needed on the way to another one. A switch in user space reads packets as they are.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `ETHTOOL_GTXCSUM` and `ETHTOOL_STXCSUM` (linux/ethtool.h).
const GET: u32 = 0x16;
const SET: u32 = 0x17;

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Has a link of the calling thread's namespace leave checksums to whoever is next, or make them; gives what it does then.
pub(crate) fn set_checksums(name: &str, on: bool) -> io::Result<bool> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    call(&socket, name, SET, u32::from(on))?;
    Ok(call(&socket, name, GET, 0)? != 0)
}

/// `SIOCETHTOOL`.
#[expect(unsafe_code, reason = "an ioctl without a wrapper")]
fn call(socket: &OwnedFd, name: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    if name.len() >= ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (place, byte) in ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    let mut value = EthtoolValue { command, data };
    let mut request = libc::ifreq {
        ifr_name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut value).cast(),
        },
    };
    // SAFETY: the kernel reads and writes one `struct ifreq` and the `struct ethtool_value` that it points to; both live until the call is over.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value.data)
    }
}
