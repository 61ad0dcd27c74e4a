//! What one round measured, and the medians of several.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::server::Server;

/// One round of a workload on one server.
#[derive(Clone, Debug)]
pub struct Round {
    /// Operations done, all of them checked.
    pub operations: usize,
    /// From the first request to the last reply.
    pub wall: Duration,
    /// What the server's threads ran meanwhile, user and system time.
    pub cpu: Duration,
    /// From a request to its reply, sorted; empty where requests are outstanding together.
    pub latencies: Vec<Duration>,
}

/// The medians of a workload's rounds on one server, each per operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// Wall clock per operation, in nanoseconds.
    pub wall_ns: f64,
    /// The server's CPU time per operation, in nanoseconds.
    pub cpu_ns: f64,
    /// Half of the replies came within this time, in nanoseconds.
    pub p50_ns: Option<f64>,
    /// Of a hundred replies 99 came within this time, in nanoseconds.
    pub p99_ns: Option<f64>,
}

/// A running clock beside the server's CPU clock.
#[derive(Debug)]
pub struct Clock {
    cpu: Duration,
    started: Instant,
}

impl Clock {
    /// Starts both.
    pub fn start(server: &Server) -> Result<Self> {
        Ok(Self {
            cpu: server.cpu_time()?,
            started: Instant::now(),
        })
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Stops the wall clock, and the CPU clock once the server rests: a round of `operations` with these latencies.
    pub fn stop(self, server: &Server, operations: usize, mut latencies: Vec<Duration>) -> Result<Round> {
        let wall = self.started.elapsed();
        let cpu = server.cpu_time_at_rest()?.saturating_sub(self.cpu);
        latencies.sort_unstable();
        Ok(Round {
            operations,
            wall,
            cpu,
            latencies,
        })
    }
}

impl Round {
    /// The latency that this share of the replies kept, in nanoseconds.
    fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        let latency = self.latencies.get((last as f64 * share) as usize)?;
        Some(latency.as_nanos() as f64)
    }

    fn per_operation(&self, time: Duration) -> f64 {
        time.as_nanos() as f64 / self.operations.max(1) as f64
    }
}

impl Median {
    /// The medians of these rounds; none without a round.
    pub fn of(rounds: &[Round]) -> Option<Self> {
        Some(Self {
            wall_ns: middle(rounds.iter().map(|round| round.per_operation(round.wall)))?,
            cpu_ns: middle(rounds.iter().map(|round| round.per_operation(round.cpu)))?,
            p50_ns: middle(rounds.iter().filter_map(|round| round.quantile(0.50))),
            p99_ns: middle(rounds.iter().filter_map(|round| round.quantile(0.99))),
        })
    }
}

fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(middle([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(middle([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(middle(std::iter::empty()), None);
    }
}
