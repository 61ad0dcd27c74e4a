//! Rows that cannot be are refused in words that name the row, the column and the reason; nothing of the transaction is kept.

use nonnet_tests::host::{Host, bridge_and_network, delete, insert, port, update};
use serde_json::{Value, json};

/// A server with a bridge, a network and a port.
fn host() -> Host {
    let mut host = Host::start_with(&["--kernel", "off"]);
    let mut operations = bridge_and_network("br0", "n0", &[("10.40.0.0/24", "10.40.0.1")]);
    operations.push(insert(
        "ports",
        "port",
        &json!({"name": "p0", "netns": "c0", "network": ["named-uuid", "network"], "addresses": "10.40.0.7"}),
    ));
    host.transact(&operations);
    host
}

fn everything(host: &mut Host) -> Vec<Value> {
    ["bridges", "networks", "ports", "lxc", "leases", "routes"]
        .iter()
        .flat_map(|table| host.rows(table))
        .collect()
}

/// Fails unless the operations are refused with this error and leave everything as it was.
#[track_caller]
fn check(host: &mut Host, operations: &[Value], tag: &str, details: &str) {
    let before = everything(host);
    let (got_tag, got_details) = host.refused(operations);
    assert_eq!((got_tag.as_str(), without_uuids(&got_details).as_str()), (tag, details));
    assert_eq!(everything(host), before);
}

/// The text with `<uuid>` in place of each UUID.
fn without_uuids(text: &str) -> String {
    let is_uuid = |word: &str| word.len() == 36 && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    let words = text.split(' ').map(|word| {
        let bare = word.trim_end_matches(',');
        if is_uuid(bare) {
            word.replace(bare, "<uuid>")
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<String>>().join(" ")
}

/// A row of its own in a table.
fn row(table: &str, row: &Value) -> [Value; 1] {
    [insert(table, "this", row)]
}

fn network(row: &Value) -> [Value; 1] {
    let mut row = row.clone();
    row["name"] = json!("n1");
    [insert("networks", "this", &row)]
}

/// A port on network `n0` with these columns.
fn port_row(host: &mut Host, columns: &Value) -> [Value; 1] {
    let mut row = json!({"name": "p1", "netns": "c1", "network": ["uuid", host.row("networks", "n0")["_uuid"]]});
    for (name, datum) in columns.as_object().into_iter().flatten() {
        row[name] = datum.clone();
    }
    [insert("ports", "this", &row)]
}

#[test]
fn names_of_more_than_15_bytes_are_refused() {
    let mut host = host();
    check(
        &mut host,
        &row("bridges", &json!({"name": "abcdefghijklmnop"})),
        "constraint violation",
        "table bridges, row \"abcdefghijklmnop\", column name: link name \"abcdefghijklmnop\" has 16 bytes; at most 15 are possible",
    );
    let operations = port_row(&mut host, &json!({"name": "abcdefghijklmnop"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"abcdefghijklmnop\", column name: link name \"abcdefghijklmnop\" has 16 bytes; at most 15 are possible",
    );
    let operations = port_row(&mut host, &json!({"ifname": "abcdefghijklmnop"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"p1\", column ifname: link name \"abcdefghijklmnop\" has 16 bytes; at most 15 are possible",
    );
    let lxc = json!({"id": "12345678901234", "bridge": "br0", "properties": ["map", [["network_type", "bridge"]]]});
    check(
        &mut host,
        &row("lxc", &lxc),
        "constraint violation",
        "table lxc, row \"12345678901234\", column id: as veth is empty: link name \"vi12345678901234\" has 16 bytes; at most 15 are possible",
    );
    let lxc = json!({"id": "101", "veth": "veth/of/101", "bridge": "br0"});
    check(
        &mut host,
        &row("lxc", &lxc),
        "constraint violation",
        "table lxc, row \"101\", column veth: link name \"veth/of/101\" has a character that no link name can have (space, '/', ':', control)",
    );
}

#[test]
fn names_that_are_taken_are_refused() {
    let mut host = host();
    let lxc = json!({"id": "101", "veth": "p0", "bridge": "br0"});
    check(
        &mut host,
        &row("lxc", &lxc),
        "constraint violation",
        "table lxc, row \"101\", column veth: link name \"p0\" is taken by port \"p0\"",
    );
    let operations = port_row(&mut host, &json!({"name": "br0"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"br0\", column name: link name \"br0\" is taken by bridge \"br0\"",
    );
    let operations = port_row(&mut host, &json!({"netns": "/run/netns/c0"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"p1\", column ifname: link name \"eth0\" is taken in namespace /run/netns/c0 by port \"p0\"",
    );
    check(
        &mut host,
        &row("bridges", &json!({"name": "br0"})),
        "constraint violation",
        "Transaction causes multiple rows in \"bridges\" table to have identical values (br0) for index on column \"name\".  First row, with UUID <uuid>, was inserted by this transaction.  Second row, with UUID <uuid>, existed in the database before this transaction and was not modified by the transaction.",
    );
    check(
        &mut host,
        &row("bridges", &json!({"name": "lo"})),
        "constraint violation",
        "table bridges, row \"lo\", column name: link name \"lo\" is the kernel's own",
    );
}

#[test]
fn subnets_that_overlap_are_refused() {
    let mut host = host();
    let subnets = |subnet: &str, gateway: &str| json!({"subnets": ["map", [[subnet, gateway]]]});
    check(
        &mut host,
        &network(&subnets("10.40.0.128/25", "")),
        "constraint violation",
        "table networks, row \"n1\", column subnets: subnet 10.40.0.128/25 overlaps 10.40.0.0/24 of network \"n0\"",
    );
    check(
        &mut host,
        &network(&subnets("10.0.0.0/8", "")),
        "constraint violation",
        "table networks, row \"n1\", column subnets: subnet 10.0.0.0/8 overlaps 10.40.0.0/24 of network \"n0\"",
    );
    check(
        &mut host,
        &network(&subnets("10.41.0.5/24", "")),
        "constraint violation",
        "table networks, row \"n1\", column subnets: \"10.41.0.5/24\" has host bits set; the subnet is 10.41.0.0/24",
    );
    check(
        &mut host,
        &network(&subnets("10.41.0.0/24", "10.42.0.1")),
        "constraint violation",
        "table networks, row \"n1\", column subnets: gateway 10.42.0.1 is not in subnet 10.41.0.0/24",
    );
    check(
        &mut host,
        &network(&subnets("10.41.0.0/24", "10.41.0.255")),
        "constraint violation",
        "table networks, row \"n1\", column subnets: gateway 10.41.0.255 is the broadcast address of 10.41.0.0/24",
    );
    check(
        &mut host,
        &network(&subnets("10.41.0.0/33", "")),
        "constraint violation",
        "table networks, row \"n1\", column subnets: \"10.41.0.0/33\" is not a subnet (such as 10.0.0.0/24)",
    );
    check(
        &mut host,
        &[update(
            "networks",
            "n0",
            &json!({"subnets": ["map", [["10.40.0.0/24", "10.40.0.7"]]]}),
        )],
        "constraint violation",
        "table ports, row \"p0\", column addresses: 10.40.0.7 is the gateway of network \"n0\"",
    );
    let range = json!({"subnets": ["map", [["10.41.0.0/24", ""]]], "ranges": "10.41.1.1-10.41.1.9"});
    check(
        &mut host,
        &network(&range),
        "constraint violation",
        "table networks, row \"n1\", column ranges: range \"10.41.1.1-10.41.1.9\" is not within one of the network's subnets",
    );
}

#[test]
fn an_address_that_is_in_use_is_refused() {
    let mut host = host();
    let operations = port_row(&mut host, &json!({"addresses": "10.40.0.7"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"p1\", column addresses: 10.40.0.7 is in use by port \"p0\"",
    );
    let operations = port_row(&mut host, &json!({"addresses": "10.40.0.1"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"p1\", column addresses: 10.40.0.1 is the gateway of network \"n0\"",
    );
    let operations = port_row(&mut host, &json!({"addresses": "10.44.0.1"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"p1\", column addresses: 10.44.0.1 is in no subnet of network \"n0\"",
    );
    let operations = port_row(&mut host, &json!({"addresses": "10.40.0.7/16"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"p1\", column addresses: \"10.40.0.7/16\" has another prefix length than its subnet 10.40.0.0/24",
    );
    let lxc = json!({"id": "101", "bridge": "br0", "properties": ["map", [["ipv4", "10.40.0.7/24"]]]});
    check(
        &mut host,
        &row("lxc", &lxc),
        "constraint violation",
        "table lxc, row \"101\", column properties:ipv4: 10.40.0.7 is in use by port \"p0\"",
    );
    let lxc = json!({"id": "101", "bridge": "br0", "properties": ["map", [["ipv4", "10.40.0.300/24"]]]});
    check(
        &mut host,
        &row("lxc", &lxc),
        "constraint violation",
        "table lxc, row \"101\", column properties:ipv4: \"10.40.0.300\" is not an IP address",
    );
}

#[test]
fn a_bridge_in_use_cannot_be_deleted() {
    let mut host = host();
    check(
        &mut host,
        &[delete("bridges", "br0")],
        "referential integrity violation",
        "cannot delete bridges row <uuid> because of 1 remaining reference(s)",
    );
}

#[test]
fn columns_that_are_no_column_or_no_value_are_refused() {
    let mut host = host();
    check(
        &mut host,
        &row("bridges", &json!({"name": "br1", "color": "red"})),
        "unknown column",
        "No column color in table bridges.",
    );
    check(
        &mut host,
        &row("bridges", &json!({"name": "br1", "mac": "red"})),
        "constraint violation",
        "table bridges, row \"br1\", column mac: \"red\" is not the hardware address of one link (such as 02:00:00:00:00:01)",
    );
    check(
        &mut host,
        &row("bridges", &json!({"name": "br1", "mac": "01:00:5e:00:00:01"})),
        "constraint violation",
        "table bridges, row \"br1\", column mac: \"01:00:5e:00:00:01\" is not the hardware address of one link (such as 02:00:00:00:00:01)",
    );
    let operations = port_row(&mut host, &json!({"mac": "02:00:00:00:00"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"p1\", column mac: \"02:00:00:00:00\" is not the hardware address of one link (such as 02:00:00:00:00:01)",
    );
    check(
        &mut host,
        &row("bridges", &json!({"name": "br1", "mtu": 12})),
        "constraint violation",
        "12 is not in the valid range 68 to 65535 (inclusive)",
    );
    let operations = port_row(&mut host, &json!({"gateways": "10.50.0.1"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"p1\", column gateways: gateway 10.50.0.1 is in no subnet of the port",
    );
    let operations = port_row(&mut host, &json!({"netns": "no/path"}));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"p1\", column netns: \"no/path\" is neither a namespace's name, nor its path (from '/'), nor the id of a process",
    );
    check(
        &mut host,
        &[update("ports", "p0", &json!({"name": "p2"}))],
        "constraint violation",
        "Cannot update immutable column name in table ports.",
    );
    check(
        &mut host,
        &[json!({"op": "insert", "table": "bridge", "row": {}})],
        "syntax error",
        "Parsing ovsdb operation 1 of 1 failed: No table named bridge.",
    );
    let lxc = json!({"id": "101", "bridge": "br0", "properties": ["map", [["mtu", "big"]]]});
    check(
        &mut host,
        &row("lxc", &lxc),
        "constraint violation",
        "table lxc, row \"101\", column properties:mtu: an MTU is a number from 68 to 65535",
    );
}

#[test]
fn one_bad_row_keeps_a_hundred_good_ones_out() {
    let mut host = host();
    let mut operations = bridge_and_network("br1", "n1", &[("10.45.0.0/24", "10.45.0.1")]);
    operations.extend((0..100).map(|number| port(&format!("q{number}"), &format!("d{number}"))));
    operations.push(port("q7", "elsewhere"));
    check(
        &mut host,
        &operations,
        "constraint violation",
        "table ports, row \"q7\", column name: link name \"q7\" is taken by port \"q7\"",
    );
}
