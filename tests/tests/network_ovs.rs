//! Bridges of Open vSwitch by rows: the real daemons forward, in user space, what the rows say.

use nonnet_tests::host::{Host, delete, insert, update};
use nonnet_tests::program::repository;
use nonnet_tests::server::Kind;
use nonnet_tests::switch::{Switch, column};
use serde_json::{Value, json};

/// The operation that makes a bridge in user space, known to other operations by its name.
fn bridge(name: &str) -> Value {
    let row = json!({"name": name, "kind": "ovs", "other_config": ["map", [["datapath_type", "netdev"]]]});
    insert("bridges", name, &row)
}

/// The operation that makes a port with an address on a bridge of the same transaction, in the namespace of its name.
fn port(name: &str, bridge: &str, address: &str, more: &Value) -> Value {
    let mut row =
        json!({"name": format!("p-{name}"), "netns": name, "bridge": ["named-uuid", bridge], "addresses": address});
    for (column, datum) in more.as_object().into_iter().flatten() {
        row[column] = datum.clone();
    }
    json!({"op": "insert", "table": "ports", "row": row})
}

/// A host with Open vSwitch and these namespaces.
fn host(namespaces: &[&str]) -> (Host, Switch) {
    let mut host = Host::prepare(&[]);
    let switch = Switch::start(&mut host);
    host.run();
    for name in namespaces {
        host.netns.add(name).unwrap();
    }
    (host, switch)
}

/// How many octets arrive of a hundred thousand that one namespace sends to another's address by TCP.
fn tcp(host: &Host, from: &str, to: &str, address: &str) -> String {
    let script = format!(
        "ip netns exec {to} nc -l -d {address} 7000 >/run/received & server=$!
         for try in $(seq 200); do ip netns exec {to} ss -ltn | grep -q :7000 && break; sleep 0.05; done
         head -c 100000 /dev/zero | ip netns exec {from} timeout 20 nc -N {address} 7000
         kill $server 2>/dev/null; wait $server; stat -c %s /run/received"
    );
    host.sh(&script).trim().to_owned()
}

#[test]
fn what_a_port_sends_has_its_rate_on_a_switch_too() {
    let (mut host, _switch) = host(&["c1", "c2"]);
    host.transact(&[
        bridge("ovs0"),
        port("c1", "ovs0", "10.8.0.2/24", &json!({"egress_rate": 1_000_000})),
        port("c2", "ovs0", "10.8.0.3/24", &json!({})),
    ]);
    host.converged();
    host.until("c2 answers", |host| host.pings("c1", "10.8.0.3"));
    let queue = host.sh("tc -n c1 qdisc show dev eth0 root");
    assert!(queue.contains("tbf") && queue.contains("rate 1Mbit"), "{queue}");
    let begun = std::time::Instant::now();
    assert_eq!(tcp(&host, "c1", "c2", "10.8.0.3"), "100000");
    // At that rate they take eight tenths of a second, and a busy machine makes it slower, never faster.
    assert!(begun.elapsed().as_millis() > 400, "{:?}", begun.elapsed());
}

#[test]
fn what_a_port_receives_has_its_rate_on_a_switch_too() {
    let (mut host, mut switch) = host(&["c1", "c2"]);
    host.transact(&[
        bridge("ovs0"),
        port("c1", "ovs0", "10.8.0.2/24", &json!({})),
        port("c2", "ovs0", "10.8.0.3/24", &json!({"ingress_rate": 1_000_000})),
    ]);
    host.converged();
    host.until("c2 answers", |host| host.pings("c1", "10.8.0.3"));
    let is_shaped = |host: &Host, rate: &str| host.sh("tc qdisc show dev p-c2 root").contains(&format!("rate {rate}"));
    assert!(is_shaped(&host, "1Mbit"));
    let begun = std::time::Instant::now();
    assert_eq!(tcp(&host, "c1", "c2", "10.8.0.3"), "100000");
    assert!(begun.elapsed().as_millis() > 400, "{:?}", begun.elapsed());

    // Open vSwitch takes queues away from ports as it opens them: not this one.
    let seen = host.last_event();
    switch.stop_vswitchd();
    switch.start_vswitchd(&mut host);
    host.converged();
    host.until("c2 answers again", |host| host.pings("c1", "10.8.0.3"));
    assert!(is_shaped(&host, "1Mbit"));
    host.transact(&[update("ports", "p-c2", &json!({"ingress_rate": 3_000_000}))]);
    host.converged();
    assert!(is_shaped(&host, "3Mbit"));
    assert!(host.events(seen).iter().all(|event| event["kind"] != "healed"));

    // Both the queue and what protects it come back.
    host.sh("tc qdisc del dev p-c2 root");
    host.until("the queue is back", |host| is_shaped(host, "3Mbit"));
    host.sh("ovs-vsctl --timeout=20 clear Port p-c2 qos");
    host.until_event(seen, "healed", "ovs port p-c2");
    host.converged();
    assert_eq!(host.sh("ovs-vsctl --bare --columns=type list QoS").trim(), "linux-noop");
    host.sh("ovs-vsctl --timeout=20 del-port p-c2");
    host.until("the queue is back with its port", |host| {
        host.succeeds("ovs-vsctl --timeout=20 get Port p-c2 qos | grep -q -") && is_shaped(host, "3Mbit")
    });
    host.converged();

    // Another port shares the row, which goes with the last of them, and leaves somebody else's alone.
    let theirs = host.sh("ovs-vsctl --timeout=20 create QoS type=linux-noop");
    host.transact(&[update("ports", "p-c1", &json!({"ingress_rate": 1_000_000}))]);
    host.converged();
    assert_eq!(
        column(&host, "Port", "p-c1", "qos"),
        column(&host, "Port", "p-c2", "qos")
    );
    host.transact(&[update("ports", "p-c2", &json!({"ingress_rate": ["set", []]}))]);
    host.converged();
    assert_eq!(column(&host, "Port", "p-c2", "qos"), "[]");
    assert!(!host.sh("tc qdisc show dev p-c2 root").contains("tbf"));
    host.transact(&[delete("ports", "p-c1")]);
    host.converged();
    host.until("the row is gone", |host| {
        host.sh("ovs-vsctl --bare --columns=_uuid list QoS").trim() == theirs.trim()
    });
}

#[test]
fn quality_of_service_of_somebody_else_is_left_alone_and_named() {
    let (mut host, _switch) = host(&["c1"]);
    host.transact(&[bridge("ovs0"), port("c1", "ovs0", "10.8.0.2/24", &json!({}))]);
    host.converged();
    host.sh("ovs-vsctl --timeout=20 set Port p-c1 qos=@q -- --id=@q create QoS type=linux-htb other_config:max-rate=1000000");
    host.transact(&[update("ports", "p-c1", &json!({"ingress_rate": 1_000_000}))]);
    host.until_state("ports", "p-c1", "conflict");
    let error = host.error("ports", "p-c1");
    assert!(error.contains("linux-htb") && error.contains("not nonnet's"), "{error}");
    host.sh("ovs-vsctl --timeout=20 clear Port p-c1 qos");
    host.until_state("ports", "p-c1", "converged");
    assert!(host.sh("tc qdisc show dev p-c1 root").contains("tbf"));
}

#[test]
fn copies_go_to_a_port_that_stays_a_port() {
    let (mut host, mut switch) = host(&["c1", "c2", "watch"]);
    host.transact(&[
        bridge("ovs0"),
        port("c1", "ovs0", "10.8.0.2/24", &json!({"mirror": ["named-uuid", "watch"]})),
        port("c2", "ovs0", "10.8.0.3/24", &json!({})),
        json!({"op": "insert", "table": "ports", "uuid-name": "watch", "row": {"name": "p-watch", "netns": "watch",
            "bridge": ["named-uuid", "ovs0"], "addresses": "10.8.0.4/24"}}),
    ]);
    host.converged();
    host.until("c2 answers", |host| host.pings("c1", "10.8.0.3"));
    assert!(
        host.pings("watch", "10.8.0.3"),
        "who sees copies has its own traffic, too"
    );
    let both_ways = |host: &mut Host| {
        let file = host.netns.directory().join("seen");
        let file = file.display();
        let capture = format!(
            "exec ip netns exec watch tcpdump -n -l -p -i eth0 icmp and host 10.8.0.2 and host 10.8.0.3 > {file} 2> {file}.log"
        );
        let capture = host.netns.spawn("sh", &["-c", &capture]).unwrap();
        host.until("the capture has begun", |host| {
            host.succeeds(&format!("grep -q 'listening on' {file}.log"))
        });
        host.until("both directions were seen", |host| {
            host.pings("c1", "10.8.0.3");
            let seen = host.sh(&format!("cat {file}"));
            seen.contains("10.8.0.2 > 10.8.0.3: ICMP echo request")
                && seen.contains("10.8.0.3 > 10.8.0.2: ICMP echo reply")
        });
        drop(capture);
    };
    both_ways(&mut host);
    // Open vSwitch leaves them alone, whenever it begins.
    let seen = host.last_event();
    switch.stop_vswitchd();
    switch.start_vswitchd(&mut host);
    host.converged();
    host.until("c2 answers again", |host| host.pings("c1", "10.8.0.3"));
    both_ways(&mut host);
    assert!(host.events(seen).iter().all(|event| event["kind"] != "healed"));
    host.transact(&[delete("ports", "p-watch")]);
    host.converged();
    assert!(!host.sh("tc qdisc show dev p-c1").contains("clsact"));
}

#[test]
fn isolated_ports_reach_the_others_and_not_each_other() {
    let (mut host, _switch) = host(&["c1", "c2", "c3"]);
    host.transact(&[
        bridge("ovs0"),
        port("c1", "ovs0", "10.8.0.1/24", &json!({"isolated": true})),
        port("c2", "ovs0", "10.8.0.2/24", &json!({"isolated": true})),
        port("c3", "ovs0", "10.8.0.3/24", &json!({})),
    ]);
    host.converged();
    let apart = |host: &Host| !host.succeeds("ip netns exec c1 ping -n -c 2 -i 0.2 -W 1 10.8.0.2");
    for name in ["c1", "c2"] {
        host.until(&format!("{name} reaches the third"), |host| {
            host.pings(name, "10.8.0.3")
        });
    }
    assert!(apart(&host));
    let seen = host.last_event();
    host.sh("ovs-vsctl --timeout=20 set Port p-c1 protected=false");
    host.until_event(seen, "healed", "ovs port p-c1");
    host.converged();
    assert!(apart(&host));

    // A network says it for all its ports.
    let network = json!({"name": "lan", "bridge": ["uuid", host.row("bridges", "ovs0")["_uuid"]], "isolation": "port",
        "subnets": ["map", [["10.9.0.0/24", "10.9.0.1"]]]});
    let network = json!({"op": "insert", "table": "networks", "uuid-name": "lan", "row": network});
    host.transact(&[update("ports", "p-c1", &json!({"isolated": false}))]);
    host.converged();
    host.until("one of them is no longer kept", |host| host.pings("c1", "10.8.0.2"));
    let row = json!({"name": "p-net", "netns": "c3", "ifname": "eth1", "network": ["named-uuid", "lan"]});
    host.transact(&[network, json!({"op": "insert", "table": "ports", "row": row})]);
    host.converged();
    assert_eq!(column(&host, "Port", "p-net", "protected"), "true");
    assert_eq!(column(&host, "Port", "p-c1", "protected"), "false");
}

/// Two ports with addresses of both families on a switch, of which the first is held to its own.
fn guarded(host: &mut Host) {
    let row = |name: &str, last: u8, more: Value| {
        let addresses = json!(["set", [format!("10.8.0.{last}/24"), format!("fd08::{last}/64")]]);
        let mut row = json!({"name": format!("p-{name}"), "netns": name, "bridge": ["named-uuid", "ovs0"], "addresses": addresses,
            "mac": format!("02:00:00:00:00:0{last}")});
        for (column, datum) in more.as_object().into_iter().flatten() {
            row[column] = datum.clone();
        }
        json!({"op": "insert", "table": "ports", "row": row})
    };
    host.transact(&[
        bridge("ovs0"),
        row("c1", 2, json!({"anti_spoof": true})),
        row("c2", 3, json!({})),
    ]);
    host.converged();
    for address in ["10.8.0.3", "fd08::3"] {
        host.until(&format!("{address} answers"), |host| host.pings("c1", address));
    }
}

/// Which of these frames arrive of those that the first port sends to the second; each begins with its kind.
fn arrived(host: &mut Host, frames: &[String]) -> Vec<bool> {
    let program = repository().join("tests/src/talk.py").display().to_string();
    let arrives = |frame: &String| {
        let kind = frame.split(' ').next().unwrap_or_default();
        let watch = ["netns", "exec", "c2", "python3", &program, "await", "eth0", "1.5", kind];
        let mut watcher = host.netns.spawn("ip", &watch).unwrap();
        watcher.line_with("ready").unwrap();
        for _ in 0..3 {
            host.sh(&format!("ip netns exec c1 python3 {program} spoof {frame}"));
        }
        watcher.wait().unwrap().0
    };
    frames.iter().map(arrives).collect()
}

/// Frames of the first port under its own addresses.
fn honest() -> Vec<String> {
    let (own, other) = ("02:00:00:00:00:02", "02:00:00:00:00:03");
    vec![
        format!("udp4 eth0 {own} {other} 10.8.0.2 10.8.0.3"),
        format!("udp6 eth0 {own} {other} fd08::2 fd08::3"),
        format!("arp eth0 {own} {other} {own} 10.8.0.2 10.8.0.3"),
        format!("na eth0 {own} {other} fd08::2 fd08::3 fd08::2 {own}"),
    ]
}

/// Frames of the first port under addresses that are not its own.
fn spoofed() -> Vec<String> {
    let (own, other, stranger) = ("02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:99");
    vec![
        format!("udp4 eth0 {stranger} {other} 10.8.0.2 10.8.0.3"),
        format!("udp4 eth0 {own} {other} 10.8.0.77 10.8.0.3"),
        format!("udp6 eth0 {own} {other} fd08::77 fd08::3"),
        format!("arp eth0 {own} {other} {own} 10.8.0.1 10.8.0.3"),
        format!("arp eth0 {own} {other} {stranger} 10.8.0.2 10.8.0.3"),
        format!("na eth0 {own} {other} fd08::2 fd08::3 fd08::1 {own}"),
    ]
}

/// The flows of a bridge that are nonnet's, and those that are not.
fn flows(host: &Host, bridge: &str) -> (Vec<String>, Vec<String>) {
    let text = host.sh(&format!("ovs-ofctl --no-stats dump-flows {bridge}"));
    let flows = text.lines().filter(|line| line.contains("actions="));
    let mut flows: Vec<String> = flows.map(|line| line.trim().to_owned()).collect();
    flows.sort_unstable();
    flows.into_iter().partition(|flow| flow.contains("cookie=0x6e6e"))
}

#[test]
fn a_guarded_port_of_a_switch_sends_nothing_under_addresses_that_are_not_its_own() {
    let (mut host, _switch) = host(&["c1", "c2"]);
    guarded(&mut host);
    assert_eq!(arrived(&mut host, &honest()), [true; 4]);
    assert_eq!(arrived(&mut host, &spoofed()), [false; 6]);
    // The host's own side learns nothing wrong either, and can be reached.
    assert!(
        !host
            .sh("ovs-appctl -t /run/openvswitch/ovs-vswitchd.*.ctl fdb/show ovs0")
            .contains("02:00:00:00:00:99")
    );

    // Frames that a port needs before it has its addresses, and those that only others send, as the switch itself judges them.
    let own = "dl_src=02:00:00:00:00:02";
    let nobody = format!("{own},icmp6,ipv6_src=::");
    for (passes, frame) in [
        (true, format!("{own},udp,nw_dst=255.255.255.255,udp_src=68,udp_dst=67")),
        (false, format!("{own},udp,nw_dst=255.255.255.255,udp_src=67,udp_dst=68")),
        (
            true,
            format!("{own},arp,arp_op=1,arp_sha=02:00:00:00:00:02,arp_tpa=10.8.0.2"),
        ),
        (
            true,
            format!("{nobody},ipv6_dst=ff02::1:ff00:2,icmpv6_type=135,nd_target=fd08::2"),
        ),
        (
            false,
            format!("{nobody},ipv6_dst=ff02::1:ff00:77,icmpv6_type=135,nd_target=fd08::77"),
        ),
        (true, format!("{nobody},ipv6_dst=ff02::16,icmpv6_type=143")),
        (
            true,
            format!("{own},icmp6,ipv6_src=fe80::ff:fe00:2,ipv6_dst=ff02::2,icmpv6_type=133"),
        ),
        (
            false,
            format!("{own},icmp6,ipv6_src=fe80::ff:fe00:2,ipv6_dst=ff02::1,icmpv6_type=134"),
        ),
        (
            false,
            format!("{own},icmp6,ipv6_src=fd08::2,ipv6_dst=ff02::1,icmpv6_type=137"),
        ),
        (false, format!("{own},dl_type=0x88cc")),
    ] {
        let trace = host.sh(&format!(
            "ovs-appctl -t /run/openvswitch/ovs-vswitchd.*.ctl ofproto/trace ovs0 in_port=p-c1,dl_dst=33:33:00:00:00:01,{frame}"
        ));
        assert_eq!(!trace.contains("Datapath actions: drop"), passes, "{frame}: {trace}");
    }

    // What is let through goes on to the flows of others.
    host.sh("ovs-ofctl add-flow ovs0 cookie=0x7,priority=10,ip,nw_dst=10.8.0.3,actions=drop");
    assert!(!host.succeeds("ip netns exec c1 ping -n -c 1 -W 1 10.8.0.3"));
    let (ours, theirs) = flows(&host, "ovs0");
    assert_eq!(theirs.len(), 2, "{theirs:?}");
    host.sh("ovs-ofctl del-flows ovs0 cookie=0x7/-1");
    assert!(host.pings("c1", "10.8.0.3"));

    // An address more is five flows at most, and every other port has as many as this one.
    host.transact(&[update("ports", "p-c2", &json!({"anti_spoof": true}))]);
    host.converged();
    assert_eq!(flows(&host, "ovs0").0.len(), 2 * ours.len());
    let more = json!(["set", ["10.8.0.2/24", "fd08::2/64", "10.8.0.4/24"]]);
    host.transact(&[update("ports", "p-c1", &json!({"addresses": more}))]);
    host.converged();
    assert_eq!(flows(&host, "ovs0").0.len(), 2 * ours.len() + 2);
    assert!(host.succeeds("ip netns exec c1 ping -n -c 1 -W 5 -I 10.8.0.4 10.8.0.3"));

    host.transact(&[
        update("ports", "p-c1", &json!({"anti_spoof": false})),
        delete("ports", "p-c2"),
    ]);
    host.converged();
    host.until("no flow of ours is left", |host| flows(host, "ovs0").0.is_empty());
    assert_eq!(flows(&host, "ovs0").1.len(), 1);
    let again = json!({"op": "insert", "table": "ports", "row": {"name": "p-c2", "netns": "c2", "mac": "02:00:00:00:00:03",
        "addresses": ["set", ["10.8.0.3/24", "fd08::3/64"]], "bridge": ["uuid", host.row("bridges", "ovs0")["_uuid"]]}});
    host.transact(&[again]);
    host.converged();
    assert_eq!(arrived(&mut host, &spoofed()), [true; 6]);
}

#[test]
fn flows_that_somebody_deletes_or_changes_come_back_and_survive_a_restart() {
    let (mut host, mut switch) = host(&["c1", "c2"]);
    guarded(&mut host);
    host.sh("ovs-ofctl add-flow ovs0 cookie=0x7,priority=10,ip,nw_dst=10.8.0.99,actions=drop");
    let (ours, theirs) = flows(&host, "ovs0");
    for damage in [
        "ovs-ofctl del-flows ovs0 in_port=p-c1",
        "ovs-ofctl del-flows ovs0 cookie=0x6e6e000000000000/0xffff000000000000,arp",
        "ovs-ofctl --strict mod-flows ovs0 in_port=p-c1,priority=65500,reg15=0/0x80000000,actions=NORMAL",
    ] {
        let seen = host.last_event();
        host.sh(damage);
        assert_ne!(flows(&host, "ovs0").0, ours, "{damage}");
        host.until_event(seen, "healed", "ovs port p-c1");
        host.converged();
        assert_eq!(flows(&host, "ovs0"), (ours.clone(), theirs.clone()), "{damage}");
    }
    // A switch that begins anew has no flows.
    let seen = host.last_event();
    switch.stop_vswitchd();
    switch.start_vswitchd(&mut host);
    host.until_event(seen, "healed", "ovs port p-c1");
    host.converged();
    assert_eq!(flows(&host, "ovs0").0, ours);

    // A port that comes back has another number, under which it is held, and that alone.
    host.sh("ovs-vsctl --timeout=20 -- del-port p-c1 -- add-port ovs0 other -- set Interface other type=internal");
    host.until("the port is back and held", |host| {
        let number = host.sh("ovs-vsctl --timeout=20 --if-exists get Interface p-c1 ofport");
        let number = format!("in_port={},", number.trim());
        let text =
            host.sh("ovs-ofctl --no-stats --no-names dump-flows ovs0 cookie=0x6e6e000000000000/0xffff000000000000");
        let all: Vec<&str> = text.lines().filter(|line| line.contains("actions=")).collect();
        all.len() == ours.len() && all.iter().all(|line| line.replace(' ', ",").contains(&number))
    });
    host.converged();
    assert_eq!(arrived(&mut host, &spoofed()[1..2]), [false]);
    host.sh("ovs-vsctl --timeout=20 del-port other");

    // A server that begins anew finds them as they are, and what is not wanted any more goes.
    let age = |host: &Host| -> f64 {
        let text = host.sh("ovs-ofctl dump-flows ovs0 cookie=0x6e6e000000000000/0xffff000000000000");
        let ages = text
            .split("duration=")
            .skip(1)
            .filter_map(|rest| rest.split('s').next()?.parse().ok());
        ages.fold(f64::MAX, f64::min)
    };
    let before = age(&host);
    host.kill();
    host.run();
    host.converged();
    assert!(age(&host) > before, "flows that are made anew are younger");
    host.transact(&[update("ports", "p-c1", &json!({"anti_spoof": false}))]);
    host.converged();
    assert!(flows(&host, "ovs0").0.is_empty());
}

#[test]
fn flows_of_a_controller_are_left_to_it_in_words() {
    let (mut host, _switch) = host(&["c1"]);
    let guarded = port("c1", "ovs0", "10.8.0.2/24", &json!({"anti_spoof": true}));
    for (key, value) in [("controller", "tcp:127.0.0.1:6653"), ("fail_mode", "secure")] {
        let mut bridge = bridge("ovs0");
        bridge["row"]["other_config"] = json!(["map", [["datapath_type", "netdev"], [key, value]]]);
        let (_, details) = host.refused(&[bridge, guarded.clone()]);
        assert!(
            details.contains("anti_spoof") && details.contains("ovs0") && details.contains("controller"),
            "{details}"
        );
    }
    let patch = json!({"op": "insert", "table": "ports", "row": {"name": "to1", "kind": "patch", "bridge": ["named-uuid", "ovs0"],
        "options": ["map", [["peer", "to0"]]], "anti_spoof": true}});
    let (_, details) = host.refused(&[bridge("ovs0"), patch]);
    assert!(details.contains("anti_spoof") && details.contains("patch"), "{details}");

    // A bridge that gets one later leaves its guarded ports with an error.
    host.transact(&[bridge("ovs0"), guarded]);
    host.converged();
    let controlled = json!(["map", [["datapath_type", "netdev"], ["fail_mode", "secure"]]]);
    host.transact(&[update("bridges", "ovs0", &json!({"other_config": controlled}))]);
    host.until_state("ports", "p-c1", "failed");
    assert!(
        host.error("ports", "p-c1").contains("controller"),
        "{}",
        host.error("ports", "p-c1")
    );
}

#[test]
fn bridge_and_ports_carry_pings_and_tcp() {
    let (mut host, _switch) = host(&["c1", "c2"]);
    let network = json!({"name": "lan", "bridge": ["named-uuid", "ovs0"], "ipam": "sequential",
        "subnets": ["map", [["10.8.0.0/24", "10.8.0.1"], ["fd08::/64", "fd08::1"]]]});
    let on_network = |name: &str| {
        json!({"op": "insert", "table": "ports",
            "row": {"name": format!("p-{name}"), "netns": name, "network": ["named-uuid", "lan"]}})
    };
    host.transact(&[
        bridge("ovs0"),
        insert("networks", "lan", &network),
        on_network("c1"),
        on_network("c2"),
    ]);
    host.converged();
    // The gateways are on the bridge's own port.
    for address in ["10.8.0.1", "10.8.0.3", "fd08::1"] {
        host.until(&format!("{address} answers"), |host| host.pings("c1", address));
    }
    assert_eq!(tcp(&host, "c1", "c2", "10.8.0.3"), "100000");
    assert_eq!(host.row("bridges", "ovs0")["status"]["state"], "converged");
    // Each row there says whose it is.
    for (table, row) in [("Bridge", "ovs0"), ("Port", "p-c1"), ("Interface", "p-c1")] {
        assert!(
            column(&host, table, row, "external_ids:nonnet").contains("s/"),
            "{table} {row}"
        );
    }
    // Both ends of the switch agree that everything was taken in.
    assert_eq!(
        column(&host, "Open_vSwitch", ".", "cur_cfg"),
        column(&host, "Open_vSwitch", ".", "next_cfg")
    );

    host.transact(&[
        delete("ports", "p-c1"),
        delete("ports", "p-c2"),
        delete("networks", "lan"),
        delete("bridges", "ovs0"),
    ]);
    host.converged();
    host.until("nothing is left", |host| {
        host.sh("ovs-vsctl list-br").is_empty() && host.link("ovs0").is_none() && host.link("p-c1").is_none()
    });
}

#[test]
fn tags_separate_and_trunks_and_patches_join() {
    let (mut host, _switch) = host(&["c1", "c2", "c3"]);
    let patch = |name: &str, bridge: &str, peer: &str| {
        let row = json!({"name": name, "kind": "patch", "bridge": ["named-uuid", bridge], "options": ["map", [["peer", peer]]]});
        json!({"op": "insert", "table": "ports", "row": row})
    };
    host.transact(&[
        bridge("ovs0"),
        bridge("ovs1"),
        port("c1", "ovs0", "10.8.0.1/24", &json!({"tag": 10})),
        port("c2", "ovs0", "10.8.0.2/24", &json!({"tag": 20})),
        port("c3", "ovs1", "10.8.0.3/24", &json!({"tag": 10})),
        patch("to1", "ovs0", "to0"),
        patch("to0", "ovs1", "to1"),
    ]);
    host.converged();
    host.until("the patch joins the bridges", |host| host.pings("c1", "10.8.0.3"));
    assert!(!host.succeeds("ip netns exec c1 ping -n -c 2 -i 0.2 -W 1 10.8.0.2"));

    host.transact(&[update("ports", "p-c2", &json!({"tag": 10}))]);
    host.converged();
    host.until("the same tag joins", |host| host.pings("c1", "10.8.0.2"));

    // The patch carries only what its trunks say.
    host.transact(&[update("ports", "to1", &json!({"trunks": ["set", [20, 30]]}))]);
    host.converged();
    assert_eq!(column(&host, "Port", "to1", "trunks"), "[20, 30]");
    assert!(!host.succeeds("ip netns exec c1 ping -n -c 2 -i 0.2 -W 1 10.8.0.3"));
}

#[test]
fn internal_port_is_a_link_of_the_host() {
    let (mut host, _switch) = host(&["c1"]);
    let internal = json!({"name": "store", "kind": "internal", "bridge": ["named-uuid", "ovs0"], "mtu": 1400,
        "mac": "02:00:00:00:00:77", "addresses": "10.8.0.9/24"});
    host.transact(&[
        bridge("ovs0"),
        insert("ports", "store", &internal),
        port("c1", "ovs0", "10.8.0.1/24", &json!({})),
    ]);
    host.converged();
    host.until("the port answers", |host| host.pings("c1", "10.8.0.9"));
    let link = host.link("store").unwrap();
    assert_eq!(
        (&link["mtu"], &link["address"]),
        (&json!(1400), &json!("02:00:00:00:00:77"))
    );
    assert_eq!(host.row("ports", "store")["addresses_in_use"], "10.8.0.9/24");

    let (error, details) = host.refused(&[json!({"op": "insert", "table": "ports",
        "row": {"name": "alone", "kind": "internal"}})]);
    assert!(
        !error.is_empty() && details.contains("alone") && details.contains("bridge"),
        "{error}: {details}"
    );
}

#[test]
fn port_that_cannot_be_fails_with_the_words_of_the_switch_and_others_converge() {
    let (mut host, _switch) = host(&["c1"]);
    let broken = json!({"name": "ovs1", "kind": "ovs", "uplinks": "nosuch0",
        "other_config": ["map", [["datapath_type", "netdev"]]]});
    host.transact(&[
        bridge("ovs0"),
        port("c1", "ovs0", "10.8.0.1/24", &json!({})),
        insert("bridges", "ovs1", &broken),
    ]);
    assert_eq!(host.settled(), 1);
    assert_eq!(host.state("bridges", "ovs1"), "failed");
    assert_eq!(
        host.error("bridges", "ovs1"),
        "could not open network device nosuch0 (No such device)"
    );
    assert_eq!(
        (host.state("bridges", "ovs0"), host.state("ports", "p-c1")),
        ("converged".into(), "converged".into())
    );
    // The switch itself says that all is done.
    assert_eq!(
        column(&host, "Open_vSwitch", ".", "cur_cfg"),
        column(&host, "Open_vSwitch", ".", "next_cfg")
    );

    host.sh("ip link add nosuch0 type veth peer name nosuch1");
    host.until_state("bridges", "ovs1", "converged");
    assert_eq!(host.error("bridges", "ovs1"), "");
}

#[test]
fn datapath_that_is_not_there_is_the_error_of_the_bridge() {
    let (mut host, _switch) = host(&[]);
    host.transact(&[insert("bridges", "ovs0", &json!({"name": "ovs0", "kind": "ovs"}))]);
    host.until_state("bridges", "ovs0", "failed");
    assert!(
        host.error("bridges", "ovs0").contains("no ofport"),
        "{}",
        host.error("bridges", "ovs0")
    );
}

#[test]
fn what_others_change_is_healed() {
    let (mut host, _switch) = host(&["c1", "c2"]);
    host.transact(&[
        bridge("ovs0"),
        port("c1", "ovs0", "10.8.0.1/24", &json!({"tag": 10})),
        port("c2", "ovs0", "10.8.0.2/24", &json!({"tag": 10})),
    ]);
    host.converged();
    host.until("the port answers", |host| host.pings("c1", "10.8.0.2"));
    for damage in [
        "ovs-vsctl del-port p-c2",
        "ovs-vsctl set Port p-c2 tag=20",
        "ovs-vsctl set Port p-c2 trunks=1,2",
        "ovs-vsctl set Bridge ovs0 stp_enable=true",
        "ip link del p-c2",
        "ovs-vsctl del-br ovs0",
    ] {
        let before = host.last_event();
        host.sh(damage);
        host.until(&format!("healed after: {damage}"), |host| {
            host.events(before).iter().any(|event| event["kind"] == "healed")
        });
        host.converged();
        host.until(&format!("answers after: {damage}"), |host| host.pings("c1", "10.8.0.2"));
        assert_eq!(column(&host, "Port", "p-c2", "tag"), "10");
        assert_eq!(column(&host, "Bridge", "ovs0", "stp_enable"), "false");
    }
}

#[test]
fn a_link_that_goes_and_comes_at_once_gets_its_port_anew() {
    let (mut host, switch) = host(&["c1", "c2"]);
    host.transact(&[
        bridge("ovs0"),
        port("c1", "ovs0", "10.8.0.1/24", &json!({})),
        port("c2", "ovs0", "10.8.0.2/24", &json!({})),
    ]);
    host.converged();
    host.until("the port answers", |host| host.pings("c1", "10.8.0.2"));
    let before = host.last_event();
    switch.hold_vswitchd(|| {
        host.sh("ip link del p-c2");
        host.until("the link is back", |host| host.succeeds("ip link show p-c2"));
    });
    host.until_event(before, "healed", "ovs port p-c2");
    host.converged();
    host.until("the port answers again", |host| host.pings("c1", "10.8.0.2"));
}

#[test]
fn what_is_not_ours_is_left_and_what_is_stale_is_collected() {
    let (mut host, _switch) = host(&["c1", "c2"]);
    host.sh(
        "ovs-vsctl --timeout=20 add-br mine -- set Bridge mine datapath_type=netdev -- add-port mine theirs -- set Interface theirs type=internal",
    );
    let uuid = column(&host, "Bridge", "mine", "_uuid");
    host.transact(&[
        bridge("mine"),
        bridge("ovs0"),
        port("c1", "ovs0", "10.8.0.1/24", &json!({})),
    ]);
    host.until_state("bridges", "mine", "conflict");
    assert!(host.error("bridges", "mine").contains("not nonnet's"));
    host.until_state("ports", "p-c1", "converged");

    // What another database has made carries another mark.
    host.stop();
    let file = host.file();
    std::fs::remove_file(&file).unwrap();
    host.run();
    host.transact(&[bridge("ovs2"), port("c2", "ovs2", "10.8.0.1/24", &json!({}))]);
    host.converged();
    host.sh("ovs-vsctl add-port ovs2 guest -- set Interface guest type=internal");
    host.transact(&[delete("ports", "p-c2")]);
    host.until("the port is gone", |host| {
        !host.sh("ovs-vsctl list-ports ovs2").contains("p-c2")
    });
    host.transact(&[delete("bridges", "ovs2")]);
    let failed = host.settled();
    assert_eq!(failed, 1, "a bridge with somebody else's port is not deleted");
    assert!(host.succeeds("ovs-vsctl br-exists ovs2"));
    host.sh("ovs-vsctl del-port ovs2 guest");
    host.until("the bridge goes with its last guest", |host| {
        !host.succeeds("ovs-vsctl br-exists ovs2")
    });
    assert!(
        host.succeeds("ovs-vsctl br-exists ovs0"),
        "the bridge of another database"
    );
    assert_eq!(column(&host, "Bridge", "mine", "_uuid"), uuid);
    assert_eq!(host.sh("ovs-vsctl list-ports mine").trim(), "theirs");
}

#[test]
fn stale_rows_of_ours_are_collected_at_the_start() {
    let (mut host, mut switch) = host(&["c1", "c2"]);
    host.transact(&[
        bridge("ovs0"),
        bridge("ovs1"),
        port("c1", "ovs0", "10.8.0.1/24", &json!({})),
        port("c2", "ovs0", "10.8.0.2/24", &json!({})),
    ]);
    host.converged();
    // Open vSwitch is away while the rows go.
    switch.stop_vswitchd();
    switch.stop_database();
    host.until_state("bridges", "ovs0", "waiting");
    host.transact(&[delete("ports", "p-c1"), delete("bridges", "ovs1")]);
    host.stop();
    switch.start_database(&mut host);
    switch.start_vswitchd(&mut host);
    assert!(host.succeeds("ovs-vsctl br-exists ovs1"));
    host.run();
    host.converged();
    host.until("only what is wanted is left", |host| {
        host.sh("ovs-vsctl list-br").trim() == "ovs0" && host.sh("ovs-vsctl list-ports ovs0").trim() == "p-c2"
    });
}

#[test]
fn rows_wait_for_the_switch_and_say_so() {
    let mut host = Host::prepare(&[]);
    host.run();
    for name in ["c1", "c2"] {
        host.netns.add(name).unwrap();
    }
    host.transact(&[bridge("ovs0"), port("c1", "ovs0", "10.8.0.1/24", &json!({}))]);
    host.until_state("bridges", "ovs0", "waiting");
    let error = host.error("bridges", "ovs0");
    assert!(
        error.starts_with("Open vSwitch is not there") && error.contains("db.sock"),
        "{error}"
    );

    let mut switch = Switch::start(&mut host);
    host.converged();

    switch.stop_vswitchd();
    let find = json!([["name", "==", "ovs0"]]);
    let uuid = host.transact(&[json!({"op": "select", "table": "bridges", "where": find, "columns": ["_uuid"]})]);
    let row = json!({"name": "p-c2", "netns": "c2", "bridge": uuid[0]["rows"][0]["_uuid"], "addresses": "10.8.0.2/24"});
    host.transact(&[insert("ports", "second", &row)]);
    host.until_state("ports", "p-c2", "waiting");
    let error = host.error("ports", "p-c2");
    assert!(error.contains("ovs-vswitchd"), "{error}");
    switch.start_vswitchd(&mut host);
    host.converged();
    host.until("the ports answer", |host| host.pings("c1", "10.8.0.2"));

    switch.stop_database();
    host.until_state("bridges", "ovs0", "waiting");
    switch.start_database(&mut host);
    host.converged();
}

#[test]
fn switch_whose_database_is_in_nonnetd_is_the_same() {
    let mut host = Host::prepare(&[]);
    let _switch = Switch::start_with(&mut host, Kind::Nonnetd);
    host.run();
    for name in ["c1", "c2"] {
        host.netns.add(name).unwrap();
    }
    host.transact(&[
        bridge("ovs0"),
        port("c1", "ovs0", "10.8.0.1/24", &json!({"tag": 10})),
        port("c2", "ovs0", "10.8.0.2/24", &json!({"tag": 10})),
    ]);
    host.converged();
    host.until("the ports answer", |host| host.pings("c1", "10.8.0.2"));
    host.transact(&[delete("ports", "p-c1")]);
    host.converged();
    assert_eq!(host.sh("ovs-vsctl list-ports ovs0").trim(), "p-c2");
}

#[test]
fn container_of_a_row_is_on_the_switch() {
    let (mut host, _switch) = host(&["c1"]);
    host.netns.create_container("101").unwrap();
    let properties = json!(["map", [["ipv4", "10.8.0.5/24"], ["network_type", "bridge"]]]);
    let container = json!({"id": "101", "bridge": "ovs0", "running": true, "properties": properties});
    host.transact(&[
        bridge("ovs0"),
        port("c1", "ovs0", "10.8.0.1/24", &json!({})),
        insert("lxc", "container", &container),
    ]);
    host.netns.start_container("101").unwrap();
    host.until_state("lxc", "101", "converged");
    host.until("the container answers", |host| host.pings("c1", "10.8.0.5"));
    assert!(host.sh("ovs-vsctl list-ports ovs0").contains("vi101"));
}
