//! Addresses, routes and settings of ports, as the kernel has them.

use nix::sys::signal::Signal;
use nonnet_tests::host::{Host, bridge_and_network, delete, insert, port, update};
use serde_json::{Value, json};

/// A port on no bridge, with an address.
fn alone(name: &str, address: &str, more: &Value) -> Value {
    let mut row = json!({"name": format!("vi{name}"), "netns": name, "addresses": address});
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    insert("ports", "port", &row)
}

fn routes(host: &Host, netns: &str) -> String {
    host.sh(&format!(
        "ip -n {netns} route show table all proto 110; ip -n {netns} -6 route show table all proto 110"
    ))
}

#[test]
fn routes_of_every_kind_come_and_go() {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    let rows = [
        ("r1", json!({"destination": "10.1.0.0/16", "kind": "blackhole"})),
        (
            "r2",
            json!({"destination": "10.2.0.0/16", "kind": "unreachable", "metric": 5}),
        ),
        (
            "r3",
            json!({"destination": "10.3.0.0/16", "kind": "prohibit", "table": 100}),
        ),
        (
            "r4",
            json!({"destination": "10.4.0.0/16", "gateway": "10.40.0.1", "source": "10.40.0.3", "metric": 7}),
        ),
        ("r5", json!({"destination": "10.5.0.0/16", "table": 1000})),
        ("r6", json!({"destination": "fd66::/32", "kind": "blackhole"})),
        (
            "r7",
            json!({"destination": "fd67::/32", "gateway": "fd40::1", "source": "fd40::3", "table": 100}),
        ),
    ];
    let mut operations: Vec<Value> = rows.iter().map(|(name, row)| insert("routes", name, row)).collect();
    let all: Vec<Value> = rows.iter().map(|(name, _)| json!(["named-uuid", name])).collect();
    let addresses = json!(["set", ["10.40.0.2/24", "10.40.0.3/24", "fd40::2/64", "fd40::3/64"]]);
    operations.push(alone(
        "c1",
        "",
        &json!({"addresses": addresses, "routes": ["set", all]}),
    ));
    host.transact(&operations);
    host.converged();
    let text = routes(&host, "c1");
    for route in [
        "blackhole 10.1.0.0/16",
        "unreachable 10.2.0.0/16 metric 5",
        "prohibit 10.3.0.0/16 table 100",
        "10.4.0.0/16 via 10.40.0.1 dev eth0 src 10.40.0.3 metric 7",
        "10.5.0.0/16 dev eth0 table 1000 scope link",
        "blackhole fd66::/32 dev lo metric 1024",
        "fd67::/32 via fd40::1 dev eth0 table 100 src fd40::3 metric 1024",
    ] {
        assert!(text.contains(route), "no {route:?} in {text}");
    }
    host.sh("ip -n c1 route del blackhole 10.1.0.0/16");
    host.until("it is healed", |host| {
        routes(host, "c1").contains("blackhole 10.1.0.0/16")
    });
    host.transact(&[delete("ports", "vic1")]);
    host.converged();
    assert_eq!(routes(&host, "c1").trim(), "");
}

#[test]
fn routes_of_the_host_are_its_own() {
    let mut host = Host::start();
    host.sh("ip route add 10.77.0.0/16 via 127.0.0.1 dev lo 2>/dev/null || ip route add unreachable 10.77.0.0/16");
    let mut operations = bridge_and_network("br0", "n0", &[("10.1.0.0/24", "10.1.0.1")]);
    operations.push(insert(
        "routes",
        "r1",
        &json!({"destination": "172.16.0.0/12", "gateway": "10.1.0.7", "metric": 3}),
    ));
    operations.push(insert(
        "routes",
        "r2",
        &json!({"destination": "172.17.0.0/16", "kind": "prohibit"}),
    ));
    let both = json!(["set", [["named-uuid", "r1"], ["named-uuid", "r2"]]]);
    operations.push(json!({"op": "update", "table": "host", "where": [], "row": {"routes": both}}));
    host.netns.add("c1").unwrap();
    operations.push(port("vi1", "c1"));
    host.transact(&operations);
    host.converged();
    let text = host.sh("ip route show proto 110");
    assert!(
        text.contains("172.16.0.0/12 via 10.1.0.7 dev br0 metric 3") && text.contains("prohibit 172.17.0.0/16"),
        "{text}"
    );
    assert_eq!(host.rows("host")[0]["status"]["state"], "converged");
    host.sh("ip route del 172.16.0.0/12");
    host.until("it is healed", |host| {
        host.sh("ip route show proto 110").contains("172.16.0.0/12")
    });
    host.transact(&[json!({"op": "update", "table": "host", "where": [], "row": {"routes": ["set", []]}})]);
    host.converged();
    assert_eq!(host.sh("ip route show proto 110").trim(), "");
    assert!(host.sh("ip route").contains("10.77.0.0/16"), "what is not ours stays");
}

#[test]
fn ports_of_a_container_share_one_default_route_which_changes_without_a_gap() {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    host.sh("ip addr add 203.0.113.1/32 dev lo && ip -6 addr add 2001:db8::1/128 dev lo && ip link set lo up");
    let mut operations = vec![
        insert("bridges", "b0", &json!({"name": "br0"})),
        insert("bridges", "b1", &json!({"name": "br1"})),
    ];
    for at in 0..2 {
        let subnets = json!([
            "map",
            [
                [format!("10.{at}.0.0/24"), format!("10.{at}.0.1")],
                [format!("fd0{at}::/64"), format!("fd0{at}::1")]
            ]
        ]);
        let network = json!({"name": format!("n{at}"), "bridge": ["named-uuid", format!("b{at}")], "subnets": subnets});
        operations.push(insert("networks", &format!("n{at}"), &network));
        let row = json!({"name": format!("vi{at}"), "netns": "c1", "ifname": format!("eth{at}"), "network": ["named-uuid", format!("n{at}")]});
        operations.push(insert("ports", &format!("p{at}"), &row));
    }
    host.transact(&operations);
    host.converged();
    let defaults = |host: &Host| {
        let text = host.sh("ip -n c1 -4 route show default; ip -n c1 -6 route show default");
        text.lines()
            .map(|line| line.split_whitespace().nth(2).unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(defaults(&host), ["10.0.0.1", "fd00::1"], "the first by name");

    let mut pings = Vec::new();
    for target in ["203.0.113.1", "2001:db8::1"] {
        let mut command = host.netns.command("ip");
        command.args([
            "netns", "exec", "c1", "ping", "-n", "-i", "0.005", "-w", "600", "-q", target,
        ]);
        pings.push(
            host.netns
                .spawn_command(command.stdout(std::process::Stdio::piped()))
                .unwrap(),
        );
    }
    for _ in 0..5 {
        host.transact(&[update(
            "ports",
            "vi1",
            &json!({"options": ["map", [["default_route", "5"]]]}),
        )]);
        host.converged();
        assert_eq!(defaults(&host), ["10.1.0.1", "fd01::1"]);
        host.transact(&[update("ports", "vi1", &json!({"options": ["map", []]}))]);
        host.converged();
        assert_eq!(defaults(&host), ["10.0.0.1", "fd00::1"]);
    }
    for mut ping in pings {
        ping.signal(Signal::SIGINT).unwrap();
        let summary = ping.line_with("packet loss").unwrap();
        assert!(summary.contains(" 0% packet loss"), "{summary}");
    }
    host.transact(&[delete("ports", "vi0")]);
    host.converged();
    assert_eq!(defaults(&host), ["10.1.0.1", "fd01::1"]);
    host.transact(&[update(
        "ports",
        "vi1",
        &json!({"options": ["map", [["default_route", "false"]]]}),
    )]);
    host.converged();
    assert!(defaults(&host).is_empty());
}

#[test]
fn port_is_converged_once_its_ipv6_addresses_can_be_used() {
    let mut host = Host::start();
    let mut operations = bridge_and_network("br0", "n0", &[("10.1.0.0/24", "10.1.0.1"), ("fd01::/64", "fd01::1")]);
    for name in ["c1", "c2"] {
        host.netns.add(name).unwrap();
        operations.push(port(&format!("vi{name}"), name));
    }
    host.transact(&operations);
    host.until_state("ports", "vic1", "converged");
    assert_eq!(host.sh("ip -n c1 -6 addr show tentative scope global").trim(), "");
    host.converged();
    for netns in ["c1", "c2"] {
        assert_eq!(
            host.sh(&format!("ip -n {netns} -6 addr show tentative scope global"))
                .trim(),
            ""
        );
        assert!(host.pings(netns, "fd01::1") && host.pings(netns, "10.1.0.1"));
    }
}

#[test]
fn address_that_somebody_else_has_is_the_rows_error() {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    let operations = bridge_and_network("br0", "n0", &[("fd01::/64", "fd01::1")]);
    host.transact(&operations);
    host.converged();
    host.sh(
        "ip netns add foe && ip link add foe0 type veth peer name eth0 netns foe && ip link set foe0 master br0 up
        ip -n foe link set eth0 up && ip -n foe addr add fd01::77/64 dev eth0 nodad",
    );
    let network = host.row("networks", "n0")["_uuid"].clone();
    let row = json!({"name": "vi1", "netns": "c1", "network": ["uuid", network], "addresses": "fd01::77"});
    host.transact(&[insert("ports", "port", &row)]);
    host.until_state("ports", "vi1", "conflict");
    let error = host.error("ports", "vi1");
    assert!(
        error.contains("fd01::77") && error.contains("duplicate address detection"),
        "{error}"
    );
    host.until("the row is counted", |host| host.progress().2 == 1);
    host.transact(&[update("ports", "vi1", &json!({"addresses": "fd01::78"}))]);
    host.converged();
    assert!(host.pings("c1", "fd01::77"));
}

#[test]
fn settings_of_a_port_are_written_and_come_back_with_its_link() {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    let sysctls = json!([
        "map",
        [
            ["net.ipv4.conf.IFNAME.arp_ignore", "1"],
            ["net.ipv6.conf.all.forwarding", "1"],
            ["net/ipv4/ip_forward", "1"]
        ]
    ]);
    host.transact(&[alone("c1", "10.1.0.2/24", &json!({"sysctls": sysctls}))]);
    host.converged();
    let value = |host: &Host, key: &str| host.sh(&format!("ip netns exec c1 sysctl -n {key}")).trim().to_owned();
    for key in [
        "net.ipv4.conf.eth0.arp_ignore",
        "net.ipv6.conf.all.forwarding",
        "net.ipv4.ip_forward",
    ] {
        assert_eq!(value(&host, key), "1", "{key}");
    }
    host.sh("ip link del vic1");
    host.until("the link is back with its setting", |host| {
        host.succeeds("ip -n c1 link show eth0") && value(host, "net.ipv4.conf.eth0.arp_ignore") == "1"
    });
    host.transact(&[update(
        "ports",
        "vic1",
        &json!({"sysctls": ["map", [["net.ipv4.no_such_thing", "1"]]]}),
    )]);
    host.until_state("ports", "vic1", "failed");
    let error = host.error("ports", "vic1");
    assert!(
        error.contains("ipv4/no_such_thing") && error.contains("No such file"),
        "{error}"
    );
}

#[test]
fn settings_that_no_row_wants_any_more_say_again_what_they_said_before() {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    host.sh("ip netns exec c1 sysctl -qw net.ipv4.ip_default_ttl=77 net.ipv4.conf.default.arp_ignore=2");
    let wants = |sysctls: &[[&str; 2]]| json!({"sysctls": ["map", sysctls]});
    let all = wants(&[
        ["net.ipv4.conf.IFNAME.arp_ignore", "1"],
        ["net.ipv4.ip_default_ttl", "55"],
        ["net.ipv4.ip_forward", "1"],
    ]);
    let ttl_only = wants(&[["net.ipv4.ip_default_ttl", "56"]]);
    let says = |host: &mut Host, expected: [&str; 3]| {
        host.until(&format!("settings say {expected:?}"), |host| {
            let keys = "net.ipv4.conf.eth0.arp_ignore net.ipv4.ip_default_ttl net.ipv4.ip_forward";
            let (_, text) = host
                .netns
                .try_sh(&format!("ip netns exec c1 sysctl -n {keys} 2>/dev/null"))
                .unwrap();
            text.split_whitespace()
                .eq(expected.into_iter().filter(|value| !value.is_empty()))
        });
        host.converged();
    };
    host.transact(&[alone("c1", "10.1.0.2/24", &all)]);
    says(&mut host, ["1", "55", "1"]);
    let last = host.last_event();
    host.transact(&[update("ports", "vic1", &ttl_only)]);
    says(&mut host, ["2", "56", "0"]);
    assert!(!host.events(last).iter().any(|event| event["kind"] == "drift"));

    // Who is left in the namespace says nothing about them.
    let other = json!({"name": "other", "netns": "c1", "ifname": "eth1", "addresses": "10.2.0.2/24"});
    host.transact(&[update("ports", "vic1", &all), insert("ports", "other", &other)]);
    says(&mut host, ["1", "55", "1"]);
    let last = host.last_event();
    host.transact(&[delete("ports", "vic1")]);
    says(&mut host, ["", "77", "0"]);
    assert!(!host.events(last).iter().any(|event| event["kind"] == "drift"));
    host.transact(&[delete("ports", "other"), alone("c1", "10.1.0.2/24", &all)]);
    says(&mut host, ["1", "55", "1"]);
    // Nobody is left, but the namespace.
    host.transact(&[delete("ports", "vic1")]);
    says(&mut host, ["", "77", "0"]);

    // A server that was started since knows only what new links have.
    host.transact(&[alone("c1", "10.1.0.2/24", &all)]);
    says(&mut host, ["1", "55", "1"]);
    host.kill();
    host.run();
    host.converged();
    host.transact(&[update("ports", "vic1", &wants(&[]))]);
    says(&mut host, ["2", "55", "1"]);
}

#[test]
fn crash_leaves_no_address_taken() {
    let mut host = Host::start();
    let operations = bridge_and_network("br0", "n0", &[("10.1.0.0/30", "10.1.0.1")]);
    host.transact(&operations);
    let network = host.row("networks", "n0")["_uuid"].clone();
    for round in 0..3 {
        let name = format!("c{round}");
        host.netns.add(&name).unwrap();
        let row = json!({"name": format!("vi{name}"), "netns": name, "network": ["uuid", network]});
        host.transact(&[insert("ports", "port", &row)]);
        host.kill();
        host.run();
        host.converged();
        assert!(host.pings(&name, "10.1.0.1"));
        let second = json!({"name": "more", "netns": "more", "network": ["uuid", network]});
        let (_, details) = host.refused(&[insert("ports", "port", &second)]);
        assert!(
            details.contains("no free address in 10.1.0.0/30 (all 1 that ports may have are in use)"),
            "{details}"
        );
        host.transact(&[delete("ports", &format!("vi{name}"))]);
        host.kill();
        host.sh(&format!("ip netns del {name}"));
        host.run();
        host.converged();
        assert!(host.rows("leases").is_empty());
    }
}
