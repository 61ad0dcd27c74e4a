//! `nonnetd`: the state database for host and container networking.
//!
//! The process: its command line, its files, its supervisor, and the thread that serves. Nothing is decided here that a part could decide
//! itself.

mod arguments;
mod checkpoints;
mod clock;
mod config_file;
mod controller;
mod databases;
mod descriptors;
mod detach;
mod logging;
mod names;
mod network;
mod past;
mod pid_file;
mod plan;
mod program;
mod reconcile;
mod remotes;
mod report;
mod roster;
mod serve;
mod short_link;
mod source;
mod state;
mod statistics;
mod storage;
mod supervise;
mod tls_arguments;
mod transaction_log;
mod unixctl;
mod upgrade;
mod user;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use nonnet_engine::Entropy;
use nonnet_rpc::RemoteOptions;
use nonnet_sessions::Server;
use nonnet_store::OpenError;
use tracing::{error, info};

use crate::arguments::Arguments;
use crate::clock::Clock;
use crate::config_file::Configuration;
use crate::databases::Databases;
use crate::logging::{Logging, Spec};
use crate::pid_file::PidFile;
use crate::program::Program;
use crate::remotes::Named;
use crate::serve::{Start, serve};
use crate::source::RelayArgument;
use crate::supervise::Saved;

/// The exit status where a file's content is wrong (`EX_DATAERR`, sysexits.h).
const EXIT_DAMAGED: u8 = 65;

/// The stack of the state thread: an unoptimised build takes about 1 MiB to print a message of the greatest depth.
const STATE_STACK_BYTES: usize = 16 * 1024 * 1024;

fn main() -> ExitCode {
    let mut arguments = Arguments::of_this_process();
    let program = arguments.program;
    program.name_process();
    let ended = arguments.check().and_then(|()| {
        if arguments.detach && !arguments.in_background {
            detach::run_in_background()
        } else if arguments.monitor && arguments.supervised.is_none() {
            supervise_here(&mut arguments)
        } else {
            run_here(&mut arguments)
        }
    });
    ended.unwrap_or_else(|cause| {
        // Before the log is started there is nothing but standard error.
        let is_logging = tracing::dispatcher::has_been_set();
        if is_logging {
            error!("{cause:#}");
        }
        if !is_logging || program == Program::OvsdbServer {
            eprintln!("{}: {cause:#}", program.name());
        }
        let damaged = matches!(cause.downcast_ref(), Some(OpenError::Damaged { .. }));
        if damaged {
            ExitCode::from(EXIT_DAMAGED)
        } else {
            ExitCode::FAILURE
        }
    })
}

/// Supervises the process that serves.
fn supervise_here(arguments: &mut Arguments) -> anyhow::Result<ExitCode> {
    if arguments.in_background {
        detach::leave_session();
    }
    if let Some(user) = &arguments.user {
        user::become_user(user)?;
    }
    arguments.settle().context("where this process is")?;
    let logging = start_log(arguments)?;
    supervise::run(arguments, &logging)
}

/// Serves in this process.
fn run_here(arguments: &mut Arguments) -> anyhow::Result<ExitCode> {
    let saved = match &arguments.supervised {
        Some(path) => Some(Saved::open(path).context("what was added at run time")?),
        None => None,
    };
    if saved.is_some() {
        supervise::abort_on_panic();
        supervise::die_of_sent_faults().context("wait for signals")?;
    } else if arguments.in_background {
        detach::leave_session();
    }
    if let Some(user) = &arguments.user {
        user::become_user(user)?;
    }
    arguments.settle().context("where this process is")?;
    let saved = saved.map(|(saved, kept)| {
        if let Some(kept) = kept {
            arguments.take_kept(kept);
        }
        saved
    });
    let logging = Arc::new(start_log(arguments)?);
    let pid_file = match &arguments.pidfile {
        Some(path) => Some(PidFile::make(path, arguments.overwrite_pidfile)?),
        None => None,
    };
    let ended = run(arguments, Arc::clone(&logging), saved);
    if ended.is_err() && arguments.program == Program::OvsdbServer {
        // Standard error gets it in that program's words.
        logging.leave_console();
    }
    drop(pid_file);
    ended
}

/// Starts the log; modules that only ovsdb-server has are passed over.
fn start_log(arguments: &Arguments) -> anyhow::Result<Logging> {
    let (specs, unknown): (Vec<_>, Vec<_>) = arguments
        .levels
        .iter()
        .map(|spec| Spec::parse(spec))
        .partition(Result::is_ok);
    let mut specs: Vec<Spec> = specs.into_iter().flatten().collect();
    if arguments.in_background {
        // Whoever waits for the server to serve wants to read only what is wrong.
        specs.insert(0, Spec::warnings_on_console());
    }
    let path = arguments.log_file.as_deref();
    let logging = Logging::start(arguments.verbose, &specs, path)?;
    if arguments.syslog_method.is_some() || arguments.syslog_target.is_some() {
        info!("nothing is sent to syslog: --syslog-method and --syslog-target are without effect");
    }
    for error in unknown.into_iter().filter_map(Result::err) {
        info!("{error}");
    }
    Ok(logging)
}

fn run(arguments: &mut Arguments, logging: Arc<Logging>, saved: Option<Saved>) -> anyhow::Result<ExitCode> {
    let named = read_config_file(arguments)?;
    // Before a database is made for a server that will not serve it.
    if remotes::speak_tls(&named)? && arguments.tls.columns()?.is_empty() {
        arguments.tls.settings(&BTreeMap::new()).check()?;
    }
    let clock = Clock::new();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let mut entropy = Entropy::new(seed);
    let loaded = load_all(arguments, clock, &mut entropy)?;
    let start = Start {
        loaded,
        named,
        logging,
        saved,
    };
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let server = Server::new(seed)?;
    let arguments = arguments.clone();
    let builder = std::thread::Builder::new()
        .name("state".into())
        .stack_size(STATE_STACK_BYTES);
    let thread = builder.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(serve(&arguments, start, clock, server, entropy))
    })?;
    thread.join().unwrap_or_else(|_| bail!("the state thread panicked"))
}

/// The remotes of the configuration file, or of the command line; the databases of the file become those of the arguments.
fn read_config_file(arguments: &mut Arguments) -> anyhow::Result<Named> {
    let Some(path) = &arguments.config_file else {
        let names = arguments.remotes().into_iter();
        return Ok(names.map(|name| (name, RemoteOptions::default())).collect());
    };
    info!("loading configuration from '{}'", path.display());
    let configuration = Configuration::read(path)?;
    let here = std::env::current_dir().context("where this process is")?;
    let databases = configuration.arguments(&here);
    let databases = databases.map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let plan = configuration.backup_plan(&here);
    arguments.backup_plan = Some(plan.map_err(|error| anyhow!("{}: {error}", path.display()))?);
    arguments.databases = databases.into_iter().map(PathBuf::from).collect();
    for database in &arguments.databases {
        // One that does not exist is not made: a name that is spelt wrong would be served empty.
        if RelayArgument::parse(database, &here).is_none() {
            std::fs::metadata(database).with_context(|| database.display().to_string())?;
        }
    }
    Ok(configuration.remotes)
}

fn load_all(arguments: &Arguments, clock: Clock, entropy: &mut Entropy) -> anyhow::Result<Databases> {
    let schema = arguments.schema.as_deref();
    let here = std::env::current_dir().context("where this process is")?;
    let sockets = arguments.program.socket_directory(&here);
    let mut databases = Databases::default();
    for argument in &arguments.databases {
        if let Some(relay) = RelayArgument::parse(argument, &sockets) {
            databases.relays.push(relay.map_err(anyhow::Error::msg)?);
            continue;
        }
        databases.files.push(match arguments.program {
            Program::Nonnetd => databases::load(argument, schema, clock, entropy)?,
            Program::OvsdbServer => {
                let loaded = databases::load_as_ovsdb_server(argument, clock, entropy);
                loaded.map_err(anyhow::Error::msg)?
            }
        });
    }
    Ok(databases)
}
