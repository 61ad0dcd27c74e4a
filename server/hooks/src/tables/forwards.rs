//! Ports of this host that are forwarded to a container, owned by the port that they lead to.
//!
//! `listen` is an address of this host, `0.0.0.0` or `::` for all of a family, or empty for all of both. `count` ports from `port` on lead to as many
//! from `target` on, which is `port` where it is absent.

use std::fmt;
use std::net::IpAddr;

use nonnet_engine::Row;

use crate::fault::Fault;
use crate::limits::FORWARD_PORTS_MAX;
use crate::object::firewall::Protocol;
use crate::tables::{number, text};

super::columns!("forwards"; protocol, listen, port, count, target, status, error);

pub(crate) const READ_BY_REFERRERS: &[&str] = &["protocol", "listen", "port", "count", "target"];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// A forward as its row describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub protocol: Protocol,
    pub listen: Listen,
    pub port: u16,
    pub count: u16,
    pub target: u16,
}

/// The addresses of this host at which a forward can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// All.
    Any,
    /// All of IPv4.
    AnyIpv4,
    /// All of IPv6.
    AnyIpv6,
    /// This one.
    Address(IpAddr),
}

impl Listen {
    /// Whether an address of this family is among them.
    pub(crate) fn has(self, ipv4: bool) -> bool {
        match self {
            Self::Any => true,
            Self::AnyIpv4 => ipv4,
            Self::AnyIpv6 => !ipv4,
            Self::Address(address) => address.is_ipv4() == ipv4,
        }
    }

    /// Whether two forwards of the same port cannot be told apart. That of one address comes before that of all.
    fn collides(self, other: Self) -> bool {
        match (self, other) {
            (Self::Address(own), Self::Address(theirs)) => own == theirs,
            (Self::Address(_), _) | (_, Self::Address(_)) => false,
            _ => [true, false].into_iter().any(|ipv4| self.has(ipv4) && other.has(ipv4)),
        }
    }
}

impl Forward {
    /// The last port.
    pub(crate) fn last(&self) -> u16 {
        self.port + (self.count - 1)
    }

    /// Whether a packet could be for either.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.listen.collides(other.listen)
            && self.port <= other.last()
            && other.port <= self.last()
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.protocol)?;
        match self.listen {
            Listen::Any => {}
            Listen::AnyIpv4 => f.write_str("0.0.0.0:")?,
            Listen::AnyIpv6 => f.write_str("[::]:")?,
            Listen::Address(IpAddr::V4(four)) => write!(f, "{four}:")?,
            Listen::Address(IpAddr::V6(six)) => write!(f, "[{six}]:")?,
        }
        write!(f, "{}", self.port)?;
        if self.count > 1 {
            write!(f, "-{}", self.last())?;
        }
        Ok(())
    }
}

/// The forward that a row describes.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn forward(columns: &Columns, row: &Row) -> Result<Forward, Fault> {
    let said = row.get(columns.port).as_integer().unwrap_or(0);
    let fault = |column: &str, why: String| {
        let name = format!("{} {}:{said}", protocol_name(columns, row), text(row, columns.listen));
        Fault::new(Columns::NAME, &name, column, why)
    };
    let port = u16::try_from(said).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| fault("port", format!("{said} is not a port: 1 to 65535")))?;
    let small = |column| number(row, column).and_then(|number| u16::try_from(number).ok());
    let forward = Forward {
        protocol: Protocol::named(protocol_name(columns, row)).unwrap_or(Protocol::Tcp),
        listen: listen(text(row, columns.listen)).map_err(|why| fault("listen", why))?,
        port,
        count: small(columns.count).unwrap_or(1).max(1),
        target: small(columns.target).unwrap_or(port),
    };
    for (column, first) in [("count", forward.port), ("target", forward.target)] {
        if first.checked_add(forward.count - 1).is_none() {
            return Err(fault(column, format!("{} ports from {first} on go beyond 65535", forward.count)));
        }
    }
    if forward.target != forward.port && forward.count > FORWARD_PORTS_MAX {
        let why = format!("at most {FORWARD_PORTS_MAX} ports can lead to others than the same");
        return Err(fault("count", why));
    }
    Ok(forward)
}

fn protocol_name<'a>(columns: &Columns, row: &'a Row) -> &'a str {
    match text(row, columns.protocol) {
        "" => "tcp",
        name => name,
    }
}

fn listen(said: &str) -> Result<Listen, String> {
    if said.is_empty() {
        return Ok(Listen::Any);
    }
    let address: IpAddr = said.parse().map_err(|_| format!("\"{said}\" is not an address"))?;
    if address.is_unspecified() {
        return Ok(if address.is_ipv4() { Listen::AnyIpv4 } else { Listen::AnyIpv6 });
    }
    if address.is_multicast() || address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        return Err(format!("{address} is not the address of one host"));
    }
    if address.is_loopback() && address.is_ipv6() {
        return Err(format!(
            "the kernel sends nothing from {address} to another host: only loopback addresses of IPv4 can be forwarded"
        ));
    }
    Ok(Listen::Address(address))
}
