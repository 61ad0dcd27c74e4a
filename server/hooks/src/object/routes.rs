//! Routes of a namespace that leave through no port's link: those of the host's row, and what is dropped.

use super::{NetnsRef, Route};

/// Routes that the kernel finds the links for by their gateways, or that drop packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// The namespace.
    pub netns: NetnsRef,
    /// The routes; none of them is on the link.
    pub routes: Vec<Route>,
}
