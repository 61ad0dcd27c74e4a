//! A whole table in one reply: the start of a monitor, and a select without a condition.

use anyhow::{Result, ensure};
use memchr::memmem;

use super::Workload;
use crate::connection::check;
use crate::measure::{Clock, Round};
use crate::request::Requests;
use crate::row;
use crate::server::Server;

/// How the table is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `monitor` (RFC 7047 4.1.5).
    Monitor,
    /// `monitor_cond` (ovsdb-server(7) 4.1.12).
    MonitorCond,
    /// `select` of all rows and columns.
    Select,
}

/// One client asks for all rows and columns of the table.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// How.
    pub method: Method,
    /// Rows in the table.
    pub rows: usize,
}

impl Snapshot {
    fn request(self) -> Requests {
        let mut requests = Requests::default();
        let database = row::DATABASE;
        match self.method {
            Method::Monitor => requests.push("monitor", &format!(r#""{database}","m",{{"port":{{}}}}"#), "port"),
            Method::MonitorCond => {
                requests.push(
                    "monitor_cond",
                    &format!(r#""{database}","m",{{"port":[{{}}]}}"#),
                    "port",
                );
            }
            Method::Select => requests.transact(r#"{"op":"select","table":"port","where":[]}"#, false, "port"),
        }
        requests
    }

    /// What stands once per row in the reply.
    fn row_mark(self) -> &'static [u8] {
        match self.method {
            Method::Monitor => b"\"new\":{",
            Method::MonitorCond => b"\"initial\":{",
            Method::Select => b"\"_uuid\":[",
        }
    }
}

impl Workload for Snapshot {
    fn name(&self) -> String {
        let method = match self.method {
            Method::Monitor => "monitor",
            Method::MonitorCond => "monitor_cond",
            Method::Select => "select",
        };
        format!("{method}/all/{}-rows", self.rows)
    }

    fn round(&self, server: &Server, round: usize) -> Result<Round> {
        change_a_row(server, round, self.rows)?;
        let requests = self.request();
        let mut connection = server.connect()?;
        let clock = Clock::start(server)?;
        connection.send(requests.bytes(0..1))?;
        let reply = connection.receive()?;
        let latency = clock.elapsed();
        let measured = clock.stop(server, 1, vec![latency])?;
        check(reply, requests.expected(0))?;
        let found = memmem::find_iter(reply, self.row_mark()).count();
        ensure!(
            found == self.rows,
            "{} rows in the table, but {found} in the reply",
            self.rows
        );
        Ok(measured)
    }
}

/// A commit before each snapshot, so that none is answered with what was encoded for another.
fn change_a_row(server: &Server, round: usize, rows: usize) -> Result<()> {
    let uuid = row::uuid(row::pick(round, rows));
    let operation = format!(
        r#"{{"op":"mutate","table":"port","where":[["_uuid","==",["uuid","{uuid}"]]],"mutations":[["ofport","+=",1]]}}"#
    );
    let mut requests = Requests::default();
    requests.transact(&operation, false, r#"[{"count":1}]"#);
    let mut connection = server.connect()?;
    connection.send(requests.bytes(0..1))?;
    check(connection.receive()?, requests.expected(0))?;
    server.cpu_time_at_rest()?;
    Ok(())
}
