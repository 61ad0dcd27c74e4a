//! Finds the namespaces that rows name, and notices when one comes or goes.
//!
//! Takes references to watch, gives what each of them stands for whenever that changes. Named namespaces are announced by inotify on
//! `/run/netns`, the end of a process by its pidfd; what nothing announces is looked for every 200 ms. It never enters a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ecow::{EcoString, eco_format};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nonnet_hooks::object::NetnsRef;

use crate::limits::{LOOK_EAGER_MS, LOOK_MS, LOOKS_EAGER_MAX};
use crate::lxc::Containers;
use crate::netns::{Netns, has_ended};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// Where that place itself appears, with the first name.
const NAMES_PARENT: &str = "/run";

/// The namespace that the server is in.
const HOST: &str = "/proc/thread-self/ns/net";

/// What a reference stands for.
#[derive(Debug)]
pub(crate) enum Found {
    /// This namespace.
    There(Netns),
    /// None, for this reason.
    Missing(EcoString),
}

/// The finder.
#[derive(Debug)]
pub(crate) struct Finder {
    watched: BTreeMap<NetnsRef, Watched>,
    /// Those whose process was found since somebody asked.
    fresh: Vec<NetnsRef>,
    names: Option<Inotify>,
    parent_only: bool,
    containers: Containers,
    next_look: Instant,
}

#[derive(Debug, Default)]
struct Watched {
    /// What was told last: the inode number, or the reason. `None`: nothing yet.
    told: Option<Result<u64, EcoString>>,
    /// The process by which it was found.
    process: Option<OwnedFd>,
    /// A file that stands for it is there but not mounted, or a container has not made it yet: looks since.
    eager: Option<u32>,
    /// A better answer may come without an event: a container starts where a namespace of its name was found.
    provisional: bool,
}

/// What one look at a reference gave.
struct Look {
    found: Found,
    process: Option<OwnedFd>,
    unmounted: bool,
    provisional: bool,
}

impl Finder {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            watched: BTreeMap::new(),
            fresh: Vec::new(),
            names: None,
            parent_only: true,
            containers: Containers::new(),
            next_look: now,
        }
    }

    /// Watches a reference; the next look answers for it.
    pub(crate) fn watch(&mut self, netns: NetnsRef, now: Instant) {
        self.watched.entry(netns).or_default();
        self.next_look = now;
    }

    /// Watches a reference no longer.
    pub(crate) fn unwatch(&mut self, netns: &NetnsRef) {
        self.watched.remove(netns);
    }

    /// The init process of the running container of this id.
    pub(crate) fn init(&self, id: &str) -> Option<u32> {
        self.containers.init(id)
    }

    /// The descriptor that becomes readable when the names of namespaces change.
    pub(crate) fn names(&self) -> Option<BorrowedFd<'_>> {
        self.names.as_ref().map(AsFd::as_fd)
    }

    /// Starts to listen for names of namespaces, or for the place where they will be. Gives whether it began just now.
    pub(crate) fn listen(&mut self) -> bool {
        if self.names.is_some() {
            return false;
        }
        let names = listen(NAMES).ok();
        self.parent_only = names.is_none();
        self.names = names.or_else(|| listen(NAMES_PARENT).ok());
        self.names.is_some()
    }

    /// Takes in that names changed: those that are concerned are looked at now. `false` when the place itself came or went, and
    /// the descriptor is closed.
    pub(crate) fn names_changed(&mut self, now: Instant) -> bool {
        let mut lost = false;
        for event in self
            .names
            .as_ref()
            .and_then(|names| names.read_events().ok())
            .unwrap_or_default()
        {
            let changed = event.name.as_ref().and_then(|name| name.to_str());
            lost |= event
                .mask
                .intersects(AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF);
            lost |= self.parent_only && changed == Some("netns");
            for (netns, watched) in &mut self.watched {
                let concerned = name_of(netns).is_some_and(|name| changed.is_none_or(|changed| changed == name));
                watched.provisional |= concerned || (lost && name_of(netns).is_some());
            }
            self.next_look = now;
        }
        if lost {
            self.names = None;
        }
        !lost
    }

    /// Marks every reference for a look: events may have been lost.
    pub(crate) fn doubt(&mut self, now: Instant) {
        for watched in self.watched.values_mut() {
            watched.provisional = true;
        }
        self.next_look = now;
    }

    /// The process by which a reference was found, held once more.
    pub(crate) fn process(&self, netns: &NetnsRef) -> Option<OwnedFd> {
        self.watched.get(netns)?.process.as_ref()?.try_clone().ok()
    }

    /// When the next look is due; `None`: when something is announced.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.watched.values().any(Watched::is_open).then_some(self.next_look)
    }

    /// The processes whose end is to be noticed, each once.
    pub(crate) fn fresh_processes(&mut self) -> Vec<&OwnedFd> {
        let fresh = std::mem::take(&mut self.fresh);
        let watched = fresh.iter().filter_map(|netns| self.watched.get(netns));
        watched.filter_map(|watched| watched.process.as_ref()).collect()
    }

    /// Looks where something may have changed, and gives what did.
    pub(crate) fn look(&mut self, now: Instant) -> Vec<(NetnsRef, Found)> {
        let due = now >= self.next_look;
        let ended = |watched: &Watched| watched.process.as_ref().is_some_and(has_ended);
        let concerned = |watched: &Watched| ended(watched) || (due && watched.is_open());
        let open: BTreeSet<NetnsRef> = self
            .watched
            .iter()
            .filter(|(_, watched)| concerned(watched))
            .map(|(netns, _)| netns.clone())
            .collect();
        if open.iter().any(|netns| matches!(netns, NetnsRef::Lxc { .. })) {
            self.containers.look(now);
        }
        let mut changes = Vec::new();
        for netns in open {
            let Look {
                found,
                process,
                unmounted,
                provisional,
            } = self.look_at(&netns);
            let Some(watched) = self.watched.get_mut(&netns) else {
                continue;
            };
            watched.eager = unmounted.then(|| watched.eager.map_or(0, |looks| looks.saturating_add(1)));
            watched.provisional = provisional;
            if process.is_some() {
                self.fresh.push(netns.clone());
            }
            watched.process = process;
            let told = match &found {
                Found::There(found) => Ok(found.inode()),
                Found::Missing(reason) => Err(reason.clone()),
            };
            if watched.told.as_ref() != Some(&told) {
                watched.told = Some(told);
                changes.push((netns, found));
            }
        }
        if due {
            let eager = self
                .watched
                .values()
                .any(|w| w.eager.is_some_and(|looks| looks < LOOKS_EAGER_MAX));
            self.next_look = now + Duration::from_millis(if eager { LOOK_EAGER_MS } else { LOOK_MS });
        }
        changes
    }

    fn look_at(&self, netns: &NetnsRef) -> Look {
        match netns {
            NetnsRef::Host => look_at_path(netns, Path::new(HOST), false),
            NetnsRef::Name(name) => look_at_path(netns, &PathBuf::from(NAMES).join(name.as_str()), false),
            // Nothing announces a change of what is mounted on some path.
            NetnsRef::Path(path) => look_at_path(netns, Path::new(path.as_str()), true),
            NetnsRef::Pid(pid) => look_at_process(netns, *pid),
            NetnsRef::Lxc { id } => match self.containers.init(id) {
                Some(init) => look_at_container(netns, id, init),
                None => Self::look_at_namesake(netns, id),
            },
        }
    }

    /// Without a running container of this id, the namespace of that name stands in, until one runs.
    fn look_at_namesake(netns: &NetnsRef, id: &EcoString) -> Look {
        let mut look = look_at_path(netns, &PathBuf::from(NAMES).join(id.as_str()), true);
        if matches!(look.found, Found::Missing(_)) {
            let reason = eco_format!("container {id} is not running, and there is no namespace {id}");
            look.found = Found::Missing(reason);
        }
        look
    }
}

impl Watched {
    fn is_open(&self) -> bool {
        self.provisional || !matches!(self.told, Some(Ok(_)))
    }
}

fn name_of(netns: &NetnsRef) -> Option<&str> {
    match netns {
        NetnsRef::Name(name) | NetnsRef::Lxc { id: name } => Some(name),
        NetnsRef::Host | NetnsRef::Path(_) | NetnsRef::Pid(_) => None,
    }
}

fn look_at_path(netns: &NetnsRef, path: &Path, provisional: bool) -> Look {
    let (found, unmounted) = match Netns::open(path) {
        Ok(Some(found)) => (Found::There(found), false),
        Ok(None) => (
            Found::Missing(eco_format!("{} is not a network namespace", path.display())),
            true,
        ),
        Err(error) => (Found::Missing(missing(netns, &error)), false),
    };
    Look {
        found,
        process: None,
        unmounted,
        provisional,
    }
}

/// A container's init begins in this host's namespace and leaves it then: nothing may be put there meanwhile.
fn look_at_container(netns: &NetnsRef, id: &EcoString, init: u32) -> Look {
    let look = look_at_process(netns, init);
    let host = Netns::open(Path::new(HOST)).ok().flatten();
    let left = |found: &Netns| host.is_some_and(|host| host.inode() != found.inode());
    match &look.found {
        Found::There(found) if !left(found) => Look {
            found: Found::Missing(eco_format!("container {id} has no network namespace of its own")),
            process: None,
            unmounted: true,
            provisional: true,
        },
        Found::There(_) | Found::Missing(_) => look,
    }
}

fn look_at_process(netns: &NetnsRef, pid: u32) -> Look {
    match Netns::of_process(pid) {
        Ok((found, process)) => Look {
            found: Found::There(found),
            process: Some(process),
            unmounted: false,
            provisional: false,
        },
        Err(error) => Look {
            found: Found::Missing(missing(netns, &error)),
            process: None,
            unmounted: false,
            provisional: false,
        },
    }
}

fn missing(netns: &NetnsRef, error: &io::Error) -> EcoString {
    let gone = error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH);
    if gone {
        eco_format!("{netns} does not exist")
    } else {
        eco_format!("{netns} cannot be opened: {error}")
    }
}

fn listen(place: &str) -> nix::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let events = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(place, events)?;
    Ok(inotify)
}
