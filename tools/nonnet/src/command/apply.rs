//! `nonnet apply`: a state file becomes rows, in one transaction; then, where asked for, the kernel is waited for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nonnet_client::TransactError;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::arguments::{Apply, Common, OnError};
use crate::catalog;
use crate::checkpoint::Checkpoint;
use crate::command::plan::{KernelPlan, operations_of};
use crate::content::Rows;
use crate::difference::{Action, Change, ColumnChange, compare, to_json};
use crate::document::source_name;
use crate::limits::{APPLY_PATIENCE, ATTEMPTS_MAX, PRUNED_CONTAINERS_MAX, STATE_INTERVAL};
use crate::live::RowState;
use crate::output::{NOTHING, Output, bare_or_quoted, printable};
use crate::plan::{Plan, Refusal};
use crate::server::Server;
use crate::state::{State, read_state};
use crate::wanted::LXC;

/// What was done.
struct Outcome {
    changes: Vec<Change>,
    is_rehearsal: bool,
    /// What the server would do in the kernel; of a rehearsal, where the server looks at one.
    plan: Option<KernelPlan>,
    /// The number of the commit, where there was one and the server tells.
    sequence: Option<u64>,
    /// The hash of its record, where it can be read.
    hash: Option<String>,
}

impl Outcome {
    /// Whether there was a commit.
    fn is_committed(&self) -> bool {
        !self.is_rehearsal && (!self.changes.is_empty() || self.sequence.is_some())
    }
}

/// Applies the file; 1 where a row failed.
pub(crate) async fn run(common: &Common, options: &Apply, output: &mut Output) -> Result<u8> {
    let checkpoint = checkpoint_row(options);
    let patience = match options.wait {
        Some(seconds) => Some(patience(seconds)?),
        None => checkpoint.as_ref().filter(|_| !options.dry_run).map(|_| APPLY_PATIENCE),
    };
    ensure!(
        patience.is_none() || !options.dry_run,
        "--wait: with --dry-run there is nothing to wait for"
    );
    let documents = super::documents(&options.state.file)?;
    let source = source_name(&options.state.file);
    let server = Server::open(common).await?;
    let state = read_state(&documents, &source, &server.schema, &options.state.part.plugins)?;
    let state = state.restrict(&options.state.part.only, &source)?;
    if checkpoint.is_some() {
        check_free(&server, &options.checkpoint).await?;
    }
    let outcome = commit(&server, &state, options, checkpoint.as_ref(), &source).await?;
    // Whether a container has joined its network is known later than the rest.
    let says_later = patience.is_some() && outcome.changes.iter().any(is_in_mesh);
    if !output.is_json() && !says_later {
        print_outcome(&outcome, &BTreeSet::new(), output)?;
        output.flush()?;
    }
    let states = match patience {
        Some(patience) => Some(wait(&server, &state, outcome.sequence, patience).await),
        None => None,
    };
    if !output.is_json() && says_later {
        print_outcome(&outcome, &joined(&server).await?, output)?;
    }
    let opened = match &checkpoint {
        Some(_) if outcome.is_committed() && !options.dry_run => Checkpoint::find(&server, &options.checkpoint).await?,
        _ => None,
    };
    if let (Some(Err(_)), Some(opened), false) = (&states, &opened, output.is_json()) {
        print_checkpoint(opened, output)?;
        output.flush()?;
    }
    let states = states.transpose()?;
    let is_rolled_back = opened.as_ref().is_some_and(Checkpoint::is_rolled_back);
    if output.is_json() {
        let mut report = report(&outcome, states.as_deref());
        if let Some(opened) = &opened {
            report["checkpoint"] = opened.to_json();
        }
        output.json(&report)?;
    } else {
        // What was taken back tells nothing of what had been wanted.
        for state in states.iter().flatten().filter(|_| !is_rolled_back) {
            let words = output.coloured(state.colour(), &state.words());
            output.line(&format!("{}: {words}", subject(&state.table, &state.key)))?;
        }
    }
    if let (Some(opened), false) = (&opened, output.is_json()) {
        print_checkpoint(opened, output)?;
    }
    Ok(u8::from(
        is_rolled_back || states.iter().flatten().any(RowState::is_failed),
    ))
}

/// The row of the checkpoint that is to be opened with the changes.
fn checkpoint_row(options: &Apply) -> Option<Value> {
    let is_all_or_nothing = options.on_error == Some(OnError::Rollback);
    let on_error = options.on_error.map(OnError::as_str);
    let timeout_s = options.confirm.unwrap_or(0);
    (timeout_s > 0 || is_all_or_nothing).then(|| super::checkpoint::row(&options.checkpoint, timeout_s, on_error))
}

/// Whether a checkpoint of that name may be opened.
async fn check_free(server: &Server, name: &str) -> Result<()> {
    let found = Checkpoint::find(server, name).await?;
    ensure!(
        !found.is_some_and(|found| found.is_open()),
        "checkpoint {} is open: confirm it, roll it back, or give the new one another name with --checkpoint. Nothing was changed",
        bare_or_quoted(name)
    );
    Ok(())
}

fn print_checkpoint(checkpoint: &Checkpoint, output: &mut Output) -> std::io::Result<()> {
    let name = bare_or_quoted(&checkpoint.name);
    let words = match (checkpoint.is_open(), checkpoint.seconds_left()) {
        (true, Some(left)) => {
            format!(
                "Checkpoint {name}: all of it is rolled back in {left} s unless it is confirmed: nonnet confirm {name}"
            )
        }
        (false, _) if checkpoint.is_rolled_back() => {
            let reason = checkpoint.error.as_deref().unwrap_or(NOTHING);
            format!("Checkpoint {name}: all of it was rolled back: {}", printable(reason))
        }
        _ => format!("Checkpoint {name}: {}", checkpoint.words()),
    };
    let line = output.coloured(checkpoint.colour(), &words);
    output.line(&line)
}

/// Brings the rows to what the file wants; tries again where somebody else changed one in between.
async fn commit(
    server: &Server,
    state: &State,
    options: &Apply,
    checkpoint: Option<&Value>,
    source: &str,
) -> Result<Outcome> {
    let tables: Vec<&str> = state.tables.iter().map(String::as_str).collect();
    let comment = format!("nonnet apply {source}");
    for _ in 0..ATTEMPTS_MAX {
        let rows = Rows::read(&server.connection, &server.schema, &tables).await?;
        let changes = compare(state, &rows, &server.schema, options.state.part.prune)?;
        check_pruned(&changes, options)?;
        let mut outcome = Outcome {
            changes,
            is_rehearsal: options.dry_run,
            plan: None,
            sequence: None,
            hash: None,
        };
        let changes = &outcome.changes;
        // Under a checkpoint more may come true than without: what has failed is tried again.
        let states = state
            .rows
            .iter()
            .filter_map(|row| RowState::of(&row.table, &row.key, &rows, &server.schema));
        let is_tried_again = checkpoint.is_some() && states.into_iter().any(|state| state.is_failed());
        if changes.is_empty() && !is_tried_again {
            return Ok(outcome);
        }
        let plan = Plan::new(changes, &rows, &server.schema, &comment, checkpoint, options.dry_run);
        let refused = match plan.transaction().commit(&server.connection).await {
            Ok(committed) => {
                outcome.sequence = plan.sequence(&committed.results);
                outcome.hash = outcome.sequence.and_then(|sequence| server.record_hash(sequence));
                return Ok(outcome);
            }
            Err(TransactError::Call(error)) if error.is_lost() => {
                return Err(error)
                    .context("whether it was applied is not known: apply again, which changes nothing twice");
            }
            Err(error) => plan.explain(error),
        };
        match refused {
            Refusal::Outdated => {}
            Refusal::Rehearsed => {
                // Addresses of uplinks move under a checkpoint only.
                let operations = operations_of(&outcome.changes, &rows, &server.schema, checkpoint);
                outcome.plan = KernelPlan::ask(server, operations).await.ok();
                return Ok(outcome);
            }
            Refusal::Refused(error) => return Err(error.context(source.to_owned())),
        }
    }
    bail!("{source}: given up after {ATTEMPTS_MAX} attempts: others keep changing the same rows; nothing was changed")
}

fn check_pruned(changes: &[Change], options: &Apply) -> Result<()> {
    let containers: Vec<&str> = changes
        .iter()
        .filter(|change| change.action == Action::Delete && change.table == LXC)
        .map(|change| change.key.as_str())
        .collect();
    ensure!(
        options.force || options.dry_run || containers.len() <= PRUNED_CONTAINERS_MAX,
        "--prune would delete {} containers ({}); that is done with --force only. Nothing was changed",
        containers.len(),
        printable(&containers.join(", "))
    );
    Ok(())
}

fn print_outcome(outcome: &Outcome, joined: &BTreeSet<String>, output: &mut Output) -> std::io::Result<()> {
    let count = outcome.changes.len();
    if outcome.is_rehearsal {
        super::diff::print(&outcome.changes, output)?;
        if let Some(plan) = &outcome.plan {
            plan.print(output)?;
        }
        return output.line(&match count {
            0 => "Nothing would change".to_owned(),
            1 => "The server would accept this change; nothing was changed".to_owned(),
            _ => format!("The server would accept these {count} changes; nothing was changed"),
        });
    }
    for line in outcome.changes.iter().flat_map(|change| lines(change, joined)) {
        output.line(&line)?;
    }
    if count == 0 && outcome.is_committed() {
        output.line(
            "Everything is as the file says, but not yet in the kernel: it is tried again under the checkpoint",
        )?;
    }
    match (outcome.sequence, &outcome.hash) {
        _ if !outcome.is_committed() => output.line("Nothing to change: everything is as the file says"),
        (Some(sequence), Some(hash)) => output.line(&format!("Blockchain footprint recorded: {sequence} {hash}")),
        (Some(sequence), None) => output.line(&format!("Blockchain footprint recorded: {sequence}")),
        (None, _) => output.line("Applied; this server keeps no log of it"),
    }
}

/// What was done, for programs.
fn report(outcome: &Outcome, states: Option<&[RowState]>) -> Value {
    let changes: Vec<Value> = outcome.changes.iter().map(to_json).collect();
    let mut report = json!({
        "changes": changes, "committed": outcome.is_committed(), "sequence": outcome.sequence, "hash": outcome.hash,
    });
    if let Some(plan) = &outcome.plan {
        report["kernel"] = plan.to_json();
    }
    if let Some(states) = states {
        report["rows"] = states.iter().map(RowState::to_json).collect();
    }
    report
}

/// What is said about a change; of a container in the words of the seed. Those that have `joined` their network are known once they were waited for.
fn lines(change: &Change, joined: &BTreeSet<String>) -> Vec<String> {
    let subject = subject(&change.table, &change.key);
    let mut lower = subject.clone();
    lower.get_mut(..1).map(str::make_ascii_lowercase).unwrap_or_default();
    if change.action == Action::Delete {
        return vec![format!("Deleted {lower}")];
    }
    let is_container = change.table == LXC;
    let is_told_apart = |column: &&ColumnChange| !(is_container && column.column == "veth");
    let mut lines = Vec::new();
    if change.action == Action::Create {
        lines.push(format!("Created {lower}"));
    } else {
        let columns: Vec<String> = change
            .columns
            .iter()
            .filter(is_told_apart)
            .map(ColumnChange::words)
            .collect();
        lines.extend((!columns.is_empty()).then(|| format!("Changed {lower}: {}", columns.join(", "))));
    }
    if !is_container {
        return lines;
    }
    if let Some(veth) = change
        .new_value("veth")
        .and_then(Value::as_str)
        .filter(|veth| !veth.is_empty())
    {
        lines.push(format!("Renamed veth to {}", printable(veth)));
    }
    if is_in_mesh(change) {
        lines.push(if joined.contains(&change.key) {
            format!("{subject} joined netmaker")
        } else {
            format!("{subject} joins netmaker")
        });
    }
    lines
}

/// Whether a change puts a container into a network of Netmaker's.
fn is_in_mesh(change: &Change) -> bool {
    let properties = change.new_value("properties").filter(|_| change.table == LXC);
    let network_type = properties.and_then(|properties| properties.get("network_type"));
    network_type.and_then(Value::as_str) == Some("netmaker")
}

/// The containers that are in a network of Netmaker's.
async fn joined(server: &Server) -> Result<BTreeSet<String>> {
    let select = json!({"op": "select", "table": LXC, "where": [["status", "includes", ["map", [["mesh", "joined"]]]]],
        "columns": ["id"]});
    let results = server.connection.transact(&server.schema.name, vec![select]).await?;
    let rows = results
        .first()
        .map(nonnet_client::OperationResult::rows)
        .unwrap_or_default();
    let ids = rows.iter().filter_map(|row| row.get("id")?.as_str());
    Ok(ids.map(str::to_owned).collect())
}

/// `Container 100`, `Bridge br0`.
fn subject(table: &str, key: &str) -> String {
    let noun = if table == LXC {
        "container"
    } else {
        table.strip_suffix('s').unwrap_or(table)
    };
    let mut noun = noun.to_owned();
    noun.get_mut(..1).map(str::make_ascii_uppercase).unwrap_or_default();
    format!("{noun} {}", printable(key))
}

pub(super) fn patience(seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| anyhow::anyhow!("--wait {seconds}: {error}"))
}

/// Waits until the kernel has followed the commit, or the newest one, and tells what became of the file's rows.
async fn wait(server: &Server, state: &State, sequence: Option<u64>, patience: Duration) -> Result<Vec<RowState>> {
    let schema = &server.schema;
    let tells = catalog::table(schema, "host").is_some_and(|host| host.column_index("cur_cfg").is_some());
    ensure!(
        tells,
        "--wait: this server does not tell how far the kernel has followed"
    );
    let deadline = Instant::now() + patience;
    let host = json!({"host": [{"columns": ["cur_cfg", "next_cfg"]}]});
    let mut monitor = server.connection.monitor(&schema.name, host, None).await?;
    let mut awaited = sequence;
    loop {
        let (reached, newest) = progress(server).await?;
        let target = *awaited.get_or_insert(newest);
        if reached >= target {
            break;
        }
        let rest = deadline.saturating_duration_since(Instant::now());
        ensure!(
            !rest.is_zero(),
            "--wait: the kernel has not followed within {} s: it is at commit {reached}, {target} is awaited. \
             The commit stands. Does the server run with --kernel apply, and may it change the network?",
            patience.as_secs_f64()
        );
        if let Ok(update) = timeout(rest.min(STATE_INTERVAL), monitor.next()).await {
            update.context("--wait")?;
        }
    }
    let tables: Vec<&str> = state.tables.iter().map(String::as_str).collect();
    let rows = Rows::read(&server.connection, schema, &tables).await?;
    Ok(state
        .rows
        .iter()
        .filter_map(|row| RowState::of(&row.table, &row.key, &rows, schema))
        .collect())
}

/// The commit that the kernel has followed, and the newest one.
pub(super) async fn progress(server: &Server) -> Result<(u64, u64)> {
    let select = json!({"op": "select", "table": "host", "where": [], "columns": ["cur_cfg", "next_cfg"]});
    let results = server.connection.transact(&server.schema.name, vec![select]).await?;
    let row: Option<&Map<String, Value>> = results.first().and_then(|result| result.rows().first());
    let number = |column: &str| row.and_then(|row| row.get(column)?.as_u64());
    match (number("cur_cfg"), number("next_cfg")) {
        (Some(reached), Some(newest)) => Ok((reached, newest)),
        _ => bail!("--wait: this server does not tell how far the kernel has followed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::Content;

    fn container(action: Action, columns: &[(&str, Value)]) -> Change {
        let column = |(name, new): &(&str, Value)| ColumnChange {
            column: (*name).to_owned(),
            old: (action == Action::Modify).then_some(Value::Null),
            new: Some(new.clone()),
            content: None::<Content>,
        };
        Change {
            action,
            table: LXC.to_owned(),
            key: "100".to_owned(),
            uuid: None,
            columns: columns.iter().map(column).collect(),
            before: crate::content::Row::new(),
        }
    }

    #[test]
    fn a_new_container_is_told_in_the_words_of_the_seed() {
        let properties = json!({"network_type": "netmaker"});
        let change = container(Action::Create, &[("veth", json!("vi100")), ("properties", properties)]);
        let expected = |last: &str| ["Created container 100", "Renamed veth to vi100", last].map(str::to_owned);
        assert_eq!(
            lines(&change, &BTreeSet::new()),
            expected("Container 100 joins netmaker")
        );
        let joined = BTreeSet::from(["100".to_owned()]);
        assert_eq!(lines(&change, &joined), expected("Container 100 joined netmaker"));
    }

    #[test]
    fn a_changed_container_tells_what_changed() {
        let change = container(Action::Modify, &[("bridge", json!("br1"))]);
        assert_eq!(
            lines(&change, &BTreeSet::new()),
            ["Changed container 100: bridge - -> br1"]
        );
        assert_eq!(
            lines(&container(Action::Delete, &[]), &BTreeSet::new()),
            ["Deleted container 100"]
        );
    }

    #[test]
    fn other_rows_are_named_by_their_tables() {
        assert_eq!(subject("bridges", "br0"), "Bridge br0");
        assert_eq!(subject(LXC, "100"), "Container 100");
    }
}
