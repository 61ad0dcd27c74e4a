//! Filters on sockets: what a program does not want, the kernel does not queue (`socket(7)`, `SO_ATTACH_FILTER`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One instruction of classic BPF (linux/filter.h).
pub(crate) const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Attaches a program to a socket.
#[expect(unsafe_code, reason = "neither nix nor the standard library attaches filters")]
pub(crate) fn attach(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let mut program = program.to_vec();
    let all = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: it points to `program`, which lives until the call returns; the kernel copies it.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const all).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if attached < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
