//! Tap and tun devices: made through `/dev/net/tun`, since rtnetlink makes none.
//!
//! A device belongs to the namespace of the thread that makes it. It vanishes with its descriptor until it is kept, so that it can be marked before.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nonnet_hooks::object::Tap;

/// A device that vanishes when this is dropped.
#[derive(Debug)]
pub(crate) struct Fresh(File);

impl Fresh {
    /// Makes an IP device of this name, which must not exist, for a program; `headed`: its packets have a header that names their protocol.
    pub(crate) fn tun(name: &str, headed: bool) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        let bare = if headed { 0 } else { libc::IFF_NO_PI };
        attach(&file, name, libc::IFF_TUN | libc::IFF_TUN_EXCL | bare)?;
        Ok(Self(file))
    }

    /// The descriptor for the program.
    pub(crate) fn into_file(self) -> File {
        self.0
    }

    /// Makes a tap device of this name, which must not exist.
    pub(crate) fn make(name: &str, tap: &Tap) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
        if tap.multi_queue {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        if tap.vnet_header {
            flags |= libc::IFF_VNET_HDR;
        }
        attach(&file, name, flags)?;
        if let Some(user) = tap.user {
            set(&file, libc::TUNSETOWNER, user)?;
        }
        if let Some(group) = tap.group {
            set(&file, libc::TUNSETGROUP, group)?;
        }
        Ok(Self(file))
    }

    /// Makes it last.
    pub(crate) fn keep(self) -> io::Result<()> {
        set(&self.0, libc::TUNSETPERSIST, 1)
    }
}

/// `TUNSETIFF`.
#[expect(unsafe_code, reason = "an ioctl without a wrapper")]
fn attach(file: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    if name.len() >= ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (place, byte) in ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    let ifru_flags = libc::c_short::try_from(flags & 0x7fff).map_err(io::Error::other)?;
    // IFF_TUN_EXCL is the sign bit of the 16.
    let sign = if flags & libc::IFF_TUN_EXCL == 0 {
        0
    } else {
        libc::c_short::MIN
    };
    let request = libc::ifreq {
        ifr_name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: ifru_flags | sign,
        },
    };
    // SAFETY: the kernel reads and writes one `struct ifreq`, which lives until the call is over.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// One of the settings that take a number.
#[expect(unsafe_code, reason = "an ioctl without a wrapper")]
fn set(file: &File, request: libc::Ioctl, number: u32) -> io::Result<()> {
    // SAFETY: the call takes an integer and touches no memory of ours.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), request, libc::c_ulong::from(number)) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
