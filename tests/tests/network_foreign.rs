//! What is not marked as nonnet's stands untouched; what is marked and wanted by nobody is collected.

use nonnet_tests::host::{Host, bridge_and_network, delete, insert, port, update};
use serde_json::{Value, json};

/// Links of somebody else, without addresses that the kernel makes in its own time: a bridge with an address and a veth on it whose other end is in `c1`, and one that has an alias like ours.
const FOREIGN: &str = "
    ip link add fbr0 type bridge
    ip link set fbr0 alias 'somebody else' addrgenmode none
    ip link set fbr0 up
    ip addr add 10.99.0.1/24 dev fbr0
    ip link add fv0 type veth peer name fv1 netns c1
    ip link set fv0 master fbr0 alias nonnet:ports/00000000-0000-4000-8000-000000000000 addrgenmode none
    ip link set fv0 up
    ip -n c1 link set fv1 addrgenmode none
    ip -n c1 link set fv1 up
    ip -n c1 addr add 10.99.0.2/24 dev fv1
    ip -n c1 route add 10.98.0.0/16 via 10.99.0.1
    ip link add fv2 type veth peer name fv3
";

/// All that can be seen of them, without what the kernel counts.
fn foreign(host: &Host) -> String {
    host.sh(
        "for l in fbr0 fv0 fv2 fv3; do ip -o link show $l; ip -o addr show $l; done
        ip -n c1 -o link show fv1; ip -n c1 -o addr show fv1; ip -n c1 route show dev fv1",
    )
}

/// A host with the links of somebody else and rows of its own that are made.
fn host() -> (Host, String) {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    host.sh(FOREIGN);
    host.until("the links are up", |host| {
        host.sh("ip -o link show fv0; ip -o link show fbr0")
            .matches("state UP")
            .count()
            == 2
    });
    let before = foreign(&host);
    let mut operations = bridge_and_network("br0", "n0", &[("10.30.0.0/24", "10.30.0.1")]);
    operations.push(port("vi1", "c1"));
    host.transact(&operations);
    host.converged();
    assert_eq!(foreign(&host), before);
    (host, before)
}

fn prune() -> Vec<Value> {
    vec![
        delete("ports", "vi1"),
        delete("networks", "n0"),
        delete("bridges", "br0"),
    ]
}

#[test]
fn foreign_links_stand_through_apply_prune_and_restart() {
    let (mut host, before) = host();
    for stop in [Host::kill, Host::stop] {
        stop(&mut host);
        host.run();
        host.converged();
        assert_eq!(foreign(&host), before);
    }
    host.transact(&prune());
    host.converged();
    assert_eq!(foreign(&host), before);
    assert!(host.link("br0").is_none() && host.link("vi1").is_none());
    host.kill();
    host.run();
    host.converged();
    assert_eq!(foreign(&host), before);
}

#[test]
fn a_row_that_wants_a_foreign_name_is_in_conflict_until_the_name_is_free() {
    let (mut host, before) = host();
    let network = host.row("networks", "n0")["_uuid"].clone();
    host.netns.add("c2").unwrap();
    let taken = json!({"name": "fv0", "netns": "c2", "network": ["uuid", network]});
    host.transact(&[
        insert("ports", "p", &taken),
        insert("bridges", "b", &json!({"name": "fbr0"})),
    ]);
    assert_eq!(host.settled(), 2);
    assert_eq!(
        (host.state("ports", "fv0"), host.error("ports", "fv0")),
        (
            "conflict".to_owned(),
            "the name fv0 is taken by a veth that is not nonnet's".to_owned()
        )
    );
    assert_eq!(
        (host.state("bridges", "fbr0"), host.error("bridges", "fbr0")),
        (
            "conflict".to_owned(),
            "the name fbr0 is taken by a bridge that is not nonnet's".to_owned()
        )
    );
    assert_eq!(foreign(&host), before);
    assert_eq!(host.state("ports", "vi1"), "converged");

    host.sh("ip link del fv0; ip link del fbr0");
    host.converged();
    assert!(host.pings("c2", "10.30.0.1"));
    assert!(host.sh("ip link show fbr0").contains("nonnet:bridges/"));
}

#[test]
fn a_foreign_link_inside_a_namespace_is_not_replaced() {
    let (mut host, _) = host();
    host.netns.add("c3").unwrap();
    host.sh("ip link add fv4 type veth peer name eth0 netns c3; ip -n c3 addr add 10.97.0.1/24 dev eth0");
    let before = host.sh("ip -n c3 -o addr; ip -n c3 -o link");
    let network = host.row("networks", "n0")["_uuid"].clone();
    host.transact(&[insert(
        "ports",
        "p",
        &json!({"name": "vi3", "netns": "c3", "network": ["uuid", network]}),
    )]);
    assert_eq!(host.settled(), 1);
    assert_eq!(host.error("ports", "vi3"), "namespace c3 already has a link named eth0");
    assert_eq!(host.sh("ip -n c3 -o addr; ip -n c3 -o link"), before);
    host.sh("ip link del fv4");
    host.converged();
    assert!(host.pings("c3", "10.30.0.1"));
}

#[test]
fn foreign_addresses_and_routes_on_our_links_are_left() {
    let (mut host, _) = host();
    host.sh("ip addr add 10.96.0.1/24 dev br0; ip -n c1 addr add 10.96.0.2/24 dev eth0; ip -n c1 route add 10.95.0.0/16 via 10.96.0.1 proto static");
    host.transact(&[update("ports", "vi1", &json!({"addresses": "10.30.0.77"}))]);
    host.converged();
    host.kill();
    host.run();
    host.converged();
    let (outer, inner) = (
        host.sh("ip addr show br0"),
        host.sh("ip -n c1 addr show eth0; ip -n c1 route"),
    );
    assert!(outer.contains("10.96.0.1/24"), "{outer}");
    assert!(
        inner.contains("10.96.0.2/24")
            && inner.contains("10.95.0.0/16 via 10.96.0.1")
            && inner.contains("10.30.0.77/24"),
        "{inner}"
    );
}

#[test]
fn marked_links_that_no_row_wants_are_collected_at_the_start() {
    let (mut host, before) = host();
    host.stop();
    host.arguments(&["--kernel", "off"]);
    host.run();
    host.transact(&prune());
    assert!(host.link("br0").is_some() && host.link("vi1").is_some());
    host.stop();
    host.arguments(&[]);
    host.run();
    host.until_event(0, "collected", "br0");
    host.until_event(0, "collected", "vi1");
    host.converged();
    assert!(host.link("br0").is_none() && host.link("vi1").is_none());
    assert!(!host.links_in("c1").contains_key("eth0"));
    assert_eq!(foreign(&host), before);
}

#[test]
fn links_of_another_database_are_foreign() {
    let (mut host, _) = host();
    let links = "ip -o link; ip -o addr; ip -n c1 -o addr";
    let before = host.sh(links);
    host.stop();
    host.sh(&format!(
        "cd {} && mkdir other && mv nonnet.db* other",
        host.netns.directory().display()
    ));
    host.run();
    host.transact(&bridge_and_network("br0", "n0", &[]));
    assert_eq!(host.settled(), 1);
    assert_eq!(
        host.error("bridges", "br0"),
        "the name br0 is taken by a bridge that is not nonnet's"
    );
    host.transact(&[delete("networks", "n0"), delete("bridges", "br0")]);
    host.converged();
    assert_eq!(host.sh(links), before);
}
