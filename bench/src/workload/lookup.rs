//! One row of a filled table, found by its UUID or by an indexed column: read, or changed.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Workload;
use crate::drive;
use crate::measure::Round;
use crate::request::Requests;
use crate::row;
use crate::server::Server;

/// What is done with the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// All its columns are read.
    Select,
    /// One column gets another value.
    Update,
}

/// How `where` names the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// By `_uuid`.
    Uuid,
    /// By the column of the table's index.
    Index,
}

/// Selects or updates of single rows in random order, each after the reply to the one before.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// What is done.
    pub action: Action,
    /// How the row is found.
    pub key: Key,
    /// Rows in the table.
    pub rows: usize,
    /// Operations in a round, at most.
    pub operations: usize,
    /// Time of a round, at most.
    pub time_max: Duration,
}

impl Lookup {
    fn add(&self, requests: &mut Requests, step: usize) {
        let name = self.row_name(step);
        let condition = match self.key {
            Key::Uuid => format!(r#"["_uuid","==",["uuid","{}"]]"#, row::uuid(row::pick(step, self.rows))),
            Key::Index => format!(r#"["name","==","{name}"]"#),
        };
        match self.action {
            Action::Select => {
                let operation = format!(r#"{{"op":"select","table":"port","where":[{condition}]}}"#);
                requests.transact(&operation, false, &format!(r#""name":"{name}""#));
            }
            Action::Update => {
                let ofport = self.ofport(step);
                let operation =
                    format!(r#"{{"op":"update","table":"port","where":[{condition}],"row":{{"ofport":{ofport}}}}}"#);
                requests.transact(&operation, false, r#"[{"count":1}]"#);
            }
        }
    }

    fn row_name(&self, step: usize) -> String {
        row::name(row::pick(step, self.rows))
    }

    /// The value that an update writes: one that no row has, neither from its insert nor from a step of this or the other key.
    fn ofport(&self, step: usize) -> usize {
        self.rows + 2 * step + usize::from(self.key == Key::Index)
    }

    /// Fails unless the row of this step has the value that the step wrote.
    fn expect_written(&self, server: &Server, step: usize) -> Result<()> {
        let name = self.row_name(step);
        let operation =
            format!(r#"{{"op":"select","table":"port","where":[["name","==","{name}"]],"columns":["ofport"]}}"#);
        let mut requests = Requests::default();
        requests.transact(&operation, false, &format!(r#"[{{"ofport":{}}}]"#, self.ofport(step)));
        drive::one_by_one(server, &requests, Duration::MAX).context("read what the last update wrote")?;
        Ok(())
    }
}

impl Workload for Lookup {
    fn name(&self) -> String {
        let action = if self.action == Action::Select {
            "select"
        } else {
            "update"
        };
        let key = if self.key == Key::Uuid { "by-uuid" } else { "by-index" };
        format!("{action}/{key}/{}-rows", self.rows)
    }

    fn round(&self, server: &Server, round: usize) -> Result<Round> {
        let first = round * self.operations;
        let mut requests = Requests::default();
        (first..first + self.operations).for_each(|step| self.add(&mut requests, step));
        let measured = drive::one_by_one(server, &requests, self.time_max)?;
        if self.action == Action::Update {
            self.expect_written(server, first + measured.operations - 1)?;
        }
        Ok(measured)
    }
}
