//! Each bad input has its message, which names table, row and column.

use serde_json::{Value, json};

use crate::fixture::{Host, container, insert, named, port};

fn check(operations: &Value, details: &str) {
    let mut host = Host::new();
    assert_eq!(host.refuse(operations), details);
}

fn network(name: &str, subnets: &[(&str, &str)]) -> Value {
    let pairs: Vec<Value> = subnets.iter().map(|(net, gateway)| json!([net, gateway])).collect();
    insert("networks", &json!({"name": name, "subnets": ["map", pairs]}))
}

#[test]
fn names_that_no_link_can_have_are_refused() {
    let bridge = |name: &str| json!([insert("bridges", &json!({"name": name}))]);
    check(
        &bridge("abcdefghijklmnop"),
        "table bridges, row \"abcdefghijklmnop\", column name: link name \"abcdefghijklmnop\" has 16 bytes; at most 15 are possible",
    );
    for name in ["a/b", "a:b", "a b", "."] {
        check(
            &bridge(name),
            &format!(
                "table bridges, row \"{name}\", column name: link name \"{name}\" has a character that no link name can have (space, '/', ':', control)"
            ),
        );
    }
    check(
        &bridge("lo"),
        "table bridges, row \"lo\", column name: link name \"lo\" is the kernel's own",
    );
    check(
        &bridge("br%d"),
        "table bridges, row \"br%d\", column name: link name \"br%d\" has a '%', which the kernel takes for a pattern",
    );
    check(
        &json!([insert("bridges", &json!({}))]),
        "table bridges, row \"\", column name: a link name must not be empty",
    );
    check(
        &json!([port("p", &json!({"ifname": "a-name-that-is-too-long"}))]),
        "table ports, row \"p\", column ifname: link name \"a-name-that-is-too-long\" has 23 bytes; at most 15 are possible",
    );
}

#[test]
fn names_derived_from_containers_are_checked_too() {
    check(
        &json!([container("12345678901234", "br0", &[])]),
        "table lxc, row \"12345678901234\", column id: as veth is empty: link name \"vi12345678901234\" has 16 bytes; at most 15 are possible",
    );
    check(
        &json!([insert("lxc", &json!({"id": "1", "veth": "a-name-that-is-too-long"}))]),
        "table lxc, row \"1\", column veth: link name \"a-name-that-is-too-long\" has 23 bytes; at most 15 are possible",
    );
    check(
        &json!([container("a/b", "br0", &[])]),
        "table lxc, row \"a/b\", column id: \"a/b\" cannot be the name of a container",
    );
}

#[test]
fn names_that_collide_are_refused() {
    let mut host = Host::new();
    host.commit(&json!([
        port("vi1", &json!({})),
        insert("bridges", &json!({"name": "br0"}))
    ]));
    assert_eq!(
        host.refuse(&json!([container("1", "br0", &[])])),
        "table lxc, row \"1\", column id: link name \"vi1\" is taken by port \"vi1\""
    );
    assert_eq!(
        host.refuse(&json!([insert(
            "lxc",
            &json!({"id": "2", "veth": "br0", "bridge": "br0"})
        )])),
        "table lxc, row \"2\", column veth: link name \"br0\" is taken by bridge \"br0\""
    );
    assert_eq!(
        host.refuse(&json!([insert("bridges", &json!({"name": "vi1"}))])),
        "table bridges, row \"vi1\", column name: link name \"vi1\" is taken by port \"vi1\""
    );
    host.commit(&json!([container("3", "br0", &[])]));
    assert_eq!(
        host.refuse(&json!([port("vi3", &json!({}))])),
        "table ports, row \"vi3\", column name: link name \"vi3\" is taken by lxc row \"3\""
    );
    for netns in ["vi1", "/run/netns/vi1", "/var/run/netns/vi1"] {
        assert_eq!(
            host.refuse(&json!([port("other", &json!({"netns": netns, "ifname": "eth0"}))])),
            format!(
                "table ports, row \"other\", column ifname: link name \"eth0\" is taken in namespace {netns} by port \"vi1\""
            )
        );
    }
    host.commit(&json!([port("other", &json!({"netns": "vi1", "ifname": "eth1"}))]));
}

#[test]
fn hardware_addresses_of_nobody_or_of_groups_are_refused() {
    for mac in ["00:00:00:00:00:00", "01:00:5e:00:00:01", "02:00:00:00:00", "x"] {
        check(
            &json!([insert("bridges", &json!({"name": "br0", "mac": mac}))]),
            &format!(
                "table bridges, row \"br0\", column mac: \"{mac}\" is not the hardware address of one link (such as 02:00:00:00:00:01)"
            ),
        );
    }
    check(
        &json!([container("1", "br0", &[("mac", "x")])]),
        "table lxc, row \"1\", column properties:mac: \"x\" is not the hardware address of one link (such as 02:00:00:00:00:01)",
    );
}

#[test]
fn mtu_out_of_bounds_is_refused() {
    let mut host = Host::new();
    let (reply, _) = host.run(&json!([insert("bridges", &json!({"name": "br0", "mtu": 67}))]));
    assert_eq!(reply[0]["error"], "constraint violation");
    assert_eq!(
        reply[0]["details"],
        "67 is not in the valid range 68 to 65535 (inclusive)"
    );
    check(
        &json!([container("1", "br0", &[("mtu", "67")])]),
        "table lxc, row \"1\", column properties:mtu: an MTU is a number from 68 to 65535",
    );
    check(
        &json!([port("p", &json!({"mtu": 1000, "addresses": "fd00::2/64"}))]),
        "table ports, row \"p\", column mtu: IPv6 needs an MTU of at least 1280",
    );
}

#[test]
fn subnets_and_ranges_in_a_wrong_form_are_refused() {
    let check_subnet = |net: &str, gateway: &str, text: &str| {
        check(
            &json!([network("n", &[(net, gateway)])]),
            &format!("table networks, row \"n\", column subnets: {text}"),
        );
    };
    check_subnet(
        "10.0.0.1/24",
        "",
        "\"10.0.0.1/24\" has host bits set; the subnet is 10.0.0.0/24",
    );
    check_subnet("10.0.0.0", "", "\"10.0.0.0\" is not a subnet (such as 10.0.0.0/24)");
    check_subnet(
        "10.0.0.0/33",
        "",
        "\"10.0.0.0/33\" is not a subnet (such as 10.0.0.0/24)",
    );
    check_subnet(
        "10.0.0.0/24",
        "10.0.1.1",
        "gateway 10.0.1.1 is not in subnet 10.0.0.0/24",
    );
    check_subnet(
        "10.0.0.0/24",
        "10.0.0.255",
        "gateway 10.0.0.255 is the broadcast address of 10.0.0.0/24",
    );
    check_subnet("10.0.0.0/24", "x", "gateway \"x\" is not an IP address");
    check_subnet("224.0.0.0/24", "", "224.0.0.0 is not an address that one host can have");
    let row = json!({"name": "n", "subnets": ["map", [["10.0.0.0/24", ""]]], "ranges": "10.0.1.5"});
    check(
        &json!([insert("networks", &row)]),
        "table networks, row \"n\", column ranges: range \"10.0.1.5\" is not within one of the network's subnets",
    );
    check(
        &json!([insert("networks", &json!({}))]),
        "table networks, row \"\", column name: a network must have a name",
    );
}

#[test]
fn overlapping_subnets_are_refused() {
    let mut host = Host::new();
    host.commit(&json!([network("wide", &[("10.0.0.0/8", "")])]));
    assert_eq!(
        host.refuse(&json!([network("narrow", &[("10.3.0.0/16", "")])])),
        "table networks, row \"narrow\", column subnets: subnet 10.3.0.0/16 overlaps 10.0.0.0/8 of network \"wide\""
    );
    assert_eq!(
        host.refuse(&json!([network("same", &[("10.0.0.0/8", "")])])),
        "table networks, row \"same\", column subnets: subnet 10.0.0.0/8 overlaps 10.0.0.0/8 of network \"wide\""
    );
    host.commit(&json!([network("apart", &[("11.0.0.0/8", ""), ("fd00::/64", "")])]));
    check(
        &json!([network("n", &[("10.0.0.0/24", ""), ("10.0.0.0/25", "")])]),
        "table networks, row \"n\", column subnets: subnet 10.0.0.0/25 overlaps 10.0.0.0/24 of network \"n\"",
    );
}

#[test]
fn addresses_that_do_not_fit_are_refused() {
    let on = |address: &str| {
        json!([
            network("n", &[("10.0.0.0/24", "10.0.0.1")]),
            port("p", &json!({"network": named("networks", "n"), "addresses": address})),
        ])
    };
    let text = |why: &str| format!("table ports, row \"p\", column addresses: {why}");
    check(&on("10.0.1.5"), &text("10.0.1.5 is in no subnet of network \"n\""));
    check(
        &on("10.0.0.5/16"),
        &text("\"10.0.0.5/16\" has another prefix length than its subnet 10.0.0.0/24"),
    );
    check(&on("10.0.0.1"), &text("10.0.0.1 is the gateway of network \"n\""));
    check(
        &on("10.0.0.0"),
        &text("10.0.0.0 is the address of the subnet 10.0.0.0/24 itself"),
    );
    check(&on("ten"), &text("\"ten\" is not an IP address"));
    check(
        &json!([port("p", &json!({"addresses": "10.0.0.5"}))]),
        &text("\"10.0.0.5\" is not an IP address with a prefix length (such as 10.0.0.2/24)"),
    );
    check(
        &json!([port(
            "p",
            &json!({"addresses": ["set", ["10.0.0.5/24", "10.0.0.5/25"]]})
        )]),
        &text("10.0.0.5 is there twice"),
    );
    check(
        &json!([container("1", "br0", &[("ipv4", "10.0.0.300/24")])]),
        "table lxc, row \"1\", column properties:ipv4: \"10.0.0.300\" is not an IP address",
    );
}

#[test]
fn address_that_is_in_use_is_refused() {
    let mut host = Host::new();
    host.commit(&json!([container("101", "br0", &[("ipv4", "10.0.0.5/24")])]));
    assert_eq!(
        host.refuse(&json!([container("102", "br0", &[("ipv4", "10.0.0.5/24")])])),
        "table lxc, row \"102\", column properties:ipv4: 10.0.0.5 is in use by lxc row \"101\""
    );
    assert_eq!(
        host.refuse(&json!([port("p", &json!({"addresses": "10.0.0.5/16"}))])),
        "table ports, row \"p\", column addresses: 10.0.0.5 is in use by lxc row \"101\""
    );
    assert_eq!(
        host.refuse(&json!([network("n", &[("10.0.0.0/24", "10.0.0.5")])])),
        "table networks, row \"n\", column subnets: gateway 10.0.0.5 is in use by lxc row \"101\""
    );
    host.commit(&json!([network("n", &[("10.0.0.0/24", "10.0.0.1")])]));
    assert_eq!(
        host.refuse(&json!([port("p", &json!({"addresses": "10.0.0.1/24"}))])),
        "table ports, row \"p\", column addresses: 10.0.0.1 is the gateway of network \"n\""
    );
    assert_eq!(
        host.refuse(&json!([
            port("a", &json!({"addresses": "10.0.0.9/24"})),
            port("b", &json!({"addresses": "10.0.0.9/24"})),
        ])),
        "table ports, row \"b\", column addresses: 10.0.0.9 is in use by port \"a\""
    );
}

#[test]
fn namespaces_in_a_wrong_form_are_refused() {
    let check_netns = |netns: &str, text: &str| {
        check(
            &json!([port("p", &json!({"netns": netns}))]),
            &format!("table ports, row \"p\", column netns: {text}"),
        );
    };
    let neither = |netns: &str| {
        format!("\"{netns}\" is neither a namespace's name, nor its path (from '/'), nor the id of a process")
    };
    for netns in ["a/b", "..", "a b", "a:b"] {
        check_netns(netns, &neither(netns));
    }
    for netns in ["0", "pid:x", "99999999999"] {
        check_netns(netns, &format!("\"{netns}\" is not the id of a process"));
    }
    check_netns(
        "/run/../x",
        "\"/run/../x\" is no path in plain form (no '//', '.', '..')",
    );
    check(
        &json!([insert("ports", &json!({"name": "p"}))]),
        "table ports, row \"p\", column netns: a port needs a namespace: its name, its path, or the id of a process in it; \
         a veth of which both ends stay on the host needs ifname",
    );
}

#[test]
fn routes_and_gateways_that_lead_nowhere_are_refused() {
    let route = |row: &Value| {
        json!([
            insert("routes", row),
            port(
                "p",
                &json!({"addresses": "10.0.0.5/24", "routes": ["named-uuid", name(row)]})
            )
        ])
    };
    check(
        &route(&json!({"destination": "10.1.0.1/16"})),
        "table routes, row \"10.1.0.1/16\", column destination: \"10.1.0.1/16\" has host bits set; the subnet is 10.1.0.0/16",
    );
    check(
        &route(&json!({"destination": "10.1.0.0/16", "gateway": "fd00::1"})),
        "table routes, row \"10.1.0.0/16\", column gateway: fd00::1 is not of the address family of 10.1.0.0/16",
    );
    check(
        &route(&json!({"destination": "10.1.0.0/16", "gateway": "10.9.0.1"})),
        "table ports, row \"p\", column routes: gateway 10.9.0.1 of route 10.1.0.0/16 is in no subnet of the port",
    );
    check(
        &route(&json!({"destination": "10.1.0.0/16", "table": 255})),
        "table routes, row \"10.1.0.0/16\", column table: table 255 is the kernel's own",
    );
    check(
        &json!([port("p", &json!({"addresses": "10.0.0.5/24", "gateways": "10.0.1.1"}))]),
        "table ports, row \"p\", column gateways: gateway 10.0.1.1 is in no subnet of the port",
    );
    check(
        &json!([port(
            "p",
            &json!({"addresses": "10.0.0.5/24", "gateways": ["set", ["10.0.0.1", "10.0.0.2"]]})
        )]),
        "table ports, row \"p\", column gateways: there can be one gateway per address family",
    );
}

#[test]
fn port_on_a_network_of_another_bridge_is_refused() {
    check(
        &json!([
            insert("bridges", &json!({"name": "br0"})),
            insert("bridges", &json!({"name": "br1"})),
            insert("networks", &json!({"name": "n", "bridge": named("bridges", "br0")})),
            port(
                "p",
                &json!({"bridge": named("bridges", "br1"), "network": named("networks", "n")})
            ),
        ]),
        "table ports, row \"p\", column bridge: network \"n\" is on another bridge",
    );
}

#[test]
fn bridge_in_use_is_not_deleted() {
    let mut host = Host::new();
    host.commit(&json!([
        insert("bridges", &json!({"name": "br0"})),
        port("p", &json!({"bridge": named("bridges", "br0")})),
    ]));
    let bridge = host.only("bridges", &["_uuid"])["_uuid"][1]
        .as_str()
        .unwrap()
        .to_owned();
    let (reply, _) = host.run(&json!([{"op": "delete", "table": "bridges", "where": []}]));
    assert_eq!(reply[1]["error"], "referential integrity violation");
    assert_eq!(
        reply[1]["details"],
        format!("cannot delete bridges row {bridge} because of 1 remaining reference(s)")
    );
}

#[test]
fn two_bridges_of_one_name_are_refused_by_the_index() {
    let bridge = insert("bridges", &json!({"name": "br0"}));
    let mut host = Host::new();
    host.commit(&json!([bridge]));
    let details = host.refuse(&json!([bridge]));
    assert!(
        details.starts_with("Transaction causes multiple rows in \"bridges\" table to have identical values (br0)"),
        "{details}"
    );
}

fn name(row: &Value) -> String {
    let text = row["destination"].as_str().unwrap();
    let safe: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    format!("routes_{safe}")
}
