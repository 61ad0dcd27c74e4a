//! `--detach`: the server goes on in the background, and the process that was started ends once it serves (ovsdb-server(1), "Daemon Options").
//!
//! The process runs itself again, before it has any thread, with standard output as the pipe on which the second one says that it is
//! ready. From then on the second one has none of the streams of whoever started it.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::Context as _;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

/// Given to the process that runs in the background.
const MARK: &str = "--in-background";

/// What it says when it serves.
pub(crate) const READY: &[u8] = b"ready\n";

/// Starts the process that runs in the background and waits until it serves. Gives this process' exit status.
pub(crate) fn run_in_background() -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("where this program is")?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command
        .arg(MARK)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("run in the background")?;
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(READY.len() as u64).read_to_end(&mut said)?;
    }
    if said == READY {
        return Ok(ExitCode::SUCCESS);
    }
    // It has said on standard error why.
    let status = child.wait().context("wait for the server in the background")?;
    Ok(exit_code(status))
}

/// A process' status as a shell gives it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Leaves the session and the terminal of whoever started this process.
pub(crate) fn leave_session() {
    // It fails only for a process that leads a group, and then it has left already.
    let _ = setsid();
}

/// Says that the server serves, and lets go of all standard streams.
pub(crate) fn tell_ready() -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(READY)?;
    stdout.flush()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}
