//! LXC containers of the seed's state file: served when they run, whenever they run.

use std::process::Stdio;

use nonnet_tests::host::{Host, bridge_and_network, delete, elements, insert};
use nonnet_tests::program;
use serde_json::{Value, json};

/// The containers of the seed's state file, and a second one like the first.
fn seed_containers() -> Vec<Value> {
    let path = program::repository().join("../shared/fixtures/opdbus/seed-000-block1.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let state: Value = serde_json::from_str(&text).unwrap();
    let first = state["plugins"]["lxc"]["containers"][0].clone();
    let second = serde_json::from_str(&first.to_string().replace("101", "102")).unwrap();
    vec![first, second]
}

/// The operation that inserts a container of a state file into table `lxc`.
fn container(container: &Value) -> Value {
    let properties: Vec<Value> = container["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| json!([key, value]))
        .collect();
    let mut row = container.clone();
    row["properties"] = json!(["map", properties]);
    json!({"op": "insert", "table": "lxc", "row": row})
}

fn lxc(id: &str, properties: &[(&str, &str)]) -> Value {
    json!({"op": "insert", "table": "lxc", "row": {"id": id, "bridge": "vmbr0", "running": true,
        "properties": ["map", properties]}})
}

/// Sends a transaction as a user does, by `nc`, and gives the results.
fn by_netcat(host: &Host, operations: &[Value]) -> Value {
    let mut params = vec![json!("OpNonNet")];
    params.extend_from_slice(operations);
    let request = json!({"id": 1, "method": "transact", "params": params}).to_string() + "\n";
    let mut command = host.netns.command("nc");
    command.arg("-N").arg("-U").arg(host.socket()).stdin(Stdio::piped());
    let output = program::run_command(&mut command, request.as_bytes()).unwrap();
    serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn containers_of_the_seed_ping_each_other_and_the_gateway() {
    let mut host = Host::start();
    let mut operations = bridge_and_network("vmbr0", "lan", &[("192.168.1.0/24", "192.168.1.1")]);
    operations.extend(seed_containers().iter().map(container));
    let reply = by_netcat(&host, &operations);
    let results = elements(&reply["result"]);
    assert!(
        results.len() == 4 && results.iter().all(|result| result["uuid"].is_array()),
        "{reply}"
    );

    host.until_state("lxc", "101", "waiting");
    host.until_state("lxc", "102", "waiting");
    let error = host.error("lxc", "101");
    assert_eq!(error, "container 101 is not running, and there is no namespace 101");
    for id in ["101", "102"] {
        host.netns.create_container(id).unwrap();
        host.netns.start_container(id).unwrap();
    }
    for round in 0..3 {
        host.until_state("lxc", "101", "converged");
        host.until_state("lxc", "102", "converged");
        for (id, other) in [("101", "192.168.1.102"), ("102", "192.168.1.101")] {
            for address in [other, "192.168.1.1"] {
                host.netns
                    .in_container(id, &format!("ping -c 1 -W 5 {address}"))
                    .unwrap();
            }
        }
        let link = host.link("vi101").unwrap();
        assert_eq!(link["master"], "vmbr0", "{link}");
        let inside = host.netns.in_container("101", "ip addr show eth0").unwrap();
        assert!(inside.contains("192.168.1.101/24"), "{inside}");
        match round {
            0 => {
                host.netns.stop_container("101").unwrap();
                host.until_state("lxc", "101", "waiting");
                assert_eq!(host.state("lxc", "102"), "converged");
                host.netns.start_container("101").unwrap();
            }
            1 => {
                // At once again: whether the server sees the pause or not.
                host.netns.stop_container("102").unwrap();
                host.netns.start_container("102").unwrap();
                host.until("102 is served again", |host| {
                    host.netns
                        .in_container("102", "ip addr show eth0")
                        .is_ok_and(|text| text.contains("192.168.1.102"))
                });
            }
            _ => {}
        }
    }
    host.transact(&[delete("lxc", "101")]);
    host.converged();
    assert!(host.link("vi101").is_none() && host.rows("ports").len() == 1);
    assert!(host.netns.in_container("101", "ip link show eth0").is_err());
}

#[test]
fn two_containers_reach_each_other_over_each_kind_of_link() {
    let mut host = Host::start();
    // The other machine: at the far end of this one's network card, and of a tunnel.
    host.sh("ip netns add far; ip link add up0 type veth peer name far0 netns far
        ip link set up0 up; ip addr add 10.7.0.1/24 dev up0
        ip -n far addr add 10.7.0.254/24 dev far0; ip -n far addr add 10.5.0.254/24 dev far0; ip -n far link set far0 up
        ip -n far link add vx type vxlan id 42 remote 10.7.0.1 local 10.7.0.254 dstport 4789
        ip -n far addr add 10.42.0.254/24 dev vx; ip -n far link set vx up");
    let network = |at: &str, row: Value| insert("networks", at, &row);
    let bridge = |name: &str| insert("bridges", name, &json!({"name": name}));
    let subnet = |subnet: &str, gateway: &str| json!(["map", [[subnet, gateway]]]);
    let tunnel = json!(["map", [["local", "10.7.0.1"], ["remote", "10.7.0.254"]]]);
    let mut rows = vec![
        bridge("br0"),
        bridge("brw"),
        network(
            "lan",
            json!({"name": "lan", "bridge": ["named-uuid", "br0"], "subnets": subnet("10.4.0.0/24", "10.4.0.1")}),
        ),
        network(
            "direct",
            json!({"name": "direct", "parent": "up0", "subnets": subnet("10.5.0.0/24", "")}),
        ),
        network(
            "wide",
            json!({"name": "wide", "bridge": ["named-uuid", "brw"], "vni": 42, "subnets": subnet("10.42.0.0/24", "")}),
        ),
        insert(
            "ports",
            "vx42",
            &json!({"name": "vx42", "kind": "vxlan", "network": ["named-uuid", "wide"], "options": tunnel}),
        ),
    ];
    // Of each kind two, and whom else they reach.
    let kinds = [
        ("lan", "10.4.0", "10.4.0.1"),
        ("direct", "10.5.0", "10.5.0.254"),
        ("wide", "10.42.0", "10.42.0.254"),
    ];
    let containers: Vec<(String, &str, String, &str)> = kinds
        .iter()
        .enumerate()
        .flat_map(|(at, (network, net, other))| {
            [2, 3].map(|last| {
                (
                    format!("{}", 200 + 10 * at + last),
                    *network,
                    format!("{net}.{last}"),
                    *other,
                )
            })
        })
        .collect();
    for (id, network, address, _) in &containers {
        host.netns.create_container(id).unwrap();
        host.netns.start_container(id).unwrap();
        let properties = json!(["map", [["network", network], ["ipv4", format!("{address}/24")]]]);
        rows.push(
            json!({"op": "insert", "table": "lxc", "row": {"id": id, "running": true, "properties": properties}}),
        );
    }
    host.transact(&rows);
    host.converged();
    for pair in containers.chunks(2) {
        let [(one, network, address, other), (two, _, of_two, _)] = pair else {
            panic!()
        };
        for (id, target) in [
            (one, of_two.as_str()),
            (two, address.as_str()),
            (one, *other),
            (two, *other),
        ] {
            let answer = host.netns.in_container(id, &format!("ping -c 1 -W 5 {target}"));
            assert!(answer.is_ok(), "{network}: {id} to {target}: {answer:?}");
        }
    }
    assert_eq!(host.link("vi202").unwrap()["master"], "br0");
    assert!(host.link("vi212").is_none(), "a macvlan is inside only");
}

#[test]
fn the_named_namespace_of_the_id_serves_until_a_container_runs() {
    let mut host = Host::start();
    let mut operations = bridge_and_network("vmbr0", "lan", &[("192.168.2.0/24", "192.168.2.1")]);
    let properties = [
        ("network_type", "bridge"),
        ("ipv4", "192.168.2.103/24"),
        ("gateway", "192.168.2.1"),
    ];
    operations.push(lxc("103", &properties));
    host.transact(&operations);
    host.until_state("lxc", "103", "waiting");
    host.netns.add("103").unwrap();
    host.until_state("lxc", "103", "converged");
    assert!(host.pings("103", "192.168.2.1"));
    assert!(host.sh("ip -n 103 route").contains("default via 192.168.2.1 dev eth0"));

    host.netns.create_container("103").unwrap();
    host.netns.start_container("103").unwrap();
    host.until("the container is served", |host| {
        host.netns
            .in_container("103", "ip addr show eth0")
            .is_ok_and(|text| text.contains("192.168.2.103/24"))
    });
    host.converged();
    host.netns.in_container("103", "ping -c 1 -W 5 192.168.2.1").unwrap();
    assert!(
        !host.links_in("103").contains_key("eth0"),
        "the namespace kept its link"
    );

    host.netns.stop_container("103").unwrap();
    host.until("the namespace is served again", |host| {
        host.links_in("103").contains_key("eth0")
    });
    host.converged();
    assert!(host.pings("103", "192.168.2.1"));
}

#[test]
fn what_is_changed_inside_a_container_is_healed() {
    let mut host = Host::start();
    let mut operations = bridge_and_network("vmbr0", "lan", &[("192.168.3.0/24", "192.168.3.1")]);
    operations.push(lxc(
        "104",
        &[
            ("network_type", "bridge"),
            ("ipv4", "192.168.3.104/24"),
            ("gateway", "192.168.3.1"),
        ],
    ));
    host.transact(&operations);
    host.netns.create_container("104").unwrap();
    host.netns.start_container("104").unwrap();
    host.converged();
    let served = |host: &mut Host| {
        let text = host
            .netns
            .in_container("104", "ip addr show eth0; ip route")
            .unwrap_or_default();
        ["192.168.3.104/24", "default via 192.168.3.1", ",UP"]
            .iter()
            .all(|part| text.contains(part))
    };
    assert!(served(&mut host));
    for damage in [
        "ip addr flush dev eth0",
        "ip addr del 192.168.3.104/24 dev eth0",
        "ip route del default",
        "ip link set eth0 down",
        "ip link del eth0",
    ] {
        let before = host.last_event();
        host.netns.in_container("104", damage).unwrap();
        host.until(&format!("healed after {damage}"), served);
        host.until_event(before, "healed", "vi104");
        host.converged();
        host.netns.in_container("104", "ping -c 1 -W 5 192.168.3.1").unwrap();
    }
}

#[test]
fn containers_of_another_network_type_say_what_is_missing() {
    let mut host = Host::start();
    let none = json!({"op": "insert", "table": "lxc", "row": {"id": "105"}});
    let mesh = json!({"op": "insert", "table": "lxc", "row": {"id": "106", "bridge": "mesh",
        "properties": ["map", [["network_type", "netmaker"]]]}});
    let lost = json!({"op": "insert", "table": "lxc", "row": {"id": "107", "bridge": "nowhere",
        "properties": ["map", [["network_type", "bridge"], ["hostname", "ct107"]]]}});
    host.transact(&[none, mesh, lost]);
    // Two rows and the ports of both.
    assert_eq!(host.settled(), 3);
    assert_eq!(host.state("lxc", "105"), "converged");
    assert_eq!(
        (host.state("lxc", "106"), host.error("lxc", "106")),
        (
            "waiting".to_owned(),
            "container 106 is not running, and there is no namespace 106".to_owned()
        )
    );
    assert!(
        host.row("lxc", "106")["status"]["network_error"]
            .as_str()
            .is_some_and(|error| error.starts_with("bridge \"mesh\" does not exist"))
    );
    assert_eq!(
        (host.state("lxc", "107"), host.error("lxc", "107")),
        (
            "waiting".to_owned(),
            "bridge \"nowhere\" does not exist: it takes a row of that name in table bridges".to_owned()
        )
    );
    assert_eq!(host.row("lxc", "107")["status"]["ignored"], "hostname");
    host.transact(&[insert("bridges", "b", &json!({"name": "nowhere"}))]);
    host.until("the port is on its bridge", |host| {
        host.error("lxc", "107").contains("container 107 is not running")
    });
}
