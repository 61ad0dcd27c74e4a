//! Rates, copies and counters of ports, with real traffic, in a host of the test's own.

use std::fs;
use std::time::{Duration, Instant};

use nonnet_tests::host::{Host, bridge_and_network, delete, port, update};
use serde_json::{Value, json};

/// Bits per second.
const RATE: u64 = 2_000_000;

/// Bytes that take six seconds at [`RATE`].
const FEW: u64 = 6 * RATE / 8;

/// Bytes that take more than a minute at [`RATE`].
const MANY: u64 = 80 * RATE / 8;

/// Ports of these names in namespaces of the same names, on one network; `more` is what their rows say besides.
fn ports(host: &mut Host, names: &[(&str, Value)]) {
    let mut rows = bridge_and_network("br0", "lan", &[("10.78.0.0/24", "10.78.0.1")]);
    for (name, more) in names {
        host.netns.add(name).unwrap();
        let mut operation = port(name, name);
        for (column, value) in more.as_object().into_iter().flatten() {
            operation["row"][column] = value.clone();
        }
        rows.push(operation);
    }
    host.transact(&rows);
    host.converged();
}

/// Sends bytes from one namespace to another, and waits until all have come. Gives how long that took.
#[track_caller]
fn transfer(host: &mut Host, from: &str, to: &str, bytes: u64) -> Duration {
    let there = host.ipv4(to);
    let file = host.netns.directory().join(format!("{from}-{to}"));
    host.sh(&format!(
        "ip netns exec {to} sh -c 'timeout 60 nc -l -p 7000 > {} 2> /dev/null < /dev/null & echo'",
        file.display()
    ));
    host.until("somebody listens", |host| {
        host.succeeds(&format!("ip netns exec {to} ss -ltn | grep -q :7000"))
    });
    let begun = Instant::now();
    host.sh(&format!(
        "ip netns exec {from} sh -c 'head -c {bytes} /dev/zero | timeout 60 nc -N {there} 7000'"
    ));
    host.until("everything came through", |_| {
        fs::metadata(&file).is_ok_and(|file| file.len() == bytes)
    });
    begun.elapsed()
}

/// Checks that a transfer is held to [`RATE`], or to not much more: a busy machine makes it slower, never faster.
#[track_caller]
fn assert_shaped(host: &mut Host, from: &str, to: &str) {
    let took = transfer(host, from, to, FEW);
    assert!(took > Duration::from_secs(3), "{FEW} bytes came through in {took:?}");
}

/// Checks that everything comes through, which at [`RATE`] would take more than the minute that there is.
#[track_caller]
fn assert_unshaped(host: &mut Host, from: &str, to: &str) {
    transfer(host, from, to, MANY);
}

fn queue(host: &Host, netns: Option<&str>, link: &str) -> String {
    let inside = netns.map(|netns| format!("-n {netns} ")).unwrap_or_default();
    host.sh(&format!("tc {inside}qdisc show dev {link} root"))
}

#[test]
fn rates_shape_either_direction_and_change_in_place() {
    let mut host = Host::start();
    ports(
        &mut host,
        &[("slow", json!({"ingress_rate": RATE})), ("fast", json!({}))],
    );
    let shape = queue(&host, None, "slow");
    assert!(shape.contains("tbf 6e6e:") && shape.contains("rate 2Mbit"), "{shape}");
    assert_shaped(&mut host, "fast", "slow");
    assert_unshaped(&mut host, "slow", "fast");

    let handle = host.link("slow").unwrap()["ifindex"].clone();
    let both = json!({"ingress_rate": 3_000_000, "egress_rate": RATE});
    host.transact(&[update("ports", "slow", &both)]);
    host.converged();
    assert_eq!(host.link("slow").unwrap()["ifindex"], handle, "the link stayed");
    assert!(queue(&host, None, "slow").contains("rate 3Mbit"));
    assert!(queue(&host, Some("slow"), "eth0").contains("rate 2Mbit"));
    assert_shaped(&mut host, "slow", "fast");

    let none = json!({"ingress_rate": ["set", []], "egress_rate": ["set", []]});
    host.transact(&[update("ports", "slow", &none)]);
    host.converged();
    assert!(!queue(&host, None, "slow").contains("tbf"));
    assert!(!queue(&host, Some("slow"), "eth0").contains("tbf"));
}

#[test]
fn shape_that_somebody_takes_away_comes_back_and_survives_a_restart() {
    let mut host = Host::start();
    ports(
        &mut host,
        &[("slow", json!({"ingress_rate": RATE, "egress_rate": RATE}))],
    );
    let seen = host.last_event();
    host.sh("tc qdisc del dev slow root");
    host.until("the shape is back", |host| {
        queue(host, None, "slow").contains("rate 2Mbit")
    });
    host.until_event(seen, "healed", "traffic of slow");
    host.sh("tc -n slow qdisc del dev eth0 root");
    host.until("the shape inside is back", |host| {
        queue(host, Some("slow"), "eth0").contains("rate 2Mbit")
    });

    let gateway = "10.78.0.1";
    assert!(host.pings("slow", gateway));
    let before = sent(&host, "slow");
    assert!(before > 0);
    host.kill();
    host.run();
    host.converged();
    host.until_event(0, "adopted", "traffic of slow");
    assert!(
        sent(&host, "slow") >= before,
        "a queue that is made anew begins to count anew"
    );
}

/// Bytes that the root queue of a link has sent.
fn sent(host: &Host, link: &str) -> u64 {
    let text = host.sh(&format!("tc -s qdisc show dev {link} root"));
    let mut words = text.split_whitespace().skip_while(|word| *word != "Sent");
    words.nth(1).unwrap().parse().unwrap()
}

#[test]
fn queue_of_somebody_else_is_left_alone_and_named() {
    let mut host = Host::start();
    ports(&mut host, &[("one", json!({}))]);
    host.sh("tc qdisc add dev one root handle 1: htb default 1");
    host.transact(&[update("ports", "one", &json!({"ingress_rate": RATE}))]);
    host.until_state("ports", "one", "conflict");
    let error = host.error("ports", "one");
    assert!(error.contains("one has a queue of kind htb"), "{error}");
    assert!(queue(&host, None, "one").contains("htb 1:"));
    host.sh("tc qdisc del dev one root");
    host.until_state("ports", "one", "converged");
    assert!(queue(&host, None, "one").contains("tbf"));
}

#[test]
fn mirror_copies_both_directions_to_another_port() {
    let mut host = Host::start();
    ports(&mut host, &[("a", json!({})), ("b", json!({})), ("watch", json!({}))]);
    let watch = host.row("ports", "watch")["_uuid"].clone();
    host.transact(&[update("ports", "a", &json!({"mirror": ["uuid", watch]}))]);
    host.converged();
    let (a, b) = (host.ipv4("a"), host.ipv4("b"));
    let file = host.netns.directory().join("seen");
    let capture = format!(
        "ip netns exec watch sh -c 'timeout 60 tcpdump -n -l -p -c 2 -i eth0 icmp and host {a} and host {b} > {} 2> {}.log & echo'",
        file.display(),
        file.display()
    );
    host.sh(&capture);
    let log = format!("{}.log", file.display());
    host.until("the capture has begun", |_| {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"))
    });
    host.until("both directions were seen", |host| {
        assert!(host.pings("a", &b));
        let seen = fs::read_to_string(&file).unwrap();
        seen.contains(&format!("{a} > {b}: ICMP echo request")) && seen.contains(&format!("{b} > {a}: ICMP echo reply"))
    });
    let seen = host.last_event();
    host.sh("tc qdisc del dev a clsact");
    host.until_event(seen, "healed", "traffic of a");
    host.until("the copies are back", |host| {
        ["ingress", "egress"].iter().all(|hook| {
            host.sh(&format!("tc filter show dev a {hook}"))
                .contains("to device watch")
        })
    });
    host.transact(&[delete("ports", "watch")]);
    host.converged();
    assert!(!host.sh("tc qdisc show dev a").contains("clsact"));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut host = Host::start();
    ports(&mut host, &[("a", json!({})), ("b", json!({}))]);
    let tap = json!({"op": "insert", "table": "ports", "row": {"name": "tap0", "kind": "tap"}});
    host.transact(&[tap]);
    let (_, rate) = host.refused(&[update("ports", "tap0", &json!({"ingress_rate": RATE}))]);
    assert!(rate.contains("ingress_rate") && rate.contains("kind tap"), "{rate}");
    let there = host.row("ports", "tap0")["_uuid"].clone();
    let (_, no_end) = host.refused(&[update("ports", "a", &json!({"mirror": ["uuid", there]}))]);
    assert!(no_end.contains("mirror") && no_end.contains("no veth"), "{no_end}");
    let uuid = |host: &mut Host, name: &str| host.row("ports", name)["_uuid"].clone();
    let (a, b) = (uuid(&mut host, "a"), uuid(&mut host, "b"));
    let (_, itself) = host.refused(&[update("ports", "a", &json!({"mirror": ["uuid", a]}))]);
    assert!(itself.contains("mirror") && itself.contains("itself"), "{itself}");
    host.transact(&[update("ports", "a", &json!({"mirror": ["uuid", b]}))]);
    let (_, circle) = host.refused(&[update("ports", "b", &json!({"mirror": ["uuid", a]}))]);
    assert!(circle.contains("mirror") && circle.contains("come back"), "{circle}");
}

#[test]
fn counters_of_ports_networks_and_the_host_follow_the_traffic() {
    let mut host = Host::start();
    ports(&mut host, &[("a", json!({})), ("b", json!({}))]);
    let every_second = json!({"op": "update", "table": "host", "where": [],
        "row": {"other_config": ["map", [["statistics_interval", "1"]]]}});
    host.transact(&[every_second]);
    let b = host.ipv4("b");
    host.sh(&format!("ip netns exec a ping -n -q -c 5 -i 0.2 -s 1000 {b}"));
    let count = |row: &Value, key: &str| row["statistics"][key].as_i64().unwrap_or(0);
    host.until("the counters follow", |host| {
        let (a, network) = (host.row("ports", "a"), host.row("networks", "lan"));
        count(&a, "tx_bytes") >= 5_000 && count(&a, "rx_bytes") >= 5_000 && count(&network, "rx_packets") >= 10
    });
    // What the row says of a port is what its end inside counts.
    let inside = host.links_in("a");
    assert!(inside.contains_key("eth0"));
    host.until("the row says what is counted inside", |host| {
        let counted = host.sh("ip -n a -json -s link show eth0");
        let counted: Value = serde_json::from_str(&counted).unwrap();
        let counted = &counted[0]["stats64"];
        let row = host.row("ports", "a");
        counted["rx"]["bytes"] == row["statistics"]["rx_bytes"]
            && counted["tx"]["packets"] == row["statistics"]["tx_packets"]
    });
    let total = host.rows("host").remove(0);
    assert!(count(&total, "rx_packets") >= 10, "{total}");

    let (next, ..) = host.progress();
    let off = json!({"op": "update", "table": "host", "where": [],
        "row": {"other_config": ["map", [["statistics_interval", "0"]]]}});
    host.transact(&[off]);
    host.until("what is counted is no commit", |host| host.progress().0 == next + 1);
}
