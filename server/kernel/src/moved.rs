//! Moves the addresses of one link to another, with the routes that go along with them.
//!
//! First all of it is there twice, then what was before goes: there is no moment without an address or a route, and connections go on. When
//! something is refused on the way, what was added is taken away again, and nothing has changed. Done a second time, it goes on where the first
//! one was broken off.

use std::io;
use std::net::IpAddr;

use ecow::eco_format;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use nonnet_hooks::address::is_link_local;
use nonnet_hooks::limits::PROTOCOL;
use nonnet_hooks::mirror::Address;
use nonnet_hooks::object::takes;
use nonnet_hooks::plan::Refusal;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::message::{self, address_of, ip};
use crate::wire::{Request, Wire};

/// Ticks of the kernel's times in messages about routes (`USER_HZ`).
const TICKS_PER_SECOND: u32 = 100;

/// The flags of an address that whoever adds it may give.
const FLAGS: AddressFlags = AddressFlags::Noprefixroute
    .union(AddressFlags::Homeaddress)
    .union(AddressFlags::Managetempaddr)
    .union(AddressFlags::Mcautojoin);

/// A link by index and name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) index: u32,
    pub(crate) name: &'a str,
}

/// What leaves a link.
struct Leaving {
    addresses: Vec<(AddressMessage, Address)>,
    routes: Vec<RouteMessage>,
    /// The addresses that the other link has already, since a former move was broken off.
    there: Vec<IpNet>,
}

/// Moves what [`takes`] takes, from one link to another.
///
/// # Errors
/// The outer one when the socket fails, the inner one when the kernel refuses.
pub(crate) fn run(
    wire: &mut Wire,
    from: Place<'_>,
    to: Place<'_>,
    back: bool,
    ipv6: bool,
) -> io::Result<Result<(), Refusal>> {
    let leaving = match find(wire, from, to, back, ipv6)? {
        Ok(leaving) => leaving,
        Err(refused) => return Ok(Err(refused)),
    };
    if let Some(refused) = leaving.routes.iter().find_map(refused) {
        return Ok(Err(refused));
    }
    match add(wire, &leaving, from, to, back)? {
        Ok(()) => remove(wire, leaving),
        Err(refused) => Ok(Err(refused)),
    }
}

/// Finds what is to leave a link.
fn find(
    wire: &mut Wire,
    from: Place<'_>,
    to: Place<'_>,
    back: bool,
    ipv6: bool,
) -> io::Result<Result<Leaving, Refusal>> {
    let messages = match wire.dump(message::addresses())? {
        Ok(messages) => messages,
        Err(refused) => return Ok(Err(refused)),
    };
    let all = messages.into_iter().filter_map(address_in);
    let (here, others): (Vec<_>, Vec<_>) = all.partition(|(_, address)| address.index == from.index);
    let there = others.iter().filter(|(_, address)| address.index == to.index);
    let there = there.map(|(_, address)| address.address).collect();
    let (addresses, staying): (Vec<_>, Vec<_>) = here
        .into_iter()
        .partition(|(_, address)| takes(address, back).is_some());
    let nets: Vec<IpNet> = addresses.iter().map(|(_, address)| address.address).collect();
    let mut routes = Vec::new();
    let families = [AddressFamily::Inet, AddressFamily::Inet6];
    for family in families.into_iter().take(if ipv6 { 2 } else { 1 }) {
        let found = match wire.dump(routes_through(family, from.index))? {
            Ok(found) => found,
            Err(refused) => return Ok(Err(refused)),
        };
        let stays = staying.iter().any(|(message, address)| {
            let is_ours = address.protocol == PROTOCOL || is_link_local(address.address.addr());
            message.header.family == family && !is_ours
        });
        let found = found.into_iter().filter_map(route_in);
        routes.extend(found.filter(|route| is_concerned(route, from.index) && (!stays || goes_along(route, &nets))));
    }
    Ok(Ok(Leaving {
        addresses,
        routes,
        there,
    }))
}

/// Adds to another link all that leaves one; when something is refused, nothing is added.
fn add(
    wire: &mut Wire,
    leaving: &Leaving,
    from: Place<'_>,
    to: Place<'_>,
    back: bool,
) -> io::Result<Result<(), Refusal>> {
    let addresses = leaving.addresses.iter().map(|(message, address)| {
        let new = moved_address(message, takes(address, back).unwrap_or_default(), from, to);
        let gone = (RouteNetlinkMessage::DelAddress(named(&new)), 0);
        let new = (RouteNetlinkMessage::NewAddress(new), NLM_F_CREATE | NLM_F_REPLACE);
        (new, Some(gone).filter(|_| !leaving.there.contains(&address.address)))
    });
    let routes = leaving.routes.iter().map(|route| {
        let new = moved_route(route, from.index, to.index);
        if is_one_of_several(route) {
            // Several next hops are one route of IPv6, which takes its place at once.
            return ((RouteNetlinkMessage::NewRoute(new), NLM_F_CREATE | NLM_F_REPLACE), None);
        }
        let gone = (RouteNetlinkMessage::DelRoute(new.clone()), 0);
        (
            (RouteNetlinkMessage::NewRoute(new), NLM_F_CREATE | NLM_F_APPEND),
            Some(gone),
        )
    });
    let mut undo: Vec<Request> = Vec::new();
    for (request, gone) in addresses.chain(routes) {
        match wire.call_one(request)? {
            Ok(_) => undo.extend(gone),
            // The route of an address' own network came with the address.
            Err(refused) if refused.errno == libc::EEXIST => {}
            Err(refused) => {
                undo.reverse();
                wire.call(undo)?;
                return Ok(Err(refused));
            }
        }
    }
    Ok(Ok(()))
}

/// Takes away from a link what another one has now.
fn remove(wire: &mut Wire, leaving: Leaving) -> io::Result<Result<(), Refusal>> {
    let routes = leaving.routes.into_iter().filter(|route| !is_one_of_several(route));
    let routes = routes.map(|route| (RouteNetlinkMessage::DelRoute(bare(route)), 0));
    let addresses = leaving.addresses.iter();
    let addresses = addresses.map(|(message, _)| (RouteNetlinkMessage::DelAddress(named(message)), 0));
    // What went by itself is gone: secondary addresses with the first one, routes with their address.
    let is_bad = |refused: &Refusal| ![libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENOENT].contains(&refused.errno);
    let answers = wire.call(routes.chain(addresses).collect())?;
    Ok(answers
        .into_iter()
        .filter_map(Result::err)
        .find(is_bad)
        .map_or(Ok(()), Err))
}

fn address_in(message: RouteNetlinkMessage) -> Option<(AddressMessage, Address)> {
    match message {
        RouteNetlinkMessage::NewAddress(message) => address_of(&message).map(|address| (message, address)),
        _ => None,
    }
}

fn route_in(message: RouteNetlinkMessage) -> Option<RouteMessage> {
    match message {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    }
}

/// Asks for the routes of a family through a link.
fn routes_through(family: AddressFamily, index: u32) -> RouteNetlinkMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family;
    route.attributes.push(RouteAttribute::Oif(index));
    RouteNetlinkMessage::GetRoute(route)
}

/// An address as it is to be on another link.
fn moved_address(message: &AddressMessage, protocol: u8, from: Place<'_>, to: Place<'_>) -> AddressMessage {
    let mut new = message.clone();
    new.header.index = to.index;
    new.header.flags = AddressHeaderFlags::default();
    let six = message.header.family == AddressFamily::Inet6;
    let mut flags = AddressFlags::empty();
    new.attributes.retain_mut(|attribute| match attribute {
        AddressAttribute::Flags(all) => {
            flags = *all & FLAGS;
            false
        }
        AddressAttribute::Protocol(_) => false,
        AddressAttribute::Label(label) => {
            // `eth0` or `eth0:1`.
            let rest = label.strip_prefix(from.name).unwrap_or_default();
            *label = format!("{}{rest}", to.name);
            label.len() < libc::IFNAMSIZ
        }
        _ => true,
    });
    if six {
        // It was found to be nobody else's already.
        flags |= AddressFlags::Nodad;
    }
    new.attributes.push(AddressAttribute::Flags(flags));
    new.attributes
        .push(AddressAttribute::Protocol(AddressProtocol::from(protocol)));
    new
}

/// What an address is deleted by.
fn named(message: &AddressMessage) -> AddressMessage {
    let mut named = message.clone();
    named.header.flags = AddressHeaderFlags::default();
    named
        .attributes
        .retain(|attribute| matches!(attribute, AddressAttribute::Local(_) | AddressAttribute::Address(_)));
    named
}

/// Whether a route is one that leads through the link and is neither ours nor made by the kernel for every link.
fn is_concerned(route: &RouteMessage, from: u32) -> bool {
    let is_through = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Oif(index) => *index == from,
        RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == from),
        _ => false,
    };
    let is_local = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Table(table) => *table == message::TABLE_LOCAL,
        RouteAttribute::Destination(destination) => ip(destination).is_some_and(is_link_local),
        _ => false,
    };
    let header = &route.header;
    header.kind == RouteType::Unicast
        && u8::from(header.protocol) != PROTOCOL
        && !header.flags.contains(RouteFlags::Cloned)
        && route.attributes.iter().any(is_through)
        && !route.attributes.iter().any(is_local)
}

/// Whether a route is there because of one of these addresses.
fn goes_along(route: &RouteMessage, nets: &[IpNet]) -> bool {
    let is_within = |address: IpAddr| nets.iter().any(|net| net.contains(&address));
    route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Gateway(address)
        | RouteAttribute::PrefSource(address)
        | RouteAttribute::Destination(address) => ip(address).is_some_and(is_within),
        _ => false,
    })
}

/// Why a route cannot be moved, if so.
fn refused(route: &RouteMessage) -> Option<Refusal> {
    let number = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::NhId(number) => Some(*number),
        _ => None,
    })?;
    let name = message::route_of(route).map(|installed| eco_format!("{}", installed.route));
    let name = name.unwrap_or_default();
    let text = eco_format!("route {name} is through next hop object {number}, which stays");
    Some(Refusal { errno: 0, text })
}

fn is_one_of_several(route: &RouteMessage) -> bool {
    let has_several = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::MultiPath(_));
    route.header.address_family == AddressFamily::Inet6 && route.attributes.iter().any(has_several)
}

/// A route as it is to be through another link.
fn moved_route(route: &RouteMessage, from: u32, to: u32) -> RouteMessage {
    let mut new = bare(route.clone());
    for attribute in &mut new.attributes {
        match attribute {
            RouteAttribute::Oif(index) if *index == from => *index = to,
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    if hop.interface_index == from {
                        hop.interface_index = to;
                    }
                }
            }
            _ => {}
        }
    }
    new
}

/// A route without what the kernel tells and does not take.
fn bare(mut route: RouteMessage) -> RouteMessage {
    let six = route.header.address_family == AddressFamily::Inet6;
    route.header.flags &= RouteFlags::Onlink;
    let mut expires = None;
    route.attributes.retain_mut(|attribute| match attribute {
        RouteAttribute::CacheInfo(info) => {
            expires = Some(info.expires).filter(|ticks| six && *ticks > 0 && i32::try_from(*ticks).is_ok());
            false
        }
        RouteAttribute::MultiPath(hops) => {
            for hop in hops {
                hop.flags &= RouteNextHopFlags::Onlink;
            }
            true
        }
        RouteAttribute::Iif(_)
        | RouteAttribute::Uid(_)
        | RouteAttribute::Mark(_)
        | RouteAttribute::Expires(_)
        | RouteAttribute::MulticastExpires(_)
        | RouteAttribute::MfcStats(_) => false,
        _ => true,
    });
    route
        .attributes
        .extend(expires.map(|ticks| RouteAttribute::Expires(ticks.div_ceil(TICKS_PER_SECOND))));
    route
}
