//! `nonnetd`: the state database for host and container networking.
//!
//! Wires the parts together: files are opened, remotes listened on, the state thread started, signals awaited. Nothing is decided here
//! that a part could decide itself.

mod arguments;
mod clock;
mod config_file;
mod controller;
mod databases;
mod descriptors;
mod detach;
mod logging;
mod network;
mod past;
mod pid_file;
mod program;
mod reconcile;
mod remotes;
mod report;
mod roster;
mod short_link;
mod source;
mod state;
mod storage;
mod supervise;
mod tls_arguments;
mod transaction_log;
mod unixctl;
mod user;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nonnet_engine::Entropy;
use nonnet_gateway::Gateway;
use nonnet_rpc::{Listeners, RemoteOptions, TlsDialler, inbound_channel};
use nonnet_sessions::{Event, Server};
use nonnet_store::{Durability, OpenError};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Interval;
use tracing::{error, info, warn};

use crate::arguments::{Arguments, DurabilityArgument};
use crate::clock::Clock;
use crate::config_file::Configuration;
use crate::databases::Databases;
use crate::logging::{Logging, Spec};
use crate::past::PastReads;
use crate::pid_file::PidFile;
use crate::program::Program;
use crate::remotes::{Followed, Named, Remotes, STATUS_INTERVAL};
use crate::roster::Roster;
use crate::short_link::ShortLink;
use crate::source::{RelayArgument, Relays, Replication, SourceEvent, source_channel};
use crate::state::{Sources, State};
use crate::storage::{Completed, Storage};
use crate::supervise::Saved;
use crate::transaction_log::TransactionLog;
use crate::unixctl::{Operator, Unixctl, Verdict};

/// The exit status where a file's content is wrong (`EX_DATAERR`, sysexits.h).
const EXIT_DAMAGED: u8 = 65;

/// The stack of the state thread: an unoptimised build takes about 1 MiB to print a message of the greatest depth.
const STATE_STACK_BYTES: usize = 16 * 1024 * 1024;

/// How long sessions may take to read their last replies.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Orders for the state that wait for their turn.
const STATE_ORDERS_QUEUED_MAX: usize = 32;

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

/// What the server starts with.
struct Start {
    loaded: Databases,
    named: Named,
    logging: Arc<Logging>,
    saved: Option<Saved>,
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

/// Serves until a signal or an order to end comes. Sessions and state share one thread, so that a request costs no switch between
/// threads; what takes long (the log, the kernel, large texts) has threads of its own.
async fn serve(
    arguments: &Arguments,
    start: Start,
    clock: Clock,
    server: Server,
    entropy: Entropy,
) -> anyhow::Result<ExitCode> {
    descriptors::raise_limit();
    // From here on a signal means a clean stop.
    let signals = Signals::new()?;
    let (inbound_sender, inbound) = inbound_channel();
    let Start {
        loaded,
        named,
        logging,
        saved,
    } = start;
    let databases = loaded.to_string();
    let rows_changed = Arc::new(Notify::new());
    let listeners = Listeners::new(inbound_sender);
    let surroundings = Surroundings {
        rows_changed: Arc::clone(&rows_changed),
        tls: listeners.tls_dialler(),
    };
    let (mut state, completions, past, source_events) =
        start_state(arguments, clock, loaded, server, entropy, surroundings)?;
    state.roster.saved.clone_from(&saved);
    state.keep_databases();
    let (state_orders, orders) = mpsc::channel(STATE_ORDERS_QUEUED_MAX);
    let here = std::env::current_dir()?;
    let sockets = arguments.program.socket_directory(&here);
    let mut remotes = Remotes::new(listeners, sockets);
    remotes.socket_mode = arguments.socket_mode;
    remotes.socket_group = arguments.socket_group;
    let mut operator = Operator {
        program: arguments.program,
        remotes,
        tls: arguments.tls.clone(),
        column_errors: Vec::new(),
        config_file: arguments.config_file.clone(),
        directory: here,
        saved,
        logging,
        state: state_orders,
    };
    let state = operator.start_remotes(named, state)?;
    let listening: Vec<String> = operator.remotes.named.keys().cloned().collect();
    let short_link = arguments.default_socket().and_then(|socket| ShortLink::make(&socket));
    let mut gateway = start_gateway(arguments, &operator.remotes.listeners)?;
    let (stop, stopped) = oneshot::channel();
    let sources = Sources {
        inbound,
        completions,
        past,
        news: source_events,
        orders,
        stop: stopped,
    };
    let mut running = tokio::spawn(state.run(sources));
    let mut unixctl = start_unixctl(arguments)?;
    info!("{databases} ready{}", where_to_go(&listening));
    let child = become_ready(arguments, &operator.logging)?;
    let wakers = Wakers {
        signals,
        rows_changed,
        status: tokio::time::interval(STATUS_INTERVAL),
        child,
    };
    let ended = until_end(wakers, &mut unixctl, &mut operator, &mut running).await?;
    let mut listeners = operator.remotes.listeners;
    listeners.stop_accepting();
    drop(short_link);
    if let Some(gateway) = &mut gateway {
        gateway.stop_accepting();
    }
    // Where nobody listens the state's task has ended, which the next line tells.
    let _ = stop.send(());
    running.await.context("the state's task")?;
    listeners.stop(STOP_GRACE).await;
    if let Some(gateway) = gateway {
        gateway.stop(STOP_GRACE).await;
    }
    if let Some(unixctl) = unixctl {
        unixctl.stop().await;
    }
    info!("stopped");
    Ok(ended)
}

/// The signals that the server answers to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// What makes the server do something besides what clients ask for.
struct Wakers {
    signals: Signals,
    /// Rows that remotes or files are read from.
    rows_changed: Arc<Notify>,
    status: Interval,
    /// The command of `--run`.
    child: Option<Child>,
}

/// Does what signals and the control socket ask for, until one of them, or the end of the command of `--run`, ends the server. Gives the
/// exit status.
async fn until_end(
    mut wakers: Wakers,
    unixctl: &mut Option<Unixctl>,
    operator: &mut Operator,
    running: &mut JoinHandle<()>,
) -> anyhow::Result<ExitCode> {
    loop {
        tokio::select! {
            _ = wakers.signals.interrupt.recv() => info!("stopping on SIGINT"),
            _ = wakers.signals.terminate.recv() => info!("stopping on SIGTERM"),
            _ = wakers.signals.hangup.recv() => {
                if let Err(cause) = operator.logging.reopen() {
                    warn!("the log file cannot be opened anew: {cause}");
                }
                continue;
            }
            Some(asked) = next_order(unixctl.as_mut()) => {
                if operator.carry_out(asked).await == Verdict::GoOn {
                    continue;
                }
                info!("stopping on the order of the control socket");
            }
            () = wakers.rows_changed.notified() => {
                operator.follow_rows().await;
                continue;
            }
            _ = wakers.status.tick() => {
                operator.tick().await;
                continue;
            }
            status = end_of(wakers.child.as_mut()) => {
                let status = status.context("the command of --run")?;
                info!("stopping, since the command of --run has ended: {status}");
                return Ok(detach::exit_code(status));
            }
            ended = &mut *running => {
                ended.context("the state's task")?;
                bail!("the state's task has ended");
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
}

/// Lets go of who started the server, and starts the command of `--run`.
fn become_ready(arguments: &Arguments, logging: &Logging) -> anyhow::Result<Option<Child>> {
    if arguments.in_background {
        if arguments.changes_directory() {
            std::env::set_current_dir("/").context("go to /")?;
        }
        logging.leave_console();
        detach::tell_ready().context("say that the server is ready")?;
    }
    let Some(command) = &arguments.run else {
        return Ok(None);
    };
    let child = Command::new("/bin/sh").arg("-c").arg(command).spawn();
    Ok(Some(child.with_context(|| format!("run {command}"))?))
}

fn start_unixctl(arguments: &Arguments) -> anyhow::Result<Option<Unixctl>> {
    match &arguments.unixctl {
        Some(path) => Ok(Some(Unixctl::start(path)?)),
        None => Ok(None),
    }
}

async fn next_order(unixctl: Option<&mut Unixctl>) -> Option<unixctl::Asked> {
    match unixctl {
        Some(unixctl) => unixctl.next().await,
        None => std::future::pending().await,
    }
}

async fn end_of(child: Option<&mut Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

/// The state, with where the reports of writers, of reads of the logs, and of sources come from.
type StartedState = (
    State,
    UnboundedReceiver<Completed>,
    UnboundedReceiver<Event>,
    mpsc::Receiver<SourceEvent>,
);

/// What the state shares with those who bring sessions.
struct Surroundings {
    /// Woken when rows change that remotes or files are read from.
    rows_changed: Arc<Notify>,
    /// For sources.
    tls: TlsDialler,
}

/// Puts the databases under the server, starts their writers and the network controller.
fn start_state(
    arguments: &Arguments,
    clock: Clock,
    loaded: Databases,
    mut server: Server,
    mut entropy: Entropy,
    surroundings: Surroundings,
) -> anyhow::Result<StartedState> {
    let durability = match arguments.durability {
        DurabilityArgument::EveryCommit => Durability::EveryCommit,
        DurabilityArgument::OnRequest => Durability::OnRequest,
    };
    let (completion_sender, completions) = mpsc::unbounded_channel();
    let (mut storages, mut places, mut ids) = (BTreeMap::new(), HashMap::new(), HashMap::new());
    let mut files = HashMap::new();
    let (mut past_reads, past) = PastReads::new();
    for (place, loaded) in loaded.files.into_iter().enumerate() {
        let name = loaded.database.schema().name.clone();
        ids.insert(name.clone(), loaded.chain.db_id());
        past_reads.add(name.clone(), loaded.log.path().to_owned());
        let hook = controller::hook_for(loaded.database.schema());
        server.add_database(loaded.database, loaded.chain, hook, clock.now())?;
        files.insert(name.clone(), roster::resolved(&loaded.path));
        let storage = Storage::start(place, Box::new(loaded.log), durability, completion_sender.clone())?;
        storages.insert(place, storage);
        places.insert(name, place);
    }
    let (source_sender, source_events) = source_channel();
    let mut relays = Relays::new(surroundings.tls.clone(), source_sender.clone());
    for relay in loaded.relays {
        server.add_relay(&relay.database, clock.now())?;
        relays.start(relay);
    }
    let (remote, exclusion) = arguments.replication()?;
    let mut replication = Replication::new(remote, exclusion, surroundings.tls, source_sender);
    if let Some(plan) = arguments.backup_plan.clone() {
        replication.set_plan(plan);
    }
    let is_backup = replication.remote.is_some() && !arguments.active;
    if is_backup {
        // Its rows are those of another host until it becomes active.
        ids.retain(|name, _| files.get(name).is_none_or(|file| !replication.covers(file)));
    }
    let started = controller::start(arguments, &mut server, &ids, clock, &mut entropy)?;
    let (sessions, fresh) = (HashMap::new(), HashMap::new());
    let roster = Roster {
        arguments: arguments.clone(),
        durability,
        completions: completion_sender,
        files,
        next_place: storages.len(),
        saved: None,
    };
    let mut state = State {
        server,
        clock,
        storages,
        places,
        roster,
        network: started.link,
        sessions,
        past_reads,
        relays,
        replication,
        transaction_log: TransactionLog::new(),
        followed: Followed::new(surroundings.rows_changed),
        fresh,
    };
    state.carry_out(started.commands);
    state.append_fresh();
    if is_backup {
        state.become_backup();
    }
    Ok((state, completions, past, source_events))
}

fn start_gateway(arguments: &Arguments, listeners: &Listeners) -> anyhow::Result<Option<Gateway>> {
    let Some(address) = arguments.http.clone() else {
        return Ok(None);
    };
    let access = arguments.access();
    info!("JSON-RPC 2.0 over HTTP at {address}, {access}");
    Ok(Some(Gateway::start(address, access, listeners.attacher())?))
}

/// Where clients reach the server, and what to try first, as a command to copy.
fn where_to_go(remotes: &[String]) -> String {
    let next_step = match remotes.iter().find_map(|remote| remote.strip_prefix("punix:")) {
        _ if remotes.is_empty() => return String::new(),
        Some(path) => format!("echo '{{\"method\":\"list_dbs\",\"params\":[],\"id\":1}}' | nc -N -U {path}"),
        None => "ovsdb-client list-dbs tcp:HOST:PORT".to_owned(),
    };
    format!(" at {}; try: {next_step}", remotes.join(", "))
}
