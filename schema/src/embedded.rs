//! The schemas that the server brings along.

/// The schema of `OpNonNet`: the wanted state of a host's networks.
pub const NONNET_SCHEMA: &str = include_str!("../schemas/nonnet.ovsschema");

/// The schema of `_Server`, which tells clients what databases there are (ovsdb-server(5), version 1.2.0).
pub const SERVER_SCHEMA: &str = include_str!("../schemas/_server.ovsschema");

/// The schema of `_Nonnet`, in which any client reads who committed what, and who is connected.
///
/// `Commit` has a row for each record of the databases' logs; its `_uuid` is the transaction id that `monitor_cond_since` tells. `time` is in
/// microseconds since 1970; `uid`, `gid` and `pid` are empty where unknown, as for what the server itself did. `details` has what else is
/// known of who it was (`certificate`, `role`). `changes` is JSON text, an array of objects with `table`, `uuid`, `op` (`insert`, `modify`,
/// `delete`) and `columns`, by name objects with `old` and `new` in the notation of RFC 7047 (for a large set or map `gone` and `come`, the
/// elements that went and came). `n_rows` counts all changed rows; `cut` tells that `comments`, `tables`, `rows` or `changes` have not all.
///
/// `Session` has a row for each connection; `waiting` counts its transactions that wait, `backlog` the bytes that it has not read yet.
pub const AUDIT_SCHEMA: &str = include_str!("../schemas/_nonnet.ovsschema");

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use crate::DatabaseSchema;

    #[test]
    fn server_schema_is_that_of_ovsdb_server() {
        let schema = DatabaseSchema::from_text(SERVER_SCHEMA).unwrap();
        let expected = concat!(
            r#"{"cksum":"3009684573 744","name":"_Server","tables":{"Database":{"columns":{"cid":{"type":{"key":"uuid","min":0}},"#,
            r#""connected":{"type":"boolean"},"index":{"type":{"key":"integer","min":0}},"leader":{"type":"boolean"},"#,
            r#""model":{"type":{"key":{"enum":["set",["clustered","relay","standalone"]],"type":"string"}}},"name":{"type":"string"},"#,
            r#""schema":{"type":{"key":"string","min":0}},"sid":{"type":{"key":"uuid","min":0}}}}},"version":"1.2.0"}"#
        );
        assert_eq!(schema.to_text(), expected);
    }

    #[test]
    fn nonnet_schema_keeps_the_five_columns_of_lxc() {
        let schema = DatabaseSchema::from_text(NONNET_SCHEMA).unwrap();
        let lxc = schema.table(schema.table_index("lxc").unwrap());
        let persistent = lxc.declared_columns().filter(|(_, column)| column.persistent);
        let names: Vec<&str> = persistent.map(|(_, column)| column.name.as_str()).collect();
        assert_eq!(names, ["bridge", "id", "properties", "running", "veth"]);
    }
}
