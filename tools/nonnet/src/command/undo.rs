//! `nonnet undo`: one commit more that takes back what an older one did.

use anyhow::Result;

use crate::arguments::{Common, Undo};
use crate::history::History;
use crate::output::Output;
use crate::revert::{self, Task, undone};

/// Takes a commit back; 1 where what came later stands against it.
pub(crate) async fn run(common: &Common, options: &Undo, output: &mut Output) -> Result<u8> {
    let history = History::open(options.file.as_deref(), common)?;
    let seq = history.resolve(&options.commit)?;
    let task = Task {
        name: &format!("undo of {seq}"),
        dry_run: options.dry_run,
    };
    revert::run(common, &history, &task, |history| undone(history, seq), output).await
}
