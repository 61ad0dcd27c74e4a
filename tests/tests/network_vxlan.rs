//! VXLAN tunnels whose other ends are rows of `peers`: each of them is reached, a removed one no more, and what somebody else changes is healed.

use nonnet_tests::host::{Host, delete, insert, update};
use serde_json::{Value, json};

/// A host with an underlay on `ub0` (10.7.0.1), on which `far1` and `far2` (10.7.0.11 and 10.7.0.12) have tunnels to it and to each other.
fn host() -> Host {
    let host = Host::start();
    host.sh("ip link add ub0 type bridge; ip link set ub0 up; ip addr add 10.7.0.1/24 dev ub0");
    for at in [1, 2] {
        let far = format!("far{at}");
        host.netns.add(&far).unwrap();
        host.sh(&format!(
            "ip link add u{at} type veth peer name up0 netns {far}; ip link set u{at} master ub0 up
            ip -n {far} link set up0 up; ip -n {far} addr add 10.7.0.1{at}/24 dev up0
            ip -n {far} link add vx type vxlan id 42 local 10.7.0.1{at} dstport 4789; ip -n {far} link set vx up
            ip -n {far} addr add 10.42.0.1{at}/24 dev vx
            bridge -n {far} fdb append 00:00:00:00:00:00 dst 10.7.0.1 dev vx
            bridge -n {far} fdb append 00:00:00:00:00:00 dst 10.7.0.1{} dev vx",
            3 - at
        ));
    }
    host.netns.add("c1").unwrap();
    host
}

fn peer(at: u32) -> Value {
    insert(
        "peers",
        &format!("far{at}"),
        &json!({"kind": "vxlan", "endpoint": format!("10.7.0.1{at}")}),
    )
}

fn tunnel(host: &mut Host) {
    let options = json!(["map", [["vni", "42"], ["local", "10.7.0.1"]]]);
    let row = json!({"name": "vx42", "kind": "vxlan", "netns": "c1", "addresses": "10.42.0.1/24", "options": options,
        "peers": ["set", [["named-uuid", "far1"], ["named-uuid", "far2"]]]});
    host.transact(&[peer(1), peer(2), insert("ports", "port", &row)]);
    host.converged();
}

fn ends(host: &Host) -> Vec<String> {
    let entries = host.sh("bridge -n c1 fdb show dev eth0 | grep ^00:00:00:00:00:00 || true");
    let mut ends: Vec<String> = entries
        .lines()
        .filter_map(|line| Some(line.split("dst ").nth(1)?.split(' ').next()?.to_owned()))
        .collect();
    ends.sort();
    ends
}

fn reaches(host: &mut Host, address: &str) {
    host.until(&format!("{address} is reached"), |host| {
        host.succeeds(&format!("ip netns exec c1 ping -n -c 1 -W 1 {address}"))
    });
}

#[test]
fn three_namespaces_reach_each_other_by_their_peers_and_one_that_is_removed_no_more() {
    let mut host = host();
    tunnel(&mut host);
    assert_eq!(ends(&host), ["10.7.0.11", "10.7.0.12"]);
    reaches(&mut host, "10.42.0.11");
    reaches(&mut host, "10.42.0.12");
    assert!(host.succeeds("ip netns exec far1 ping -n -c 1 -W 5 10.42.0.12"));
    let states: Vec<Value> = host
        .rows("peers")
        .iter()
        .map(|row| row["status"]["state"].clone())
        .collect();
    assert_eq!(states, ["converged", "converged"]);
    let index = host.links_in("c1")["eth0"]["ifindex"].clone();
    let kept = host
        .rows("peers")
        .into_iter()
        .find(|row| row["endpoint"] == "10.7.0.11")
        .unwrap();
    let options = json!(["map", [["vni", "42"], ["local", "10.7.0.1"], ["learning", "false"]]]);
    host.transact(&[update(
        "ports",
        "vx42",
        &json!({"peers": ["uuid", kept["_uuid"]], "options": options}),
    )]);
    host.converged();
    assert_eq!(ends(&host), ["10.7.0.11"]);
    assert!(
        !host.sh("bridge -n c1 fdb show dev eth0").contains("10.7.0.12"),
        "nor is what was learnt"
    );
    assert!(!host.succeeds("ip netns exec c1 ping -n -c 1 -W 1 10.42.0.12"));
    reaches(&mut host, "10.42.0.11");
    assert_eq!(
        host.links_in("c1")["eth0"]["ifindex"],
        index,
        "the link changed in place"
    );
    // A remote besides the peers is one of them.
    let options = json!(["map", [["vni", "42"], ["local", "10.7.0.1"], ["remote", "10.7.0.12"]]]);
    host.transact(&[update("ports", "vx42", &json!({"options": options}))]);
    host.converged();
    assert_eq!(ends(&host), ["10.7.0.11", "10.7.0.12"]);
    reaches(&mut host, "10.42.0.12");
    host.transact(&[delete("ports", "vx42")]);
    host.until("the link is gone", |host| !host.links_in("c1").contains_key("eth0"));
}

#[test]
fn what_somebody_else_takes_away_or_adds_is_healed() {
    let mut host = host();
    tunnel(&mut host);
    let before = host.last_event();
    host.sh("bridge -n c1 fdb del 00:00:00:00:00:00 dst 10.7.0.12 dev eth0");
    host.until_event(before, "healed", "vx42");
    assert_eq!(ends(&host), ["10.7.0.11", "10.7.0.12"]);
    let before = host.last_event();
    host.sh("bridge -n c1 fdb append 00:00:00:00:00:00 dst 10.7.0.99 dev eth0");
    host.until_event(before, "healed", "vx42");
    assert_eq!(ends(&host), ["10.7.0.11", "10.7.0.12"]);
    // A start finds what is there.
    host.kill();
    host.sh("bridge -n c1 fdb del 00:00:00:00:00:00 dst 10.7.0.11 dev eth0");
    host.run();
    host.converged();
    host.until("it is there again", |host| ends(host) == ["10.7.0.11", "10.7.0.12"]);
    reaches(&mut host, "10.42.0.11");
}

#[test]
fn wrong_peers_are_refused_by_row_and_column() {
    let mut host = Host::start();
    let cases = [
        (
            json!({"endpoint": "10.7.0.11:4789"}),
            "row \"10.7.0.11:4789\", column endpoint",
        ),
        (
            json!({"endpoint": ["set", []]}),
            "column endpoint: a vxlan peer needs its address",
        ),
        (
            json!({"endpoint": "10.7.0.12"}),
            "column endpoint: the tunnel has this peer twice",
        ),
        (
            json!({"endpoint": "fd00::1"}),
            "column endpoint: the tunnel is one of IPv4",
        ),
        (
            json!({"allowed": "10.0.0.0/8"}),
            "column allowed: a vxlan peer has nothing but its endpoint",
        ),
        (json!({"kind": "wireguard"}), "column k"),
    ];
    for (changes, expected) in cases {
        let mut row = json!({"kind": "vxlan", "endpoint": "10.7.0.11"});
        for (column, value) in changes.as_object().unwrap() {
            row[column] = value.clone();
        }
        let options = json!(["map", [["vni", "42"]]]);
        let port = json!({"name": "vx42", "kind": "vxlan", "options": options,
            "peers": ["set", [["named-uuid", "one"], ["named-uuid", "far2"]]]});
        let (_, why) = host.refused(&[insert("peers", "one", &row), peer(2), insert("ports", "port", &port)]);
        assert!(
            why.contains("table peers") && why.contains(expected),
            "{expected}: {why}"
        );
    }
}
