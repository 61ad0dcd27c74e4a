//! What rows want, and which rows a commit concerns.

use std::collections::BTreeMap;

use nonnet_hooks::object::{Object, Owner};
use nonnet_hooks::reconcile::Desired;
use serde_json::{Value, json};

use crate::fixture::{Host, container, insert, named, objects, port};

fn blue() -> Value {
    json!([
        insert("bridges", &json!({"name": "br0", "mtu": 1400})),
        insert(
            "routes",
            &json!({"destination": "10.9.0.0/16", "gateway": "10.0.0.9", "metric": 5})
        ),
        insert(
            "networks",
            &json!({
                "name": "blue", "bridge": named("bridges", "br0"), "subnets": ["map", [["10.0.0.0/24", "10.0.0.1"]]],
                "routes": ["named-uuid", "routes_10_9_0_0_16"], "ipam": "sequential",
            })
        ),
        port(
            "a",
            &json!({"network": named("networks", "blue"), "ifname": "net0", "netns": "/proc/7/ns/net"})
        ),
        port(
            "b",
            &json!({"network": named("networks", "blue"), "netns": "77", "gateways": "10.0.0.2"})
        ),
    ])
}

fn tables(desired: &[(Owner, Desired)]) -> Vec<&str> {
    desired.iter().map(|(owner, _)| owner.table.as_str()).collect()
}

#[test]
fn network_of_ports_on_a_bridge_is_compiled() {
    let mut host = Host::new();
    let desired = host.commit(&blue());
    let [Object::Bridge(bridge)] = &objects(&desired, "bridges")[..] else {
        panic!("{desired:?}")
    };
    assert_eq!(
        (bridge.name.as_str(), bridge.mtu, bridge.ipv6, bridge.settings.stp),
        ("br0", Some(1400), false, Some(false))
    );
    assert!(bridge.mac.is_some());
    let [Object::Addresses(addresses), Object::Firewall(_)] = &objects(&desired, "networks")[..] else {
        panic!("{desired:?}")
    };
    assert_eq!(
        (addresses.link.as_str(), addresses.addresses[0].to_string()),
        ("br0", "10.0.0.1/24".to_owned())
    );
    let mut veths: Vec<_> = objects(&desired, "ports")
        .into_iter()
        .map(|object| {
            if let Object::Port(veth) = object {
                veth
            } else {
                panic!("{object:?}")
            }
        })
        .collect();
    veths.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!((veths[0].ifname.as_str(), veths[0].mtu), ("net0", Some(1400)));
    assert_eq!(veths[0].netns.to_string(), "namespace /proc/7/ns/net");
    assert_eq!(veths[0].addresses[0].to_string(), "10.0.0.2/24");
    let routes: Vec<String> = veths[0].routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.9.0.0/16 via 10.0.0.9 metric 5"]);
    assert_eq!(veths[0].defaults[0].to_string(), "default via 10.0.0.1");
    assert_eq!(veths[1].netns.to_string(), "the namespace of process 77");
    assert_eq!(veths[1].defaults[0].to_string(), "default via 10.0.0.2");
}

#[test]
fn commit_concerns_the_rows_that_read_what_changed() {
    let mut host = Host::new();
    host.commit(&blue());
    host.commit(&json!([port("c", &json!({}))]));
    let update = |table: &str, row: &Value| json!([{"op": "update", "table": table, "where": [], "row": row}]);
    assert_eq!(
        tables(&host.commit(&update("networks", &json!({"mtu": 1300})))),
        ["networks", "ports", "ports"]
    );
    assert_eq!(
        tables(&host.commit(&update("bridges", &json!({"stp": true})))),
        ["bridges"]
    );
    let desired = host.commit(&update("bridges", &json!({"mtu": 1350})));
    assert_eq!(tables(&desired), ["bridges", "networks", "ports", "ports"]);
    assert!(
        host.commit(&update("ports", &json!({"external_ids": ["map", [["k", "v"]]]})))
            .is_empty()
    );
    let changes = host.write(|tables, transaction| {
        let row = transaction.rows(tables.ports.this).next().unwrap().uuid();
        transaction.set(
            tables.ports.this,
            row,
            tables.ports.error,
            nonnet_schema::Datum::scalar("x"),
        );
    });
    let database = host.database.clone();
    assert!(host.compiler.compile(&database, &changes).is_empty());
}

#[test]
fn bridge_learns_that_a_network_on_it_has_ipv6() {
    let mut host = Host::new();
    host.commit(&blue());
    let subnets = json!(["map", [["10.0.0.0/24", "10.0.0.1"], ["fd00::/64", ""]]]);
    let desired =
        host.commit(&json!([{"op": "update", "table": "networks", "where": [], "row": {"subnets": subnets}}]));
    let [Object::Bridge(bridge)] = &objects(&desired, "bridges")[..] else {
        panic!("{desired:?}")
    };
    assert!(bridge.ipv6);
    let veths = objects(&desired, "ports");
    assert!(
        veths
            .iter()
            .all(|object| matches!(object, Object::Port(veth) if veth.ipv6))
    );
    // The bridge that a network leaves is concerned too.
    let desired = host.commit(&json!([
        {"op": "delete", "table": "ports", "where": []},
        {"op": "delete", "table": "networks", "where": []},
    ]));
    let [Object::Bridge(bridge)] = &objects(
        &desired
            .into_iter()
            .filter(|(owner, _)| owner.table == "bridges")
            .collect::<Vec<_>>(),
        "bridges",
    )[..] else {
        panic!()
    };
    assert!(!bridge.ipv6);
}

#[test]
fn own_hardware_address_stays_when_a_row_changes() {
    let mut host = Host::new();
    let veth = |desired: &[(Owner, Desired)]| match &objects(desired, "ports")[..] {
        [Object::Port(veth)] => veth.clone(),
        other => panic!("{other:?}"),
    };
    let before = veth(&host.commit(&json!([port("a", &json!({}))])));
    let after = veth(&host.commit(&json!([{"op": "update", "table": "ports", "where": [], "row": {"mtu": 1400}}])));
    assert_eq!(before.mac, after.mac);
    assert!(before.mac.is_some() && after.mtu == Some(1400));
}

#[test]
fn increments_add_up_to_the_whole() {
    let mut host = Host::new();
    let mut state: BTreeMap<Owner, Desired> = BTreeMap::new();
    let update = |table: &str, key: &str, name: &str, row: &Value| json!([{"op": "update", "table": table, "where": [[key, "==", name]], "row": row}]);
    let steps = [
        blue(),
        json!([container("1", "br9", &[("ipv4", "10.7.0.2/24")])]),
        json!([insert("bridges", &json!({"name": "br9"}))]),
        json!([container("2", "br9", &[("network", "red")])]),
        json!([insert(
            "networks",
            &json!({"name": "red", "subnets": ["map", [["10.3.0.0/24", "10.3.0.1"]]]})
        )]),
        update("lxc", "id", "1", &json!({"veth": "other"})),
        update(
            "lxc",
            "id",
            "1",
            &json!({"properties": ["map", [["network_type", "netmaker"]]]}),
        ),
        update(
            "lxc",
            "id",
            "1",
            &json!({"properties": ["map", [["network_type", "bridge"]]]}),
        ),
        update(
            "networks",
            "name",
            "blue",
            &json!({"subnets": ["map", [["10.0.0.0/24", ""]]]}),
        ),
        update("networks", "name", "blue", &json!({"routes": ["set", []]})),
        update("ports", "name", "a", &json!({"network": ["set", []]})),
        json!([{"op": "delete", "table": "lxc", "where": []}]),
        json!([{"op": "delete", "table": "ports", "where": []}, {"op": "delete", "table": "networks", "where": []}]),
        json!([{"op": "delete", "table": "bridges", "where": []}]),
    ];
    for step in steps {
        for (owner, desired) in host.commit(&step) {
            match desired {
                Desired::Gone => state.remove(&owner),
                desired => state.insert(owner, desired),
            };
        }
        let whole: BTreeMap<Owner, Desired> = host.compiler.compile_all(&host.database).into_iter().collect();
        assert_eq!(state, whole, "after {step}");
    }
    assert!(state.is_empty());
}
