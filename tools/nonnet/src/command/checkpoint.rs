//! `nonnet confirm`, `nonnet rollback` and `nonnet checkpoint`: what has changed since a checkpoint stays, or is taken back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nonnet_client::{OperationResult, TransactError, Transaction};
use serde_json::{Value, json};

use crate::arguments::{CheckpointCommand, Common, Confirm, OnError, Rollback};
use crate::checkpoint::{CHECKPOINTS, Checkpoint};
use crate::limits::{ROLLBACK_PATIENCE, STATE_INTERVAL};
use crate::output::{NOTHING, Output, bare_or_quoted};
use crate::server::Server;

/// Confirms; 0, also where it was confirmed already.
pub(crate) async fn confirm(common: &Common, options: &Confirm, output: &mut Output) -> Result<u8> {
    let server = Server::open(common).await?;
    let checkpoint = Checkpoint::chosen(&server, options.name.as_deref()).await?;
    let name = bare_or_quoted(&checkpoint.name);
    if checkpoint.is_rolled_back() {
        bail!("checkpoint {name} is {}; nothing was changed", checkpoint.words());
    }
    let is_new = checkpoint.is_open();
    if is_new {
        write(
            &server,
            &format!("nonnet confirm {name}"),
            vec![update(&checkpoint.name, &json!({"confirmed": true}))],
        )
        .await?;
    }
    if output.is_json() {
        output.json(&told(&server, &checkpoint.name).await?)?;
    } else if is_new {
        output.line(&format!(
            "Confirmed checkpoint {name}: what has changed since {} stays",
            base_words(&checkpoint)
        ))?;
    } else {
        output.line(&format!("Checkpoint {name} is confirmed already"))?;
    }
    Ok(0)
}

/// Shows what a rollback would take back.
async fn rehearse(common: &Common, server: &Server, options: &Rollback, output: &mut Output) -> Result<u8> {
    let base = match options.to {
        Some(sequence) => Some(sequence),
        None => Checkpoint::chosen(server, options.name.as_deref()).await?.base,
    };
    let base = base.context("the server does not tell to which commit that goes back")?;
    let count = super::log::since(common, base, output)?;
    if !output.is_json() {
        output.line(&match count {
            0 => format!("Nothing has come after commit {base}"),
            1 => "This commit would be taken back; nothing was changed".to_owned(),
            _ => format!("These {count} commits would be taken back; nothing was changed"),
        })?;
    }
    Ok(0)
}

/// Rolls back, and waits until that is done; 1 where it cannot be.
pub(crate) async fn rollback(common: &Common, options: &Rollback, output: &mut Output) -> Result<u8> {
    let server = Server::open(common).await?;
    if options.dry_run {
        return rehearse(common, &server, options, output).await;
    }
    let checkpoint = match options.to {
        Some(sequence) => mark(&server, sequence).await?,
        None => Checkpoint::chosen(&server, options.name.as_deref()).await?,
    };
    let name = bare_or_quoted(&checkpoint.name);
    if checkpoint.is_rolled_back() {
        bail!("checkpoint {name} is {}; nothing was changed", checkpoint.words());
    }
    if options.to.is_none() {
        let operation = update(&checkpoint.name, &json!({"rollback": true}));
        write(&server, &format!("nonnet rollback {name}"), vec![operation]).await?;
    }
    let deadline = Instant::now() + ROLLBACK_PATIENCE;
    loop {
        let Some(now) = Checkpoint::find(&server, &checkpoint.name).await? else {
            bail!("checkpoint {name} was deleted meanwhile");
        };
        if now.is_rolled_back() {
            break;
        }
        if let Some(error) = &now.error {
            bail!("checkpoint {name} {error}; nothing was changed");
        }
        ensure!(
            Instant::now() < deadline,
            "checkpoint {name} was not rolled back within {} s; the server still tries to",
            ROLLBACK_PATIENCE.as_secs()
        );
        tokio::time::sleep(STATE_INTERVAL.min(Duration::from_millis(20))).await;
    }
    if output.is_json() {
        output.json(&told(&server, &checkpoint.name).await?)?;
    } else {
        output.line(&format!(
            "Rolled back to {} (checkpoint {name})",
            base_words(&checkpoint)
        ))?;
    }
    Ok(0)
}

/// Lists, shows, makes or deletes checkpoints.
pub(crate) async fn run(common: &Common, command: &CheckpointCommand, output: &mut Output) -> Result<u8> {
    let server = Server::open(common).await?;
    match command {
        CheckpointCommand::List => list(&Checkpoint::all(&server).await?, output)?,
        CheckpointCommand::Show { name } => show(&Checkpoint::chosen(&server, name.as_deref()).await?, output)?,
        CheckpointCommand::Create {
            name,
            confirm,
            on_error,
        } => {
            let row = row(name, confirm.unwrap_or(0), on_error.map(OnError::as_str));
            let insert = json!({"op": "insert", "table": CHECKPOINTS, "row": row});
            write(
                &server,
                &format!("nonnet checkpoint create {}", bare_or_quoted(name)),
                vec![insert],
            )
            .await?;
            let made = Checkpoint::chosen(&server, Some(name)).await?;
            if output.is_json() {
                output.json(&made.to_json())?;
            } else {
                let name = bare_or_quoted(name);
                output.line(&format!(
                    "Made checkpoint {name} at {}: {}",
                    base_words(&made),
                    made.words()
                ))?;
            }
        }
        CheckpointCommand::Delete { name } => {
            let found = Checkpoint::chosen(&server, Some(name)).await?;
            let delete = json!({"op": "delete", "table": CHECKPOINTS, "where": [["name", "==", found.name]]});
            write(
                &server,
                &format!("nonnet checkpoint delete {}", bare_or_quoted(name)),
                vec![delete],
            )
            .await?;
            if !output.is_json() {
                output.line(&format!("Deleted checkpoint {}", bare_or_quoted(name)))?;
            }
        }
    }
    Ok(0)
}

/// The row of a new checkpoint.
pub(crate) fn row(name: &str, timeout_s: u32, on_error: Option<&str>) -> Value {
    let mut row = json!({"name": name, "timeout": timeout_s});
    if let Some(on_error) = on_error {
        row["on_error"] = on_error.into();
    }
    row
}

fn list(all: &[Checkpoint], output: &mut Output) -> std::io::Result<()> {
    if output.is_json() {
        let all: Vec<Value> = all.iter().map(Checkpoint::to_json).collect();
        return output.json(&all);
    }
    let cells = |checkpoint: &Checkpoint| {
        vec![
            bare_or_quoted(&checkpoint.name),
            checkpoint.base.map_or(NOTHING.to_owned(), |base| base.to_string()),
            checkpoint.on_error.clone(),
            checkpoint.words(),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(cells).collect();
    output.table(&["NAME", "COMMIT", "ON ERROR", "STATE"], &rows)
}

fn show(checkpoint: &Checkpoint, output: &mut Output) -> std::io::Result<()> {
    if output.is_json() {
        return output.json(&checkpoint.to_json());
    }
    let words = output.coloured(checkpoint.colour(), &checkpoint.words());
    output.line(&format!("checkpoint {}: {words}", bare_or_quoted(&checkpoint.name)))?;
    output.line(&format!("  goes back to  {}", base_words(checkpoint)))?;
    output.line(&match checkpoint.timeout {
        0 => "  confirmation  not needed".to_owned(),
        seconds => format!("  confirmation  within {seconds} s"),
    })?;
    output.line(&match checkpoint.on_error.as_str() {
        "rollback" => "  on error      everything is rolled back".to_owned(),
        _ => "  on error      what works is kept".to_owned(),
    })
}

/// A mark at an older commit, to be rolled back to.
async fn mark(server: &Server, sequence: u64) -> Result<Checkpoint> {
    let name = format!("commit-{sequence}");
    let comment = format!("nonnet rollback --to {sequence}");
    let mut operations =
        vec![json!({"op": "delete", "table": CHECKPOINTS, "where": [["name", "==", name], ["state", "!=", "open"]]})];
    let mut row = row(&name, 0, None);
    row["base"] = sequence.into();
    row["rollback"] = true.into();
    operations.push(json!({"op": "insert", "table": CHECKPOINTS, "row": row}));
    Checkpoint::all(server).await?;
    write(server, &comment, operations).await?;
    let found = Checkpoint::find(server, &name).await?;
    let mut found = found.with_context(|| format!("checkpoint {name} was deleted meanwhile"))?;
    // It may have been rolled back by now, as it should be.
    "confirmed".clone_into(&mut found.state);
    Ok(found)
}

fn update(name: &str, row: &Value) -> Value {
    json!({"op": "update", "table": CHECKPOINTS, "where": [["name", "==", name]], "row": row})
}

async fn write(server: &Server, comment: &str, operations: Vec<Value>) -> Result<Vec<OperationResult>> {
    let mut transaction = Transaction::new(server.schema.name.as_str());
    transaction.comment(comment);
    for operation in operations {
        transaction.operation(operation);
    }
    match transaction.commit(&server.connection).await {
        Ok(committed) => Ok(committed.results),
        Err(TransactError::Call(error)) => Err(error.into()),
        Err(error) => match error.wire_error() {
            Some(said) => bail!("{said}; nothing was changed"),
            None => Err(error.into()),
        },
    }
}

async fn told(server: &Server, name: &str) -> Result<Value> {
    Ok(Checkpoint::chosen(server, Some(name)).await?.to_json())
}

/// `commit 17`.
fn base_words(checkpoint: &Checkpoint) -> String {
    checkpoint
        .base
        .map_or_else(|| "an unknown commit".to_owned(), |base| format!("commit {base}"))
}
