//! The network controller of a server that has the database `OpNonNet`: its rules, its start, its task.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ecow::EcoString;
use nonnet_engine::{CommitHook, Entropy, Transaction};
use nonnet_hooks::commit::NonnetHook;
use nonnet_hooks::compile::Compiler;
use nonnet_hooks::reconcile::{Heal, Input, Options, Reconciler};
use nonnet_hooks::statistics::interval_seconds;
use nonnet_hooks::status::capabilities_column;
use nonnet_hooks::tables::{Tables, host};
use nonnet_hooks::want::Mark;
use nonnet_kernel::{Kernel, Programs};
use nonnet_schema::{DatabaseSchema, Uuid};
use nonnet_sessions::{Command, Server};
use tracing::{info, warn};

use crate::arguments::{Arguments, HealArgument, KernelArgument};
use crate::checkpoints::CheckpointKeeper;
use crate::clock::Clock;
use crate::names::Names;
use crate::network::NetworkLink;
use crate::reconcile::Reconciling;
use crate::statistics::Interval;

/// The database whose rows are a host's networks.
pub(crate) const DATABASE: &str = "OpNonNet";

/// The rules for a database: those of `OpNonNet` for the database of that name and schema, none for any other.
pub(crate) fn hook_for(schema: &DatabaseSchema) -> Option<Box<dyn CommitHook>> {
    if schema.name != DATABASE {
        return None;
    }
    match NonnetHook::new(schema) {
        Ok(hook) => Some(Box::new(hook)),
        Err(mismatch) => {
            warn!("{DATABASE} is served as it is, without effect on the kernel: {mismatch}");
            None
        }
    }
}

/// Whether the rows of a database of that name are a host's networks.
pub(crate) fn is_followed(name: &str) -> bool {
    name == DATABASE
}

/// What starting the controller gives.
#[derive(Default)]
pub(crate) struct Started {
    /// The state thread's link to the task; None where the kernel is left alone.
    pub(crate) link: Option<NetworkLink>,
    /// The checkpoints of its rows; None where it is not served from a file.
    pub(crate) checkpoints: Option<CheckpointKeeper>,
    /// What the first commits ask for.
    pub(crate) commands: Vec<Command>,
}

/// Completes the rows of `OpNonNet`, where it is served, rolls back the checkpoints whose time is up, and starts the task that makes the rows
/// true. `file` holds the log of that database.
pub(crate) fn start(
    arguments: &Arguments,
    server: &mut Server,
    database_ids: &HashMap<EcoString, Uuid>,
    file: Option<&Path>,
    clock: Clock,
    entropy: &mut Entropy,
) -> anyhow::Result<Started> {
    let mut started = Started::default();
    let (Some(database), Some(database_id)) = (server.database(DATABASE), database_ids.get(DATABASE)) else {
        return Ok(started);
    };
    let Ok(tables) = Tables::find(database.schema()) else {
        return Ok(started);
    };
    let newest = server.sequence(DATABASE).unwrap_or(0);
    started.commands = write(server, clock, |transaction| host::start(&tables, transaction, newest))?;
    if arguments.kernel == KernelArgument::Off {
        started.keep_checkpoints(server, &tables, file, clock);
        return Ok(started);
    }
    let mark = Mark::of(database_id.as_bytes());
    // Beside the database's file: what the kernel alone remembered would be lost when the server is away.
    let memory = file.map(|file| {
        let mut memory = file.as_os_str().to_owned();
        memory.push(".settings");
        PathBuf::from(memory)
    });
    let programs = Programs {
        lxc_path: arguments.lxc_path.clone(),
        netclient: arguments.netclient.clone(),
        netclient_deadline: Duration::from_secs(arguments.netclient_timeout),
        token_file: arguments.token_file.clone(),
        ovs: Some(arguments.ovs_remote.clone()),
        memory,
    };
    let (mut kernel, inputs) = Kernel::live_with(mark, programs)?;
    let names = Names::start(kernel.take_listening()).context("the resolver")?;
    let words = kernel.capabilities().words();
    started.commands.extend(write(server, clock, |transaction| {
        show_capabilities(&tables, transaction, words);
    })?);
    let obstacle = kernel.capabilities().obstacle();
    if let Some(obstacle) = &obstacle {
        warn!("{obstacle}: rows are not made true, only compared with the kernel (--kernel observe)");
    } else if arguments.kernel == KernelArgument::Observe {
        info!("rows are not made true, only compared with the kernel");
    }
    let options = Options {
        mark,
        heal: match arguments.heal {
            HealArgument::On => Heal::On,
            HealArgument::Report => Heal::Report,
            HealArgument::Off => Heal::Off,
        },
        observe_only: obstacle.is_some() || arguments.kernel == KernelArgument::Observe,
        seed: entropy.uuid().as_u64_pair().0,
    };
    let database = server.database(DATABASE).context("the database is served")?;
    let (link, other_end) = NetworkLink::new(database, tables.clone());
    started.link = Some(link);
    started.keep_checkpoints(server, &tables, file, clock);
    let database = server.database(DATABASE).context("the database is served")?;
    let compiler = Compiler::new(database)?;
    let start = Input::Wanted {
        cfg: server.sequence(DATABASE).unwrap_or(newest),
        changes: compiler.compile_all(database),
        heals: compiler.heals_all(database),
    };
    let interval = Interval::start(interval_seconds(compiler.tables(), database), other_end.reports.clone())?;
    let reconciler = Reconciler::new(options);
    Reconciling {
        kernel,
        inputs,
        changes: other_end.changes,
        reports: other_end.reports,
        plans: other_end.plans,
        pending_plans: Vec::new(),
        compiler,
        reconciler,
        clock,
        names,
        interval,
        start,
    }
    .start()?;
    Ok(started)
}

impl Started {
    /// Goes on with the checkpoints that a former run left open. Those whose time is up are rolled back before anything is done in the kernel.
    fn keep_checkpoints(&mut self, server: &mut Server, tables: &Tables, file: Option<&Path>, clock: Clock) {
        let (Some(rows), Some(file)) = (server.database(DATABASE), file) else {
            return;
        };
        let (sequence, is_followed) = (server.sequence(DATABASE).unwrap_or(0), self.link.is_some());
        let mut keeper = CheckpointKeeper::new(rows, tables, file, sequence, is_followed, clock.now());
        self.commands
            .extend(keeper.settle(server, self.link.as_mut(), clock.now()));
        self.checkpoints = Some(keeper);
    }
}

fn write(server: &mut Server, clock: Clock, write: impl FnOnce(&mut Transaction<'_>)) -> anyhow::Result<Vec<Command>> {
    let written = server.transact(DATABASE, &NetworkLink::author(), clock.now(), write);
    written.with_context(|| format!("{DATABASE}: the row of the host"))
}

fn show_capabilities(tables: &Tables, transaction: &mut Transaction<'_>, words: Vec<EcoString>) {
    let host = transaction.rows(tables.host.this).next().map(Arc::clone);
    if let Some(host) = host {
        capabilities_column(tables, host.uuid(), words).apply(transaction);
    }
}
