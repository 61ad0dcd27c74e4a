//! What came out: a table of sides below each other, and the same as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::{Median, Round};
use crate::table::{time, times};

/// One workload, on every side that takes part in it.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Its name.
    pub name: String,
    /// The sides, ours first.
    pub sides: Vec<SideRounds>,
}

/// The rounds of one side.
#[derive(Clone, Debug)]
pub struct SideRounds {
    /// Who.
    pub side: String,
    /// What was measured, each round over all its containers.
    pub rounds: Vec<Round>,
}

const HEAD: [&str; 6] = ["workload", "side", "all", "each", "CPU each", "of ours"];

const LEGEND: &str = "\
all: from the first request until everything works, median of the rounds.  each: the same per container.
CPU each: what the side's processes ran per container, in user and system mode.  of ours: its time, divided by nonnet's.
";

/// The table.
pub fn render(comparisons: &[Comparison]) -> String {
    if comparisons.is_empty() {
        return String::new();
    }
    let mut lines = vec![HEAD.map(str::to_owned)];
    for comparison in comparisons {
        lines.extend(comparison.lines());
    }
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = "\n".to_owned();
    for [name, side, numbers @ ..] in &lines {
        let _ = write!(
            text,
            "{name:name_width$}  {side:side_width$}",
            name_width = widths[0],
            side_width = widths[1]
        );
        for (number, width) in numbers.iter().zip(&widths[2..]) {
            let _ = write!(text, "  {number:>width$}");
        }
        text.push('\n');
    }
    text + "\n" + LEGEND
}

/// Everything measured. Times are nanoseconds, per container where the name says `each`.
pub fn json(comparisons: &[Comparison]) -> Value {
    let side = |side: &SideRounds| {
        let rounds: Vec<Value> = side.rounds.iter().map(round).collect();
        let median = Median::of(&side.rounds)
            .map(|median| json!({"wall_ns_each": median.wall_ns, "cpu_ns_each": median.cpu_ns}));
        json!({"side": side.side, "median": median, "rounds": rounds})
    };
    let workload = |comparison: &Comparison| json!({"name": comparison.name, "sides": comparison.sides.iter().map(side).collect::<Vec<_>>()});
    comparisons.iter().map(workload).collect()
}

fn round(round: &Round) -> Value {
    json!({
        "containers": round.operations,
        "wall_ns": round.wall.as_nanos() as u64,
        "cpu_ns": round.cpu.as_nanos() as u64,
    })
}

impl Comparison {
    /// A workload that has no peer.
    pub fn alone(name: &str, rounds: Vec<Round>) -> Self {
        Self {
            name: name.to_owned(),
            sides: vec![SideRounds {
                side: "nonnet".to_owned(),
                rounds,
            }],
        }
    }

    fn lines(&self) -> Vec<[String; 6]> {
        let ours = self.sides.first().and_then(|side| Median::of(&side.rounds));
        let line = |(at, side): (usize, &SideRounds)| {
            let median = Median::of(&side.rounds)?;
            let count = side.rounds.first().map_or(1, |round| round.operations);
            let ratio = ours.filter(|_| at > 0).map(|ours| times(median.wall_ns / ours.wall_ns));
            Some([
                if at == 0 { self.name.clone() } else { String::new() },
                side.side.clone(),
                time(median.wall_ns * count as f64),
                time(median.wall_ns),
                Some(median.cpu_ns)
                    .filter(|cpu| *cpu > 0.0)
                    .map_or_else(|| "-".to_owned(), time),
                ratio.unwrap_or_else(|| "-".to_owned()),
            ])
        };
        self.sides.iter().enumerate().filter_map(line).collect()
    }
}
