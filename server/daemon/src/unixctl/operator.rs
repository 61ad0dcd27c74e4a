//! Carries out the orders of the control socket.
//!
//! What takes long is done in a task of its own, so that no order makes another wait; sessions wait for none.

mod role;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ecow::EcoString;
use nonnet_engine::Entropy;
use nonnet_rpc::RemoteOptions;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::databases::{self, Loaded};
use crate::logging::{self, Logging, Spec};
use crate::program::Program;
use crate::remotes::{ColumnError, Columns, Contents, DbColumn, Named, Remotes};
use crate::roster::StateOrder;
use crate::source::RelayArgument;
use crate::state::State;
use crate::supervise::Saved;
use crate::tls_arguments::TlsArguments;
use crate::unixctl::{Answer, Asked, Order, command};

/// What is left to do after an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    GoOn,
    Exit,
}

/// What orders are about.
pub(crate) struct Operator {
    pub(crate) program: Program,
    pub(crate) remotes: Remotes,
    pub(crate) tls: TlsArguments,
    /// Columns that do not exist, as they were told of last.
    pub(crate) column_errors: Vec<ColumnError>,
    /// Where remotes and databases come from, instead of the command line and orders.
    pub(crate) config_file: Option<PathBuf>,
    /// Where the server was started.
    pub(crate) directory: PathBuf,
    /// Where remotes are kept that should survive a crash.
    pub(crate) saved: Option<Saved>,
    pub(crate) logging: Arc<Logging>,
    pub(crate) state: mpsc::Sender<StateOrder>,
}

impl Operator {
    /// Carries out one order, or starts to.
    pub(crate) async fn carry_out(&mut self, asked: Asked) -> Verdict {
        if let Some(file) = self
            .config_file
            .as_ref()
            .filter(|_| asked.order.changes_configuration())
        {
            let refusal = format!("Update the {} and use ovsdb-server/reload instead", file.display());
            let _ = asked.reply.send(Err(refusal));
            return Verdict::GoOn;
        }
        let answer = match asked.order {
            Order::Exit => {
                // Who asked may be gone; the order stands.
                let _ = asked.reply.send(Ok(String::new()));
                return Verdict::Exit;
            }
            Order::AddRemote(remote) => self.add_remote(&remote).await,
            Order::RemoveRemote(remote) => self.remove_remote(&remote).await,
            Order::ListRemotes => Ok(self.list_remotes()),
            Order::Version => Ok(format!("{} {}", self.program.name(), self.program.version())),
            Order::ListCommands => Ok(command::list()),
            // There are no counters of events.
            Order::CoverageShow => Ok("0 events never hit".to_owned()),
            Order::VlogList => Ok(self.logging.list()),
            Order::VlogSet(specs) => self.set_levels(&specs),
            // Nor is there one to read.
            Order::CoverageRead => Err("No such counter".to_owned()),
            // As ovsdb-server says where the processor's counters cannot be read.
            Order::PerfCountersShow => Ok("performance counter is not supported on this platform".to_owned()),
            Order::PerfCountersClear => Ok(String::new()),
            Order::MemoryTrim(switch) => memory_trim(&switch),
            Order::Reload => self.reload().await,
            Order::VlogListPattern => Ok(logging::patterns()),
            Order::VlogRateLimit(is_limited, modules) => self.limit_rate(is_limited, &modules).await,
            Order::VlogClose => {
                self.logging.close();
                Ok(String::new())
            }
            Order::VlogReopen => match self.logging.reopen() {
                Ok(true) => Ok(String::new()),
                Ok(false) => Err("Logging to file not configured".to_owned()),
                Err(cause) => Err(cause.to_string()),
            },
            order => {
                let state = self.state.clone();
                tokio::spawn(async move {
                    let _ = asked.reply.send(ask_state(order, &state).await);
                });
                return Verdict::GoOn;
            }
        };
        let _ = asked.reply.send(answer);
        Verdict::GoOn
    }

    fn list_remotes(&self) -> String {
        let names: Vec<&str> = self.remotes.named.keys().map(String::as_str).collect();
        names.join("\n")
    }

    async fn add_remote(&mut self, name: &str) -> Answer {
        if DbColumn::is_named_by(name) {
            let column: DbColumn = name.parse().map_err(|error: ColumnError| error.to_string())?;
            let found = ask(&self.state, |reply| StateOrder::FindColumn(column, reply)).await?;
            found.map_err(|error| error.to_string())?;
        }
        self.remotes
            .add(name, RemoteOptions::default())
            .map_err(|error| error.to_string())?;
        self.keep_remotes();
        self.follow_rows().await;
        Ok(String::new())
    }

    async fn remove_remote(&mut self, name: &str) -> Answer {
        if self.remotes.named.remove(name).is_none() {
            return Err("no such remote".to_owned());
        }
        self.keep_remotes();
        self.follow_rows().await;
        Ok(String::new())
    }

    /// Starts the remotes of the command line, and those that rows ask for, before the state's task runs.
    ///
    /// # Errors
    /// A remote that is wrong or cannot be listened on, or a column that does not exist; not what is wrong in rows.
    pub(crate) fn start_remotes(&mut self, named: Named, mut state: State) -> anyhow::Result<State> {
        for (name, options) in named {
            if DbColumn::is_named_by(&name) {
                name.parse::<DbColumn>()?.find(&state.server)?;
            }
            self.remotes.add(&name, options)?;
        }
        self.keep_remotes();
        for column in self.tls.columns()? {
            column.find(&state.server)?;
        }
        let contents = state.followed.read(self.columns(), &state.server);
        let tls = self.tls.settings(&contents.files);
        // What rows are to say may be said later.
        let is_needed = self.remotes.need_tls() || state.relays.need_tls() || state.replication.needs_tls();
        if self.tls.columns()?.is_empty() && is_needed {
            tls.check()?;
        }
        self.apply(contents);
        Ok(state)
    }

    fn keep_remotes(&self) {
        if let Some(saved) = &self.saved {
            saved.keep_remotes(self.remotes.named.keys().cloned().collect());
        }
    }

    /// Makes remotes and TLS those that the rows ask for now.
    pub(crate) async fn follow_rows(&mut self) {
        let columns = self.columns();
        // A state that has ended has no rows.
        let Ok(contents) = ask(&self.state, |reply| StateOrder::ReadColumns(columns, reply)).await else {
            return;
        };
        self.apply(contents);
        self.write_statuses().await;
    }

    /// What is to be done from time to time: rows learn how their remotes are doing, and what could not be started is tried again.
    pub(crate) async fn tick(&mut self) {
        if self.remotes.has_failed() {
            self.follow_rows().await;
        } else {
            self.write_statuses().await;
        }
    }

    fn columns(&self) -> Columns {
        Columns {
            remotes: self.remotes.columns(),
            // Texts that are wrong were refused at the start.
            files: self.tls.columns().unwrap_or_default(),
        }
    }

    /// Takes what the rows say; columns that do not exist are told of once.
    fn apply(&mut self, contents: Contents) {
        if contents.errors != self.column_errors {
            for error in &contents.errors {
                warn!("{error}");
            }
            self.column_errors = contents.errors;
        }
        self.remotes.listeners.set_tls(self.tls.settings(&contents.files));
        self.remotes.apply(contents.remotes);
    }

    async fn write_statuses(&self) {
        let columns = self.remotes.columns();
        if !columns.is_empty() {
            let statuses = self.remotes.statuses();
            let _ = self.state.send(StateOrder::WriteStatuses(columns, statuses)).await;
        }
    }

    /// Only the log of transactions has a limit.
    async fn limit_rate(&self, is_limited: bool, modules: &[String]) -> Answer {
        if let Some(unknown) = modules.iter().find(|module| !logging::is_module(module)) {
            debug!("{unknown} is no module");
            return Err("unknown module".to_owned());
        }
        if modules.is_empty() || modules.iter().any(|module| module == logging::TRANSACTION) {
            // A state that has ended logs nothing.
            let _ = self.state.send(StateOrder::LimitTransactionLog(is_limited)).await;
        }
        Ok(String::new())
    }

    fn set_levels(&self, specs: &[String]) -> Answer {
        self.logging
            .set(&Spec::parse_all(specs).map_err(|error| error.to_string())?);
        Ok(String::new())
    }
}

/// An order that is about the state alone.
async fn ask_state(order: Order, state: &mpsc::Sender<StateOrder>) -> Answer {
    match order {
        Order::ListDatabases => {
            let names = ask(state, StateOrder::Names).await?;
            Ok(names.join("\n"))
        }
        Order::MemoryShow => {
            let (usage, backlog_bytes) = ask(state, StateOrder::Usage).await?;
            let counted = tokio::task::spawn_blocking(move || usage.to_line(backlog_bytes)).await;
            counted.map_err(|error| error.to_string())
        }
        Order::AddDatabase(path) => add_database(path, state).await,
        Order::RemoveDatabase(name) => {
            let removed = ask(state, |reply| StateOrder::Remove(name.into(), reply)).await?;
            removed.map(|()| String::new())
        }
        Order::Compact(Some(name)) if name.starts_with('_') => Err("cannot compact built-in databases".to_owned()),
        Order::Compact(name) => {
            let compacted = ask(state, |reply| StateOrder::Compact(name.map(Into::into), reply)).await?;
            compacted.map(|()| String::new())
        }
        Order::SetRelayProbe(interval) => match probe_interval(&interval) {
            Ok(interval) => tell(state, StateOrder::SetRelayProbe(interval)).await,
            // ovsdb-server does not call it an error either.
            Err(words) => Ok(words),
        },
        order @ (Order::SyncStatus
        | Order::ActiveServer
        | Order::ConnectActive
        | Order::DisconnectActive
        | Order::ExcludedTables
        | Order::SetActiveProbe(_)
        | Order::SetActiveServer(_)
        | Order::SetExcludedTables(_)) => role::ask_role(order, state).await,
        Order::TlogSet(table, switch) => set_transaction_log(&table, &switch, state).await,
        Order::TlogList => ask(state, StateOrder::TransactionLog).await,
        Order::DisableMonitorCond => {
            let sent = state.send(StateOrder::DisableMonitorCond).await;
            sent.map(|()| String::new()).map_err(|_| stopping())
        }
        Order::StorageStatus(name) if is_served(&name, state).await? => Ok("status: ok".to_owned()),
        Order::StorageStatus(_) => Err("Failed to find the database.".to_owned()),
        Order::Reconnect => {
            let sent = state.send(StateOrder::CloseSessions).await;
            sent.map(|()| String::new()).map_err(|_| stopping())
        }
        // The operator has carried out all others.
        other => Err(format!("{other:?} is not about the state")),
    }
}

/// `DB:TABLE`, and `on` or `off`.
async fn set_transaction_log(table: &str, switch: &str, state: &mpsc::Sender<StateOrder>) -> Answer {
    let on = match switch.to_ascii_lowercase().as_str() {
        "on" => true,
        "off" => false,
        _ => return Err("invalid command argument".to_owned()),
    };
    // Colons side by side count as one, as for ovsdb-server.
    let names: Vec<EcoString> = table
        .split(':')
        .filter(|name| !name.is_empty())
        .map(EcoString::from)
        .collect();
    let Ok(table) = <[EcoString; 2]>::try_from(names) else {
        return Err("invalid DB:TABLE argument".to_owned());
    };
    let set = ask(state, |reply| StateOrder::SetTransactionLog(table, on, reply)).await?;
    set.map(|()| String::new())
}

/// What is free goes back to the system by itself; there is nothing to switch.
fn memory_trim(switch: &str) -> Answer {
    match switch {
        "on" | "off" => Ok(String::new()),
        _ => Err("invalid argument".to_owned()),
    }
}

/// Milliseconds.
fn probe_interval(text: &str) -> Result<Duration, String> {
    let interval = text.parse::<i32>().ok().and_then(|ms| u64::try_from(ms).ok());
    let interval = interval.map(Duration::from_millis);
    interval.ok_or_else(|| "Invalid probe interval, integer value expected".to_owned())
}

async fn add_database(path: PathBuf, state: &mpsc::Sender<StateOrder>) -> Answer {
    let shown = path.display().to_string();
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    if let Some(relay) = RelayArgument::parse(&path, &here) {
        let relay = relay.map_err(|error| format!("ovsdb error: {error}"))?;
        let served = ask(state, |reply| StateOrder::ServeRelay(relay, reply)).await?;
        return served.map(|()| String::new());
    }
    if ask(state, |reply| StateOrder::IsOpen(path.clone(), reply)).await? {
        return Err(format!("ovsdb error: {shown}: already open"));
    }
    let loaded = tokio::task::spawn_blocking(move || load(&path)).await;
    let loaded = loaded.map_err(|error| format!("{shown}: {error}"))??;
    let served = ask(state, |reply| StateOrder::Serve(Box::new(loaded), reply)).await?;
    served.map(|()| String::new())
}

pub(super) fn load(path: &Path) -> Result<Loaded, String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
    databases::load_as_ovsdb_server(path, Clock::new(), &mut Entropy::new(seed))
}

async fn is_served(name: &str, state: &mpsc::Sender<StateOrder>) -> Result<bool, String> {
    let names = ask(state, StateOrder::Names).await?;
    Ok(names.iter().any(|served| served == name))
}

pub(super) async fn tell(state: &mpsc::Sender<StateOrder>, order: StateOrder) -> Answer {
    let sent = state.send(order).await;
    sent.map(|()| String::new()).map_err(|_| stopping())
}

pub(super) async fn ask<T>(
    state: &mpsc::Sender<StateOrder>,
    order: impl FnOnce(oneshot::Sender<T>) -> StateOrder,
) -> Result<T, String> {
    let (reply, answered) = oneshot::channel();
    state.send(order(reply)).await.map_err(|_| stopping())?;
    answered.await.map_err(|_| stopping())
}

fn stopping() -> String {
    "the server is stopping".to_owned()
}
