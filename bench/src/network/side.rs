//! What every side of the comparison can do.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nonnet_tests::program;

/// Something that attaches containers to a network of its own, which exists already.
pub(super) trait Side {
    /// Attaches containers, which exist and have nothing but a loopback; over when all of them work.
    fn attach(&mut self, containers: Range<usize>) -> Result<()>;

    /// Fails unless they work; the clock does not run.
    fn check(&mut self, containers: Range<usize>) -> Result<()> {
        let last = container(containers.end.saturating_sub(1));
        let addresses = succeed(
            &program::system("ip")?,
            &["-n", &last, "-4", "-o", "address", "show", "dev", "eth0"],
            &[],
            "",
        )?;
        ensure!(addresses.contains("inet "), "{last} has no address: {addresses}");
        Ok(())
    }

    /// Takes them off again; over when nothing of it is left.
    fn detach(&mut self, containers: Range<usize>) -> Result<()>;

    /// The CPU time that it has used so far, in user and system mode.
    fn cpu(&self) -> Result<Duration>;

    /// Waits until it has done what it put off until after its answer.
    fn rest(&self) -> Result<()> {
        Ok(())
    }

    /// What it has to say when something failed.
    fn log(&self) -> String {
        String::new()
    }
}

/// The name of a container's namespace.
pub(super) fn container(number: usize) -> String {
    format!("bench-{number}")
}

/// The path of a container's namespace.
pub(super) fn container_path(number: usize) -> String {
    format!("/run/netns/{}", container(number))
}

/// The port of the host that is published for a container.
pub(super) fn host_port(number: usize) -> usize {
    10_000 + number
}

/// The CPU time of all processes that the bench has started and that have ended.
pub(super) fn ended_processes() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let of = |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1_000);
    Ok(of(usage.user_time()) + of(usage.system_time()))
}

/// Runs a program to its end with `input` on its standard input; it must succeed. Gives what it printed.
pub(super) fn succeed(program: &Path, arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().copied());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails at once reads nothing; its status says more.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{} {arguments:?}: {text}{}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
