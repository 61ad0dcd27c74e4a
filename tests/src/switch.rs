//! Open vSwitch beside `nonnetd` on a [`Host`]: its own database server and `ovs-vswitchd`, where both look for each other by default.
//!
//! Frames are forwarded in user space, since the kernel's datapath is the machine's. Everything ends with the host's namespace.

use std::process::Stdio;
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::host::{Host, PATIENCE};
use crate::netns::Inside;
use crate::open_vswitch::SCHEMA;
use crate::program::{self, POLL_INTERVAL};
use crate::server::Kind;

/// The socket of the database.
const SOCKET: &str = "/run/openvswitch/db.sock";

/// The switch of a host.
#[derive(Debug)]
pub struct Switch {
    kind: Kind,
    database: Option<Inside>,
    vswitchd: Option<Inside>,
}

impl Switch {
    /// Starts Open vSwitch with `ovsdb-server`.
    #[track_caller]
    pub fn start(host: &mut Host) -> Self {
        Self::start_with(host, Kind::Reference)
    }

    /// Starts Open vSwitch with its database in a server of that kind.
    #[track_caller]
    pub fn start_with(host: &mut Host, kind: Kind) -> Self {
        let mut switch = Self {
            kind,
            database: None,
            vswitchd: None,
        };
        switch.start_database(host);
        switch.start_vswitchd(host);
        switch
    }

    /// Starts the database (again), and waits until it answers.
    #[track_caller]
    pub fn start_database(&mut self, host: &mut Host) {
        let directory = host.netns.directory().display().to_string();
        let file = format!("{directory}/ovs.db");
        let mut command = match self.kind {
            Kind::Reference => {
                host.sh(&format!(
                    "mkdir -p /run/openvswitch; test -e {file} || ovsdb-tool create {file} {SCHEMA}"
                ));
                let mut command = host.netns.command(system("ovsdb-server"));
                command.args([
                    "-vconsole:off",
                    "-vsyslog:off",
                    &format!("--log-file={directory}/ovsdb.log"),
                ]);
                command
            }
            Kind::Nonnetd => {
                host.sh("mkdir -p /run/openvswitch");
                let program = program::ours("nonnetd").unwrap_or_else(|error| panic!("{error:#}"));
                let mut command = host.netns.command(program);
                command.args(["--schema", SCHEMA]);
                command
            }
        };
        command
            .arg(format!("--remote=punix:{SOCKET}"))
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = host.netns.spawn_command(&mut command);
        self.database = Some(server.unwrap_or_else(|error| panic!("{error:#}")));
        until(host, "ovs-vsctl --no-wait init");
    }

    /// Starts `ovs-vswitchd` (again).
    #[track_caller]
    pub fn start_vswitchd(&mut self, host: &mut Host) {
        let directory = host.netns.directory().display().to_string();
        let mut command = host.netns.command(system("ovs-vswitchd"));
        command
            .args(["--disable-system", "-vconsole:off", "-vsyslog:off"])
            .arg(format!("--log-file={directory}/vswitchd.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let vswitchd = host.netns.spawn_command(&mut command);
        self.vswitchd = Some(vswitchd.unwrap_or_else(|error| panic!("{error:#}")));
        until(
            host,
            "ovs-vsctl --timeout=20 --retry set Open_vSwitch . external_ids:started=yes",
        );
    }

    /// Stops `ovs-vswitchd`.
    pub fn stop_vswitchd(&mut self) {
        stop(self.vswitchd.take());
    }

    /// Holds `ovs-vswitchd` up while something happens, all of which it then sees at once.
    #[track_caller]
    pub fn hold_vswitchd<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(vswitchd) = &self.vswitchd else {
            panic!("ovs-vswitchd does not run");
        };
        vswitchd.hold(work).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Stops the database.
    pub fn stop_database(&mut self) {
        stop(self.database.take());
    }
}

/// The value of a column of a row of Open vSwitch, as `ovs-vsctl` prints it.
#[track_caller]
pub fn column(host: &Host, table: &str, row: &str, column: &str) -> String {
    host.sh(&format!("ovs-vsctl --timeout=20 get {table} {row} {column}"))
        .trim()
        .to_owned()
}

fn stop(program: Option<Inside>) {
    if let Some(mut program) = program {
        let _ = program.signal(Signal::SIGTERM);
        let _ = program.wait();
    }
}

fn system(name: &str) -> std::path::PathBuf {
    program::system(name).unwrap_or_else(|error| panic!("{error:#}"))
}

#[track_caller]
fn until(host: &Host, script: &str) {
    let from = Instant::now();
    while !host.succeeds(script) {
        assert!(from.elapsed() < PATIENCE, "not within {PATIENCE:?}: {script}");
        thread::sleep(POLL_INTERVAL);
    }
}
