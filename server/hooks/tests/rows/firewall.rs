//! What rows want of the packet filter, and what of it is refused.

use nonnet_hooks::object::Object;
use nonnet_hooks::object::firewall::{Element, ElementChange, Firewall};
use serde_json::{Value, json};

use crate::fixture::{Host, insert, named, objects, port};

/// A bridge and a network on it, with more columns.
fn network(more: &Value) -> [Value; 2] {
    let subnets = json!(["map", [["10.0.0.0/24", "10.0.0.1"], ["fd00::/64", "fd00::1"]]]);
    let mut row = json!({"name": "blue", "bridge": named("bridges", "br0"), "subnets": subnets});
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    [insert("bridges", &json!({"name": "br0"})), insert("networks", &row)]
}

/// A port on that network, with more columns.
fn attached(more: &Value) -> Value {
    let mut row = json!({"network": named("networks", "blue"), "addresses": ["set", ["10.0.0.2", "fd00::2"]], "mac": "02:00:00:00:00:02"});
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    port("a", &row)
}

/// A forward, as the row `forward`.
fn forward(row: &Value) -> Value {
    json!({"op": "insert", "table": "forwards", "row": row, "uuid-name": "forward"})
}

fn all(network: [Value; 2], more: impl IntoIterator<Item = Value>) -> Value {
    network.into_iter().chain(more).collect()
}

/// What the rows of one table want, as text.
fn wanted(operations: &Value, table: &str) -> Vec<String> {
    let desired = Host::new().commit(operations);
    let firewalls = objects(&desired, table).into_iter().filter_map(|object| match object {
        Object::Firewall(firewall) => Some(firewall),
        _ => None,
    });
    firewalls.flat_map(|firewall| texts(&firewall)).collect()
}

fn texts(firewall: &Firewall) -> Vec<String> {
    let elements = firewall.elements.iter().map(|(key, data)| {
        let (key, data) = (key.clone(), data.clone());
        Element { key, data }.to_string()
    });
    let settings = firewall.settings.iter();
    elements
        .chain(settings.map(|(setting, value)| format!("{}={value}", setting.path)))
        .collect()
}

#[test]
fn network_says_where_it_is_and_what_becomes_of_its_packets() {
    let plain = wanted(&all(network(&json!({})), []), "networks");
    assert_eq!(
        plain,
        [
            "within { br0 . br0 }",
            "routed { br0 }",
            "local4 { 10.0.0.0/24 . br0 }",
            "local6 { fd00::/64 . br0 }",
            "hairpin4 { 10.0.0.0/24 . 10.0.0.0/24 }",
            "hairpin6 { fd00::/64 . fd00::/64 }",
        ]
    );
    let nat = json!({"nat": ["map", [["ipv4", "masquerade"], ["ipv6", "2001:db8::1"]]], "isolation": "port"});
    let more = wanted(&all(network(&nat), []), "networks");
    let more: Vec<&str> = more
        .iter()
        .map(String::as_str)
        .filter(|text| !plain.iter().any(|of| of == text))
        .collect();
    assert_eq!(
        more,
        [
            "isolated { br0 }",
            "private4 { 10.0.0.0/24 . 10.0.0.0/24 }",
            "private6 { fd00::/64 . fd00::/64 }",
            "masquerade4 { 10.0.0.0/24 }",
            "source6 { fd00::/64 : 2001:db8::1 }",
            "ipv4/ip_forward=1",
            "ipv6/conf/all/forwarding=1",
        ]
    );
}

#[test]
fn port_publishes_and_is_guarded() {
    let published = |row: Value| {
        let port = attached(&json!({"forwards": ["named-uuid", "forward"]}));
        wanted(&all(network(&json!({})), [forward(&row), port]), "ports")
    };
    assert_eq!(
        published(json!({"port": 8080, "target": 80})),
        [
            "localnet { br0 }",
            "any4 { tcp . 8080 : 10.0.0.2 . 80 }",
            "any6 { tcp . 8080 : fd00::2 . 80 }",
            "ipv4/conf/br0/route_localnet=1",
            "ipv4/ip_forward=1",
            "ipv6/conf/all/forwarding=1",
        ]
    );
    assert_eq!(
        published(json!({"protocol": "sctp", "listen": "192.0.2.1", "port": 8000, "count": 100})),
        [
            "range4 { sctp . 192.0.2.1 . 8000-8099 : 10.0.0.2 }",
            "ipv4/ip_forward=1"
        ]
    );
    assert_eq!(
        published(json!({"protocol": "udp", "listen": "::", "port": 53, "count": 2, "target": 5353})),
        [
            "any6 { udp . 53 : fd00::2 . 5353 }",
            "any6 { udp . 54 : fd00::2 . 5354 }",
            "ipv6/conf/all/forwarding=1",
        ]
    );
    let guarded = attached(&json!({"anti_spoof": true, "isolated": true}));
    assert_eq!(
        wanted(&all(network(&json!({})), [guarded]), "ports"),
        [
            "guarded { a }",
            "guarded_mac { a . 02:00:00:00:00:02 }",
            "guarded4 { a . 10.0.0.2 }",
            "guarded6 { a . fd00::2 }",
            "guarded6 { a . fe80::ff:fe00:2 }",
        ]
    );
    // What its network says, a port follows.
    let operations = all(network(&json!({"isolation": "port"})), [attached(&json!({}))]);
    let desired = Host::new().commit(&operations);
    let port = objects(&desired, "ports").into_iter().find_map(|object| match object {
        Object::Port(port) => Some(port),
        _ => None,
    });
    assert!(port.unwrap().isolated);
}

#[test]
fn what_the_packet_filter_cannot_do_is_refused() {
    let refused = |operations: Value, details: &str| assert_eq!(Host::new().refuse(&operations), details);
    let of_network = |more: Value, details: &str| refused(all(network(&more), []), details);
    of_network(
        json!({"nat": ["map", [["ipv5", "masquerade"]]]}),
        "table networks, row \"blue\", column nat: \"ipv5\" is no key of it: there are ipv4 and ipv6",
    );
    of_network(
        json!({"nat": ["map", [["ipv4", "fd00::1"]]]}),
        "table networks, row \"blue\", column nat:ipv4: \"fd00::1\" is neither \"masquerade\" nor \"none\" nor an address of this family",
    );
    of_network(
        json!({"nat": ["map", [["ipv4", "masquerade"]]], "internal": true}),
        "table networks, row \"blue\", column nat:ipv4: an internal network has no way out",
    );
    refused(
        json!([insert(
            "networks",
            &json!({"name": "x", "subnets": ["map", [["10.0.0.0/24", ""]]], "nat": ["map", [["ipv4", "masquerade"]]]})
        )]),
        "table networks, row \"x\", column nat:ipv4: packets pass this host only from a bridge, and the network has none",
    );
    let second = insert(
        "networks",
        &json!({"name": "red", "bridge": named("bridges", "br0"), "internal": true}),
    );
    let details = Host::new().refuse(&all(network(&json!({})), [second]));
    assert!(
        details.contains("column internal") && details.contains("on the same bridge \"br0\""),
        "{details}"
    );
    refused(
        json!([port("a", &json!({"anti_spoof": true, "addresses": "10.0.0.2/24"}))]),
        "table ports, row \"a\", column anti_spoof: only a port of a bridge can be kept from others",
    );
    let with = |row: Value, more: Value| {
        let port = attached(&json!({"forwards": ["named-uuid", "forward"]}));
        all(network(&more), [forward(&row), port])
    };
    refused(
        with(json!({"port": 0}), json!({})),
        "table forwards, row \"tcp :0\", column port: 0 is not a port: 1 to 65535",
    );
    refused(
        with(json!({"port": 80, "target": 8080, "count": 2000}), json!({})),
        "table forwards, row \"tcp :80\", column count: at most 1024 ports can lead to others than the same",
    );
    refused(
        with(json!({"port": 80}), json!({"internal": true})),
        "table ports, row \"a\", column forwards: its network is internal: there is no way in",
    );
}

#[test]
fn dry_run_says_what_a_change_means() {
    let nat = json!({"nat": ["map", [["ipv4", "masquerade"], ["ipv6", "2001:db8::1"]]], "isolation": "port"});
    let row = json!({"listen": "2001:db8::1", "port": 8080, "target": 80});
    let port = attached(&json!({"forwards": ["named-uuid", "forward"], "anti_spoof": true}));
    let operations = all(network(&nat), [forward(&row), port]);
    let words = |table| {
        let desired = Host::new().commit(&operations);
        let add = objects(&desired, table).into_iter().filter_map(|object| match object {
            Object::Firewall(firewall) => Some(firewall.elements),
            _ => None,
        });
        let add = add.flatten().map(|(key, data)| Element { key, data }).collect();
        let change = ElementChange {
            add,
            ..ElementChange::default()
        };
        change.to_string()
    };
    assert_eq!(
        words("networks"),
        "add free passage within br0, add routed bridge br0, add isolation of br0 from other networks, add isolation within 10.0.0.0/24, \
         add isolation within fd00::/64, add own subnet 10.0.0.0/24 on br0, add own subnet fd00::/64 on br0, add masquerade of 10.0.0.0/24, \
         add source 2001:db8::1 for fd00::/64, add hairpin within 10.0.0.0/24, add hairpin within fd00::/64"
    );
    assert_eq!(
        words("ports"),
        "add forward tcp [2001:db8::1]:8080 to [fd00::2]:80, add guard of a, add source 02:00:00:00:00:02 for a, add source 10.0.0.2 for a, \
         add source fd00::2 for a, add source fe80::ff:fe00:2 for a"
    );
}
