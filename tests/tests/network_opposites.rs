//! What goes wrong with others does not go wrong here. Each test is named after our outcome and tells in its words what the peer does; where the
//! peer is at hand and cheap to run, it does so here.

use std::path::Path;
use std::sync::Barrier;
use std::thread;

use nonnet_tests::host::{DATABASE, Host, bridge_and_network, delete, port, update};
use nonnet_tests::wire::Client;
use serde_json::{Value, json};

/// Clients at the same time.
const CLIENTS: usize = 16;

/// Containers that each of them makes and ends, one after the other: over a hundred in all.
const CONTAINERS_EACH: usize = 7;

/// Changes by somebody else that a row is watched through after it was left.
const CHANGES_AFTER: usize = 20;

/// A host with a bridge, the network `n0` on it, and a converged port `p<name>` in each of these namespaces.
fn host(subnet: (&str, &str), namespaces: &[&str]) -> Host {
    let mut host = Host::start();
    let mut operations = bridge_and_network("br0", "n0", &[subnet]);
    for name in namespaces {
        host.netns.add(name).unwrap();
        operations.push(port(&format!("p{name}"), name));
    }
    host.transact(&operations);
    host.converged();
    host
}

/// The operation that inserts a port on `n0`.
fn port_on(network: &Value, name: &str, netns: &str) -> Value {
    json!({"op": "insert", "table": "ports", "row": {"name": name, "netns": netns, "network": ["uuid", network]}})
}

/// CNI (host-local): an engine that crashes between ADD and DEL has an address taken that nobody gives back.
#[test]
fn a_crash_between_steps_takes_no_address_for_good() {
    // Two addresses besides the gateway's.
    let mut host = host(("10.40.0.0/30", "10.40.0.1"), &[]);
    let network = host.row("networks", "n0")["_uuid"].clone();
    for name in ["c1", "c2"] {
        host.netns.add(name).unwrap();
    }
    for round in 0..6 {
        host.transact(&[port_on(&network, "p1", "c1")]);
        host.kill();
        host.run();
        host.converged();
        assert!(host.pings("c1", "10.40.0.1"), "round {round}");
        host.transact(&[delete("ports", "p1")]);
        host.kill();
        host.run();
        host.converged();
        assert_eq!(host.rows("leases"), Vec::<Value>::new(), "round {round}");
        assert!(host.links_in("c1").keys().eq(["lo"]), "round {round}");
        // The one address that there is can be had by another.
        host.transact(&[port_on(&network, "p2", "c2")]);
        host.converged();
        assert!(host.pings("c2", "10.40.0.1"), "round {round}");
        host.transact(&[delete("ports", "p2")]);
        host.converged();
    }

    let leases = host.netns.directory().join("cni");
    let config = json!({"cniVersion": "0.4.0", "name": "n", "type": "bridge",
        "ipam": {"type": "host-local", "dataDir": leases, "subnet": "10.41.0.0/30"}});
    let add = |id: &str| -> bool {
        let script = format!("echo '{config}' | /usr/lib/cni/host-local >/dev/null");
        let environment =
            format!("CNI_COMMAND=ADD CNI_CONTAINERID={id} CNI_NETNS=x CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni");
        host.succeeds(&format!("export {environment}; {script}"))
    };
    assert!(
        Path::new("/usr/lib/cni/host-local").is_file(),
        "tests/run installs containernetworking-plugins"
    );
    assert!(
        add("crashed") && !add("next"),
        "host-local does not have the address taken any more"
    );
}

/// netavark: a veth deleted by hand stays gone until the container is started again.
#[test]
fn a_veth_deleted_by_hand_is_back_with_all_that_was_on_it() {
    let mut host = host(("10.42.0.0/24", "10.42.0.1"), &["c1", "c2"]);
    for end in ["ip link delete pc1", "ip -n c1 link delete eth0"] {
        let before = host.last_event();
        host.sh(end);
        host.until_event(before, "healed", "pc1");
        host.converged();
        assert!(host.pings("c1", "10.42.0.1") && host.pings("c2", "10.42.0.2"), "{end}");
        assert!(host.sh("ip -n c1 route").contains("default via 10.42.0.1"), "{end}");
    }
}

/// netavark: of 100 teardowns by 16 processes at a time 9 fail, and leave rules and links.
#[test]
fn sixteen_clients_at_once_make_and_end_a_hundred_containers_and_nothing_is_left() {
    let mut host = host(("10.43.0.0/16", "10.43.0.1"), &[]);
    let network = host.row("networks", "n0")["_uuid"].clone();
    for client in 0..CLIENTS {
        for number in 0..CONTAINERS_EACH {
            host.netns.add(&format!("c{client}x{number}")).unwrap();
        }
    }
    let links = host.links().len();
    let (socket, at_once) = (host.socket(), Barrier::new(CLIENTS));
    let (socket, at_once, network) = (&socket, &at_once, &network);
    let failures: Vec<String> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || one_client(client, socket, at_once, network)))
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{failures:?}");
    host.converged();
    assert_eq!(host.links().len(), links);
    assert_eq!((host.rows("ports"), host.rows("leases")), (vec![], vec![]));
    let inside = "for c in $(ip netns list | cut -d' ' -f1); do ip -n $c -o link; done | grep -cv ': lo:' || true";
    assert_eq!(host.sh(inside).trim(), "0");
}

/// Makes and ends containers one after the other, each until the kernel has followed. Gives what went wrong.
fn one_client(client: usize, socket: &Path, at_once: &Barrier, network: &Value) -> Vec<String> {
    let mut failures = Vec::new();
    let mut connection = Client::connect(socket).unwrap();
    at_once.wait();
    for number in 0..CONTAINERS_EACH {
        let name = format!("c{client}x{number}");
        let mut follow = |operation: Value| -> Result<(), String> {
            let select = json!({"op": "select", "table": "host", "where": [], "columns": ["next_cfg"]});
            let results = transact(&mut connection, &[operation, select])?;
            let sequence = results[1]["rows"][0]["next_cfg"].clone();
            let wait = json!({"op": "wait", "timeout": 20_000, "table": "host", "where": [["cur_cfg", ">=", sequence]],
                "columns": [], "until": "!=", "rows": []});
            transact(&mut connection, &[wait]).map(drop)
        };
        let made = follow(port_on(network, &format!("p{name}"), &name));
        let state = json!({"op": "select", "table": "ports", "where": [["name", "==", format!("p{name}")]], "columns": ["status"]});
        let said = made
            .and_then(|()| transact(&mut connection, &[state]))
            .map(|results| results[0].to_string());
        match said {
            Ok(said) if said.contains("converged") => {}
            other => failures.push(format!("{name} made: {other:?}")),
        }
        if let Err(error) = transact(&mut connection, &[delete("ports", &format!("p{name}"))]) {
            failures.push(format!("{name} ended: {error}"));
        }
    }
    failures
}

fn transact(connection: &mut Client, operations: &[Value]) -> Result<Vec<Value>, String> {
    let results = connection
        .transact(DATABASE, operations)
        .map_err(|error| format!("{error:#}"))?;
    match results.iter().find_map(|result| result.get("error")) {
        Some(error) => Err(error.to_string()),
        None => Ok(results),
    }
}

/// Two managers that want different things fight for ever: ours stops after five times, says so, and goes on with all else.
#[test]
fn of_two_managers_that_fight_ours_stops_and_says_so() {
    let mut host = host(("10.44.0.0/24", "10.44.0.1"), &["c1", "c2"]);
    host.transact(&[update("ports", "pc1", &json!({"mtu": 1400}))]);
    host.converged();
    // The other manager: it wants another MTU, whenever it is not that.
    let other =
        "while sleep 0.02; do ip link show pc1 2>/dev/null | grep -q 'mtu 1333' || ip link set pc1 mtu 1333; done";
    let fighting = host.netns.spawn("sh", &["-c", other]).unwrap();
    host.until_state("ports", "pc1", "conflict");
    let error = host.error("ports", "pc1");
    assert!(error.starts_with("contended: healed 5 times in 10 s"), "{error}");
    host.until("it is counted", |host| host.progress().2 == 1);
    host.until("the other has its way", |host| {
        host.link("pc1").is_some_and(|link| link["mtu"] == 1333)
    });
    // What is left stays left, while everything else is followed.
    let before = host.last_event();
    for number in 0..CHANGES_AFTER {
        host.sh(&format!("ip link set pc1 txqueuelen {}", 1000 + number));
        host.transact(&[update("ports", "pc2", &json!({"mtu": 1400 + number}))]);
        host.until("the other port is followed", |host| {
            host.link("pc2").is_some_and(|link| link["mtu"] == json!(1400 + number))
        });
        assert_eq!(host.link("pc1").unwrap()["mtu"], 1333);
    }
    let heals = host
        .events(before)
        .into_iter()
        .filter(|event| event["kind"] == "healed")
        .count();
    assert_eq!(heals, 0);
    assert_eq!(host.state("ports", "pc1"), "conflict");
    // A commit to the row starts over, once nobody else wants anything of the link.
    drop(fighting);
    host.transact(&[update("ports", "pc1", &json!({"mtu": 1410}))]);
    host.converged();
    assert_eq!(host.link("pc1").unwrap()["mtu"], 1410);
}
