//! The packet filter of `iptables-legacy` (`x_tables`), which `nf_tables` knows nothing of.
//!
//! Gives the policy of its chain for forwarded packets. The table is asked for only where it is in use: to ask for it would make it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::limits::LEGACY_TABLE_BYTES_MAX;

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; the same numbers for IPv6.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;

/// Bytes of a table's name, and of `struct ipt_getinfo`.
const NAME_BYTES: usize = 32;
const INFO_BYTES: usize = 84;

/// Where in that the number of each hook's first entry is, that of the entry which is its policy, and the bytes of all entries.
const HOOK_ENTRIES: usize = 36;
const UNDERFLOWS: usize = 56;
const TABLE_BYTES: usize = 80;

/// Where in `struct ipt_get_entries` the entries begin.
const ENTRIES: usize = 40;

/// `NF_INET_FORWARD`.
const FORWARD: usize = 2;

/// Bytes of `struct xt_entry_target` before what is the target's own, which for a verdict is its number.
const TARGET_BYTES: usize = 32;

/// The verdict "drop" (`-NF_DROP - 1`).
const DROP: i32 = -1;

/// A family of addresses, and how its entries are made.
struct Family {
    name: &'static str,
    /// The names of the tables that are in use.
    tables: &'static str,
    socket: AddressFamily,
    level: i32,
    /// Where in an entry (`struct ipt_entry`, `struct ip6t_entry`) the names of both links are.
    links: usize,
    /// Where the places of its target and of the next entry are.
    offsets: usize,
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "iptables",
        tables: "/proc/thread-self/net/ip_tables_names",
        socket: AddressFamily::Inet,
        level: libc::SOL_IP,
        links: 16,
        offsets: 88,
    },
    Family {
        name: "ip6tables",
        tables: "/proc/thread-self/net/ip6_tables_names",
        socket: AddressFamily::Inet6,
        level: libc::SOL_IPV6,
        links: 64,
        offsets: 140,
    },
];

/// The programs whose chain FORWARD drops what none of its rules accepts, in the namespace of the calling thread. One that has a rule for one of
/// these bridges is passed over.
pub(super) fn drops(bridges: &BTreeSet<String>) -> Vec<&'static str> {
    let drops = FAMILIES.iter().filter(|family| match family.drops(bridges) {
        Ok(drops) => drops,
        Err(error) => {
            tracing::debug!(%error, "the tables of {} cannot be read", family.name);
            false
        }
    });
    drops.map(|family| family.name).collect()
}

impl Family {
    fn drops(&self, bridges: &BTreeSet<String>) -> io::Result<bool> {
        let names = fs::read_to_string(self.tables).unwrap_or_default();
        if !names.lines().any(|name| name == "filter") {
            return Ok(false);
        }
        let socket = socket(self.socket, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        let mut info = vec![0; INFO_BYTES];
        name_filter(&mut info);
        self.ask(socket.as_fd(), GET_INFO, &mut info)?;
        let bytes = number(&info, TABLE_BYTES).unwrap_or(0);
        if bytes > LEGACY_TABLE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let mut table = vec![0; ENTRIES + bytes];
        name_filter(&mut table);
        table[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&(bytes as u32).to_ne_bytes());
        self.ask(socket.as_fd(), GET_ENTRIES, &mut table)?;
        let entries = table.get(ENTRIES..).unwrap_or_default();
        let place = |of: usize| number(&info, of + 4 * FORWARD);
        let (Some(first), Some(policy)) = (place(HOOK_ENTRIES), place(UNDERFLOWS)) else {
            return Ok(false);
        };
        Ok(self.verdict(entries, policy) == Some(DROP) && !self.names(entries, first, policy, bridges))
    }

    /// The verdict of an entry, if its target is one.
    fn verdict(&self, entries: &[u8], at: usize) -> Option<i32> {
        let target = self.offset(entries, at, 0)?;
        let bytes = entries.get(at + target + TARGET_BYTES..)?;
        Some(i32::from_ne_bytes(*bytes.first_chunk()?))
    }

    /// Whether an entry from the first to the last is for one of these links.
    fn names(&self, entries: &[u8], first: usize, last: usize, links: &BTreeSet<String>) -> bool {
        let mut at = first;
        while at < last {
            let here = entries.get(at + self.links..).unwrap_or_default();
            let named = here.chunks(libc::IFNAMSIZ).take(2).filter_map(super::text);
            if named.into_iter().any(|name| links.contains(name)) {
                return true;
            }
            match self.offset(entries, at, 2) {
                Some(next) if next > 0 => at += next,
                _ => return false,
            }
        }
        false
    }

    fn offset(&self, entries: &[u8], at: usize, more: usize) -> Option<usize> {
        let bytes = entries.get(at + self.offsets + more..)?;
        Some(usize::from(u16::from_ne_bytes(*bytes.first_chunk()?)))
    }

    #[expect(unsafe_code, reason = "neither nix nor the standard library knows these options")]
    fn ask(&self, socket: BorrowedFd<'_>, option: i32, bytes: &mut [u8]) -> io::Result<()> {
        let mut length = bytes.len() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `bytes`, which is that long.
        let asked = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                self.level,
                option,
                bytes.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if asked < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

fn name_filter(bytes: &mut [u8]) {
    let name = b"filter";
    bytes[..name.len()].copy_from_slice(name);
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}
