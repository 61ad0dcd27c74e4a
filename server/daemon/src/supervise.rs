//! `--monitor`: a process that starts the server, and starts it again when a programming error has ended it (ovsdb-server(1), "Daemon
//! Options").
//!
//! The server writes what operators have added at run time into a file without a name, which outlives it and is given to the next one.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::arguments::Arguments;
use crate::detach;
use crate::logging::Logging;

/// Given to the server that is supervised, with the file of what it was told at run time.
const MARK: &str = "--supervised";

/// The least time between two starts after a crash.
const RESTART_INTERVAL: Duration = Duration::from_secs(10);

/// The signals that tell of a programming error.
const CRASHES: [(Signal, &str); 9] = [
    (Signal::SIGABRT, "Aborted"),
    (Signal::SIGALRM, "Alarm clock"),
    (Signal::SIGBUS, "Bus error"),
    (Signal::SIGFPE, "Floating point exception"),
    (Signal::SIGILL, "Illegal instruction"),
    (Signal::SIGPIPE, "Broken pipe"),
    (Signal::SIGSEGV, "Segmentation fault"),
    (Signal::SIGXCPU, "CPU time limit exceeded"),
    (Signal::SIGXFSZ, "File size limit exceeded"),
];

/// What operators have changed at run time, kept where it outlives the process.
#[derive(Clone)]
pub(crate) struct Saved(Arc<Mutex<Content>>);

struct Content {
    file: File,
    kept: Kept,
}

/// Databases and remotes in the words of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) databases: Vec<String>,
    pub(crate) remotes: Vec<String>,
}

impl Saved {
    /// Opens the file that the supervisor has made. Gives what an earlier server has put there, if any.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(path: &Path) -> std::io::Result<(Self, Option<Kept>)> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let kept = Kept::parse(&text);
        let content = Content {
            file,
            kept: kept.clone().unwrap_or_default(),
        };
        Ok((Self(Arc::new(Mutex::new(content))), kept))
    }

    /// Keeps the databases that are served.
    pub(crate) fn keep_databases(&self, databases: Vec<String>) {
        self.keep(|kept| kept.databases = databases);
    }

    /// Keeps the remotes that operators named.
    pub(crate) fn keep_remotes(&self, remotes: Vec<String>) {
        self.keep(|kept| kept.remotes = remotes);
    }

    fn keep(&self, change: impl FnOnce(&mut Kept)) {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut content.kept);
        let text = content.kept.to_text();
        let write = || {
            content.file.set_len(0)?;
            content.file.write_all_at(text.as_bytes(), 0)
        };
        if let Err(cause) = write() {
            warn!("what was added at run time would not survive a crash: {cause}");
        }
    }
}

impl Kept {
    fn parse(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let words = |name: &str| -> Option<Vec<String>> {
            let words = json.get(name)?.as_array()?;
            words.iter().map(|word| word.as_str().map(str::to_owned)).collect()
        };
        Some(Self {
            databases: words("databases")?,
            remotes: words("remotes")?,
        })
    }

    fn to_text(&self) -> String {
        json!({"databases": self.databases, "remotes": self.remotes}).to_string()
    }
}

/// Ends this process with `SIGABRT` where any thread of it panics, so that its supervisor starts another.
pub(crate) fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// Lets a sent `SIGSEGV` or `SIGBUS` end this process: the language's own handler takes the first one for a stack that may have overflowed,
/// and lives on where it has not. To be called before any other thread runs.
///
/// # Errors
/// Where the system gives no thread.
pub(crate) fn die_of_sent_faults() -> std::io::Result<()> {
    let mut faults = SigSet::empty();
    faults.add(Signal::SIGSEGV);
    faults.add(Signal::SIGBUS);
    // Every thread to come inherits it. A true fault ends the process all the same (`sigprocmask(2)`).
    faults.thread_block()?;
    let wait = move || -> nix::Result<()> {
        let fault = faults.wait()?;
        faults.thread_unblock()?;
        // The first one only takes the handler away.
        raise(fault)?;
        raise(fault)
    };
    std::thread::Builder::new().name("faults".into()).spawn(wait)?;
    Ok(())
}

/// Starts the server until it ends by itself. Gives its exit status.
pub(crate) fn run(arguments: &Arguments, logging: &Logging) -> anyhow::Result<ExitCode> {
    let saved = memfd_create(c"nonnetd", MFdFlags::empty()).context("a file for what is added at run time")?;
    let directory = std::env::current_dir().context("where this process is")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut supervisor = Supervisor {
        arguments,
        logging,
        saved,
        directory,
        crashes: 0,
        is_ready: false,
        last_restart: None,
    };
    runtime.block_on(supervisor.run())
}

struct Supervisor<'a> {
    arguments: &'a Arguments,
    logging: &'a Logging,
    /// Inherited by each server.
    saved: OwnedFd,
    /// Where the servers start.
    directory: std::path::PathBuf,
    crashes: u32,
    /// Whether whoever started this process has been told that the server serves.
    is_ready: bool,
    last_restart: Option<Instant>,
}

impl Supervisor<'_> {
    async fn run(&mut self) -> anyhow::Result<ExitCode> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        loop {
            let mut child = self.start()?;
            let pid = child.id().unwrap_or_default();
            let status = loop {
                tokio::select! {
                    status = self.until_end(&mut child) => break status?,
                    _ = terminate.recv() => forward(pid, Signal::SIGTERM),
                    _ = interrupt.recv() => forward(pid, Signal::SIGINT),
                }
            };
            let Some(crash) = crash(status) else {
                info!("pid {pid} died, {}, exiting", describe(status));
                return Ok(detach::exit_code(status));
            };
            self.crashes += 1;
            let told = format!("{} crashes: pid {pid} died, killed ({crash})", self.crashes);
            let left = self
                .last_restart
                .map_or(Duration::ZERO, |last| RESTART_INTERVAL.saturating_sub(last.elapsed()));
            if !left.is_zero() {
                warn!(
                    "{told}, waiting until {} seconds since last restart",
                    RESTART_INTERVAL.as_secs()
                );
                tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
                    _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
                }
            }
            self.last_restart = Some(Instant::now());
            error!("{told}, restarting");
        }
    }

    fn start(&self) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut words = std::env::args_os();
        let mut command = Command::new(program);
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        command
            .arg(format!("{MARK}=/proc/self/fd/{}", self.saved.as_raw_fd()))
            .args(words)
            .current_dir(&self.directory);
        if self.arguments.in_background {
            command.stdin(Stdio::null()).stdout(Stdio::piped());
        }
        tokio::process::Command::from(command)
            .spawn()
            .context("start the server")
    }

    /// Waits for the server's end; passes it on that the server serves.
    async fn until_end(&mut self, child: &mut Child) -> anyhow::Result<ExitStatus> {
        if let Some(mut stdout) = child.stdout.take() {
            let mut said = vec![0; detach::READY.len()];
            let has_said = stdout.read_exact(&mut said).await.is_ok() && said == detach::READY;
            if has_said && !self.is_ready {
                self.is_ready = true;
                if self.arguments.changes_directory() {
                    std::env::set_current_dir("/").context("go to /")?;
                }
                self.logging.leave_console();
                detach::tell_ready().context("say that the server is ready")?;
            }
        }
        child.wait().await.context("wait for the server")
    }
}

/// Sends a signal on; a server that has just gone needs none.
fn forward(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The name of the crash that ended the server, where one did.
fn crash(status: ExitStatus) -> Option<&'static str> {
    let signal = status.signal()?;
    let found = CRASHES.iter().find(|(crash, _)| *crash as i32 == signal)?;
    Some(found.1)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(Ok(signal))) => format!("killed ({signal})"),
        (None, _) => "killed".to_owned(),
    }
}
