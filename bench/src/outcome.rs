//! What is known when all rounds are done.

use crate::measure::{Median, Round};
use crate::network::Comparison;
use crate::program::Program;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Results {
    /// Server A and server B.
    pub programs: [Program; 2],
    /// Whether the counts were those of a quick run, whose numbers mean nothing.
    pub quick: bool,
    /// The workloads in the order they ran.
    pub outcomes: Vec<Outcome>,
    /// Containers on a network, beside those who do that otherwise.
    pub comparisons: Vec<Comparison>,
}

/// One workload on both servers.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// Server A's and server B's rounds; empty where it does not run on that server.
    pub rounds: [Vec<Round>; 2],
}

/// How server B stands to server A: above 1, B needs less.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// A's wall clock per operation, divided by B's: how much faster B is.
    pub wall: f64,
    /// A's CPU time per operation, divided by B's: how much cheaper B is.
    pub cpu: f64,
    /// A's median latency, divided by B's.
    pub p50: Option<f64>,
}

impl Outcome {
    /// The medians of both servers.
    pub fn medians(&self) -> [Option<Median>; 2] {
        [Median::of(&self.rounds[0]), Median::of(&self.rounds[1])]
    }

    /// The medians' ratio; none where only one server ran.
    pub fn ratio(&self) -> Option<Ratio> {
        let [Some(a), Some(b)] = self.medians() else {
            return None;
        };
        Some(Ratio {
            wall: a.wall_ns / b.wall_ns,
            cpu: a.cpu_ns / b.cpu_ns,
            p50: a.p50_ns.zip(b.p50_ns).map(|(a, b)| a / b),
        })
    }
}
