//! A server in a directory of its own, gone with the value, and what it has cost so far.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use nonnet_tests::program as found;
use tempfile::TempDir;

use crate::connection::{Connection, check};
use crate::options::Options;
use crate::program::{Kind, Program};
use crate::request::Requests;
use crate::row;

/// How long a server may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// A server rests when it ran for less than [`REST_CPU_MAX`] in this time; longer than a relaxed commit may wait for its sync.
const REST: Duration = Duration::from_millis(150);

/// What a server at rest may run in [`REST`]: its timers.
const REST_CPU_MAX: Duration = Duration::from_micros(500);

/// How long a server may go on working after its last reply before that work is left out of the count.
const REST_WAIT_MAX: Duration = Duration::from_secs(3);

/// What a reply to a commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is on disk: `commit durable` in each request, `--durability every-commit` where a server has that.
    Durable,
    /// It will be within a moment: ovsdb-server's default, `--durability on-request`.
    Relaxed,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    program: Program,
    directory: TempDir,
    child: Child,
}

impl Server {
    /// Starts the server on an empty database of the bench's schema, away from any kernel.
    pub fn start(program: &Program, options: &Options, durability: Durability) -> Result<Self> {
        let directory = directory(options)?;
        let (schema, file) = (
            directory.path().join("bench.ovsschema"),
            directory.path().join("bench.db"),
        );
        std::fs::write(&schema, row::SCHEMA)?;
        let mut command = command(program, directory.path())?;
        match program.kind {
            Kind::Reference => {
                let tool = found::system("ovsdb-tool")?;
                found::succeed(&tool, &[Path::new("create"), &file, &schema], b"")?;
                let control = directory.path().join("control");
                command
                    .arg(format!("--unixctl={}", control.display()))
                    .arg("-vconsole:warn")
                    .arg("-vsyslog:off");
            }
            Kind::Nonnetd => {
                let durability = match durability {
                    Durability::Durable => "every-commit",
                    Durability::Relaxed => "on-request",
                };
                command
                    .arg("--schema")
                    .arg(&schema)
                    .args(["--kernel", "off", "--durability", durability]);
            }
        }
        command.arg(&file);
        Self::spawn(program, directory, command)
    }

    /// Starts nonnetd on an empty database of its own schema; it applies its rows to the kernel, in the namespaces of the calling thread.
    pub fn start_applying(program: &Program, options: &Options) -> Result<Self> {
        let directory = directory(options)?;
        let mut command = command(program, directory.path())?;
        command
            .args(["--kernel", "apply"])
            .arg(directory.path().join("nonnet.db"));
        Self::spawn(program, directory, command)
    }

    /// Which server this is.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        socket(self.directory.path())
    }

    /// A new connection.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.socket())
    }

    /// The CPU time that all its threads, ended ones too, have used so far, in user and system mode.
    ///
    /// The process's CPU clock says the same as utime + stime of `/proc/PID/stat`, in nanoseconds instead of hundredths of a second.
    pub fn cpu_time(&self) -> Result<Duration> {
        let clock = clock_getcpuclockid(self.pid()?).context("find the server's CPU clock: has it ended?")?;
        Ok(Duration::from(
            clock_gettime(clock).context("read the server's CPU clock")?,
        ))
    }

    /// As [`Server::cpu_time`], after the server has done what it put off until after its replies: a cost of what came before.
    pub fn cpu_time_at_rest(&self) -> Result<Duration> {
        let deadline = Instant::now() + REST_WAIT_MAX;
        let mut used = self.cpu_time()?;
        loop {
            std::thread::sleep(REST);
            let now = self.cpu_time()?;
            if now.saturating_sub(used) < REST_CPU_MAX || Instant::now() > deadline {
                return Ok(now);
            }
            used = now;
        }
    }

    /// Adds rows `0..count` under the UUIDs of [`row::uuid`]; the clock does not run.
    pub fn load(&self, count: usize) -> Result<()> {
        const ROWS_PER_TRANSACTION: usize = 1000;
        let mut connection = self.connect()?;
        for first in (0..count).step_by(ROWS_PER_TRANSACTION) {
            let rows = first..count.min(first + ROWS_PER_TRANSACTION);
            let last = format!(r#""uuid":["uuid","{}"]"#, row::uuid(rows.end - 1));
            let operations: Vec<String> = rows.map(row::insert_as).collect();
            let mut requests = Requests::default();
            requests.transact(&operations.join(","), false, &last);
            connection.send(requests.bytes(0..1))?;
            check(connection.receive()?, requests.expected(0)).context("fill the table")?;
        }
        self.expect_rows(count)?;
        self.cpu_time_at_rest()?;
        Ok(())
    }

    /// Fails unless the table has this many rows.
    pub fn expect_rows(&self, count: usize) -> Result<()> {
        const ROW: &[u8] = b"\"name\":";
        let mut requests = Requests::default();
        requests.transact(
            r#"{"op":"select","table":"port","where":[],"columns":["name"]}"#,
            false,
            "\"rows\":",
        );
        let mut connection = self.connect()?;
        connection.send(requests.bytes(0..1))?;
        let reply = connection.receive()?;
        check(reply, requests.expected(0))?;
        let found = memchr::memmem::find_iter(reply, ROW).count();
        anyhow::ensure!(
            found == count,
            "{} has {found} rows where {count} were inserted",
            self.program.label
        );
        Ok(())
    }

    fn spawn(program: &Program, directory: TempDir, mut command: Command) -> Result<Self> {
        let log = File::create(log_path(directory.path()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let mut server = Self {
            program: program.clone(),
            directory,
            child,
        };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while self.echo().is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at start with {status}: {}", self.program.label, self.log());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} does not answer within {START_TIMEOUT:?}: {}",
                    self.program.label,
                    self.log()
                );
            }
            std::thread::sleep(found::POLL_INTERVAL);
        }
        Ok(())
    }

    fn echo(&self) -> Result<()> {
        let mut requests = Requests::default();
        requests.push("echo", "", "\"result\":[]");
        let mut connection = self.connect()?;
        connection.send(requests.bytes(0..1))?;
        check(connection.receive()?, requests.expected(0))
    }

    /// What it wrote to its standard streams.
    pub fn log(&self) -> String {
        std::fs::read(log_path(self.directory.path()))
            .map_or_else(|_| String::new(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("ending {}: {error}", self.program.label);
        }
    }
}

/// A directory of its own in that of the run.
fn directory(options: &Options) -> Result<TempDir> {
    let run = options.directory.as_deref().context("the run has a directory")?;
    tempfile::Builder::new()
        .prefix("server-")
        .tempdir_in(run)
        .context("make a directory for a server")
}

/// The server's command as far as both kinds share it; it is killed when the thread that starts it ends.
fn command(program: &Program, directory: &Path) -> Result<Command> {
    let mut command = found::tied(&program.path)?;
    command.current_dir(directory).env("OVS_RUNDIR", directory);
    command.arg(format!("--remote=punix:{}", socket(directory).display()));
    Ok(command)
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("bench.sock")
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("log")
}
