//! `ovsdb-server/reload`: the server becomes what its configuration file says now, or stays what it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ecow::EcoString;
use tracing::info;

use crate::config_file::{Configuration, Service, Source};
use crate::databases::Databases;
use crate::remotes::{Named, StartError};
use crate::roster::{StateOrder, resolved};
use crate::source::{BackupPlan, RelayArgument, RoleOrder, SourceRemote};
use crate::unixctl::Answer;
use crate::unixctl::operator::{Operator, ask, load, tell};

impl Configuration {
    /// Its databases as on the command line: files in full, found from `directory`, or the sources that they are relayed from.
    ///
    /// # Errors
    /// A source that is none, or a database that can only be served otherwise.
    pub(crate) fn arguments(&self, directory: &Path) -> Result<BTreeSet<String>, String> {
        let argument = |(name, service): (&String, &Service)| match service {
            Service::Standalone | Service::ActiveBackup { .. } => {
                Ok(resolved(&directory.join(name)).display().to_string())
            }
            Service::Relay(source) => {
                let text = format!("relay:{name}:{}", source.remote);
                match RelayArgument::parse(Path::new(&text), directory) {
                    Some(Ok(relay)) => Ok(relay.to_argument()),
                    Some(Err(error)) => Err(format!("\"databases\" > \"{name}\": {error}")),
                    None => Err(format!("\"databases\" > \"{name}\" is no relay")),
                }
            }
        };
        self.databases.iter().map(argument).collect()
    }

    /// Which of its databases are backups, with their files found from `directory`.
    ///
    /// # Errors
    /// A source that is none, or backups of different servers: this server follows one.
    pub(crate) fn backup_plan(&self, directory: &Path) -> Result<BackupPlan, String> {
        let mut plan = BackupPlan::default();
        let mut first: Option<(&String, &Source)> = None;
        for (name, service) in &self.databases {
            let Service::ActiveBackup {
                source: Some(source),
                backup: true,
                exclude_tables,
            } = service
            else {
                continue;
            };
            match first {
                None => {
                    let mut remote = SourceRemote::parse(&source.remote)
                        .map_err(|error| format!("\"databases\" > \"{name}\" > \"source\": {error}"))?;
                    remote.settle(directory);
                    plan.remote = Some(remote);
                    plan.probe = source.options.inactivity_probe;
                    first = Some((name, source));
                }
                Some((before, other)) if other != source => {
                    return Err(format!(
                        "\"databases\" > \"{before}\" and \"databases\" > \"{name}\" are backups with different \"source\", {} and \
                         {}; nonnetd follows one server, with the same options for all databases",
                        other.remote, source.remote
                    ));
                }
                Some(_) => {}
            }
            let excluded = exclude_tables.iter().cloned().collect();
            plan.files.insert(resolved(&directory.join(name)), excluded);
        }
        Ok(plan)
    }
}

impl Operator {
    /// Reads the configuration file and takes it on. What is wrong in it, or cannot be opened, leaves everything as it was.
    pub(super) async fn reload(&mut self) -> Answer {
        let Some(path) = self.config_file.clone() else {
            return Err("Configuration file was not specified on command line".to_owned());
        };
        info!("loading configuration from '{}'", path.display());
        let configuration = Configuration::read(&path).map_err(|error| error.to_string())?;
        let in_file = |error: String| format!("{}: {error}", path.display());
        let wanted = configuration.arguments(&self.directory).map_err(in_file)?;
        let plan = configuration.backup_plan(&self.directory).map_err(in_file)?;
        let served = ask(&self.state, StateOrder::Arguments).await?;
        let is_open = |argument: &String| served.iter().any(|(_, open)| open == argument);
        let fresh: Vec<PathBuf> = wanted
            .iter()
            .filter(|argument| !is_open(argument))
            .map(PathBuf::from)
            .collect();
        let (gone, kept): (Vec<_>, Vec<_>) = served.iter().partition(|(_, argument)| !wanted.contains(argument));
        let loaded = load_all(fresh, self.directory.clone()).await.map_err(in_file)?;
        check_names(kept.into_iter().map(|(name, _)| name), &loaded).map_err(in_file)?;
        self.take_remotes(configuration.remotes).map_err(in_file)?;
        for (name, _) in gone {
            ask(&self.state, |reply| StateOrder::Remove(name.clone(), reply)).await??;
        }
        tell(&self.state, StateOrder::Role(RoleOrder::SetPlan(plan))).await?;
        let served = self.serve_all(loaded).await;
        tell(&self.state, StateOrder::Role(RoleOrder::FollowPlan)).await?;
        served?;
        self.follow_rows().await;
        Ok(String::new())
    }

    async fn serve_all(&self, loaded: Databases) -> Result<(), String> {
        for loaded in loaded.files {
            ask(&self.state, |reply| StateOrder::Serve(Box::new(loaded), reply)).await??;
        }
        for relay in loaded.relays {
            ask(&self.state, |reply| StateOrder::ServeRelay(relay, reply)).await??;
        }
        Ok(())
    }

    /// Starts the remotes that are new; where one cannot be started, those started before it are stopped again.
    fn take_remotes(&mut self, remotes: Named) -> Result<(), String> {
        let before = self.remotes.named.clone();
        let fresh = remotes.iter().filter(|(name, _)| !before.contains_key(*name));
        for (name, options) in fresh {
            let gone = |named: &String| !remotes.contains_key(named);
            let mut started = self.remotes.add(name, options.clone());
            if started.as_ref().is_err_and(StartError::is_taken) {
                // A remote that goes may have the place of one that comes.
                self.remotes.stop_named(gone);
                started = self.remotes.add(name, options.clone());
            }
            if let Err(error) = started {
                self.remotes.named.clone_from(&before);
                self.remotes.apply_again();
                return Err(format!("\"remotes\" > \"{name}\": {error}"));
            }
        }
        self.remotes.named = remotes;
        Ok(())
    }
}

async fn load_all(arguments: Vec<PathBuf>, directory: PathBuf) -> Result<Databases, String> {
    let load_all = move || -> Result<Databases, String> {
        let mut databases = Databases::default();
        for argument in arguments {
            match RelayArgument::parse(&argument, &directory) {
                Some(relay) => databases.relays.push(relay?),
                None => databases.files.push(load(&argument)?),
            }
        }
        Ok(databases)
    };
    let loaded = tokio::task::spawn_blocking(load_all).await;
    loaded.map_err(|error| error.to_string())?
}

/// Refuses two databases of one name.
fn check_names<'a>(kept: impl Iterator<Item = &'a EcoString>, loaded: &'a Databases) -> Result<(), String> {
    let mut names: BTreeSet<&EcoString> = kept.collect();
    let files = loaded.files.iter();
    let files = files.map(|file| (&file.database.schema().name, file.path.display().to_string()));
    let relays = loaded.relays.iter().map(|relay| (&relay.database, relay.to_argument()));
    for (name, argument) in files.chain(relays) {
        if !names.insert(name) {
            return Err(format!("ovsdb error: {argument}: duplicate database name"));
        }
    }
    Ok(())
}
