//! Open vSwitch in a network namespace: the real `ovs-vswitchd`, forwarding in user space, with its database in a server under test.
//!
//! Hosts are named network namespaces inside, each with an `eth0` whose other end is a port to be. Everything ends with the namespace.

use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::netns::{Inside, Netns};
use crate::program;
use crate::server::{Kind, Server};

/// The schema of Open vSwitch.
pub const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// How long `ovs-vsctl` may wait for `ovs-vswitchd`.
const CONFIGURE_SECONDS: u64 = 30;

/// How long something that `ovs-vswitchd` does now and then may take; it writes statistics every five seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at by a program of Open vSwitch.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// A switch, its server and its namespace.
#[derive(Debug)]
pub struct OpenVswitch {
    /// Dropped first, so that no program looks for its server.
    netns: Netns,
    vswitchd: Inside,
    others: Vec<Inside>,
    /// The server with its database.
    pub server: Server,
}

impl OpenVswitch {
    /// Starts a server with an empty database and `ovs-vswitchd`. Needs root.
    pub fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, &[])
    }

    /// As [`OpenVswitch::start`], with a database more for each of these schemas.
    pub fn start_with(kind: Kind, schema_paths: &[&str]) -> Result<Self> {
        let mut server = Server::prepare(kind, &program::system_schema(SCHEMA)?)?;
        for path in schema_paths {
            server.add_database(path.as_ref())?;
        }
        server.run()?;
        let mut netns = Netns::alone()?;
        // The kernel's datapath is the machine's, not the namespace's.
        let vswitchd = spawn(
            &mut netns,
            &server,
            "ovs-vswitchd",
            &[&server.remote(), "--disable-system"],
        )?;
        let switch = Self {
            netns,
            vswitchd,
            others: Vec::new(),
            server,
        };
        switch.run("ovs-vsctl --no-wait init")?;
        Ok(switch)
    }

    /// Starts one more program beside `ovs-vswitchd`, which ends with the namespace.
    pub fn add_program(&mut self, name: &str, arguments: &[&str]) -> Result<()> {
        let program = spawn(&mut self.netns, &self.server, name, arguments)?;
        self.others.push(program);
        Ok(())
    }

    /// Runs a shell command in the switch's namespace; it must succeed. Tools of Open vSwitch find the server there. Gives what it printed.
    pub fn run(&self, script: &str) -> Result<String> {
        let output = self.output(script)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{script}: {}: {text}{}\nwhat was logged:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        Ok(text)
    }

    /// Changes the configuration and waits until `ovs-vswitchd` has done it.
    pub fn configure(&self, commands: &str) -> Result<String> {
        self.run(&format!("ovs-vsctl --timeout={CONFIGURE_SECONDS} {commands}"))
    }

    /// Makes a host with this address, whose wire ends in a link of the host's name.
    pub fn add_host(&self, name: &str, address: &str) -> Result<()> {
        self.netns.add(name)?;
        self.run(&format!(
            "ip link add name {name} type veth peer name eth0 netns {name} && ip link set dev {name} up &&
             ip -n {name} link set eth0 up && ip -n {name} addr add {address} dev eth0"
        ))
        .map(drop)
    }

    /// Whether one of a few pings from a host to an address is answered.
    pub fn pings(&self, host: &str, address: &str) -> Result<bool> {
        let output = self.output(&format!("ip netns exec {host} ping -q -c 3 -i 0.2 -W 1 {address}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(text.contains("packets transmitted"), "no ping was sent: {text}");
        Ok(output.status.success())
    }

    /// Waits until a condition holds that `ovs-vswitchd` brings about.
    ///
    /// # Errors
    /// When it does not; the error has what it logged.
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self)? {
            ensure!(
                Instant::now() < deadline,
                "waited {PATIENCE:?} for {what}; what was logged:\n{}",
                self.log()
            );
            thread::sleep(ASK_INTERVAL);
        }
        Ok(())
    }

    /// Its namespace.
    pub fn netns(&mut self) -> &mut Netns {
        &mut self.netns
    }

    /// Whether the `ovs-vswitchd` that was started still runs.
    pub fn vswitchd_runs(&self) -> bool {
        let path = format!("/proc/{}/comm", self.vswitchd.pid());
        std::fs::read_to_string(path).is_ok_and(|name| name.trim() == "ovs-vswitchd")
    }

    /// What `ovs-vswitchd` and the programs beside it logged.
    pub fn log(&self) -> String {
        let files = std::fs::read_dir(self.server.directory())
            .into_iter()
            .flatten()
            .flatten();
        let logs = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
        logs.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default())
            .collect()
    }

    fn output(&self, script: &str) -> Result<Output> {
        let mut command = self.netns.command("sh");
        command
            .args(["-c", script])
            .env("OVS_RUNDIR", self.server.directory())
            .env("OVN_NB_DB", self.server.remote())
            .env("OVN_SB_DB", self.server.remote())
            .env_remove("OVN_NB_DAEMON");
        command.stdin(Stdio::null()).output().context("nsenter (util-linux)")
    }
}

/// Starts a daemon of Open vSwitch or OVN in the foreground; it logs to a file beside the server.
fn spawn(netns: &mut Netns, server: &Server, name: &str, arguments: &[&str]) -> Result<Inside> {
    let directory = server.directory().display();
    let mut command = netns.command(program::system(name)?);
    command
        .env("OVS_RUNDIR", server.directory())
        .env("OVN_RUNDIR", server.directory())
        .args(arguments)
        .arg(format!("--log-file={directory}/{name}.log"))
        .args(["-vconsole:off", "-vsyslog:off"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    netns.spawn_command(&mut command)
}
