//! Random wanted states against the kernel in memory: what a plan promises.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use nonnet_hooks::diff::{self, Verdict};
use nonnet_hooks::limits::PROTOCOL;
use nonnet_hooks::mirror::{Change, Link, Mirror, Namespace, NamespaceId, Observation, Queue};
use nonnet_hooks::model::Model;
use nonnet_hooks::name::{LinkName, Mac};
use nonnet_hooks::object::firewall::{Firewall, Installed, Part, Protocol, Set};
use nonnet_hooks::object::wireguard::{Secret, Settings};
use nonnet_hooks::object::{
    Addresses, Bridge, BridgeSettings, Hook, Macvlan, MacvlanMode, Moving, NameServer, NetnsRef, Object, ObjectKey,
    OvsBridge, OvsGuard, OvsOperation, OvsPort, Owner, Port, PortKind, ResolvConf, Role, Route, RouteKind, Shape,
    Single, Spec, Tap, Traffic, Vlans, Vxlan, Wanted, Wireguard,
};
use nonnet_hooks::plan::{LinkRef, Operation, PlacedRoute, Plan, Step};
use nonnet_hooks::resolv_conf;
use nonnet_hooks::want::{Mark, Resolution, Want};
use proptest::prelude::*;

const INSIDE: [u64; 3] = [11, 12, 13];

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

fn owner(table: &str, uuid: u128) -> Owner {
    Owner {
        table: table.into(),
        uuid,
    }
}

fn netns(at: usize) -> NetnsRef {
    NetnsRef::Name(format!("n{at}").into())
}

prop_compose! {
    fn bridge(at: usize)(present: bool, mac in proptest::option::of(1_u8..4), mtu in proptest::option::of(1400_u32..1403), stp: bool, ipv6: bool, adopt: bool, vlan_filtering: bool)
        -> Option<Wanted> {
        let settings = BridgeSettings { stp: Some(stp), vlan_filtering: Some(vlan_filtering), ..BridgeSettings::NEW };
        let mac = mac.map(|m| Mac([2, 0, 0, 0, 1, m]));
        let object = Object::Bridge(Bridge { name: name(&format!("br{at}")), mac, mtu, settings, ipv6, adopt });
        present.then_some(Wanted { owner: owner("bridges", at as u128), object })
    }
}

/// A bridge of Open vSwitch; that of number 2 has the name of a Linux bridge.
fn ovs(at: usize) -> OvsBridge {
    OvsBridge {
        name: name(["sw0", "sw1", "br1"][at]),
        mac: None,
        mtu: None,
        stp: false,
        mcast_snooping: false,
        datapath_type: "netdev".into(),
        fail_mode: None,
        controllers: BTreeSet::new(),
        ipv6: false,
    }
}

prop_compose! {
    fn ovs_bridge(at: usize)(present: bool, stp: bool, mtu in proptest::option::of(1400_u32..1403), ipv6: bool) -> Option<Wanted> {
        let object = Object::OvsBridge(OvsBridge { stp, mtu, ipv6, ..ovs(at) });
        present.then_some(Wanted { owner: owner("bridges", 10 + at as u128), object })
    }
}

prop_compose! {
    /// A port for a veth, or an internal one.
    fn ovs_port(at: usize)(present: bool, internal: bool, bridge in 0_usize..3, tag in proptest::option::of(1_u16..3), protected: bool, leaves_queue: bool, guard in proptest::option::of(0_u8..3)) -> Option<Wanted> {
        let port = if internal { format!("int{at}") } else { format!("vi{at}") };
        let guard = guard.map(|last| OvsGuard { mac: Some(Mac([2, 0, 0, 0, 0, last])), addresses: [IpAddr::from([10, 0, 0, last])].into() });
        let mut port = OvsPort { tag, protected, leaves_queue, guard, ..OvsPort::system(name(&port), ovs(bridge).name) };
        if internal {
            port.interface = "internal".into();
        }
        present.then_some(Wanted { owner: owner("ports", 10 + at as u128), object: Object::OvsPort(port) })
    }
}

prop_compose! {
    fn gateways(at: usize)(present: bool, link in 0_usize..4, addresses in proptest::collection::btree_set(1_u8..4, 1..3)) -> Option<Wanted> {
        let addresses = addresses.into_iter().map(|a| format!("10.{at}.{a}.1/24").parse().unwrap()).collect();
        let link = if link == 3 { "sw0".to_owned() } else { format!("br{link}") };
        let object = Object::Addresses(Addresses { link: name(&link), addresses });
        present.then_some(Wanted { owner: owner("networks", at as u128), object })
    }
}

prop_compose! {
    fn veth(at: usize)(
        present in 0_u8..4,
        bridge in proptest::option::of(0_usize..3),
        space in 0_usize..3,
        peer in 0_u8..2,
        mac in proptest::option::of(1_u8..4),
        mtu in proptest::option::of(1400_u32..1403),
        addresses in proptest::collection::btree_set(2_u8..5, 0..3),
        gateway: bool,
        (default, blackhole) in any::<(bool, bool)>(),
        rank in 0_u32..2,
        ipv6: bool,
        (isolated, hairpin) in any::<(bool, bool)>(),
        vlans in proptest::option::of((proptest::option::of(1_u16..4), proptest::collection::btree_set(1_u16..5, 0..3))),
    ) -> Option<Wanted> {
        let gateway = gateway && !addresses.is_empty();
        // One destination per port: two ports of a namespace cannot both have the same route.
        let destination = format!("10.{}.0.0/16", 100 + at).parse().unwrap();
        let routes = gateway.then(|| Route::to(destination, Some(IpAddr::from([10, 9, at as u8, 1]))));
        let hole = blackhole.then(|| Route {
            kind: RouteKind::Blackhole,
            ..Route::to(format!("10.{}.0.0/16", 150 + at).parse().unwrap(), None)
        });
        let default = (default && gateway).then(|| Route::default_via(IpAddr::from([10, 9, at as u8, 1])));
        let veth = Port {
            mac: mac.map(|m| Mac([2, 0, 0, 0, 2, m])),
            mtu,
            bridge: bridge.map(|b| name(&format!("br{b}"))),
            datapath: None,
            addresses: addresses.into_iter().map(|a| format!("10.9.{at}.{a}/24").parse().unwrap()).collect(),
            routes: routes.into_iter().chain(hole).collect(),
            defaults: default.into_iter().collect(),
            rank,
            ipv6,
            isolated,
            hairpin,
            vlans: vlans.filter(|_| bridge.is_some()).map(|(tag, trunks)| Vlans::access(tag, trunks)),
            ..Port::new(name(&format!("vi{at}")), name(&format!("eth{peer}")), netns(space))
        };
        (present > 0).then_some(Wanted { owner: owner("ports", at as u128), object: Object::Port(veth) })
    }
}

prop_compose! {
    /// Somebody's link, taken over as a port or as an uplink.
    fn adopted(at: usize)(
        present: bool,
        bridge in proptest::option::of(0_usize..3),
        is_uplink: bool,
        up: bool,
        address: bool,
        open in proptest::option::of(0_u32..2),
        rolled_back in proptest::collection::btree_set(0_u32..2, 0..2),
        lends_mac: bool,
    ) -> Option<Wanted> {
        let link = name(["uplink", "absent"][at]);
        let role = if is_uplink { Role::Uplink } else { Role::Port };
        let addresses = (address && !is_uplink).then(|| format!("10.6.{at}.1/24").parse().unwrap());
        let port = Port {
            kind: PortKind::Adopted(role),
            bridge: bridge.map(|b| name(&format!("br{b}"))),
            addresses: addresses.into_iter().collect(),
            up,
            // One that is open was not rolled back.
            moving: Moving { rolled_back: rolled_back.into_iter().filter(|trial| Some(*trial) != open).collect(), open, lends_mac },
            ..Port::new(link.clone(), link, NetnsRef::Host)
        };
        present.then_some(Wanted { owner: owner("ports", 200 + at as u128), object: Object::Port(port) })
    }
}

fn macvlan(mode: MacvlanMode) -> Spec {
    Spec::Macvlan(Macvlan {
        mode,
        sources: BTreeSet::new(),
    })
}

fn vxlan(vni: u32, remote: Option<u8>) -> Spec {
    Spec::Vxlan(Vxlan {
        vni,
        local: None,
        remote: remote.map(|last| IpAddr::from([192, 0, 2, last])),
        port: 4789,
        learning: true,
        ttl: 0,
    })
}

fn spec() -> impl Strategy<Value = (Spec, bool)> {
    let modes = [MacvlanMode::Bridge, MacvlanMode::Private, MacvlanMode::Passthru];
    prop_oneof![
        proptest::sample::select(modes.to_vec()).prop_map(|mode| (macvlan(mode), true)),
        (1_u32..3, proptest::option::of(1_u8..3), any::<bool>()).prop_map(|(vni, remote, on)| (vxlan(vni, remote), on)),
        any::<bool>().prop_map(|multi_queue| (
            Spec::Tap(Tap {
                multi_queue,
                ..Tap::default()
            }),
            false
        )),
        Just((Spec::Dummy, false)),
        Just((Spec::Tun, false)),
    ]
}

prop_compose! {
    /// A link without another end: on the host, perhaps on a bridge, or in a namespace; on somebody's link, one of ours, or one that is not there.
    fn single(at: usize)(
        present in 0_u8..4,
        (spec, has_parent) in spec(),
        parent in 0_usize..4,
        space in proptest::option::of(0_usize..3),
        ifname in 0_u8..2,
        bridge in proptest::option::of(0_usize..3),
        mac in proptest::option::of(1_u8..4),
        (addresses, ends) in (proptest::collection::btree_set(2_u8..5, 0..3), proptest::collection::btree_set(1_u8..4, 0..3)),
        (up, isolated, hairpin) in any::<(bool, bool, bool)>(),
    ) -> Option<Wanted> {
        let parent = ["uplink", "br0", "vi0", "gone"][parent];
        let port_name = name(&format!("s{at}"));
        let (ifname, netns) = match space {
            Some(space) => (name(&format!("eth{ifname}")), netns(space)),
            None => (port_name.clone(), NetnsRef::Host),
        };
        let port = Port {
            kind: PortKind::Single(Box::new(Single { spec, parent: has_parent.then(|| name(parent)) })),
            bridge: bridge.filter(|_| space.is_none()).map(|b| name(&format!("br{b}"))),
            mac: mac.map(|m| Mac([2, 0, 0, 0, 3, m])),
            ends: ends.into_iter().map(|end| IpAddr::from([192, 0, 2, end])).collect(),
            addresses: addresses.into_iter().map(|a| format!("10.8.{at}.{a}/24").parse().unwrap()).collect(),
            up,
            isolated,
            hairpin,
            ..Port::new(port_name, ifname, netns)
        };
        (present > 0).then_some(Wanted { owner: owner("ports", 100 + at as u128), object: Object::Port(port) })
    }
}

prop_compose! {
    /// Elements that several owners may want, others of its own, and settings.
    fn firewall(at: usize)(
        present: bool,
        links in proptest::collection::btree_set(0_usize..3, 0..3),
        ports in proptest::collection::btree_map(0_u16..3, 1_u16..3, 0..3),
        ipv4: bool,
        ipv6: bool,
        localnet in proptest::option::of(0_usize..3),
    ) -> Option<Wanted> {
        let mut firewall = Firewall::default();
        for link in links {
            let link = || Part::Link(name(&format!("br{link}")));
            firewall.add(Set::Within, [link(), link()], []);
        }
        for (port, target) in ports {
            let port = Part::Port(port + 10 * u16::try_from(at).unwrap());
            let to = Part::Address(IpAddr::from([10, 0, 0, 1]));
            firewall.add(Set::Any4, [Part::Protocol(Protocol::Tcp), port], [to, Part::Port(target)]);
        }
        for family in [ipv4.then_some(true), ipv6.then_some(false)].into_iter().flatten() {
            firewall.forwarding(family);
        }
        if let Some(link) = localnet {
            firewall.route_localnet(&name(&format!("br{link}")));
        }
        let present = present && !firewall.is_empty();
        present.then_some(Wanted { owner: owner("filters", at as u128), object: Object::Firewall(firewall) })
    }
}

/// The keys and peers of a link, other ones for another hardware address.
fn wireguard(wanted: &Wanted) -> Option<Wanted> {
    let Object::Port(port) = &wanted.object else {
        return None;
    };
    if !matches!(&port.kind, PortKind::Single(single) if single.spec == Spec::Tun) {
        return None;
    }
    let settings = Settings {
        private_key: Secret::File("/key".into()),
        fwmark: port.mac.map_or(0, |mac| u32::from(mac.0[5])),
        ..Settings::default()
    };
    let object = Wireguard {
        port: port.name.clone(),
        netns: port.netns.clone(),
        ifname: port.ifname.clone(),
        userspace: true,
        settings,
    };
    Some(Wanted {
        owner: wanted.owner.clone(),
        object: Object::Wireguard(Box::new(object)),
    })
}

prop_compose! {
    /// Rates and copies of the pair of a port, if there is such a port.
    fn traffic(at: usize)(
        present: bool,
        to_port in proptest::option::of(1_u64..3),
        from_port in proptest::option::of(1_u64..3),
        mirror in proptest::option::of(0_usize..4),
    ) -> Option<Traffic> {
        let shape = |rate: u64| Shape::of_rate(rate * 1_000_000);
        present.then(|| Traffic {
            link: name(&format!("vi{at}")),
            netns: NetnsRef::Host,
            ifname: name("eth0"),
            to_port: to_port.map(shape),
            from_port: from_port.map(shape),
            mirror: mirror.filter(|to| *to != at).map(|to| name(&format!("vi{to}"))),
        })
    }
}

/// What a pair's row wants of its traffic.
fn traffic_of(pair: &Wanted, all: &[Option<Traffic>]) -> Option<Wanted> {
    let Object::Port(port) = &pair.object else { return None };
    let of = all.iter().flatten().find(|of| of.link == port.name)?;
    let object = Object::Traffic(Traffic {
        netns: port.netns.clone(),
        ifname: port.ifname.clone(),
        ..of.clone()
    });
    Some(Wanted {
        owner: pair.owner.clone(),
        object,
    })
}

prop_compose! {
    fn resolv_conf(at: usize)(present: bool, space in 0_usize..3, server in 1_u8..3, search in proptest::option::of(Just("a.test"))) -> Option<Wanted> {
        let object = Object::ResolvConf(ResolvConf {
            netns: netns(space),
            servers: vec![IpAddr::from([10, 9, 0, server])],
            search: search.into_iter().map(Into::into).collect(),
            options: Vec::new(),
        });
        present.then_some(Wanted { owner: owner("ports", at as u128), object })
    }
}

prop_compose! {
    fn name_server(at: usize)(present: bool, addresses in proptest::collection::btree_set(1_u8..4, 1..3)) -> Option<Wanted> {
        let addresses = addresses.into_iter().map(|last| IpAddr::from([10, at as u8, last, 1])).collect();
        let object = Object::NameServer(NameServer { addresses });
        present.then_some(Wanted { owner: owner("networks", at as u128), object })
    }
}

fn state() -> impl Strategy<Value = Vec<Wanted>> {
    let bridges = (bridge(0), bridge(1), bridge(2)).boxed();
    let networks = (gateways(0), gateways(1)).boxed();
    let ports = (veth(0), veth(1), veth(2), veth(3)).boxed();
    let singles = (single(0), single(1), single(2)).boxed();
    let taken = (adopted(0), adopted(1)).boxed();
    let switched = (ovs_bridge(0), ovs_bridge(1), ovs_bridge(2), ovs_port(0), ovs_port(1)).boxed();
    let filters = (firewall(0), firewall(1), firewall(2)).boxed();
    let traffics = (traffic(0), traffic(1), traffic(2), traffic(3)).boxed();
    let names = (resolv_conf(0), resolv_conf(1), name_server(0), name_server(1)).boxed();
    (
        bridges, networks, ports, singles, taken, switched, filters, traffics, names,
    )
        .prop_map(|(b, n, p, s, t, o, f, r, d)| {
            let all = [
                b.0, b.1, b.2, n.0, n.1, p.0, p.1, p.2, p.3, s.0, s.1, s.2, t.0, t.1, f.0, f.1, f.2, d.0, d.1, d.2, d.3,
            ];
            let traffics = [r.0, r.1, r.2, r.3];
            let mut inside = BTreeSet::new();
            // A commit refuses a second link of one name in one namespace.
            let is_alone = |wanted: &Wanted| match &wanted.object {
                Object::Port(port) => inside.insert((port.netns.clone(), port.ifname.clone())),
                _ => true,
            };
            let mut all: Vec<Wanted> = all.into_iter().flatten().filter(is_alone).collect();
            // Rows cannot have the same name twice.
            let names: BTreeSet<ObjectKey> = all.iter().map(Wanted::key).collect();
            all.extend(
                [o.0, o.1, o.2, o.3, o.4]
                    .into_iter()
                    .flatten()
                    .filter(|w| !names.contains(&w.key())),
            );
            let tunnels: Vec<Wanted> = all.iter().filter_map(wireguard).collect();
            all.extend(tunnels);
            let shaped: Vec<Wanted> = all.iter().filter_map(|pair| traffic_of(pair, &traffics)).collect();
            all.extend(shaped);
            all
        })
}

/// What is wanted after something else was, as the reconciler knows it.
fn want_after(before: &[Wanted], objects: &[Wanted]) -> Want {
    let mut want = want(objects);
    for wanted in before {
        if let Object::Port(port) = &wanted.object
            && port.is_inside()
        {
            want.leave(&wanted.key(), port.netns.clone(), wanted.owner.clone());
        }
    }
    want
}

fn want(objects: &[Wanted]) -> Want {
    let mut want = Want::new(Mark::of(b"test"));
    for object in objects {
        want.insert(object.clone());
    }
    for (at, inode) in INSIDE.iter().enumerate() {
        want.resolve(netns(at), Resolution::Present(NamespaceId::Inode(*inode)));
    }
    want
}

/// What the host is reached by.
const UPLINK_ADDRESSES: [&str; 2] = ["192.0.2.10/24", "2001:db8::10/64"];

/// A host with three namespaces, and things of somebody else's: a bridge in the way of `br2`, a link, an address.
fn model() -> Model {
    let mut model = Model::new();
    for inode in INSIDE {
        model.add_namespace(NamespaceId::Inode(inode));
    }
    model.add_foreign(NamespaceId::Host, "br2", "bridge");
    model.add_foreign(NamespaceId::Host, "uplink", "");
    for address in UPLINK_ADDRESSES {
        model.add_foreign_address(NamespaceId::Host, &name("uplink"), address.parse().unwrap());
    }
    model.add_foreign(NamespaceId::Inode(INSIDE[2]), "eth1", "veth");
    model.add_foreign_ovs_bridge(ovs(1));
    model
}

fn spaces() -> impl Iterator<Item = NamespaceId> {
    std::iter::once(NamespaceId::Host).chain(INSIDE.map(NamespaceId::Inode))
}

fn mirror(model: &Model) -> Mirror {
    let mut mirror = Mirror::default();
    for id in spaces() {
        mirror.apply(Observation {
            namespace: id,
            change: Change::Replaced(model.dump(id).unwrap()),
        });
    }
    mirror.apply(Observation {
        namespace: NamespaceId::Host,
        change: Change::Ovs(model.dump_ovs()),
    });
    for told in model.wireguards().into_iter().chain(model.names()) {
        mirror.apply(told);
    }
    mirror
}

fn keys(want: &Want, mirror: &Mirror) -> BTreeSet<ObjectKey> {
    let left = want.left_keys().cloned();
    want.keys()
        .cloned()
        .chain(diff::collectable(want, mirror))
        .chain(left)
        .collect()
}

fn compare(want: &Want, mirror: &Mirror) -> diff::Diff {
    diff::plan(want, mirror, &keys(want, mirror))
}

/// Runs plans as often as it may take until there is nothing left to do, since one makes room for the next.
fn converge(want: &Want, model: &mut Model) {
    // Ports that trade names and namespaces make room for each other one after the other.
    for _ in 0..8 {
        let plan = compare(want, &mirror(model)).plan;
        check_marks(want, &plan, &mirror(model));
        model.run(&plan, None, |_| false);
    }
}

fn check_marks(want: &Want, plan: &Plan, mirror: &Mirror) {
    let ovs = mirror.ovs();
    for step in &plan.steps {
        if let Operation::Ovs(operation) = &step.operation {
            let row = match operation {
                OvsOperation::BridgeSet { .. } | OvsOperation::BridgeDel { .. } => {
                    ovs.bridge(operation.name()).map(|row| &row.mark)
                }
                OvsOperation::PortSet { .. } | OvsOperation::PortDel { .. } | OvsOperation::GuardSet { .. } => {
                    ovs.port(operation.name()).map(|row| &row.mark)
                }
            };
            let ours = row.is_none_or(|mark| want.mark().is_our_row(&mark.database));
            assert!(ours, "{operation} touches what is not ours");
        }
        let (Operation::LinkSet { link, .. }
        | Operation::LinkDel { link }
        | Operation::LinkMove { link, .. }
        | Operation::AddressDel { link, .. }
        | Operation::RouteDel(PlacedRoute { link: Some(link), .. })) = &step.operation
        else {
            continue;
        };
        let Some(index) = link.index else { continue };
        let have = mirror.namespace(link.namespace).unwrap().link_at(index).unwrap();
        let takes = matches!(&step.operation, Operation::LinkSet { set, .. } if set.alias.as_ref().is_some_and(|a| a.contains(" taken ")));
        assert!(!matches!(step.operation, Operation::LinkDel { .. }) || want.mark().is_ours(have.group));
        let switched = ovs.link_mark(&name(&have.name));
        let switched = switched.is_some_and(|mark| want.mark().is_our_row(&mark.database));
        let ours = want.mark().owns(have) || switched || takes || plan.steps.iter().any(|other| takes_too(other, link));
        assert!(ours || have.name == "lo", "{} touches what is not ours", step.operation);
    }
}

/// Whether a step takes a link over, which one after it then acts on.
fn takes_too(step: &Step, link: &LinkRef) -> bool {
    matches!(&step.operation, Operation::LinkSet { link: other, set, .. }
        if other == link && set.alias.as_ref().is_some_and(|a| a.contains(" taken ")))
}

/// A link without what a row that takes it over sets and leaves: that it is given back says nothing about these.
fn as_it_was(link: Link) -> Link {
    Link {
        carrier: false,
        mac: None,
        mtu: 0,
        bridge: None,
        address_generation_off: None,
        ..link
    }
}

type Foreign = (Vec<(NamespaceId, Link)>, BTreeSet<(u32, IpNet, u8)>);

/// What is somebody else's: links, and the addresses of the host by link and protocol.
fn foreign(model: &Model) -> Foreign {
    let addresses = model.dump(NamespaceId::Host).unwrap().addresses.into_iter();
    let addresses = addresses.filter(|address| address.protocol != PROTOCOL);
    let addresses = addresses
        .map(|address| (address.index, address.address, address.protocol))
        .collect();
    let of = |id| {
        model
            .dump(id)
            .unwrap()
            .links
            .into_iter()
            .filter(|l| l.group == 0 && l.name != "lo" && (l.kind != "tun" || l.name == "sw1"))
            .map(move |l| (id, as_it_was(l)))
    };
    (spaces().flat_map(of).collect(), addresses)
}

/// What is wanted is there, down to the last address, or its verdict says why not.
fn check_wanted(want: &Want, model: &Model) {
    let mirror = mirror(model);
    let found = compare(want, &mirror);
    assert!(found.plan.is_empty(), "still to do:\n{}", found.plan);
    for (key, verdict) in &found.verdicts {
        match verdict {
            Verdict::Equal => check_object(&want.get(key).unwrap().object, want, &mirror, &found.verdicts),
            Verdict::Waiting(_) | Verdict::Conflict(_) | Verdict::Failed(_) | Verdict::Absent => {}
            other => panic!("{key}: {other:?}"),
        }
    }
    check_left_over(want, &mirror);
    let wanted = |key: &ObjectKey| want.get(key).is_some();
    for row in mirror
        .ovs()
        .bridges()
        .filter(|row| want.mark().is_our_row(&row.mark.database))
    {
        assert!(
            wanted(&ObjectKey::Link(row.bridge.name.clone())),
            "bridge {} is left over",
            row.bridge.name
        );
    }
    for row in mirror
        .ovs()
        .ports()
        .filter(|row| want.mark().is_our_row(&row.mark.database))
    {
        assert!(
            wanted(&ObjectKey::OvsPort(row.port.name.clone())),
            "port {} is left over",
            row.port.name
        );
    }
    let filter = mirror.host().unwrap().firewall().unwrap();
    for (key, _, owner) in filter.elements() {
        let marked = ObjectKey::Firewall { owner: owner.clone() };
        assert!(
            want.wanting_element(key).any(|wanting| *wanting == marked),
            "{key:?} is not of {owner}"
        );
        assert!(
            want.wanting_element(key).next().is_some(),
            "{key:?} of {owner} is left over"
        );
    }
    for path in filter.borrowed.keys() {
        assert!(want.wanting_setting(path).next().is_some(), "{path} is not given back");
    }
    assert!(!filter.present || want.filters(), "the packet filter is left over");
    for link in mirror.host().unwrap().links().filter(|l| want.mark().is_ours(l.group)) {
        let key = ObjectKey::Link(name(&link.name));
        assert!(want.get(&key).is_some(), "{key} is left over");
    }
    for id in INSIDE.map(NamespaceId::Inode) {
        for link in mirror
            .namespace(id)
            .unwrap()
            .links()
            .filter(|l| want.mark().is_ours(l.group))
        {
            // A port that waits for something keeps what it has, a pair even in the namespace where it was.
            let by = Owner::from_alias(&link.alias);
            let is_its = |key: &ObjectKey| {
                want.get(key)
                    .is_some_and(|w| by.as_ref() == Some(&w.owner) || is_unmarked(link, w))
            };
            let is_wanted = want.inhabitants(id).any(is_its) || (link.kind == "veth" && want.keys().any(is_its));
            assert!(is_wanted, "{} is left over in {id}", link.name);
        }
    }
}

/// Whether a link is what a row's port has of it when the step after the one that made it failed.
fn is_unmarked(link: &Link, wanted: &Wanted) -> bool {
    link.alias.is_empty()
        && matches!(&wanted.object, Object::Port(port) if port.is_inside() && link.name == port.ifname.as_str())
}

fn check_firewall(wanted: &Firewall, want: &Want, have: &Installed) {
    if !want.filters() {
        assert!(have.elements().next().is_none());
        return;
    }
    for (key, data) in &wanted.elements {
        assert_eq!(have.data(key), Some(data), "{key:?}");
    }
    for (setting, value) in &wanted.settings {
        assert_eq!(have.settings.get(&setting.path), Some(value), "{setting:?}");
    }
}

fn check_object(object: &Object, want: &Want, mirror: &Mirror, verdicts: &BTreeMap<ObjectKey, Verdict>) {
    let host = mirror.host().unwrap();
    match object {
        Object::Bridge(bridge) => check_bridge(bridge, want, host),
        Object::OvsBridge(bridge) => {
            let row = mirror.ovs().bridge(&bridge.name).unwrap();
            assert_eq!((row.bridge.stp, row.bridge.mtu), (bridge.stp, bridge.mtu));
            let link = host.link(&bridge.name).unwrap();
            assert!(link.up && link.address_generation_off == Some(!bridge.ipv6));
        }
        Object::OvsPort(port) => {
            let row = mirror.ovs().port(&port.name).unwrap();
            assert_eq!((&row.port.bridge, row.port.tag), (&port.bridge, port.tag));
            let settings = |port: &OvsPort| (port.protected, port.leaves_queue);
            assert_eq!(settings(&row.port), settings(port));
            assert_eq!(row.guard, port.guard.as_ref().map(OvsGuard::trace));
            assert!(!port.is_internal() || host.link(&port.name).unwrap().up);
        }
        Object::Addresses(on) => {
            let link = host.link(&on.link).unwrap();
            let wanted = want.addresses_on(&on.link);
            let ours = host.addresses(link.index).filter(|a| a.protocol == PROTOCOL);
            let have: BTreeSet<_> = ours.map(|a| a.address).collect();
            assert_eq!(have, wanted);
        }
        Object::Firewall(wanted) => check_firewall(wanted, want, host.firewall().unwrap()),
        Object::Port(port) if matches!(port.kind, PortKind::Adopted(_)) => {
            let link = host.link(&port.name).unwrap();
            let master = link.master.map(|index| host.link_at(index).unwrap().name.clone());
            assert!(want.mark().taken(link).is_some() && link.up == port.up);
            check_uplink(port, link, want, host);
            assert_eq!(master.as_deref(), port.bridge.as_ref().map(LinkName::as_str));
        }
        Object::Port(port) if port.kind != PortKind::Veth => check_single(port, want, mirror),
        Object::Port(veth) => check_veth(veth, want, mirror, verdicts),
        Object::Wireguard(wireguard) => {
            let state = mirror.wireguard(&wireguard.port).unwrap();
            assert!(wireguard.settings.is_met_by(&state.settings));
        }
        Object::NameServer(server) => assert!(server.addresses.is_subset(mirror.listening())),
        Object::ResolvConf(wish) => {
            let wishes: Vec<_> = want.resolv_confs(&wish.netns).collect();
            let text = resolv_conf::text(want.mark(), &wishes, &[]);
            assert_eq!(mirror.resolv_conf(&wish.netns), Some(&text));
        }
        Object::Traffic(traffic) => check_traffic(traffic, want, mirror),
        // Those have properties of their own.
        Object::Routes(_) | Object::Dhcp(_) | Object::Container(_) | Object::Mesh(_) => {}
    }
}

/// What others reach the host by is where it can be reached: on a port of a bridge only where that is what a row takes over with all on it.
fn check_uplink(port: &Port, link: &Link, want: &Want, host: &Namespace) {
    let moved = want.mark().taken(link).unwrap().moved;
    let on = |index: u32| -> BTreeSet<IpNet> {
        let foreign = host.addresses(index).filter(|address| address.protocol != PROTOCOL);
        foreign.map(|address| address.address).collect()
    };
    let all: BTreeSet<IpNet> = UPLINK_ADDRESSES
        .iter()
        .map(|address| address.parse().unwrap())
        .collect();
    let is_there = link.name == "uplink";
    match moved {
        Some(moved) if is_there => {
            let bridge = host.link(&name(&moved.to)).unwrap();
            assert_eq!(
                (link.master, on(link.index), on(bridge.index)),
                (Some(bridge.index), BTreeSet::new(), all)
            );
            assert!(!port.moving.rolled_back.contains(&moved.trial));
            assert!(!port.moving.lends_mac || bridge.mac == link.mac || !want.mark().is_ours(bridge.group));
        }
        _ if is_there => assert!(on(link.index) == all),
        _ => {}
    }
}

fn check_veth(veth: &Port, want: &Want, mirror: &Mirror, verdicts: &BTreeMap<ObjectKey, Verdict>) {
    let host = mirror.host().unwrap();
    let Resolution::Present(id) = want.resolution(&veth.netns) else {
        panic!()
    };
    let inside = mirror.namespace(id).unwrap();
    let outer = host.link(&veth.name).unwrap();
    let inner = inside.link(&veth.ifname).unwrap();
    assert_eq!((outer.peer, inner.peer), (Some(inner.index), Some(outer.index)));
    assert!(outer.up && inner.up && inside.link(&LinkName::loopback()).unwrap().up);
    assert!(veth.mac.is_none_or(|mac| inner.mac == Some(mac)));
    assert!(veth.mtu.is_none_or(|mtu| inner.mtu == mtu && outer.mtu == mtu));
    let master = outer.master.map(|index| host.link_at(index).unwrap().name.clone());
    assert_eq!(master.as_deref(), veth.bridge.as_ref().map(LinkName::as_str));
    if let Some(vlans) = &veth.vlans {
        assert_eq!(host.vlans(outer.index).unwrap_or(&Vlans::access(None, [])), vlans);
    }
    let have: BTreeSet<_> = inside.addresses(inner.index).map(|a| a.address).collect();
    assert_eq!(have, veth.addresses.iter().copied().collect());
    let have: BTreeSet<_> = inside
        .routes(Some(inner.index))
        .filter(|r| r.protocol == PROTOCOL)
        .map(|r| r.route.clone())
        .collect();
    let through: BTreeSet<Route> = veth
        .routes
        .iter()
        .filter(|r| r.kind == RouteKind::Unicast)
        .map(Route::settled)
        .collect();
    assert!(through.is_subset(&have));
    let defaults: BTreeSet<Route> = have.difference(&through).cloned().collect();
    let ports = want.inhabitants(id).filter_map(|key| match &want.get(key)?.object {
        Object::Port(port) => Some(port),
        _ => None,
    });
    let ports: Vec<&Port> = ports.collect();
    let neighbours = ports
        .iter()
        .filter(|other| other.netns == veth.netns && !other.defaults.is_empty());
    let first = neighbours.min_by_key(|other| (other.rank, &other.name));
    // Where the first one cannot be there, whoever had the default route keeps it.
    let stands = |port: &&&Port| verdicts.get(&ObjectKey::Link(port.name.clone())) == Some(&Verdict::Equal);
    if first.is_none_or(|first| stands(&first)) {
        let own = first
            .filter(|first| first.name == veth.name)
            .map(|first| first.defaults.clone());
        assert_eq!(defaults, own.into_iter().flatten().collect());
    }
    for hole in veth.routes.iter().filter(|r| r.kind == RouteKind::Blackhole) {
        assert!(inside.routes(None).any(|r| r.route == *hole), "{hole}");
    }
}

fn check_bridge(bridge: &Bridge, want: &Want, host: &Namespace) {
    let link = host.link(&bridge.name).unwrap();
    assert!(link.up && link.bridge.as_deref() == Some(&bridge.settings) && link.kind == "bridge");
    // That of an uplink may have taken its place.
    let lends = |port: &Link| port.master == Some(link.index) && port.mac == link.mac;
    assert!(bridge.mac.is_none_or(|mac| link.mac == Some(mac)) || host.links().any(lends));
    assert!(bridge.mtu.is_none_or(|mtu| link.mtu == mtu));
    let carries = bridge.ipv6
        || host
            .addresses(link.index)
            .any(|a| a.protocol != PROTOCOL && a.address.addr().is_ipv6());
    assert!(link.address_generation_off == Some(!carries) || want.mark().taken(link).is_some());
}

fn check_traffic(traffic: &Traffic, want: &Want, mirror: &Mirror) {
    let Resolution::Present(id) = want.resolution(&traffic.netns) else {
        panic!()
    };
    let (host, inside) = (mirror.host().unwrap(), mirror.namespace(id).unwrap());
    let (outer, inner) = (host.link(&traffic.link).unwrap(), inside.link(&traffic.ifname).unwrap());
    let shape = |shape: Option<Shape>| shape.map(Queue::Shape);
    assert_eq!(host.queue(outer.index), shape(traffic.to_port).as_ref());
    assert_eq!(inside.queue(inner.index), shape(traffic.from_port).as_ref());
    let to = traffic.mirror.as_ref().map(|to| host.link(to).unwrap().index);
    assert!(
        [Hook::Ingress, Hook::Egress]
            .iter()
            .all(|hook| host.mirror(outer.index, *hook) == to)
    );
}

/// Nothing is shaped, copied, answered or written that nobody wants.
fn check_left_over(want: &Want, mirror: &Mirror) {
    assert!(mirror.listening().is_subset(&want.listening()));
    for (netns, text) in mirror.resolv_confs() {
        assert!(
            want.resolv_confs(netns).next().is_some(),
            "{text} is left over in {netns}"
        );
    }
    let host = mirror.host().unwrap();
    for link in host
        .links()
        .filter(|link| want.get(&ObjectKey::Traffic(name(&link.name))).is_none())
    {
        let copied = host
            .mirror(link.index, Hook::Ingress)
            .or(host.mirror(link.index, Hook::Egress));
        assert!(
            host.queue(link.index).is_none() && copied.is_none(),
            "traffic of {} is left over",
            link.name
        );
    }
}

fn check_single(port: &Port, want: &Want, mirror: &Mirror) {
    let (Resolution::Present(id), PortKind::Single(single)) = (want.resolution(&port.netns), &port.kind) else {
        panic!()
    };
    let (host, inside) = (mirror.host().unwrap(), mirror.namespace(id).unwrap());
    let link = inside.link(&port.ifname).unwrap();
    assert_eq!((link.spec.as_ref(), link.up), (Some(&single.spec), port.up));
    assert_eq!(
        link.peer,
        single.parent.as_ref().map(|parent| host.link(parent).unwrap().index)
    );
    assert!(port.mac.is_none_or(|mac| link.mac == Some(mac)));
    let master = link.master.map(|index| host.link_at(index).unwrap().name.clone());
    assert_eq!(master.as_deref(), port.bridge.as_ref().map(LinkName::as_str));
    assert_eq!(link.isolated.unwrap_or(false), port.isolated && port.bridge.is_some());
    assert_eq!(link.hairpin.unwrap_or(false), port.hairpin && port.bridge.is_some());
    let have: BTreeSet<_> = inside.addresses(link.index).map(|a| a.address).collect();
    assert_eq!(have, port.addresses.iter().copied().collect());
    if let Spec::Vxlan(vxlan) = &single.spec {
        let ends: BTreeSet<IpAddr> = inside.floods(link.index).collect();
        assert_eq!(ends, port.ends.iter().copied().chain(vxlan.remote).collect());
    }
}

/// A tunnel over a port of the bridge that the tunnel is a port of: no MTU is right, but one must stay.
#[test]
fn mtus_come_to_rest_where_rows_make_a_circle() {
    let vxlan = Spec::Vxlan(Vxlan {
        vni: 1,
        local: None,
        remote: None,
        port: 4789,
        learning: true,
        ttl: 0,
    });
    let bridge = Object::Bridge(Bridge {
        name: name("br1"),
        mac: None,
        mtu: None,
        settings: BridgeSettings::NEW,
        ipv6: false,
        adopt: false,
    });
    let tunnel = Object::Port(Port {
        kind: PortKind::Single(Box::new(Single {
            spec: vxlan,
            parent: Some(name("vi0")),
        })),
        bridge: Some(name("br1")),
        ..Port::new(name("s0"), name("s0"), NetnsRef::Host)
    });
    let veth = |bridge: Option<&str>| {
        Object::Port(Port {
            bridge: bridge.map(name),
            ..Port::new(name("vi0"), name("eth0"), netns(0))
        })
    };
    let on_switch = Object::OvsPort(OvsPort::system(name("vi0"), name("br1")));
    for objects in [
        vec![bridge.clone(), tunnel.clone(), veth(Some("br1"))],
        vec![bridge, tunnel, veth(None), on_switch],
    ] {
        let wanted = objects.into_iter().zip(0..).map(|(object, at)| Wanted {
            owner: owner("ports", at),
            object,
        });
        let (want, mut model) = (want(&wanted.collect::<Vec<_>>()), model());
        converge(&want, &mut model);
        check_wanted(&want, &model);
    }
}

/// A tunnel whose other end is in the network of addresses that moved to the bridge which the tunnel is a port of, too.
#[test]
fn mtus_come_to_rest_where_a_tunnel_is_a_port_of_its_own_underlay() {
    let objects = [
        Object::Bridge(Bridge {
            name: name("br1"),
            mac: None,
            mtu: None,
            settings: BridgeSettings::NEW,
            ipv6: false,
            adopt: false,
        }),
        Object::Port(Port {
            kind: PortKind::Single(Box::new(Single {
                spec: vxlan(1, Some(1)),
                parent: None,
            })),
            bridge: Some(name("br1")),
            ..Port::new(name("s0"), name("s0"), NetnsRef::Host)
        }),
        Object::Port(Port {
            moving: Moving {
                open: Some(0),
                ..Moving::default()
            },
            ..Port::taken(name("uplink"), name("br1"), Role::Uplink)
        }),
    ];
    let wanted = objects.into_iter().zip(0..).map(|(object, at)| Wanted {
        owner: owner("ports", at),
        object,
    });
    let (want, mut model) = (want(&wanted.collect::<Vec<_>>()), model());
    converge(&want, &mut model);
    check_wanted(&want, &model);
}

/// What was made inside a namespace and could not be marked stays while its row waits, and goes with the row.
#[test]
fn a_link_that_was_never_marked_goes_with_its_row() {
    let port = Wanted {
        owner: owner("ports", 100),
        object: Object::Port(Port {
            kind: PortKind::Single(Box::new(Single {
                spec: macvlan(MacvlanMode::Bridge),
                parent: Some(name("uplink")),
            })),
            ..Port::new(name("s0"), name("eth0"), netns(0))
        }),
    };
    let parent = Wanted {
        owner: owner("ports", 200),
        object: Object::Port(Port::taken(name("uplink"), name("br0"), Role::Port)),
    };
    let mut model = model();
    let have = |model: &Model| {
        let inside = mirror(model);
        let inside = inside.namespace(NamespaceId::Inode(INSIDE[0])).unwrap();
        inside.link(&name("eth0")).map(|link| link.alias.clone())
    };
    let first = [port.clone()];
    model.run(&compare(&want(&first), &mirror(&model)).plan, None, |at| at == 1);
    assert_eq!(have(&model).as_deref(), Some(""));
    let second = [port, parent];
    let waits = want_after(&first, &second);
    converge(&waits, &mut model);
    check_wanted(&waits, &model);
    assert_eq!(have(&model).as_deref(), Some(""));
    let nothing = want_after(&second, &[]);
    converge(&nothing, &mut model);
    check_wanted(&nothing, &model);
    assert_eq!(have(&model), None);
}

/// A row that has an uplink as a port like any other says nothing about its addresses: they go back, and not to be lost on the bridge.
#[test]
fn an_uplink_that_becomes_another_port_of_its_bridge_has_its_addresses_back() {
    let taken = |role: Role, open: Option<u32>| Wanted {
        owner: owner("ports", 200),
        object: Object::Port(Port {
            moving: Moving {
                open,
                ..Moving::default()
            },
            ..Port::taken(name("uplink"), name("br2"), role)
        }),
    };
    let on_bridge = |model: &Model| {
        let mirror = mirror(model);
        let host = mirror.host().unwrap();
        host.addresses(host.link(&name("br2")).unwrap().index).count()
    };
    for role in [Role::Port, Role::Member] {
        let mut model = model();
        let before = foreign(&model);
        for (wanted, moved) in [(taken(Role::Uplink, Some(0)), 2), (taken(role, None), 0)] {
            let want = want(&[wanted]);
            converge(&want, &mut model);
            check_wanted(&want, &model);
            assert_eq!(on_bridge(&model), moved);
        }
        converge(&want(&[]), &mut model);
        assert_eq!(before, foreign(&model));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_the_plan_gives_the_wanted_state(first in state(), second in state()) {
        let mut model = model();
        let before = foreign(&model);
        let mut last = Vec::new();
        for objects in [&first, &second, &Vec::new()] {
            let want = want_after(&last, objects);
            last.clone_from(objects);
            converge(&want, &mut model);
            check_wanted(&want, &model);
        }
        let nothing = want(&[]);
        prop_assert!(compare(&nothing, &mirror(&model)).plan.is_empty());
        prop_assert_eq!(before, foreign(&model));
    }

    #[test]
    fn any_prefix_of_a_plan_and_then_a_new_one_converges(first in state(), second in state(), stop in 0_usize..30, fails in 0_usize..30) {
        let mut model = model();
        let before = foreign(&model);
        converge(&want(&first), &mut model);
        let want = want_after(&first, &second);
        let plan = compare(&want, &mirror(&model)).plan;
        model.run(&plan, Some(stop), |at| at == fails);
        converge(&want, &mut model);
        check_wanted(&want, &model);
        let nothing = want_after(&second, &[]);
        converge(&nothing, &mut model);
        check_wanted(&nothing, &model);
        prop_assert_eq!(before, foreign(&model));
    }

    #[test]
    fn a_packet_filter_that_somebody_flushed_comes_back(objects in state()) {
        let want = want(&objects);
        let mut model = model();
        converge(&want, &mut model);
        model.flush_firewall();
        converge(&want, &mut model);
        check_wanted(&want, &model);
    }

    #[test]
    fn every_step_follows_what_it_needs(objects in state()) {
        let want = want(&objects);
        let plan = compare(&want, &mirror(&model())).plan;
        for (at, step) in plan.steps.iter().enumerate() {
            prop_assert!(step.needs.iter().all(|need| *need < at));
            prop_assert!(at == 0 || plan.steps[at - 1].phase <= step.phase);
        }
    }

    #[test]
    fn an_operation_and_its_inverse_leave_no_trace(objects in state()) {
        let want = want(&objects);
        let mut model = model();
        let plan = compare(&want, &mirror(&model)).plan;
        let before: Vec<_> = spaces().map(|id| model.dump(id).unwrap()).collect();
        let (outcomes, _) = model.run(&plan, None, |_| false);
        for (step, outcome) in plan.steps.iter().zip(&outcomes).rev() {
            let Some(inverse) = step.operation.inverse() else { continue };
            let undone = matches!(
                inverse,
                Operation::LinkDel { .. }
                    | Operation::AddressesMove(_)
                    | Operation::AddressDel { .. }
                    | Operation::RouteDel(_)
                    | Operation::Ovs(_)
                    | Operation::Elements(_)
                    | Operation::Borrow(_)
            );
            if *outcome == nonnet_hooks::plan::Outcome::Done && undone {
                model.apply(&inverse).unwrap();
            }
        }
        for (id, before) in spaces().zip(before) {
            let after = model.dump(id).unwrap();
            let names = |links: &[Link]| links.iter().map(|l| l.name.clone()).collect::<Vec<_>>();
            prop_assert_eq!(names(&before.links), names(&after.links));
            prop_assert_eq!(before.addresses, after.addresses);
            prop_assert_eq!(before.routes, after.routes);
            let contents = |filter: &Option<nonnet_hooks::object::firewall::Installed>| {
                filter.as_ref().map(|filter| (filter.elements().count(), filter.borrowed.len()))
            };
            prop_assert_eq!(contents(&before.firewall), contents(&after.firewall));
        }
    }
}
