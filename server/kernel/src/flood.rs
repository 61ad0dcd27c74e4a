//! Between the other ends of VXLAN tunnels and the messages of their forwarding databases. Pure; it never sends.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use nonnet_hooks::mirror::{Change, Link};
use nonnet_hooks::want::Mark;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::wire::Request;

/// The hardware address that stands for all for which no better place is known.
pub(crate) const ANY: [u8; 6] = [0; 6];

/// Whether a link may have ends that rows want: only those of ours are asked.
pub(crate) fn concerns(link: &Link) -> bool {
    link.kind == "vxlan" && Mark::is_some_marks(link.group)
}

/// Asks for the forwarding database of the link of this index.
pub(crate) fn entries(index: u32) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    RouteNetlinkMessage::GetNeighbour(message)
}

/// Has the link of this index send what is for a hardware address to an end, or no more.
pub(crate) fn set(index: u32, mac: &[u8], end: IpAddr, on: bool) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        NeighbourAttribute::Destination(end.into()),
    ];
    if on {
        (RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_APPEND)
    } else {
        (RouteNetlinkMessage::DelNeighbour(message), 0)
    }
}

/// What a message tells of an end.
pub(crate) fn change(message: &NeighbourMessage, on: bool) -> Option<Change> {
    let header = &message.header;
    if header.family != AddressFamily::Bridge || header.flags.contains(NeighbourFlags::ExtLearned) {
        return None;
    }
    let mut end = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) if *mac != ANY => return None,
            NeighbourAttribute::Destination(address) => end = address_of(address),
            _ => {}
        }
    }
    Some(Change::Flood(header.ifindex, end?, on))
}

/// The hardware address that a message says is at this end of the link of this index.
pub(crate) fn at(message: &RouteNetlinkMessage, index: u32, end: IpAddr) -> Option<Vec<u8>> {
    let RouteNetlinkMessage::NewNeighbour(entry) = message else {
        return None;
    };
    let mut mac = None;
    let mut is_there = false;
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Some(bytes.clone()),
            NeighbourAttribute::Destination(address) => is_there = address_of(address) == Some(end),
            _ => {}
        }
    }
    mac.filter(|_| is_there && entry.header.ifindex == index)
}

fn address_of(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(four) => Some((*four).into()),
        NeighbourAddress::Inet6(six) => Some((*six).into()),
        NeighbourAddress::Other(bytes) => {
            let four = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from))
                .ok()
        }
        _ => None,
    }
}
