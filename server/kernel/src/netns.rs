//! Network namespaces: opening, entering, telling apart.
//!
//! Takes paths and process ids, gives open namespaces and sockets inside them. Only a thread of the kernel's own enters another namespace, and
//! comes back; a socket stays where it was opened. It never forks and never makes a namespace with a name.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::filter::{attach, instruction};
use crate::wire::{Wire, enlarge};

/// The multicast groups of linux/rtnetlink.h that the mirror needs: links, forwarding databases, traffic control, addresses and routes of both
/// families.
const GROUPS: [u32; 7] = [1, 3, 4, 5, 7, 9, 11];

/// `RTM_NEWNEIGH` and `RTM_DELNEIGH` of linux/rtnetlink.h as the filter sees them, which reads in network byte order.
const NEW_ENTRY: u32 = u16::from_be_bytes(28_u16.to_ne_bytes()) as u32;
const DEL_ENTRY: u32 = u16::from_be_bytes(29_u16.to_ne_bytes()) as u32;

/// Of what comes with forwarding databases, neighbours of IP and what bridges learn concern nobody here: only what links have by themselves.
/// Offsets are from the start of `struct nlmsghdr`, behind which is `struct ndmsg`.
const FILTER: [libc::sock_filter; 9] = [
    instruction(0x28, 0, 0, 4),                      // the kind of message
    instruction(0x15, 1, 0, NEW_ENTRY),              // is an entry
    instruction(0x15, 0, 4, DEL_ENTRY),              // or the end of one
    instruction(0x30, 0, 0, 16),                     // its family
    instruction(0x15, 0, 3, libc::AF_BRIDGE as u32), // is of frames
    instruction(0x30, 0, 0, 26),                     // its flags
    instruction(0x45, 0, 1, 0x02),                   // have NTF_SELF
    instruction(0x06, 0, 0, u32::MAX),               // all of it
    instruction(0x06, 0, 0, 0),                      // nothing of it
];

/// An open network namespace.
#[derive(Debug)]
pub(crate) struct Netns {
    file: File,
    inode: u64,
}

/// What is open in a namespace: a socket for requests, and one for events unless another one listens to it.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) wire: Wire,
    pub(crate) events: Option<Socket>,
}

impl Netns {
    /// Opens an nsfs file. `None`: the file is there and is not mounted yet, as while `ip netns add` runs.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        if fstatfs(&file)?.filesystem_type() != NSFS_MAGIC {
            return Ok(None);
        }
        let inode = file.metadata()?.ino();
        Ok(Some(Self { file, inode }))
    }

    /// The namespace of the calling thread.
    pub(crate) fn own() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))?.ok_or_else(|| io::Error::other("/proc has no namespaces"))
    }

    /// The namespace of a process, and the process itself, held so that its id cannot be another's.
    pub(crate) fn of_process(pid: u32) -> io::Result<(Self, OwnedFd)> {
        let process = pidfd_open(pid)?;
        let netns = Self::open(Path::new(&format!("/proc/{pid}/ns/net")))?;
        // The process still lives, so what was opened by its number was its own.
        if has_ended(&process) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        Ok((
            netns.ok_or_else(|| io::Error::other("/proc has no namespaces"))?,
            process,
        ))
    }

    /// The same namespace, held once more.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            inode: self.inode,
        })
    }

    /// The inode number, which tells namespaces apart for as long as one is open.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// The descriptor, for messages that name a namespace by it.
    pub(crate) fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Does something inside, on the calling thread, which comes back to `home`.
    ///
    /// # Errors
    /// When entering fails, or what was to be done. A thread that cannot come back does not return an answer but ends.
    pub(crate) fn within<T>(&self, home: &Self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.inode == home.inode {
            return act();
        }
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
        let result = act();
        match setns(home.file.as_fd(), CloneFlags::CLONE_NEWNET) {
            Ok(()) => result,
            // Whatever this thread did next would happen in the wrong namespace.
            Err(error) => {
                tracing::error!(%error, "the kernel thread cannot return to its namespace");
                std::process::abort()
            }
        }
    }

    /// Opens the sockets inside; that for events has this many bytes of buffer, or is left out.
    pub(crate) fn sockets(&self, home: &Self, events_bytes: Option<usize>) -> io::Result<Sockets> {
        self.within(home, || {
            Ok(Sockets {
                events: events_bytes.map(listen).transpose()?,
                wire: Wire::open()?,
            })
        })
    }
}

/// Whether the process of a pidfd has ended.
pub(crate) fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0)
}

/// Opens a socket for the events of the calling thread's namespace.
pub(crate) fn listen(bytes: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    enlarge(&socket, bytes);
    attach(socket.as_fd(), &FILTER)?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

/// Opens a pidfd (`pidfd_open(2)`), which neither libc nor nix wraps.
#[expect(unsafe_code, reason = "a system call without a wrapper")]
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
