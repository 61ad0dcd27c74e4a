//! The chains and rules: the same on every host, whatever the rows are.
//!
//! What they do: publish ports (destination translation), give packets that leave another source, keep networks from each other, keep ports of
//! bridges from using addresses that are not theirs. All that differs is in the sets. (Ports are kept from each other by the bridge itself.)

use super::expression::{
    Expression, Load, accept, drop, find, goto, is, is_not, jump, leave, masquerade, not_local, outside, translate,
    translated, within,
};

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Protocols of Ethernet: ARP, IPv4, IPv6.
const ETHER_ARP: [u8; 2] = [0x08, 0x06];
const ETHER_IPV4: [u8; 2] = [0x08, 0x00];
const ETHER_IPV6: [u8; 2] = [0x86, 0xdd];

/// ARP between Ethernet addresses of six bytes about IPv4 addresses of four.
const ARP_KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Transport protocols.
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The ports of a DHCP client's request: 68 to 67.
const DHCP: [u8; 4] = [0, 68, 0, 67];

/// Messages of `ICMPv6`.
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const MULTICAST_REPORT: u8 = 143;

/// The first byte of loopback addresses.
const LOOPBACK: u8 = 127;

/// Where a chain begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    /// `filter` or `nat`.
    pub(super) kind: &'static str,
    /// The hook's number (`NF_INET_PRE_ROUTING` and so on, the same for bridges).
    pub(super) hook: u32,
    /// The priority.
    pub(super) priority: i32,
}

/// A chain.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    /// Whether it is in the table of family `bridge`, not `inet`.
    pub(super) bridge: bool,
    /// None for a chain that others jump to.
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Vec<Expression>>,
}

const PREROUTING: u32 = 0;
pub(super) const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// All chains; those that others jump to come first.
pub(super) fn chains() -> Vec<Chain> {
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    let inet = |name, base, rules| Chain {
        name,
        bridge: false,
        base,
        rules,
    };
    let bridge = |name, base, rules| Chain {
        name,
        bridge: true,
        base,
        rules,
    };
    vec![
        inet("publish", None, publish()),
        inet("martians", base("filter", PREROUTING, -150), martians()),
        inet("prerouting", base("nat", PREROUTING, -100), prerouting()),
        inet("output", base("nat", OUTPUT, -100), vec![vec![jump("publish")]]),
        inet("postrouting", base("nat", POSTROUTING, 100), postrouting()),
        inet("forward", base("filter", FORWARD, 0), forward()),
        bridge("guard_arp", None, guard_arp()),
        bridge("guard_ipv4", None, guard_ipv4()),
        bridge("guard_ipv6", None, guard_ipv6()),
        bridge("guard", None, guard()),
        bridge(
            "prerouting",
            base("filter", PREROUTING, -300),
            vec![rule(&[within(&[Load::Iifname], "guarded")], goto("guard"))],
        ),
    ]
}

/// Conditions and what follows.
fn rule(conditions: &[Vec<Expression>], then: Expression) -> Vec<Expression> {
    let mut rule = conditions.concat();
    rule.push(then);
    rule
}

fn family(number: u8) -> Vec<Expression> {
    is(Load::Nfproto, &[number])
}

/// From a published port to the one who has it: the forwards of one address come before those of any.
fn publish() -> Vec<Vec<Expression>> {
    let to =
        |number, fields: &[Load], map, port| rule(&[family(number), find(fields, map)], translate(false, number, port));
    let four = [Load::L4proto, Load::Daddr4, Load::Dport];
    let six = [Load::L4proto, Load::Daddr6, Load::Dport];
    let any = [Load::L4proto, Load::Dport];
    vec![
        to(IPV4, &four, "forward4", true),
        to(IPV4, &four, "range4", false),
        to(IPV6, &six, "forward6", true),
        to(IPV6, &six, "range6", false),
        rule(&[not_local()], leave()),
        to(IPV4, &any, "any4", true),
        to(IPV4, &any, "anyrange4", false),
        to(IPV6, &any, "any6", true),
        to(IPV6, &any, "anyrange6", false),
    ]
}

/// A link that may carry packets of the host's loopback addresses carries none that did not begin on the host.
fn martians() -> Vec<Vec<Expression>> {
    [Load::Saddr4Net, Load::Daddr4Net]
        .into_iter()
        .map(|field| {
            let localnet = within(&[Load::Iifname], "localnet");
            rule(&[family(IPV4), localnet, is(field, &[LOOPBACK])], drop())
        })
        .collect()
}

fn prerouting() -> Vec<Vec<Expression>> {
    // What comes from outside for a loopback address must not be published before the kernel drops it.
    let mut lo = b"lo".to_vec();
    lo.resize(16, 0);
    vec![
        rule(
            &[
                family(IPV4),
                is_not(Load::Iifname, &lo),
                is(Load::Daddr4Net, &[LOOPBACK]),
            ],
            leave(),
        ),
        vec![jump("publish")],
    ]
}

fn postrouting() -> Vec<Vec<Expression>> {
    let pairs4 = [Load::Saddr4, Load::Daddr4];
    let pairs6 = [Load::Saddr6, Load::Daddr6];
    let localnet = within(&[Load::Oifname], "localnet");
    let source = |number, field, map| {
        rule(
            &[family(number), find(&[Load::Nfproto, field], map)],
            translate(true, number, false),
        )
    };
    vec![
        // Who reaches its own network by way of the host gets its answer by way of the host.
        rule(
            &[translated(false), family(IPV4), within(&pairs4, "hairpin4")],
            masquerade(),
        ),
        rule(
            &[translated(false), family(IPV6), within(&pairs6, "hairpin6")],
            masquerade(),
        ),
        rule(
            &[
                translated(false),
                family(IPV4),
                localnet,
                is(Load::Saddr4Net, &[LOOPBACK]),
            ],
            masquerade(),
        ),
        // What stays among own networks keeps its source; so does what a bridge passes on within itself.
        rule(
            &[family(IPV4), within(&[Load::Saddr4, Load::Oifname], "local4")],
            leave(),
        ),
        rule(
            &[family(IPV4), within(&[Load::Daddr4, Load::Oifname], "local4")],
            leave(),
        ),
        rule(
            &[family(IPV6), within(&[Load::Saddr6, Load::Oifname], "local6")],
            leave(),
        ),
        rule(
            &[family(IPV6), within(&[Load::Daddr6, Load::Oifname], "local6")],
            leave(),
        ),
        rule(
            &[family(IPV4), within(&[Load::Nfproto, Load::Saddr4], "masquerade4")],
            masquerade(),
        ),
        rule(
            &[family(IPV6), within(&[Load::Nfproto, Load::Saddr6], "masquerade6")],
            masquerade(),
        ),
        source(IPV4, Load::Saddr4, "source4"),
        source(IPV6, Load::Saddr6, "source6"),
    ]
}

fn forward() -> Vec<Vec<Expression>> {
    let one = |field, set| within(&[field], set);
    vec![
        rule(
            &[
                translated(true),
                family(IPV4),
                within(&[Load::Saddr4, Load::Daddr4], "private4"),
            ],
            drop(),
        ),
        rule(
            &[
                translated(true),
                family(IPV6),
                within(&[Load::Saddr6, Load::Daddr6], "private6"),
            ],
            drop(),
        ),
        // Where bridges ask the packet filter (bridge-nf-call-iptables), what stays within a bridge comes by, too.
        rule(&[within(&[Load::Iifname, Load::Oifname], "within")], accept()),
        rule(&[one(Load::Iifname, "internal")], drop()),
        rule(&[one(Load::Oifname, "internal")], drop()),
        rule(&[translated(false)], accept()),
        rule(&[one(Load::Iifname, "isolated"), one(Load::Oifname, "routed")], drop()),
        rule(&[one(Load::Iifname, "routed"), one(Load::Oifname, "isolated")], drop()),
    ]
}

fn guard() -> Vec<Vec<Expression>> {
    let to = |protocol: &[u8], chain| rule(&[is(Load::Protocol, protocol)], goto(chain));
    vec![
        rule(&[outside(&[Load::Iifname, Load::EtherSaddr], "guarded_mac")], drop()),
        to(&ETHER_ARP, "guard_arp"),
        to(&ETHER_IPV4, "guard_ipv4"),
        to(&ETHER_IPV6, "guard_ipv6"),
        vec![drop()],
    ]
}

fn guard_arp() -> Vec<Vec<Expression>> {
    vec![
        rule(&[is_not(Load::ArpKind, &ARP_KIND)], drop()),
        rule(&[outside(&[Load::Iifname, Load::ArpSender], "guarded_mac")], drop()),
        rule(&[within(&[Load::Iifname, Load::ArpSender4], "guarded4")], accept()),
        // A probe, before an address is taken.
        rule(&[is(Load::ArpSender4, &[0; 4])], accept()),
        vec![drop()],
    ]
}

fn guard_ipv4() -> Vec<Vec<Expression>> {
    vec![
        rule(&[within(&[Load::Iifname, Load::Saddr4], "guarded4")], accept()),
        rule(
            &[
                is(Load::Saddr4, &[0; 4]),
                is(Load::L4proto, &[UDP]),
                is(Load::Ports, &DHCP),
            ],
            accept(),
        ),
        vec![drop()],
    ]
}

fn guard_ipv6() -> Vec<Vec<Expression>> {
    let message = |number| [is(Load::L4proto, &[ICMPV6]), is(Load::Icmp6Type, &[number])].concat();
    let nobody = || is(Load::Saddr6, &[0; 16]);
    let own_target = || within(&[Load::Iifname, Load::NdTarget], "guarded6");
    vec![
        // Neither router nor anybody else.
        rule(&[message(ROUTER_ADVERTISEMENT)], drop()),
        rule(&[message(REDIRECT)], drop()),
        rule(
            &[
                message(NEIGHBOUR_ADVERTISEMENT),
                outside(&[Load::Iifname, Load::NdTarget], "guarded6"),
            ],
            drop(),
        ),
        rule(&[within(&[Load::Iifname, Load::Saddr6], "guarded6")], accept()),
        // Duplicate address detection, and what comes with it.
        rule(&[nobody(), message(NEIGHBOUR_SOLICITATION), own_target()], accept()),
        rule(&[nobody(), message(MULTICAST_REPORT)], accept()),
        vec![drop()],
    ]
}
