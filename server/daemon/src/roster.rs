//! Orders to the state from whoever operates the server: databases come and go, sessions are closed, figures are asked for.
//!
//! The texts of errors are those of ovsdb-server's commands.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ecow::EcoString;
use nonnet_engine::Entropy;
use nonnet_sessions::{RemoveError, StartError, Usage};
use nonnet_store::Durability;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::arguments::Arguments;
use crate::controller;
use crate::databases::Loaded;
use crate::remotes::{ColumnError, Columns, Contents, DbColumn, Statuses};
use crate::source::{RelayArgument, RoleOrder};
use crate::state::State;
use crate::storage::{Completed, Storage};
use crate::supervise::Saved;

/// What is asked of the state. An answer that nobody waits for any more is dropped.
pub(crate) enum StateOrder {
    /// The names of all databases.
    Names(oneshot::Sender<Vec<EcoString>>),
    /// What is held, and how many bytes wait for clients to read them.
    Usage(oneshot::Sender<(Usage, usize)>),
    /// The databases, each with its argument on the command line: its file in full, or the source that it is relayed from.
    Arguments(oneshot::Sender<Vec<(EcoString, String)>>),
    /// Whether the file is served already.
    IsOpen(PathBuf, oneshot::Sender<bool>),
    /// Serve a database more.
    Serve(Box<Loaded>, oneshot::Sender<Result<(), String>>),
    /// Serve a database of another server.
    ServeRelay(RelayArgument, oneshot::Sender<Result<(), String>>),
    /// Something about whether this server is active or a backup.
    Role(RoleOrder),
    /// How long the source of a relay may be silent before it is asked.
    SetRelayProbe(Duration),
    /// Serve a database no longer, and close its file.
    Remove(EcoString, oneshot::Sender<Result<(), String>>),
    /// Give back the room that the file of a database does not need; None for all databases.
    Compact(Option<EcoString>, oneshot::Sender<Result<(), String>>),
    /// Log the transactions of a table (its database first), or do not.
    SetTransactionLog([EcoString; 2], bool, oneshot::Sender<Result<(), String>>),
    /// Which tables have their transactions logged, as text.
    TransactionLog(oneshot::Sender<String>),
    /// Limit the lines of the log of transactions, or do not.
    LimitTransactionLog(bool),
    /// Answer `monitor_cond` and `monitor_cond_since` as unknown from now on, and close all sessions.
    DisableMonitorCond,
    /// Follow these columns, and say what is in them.
    ReadColumns(Columns, oneshot::Sender<Contents>),
    /// Whether a column exists.
    FindColumn(DbColumn, oneshot::Sender<Result<(), ColumnError>>),
    /// Write how remotes are doing into the rows that these columns refer to.
    WriteStatuses(Vec<DbColumn>, Statuses),
    /// Close all sessions.
    CloseSessions,
}

/// What the state needs to take databases in while it runs.
pub(crate) struct Roster {
    pub(crate) arguments: Arguments,
    pub(crate) durability: Durability,
    /// For the writers.
    pub(crate) completions: UnboundedSender<Completed>,
    /// The files, by database.
    pub(crate) files: HashMap<EcoString, PathBuf>,
    /// The next place of a database; none is given twice.
    pub(crate) next_place: usize,
    /// Where the list of databases is kept that should survive a crash.
    pub(crate) saved: Option<Saved>,
}

impl State {
    /// Does what is asked; it waits only for a disk that is behind when a database is removed.
    pub(crate) async fn obey(&mut self, order: StateOrder, completions: &mut UnboundedReceiver<Completed>) {
        match order {
            StateOrder::Names(reply) => {
                let _ = reply.send(self.server.database_names().cloned().collect());
            }
            StateOrder::Usage(reply) => {
                let backlog = self.sessions.values().map(nonnet_rpc::Outbox::backlog_bytes).sum();
                let _ = reply.send((self.server.usage(), backlog));
            }
            StateOrder::Arguments(reply) => {
                let _ = reply.send(self.database_arguments());
            }
            StateOrder::IsOpen(path, reply) => {
                let _ = reply.send(self.roster.files.values().any(|file| *file == resolved(&path)));
            }
            StateOrder::Serve(loaded, reply) => {
                let _ = reply.send(self.serve(*loaded));
            }
            StateOrder::ServeRelay(relay, reply) => {
                let _ = reply.send(self.serve_relay(relay));
            }
            StateOrder::Role(order) => self.obey_role(order),
            StateOrder::SetRelayProbe(interval) => self.relays.set_probe_interval(interval),
            StateOrder::Remove(name, reply) => self.remove(&name, reply, completions).await,
            StateOrder::Compact(name, reply) => self.compact(name.as_ref(), reply),
            StateOrder::SetTransactionLog(table, on, reply) => {
                let _ = reply.send(self.set_transaction_log(table, on));
            }
            StateOrder::TransactionLog(reply) => {
                let names = self.server.database_names();
                let databases = names.filter_map(|name| self.server.database(name));
                let _ = reply.send(self.transaction_log.list(databases));
            }
            StateOrder::LimitTransactionLog(is_limited) => self.transaction_log.set_limited(is_limited),
            StateOrder::DisableMonitorCond => {
                self.server.disable_monitor_cond();
                self.close_sessions();
            }
            StateOrder::ReadColumns(columns, reply) => {
                let _ = reply.send(self.followed.read(columns, &self.server));
            }
            StateOrder::FindColumn(column, reply) => {
                let _ = reply.send(column.find(&self.server).map(drop));
            }
            StateOrder::WriteStatuses(columns, statuses) => self.write_statuses(&columns, &statuses),
            StateOrder::CloseSessions => self.close_sessions(),
        }
    }

    fn database_arguments(&self) -> Vec<(EcoString, String)> {
        let files = self.roster.files.iter();
        let files = files.map(|(name, file)| (name.clone(), file.display().to_string()));
        let relays = self.relays.arguments();
        let relays = relays.map(|(name, argument)| (name.clone(), argument.clone()));
        let mut arguments: Vec<(EcoString, String)> = files.chain(relays).collect();
        arguments.sort_unstable();
        arguments
    }

    /// Keeps the list of databases for the server after this one.
    pub(crate) fn keep_databases(&self) {
        if let Some(saved) = &self.roster.saved {
            let arguments = self.database_arguments().into_iter();
            saved.keep_databases(arguments.map(|(_, argument)| argument).collect());
        }
    }

    pub(crate) fn close_sessions(&self) {
        for session in self.server.sessions_at(None) {
            if let Some(outbox) = self.sessions.get(&session) {
                outbox.close_after_flush();
            }
        }
    }

    fn set_transaction_log(&mut self, [database, table]: [EcoString; 2], on: bool) -> Result<(), String> {
        let Some(rows) = self.server.database(&database) else {
            return Err("no such database".to_owned());
        };
        if rows.schema().table_index(&table).is_none() {
            return Err("no such table".to_owned());
        }
        self.transaction_log.set(database, table, on);
        Ok(())
    }

    /// Answers once the writers have done it; commits wait behind it.
    fn compact(&mut self, name: Option<&EcoString>, reply: oneshot::Sender<Result<(), String>>) {
        self.append_fresh();
        let mut under_way = Vec::new();
        for (database, place) in &self.places {
            let (Some(storage), true) = (self.storages.get(place), name.is_none_or(|name| name == database)) else {
                continue;
            };
            info!("compacting {database} database by user request");
            let (sender, done) = oneshot::channel();
            storage.compact(Box::new(move |result| drop(sender.send(result))));
            under_way.push((database.clone(), done));
        }
        if under_way.is_empty() && name.is_some_and(|name| self.relays.contains(name)) {
            // It is in memory only.
            let _ = reply.send(Ok(()));
            return;
        }
        if under_way.is_empty() {
            let _ = reply.send(Err("no database by that name".to_owned()));
            return;
        }
        tokio::spawn(async move {
            let mut errors = String::new();
            for (database, done) in under_way {
                match done.await {
                    Ok(Ok(compaction)) => info!(
                        "{database}: {} KiB on the disk, {} KiB before; every record is kept",
                        compaction.bytes_after / 1024,
                        compaction.bytes_before / 1024
                    ),
                    Ok(Err(error)) => errors = format!("{errors}{error}\n"),
                    Err(_) => errors = format!("{errors}{database}: too busy, try again\n"),
                }
            }
            let _ = reply.send(if errors.is_empty() { Ok(()) } else { Err(errors) });
        });
    }

    fn serve_relay(&mut self, relay: RelayArgument) -> Result<(), String> {
        let served = self.server.serve_relay(&relay.database, self.clock.now());
        let commands = served.map_err(|error| match error {
            StartError::DuplicateName(name) => format!("ovsdb error: {name}: duplicate database name"),
            other => format!("ovsdb error: {}: {other}", relay.database),
        })?;
        info!("{relay} is served");
        self.relays.start(relay);
        self.keep_databases();
        self.carry_out(commands);
        self.followed.databases_changed();
        Ok(())
    }

    fn serve(&mut self, loaded: Loaded) -> Result<(), String> {
        let shown = loaded.path.display().to_string();
        let (name, id) = (loaded.database.schema().name.clone(), loaded.chain.db_id());
        let file = loaded.log.path().to_owned();
        let hook = controller::hook_for(loaded.database.schema());
        let place = self.roster.next_place;
        let served = self
            .server
            .serve_database(loaded.database, loaded.chain, hook, self.clock.now());
        let commands = served.map_err(|error| match error {
            StartError::DuplicateName(_) => format!("ovsdb error: {shown}: duplicate database name"),
            other => format!("ovsdb error: {shown}: {other}"),
        })?;
        let (log, durability, completions) = (loaded.log, self.roster.durability, self.roster.completions.clone());
        match Storage::start(place, log, durability, completions) {
            Ok(storage) => self.storages.insert(place, storage),
            Err(cause) => {
                // What cannot be written is not served after all.
                if let Ok(commands) = self.server.remove_database(&name, self.clock.now()) {
                    self.carry_out(commands);
                }
                return Err(format!("I/O error: {shown}: {cause}"));
            }
        };
        self.roster.next_place += 1;
        self.places.insert(name.clone(), place);
        self.past_reads.add(name.clone(), file);
        self.past_reads.load_newest(&name, &mut self.server);
        self.roster.files.insert(name.clone(), resolved(&loaded.path));
        self.keep_databases();
        self.carry_out(commands);
        info!("{name} in {shown} is served");
        self.followed.databases_changed();
        let is_covered = self.replication.covers(&resolved(&loaded.path));
        if self.replication.is_backup() && is_covered {
            self.follow_anew();
        } else if self.replication.plan().is_none() || !is_covered {
            self.start_controller(&name, id);
        }
        Ok(())
    }

    /// Makes the rows of a database that came true, where it is the one whose rows are networks.
    pub(crate) fn start_controller(&mut self, name: &EcoString, id: nonnet_schema::Uuid) {
        let ids = HashMap::from([(name.clone(), id)]);
        let mut seed = [0; 32];
        if !controller::is_followed(name) || getrandom::fill(&mut seed).is_err() {
            return;
        }
        let mut entropy = Entropy::new(seed);
        // The log may be asked what rows were.
        self.append_fresh();
        match controller::start(
            &self.roster.arguments,
            &mut self.server,
            &ids,
            self.past_reads.path(controller::DATABASE),
            self.clock,
            &mut entropy,
        ) {
            Ok(started) => {
                self.network = started.link;
                self.checkpoints = started.checkpoints;
                self.carry_out(started.commands);
            }
            Err(error) => warn!("{name} is served without effect on the kernel: {error:#}"),
        }
    }

    /// Follows the rows of a database that has another schema now from the beginning, where it is the one whose rows are networks.
    pub(crate) fn converted(&mut self, name: &EcoString) {
        self.followed.databases_changed();
        info!("{name} has another schema now");
        let is_kept = controller::is_followed(name) && self.checkpoints.is_some();
        let is_followed = is_kept || self.network.as_ref().is_some_and(|network| network.follows(name));
        if let Some(id) = self.server.database_id(name).filter(|_| is_followed) {
            // The kernel's side of the old link ends with it.
            self.network = None;
            self.checkpoints = None;
            self.start_controller(name, id);
        }
    }

    async fn remove(
        &mut self,
        name: &EcoString,
        reply: oneshot::Sender<Result<(), String>>,
        completions: &mut UnboundedReceiver<Completed>,
    ) {
        self.append_fresh();
        let place = self.places.get(name).copied();
        while place
            .and_then(|place| self.storages.get(&place))
            .is_some_and(Storage::is_busy)
        {
            let Some(completed) = completions.recv().await else {
                break;
            };
            self.completed(completed);
        }
        let removed = self.server.remove_database(name, self.clock.now());
        let commands = match removed {
            Ok(commands) => commands,
            Err(error) => {
                let _ = reply.send(Err(remove_error_text(&error)));
                return;
            }
        };
        if controller::is_followed(name) {
            self.network = None;
            self.checkpoints = None;
        }
        self.places.remove(name);
        self.relays.stop(name);
        self.past_reads.remove(name);
        self.transaction_log.forget(name);
        self.roster.files.remove(name);
        self.keep_databases();
        self.carry_out(commands);
        info!("{name} is served no longer");
        self.followed.databases_changed();
        let storage = place.and_then(|place| self.storages.remove(&place));
        tokio::spawn(async move {
            // Answered once the file is free for others.
            let _ = tokio::task::spawn_blocking(move || storage.map(Storage::stop)).await;
            let _ = reply.send(Ok(()));
        });
    }
}

/// The file as it is named whichever way it is spelt.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn remove_error_text(error: &RemoveError) -> String {
    match error {
        RemoveError::Unknown(_) => "Failed to find the database.".to_owned(),
        RemoveError::Reserved(_) => "Cannot remove reserved database.".to_owned(),
        RemoveError::Catalog(error) => error.to_string(),
    }
}
