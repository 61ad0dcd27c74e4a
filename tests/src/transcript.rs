//! Shell commands run one after another on a server, and what they printed in a form by which two servers are compared.
//!
//! A session is a text file of `tests/cases/sessions`, one command a line; `#` begins a comment. A command whose output has no order of its own
//! (rows come in the order of random UUIDs) has `~ ` before it. UUIDs become `<0>`, `<1>` by first appearance in the session.

use std::process::Command;

use anyhow::{Context, Result};

use crate::program;
use crate::rename::{FIRST_ROW, Renamer, SECOND_ROW};

/// One command of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the shell runs.
    pub command: String,
    /// Whether the lines of its output may come in any order.
    pub in_any_order: bool,
}

/// The steps of a session of `tests/cases/sessions`.
///
/// # Errors
/// When there is no such file.
pub fn session(name: &str) -> Result<Vec<Step>> {
    let path = program::repository().join("tests/cases/sessions").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = text.lines().map(str::trim);
    let commands = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(commands
        .map(|line| {
            let free = line.strip_prefix("~ ");
            Step {
                command: free.unwrap_or(line).to_owned(),
                in_any_order: free.is_some(),
            }
        })
        .collect())
}

/// What the commands run so far printed, and the names of the UUIDs in it.
#[derive(Debug, Default)]
pub struct Transcript {
    renamer: Renamer,
    lines: Vec<String>,
}

impl Transcript {
    /// Runs a command, and keeps what it prints as that of this step.
    ///
    /// # Errors
    /// When it does not end.
    pub fn run(&mut self, command: &mut Command, step: &Step) -> Result<()> {
        let output = program::run_command(command, b"")?;
        self.lines.push(["$ ", &step.command].concat());
        self.add(&String::from_utf8_lossy(&output.stdout), step.in_any_order);
        self.add(&String::from_utf8_lossy(&output.stderr), step.in_any_order);
        if !output.status.success() {
            self.lines.push(output.status.to_string());
        }
        Ok(())
    }

    /// The lines so far.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Keeps text that a program printed, without what it logged: that begins with the time.
    pub fn add(&mut self, text: &str, in_any_order: bool) {
        let printed: Vec<&str> = text.lines().filter(|line| !is_logged(line)).collect();
        let printed = if in_any_order { self.sorted(&printed) } else { printed };
        for line in printed {
            let line = with_index_rows_in_order(&self.with_lists_in_order(line));
            self.renamer.assign_text(&line);
            self.lines.push(self.renamer.renamed_text(&line));
        }
    }

    /// Sorts blocks of lines, and in each the lines with what is indented below them.
    fn sorted<'a>(&self, lines: &[&'a str]) -> Vec<&'a str> {
        let mut blocks: Vec<Vec<&str>> = lines
            .split(|line| line.is_empty())
            .map(|block| self.sorted_tree(block))
            .collect();
        blocks.sort_by_cached_key(|block| self.renamer.renamed_text(&block.join("\n")));
        blocks.concat()
    }

    fn sorted_tree<'a>(&self, lines: &[&'a str]) -> Vec<&'a str> {
        let Some(indent) = lines.iter().map(|line| indent(line)).min() else {
            return Vec::new();
        };
        let mut branches: Vec<Vec<&str>> = Vec::new();
        let starts = |at: &usize| indent_is(lines[*at], indent);
        let starting: Vec<usize> = (0..lines.len()).filter(starts).collect();
        for (index, &start) in starting.iter().enumerate() {
            let end = starting.get(index + 1).copied().unwrap_or(lines.len());
            branches.push([&lines[start..=start], &self.sorted_tree(&lines[start + 1..end])].concat());
        }
        branches.sort_by_cached_key(|branch| self.renamer.renamed_text(&branch.join("\n")));
        branches.concat()
    }

    /// Sorts sets of UUIDs by the names those have; where two have none yet, those stay without.
    fn with_lists_in_order(&self, line: &str) -> String {
        let Some((before, rest)) = line.split_once('[') else {
            return line.to_owned();
        };
        let Some((inside, after)) = rest.split_once(']') else {
            return line.to_owned();
        };
        let mut members: Vec<&str> = inside.split(", ").collect();
        let name = |member: &&str| self.renamer.name(member);
        members.sort_by_key(|member| (name(member).is_none(), name(member)));
        let unnamed = members
            .iter()
            .filter(|member| self.renamer.renamed_text(member) == "<?>")
            .count();
        let shown: Vec<&str> = members
            .iter()
            .map(|member| match self.renamer.renamed_text(member).as_str() {
                "<?>" if unnamed > 1 => "<?>",
                _ => member,
            })
            .collect();
        let is_uuids = members.iter().any(|member| name(member).is_some()) || unnamed > 0;
        if is_uuids {
            [before, "[", &shown.join(", "), "]", after].concat()
        } else {
            line.to_owned()
        }
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn indent_is(line: &str, width: usize) -> bool {
    indent(line) == width
}

/// `ovsdb-server` 3.1 has no order for the two rows that have the same values in an index.
fn with_index_rows_in_order(line: &str) -> String {
    let parts = || -> Option<String> {
        let (before, rest) = line.split_once(FIRST_ROW)?;
        let (first, rest) = rest.split_once(SECOND_ROW)?;
        let (second, after) = rest.split_once('.')?;
        let fate = |row: &str| row.split_once(", ").map(|(_, fate)| fate.to_owned());
        let first = first.trim_end_matches('.');
        let (first, second) = if fate(first) <= fate(second) {
            (first, second)
        } else {
            (second, first)
        };
        Some([before, FIRST_ROW, first, ".", SECOND_ROW, second, ".", after].concat())
    };
    parts().unwrap_or_else(|| line.to_owned())
}

/// Log lines of Open vSwitch's programs look like `2026-01-01T00:00:00Z|00001|module|WARN|text`.
fn is_logged(line: &str) -> bool {
    line.split_once("Z|")
        .is_some_and(|(time, _)| time.starts_with(|c: char| c.is_ascii_digit()) && time.contains('T'))
}

#[cfg(test)]
mod tests {
    use super::Transcript;

    const A: &str = "11111111-1111-4111-8111-111111111111";
    const B: &str = "22222222-2222-4222-8222-222222222222";

    fn lines(texts: &[&str], in_any_order: bool) -> Vec<String> {
        let mut transcript = Transcript::default();
        for text in texts {
            transcript.add(text, in_any_order);
        }
        transcript.lines().to_vec()
    }

    #[test]
    fn a_tree_is_sorted_with_what_is_below_each_line() {
        let one = format!("{A}\n  b\n    2\n    1\n  a\n");
        assert_eq!(lines(&[&one], true), ["<0>", "  a", "  b", "    1", "    2"]);
    }

    #[test]
    fn records_with_other_uuids_in_other_order_are_alike() {
        let one = format!("_uuid: {A}\nname: x\n\n_uuid: {B}\nname: y\n");
        let two = format!("_uuid: {A}\nname: y\n\n_uuid: {B}\nname: x\n");
        let set = format!("s: [{A}, {B}]");
        assert_eq!(lines(&[&one, &set], true), lines(&[&two, &set], true));
    }

    #[test]
    fn a_set_of_uuids_without_names_gives_them_none() {
        let set = format!("s: [{A}, {B}]");
        assert_eq!(lines(&[&set, B], false), ["s: [<?>, <?>]", "<0>"]);
    }

    #[test]
    fn what_was_logged_is_left_out() {
        assert_eq!(lines(&["2026-01-01T00:00:00Z|00001|x|WARN|y\nz"], false), ["z"]);
    }
}
