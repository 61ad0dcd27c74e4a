//! The open namespaces: their sockets, their dumps, their events.
//!
//! Takes namespaces that were found, gives observations. Several references may stand for one namespace; it is closed with the last of them, since
//! an open socket would keep a dead container's namespace alive.

use std::collections::{BTreeSet, HashMap};
use std::io;

use nonnet_hooks::limits::PROTOCOL;
use nonnet_hooks::mirror::{Change, InstalledRoute, NamespaceId, Observation, Snapshot};
use nonnet_hooks::object::NetnsRef;
use rtnetlink::packet_route::AddressFamily;

use crate::message;
use crate::netns::{Netns, Sockets};
use crate::wire::{Part, parts, read};

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
    open: HashMap<NamespaceId, Space>,
    home: u64,
    ipv6: bool,
}

/// What was read from the sockets for events.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) observations: Vec<Observation>,
    /// Events were lost.
    pub(crate) overrun: bool,
}

impl Spaces {
    /// Opens the namespace of the calling thread, which is the server's own.
    pub(crate) fn new(ipv6: bool) -> io::Result<Self> {
        let netns = Netns::own()?;
        let home = netns.inode();
        let sockets = netns.sockets(&netns)?;
        let space = Space {
            netns,
            sockets,
            references: BTreeSet::new(),
        };
        Ok(Self {
            open: HashMap::from([(NamespaceId::Host, space)]),
            home,
            ipv6,
        })
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
            space.references.insert(reference);
            return Ok(None);
        }
        let home = self
            .home()
            .ok_or_else(|| io::Error::other("the server's own namespace is not open"))?;
        let sockets = netns.sockets(&home.netns)?;
        self.open.insert(
            id,
            Space {
                netns,
                sockets,
                references: BTreeSet::from([reference]),
            },
        );
        match self.dump(id) {
            Ok(dump) => Ok(Some(dump)),
            Err(error) => {
                self.open.remove(&id);
                Err(error)
            }
        }
    }

    /// Gives up a reference, wherever it pointed except to `keep`; namespaces that have none left are closed.
    pub(crate) fn close(&mut self, reference: &NetnsRef, keep: Option<NamespaceId>) -> Vec<Observation> {
        let mut closed = Vec::new();
        for (id, space) in &mut self.open {
            let left = Some(*id) != keep && space.references.remove(reference);
            if left && space.references.is_empty() && *id != NamespaceId::Host {
                closed.push(*id);
            }
        }
        for id in &closed {
            self.open.remove(id);
        }
        closed
            .into_iter()
            .map(|namespace| Observation {
                namespace,
                change: Change::Gone,
            })
            .collect()
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
        Ok(Observation {
            namespace: id,
            change: Change::Replaced(snapshot),
        })
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

    /// Reads the events of these namespaces, as far as they have come.
    pub(crate) fn drain(&mut self, ids: &[NamespaceId]) -> Drained {
        let mut drained = Drained::default();
        let mut routes_lost = Vec::new();
        for id in ids {
            let Some(space) = self.open.get(id) else { continue };
            let before = drained.observations.len();
            drained.overrun |= events(*id, space, &mut drained.observations);
            if drained
                .observations
                .iter()
                .skip(before)
                .any(|o| drops_routes(&o.change))
            {
                routes_lost.push(*id);
            }
        }
        for id in routes_lost {
            drained.observations.extend(self.reread_routes(id));
        }
        drained
    }
}

/// Reads what a socket has. Gives whether it had to drop something.
fn events(id: NamespaceId, space: &Space, observations: &mut Vec<Observation>) -> bool {
    let mut buffer = Vec::new();
    let mut overrun = false;
    loop {
        match read(&space.sockets.events, &mut buffer) {
            Ok(()) => {
                let changes = parts(&buffer).into_iter().filter_map(|(_, part)| change(part));
                let ours = changes.filter(|change| match change {
                    Change::RouteSet(route) | Change::RouteGone(route) => concerns(id, route),
                    _ => true,
                });
                observations.extend(ours.map(|change| Observation { namespace: id, change }));
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => overrun = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return overrun,
            Err(error) => {
                tracing::warn!(%error, namespace = %id, "events cannot be read");
                return true;
            }
        }
    }
}

fn change(part: Part) -> Option<Change> {
    match part {
        Part::Message(message) => message::change(message),
        Part::Done | Part::Ack(_) => None,
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
