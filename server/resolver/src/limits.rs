//! The limits of this crate, each with its unit and its reason.

/// Questions that are with nameservers at a time, each with a socket of its own.
pub const FORWARDED_MAX: usize = 256;

/// Questions of one client that are with nameservers at a time, so that one cannot use up all.
pub const FORWARDED_PER_CLIENT_MAX: usize = 32;

/// Connections over TCP at a time.
pub const CONNECTIONS_MAX: usize = 128;

/// Connections over TCP of one client at a time.
pub const CONNECTIONS_PER_CLIENT_MAX: usize = 8;

/// Milliseconds for which a connection may be silent (RFC 7766 6.2.3).
pub const CONNECTION_IDLE_MS: u64 = 10_000;

/// Milliseconds that one nameserver has for an answer.
pub const ANSWER_MS: u64 = 2_000;

/// Milliseconds that a question may be with nameservers in all: clients have given up by then.
pub const FORWARDED_MS: u64 = 10_000;

/// Rounds through the nameservers before a question has failed.
pub const ROUNDS_MAX: usize = 2;

/// Octets of a question at most: one name, and what EDNS adds.
pub const QUESTION_BYTES_MAX: usize = 4_096;

/// Octets of an answer over UDP at most, so that it is not fragmented (the value that DNS servers agree on since 2020).
pub const UDP_ANSWER_BYTES_MAX: u16 = 1_232;

/// Octets of any message (RFC 1035 4.2.2).
pub const MESSAGE_BYTES_MAX: usize = 65_535;

/// Octets of the host's `resolv.conf` that are read.
pub const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;

/// Nameservers of the host that are asked.
pub const HOST_SERVERS_MAX: usize = 8;

/// Seconds that an answer of ours may be kept: a port that moves is found again soon.
pub const TTL_SECONDS: u32 = 5;
