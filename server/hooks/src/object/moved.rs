//! The addresses of an uplink that are on its bridge instead, since a port of a bridge answers to none.
//!
//! They move while a checkpoint is open that is rolled back unless somebody confirms it, and back when that happens. What was moved carries a
//! protocol of its own (`IFA_PROTO`), so that it is told apart from what else is on the bridge, whoever looks and whenever.

use std::collections::BTreeSet;
use std::fmt;

use ecow::EcoString;
use ipnet::IpNet;

use crate::limits::{PROTOCOL, PROTOCOL_MOVED, PROTOCOL_MOVED_ADVERTISED};
use crate::mirror::Address;
use crate::plan::LinkRef;

/// `IFAPROT_KERNEL_RA` of the kernel: made from what a router advertises.
const ADVERTISED: u8 = 2;

/// A checkpoint, by the first half of the first half of its row's UUID.
pub type TrialId = u32;

/// What an uplink's row says about its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moving {
    /// The newest checkpoint that is open and rolled back by itself.
    pub open: Option<TrialId>,
    /// The checkpoints that were rolled back: what was moved under one of them goes back.
    pub rolled_back: BTreeSet<TrialId>,
    /// Whether the bridge takes the uplink's hardware address then, since its row names none.
    pub lends_mac: bool,
}

/// Where addresses of a link are instead of on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The bridge.
    pub to: EcoString,
    /// The checkpoint under which they were moved.
    pub trial: TrialId,
}

/// All addresses of somebody else's that are not link-local, with what goes along with them, from one link to another.
///
/// The routes through the one link go through the other, with protocol, table, metric and all else that they have: all those of a family of
/// which no address stays behind, else those whose source or gateway is in the network of an address that goes. Scope, lifetimes, metric and
/// flags of addresses stay as they are. There is no moment without an address or a route. What else names the link stays: policy rules by
/// interface, permanent neighbours, and routes through next hop objects, with which nothing moves at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressesMove {
    /// Where they are.
    pub from: LinkRef,
    /// Where they are to be.
    pub to: LinkRef,
    /// The addresses, as far as known.
    pub addresses: Vec<IpNet>,
    /// Whether these are addresses that were moved before, and go back.
    pub back: bool,
}

impl AddressesMove {
    /// The move that takes it back.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            addresses: self.addresses,
            back: !self.back,
        }
    }
}

/// The protocol that an address has once it was moved, or moved back; `None`: it is none of those that move.
pub fn takes(address: &Address, back: bool) -> Option<u8> {
    if crate::address::is_link_local(address.address.addr()) {
        return None;
    }
    match (back, address.protocol) {
        (true, PROTOCOL_MOVED) => Some(0),
        (true, PROTOCOL_MOVED_ADVERTISED) => Some(ADVERTISED),
        (true, _) | (false, PROTOCOL) => None,
        (false, ADVERTISED | PROTOCOL_MOVED_ADVERTISED) => Some(PROTOCOL_MOVED_ADVERTISED),
        (false, _) => Some(PROTOCOL_MOVED),
    }
}

impl fmt::Display for AddressesMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let back = if self.back { " back" } else { "" };
        let Self { from, to, .. } = self;
        write!(
            f,
            "move address {}{back} from {from} to {to}, and the routes along with it",
            texts.join(", ")
        )
    }
}
