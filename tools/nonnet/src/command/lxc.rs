//! `nonnet lxc`: containers, each command one small transaction.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nonnet_client::OperationResult;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::arguments::{Common, Lxc, Query};
use crate::command::apply::{patience, progress};
use crate::content::Rows;
use crate::limits::STATE_INTERVAL;
use crate::live::RowState;
use crate::output::{Output, printable};
use crate::server::Server;
use crate::wanted::LXC;

/// Columns of the list.
const LISTED: [&str; 5] = ["id", "bridge", "running", "status", "error"];

/// Does one of the commands; 1 where the container failed.
pub(crate) async fn run(common: &Common, command: &Lxc, output: &mut Output) -> Result<u8> {
    match command {
        Lxc::List => query(common, None, &LISTED, output).await,
        Lxc::Show { id } => {
            let server = Server::open(common).await?;
            let rows = Rows::read(&server.connection, &server.schema, &[LXC]).await?;
            ensure!(rows.find(LXC, id).is_some(), "there is no container {}", printable(id));
            query(common, Some(id), &[], output).await
        }
        Lxc::Create {
            id,
            bridge,
            stopped,
            properties,
            wait,
        } => {
            let pairs = properties
                .iter()
                .map(|text| pair(text))
                .collect::<Result<Vec<Value>>>()?;
            let row = json!({"id": id, "veth": format!("vi{id}"), "bridge": bridge.as_deref().unwrap_or_default(),
                "running": !stopped, "properties": ["map", pairs]});
            let insert = json!({"op": "insert", "table": LXC, "row": row});
            commit(common, id, insert, "Created", *wait, output).await
        }
        Lxc::Start { id, wait } => commit(common, id, running(id, true), "Started", *wait, output).await,
        Lxc::Stop { id, wait } => commit(common, id, running(id, false), "Stopped", *wait, output).await,
        Lxc::Destroy { id, wait } => {
            let delete = json!({"op": "delete", "table": LXC, "where": by_id(id)});
            commit(common, id, delete, "Deleted", *wait, output).await
        }
    }
}

async fn query(common: &Common, id: Option<&str>, columns: &[&str], output: &mut Output) -> Result<u8> {
    let query = Query {
        table: Some(LXC.to_owned()),
        plugin: None,
        conditions: id.map(|id| format!("id={id}")).into_iter().collect(),
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
    };
    super::query::run(common, &query, output).await
}

fn by_id(id: &str) -> Value {
    json!([["id", "==", id]])
}

fn running(id: &str, running: bool) -> Value {
    json!({"op": "update", "table": LXC, "where": by_id(id), "row": {"running": running}})
}

/// `template=busybox`
fn pair(text: &str) -> Result<Value> {
    let (key, value) = text.split_once('=').with_context(|| {
        format!(
            "\"{}\" is not of the form PROPERTY=VALUE, as template=busybox",
            printable(text)
        )
    })?;
    Ok(json!([key, value]))
}

/// Sends one operation and says what was done; then waits for the kernel to follow, where asked to.
async fn commit(
    common: &Common,
    id: &str,
    operation: Value,
    done: &str,
    wait: Option<f64>,
    output: &mut Output,
) -> Result<u8> {
    let patience = wait.map(patience).transpose()?;
    let server = Server::open(common).await?;
    let verb = done.to_lowercase();
    let comment = json!({"op": "comment", "comment": format!("nonnet lxc: {verb} {id}")});
    let results = server
        .connection
        .transact(&server.schema.name, vec![operation, comment])
        .await?;
    if results.first().and_then(OperationResult::count) == Some(0) {
        bail!("there is no container {}", printable(id));
    }
    output.line(&format!("{done} container {}", printable(id)))?;
    output.flush()?;
    let Some(patience) = patience else { return Ok(0) };
    let deadline = Instant::now() + patience;
    let (_, target) = progress(&server).await?;
    while progress(&server).await?.0 < target {
        ensure!(
            Instant::now() < deadline,
            "--wait: not done within {} s; the commit stands",
            patience.as_secs_f64()
        );
        sleep(STATE_INTERVAL.min(Duration::from_millis(200))).await;
    }
    let rows = Rows::read(&server.connection, &server.schema, &[LXC]).await?;
    let Some(state) = RowState::of(LXC, id, &rows, &server.schema) else {
        return Ok(0);
    };
    let words = output.coloured(state.colour(), &state.words());
    output.line(&format!("Container {}: {words}", printable(id)))?;
    Ok(u8::from(state.is_failed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_pairs() {
        assert_eq!(pair("template=busybox").ok(), Some(json!(["template", "busybox"])));
        assert_eq!(pair("features=nesting=1").ok(), Some(json!(["features", "nesting=1"])));
        assert!(pair("template").is_err());
    }
}
