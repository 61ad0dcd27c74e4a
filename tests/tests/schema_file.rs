//! The schema of `OpNonNet` is one that ovsdb-server serves.

use nonnet_schema::{DatabaseSchema, NONNET_SCHEMA};
use nonnet_tests::program::{repository, run, system};

#[test]
fn schema_of_nonnet_loads_in_ovsdb_tool() {
    let schema = repository().join("schema/schemas/nonnet.ovsschema");
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("nonnet.db");
    let tool = system("ovsdb-tool").unwrap();
    let check = |arguments: &[&std::ffi::OsStr], expected: &str| {
        let output = run(&tool, arguments, b"").unwrap();
        let (said, complained) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{complained}");
        assert_eq!((said.as_ref(), complained.as_ref()), (expected, ""));
    };
    check(&["create".as_ref(), database.as_os_str(), schema.as_os_str()], "");
    check(&["db-name".as_ref(), database.as_os_str()], "OpNonNet\n");
    let version = DatabaseSchema::from_text(NONNET_SCHEMA).unwrap().version;
    check(&["db-version".as_ref(), database.as_os_str()], &format!("{version}\n"));
}
