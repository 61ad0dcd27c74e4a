//! Every kind of link that the kernel here has works, is healed and changes in place; what it lacks is told.

use nonnet_tests::host::{Host, delete, elements, insert, update};
use serde_json::{Value, json};

/// A host with an uplink `up0`, the other end of which is `far0` in namespace `far`, and namespaces `c1` and `c2`.
fn host() -> Host {
    let host = Host::start();
    for name in ["far", "c1", "c2"] {
        host.netns.add(name).unwrap();
    }
    host.sh("ip link add up0 type veth peer name far0 netns far; ip link set up0 up; ip -n far link set far0 up");
    host.sh("ip -n far addr add 10.7.0.254/24 dev far0");
    host
}

fn port(name: &str, row: &Value) -> Value {
    let mut row = row.clone();
    row["name"] = json!(name);
    insert("ports", &format!("port_{name}"), &row)
}

fn map(pairs: &[(&str, &str)]) -> Value {
    json!(["map", pairs])
}

/// Two ports of one kind in `c1` and `c2`, with 10.7.0.1 and 10.7.0.2, that differ from `row` in nothing else.
fn pair_of_ports(row: &Value) -> Vec<Value> {
    let one = |at: u32| {
        let mut row = row.clone();
        row["netns"] = json!(format!("c{at}"));
        row["addresses"] = json!(format!("10.7.0.{at}/24"));
        port(&format!("p{at}"), &row)
    };
    vec![one(1), one(2)]
}

fn index_in(host: &Host, netns: &str, link: &str) -> i64 {
    host.links_in(netns)[link]["ifindex"].as_i64().unwrap()
}

#[test]
fn two_veths_on_a_bridge_reach_each_other_unless_both_are_isolated() {
    let mut host = host();
    let mut operations = vec![insert("bridges", "bridge", &json!({"name": "br0"}))];
    operations.extend(pair_of_ports(&json!({"bridge": ["named-uuid", "bridge"]})));
    host.transact(&operations);
    host.converged();
    assert!(host.pings("c1", "10.7.0.2"));
    host.transact(&[
        update("ports", "p1", &json!({"isolated": true})),
        update("ports", "p2", &json!({"isolated": true})),
    ]);
    host.converged();
    assert!(host.sh("bridge -d link show dev p1").contains("isolated on"));
    assert!(!host.succeeds("ip netns exec c1 ping -n -c 1 -W 1 10.7.0.2"));
    let before = host.last_event();
    host.sh("bridge link set dev p1 isolated off");
    host.until_event(before, "healed", "p1");
    host.transact(&[update("ports", "p1", &json!({"isolated": false}))]);
    host.converged();
    assert!(host.pings("c1", "10.7.0.2"));
    host.transact(&[update("ports", "p1", &json!({"enabled": false}))]);
    host.converged();
    assert_eq!(host.links_in("c1")["eth0"]["operstate"], "DOWN");
    assert_eq!(host.row("ports", "p1")["link_state"], "down");
}

#[test]
fn a_veth_without_a_namespace_has_both_ends_on_the_host() {
    let mut host = host();
    host.transact(&[port("here", &json!({"ifname": "there", "addresses": "10.6.0.1/24"}))]);
    host.converged();
    assert_eq!(host.link("here").unwrap()["link"], "there");
    assert!(host.sh("ip -br addr show there").contains("10.6.0.1/24"));
    host.transact(&[delete("ports", "here")]);
    host.converged();
    assert!(host.link("here").is_none() && host.link("there").is_none());
}

#[test]
fn macvlans_reach_each_other_and_the_parents_network_as_their_mode_says() {
    let mut host = host();
    host.transact(&pair_of_ports(&json!({"kind": "macvlan", "parent": "up0"})));
    host.converged();
    assert!(host.pings("c1", "10.7.0.2") && host.pings("c1", "10.7.0.254"));
    let index = index_in(&host, "c1", "eth0");
    host.transact(&[update("ports", "p1", &json!({"mode": "private"}))]);
    host.converged();
    assert_eq!(index_in(&host, "c1", "eth0"), index, "the mode changed in place");
    assert_eq!(host.links_in("c1")["eth0"]["linkinfo"]["info_data"]["mode"], "private");
    assert!(host.pings("c1", "10.7.0.254"));
    assert!(!host.succeeds("ip netns exec c1 ping -n -c 1 -W 1 10.7.0.2"));
    for mode in ["vepa", "source", "bridge"] {
        host.transact(&[update("ports", "p1", &json!({"mode": mode}))]);
        host.converged();
        assert_eq!(host.links_in("c1")["eth0"]["linkinfo"]["info_data"]["mode"], mode);
    }
    let row = host.row("ports", "p1");
    assert_eq!(row["mac_in_use"], host.links_in("c1")["eth0"]["address"]);
    assert_eq!(row["addresses_in_use"], "10.7.0.1/24");

    let before = host.last_event();
    host.sh("ip -n c1 link del eth0");
    host.until_event(before, "healed", "p1");
    assert!(host.pings("c1", "10.7.0.2"));
    let before = host.last_event();
    host.sh(
        "ip -n c1 link set eth0 down; ip -n c1 addr flush dev eth0; ip -n c1 link set eth0 type macvlan mode private",
    );
    host.until_event(before, "healed", "p1");
    host.converged();
    assert!(host.pings("c1", "10.7.0.2"));
}

#[test]
fn a_macvlan_of_mode_passthru_has_its_parent_alone() {
    let mut host = host();
    let row =
        json!({"kind": "macvlan", "parent": "up0", "mode": "passthru", "netns": "c1", "addresses": "10.7.0.1/24"});
    host.transact(&[port("p1", &row)]);
    host.converged();
    assert!(host.pings("c1", "10.7.0.254"));
    let (_, why) = host.refused(&[port("p2", &json!({"kind": "macvlan", "parent": "up0", "netns": "c2"}))]);
    assert!(
        why.contains("table ports, row \"p2\", column parent") && why.contains("port \"p1\""),
        "{why}"
    );
    host.transact(&[update("ports", "p1", &json!({"mode": "bridge"}))]);
    host.converged();
    assert!(host.pings("c1", "10.7.0.254"));
}

#[test]
fn a_macvlan_that_moves_or_goes_leaves_nothing_where_it_was() {
    let mut host = host();
    host.transact(&pair_of_ports(&json!({"kind": "macvlan", "parent": "up0"})));
    host.converged();
    host.transact(&[update("ports", "p1", &json!({"netns": "far", "ifname": "mv0"}))]);
    host.converged();
    assert!(!host.links_in("c1").contains_key("eth0") && host.links_in("far").contains_key("mv0"));
    host.transact(&[update(
        "ports",
        "p1",
        &json!({"netns": ["set", []], "ifname": ["set", []]}),
    )]);
    host.converged();
    assert!(!host.links_in("far").contains_key("mv0"));
    assert_eq!(host.link("p1").unwrap()["linkinfo"]["info_kind"], "macvlan");
    host.transact(&[update("ports", "p1", &json!({"netns": "c1"})), delete("ports", "p2")]);
    host.converged();
    assert!(host.link("p1").is_none() && host.links_in("c1").contains_key("eth0"));
    host.until("the other one is gone", |host| {
        !host.links_in("c2").contains_key("eth0")
    });
    // Another row of the same name, of another kind, in one transaction.
    host.transact(&[delete("ports", "p1"), port("p1", &json!({"netns": "c1"}))]);
    host.converged();
    assert_eq!(host.links_in("c1")["eth0"]["linkinfo"]["info_kind"], "veth");
}

#[test]
fn a_macvlan_waits_for_its_parent_and_comes_back_with_it() {
    let mut host = host();
    let row = json!({"kind": "macvlan", "parent": "late0", "netns": "c1", "addresses": "10.17.0.1/24"});
    host.transact(&[port("p1", &row)]);
    host.until_state("ports", "p1", "waiting");
    assert_eq!(host.error("ports", "p1"), "parent late0 does not exist");
    let make = "ip link add late0 type veth peer name far1 netns far; ip link set late0 up; ip -n far link set far1 up";
    host.sh(make);
    host.converged();
    assert_eq!(host.state("ports", "p1"), "converged");
    host.sh("ip link del late0");
    host.until_state("ports", "p1", "waiting");
    host.sh(make);
    host.until_state("ports", "p1", "converged");
    host.sh("ip -n far addr add 10.17.0.253/24 dev far1");
    assert!(host.pings("c1", "10.17.0.253"));
}

#[test]
fn a_network_with_a_parent_makes_its_ports_macvlans() {
    let mut host = host();
    let network =
        json!({"name": "lan", "parent": "up0", "subnets": ["map", [["10.7.0.0/24", ""]]], "ipam": "sequential"});
    let on_it = |name: &str, netns: &str| port(name, &json!({"netns": netns, "network": ["named-uuid", "network"]}));
    host.transact(&[
        insert("networks", "network", &network),
        on_it("p1", "c1"),
        on_it("p2", "c2"),
    ]);
    host.converged();
    assert_eq!(host.links_in("c1")["eth0"]["linkinfo"]["info_kind"], "macvlan");
    let address = host.row("ports", "p2")["addresses_in_use"]
        .as_str()
        .unwrap()
        .replace("/24", "");
    assert!(host.pings("c1", &address) && host.pings("c1", "10.7.0.254"));
}

#[test]
fn two_macvtaps_reach_each_other() {
    let mut host = host();
    host.transact(&pair_of_ports(&json!({"kind": "macvtap", "parent": "up0"})));
    host.converged();
    assert_eq!(host.links_in("c1")["eth0"]["linkinfo"]["info_kind"], "macvtap");
    // What goes to a macvtap is for the program that has it open: only what it sends can be seen here.
    assert!(
        host.links_in("c1")["eth0"]["flags"]
            .as_array()
            .unwrap()
            .contains(&json!("UP"))
    );
    let before = host.last_event();
    host.sh("ip -n c1 link del eth0");
    host.until_event(before, "healed", "p1");
    host.converged();
}

#[test]
fn a_vxlan_carries_frames_to_its_other_end_and_changes_in_place() {
    let mut host = host();
    host.sh("ip addr add 10.7.0.1/24 dev up0; ip -n far link add vx type vxlan id 42 remote 10.7.0.1 local 10.7.0.254 dstport 4789
        ip -n far link set vx up; ip -n far addr add 10.42.0.254/24 dev vx");
    let options = [("vni", "42"), ("local", "10.7.0.1"), ("remote", "10.7.0.254")];
    host.transact(&[port(
        "vx42",
        &json!({"kind": "vxlan", "netns": "c1", "options": map(&options), "addresses": "10.42.0.1/24"}),
    )]);
    host.converged();
    assert!(host.pings("c1", "10.42.0.254"));
    let index = index_in(&host, "c1", "eth0");
    let options = [
        ("vni", "42"),
        ("local", "10.7.0.1"),
        ("remote", "10.7.0.77"),
        ("learning", "false"),
        ("ttl", "9"),
    ];
    host.transact(&[update("ports", "vx42", &json!({"options": map(&options)}))]);
    host.converged();
    let link = host.links_in("c1").remove("eth0").unwrap();
    assert_eq!(link["ifindex"], index);
    let data = &link["linkinfo"]["info_data"];
    assert_eq!(
        (&data["remote"], &data["learning"], &data["ttl"]),
        (&json!("10.7.0.77"), &json!(false), &json!(9))
    );
    // Another VNI takes another link.
    let options = [("vni", "43"), ("local", "10.7.0.1"), ("remote", "10.7.0.254")];
    host.transact(&[update("ports", "vx42", &json!({"options": map(&options)}))]);
    host.converged();
    assert_eq!(host.links_in("c1")["eth0"]["linkinfo"]["info_data"]["id"], 43);
    host.sh(
        "ip -n far link del vx; ip -n far link add vx type vxlan id 43 remote 10.7.0.1 local 10.7.0.254 dstport 4789
        ip -n far link set vx up; ip -n far addr add 10.42.0.254/24 dev vx",
    );
    assert!(host.pings("c1", "10.42.0.254"));
    let before = host.last_event();
    host.sh("ip -n c1 link del eth0");
    host.until_event(before, "healed", "vx42");
    assert!(host.pings("c1", "10.42.0.254"));
}

#[test]
fn a_vxlan_on_a_bridge_joins_two_hosts() {
    let mut host = host();
    host.sh("ip addr add 10.7.0.1/24 dev up0; ip -n far link add vx type vxlan id 42 remote 10.7.0.1 local 10.7.0.254 dstport 4789
        ip -n far link set vx up; ip -n far addr add 10.42.0.254/24 dev vx");
    let options = [("local", "10.7.0.1"), ("remote", "10.7.0.254")];
    host.transact(&[
        insert("bridges", "bridge", &json!({"name": "br0"})),
        insert(
            "networks",
            "network",
            &json!({"name": "wide", "bridge": ["named-uuid", "bridge"], "vni": 42}),
        ),
        port(
            "vx42",
            &json!({"kind": "vxlan", "network": ["named-uuid", "network"], "options": map(&options)}),
        ),
        port(
            "p1",
            &json!({"netns": "c1", "network": ["named-uuid", "network"], "addresses": ["set", []]}),
        ),
    ]);
    host.converged();
    host.sh("ip -n c1 addr add 10.42.0.1/24 dev eth0");
    assert!(host.pings("c1", "10.42.0.254"));
    let before = host.last_event();
    host.sh("ip link del vx42");
    host.until_event(before, "healed", "vx42");
    host.converged();
    assert_eq!(host.link("vx42").unwrap()["master"], "br0");
}

#[test]
fn a_tap_is_there_for_its_user_and_carries_what_a_program_sends() {
    let mut host = host();
    let options = [("user", "1234"), ("multi_queue", "true")];
    host.transact(&[
        insert("bridges", "bridge", &json!({"name": "br0"})),
        port(
            "tap0",
            &json!({"kind": "tap", "bridge": ["named-uuid", "bridge"], "options": map(&options)}),
        ),
        port(
            "tap1",
            &json!({"kind": "tap", "netns": "c1", "ifname": "vm0", "addresses": "10.5.0.1/24"}),
        ),
    ]);
    host.converged();
    let link = host.link("tap0").unwrap();
    assert_eq!(
        (&link["master"], &link["linkinfo"]["info_data"]["user"]),
        (&json!("br0"), &json!(1234))
    );
    assert_eq!(link["linkinfo"]["info_data"]["multi_queue"], true);
    assert_eq!(host.links_in("c1")["vm0"]["linkinfo"]["info_data"]["type"], "tap");
    for (damage, about) in [("ip link del tap0", "tap0"), ("ip -n c1 link del vm0", "tap1")] {
        let before = host.last_event();
        host.sh(damage);
        host.until_event(before, "healed", about);
    }
    host.converged();
    host.transact(&[update("ports", "tap0", &json!({"options": map(&[("user", "77")])}))]);
    host.converged();
    assert_eq!(host.link("tap0").unwrap()["linkinfo"]["info_data"]["user"], 77);
    host.transact(&[delete("ports", "tap0"), delete("ports", "tap1")]);
    host.converged();
    assert!(host.link("tap0").is_none());
    host.until("it is gone inside, too", |host| {
        !host.links_in("c1").contains_key("vm0")
    });
}

/// The kinds of ports, each with what a row of it needs on this host.
fn kinds() -> Vec<(&'static str, Value)> {
    let tunnel = map(&[("vni", "7"), ("remote", "10.7.0.254")]);
    vec![
        ("veth", json!({})),
        ("macvlan", json!({"parent": "up0"})),
        ("macvtap", json!({"parent": "up0"})),
        ("ipvlan", json!({"parent": "up0"})),
        ("vlan", json!({"parent": "up0", "tag": 7})),
        ("vxlan", json!({"options": tunnel})),
        ("geneve", json!({"options": tunnel})),
        ("tap", json!({})),
        (
            "bond",
            json!({"mode": "802.3ad", "options": map(&[("lacp_rate", "fast")])}),
        ),
        ("dummy", json!({})),
    ]
}

#[test]
fn what_the_kernel_lacks_is_not_among_the_capabilities_and_is_the_error_of_its_row() {
    let mut host = host();
    let capabilities = elements(&host.rows("host")[0]["capabilities"]);
    for kind in ["veth", "macvlan", "macvtap", "vxlan", "tap"] {
        assert!(
            capabilities.contains(&json!(format!("link:{kind}"))),
            "{kind} of {capabilities:?}"
        );
    }
    for (at, (kind, row)) in kinds().into_iter().enumerate() {
        if kind == "ipvlan" {
            // A link is the parent of ipvlans or of macvlans, not of both.
            host.sh("ip link del up0; ip link add up0 type veth peer name far0 netns far");
        }
        let mut row = row.clone();
        row["kind"] = json!(kind);
        row["netns"] = json!("c1");
        row["ifname"] = json!(format!("e{at}"));
        host.transact(&[port("p1", &row)]);
        if capabilities.contains(&json!(format!("link:{kind}"))) {
            host.converged();
            assert!(host.links_in("c1").contains_key(&format!("e{at}")), "{kind}");
        } else {
            host.until_state("ports", "p1", "failed");
            let error = host.error("ports", "p1");
            assert!(
                error.contains(&format!("this kernel has no links of kind {kind}")),
                "{error}"
            );
        }
        host.transact(&[delete("ports", "p1")]);
        host.converged();
        host.until("it is gone", |host| {
            !host.links_in("c1").contains_key(&format!("e{at}"))
        });
    }
}

#[test]
fn the_probe_leaves_nothing_on_the_host() {
    let host = Host::start();
    assert_eq!(host.links().keys().collect::<Vec<_>>(), ["lo"]);
}

#[test]
fn rows_that_make_no_link_are_refused_by_their_column() {
    let mut host = host();
    let tunnel = |pairs: &[(&str, &str)]| json!({"kind": "vxlan", "options": map(pairs)});
    for (row, column, words) in [
        (json!({"kind": "macvlan"}), "parent", "a macvlan needs a parent"),
        (json!({"kind": "macvlan", "parent": "p1"}), "parent", "its own parent"),
        (
            json!({"kind": "macvlan", "parent": "up0", "mode": "l2"}),
            "mode",
            "none of bridge, vepa, private, passthru, source",
        ),
        (
            json!({"kind": "ipvlan", "parent": "up0", "mac": "02:00:00:00:00:01"}),
            "mac",
            "hardware address of its parent",
        ),
        (json!({"kind": "vlan", "parent": "up0"}), "tag", "needs a tag"),
        (tunnel(&[]), "options:vni", "needs a VNI"),
        (tunnel(&[("vni", "16777216")]), "options:vni", "needs a VNI"),
        (
            tunnel(&[("vni", "1"), ("group", "10.0.0.1")]),
            "options:group",
            "not a multicast address",
        ),
        (
            tunnel(&[("vni", "1"), ("group", "239.0.0.1")]),
            "parent",
            "needs a parent",
        ),
        (
            tunnel(&[("vni", "1"), ("local", "fd00::1"), ("remote", "10.0.0.1")]),
            "options:local",
            "different families",
        ),
        (
            tunnel(&[("vni", "1"), ("colour", "red")]),
            "options",
            "no option \"colour\"",
        ),
        (json!({"kind": "bond", "mode": "9"}), "mode", "none of balance-rr"),
        (
            json!({"kind": "bond", "mode": "1", "options": map(&[("lacp_rate", "fast")])}),
            "options:lacp_rate",
            "only mode 802.3ad",
        ),
        (json!({"kind": "tap", "parent": "up0"}), "parent", "a tap has no parent"),
        (
            json!({"kind": "tap", "ifname": "other"}),
            "ifname",
            "the port is called p1",
        ),
        (
            json!({"kind": "tap", "sysctls": map(&[("net.ipv4.ip_forward", "1")])}),
            "sysctls",
            "not a setting of p1",
        ),
        (json!({"kind": "veth", "ifname": "p1"}), "ifname", "same name"),
    ] {
        let (_, why) = host.refused(&[port("p1", &row)]);
        assert!(
            why.contains(&format!("table ports, row \"p1\", column {column}: ")) && why.contains(words),
            "{row}: {why}"
        );
    }
}

#[test]
fn uplinks_join_their_bridge_and_are_given_back() {
    let mut host = host();
    let before = host.sh("ip -o link show up0 | sed 's/qdisc [a-z]* //'");
    host.transact(&[
        insert("bridges", "bridge", &json!({"name": "br0", "uplinks": "up0"})),
        port(
            "p1",
            &json!({"netns": "c1", "bridge": ["named-uuid", "bridge"], "addresses": "10.7.0.1/24"}),
        ),
    ]);
    host.converged();
    assert_eq!(host.link("up0").unwrap()["master"], "br0");
    assert!(host.pings("c1", "10.7.0.254"));
    host.transact(&[delete("ports", "p1"), delete("bridges", "br0")]);
    host.converged();
    assert!(host.link("br0").is_none());
    assert_eq!(host.sh("ip -o link show up0 | sed 's/qdisc [a-z]* //'"), before);
}

#[test]
fn what_is_adopted_is_given_back_and_not_deleted() {
    let mut host = host();
    host.sh("ip link add br7 type bridge");
    host.transact(&[insert("bridges", "bridge", &json!({"name": "br7"}))]);
    host.until_state("bridges", "br7", "conflict");
    host.transact(&[
        update("bridges", "br7", &json!({"adopt": true})),
        port("up0", &json!({"kind": "adopted", "addresses": "10.7.0.9/24"})),
    ]);
    host.converged();
    assert!(host.succeeds("ping -n -c 1 -W 5 10.7.0.254"));
    let before = host.last_event();
    host.transact(&[delete("bridges", "br7"), delete("ports", "up0")]);
    host.converged();
    host.until_event(before, "released", "br7");
    host.until_event(before, "released", "up0");
    assert!(host.link("br7").is_some() && host.link("up0").is_some());
    assert!(!host.sh("ip addr show up0").contains("10.7.0.9"));
    let (_, why) = host.refused(&[port("up0", &json!({"kind": "adopted", "netns": "c1"}))]);
    assert!(why.contains("column netns: an adopted link stays where it is"), "{why}");
}

#[test]
fn a_bridge_forwards_as_its_row_says() {
    let mut host = host();
    let options = json!([
        "map",
        [
            ["priority", "4096"],
            ["forward_delay", "4"],
            ["hello_time", "1"],
            ["max_age", "8"],
            ["ageing_time", "60"],
            ["group_fwd_mask", "16384"],
            ["mcast_querier", "true"]
        ]
    ]);
    let row = json!({"name": "br0", "stp": true, "mcast_snooping": false, "other_config": options});
    host.transact(&[insert("bridges", "bridge", &row)]);
    host.converged();
    let has = |host: &Host, setting: &str| {
        let path = format!("cat /sys/class/net/br0/bridge/{setting}");
        host.sh(&path).trim().to_owned()
    };
    let wanted = [
        ("stp_state", "1", "0"),
        ("multicast_snooping", "0", "1"),
        ("priority", "4096", "32768"),
        ("forward_delay", "400", "1500"),
        ("hello_time", "100", "200"),
        ("max_age", "800", "2000"),
        ("ageing_time", "6000", "30000"),
        ("group_fwd_mask", "0x4000", "0x0"),
        ("multicast_querier", "1", "0"),
    ];
    for (setting, there, _) in wanted {
        assert_eq!(has(&host, setting), there, "{setting}");
    }
    host.sh("ip link set br0 type bridge mcast_snooping 1 ageing_time 100");
    host.until("what another changed is healed", |host| {
        has(host, "multicast_snooping") == "0" && has(host, "ageing_time") == "6000"
    });
    let none = json!({"stp": false, "mcast_snooping": ["set", []], "other_config": ["map", []]});
    host.transact(&[update("bridges", "br0", &none)]);
    host.converged();
    for (setting, _, new) in wanted {
        assert_eq!(
            has(&host, setting),
            new,
            "{setting}: what the row does not say is as in a new bridge"
        );
    }
    for (key, value, why) in [
        (
            "priority",
            "65536",
            "other_config:priority: \"65536\" is no whole number from 0 to 65535",
        ),
        (
            "forward_delay",
            "1",
            "other_config:forward_delay: \"1\" is no whole number from 2 to 30",
        ),
        ("group_fwd_mask", "1", "other_config:group_fwd_mask: no bridge forwards"),
        (
            "mcast_querier",
            "yes",
            "other_config:mcast_querier: \"yes\" is neither true nor false",
        ),
    ] {
        let (_, said) = host.refused(&[update(
            "bridges",
            "br0",
            &json!({"other_config": ["map", [[key, value]]]}),
        )]);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_tag_needs_a_bridge_that_tells_vlans_apart() {
    let mut host = host();
    host.transact(&[insert("bridges", "bridge", &json!({"name": "br0"}))]);
    let bridge = host.row("bridges", "br0")["_uuid"].clone();
    for (column, datum) in [("tag", json!(10)), ("trunks", json!(["set", [20, 30]]))] {
        let mut row = json!({"name": "p0", "netns": "c1", "bridge": ["uuid", bridge]});
        row[column] = datum;
        let (_, why) = host.refused(&[insert("ports", "port", &row)]);
        assert!(
            why.contains(&format!(
                "column {column}: only a bridge of kind \"ovs\", or with vlan_filtering"
            )),
            "{why}"
        );
    }
}

#[test]
fn a_bridge_that_is_to_filter_vlans_says_that_it_does_not() {
    let mut host = host();
    host.transact(&[insert(
        "bridges",
        "bridge",
        &json!({"name": "br0", "vlan_filtering": true}),
    )]);
    host.until_state("bridges", "br0", "failed");
    let error = host.error("bridges", "br0");
    assert!(
        error.contains("this kernel has no bridges that filter VLANs") && error.contains("not supported"),
        "{error}"
    );
    let capabilities = elements(&host.rows("host")[0]["capabilities"]);
    assert!(
        !capabilities.contains(&json!("bridge:vlan_filtering")),
        "{capabilities:?}"
    );
    assert!(capabilities.contains(&json!("link:bridge")), "{capabilities:?}");
    host.transact(&[update("bridges", "br0", &json!({"vlan_filtering": false}))]);
    host.converged();
    assert!(host.link("br0").is_some());
}
