//! All that namespaces have: links, addresses, routes, queues, the VLANs of ports.
//!
//! Takes sockets, one per namespace, and asks until each has told everything. Many namespaces are read by several threads: each dump is a few
//! system calls, and the kernel answers those of different namespaces side by side.

use std::io;
use std::num::NonZero;
use std::thread;

use nonnet_hooks::limits::PROTOCOL;
use nonnet_hooks::mirror::{Change, InstalledRoute, Link, NamespaceId, Snapshot};
use nonnet_hooks::object::{Hook, Vlans};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::limits::{NAMESPACES_PER_READER_MIN, READERS_MAX};
use crate::wire::Wire;
use crate::{bridge, flood, message, traffic};

/// The root queues of links that queue nothing: there is none of anybody's.
const QUEUES_NONE: [&str; 2] = ["noqueue", "noop"];

/// Reads all that each of these namespaces has.
pub(crate) fn snapshots(
    mut spaces: Vec<(NamespaceId, &mut Wire)>,
    ipv6: bool,
) -> Vec<(NamespaceId, io::Result<Snapshot>)> {
    fn read(spaces: &mut [(NamespaceId, &mut Wire)], ipv6: bool) -> Vec<(NamespaceId, io::Result<Snapshot>)> {
        let read = spaces.iter_mut().map(|(id, wire)| (*id, snapshot(wire, *id, ipv6)));
        read.collect()
    }
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let readers = (spaces.len() / NAMESPACES_PER_READER_MIN).clamp(1, processors.min(READERS_MAX));
    let share = spaces.len().div_ceil(readers).max(1);
    thread::scope(|scope| {
        let mut shares = spaces.chunks_mut(share);
        let own = shares.next();
        let others: Vec<_> = shares.map(|share| scope.spawn(move || read(share, ipv6))).collect();
        let mut all = own.map(|share| read(share, ipv6)).unwrap_or_default();
        // A reader that panicked read nothing: its namespaces are as they were known.
        all.extend(others.into_iter().filter_map(|reader| reader.join().ok()).flatten());
        all
    })
}

/// Reads all that a namespace has.
pub(crate) fn snapshot(wire: &mut Wire, id: NamespaceId, ipv6: bool) -> io::Result<Snapshot> {
    let mut snapshot = Snapshot {
        routes: routes(wire, id, ipv6)?,
        ..Snapshot::default()
    };
    let links = wire.dump(message::links())?.unwrap_or_default();
    let addresses = wire.dump(message::addresses())?.unwrap_or_default();
    let queues = id == NamespaceId::Host || links.iter().any(has_queue);
    for found in links.into_iter().chain(addresses) {
        match message::change(found) {
            Some(Change::LinkSet(link)) => snapshot.links.push(link),
            Some(Change::AddressSet(address)) => snapshot.addresses.push(address),
            _ => {}
        }
    }
    let filters = |link: &Link| {
        let settings = link.bridge.as_ref();
        settings.is_some_and(|settings| settings.vlan_filtering == Some(true))
    };
    if snapshot.links.iter().any(filters) {
        snapshot.vlans = vlans(wire)?;
    }
    let tunnels: Vec<u32> = snapshot
        .links
        .iter()
        .filter(|link| flood::concerns(link))
        .map(|link| link.index)
        .collect();
    for index in tunnels {
        let entries = wire.dump(flood::entries(index))?.unwrap_or_default();
        snapshot.floods.extend(
            entries
                .into_iter()
                .filter_map(message::change)
                .filter_map(|change| match change {
                    Change::Flood(of, end, true) if of == index => Some((of, end)),
                    _ => None,
                }),
        );
    }
    if queues {
        read_traffic(wire, &mut snapshot)?;
    }
    Ok(snapshot)
}

/// Reads the routes of a namespace; of the host, those that are ours: a router's own tables may be huge.
pub(crate) fn routes(wire: &mut Wire, id: NamespaceId, ipv6: bool) -> io::Result<Vec<InstalledRoute>> {
    let mut routes = Vec::new();
    let families = [AddressFamily::Inet, AddressFamily::Inet6];
    for family in families.into_iter().take(if ipv6 { 2 } else { 1 }) {
        let answer = wire.dump(message::routes(family, id == NamespaceId::Host))?;
        let found = answer.unwrap_or_default().into_iter().filter_map(message::change);
        routes.extend(found.filter_map(|change| match change {
            Change::RouteSet(route) if concerns(id, &route) => Some(route),
            _ => None,
        }));
    }
    Ok(routes)
}

/// Reads the VLANs of the ports of a namespace's bridges, by index.
pub(crate) fn vlans(wire: &mut Wire) -> io::Result<Vec<(u32, Vlans)>> {
    let ports = wire.dump(bridge::ports())?;
    let changes = ports.into_iter().flatten().filter_map(message::change);
    let vlans = changes.filter_map(|change| match change {
        Change::Vlans(index, vlans) => Some((index, vlans)),
        _ => None,
    });
    Ok(vlans.collect())
}

/// Whether a route in a namespace may be one that rows want.
pub(crate) fn concerns(id: NamespaceId, route: &InstalledRoute) -> bool {
    id != NamespaceId::Host || route.protocol == PROTOCOL
}

fn has_queue(message: &RouteNetlinkMessage) -> bool {
    let of_link = |LinkMessage { attributes, .. }: &LinkMessage| {
        attributes
            .iter()
            .any(|attribute| matches!(attribute, LinkAttribute::Qdisc(kind) if !QUEUES_NONE.contains(&kind.as_str())))
    };
    matches!(message, RouteNetlinkMessage::NewLink(link) if of_link(link))
}

/// Reads the root queues and our copies. Filters are asked for only where some may be.
fn read_traffic(wire: &mut Wire, snapshot: &mut Snapshot) -> io::Result<()> {
    let queues = wire.dump(traffic::queues())?.unwrap_or_default();
    let mut changes: Vec<Change> = queues.iter().flat_map(traffic::changes).collect();
    for index in queues.iter().filter_map(traffic::hooks_of) {
        for hook in [Hook::Ingress, Hook::Egress] {
            let filters = wire.dump(traffic::filters(index, hook))?;
            changes.extend(filters.unwrap_or_default().iter().flat_map(traffic::changes));
        }
    }
    for change in changes {
        match change {
            Change::Queue(index, Some(queue)) => snapshot.queues.push((index, queue)),
            Change::Mirror(index, hook, Some(to)) => snapshot.mirrors.push((index, hook, to)),
            _ => {}
        }
    }
    Ok(())
}
