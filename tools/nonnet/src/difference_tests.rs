//! What differs between a file and the rows there are.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use nonnet_schema::NONNET_SCHEMA;

use super::*;
use crate::document::parse_documents;
use crate::state::read_state;

const BRIDGE: &str = "00000000-0000-4000-8000-000000000001";
const ROUTE: &str = "00000000-0000-4000-8000-000000000002";
const NETWORK: &str = "00000000-0000-4000-8000-000000000003";
const CONTAINER: &str = "00000000-0000-4000-8000-000000000004";
const PORT: &str = "00000000-0000-4000-8000-000000000005";

fn selected(rows: &Value) -> Vec<Map<String, Value>> {
    serde_json::from_value(rows.clone()).unwrap()
}

/// A bridge, a network on it with a route, a container and its port.
fn host(schema: &DatabaseSchema) -> Rows<'_> {
    let mut rows = Rows::none(schema);
    let mut add = |table: &str, json: Value| rows.add_table(table, &selected(&json)).unwrap();
    add(
        "bridges",
        json!([{"_uuid": ["uuid", BRIDGE], "name": "br0", "mtu": 1400, "status": ["map", [["state", "converged"]]]}]),
    );
    add(
        "routes",
        json!([{"_uuid": ["uuid", ROUTE], "destination": "10.9.0.0/16", "gateway": "10.0.0.254"}]),
    );
    add(
        "networks",
        json!([{"_uuid": ["uuid", NETWORK], "name": "lan", "bridge": ["uuid", BRIDGE], "routes": ["uuid", ROUTE]}]),
    );
    add(
        "lxc",
        json!([{"_uuid": ["uuid", CONTAINER], "id": "100", "veth": "vi100", "bridge": "br0"}]),
    );
    add(
        "ports",
        json!([{"_uuid": ["uuid", PORT], "name": "vi100", "lxc": ["uuid", CONTAINER]}]),
    );
    rows
}

fn differences(plugins: &str, prune: bool) -> Result<Vec<String>, String> {
    let schema = DatabaseSchema::from_text(NONNET_SCHEMA).unwrap();
    let documents = parse_documents(&format!("{{\"version\": 1, \"plugins\": {plugins}}}"), "f").unwrap();
    let state = read_state(&documents, "f", &schema, &[]).map_err(|error| error.to_string())?;
    let changes = compare(&state, &host(&schema), &schema, prune).map_err(|error| error.to_string())?;
    Ok(changes.iter().map(line).collect())
}

fn check(plugins: &str, prune: bool, lines: &[&str]) {
    assert_eq!(differences(plugins, prune).unwrap(), lines);
}

#[test]
fn rows_as_wanted_differ_in_nothing() {
    let route = r#"{"destination": "10.9.0.0/16", "gateway": "10.0.0.254"}"#;
    check(
        &format!(r#"{{"networks": [{{"name": "lan", "bridge": "br0", "routes": [{route}]}}]}}"#),
        true,
        &[],
    );
    check(
        r#"{"lxc": {"containers": [{"id": "100"}]}, "bridges": [{"name": "br0", "mtu": "1400"}]}"#,
        true,
        &[],
    );
}

#[test]
fn only_what_the_file_mentions_is_compared() {
    check(r#"{"bridges": [{"name": "br0"}]}"#, false, &[]);
    check(
        r#"{"bridges": [{"name": "br0", "mtu": null}]}"#,
        false,
        &["~ bridges br0: mtu 1400 -> -"],
    );
}

#[test]
fn a_changed_route_is_a_change_of_its_owner() {
    let plugins = r#"{"networks": [{"name": "lan", "routes": [{"destination": "10.9.0.0/16"}]}]}"#;
    let line = "~ networks lan: routes {destination=10.9.0.0/16, gateway=10.0.0.254} -> {destination=10.9.0.0/16}";
    check(plugins, false, &[line]);
}

#[test]
fn referred_rows_come_before_those_that_refer() {
    let plugins = r#"{"lxc": {"containers": [{"id": "101", "bridge": "br1"}]},
        "networks": [{"name": "wan", "bridge": "br1"}], "bridges": [{"name": "br1"}]}"#;
    let lines = [
        "+ bridges br1",
        "+ lxc 101: bridge br1, veth vi101",
        "+ networks wan: bridge br1",
    ];
    check(plugins, false, &lines);
}

#[test]
fn prune_deletes_what_the_named_tables_have_more() {
    check(r#"{"lxc": {"containers": []}}"#, false, &[]);
    check(r#"{"lxc": {"containers": []}}"#, true, &["- lxc 100"]);
    // The port of a container is the server's own.
    check(r#"{"ports": []}"#, true, &[]);
    check(
        r#"{"bridges": [], "networks": []}"#,
        true,
        &["- networks lan", "- bridges br0"],
    );
}

#[test]
fn a_reference_to_nothing_is_refused() {
    let plugins = r#"{"networks": [{"name": "lan", "bridge": "br9"}]}"#;
    assert_eq!(
        differences(plugins, false).unwrap_err(),
        "f: plugins.networks[0].bridge: there is no \"br9\" in bridges, neither in the file nor in the database"
    );
}
