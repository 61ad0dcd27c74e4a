//! The other ends of a VXLAN tunnel that get each frame for which no better place is known.

use std::fmt;
use std::net::IpAddr;

use crate::plan::LinkRef;

/// Adds or takes away such an end: an entry of the hardware address of zeros in the link's forwarding database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flood {
    /// The link.
    pub link: LinkRef,
    /// The other end.
    pub end: IpAddr,
    /// Whether it is added.
    pub on: bool,
}

impl Flood {
    /// The change that takes this one back.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self { on: !self.on, ..self }
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.on { "add" } else { "delete" };
        write!(
            f,
            "{verb} fdb entry 00:00:00:00:00:00 dst {} on {}",
            self.end, self.link
        )
    }
}
