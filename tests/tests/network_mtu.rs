//! The MTU of links whose rows name none is that of the way that frames take, and follows it.

use nonnet_tests::host::{Host, bridge_and_network, delete, insert, port, update};
use serde_json::{Value, json};

/// A host with an uplink `up0`, the other end of which is in namespace `far`, and namespaces `c1` and `c2`.
fn host() -> Host {
    let host = Host::start();
    for name in ["far", "c1", "c2"] {
        host.netns.add(name).unwrap();
    }
    host.sh("ip link add up0 mtu 9000 type veth peer name far0 netns far mtu 9000; ip link set up0 up; ip -n far link set far0 up");
    host
}

fn shown(host: &mut Host, table: &str, name: &str) -> Option<u64> {
    let row = host.row(table, name);
    let pairs = row["status"].clone();
    pairs["mtu"].as_str()?.parse().ok()
}

/// Waits until the kernel has this MTU for both ends of a pair, and its row says so.
#[track_caller]
fn until_port(host: &mut Host, name: &str, netns: &str, mtu: u64) {
    host.until(&format!("{name} has an MTU of {mtu}"), |host| {
        let both = [
            host.links()[name]["mtu"].clone(),
            host.links_in(netns)["eth0"]["mtu"].clone(),
        ];
        both == [json!(mtu), json!(mtu)] && shown(host, "ports", name) == Some(mtu)
    });
}

#[track_caller]
fn until_bridge(host: &mut Host, name: &str, mtu: u64) {
    host.until(&format!("bridge {name} has an MTU of {mtu}"), |host| {
        host.links()[name]["mtu"] == json!(mtu) && shown(host, "bridges", name) == Some(mtu)
    });
}

fn single(name: &str, kind: &str, row: &Value) -> Value {
    let mut row = row.clone();
    row["name"] = json!(name);
    row["kind"] = json!(kind);
    insert("ports", &format!("port_{name}"), &row)
}

#[test]
fn ports_have_the_mtu_of_their_bridges_uplink_and_follow_it() {
    let mut host = host();
    let mut rows = bridge_and_network("br0", "lan", &[("10.79.0.0/24", "10.79.0.1")]);
    rows[0]["row"]["uplinks"] = json!("up0");
    rows.push(port("p1", "c1"));
    let mut plain = port("p2", "c2");
    plain["row"]["mtu"] = json!(1300);
    rows.push(plain);
    host.transact(&rows);
    host.converged();
    until_port(&mut host, "p1", "c1", 9000);
    until_port(&mut host, "p2", "c2", 1300);
    // What goes through the gateway must reach the port that takes less, too.
    until_bridge(&mut host, "br0", 1300);
    host.transact(&[delete("ports", "p2")]);
    until_bridge(&mut host, "br0", 9000);
    assert!(host.succeeds("ip netns exec c1 ping -n -c 1 -W 5 -M do -s 8000 10.79.0.1"));

    let seen = host.last_event();
    host.sh("ip link set up0 mtu 1400");
    until_port(&mut host, "p1", "c1", 1400);
    until_bridge(&mut host, "br0", 1400);
    host.converged();
    let drift = host.events(seen).into_iter().filter(|event| event["kind"] == "drift");
    assert_eq!(
        drift.collect::<Vec<_>>(),
        Vec::<Value>::new(),
        "nobody tampered with anything"
    );
    assert!(!host.succeeds("ip netns exec c1 ping -n -c 1 -W 1 -M do -s 1400 10.79.0.1"));

    host.sh("ip -n c1 link set eth0 mtu 1350");
    host.until_event(seen, "healed", "p1");
    until_port(&mut host, "p1", "c1", 1400);
    host.transact(&[update("bridges", "br0", &json!({"uplinks": ["set", []]}))]);
    until_port(&mut host, "p1", "c1", 1500);
    until_bridge(&mut host, "br0", 1500);
    host.transact(&[update("bridges", "br0", &json!({"mtu": 1450}))]);
    until_port(&mut host, "p1", "c1", 1450);
    until_bridge(&mut host, "br0", 1450);
}

#[test]
fn tunnel_on_a_bridge_leaves_the_others_what_its_underlay_leaves() {
    let mut host = host();
    host.sh("ip link set up0 mtu 1500; ip addr add 10.7.0.1/24 dev up0");
    let mut rows = bridge_and_network("br0", "lan", &[("10.79.0.0/24", "10.79.0.1")]);
    rows.push(port("p1", "c1"));
    host.transact(&rows);
    host.converged();
    until_port(&mut host, "p1", "c1", 1500);
    let mut tunnel = json!({"options": ["map", [["vni", "42"], ["local", "10.7.0.1"],
        ["remote", "10.7.0.254"]]]});

    tunnel["bridge"] = json!(["uuid", host.row("bridges", "br0")["_uuid"]]);
    host.transact(&[single("vx", "vxlan", &tunnel)]);
    host.converged();
    until_port(&mut host, "p1", "c1", 1450);
    until_bridge(&mut host, "br0", 1450);
    assert_eq!(shown(&mut host, "ports", "vx"), Some(1450));
    host.transact(&[delete("ports", "vx")]);
    until_port(&mut host, "p1", "c1", 1500);
    until_bridge(&mut host, "br0", 1500);
}

#[test]
fn link_on_another_one_has_its_mtu_unless_the_row_names_one() {
    let mut host = host();
    host.transact(&[
        single("m1", "macvlan", &json!({"parent": "up0", "netns": "c1"})),
        single("m2", "macvlan", &json!({"parent": "up0", "netns": "c2", "mtu": 1280})),
    ]);
    host.converged();
    assert_eq!(
        (shown(&mut host, "ports", "m1"), shown(&mut host, "ports", "m2")),
        (Some(9000), Some(1280))
    );
    host.sh("ip link set up0 mtu 1400");
    host.until("the macvlan has what is left", |host| {
        shown(host, "ports", "m1") == Some(1400)
    });
    // The kernel lowers it with its parent, and leaves it to others to raise it again.
    host.sh("ip link set up0 mtu 5000");
    host.until("the macvlan follows", |host| shown(host, "ports", "m1") == Some(5000));
    assert_eq!(shown(&mut host, "ports", "m2"), Some(1280));
}
