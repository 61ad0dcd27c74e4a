//! The limits of this crate, each with its unit and its reason.

/// Bytes of a link name: the kernel's `IFNAMSIZ` less the closing NUL.
pub const LINK_NAME_BYTES_MAX: usize = 15;

/// Bytes of a link alias: the kernel's `IFALIASZ` less the closing NUL.
pub const ALIAS_BYTES_MAX: usize = 255;

/// Objects in one plan: a commit that comes while a plan runs waits for this many at most.
pub const OBJECTS_PER_PLAN_MAX: usize = 256;

/// Milliseconds before an object's first retry.
pub const RETRY_MS_MIN: u64 = 50;

/// Milliseconds between retries at most: a row that never works costs two attempts a minute.
pub const RETRY_MS_MAX: u64 = 30_000;

/// Milliseconds between full comparisons with the kernel: bounds the life of an unnoticed difference.
pub const RESYNC_MS: u64 = 30_000;

/// Heals of one object by the same operation within [`CONTENDED_WINDOW_MS`] after which somebody else is taken to manage it.
pub const HEALS_MAX: usize = 5;

/// Heals of one object, by whatever operations, within [`CONTENDED_WINDOW_MS`]: so many are remembered, and that is as good as contended.
pub const HEALS_REMEMBERED_MAX: usize = 50;

/// Milliseconds over which heals are counted.
pub const CONTENDED_WINDOW_MS: u64 = 10_000;

/// Milliseconds for which the inner end of a pair may outlive the outer one: the kernel waits for grace periods in between.
pub const LEAVING_MS: u64 = 3_000;

/// Peers of one tunnel: they are set and read back as a whole.
pub const PEERS_MAX: usize = 4_096;

/// Protocol number of the addresses and routes that nonnet makes (`IFA_PROTO`, `rtm_protocol`).
pub const PROTOCOL: u8 = 110;

/// Protocol number of an uplink's addresses while they are on its bridge; those that a router's advertisements made have the second.
pub const PROTOCOL_MOVED: u8 = 111;
/// See [`PROTOCOL_MOVED`].
pub const PROTOCOL_MOVED_ADVERTISED: u8 = 112;

/// Ports of one forward that lead to other ports: each is an element of its own, while any number of same ports is one.
pub const FORWARD_PORTS_MAX: u16 = 1_024;

/// The kernel's main routing table (`RT_TABLE_MAIN`).
pub const ROUTE_TABLE_MAIN: u32 = 254;

/// Addresses derived from a port's name before the next free one is taken: with half of them taken, one port in 256 gets there.
pub const DERIVED_ADDRESSES_MAX: u8 = 8;

/// The kernel's routing table of its own addresses (`RT_TABLE_LOCAL`).
pub const ROUTE_TABLE_LOCAL: u32 = 255;

/// Rows of table `events` at most, as its schema says: the oldest go first.
pub const EVENTS_MAX: usize = 1_000;

/// Checkpoints open at once: each keeps the rows as they were before it.
pub const CHECKPOINTS_OPEN_MAX: usize = 16;

/// Milliseconds between attempts to roll back where the commit could not be stored.
pub const ROLLBACK_RETRY_MS: u64 = 1_000;

/// Milliseconds before a question to a DHCP server is first repeated (RFC 2131 4.1 says 4,000; a container's server is near).
pub const DHCP_RETRY_MS_MIN: u64 = 1_000;

/// Milliseconds between questions to DHCP servers at most (RFC 2131 4.1).
pub const DHCP_RETRY_MS_MAX: u64 = 64_000;

/// Milliseconds without an answer from a DHCP server after which the port's row says so.
pub const DHCP_ANSWER_MS: u64 = 10_000;

/// Milliseconds between requests for more time at least (RFC 2131 4.4.5 says 60,000; leases of containers may be short).
pub const DHCP_RENEW_MS_MIN: u64 = 5_000;

/// Milliseconds that somebody has who has a leased address already to say so. RFC 5227 asks three times in up to seven seconds, for links that
/// are slow and lossy; whoever is on a bridge answers within a few milliseconds, and a container waits for its address.
pub const DHCP_PROBE_MS: u64 = 200;

/// Milliseconds until a client asks again whose second address in a row was somebody's, too (RFC 2131 3.1, item 5).
pub const DHCP_DECLINED_MS: u64 = 10_000;

/// Nameservers in a network's `dns` at most: each is asked in turn.
pub const DNS_SERVERS_MAX: usize = 8;

/// Search domains in a network's `dns` at most, as older C libraries have it (resolv.conf(5)).
pub const DNS_SEARCH_MAX: usize = 6;

/// Other networks whose names a network may see: each costs a look per question.
pub const DNS_NETWORKS_MAX: usize = 32;

/// Addresses of one family in one answer about a name at most.
pub const ADDRESSES_PER_ANSWER_MAX: usize = 64;

/// Names in one answer about an address at most.
pub const NAMES_PER_ANSWER_MAX: usize = 64;

/// Names of one port at most.
pub const NAMES_PER_PORT_MAX: usize = 64;

/// Copies of copies of a port's traffic at most: each packet costs as many more.
pub const MIRRORS_MAX: usize = 4;
