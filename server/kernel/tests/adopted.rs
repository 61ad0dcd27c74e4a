//! Links that somebody else made, taken over by rows and given back, in the real kernel. As root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod lab;

use lab::{Lab, isolate, name, owner, sh, try_sh};
use nonnet_hooks::object::{Bridge, BridgeSettings, NetnsRef, Object, Port, PortKind, Role};
use nonnet_hooks::reconcile::Desired;
use nonnet_hooks::report::{EventKind, State};

fn bridge(adopt: bool) -> Object {
    Object::Bridge(Bridge {
        name: name("br0"),
        mac: None,
        mtu: None,
        settings: BridgeSettings {
            stp: Some(false),
            ..BridgeSettings::default()
        },
        ipv6: false,
        adopt,
    })
}

/// A link as it is shown, but for its queue, which is another once the link was up.
fn shown(link: &str) -> String {
    sh(&format!("ip -o link show {link} | sed 's/qdisc [a-z]* //'"))
}

fn uplink(link: &str) -> Object {
    Object::Port(Port::taken(name(link), name("br0"), Role::Uplink))
}

fn up0() {
    sh("ip link add up0 type veth peer name far0; ip link set far0 up; ip link set up0 alias 'to the office'");
}

#[test]
fn an_uplink_joins_its_bridge_is_kept_there_and_is_given_back_as_it_was() {
    isolate();
    up0();
    let before = shown("up0");
    let rows = |objects| vec![(owner("bridges", 1), Desired::Objects(objects))];
    let mut lab = Lab::new(rows(vec![bridge(false), uplink("up0"), uplink("up1")]));
    lab.until("the other one is waited for", |lab| {
        lab.state(&owner("bridges", 1)) == Some(State::Waiting)
    });
    sh("ip link add up1 type veth peer name far1");
    lab.converged(1);
    for link in ["up0", "up1"] {
        let shown = sh(&format!("ip link show {link}"));
        assert!(shown.contains("master br0") && shown.contains(",UP"), "{shown}");
    }
    sh("ip link set up0 nomaster");
    lab.until("healed", |lab| lab.count(EventKind::Healed) >= 1 && lab.progress.1 == 0);
    assert!(sh("ip link show up0").contains("master br0"));
    let cfg = lab.commit(rows(vec![bridge(false), uplink("up1")]));
    lab.converged(cfg);
    assert_eq!(shown("up0"), before);
    let cfg = lab.commit(vec![(owner("bridges", 1), Desired::Gone)]);
    lab.converged(cfg);
    assert!(!try_sh("ip link show br0").0, "the bridge was made by nonnet");
    let shown = sh("ip link show up1");
    assert!(
        !shown.contains("alias") && !shown.contains("master") && !shown.contains(",UP"),
        "{shown}"
    );
}

#[test]
fn an_uplink_with_an_address_is_left_alone_and_its_row_says_why() {
    isolate();
    up0();
    sh("ip addr add 192.0.2.7/24 dev up0");
    let objects = vec![bridge(false), uplink("up0")];
    let mut lab = Lab::new(vec![(owner("bridges", 1), Desired::Objects(objects))]);
    lab.until("it says so", |lab| {
        lab.state(&owner("bridges", 1)) == Some(State::Conflict)
    });
    let error = lab.reports[&owner("bridges", 1)].error.clone().unwrap();
    assert!(error.contains("up0 has address 192.0.2.7/24"), "{error}");
    assert!(!sh("ip link show up0").contains("master"));
    sh("ip addr del 192.0.2.7/24 dev up0");
    lab.until("it joins", |lab| {
        lab.state(&owner("bridges", 1)) == Some(State::Converged)
    });
}

#[test]
fn a_bridge_is_taken_over_and_given_back_and_a_link_of_another_kind_is_not() {
    isolate();
    sh("ip link add br0 address 02:00:00:00:00:99 type bridge stp_state 1; ip addr add 192.0.2.1/24 dev br0");
    let index = sh("cat /sys/class/net/br0/ifindex");
    let row = |adopt| vec![(owner("bridges", 1), Desired::Objects(vec![bridge(adopt)]))];
    let mut lab = Lab::new(row(false));
    lab.until("it is another's", |lab| {
        lab.state(&owner("bridges", 1)) == Some(State::Conflict)
    });
    let cfg = lab.commit(row(true));
    lab.converged(cfg);
    let shown = sh("ip -d link show br0");
    assert!(
        shown.contains("02:00:00:00:00:99") && shown.contains("stp_state 0"),
        "{shown}"
    );
    let cfg = lab.commit(vec![(owner("bridges", 1), Desired::Gone)]);
    lab.converged(cfg);
    assert_eq!(
        sh("cat /sys/class/net/br0/ifindex"),
        index,
        "the same bridge is still there"
    );
    assert!(!sh("ip link show br0").contains("alias") && sh("ip addr show br0").contains("192.0.2.1/24"));
    sh("ip link del br0; ip link add br0 type veth peer name br1");
    let cfg = lab.commit(row(true));
    lab.until("it is no bridge", |lab| {
        lab.progress.0 >= cfg && lab.state(&owner("bridges", 1)) == Some(State::Conflict)
    });
    let error = lab.reports[&owner("bridges", 1)].error.clone().unwrap();
    assert!(error.contains("no bridge to adopt"), "{error}");
}

#[test]
fn a_port_is_taken_over_across_a_restart_and_given_back() {
    isolate();
    up0();
    let before = shown("up0");
    let port = Port {
        kind: PortKind::Adopted(Role::Port),
        addresses: vec!["192.0.2.9/24".parse().unwrap()],
        mtu: Some(1400),
        ..Port::new(name("up0"), name("up0"), NetnsRef::Host)
    };
    let row = vec![(owner("ports", 1), Desired::Objects(vec![Object::Port(port)]))];
    let mut lab = Lab::new(row.clone());
    lab.converged(1);
    assert!(sh("ip addr show up0").contains("192.0.2.9/24") && sh("ip link show up0").contains("mtu 1400"));
    drop(lab);
    let mut lab = Lab::new(row);
    lab.converged(1);
    assert!(lab.operations.is_empty(), "{:?}", lab.operations);
    drop(lab);
    // A server that starts without the row gives back what its former run took.
    let mut lab = Lab::new(vec![]);
    lab.until("given back", |_| !sh("ip link show up0").contains("taken"));
    sh("ip link set up0 mtu 1500");
    assert_eq!(shown("up0"), before);
    assert!(!sh("ip addr show up0").contains("192.0.2.9"));
    lab.converged(1);
}
