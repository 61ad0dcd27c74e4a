//! Reads what a namespace has to say, without what it takes back in the same breath.
//!
//! One veth that comes tells of itself some fifteen times, each time in all its attributes. Of messages about one link between which it stays
//! up only the last is decoded, and of those between which it stays down the first and the last: a link that goes down loses its routes
//! then, not later. Takes a socket for events, gives changes in their order, each with the number of the namespace that it is
//! from if that is not the socket's own.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::AsRawFd;

use netlink_sys::Socket;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnknownCmsg, recvmsg};
use nonnet_hooks::mirror::Change;

use crate::limits::{DATAGRAM_BYTES_MAX, EVENTS_BYTES_MAX};
use crate::message;
use crate::traffic;
use crate::wire::{Part, parts};

/// `RTM_NEWLINK` and `RTM_DELLINK` of linux/rtnetlink.h.
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;

/// `IFF_UP` of linux/if.h.
const UP: u32 = 1;

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) changes: Vec<(Option<i32>, Change)>,
    /// The socket had to drop something.
    pub(crate) overrun: bool,
}

/// Datagrams as they came, one after the other.
#[derive(Debug, Default)]
struct Datagrams {
    bytes: Vec<u8>,
    /// Where each ends, and the namespace that it is from.
    ends: Vec<(usize, Option<i32>)>,
}

/// The last message about a link.
struct Last {
    /// Its place among all.
    at: usize,
    up: bool,
    /// Whether the link may have been the other way before.
    turned: bool,
}

/// Reads all that has come.
pub(crate) fn read_all(socket: &Socket) -> Events {
    let mut events = Events::default();
    let mut datagrams = Datagrams::default();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match datagrams.receive(socket, &mut buffer) {
            Ok(()) if datagrams.bytes.len() < EVENTS_BYTES_MAX => {}
            Ok(()) => events.changes.extend(std::mem::take(&mut datagrams).changes()),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => events.overrun = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!(%error, "events cannot be read");
                    events.overrun = true;
                }
                events.changes.extend(datagrams.changes());
                return events;
            }
        }
    }
}

impl Datagrams {
    fn receive(&mut self, socket: &Socket, buffer: &mut [u8]) -> io::Result<()> {
        let mut control = nix::cmsg_space!(libc::c_int);
        let mut parts = [IoSliceMut::new(buffer)];
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
        let origin = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Unknown(message) => origin(&message),
            _ => None,
        });
        let length = received.bytes;
        self.bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
        self.ends.push((self.bytes.len(), origin));
        Ok(())
    }

    fn changes(self) -> Vec<(Option<i32>, Change)> {
        let mut changes = Vec::new();
        for (range, origin) in self.last_of_each().into_iter().flatten() {
            for (_, part) in parts(self.bytes.get(range).unwrap_or_default()) {
                changes.extend(told(part).into_iter().map(|change| (origin, change)));
            }
        }
        changes
    }

    /// The messages in their order, with none in the place of those that the next about the same link makes void.
    fn last_of_each(&self) -> Vec<Option<(Range<usize>, Option<i32>)>> {
        let mut messages: Vec<Option<(Range<usize>, Option<i32>)>> = Vec::new();
        let mut last: HashMap<(Option<i32>, u32), Last> = HashMap::new();
        let mut start = 0;
        for (end, origin) in &self.ends {
            while let Some(range) = message_at(&self.bytes, start, *end) {
                start = range.end.next_multiple_of(4);
                let message = self.bytes.get(range.clone()).unwrap_or_default();
                match link_of(message) {
                    Some((NEW_LINK, index, up)) => {
                        let before = last.get(&(*origin, index)).filter(|before| before.up == up);
                        let void = before.filter(|before| up || !before.turned);
                        if let Some(place) = void.and_then(|before| messages.get_mut(before.at)) {
                            *place = None;
                        }
                        let now = Last {
                            at: messages.len(),
                            up,
                            turned: before.is_none(),
                        };
                        last.insert((*origin, index), now);
                    }
                    Some((_, index, _)) => {
                        last.remove(&(*origin, index));
                    }
                    None => {}
                }
                messages.push(Some((range, *origin)));
            }
            start = *end;
        }
        messages
    }
}

fn told(part: Part) -> Vec<Change> {
    let (message, replaces) = match part {
        Part::Message(message) => (message, false),
        Part::Replacement(message) => (message, true),
        Part::Done | Part::Ack(_) => return Vec::new(),
    };
    let traffic = traffic::changes(&message);
    if !traffic.is_empty() {
        return traffic;
    }
    let change = message::change(message).map(|change| match change {
        Change::RouteSet(route) if replaces => Change::RouteReplaced(route),
        other => other,
    });
    change.into_iter().collect()
}

/// The number of the namespace that a datagram is from: `netlink_cmsg_listen_all_nsid` of the kernel writes it.
fn origin(message: &UnknownCmsg) -> Option<i32> {
    let header = &message.cmsg_header;
    let tells = header.cmsg_level == libc::SOL_NETLINK && header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID;
    let number = message.data_bytes.first_chunk::<4>().filter(|_| tells)?;
    Some(i32::from_ne_bytes(*number))
}

/// Where the message that begins at `start` lies, if all of it is there before `end`.
fn message_at(bytes: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let datagram = bytes.get(start..end)?;
    let length = u32::from_ne_bytes(*datagram.first_chunk::<4>()?) as usize;
    (length >= HEADER_BYTES && length <= datagram.len()).then_some(start..start + length)
}

/// Kind, index and `IFF_UP` of a message about a link itself (`struct ifinfomsg`), not about its part in a bridge.
fn link_of(message: &[u8]) -> Option<(u16, u32, bool)> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk::<2>()?);
    let about = message.get(HEADER_BYTES..)?;
    let number = |at: usize| Some(u32::from_ne_bytes(*about.get(at..)?.first_chunk::<4>()?));
    let (index, flags) = (number(4)?, number(8)?);
    ((kind == NEW_LINK || kind == DEL_LINK) && about.first() == Some(&0)).then_some((kind, index, flags & UP != 0))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
    use nonnet_hooks::mirror::{Mirror, NamespaceId, Observation, Snapshot};
    use proptest::prelude::*;
    use rtnetlink::packet_route::RouteNetlinkMessage;
    use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

    use super::*;

    #[derive(Clone, Debug)]
    enum Said {
        Link { index: u32, name: u8, mtu: u32, up: bool },
        Gone { index: u32 },
        Address { index: u32, last: u8, there: bool },
        Route { index: u32, net: u8 },
    }

    fn said() -> impl Strategy<Value = Said> {
        let index = 1_u32..4;
        prop_oneof![
            6 => (index.clone(), 0_u8..3, 1400_u32..1402, any::<bool>())
                .prop_map(|(index, name, mtu, up)| Said::Link { index, name, mtu, up }),
            1 => index.clone().prop_map(|index| Said::Gone { index }),
            2 => (index.clone(), 1_u8..3, any::<bool>()).prop_map(|(index, last, there)| Said::Address { index, last, there }),
            2 => (index, 0_u8..3).prop_map(|(index, net)| Said::Route { index, net }),
        ]
    }

    fn message(said: &Said) -> RouteNetlinkMessage {
        let link = |index: u32, up: bool| {
            let mut link = LinkMessage::default();
            link.header.index = index;
            link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
            link
        };
        match said {
            Said::Link { index, name, mtu, up } => {
                let mut link = link(*index, *up);
                // Names of their own: the kernel never gives one name twice.
                link.attributes.push(LinkAttribute::IfName(format!("l{index}{name}")));
                link.attributes.push(LinkAttribute::Mtu(*mtu));
                RouteNetlinkMessage::NewLink(link)
            }
            Said::Gone { index } => RouteNetlinkMessage::DelLink(link(*index, false)),
            Said::Address { index, last, there } => {
                let address = format!("10.0.0.{last}/24").parse().unwrap();
                match (message::address_add(*index, address, false).0, there) {
                    (RouteNetlinkMessage::NewAddress(address), false) => RouteNetlinkMessage::DelAddress(address),
                    (message, _) => message,
                }
            }
            Said::Route { index, net } => {
                let route = nonnet_hooks::object::Route::to(format!("10.{net}.0.0/16").parse().unwrap(), None);
                message::route_add(Some(*index), &route).0
            }
        }
    }

    fn bytes(message: RouteNetlinkMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
        message.serialize(&mut bytes);
        bytes
    }

    fn mirrored(changes: impl IntoIterator<Item = Change>) -> Mirror {
        let mut mirror = Mirror::default();
        let empty = Change::Replaced(Snapshot::default());
        for change in [empty].into_iter().chain(changes) {
            let namespace = NamespaceId::Host;
            mirror.apply(Observation { namespace, change });
        }
        mirror
    }

    fn shown(mirror: &Mirror) -> String {
        let host = mirror.host().unwrap();
        let of = |index: Option<u32>| {
            let addresses: Vec<_> = index.map(|index| host.addresses(index).collect()).unwrap_or_default();
            format!("{addresses:?} {:?}", host.routes(index).collect::<Vec<_>>())
        };
        let indexes = (1..4).map(Some).chain([None]);
        let links: Vec<_> = host.links().collect();
        format!("{links:?} {:?}", indexes.map(of).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn what_is_left_out_changes_nothing(said in prop::collection::vec(said(), 0..40), cuts in prop::collection::vec(any::<bool>(), 40)) {
            let all = said.iter().filter_map(|said| message::change(message(said)));
            let mut datagrams = Datagrams::default();
            for (said, cut) in said.iter().zip(cuts) {
                datagrams.bytes.extend(bytes(message(said)));
                if cut {
                    datagrams.ends.push((datagrams.bytes.len(), None));
                }
            }
            datagrams.ends.push((datagrams.bytes.len(), None));
            let left = datagrams.changes().into_iter().map(|(_, change)| change);
            prop_assert_eq!(shown(&mirrored(all)), shown(&mirrored(left)));
        }
    }

    #[test]
    fn a_link_that_only_changes_is_told_once_in_each_namespace() {
        let link = |mtu| Said::Link {
            index: 1,
            name: 0,
            mtu,
            up: true,
        };
        let mut datagrams = Datagrams::default();
        for mtu in 1400..1415 {
            // In every other namespace the link of this index is another one.
            for origin in [None, Some(0), Some(1)] {
                datagrams.bytes.extend(bytes(message(&link(mtu))));
                datagrams.ends.push((datagrams.bytes.len(), origin));
            }
        }
        let changes = datagrams.changes();
        let origins: Vec<Option<i32>> = changes.iter().map(|(origin, _)| *origin).collect();
        assert_eq!(origins, [None, Some(0), Some(1)]);
        let last = |change: &Change| matches!(change, Change::LinkSet(link) if link.mtu == 1414);
        assert!(changes.iter().all(|(_, change)| last(change)), "{changes:?}");
    }
}
