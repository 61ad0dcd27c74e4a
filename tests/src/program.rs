//! Where the programs under test and their peers are found, and how they are started so that none outlives its test.
//!
//! A missing program is an error that says what to do; it is never a reason to skip a test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long a program that should end by itself may run.
pub const RUN_SECONDS_MAX: u64 = 30;

/// How often a condition is looked at again while a test waits for it.
pub const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The top directory of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The path of one of our own binaries, beside the running test.
///
/// # Errors
/// When it is not built.
pub fn ours(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("where this test runs from")?;
    let profile = test
        .ancestors()
        .nth(2)
        .context("a test runs in target/<profile>/deps")?;
    let path = profile.join(name);
    ensure!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace`, or tests/run",
        path.display()
    );
    Ok(path)
}

/// The path of a program of the operating system.
///
/// # Errors
/// When it is not installed.
pub fn system(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{name} is not installed: tests/run installs what the tests need"))
}

/// A schema that a package of the operating system brings.
///
/// # Errors
/// When it is not installed.
pub fn system_schema(path: &str) -> Result<serde_json::Value> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{path} is not there: tests/run installs what the tests need"))?;
    serde_json::from_str(&text).with_context(|| path.to_owned())
}

/// A command that is killed by the kernel when the thread that spawned it ends.
///
/// # Errors
/// When `setpriv` (util-linux) is not installed.
pub fn tied(program: &Path) -> Result<Command> {
    let mut command = Command::new(system("setpriv")?);
    command.arg("--pdeathsig").arg("KILL").arg(program);
    Ok(command)
}

/// Runs a program to its end with `input` on its standard input and returns what it wrote.
///
/// # Errors
/// When it cannot be started or runs longer than [`RUN_SECONDS_MAX`].
pub fn run<A: AsRef<OsStr>>(program: &Path, arguments: &[A], input: &[u8]) -> Result<Output> {
    let mut command = tied(program)?;
    command.args(arguments);
    run_command(&mut command, input)
}

/// Runs a prepared command to its end with `input` on its standard input and returns what it wrote.
///
/// # Errors
/// When it cannot be started or runs longer than [`RUN_SECONDS_MAX`].
pub fn run_command(command: &mut Command, input: &[u8]) -> Result<Output> {
    let directory = tempfile::tempdir()?;
    let (input_path, output_path, error_path) = (
        directory.path().join("in"),
        directory.path().join("out"),
        directory.path().join("err"),
    );
    std::fs::write(&input_path, input)?;
    let mut child = command
        .stdin(std::fs::File::open(&input_path)?)
        .stdout(std::fs::File::create(&output_path)?)
        .stderr(std::fs::File::create(&error_path)?)
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let deadline = Instant::now() + Duration::from_secs(RUN_SECONDS_MAX);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!(
                "{command:?} did not end within {RUN_SECONDS_MAX} s; it wrote: {}{}",
                String::from_utf8_lossy(&std::fs::read(&output_path)?),
                String::from_utf8_lossy(&std::fs::read(&error_path)?)
            );
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    Ok(Output {
        status,
        stdout: std::fs::read(&output_path)?,
        stderr: std::fs::read(&error_path)?,
    })
}

/// Runs a program that must succeed, and returns its standard output.
///
/// # Errors
/// When it fails; the error carries its standard error.
pub fn succeed<A: AsRef<OsStr>>(program: &Path, arguments: &[A], input: &[u8]) -> Result<String> {
    let output = run(program, arguments, input)?;
    ensure!(
        output.status.success(),
        "{} {:?} ended with {}: {}{}",
        program.display(),
        arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// A number from the environment, or the default.
///
/// # Errors
/// When the variable is set and is not a number.
pub fn number_from_environment(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text} is not a number")),
        Err(_) => Ok(default),
    }
}

/// Standard streams that nobody reads.
pub fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null())
}
