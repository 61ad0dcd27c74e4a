//! Ports of every kind in the real kernel, in namespaces of the tests' own. As root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod lab;

use std::collections::BTreeSet;
use std::net::IpAddr;

use lab::{Lab, bridge, isolate, name, named, owner, sh, try_sh};
use nonnet_hooks::object::{
    Bond, Geneve, Ipvlan, Macvlan, MacvlanMode, NetnsRef, Object, Port, PortKind, Single, Spec, Tap, Vlan, Vxlan,
};
use nonnet_hooks::reconcile::Desired;
use nonnet_hooks::report::{EventKind, State};
use nonnet_hooks::want::Mark;
use nonnet_kernel::Kernel;

fn macvlan(mode: MacvlanMode) -> Spec {
    Spec::Macvlan(Macvlan {
        mode,
        sources: BTreeSet::new(),
    })
}

fn vxlan(vni: u32, remote: [u8; 4]) -> Spec {
    Spec::Vxlan(Vxlan {
        vni,
        local: Some(IpAddr::from([10, 7, 0, 1])),
        remote: Some(IpAddr::from(remote)),
        port: 4789,
        learning: true,
        ttl: 0,
    })
}

/// A port `p{at}` of this kind: `eth0` in that namespace, with an address of 10.{net}.0.0/24 that ends in `at`.
fn port(at: u8, netns: NetnsRef, spec: Spec, parent: Option<&str>, net: u8) -> Port {
    let port_name = name(&format!("p{at}"));
    let ifname = if netns == NetnsRef::Host {
        port_name.clone()
    } else {
        name("eth0")
    };
    Port {
        kind: PortKind::Single(Box::new(Single {
            spec,
            parent: parent.map(name),
        })),
        addresses: vec![format!("10.{net}.0.{at}/24").parse().unwrap()],
        ..Port::new(port_name, ifname, netns)
    }
}

fn objects(port: Port) -> Desired {
    Desired::Objects(vec![Object::Port(port)])
}

/// Namespaces `c1` and `c2`, and `far`, to which the host's `up0` leads.
fn uplink() {
    isolate();
    sh("ip netns add c1; ip netns add c2; ip netns add far; ip link add up0 type veth peer name far0 netns far");
    sh("ip link set up0 up; ip -n far link set far0 up; ip -n far addr add 10.7.0.254/24 dev far0");
}

fn ping(netns: &str, address: &str) {
    sh(&format!("ip netns exec {netns} ping -n -c1 -W5 {address}"));
}

#[test]
fn macvlans_reach_each_other_change_in_place_and_are_healed() {
    uplink();
    let one = |mode| port(1, named("c1"), macvlan(mode), Some("up0"), 7);
    let two = port(2, named("c2"), macvlan(MacvlanMode::Bridge), Some("up0"), 7);
    let mut lab = Lab::new(vec![
        (owner("ports", 1), objects(one(MacvlanMode::Bridge))),
        (owner("ports", 2), objects(two)),
    ]);
    lab.converged(1);
    ping("c1", "10.7.0.2");
    ping("c1", "10.7.0.254");
    let index = sh("ip netns exec c1 cat /sys/class/net/eth0/ifindex");
    let cfg = lab.commit(vec![(owner("ports", 1), objects(one(MacvlanMode::Private)))]);
    lab.converged(cfg);
    assert!(sh("ip -n c1 -d link show eth0").contains("macvlan mode private"));
    assert_eq!(
        sh("ip netns exec c1 cat /sys/class/net/eth0/ifindex"),
        index,
        "the mode changed in place"
    );
    assert!(!try_sh("ip netns exec c1 ping -n -c1 -W1 10.7.0.2").0);
    sh("ip -n c1 link del eth0");
    lab.until("healed", |lab| lab.count(EventKind::Healed) == 1);
    ping("c1", "10.7.0.254");
    sh("ip -n c1 link set eth0 type macvlan mode vepa");
    lab.until("healed", |lab| lab.count(EventKind::Healed) == 2);
    assert!(sh("ip -n c1 -d link show eth0").contains("macvlan mode private"));
    // With its parent it goes; with its parent it comes.
    sh("ip link del up0");
    lab.until("waits", |lab| lab.state(&owner("ports", 1)) == Some(State::Waiting));
    sh("ip link add up0 type veth peer name far0 netns far; ip link set up0 up; ip -n far link set far0 up");
    lab.until("back", |lab| lab.state(&owner("ports", 1)) == Some(State::Converged));
}

#[test]
fn a_port_that_moves_or_goes_leaves_nothing_where_it_was() {
    uplink();
    let at = |netns: NetnsRef| objects(port(1, netns, macvlan(MacvlanMode::Bridge), Some("up0"), 7));
    let mut lab = Lab::new(vec![(owner("ports", 1), at(named("c1")))]);
    lab.converged(1);
    let cfg = lab.commit(vec![(owner("ports", 1), at(named("c2")))]);
    lab.converged(cfg);
    assert!(!try_sh("ip -n c1 link show eth0").0 && try_sh("ip -n c2 link show eth0").0);
    let cfg = lab.commit(vec![(owner("ports", 1), at(NetnsRef::Host))]);
    lab.converged(cfg);
    assert!(!try_sh("ip -n c2 link show eth0").0 && try_sh("ip link show p1").0);
    let cfg = lab.commit(vec![(owner("ports", 1), at(named("c1")))]);
    lab.converged(cfg);
    assert!(!try_sh("ip link show p1").0);
    let cfg = lab.commit(vec![(owner("ports", 1), Desired::Gone)]);
    lab.converged(cfg);
    assert!(!try_sh("ip -n c1 link show eth0").0, "it is gone inside, too");
    sh("ip -n far link show far0");
}

#[test]
fn a_vxlan_carries_frames_and_another_remote_is_set_in_place() {
    uplink();
    sh("ip addr add 10.7.0.1/24 dev up0");
    sh("ip -n far link add vx type vxlan id 42 remote 10.7.0.1 local 10.7.0.254 dstport 4789");
    sh("ip -n far link set vx up; ip -n far addr add 10.42.0.254/24 dev vx");
    let with = |vni, remote| objects(port(1, named("c1"), vxlan(vni, remote), None, 42));
    let mut lab = Lab::new(vec![(owner("ports", 1), with(42, [10, 7, 0, 77]))]);
    lab.converged(1);
    let index = sh("ip netns exec c1 cat /sys/class/net/eth0/ifindex");
    let cfg = lab.commit(vec![(owner("ports", 1), with(42, [10, 7, 0, 254]))]);
    lab.converged(cfg);
    assert_eq!(sh("ip netns exec c1 cat /sys/class/net/eth0/ifindex"), index);
    ping("c1", "10.42.0.254");
    let cfg = lab.commit(vec![(owner("ports", 1), with(43, [10, 7, 0, 254]))]);
    lab.converged(cfg);
    assert!(sh("ip -n c1 -d link show eth0").contains("vxlan id 43"));
}

#[test]
fn a_tap_has_its_user_its_bridge_and_its_isolation() {
    uplink();
    let tap = |user| {
        let spec = Spec::Tap(Tap {
            user: Some(user),
            multi_queue: true,
            ..Tap::default()
        });
        objects(Port {
            bridge: Some(name("br0")),
            isolated: true,
            ..port(1, NetnsRef::Host, spec, None, 5)
        })
    };
    let inside = objects(port(2, named("c1"), Spec::Tap(Tap::default()), None, 5));
    let mut lab = Lab::new(vec![
        (owner("bridges", 1), bridge("br0")),
        (owner("ports", 1), tap(1234)),
        (owner("ports", 2), inside),
    ]);
    lab.converged(1);
    let shown = sh("ip -d link show p1");
    assert!(
        shown.contains("master br0") && shown.contains("user 1234") && shown.contains("multi_queue"),
        "{shown}"
    );
    assert!(shown.contains("isolated on"), "{shown}");
    assert!(sh("ip -n c1 -d link show eth0").contains("tun type tap"));
    let cfg = lab.commit(vec![(owner("ports", 1), tap(77))]);
    lab.converged(cfg);
    assert!(sh("ip -d link show p1").contains("user 77"));
    sh("ip link del p1; ip -n c1 link del eth0");
    lab.until("healed", |lab| lab.count(EventKind::Healed) == 2);
    let cfg = lab.commit(vec![
        (owner("ports", 1), Desired::Gone),
        (owner("ports", 2), Desired::Gone),
    ]);
    lab.converged(cfg);
    assert!(!try_sh("ip link show p1").0 && !try_sh("ip -n c1 link show eth0").0);
}

/// One of each kind with a word of its own in the capabilities, and its parent if it needs one.
fn kinds() -> Vec<(&'static str, Spec, Option<&'static str>)> {
    let geneve = Geneve {
        vni: 7,
        remote: Some(IpAddr::from([10, 7, 0, 254])),
        port: 6081,
        ttl: 0,
    };
    let tagged = Vlan { tag: 7, service: false };
    vec![
        ("macvlan", macvlan(MacvlanMode::Passthru), Some("up0")),
        ("macvtap", Spec::Macvtap(Macvlan::default()), Some("up0")),
        ("vxlan", vxlan(7, [10, 7, 0, 254]), Some("up0")),
        ("tap", Spec::Tap(Tap::default()), None),
        ("vlan", Spec::Vlan(tagged), Some("up0")),
        ("ipvlan", Spec::Ipvlan(Ipvlan::default()), Some("up0")),
        ("geneve", Spec::Geneve(geneve), None),
        ("bond", Spec::Bond(Bond::default()), None),
        ("dummy", Spec::Dummy, None),
    ]
}

#[test]
fn every_kind_works_or_is_no_capability_and_its_row_says_so() {
    uplink();
    let (kernel, _inputs) = Kernel::live(Mark::of(b"words")).unwrap();
    let words = kernel.capabilities().words();
    println!("{words:?}");
    assert_eq!(
        sh("ip -o link").lines().count(),
        2,
        "the probe left nothing but lo and up0"
    );
    let mut lab = Lab::new(vec![]);
    for (kind, spec, parent) in kinds() {
        let row = objects(port(1, named("c1"), spec, parent, 9));
        let cfg = lab.commit(vec![(owner("ports", 1), row)]);
        if words.contains(&ecow::eco_format!("link:{kind}")) {
            lab.converged(cfg);
            assert!(try_sh("ip -n c1 link show eth0").0, "{kind}");
        } else {
            lab.until(kind, |lab| lab.state(&owner("ports", 1)) == Some(State::Failed));
            let error = lab.reports[&owner("ports", 1)].error.clone().unwrap();
            println!("{kind}: {error}");
            let plain = ecow::eco_format!("this kernel has no links of kind {kind}");
            assert!(error.contains(plain.as_str()), "{error}");
        }
        let cfg = lab.commit(vec![(owner("ports", 1), Desired::Gone)]);
        lab.converged(cfg);
        assert!(!try_sh("ip -n c1 link show eth0").0, "{kind} is left over");
    }
}
