//! What the packet filter does, proved by packets: a host with containers (named namespaces) and the "internet" behind its link `wan0`.

use std::path::PathBuf;

use nonnet_tests::host::{Host, bridge_and_network, delete, insert, update};
use nonnet_tests::netns::Inside;
use nonnet_tests::program::repository;
use serde_json::{Value, json};

/// The host's addresses towards the internet, and the internet's own.
const WAN: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const OUTSIDE: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// Forwards beside which one more is no more than that.
const FORWARDS: usize = 5_000;

/// The program that talks: see there.
fn talk() -> PathBuf {
    repository().join("tests/src/talk.py")
}

/// A host with a link to the internet, which knows no way back but to that link, and with containers.
fn host(containers: &[&str]) -> Host {
    let host = Host::start();
    host.sh("ip netns add inet
        ip link add wan0 type veth peer name eth0 netns inet
        ip addr add 192.0.2.1/24 dev wan0; ip addr add 2001:db8::1/64 dev wan0 nodad; ip link set wan0 up
        ip -n inet addr add 192.0.2.2/24 dev eth0; ip -n inet addr add 2001:db8::2/64 dev eth0 nodad
        ip -n inet link set eth0 up; ip -n inet link set lo up");
    for container in containers {
        host.netns.add(container).unwrap();
    }
    host
}

/// The operations for a bridge and a network on it with more columns.
fn network(number: usize, columns: &Value) -> Vec<Value> {
    let (bridge, name) = (format!("br{number}"), format!("n{number}"));
    let v4 = (format!("10.{number}.0.0/24"), format!("10.{number}.0.1"));
    let v6 = (format!("fd0{number}::/64"), format!("fd0{number}::1"));
    let mut operations = bridge_and_network(&bridge, &name, &[(&v4.0, &v4.1), (&v6.0, &v6.1)]);
    for operation in &mut operations {
        let id = operation["uuid-name"].as_str().unwrap_or_default().to_owned();
        operation["uuid-name"] = json!(format!("{id}{number}"));
        if id == "network" {
            let row = operation["row"].as_object_mut().unwrap();
            row.insert("bridge".into(), json!(["named-uuid", format!("bridge{number}")]));
            row.extend(columns.as_object().unwrap().clone());
        }
    }
    operations
}

/// The operation for a port on the network of that number, of the same transaction, with more columns.
fn port(number: usize, container: &str, last: usize, columns: &Value) -> Value {
    let mut row = json!({"name": format!("p{container}"), "netns": container, "network": ["named-uuid", format!("network{number}")],
        "addresses": ["set", [format!("10.{number}.0.{last}"), format!("fd0{number}::{last}")]]});
    row.as_object_mut()
        .unwrap()
        .extend(columns.as_object().unwrap().clone());
    insert("ports", &format!("port{container}"), &row)
}

fn forward(name: &str, columns: &Value) -> Value {
    insert("forwards", name, columns)
}

fn serve(host: &mut Host, netns: &str, ports: &[&str]) -> Inside {
    let program = talk();
    let mut words = vec!["netns", "exec", netns, "python3", program.to_str().unwrap(), "serve"];
    words.extend(ports);
    let mut server = host.netns.spawn("ip", &words).unwrap();
    server.line_with("ready").unwrap();
    server
}

/// What a server answers to somebody in a namespace (empty: on the host); none where no answer comes.
fn ask(host: &Host, netns: &str, protocol: &str, address: &str, port: u16) -> Option<String> {
    let enter = if netns.is_empty() {
        String::new()
    } else {
        format!("ip netns exec {netns} ")
    };
    let (answered, text) = host
        .netns
        .try_sh(&format!(
            "{enter}python3 {} ask {protocol} {address} {port}",
            talk().display()
        ))
        .unwrap();
    answered.then(|| text.trim().to_owned())
}

fn map(pairs: &[(&str, &str)]) -> Value {
    json!([
        "map",
        pairs.iter().map(|(key, value)| json!([key, value])).collect::<Vec<_>>()
    ])
}

fn masquerade() -> Value {
    map(&[("ipv4", "masquerade"), ("ipv6", "masquerade")])
}

/// The names of our table, as `nft` shows it.
fn tables(host: &Host) -> Vec<String> {
    let listed = host.sh("nft list tables");
    listed
        .lines()
        .filter(|line| line.contains("nonnet"))
        .map(str::to_owned)
        .collect()
}

fn rules(host: &Host) -> usize {
    let listed = host.sh("nft -a list ruleset");
    listed.lines().filter(|line| line.contains("comment \"nonnet ")).count()
}

fn forwarding(host: &Host) -> String {
    let values = host.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding");
    values.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_internet_sees_the_source_that_the_network_says_and_nothing_is_left_of_it() {
    let mut host = host(&["c1", "c2"]);
    let mut operations = network(1, &json!({"nat": masquerade()}));
    operations.extend(network(2, &json!({"isolation": "open"})));
    operations.extend([port(1, "c1", 2, &json!({})), port(2, "c2", 2, &json!({}))]);
    host.transact(&operations);
    host.converged();
    let _internet = serve(&mut host, "inet", &["80"]);
    let _neighbour = serve(&mut host, "c2", &["80"]);
    for protocol in ["tcp", "udp"] {
        for (outside, wan) in OUTSIDE.into_iter().zip(WAN) {
            let seen = ask(&host, "c1", protocol, outside, 80);
            assert_eq!(seen, Some(format!("{wan} 80")), "{protocol}");
        }
        // Among own networks everybody keeps the own address.
        assert_eq!(ask(&host, "c1", protocol, "10.2.0.2", 80), Some("10.1.0.2 80".into()));
        assert_eq!(ask(&host, "c1", protocol, "fd02::2", 80), Some("fd01::2 80".into()));
    }
    // Of network 2, which has no translation, nobody outside knows the way back.
    assert_eq!(ask(&host, "c2", "udp", OUTSIDE[0], 80), None);

    // Another source counts for what begins from then on; a flow that is under way goes on.
    host.sh("ip addr add 192.0.2.77/24 dev wan0; ip addr add 2001:db8::77/64 dev wan0 nodad");
    let mut ping = host
        .netns
        .spawn(
            "ip",
            &[
                "netns", "exec", "c1", "ping", "-n", "-i", "0.05", "-c", "60", OUTSIDE[0],
            ],
        )
        .unwrap();
    let bridge = |host: &Host| host.sh("ip -o link show br1; ip -o addr show br1; bridge link show");
    let before = bridge(&host);
    let fixed = map(&[("ipv4", "192.0.2.77"), ("ipv6", "2001:db8::77")]);
    host.transact(&[update("networks", "n1", &json!({"nat": fixed}))]);
    host.converged();
    assert_eq!(ask(&host, "c1", "tcp", OUTSIDE[0], 80), Some("192.0.2.77 80".into()));
    assert_eq!(ask(&host, "c1", "udp", OUTSIDE[1], 80), Some("2001:db8::77 80".into()));
    let summary = ping.line_with("packets transmitted").unwrap();
    assert!(summary.contains(" 0% packet loss"), "{summary}");
    assert_eq!(bridge(&host), before);

    assert_eq!(tables(&host).len(), 2);
    assert_eq!(forwarding(&host), "1 1");
    host.transact(&["pc1", "pc2"].map(|name| delete("ports", name)));
    host.transact(&["n1", "n2"].map(|name| delete("networks", name)));
    host.converged();
    host.until("the packet filter is as it was", |host| tables(host).is_empty());
    assert_eq!(forwarding(&host), "0 0");
    assert!(!host.netns.directory().join("nonnet.db.settings").exists());
}

#[test]
fn forwards_are_reached_from_outside_from_the_host_and_from_within() {
    let mut host = host(&["c1", "c2"]);
    let mut operations = network(1, &json!({"nat": masquerade()}));
    let forwards = [
        json!({"protocol": "tcp", "listen": "", "port": 8080, "target": 80}),
        json!({"protocol": "udp", "listen": "", "port": 8080, "target": 80}),
        json!({"protocol": "tcp", "listen": "192.0.2.1", "port": 9000, "count": 3}),
        json!({"protocol": "udp", "listen": "0.0.0.0", "port": 9000, "count": 3}),
        json!({"protocol": "udp", "listen": "", "port": 7000, "count": 3, "target": 9000}),
        json!({"protocol": "tcp", "listen": "127.0.0.1", "port": 5000, "target": 80}),
        json!({"protocol": "tcp", "listen": "2001:db8::1", "port": 5000, "target": 80}),
        json!({"protocol": "sctp", "listen": "192.0.2.1", "port": 6000, "target": 3868}),
    ];
    let names: Vec<Value> = (0..forwards.len())
        .map(|at| json!(["named-uuid", format!("f{at}")]))
        .collect();
    operations.extend(
        forwards
            .iter()
            .enumerate()
            .map(|(at, row)| forward(&format!("f{at}"), row)),
    );
    operations.push(port(1, "c1", 2, &json!({"forwards": ["set", names]})));
    operations.push(port(1, "c2", 3, &json!({})));
    host.transact(&operations);
    host.converged();
    let _inside = serve(&mut host, "c1", &["80", "9000", "9001", "9002"]);

    let outside = |protocol, address, port| ask(&host, "inet", protocol, address, port);
    let answer = |client: &str, port: u16| Some(format!("{client} {port}"));
    assert_eq!(outside("tcp", WAN[0], 8080), answer(OUTSIDE[0], 80));
    assert_eq!(outside("udp", WAN[0], 8080), answer(OUTSIDE[0], 80));
    assert_eq!(outside("tcp", WAN[1], 8080), answer(OUTSIDE[1], 80));
    assert_eq!(outside("udp", WAN[1], 8080), answer(OUTSIDE[1], 80));
    assert_eq!(outside("tcp", WAN[0], 9001), answer(OUTSIDE[0], 9001));
    assert_eq!(outside("udp", WAN[0], 9002), answer(OUTSIDE[0], 9002));
    assert_eq!(outside("udp", WAN[0], 7001), answer(OUTSIDE[0], 9001));
    assert_eq!(outside("tcp", WAN[1], 5000), answer(OUTSIDE[1], 80));
    // Not these: another protocol, another address, another family.
    assert_eq!(outside("tcp", WAN[0], 7001), None);
    assert_eq!(outside("tcp", WAN[0], 5000), None);
    assert_eq!(outside("udp", WAN[1], 9001), None);

    // SCTP, of which the kernel may know no more than how to pass it on: its first message arrives at the port inside.
    let program = talk().display().to_string();
    let arguments = [
        "netns",
        "exec",
        "c1",
        "python3",
        &program,
        "await",
        "eth0",
        "10",
        "sctp4:3868",
    ];
    let mut watcher = host.netns.spawn("ip", &arguments).unwrap();
    watcher.line_with("ready").unwrap();
    let macs = host.sh("cat /sys/class/net/wan0/address; ip netns exec inet cat /sys/class/net/eth0/address");
    let (to, from) = macs.trim().split_once('\n').unwrap();
    host.sh(&format!(
        "ip netns exec inet python3 {program} spoof sctp4 eth0 {from} {to} {} {} 6000",
        OUTSIDE[0], WAN[0]
    ));
    assert!(watcher.wait().unwrap().0, "no SCTP");

    // From the host itself, to its address and to its loopback address.
    assert_eq!(ask(&host, "", "tcp", WAN[0], 8080), answer(WAN[0], 80));
    assert_eq!(ask(&host, "", "tcp", "127.0.0.1", 8080), answer("10.1.0.1", 80));
    assert_eq!(ask(&host, "", "udp", "127.0.0.1", 8080), answer("10.1.0.1", 80));
    assert_eq!(ask(&host, "", "tcp", "127.0.0.1", 5000), answer("10.1.0.1", 80));
    assert_eq!(ask(&host, "", "tcp", WAN[1], 8080), answer(WAN[1], 80));

    // From a neighbour and from itself by the host's address: the host's address is who asks.
    for bridged in ["1", "0"] {
        host.sh(&format!(
            "echo {bridged} >/proc/sys/net/bridge/bridge-nf-call-iptables; echo {bridged} >/proc/sys/net/bridge/bridge-nf-call-ip6tables"
        ));
        for container in ["c1", "c2"] {
            assert_eq!(
                ask(&host, container, "tcp", WAN[0], 8080),
                answer("10.1.0.1", 80),
                "{container}"
            );
            assert_eq!(
                ask(&host, container, "udp", WAN[0], 8080),
                answer("10.1.0.1", 80),
                "{container}"
            );
            assert_eq!(
                ask(&host, container, "tcp", WAN[1], 8080),
                answer("fd01::1", 80),
                "{container}"
            );
        }
        // Neighbours meet directly, as themselves.
        assert_eq!(ask(&host, "c2", "tcp", "10.1.0.2", 80), answer("10.1.0.3", 80));
    }
    // A link that carries packets of loopback addresses carries none that others make up.
    host.sh("ip -n c2 route add 127.0.0.2/32 via 10.1.0.1 2>/dev/null || true");
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/conf/br1/route_localnet").trim(), "1");

    // The forward goes with its row, and nothing else does.
    host.transact(&[update("ports", "pc1", &json!({"forwards": ["set", []]}))]);
    host.converged();
    assert_eq!(ask(&host, "inet", "tcp", WAN[0], 8080), None);
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/conf/br1/route_localnet").trim(), "0");
    assert_eq!(ask(&host, "c2", "tcp", "10.1.0.2", 80), answer("10.1.0.3", 80));
}

#[test]
fn forwards_that_collide_are_refused_with_the_names_of_both() {
    let mut host = host(&["c1", "c2"]);
    let mut operations = network(1, &json!({}));
    operations.push(forward(
        "f0",
        &json!({"protocol": "tcp", "listen": "", "port": 8000, "count": 10}),
    ));
    operations.push(port(1, "c1", 2, &json!({"forwards": ["named-uuid", "f0"]})));
    host.transact(&operations);
    let network = host.row("networks", "n1")["_uuid"].clone();
    let second = |row: &Value| {
        let port =
            json!({"name": "pc2", "netns": "c2", "network": ["uuid", network], "forwards": ["named-uuid", "f1"]});
        vec![forward("f1", row), insert("ports", "port", &port)]
    };
    for row in [
        json!({"protocol": "tcp", "listen": "", "port": 8009}),
        json!({"protocol": "tcp", "listen": "0.0.0.0", "port": 7990, "count": 11}),
        json!({"port": 8005}),
    ] {
        let (_, details) = host.refused(&second(&row));
        assert!(
            details.contains("port \"pc1\"") && details.contains("port \"pc2\""),
            "{details}"
        );
        assert!(details.contains("collides"), "{details}");
    }
    for (row, word) in [
        (json!({"port": 0}), "port"),
        (json!({"port": 65535, "count": 2}), "65535"),
        (json!({"port": 80, "listen": "::1"}), "loopback"),
        (json!({"port": 80, "listen": "host"}), "address"),
        (json!({"port": 80, "listen": "2001:db8::1"}), "leads nowhere"),
    ] {
        let mut operations = second(&row);
        if word == "leads nowhere" {
            operations = vec![
                forward("f1", &row),
                insert("bridges", "b", &json!({"name": "brx"})),
                insert(
                    "networks",
                    "n",
                    &json!({"name": "nx", "bridge": ["named-uuid", "b"], "subnets": map(&[("10.9.0.0/24", "10.9.0.1")])}),
                ),
                insert(
                    "ports",
                    "p",
                    &json!({"name": "px", "netns": "c2", "network": ["named-uuid", "n"], "forwards": ["named-uuid", "f1"]}),
                ),
            ];
        }
        let (_, details) = host.refused(&operations);
        assert!(details.contains(word), "{details}");
    }
    // The same port of another protocol, or of one address, is another.
    host.transact(&second(&json!({"protocol": "udp", "listen": "", "port": 8000})));
    let third = json!({"protocol": "tcp", "listen": "192.0.2.1", "port": 8000});
    host.transact(&[
        forward("f2", &third),
        json!({"op": "mutate", "table": "ports", "where": [["name", "==", "pc2"]],
            "mutations": [["forwards", "insert", ["named-uuid", "f2"]]]}),
    ]);
    host.converged();
}

#[test]
fn networks_and_ports_are_kept_apart_as_they_say() {
    let mut host = host(&["a1", "a2", "b1", "c1", "c2", "d1"]);
    let mut operations = network(1, &json!({"isolation": "open", "nat": masquerade()}));
    operations.extend(network(2, &json!({"isolation": "network", "nat": masquerade()})));
    operations.extend(network(3, &json!({"isolation": "port", "nat": masquerade()})));
    operations.extend(network(4, &json!({"internal": true})));
    operations.push(forward(
        "f",
        &json!({"protocol": "tcp", "listen": "", "port": 8080, "target": 80}),
    ));
    operations.extend([
        port(1, "a1", 2, &json!({})),
        port(1, "a2", 3, &json!({})),
        port(2, "b1", 2, &json!({"forwards": ["named-uuid", "f"]})),
        port(3, "c1", 2, &json!({})),
        port(3, "c2", 3, &json!({})),
        port(4, "d1", 2, &json!({})),
    ]);
    host.transact(&operations);
    host.converged();
    for bridged in ["1", "0"] {
        host.sh(&format!(
            "echo {bridged} >/proc/sys/net/bridge/bridge-nf-call-iptables; echo {bridged} >/proc/sys/net/bridge/bridge-nf-call-ip6tables"
        ));
        let reaches =
            |from: &str, address: &str| host.succeeds(&format!("ip netns exec {from} ping -n -c 1 -W 1 {address}"));
        let expected: [(&str, [&str; 2], bool); 13] = [
            ("a1", ["10.1.0.3", "fd01::3"], true),
            ("a1", ["10.2.0.2", "fd02::2"], false),
            ("b1", ["10.1.0.2", "fd01::2"], false),
            ("b1", OUTSIDE, true),
            ("c1", ["10.3.0.1", "fd03::1"], true),
            ("c1", ["10.3.0.3", "fd03::3"], false),
            ("c1", OUTSIDE, true),
            ("c1", ["10.1.0.2", "fd01::2"], false),
            ("d1", ["10.4.0.1", "fd04::1"], true),
            ("d1", OUTSIDE, false),
            ("d1", ["10.1.0.2", "fd01::2"], false),
            ("a1", ["10.4.0.2", "fd04::2"], false),
            ("a1", OUTSIDE, true),
        ];
        for (from, addresses, arrives) in expected {
            for address in addresses {
                assert_eq!(
                    reaches(from, address),
                    arrives,
                    "{from} to {address}, bridge-nf-call {bridged}"
                );
            }
        }
    }
    // By way of the host two ports of a network do not meet either.
    host.sh("ip -n c1 route add 10.3.0.3/32 via 10.3.0.1; ip -n c2 route add 10.3.0.2/32 via 10.3.0.1");
    host.sh("echo 0 >/proc/sys/net/ipv4/conf/br3/send_redirects");
    assert!(!host.succeeds("ip netns exec c1 ping -n -c 1 -W 1 10.3.0.3"));
    // From outside there is no way into the internal network, though somebody knows one; into another there is.
    host.sh("ip -n inet route add 10.4.0.0/24 via 192.0.2.1; ip -n inet route add 10.1.0.0/24 via 192.0.2.1");
    assert!(!host.succeeds("ip netns exec inet ping -n -c 1 -W 1 10.4.0.2"));
    assert!(host.succeeds("ip netns exec inet ping -n -c 1 -W 5 10.1.0.2"));
    // What is published is reached by everybody else.
    let _inside = serve(&mut host, "b1", &["80"]);
    assert_eq!(ask(&host, "a1", "tcp", WAN[0], 8080), Some("10.1.0.2 80".into()));
    // Without isolation they meet.
    host.transact(&[update("networks", "n2", &json!({"isolation": "open"}))]);
    host.converged();
    assert!(host.succeeds("ip netns exec a1 ping -n -c 1 -W 5 10.2.0.2"));
    let (_, details) = host.refused(&[update("networks", "n4", &json!({"nat": masquerade()}))]);
    assert!(details.contains("internal"), "{details}");
}

#[test]
fn a_guarded_port_sends_nothing_under_addresses_that_are_not_its_own() {
    let mut host = host(&["c1", "c2"]);
    let mut operations = network(1, &json!({}));
    operations.push(port(
        1,
        "c1",
        2,
        &json!({"mac": "02:00:00:00:00:02", "anti_spoof": true}),
    ));
    operations.push(port(1, "c2", 3, &json!({"mac": "02:00:00:00:00:03"})));
    host.transact(&operations);
    host.converged();
    let (own, other, stranger) = ("02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:99");
    // Each frame with how it is told at the other end; the honest ones prove that the way is open.
    let honest = [
        format!("udp4 eth0 {own} {other} 10.1.0.2 10.1.0.3"),
        format!("udp6 eth0 {own} {other} fd01::2 fd01::3"),
        format!("arp eth0 {own} {other} {own} 10.1.0.2 10.1.0.3"),
        format!("na eth0 {own} {other} fd01::2 fd01::3 fd01::2 {own}"),
    ];
    let spoofed = [
        format!("udp4 eth0 {stranger} {other} 10.1.0.2 10.1.0.3"),
        format!("udp4 eth0 {own} {other} 10.1.0.77 10.1.0.3"),
        format!("udp6 eth0 {own} {other} fd01::77 fd01::3"),
        format!("arp eth0 {own} {other} {own} 10.1.0.1 10.1.0.3"),
        format!("arp eth0 {own} {other} {stranger} 10.1.0.2 10.1.0.3"),
        format!("na eth0 {own} {other} fd01::2 fd01::3 fd01::1 {own}"),
    ];
    let arrived = |host: &mut Host, frames: &[String]| -> Vec<bool> {
        let watched: Vec<bool> = frames
            .iter()
            .map(|frame| {
                let words = ["netns", "exec", "c2", "python3"];
                let program = talk();
                let program = program.to_str().unwrap().to_owned();
                let mut command: Vec<&str> = words.to_vec();
                command.extend([program.as_str(), "await", "eth0", "1.5"]);
                command.extend(frame.split(' ').take(1));
                let mut watcher = host.netns.spawn("ip", &command).unwrap();
                watcher.line_with("ready").unwrap();
                for _ in 0..3 {
                    host.sh(&format!("ip netns exec c1 python3 {program} spoof {frame}"));
                }
                watcher.wait().unwrap().0
            })
            .collect();
        watched
    };
    assert_eq!(arrived(&mut host, &honest), [true; 4]);
    assert_eq!(arrived(&mut host, &spoofed), [false; 6]);
    // It can live: neighbours are found, duplicate addresses are looked for.
    assert!(host.pings("c1", "10.1.0.3") && host.pings("c1", "fd01::3"));
    assert!(host.pings("c1", "10.1.0.1") && host.pings("c1", "fd01::1"));
    host.transact(&[update("ports", "pc1", &json!({"anti_spoof": false}))]);
    host.converged();
    assert_eq!(arrived(&mut host, &spoofed), [true; 6]);
}

#[test]
fn the_number_of_rules_is_the_same_however_many_forwards_there_are() {
    let mut host = host(&["c1"]);
    let mut operations = network(1, &json!({"nat": masquerade()}));
    operations.push(forward("f", &json!({"port": 8000})));
    operations.push(port(1, "c1", 2, &json!({"forwards": ["named-uuid", "f"]})));
    host.transact(&operations);
    host.converged();
    let with_one = rules(&host);
    assert!(with_one > 20, "{with_one}");
    let add = |from: usize, to: usize| -> Vec<Value> {
        let names: Vec<Value> = (from..to).map(|at| json!(["named-uuid", format!("f{at}")])).collect();
        let rows = (from..to).map(|at| forward(&format!("f{at}"), &json!({"port": 8000 + at})));
        let mutation = json!({"op": "mutate", "table": "ports", "where": [["name", "==", "pc1"]],
            "mutations": [["forwards", "insert", ["set", names]]]});
        rows.chain([mutation]).collect()
    };
    for from in (0..FORWARDS).step_by(1_000) {
        host.transact(&add(from.max(1), from + 1_000));
        host.converged();
    }
    assert_eq!(rules(&host), with_one);
    assert_eq!(
        host.sh("nft list ruleset").matches("nonnet:ports/").count() / FORWARDS,
        2
    );

    // One more forward is one more element in each family, and nothing else is said to the kernel.
    let log = host.netns.directory().join("monitor");
    let script = format!("stdbuf -oL nft monitor >{}", log.display());
    let monitor = host.netns.spawn("sh", &["-c", &script]).unwrap();
    // It reads all there is first, and begins anew when something changes meanwhile: each probe leaves it more time than the one before.
    let mut pause_ms = 250;
    host.until("the monitor listens", |host| {
        host.sh(&format!(
            "nft add table ip probe; nft delete table ip probe; sleep {pause_ms}e-3"
        ));
        pause_ms *= 2;
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("delete table ip probe"))
    });
    std::fs::write(&log, "").unwrap();
    host.transact(&add(FORWARDS, FORWARDS + 1));
    host.converged();
    let last = (8000 + FORWARDS).to_string();
    host.until("the monitor tells", |_| {
        std::fs::read_to_string(&log).is_ok_and(|text| text.matches(&last).count() >= 2)
    });
    drop(monitor);
    let said = std::fs::read_to_string(&log).unwrap();
    let said = said.trim_start_matches('\0');
    let changes: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("probe"))
        .collect();
    assert!(changes.iter().all(|line| line.contains("add element")), "{said}");
    assert_eq!(changes.len(), 2, "{said}");
}

#[test]
fn a_flush_by_somebody_else_and_a_restart_lose_nothing() {
    let mut host = host(&["c1"]);
    let mut operations = network(1, &json!({"nat": masquerade()}));
    operations.push(forward("f", &json!({"port": 8080, "count": 2, "target": 80})));
    operations.push(port(1, "c1", 2, &json!({"forwards": ["named-uuid", "f"]})));
    host.transact(&operations);
    host.converged();
    let _inside = serve(&mut host, "c1", &["80"]);
    let before = host.sh("nft list ruleset");
    let mut ping = host
        .netns
        .spawn(
            "ip",
            &[
                "netns", "exec", "c1", "ping", "-n", "-i", "0.02", "-c", "250", OUTSIDE[0],
            ],
        )
        .unwrap();
    let end = host.netns.directory().join("end").display().to_string();
    let program = talk().display().to_string();
    let mut echo = host
        .netns
        .spawn("ip", &["netns", "exec", "c1", "python3", &program, "echo", "81"])
        .unwrap();
    echo.line_with("ready").unwrap();
    let arguments = [
        "netns", "exec", "inet", "python3", &program, "hold", WAN[0], "8081", &end,
    ];
    let mut held = host.netns.spawn("ip", &arguments).unwrap();
    held.line_with("ready").unwrap();
    // The tables are ours alone.
    host.sh("nft flush ruleset");
    assert_eq!(host.sh("nft list ruleset"), before);
    assert!(!host.succeeds("nft delete table inet $(nft list tables inet | grep -o 'nonnet_[0-9a-f]*')"));
    let last = host.last_event();
    host.kill();
    host.run();
    host.converged();
    assert_eq!(host.sh("nft list ruleset"), before);
    let events = host.events(last);
    assert!(events.iter().all(|event| event["kind"] == "adopted"), "{events:?}");
    assert_eq!(
        ask(&host, "inet", "tcp", WAN[0], 8080),
        Some(format!("{} 80", OUTSIDE[0]))
    );
    let summary = ping.line_with("packets transmitted").unwrap();
    assert!(summary.contains(" 0% packet loss"), "{summary}");
    host.sh(&format!("touch {end}"));
    assert!(held.wait().unwrap().0, "the connection ended");

    // While no server runs, nobody keeps others from it: the next one makes it again, and finds its settings.
    host.kill();
    host.sh("nft flush ruleset");
    assert!(tables(&host).is_empty());
    host.run();
    host.converged();
    assert_eq!(host.sh("nft list ruleset").lines().count(), before.lines().count());
    assert_eq!(
        ask(&host, "inet", "tcp", WAN[0], 8080),
        Some(format!("{} 80", OUTSIDE[0]))
    );

    // Rows that go while no kernel is there to follow leave nothing behind either.
    host.kill();
    host.arguments(&["--kernel=off"]);
    host.run();
    host.transact(&[delete("ports", "pc1")]);
    host.transact(&[delete("networks", "n1")]);
    host.kill();
    host.arguments(&[]);
    host.run();
    host.converged();
    host.until("the packet filter is as it was", |host| tables(host).is_empty());
    assert_eq!(forwarding(&host), "0 0");
}

#[test]
fn a_foreign_chain_that_drops_is_named_until_it_does_not() {
    let mut host = host(&["c1"]);
    host.sh("nft add table ip filter; nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'");
    let mut operations = network(1, &json!({"nat": masquerade()}));
    operations.push(port(1, "c1", 2, &json!({})));
    host.transact(&operations);
    host.until_state("networks", "n1", "conflict");
    let error = host.error("networks", "n1");
    assert!(
        error.contains("drop policy of chain ip filter FORWARD, which is not nonnet's"),
        "{error}"
    );
    host.sh("nft chain ip filter FORWARD '{ policy accept; }'");
    host.until_state("networks", "n1", "converged");
    host.sh("nft add rule ip filter FORWARD counter drop");
    host.until_state("networks", "n1", "conflict");
    let error = host.error("networks", "n1");
    assert!(error.contains("drop rule of chain ip filter FORWARD"), "{error}");
    // Somebody's rule for the bridge is somebody's arrangement.
    host.sh(
        "nft insert rule ip filter FORWARD iifname br1 accept; nft insert rule ip filter FORWARD oifname br1 accept",
    );
    host.until_state("networks", "n1", "converged");
    assert!(host.succeeds(&format!("ip netns exec c1 ping -n -c 1 -W 5 {}", OUTSIDE[0])));
    // Of many changes by others, only some are looked at, and the last one is.
    host.sh(
        "for n in $(seq 200); do nft add rule ip filter FORWARD counter accept; done
        nft flush chain ip filter FORWARD; nft chain ip filter FORWARD '{ policy drop; }'",
    );
    host.until_state("networks", "n1", "conflict");
    // What is not ours is not touched.
    assert!(host.sh("nft list table ip filter").contains("policy drop"));
}

#[test]
fn a_drop_policy_of_iptables_legacy_is_named() {
    let mut host = host(&["c1"]);
    let mut operations = network(1, &json!({"nat": masquerade()}));
    operations.push(port(1, "c1", 2, &json!({})));
    host.transact(&operations);
    host.converged();
    for (program, address) in [("iptables", OUTSIDE[0]), ("ip6tables", OUTSIDE[1])] {
        host.sh(&format!("{program}-legacy -P FORWARD DROP"));
        assert!(!host.succeeds(&format!("ip netns exec c1 ping -n -c 1 -W 1 {address}")));
        host.kill();
        host.run();
        host.until_state("networks", "n1", "conflict");
        let error = host.error("networks", "n1");
        let expected = format!("drop policy of chain FORWARD of {program} (legacy), which is not nonnet's");
        assert!(error.contains(&expected), "{error}");
        host.sh(&format!(
            "{program}-legacy -A FORWARD -i br1 -j ACCEPT; {program}-legacy -A FORWARD -o br1 -j ACCEPT"
        ));
        host.kill();
        host.run();
        host.until_state("networks", "n1", "converged");
        assert!(host.succeeds(&format!("ip netns exec c1 ping -n -c 1 -W 5 {address}")));
    }
}

#[test]
fn where_no_row_asks_for_it_there_is_no_packet_filter() {
    let mut host = host(&["c1", "c2"]);
    let mut operations = network(1, &json!({}));
    operations.push(port(1, "c1", 2, &json!({"isolated": true})));
    operations.push(port(1, "c2", 3, &json!({"isolated": true})));
    host.transact(&operations);
    host.converged();
    assert_eq!((tables(&host), forwarding(&host)), (vec![], "0 0".into()));
    assert!(host.pings("c1", "10.1.0.1"));
    assert!(!host.succeeds("ip netns exec c1 ping -n -c 1 -W 1 10.1.0.3"));
    // The first row that needs rules brings them, with all that they have to know of other rows; the last one takes them along.
    let _inside = serve(&mut host, "c1", &["80"]);
    for _ in 0..2 {
        let mutation = json!({"op": "mutate", "table": "ports", "where": [["name", "==", "pc1"]],
            "mutations": [["forwards", "insert", ["named-uuid", "f"]]]});
        host.transact(&[forward("f", &json!({"port": 8080, "target": 80})), mutation]);
        host.converged();
        assert_eq!(tables(&host).len(), 2);
        // By way of the host: what the network's row says of hairpins is there.
        assert_eq!(ask(&host, "", "tcp", "127.0.0.1", 8080), Some("10.1.0.1 80".into()));
        assert_eq!(
            ask(&host, "inet", "tcp", WAN[0], 8080),
            Some(format!("{} 80", OUTSIDE[0]))
        );
        host.transact(&[update("ports", "pc1", &json!({"forwards": ["set", []]}))]);
        host.converged();
        assert_eq!((tables(&host), forwarding(&host)), (vec![], "0 0".into()));
    }
    assert!(host.rows("events").iter().all(|event| event["kind"] != "drift"));
}

/// CNI leaves a chain for each container whose namespace was gone before it was told; after netavark the next container on the port is not reached.
#[test]
fn a_container_that_dies_leaves_nothing_and_the_next_one_has_its_port() {
    let mut host = host(&["c1", "c2"]);
    let mut operations = network(1, &json!({"nat": masquerade()}));
    operations.push(forward("f0", &json!({"port": 8080, "target": 80})));
    operations.push(forward("f1", &json!({"protocol": "udp", "port": 8080, "target": 80})));
    let forwards = json!(["set", [["named-uuid", "f0"], ["named-uuid", "f1"]]]);
    operations.push(port(1, "c1", 2, &json!({"forwards": forwards})));
    host.transact(&operations);
    host.converged();
    let network = host.row("networks", "n1")["_uuid"].clone();
    let _second = serve(&mut host, "c2", &["80"]);
    let client = Some(format!("{} 80", OUTSIDE[0]));
    // Each asks from the same port of its own, as one that does not stop asking.
    let asks = |host: &Host, protocol: &str| {
        let program = talk().display().to_string();
        let script = format!(
            "ip netns exec inet python3 {program} ask {protocol} {} 8080 4567",
            WAN[0]
        );
        let (answered, text) = host.netns.try_sh(&script).unwrap();
        answered.then(|| text.trim().to_owned())
    };
    {
        let _first = serve(&mut host, "c1", &["80"]);
        assert_eq!(asks(&host, "udp"), client);
    }
    host.sh("ip netns del c1");
    host.until_state("ports", "pc1", "waiting");
    let next = json!({"name": "pc2", "netns": "c2", "network": ["uuid", network],
        "addresses": ["set", ["10.1.0.3", "fd01::3"]], "forwards": forwards});
    host.transact(&[
        delete("ports", "pc1"),
        forward("f0", &json!({"port": 8080, "target": 80})),
        forward("f1", &json!({"protocol": "udp", "port": 8080, "target": 80})),
        insert("ports", "port", &next),
    ]);
    host.converged();
    assert_eq!(asks(&host, "udp"), client);
    assert_eq!(asks(&host, "tcp"), client);
    host.sh("ip netns del c2");
    host.until_state("ports", "pc2", "waiting");
    host.transact(&[delete("ports", "pc2")]);
    host.converged();
    let left = host.sh("nft list ruleset");
    assert!(
        !left.contains("nonnet:ports/") && left.contains("{ \"br1\" comment"),
        "{left}"
    );
    host.transact(&[delete("networks", "n1")]);
    host.converged();
    assert_eq!((tables(&host), forwarding(&host)), (vec![], "0 0".into()));
}
