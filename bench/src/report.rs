//! Everything measured, as JSON; and what it was measured on.

use serde_json::{Value, json};

use crate::measure::{Median, Round};
use crate::network;
use crate::outcome::{Outcome, Results};

/// All rounds, medians and ratios. Times are nanoseconds, those of rounds and medians per operation where the name says `each`.
pub fn json(results: &Results) -> Value {
    json!({
        "machine": machine(),
        "quick": results.quick,
        "servers": results.programs.each_ref().map(|program| json!({"name": program.label, "version": program.version})),
        "workloads": results.outcomes.iter().map(workload).collect::<Vec<_>>(),
        "network": network::json(&results.comparisons),
    })
}

/// The machine in a line: processor, cores, kernel.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown processor");
    format!(
        "{}, {cores} cores, Linux {}",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim()
    )
}

fn workload(outcome: &Outcome) -> Value {
    let [a, b] = outcome.medians().map(|median| median.map(median_json));
    let ratio = outcome
        .ratio()
        .map(|ratio| json!({"faster": ratio.wall, "less_cpu": ratio.cpu, "p50": ratio.p50}));
    let rounds = outcome
        .rounds
        .each_ref()
        .map(|rounds| rounds.iter().map(round).collect::<Vec<_>>());
    json!({"name": outcome.name, "medians": [a, b], "ratio": ratio, "rounds": rounds})
}

fn median_json(median: Median) -> Value {
    json!({
        "wall_ns_each": median.wall_ns,
        "cpu_ns_each": median.cpu_ns,
        "p50_ns": median.p50_ns,
        "p99_ns": median.p99_ns,
    })
}

fn round(round: &Round) -> Value {
    json!({
        "operations": round.operations,
        "wall_ns": round.wall.as_nanos() as u64,
        "cpu_ns": round.cpu.as_nanos() as u64,
    })
}
