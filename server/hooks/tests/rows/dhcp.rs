//! Ports that ask a DHCP server: what they want, what their rows hold.

use nonnet_hooks::dhcp::Lease;
use nonnet_hooks::object::{Dhcp, Object, Port};
use nonnet_hooks::reconcile::Desired;
use nonnet_hooks::tables::leases;
use nonnet_schema::Uuid;
use serde_json::{Value, json};

use crate::fixture::{Host, container, insert, named, objects, port};

fn wanted(desired: &[(nonnet_hooks::object::Owner, Desired)]) -> (Port, Dhcp) {
    let [Object::Port(port), Object::Dhcp(dhcp)] = &objects(desired, "ports")[..] else {
        panic!("{desired:?}")
    };
    (port.clone(), dhcp.clone())
}

fn lease(address: &str) -> Lease {
    Lease {
        address: address.parse().unwrap(),
        server: "10.0.0.1".parse().unwrap(),
        expires: Some(1_795_231_585),
        routers: vec!["10.0.0.1".parse().unwrap()],
        routes: vec![],
        dns: vec!["10.0.0.53".parse().unwrap()],
        domain: None,
        mtu: Some(1400),
    }
}

fn dhcp_network(more: &Value) -> Value {
    let mut row = json!({"name": "n", "ipam": "dhcp"});
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    insert("networks", &row)
}

/// Puts a lease into the rows of the only port, as the server does. Gives what the port wants then.
fn give(host: &mut Host, lease: Option<&Lease>) -> Vec<(nonnet_hooks::object::Owner, Desired)> {
    let uuid = host.only("ports", &["_uuid"])["_uuid"][1].as_str().unwrap().to_owned();
    let uuid: Uuid = uuid.parse().unwrap();
    let changes = host.write(|tables, transaction| leases::write_dhcp(tables, transaction, uuid, lease, 9).unwrap());
    host.compiler.compile(&host.database, &changes)
}

#[test]
fn lease_is_a_row_and_becomes_address_route_and_mtu() {
    let mut host = Host::new();
    let desired = host.commit(&json!([
        dhcp_network(&json!({})),
        port("web", &json!({"network": named("networks", "n")}))
    ]));
    let (port, client) = wanted(&desired);
    assert_eq!(
        (port.addresses.len(), port.defaults.len(), &client.lease),
        (0, 0, &None)
    );
    assert_eq!(client.request.host_name.as_deref(), Some("web"));
    assert_eq!((client.request.client_id.len(), client.request.client_id[0]), (23, 255));

    let (port, again) = wanted(&give(&mut host, Some(&lease("10.0.0.9/24"))));
    assert_eq!(port.addresses, ["10.0.0.9/24".parse().unwrap()]);
    assert_eq!(
        (port.defaults[0].to_string().as_str(), port.mtu),
        ("default via 10.0.0.1", Some(1400))
    );
    assert_eq!(
        (again.lease, again.request),
        (Some(lease("10.0.0.9/24")), client.request)
    );
    let row = host.only("leases", &["address", "source", "expires", "options"]);
    assert_eq!(
        (&row["address"], &row["source"], &row["expires"]),
        (&json!("10.0.0.9"), &json!("dhcp"), &json!(1_795_231_585))
    );
    assert!(row["options"].to_string().contains(r#"["dns","10.0.0.53"]"#), "{row}");
    assert_eq!(host.only("host", &["next_cfg"])["next_cfg"], 9);

    let longer = Lease {
        expires: Some(1_795_239_999),
        ..lease("10.0.0.9/24")
    };
    assert_eq!(
        give(&mut host, Some(&longer)),
        [],
        "a lease that lasts longer changes nothing in the kernel"
    );
    let (port, _) = wanted(&give(&mut host, Some(&lease("10.0.0.10/24"))));
    assert_eq!((port.addresses.len(), host.leases()), (1, vec!["10.0.0.10".to_owned()]));
    let (port, client) = wanted(&give(&mut host, None));
    assert_eq!((port.addresses.len(), client.lease, host.leases().len()), (0, None, 0));
}

#[test]
fn lease_dies_with_its_port_and_no_two_ports_have_one_address() {
    let mut host = Host::new();
    host.commit(&json!([
        dhcp_network(&json!({})),
        port("a", &json!({"network": named("networks", "n")}))
    ]));
    give(&mut host, Some(&lease("10.0.0.9/24")));
    assert_eq!(
        host.refuse(&json!([port("b", &json!({"addresses": "10.0.0.9/24"}))])),
        "table ports, row \"b\", column addresses: 10.0.0.9 is in use by port \"a\""
    );
    host.commit(&json!([{"op": "delete", "table": "ports", "where": [["name", "==", "a"]]}]));
    assert!(host.leases().is_empty());
    host.commit(&json!([port(
        "b",
        &json!({"addresses": ["set", ["10.0.0.9/24", "dhcp"]]})
    )]));
    let uuid: Uuid = host.only("ports", &["_uuid"])["_uuid"][1]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    host.write(|tables, transaction| {
        let refused = leases::write_dhcp(tables, transaction, uuid, Some(&lease("10.0.0.9/24")), 9);
        assert_eq!(refused, Err("10.0.0.9".parse().unwrap()));
    });
}

#[test]
fn lease_outlives_other_changes_of_its_port() {
    let mut host = Host::new();
    host.commit(&json!([
        dhcp_network(&json!({})),
        port("a", &json!({"network": named("networks", "n")}))
    ]));
    give(&mut host, Some(&lease("10.0.0.9/24")));
    let mtu = |mtu: u32| json!([{"op": "update", "table": "ports", "where": [], "row": {"mtu": mtu}}]);
    let (port, client) = wanted(&host.commit(&mtu(1300)));
    assert_eq!(
        (port.mtu, client.lease.is_some(), port.addresses.len()),
        (Some(1300), true, 1)
    );
    host.commit(&json!([{"op": "update", "table": "ports", "where": [], "row": {"addresses": "192.168.7.7/24", "network": ["set", []]}}]));
    assert_eq!(host.leases(), ["192.168.7.7"]);
}

#[test]
fn default_route_of_a_server_can_be_left_out() {
    let mut host = Host::new();
    host.commit(&json!([port(
        "a",
        &json!({"addresses": "dhcp", "options": ["map", [["default_route", "false"], ["dhcp_host_name", ""]]]})
    )]));
    let (port, client) = wanted(&give(&mut host, Some(&lease("10.0.0.9/24"))));
    assert_eq!((port.defaults.len(), client.request.host_name), (0, None));
}

#[test]
fn options_of_a_network_hold_for_its_ports_unless_they_have_their_own() {
    let mut host = Host::new();
    let options = json!([
        "map",
        [["dhcp_request", "subnet-mask"], ["dhcp_vendor_class", "nonnet"]]
    ]);
    let desired = host.commit(&json!([
        dhcp_network(&json!({"other_config": options})),
        port("a", &json!({"network": named("networks", "n"), "options": ["map", [["dhcp_vendor_class", "mine"], ["dhcp_client_id", "me"]]]})),
    ]));
    let (_, client) = wanted(&desired);
    assert_eq!(client.request.options, [1]);
    assert_eq!(
        (
            client.request.vendor_class.as_deref(),
            client.request.client_id.as_slice()
        ),
        (Some("mine"), &b"\0me"[..])
    );
    assert_eq!(
        host.refuse(&json!([port(
            "b",
            &json!({"addresses": "dhcp", "options": ["map", [["dhcp_host_name", "a b"]]]})
        )])),
        "table ports, row \"b\", column options: dhcp_host_name is not a host name (letters, digits, hyphens, dots)"
    );
}

#[test]
fn network_with_dhcp_gives_ipv6_addresses_itself() {
    let mut host = Host::new();
    let subnets = json!(["map", [["fd00::/64", ""], ["10.0.0.0/24", ""]]]);
    let desired = host.commit(&json!([
        dhcp_network(&json!({"subnets": subnets})),
        port("a", &json!({"network": named("networks", "n")})),
        port(
            "b",
            &json!({"network": named("networks", "n"), "addresses": "10.0.0.7"})
        ),
    ]));
    assert_eq!(host.leases().iter().filter(|address| address.contains(':')).count(), 2);
    assert_eq!(host.leases().iter().filter(|address| address.contains('.')).count(), 1);
    let clients = objects(&desired, "ports")
        .into_iter()
        .filter(|object| matches!(object, Object::Dhcp(_)));
    assert_eq!(clients.count(), 1, "who has an address asks for none");
}

#[test]
fn container_asks_by_its_id() {
    let mut host = Host::new();
    let desired = host.commit(&json!([
        insert("bridges", &json!({"name": "vmbr0"})),
        container("101", "vmbr0", &[("ipv4", "dhcp")]),
    ]));
    let (port, client) = wanted(&desired);
    assert_eq!(
        (port.name.as_str(), client.request.host_name.as_deref()),
        ("vi101", Some("101"))
    );
    let refused = host.refuse(&json!([insert(
        "ports",
        &json!({"name": "x", "netns": "x", "kind": "ipvlan", "addresses": "dhcp"})
    )]));
    assert!(refused.contains("ipvlan"), "{refused}");
}
