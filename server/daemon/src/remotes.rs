//! The remotes of the server: those named on the command line, on the control socket or in the configuration file, and those that rows
//! of databases ask for. It takes what is wanted, and starts, changes and stops what differs.

mod column;
mod follow;
mod status;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use nonnet_rpc::{ConnectionState, ListenError, Listeners, Remote, RemoteError, RemoteOptions, RemoteStatus};
use thiserror::Error;
use tracing::{info, warn};

pub(crate) use crate::remotes::column::{ColumnError, DbColumn};
pub(crate) use crate::remotes::follow::{Columns, Contents, Followed};
pub(crate) use crate::remotes::status::Statuses;
pub(crate) use crate::remotes::wanted::Wanted;

/// How often the status of remotes is written into rows, and remotes that could not be started are tried again.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_millis(2_500);

/// What operators name a remote by, with its options; `db:` columns are among them.
pub(crate) type Named = BTreeMap<String, RemoteOptions>;

/// Why a remote is not there.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Text(#[from] RemoteError),
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl StartError {
    /// Whether somebody else has the place.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(
            self,
            Self::Listen(ListenError::PortInUse { .. } | ListenError::InUse { .. })
        )
    }
}

/// Whether one of them speaks TLS.
///
/// # Errors
/// A text that is no remote and no column.
pub(crate) fn speak_tls(named: &Named) -> anyhow::Result<bool> {
    let mut speak_tls = false;
    for name in named.keys() {
        if DbColumn::is_named_by(name) {
            name.parse::<DbColumn>()?;
        } else {
            speak_tls |= name.parse::<Remote>()?.is_tls();
        }
    }
    Ok(speak_tls)
}

/// All remotes.
pub(crate) struct Remotes {
    pub(crate) listeners: Listeners,
    /// What operators asked for.
    pub(crate) named: Named,
    /// What rows asked for last.
    from_rows: Vec<Wanted>,
    /// What runs, by target.
    running: BTreeMap<String, (Remote, RemoteOptions)>,
    /// Targets that cannot be started, each with why.
    failed: BTreeMap<String, String>,
    /// Where relative paths of sockets begin.
    directory: PathBuf,
    /// What the files of sockets have, where not the default.
    pub(crate) socket_mode: Option<u32>,
    pub(crate) socket_group: Option<u32>,
}

impl Remotes {
    /// No remotes yet.
    pub(crate) fn new(listeners: Listeners, directory: PathBuf) -> Self {
        Self {
            listeners,
            named: Named::new(),
            from_rows: Vec::new(),
            running: BTreeMap::new(),
            failed: BTreeMap::new(),
            directory,
            socket_mode: None,
            socket_group: None,
        }
    }

    /// The columns among what operators asked for; texts that are wrong were refused before.
    pub(crate) fn columns(&self) -> Vec<DbColumn> {
        let columns = self.named.keys().filter(|name| DbColumn::is_named_by(name));
        columns.filter_map(|name| name.parse().ok()).collect()
    }

    /// Starts a remote that an operator names; nothing happens where it is there already.
    ///
    /// # Errors
    /// [`StartError`]; nothing has changed then.
    pub(crate) fn add(&mut self, name: &str, options: RemoteOptions) -> Result<(), StartError> {
        if !DbColumn::is_named_by(name) && !self.running.contains_key(name) {
            self.start(name, options.clone())?;
        }
        self.failed.remove(name);
        self.named.entry(name.to_owned()).or_insert(options);
        Ok(())
    }

    /// Makes the remotes those that are named, and those that the rows in `from_rows` ask for. What cannot be started is told of in the
    /// log, and tried again by the next call.
    pub(crate) fn apply(&mut self, from_rows: Vec<Wanted>) {
        self.from_rows = from_rows;
        self.apply_again();
    }

    /// As [`apply`](Self::apply), where the rows say what they said before.
    pub(crate) fn apply_again(&mut self) {
        let plain = self.named.iter().filter(|(name, _)| !DbColumn::is_named_by(name));
        let mut wanted: Named = plain.map(|(name, options)| (name.clone(), options.clone())).collect();
        let (inherited, from_rows): (Vec<_>, Vec<_>) = self.from_rows.iter().cloned().partition(Wanted::is_inherited);
        for Wanted { target, options } in from_rows {
            let known = wanted.entry(target).or_default();
            // A row goes before the command line, as for ovsdb-server.
            if let Some(options) = options {
                *known = options;
            }
        }
        let refused: BTreeSet<String> = inherited.into_iter().map(|wanted| wanted.target).collect();
        self.failed
            .retain(|target, _| wanted.contains_key(target) || refused.contains(target));
        for target in refused {
            self.fail(
                &target,
                "pfd: remotes can only be specified on the command line".to_owned(),
            );
        }
        self.stop_others(&wanted);
        for (target, options) in wanted {
            match self.running.get_mut(&target) {
                Some((_, current)) if *current == options => {}
                Some((remote, current)) => {
                    self.listeners.configure(remote, options.clone());
                    *current = options;
                }
                None => match self.start(&target, options) {
                    Ok(()) => {
                        self.failed.remove(&target);
                    }
                    Err(error) => self.fail(&target, error.to_string()),
                },
            }
        }
    }

    /// Stops remotes that operators named; their names stay until they are forgotten.
    pub(crate) fn stop_named(&mut self, goes: impl Fn(&String) -> bool) {
        let going: Vec<String> = self.named.keys().filter(|name| goes(name)).cloned().collect();
        for name in going {
            if let Some((remote, _)) = self.running.remove(&name) {
                self.listeners.stop_remote(&remote);
            }
        }
    }

    /// How the remotes are doing, those included that could not be started.
    pub(crate) fn statuses(&self) -> Statuses {
        let mut statuses = Statuses::new();
        for (target, (remote, _)) in &self.running {
            statuses.extend(self.listeners.status(remote).map(|status| (target.clone(), status)));
        }
        for (target, error) in &self.failed {
            let status = RemoteStatus {
                state: Some(ConnectionState::Backoff),
                last_error: Some(error.clone()),
                ..RemoteStatus::default()
            };
            statuses.insert(target.clone(), status);
        }
        statuses
    }

    /// Whether some remote that runs speaks TLS.
    pub(crate) fn need_tls(&self) -> bool {
        self.running.values().any(|(remote, _)| remote.is_tls())
    }

    /// Whether some remote is to be tried again.
    pub(crate) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    fn start(&mut self, target: &str, options: RemoteOptions) -> Result<(), StartError> {
        let remote = self.settle(target.parse()?);
        let with_file = RemoteOptions {
            mode: self.socket_mode,
            group: self.socket_group,
            ..options.clone()
        };
        self.listeners.start(remote.clone(), with_file)?;
        self.running.insert(target.to_owned(), (remote, options));
        Ok(())
    }

    /// Makes the path of a socket independent of the working directory.
    fn settle(&self, remote: Remote) -> Remote {
        match remote {
            Remote::PassiveUnix(path) => Remote::PassiveUnix(self.directory.join(path)),
            Remote::ActiveUnix(path) => Remote::ActiveUnix(self.directory.join(path)),
            other => other,
        }
    }

    fn stop_others(&mut self, wanted: &Named) {
        let gone: Vec<String> = self
            .running
            .keys()
            .filter(|target| !wanted.contains_key(*target))
            .cloned()
            .collect();
        for target in gone {
            if let Some((remote, _)) = self.running.remove(&target) {
                info!("{target}: remote deconfigured");
                self.listeners.stop_remote(&remote);
            }
        }
    }

    /// Says once why a remote is not there.
    fn fail(&mut self, target: &str, error: String) {
        if self.failed.get(target) != Some(&error) {
            warn!("{target}: {error}");
            self.failed.insert(target.to_owned(), error);
        }
    }
}
