//! Taking things back: what has to change in the rows as they are now, what stands against it, and the transaction that does it.

mod conflict;
mod plan;
mod references;
mod restore;
mod transaction;
mod undo;

use std::time::Duration;

use anyhow::{Result, bail};
use nonnet_client::TransactError;
use nonnet_schema::parse_uuid;
use serde_json::{Value, json};

use crate::arguments::Common;
use crate::history::{Entry, History, Names, Printer, Style};
use crate::limits::ATTEMPTS_MAX;
use crate::output::{Output, bare_or_quoted};
use crate::server::Server;

pub(crate) use plan::Plan;
pub(crate) use restore::{Restore, restored};
pub(crate) use undo::undone;

/// Time between attempts: until the log tells of what came in between.
const ATTEMPT_DELAY: Duration = Duration::from_millis(20);

/// What a `wait` of no time says whose rows are others.
const TIMED_OUT: &str = "timed out";

/// What is to be done, and how it is told.
pub(crate) struct Task<'a> {
    /// As the transaction's comment and in messages: `undo of 17`.
    pub(crate) name: &'a str,
    pub(crate) dry_run: bool,
}

/// Makes a plan and commits it; anew where somebody else changed a row in between. 1 where conflicts stand against it.
pub(crate) async fn run(
    common: &Common,
    history: &History,
    task: &Task<'_>,
    mut plan: impl FnMut(&History) -> Result<Plan>,
    output: &mut Output,
) -> Result<u8> {
    let server = if task.dry_run {
        None
    } else {
        Some(Server::open(common).await?)
    };
    for _ in 0..ATTEMPTS_MAX {
        let base = history.head()?;
        let plan = plan(history)?;
        if !plan.conflicts.is_empty() {
            plan.print_conflicts(history, task.name, output)?;
            return Ok(1);
        }
        let Some(server) = server.as_ref().filter(|_| !plan.changes.is_empty()) else {
            print_rehearsal(history, task, &plan, output)?;
            return Ok(0);
        };
        match transaction::of(&server.schema, &plan.changes, task.name)?
            .commit(&server.connection)
            .await
        {
            Ok(_) => {
                print_commit(history, task, base, output)?;
                return Ok(0);
            }
            Err(error) if is_overtaken(&error) => tokio::time::sleep(ATTEMPT_DELAY).await,
            Err(error) => match error.wire_error() {
                Some(said) => bail!(
                    "{}: {}; nothing was changed",
                    task.name,
                    named(history, &said.to_string())?
                ),
                None => return Err(error.into()),
            },
        }
    }
    bail!(
        "{}: others changed the same rows in between, {ATTEMPTS_MAX} times; nothing was changed",
        task.name
    )
}

/// Whether somebody else changed a row since it was read.
fn is_overtaken(error: &TransactError) -> bool {
    error.wire_error().is_some_and(|error| error.tag == TIMED_OUT)
}

/// A message of the server with names in the place of the UUIDs of rows.
fn named(history: &History, text: &str) -> Result<String> {
    let names = Names::new(history)?;
    let word = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_hexdigit());
        let uuid = parse_uuid(bare)?;
        let mut tables = history.schema.tables().iter().map(|table| table.name.as_str());
        let table = tables.find(|table| matches!(history.reader.row(table, uuid), Ok(Some(_))))?;
        let name = names.of(table, uuid);
        (name != bare).then(|| word.replace(bare, &format!("{bare} ({table} {})", bare_or_quoted(&name))))
    };
    let words = text
        .split(' ')
        .map(|found| word(found).unwrap_or_else(|| found.to_owned()));
    Ok(words.collect::<Vec<_>>().join(" "))
}

/// Tells what would be done, or that there is nothing to do.
fn print_rehearsal(history: &History, task: &Task<'_>, plan: &Plan, output: &mut Output) -> Result<()> {
    let mut printer = Printer::new(history, Style::Full, output)?;
    if printer.output.is_json() {
        let report = json!({"seq": Value::Null, "rows": printer.rows_json(&plan.changes)});
        return Ok(printer.output.json(&report)?);
    }
    printer.rows(&plan.changes)?;
    let line = match plan.changes.len() {
        0 => format!("{}: nothing to change, the rows are so already", task.name),
        1 => format!("{}: this row would change; nothing was changed", task.name),
        count => format!("{}: these {count} rows would change; nothing was changed", task.name),
    };
    Ok(printer.output.line(&line)?)
}

/// Tells what was done: the commit as the log has it.
fn print_commit(history: &History, task: &Task<'_>, base: u64, output: &mut Output) -> Result<()> {
    let mut between = Vec::new();
    let mut made: Option<Entry> = None;
    for record in history.reader.records(base + 1..=u64::MAX) {
        let entry = Entry::decode(&record?)?;
        let is_ours = entry.header.pid == std::process::id();
        if is_ours && entry.meta().comments.iter().any(|comment| comment == task.name) {
            made = Some(entry);
            break;
        }
        between.push(entry.header.seq);
    }
    let Some(made) = made else {
        bail!(
            "{}: committed, but the log {} does not tell of it: is it that of another server?",
            task.name,
            history.path.display()
        );
    };
    let mut printer = Printer::new(history, Style::Full, output)?;
    let rows: Vec<_> = made.rows().cloned().collect();
    if printer.output.is_json() {
        let report = json!({
            "seq": made.header.seq, "hash": made.hash.to_string(), "between": between, "rows": printer.rows_json(&rows),
        });
        return Ok(printer.output.json(&report)?);
    }
    printer.rows(&rows)?;
    let line = format!("{}: commit {} {}", task.name, made.header.seq, made.hash);
    printer.output.line(&line)?;
    if let (Some(first), Some(last)) = (between.first(), between.last()) {
        let line = format!("commits {first} to {last} came in between; what they did to other rows stays");
        printer.output.line(&line)?;
    }
    Ok(())
}
