//! Flows that the kernel remembers (conntrack), of forwards that change: they would go on to where they went before.
//!
//! Takes the elements of a change and gives, of flows, those that are to be forgotten, so that their next packet is looked at anew: those that a
//! forward led to a place that it does not lead to any more, and those without connections (UDP) that now have another place to go to. What goes
//! where it should goes on undisturbed.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use nonnet_hooks::object::firewall::{Element, ElementChange, Part, Protocol, Set};

use super::element::address;
use super::wire::{Told, attribute};

/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_ZONE`.
pub(super) const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
pub(super) const ZONE: u16 = 18;

/// `CTA_TUPLE_IP`, `CTA_TUPLE_PROTO`.
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;

/// `CTA_IP_V4_SRC` and so on.
const SOURCES: [u16; 2] = [1, 3];
const DESTINATIONS: [u16; 2] = [2, 4];

/// `CTA_PROTO_NUM`, `CTA_PROTO_SRC_PORT`, `CTA_PROTO_DST_PORT`.
const NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// A forward, as an element says it.
#[derive(Clone, Debug)]
struct Forward {
    protocol: Protocol,
    /// The address at which it is reached; none for all of the host.
    at: Option<IpAddr>,
    first: u16,
    last: u16,
    to: IpAddr,
    /// None leads to the same port.
    port: Option<u16>,
}

/// Forwards, by protocol and port; those of many ports apart.
#[derive(Debug, Default)]
struct Forwards {
    single: HashMap<(u8, u16), Vec<Forward>>,
    ranges: Vec<Forward>,
}

/// What a change does to forwards.
#[derive(Debug, Default)]
pub(super) struct Moved {
    gone: Forwards,
    come: Forwards,
    /// Whether flows of IPv4, and of IPv6, may be concerned.
    families: [bool; 2],
}

/// A flow: where its packets are sent, and where they arrive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    protocol: u8,
    sent: (IpAddr, u16),
    arrives: (IpAddr, u16),
}

impl Moved {
    /// What these changes do to forwards.
    pub(super) fn by<'a>(changes: impl Iterator<Item = &'a ElementChange>) -> Self {
        let mut moved = Self::default();
        for change in changes {
            for forward in change.delete.iter().filter_map(Forward::of) {
                moved.families[usize::from(forward.to.is_ipv6())] = true;
                moved.gone.insert(forward);
            }
            for forward in change.add.iter().filter_map(Forward::of) {
                // Whoever connects anew is led anew.
                moved.families[usize::from(forward.to.is_ipv6())] |= forward.protocol != Protocol::Tcp;
                moved.come.insert(forward);
            }
        }
        moved
    }

    /// Whether flows of a family may be concerned.
    pub(super) fn concerns(&self, ipv4: bool) -> bool {
        self.families[usize::from(!ipv4)]
    }

    /// Whether a flow goes where it should not. `own` are the addresses of the host.
    pub(super) fn is_stale(&self, flow: &Flow, own: &BTreeSet<IpAddr>) -> bool {
        let leads = |forward: &Forward| flow.arrives == forward.target(flow.sent.1);
        let now = self.come.find(flow);
        if now.is_some_and(leads) {
            return false;
        }
        let is_reached = |forward: &Forward| forward.at.is_some() || own.contains(&flow.sent.0);
        let begins_anew = flow.protocol == Protocol::Tcp as u8;
        self.gone.find(flow).is_some_and(leads) || (!begins_anew && now.is_some_and(is_reached))
    }
}

impl Forwards {
    fn insert(&mut self, forward: Forward) {
        if forward.first == forward.last {
            let place = (forward.protocol as u8, forward.first);
            self.single.entry(place).or_default().push(forward);
        } else {
            self.ranges.push(forward);
        }
    }

    /// The forward that a flow is for: that of one address comes before that of all.
    fn find(&self, flow: &Flow) -> Option<&Forward> {
        let single = self.single.get(&(flow.protocol, flow.sent.1)).into_iter().flatten();
        let all = single.chain(&self.ranges).filter(|forward| forward.is_for(flow));
        all.min_by_key(|forward| forward.at.is_none())
    }
}

impl Forward {
    fn of(element: &Element) -> Option<Self> {
        use Set::{Any4, Any6, AnyRange4, AnyRange6, Forward4, Forward6, Range4, Range6};
        let sets = [Any4, Any6, AnyRange4, AnyRange6, Forward4, Forward6, Range4, Range6];
        if !sets.contains(&element.key.set) {
            return None;
        }
        let (protocol, at, ports) = match element.key.key.as_slice() {
            [Part::Protocol(protocol), Part::Address(at), ports] => (*protocol, Some(*at), ports),
            [Part::Protocol(protocol), ports] => (*protocol, None, ports),
            _ => return None,
        };
        let (first, last) = match ports {
            Part::Port(port) => (*port, *port),
            Part::Ports(first, last) => (*first, *last),
            _ => return None,
        };
        let (to, port) = match element.data.as_slice() {
            [Part::Address(to), Part::Port(port)] => (*to, Some(*port)),
            [Part::Address(to)] => (*to, None),
            _ => return None,
        };
        Some(Self {
            protocol,
            at,
            first,
            last,
            to,
            port,
        })
    }

    fn is_for(&self, flow: &Flow) -> bool {
        self.protocol as u8 == flow.protocol
            && self.to.is_ipv4() == flow.sent.0.is_ipv4()
            && self.at.is_none_or(|at| at == flow.sent.0)
            && (self.first..=self.last).contains(&flow.sent.1)
    }

    /// Where what is sent to this port arrives.
    fn target(&self, sent: u16) -> (IpAddr, u16) {
        (self.to, self.port.unwrap_or(sent))
    }
}

impl Flow {
    /// The flow that a message tells of; none if it has no ports.
    pub(super) fn of(told: &Told) -> Option<Self> {
        let (original, reply) = (told.attribute(ORIGINAL)?, told.attribute(REPLY)?);
        let protocol = attribute(attribute(original, TUPLE_PROTOCOL)?, NUMBER)?;
        Some(Self {
            protocol: *protocol.first()?,
            sent: end(original, DESTINATIONS, DESTINATION_PORT)?,
            // Who answers is where it arrives.
            arrives: end(reply, SOURCES, SOURCE_PORT)?,
        })
    }
}

fn end(tuple: &[u8], addresses: [u16; 2], port: u16) -> Option<(IpAddr, u16)> {
    let of = attribute(tuple, TUPLE_ADDRESSES)?;
    let bytes = addresses.into_iter().find_map(|kind| attribute(of, kind))?;
    let port = attribute(attribute(tuple, TUPLE_PROTOCOL)?, port)?;
    Some((address(bytes)?, u16::from_be_bytes(*port.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use nonnet_hooks::object::firewall::ElementKey;

    use super::*;

    fn any(protocol: Protocol, port: u16, last: u8) -> Element {
        Element {
            key: ElementKey {
                set: Set::Any4,
                key: vec![Part::Protocol(protocol), Part::Port(port)],
            },
            data: vec![Part::Address(IpAddr::from([10, 0, 0, last])), Part::Port(80)],
        }
    }

    fn flow(protocol: Protocol, port: u16, arrives: ([u8; 4], u16)) -> Flow {
        Flow {
            protocol: protocol as u8,
            sent: (IpAddr::from([192, 0, 2, 1]), port),
            arrives: (IpAddr::from(arrives.0), arrives.1),
        }
    }

    #[test]
    fn flows_that_go_where_nobody_leads_them_are_stale() {
        let own = BTreeSet::from([IpAddr::from([192, 0, 2, 1])]);
        let stale = |delete: &[Element], add: &[Element], flow: Flow| {
            let change = ElementChange {
                delete: delete.to_vec(),
                add: add.to_vec(),
                ..ElementChange::default()
            };
            Moved::by(std::iter::once(&change)).is_stale(&flow, &own)
        };
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (one, two) = ([any(protocol, 53, 1)], [any(protocol, 53, 2)]);
            let at = |last| flow(protocol, 53, ([10, 0, 0, last], 80));
            let untranslated = flow(protocol, 53, ([192, 0, 2, 1], 53));
            let other = flow(protocol, 54, ([10, 0, 0, 1], 80));
            assert!(stale(&one, &[], at(1)));
            assert!(!stale(&one, &[], at(2)));
            assert!(!stale(&one, &[], other));
            assert!(!stale(&one, &one, at(1)));
            assert!(stale(&one, &two, at(1)));
            // To an own program on the host.
            assert_eq!(stale(&[], &two, untranslated), protocol == Protocol::Udp);
        }
        let abroad = Flow {
            sent: (IpAddr::from([203, 0, 113, 1]), 53),
            ..flow(Protocol::Udp, 53, ([203, 0, 113, 1], 53))
        };
        assert!(!stale(&[], &[any(Protocol::Udp, 53, 1)], abroad));
    }
}
