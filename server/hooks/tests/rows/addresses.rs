//! Addresses of ports as leases.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{Host, insert, named, port};

fn network(name: &str, more: &Value) -> Value {
    let mut row = json!({"name": name});
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    insert("networks", &row)
}

fn on(name: &str, network: &Value) -> Value {
    port(name, &json!({"network": network}))
}

/// The addresses of each port by its name.
fn given(host: &mut Host) -> BTreeMap<String, Vec<String>> {
    let leases = host.rows("leases", &["_uuid", "address"]);
    let address: BTreeMap<String, String> = leases
        .iter()
        .map(|row| (row["_uuid"].to_string(), row["address"].as_str().unwrap().to_owned()))
        .collect();
    let ports = host.rows("ports", &["name", "leases"]);
    let of = |row: &Value| -> Vec<String> {
        let leases = &row["leases"];
        let uuids = if leases[0] == "set" {
            leases[1].as_array().unwrap().clone()
        } else {
            vec![leases.clone()]
        };
        let mut addresses: Vec<String> = uuids.iter().map(|uuid| address[&uuid.to_string()].clone()).collect();
        addresses.sort();
        addresses
    };
    ports
        .iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), of(row)))
        .collect()
}

#[test]
fn port_is_given_one_address_per_family() {
    let mut host = Host::new();
    let subnets = json!(["map", [["10.0.0.0/24", "10.0.0.1"], ["fd00::/64", "fd00::1"]]]);
    host.commit(&json!([
        network("n", &json!({"subnets": subnets, "ipam": "sequential"})),
        on("a", &named("networks", "n")),
        port(
            "b",
            &json!({"network": named("networks", "n"), "addresses": "fd00::99"})
        ),
    ]));
    assert_eq!(host.leases(), ["10.0.0.2", "10.0.0.3", "fd00::2", "fd00::99"]);
    let sources: BTreeSet<String> = host
        .rows("leases", &["source"])
        .iter()
        .map(|row| row["source"].to_string())
        .collect();
    assert_eq!(sources.len(), 2);
}

#[test]
fn lease_dies_with_its_port_and_is_free_in_the_same_transaction() {
    let mut host = Host::new();
    host.commit(&json!([
        network(
            "n",
            &json!({"subnets": ["map", [["10.0.0.0/30", ""]]], "ipam": "sequential"})
        ),
        on("a", &named("networks", "n")),
        on("b", &named("networks", "n")),
    ]));
    let uuid = host.only("networks", &["_uuid"])["_uuid"].clone();
    assert_eq!(
        host.refuse(&json!([on("c", &uuid)])),
        "table ports, row \"c\", column network: network \"n\" has no free address in 10.0.0.0/30 (all 2 that ports may have are in use)"
    );
    host.commit(&json!([on("c", &uuid), {"op": "delete", "table": "ports", "where": [["name", "==", "a"]]}]));
    assert_eq!(given(&mut host)["c"], ["10.0.0.1"]);
    host.commit(&json!([
        {"op": "delete", "table": "ports", "where": []},
        {"op": "delete", "table": "networks", "where": []},
    ]));
    assert!(host.leases().is_empty());
}

#[test]
fn two_ports_swap_their_addresses() {
    let mut host = Host::new();
    host.commit(&json!([
        port("a", &json!({"addresses": "10.0.0.2/24"})),
        port("b", &json!({"addresses": "10.0.0.3/24"})),
    ]));
    host.commit(&json!([
        {"op": "update", "table": "ports", "where": [["name", "==", "a"]], "row": {"addresses": "10.0.0.3/24"}},
        {"op": "update", "table": "ports", "where": [["name", "==", "b"]], "row": {"addresses": "10.0.0.2/24"}},
    ]));
    assert_eq!(given(&mut host)["a"], ["10.0.0.3"]);
    assert_eq!(host.leases().len(), 2);
}

#[test]
fn network_that_moves_takes_its_ports_along() {
    let mut host = Host::new();
    host.commit(&json!([
        network(
            "n",
            &json!({"subnets": ["map", [["10.0.0.0/24", ""]]], "ipam": "sequential"})
        ),
        on("a", &named("networks", "n")),
    ]));
    let subnets = |net: &str, gateway: &str| json!([{"op": "update", "table": "networks", "where": [], "row": {"subnets": ["map", [[net, gateway]]]}}]);
    host.commit(&subnets("10.0.0.0/16", ""));
    assert_eq!(host.leases(), ["10.0.0.1"]);
    // The new gateway is what the port had.
    host.commit(&subnets("10.0.0.0/16", "10.0.0.1"));
    assert_eq!(host.leases(), ["10.0.0.2"]);
    host.commit(&subnets("10.9.0.0/24", "10.9.0.1"));
    assert_eq!(host.leases(), ["10.9.0.2"]);
    host.commit(&json!([{"op": "update", "table": "ports", "where": [], "row": {"addresses": "10.9.0.7"}}]));
    assert_eq!(
        host.refuse(&subnets("10.8.0.0/24", "")),
        "table ports, row \"a\", column addresses: 10.9.0.7 is in no subnet of network \"n\""
    );
    host.commit(&json!([{"op": "update", "table": "networks", "where": [], "row": {"ipam": "none"}}]));
    assert_eq!(host.leases(), ["10.9.0.7"]);
}

#[test]
fn lease_of_another_port_is_refused() {
    let mut host = Host::new();
    host.commit(&json!([port("a", &json!({"addresses": "10.0.0.2/24"}))]));
    let lease = host.only("leases", &["_uuid"])["_uuid"].clone();
    let text = lease[1].as_str().unwrap().to_owned();
    assert_eq!(
        host.refuse(&json!([port("b", &json!({"leases": lease}))])),
        format!("table ports, row \"b\", column leases: lease {text} is that of port \"a\"")
    );
}

#[test]
fn link_local_address_is_for_any_number_of_ports() {
    let mut host = Host::new();
    host.commit(&json!([
        port("a", &json!({"addresses": "fe80::1/64"})),
        port("b", &json!({"addresses": "fe80::1/64"})),
    ]));
    assert!(host.leases().is_empty());
}

#[test]
fn deterministic_addresses_are_those_of_the_names() {
    let mut hosts = [Host::new(), Host::new()];
    let subnets = json!({"subnets": ["map", [["10.88.0.0/16", "10.88.0.1"]]]});
    let first = json!([
        network("blue", &subnets),
        on("web", &named("networks", "blue")),
        on("db", &named("networks", "blue"))
    ]);
    let second = json!([
        on("db", &named("networks", "blue")),
        network("blue", &subnets),
        on("web", &named("networks", "blue"))
    ]);
    hosts[0].commit(&first);
    hosts[1].commit(&second);
    let [one, other] = &mut hosts;
    assert_eq!(given(one), given(other));
}

#[derive(Clone, Debug)]
enum Step {
    Add(BTreeSet<u8>),
    Remove(BTreeSet<u8>),
    Static(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let ports = || prop::collection::btree_set(0_u8..24, 1..6);
    prop_oneof![
        3 => ports().prop_map(Step::Add),
        2 => ports().prop_map(Step::Remove),
        1 => (0_u8..24, 1_u8..31).prop_map(|(port, host)| Step::Static(port, host)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_address_is_held_twice_and_none_is_held_for_nobody(steps in prop::collection::vec(step(), 1..25), sequential: bool) {
        let mut host = Host::new();
        let ipam = if sequential { "sequential" } else { "deterministic" };
        let subnets = json!(["map", [["10.0.0.0/27", "10.0.0.1"]]]);
        host.commit(&json!([network("n", &json!({"subnets": subnets, "ipam": ipam, "ranges": "10.0.0.4-10.0.0.20"}))]));
        let uuid = host.only("networks", &["_uuid"])["_uuid"].clone();
        for step in steps {
            let operations: Vec<Value> = match &step {
                Step::Add(ports) => ports.iter().map(|n| on(&format!("p{n}"), &uuid)).collect(),
                Step::Remove(ports) => {
                    ports.iter().map(|n| json!({"op": "delete", "table": "ports", "where": [["name", "==", format!("p{n}")]]})).collect()
                }
                Step::Static(n, host) => vec![json!({
                    "op": "update", "table": "ports", "where": [["name", "==", format!("p{n}")]], "row": {"addresses": format!("10.0.0.{host}")},
                })],
            };
            let before = given(&mut host);
            let (_, changes) = host.run(&json!(operations));
            let after = given(&mut host);
            if changes.is_none() {
                prop_assert_eq!(&before, &after);
            }
            let held: Vec<&String> = after.values().flatten().collect();
            let distinct: BTreeSet<&String> = held.iter().copied().collect();
            prop_assert_eq!(held.len(), distinct.len());
            prop_assert_eq!(host.leases().len(), held.len());
            prop_assert!(after.values().all(|addresses| addresses.len() == 1));
            // Ports that the step does not name keep what they have.
            for (name, addresses) in before.iter().filter(|_| !matches!(step, Step::Static(..))) {
                prop_assert!(after.get(name).is_none_or(|now| now == addresses));
            }
            for lease in host.rows("leases", &["address", "source"]) {
                if lease["source"] != "static" {
                    let last: u8 = lease["address"].as_str().unwrap().rsplit('.').next().unwrap().parse().unwrap();
                    prop_assert!((4..=20).contains(&last));
                }
            }
        }
    }

    #[test]
    fn order_of_operations_does_not_matter(ports in prop::collection::btree_set(0_u16..500, 1..20), seed: u64, sequential: bool) {
        let ipam = if sequential { "sequential" } else { "deterministic" };
        let subnets = json!(["map", [["10.0.0.0/27", "10.0.0.1"]]]);
        let outcome = |ports: Vec<u16>| {
            let mut host = Host::new();
            let mut operations = vec![network("n", &json!({"subnets": subnets.clone(), "ipam": ipam}))];
            operations.extend(ports.iter().map(|n| on(&format!("p{n}"), &named("networks", "n"))));
            host.commit(&json!(operations));
            given(&mut host)
        };
        let sorted: Vec<u16> = ports.iter().copied().collect();
        let mut mixed = sorted.clone();
        mixed.sort_by_key(|n| (u64::from(*n) + 1).wrapping_mul(seed | 1));
        prop_assert_eq!(outcome(sorted), outcome(mixed));
    }
}

#[test]
fn excluded_addresses_are_not_given_but_may_be_named() {
    let mut host = Host::new();
    host.commit(&json!([
        network(
            "n",
            &json!({"subnets": ["map", [["10.0.0.0/29", "10.0.0.1"]]], "ipam": "sequential", "ranges": ["set", ["!10.0.0.2-10.0.0.4"]]})
        ),
        on("a", &named("networks", "n")),
        port("b", &json!({"network": named("networks", "n"), "addresses": "10.0.0.3"})),
    ]));
    assert_eq!(host.leases(), ["10.0.0.3", "10.0.0.5"]);
    let uuid = host.only("networks", &["_uuid"])["_uuid"].clone();
    host.commit(&json!([on("c", &uuid)]));
    assert_eq!(
        host.refuse(&json!([on("d", &uuid)])),
        "table ports, row \"d\", column network: network \"n\" has no free address in 10.0.0.0/29 (all 2 that ports may have are in use)"
    );
}

#[test]
fn port_is_given_an_address_in_each_subnet_it_names() {
    let mut host = Host::new();
    let subnets = json!([
        "map",
        [
            ["10.0.0.0/24", ""],
            ["10.0.1.0/24", ""],
            ["10.0.2.0/24", ""],
            ["fd00::/64", ""]
        ]
    ]);
    host.commit(&json!([
        network("n", &json!({"subnets": subnets, "ipam": "sequential"})),
        port(
            "a",
            &json!({"network": named("networks", "n"), "addresses": ["set", ["10.0.1.0/24", "10.0.2.0/24"]]})
        ),
        port(
            "b",
            &json!({"network": named("networks", "n"), "addresses": ["set", ["10.0.1.0/24", "10.0.0.9"]]})
        ),
    ]));
    let all = given(&mut host);
    assert_eq!(all["a"], ["10.0.1.1", "10.0.2.1", "fd00::1"]);
    assert_eq!(all["b"], ["10.0.0.9", "10.0.1.2", "fd00::2"]);
    host.commit(&json!([{"op": "update", "table": "ports", "where": [["name", "==", "a"]], "row": {"addresses": "10.0.2.0/24"}}]));
    assert_eq!(given(&mut host)["a"], ["10.0.2.1", "fd00::1"]);
    let outside = json!([{"op": "update", "table": "ports", "where": [["name", "==", "a"]], "row": {"addresses": "10.0.9.0/24"}}]);
    assert!(host.refuse(&outside).contains("is in no subnet of network \"n\""));
}
