//! What the first users of such a server do by hand, from beginning to end: the workshop's container network, and the life of a container that
//! an agent's state file describes.

use std::fs;
use std::process::Stdio;

use nonnet_tests::host::{Host, bridge_and_network, delete, elements, insert};
use nonnet_tests::program;
use serde_json::{Value, json};

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.lifecycle-secret.sIgNaTuRe";

/// Takes the part of netclient, of which there is no package; it joins and lists as the real one does.
const NETCLIENT: &str = r#"#!/bin/sh
case $1 in
join) [ -n "$TOKEN" ] && : > "$0.joined" ;;
list) [ -f "$0.joined" ] || { echo "no such network"; exit 0; }
    echo '[{"network": "prod", "node_id": "1", "connected": true, "ipv4_addr": "100.64.0.5/32", "ipv6_addr": "", "peers": []}]' ;;
leave) rm -f "$0.joined" ;;
esac
"#;

fn fixture(name: &str) -> String {
    let path = program::repository().join("../shared/fixtures").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rules of ours in the packet filter.
fn rules(host: &Host) -> usize {
    let listed = host.sh("nft -a list ruleset");
    listed.lines().filter(|line| line.contains("comment \"nonnet ")).count()
}

/// What the command line prints for these words, in the directory of the host; it must succeed.
#[track_caller]
fn nonnet(host: &Host, words: &str) -> String {
    let program = program::ours("nonnet").unwrap();
    let (program, socket, directory) = (program.display(), host.socket(), host.netns.directory());
    host.sh(&format!(
        "cd {} && {program} --socket {} {words}",
        directory.display(),
        socket.display()
    ))
}

/// A host with an `/etc` of its own and a link to the "internet", where 1.1.1.1 answers, and google.com is known.
fn host_with_internet() -> Host {
    let mut host = Host::prepare(&[]);
    let directory = host.netns.directory().display().to_string();
    host.sh(&format!(
        "mkdir {directory}/etc && cp -a /etc/. {directory}/etc && mount --bind {directory}/etc /etc
         rm -rf /etc/resolv.conf /etc/netns; echo nameserver 127.0.0.53 > /etc/resolv.conf
         ip netns add inet
         ip link add wan0 type veth peer name eth0 netns inet
         ip addr add 192.0.2.1/24 dev wan0; ip link set wan0 up; ip route add default via 192.0.2.2
         ip -n inet addr add 192.0.2.2/24 dev eth0; ip -n inet link set eth0 up
         ip -n inet link set lo up; ip -n inet addr add 1.1.1.1/32 dev lo
         ip netns exec inet dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --user=root \
             --listen-address=192.0.2.2 --address=/google.com/1.1.1.1 --pid-file={directory}/dnsmasq.pid"
    ));
    host.run();
    host
}

#[test]
fn the_workshops_network_is_three_rows_for_one_container_and_for_ten() {
    let steps: Value = serde_json::from_str(&fixture("workshop/steps.json")).unwrap();
    let tests = elements(&steps[7]["inside"]);
    let tests: Vec<&str> = tests.iter().filter_map(Value::as_str).collect();
    assert_eq!(tests, ["ping 1.1.1.1", "ping google.com"]);
    let mut host = host_with_internet();
    let add = |host: &Host, at: usize| host.netns.add(&format!("c{at}")).unwrap();
    let inside = |host: &Host, at: usize, words: &str| host.succeeds(&format!("ip netns exec c{at} {words}"));
    let ping = |words: &str| words.replacen("ping", "ping -n -c 1 -W 5", 1);
    add(&host, 1);
    assert!(!inside(&host, 1, &ping(tests[0])), "nothing is reached before");

    let mut rows = bridge_and_network("br0", "workshop", &[("10.0.0.0/24", "10.0.0.1")]);
    for row in rows.iter_mut().filter(|row| row["table"] == "networks") {
        row["row"]["nat"] = json!(["map", [["ipv4", "masquerade"]]]);
        row["row"]["dns"] = json!(["map", [["servers", "192.0.2.2"]]]);
    }
    let port = |at: usize, network: &Value| {
        let row = json!({"name": format!("veth{at}"), "netns": format!("c{at}"), "network": network,
            "addresses": format!("10.0.0.{}/24", at + 1)});
        insert("ports", &format!("port{at}"), &row)
    };
    rows.push(port(1, &json!(["named-uuid", "network"])));
    host.transact(&rows);
    host.converged();
    for test in &tests {
        assert!(inside(&host, 1, &ping(test)), "{test}");
    }
    assert!(inside(&host, 1, &ping("ping 10.0.0.1")));
    let rules_of_one = rules(&host);

    let network = json!(["uuid", host.row("networks", "workshop")["_uuid"]]);
    let others: Vec<Value> = (2..=10).map(|at| port(at, &network)).collect();
    (2..=10).for_each(|at| add(&host, at));
    host.transact(&others);
    host.converged();
    for at in 2..=10 {
        for test in tests.iter().copied().chain(["ping 10.0.0.1", "ping 10.0.0.2"]) {
            assert!(inside(&host, at, &ping(test)), "container {at}: {test}");
        }
    }
    assert_eq!(rules(&host), rules_of_one, "as many rules for ten as for one");

    // A crash in between, and a container that dies without a word.
    host.kill();
    host.sh("ip netns del c10");
    assert!(
        inside(&host, 9, &ping(tests[0])),
        "what is there works without the server"
    );
    host.run();
    host.until_state("ports", "veth10", "waiting");
    host.until_state("ports", "veth9", "converged");
    assert_eq!(rules(&host), rules_of_one, "once again, and no rule more");
    for test in &tests {
        assert!(inside(&host, 9, &ping(test)), "{test}");
    }

    // All of it goes, and comes again.
    let ports: Vec<Value> = (1..=10).map(|at| delete("ports", &format!("veth{at}"))).collect();
    let all = [ports, vec![delete("networks", "workshop"), delete("bridges", "br0")]].concat();
    host.transact(&all);
    host.converged();
    assert!(host.link("br0").is_none() && host.link("veth1").is_none());
    host.until("no rule is left", |host| rules(host) == 0);
    host.transact(&rows);
    host.converged();
    assert!(inside(&host, 1, &ping(tests[1])));
    assert_eq!(rules(&host), rules_of_one);
}

#[test]
fn the_life_of_a_container_as_the_state_file_tells_it() {
    let mut host = Host::prepare(&[]);
    let directory = host.netns.directory().to_owned();
    let write = |name: &str, text: &str, mode: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        host.sh(&format!("chmod {mode} {}", path.display()));
        path.display().to_string()
    };
    let netclient = write("netclient", NETCLIENT, "755");
    let environment = fixture("opdbus/seed-000-netmaker.env.example").replace("token-for-production", TOKEN);
    let environment = environment.replace("NETMAKER_TOKEN=eyJ", "NETMAKER_TOKEN=other-eyJ");
    let tokens = write("netmaker.env", &environment, "600");
    for (name, block) in [("101.json", "block1"), ("100.json", "block0")] {
        write(name, &fixture(&format!("opdbus/seed-000-{block}.json")), "644");
    }
    host.arguments(&[
        &format!("--netclient={netclient}"),
        &format!("--token-file={tokens}"),
        &format!("--lxc-path={}", directory.join("lxc").display()),
    ]);
    host.run();
    host.transact(&bridge_and_network(
        "vmbr0",
        "lan",
        &[("192.168.1.0/24", "192.168.1.1")],
    ));

    // Before its container is there, the row waits and says for what.
    let said = nonnet(&host, "apply 101.json");
    assert!(said.contains("101"), "{said}");
    host.until_state("lxc", "101", "waiting");
    host.netns.create_container("101").unwrap();
    host.netns.start_container("101").unwrap();
    host.until_state("lxc", "101", "converged");
    let pings = |host: &Host| host.netns.in_container("101", "ping -c 1 -W 5 192.168.1.1").is_ok();
    assert!(pings(&host) && host.succeeds("ping -n -c 1 -W 5 192.168.1.101"));
    assert_eq!(host.link("vi101").unwrap()["master"], "vmbr0");
    assert!(nonnet(&host, "apply 101.json").contains("Nothing to change"));

    // The second one is of a mesh, with a token that its row only names.
    host.netns.create_container("100").unwrap();
    host.netns.start_container("100").unwrap();
    nonnet(&host, "apply 100.json");
    host.until_state("lxc", "100", "converged");
    let status = host.row("lxc", "100")["status"].clone();
    assert!(status.to_string().contains("100.64.0.5"), "{status}");

    // Asked with the line of the manual, through nc.
    let request = fixture("opdbus/seed-000-nonnet-request.json");
    let mut command = host.netns.command("nc");
    command.arg("-N").arg("-U").arg(host.socket()).stdin(Stdio::piped());
    let output = program::run_command(&mut command, request.trim_end().as_bytes()).unwrap();
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut ids: Vec<&str> = reply["result"][0]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["id"].as_str())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["100", "101"]);
    let expected: Value = serde_json::from_str(&fixture("opdbus/seed-000-expected-query.json")).unwrap();
    let queried: Value = serde_json::from_str(&nonnet(&host, "query --plugin lxc")).unwrap();
    let of_100 = |all: &Value| elements_of(all).into_iter().find(|one| one["id"] == "100");
    let (queried, expected) = (of_100(&queried).unwrap(), of_100(&expected).unwrap());
    for member in ["id", "veth", "bridge", "running", "properties"] {
        assert_eq!(queried[member], expected[member], "{member}");
    }

    // It is stopped, started and destroyed by hand, and its rows go.
    host.netns.stop_container("101").unwrap();
    host.until_state("lxc", "101", "waiting");
    host.netns.start_container("101").unwrap();
    host.until_state("lxc", "101", "converged");
    assert!(pings(&host));
    host.transact(&["100", "101"].map(|id| delete("lxc", id)));
    host.converged();
    assert!(host.link("vi101").is_none() && host.rows("ports").is_empty());
    assert!(!directory.join("netclient.joined").exists(), "the mesh was left");

    // Every step is in the chain, no token anywhere.
    assert!(nonnet(&host, "verify").contains("chain sound"));
    let log = nonnet(&host, "log");
    assert!(log.contains("101") && log.contains("root"), "{log}");
    let found = host.sh(&format!(
        "grep -rl -e '[l]ifecycle-secret' {0}/nonnet.db* {0}/*.log /proc/[0-9]*/cmdline 2>/dev/null; true",
        directory.display()
    ));
    let found: Vec<&str> = found.lines().filter(|line| !line.contains("/self/")).collect();
    assert!(
        found.is_empty() && !log.contains("lifecycle-secret") && !host.log().contains("lifecycle-secret"),
        "{found:?}"
    );
}

/// The containers that a query's answer lists.
fn elements_of(answer: &Value) -> Vec<Value> {
    answer["containers"].as_array().cloned().unwrap_or_default()
}
