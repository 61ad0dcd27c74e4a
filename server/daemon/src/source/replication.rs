//! Whether this server is active or a backup, and of which server; what `ovs-appctl` asks about it (ovsdb-server(1), "Active-Backup
//! Commands").
//!
//! ```text
//! active  --connect-->  backup, connecting  --contents told-->  backup, replicating  --lost-->  backup, connecting
//! active  <--disconnect, failed--  backup
//! ```
//!
//! A backup's rows have no effect on the kernel; they get it when the server becomes active.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ecow::EcoString;
use nonnet_chain::Author;
use nonnet_rpc::TlsDialler;
use nonnet_schema::{DatabaseSchema, Uuid};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::source::backup::BackupTask;
use crate::source::backup_plan::BackupPlan;
use crate::source::exclusion::Exclusion;
use crate::source::{SourceEvent, SourceRemote};

/// How long the active server may be silent before it is asked (ovsdb-server's figure).
const PROBE_INTERVAL: Duration = Duration::from_mins(1);

/// The role of this server.
pub(crate) struct Replication {
    /// The server to follow when told to.
    pub(crate) remote: Option<SourceRemote>,
    pub(crate) exclusion: Exclusion,
    /// Of the configuration file, where there is one; otherwise all files are followed.
    plan: Option<BackupPlan>,
    tls: TlsDialler,
    probe: watch::Sender<Duration>,
    events: mpsc::Sender<SourceEvent>,
    backup: Option<Backup>,
    next_run: u64,
}

/// A server that follows another.
struct Backup {
    remote: SourceRemote,
    /// Those that are followed; None while there is no connection.
    databases: Option<Vec<EcoString>>,
    run: u64,
    task: AbortHandle,
}

impl Drop for Backup {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Replication {
    /// An active server.
    pub(crate) fn new(
        remote: Option<SourceRemote>,
        exclusion: Exclusion,
        tls: TlsDialler,
        events: mpsc::Sender<SourceEvent>,
    ) -> Self {
        Self {
            remote,
            exclusion,
            plan: None,
            tls,
            probe: watch::Sender::new(PROBE_INTERVAL),
            events,
            backup: None,
            next_run: 0,
        }
    }

    pub(crate) fn is_backup(&self) -> bool {
        self.backup.is_some()
    }

    /// Whether the server to follow is reached with TLS.
    pub(crate) fn needs_tls(&self) -> bool {
        self.remote.as_ref().is_some_and(SourceRemote::is_tls)
    }

    /// Follows what a configuration file says, when told to; until then it follows nothing.
    pub(crate) fn set_plan(&mut self, plan: BackupPlan) {
        self.stop();
        self.remote.clone_from(&plan.remote);
        self.set_probe_interval(plan.probe.unwrap_or(PROBE_INTERVAL));
        self.plan = Some(plan);
    }

    pub(crate) fn plan(&self) -> Option<&BackupPlan> {
        self.plan.as_ref()
    }

    /// Whether a file is followed while this server is a backup.
    pub(crate) fn covers(&self, file: &Path) -> bool {
        self.plan.as_ref().is_none_or(|plan| plan.contains(file))
    }

    /// Whether an event is of the task that runs now.
    pub(crate) fn is_current(&self, run: u64) -> bool {
        self.backup.as_ref().is_some_and(|backup| backup.run == run)
    }

    /// Follows the remote with these databases from now on, anew where one is followed already. Needs a remote.
    pub(crate) fn start(&mut self, own_id: Uuid, databases: BTreeMap<EcoString, Arc<DatabaseSchema>>) {
        let Some(remote) = self.remote.clone() else {
            return;
        };
        let run = self.next_run;
        self.next_run += 1;
        let task = BackupTask {
            remote: remote.clone(),
            tls: self.tls.clone(),
            own_id,
            databases,
            exclusion: self.exclusion.clone(),
            probe: self.probe.subscribe(),
            events: self.events.clone(),
            run,
        };
        let task = tokio::spawn(task.run()).abort_handle();
        self.backup = Some(Backup {
            remote,
            databases: None,
            run,
            task,
        });
    }

    /// Follows no more.
    pub(crate) fn stop(&mut self) {
        self.backup = None;
    }

    /// Notes which databases are followed; None when the connection is lost.
    pub(crate) fn set_following(&mut self, databases: Option<Vec<EcoString>>) {
        if let Some(backup) = &mut self.backup {
            backup.databases = databases;
        }
    }

    pub(crate) fn set_probe_interval(&self, interval: Duration) {
        self.probe.send_replace(interval);
    }

    /// Who the commits of a backup are of.
    pub(crate) fn author(&self) -> Author {
        let remote = self.backup.as_ref().map(|backup| backup.remote.to_string());
        Author {
            comm: "nonnetd".into(),
            remote: "sync-from".into(),
            address: remote.unwrap_or_default().into(),
            ..Author::default()
        }
    }

    /// The answer to `sync-status`, in the form of ovsdb-server 3.1.
    pub(crate) fn status(&self) -> String {
        let Some(backup) = &self.backup else {
            return "state: active".to_owned();
        };
        let mut text = String::from("state: backup\n");
        // Writing to a string cannot fail.
        let _ = match &backup.databases {
            Some(databases) => {
                let databases = databases.join(", ");
                write!(text, "replicating: {}\ndatabase: {databases}", backup.remote)
            }
            None => write!(text, "connecting: {}", backup.remote),
        };
        if backup.databases.is_some() && !self.exclusion.is_empty() {
            let _ = write!(text, "\nexclude: {}", self.exclusion);
        }
        text
    }
}
