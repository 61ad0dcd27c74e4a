//! How remotes are doing, in the columns `is_connected` and `status` of the rows that ask for them (`vswitch.xml`, "Manager", "Status").

use std::collections::BTreeMap;

use nonnet_chain::Author;
use nonnet_engine::Row;
use nonnet_rpc::RemoteStatus;
use nonnet_schema::{ColumnIndex, Datum, TableIndex, TableSchema, Uuid};
use nonnet_sessions::{LocksOf, Server};
use tracing::warn;

use crate::remotes::column::DbColumn;
use crate::remotes::wanted::{referenced_rows, target_of};
use crate::state::State;

/// How remotes are doing, by target.
pub(crate) type Statuses = BTreeMap<String, RemoteStatus>;

/// A datum for a column of a row.
type Write = (TableIndex, Uuid, ColumnIndex, Datum);

impl State {
    /// Writes the status of the remotes into the rows that the columns refer to, where it is not there yet.
    pub(crate) fn write_statuses(&mut self, columns: &[DbColumn], statuses: &Statuses) {
        let mut writes: BTreeMap<&str, Vec<Write>> = BTreeMap::new();
        // Rows of another server tell of the remotes there.
        let own = |column: &&DbColumn| !self.server.is_follower(&column.database);
        for column in columns.iter().filter(own) {
            let of_column = statuses_for(&self.server, column, statuses);
            writes.entry(&column.database).or_default().extend(of_column);
        }
        for (database, writes) in writes.into_iter().filter(|(_, writes)| !writes.is_empty()) {
            let written = self
                .server
                .transact(database, &author(), self.clock.now(), |transaction| {
                    for (table, row, column, datum) in writes {
                        transaction.set(table, row, column, datum);
                    }
                });
            match written {
                Ok(commands) => self.carry_out(commands),
                Err(error) => warn!("Failed to update remote status: {error}"),
            }
        }
    }
}

/// What is not yet as it should be in the rows that a column refers to.
fn statuses_for(server: &Server, column: &DbColumn, statuses: &Statuses) -> Vec<Write> {
    let Ok(found) = column.find(server) else {
        return Vec::new();
    };
    let Some(table) = found.referenced() else {
        return Vec::new();
    };
    let schema = found.database.schema().table(table);
    let unknown = RemoteStatus::default();
    let mut writes = Vec::new();
    for row in referenced_rows(found, table) {
        let Some(target) = target_of(schema, row) else {
            continue;
        };
        let status = statuses.get(target).unwrap_or(&unknown);
        let is_connected = Datum::scalar(status.is_connected);
        let pairs = pairs_of(server, status);
        for (name, datum) in [("is_connected", is_connected), ("status", Datum::string_map(pairs))] {
            let write = differs(schema, row, name, &datum).map(|column| (table, row.uuid(), column, datum));
            writes.extend(write);
        }
    }
    writes
}

/// The column of that name, where it can hold the datum and holds another.
fn differs(table: &TableSchema, row: &Row, name: &str, datum: &Datum) -> Option<ColumnIndex> {
    let column = table.column_index(name)?;
    let type_ = &table.column(column).type_;
    let fits = datum.is_map() == type_.is_map() && datum.check(type_).is_ok();
    (fits && row.get(column) != datum).then_some(column)
}

fn pairs_of(server: &Server, status: &RemoteStatus) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    let mut put = |key, value: Option<String>| pairs.extend(value.map(|value| (key, value)));
    put("state", status.state.map(|state| state.to_string()));
    put("sec_since_connect", seconds(status, status.sec_since_connect));
    put("sec_since_disconnect", seconds(status, status.sec_since_disconnect));
    put("last_error", status.last_error.clone());
    if status.state.is_some() {
        let LocksOf { held, waiting, lost } = status
            .sessions
            .first()
            .map(|session| server.locks_of(*session))
            .unwrap_or_default();
        let names = |names: Vec<_>| Some(names.join(" ")).filter(|names| !names.is_empty());
        put("locks_held", names(held));
        put("locks_waiting", names(waiting));
        put("locks_lost", names(lost));
    }
    let connections = status.n_connections;
    put("n_connections", (connections > 1).then(|| connections.to_string()));
    put("bound_port", status.bound_port.map(|port| port.to_string()));
    pairs
}

/// A remote that listens has neither time; ovsdb-server then says 0.
fn seconds(status: &RemoteStatus, seconds: Option<u64>) -> Option<String> {
    let listens = status.state.is_none().then_some(0);
    seconds.or(listens).map(|seconds| seconds.to_string())
}

fn author() -> Author {
    Author {
        comm: "nonnetd".into(),
        remote: "remote status".into(),
        ..Author::default()
    }
}
