//! The schemas that every server has with it.

/// The text of the schema of `OpNonNet`, the wanted state of a host's networks.
pub const NONNET_SCHEMA: &str = include_str!("../schemas/nonnet.ovsschema");

/// The text of the schema of `_Server`, the list of databases (ovsdb-server(5)).
pub const SERVER_SCHEMA: &str = include_str!("../schemas/_server.ovsschema");
