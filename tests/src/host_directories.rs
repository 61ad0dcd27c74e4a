//! The directories of a host in one that vanishes, and programs that find them by environment variables, as init scripts start them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::names::Names;
use crate::program;

/// Each variable and the directory that it names.
const VARIABLES: [(&str, &str); 8] = [
    ("OVS_RUNDIR", "run"),
    ("OVS_DBDIR", "db"),
    ("OVS_LOGDIR", "log"),
    ("OVS_SYSCONFDIR", "etc"),
    ("OVN_RUNDIR", "run"),
    ("OVN_DBDIR", "db"),
    ("OVN_LOGDIR", "log"),
    ("OVN_SYSCONFDIR", "etc"),
];

/// The directories, and under what names programs are found. What runs there in the background ends with the value.
#[derive(Debug)]
pub struct HostDirectories {
    directory: TempDir,
    /// None for those of the operating system alone.
    names: Option<Names>,
}

impl HostDirectories {
    /// A host whose `ovsdb-server` and `ovsdb-tool` are ours.
    pub fn ours() -> Result<Self> {
        Self::new(Some(Names::make()?))
    }

    /// A host with the programs of the operating system.
    pub fn theirs() -> Result<Self> {
        Self::new(None)
    }

    fn new(names: Option<Names>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("nonnet-host-").tempdir()?;
        for name in ["run", "db", "log", "etc", "etc/openvswitch"] {
            fs::create_dir(directory.path().join(name))?;
        }
        Ok(Self { directory, names })
    }

    /// A path within.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a program as a script would, by its name or path.
    pub fn run(&self, program: &str, words: &[&str]) -> Output {
        let mut command = Command::new("env");
        if let Some(names) = &self.names {
            command.env("PATH", names.search_path());
        }
        for (variable, name) in VARIABLES {
            command.env(variable, self.path(name));
        }
        command.arg(program).args(words).current_dir(self.directory.path());
        program::run_command(&mut command, b"").unwrap()
    }

    /// Runs what must succeed; gives its standard output.
    pub fn succeed(&self, program: &str, words: &[&str]) -> String {
        let output = self.run(program, words);
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{program} {words:?}: {stdout}{stderr}");
        stdout.into_owned()
    }

    /// The names in a directory, sorted.
    pub fn files(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    /// The process that a pid file in the run directory names.
    pub fn pid(&self, program: &str) -> Result<i32> {
        let path = self.path("run").join(format!("{program}.pid"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let pid = text.trim().parse()?;
        ensure!(Path::new("/proc").join(text.trim()).exists(), "{program} does not run");
        Ok(pid)
    }
}

impl Drop for HostDirectories {
    fn drop(&mut self) {
        for file in fs::read_dir(self.path("run")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            let is_pid_file = file.path().extension().is_some_and(|end| end == "pid");
            let Some(pid) = text.trim().parse().ok().filter(|_| is_pid_file) else {
                continue;
            };
            // One that watches over it would start it again.
            let parent = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = parent
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
            for pid in parent.filter(|parent| is_server(*parent)).into_iter().chain([pid]) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

fn is_server(pid: i32) -> bool {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
    comm.is_ok_and(|comm| comm.trim() == "ovsdb-server")
}
