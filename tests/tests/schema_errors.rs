//! Schemas that must be refused, each with its message: proven on `ovsdb-tool create`, met by `nonnetd --schema`.

use nonnet_tests::case;
use nonnet_tests::program;
use nonnet_tests::server::{Kind, Server};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct SchemaError {
    case: String,
    schema: Value,
    error: String,
}

#[test]
fn ovsdb_tool_refuses_bad_schemas() {
    let directory = tempfile::tempdir().unwrap();
    let (database, schema) = (directory.path().join("db"), directory.path().join("schema"));
    let tool = program::system("ovsdb-tool").unwrap();
    for SchemaError {
        case,
        schema: value,
        error,
    } in load()
    {
        std::fs::write(&schema, value.to_string()).unwrap();
        let output = program::run(
            &tool,
            &["create".as_ref(), database.as_os_str(), schema.as_os_str()],
            b"",
        )
        .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{case}: accepted");
        assert!(
            stderr.trim_end().ends_with(&format!("as ovsdb schema: {error}")),
            "{case}: {stderr}"
        );
    }
}

#[test]
fn nonnetd_refuses_bad_schemas_with_the_same_words() {
    let mut failures = Vec::new();
    for SchemaError { case, schema, error } in load() {
        let mut server = Server::prepare(Kind::Nonnetd, &schema).unwrap();
        let code = server.run_to_end().unwrap();
        if code == Some(0) || !server.stderr().contains(&error) {
            failures.push(format!(
                "{case}: exit {code:?}, expected {error:?} in {:?}",
                server.stderr()
            ));
        }
        if server.file().exists() {
            failures.push(format!("{case}: a database file was left behind"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn load() -> Vec<SchemaError> {
    let text = std::fs::read_to_string(case::directory().join("schema_errors.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}
