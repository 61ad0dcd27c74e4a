//! `nonnet restore`: one commit more that makes the rows as they were.

use anyhow::Result;

use crate::arguments::{Common, Restore as Options};
use crate::catalog;
use crate::history::History;
use crate::output::Output;
use crate::revert::{self, Restore, Task, restored};

/// Restores rows; 1 where they cannot be what they were.
pub(crate) async fn run(common: &Common, options: &Options, output: &mut Output) -> Result<u8> {
    let history = History::open(options.file.as_deref(), common)?;
    let seq = history.resolve(&options.to)?;
    let table = options
        .table
        .as_deref()
        .map(|name| catalog::known_table(&history.schema, name));
    let restore = Restore {
        seq,
        table: table.transpose()?,
    };
    let name = match restore.table {
        Some(table) => format!("restore of {} to {seq}", table.name),
        None => format!("restore to {seq}"),
    };
    let task = Task {
        name: &name,
        dry_run: options.dry_run,
    };
    revert::run(common, &history, &task, |history| restored(history, &restore), output).await
}
