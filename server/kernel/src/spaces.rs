//! The open namespaces: their sockets, their dumps, their events.
//!
//! Takes namespaces that were found, gives observations. Several references may stand for one namespace; it is closed with the last of them, since
//! an open socket would keep a dead container's namespace alive.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::BorrowedFd;

use nonnet_hooks::mirror::{Change, NamespaceId, Observation, Snapshot};
use nonnet_hooks::object::firewall::Installed;
use nonnet_hooks::object::{NetnsRef, Vlans};

use crate::firewall::Ruleset;
use crate::hub::Hub;
use crate::limits::{EVENT_BUFFER_BYTES, EVENT_BUFFER_INSIDE_BYTES};
use crate::netns::{Netns, Sockets};
use crate::probe;
use crate::wire::Wire;
use crate::{dump, events};

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
        self.open
            .get_mut(&id)
            .map_or_else(|| Ok(Vec::new()), |space| dump::vlans(&mut space.sockets.wire))
    }

    /// Reads all that a namespace has.
    pub(crate) fn dump(&mut self, id: NamespaceId) -> io::Result<Observation> {
        let ipv6 = self.ipv6;
        let snapshot = dump::snapshot(self.wire(id)?, id, ipv6)?;
        self.observation(id, snapshot)
    }

    /// Reads all that every namespace has; the host's comes last: it tells that the dump is complete.
    pub(crate) fn dump_all(&mut self) -> Vec<Observation> {
        let ipv6 = self.ipv6;
        let spaces: Vec<(NamespaceId, &mut Wire)> = self
            .open
            .iter_mut()
            .map(|(id, space)| (*id, &mut space.sockets.wire))
            .collect();
        let mut snapshots = dump::snapshots(spaces, ipv6);
        snapshots.sort_by_key(|(id, _)| *id == NamespaceId::Host);
        let observed = snapshots.into_iter().filter_map(|(id, snapshot)| {
            let observed = snapshot.and_then(|snapshot| self.observation(id, snapshot));
            observed
                .inspect_err(|error| tracing::warn!(%error, namespace = %id, "a namespace cannot be read"))
                .ok()
        });
        observed.collect()
    }

    /// A namespace as it was read; of the host, the packet filter is read besides.
    fn observation(&mut self, id: NamespaceId, mut snapshot: Snapshot) -> io::Result<Observation> {
        if id == NamespaceId::Host {
            let firewall = self.firewall.as_mut().map(Ruleset::read).transpose()?;
            snapshot.firewall = Some(firewall.unwrap_or_else(Installed::unsupported));
        }
        Ok(Observation {
            namespace: id,
            change: Change::Replaced(snapshot),
        })
    }

    fn wire(&mut self, id: NamespaceId) -> io::Result<&mut Wire> {
        let space = self.open.get_mut(&id);
        space
            .map(|space| &mut space.sockets.wire)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// Reads the routes of a namespace, some of which the kernel dropped without an event.
    fn reread_routes(&mut self, id: NamespaceId) -> Option<Observation> {
        let ipv6 = self.ipv6;
        let routes = dump::routes(self.wire(id).ok()?, id, ipv6).ok()?;
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
                && !dump::concerns(namespace, route)
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

/// Whether IPv4 routes may have vanished along with this, which the kernel does not tell (`fib_sync_down_addr`). Those of a link that goes
/// down the mirror drops by itself.
fn drops_routes(change: &Change) -> bool {
    matches!(change, Change::AddressGone(..))
}
