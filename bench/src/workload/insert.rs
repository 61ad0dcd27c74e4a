//! One row per transaction: waiting for each reply, with many outstanding, from many clients; durable or not.

use std::time::Duration;

use anyhow::Result;

use super::Workload;
use crate::drive;
use crate::measure::Round;
use crate::request::Requests;
use crate::row;
use crate::server::{Durability, Server};

/// How the inserts arrive.
#[derive(Clone, Copy, Debug)]
pub enum Arrival {
    /// On one connection, each after the reply to the one before.
    OneByOne,
    /// On one connection, so many at a time without a reply.
    Outstanding(usize),
    /// From so many clients, each as [`Arrival::OneByOne`].
    Clients(usize),
}

/// Inserts into a table that nothing else fills.
#[derive(Clone, Copy, Debug)]
pub struct Insert {
    /// How they arrive.
    pub arrival: Arrival,
    /// What each reply promises.
    pub durability: Durability,
    /// Rows per round.
    pub rows: usize,
}

impl Insert {
    /// The inserts of rows `first..first + count`.
    fn requests(&self, first: usize, count: usize) -> Requests {
        let mut requests = Requests::default();
        for number in first..first + count {
            requests.transact(
                &row::insert(number),
                self.durability == Durability::Durable,
                r#""uuid":["uuid","#,
            );
        }
        requests
    }
}

impl Workload for Insert {
    fn name(&self) -> String {
        let arrival = match self.arrival {
            Arrival::OneByOne => "one-by-one".to_owned(),
            Arrival::Outstanding(count) => format!("{count}-outstanding"),
            Arrival::Clients(count) => format!("{count}-clients"),
        };
        match self.durability {
            Durability::Durable => format!("insert-durable/{arrival}"),
            Durability::Relaxed => format!("insert/{arrival}"),
        }
    }

    fn round(&self, server: &Server, round: usize) -> Result<Round> {
        let clients = if let Arrival::Clients(count) = self.arrival {
            count.max(1)
        } else {
            1
        };
        let per_client = self.rows.div_ceil(clients);
        let first = round * per_client * clients;
        let lists: Vec<Requests> = (0..clients)
            .map(|client| self.requests(first + client * per_client, per_client))
            .collect();
        let measured = match (self.arrival, lists.as_slice()) {
            (Arrival::OneByOne, [requests]) => drive::one_by_one(server, requests, Duration::MAX),
            (Arrival::Outstanding(count), [requests]) => drive::outstanding(server, requests, count),
            (_, lists) => drive::clients(server, lists),
        }?;
        server.expect_rows(first + per_client * clients)?;
        Ok(measured)
    }
}
