//! Who is at the other end of a session, as the kernel told us when it connected.
//!
//! Filled by the transport once, at accept; never from anything the client says.

use ecow::EcoString;
pub use nonnet_chain::Credentials;

/// Names one session for as long as the process lives; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// The other end of a session. By default, nothing is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The remote that accepted it, in OVS syntax (`punix:/run/nonnet.db.sock`, `ptcp:6640`).
    pub remote: EcoString,
    /// The peer's own address where it has one (`127.0.0.1:40212`); empty on a unix socket.
    pub address: EcoString,
    /// Set on unix sockets only.
    pub credentials: Option<Credentials>,
    /// `/proc/<pid>/comm` at accept; empty where unknown.
    pub comm: EcoString,
    /// `/proc/<pid>/cgroup`'s systemd unit or path at accept; empty where unknown.
    pub unit: EcoString,
    /// Start time of the process in clock ticks since boot (`proc(5)`, stat field 22); 0 where unknown.
    pub start_ticks: u64,
    /// Whether the remote lets its sessions read only: no operation that writes, no lock.
    pub read_only: bool,
    /// The role that the remote gives its sessions, which `RBAC_Role` rows restrict (ovsdb-server(7), "Role-Based Access Control");
    /// empty for no restriction.
    pub role: EcoString,
    /// The common name in the certificate that the peer showed; empty where it showed none.
    pub certificate_name: EcoString,
}
