//! Rows become networks: names, addresses, routes and what the rows then say, in a namespace of the test's own.

use std::collections::BTreeMap;

use nonnet_tests::host::{Host, bridge_and_network, delete, elements, insert, port, update};
use nonnet_tests::program;
use serde_json::{Value, json};

/// The addresses of a link that somebody gave it, with their prefix lengths.
fn addresses(link: &Value) -> Vec<String> {
    let all = elements(&link["addr_info"]).into_iter();
    let global = all.filter(|address| address["scope"] == "global");
    let mut texts: Vec<String> = global
        .map(|address| {
            format!(
                "{}/{}",
                address["local"].as_str().unwrap_or_default(),
                address["prefixlen"]
            )
        })
        .collect();
    texts.sort();
    texts
}

fn is_up(links: &BTreeMap<String, Value>, name: &str) -> bool {
    links
        .get(name)
        .is_some_and(|link| elements(&link["flags"]).contains(&json!("UP")))
}

#[test]
fn a_port_works_as_soon_as_the_host_row_says_so() {
    let mut host = Host::start();
    for round in 0..5 {
        host.netns.add(&format!("c{round}")).unwrap();
    }
    let mut operations = bridge_and_network("br0", "n0", &[("10.1.0.0/24", "10.1.0.1")]);
    operations.push(port("p0", "c0"));
    host.transact(&operations);
    for round in 0..5 {
        let (next, _, _) = host.progress();
        assert_eq!(host.settled(), 0);
        assert!(host.pings(&format!("c{round}"), "10.1.0.1"), "round {round}");
        let row = host.row("ports", &format!("p{round}"));
        assert_eq!(row["status"]["state"], "converged", "{row}");
        assert_eq!(row["status"]["cfg"], json!(next.to_string()), "{row}");
        if round < 4 {
            let name = format!("p{}", round + 1);
            let network = host.row("networks", "n0")["_uuid"].clone();
            let row = json!({"name": name, "netns": format!("c{}", round + 1), "network": ["uuid", network]});
            host.transact(&[insert("ports", "port", &row)]);
        }
    }
}

#[test]
fn a_port_has_the_names_addresses_and_routes_of_its_row() {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    let subnets = [("10.2.0.0/24", "10.2.0.1"), ("fd02::/64", "fd02::1")];
    let mut operations = bridge_and_network("br0", "n0", &subnets);
    operations.push(insert(
        "routes",
        "r4",
        &json!({"destination": "172.16.0.0/12", "gateway": "10.2.0.254", "metric": 7}),
    ));
    operations.push(insert(
        "routes",
        "r6",
        &json!({"destination": "fd99::/48", "gateway": "fd02::fe"}),
    ));
    let row = json!({"name": "vi1", "netns": "c1", "network": ["named-uuid", "network"], "mac": "02:00:00:00:12:34", "mtu": 1400,
        "addresses": ["set", ["10.2.0.7", "fd02::7"]],
        "routes": ["set", [["named-uuid", "r4"], ["named-uuid", "r6"]]]});
    operations.push(insert("ports", "port", &row));
    host.transact(&operations);
    host.converged();

    let inside = host.links_in("c1");
    let eth0 = &inside["eth0"];
    assert_eq!(eth0["address"], "02:00:00:00:12:34");
    assert_eq!(eth0["mtu"], 1400);
    assert_eq!(addresses(eth0), ["10.2.0.7/24", "fd02::7/64"]);
    assert!(is_up(&inside, "lo") && is_up(&inside, "eth0"), "{inside:?}");
    let outer = host.link("vi1").unwrap();
    assert_eq!(
        (&outer["mtu"], &outer["master"]),
        (&json!(1400), &json!("br0")),
        "{outer}"
    );
    assert!(
        outer["ifalias"].as_str().unwrap().starts_with("nonnet:ports/"),
        "{outer}"
    );

    let routes = host.sh("ip -n c1 -4 route; ip -n c1 -6 route");
    for route in [
        "default via 10.2.0.1 dev eth0",
        "172.16.0.0/12 via 10.2.0.254 dev eth0 proto 110 metric 7",
        "default via fd02::1 dev eth0",
        "fd99::/48 via fd02::fe dev eth0",
    ] {
        assert!(routes.contains(route), "no {route:?} in {routes}");
    }
    assert!(host.pings("c1", "10.2.0.1") && host.pings("c1", "fd02::1"));

    let row = host.row("ports", "vi1");
    assert_eq!(row["mac_in_use"], "02:00:00:00:12:34");
    assert_eq!(row["addresses_in_use"], json!(["10.2.0.7/24", "fd02::7/64"]));
    assert_eq!(row["link_state"], "up");
    assert_eq!(row["ifindex"], outer["ifindex"]);
}

#[test]
fn a_network_without_ipv6_leaves_no_link_local_address() {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    let mut operations = bridge_and_network("br0", "n0", &[("10.3.0.0/24", "10.3.0.1")]);
    operations.push(port("vi1", "c1"));
    host.transact(&operations);
    host.converged();
    for link in ["link show vi1", "link show br0", "-n c1 link show eth0"] {
        let text = host.sh(&format!("ip -details {link}"));
        assert!(text.contains("addrgenmode none"), "{text}");
    }
    assert!(
        !host
            .sh("ip -6 addr show scope link; ip -n c1 -6 addr show scope link")
            .contains("fe80")
    );
}

#[test]
fn changes_of_a_row_are_made_in_place() {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    let mut operations = bridge_and_network("br0", "n0", &[("10.4.0.0/24", "10.4.0.1")]);
    operations.push(port("vi1", "c1"));
    host.transact(&operations);
    host.converged();
    let before = (
        host.link("vi1").unwrap()["ifindex"].clone(),
        host.links_in("c1")["eth0"]["ifindex"].clone(),
    );
    let row = json!({"mtu": 1300, "mac": "02:00:00:00:00:05", "addresses": "10.4.0.99"});
    host.transact(&[update("ports", "vi1", &row)]);
    host.converged();
    let eth0 = host.links_in("c1")["eth0"].clone();
    assert_eq!(
        (&eth0["mtu"], &eth0["address"]),
        (&json!(1300), &json!("02:00:00:00:00:05"))
    );
    assert_eq!(addresses(&eth0), ["10.4.0.99/24"]);
    assert_eq!(
        (host.link("vi1").unwrap()["ifindex"].clone(), eth0["ifindex"].clone()),
        before
    );
    assert!(host.pings("c1", "10.4.0.1"));
}

#[test]
fn a_failing_row_is_counted_and_holds_up_nobody() {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    let no_namespace = host.netns.directory().join("file");
    std::fs::write(&no_namespace, "not a namespace").unwrap();
    let mut operations = bridge_and_network("br0", "n0", &[("10.5.0.0/24", "10.5.0.1")]);
    operations.push(port("bad", no_namespace.to_str().unwrap()));
    operations.push(port("good", "c1"));
    host.transact(&operations);
    assert_eq!(host.settled(), 1);
    assert_eq!(host.state("ports", "good"), "converged");
    assert!(host.pings("c1", "10.5.0.1"));
    assert_ne!(host.state("ports", "bad"), "converged");
    let error = host.error("ports", "bad");
    assert!(
        error.contains(no_namespace.to_str().unwrap()) && error.contains("namespace"),
        "{error}"
    );
    host.transact(&[delete("ports", "bad")]);
    host.converged();
}

#[test]
fn a_port_waits_for_its_namespace_and_survives_its_end() {
    let mut host = Host::start();
    let mut operations = bridge_and_network("br0", "n0", &[("10.6.0.0/24", "10.6.0.1")]);
    operations.push(port("vi1", "c1"));
    host.transact(&operations);
    for _ in 0..3 {
        host.until_state("ports", "vi1", "waiting");
        host.until("the row is counted", |host| host.progress().2 == 1);
        let error = host.error("ports", "vi1");
        assert!(error.contains("c1"), "{error}");
        host.netns.add("c1").unwrap();
        host.until_state("ports", "vi1", "converged");
        assert!(host.pings("c1", "10.6.0.1"));
        host.sh("ip netns del c1");
    }
}

#[test]
fn a_hundred_ports_come_and_go_in_one_transaction_each() {
    let mut host = Host::start();
    let names: Vec<String> = (0..100).map(|number| format!("c{number}")).collect();
    host.sh("for n in $(seq 0 99); do ip netns add c$n; done");
    let before: Vec<String> = host.links().into_keys().collect();
    let mut operations = bridge_and_network("br0", "n0", &[("10.7.0.0/16", "10.7.0.1")]);
    operations.extend(names.iter().map(|name| port(&format!("p{name}"), name)));
    let from = std::time::Instant::now();
    host.transact(&operations);
    let committed = from.elapsed();
    host.converged();
    println!(
        "100 ports: committed after {committed:?}, converged after {:?}",
        from.elapsed()
    );

    let links = host.links();
    for name in &names {
        let link = links.get(&format!("p{name}"));
        assert!(
            link.is_some_and(|link| link["master"] == "br0" && link["operstate"] == "UP"),
            "{name}: {link:?}"
        );
    }
    let mut seen: Vec<String> = host
        .rows("leases")
        .iter()
        .map(|row| row["address"].to_string())
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100);
    let pings = "for n in $(seq 0 99); do ip netns exec c$n ping -n -c 1 -W 5 10.7.0.1 >/dev/null || echo c$n; done";
    assert_eq!(host.sh(pings), "");

    let mut operations: Vec<Value> = names.iter().map(|name| delete("ports", &format!("p{name}"))).collect();
    operations.push(delete("networks", "n0"));
    operations.push(delete("bridges", "br0"));
    let from = std::time::Instant::now();
    host.transact(&operations);
    host.converged();
    println!("100 ports: gone after {:?}", from.elapsed());
    let after: Vec<String> = host.links().into_keys().collect();
    assert_eq!(after, before);
    assert_eq!(host.rows("leases").len(), 0);
    let rest = "for n in $(seq 0 99); do ip -n c$n -o link show; done | grep -v ' lo: ' || true";
    assert_eq!(host.sh(rest), "");
}

#[test]
fn the_first_network_of_the_readme_works() {
    let mut host = Host::prepare(&[]);
    let text = std::fs::read_to_string(program::repository().join("README.md")).unwrap();
    let section = text
        .split("## A first network")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .unwrap();
    let blocks: Vec<&str> = section
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    host.run();
    let programs = program::ours("nonnet").unwrap();
    let programs = programs.parent().unwrap().display();
    for block in blocks {
        // What is built by now is not built again by the words of the page.
        let lines: Vec<&str> = block.lines().filter(|line| !line.starts_with("cargo build")).collect();
        let block = lines.join("\n");
        let setting = format!(
            "set -e; export PATH={programs}:$PATH; cd {}",
            host.netns.directory().display()
        );
        if let Some((breaking, looking)) = block.split_once("\nip netns exec") {
            host.sh(breaking);
            // A reader takes longer than a loaded machine; a test does not.
            host.until("it is healed", |host| host.succeeds(&format!("ip netns exec{looking}")));
            continue;
        }
        let (ok, said) = host.netns.try_sh(&format!("{setting}\n{block}")).unwrap();
        assert!(ok && !said.contains("\"error\":\""), "{block}\n{said}");
        if block.contains("insert") {
            host.until_state("ports", "demo0", "converged");
        }
    }
    host.converged();
    assert!(host.link("nnbr0").is_none() && host.link("demo0").is_none());
}
