//! What the state does about its role: a backup takes the rows of the active server, an active server acts on its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use ecow::EcoString;
use nonnet_schema::{DatabaseSchema, RowUpdate, TableIndex};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::controller;
use crate::network::NetworkLink;
use crate::source::backup::BackupNews;
use crate::source::backup_plan::BackupPlan;
use crate::source::exclusion::Exclusion;
use crate::source::{News, SourceEvent, SourceRemote};
use crate::state::State;
use nonnet_sessions::Event;

/// What is asked about the role.
pub(crate) enum RoleOrder {
    /// `sync-status`.
    Status(oneshot::Sender<String>),
    /// Follow this server when told to.
    SetRemote(SourceRemote),
    /// The server to follow when told to; empty for none.
    Remote(oneshot::Sender<String>),
    /// Become a backup; false where no server to follow is known.
    Connect(oneshot::Sender<bool>),
    /// Become active.
    Disconnect,
    /// How long the active server may be silent before it is asked.
    SetProbe(std::time::Duration),
    /// From now on the configuration file says this about backups; to be followed by `FollowPlan`.
    SetPlan(BackupPlan),
    /// Follow what the configuration file says.
    FollowPlan,
    /// Do not follow these tables.
    SetExclusion(Exclusion),
    /// The tables that are not followed.
    Exclusion(oneshot::Sender<String>),
}

impl State {
    /// Takes what a source says.
    pub(crate) fn source(&mut self, SourceEvent(news): SourceEvent) {
        match news {
            News::Relay { database, news } => self.handle(Event::Source { database, news }),
            News::Backup { run, news } if self.replication.is_current(run) => self.replicate(news),
            // Of a task that has been ended since.
            News::Backup { .. } => {}
        }
    }

    /// Does what is asked about the role. An answer that nobody waits for any more is dropped.
    pub(crate) fn obey_role(&mut self, order: RoleOrder) {
        match order {
            RoleOrder::Status(reply) => drop(reply.send(self.replication.status())),
            RoleOrder::SetRemote(remote) => self.replication.remote = Some(remote),
            RoleOrder::Remote(reply) => {
                let remote = self.replication.remote.as_ref().map(ToString::to_string);
                let _ = reply.send(remote.unwrap_or_default());
            }
            RoleOrder::Connect(reply) => {
                let is_known = self.replication.remote.is_some();
                if is_known {
                    self.become_backup();
                }
                let _ = reply.send(is_known);
            }
            RoleOrder::Disconnect => self.become_active(),
            RoleOrder::SetProbe(interval) => self.replication.set_probe_interval(interval),
            RoleOrder::SetPlan(plan) => self.set_plan(plan),
            RoleOrder::FollowPlan => {
                if self.replication.remote.is_some() && !self.replication.is_backup() {
                    self.become_backup();
                }
            }
            RoleOrder::SetExclusion(exclusion) => {
                self.replication.exclusion = exclusion;
                self.follow_anew();
            }
            RoleOrder::Exclusion(reply) => drop(reply.send(self.replication.exclusion.to_string())),
        }
    }

    /// Follows the active server that is known, from now on; sessions that could write until now are closed.
    pub(crate) fn become_backup(&mut self) {
        let was_backup = self.replication.is_backup();
        let databases = self.databases_to_follow();
        for name in databases.keys() {
            self.server.set_backup(name, true);
        }
        let is_followed = |network: &NetworkLink| databases.contains_key(network.database());
        if self.network.as_ref().is_some_and(is_followed) {
            // What is in the kernel stays as it is.
            self.network = None;
        }
        if databases.contains_key(controller::DATABASE) {
            self.checkpoints = None;
        }
        if let Some(exclusion) = self.planned_exclusion() {
            self.replication.exclusion = exclusion;
        }
        self.replication.start(self.server.id(), databases);
        if !was_backup {
            info!("this server is a backup now");
            self.close_sessions();
        }
    }

    /// Begins anew where this server is a backup: its databases or the tables to follow have changed, or something was missed.
    pub(crate) fn follow_anew(&mut self) {
        if self.replication.is_backup() {
            self.become_backup();
        }
    }

    /// Follows no more; clients write, and rows have their effect.
    fn become_active(&mut self) {
        if !self.replication.is_backup() {
            return;
        }
        self.replication.stop();
        info!("this server is active now");
        for name in self.databases_to_follow().into_keys() {
            self.activate(&name);
        }
        self.close_sessions();
    }

    /// Lets clients write to a database, and its rows have their effect.
    fn activate(&mut self, name: &EcoString) {
        self.server.set_backup(name, false);
        let id = self.server.database_id(name).filter(|_| controller::is_followed(name));
        if let Some(id) = id {
            self.start_controller(name, id);
        }
    }

    /// Takes on what the configuration file says. What is a backup no longer becomes active; what still is, or is to be, waits to be followed.
    fn set_plan(&mut self, plan: BackupPlan) {
        if self.replication.plan() == Some(&plan) {
            return;
        }
        let before = if self.replication.is_backup() {
            self.databases_to_follow()
        } else {
            BTreeMap::new()
        };
        self.replication.set_plan(plan);
        let now = self.databases_to_follow();
        let mut has_changed = false;
        for name in before.keys().filter(|name| !now.contains_key(*name)) {
            info!("{name} is active now");
            self.activate(name);
            has_changed = true;
        }
        if has_changed {
            self.close_sessions();
        }
    }

    /// The tables that the configuration file does not want followed; None where there is no such file.
    fn planned_exclusion(&self) -> Option<Exclusion> {
        let plan = self.replication.plan()?;
        let tables = self.roster.files.iter().flat_map(|(name, file)| {
            let tables = plan.files.get(file).into_iter().flatten();
            tables.map(|table| (name.to_string(), table.clone()))
        });
        Some(tables.collect())
    }

    /// The databases that a backup follows, with their schemas: those of files, and of these what a configuration file says.
    fn databases_to_follow(&self) -> BTreeMap<EcoString, Arc<DatabaseSchema>> {
        let files = self.roster.files.iter();
        let covered = files.filter(|(_, file)| self.replication.covers(file));
        let databases = covered.filter_map(|(name, _)| {
            let schema = self.server.database(name)?.schema();
            Some((name.clone(), Arc::clone(schema)))
        });
        databases.collect()
    }

    fn replicate(&mut self, news: BackupNews) {
        match news {
            BackupNews::Content { database, rows, tables } => self.take_rows(&database, &rows, &tables),
            BackupNews::Update { database, rows } => self.take_rows(&database, &rows, &[]),
            BackupNews::Following(databases) => {
                info!("replicating {}", databases.join(", "));
                self.replication.set_following(Some(databases));
            }
            BackupNews::Lost => self.replication.set_following(None),
            BackupNews::Failed(reason) => self.end_replication(&reason),
        }
    }

    fn take_rows(&mut self, database: &EcoString, rows: &[RowUpdate], whole: &[TableIndex]) {
        let author = self.replication.author();
        match self.server.replicate(database, &author, self.clock.now(), rows, whole) {
            Ok(commands) => self.carry_out(commands),
            Err(error) => self.end_replication(&format!("{database}: {error}")),
        }
    }

    fn end_replication(&mut self, reason: &str) {
        warn!("the replication has ended, since the active server cannot be followed: {reason}");
        self.become_active();
    }
}
