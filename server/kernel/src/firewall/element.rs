//! Elements of sets as the kernel has them: the fields of keys and data one after the other, each in words of four bytes.
//!
//! Takes elements and gives attributes, and the other way around. What cannot be read is none of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{DataAttribute, ListAttribute, SetElementAttribute};
use nonnet_hooks::name::{LinkName, Mac};
use nonnet_hooks::object::Owner;
use nonnet_hooks::object::firewall::{Element, ElementKey, Field, Part, Protocol, Set};

use super::wire::{attribute, attributes, text};

/// `NFTA_DATA_VALUE`.
const DATA_VALUE: u16 = 1;
/// `NFTA_SET_ELEM_KEY` and so on.
const KEY: u16 = 1;
const DATA: u16 = 2;
const USERDATA: u16 = 6;
const KEY_END: u16 = 10;

/// Bytes of a link's name in a key (`IFNAMSIZ`).
const LINK_BYTES: usize = 16;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Bytes of a field's value, without padding.
pub(super) fn bytes_of(field: Field) -> usize {
    match field {
        Field::Family | Field::Protocol => 1,
        Field::Port => 2,
        Field::Ipv4 => 4,
        Field::Mac => 6,
        Field::Ipv6 | Field::Link => 16,
    }
}

/// Bytes of fields one after the other, each padded to whole words.
pub(super) fn length(fields: &[Field]) -> usize {
    fields.iter().map(|field| bytes_of(*field).next_multiple_of(4)).sum()
}

/// The attributes of an element; `owner` marks it.
pub(super) fn encode(element: &Element, owner: Option<&Owner>) -> ListAttribute<SetElementAttribute> {
    let shape = element.key.set.shape();
    let (from, to) = values(shape.key, &element.key.key);
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(from))];
    if shape.ranges {
        attributes.push(SetElementAttribute::KeyEnd(vec![DefaultNla::new(DATA_VALUE, to)]));
    }
    if !element.data.is_empty() {
        let (data, _) = values(shape.data, &element.data);
        attributes.push(SetElementAttribute::Data(DataAttribute::Value(data)));
    }
    if let Some(owner) = owner {
        attributes.push(SetElementAttribute::UserData(comment(&owner.alias())));
    }
    ListAttribute::Element(attributes)
}

/// A comment as `nft` shows it: type 0, length, text, NUL.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// The text of a comment.
pub(super) fn commented(bytes: &[u8]) -> Option<&str> {
    bytes.strip_prefix(&[0]).and_then(|rest| text(rest.get(1..)?))
}

/// The lowest and the highest value of a key.
fn values(fields: &[Field], parts: &[Part]) -> (Vec<u8>, Vec<u8>) {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    let mut parts = parts.iter();
    for field in fields {
        let (low, high) = match field {
            Field::Family => family(parts.as_slice()),
            _ => parts.next().map(value).unwrap_or_default(),
        };
        for (bytes, value) in [(&mut from, low), (&mut to, high)] {
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    (from, to)
}

/// The family of what follows.
fn family(parts: &[Part]) -> (Vec<u8>, Vec<u8>) {
    let ipv6 = |part: &Part| match part {
        Part::Address(address) => address.is_ipv6(),
        Part::Subnet(net) => net.addr().is_ipv6(),
        _ => false,
    };
    let number = if parts.iter().any(ipv6) { IPV6 } else { IPV4 };
    (vec![number], vec![number])
}

fn value(part: &Part) -> (Vec<u8>, Vec<u8>) {
    let same = |bytes: Vec<u8>| (bytes.clone(), bytes);
    match part {
        Part::Link(name) => {
            let mut bytes = name.as_str().as_bytes().to_vec();
            bytes.resize(LINK_BYTES, 0);
            same(bytes)
        }
        Part::Address(address) => same(octets(*address)),
        Part::Subnet(net) => (octets(net.network()), octets(net.broadcast())),
        Part::Mac(mac) => same(mac.0.to_vec()),
        Part::Protocol(protocol) => same(vec![*protocol as u8]),
        Part::Port(number) => same(number.to_be_bytes().to_vec()),
        Part::Ports(first, last) => (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec()),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    }
}

/// The elements in a list (`NFTA_SET_ELEM_LIST_ELEMENTS`), each with the owner that it is marked with.
pub(super) fn decode(set: Set, list: &[u8]) -> Vec<(Element, Owner)> {
    attributes(list)
        .filter_map(|(_, bytes)| decode_one(set, bytes))
        .collect()
}

fn decode_one(set: Set, bytes: &[u8]) -> Option<(Element, Owner)> {
    let shape = set.shape();
    let value = |kind| attribute(attribute(bytes, kind)?, DATA_VALUE);
    let from = value(KEY)?;
    let to = if shape.ranges {
        value(KEY_END).unwrap_or(from)
    } else {
        from
    };
    let data = match shape.data {
        [] => Vec::new(),
        fields => {
            let data = value(DATA)?;
            parts(fields, data, data, false)?
        }
    };
    let key = ElementKey {
        set,
        key: parts(shape.key, from, to, shape.ranges)?,
    };
    let owner = attribute(bytes, USERDATA)
        .and_then(commented)
        .and_then(Owner::from_alias);
    let nobody = Owner {
        table: ecow::EcoString::new(),
        uuid: 0,
    };
    Some((Element { key, data }, owner.unwrap_or(nobody)))
}

fn parts(fields: &[Field], mut from: &[u8], mut to: &[u8], ranges: bool) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    for field in fields {
        let bytes = bytes_of(*field);
        let (low, high) = (from.get(..bytes)?, to.get(..bytes)?);
        from = from.get(bytes.next_multiple_of(4)..).unwrap_or_default();
        to = to.get(bytes.next_multiple_of(4)..).unwrap_or_default();
        if *field != Field::Family {
            parts.push(part(*field, low, high, ranges)?);
        }
    }
    Some(parts)
}

fn part(field: Field, low: &[u8], high: &[u8], ranges: bool) -> Option<Part> {
    Some(match field {
        Field::Family => return None,
        Field::Link => Part::Link(LinkName::observed(text(low)?)),
        Field::Mac => Part::Mac(Mac(*low.first_chunk()?)),
        Field::Protocol => Part::Protocol(Protocol::numbered(*low.first()?)?),
        Field::Port => {
            let (low, high) = (
                u16::from_be_bytes(*low.first_chunk()?),
                u16::from_be_bytes(*high.first_chunk()?),
            );
            if ranges {
                Part::Ports(low, high)
            } else {
                Part::Port(low)
            }
        }
        Field::Ipv4 | Field::Ipv6 => {
            let (low, high) = (address(low)?, address(high)?);
            if ranges {
                subnet(low, high).map_or(Part::Address(low), Part::Subnet)
            } else {
                Part::Address(low)
            }
        }
    })
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// The subnet from the first address to the last; none for one address alone, which stands for itself.
fn subnet(low: IpAddr, high: IpAddr) -> Option<IpNet> {
    let differing = match (low, high) {
        (IpAddr::V4(low), IpAddr::V4(high)) => 32 - (low.to_bits() ^ high.to_bits()).leading_zeros(),
        (IpAddr::V6(low), IpAddr::V6(high)) => 128 - (low.to_bits() ^ high.to_bits()).leading_zeros(),
        _ => return None,
    };
    let whole: u32 = if low.is_ipv4() { 32 } else { 128 };
    let net = IpNet::new(low, u8::try_from(whole - differing).ok()?).ok()?;
    (differing > 0 && net.network() == low && net.broadcast() == high).then_some(net)
}
