//! The server is killed at any moment and started again: the kernel ends up as the rows say, and what was right is not touched.

use std::collections::BTreeSet;
use std::time::Duration;

use nonnet_tests::host::{Host, bridge_and_network, delete, port, update};
use nonnet_tests::program;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Times that the server is killed between a commit and the kernel.
const ROUNDS: usize = 30;

/// Microseconds after the reply within which the kernel is usually reached.
const DELAY_US_MAX: u64 = 25_000;

/// Namespaces that ports come and go in.
const NAMESPACES: usize = 6;

fn random() -> SmallRng {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let seed = program::number_from_environment("NONNET_TESTS_SEED", now).unwrap();
    println!("NONNET_TESTS_SEED={seed}");
    SmallRng::seed_from_u64(seed)
}

/// An operation on the port of a random namespace.
fn change(random: &mut SmallRng, host: &mut Host) -> Value {
    let netns = format!("c{}", random.random_range(0..NAMESPACES));
    let name = format!("p{netns}");
    let there = host.find("ports", &name).is_some();
    match random.random_range(0..3) {
        0 if there => delete("ports", &name),
        _ if there => update("ports", &name, &json!({"mtu": random.random_range(1300..1500)})),
        _ => {
            let network = host.row("networks", "n0")["_uuid"].clone();
            let row = json!({"name": name, "netns": netns, "network": ["uuid", network], "mtu": 1400});
            json!({"op": "insert", "table": "ports", "row": row})
        }
    }
}

/// Fails unless the kernel has the ports of the rows, all of them working, and no other link.
fn check(host: &mut Host) {
    let rows = host.rows("ports");
    let links = host.links();
    let mut wanted: BTreeSet<String> = ["lo", "br0"].map(str::to_owned).into();
    for row in &rows {
        let (name, netns) = (row["name"].as_str().unwrap(), row["netns"].as_str().unwrap());
        wanted.insert(name.to_owned());
        let link = &links[name];
        assert_eq!(
            (&link["master"], &link["mtu"]),
            (&json!("br0"), &row["mtu"]),
            "{row} {link}"
        );
        assert!(host.pings(netns, "10.20.0.1"), "{row}");
    }
    assert_eq!(links.into_keys().collect::<BTreeSet<String>>(), wanted);
    for number in 0..NAMESPACES {
        let netns = format!("c{number}");
        let there = host.links_in(&netns).contains_key("eth0");
        assert_eq!(there, rows.iter().any(|row| row["netns"] == json!(netns)), "{netns}");
    }
}

#[test]
fn killed_between_commit_and_kernel_it_converges_after_the_restart() {
    let mut random = random();
    let mut host = Host::start();
    for number in 0..NAMESPACES {
        host.netns.add(&format!("c{number}")).unwrap();
    }
    host.transact(&bridge_and_network("br0", "n0", &[("10.20.0.0/24", "10.20.0.1")]));
    for round in 0..ROUNDS {
        let operations: Vec<Value> = (0..3).map(|_| change(&mut random, &mut host)).collect();
        // Two of them may be about one port that can be inserted once.
        let committed = host.try_transact(&operations).unwrap();
        std::thread::sleep(Duration::from_micros(random.random_range(0..DELAY_US_MAX)));
        host.kill();
        host.run();
        host.converged();
        println!("round {round}: {} results", committed.len());
        check(&mut host);
    }
}

#[test]
fn killed_while_fifty_ports_are_made_it_makes_the_rest() {
    let mut random = random();
    let mut host = Host::start();
    host.sh("for n in $(seq 0 49); do ip netns add c$n; done");
    host.transact(&bridge_and_network("br0", "n0", &[("10.21.0.0/24", "10.21.0.1")]));
    host.converged();
    let network = host.row("networks", "n0")["_uuid"].clone();
    for made in [true, false, true] {
        let names = (0..50).map(|number| format!("c{number}"));
        let operations: Vec<Value> = names
            .map(|name| {
                let row = json!({"name": format!("p{name}"), "netns": name, "network": ["uuid", network]});
                if made {
                    json!({"op": "insert", "table": "ports", "row": row})
                } else {
                    delete("ports", &format!("p{name}"))
                }
            })
            .collect();
        host.transact(&operations);
        std::thread::sleep(Duration::from_micros(random.random_range(0..4 * DELAY_US_MAX)));
        println!("killed with {} links", host.links().len());
        host.kill();
        host.run();
        host.converged();
        let expected = if made { "" } else { "50" };
        let unanswered = "n=0; for c in $(ip netns list | cut -d' ' -f1); do
            ip netns exec $c ping -n -c 1 -W 5 10.21.0.1 >/dev/null 2>&1 || n=$((n+1)); done; [ $n = 0 ] || echo $n";
        assert_eq!(host.sh(unanswered).trim(), expected);
        assert_eq!(host.links().len(), if made { 52 } else { 2 });
    }
}

#[test]
fn a_restart_sends_the_kernel_nothing_and_loses_no_packet() {
    let mut host = Host::start();
    for name in ["c1", "c2", "c3"] {
        host.netns.add(name).unwrap();
    }
    let mut operations = bridge_and_network("br0", "n0", &[("10.22.0.0/24", "10.22.0.1")]);
    operations.extend(["c1", "c2", "c3"].map(|name| port(&format!("p{name}"), name)));
    host.transact(&operations);
    host.converged();
    assert!(host.pings("c1", "10.22.0.3"));
    let indexes = |host: &Host| host.sh("ip -o link; for n in c1 c2 c3; do ip -n $n -o addr; ip -n $n route; done");
    let before = indexes(&host);

    // Each monitor is between two marks of the test's own once it has told the first.
    let file = |netns: &str| {
        host.netns
            .directory()
            .join(format!("{netns}.monitor"))
            .display()
            .to_string()
    };
    let monitors = [
        ("host", String::new(), file("host")),
        ("c1", "-n c1".to_owned(), file("c1")),
    ];
    let mut running = Vec::new();
    for (_, option, file) in &monitors {
        let script = format!("exec ip {option} monitor link address route >{file}");
        running.push(host.netns.spawn("sh", &["-c", &script]).unwrap());
    }
    let mark = |host: &Host, mtu: u32| {
        for (_, option, file) in &monitors {
            host.sh(&format!("ip {option} link set lo mtu {}", mtu - 1));
            let told = format!("mtu {mtu}");
            let script = format!("ip {option} link set lo mtu {mtu}; grep -q '{told}' {file}");
            while !host.succeeds(&script) {
                host.sh(&format!("ip {option} link set lo mtu {}", mtu - 1));
            }
        }
    };
    mark(&host, 60_001);
    let pinging = host.netns.spawn(
        "ip",
        &[
            "netns",
            "exec",
            "c1",
            "ping",
            "-n",
            "-q",
            "-i",
            "0.01",
            "-c",
            "150",
            "10.22.0.3",
        ],
    );
    let mut pinging = pinging.unwrap();
    for stop in [Host::kill, Host::stop] {
        stop(&mut host);
        host.run();
        host.converged();
        let adopted = |host: &mut Host| host.events(0).iter().filter(|event| event["kind"] == "adopted").count();
        host.until("everything is adopted", |host| adopted(host) == 5);
    }
    let summary = pinging.line_with("packet loss").unwrap();
    assert!(summary.contains("150 received"), "{summary}");
    mark(&host, 60_002);
    drop(running);
    for (name, _, file) in &monitors {
        let text = std::fs::read_to_string(file).unwrap();
        let from = text
            .rfind("mtu 60001")
            .map_or(0, |at| text[at..].find('\n').map_or(at, |end| at + end + 1));
        let others: Vec<&str> = text[from..]
            .lines()
            .filter(|line| !line.contains("lo:") && !line.contains("link/loopback"))
            .collect();
        let others: Vec<&&str> = others
            .iter()
            .filter(|line| !line.contains("dev lo") && !line.trim().is_empty())
            .collect();
        assert!(others.is_empty(), "{name}: {others:?}");
    }
    host.sh("ip link set lo mtu 65536; ip -n c1 link set lo mtu 65536");
    assert_eq!(indexes(&host), before);
}
