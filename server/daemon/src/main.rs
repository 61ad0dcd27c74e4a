//! `nonnetd`: the state database for host and container networking.
//!
//! Wires the parts together: files are opened, remotes listened on, the state thread started, signals awaited. Nothing is decided here
//! that a part could decide itself.

mod arguments;
mod clock;
mod controller;
mod databases;
mod network;
mod past;
mod reconcile;
mod report;
mod state;
mod storage;

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use nonnet_engine::Entropy;
use nonnet_gateway::Gateway;
use nonnet_rpc::{Listeners, Remote, inbound_channel};
use nonnet_sessions::{Event, Server};
use nonnet_store::{Durability, OpenError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, DurabilityArgument};
use crate::clock::Clock;
use crate::databases::Loaded;
use crate::past::PastReads;
use crate::state::{Sources, State};
use crate::storage::{Completed, Storage};

/// The exit status where a file's content is wrong (`EX_DATAERR`, sysexits.h).
const EXIT_DAMAGED: u8 = 65;

/// The stack of the state thread: an unoptimised build takes about 1 MiB to print a message of the greatest depth.
const STATE_STACK_BYTES: usize = 16 * 1024 * 1024;

/// How long sessions may take to read their last replies.
const STOP_GRACE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(arguments.verbose);
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            error!("{cause:#}");
            let damaged = matches!(cause.downcast_ref(), Some(OpenError::Damaged { .. }));
            if damaged {
                ExitCode::from(EXIT_DAMAGED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("NONNET_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A log that cannot be written, on a full disk say, is no reason to stop; the default would panic.
        .log_internal_errors(false)
        .init();
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let remotes: Vec<Remote> = arguments
        .remotes()
        .iter()
        .map(|remote| remote.parse())
        .collect::<Result<_, _>>()?;
    let clock = Clock::new();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let mut entropy = Entropy::new(seed);
    let loaded = load_all(arguments, clock, &mut entropy)?;
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let server = Server::new(seed)?;
    let arguments = arguments.clone();
    let builder = std::thread::Builder::new()
        .name("state".into())
        .stack_size(STATE_STACK_BYTES);
    let thread = builder.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(serve(&arguments, remotes, clock, loaded, server, entropy))
    })?;
    thread.join().unwrap_or_else(|_| bail!("the state thread panicked"))
}

fn load_all(arguments: &Arguments, clock: Clock, entropy: &mut Entropy) -> anyhow::Result<Vec<Loaded>> {
    let schema = arguments.schema.as_deref();
    arguments
        .databases
        .iter()
        .map(|path| databases::load(path, schema, clock, entropy))
        .collect()
}

/// Serves until a signal comes. Sessions and state share one thread, so that a request costs no switch between threads; what takes long
/// (the log, the kernel, large texts) has threads of its own.
async fn serve(
    arguments: &Arguments,
    remotes: Vec<Remote>,
    clock: Clock,
    loaded: Vec<Loaded>,
    server: Server,
    entropy: Entropy,
) -> anyhow::Result<()> {
    // From here on a signal means a clean stop.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (inbound_sender, inbound) = inbound_channel();
    let mut listeners = Listeners::new(inbound_sender);
    let mut listening = Vec::new();
    for remote in remotes {
        listening.push(listeners.start(remote)?.remote.to_string());
    }
    let mut gateway = start_gateway(arguments, &listeners)?;
    let databases: Vec<String> = loaded.iter().map(Loaded::to_string).collect();
    let (state, completions, past) = start_state(arguments, clock, loaded, server, entropy)?;
    let (stop, stopped) = oneshot::channel();
    let sources = Sources {
        inbound,
        completions,
        past,
        stop: stopped,
    };
    let mut running = tokio::spawn(state.run(sources));
    info!(
        "{} ready at {}; {}",
        databases.join(", "),
        listening.join(", "),
        next_step(&listening)
    );
    tokio::select! {
        _ = interrupt.recv() => info!("stopping on SIGINT"),
        _ = terminate.recv() => info!("stopping on SIGTERM"),
        ended = &mut running => return ended.context("the state's task has ended"),
    }
    listeners.stop_accepting();
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
    info!("stopped");
    Ok(())
}

/// Puts the databases under the server, starts their writers and the network controller.
fn start_state(
    arguments: &Arguments,
    clock: Clock,
    loaded: Vec<Loaded>,
    mut server: Server,
    mut entropy: Entropy,
) -> anyhow::Result<(State, UnboundedReceiver<Completed>, UnboundedReceiver<Event>)> {
    let durability = match arguments.durability {
        DurabilityArgument::EveryCommit => Durability::EveryCommit,
        DurabilityArgument::OnRequest => Durability::OnRequest,
    };
    let (completion_sender, completions) = mpsc::unbounded_channel();
    let (mut storages, mut places, mut ids) = (Vec::new(), HashMap::new(), HashMap::new());
    let (mut past_reads, past) = PastReads::new();
    for (place, loaded) in loaded.into_iter().enumerate() {
        let name = loaded.database.schema().name.clone();
        ids.insert(name.clone(), loaded.chain.db_id());
        past_reads.add(name.clone(), loaded.log.path().to_owned());
        let hook = controller::hook_for(loaded.database.schema());
        server.add_database(loaded.database, loaded.chain, hook, clock.now())?;
        storages.push(Storage::start(
            place,
            Box::new(loaded.log),
            durability,
            completion_sender.clone(),
        )?);
        places.insert(name, place);
    }
    let started = controller::start(arguments, &mut server, &ids, clock, &mut entropy)?;
    let (sessions, fresh) = (HashMap::new(), HashMap::new());
    let mut state = State {
        server,
        clock,
        storages,
        places,
        network: started.link,
        sessions,
        past_reads,
        fresh,
    };
    state.carry_out(started.commands);
    state.append_fresh();
    Ok((state, completions, past))
}

fn start_gateway(arguments: &Arguments, listeners: &Listeners) -> anyhow::Result<Option<Gateway>> {
    let Some(address) = arguments.http.clone() else {
        return Ok(None);
    };
    let access = arguments.access();
    info!("JSON-RPC 2.0 over HTTP at {address}, {access}");
    Ok(Some(Gateway::start(address, access, listeners.attacher())?))
}

/// What to try first, as a command to copy.
fn next_step(remotes: &[String]) -> String {
    let socket = remotes.iter().find_map(|remote| remote.strip_prefix("punix:"));
    match socket {
        Some(path) => format!("try: echo '{{\"method\":\"list_dbs\",\"params\":[],\"id\":1}}' | nc -N -U {path}"),
        None => "try: ovsdb-client list-dbs tcp:HOST:PORT".to_owned(),
    }
}
