//! A DHCP client's values: what it asks for, what it is given, what it sends and hears.
//!
//! [`client`] is the state machine between them. Nothing here has sockets or a clock: messages and moments arrive as values.

pub mod client;
mod lease;

use std::net::Ipv4Addr;

use ecow::EcoString;
use ipnet::Ipv4Net;

pub use self::client::Client;

/// What a port tells a DHCP server and asks it for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The client's identifier (option 61), the same for as long as the port's row lives.
    pub client_id: Vec<u8>,
    /// The host name to send (option 12).
    pub host_name: Option<EcoString>,
    /// The vendor class to send (option 60).
    pub vendor_class: Option<EcoString>,
    /// The numbers of the options to ask for (option 55), ascending.
    pub options: Vec<u8>,
}

/// An address for a time, with what came along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address with the prefix length of its subnet.
    pub address: Ipv4Net,
    /// The server that gave it (option 54).
    pub server: Ipv4Addr,
    /// When it ends, in seconds since 1970; `None`: never.
    pub expires: Option<u64>,
    /// Gateways (option 3), best first.
    pub routers: Vec<Ipv4Addr>,
    /// Destinations with their gateways (option 121); `0.0.0.0` as a gateway: on the link.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Name servers (option 6).
    pub dns: Vec<Ipv4Addr>,
    /// The domain's name (option 15).
    pub domain: Option<EcoString>,
    /// The MTU in bytes (option 26).
    pub mtu: Option<u32>,
}

/// How far a client has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It asks, and has not waited long for an answer.
    Asking,
    /// It has no lease for this reason, and goes on asking.
    Without(EcoString),
    /// It has a lease.
    Bound(Lease),
}

/// The kinds of messages that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// Who has an address?
    Discover,
    /// This address, please.
    Request,
    /// The address is not needed any more.
    Release,
    /// Somebody else has the address.
    Decline,
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Its kind.
    pub kind: QueryKind,
    /// The number that its answer carries.
    pub xid: u32,
    /// Seconds since the client began to ask.
    pub secs: u16,
    /// The client's address, where it has one that it answers to.
    pub ciaddr: Option<Ipv4Addr>,
    /// The address asked for (option 50).
    pub requested: Option<Ipv4Addr>,
    /// The server that is meant (option 54).
    pub server: Option<Ipv4Addr>,
    /// Where it goes; `None`: to everybody on the link.
    pub to: Option<Ipv4Addr>,
}

/// The kinds of messages that a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// An address may be had.
    Offer,
    /// The address is yours.
    Ack,
    /// It is not.
    Nak,
}

/// A message that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its kind.
    pub kind: ReplyKind,
    /// The number of what it answers.
    pub xid: u32,
    /// Seconds that the lease lasts; [`FOREVER`] has no end.
    pub seconds: u32,
    /// Seconds until the client asks its server to go on.
    pub renew: Option<u32>,
    /// Seconds until the client asks any server to go on.
    pub rebind: Option<u32>,
    /// The lease without its end; a refusal has none.
    pub lease: Option<Lease>,
    /// The server's words (option 56).
    pub words: Option<EcoString>,
}

/// The duration of a lease without end (RFC 2131 3.3).
pub const FOREVER: u32 = u32::MAX;
