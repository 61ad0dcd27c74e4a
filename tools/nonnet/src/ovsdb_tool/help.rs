//! What `ovsdb-tool` says of itself.

use std::fmt::Write as _;

use nonnet_schema::OVSDB_SERVER_VERSION;

use super::NAME;
use super::arguments::{COMMANDS, default_db, default_schema};

/// `--version`: scripts read the first line.
pub(super) fn version() -> String {
    let own = env!("CARGO_PKG_VERSION");
    format!("{NAME} (Open vSwitch) {OVSDB_SERVER_VERSION}\nthat is nonnet {own}, in its place\n")
}

/// `--help`.
pub(super) fn usage() -> String {
    format!(
        "\
{NAME}: Open vSwitch database management utility
usage: {NAME} [OPTIONS] COMMAND [ARG...]
  create [DB [SCHEMA]]    create DB with the given SCHEMA
  compact [DB [DST]]      compact DB in-place (or to DST)
  convert [DB [SCHEMA [DST]]]   convert DB to SCHEMA (to DST)
  needs-conversion [DB [SCHEMA]]   report whether they differ
  db-name [DB]            report name of schema used by DB
  db-version [DB]         report version of schema used by DB
  db-cksum [DB]           report checksum of schema used by DB
  db-is-clustered DB      test whether DB is clustered
  db-is-standalone DB     test whether DB is standalone
  schema-name [SCHEMA]    report SCHEMA's name
  schema-version [SCHEMA] report SCHEMA's schema version
  schema-cksum [SCHEMA]   report SCHEMA's checksum
  compare-versions A OP B  compare OVSDB schema version numbers
  query [DB] TRNS         execute read-only transaction on DB
  transact [DB] TRNS      execute read/write transaction on DB
  [-m]... show-log [DB]   print DB's log entries
The default DB is {}.
The default SCHEMA is {}.
Each DB may be a file of ovsdb-server or one of nonnet.
Clustered (Raft) databases are not supported.

Options:
  -m, --more                  increase show-log verbosity
  --rbac-role=ROLE            RBAC role for transact and query commands
  -v, --verbose[=SPEC]        accepted, without effect
  -h, --help                  display this help message
  -V, --version               display version information
",
        default_db().display(),
        default_schema().display()
    )
}

/// `list-commands`.
pub(super) fn commands() -> String {
    let mut text = String::from("The available commands are:\n");
    for (name, words, ..) in COMMANDS {
        let _infallible = writeln!(text, "  {name:<22}  {words}");
    }
    text
}
