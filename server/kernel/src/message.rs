//! Between the values of the hooks and the messages of rtnetlink.
//!
//! Takes links, addresses, routes and operations, gives messages, and the other way round. Pure; it never sends.

use std::net::IpAddr;
use std::os::fd::RawFd;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use nonnet_hooks::limits::PROTOCOL;
use nonnet_hooks::mirror::{Address, AddressState, Change, InstalledRoute, Link};
use nonnet_hooks::name::Mac;
use nonnet_hooks::object::{Route, RouteKind, Spec};
use nonnet_hooks::plan::{LinkChange, NewLink};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
    InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::wire::Request;
use crate::{bridge, flood, spec};

/// `RT_TABLE_LOCAL`: the kernel's own.
pub(crate) const TABLE_LOCAL: u32 = 255;

/// Where a new link goes and what it is on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Site {
    /// The namespace of a link without another end, or of the other end of a pair, if it is not that of the socket.
    pub(crate) namespace: Option<RawFd>,
    /// The index of the link that it is on, in the namespace of the socket.
    pub(crate) parent: Option<u32>,
}

/// Creates a link that carries `group` from its first moment.
pub(crate) fn link_add(name: &str, group: u32, new: &NewLink, site: Site) -> Request {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link.attributes.push(LinkAttribute::Group(group));
    let info = match new {
        NewLink::Bridge { mac, mtu, settings } => {
            push_mac_mtu(&mut link, *mac, *mtu);
            bridge::settings(settings)
        }
        NewLink::Veth { peer, peer_mac, mtu } => {
            push_mac_mtu(&mut link, None, *mtu);
            let mut inner = LinkMessage::default();
            inner
                .attributes
                .push(LinkAttribute::IfName(peer.name.as_str().to_owned()));
            inner.attributes.push(LinkAttribute::Group(group));
            inner.attributes.extend(site.namespace.map(LinkAttribute::NetNsFd));
            push_mac_mtu(&mut inner, *peer_mac, *mtu);
            vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner))),
            ]
        }
        NewLink::Single { spec, mac, mtu, .. } => {
            push_mac_mtu(&mut link, *mac, *mtu);
            link.attributes.extend(site.namespace.map(LinkAttribute::NetNsFd));
            // A tunnel names the link that it sends through among its settings.
            let is_tunnel = matches!(spec, Spec::Vxlan(_));
            link.attributes
                .extend(site.parent.filter(|_| !is_tunnel).map(LinkAttribute::Link));
            spec::create(spec, site.parent)
        }
    };
    link.attributes.push(LinkAttribute::LinkInfo(info));
    (RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
}

fn push_mac_mtu(link: &mut LinkMessage, mac: Option<Mac>, mtu: Option<u32>) {
    link.attributes
        .extend(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    link.attributes.extend(mtu.map(LinkAttribute::Mtu));
}

/// Changes the link of this index; `master` is the index of the bridge that the change names.
pub(crate) fn link_set(index: u32, set: &LinkChange, master: Option<u32>, ipv6: bool) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    if let Some(up) = set.up {
        link.header.change_mask = LinkFlags::Up;
        link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    }
    let attributes = &mut link.attributes;
    attributes.extend(
        set.name
            .as_ref()
            .map(|name| LinkAttribute::IfName(name.as_str().to_owned())),
    );
    attributes.extend(
        set.alias
            .as_ref()
            .map(|alias| LinkAttribute::IfAlias(alias.to_string())),
    );
    attributes.extend(set.group.map(LinkAttribute::Group));
    attributes.extend(set.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.extend(set.mtu.map(LinkAttribute::Mtu));
    attributes.extend(
        set.master
            .as_ref()
            .map(|_| LinkAttribute::Controller(master.unwrap_or(0))),
    );
    if let Some(off) = set.address_generation_off.filter(|_| ipv6) {
        let mode = if off {
            In6AddrGenMode::None
        } else {
            In6AddrGenMode::Eui64
        };
        let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)]);
        attributes.push(LinkAttribute::AfSpecUnspec(vec![inet6]));
    }
    if let Some(settings) = &set.bridge {
        attributes.push(LinkAttribute::LinkInfo(bridge::settings(settings)));
    }
    if let Some(spec) = &set.spec {
        attributes.push(LinkAttribute::LinkInfo(spec::change(spec)));
    }
    let isolated = set.isolated.map(InfoBridgePort::Isolated);
    let hairpin = set.hairpin.map(InfoBridgePort::HairpinMode);
    if isolated.is_some() || hairpin.is_some() {
        let data = InfoPortData::BridgePort(isolated.into_iter().chain(hairpin).collect());
        attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(data),
        ]));
    }
    // RTM_NEWLINK without NLM_F_CREATE does what RTM_SETLINK does, and settings of the kind as well.
    (RouteNetlinkMessage::NewLink(link), 0)
}

/// Moves the link of this index to the namespace of a descriptor, where it gets that name.
pub(crate) fn link_move(index: u32, namespace: RawFd, name: &str) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::NetNsFd(namespace));
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    (RouteNetlinkMessage::NewLink(link), 0)
}

/// Deletes the link of this index.
pub(crate) fn link_del(index: u32) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    (RouteNetlinkMessage::DelLink(link), 0)
}

/// Deletes all links of a group.
pub(crate) fn link_del_group(group: u32) -> Request {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::Group(group));
    (RouteNetlinkMessage::DelLink(link), 0)
}

/// Asks for the link of this name.
pub(crate) fn link_get(name: &str) -> Request {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link.attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    (RouteNetlinkMessage::GetLink(link), 0)
}

/// Asks for all links.
pub(crate) fn links() -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(link)
}

/// Asks for all addresses.
pub(crate) fn addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

/// Asks for all routes of a family, or for those of our protocol only.
pub(crate) fn routes(family: AddressFamily, ours_only: bool) -> RouteNetlinkMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family;
    if ours_only {
        route.header.protocol = RouteProtocol::from(PROTOCOL);
    }
    RouteNetlinkMessage::GetRoute(route)
}

/// Adds an address to the link of this index; `detect`: one of IPv6 is looked for on the link before it is used.
pub(crate) fn address_add(index: u32, address: IpNet, detect: bool) -> Request {
    let mut message = address_message(index, address);
    message
        .attributes
        .push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    match address {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        IpNet::V4(_) => {}
        IpNet::V6(_) if detect => {}
        IpNet::V6(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
    }
    (RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Deletes an address from the link of this index.
pub(crate) fn address_del(index: u32, address: IpNet) -> Request {
    (RouteNetlinkMessage::DelAddress(address_message(index, address)), 0)
}

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(&address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}

/// Adds a route through the link of this index, or that through which its gateway is reached.
pub(crate) fn route_add(index: Option<u32>, route: &Route) -> Request {
    (
        RouteNetlinkMessage::NewRoute(route_message(index, route)),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Puts a route in the place of the one to the same destination with the same metric.
pub(crate) fn route_replace(index: Option<u32>, route: &Route) -> Request {
    (
        RouteNetlinkMessage::NewRoute(route_message(index, route)),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Deletes a route through the link of this index, or through whichever.
pub(crate) fn route_del(index: Option<u32>, route: &Route) -> Request {
    (RouteNetlinkMessage::DelRoute(route_message(index, route)), 0)
}

fn route_message(index: Option<u32>, route: &Route) -> RouteMessage {
    let four = matches!(route.destination, IpNet::V4(_));
    let mut message = RouteMessage::default();
    message.header.address_family = family(&route.destination.addr());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
    };
    // An IPv4 route without next hop is of link scope; IPv6 has no scopes.
    let on_link = four && route.gateway.is_none() && route.kind == RouteKind::Unicast;
    message.header.scope = if on_link {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    let attributes = &mut message.attributes;
    if route.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(route_address(route.destination.addr())));
    }
    attributes.extend(
        route
            .gateway
            .map(|gateway| RouteAttribute::Gateway(route_address(gateway))),
    );
    attributes.extend(
        route
            .source
            .map(|source| RouteAttribute::PrefSource(route_address(source))),
    );
    attributes.extend(
        index
            .filter(|_| route.kind == RouteKind::Unicast)
            .map(RouteAttribute::Oif),
    );
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    attributes.push(RouteAttribute::Table(route.table));
    message
}

/// The change that a message tells of, if it is one that the mirror holds.
pub(crate) fn change(message: RouteNetlinkMessage) -> Option<Change> {
    match message {
        RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Bridge => {
            bridge::vlans_of(&link).map(|vlans| Change::Vlans(link.header.index, vlans))
        }
        RouteNetlinkMessage::NewLink(link) => link_of(&link).map(Change::LinkSet),
        // A bridge says with its own family that a port left; the link itself is still there.
        RouteNetlinkMessage::DelLink(link) => {
            (link.header.interface_family == AddressFamily::Unspec).then_some(Change::LinkGone(link.header.index))
        }
        RouteNetlinkMessage::NewAddress(address) => address_of(&address).map(Change::AddressSet),
        RouteNetlinkMessage::DelAddress(address) => {
            address_of(&address).map(|address| Change::AddressGone(address.index, address.address))
        }
        RouteNetlinkMessage::NewNeighbour(entry) => flood::change(&entry, true),
        RouteNetlinkMessage::DelNeighbour(entry) => flood::change(&entry, false),
        RouteNetlinkMessage::NewRoute(route) => route_of(&route).map(Change::RouteSet),
        RouteNetlinkMessage::DelRoute(route) => route_of(&route).map(Change::RouteGone),
        _ => None,
    }
}

/// The link that a message describes.
pub(crate) fn link_of(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    let mut tunnel_parent = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name.as_str().into(),
            LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(*index).filter(|index| *index != 0),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::IfAlias(alias) => link.alias = alias.as_str().into(),
            LinkAttribute::Link(index) => link.peer = Some(*index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    take_info(&mut link, info);
                }
                link.spec = spec::spec_of(infos);
                tunnel_parent = spec::parent_of(infos);
            }
            LinkAttribute::AfSpecUnspec(specs) => link.address_generation_off = address_generation_off(specs),
            _ => {}
        }
    }
    // A tunnel that was made from another namespace names itself there.
    if !matches!(link.kind.as_str(), "veth" | "macvlan" | "macvtap" | "ipvlan" | "vlan") {
        link.peer = tunnel_parent;
    }
    (!link.name.is_empty()).then_some(link)
}

fn take_info(link: &mut Link, info: &LinkInfo) {
    match info {
        LinkInfo::Kind(kind) => link.kind = kind.to_string().into(),
        LinkInfo::Data(InfoData::Bridge(data)) => {
            link.bridge = Some(Box::new(bridge::settings_of(data)));
        }
        LinkInfo::PortData(InfoPortData::BridgePort(data)) => {
            for info in data {
                match info {
                    InfoBridgePort::Isolated(isolated) => link.isolated = Some(*isolated),
                    InfoBridgePort::HairpinMode(hairpin) => link.hairpin = Some(*hairpin),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn address_generation_off(specs: &[AfSpecUnspec]) -> Option<bool> {
    let inet6 = specs.iter().find_map(|spec| match spec {
        AfSpecUnspec::Inet6(inet6) => Some(inet6),
        _ => None,
    })?;
    inet6.iter().find_map(|attribute| match attribute {
        AfSpecInet6::AddrGenMode(mode) => Some(*mode == In6AddrGenMode::None),
        _ => None,
    })
}

/// The address that a message describes. `IFA_LOCAL` is the link's own where there is one; on point-to-point links `IFA_ADDRESS` is the other side's.
pub(crate) fn address_of(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut other, mut protocol) = (None, None, 0);
    let mut flags = AddressFlags::empty();
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => other = Some(*address),
            AddressAttribute::Protocol(number) => protocol = u8::from(*number),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let state = if flags.contains(AddressFlags::Dadfailed) {
        AddressState::Duplicate
    } else if flags.contains(AddressFlags::Tentative) {
        AddressState::Tentative
    } else {
        AddressState::Ready
    };
    let address = IpNet::new(local.or(other)?, message.header.prefix_len).ok()?;
    Some(Address {
        index: message.header.index,
        address,
        protocol,
        state,
    })
}

/// The route that a message describes, unless it is the kernel's own business (local table, cache, multicast, several next hops).
pub(crate) fn route_of(message: &RouteMessage) -> Option<InstalledRoute> {
    let kind = match message.header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        _ => return None,
    };
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut destination, mut index, mut table) = (any, None, u32::from(message.header.table));
    let (mut gateway, mut source, mut metric) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    if table == TABLE_LOCAL || message.header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    // A blackhole leaves through no link, though IPv6 names the loopback.
    let index = index.filter(|_| kind == RouteKind::Unicast);
    let route = Route {
        destination,
        gateway,
        metric,
        table,
        kind,
        source,
    };
    Some(InstalledRoute {
        index,
        route,
        protocol: u8::from(message.header.protocol),
    })
}

pub(crate) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(four) => Some((*four).into()),
        RouteAddress::Inet6(six) => Some((*six).into()),
        _ => None,
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(four) => RouteAddress::Inet(four),
        IpAddr::V6(six) => RouteAddress::Inet6(six),
    }
}

fn family(address: &IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
