//! Containers' rows keep ports.

use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{NetnsRef, Object};
use nonnet_hooks::reconcile::Desired;
use serde_json::json;

use crate::fixture::{Host, container, insert, objects};

#[test]
fn container_on_a_bridge_keeps_a_port() {
    let mut host = Host::new();
    let desired = host.commit(&json!([
        container(
            "101",
            "vmbr0",
            &[("ipv4", "192.168.1.101/24"), ("gateway", "192.168.1.1")]
        ),
        insert("bridges", &json!({"name": "vmbr0"})),
    ]));
    let port = host.only("ports", &["name", "kind", "addresses", "gateways", "netns"]);
    assert_eq!(
        port,
        json!({"name": "vi101", "kind": "veth", "addresses": "192.168.1.101/24", "gateways": "192.168.1.1", "netns": ["set", []]})
    );
    assert_eq!(host.leases(), ["192.168.1.101"]);
    let [Object::Port(veth)] = &objects(&desired, "ports")[..] else {
        panic!("{desired:?}")
    };
    assert_eq!((veth.name.as_str(), veth.ifname.as_str()), ("vi101", "eth0"));
    assert_eq!(veth.netns, NetnsRef::Lxc { id: "101".into() });
    assert_eq!(veth.bridge.as_ref().unwrap().as_str(), "vmbr0");
    assert_eq!(veth.defaults[0].to_string(), "default via 192.168.1.1");
}

#[test]
fn port_goes_with_its_container_in_the_same_transaction() {
    let mut host = Host::new();
    host.commit(&json!([
        insert("bridges", &json!({"name": "vmbr0"})),
        container("101", "vmbr0", &[("ipv4", "192.168.1.101/24")]),
    ]));
    let desired = host.commit(&json!([{"op": "delete", "table": "lxc", "where": [["id", "==", "101"]]}]));
    assert!(host.rows("ports", &[]).is_empty() && host.leases().is_empty());
    assert_eq!(desired.len(), 2);
    assert!(desired.iter().all(|(_, desired)| *desired == Desired::Gone));
}

#[test]
fn port_follows_its_container() {
    let mut host = Host::new();
    host.commit(&json!([
        insert("bridges", &json!({"name": "br0"})),
        insert("bridges", &json!({"name": "br1"})),
        container("101", "br0", &[("ipv4", "10.0.0.5/24")]),
    ]));
    let before = host.only("ports", &["_uuid"]);
    let properties = json!([
        "map",
        [
            ["network_type", "bridge"],
            ["ipv4", "10.0.0.6/24"],
            ["mac", "02:00:00:00:00:09"],
            ["mtu", "1400"]
        ]
    ]);
    let desired = host.commit(&json!([
        {"op": "update", "table": "lxc", "where": [["id", "==", "101"]], "row": {"bridge": "br1", "properties": properties}},
    ]));
    assert_eq!(host.only("ports", &["_uuid"]), before);
    assert_eq!(host.leases(), ["10.0.0.6"]);
    let [Object::Port(veth)] = &objects(&desired, "ports")[..] else {
        panic!("{desired:?}")
    };
    assert_eq!((veth.bridge.as_ref().unwrap().as_str(), veth.mtu), ("br1", Some(1400)));
    assert_eq!(veth.mac.unwrap().to_string(), "02:00:00:00:00:09");
    // Another name is another row, with the same address.
    host.commit(&json!([{"op": "update", "table": "lxc", "where": [], "row": {"veth": "web0"}}]));
    let after = host.only("ports", &["_uuid", "name"]);
    assert_eq!(after["name"], "web0");
    assert_ne!(after["_uuid"], before["_uuid"]);
    assert_eq!(host.leases(), ["10.0.0.6"]);
}

#[test]
fn container_without_its_bridge_waits_until_the_row_comes() {
    let mut host = Host::new();
    let desired = host.commit(&json!([container("101", "vmbr0", &[("ipv4", "10.0.0.5/24")])]));
    let expected = "bridge \"vmbr0\" does not exist: it takes a row of that name in table bridges";
    assert!(
        desired
            .iter()
            .any(|(_, desired)| *desired == Desired::Waiting(expected.into()))
    );
    let desired = host.commit(&json!([insert("bridges", &json!({"name": "vmbr0"}))]));
    let [Object::Port(veth)] = &objects(&desired, "ports")[..] else {
        panic!("{desired:?}")
    };
    assert_eq!(veth.bridge.as_ref().unwrap().as_str(), "vmbr0");
    let (reply, _) = host.run(&json!([{"op": "delete", "table": "bridges", "where": []}]));
    assert_eq!(reply[1]["error"], "referential integrity violation");
    let details = reply[1]["details"].as_str().unwrap();
    assert!(
        details.starts_with("cannot delete bridges row ") && details.ends_with(" because of 1 remaining reference(s)"),
        "{details}"
    );
}

#[test]
fn container_on_a_network_is_given_an_address() {
    let mut host = Host::new();
    let desired = host.commit(&json!([
        insert("bridges", &json!({"name": "br0"})),
        insert("networks", &json!({
            "name": "blue", "bridge": ["named-uuid", "bridges_br0"], "subnets": ["map", [["10.1.0.0/24", "10.1.0.1"]]], "ipam": "sequential",
        })),
        container("7", "br0", &[("network", "blue")]),
    ]));
    assert_eq!(host.leases(), ["10.1.0.2"]);
    let [Object::Port(veth)] = &objects(&desired, "ports")[..] else {
        panic!("{desired:?}")
    };
    assert_eq!(veth.addresses, ["10.1.0.2/24".parse().unwrap()]);
    assert_eq!(veth.defaults[0].to_string(), "default via 10.1.0.1");
}

#[test]
fn what_is_not_supported_yet_is_said_in_the_row() {
    let mut host = Host::new();
    let row = json!({"id": "100", "veth": "vi100", "bridge": "vmbr0", "running": true, "properties": ["map", [["network_type", "wifi"]]]});
    let desired = host.commit(&json!([insert("lxc", &row)]));
    let text = "properties:network_type \"wifi\" is not supported; supported are \"bridge\", \"netmaker\" and \"none\"";
    assert_eq!(desired[0].1, Desired::Invalid(text.into()));
    assert!(host.rows("ports", &[]).is_empty());
}

#[test]
fn container_without_network_type_is_attached_where_it_names_a_bridge() {
    let mut host = Host::new();
    let desired = host.commit(&json!([insert("lxc", &json!({"id": "1"}))]));
    assert_eq!(desired[0].1, Desired::Objects(vec![]));
    host.commit(&json!([{"op": "update", "table": "lxc", "where": [], "row": {"bridge": "br0"}}]));
    assert_eq!(host.only("ports", &["name"])["name"], "vi1");
    host.commit(&json!([{"op": "update", "table": "lxc", "where": [], "row": {"properties": ["map", [["network_type", "none"]]]}}]));
    assert!(host.rows("ports", &[]).is_empty());
}

#[test]
fn port_of_a_container_is_changed_through_its_container_only() {
    let mut host = Host::new();
    host.commit(&json!([container("101", "", &[("network", "blue")])]));
    let details = host.refuse(&json!([{"op": "update", "table": "ports", "where": [], "row": {"mtu": 1400}}]));
    assert_eq!(
        details,
        "table ports, row \"vi101\", column mtu: it follows lxc row \"101\"; change it there"
    );
    let details = host.refuse(&json!([{"op": "delete", "table": "ports", "where": []}]));
    assert_eq!(
        details,
        "table ports, row \"vi101\", column lxc: lxc row \"101\" keeps this port; delete that row, or set its properties:network_type to \"none\""
    );
    host.commit(
        &json!([{"op": "update", "table": "ports", "where": [], "row": {"external_ids": ["map", [["a", "b"]]]}}]),
    );
    let lxc = host.only("lxc", &["_uuid"])["_uuid"].clone();
    let details = host.refuse(&json!([insert(
        "ports",
        &json!({"name": "x", "netns": "x", "lxc": lxc})
    )]));
    assert_eq!(
        details,
        "table ports, row \"x\", column name: it follows lxc row \"101\"; change it there"
    );
}

#[test]
fn all_rows_can_be_replaced_in_one_transaction() {
    let mut host = Host::new();
    let rows = || {
        [
            insert("bridges", &json!({"name": "br0"})),
            container("1", "br0", &[("ipv4", "10.0.0.5/24")]),
        ]
    };
    host.commit(&json!(rows()));
    let mut operations: Vec<_> = ["lxc", "ports", "bridges", "host"]
        .iter()
        .map(|table| json!({"op": "delete", "table": table, "where": []}))
        .collect();
    operations.extend(rows());
    operations.push(insert("leases", &json!({"address": "10.0.0.5", "source": "static"})));
    operations.push(insert(
        "ports",
        &json!({
            "name": "vi1", "kind": "veth", "lxc": ["named-uuid", "lxc_1"], "bridge": ["named-uuid", "bridges_br0"],
            "addresses": "10.0.0.5/24", "leases": ["named-uuid", "leases_row"],
        }),
    ));
    operations.push(insert("host", &json!({})));
    host.commit(&json!(operations));
    assert_eq!(host.leases(), ["10.0.0.5"]);
    assert_eq!(host.only("ports", &["name"])["name"], "vi1");
}

#[test]
fn container_of_a_mesh_wants_its_membership_beside_its_port() {
    let mut host = Host::new();
    let row = json!({"id": "100", "bridge": "vmbr0", "running": true,
        "properties": ["map", [["network_type", "netmaker"], ["netmaker_token_env", "NETMAKER_TOKEN_PROD"]]]});
    let desired = host.commit(&json!([insert("lxc", &row)]));
    let [Object::Mesh(mesh)] = &objects(&desired, "lxc")[..] else {
        panic!("{desired:?}");
    };
    assert_eq!((mesh.token.as_str(), mesh.rests), ("NETMAKER_TOKEN_PROD", false));
    assert_eq!(mesh.link.as_ref().map(LinkName::as_str), Some("vi100"));
    assert_eq!(host.rows("ports", &[]).len(), 1);
}

#[test]
fn container_with_a_template_is_wanted_with_typed_properties() {
    let mut host = Host::new();
    let row = json!({"id": "100", "running": true, "properties": ["map", [["template", "busybox"], ["memory", "0512"],
        ["unprivileged", "1"], ["features", "nesting=1,fuse=0"], ["restart", "on-failure"]]]});
    let desired = host.commit(&json!([insert("lxc", &row)]));
    let [Object::Container(container)] = &objects(&desired, "lxc")[..] else {
        panic!("{desired:?}");
    };
    assert_eq!(container.settings["memory"], "512");
    assert_eq!(container.settings["features"], "nesting=1");
    assert_eq!(container.creation["unprivileged"], "true");
    assert!(container.running && container.restart.as_str() == "on-failure");
}
