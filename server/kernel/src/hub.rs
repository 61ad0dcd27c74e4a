//! One socket for the events of all namespaces besides the server's own.
//!
//! For each event the kernel walks the list of all sockets that listen, of whatever namespace they are: with one in each of a thousand
//! namespaces, a thousand containers cost a million steps and more. So one socket listens to all of them (`NETLINK_LISTEN_ALL_NSID`). It
//! stands in an empty namespace of its own, so that nobody else's numbers for namespaces are touched, and that a container that floods it
//! drowns no event of the host. Takes namespaces, gives changes with the namespace that each is from.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::Socket;
use nix::sched::{CloneFlags, unshare};
use nonnet_hooks::mirror::{Change, NamespaceId};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use crate::events;
use crate::limits::EVENT_BUFFER_ALL_BYTES;
use crate::netns::{Netns, listen};
use crate::wire::Wire;

/// The socket, and the numbers by which the kernel calls namespaces there.
#[derive(Debug)]
pub(crate) struct Hub {
    events: Socket,
    wire: Wire,
    namespaces: HashMap<i32, NamespaceId>,
    numbers: HashMap<NamespaceId, i32>,
}

impl Hub {
    /// Makes the namespace and the socket in it; the sockets keep it.
    ///
    /// # Errors
    /// When a namespace cannot be made, or the socket may not listen to others.
    pub(crate) fn open() -> io::Result<Self> {
        let made = std::thread::spawn(|| -> io::Result<(Socket, Wire)> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let events = listen(EVENT_BUFFER_ALL_BYTES)?;
            events.set_listen_all_namespaces(true)?;
            Ok((events, Wire::open()?))
        });
        let (events, wire) = made
            .join()
            .map_err(|_| io::Error::other("the thread that makes a namespace panicked"))??;
        Ok(Self {
            events,
            wire,
            namespaces: HashMap::new(),
            numbers: HashMap::new(),
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Listens to a namespace from now on.
    pub(crate) fn join(&mut self, netns: &Netns, id: NamespaceId) -> io::Result<()> {
        let fd = u32::try_from(netns.raw()).map_err(io::Error::other)?;
        let mut name = NsidMessage::default();
        name.attributes.push(NsidAttribute::Fd(fd));
        let ask = RouteNetlinkMessage::GetNsId(name.clone());
        // The kernel chooses a number. One that has a number already keeps it, and that is an error here.
        name.attributes.push(NsidAttribute::Id(-1));
        let answers = self
            .wire
            .call(vec![(RouteNetlinkMessage::NewNsId(name), 0), (ask, 0)])?;
        let number = answers
            .into_iter()
            .last()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))?
            .map_err(|refused| io::Error::from_raw_os_error(refused.errno))?
            .iter()
            .find_map(number_in)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))?;
        self.namespaces.insert(number, id);
        self.numbers.insert(id, number);
        Ok(())
    }

    /// Listens to a namespace no longer: what it says is dropped here.
    pub(crate) fn leave(&mut self, id: NamespaceId) {
        if let Some(number) = self.numbers.remove(&id) {
            self.namespaces.remove(&number);
        }
    }

    /// Reads all that has come, of each namespace in its order. Gives whether something was lost, too.
    pub(crate) fn read_all(&self) -> (Vec<(NamespaceId, Change)>, bool) {
        let events = events::read_all(&self.events);
        let known = events
            .changes
            .into_iter()
            .filter_map(|(number, change)| Some((*self.namespaces.get(&number?)?, change)));
        (known.collect(), events.overrun)
    }
}

fn number_in(message: &RouteNetlinkMessage) -> Option<i32> {
    let RouteNetlinkMessage::NewNsId(answer) = message else {
        return None;
    };
    answer.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(number) if *number >= 0 => Some(*number),
        _ => None,
    })
}
