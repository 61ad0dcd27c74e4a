//! A server in a directory of its own: started, killed, started again, and gone with the value.
//!
//! [`Kind::Reference`] is Debian's `ovsdb-server`, [`Kind::Nonnetd`] is ours; a test says which and is otherwise the same.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{self, POLL_INTERVAL};
use crate::wire::{Client, Session};

/// How long a server may take to listen, or to end when asked.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ovsdb-server` of the operating system.
    Reference,
    /// Our `nonnetd`.
    Nonnetd,
}

/// A running (or killed) server and its directory.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    directory: TempDir,
    arguments: Vec<String>,
    /// Databases besides the first.
    more_files: Vec<PathBuf>,
    /// What stands in the place of the file, where it is not a file.
    instead: Option<String>,
    child: Option<Child>,
    /// Whether `_Nonnet` is in the lists of databases, where the reference has no such.
    lists_audit: bool,
}

impl Server {
    /// Starts a server that relays a database from remotes, without a file, and waits until it answers.
    pub fn start_relay(kind: Kind, database: &str, remotes: &str, arguments: &[&str]) -> Result<Self> {
        let mut server = Self::prepare(kind, &json!({"name": database, "tables": {}}))?;
        server.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        server.instead = Some(format!("relay:{database}:{remotes}"));
        server.run()?;
        Ok(server)
    }

    /// Starts a server on a new database with this schema and waits until it answers.
    pub fn start(kind: Kind, schema: &Value) -> Result<Self> {
        Self::start_with(kind, schema, &[])
    }

    /// As [`Server::start`], with arguments more.
    pub fn start_with(kind: Kind, schema: &Value, arguments: &[&str]) -> Result<Self> {
        let mut server = Self::prepare(kind, schema)?;
        server.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        server.run()?;
        Ok(server)
    }

    /// Starts `nonnetd` on a new database with this schema as it starts by itself: with `_Nonnet` in the lists of databases.
    pub fn start_with_audit(schema: &Value) -> Result<Self> {
        let mut server = Self::prepare(Kind::Nonnetd, schema)?;
        server.lists_audit = true;
        server.run()?;
        Ok(server)
    }

    /// As [`Server::start`], on files that are in memory where the system has a place for such: for tests with many short-lived servers.
    pub fn start_in_memory(kind: Kind, schema: &Value) -> Result<Self> {
        let memory = Path::new(MEMORY);
        let parent = if memory.is_dir() {
            memory.to_path_buf()
        } else {
            std::env::temp_dir()
        };
        let mut server = Self::prepare_in(&parent, kind, schema)?;
        server.run()?;
        Ok(server)
    }

    /// A directory with schema and, where the server cannot do it itself, an empty database; nothing runs yet.
    pub fn prepare(kind: Kind, schema: &Value) -> Result<Self> {
        Self::prepare_in(&std::env::temp_dir(), kind, schema)
    }

    fn prepare_in(parent: &Path, kind: Kind, schema: &Value) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("nonnet-test-").tempdir_in(parent)?;
        let server = Self {
            kind,
            directory,
            arguments: Vec::new(),
            more_files: Vec::new(),
            instead: None,
            child: None,
            lists_audit: false,
        };
        std::fs::write(server.schema_path(), schema.to_string())?;
        if kind == Kind::Reference {
            let tool = program::system("ovsdb-tool")?;
            program::succeed(
                &tool,
                &[Path::new("create"), &server.file(), &server.schema_path()],
                b"",
            )?;
        }
        Ok(server)
    }

    /// Makes one more database for the next start, with `ovsdb-tool`: `nonnetd` converts such files when it opens them.
    pub fn add_database(&mut self, schema_path: &Path) -> Result<()> {
        let name = format!("more-{}.db", self.more_files.len());
        let file = self.directory.path().join(name);
        let tool = program::system("ovsdb-tool")?;
        program::succeed(&tool, &[Path::new("create"), &file, schema_path], b"")?;
        self.more_files.push(file);
        Ok(())
    }

    /// Gives the next starts these arguments too.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
    }

    /// Starts the prepared or killed server again and waits until it answers.
    ///
    /// # Errors
    /// When it ends instead; the error carries what it wrote.
    pub fn run(&mut self) -> Result<()> {
        self.spawn()?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if self.answers() {
                return Ok(());
            }
            let child = self.child.as_mut().context("just started")?;
            if let Some(status) = child.try_wait()? {
                self.child = None;
                bail!("{:?} ended at start with {status}: {}", self.kind, self.stderr());
            }
            if Instant::now() > deadline {
                bail!(
                    "{:?} does not answer on {}: {}",
                    self.kind,
                    self.socket().display(),
                    self.stderr()
                );
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Starts the server and waits until it has ended, for starts that must fail. Returns its exit code.
    pub fn run_to_end(&mut self) -> Result<Option<i32>> {
        self.spawn()?;
        self.wait()
    }

    /// Kills the server as a crash would (SIGKILL) and reaps it.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks the server to end (SIGTERM) and waits for it. Returns its exit code.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.signal(Signal::SIGTERM)?;
        self.wait()
    }

    /// Waits until the server has ended by itself. Returns its exit code.
    pub fn wait(&mut self) -> Result<Option<i32>> {
        let deadline = Instant::now() + START_TIMEOUT;
        let child = self.child.as_mut().context("the server does not run")?;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status.code());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        bail!(
            "{:?} did not end within {START_TIMEOUT:?}: {}",
            self.kind,
            self.stderr()
        )
    }

    /// Sends a signal to the server.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the server does not run")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal).context("signal the server")
    }

    /// A new connection.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(&self.socket())
    }

    /// Which server this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("db.sock")
    }

    /// The socket as tools of Open vSwitch name it.
    pub fn remote(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Its database file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("test.db")
    }

    /// The schema the database was made from.
    pub fn schema_path(&self) -> PathBuf {
        self.directory.path().join("test.ovsschema")
    }

    /// What all its runs wrote to standard error.
    pub fn stderr(&self) -> String {
        std::fs::read(self.stderr_path())
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn stderr_path(&self) -> PathBuf {
        self.directory.path().join("stderr")
    }

    fn spawn(&mut self) -> Result<()> {
        let program = match self.kind {
            Kind::Reference => program::system("ovsdb-server")?,
            Kind::Nonnetd => program::ours("nonnetd")?,
        };
        let mut command = program::tied(&program)?;
        command
            .current_dir(self.directory.path())
            .env("OVS_RUNDIR", self.directory.path());
        command.arg(format!("--remote=punix:{}", self.socket().display()));
        match self.kind {
            Kind::Reference => {
                let control = self.directory.path().join("ctl");
                command
                    .arg(format!("--unixctl={}", control.display()))
                    .arg("-vconsole:warn")
                    .arg("-vsyslog:off");
            }
            Kind::Nonnetd => {
                command.arg("--schema").arg(self.schema_path());
                if !self.lists_audit {
                    command.arg("--hide-audit");
                }
                if !self.arguments.iter().any(|argument| argument.starts_with("--kernel=")) {
                    command.arg("--kernel=off");
                }
            }
        }
        command.args(&self.arguments);
        match &self.instead {
            Some(instead) => command.arg(instead),
            None => command.arg(self.file()),
        };
        command.args(&self.more_files);
        let stderr = File::options().create(true).append(true).open(self.stderr_path())?;
        command.stdin(Stdio::null()).stdout(stderr.try_clone()?).stderr(stderr);
        self.child = Some(command.spawn().with_context(|| format!("start {command:?}"))?);
        Ok(())
    }

    fn answers(&self) -> bool {
        let ask = || -> Result<Value> {
            let mut client = self.connect()?;
            client.send(&json!({"id": "ready", "method": "echo", "params": []}).to_string())?;
            client.receive()
        };
        ask().is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("killing {:?}: {error:#}", self.kind);
        }
    }
}
