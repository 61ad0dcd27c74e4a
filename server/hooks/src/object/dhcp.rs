//! A DHCP client on a port's link.

use super::NetnsRef;
use crate::dhcp::{Lease, Request};
use crate::name::LinkName;

/// A client on the inner end of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dhcp {
    /// The name of the port.
    pub port: LinkName,
    /// The namespace of the port's end inside.
    pub netns: NetnsRef,
    /// The name of that end.
    pub ifname: LinkName,
    /// What the server is told and asked.
    pub request: Request,
    /// The lease that the port's row has.
    pub lease: Option<Lease>,
}
