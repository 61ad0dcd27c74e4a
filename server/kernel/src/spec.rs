//! Between the settings of a link's kind and the attributes that carry them (`IFLA_INFO_KIND`, `IFLA_INFO_DATA`).
//!
//! Pure; it never sends. A tap device is told by such attributes but not made by them: see [`crate::tap`].

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Nla};
use nonnet_hooks::name::Mac;
use nonnet_hooks::object::{
    Bond, BondHash, BondMode, Geneve, Ipvlan, IpvlanMode, IpvlanReach, Macvlan, MacvlanMode, Spec, Tap, Vlan, Vxlan,
};
use rtnetlink::packet_route::link::{
    BondLacpRate, BondMode as WireBondMode, BondXmitHashPolicy, InfoBond, InfoData, InfoGeneve, InfoIpVlan, InfoKind,
    InfoMacVlan, InfoMacVtap, InfoTun, InfoVlan, InfoVxlan, IpVlanFlags, IpVlanMode as WireIpvlanMode, LinkInfo,
    MacVlanMacAddressMode, MacVlanMode as WireMacvlanMode, VlanProtocol,
};

/// `IFLA_TUN_*` of `linux/if_link.h`.
const TUN_OWNER: u16 = 1;
const TUN_GROUP: u16 = 2;
const TUN_TYPE: u16 = 3;
const TUN_VNET_HDR: u16 = 5;
const TUN_MULTI_QUEUE: u16 = 7;

/// `IFF_TAP` as `IFLA_TUN_TYPE` has it.
const TYPE_TAP: u8 = 2;

/// The attributes of a link that is to be made; `parent` is the index of the link that it is on.
pub(crate) fn create(spec: &Spec, parent: Option<u32>) -> Vec<LinkInfo> {
    let mut data = change_data(spec);
    match (&mut data, spec) {
        (Some(InfoData::Vxlan(data)), Spec::Vxlan(vxlan)) => {
            data.insert(0, InfoVxlan::Id(vxlan.vni));
            data.push(InfoVxlan::Port(vxlan.port));
            data.extend(parent.map(InfoVxlan::Link));
        }
        (Some(InfoData::Geneve(data)), Spec::Geneve(geneve)) => {
            data.insert(0, InfoGeneve::Id(geneve.vni));
            data.push(InfoGeneve::Port(geneve.port));
        }
        (Some(InfoData::Bond(data)), Spec::Bond(bond)) => {
            data.insert(0, InfoBond::Mode(WireBondMode::from(bond.mode as u8)));
            if bond.mode == BondMode::Lacp {
                let rate = if bond.lacp_fast {
                    BondLacpRate::Fast
                } else {
                    BondLacpRate::Slow
                };
                data.push(InfoBond::AdLacpRate(rate));
            }
        }
        (data, Spec::Vlan(vlan)) => {
            let protocol = if vlan.service {
                VlanProtocol::Ieee8021Ad
            } else {
                VlanProtocol::Ieee8021Q
            };
            *data = Some(InfoData::Vlan(vec![
                InfoVlan::Id(vlan.tag),
                InfoVlan::Protocol(protocol),
            ]));
        }
        _ => {}
    }
    infos(spec, data)
}

/// The attributes that change a link which exists: without those that the kernel fixes when it makes one.
pub(crate) fn change(spec: &Spec) -> Vec<LinkInfo> {
    infos(spec, change_data(spec))
}

fn infos(spec: &Spec, data: Option<InfoData>) -> Vec<LinkInfo> {
    let kind = LinkInfo::Kind(InfoKind::from(spec.kind()));
    std::iter::once(kind).chain(data.map(LinkInfo::Data)).collect()
}

fn change_data(spec: &Spec) -> Option<InfoData> {
    Some(match spec {
        Spec::Macvlan(macvlan) => {
            let mut data = vec![InfoMacVlan::Mode(macvlan_mode(macvlan.mode))];
            if macvlan.mode == MacvlanMode::Source {
                data.push(InfoMacVlan::MacAddrMode(MacVlanMacAddressMode::Set));
                let sources = macvlan.sources.iter().map(|mac| InfoMacVlan::MacAddr(mac.0));
                data.push(InfoMacVlan::MacAddrData(sources.collect()));
            }
            InfoData::MacVlan(data)
        }
        Spec::Macvtap(macvlan) => {
            let mut data = vec![InfoMacVtap::Mode(macvlan_mode(macvlan.mode))];
            if macvlan.mode == MacvlanMode::Source {
                data.push(InfoMacVtap::MacAddrMode(MacVlanMacAddressMode::Set));
                let sources = macvlan.sources.iter().map(|mac| InfoMacVtap::MacAddr(mac.0));
                data.push(InfoMacVtap::MacAddrData(sources.collect()));
            }
            InfoData::MacVtap(data)
        }
        Spec::Ipvlan(ipvlan) => {
            let mode = match ipvlan.mode {
                IpvlanMode::L2 => WireIpvlanMode::L2,
                IpvlanMode::L3 => WireIpvlanMode::L3,
                IpvlanMode::L3s => WireIpvlanMode::L3S,
            };
            let flags = match ipvlan.reach {
                IpvlanReach::Bridge => IpVlanFlags::empty(),
                IpvlanReach::Private => IpVlanFlags::Private,
                IpvlanReach::Vepa => IpVlanFlags::Vepa,
            };
            InfoData::IpVlan(vec![InfoIpVlan::Mode(mode), InfoIpVlan::Flags(flags)])
        }
        Spec::Vxlan(vxlan) => {
            let mut data = vec![InfoVxlan::Learning(vxlan.learning), InfoVxlan::Ttl(vxlan.ttl)];
            data.extend(vxlan.local.map(|local| match local {
                IpAddr::V4(four) => InfoVxlan::Local(four),
                IpAddr::V6(six) => InfoVxlan::Local6(six),
            }));
            data.extend(vxlan.remote.map(|remote| match remote {
                IpAddr::V4(four) => InfoVxlan::Group(four),
                IpAddr::V6(six) => InfoVxlan::Group6(six),
            }));
            InfoData::Vxlan(data)
        }
        Spec::Geneve(geneve) => {
            let mut data = vec![InfoGeneve::Ttl(geneve.ttl)];
            data.extend(geneve.remote.map(|remote| match remote {
                IpAddr::V4(four) => InfoGeneve::Remote(four),
                IpAddr::V6(six) => InfoGeneve::Remote6(six),
            }));
            InfoData::Geneve(data)
        }
        Spec::Bond(bond) => InfoData::Bond(vec![
            InfoBond::MiiMon(bond.miimon_ms),
            InfoBond::UpDelay(bond.up_delay_ms),
            InfoBond::DownDelay(bond.down_delay_ms),
            InfoBond::XmitHashPolicy(BondXmitHashPolicy::from(bond.hash as u8)),
        ]),
        Spec::Vlan(_) | Spec::Tap(_) | Spec::Tun | Spec::Wireguard | Spec::Dummy => return None,
    })
}

fn macvlan_mode(mode: MacvlanMode) -> WireMacvlanMode {
    match mode {
        MacvlanMode::Bridge => WireMacvlanMode::Bridge,
        MacvlanMode::Vepa => WireMacvlanMode::Vepa,
        MacvlanMode::Private => WireMacvlanMode::Private,
        MacvlanMode::Passthru => WireMacvlanMode::Passthrough,
        MacvlanMode::Source => WireMacvlanMode::Source,
    }
}

fn macvlan_mode_of(mode: WireMacvlanMode) -> Option<MacvlanMode> {
    Some(match mode {
        WireMacvlanMode::Bridge => MacvlanMode::Bridge,
        WireMacvlanMode::Vepa => MacvlanMode::Vepa,
        WireMacvlanMode::Private => MacvlanMode::Private,
        WireMacvlanMode::Passthrough => MacvlanMode::Passthru,
        WireMacvlanMode::Source => MacvlanMode::Source,
        _ => return None,
    })
}

/// The settings that a message tells; none for kinds that nonnet does not make, and for values that it does not know.
pub(crate) fn spec_of(infos: &[LinkInfo]) -> Option<Spec> {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })?;
    match kind {
        InfoKind::Dummy => return Some(Spec::Dummy),
        InfoKind::Wireguard => return Some(Spec::Wireguard),
        _ => {}
    }
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    })?;
    match data {
        InfoData::MacVlan(data) => macvlan_of(data).map(Spec::Macvlan),
        InfoData::MacVtap(data) => macvtap_of(data).map(Spec::Macvtap),
        InfoData::IpVlan(data) => ipvlan_of(data).map(Spec::Ipvlan),
        InfoData::Vlan(data) => vlan_of(data).map(Spec::Vlan),
        InfoData::Vxlan(data) => vxlan_of(data).map(Spec::Vxlan),
        InfoData::Geneve(data) => geneve_of(data).map(Spec::Geneve),
        InfoData::Bond(data) => bond_of(data).map(Spec::Bond),
        InfoData::Tun(data) => Some(tap_of(data).map_or(Spec::Tun, Spec::Tap)),
        _ => None,
    }
}

/// The index of the link that a tunnel sends through, which it tells among its settings.
pub(crate) fn parent_of(infos: &[LinkInfo]) -> Option<u32> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => data.iter().find_map(|info| match info {
            InfoVxlan::Link(index) => Some(*index).filter(|index| *index != 0),
            _ => None,
        }),
        _ => None,
    })
}

fn macvlan_of(data: &[InfoMacVlan]) -> Option<Macvlan> {
    let mut macvlan = Macvlan::default();
    for info in data {
        match info {
            InfoMacVlan::Mode(mode) => macvlan.mode = macvlan_mode_of(*mode)?,
            InfoMacVlan::MacAddrData(sources) => macvlan.sources.extend(sources.iter().filter_map(|info| match info {
                InfoMacVlan::MacAddr(mac) => Some(Mac(*mac)),
                _ => None,
            })),
            _ => {}
        }
    }
    Some(macvlan)
}

fn macvtap_of(data: &[InfoMacVtap]) -> Option<Macvlan> {
    let mut macvlan = Macvlan::default();
    for info in data {
        match info {
            InfoMacVtap::Mode(mode) => macvlan.mode = macvlan_mode_of(*mode)?,
            InfoMacVtap::MacAddrData(sources) => macvlan.sources.extend(sources.iter().filter_map(|info| match info {
                InfoMacVtap::MacAddr(mac) => Some(Mac(*mac)),
                _ => None,
            })),
            _ => {}
        }
    }
    Some(macvlan)
}

fn ipvlan_of(data: &[InfoIpVlan]) -> Option<Ipvlan> {
    let mut ipvlan = Ipvlan::default();
    for info in data {
        match info {
            InfoIpVlan::Mode(WireIpvlanMode::L2) => ipvlan.mode = IpvlanMode::L2,
            InfoIpVlan::Mode(WireIpvlanMode::L3) => ipvlan.mode = IpvlanMode::L3,
            InfoIpVlan::Mode(WireIpvlanMode::L3S) => ipvlan.mode = IpvlanMode::L3s,
            InfoIpVlan::Mode(_) => return None,
            InfoIpVlan::Flags(flags) if flags.contains(IpVlanFlags::Private) => ipvlan.reach = IpvlanReach::Private,
            InfoIpVlan::Flags(flags) if flags.contains(IpVlanFlags::Vepa) => ipvlan.reach = IpvlanReach::Vepa,
            _ => {}
        }
    }
    Some(ipvlan)
}

fn vlan_of(data: &[InfoVlan]) -> Option<Vlan> {
    let tag = data.iter().find_map(|info| match info {
        InfoVlan::Id(tag) => Some(*tag),
        _ => None,
    })?;
    let service = data.contains(&InfoVlan::Protocol(VlanProtocol::Ieee8021Ad));
    Some(Vlan { tag, service })
}

fn vxlan_of(data: &[InfoVxlan]) -> Option<Vxlan> {
    let vni = data.iter().find_map(|info| match info {
        InfoVxlan::Id(vni) => Some(*vni),
        _ => None,
    })?;
    let mut vxlan = Vxlan {
        vni,
        local: None,
        remote: None,
        port: 0,
        learning: false,
        ttl: 0,
    };
    for info in data {
        match info {
            InfoVxlan::Local(address) => vxlan.local = Some((*address).into()),
            InfoVxlan::Local6(address) => vxlan.local = Some((*address).into()),
            InfoVxlan::Group(address) => vxlan.remote = Some((*address).into()),
            InfoVxlan::Group6(address) => vxlan.remote = Some((*address).into()),
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Learning(learning) => vxlan.learning = *learning,
            InfoVxlan::Ttl(ttl) => vxlan.ttl = *ttl,
            _ => {}
        }
    }
    Some(vxlan)
}

fn geneve_of(data: &[InfoGeneve]) -> Option<Geneve> {
    let vni = data.iter().find_map(|info| match info {
        InfoGeneve::Id(vni) => Some(*vni),
        _ => None,
    })?;
    let mut geneve = Geneve {
        vni,
        remote: None,
        port: 0,
        ttl: 0,
    };
    for info in data {
        match info {
            InfoGeneve::Remote(address) => geneve.remote = Some((*address).into()),
            InfoGeneve::Remote6(address) => geneve.remote = Some((*address).into()),
            InfoGeneve::Port(port) => geneve.port = *port,
            InfoGeneve::Ttl(ttl) => geneve.ttl = *ttl,
            _ => {}
        }
    }
    Some(geneve)
}

fn bond_of(data: &[InfoBond]) -> Option<Bond> {
    let mut bond = Bond::default();
    for info in data {
        match info {
            InfoBond::Mode(mode) => bond.mode = BondMode::of_number(u8::from(*mode))?,
            InfoBond::MiiMon(ms) => bond.miimon_ms = *ms,
            InfoBond::UpDelay(ms) => bond.up_delay_ms = *ms,
            InfoBond::DownDelay(ms) => bond.down_delay_ms = *ms,
            InfoBond::XmitHashPolicy(policy) => bond.hash = BondHash::of_number(u8::from(*policy))?,
            InfoBond::AdLacpRate(rate) => bond.lacp_fast = *rate == BondLacpRate::Fast,
            _ => {}
        }
    }
    Some(bond)
}

/// None for a tun device, which carries no Ethernet.
fn tap_of(data: &[InfoTun]) -> Option<Tap> {
    let mut tap = Tap::default();
    let mut is_tap = false;
    for info in data {
        let InfoTun::Other(attribute) = info else { continue };
        let byte = || value(attribute).first().copied().unwrap_or(0);
        let number = || {
            value(attribute)
                .first_chunk::<4>()
                .map(|bytes| u32::from_ne_bytes(*bytes))
        };
        match attribute.kind() {
            TUN_OWNER => tap.user = number(),
            TUN_GROUP => tap.group = number(),
            TUN_TYPE => is_tap = byte() == TYPE_TAP,
            TUN_VNET_HDR => tap.vnet_header = byte() != 0,
            TUN_MULTI_QUEUE => tap.multi_queue = byte() != 0,
            _ => {}
        }
    }
    is_tap.then_some(tap)
}

fn value(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use netlink_packet_core::{Emitable, NlasIterator};

    use super::*;

    /// Attributes as they are sent: number and value.
    fn attributes(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let attributes = NlasIterator::new(bytes).map(Result::unwrap);
        attributes
            .map(|attribute| (attribute.kind() & 0x3fff, attribute.value().to_vec()))
            .collect()
    }

    /// The kind that is sent, and the settings of it.
    fn sent(infos: &[LinkInfo]) -> (String, Vec<(u16, Vec<u8>)>) {
        let mut bytes = vec![0; infos.buffer_len()];
        infos.emit(&mut bytes);
        let sent = attributes(&bytes);
        let value = |number: u16| {
            sent.iter()
                .find(|(kind, _)| *kind == number)
                .map(|(_, value)| value.clone())
        };
        let kind = String::from_utf8(value(1).unwrap()).unwrap();
        (
            kind.trim_end_matches('\0').to_owned(),
            attributes(&value(2).unwrap_or_default()),
        )
    }

    /// What the kernel would say of a link after this was sent.
    fn told(spec: &Spec) -> Option<Spec> {
        spec_of(&create(spec, None))
    }

    #[test]
    fn kinds_that_few_kernels_have_are_asked_for_as_the_kernels_headers_say() {
        let vlan = Spec::Vlan(Vlan { tag: 7, service: false });
        let asked = (String::from("vlan"), vec![(1, vec![7, 0]), (5, vec![0x81, 0x00])]);
        assert_eq!(sent(&create(&vlan, Some(3))), asked);

        let ipvlan = Spec::Ipvlan(Ipvlan {
            mode: IpvlanMode::L3s,
            reach: IpvlanReach::Private,
        });
        let asked = (String::from("ipvlan"), vec![(1, vec![2, 0]), (2, vec![1, 0])]);
        assert_eq!(sent(&create(&ipvlan, Some(3))), asked);
        assert_eq!(sent(&change(&ipvlan)), asked);

        let geneve = Spec::Geneve(Geneve {
            vni: 7,
            remote: Some(std::net::Ipv4Addr::new(192, 0, 2, 1).into()),
            port: 6081,
            ttl: 9,
        });
        let changed = vec![(3, vec![9]), (2, vec![192, 0, 2, 1])];
        assert_eq!(sent(&change(&geneve)), (String::from("geneve"), changed.clone()));
        let made = [(1, vec![7, 0, 0, 0])]
            .into_iter()
            .chain(changed)
            .chain([(5, vec![0x17, 0xc1])]);
        assert_eq!(sent(&create(&geneve, None)), (String::from("geneve"), made.collect()));

        let bond = Spec::Bond(Bond {
            mode: BondMode::Lacp,
            miimon_ms: 100,
            up_delay_ms: 200,
            down_delay_ms: 300,
            hash: BondHash::Layer34,
            lacp_fast: true,
        });
        let changed = vec![
            (3, vec![100, 0, 0, 0]),
            (4, vec![200, 0, 0, 0]),
            (5, vec![44, 1, 0, 0]),
            (14, vec![1]),
        ];
        assert_eq!(sent(&change(&bond)), (String::from("bond"), changed.clone()));
        let made = [(1, vec![4])].into_iter().chain(changed).chain([(21, vec![1])]);
        assert_eq!(sent(&create(&bond, None)), (String::from("bond"), made.collect()));

        for (spec, kind) in [(Spec::Wireguard, "wireguard"), (Spec::Dummy, "dummy")] {
            assert_eq!(sent(&create(&spec, None)), (kind.to_owned(), vec![]));
        }
        for spec in [vlan, ipvlan, geneve, bond, Spec::Wireguard, Spec::Dummy] {
            assert_eq!(told(&spec), Some(spec));
        }
    }
}
