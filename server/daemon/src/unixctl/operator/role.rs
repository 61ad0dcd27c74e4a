//! Orders about whether this server is active or a backup (ovsdb-server(1), "Active-Backup Commands"), in the words of ovsdb-server.

use tokio::sync::mpsc;

use super::{ask, probe_interval, tell};
use crate::roster::StateOrder;
use crate::source::{RoleOrder, SourceRemote};
use crate::unixctl::{Answer, Order};

/// Carries out an order about the role.
pub(super) async fn ask_role(order: Order, state: &mpsc::Sender<StateOrder>) -> Answer {
    let order = match order {
        Order::ActiveServer => return ask(state, |reply| StateOrder::Role(RoleOrder::Remote(reply))).await,
        Order::ExcludedTables => return ask(state, |reply| StateOrder::Role(RoleOrder::Exclusion(reply))).await,
        Order::ConnectActive => {
            let is_known = ask(state, |reply| StateOrder::Role(RoleOrder::Connect(reply))).await?;
            let unknown = "Unable to connect: active server is not specified.";
            return Ok(if is_known { String::new() } else { unknown.to_owned() });
        }
        Order::DisconnectActive => RoleOrder::Disconnect,
        Order::SetActiveServer(text) => {
            let mut remote = SourceRemote::parse(&text)?;
            remote.settle(&std::env::current_dir().map_err(|error| error.to_string())?);
            RoleOrder::SetRemote(remote)
        }
        Order::SetActiveProbe(text) => match probe_interval(&text) {
            Ok(interval) => RoleOrder::SetProbe(interval),
            // It is no error there either.
            Err(words) => return Ok(words),
        },
        Order::SetExcludedTables(text) => match text.parse() {
            Ok(exclusion) => RoleOrder::SetExclusion(exclusion),
            Err(words) => return Ok(words),
        },
        _ => return ask(state, |reply| StateOrder::Role(RoleOrder::Status(reply))).await,
    };
    tell(state, StateOrder::Role(order)).await
}
