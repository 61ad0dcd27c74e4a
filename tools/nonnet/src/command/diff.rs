//! `nonnet diff`: what `apply` would change, and what the kernel lacks; or what differs between two commits.

use anyhow::Result;
use serde_json::{Value, json};

use crate::arguments::{Common, Diff};
use crate::command::between::{self, Commits};
use crate::command::plan::KernelPlan;
use crate::content::Rows;
use crate::difference::{Action, Change, compare, line, to_json};
use crate::document::source_name;
use crate::live::RowState;
use crate::output::{Colour, Output};
use crate::server::Server;
use crate::state::read_state;

/// The exit code where something differs.
const DIFFERENT: u8 = 1;

/// Prints the differences; 0 without any, 1 with some.
pub(crate) async fn run(common: &Common, options: &Diff, output: &mut Output) -> Result<u8> {
    let Some(file) = &options.file else {
        return run_live(common, output).await;
    };
    if let Some(commits) = Commits::of(file)? {
        return between::run(common, options.log_file.as_deref(), &commits, output);
    }
    let documents = super::documents(file)?;
    let server = Server::open(common).await?;
    let state = read_state(&documents, &source_name(file), &server.schema, &options.part.plugins)?
        .restrict(&options.part.only, &source_name(file))?;
    let tables: Vec<&str> = state.tables.iter().map(String::as_str).collect();
    let rows = Rows::read(&server.connection, &server.schema, &tables).await?;
    let changes = compare(&state, &rows, &server.schema, options.part.prune)?;
    let wanted = state.rows.iter().filter(|_| options.live);
    let unrealised: Vec<RowState> = wanted
        .filter_map(|row| RowState::of(&row.table, &row.key, &rows, &server.schema))
        .filter(|state| !state.is_converged())
        .collect();
    if output.is_json() {
        let changes: Vec<Value> = changes.iter().map(to_json).collect();
        let mut report = json!({"changes": changes});
        if options.live {
            report["unrealised"] = unrealised.iter().map(RowState::to_json).collect();
        }
        output.json(&report)?;
    } else {
        print(&changes, output)?;
        for state in &unrealised {
            let line = output.coloured(state.colour(), &state.line());
            output.line(&line)?;
        }
    }
    Ok(if changes.is_empty() && unrealised.is_empty() {
        0
    } else {
        DIFFERENT
    })
}

/// Prints what the server would do in the kernel; 0 where that is nothing, 1 where it is something.
async fn run_live(common: &Common, output: &mut Output) -> Result<u8> {
    let server = Server::open(common).await?;
    let plan = KernelPlan::ask(&server, Vec::new()).await?;
    if output.is_json() {
        output.json(&json!({"changes": [], "live": plan.to_json()}))?;
    } else {
        plan.print(output)?;
    }
    Ok(if plan.is_empty() { 0 } else { DIFFERENT })
}

/// Prints each change on a line.
pub(crate) fn print(changes: &[Change], output: &mut Output) -> std::io::Result<()> {
    for change in changes {
        let colour = match change.action {
            Action::Create => Colour::Green,
            Action::Modify => Colour::Yellow,
            Action::Delete => Colour::Red,
        };
        let line = output.coloured(colour, &line(change));
        output.line(&line)?;
    }
    Ok(())
}
