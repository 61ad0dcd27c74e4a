//! The table that people read.

use std::fmt::Write as _;

use crate::measure::Median;
use crate::network;
use crate::outcome::{Outcome, Results};
use crate::report;

const HEAD: [&str; 9] = [
    "workload", "per s", "p50", "CPU", "per s", "p50", "CPU", "faster", "less CPU",
];

const LEGEND: &str = "\
per s: operations per second.  p50: half of the replies came within this time.  CPU: what the server's threads ran per operation.
faster, less CPU: the first server's time, divided by the second's; above 1x the second is better.  Medians of all rounds.
";

/// The whole text: what ran where, the table, how to read it.
pub fn render(results: &Results) -> String {
    let mut text = head(results);
    if !results.outcomes.is_empty() {
        text.push_str(&servers(results));
    }
    text + &network::render(&results.comparisons)
}

fn head(results: &Results) -> String {
    let [a, b] = &results.programs;
    let mut text = format!("\n{} beside {}\n{}\n", a.version, b.version, report::machine());
    if results.quick {
        text.push_str("Quick run: it proves that every workload runs; its numbers mean nothing.\n");
    }
    text
}

fn servers(results: &Results) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(results.outcomes.iter().map(line));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();

    let [a, b] = &results.programs;
    let mut text = String::new();
    let side = |first: usize| widths[first..first + 3].iter().sum::<usize>() + 4;
    let _ = writeln!(
        text,
        "\n{:name$}  | {:a_width$} | {:b_width$} |",
        "",
        a.label,
        b.label,
        name = widths[0],
        a_width = side(1),
        b_width = side(4)
    );
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        let first = format!("{:width$}", line[0], width = widths[0]);
        let groups = [&cells[1..4], &cells[4..7], &cells[7..9]].map(|group| group.join("  "));
        let _ = writeln!(text, "{first}  | {}", groups.join(" | "));
    }
    text + "\n" + LEGEND
}

fn line(outcome: &Outcome) -> [String; 9] {
    let [a, b] = outcome.medians().map(side);
    let [a_rate, a_p50, a_cpu] = a;
    let [b_rate, b_p50, b_cpu] = b;
    let absent = || "-".to_owned();
    let (faster, cheaper) = outcome
        .ratio()
        .map_or_else(|| (absent(), absent()), |ratio| (times(ratio.wall), times(ratio.cpu)));
    [
        outcome.name.clone(),
        a_rate,
        a_p50,
        a_cpu,
        b_rate,
        b_p50,
        b_cpu,
        faster,
        cheaper,
    ]
}

fn side(median: Option<Median>) -> [String; 3] {
    let Some(median) = median else {
        return ["-", "-", "-"].map(str::to_owned);
    };
    let p50 = median.p50_ns.map_or_else(|| "-".to_owned(), time);
    [rate(1e9 / median.wall_ns), p50, time(median.cpu_ns)]
}

fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        format!("{per_second:.0}")
    } else if per_second >= 10.0 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.2}")
    }
}

/// A time in the unit that gives it one to three digits before the point.
pub(crate) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

pub(crate) fn times(ratio: f64) -> String {
    format!("{}x", three_digits(ratio))
}

fn three_digits(value: f64) -> String {
    let decimals = match value {
        value if value >= 99.5 => 0,
        value if value >= 9.95 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(time(950.0), "0.95 us");
        assert_eq!(time(84_230.0), "84.2 us");
        assert_eq!(time(35_000_000.0), "35.0 ms");
        assert_eq!(time(2_100_000_000.0), "2.10 s");
        assert_eq!(times(512.4), "512x");
    }
}
