//! The workloads: what is asked of a server, and how it is known that it was done.

pub mod insert;
pub mod lookup;
pub mod snapshot;

use anyhow::Result;

use crate::measure::Round;
use crate::server::Server;

/// Something both servers can be asked to do, round after round.
pub trait Workload {
    /// Its name in tables, JSON and filters: `what/how/size`.
    fn name(&self) -> String;

    /// Runs one round and proves its result. Rounds count from 0 on each server.
    ///
    /// # Errors
    /// When a reply is not as expected or the rows are not as many as they must be.
    fn round(&self, server: &Server, round: usize) -> Result<Round>;
}
