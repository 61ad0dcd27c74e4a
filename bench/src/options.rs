//! The command line of the bench.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

/// Measures nonnetd beside ovsdb-server: the same requests to both in turn, every reply checked.
///
/// Without arguments everything runs, in a few minutes. A machine that does something else meanwhile makes the wall clock noisy; the
/// server's CPU time and the ratios suffer least. Relative paths begin at the top of the repository, wherever cargo starts the bench.
#[derive(Clone, Debug, Parser)]
#[command(name = "nonnet-bench")]
pub struct Options {
    /// Only workloads whose name contains this; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub filter: Vec<String>,

    /// No workload whose name contains this; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,

    /// Prints the names of the workloads and ends.
    #[arg(long)]
    pub list: bool,

    /// Small counts and one round: proves that every workload runs, in seconds. Its numbers mean nothing.
    #[arg(long)]
    pub quick: bool,

    /// Writes everything measured to this file too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// The first server: `ovsdb-server`, `nonnetd`, or the path of either.
    #[arg(long, value_name = "SERVER", default_value = "ovsdb-server")]
    pub server_a: String,

    /// The second server. `nonnetd` is built first, from this source.
    #[arg(long, value_name = "SERVER", default_value = "nonnetd")]
    pub server_b: String,

    /// Rounds of each workload on each server [default: 5, quick: 1].
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,

    /// Operations of one round, at most; the durable ones and those on all rows do fewer [default: 10000, quick: 64].
    #[arg(long, value_name = "COUNT")]
    operations: Option<usize>,

    /// A round of selects or updates ends after this time even if operations are left [default: 1, quick: 0.3].
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,

    /// Rows in the table for the workloads on a filled table, several with commas [default: 10000,100000, quick: 100,1000].
    #[arg(long, value_name = "COUNTS", value_delimiter = ',')]
    rows: Vec<usize>,

    /// Clients at the same time, one thread and one connection each.
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    pub clients: usize,

    /// Requests outstanding on one connection in the pipelined workloads.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    pub outstanding: usize,

    /// Containers that are attached at a time, several with commas [default: 1,10,100,1000, quick: 1,4].
    #[arg(long, value_name = "COUNTS", value_delimiter = ',')]
    containers: Vec<usize>,

    /// Where the databases lie during the run; durable commits are as fast as its disk [default: the system's temporary directory].
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,

    /// What cargo hands to every bench target.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Rounds of each workload on each server.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    /// Operations of one round, at most.
    pub fn operations(&self) -> usize {
        self.operations.unwrap_or(if self.quick { 64 } else { 10_000 }).max(1)
    }

    /// How long a round may go on that may end early.
    pub fn time_max(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds.unwrap_or(if self.quick { 0.3 } else { 1.0 })).unwrap_or(Duration::MAX)
    }

    /// Sizes of the filled tables, in rows.
    pub fn rows(&self) -> Vec<usize> {
        match (self.rows.is_empty(), self.quick) {
            (false, _) => self.rows.clone(),
            (true, false) => vec![10_000, 100_000],
            (true, true) => vec![100, 1_000],
        }
    }

    /// Containers that are attached at a time.
    pub fn containers(&self) -> Vec<usize> {
        match (self.containers.is_empty(), self.quick) {
            (false, _) => self.containers.iter().map(|count| (*count).max(1)).collect(),
            (true, false) => vec![1, 10, 100, 1_000],
            (true, true) => vec![1, 4],
        }
    }

    /// Whether the workload of this name runs.
    pub fn wants(&self, name: &str) -> bool {
        let contains = |part: &String| name.contains(part.as_str());
        (self.filter.is_empty() || self.filter.iter().any(contains)) && !self.skip.iter().any(contains)
    }
}

/// A path of the command line: cargo starts a bench in the package's directory, people start cargo at the top.
pub fn from_top(path: &Path) -> PathBuf {
    nonnet_tests::program::repository().join(path)
}
