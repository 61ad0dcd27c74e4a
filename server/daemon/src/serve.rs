//! Serving, from the first remote to the last reply: what has been read is put together, and signals and orders are waited for.

use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nonnet_engine::Entropy;
use nonnet_gateway::Gateway;
use nonnet_rpc::{Listeners, inbound_channel};
use nonnet_sessions::Server;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Interval;
use tracing::{info, warn};

use crate::arguments::Arguments;
use crate::clock::Clock;
use crate::databases::Databases;
use crate::logging::Logging;
use crate::remotes::{Named, Remotes, STATUS_INTERVAL};
use crate::short_link::ShortLink;
use crate::state::{Sources, Surroundings};
use crate::supervise::Saved;
use crate::unixctl::{Operator, Unixctl, Verdict};
use crate::{descriptors, detach, state, unixctl};

/// How long sessions may take to read their last replies.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Orders for the state that wait for their turn.
const STATE_ORDERS_QUEUED_MAX: usize = 32;

/// What the server starts with.
pub(crate) struct Start {
    pub(crate) loaded: Databases,
    pub(crate) named: Named,
    pub(crate) logging: Arc<Logging>,
    pub(crate) saved: Option<Saved>,
}

/// Serves until a signal or an order to end comes. Sessions and state share one thread, so that a request costs no switch between
/// threads; what takes long (the log, the kernel, large texts) has threads of its own.
pub(crate) async fn serve(
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
        state::start(arguments, clock, loaded, server, entropy, surroundings)?;
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
