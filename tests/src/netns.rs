//! Throw-away network namespaces for tests, with programs and containers inside.
//!
//! A [`Netns`] is the network and mount namespace of one sleeping process, so nothing has a name outside and nothing can be left behind: when it is
//! dropped its processes are killed, its containers with them, and the kernel takes the links along. Inside there are a `/run` and a `/sys` of
//! its own with the cgroups bound again, since LXC looks for its bridge below `/sys/class/net` and for its cgroups below `/sys/fs/cgroup`.
//!
//! [`Netns::alone`] has process ids of its own as well: programs inside see no container of another test, and all of them end with it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long a process may take to start its only child.
const CHILD_PATIENCE: Duration = Duration::from_secs(20);

/// How long a container may take to start or stop.
const CONTAINER_PATIENCE: Duration = Duration::from_secs(20);

/// What the sleeping process does first: a `/run` and a `/sys` of its own, and the cgroups bound again. Then it says so, and waits for its end.
const SETUP: &str = "
set -e
mount --make-rprivate /
mkdir -p \"$1/cgroup\"
mount --rbind /sys/fs/cgroup \"$1/cgroup\" 2>/dev/null && bound=yes
mount -t sysfs sysfs /sys
[ -z \"$bound\" ] || mount --rbind \"$1/cgroup\" /sys/fs/cgroup
[ -z \"$2\" ] || mount -t proc proc /proc
[ -z \"$bound\" ] || umount -l \"$1/cgroup\"
mount -t tmpfs run /run
mkdir -p /run/netns /run/lock
ip link set lo up
echo ready
[ -n \"$2\" ] || exec sleep infinity
# As the first process of its own, the shell waits for those that nobody waits for.
sleep infinity
";

/// A network namespace that ends with this value.
#[derive(Debug)]
pub struct Netns {
    holder: Child,
    /// The process by which others enter.
    inside: u32,
    alone: bool,
    children: Vec<Pid>,
    containers: Vec<(PathBuf, String)>,
    /// Whether there may be something in the cgroup.
    has_cgroup: bool,
    directory: TempDir,
}

/// A program inside a namespace, which is killed with its children when this value is dropped.
#[derive(Debug)]
pub struct Inside {
    child: Child,
    program: u32,
}

impl Netns {
    /// Makes a namespace. Needs root.
    pub fn new() -> Result<Self> {
        Self::make(false)
    }

    /// Makes a namespace with process ids of its own. Needs root.
    pub fn alone() -> Result<Self> {
        Self::make(true)
    }

    fn make(alone: bool) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("nonnet-netns-").tempdir()?;
        let mut command = crate::program::tied(&crate::program::system("unshare")?)?;
        if alone {
            command.args(["--pid", "--fork", "--kill-child"]);
        }
        command
            .args(["--net", "--mount", "sh", "-c", SETUP, "sh"])
            .arg(directory.path())
            .arg(if alone { "alone" } else { "" });
        // `unshare` complains when what it waits for is killed, so its words count at the start only.
        let words = directory.path().join("unshare.log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        command.stderr(fs::File::create(&words)?);
        let holder = command.spawn().context("unshare (util-linux)")?;
        let mut netns = Self {
            inside: holder.id(),
            alone,
            holder,
            children: Vec::new(),
            containers: Vec::new(),
            has_cgroup: false,
            directory,
        };
        let mut said = String::new();
        let output = netns.holder.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut said)?;
        ensure!(
            said.trim() == "ready",
            "a namespace cannot be made (root is needed): {}",
            fs::read_to_string(&words)?
        );
        if alone {
            netns.inside = child_of(netns.holder.id())?;
        }
        Ok(netns)
    }

    /// The process that holds the namespace.
    pub fn pid(&self) -> u32 {
        self.inside
    }

    /// A directory that lives as long as the namespace.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A command that will run inside, in its network and mount namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        if self.alone {
            command.arg("--pid");
        }
        command
            .args(["--net", "--mount", "--wd=/", "--target", &self.pid().to_string(), "--"])
            .arg(program);
        command
    }

    /// Runs a shell command inside; it must succeed. Gives what it printed.
    pub fn sh(&self, script: &str) -> Result<String> {
        let (ok, text) = self.try_sh(script)?;
        ensure!(ok, "{script}: {text}");
        Ok(text)
    }

    /// Runs a shell command inside. Gives whether it succeeded and what it printed, errors last.
    pub fn try_sh(&self, script: &str) -> Result<(bool, String)> {
        let output = self.command("sh").args(["-c", script]).stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.success(), text))
    }

    /// Starts a program inside, in a process group of its own; what it prints can be read.
    pub fn spawn(&mut self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Result<Inside> {
        let mut command = self.command(program);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn_command(&mut command)
    }

    /// Starts a command made by [`Netns::command`], in a process group of its own.
    pub fn spawn_command(&mut self, command: &mut Command) -> Result<Inside> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        self.children.push(Pid::from_raw(i32::try_from(child.id())?));
        let mut inside = Inside {
            program: child.id(),
            child,
        };
        if self.alone {
            inside.program = child_of(inside.child.id())?;
        }
        Ok(inside)
    }

    /// Starts this workspace's `nonnetd` inside.
    pub fn start_nonnetd(&mut self, arguments: &[&str]) -> Result<Inside> {
        let program = crate::program::ours("nonnetd")?;
        self.spawn(program, arguments)
    }

    /// Makes a named namespace inside, as `ip netns add` does; nobody outside sees the name.
    pub fn add(&self, name: &str) -> Result<()> {
        self.sh(&format!("ip netns add {name}")).map(drop)
    }

    /// Makes an LXC container of busybox without network, not started: its `eth0` is nonnet's business.
    pub fn create_container(&mut self, id: &str) -> Result<()> {
        let path = self.directory.path().join("lxc");
        fs::create_dir_all(&path)?;
        let config = self.directory.path().join(format!("{id}.conf"));
        let cgroup = self.cgroup();
        fs::write(
            &config,
            format!("lxc.net.0.type = empty\nlxc.apparmor.profile = unconfined\nlxc.cgroup.dir = {cgroup}/{id}\n"),
        )?;
        let (path_text, config_text) = (path.display(), config.display());
        self.sh(&format!(
            "lxc-create -P {path_text} -n {id} -f {config_text} -t busybox"
        ))?;
        self.containers.push((path.clone(), id.to_owned()));
        self.has_cgroup = true;
        // The template's start script runs a DHCP client, which wipes addresses that are set by others.
        let script = path.join(id).join("rootfs/etc/init.d/rcS");
        let lines = fs::read_to_string(&script)?;
        let kept: Vec<&str> = lines.lines().filter(|line| !line.contains("udhcpc")).collect();
        fs::write(&script, kept.join("\n") + "\n")?;
        Ok(())
    }

    /// Starts a container and waits until it runs.
    pub fn start_container(&self, id: &str) -> Result<()> {
        let path = self.lxc_path();
        let log = self.directory.path().join(format!("{id}.log"));
        // LXC is told to close what it inherits: a container must not hold the pipe that its starter's output goes to.
        let script = format!(
            "lxc-start -P {path} -n {id} -o {} -l INFO </dev/null >/dev/null 2>&1",
            log.display()
        );
        let (started, text) = self.try_sh(&script)?;
        let why = || fs::read_to_string(&log).unwrap_or_default();
        ensure!(started, "lxc-start {id}: {text}\n{}", why());
        let from = Instant::now();
        while !self.sh(&format!("lxc-info -P {path} -n {id} -s"))?.contains("RUNNING") {
            ensure!(from.elapsed() < CONTAINER_PATIENCE, "{id} does not run:\n{}", why());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Stops a container at once.
    pub fn stop_container(&self, id: &str) -> Result<()> {
        self.sh(&format!("lxc-stop -P {} -n {id} -k", self.lxc_path()))
            .map(drop)
    }

    /// Runs a shell command in a running container; it must succeed. Gives what it printed.
    pub fn in_container(&self, id: &str, script: &str) -> Result<String> {
        let output = self
            .command("lxc-attach")
            .args([
                "-P",
                &self.lxc_path(),
                "-n",
                id,
                "--clear-env",
                "--",
                "/bin/sh",
                "-c",
                script,
            ])
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{script} in {id}: {text}");
        }
        Ok(text)
    }

    /// The name of a cgroup for containers that somebody else makes here; it is removed in the end.
    pub fn foreign_cgroup(&mut self) -> String {
        self.has_cgroup = true;
        self.cgroup()
    }

    /// The cgroup of the containers here: another test may have containers of the same ids.
    fn cgroup(&self) -> String {
        format!("nonnet-{}", self.holder.id())
    }

    /// The lxcpath of the containers here.
    pub fn lxc_path(&self) -> String {
        self.directory.path().join("lxc").display().to_string()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let containers = std::mem::take(&mut self.containers);
        // Those of a server whose test failed before they were destroyed.
        let cgroups = marked_cgroups(Path::new(&self.lxc_path()));
        for (path, id) in &containers {
            let _ = self.try_sh(&format!("lxc-stop -P {} -n {id} -k", path.display()));
        }
        for child in &self.children {
            let _ = killpg(*child, Signal::SIGKILL);
        }
        // The first process ends all others there; who started it waits for it, and then ends too.
        if let (true, Ok(inside)) = (self.alone, i32::try_from(self.inside)) {
            let _ = nix::sys::signal::kill(Pid::from_raw(inside), Signal::SIGKILL);
        } else if let Ok(holder) = i32::try_from(self.holder.id()) {
            let _ = killpg(Pid::from_raw(holder), Signal::SIGKILL);
        }
        let _ = self.holder.wait();
        if self.has_cgroup {
            remove_cgroups(&self.cgroup());
        }
        for cgroup in &cgroups {
            remove_cgroups(cgroup);
        }
    }
}

impl Inside {
    /// The process id of the program as it is seen from outside.
    pub fn pid(&self) -> u32 {
        self.program
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(nix::sys::signal::kill(
            Pid::from_raw(i32::try_from(self.program)?),
            signal,
        )?)
    }

    /// Holds the program up while something happens.
    pub fn hold<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        // Who started it in the namespace stops with it, and has to go on too.
        struct GoOn<'a>(&'a Inside);
        impl Drop for GoOn<'_> {
            fn drop(&mut self) {
                for id in [self.0.program, self.0.child.id()] {
                    if let Ok(id) = i32::try_from(id) {
                        let _ = nix::sys::signal::kill(Pid::from_raw(id), Signal::SIGCONT);
                    }
                }
            }
        }
        self.signal(Signal::SIGSTOP)?;
        let _go_on = GoOn(self);
        Ok(work())
    }

    /// Waits until the program says a line on standard output that contains `word`. Gives the line.
    pub fn line_with(&mut self, word: &str) -> Result<String> {
        let output = self.child.stdout.take().context("its output was read already")?;
        let mut reader = BufReader::new(output);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            if line.contains(word) {
                // Goes on reading, so that the program never waits for a reader.
                thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
                return Ok(line);
            }
            line.clear();
        }
        bail!("it ended without a word of {word:?}: {}", self.errors())
    }

    /// Waits for the program to end. Gives whether it succeeded, and its standard error.
    pub fn wait(&mut self) -> Result<(bool, String)> {
        let errors = self.errors();
        Ok((self.child.wait()?.success(), errors))
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            let _ = errors.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // The program first: it is for its starter to wait for it, and that ends when it has.
        let _ = self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// The cgroups of the containers below a path that carry a server's mark.
fn marked_cgroups(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let marks = entries.filter_map(|entry| fs::read_to_string(entry.path().join("nonnet")).ok());
    marks
        .filter_map(|mark| {
            Some(format!(
                "nonnet-{}",
                mark.lines().find_map(|line| line.strip_prefix("group "))?
            ))
        })
        .collect()
}

/// Removes a cgroup in all hierarchies; it is free only when the last of its processes is gone altogether.
fn remove_cgroups(name: &str) {
    let from = Instant::now();
    let remove = format!(
        "find /sys/fs/cgroup -depth -type d '(' -path '*/{name}' -o -path '*/{name}/*' ')' -exec rmdir {{}} + 2>/dev/null"
    );
    while !Command::new("sh")
        .args(["-c", &remove])
        .status()
        .is_ok_and(|status| status.success())
        && from.elapsed() < CHILD_PATIENCE
    {
        thread::sleep(crate::program::POLL_INTERVAL);
    }
}

/// The only child of a process, once it has it: `unshare` and `nsenter` start the program as a child where process ids are its own.
fn child_of(pid: u32) -> Result<u32> {
    let from = Instant::now();
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        ensure!(!stat.contains(") Z "), "process {pid} ended before it had a child");
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .with_context(|| format!("process {pid} ended before it had a child"))?;
        if let Some(child) = children.split_ascii_whitespace().next() {
            return Ok(child.parse()?);
        }
        ensure!(from.elapsed() < CHILD_PATIENCE, "process {pid} started nothing");
        thread::sleep(crate::program::POLL_INTERVAL);
    }
}
