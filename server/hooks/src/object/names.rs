//! What rows want so that names are found: a server that answers on a network's gateways, and the `resolv.conf` of a namespace.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ecow::EcoString;

use crate::object::NetnsRef;

/// That names are answered on these addresses of the server's own namespace, port 53, over UDP and TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// The addresses: a network's gateways.
    pub addresses: BTreeSet<IpAddr>,
}

/// That a namespace has an `/etc/resolv.conf` with this in it.
///
/// For a namespace with a name that is `/etc/netns/NAME/resolv.conf`, which `ip netns exec` shows as `/etc/resolv.conf`; for a container or a process the
/// file below its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// The namespace: a name, a container or a process.
    pub netns: NetnsRef,
    /// Nameservers. Empty: those of the host.
    pub servers: Vec<IpAddr>,
    /// Domains to try.
    pub search: Vec<EcoString>,
    /// Words of the options line.
    pub options: Vec<EcoString>,
}

/// Begin or end to answer names on an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: IpAddr,
    /// Whether to begin.
    pub on: bool,
}

/// Write the `resolv.conf` of a namespace, or give back the one that was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConfSet {
    /// The namespace.
    pub netns: NetnsRef,
    /// The text. `None`: give back what was there before, unless somebody else has written since.
    pub text: Option<EcoString>,
    /// The text of ours before, empty where there was none. `None`: it was not read yet.
    pub was: Option<EcoString>,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.on { "answer" } else { "no longer answer" };
        write!(f, "{what} names on {} port 53", self.address)
    }
}

impl fmt::Display for ResolvConfSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.text.is_some() { "write" } else { "give back" };
        write!(f, "{what} /etc/resolv.conf of {}", self.netns)
    }
}
