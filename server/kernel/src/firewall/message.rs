//! Messages of the packet filter: tables, chains, rules, sets, elements.

use netlink_packet_core::{DefaultNla, Emitable as _, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, InetHookNumber, NfTablesMessage, RuleAttribute, RuleMessage,
    SetAttribute, SetDescription, SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableFlags,
    TableMessage,
};
use nonnet_hooks::object::Owner;
use nonnet_hooks::object::firewall::{Element, Field, Set, Shape};

use super::element::{bytes_of, comment, encode, length};
use super::expression::Expression;
use super::flows::{ORIGINAL, ZONE};
use super::rules::{Base, Chain};
use super::wire::{Request, Told};
use crate::limits::ELEMENTS_PER_MESSAGE;

/// The policy of a chain that lets packets pass (`NF_ACCEPT`).
const ACCEPT: u32 = 1;

/// `NFTA_LIST_ELEM`, and `NFTA_SET_FIELD_LEN`.
const LIST_ELEMENT: u16 = 1;
const FIELD_LENGTH: u16 = 1;

/// `NFTNL_UDATA_SET_KEYBYTEORDER` with the length of its value, and that value (`BYTEORDER_HOST_ENDIAN` of `nft`).
const KEY_BYTE_ORDER: [u8; 2] = [0, 4];
const HOST_BYTE_ORDER: [u8; 4] = 1_u32.to_ne_bytes();

/// The flag of nested attributes.
const NESTED: u16 = 0x8000;

pub(super) fn family(bridge: bool) -> NetfilterProtoFamily {
    if bridge {
        NetfilterProtoFamily::Bridge
    } else {
        NetfilterProtoFamily::Inet
    }
}

/// The family of flows.
pub(super) fn family_of(ipv4: bool) -> NetfilterProtoFamily {
    if ipv4 {
        NetfilterProtoFamily::IPv4
    } else {
        NetfilterProtoFamily::IPv6
    }
}

/// Makes a table, or changes its flags.
pub(super) fn table(bridge: bool, name: &str, flags: TableFlags) -> Request {
    let attributes = vec![TableAttribute::Name(name.into()), TableAttribute::Flags(flags)];
    let message = NfTablesMessage::NewTable(TableMessage { attributes });
    (family(bridge), message, NLM_F_CREATE)
}

pub(super) fn table_delete(bridge: bool, name: &str) -> Request {
    let attributes = vec![TableAttribute::Name(name.into())];
    (
        family(bridge),
        NfTablesMessage::DeleteTable(TableMessage { attributes }),
        0,
    )
}

pub(super) fn table_get(name: &str) -> NfTablesMessage {
    let attributes = vec![TableAttribute::Name(name.into())];
    NfTablesMessage::GetTable(TableMessage { attributes })
}

pub(super) fn chain(table: &str, chain: &Chain) -> Request {
    let mut attributes = vec![
        ChainAttribute::Table(table.into()),
        ChainAttribute::Name(chain.name.into()),
    ];
    if let Some(Base { kind, hook, priority }) = chain.base {
        attributes.extend([
            ChainAttribute::Hook(vec![
                Hook::Number(HookNumber::Inet(InetHookNumber::from(hook))),
                Hook::Priority(priority.cast_unsigned()),
            ]),
            ChainAttribute::Policy(ACCEPT),
            ChainAttribute::Type(kind.into()),
        ]);
    }
    let message = NfTablesMessage::NewChain(ChainMessage { attributes });
    (family(chain.bridge), message, NLM_F_CREATE)
}

/// Deletes all rules of a chain.
pub(super) fn flush(bridge: bool, table: &str, chain: &str) -> Request {
    let attributes = vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.into())];
    (
        family(bridge),
        NfTablesMessage::DeleteRule(RuleMessage { attributes }),
        0,
    )
}

pub(super) fn chain_delete(bridge: bool, table: &str, chain: &str) -> Request {
    let attributes = vec![ChainAttribute::Table(table.into()), ChainAttribute::Name(chain.into())];
    (
        family(bridge),
        NfTablesMessage::DeleteChain(ChainMessage { attributes }),
        0,
    )
}

pub(super) fn rule(table: &str, chain: &Chain, at: usize, expressions: &[Expression]) -> Request {
    let attributes = vec![
        RuleAttribute::Table(table.into()),
        RuleAttribute::Chain(chain.name.into()),
        RuleAttribute::Expressions(expressions.to_vec()),
        RuleAttribute::UserData(comment(&mark(chain.name, at, expressions))),
    ];
    let message = NfTablesMessage::NewRule(RuleMessage { attributes });
    (family(chain.bridge), message, NLM_F_CREATE | NLM_F_APPEND)
}

/// The comment by which a rule is known: its place, and a checksum of what it does (FNV-1a).
pub(super) fn mark(chain: &str, at: usize, expressions: &[Expression]) -> String {
    let mut bytes = vec![0; expressions.buffer_len()];
    expressions.emit(&mut bytes);
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("nonnet {chain} {at} {sum:016x}")
}

pub(super) fn set(table: &str, number: u32, set: Set) -> Request {
    let shape = set.shape();
    let mut flags = SetFlags::default();
    let mut attributes = vec![
        SetAttribute::Table(table.into()),
        SetAttribute::Name(shape.name.into()),
        SetAttribute::KeyType(kind(shape.key)),
        SetAttribute::KeyLen(length(shape.key) as u32),
    ];
    if shape.ranges {
        flags |= SetFlags::Interval | SetFlags::Concat;
        attributes.push(SetAttribute::Description(vec![SetDescription::Concat(fields(&shape))]));
    }
    if !shape.data.is_empty() {
        flags |= SetFlags::Map;
        attributes.push(SetAttribute::DataType(kind(shape.data)));
        attributes.push(SetAttribute::DataLen(length(shape.data) as u32));
    }
    if let [Field::Link] = shape.key {
        // By this alone `nft` knows how to show a name.
        attributes.push(SetAttribute::UserData([&KEY_BYTE_ORDER[..], &HOST_BYTE_ORDER].concat()));
    }
    attributes.push(SetAttribute::Flags(flags));
    attributes.push(SetAttribute::Id(number));
    let message = NfTablesMessage::NewSet(SetMessage { attributes });
    (family(shape.bridge), message, NLM_F_CREATE)
}

/// The length of each field of a key.
fn fields(shape: &Shape) -> Vec<DefaultNla> {
    let one = |field: &Field| {
        let length = DefaultNla::new(FIELD_LENGTH, (bytes_of(*field) as u32).to_be_bytes().to_vec());
        let mut bytes = vec![0; length.buffer_len()];
        length.emit(&mut bytes);
        DefaultNla::new(LIST_ELEMENT | NESTED, bytes)
    };
    shape.key.iter().map(one).collect()
}

/// The type by which `nft` shows keys: six bits per field.
fn kind(fields: &[Field]) -> u32 {
    let number = |field: &Field| match field {
        Field::Family => 2,
        Field::Ipv4 => 7,
        Field::Ipv6 => 8,
        Field::Mac => 9,
        Field::Protocol => 12,
        Field::Port => 13,
        Field::Link => 41,
    };
    fields.iter().fold(0, |kind, field| (kind << 6) | number(field))
}

/// Messages that take elements out of their sets.
pub(super) fn elements_delete(table: &str, elements: &[Element]) -> Vec<Request> {
    elements_of(table, elements.iter().map(|element| (element, None)), |message| {
        (NfTablesMessage::DeleteSetElement(message), 0)
    })
}

/// Messages that put elements into their sets, marked with their owners.
pub(super) fn elements_add<'a>(
    table: &str,
    elements: impl Iterator<Item = (&'a Element, Option<&'a Owner>)>,
) -> Vec<Request> {
    elements_of(table, elements, |message| {
        (NfTablesMessage::NewSetElement(message), NLM_F_CREATE)
    })
}

fn elements_of<'a>(
    table: &str,
    elements: impl Iterator<Item = (&'a Element, Option<&'a Owner>)>,
    message: impl Fn(SetElementMessage) -> (NfTablesMessage, u16),
) -> Vec<Request> {
    let mut elements: Vec<_> = elements.collect();
    elements.sort_by_key(|(element, _)| element.key.set);
    let mut requests = Vec::new();
    for of_set in elements.chunk_by(|(a, _), (b, _)| a.key.set == b.key.set) {
        for some in of_set.chunks(ELEMENTS_PER_MESSAGE) {
            let Some((first, _)) = some.first() else { continue };
            let shape = first.key.set.shape();
            let attributes = vec![
                SetElementList::Table(table.into()),
                SetElementList::Set(shape.name.into()),
                SetElementList::Elements(some.iter().map(|(element, owner)| encode(element, *owner)).collect()),
            ];
            let (message, flags) = message(SetElementMessage { attributes });
            requests.push((family(shape.bridge), message, flags));
        }
    }
    requests
}

/// Asks for the elements of a set.
pub(super) fn elements_get(table: &str, set: Set) -> NfTablesMessage {
    NfTablesMessage::GetSetElement(SetElementMessage {
        attributes: vec![
            SetElementList::Table(table.into()),
            SetElementList::Set(set.shape().name.into()),
        ],
    })
}

/// Asks for chains: all of a family.
pub(super) fn chains_get() -> NfTablesMessage {
    NfTablesMessage::GetChain(ChainMessage { attributes: vec![] })
}

/// Asks for the rules of a table (and chain).
pub(super) fn rules_get(table: &str, chain: Option<&str>) -> NfTablesMessage {
    let mut attributes = vec![RuleAttribute::Table(table.into())];
    attributes.extend(chain.map(|chain| RuleAttribute::Chain(chain.into())));
    NfTablesMessage::GetRule(RuleMessage { attributes })
}

/// Asks for flows: all of a family.
pub(super) fn flows_get() -> ConntrackMessage {
    ConntrackMessage::Get(vec![])
}

/// Forgets a flow, as it was told of.
pub(super) fn flow_delete(told: &Told) -> ConntrackMessage {
    let same = |kind: u16, flag: u16| {
        let value = told.attribute(kind)?.to_vec();
        Some(ConntrackAttribute::Other(DefaultNla::new(kind | flag, value)))
    };
    ConntrackMessage::Delete(same(ORIGINAL, NESTED).into_iter().chain(same(ZONE, 0)).collect())
}
