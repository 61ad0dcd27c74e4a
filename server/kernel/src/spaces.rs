//! The open namespaces: their sockets, their dumps, their events.
//!
//! Takes namespaces that were found, gives observations. Several references may stand for one namespace; it is closed with the last of them, since
//! an open socket would keep a dead container's namespace alive.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::BorrowedFd;

use nonnet_hooks::limits::PROTOCOL;
use nonnet_hooks::mirror::{Change, InstalledRoute, Link, NamespaceId, Observation, Snapshot};
use nonnet_hooks::object::firewall::Installed;
use nonnet_hooks::object::{Hook, NetnsRef, Vlans};
use rtnetlink::packet_route::AddressFamily;

use crate::firewall::Ruleset;
use crate::hub::Hub;
use crate::limits::{EVENT_BUFFER_BYTES, EVENT_BUFFER_INSIDE_BYTES};
use crate::message;
use crate::netns::{Netns, Sockets};
use crate::probe;
use crate::traffic;
use crate::{bridge, events};

/// An open namespace.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) netns: Netns,
    pub(crate) sockets: Sockets,
    references: BTreeSet<NetnsRef>,
}

/// The open namespaces, the server's own first among them.
#[derive(Debug, Default)]
pub(crate) struct Spaces {
    /// The packet filter of the server's own namespace; none where the kernel has none.
    pub(crate) firewall: Option<Ruleset>,
    open: HashMap<NamespaceId, Space>,
    /// Where each reference points.
    places: HashMap<NetnsRef, NamespaceId>,
    /// Listens to all but the server's own. Those that it may not listen to have a socket for their events each.
    hub: Option<Hub>,
    home: u64,
    ipv6: bool,
}

/// What was read from the sockets for events.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) observations: Vec<Observation>,
    /// Events were lost.
    pub(crate) overrun: bool,
    /// Namespaces whose routes have to be read again.
    routes_lost: BTreeSet<NamespaceId>,
}

impl Spaces {
    /// Opens the namespace of the calling thread, which is the server's own.
    pub(crate) fn new(ipv6: bool) -> io::Result<Self> {
        let hub = if probe::may_listen_to_all() {
            Hub::open().ok()
        } else {
            None
        };
        let netns = Netns::own()?;
        let home = netns.inode();
        let sockets = netns.sockets(&netns, Some(EVENT_BUFFER_BYTES))?;
        let space = Space {
            netns,
            sockets,
            references: BTreeSet::new(),
        };
        Ok(Self {
            firewall: None,
            open: HashMap::from([(NamespaceId::Host, space)]),
            places: HashMap::new(),
            hub,
            home,
            ipv6,
        })
    }

    /// The descriptor that becomes readable when other namespaces than the server's own have something to say, if one does for all.
    pub(crate) fn hub(&self) -> Option<BorrowedFd<'_>> {
        self.hub.as_ref().map(Hub::as_fd)
    }

    pub(crate) fn home(&self) -> Option<&Space> {
        self.open.get(&NamespaceId::Host)
    }

    pub(crate) fn get(&self, id: NamespaceId) -> Option<&Space> {
        self.open.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: NamespaceId) -> Option<&mut Space> {
        self.open.get_mut(&id)
    }

    pub(crate) fn ids(&self) -> Vec<NamespaceId> {
        let mut ids: Vec<NamespaceId> = self
            .open
            .keys()
            .copied()
            .filter(|id| *id != NamespaceId::Host)
            .collect();
        // The host's dump comes last: it tells that the dump is complete.
        ids.push(NamespaceId::Host);
        ids
    }

    /// What a namespace is called.
    pub(crate) fn id(&self, netns: &Netns) -> NamespaceId {
        if netns.inode() == self.home {
            NamespaceId::Host
        } else {
            NamespaceId::Inode(netns.inode())
        }
    }

    /// Opens a namespace for a reference. Gives its first dump unless it was open already.
    pub(crate) fn open(&mut self, netns: Netns, reference: NetnsRef) -> io::Result<Option<Observation>> {
        let id = self.id(&netns);
        if let Some(space) = self.open.get_mut(&id) {
            space.references.insert(reference.clone());
            self.places.insert(reference, id);
            return Ok(None);
        }
        let joined = self.hub.as_mut().is_some_and(|hub| hub.join(&netns, id).is_ok());
        let of_its_own = (!joined).then_some(EVENT_BUFFER_INSIDE_BYTES);
        let sockets = match self.home() {
            Some(home) => netns.sockets(&home.netns, of_its_own),
            None => Err(io::Error::other("the server's own namespace is not open")),
        };
        let sockets = sockets.inspect_err(|_| self.remove(id))?;
        self.open.insert(
            id,
            Space {
                netns,
                sockets,
                references: BTreeSet::from([reference.clone()]),
            },
        );
        match self.dump(id) {
            Ok(dump) => {
                self.places.insert(reference, id);
                Ok(Some(dump))
            }
            Err(error) => {
                self.remove(id);
                Err(error)
            }
        }
    }

    /// Gives up a reference, wherever it pointed except to `keep`; a namespace that has none left is closed.
    pub(crate) fn close(&mut self, reference: &NetnsRef, keep: Option<NamespaceId>) -> Option<Observation> {
        let id = *self.places.get(reference).filter(|id| Some(**id) != keep)?;
        self.places.remove(reference);
        let space = self.open.get_mut(&id)?;
        space.references.remove(reference);
        if id == NamespaceId::Host || !space.references.is_empty() {
            return None;
        }
        self.remove(id);
        Some(Observation {
            namespace: id,
            change: Change::Gone,
        })
    }

    fn remove(&mut self, id: NamespaceId) {
        self.open.remove(&id);
        if let Some(hub) = &mut self.hub {
            hub.leave(id);
        }
    }

    /// The VLANs of the ports of a namespace's bridges, by index.
    pub(crate) fn vlans(&mut self, id: NamespaceId) -> io::Result<Vec<(u32, Vlans)>> {
        self.open.get_mut(&id).map_or_else(|| Ok(Vec::new()), vlans)
    }

    /// Reads all that a namespace has.
    pub(crate) fn dump(&mut self, id: NamespaceId) -> io::Result<Observation> {
        let routes = self.routes(id)?;
        let space = self
            .open
            .get_mut(&id)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        let mut snapshot = Snapshot {
            routes,
            ..Snapshot::default()
        };
        let links = space.sockets.wire.dump(message::links())?;
        let addresses = space.sockets.wire.dump(message::addresses())?;
        for found in [links, addresses].into_iter().filter_map(Result::ok).flatten() {
            match message::change(found) {
                Some(Change::LinkSet(link)) => snapshot.links.push(link),
                Some(Change::AddressSet(address)) => snapshot.addresses.push(address),
                _ => {}
            }
        }
        let filters = |link: &Link| {
            link.bridge
                .as_ref()
                .is_some_and(|bridge| bridge.vlan_filtering == Some(true))
        };
        if snapshot.links.iter().any(filters) {
            snapshot.vlans = vlans(space)?;
        }
        if id == NamespaceId::Host {
            let firewall = self.firewall.as_mut().map(Ruleset::read).transpose()?;
            snapshot.firewall = Some(firewall.unwrap_or_else(Installed::unsupported));
        }
        self.traffic(id, &mut snapshot)?;
        Ok(Observation {
            namespace: id,
            change: Change::Replaced(snapshot),
        })
    }

    /// Reads the root queues and our copies. Filters are asked for only where some may be.
    fn traffic(&mut self, id: NamespaceId, snapshot: &mut Snapshot) -> io::Result<()> {
        let space = self
            .open
            .get_mut(&id)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        let queues = space.sockets.wire.dump(traffic::queues())?.unwrap_or_default();
        let mut changes: Vec<Change> = queues.iter().flat_map(traffic::changes).collect();
        for index in queues.iter().filter_map(traffic::hooks_of) {
            for hook in [Hook::Ingress, Hook::Egress] {
                let filters = space.sockets.wire.dump(traffic::filters(index, hook))?;
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

    fn routes(&mut self, id: NamespaceId) -> io::Result<Vec<InstalledRoute>> {
        let mut routes = Vec::new();
        let space = self
            .open
            .get_mut(&id)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        let families = [AddressFamily::Inet, AddressFamily::Inet6];
        for family in families.into_iter().take(if self.ipv6 { 2 } else { 1 }) {
            // A router's own tables may be huge, and only what is ours matters there.
            let answer = space
                .sockets
                .wire
                .dump(message::routes(family, id == NamespaceId::Host))?;
            let found = answer.unwrap_or_default().into_iter().filter_map(message::change);
            routes.extend(found.filter_map(|change| match change {
                Change::RouteSet(route) if concerns(id, &route) => Some(route),
                _ => None,
            }));
        }
        Ok(routes)
    }

    /// Reads the routes of a namespace, some of which the kernel dropped without an event.
    fn reread_routes(&mut self, id: NamespaceId) -> Option<Observation> {
        let routes = self.routes(id).ok()?;
        Some(Observation {
            namespace: id,
            change: Change::RoutesReplaced(routes),
        })
    }

    /// Reads the events of these namespaces, as far as they have come; where one socket listens to several, those of all of them.
    pub(crate) fn drain(&mut self, ids: &[NamespaceId]) -> Drained {
        let mut drained = Drained::default();
        if let Some(hub) = self
            .hub
            .as_ref()
            .filter(|_| ids.iter().any(|id| *id != NamespaceId::Host))
        {
            let (changes, overrun) = hub.read_all();
            drained.overrun |= overrun;
            drained.take(changes);
        }
        for id in ids {
            let socket = self.open.get(id).and_then(|space| space.sockets.events.as_ref());
            let Some(socket) = socket else { continue };
            let events = events::read_all(socket);
            drained.overrun |= events.overrun;
            drained.take(events.changes.into_iter().map(|(_, change)| (*id, change)));
        }
        for id in std::mem::take(&mut drained.routes_lost) {
            drained.observations.extend(self.reread_routes(id));
        }
        let firewall = self.firewall.as_mut().filter(|_| ids.contains(&NamespaceId::Host));
        match firewall.map(Ruleset::drain).transpose() {
            Ok(changes) => drained.observations.extend(changes.unwrap_or_default()),
            Err(error) => {
                tracing::warn!(%error, "the packet filter cannot be read");
                drained.overrun = true;
            }
        }
        drained
    }
}

impl Drained {
    fn take(&mut self, changes: impl IntoIterator<Item = (NamespaceId, Change)>) {
        for (namespace, change) in changes {
            if let Change::RouteSet(route) | Change::RouteReplaced(route) | Change::RouteGone(route) = &change
                && !concerns(namespace, route)
            {
                continue;
            }
            if drops_routes(&change) {
                self.routes_lost.insert(namespace);
            }
            self.observations.push(Observation { namespace, change });
        }
    }
}

fn concerns(id: NamespaceId, route: &InstalledRoute) -> bool {
    id != NamespaceId::Host || route.protocol == PROTOCOL
}

/// Whether IPv4 routes may have vanished along with this, which the kernel does not tell (`fib_sync_down_addr`). Those of a link that goes
/// down the mirror drops by itself.
fn drops_routes(change: &Change) -> bool {
    matches!(change, Change::AddressGone(..))
}

fn vlans(space: &mut Space) -> io::Result<Vec<(u32, Vlans)>> {
    let ports = space.sockets.wire.dump(bridge::ports())?;
    let changes = ports.into_iter().flatten().filter_map(message::change);
    let vlans = changes.filter_map(|change| match change {
        Change::Vlans(index, vlans) => Some((index, vlans)),
        _ => None,
    });
    Ok(vlans.collect())
}
