//! Routes of ports and of the host, and settings of ports.

use nonnet_hooks::object::{NetnsRef, Object, Port};
use serde_json::json;

use crate::fixture::{Host, insert, named, objects, port};

fn only_port(desired: &[(nonnet_hooks::object::Owner, nonnet_hooks::reconcile::Desired)]) -> Port {
    let [Object::Port(port)] = &objects(desired, "ports")[..] else {
        panic!("{desired:?}")
    };
    port.clone()
}

#[test]
fn routes_of_every_kind() {
    let mut host = Host::new();
    let desired = host.commit(&json!([
        insert("routes", &json!({"destination": "10.1.0.0/16", "kind": "blackhole"})),
        insert("routes", &json!({"destination": "10.2.0.0/16", "kind": "unreachable", "metric": 5})),
        insert("routes", &json!({"destination": "10.3.0.0/16", "kind": "prohibit", "table": 100})),
        insert("routes", &json!({"destination": "10.4.0.0/16", "kind": "unicast", "source": "10.0.0.2"})),
        port("a", &json!({"addresses": "10.0.0.2/24", "routes": ["set", [
            named("routes", "10.1.0.0/16"), named("routes", "10.2.0.0/16"), named("routes", "10.3.0.0/16"), named("routes", "10.4.0.0/16"),
        ]]})),
    ]));
    let mut routes: Vec<String> = only_port(&desired).routes.iter().map(ToString::to_string).collect();
    routes.sort();
    assert_eq!(
        routes,
        [
            "10.4.0.0/16 src 10.0.0.2",
            "blackhole 10.1.0.0/16",
            "prohibit 10.3.0.0/16 table 100",
            "unreachable 10.2.0.0/16 metric 5",
        ]
    );
    let hole = json!({"destination": "10.5.0.0/16", "kind": "blackhole", "gateway": "10.0.0.1"});
    assert_eq!(
        host.refuse(&json!([
            insert("routes", &hole),
            port(
                "b",
                &json!({"addresses": "10.0.1.2/24", "routes": named("routes", "10.5.0.0/16")})
            ),
        ])),
        "table routes, row \"10.5.0.0/16\", column gateway: a route of kind blackhole leads nowhere"
    );
}

#[test]
fn routes_of_the_host_have_gateways_or_lead_nowhere() {
    let mut host = Host::new();
    let routes = json!({"routes": ["set", [named("routes", "10.1.0.0/16"), named("routes", "10.2.0.0/16")]]});
    let desired = host.commit(&json!([
        insert("routes", &json!({"destination": "10.1.0.0/16", "gateway": "192.0.2.1"})),
        insert("routes", &json!({"destination": "10.2.0.0/16", "kind": "blackhole"})),
        {"op": "update", "table": "host", "where": [], "row": routes},
    ]));
    let [Object::Routes(routes)] = &objects(&desired, "host")[..] else {
        panic!("{desired:?}")
    };
    assert_eq!((&routes.netns, routes.routes.len()), (&NetnsRef::Host, 2));
    let details = host.refuse(&json!([
        insert("routes", &json!({"destination": "10.3.0.0/16"})),
        {"op": "update", "table": "host", "where": [], "row": {"routes": named("routes", "10.3.0.0/16")}},
    ]));
    assert!(details.contains("needs a gateway"), "{details}");
}

#[test]
fn default_route_has_a_rank_or_is_left_out() {
    let mut host = Host::new();
    let of = |name: &str, value: &str| {
        port(
            name,
            &json!({"addresses": format!("10.{}.0.2/24", name.len()), "gateways": format!("10.{}.0.1", name.len()),
            "options": ["map", [["default_route", value]]]}),
        )
    };
    let with = only_port(&host.commit(&json!([of("a", "7")])));
    assert_eq!((with.rank, with.defaults.len()), (7, 1));
    let without = only_port(&host.commit(&json!([of("bb", "false")])));
    assert_eq!(without.defaults.len(), 0);
    let details = host.refuse(&json!([of("ccc", "maybe")]));
    assert!(details.contains("default_route \"maybe\" is neither"), "{details}");
}

#[test]
fn settings_are_those_of_the_ports_own_namespace() {
    let mut host = Host::new();
    let of = |key: &str| port("a", &json!({"ifname": "lan.7", "sysctls": ["map", [[key, "1"]]]}));
    let port = only_port(&host.commit(&json!([of("net.ipv4.conf.IFNAME.arp_ignore")])));
    assert_eq!(
        port.sysctls
            .get("ipv4/conf/lan.7/arp_ignore")
            .map(ecow::EcoString::as_str),
        Some("1")
    );
    host.commit(&json!([{"op": "delete", "table": "ports", "where": []}]));
    for key in ["kernel.panic", "net.ipv4.conf.eth1.rp_filter", "net/../kernel/panic"] {
        let details = host.refuse(&json!([of(key)]));
        assert!(
            details.starts_with("table ports, row \"a\", column sysctls: "),
            "{details}"
        );
    }
}
