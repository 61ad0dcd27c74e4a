//! Random wanted states against the kernel in memory: what a plan promises.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nonnet_hooks::diff::{self, Verdict};
use nonnet_hooks::limits::PROTOCOL;
use nonnet_hooks::mirror::{Change, Link, Mirror, NamespaceId, Observation};
use nonnet_hooks::model::Model;
use nonnet_hooks::name::{LinkName, Mac};
use nonnet_hooks::object::{Addresses, Bridge, NetnsRef, Object, ObjectKey, Owner, Port, PortKind, Route, Wanted};
use nonnet_hooks::plan::{Operation, Plan};
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
    fn bridge(at: usize)(present: bool, mac in proptest::option::of(1_u8..4), mtu in proptest::option::of(1400_u32..1403), stp: bool, ipv6: bool)
        -> Option<Wanted> {
        let mac = mac.map(|m| Mac([2, 0, 0, 0, 1, m]));
        let object = Object::Bridge(Bridge { name: name(&format!("br{at}")), mac, mtu, stp, ipv6 });
        present.then_some(Wanted { owner: owner("bridges", at as u128), object })
    }
}

prop_compose! {
    fn gateways(at: usize)(present: bool, link in 0_usize..3, addresses in proptest::collection::btree_set(1_u8..4, 1..3)) -> Option<Wanted> {
        let addresses = addresses.into_iter().map(|a| format!("10.{at}.{a}.1/24").parse().unwrap()).collect();
        let object = Object::Addresses(Addresses { link: name(&format!("br{link}")), addresses });
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
        ipv6: bool,
    ) -> Option<Wanted> {
        let gateway = gateway && !addresses.is_empty();
        // One destination per port: two ports of a namespace cannot both have the same route.
        let destination = format!("10.{}.0.0/16", 100 + at).parse().unwrap();
        let routes = gateway.then(|| Route::to(destination, Some(IpAddr::from([10, 9, at as u8, 1]))));
        let veth = Port {
            name: name(&format!("vi{at}")),
            kind: PortKind::Veth,
            ifname: name(&format!("eth{peer}")),
            netns: netns(space),
            mac: mac.map(|m| Mac([2, 0, 0, 0, 2, m])),
            mtu,
            bridge: bridge.map(|b| name(&format!("br{b}"))),
            addresses: addresses.into_iter().map(|a| format!("10.9.{at}.{a}/24").parse().unwrap()).collect(),
            routes: routes.into_iter().collect(),
            ipv6,
            sysctls: BTreeMap::new(),
        };
        (present > 0).then_some(Wanted { owner: owner("ports", at as u128), object: Object::Port(veth) })
    }
}

fn state() -> impl Strategy<Value = Vec<Wanted>> {
    let bridges = (bridge(0), bridge(1), bridge(2));
    let networks = (gateways(0), gateways(1));
    let ports = (veth(0), veth(1), veth(2), veth(3));
    (bridges, networks, ports).prop_map(|(b, n, p)| {
        [b.0, b.1, b.2, n.0, n.1, p.0, p.1, p.2, p.3]
            .into_iter()
            .flatten()
            .collect()
    })
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

/// A host with three namespaces, and things of somebody else's: a bridge in the way of `br2`, a link, an address.
fn model() -> Model {
    let mut model = Model::new();
    for inode in INSIDE {
        model.add_namespace(NamespaceId::Inode(inode));
    }
    model.add_foreign(NamespaceId::Host, "br2", "bridge");
    model.add_foreign(NamespaceId::Host, "uplink", "");
    model.add_foreign(NamespaceId::Inode(INSIDE[2]), "eth1", "veth");
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
    mirror
}

fn keys(want: &Want, mirror: &Mirror) -> BTreeSet<ObjectKey> {
    want.keys().cloned().chain(diff::collectable(want, mirror)).collect()
}

fn compare(want: &Want, mirror: &Mirror) -> diff::Diff {
    diff::plan(want, mirror, &keys(want, mirror))
}

/// Runs plans until there is nothing left to do; three must do, since one makes room for the next.
fn converge(want: &Want, model: &mut Model) {
    for _ in 0..3 {
        let plan = compare(want, &mirror(model)).plan;
        check_marks(want, &plan, &mirror(model));
        model.run(&plan, None, |_| false);
    }
}

fn check_marks(want: &Want, plan: &Plan, mirror: &Mirror) {
    for step in &plan.steps {
        let (Operation::LinkSet { link, .. }
        | Operation::LinkDel { link }
        | Operation::AddressDel { link, .. }
        | Operation::RouteDel { link, .. }) = &step.operation
        else {
            continue;
        };
        let Some(index) = link.index else { continue };
        let have = mirror.namespace(link.namespace).unwrap().link_at(index).unwrap();
        let ours = want.mark().is_ours(have.group);
        assert!(ours || have.name == "lo", "{} touches what is not ours", step.operation);
    }
}

fn foreign(model: &Model) -> Vec<(NamespaceId, Link)> {
    let of = |id| {
        model
            .dump(id)
            .unwrap()
            .links
            .into_iter()
            .filter(|l| l.group == 0 && l.name != "lo")
            .map(move |l| (id, l))
    };
    spaces().flat_map(of).collect()
}

/// What is wanted is there, down to the last address, or its verdict says why not.
fn check_wanted(want: &Want, model: &Model) {
    let mirror = mirror(model);
    let found = compare(want, &mirror);
    assert!(found.plan.is_empty(), "still to do:\n{}", found.plan);
    for (key, verdict) in &found.verdicts {
        match verdict {
            Verdict::Equal => check_object(&want.get(key).unwrap().object, want, &mirror),
            Verdict::Waiting(_) | Verdict::Conflict(_) => {}
            other => panic!("{key}: {other:?}"),
        }
    }
    for link in mirror.host().unwrap().links().filter(|l| want.mark().is_ours(l.group)) {
        let key = ObjectKey::Link(name(&link.name));
        assert!(want.get(&key).is_some(), "{key} is left over");
    }
}

fn check_object(object: &Object, want: &Want, mirror: &Mirror) {
    let host = mirror.host().unwrap();
    match object {
        Object::Bridge(bridge) => {
            let link = host.link(&bridge.name).unwrap();
            assert!(link.up && link.stp == Some(bridge.stp) && link.kind == "bridge");
            assert!(bridge.mac.is_none_or(|mac| link.mac == Some(mac)));
            assert!(bridge.mtu.is_none_or(|mtu| link.mtu == mtu));
            assert_eq!(link.address_generation_off, Some(!bridge.ipv6));
        }
        Object::Addresses(on) => {
            let link = host.link(&on.link).unwrap();
            let wanted = want.addresses_on(&on.link);
            let have: BTreeSet<_> = host.addresses(link.index).map(|a| a.address).collect();
            assert_eq!(have, wanted);
        }
        Object::Port(veth) => {
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
            let have: BTreeSet<_> = inside.addresses(inner.index).map(|a| a.address).collect();
            assert_eq!(have, veth.addresses.iter().copied().collect());
            let have: BTreeSet<_> = inside
                .routes(Some(inner.index))
                .filter(|r| r.protocol == PROTOCOL)
                .map(|r| r.route.clone())
                .collect();
            assert_eq!(have, veth.routes.iter().map(Route::settled).collect());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_the_plan_gives_the_wanted_state(first in state(), second in state()) {
        let mut model = model();
        let before = foreign(&model);
        for objects in [&first, &second, &Vec::new()] {
            let want = want(objects);
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
        let want = want(&second);
        let plan = compare(&want, &mirror(&model)).plan;
        model.run(&plan, Some(stop), |at| at == fails);
        converge(&want, &mut model);
        check_wanted(&want, &model);
        prop_assert_eq!(before, foreign(&model));
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
            if *outcome == nonnet_hooks::plan::Outcome::Done && matches!(inverse, Operation::LinkDel { .. } | Operation::AddressDel { .. } | Operation::RouteDel { .. }) {
                model.apply(&inverse).unwrap();
            }
        }
        for (id, before) in spaces().zip(before) {
            let after = model.dump(id).unwrap();
            let names = |links: &[Link]| links.iter().map(|l| l.name.clone()).collect::<Vec<_>>();
            prop_assert_eq!(names(&before.links), names(&after.links));
            prop_assert_eq!(before.addresses, after.addresses);
            prop_assert_eq!(before.routes, after.routes);
        }
    }
}
