//! Between what Linux bridges and their ports have and the messages that carry it: settings (`IFLA_BR_*` of `linux/if_link.h`) and the VLANs of
//! ports (`IFLA_BRIDGE_VLAN_INFO` of `linux/if_bridge.h`).
//!
//! Pure; it never sends.

use nonnet_hooks::object::{BridgeSettings, Membership, VLAN_MAX, Vlans};
use rtnetlink::packet_route::link::{
    AfSpecBridge, BridgeStpState, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoData, InfoKind, LinkAttribute,
    LinkExtentMask, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::wire::Request;

/// The attributes that give a bridge these settings, and leave the others as they are.
pub(crate) fn settings(settings: &BridgeSettings) -> Vec<LinkInfo> {
    let stp = settings.stp.map(|on| {
        if on {
            BridgeStpState::KernelStp
        } else {
            BridgeStpState::Disabled
        }
    });
    // The kernel checks the timers of the spanning tree when it is on, and priority only then matters: it comes after them.
    let data = [
        settings.forward_delay.map(InfoBridge::ForwardDelay),
        settings.hello_time.map(InfoBridge::HelloTime),
        settings.max_age.map(InfoBridge::MaxAge),
        settings.ageing_time.map(InfoBridge::AgeingTime),
        settings.priority.map(InfoBridge::Priority),
        stp.map(InfoBridge::StpState),
        settings.vlan_filtering.map(InfoBridge::VlanFiltering),
        settings.group_fwd_mask.map(InfoBridge::GroupFwdMask),
        settings.mcast_snooping.map(InfoBridge::MulticastSnooping),
        settings.mcast_querier.map(InfoBridge::MulticastQuerier),
    ];
    let data = InfoData::Bridge(data.into_iter().flatten().collect());
    vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(data)]
}

/// The settings that a message tells.
pub(crate) fn settings_of(data: &[InfoBridge]) -> BridgeSettings {
    let mut settings = BridgeSettings::default();
    for info in data {
        match info {
            InfoBridge::StpState(state) => settings.stp = Some(*state != BridgeStpState::Disabled),
            InfoBridge::VlanFiltering(on) => settings.vlan_filtering = Some(*on),
            InfoBridge::MulticastSnooping(on) => settings.mcast_snooping = Some(*on),
            InfoBridge::MulticastQuerier(on) => settings.mcast_querier = Some(*on),
            InfoBridge::Priority(priority) => settings.priority = Some(*priority),
            InfoBridge::ForwardDelay(time) => settings.forward_delay = Some(*time),
            InfoBridge::HelloTime(time) => settings.hello_time = Some(*time),
            InfoBridge::MaxAge(time) => settings.max_age = Some(*time),
            InfoBridge::AgeingTime(time) => settings.ageing_time = Some(*time),
            InfoBridge::GroupFwdMask(mask) => settings.group_fwd_mask = Some(*mask),
            _ => {}
        }
    }
    settings
}

/// Puts the link of this index, a port of a bridge, into VLANs.
pub(crate) fn vlans_add(index: u32, vlans: &Vlans) -> Request {
    (RouteNetlinkMessage::SetLink(port(index, vlans)), 0)
}

/// Takes the link of this index, a port of a bridge, out of VLANs.
pub(crate) fn vlans_del(index: u32, vlans: &Vlans) -> Request {
    (RouteNetlinkMessage::DelLink(port(index, vlans)), 0)
}

/// Asks for the ports of bridges with their VLANs.
pub(crate) fn ports() -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.interface_family = AddressFamily::Bridge;
    link.attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]));
    RouteNetlinkMessage::GetLink(link)
}

fn port(index: u32, vlans: &Vlans) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.interface_family = AddressFamily::Bridge;
    link.header.index = index;
    let info = |vid: u16, how: Membership, more: BridgeVlanInfoFlags| {
        let native = if how.native {
            BridgeVlanInfoFlags::Pvid
        } else {
            BridgeVlanInfoFlags::empty()
        };
        let untagged = if how.untagged {
            BridgeVlanInfoFlags::Untagged
        } else {
            BridgeVlanInfoFlags::empty()
        };
        AfSpecBridge::VlanInfo(BridgeVlanInfo {
            flags: native | untagged | more,
            vid,
        })
    };
    let infos = vlans.runs().into_iter().flat_map(|(first, last, how)| {
        let run = if first == last {
            vec![info(first, how, BridgeVlanInfoFlags::empty())]
        } else {
            vec![
                info(first, how, BridgeVlanInfoFlags::RangeBegin),
                info(last, how, BridgeVlanInfoFlags::RangeEnd),
            ]
        };
        run.into_iter()
    });
    link.attributes.push(LinkAttribute::AfSpecBridge(infos.collect()));
    link
}

/// The VLANs that a message of a bridge about one of its ports tells; none where it tells of none, as of a bridge itself.
pub(crate) fn vlans_of(message: &LinkMessage) -> Option<Vlans> {
    let is_port = message
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, LinkAttribute::Controller(master) if *master != message.header.index));
    let specs = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::AfSpecBridge(specs) => Some(specs),
        _ => None,
    })?;
    let mut vlans = Vlans::default();
    let mut first = None;
    for spec in specs {
        let AfSpecBridge::VlanInfo(info) = spec else { continue };
        if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
            first = Some(info.vid);
            continue;
        }
        let how = Membership {
            native: info.flags.contains(BridgeVlanInfoFlags::Pvid),
            untagged: info.flags.contains(BridgeVlanInfoFlags::Untagged),
        };
        let run = first.take().unwrap_or(info.vid)..=info.vid.min(VLAN_MAX);
        vlans.0.extend(run.map(|vlan| (vlan, how)));
    }
    is_port.then_some(vlans)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    /// What follows `struct ifinfomsg` in a request.
    fn sent(request: &Request) -> Vec<u8> {
        let (RouteNetlinkMessage::SetLink(link) | RouteNetlinkMessage::DelLink(link)) = &request.0 else {
            panic!("{request:?}");
        };
        let mut bytes = vec![0; link.buffer_len()];
        link.emit(&mut bytes);
        assert_eq!(bytes[0], 7, "AF_BRIDGE");
        assert_eq!(bytes[4..8], 9_u32.to_ne_bytes());
        bytes[16..].to_vec()
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
    }

    fn vlan(flags: u16, vid: u16) -> Vec<u8> {
        // IFLA_BRIDGE_VLAN_INFO
        attribute(2, &[flags.to_ne_bytes(), vid.to_ne_bytes()].concat())
    }

    #[test]
    fn vlans_are_asked_for_as_the_kernels_headers_say() {
        let vlans = Vlans::access(Some(10), [20, 21, 22]);
        let infos = [vlan(0x2 | 0x4, 10), vlan(0x8, 20), vlan(0x10, 22)].concat();
        // IFLA_AF_SPEC, marked as nested or not.
        let bytes = sent(&vlans_add(9, &vlans));
        assert_eq!(u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff, 26);
        assert_eq!(bytes[4..], infos);
        assert_eq!(sent(&vlans_del(9, &vlans))[4..], infos);
    }

    #[test]
    fn vlans_are_told_as_they_were_asked_for() {
        for vlans in [
            Vlans::access(None, []),
            Vlans::access(Some(10), [20, 21, 22, 30]),
            Vlans::access(None, [2, 4094]),
            Vlans::uplink(),
        ] {
            let mut told = port(9, &vlans);
            assert_eq!(vlans_of(&told), None, "a bridge itself");
            told.attributes.push(LinkAttribute::Controller(4));
            assert_eq!(vlans_of(&told), Some(vlans));
        }
    }

    #[test]
    fn settings_are_told_as_they_were_asked_for() {
        let wanted = BridgeSettings {
            stp: Some(true),
            vlan_filtering: Some(true),
            ageing_time: Some(30_000),
            group_fwd_mask: Some(0x4000),
            ..BridgeSettings::NEW
        };
        let infos = settings(&wanted);
        let data = infos.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Bridge(data)) => Some(data),
            _ => None,
        });
        assert_eq!(settings_of(data.unwrap()), wanted);
    }
}
