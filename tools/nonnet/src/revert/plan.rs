//! What has to change, and what stands against it.

use std::fmt::Write as _;

use anyhow::Result;
use nonnet_chain::RowDelta;
use serde_json::{Value, json};

use super::conflict::Conflict;
use crate::history::{History, Names};
use crate::output::{Colour, Output, bare_or_quoted, printable};
use crate::{time, who};

/// The changes, each with the whole datum as it is now and as it should be; good only without conflicts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<RowDelta>,
    pub(crate) conflicts: Vec<Conflict>,
}

impl Plan {
    /// Prints what stands against it.
    pub(crate) fn print_conflicts(&self, history: &History, task: &str, output: &mut Output) -> Result<()> {
        let names = Names::new(history)?;
        names.learn_all(&self.changes);
        if output.is_json() {
            let conflicts: Vec<Value> = self
                .conflicts
                .iter()
                .map(|conflict| to_json(conflict, &names))
                .collect();
            return Ok(output.json(&json!({"seq": Value::Null, "conflicts": conflicts}))?);
        }
        for conflict in &self.conflicts {
            let line = output.coloured(Colour::Red, &words(conflict, &names));
            output.line(&line)?;
        }
        Ok(output.line(&format!("{task}: not possible; nothing was changed"))?)
    }
}

/// `! lxc 100: bridge was changed by commit 20, 2 min ago, alice (uid 1000) through nonnet[4711], "why"`.
fn words(conflict: &Conflict, names: &Names<'_>) -> String {
    let name = names.of(&conflict.table, conflict.uuid);
    let column = conflict
        .column
        .as_ref()
        .map_or(String::new(), |column| format!("{column} "));
    let mut words = format!(
        "! {} {}: {column}{}",
        conflict.table,
        bare_or_quoted(&name),
        conflict.problem
    );
    if let Some(record) = &conflict.by {
        let ago = time::ago(record.header.time_us, time::now_us());
        let who = who::words(&record.header, &record.meta);
        let _infallible = write!(words, " by commit {}, {ago}, {who}", record.header.seq);
        for comment in &record.meta.comments {
            let _infallible = write!(words, ", \"{}\"", printable(comment));
        }
    }
    words
}

fn to_json(conflict: &Conflict, names: &Names<'_>) -> Value {
    json!({
        "table": conflict.table, "row": names.of(&conflict.table, conflict.uuid), "uuid": conflict.uuid.hyphenated().to_string(),
        "column": conflict.column, "problem": conflict.problem, "commit": conflict.by.as_ref().map(|record| record.header.seq),
    })
}
