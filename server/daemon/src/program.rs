//! The name that the server was called by: a link to it named `ovsdb-server` has that program's command line (ovsdb-server(1)).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nix::sys::prctl;
use nonnet_schema::OVSDB_SERVER_VERSION;

/// One of our two names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Program {
    /// `nonnetd`, or any other name.
    #[default]
    Nonnetd,
    /// `ovsdb-server`.
    OvsdbServer,
}

impl Program {
    /// That of this process.
    pub(crate) fn of_this_process() -> Self {
        let called = std::env::args_os().next();
        let name = called.as_deref().map(Path::new).and_then(Path::file_name);
        if name == Some(OsStr::new("ovsdb-server")) {
            Self::OvsdbServer
        } else {
            Self::Nonnetd
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nonnetd => "nonnetd",
            Self::OvsdbServer => "ovsdb-server",
        }
    }

    /// What `--version` says, without the name at its start. Scripts read the last word of the first line.
    pub(crate) fn version(self) -> String {
        let own = env!("CARGO_PKG_VERSION");
        match self {
            Self::Nonnetd => own.to_owned(),
            Self::OvsdbServer => format!("(Open vSwitch) {OVSDB_SERVER_VERSION}\nthat is nonnetd {own}, in its place"),
        }
    }

    /// Gives the process its name in `/proc`: scripts compare it, and in the background it would be that of the file.
    pub(crate) fn name_process(self) {
        if self == Self::OvsdbServer {
            // Where it fails the process works as well.
            let _ = prctl::set_name(c"ovsdb-server");
        }
    }

    /// Where the sockets of remotes are that are no absolute path.
    pub(crate) fn socket_directory(self, here: &Path) -> PathBuf {
        match self {
            Self::Nonnetd => here.to_owned(),
            Self::OvsdbServer => self.run_directory(here),
        }
    }

    /// Where control sockets and pid files are.
    pub(crate) fn run_directory(self, here: &Path) -> PathBuf {
        self.directory("OVS_RUNDIR", "/var/run/openvswitch", here)
    }

    /// Where the log is.
    pub(crate) fn log_directory(self, here: &Path) -> PathBuf {
        self.directory("OVS_LOGDIR", "/var/log/openvswitch", here)
    }

    /// The database where none is named.
    pub(crate) fn default_database(self, here: &Path) -> PathBuf {
        match self {
            Self::Nonnetd => PathBuf::from("nonnet.db"),
            Self::OvsdbServer => {
                let configured = directory_in("OVS_SYSCONFDIR").map(|directory| directory.join("openvswitch"));
                let directory = directory_in("OVS_DBDIR").or(configured);
                let directory = directory.unwrap_or_else(|| "/etc/openvswitch".into());
                here.join(directory).join("conf.db")
            }
        }
    }

    /// That which the environment names; else ours is here, that of `ovsdb-server` where Debian has it.
    fn directory(self, variable: &str, default: &str, here: &Path) -> PathBuf {
        match (directory_in(variable), self) {
            (Some(named), _) => here.join(named),
            (None, Self::Nonnetd) => here.to_owned(),
            (None, Self::OvsdbServer) => PathBuf::from(default),
        }
    }
}

/// A directory that the environment names.
fn directory_in(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
