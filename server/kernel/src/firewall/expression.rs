//! What rules are made of: loads into registers, comparisons, look-ups, verdicts, translations.
//!
//! A rule is a list of these. Keys of sets are loaded from the first register of four bytes on, one field after the other.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta, MetaKey,
    Operator, Payload, Register, Verdict, VerdictAttribute,
};

/// One expression of a rule.
pub(super) type Expression = ListAttribute<ExpressionAttribute>;

/// The number of the first register of four bytes (`NFT_REG32_00`).
const FIRST: u32 = 8;

/// `NF_DROP` and `NF_ACCEPT`.
pub(super) const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// `NFT_LOOKUP_F_INV`.
const INVERTED: u32 = 1;

/// `NFT_PAYLOAD_LL_HEADER` and so on.
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// `NFT_CT_STATUS`, and the bit for a translated destination (`IPS_DST_NAT`).
const CT_STATUS: u32 = 2;
const DST_NAT: [u8; 4] = 0x20_u32.to_ne_bytes();

/// `NFT_FIB_RESULT_ADDRTYPE`, and `NFTA_FIB_F_DADDR`.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;

/// What can be loaded of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    Iifname,
    Oifname,
    /// The address family.
    Nfproto,
    L4proto,
    /// The Ethernet protocol.
    Protocol,
    Saddr4,
    Daddr4,
    Saddr6,
    Daddr6,
    Dport,
    /// Source and destination port.
    Ports,
    EtherSaddr,
    /// Hardware type, protocol type, and the lengths of both addresses.
    ArpKind,
    ArpSender,
    ArpSender4,
    /// The type of an `ICMPv6` message.
    Icmp6Type,
    /// The target of a neighbour solicitation or advertisement.
    NdTarget,
    /// The first byte of an IPv4 source or destination.
    Saddr4Net,
    Daddr4Net,
}

impl Load {
    /// Where it is, and how many bytes it has.
    fn place(self) -> Result<(u32, u32, u32), MetaKey> {
        Ok(match self {
            Self::Iifname => return Err(MetaKey::Iifname),
            Self::Oifname => return Err(MetaKey::Oifname),
            Self::Nfproto => return Err(MetaKey::Nfproto),
            Self::L4proto => return Err(MetaKey::L4Proto),
            Self::Protocol => return Err(MetaKey::EtherTypeProtocol),
            Self::Saddr4 => (NETWORK_HEADER, 12, 4),
            Self::Daddr4 => (NETWORK_HEADER, 16, 4),
            Self::Saddr6 => (NETWORK_HEADER, 8, 16),
            Self::Daddr6 => (NETWORK_HEADER, 24, 16),
            Self::Dport => (TRANSPORT_HEADER, 2, 2),
            Self::Ports => (TRANSPORT_HEADER, 0, 4),
            Self::EtherSaddr => (LINK_HEADER, 6, 6),
            Self::ArpKind => (NETWORK_HEADER, 0, 6),
            Self::ArpSender => (NETWORK_HEADER, 8, 6),
            Self::ArpSender4 => (NETWORK_HEADER, 14, 4),
            Self::Icmp6Type => (TRANSPORT_HEADER, 0, 1),
            Self::NdTarget => (TRANSPORT_HEADER, 8, 16),
            Self::Saddr4Net => (NETWORK_HEADER, 12, 1),
            Self::Daddr4Net => (NETWORK_HEADER, 16, 1),
        })
    }

    /// Registers that it takes.
    fn words(self) -> u32 {
        match self.place() {
            Ok((_, _, bytes)) => bytes.div_ceil(4),
            Err(MetaKey::Iifname | MetaKey::Oifname) => 4,
            Err(_) => 1,
        }
    }
}

fn register(number: u32) -> Register {
    Register::from(FIRST + number)
}

fn expression(name: &str, data: Expressions) -> Expression {
    ListAttribute::Element(vec![
        ExpressionAttribute::Name(name.into()),
        ExpressionAttribute::Data(data),
    ])
}

/// An expression that the crate has no type for: its attributes are numbers in network byte order.
fn other(name: &str, numbers: &[(u16, u32)]) -> Expression {
    let attributes = numbers
        .iter()
        .map(|(kind, number)| DefaultNla::new(*kind, number.to_be_bytes().to_vec()));
    expression(
        name,
        Expressions::Other {
            expression_type: name.into(),
            attributes: attributes.collect(),
        },
    )
}

/// Loads fields one after the other.
pub(super) fn load(fields: &[Load]) -> Vec<Expression> {
    let mut at = 0;
    let mut loads = Vec::new();
    for field in fields {
        loads.push(match field.place() {
            Ok((base, offset, bytes)) => expression(
                "payload",
                Expressions::Payload(vec![
                    Payload::DestinationRegister(register(at)),
                    Payload::Base(base),
                    Payload::Offset(offset),
                    Payload::Len(bytes),
                ]),
            ),
            Err(key) => expression(
                "meta",
                Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(register(at))]),
            ),
        });
        at += field.words();
    }
    loads
}

/// Goes on only if what was loaded equals (or, with `not`, differs from) these bytes.
pub(super) fn compare(bytes: &[u8], not: bool) -> Expression {
    let operator = if not { Operator::NotEqual } else { Operator::Equal };
    expression(
        "cmp",
        Expressions::Cmp(vec![
            Cmp::SourceRegister(register(0)),
            Cmp::Op(operator),
            Cmp::Data(DataAttribute::Value(bytes.to_vec())),
        ]),
    )
}

/// Goes on only if a field equals these bytes.
pub(super) fn is(field: Load, bytes: &[u8]) -> Vec<Expression> {
    let mut rule = load(&[field]);
    rule.push(compare(bytes, false));
    rule
}

/// Goes on only if a field differs from these bytes.
pub(super) fn is_not(field: Load, bytes: &[u8]) -> Vec<Expression> {
    let mut rule = load(&[field]);
    rule.push(compare(bytes, true));
    rule
}

fn lookup(set: &str, more: Option<Lookup>) -> Expression {
    let mut attributes = vec![Lookup::Set(set.into()), Lookup::SourceRegister(register(0))];
    attributes.extend(more);
    expression("lookup", Expressions::Lookup(attributes))
}

/// Goes on only if the fields are in a set.
pub(super) fn within(fields: &[Load], set: &str) -> Vec<Expression> {
    let mut rule = load(fields);
    rule.push(lookup(set, None));
    rule
}

/// Goes on only if the fields are not in a set.
pub(super) fn outside(fields: &[Load], set: &str) -> Vec<Expression> {
    let mut rule = load(fields);
    rule.push(lookup(set, Some(Lookup::Flags(INVERTED))));
    rule
}

/// Goes on only if the fields are in a map; what is found there is in the first registers then.
pub(super) fn find(fields: &[Load], map: &str) -> Vec<Expression> {
    let mut rule = load(fields);
    rule.push(lookup(map, Some(Lookup::DestinationRegister(register(0)))));
    rule
}

/// Goes on only if the destination of the connection was translated (or, with `not`, was not).
pub(super) fn translated(not: bool) -> Vec<Expression> {
    vec![
        other("ct", &[(1, FIRST), (2, CT_STATUS)]),
        expression(
            "bitwise",
            Expressions::Bitwise(vec![
                Bitwise::SourceRegister(register(0)),
                Bitwise::DestinationRegister(register(0)),
                Bitwise::Length(4),
                Bitwise::Mask(DataAttribute::Value(DST_NAT.to_vec())),
                Bitwise::Xor(DataAttribute::Value(vec![0; 4])),
            ]),
        ),
        compare(&[0; 4], !not),
    ]
}

/// Goes on only if the destination is no address of this host.
pub(super) fn not_local() -> Vec<Expression> {
    const RTN_LOCAL: [u8; 4] = 2_u32.to_ne_bytes();
    vec![
        other("fib", &[(1, FIRST), (2, FIB_ADDRESS_TYPE), (3, FIB_DESTINATION)]),
        compare(&RTN_LOCAL, true),
    ]
}

fn verdict(attributes: Vec<VerdictAttribute>) -> Expression {
    expression(
        "immediate",
        Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(attributes)),
        ]),
    )
}

pub(super) fn drop() -> Expression {
    verdict(vec![VerdictAttribute::Code(Verdict::Other(DROP))])
}

pub(super) fn accept() -> Expression {
    verdict(vec![VerdictAttribute::Code(Verdict::Other(ACCEPT))])
}

pub(super) fn leave() -> Expression {
    verdict(vec![VerdictAttribute::Code(Verdict::Return)])
}

pub(super) fn jump(chain: &str) -> Expression {
    verdict(vec![
        VerdictAttribute::Code(Verdict::Jump),
        VerdictAttribute::Chain(chain.into()),
    ])
}

pub(super) fn goto(chain: &str) -> Expression {
    verdict(vec![
        VerdictAttribute::Code(Verdict::Goto),
        VerdictAttribute::Chain(chain.into()),
    ])
}

/// Gives the connection the address of the link that it leaves by as its source.
pub(super) fn masquerade() -> Expression {
    other("masq", &[])
}

/// Translates to the address in the first registers (and the port after it).
pub(super) fn translate(source: bool, family: u8, port: bool) -> Expression {
    let words = if family == 2 { 1 } else { 4 };
    let mut numbers = vec![(1, u32::from(!source)), (2, u32::from(family)), (3, FIRST)];
    if port {
        numbers.push((5, FIRST + words));
    }
    other("nat", &numbers)
}
