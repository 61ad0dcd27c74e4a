//! What state files become: the seed's blocks, our own form, and what is refused.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::path::Path;

use nonnet_schema::NONNET_SCHEMA;
use serde_json::json;

use super::*;
use crate::document::parse_documents;
use crate::wanted::{Content, RowName};

const BLOCK_0: &str = include_str!("../tests/data/seed-000-block0.json");
const BLOCK_1: &str = include_str!("../tests/data/seed-000-block1.json");
const BLOCK_2: &str = include_str!("../tests/data/seed-000-block2.json");
const EXPECTED_QUERY: &str = include_str!("../tests/data/seed-000-expected-query.json");

fn read(text: &str) -> std::result::Result<State, String> {
    read_only(text, &[])
}

fn read_only(text: &str, only: &[&str]) -> std::result::Result<State, String> {
    let schema = DatabaseSchema::from_text(NONNET_SCHEMA).unwrap();
    let documents = parse_documents(text, "f.json").map_err(|error| error.to_string())?;
    let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
    read_state(&documents, "f.json", &schema, &only).map_err(|error| error.to_string())
}

/// The rows as JSON: table, key, columns.
fn rows(text: &str) -> Value {
    let state = read(text).unwrap();
    let row = |row: &WantedRow| {
        let columns: Map<String, Value> = row
            .columns
            .iter()
            .map(|(name, wanted)| (name.clone(), wanted.friendly.clone()))
            .collect();
        json!([row.table, row.key, columns])
    };
    state.rows.iter().map(row).collect()
}

fn refused(text: &str, message: &str) {
    let found = read(text).unwrap_err();
    assert!(found.contains(message), "{found}");
}

#[test]
fn the_blocks_of_the_seed_are_containers() {
    let columns =
        json!({"veth": "vi100", "bridge": "vmbr0", "running": true, "properties": {"network_type": "netmaker"}});
    assert_eq!(rows(BLOCK_0), json!([["lxc", "100", columns]]));
    let columns = json!({
        "veth": "vi101", "bridge": "vmbr0", "running": true,
        "properties": {"network_type": "bridge", "ipv4": "192.168.1.101/24"},
    });
    assert_eq!(rows(BLOCK_1), json!([["lxc", "101", columns]]));
    let columns = json!({
        "veth": "vi102", "bridge": "vmbr0",
        "properties": {"network_type": "netmaker", "netmaker_token_env": "NETMAKER_TOKEN_PROD"},
    });
    assert_eq!(rows(BLOCK_2), json!([["lxc", "102", columns]]));
}

#[test]
fn what_query_prints_can_be_applied() {
    assert_eq!(rows(EXPECTED_QUERY), rows(BLOCK_0));
}

#[test]
fn documents_in_one_file_are_merged() {
    let both = rows(&format!("{BLOCK_0}\n{BLOCK_1}{BLOCK_2}"));
    assert_eq!(both.as_array().unwrap().len(), 3);
    let later = r#"{"id": "100", "bridge": "br1"}"#;
    let merged = rows(&format!("{BLOCK_0}{later}"));
    assert_eq!(merged[0][2]["bridge"], json!("br1"));
    assert_eq!(merged[0][2]["running"], json!(true));
}

#[test]
fn a_new_container_without_veth_gets_the_derived_one() {
    let state = read(r#"{"id": 7, "bridge": "br0"}"#).unwrap();
    assert_eq!(state.rows[0].key, "7");
    assert_eq!(state.rows[0].defaults["veth"].friendly, json!("vi7"));
    assert!(!state.rows[0].columns.contains_key("running"));
}

#[test]
fn properties_may_be_numbers_and_booleans() {
    let found = rows(r#"{"id": "1", "properties": {"memory": 512, "cores": "2", "onboot": true}}"#);
    assert_eq!(
        found[0][2]["properties"],
        json!({"memory": "512", "cores": "2", "onboot": "true"})
    );
    refused(
        r#"{"id": "1", "properties": {"features": {"nesting": 1}}}"#,
        "f.json.properties: the member \"features\": text is expected, not an object",
    );
}

#[test]
fn a_whole_host_fits_into_a_file() {
    let host = r#"{"version": 1, "_comment": "all of it", "plugins": {
        "bridges": [{"name": "br0", "mtu": 1400}],
        "networks": [{"name": "lan", "bridge": "br0", "subnets": {"10.0.0.0/24": "10.0.0.1"}, "ipam": "sequential",
                      "routes": [{"destination": "10.9.0.0/16", "gateway": "10.0.0.254"}]}],
        "ports": [{"name": "web0", "network": "lan", "netns": "web", "addresses": ["10.0.0.7/24"]}]}}"#;
    let state = read(host).unwrap();
    let by_name = |key: &str| state.rows.iter().find(|row| row.key == key).unwrap();
    assert!(
        matches!(&by_name("lan").columns["bridge"].content, Content::References(names) if *names == [RowName::Key("br0".to_owned())])
    );
    assert_eq!(
        by_name("lan").columns["routes"].friendly,
        json!([{"destination": "10.9.0.0/16", "gateway": "10.0.0.254"}])
    );
    assert_eq!(by_name("web0").columns["network"].friendly, json!("lan"));
}

#[test]
fn an_unknown_plugin_is_refused_by_its_name() {
    refused(
        r#"{"version": 1, "plugins": {"lxc": {"containers": []}, "systemd": {"units": {}}}}"#,
        "f.json: plugin \"systemd\" is not supported yet; supported are",
    );
    refused(
        r#"{"version": 1, "plugins": {"net": {"interfaces": [{"name": "ovsbr0", "type": "ovs-bridge"}]}, "openflow": {}}}"#,
        "plugins \"net\", \"openflow\" are not supported yet",
    );
    refused(
        r#"{"interfaces": [{"name": "ovsbr0", "type": "ovs-bridge"}]}"#,
        "plugin \"net\" is not supported yet",
    );
}

#[test]
fn one_plugin_of_a_file_can_be_chosen() {
    let text = r#"{"version": 1, "plugins": {"lxc": {"containers": [{"id": "1"}]}, "systemd": {}}}"#;
    assert_eq!(read_only(text, &["lxc"]).unwrap().rows.len(), 1);
    assert_eq!(
        read_only(text, &["bridges"]).unwrap_err(),
        "f.json: it has no plugin \"bridges\""
    );
}

#[test]
fn other_versions_are_refused() {
    refused(
        r#"{"version": 2, "plugins": {}}"#,
        "f.json: version: state files of version 2 are not supported",
    );
    refused(
        r#"{"version": 2, "network": {}}"#,
        "f.json: version: state files of version 2 are not supported",
    );
    refused(r#"{"plugins": {}}"#, "\"version\": 1 is missing");
    refused(r#"{"version": 1}"#, "\"plugins\" is missing");
}

#[test]
fn faults_have_the_path_to_their_place() {
    let in_lxc = |container: &str| {
        format!(r#"{{"version": 1, "plugins": {{"lxc": {{"containers": [{{"id": "1"}}, {container}]}}}}}}"#)
    };
    refused(
        &in_lxc(r#"{"veth": "x"}"#),
        "f.json: plugins.lxc.containers[1]: \"id\" is missing",
    );
    refused(
        &in_lxc(r#"{"id": "1"}"#),
        "plugins.lxc.containers[1]: \"1\" stands in f.json: plugins.lxc.containers[0] already",
    );
    refused(
        &in_lxc(r#"{"id": "2", "brigde": "br0"}"#),
        "containers[1].brigde: the table lxc has no column \"brigde\"; it has bridge",
    );
    refused(
        &in_lxc(r#"{"id": "2", "running": "maybe"}"#),
        "containers[1].running: true or false is expected, not text",
    );
    refused(
        &in_lxc(r#"{"id": "2", "status": {}}"#),
        "containers[1].status: is told by the server",
    );
    refused(&in_lxc(r#"{"id": ""}"#), "containers[1].id: must not be empty");
    refused(
        r#"{"version": 1, "plugins": {"lxc": {"container": []}}}"#,
        "\"container\" has no meaning here",
    );
    refused(
        r#"{"version": 1, "plugins": {"bridges": {}}}"#,
        "plugins.bridges: an array is expected, not an object",
    );
    refused(
        &format!("{BLOCK_0}[]"),
        "f.json: document 2: a document is an object, not an array",
    );
}

#[test]
fn every_template_of_the_seed_is_taken_or_refused_by_name() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/opdbus");
    let Ok(files) = std::fs::read_dir(shared) else { return };
    for path in files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
    {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let found = read(&std::fs::read_to_string(&path).unwrap());
        let message = match name.as_str() {
            "seed-000-nonnet-request.json" => "not a state file",
            "complete-system-state.json" => "version 2 are not supported",
            "example-privacy-network.INVALID-json-with-comments.json" => "f.json:21:39: JSON has no comments",
            "netclient-list.real-shape.json" => "a document is an object, not an array",
            _ if name.starts_with("seed-000") => {
                assert!(found.is_ok(), "{name}: {found:?}");
                continue;
            }
            _ => "not supported yet",
        };
        assert!(
            found.as_ref().is_err_and(|text| text.contains(message)),
            "{name}: {found:?}"
        );
    }
}
