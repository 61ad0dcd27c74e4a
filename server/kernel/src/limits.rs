//! The limits of this crate, each with its unit and its reason.

use std::time::Duration;

/// Requests in one send: their answers fit into the socket's buffer, and one send costs one system call.
pub const REQUESTS_PER_SEND: usize = 64;

/// Bytes of the receive buffer of a socket for requests: the answers to one send, dumps come as they are read.
pub const REQUEST_BUFFER_BYTES: usize = 4 << 20;

/// Bytes of the receive buffer of a socket for events in the server's own namespace: ten events per new veth, for thousands of them.
pub const EVENT_BUFFER_BYTES: usize = 32 << 20;

/// Bytes of the receive buffer of the socket for the events of all other namespaces: as many as in the server's own.
pub const EVENT_BUFFER_ALL_BYTES: usize = 32 << 20;

/// Bytes of the receive buffer of a socket for events in another namespace, where one for all may not be.
pub const EVENT_BUFFER_INSIDE_BYTES: usize = 1 << 20;

/// Bytes of the longest datagram that netlink sends (`NLMSG_GOODSIZE` is far below).
pub const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// Bytes of events that are gathered before they are decoded.
pub const EVENTS_BYTES_MAX: usize = 8 << 20;

/// Links to delete from which on they are deleted as a group, in one message, instead of one by one at 17 ms each.
pub const GROUP_DELETE_MIN: usize = 2;

/// Observations that wait for their reader before the kernel thread pauses; the sockets' buffers take over then.
pub const INPUTS_QUEUED_MAX: usize = 1_024;

/// Bytes of a `resolv.conf` that are read: one of ours is far shorter.
pub const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;

/// Threads that write files of containers: a container whose file system never answers holds up one of them.
pub const FILE_THREADS: usize = 4;

/// Milliseconds between looks for namespaces that no event announces.
pub const LOOK_MS: u64 = 200;

/// Milliseconds between looks at a namespace file that exists and is not mounted yet.
pub const LOOK_EAGER_MS: u64 = 5;

/// Eager looks at a namespace file before it is looked at no more often than others.
pub const LOOKS_EAGER_MAX: u32 = 100;

/// Milliseconds for which a process may still become an LXC monitor: it forks first and takes its title then.
pub const MONITOR_TITLE_MS: u64 = 2_000;

/// Milliseconds between complete looks at all processes, against the reuse of process ids.
pub const PROCESSES_AFRESH_MS: u64 = 5_000;

/// Bytes of a program's output that are kept, the last ones: `netclient list` of hundreds of networks.
pub const PROCESS_OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Bytes of a program's input: the configuration of a tunnel with thousands of peers.
pub const PROCESS_INPUT_BYTES_MAX: usize = 4 << 20;

/// Bytes of a program's last words in a row's error.
pub const PROCESS_WORDS_BYTES_MAX: usize = 1_000;

/// Containers that are worked on at the same time: most of such work is writing files and waiting.
pub const CONTAINERS_AT_ONCE_MAX: usize = 4;

/// Joins and leaves at the same time: they wait for the network's server.
pub const MESHES_AT_ONCE_MAX: usize = 4;

/// Milliseconds for which a container that stopped rests before it is started again; twice as many each time. Time enough to start it by hand.
pub const REST_MS_MIN: u64 = 2_000;

/// Milliseconds of such a rest at most.
pub const REST_MS_MAX: u64 = 300_000;

/// Milliseconds after which a container has run long enough that its next rest is a short one again.
pub const STEADY_MS: u64 = 60_000;

/// Bytes of a file with one key: the key has 45, and a comment may follow nowhere.
pub const KEY_FILE_BYTES_MAX: u64 = 1 << 10;

/// The time that each run of `wg` has.
pub const WIREGUARD_PATIENCE: Duration = Duration::from_secs(10);

/// The time that wireguard-go has to answer once it is started: it takes some 15 ms.
pub const WIREGUARD_START_PATIENCE: Duration = Duration::from_secs(10);

/// The time that a wireguard-go whose device is gone has to end.
pub const WIREGUARD_END_PATIENCE: Duration = Duration::from_secs(2);

/// Between looks at keys, peers and what passes.
pub const WIREGUARD_READ_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes of what `wg` prints of one link: some 200 for each peer, and more where a peer has many prefixes.
pub const WIREGUARD_DUMP_BYTES_MAX: usize = 8 << 20;

/// Bytes of what a wireguard-go says that are kept.
pub const WIREGUARD_WORDS_BYTES: u64 = 4 << 10;

/// Bytes of the token file at most: some hundred tokens.
pub const TOKEN_FILE_BYTES_MAX: u64 = 1 << 20;

/// The first wait before Open vSwitch's database is looked for again; each failure doubles it.
pub const OVS_BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait before Open vSwitch's database is looked for again: an attempt costs one system call where it is not installed.
pub const OVS_BACKOFF_MAX: Duration = Duration::from_secs(4);

/// How long Open vSwitch's database may take to answer.
pub const OVS_REPLY_PATIENCE: Duration = Duration::from_secs(5);

/// How long `ovs-vswitchd` may take to follow before a row says that it has not.
pub const OVS_FOLLOW_PATIENCE: Duration = Duration::from_secs(5);

/// Between looks at the flows by which ports are held to their addresses: who deletes them says so to nobody.
pub const OVS_FLOWS_INTERVAL: Duration = Duration::from_secs(2);

/// How soon they are looked at when something changes in Open vSwitch.
pub const OVS_FLOWS_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of the flows of one bridge that are read: those of some ten thousand ports.
pub const OVS_FLOWS_BYTES: usize = 64 << 20;

/// Ports of a bridge whose flows change at once.
pub const OVS_FLOWS_PORTS: usize = 256;

/// For how long an error of an interface may still go by itself.
pub const OVS_ERROR_GRACE: Duration = Duration::from_millis(500);

/// Addresses or routes that are taken of one list that a DHCP server sends.
pub const DHCP_LIST_MAX: usize = 32;

/// Bytes of a name that a DHCP server sends, and characters of its words.
pub const DHCP_TEXT_BYTES_MAX: usize = 253;

/// Bytes of one batch for the packet filter: 5,000 rules have about 350 kB, and 10,000 elements 2 MB.
pub const FIREWALL_BATCH_BYTES_MAX: usize = 64 << 20;

/// Elements in one message: an attribute's length has 16 bits, and an element at most about 250 bytes.
pub const ELEMENTS_PER_MESSAGE: usize = 200;

/// Elements in one batch, unless one step alone has more.
pub const ELEMENTS_PER_BATCH: usize = 10_000;

/// Bytes of the rules of `iptables-legacy` that are read: some 50,000 rules.
pub const LEGACY_TABLE_BYTES_MAX: usize = 16 << 20;

/// The rest between two looks at others' rules while they change.
pub const FOREIGN_RULES_REST: Duration = Duration::from_millis(250);

/// Times that a dump is asked for again because something changed under way.
pub const DUMP_ATTEMPTS_MAX: usize = 5;

/// Threads that read namespaces at most.
pub(crate) const READERS_MAX: usize = 8;

/// Namespaces for which it is worth having one more thread read them.
pub(crate) const NAMESPACES_PER_READER_MIN: usize = 32;

/// Directories of namespaces and containers in which a `resolv.conf` of ours is looked for at most.
pub(crate) const FILES_FOUND_MAX: usize = 65_536;
