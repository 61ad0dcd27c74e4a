//! The command line of `nonnetd`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use nix::unistd::Group;
use nonnet_gateway::{Access, Address};

use crate::program::Program;
use crate::roster::resolved;
use crate::source::{BackupPlan, Exclusion, SourceRemote};
use crate::supervise::Kept;
use crate::tls_arguments::TlsArguments;

#[allow(clippy::doc_markdown, reason = "these comments are the help text")]
/// The state database for host and container networking.
///
/// Serves OVSDB (RFC 7047) to any client, and makes the rows of the database OpNonNet come true in the kernel.
/// Without arguments: nonnet.db in the current directory, made where there is none, and the socket nonnet.db.sock beside it.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Clone, Debug, Parser)]
#[command(name = "nonnetd", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The name that the server was called by.
    #[arg(skip = Program::of_this_process())]
    pub(crate) program: Program,

    /// What the configuration file says about backups, once it was read.
    #[arg(skip)]
    pub(crate) backup_plan: Option<BackupPlan>,

    /// Files of the databases to serve; one that does not exist is made.
    #[arg(
        value_name = "DATABASE",
        help = "Files of the databases to serve, made where there are none, or relay:NAME:REMOTE[,REMOTE]... for a database of another server [default: nonnet.db]"
    )]
    pub(crate) databases: Vec<PathBuf>,

    /// Where to listen, in OVS syntax.
    #[arg(
        long = "remote",
        value_name = "REMOTE",
        help = "Where to listen: punix:PATH, ptcp:[PORT][:IP], pssl:[PORT][:IP] or pfd:FD; whom to dial: unix:PATH, tcp:HOST[:PORT] or \
                ssl:HOST[:PORT]; or db:DATABASE,TABLE,COLUMN, which lists such; may be given many times [default: punix:DATABASE.sock]"
    )]
    pub(crate) remotes: Vec<String>,

    /// The mode of the sockets of punix: remotes, in octal; without it 660.
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub(crate) socket_mode: Option<u32>,

    /// The group of the sockets of punix: remotes, by name or number.
    #[arg(long, value_name = "GROUP", value_parser = parse_group)]
    pub(crate) socket_group: Option<u32>,

    /// The schema of a database that is made; without it, that of OpNonNet.
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,

    /// What a reply promises: that the commit survives a loss of power, or that only where the client asks for it.
    #[arg(long, value_enum, default_value_t = DurabilityArgument::EveryCommit)]
    pub(crate) durability: DurabilityArgument,

    /// How long a key signs the heads of the log, in seconds: a new one comes with the first commit after that, and the old one is destroyed.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub(crate) key_life: u64,

    /// What is done with the kernel.
    #[arg(long, value_enum, default_value_t = KernelArgument::Apply)]
    pub(crate) kernel: KernelArgument,

    /// What is done when somebody else changes what nonnetd made.
    #[arg(long, value_enum, default_value_t = HealArgument::On)]
    pub(crate) heal: HealArgument,

    /// Where LXC's containers are, which rows with a template make, start and stop.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/lxc")]
    pub(crate) lxc_path: PathBuf,

    /// The file with the tokens of Netmaker networks: lines NAME=VALUE, for nobody but its owner to read.
    #[arg(long, value_name = "FILE", default_value = "/etc/nonnet/netmaker.env")]
    pub(crate) token_file: PathBuf,

    /// Netmaker's client; it gets the token in the environment variable TOKEN.
    #[arg(long, value_name = "PROGRAM", default_value = "netclient")]
    pub(crate) netclient: PathBuf,

    /// Seconds that each run of it has.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) netclient_timeout: u64,

    /// Where the database of Open vSwitch is.
    #[arg(
        long,
        value_name = "REMOTE",
        default_value_t = ovs_remote(),
        help = "Where the database of Open vSwitch is, for bridges of kind ovs: unix:PATH or tcp:IP:PORT"
    )]
    pub(crate) ovs_remote: nonnet_client::Address,

    /// Where to serve JSON-RPC 2.0 over HTTP and WebSocket besides: unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<Address>,

    /// Lets clients of --http write; without it they only read.
    #[arg(long, requires = "http")]
    pub(crate) gateway_write: bool,

    /// Leaves _Nonnet, in which clients read who committed what, out of the lists of databases; it is served all the same.
    #[arg(long)]
    pub(crate) hide_audit: bool,

    /// Starts as a backup of the server at REMOTE: follows its databases and lets clients read only.
    #[arg(
        long,
        value_name = "REMOTE",
        help = "Starts as a backup of the server at unix:PATH, tcp:IP:PORT or ssl:HOST:PORT: its rows are followed, clients only read, and nothing is done in the kernel until ovs-appctl makes it active"
    )]
    pub(crate) sync_from: Option<String>,

    /// Tables that a backup does not follow: DB:TABLE, separated by commas.
    #[arg(long, value_name = "DB:TABLE,...")]
    pub(crate) sync_exclude_tables: Option<String>,

    /// With --sync-from, starts as the active server, ready to become a backup.
    #[arg(long)]
    pub(crate) active: bool,

    /// Where ovs-appctl reaches the server; without SOCKET, nonnetd.PID.ctl in $OVS_RUNDIR or here.
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true, default_missing_value = DEFAULT_UNIXCTL)]
    pub(crate) unixctl: Option<PathBuf>,

    /// Runs in the background; returns once all files are read and every remote listens.
    #[arg(long)]
    pub(crate) detach: bool,

    /// With --detach, stays in the current directory.
    #[arg(long)]
    pub(crate) no_chdir: bool,

    /// Set in the process that --detach starts.
    #[arg(long, hide = true)]
    pub(crate) in_background: bool,

    /// Writes the process id to FILE and locks it; without FILE, nonnetd.pid in $OVS_RUNDIR or here.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "$OVS_RUNDIR/nonnetd.pid")]
    pub(crate) pidfile: Option<PathBuf>,

    /// Starts even where the process that --pidfile names is alive.
    #[arg(long)]
    pub(crate) overwrite_pidfile: bool,

    /// Runs a shell command once every remote listens, and ends with its exit status.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) run: Option<String>,

    /// Reads remotes and databases from FILE instead of the command line; ovs-appctl ovsdb-server/reload reads it anew.
    #[arg(long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,

    /// Serves no database until ovs-appctl ovsdb-server/add-db adds one.
    #[arg(long)]
    pub(crate) no_dbs: bool,

    /// Starts the server again when a programming error has ended it.
    #[arg(long)]
    pub(crate) monitor: bool,

    /// Set in the process that --monitor starts.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) supervised: Option<PathBuf>,

    /// Accepted for the sake of scripts: nonnetd confines itself to nothing that could be left out.
    #[arg(long, hide = true)]
    pub(crate) no_self_confinement: bool,

    /// Accepted for the sake of scripts: nothing is sent to syslog; whoever starts the server sends its standard error there.
    #[arg(long, value_name = "METHOD", hide = true)]
    pub(crate) syslog_method: Option<String>,

    /// As --syslog-method.
    #[arg(long, value_name = "HOST:PORT", hide = true)]
    pub(crate) syslog_target: Option<String>,

    /// Refused: nonnetd does not record what clients send.
    #[arg(long, value_name = "DIRECTORY", num_args = 0..=1, require_equals = true, default_missing_value = "", hide = true)]
    pub(crate) record: Option<String>,

    /// Refused, as --record.
    #[arg(long, value_name = "DIRECTORY", num_args = 0..=1, require_equals = true, default_missing_value = "", hide = true)]
    pub(crate) replay: Option<String>,

    /// Logs to FILE too; without FILE, to nonnetd.log in $OVS_LOGDIR or here. SIGHUP opens it anew.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "$OVS_LOGDIR/nonnetd.log")]
    pub(crate) log_file: Option<PathBuf>,

    /// Says more (twice: everything) on standard error. The environment variable NONNET_LOG does it by module.
    #[arg(short, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// What is logged where: MODULE:DESTINATION:LEVEL, any of the three, with console or file, and off, err, warn, info or dbg; also as -vSPEC.
    #[arg(long = "verbose", value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "dbg")]
    pub(crate) levels: Vec<String>,

    /// Becomes that user, and a member of that group alone where one is named.
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,

    #[command(flatten)]
    pub(crate) only_named: OvsdbServerOnly,

    #[command(flatten)]
    pub(crate) tls: TlsArguments,
}

/// Where `--unixctl` without a name puts the socket.
const DEFAULT_UNIXCTL: &str = "$OVS_RUNDIR/nonnetd.PID.ctl";

/// When a commit reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityArgument {
    /// Before it is answered.
    EveryCommit,
    /// Before it is answered where it has `commit` with `durable: true`; else within 100 ms.
    OnRequest,
}

/// What is done with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KernelArgument {
    /// The rows are made true.
    Apply,
    /// What would be done is reported, nothing is changed.
    Observe,
    /// It is not looked at.
    Off,
}

/// What is done about drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HealArgument {
    /// It is taken back.
    On,
    /// It is the row's state.
    Report,
    /// Nothing.
    Off,
}

/// What ovsdb-server takes besides, without effect here: it is about how files in its format are written.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OvsdbServerOnly {
    #[arg(long, hide = true)]
    disable_file_column_diff: bool,
    #[arg(long, hide = true)]
    disable_file_no_data_conversion: bool,
}

impl Arguments {
    /// The command line of this process; ends it where that is wrong.
    pub(crate) fn of_this_process() -> Self {
        let program = Program::of_this_process();
        let words = std::env::args_os().map(spell_out);
        if program == Program::Nonnetd {
            return Self::parse_from(words);
        }
        let command = Self::command().name(program.name()).infer_long_args(true);
        let parsed = command.try_get_matches_from(words);
        match parsed.and_then(|matches| Self::from_arg_matches(&matches)) {
            Ok(arguments) => arguments,
            Err(error) => end_as_ovsdb_server(&error),
        }
    }

    /// Refuses what excludes each other, and what nonnetd does not do.
    ///
    /// # Errors
    /// In ovsdb-server's words, where it has some.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let is_backup = self.sync_from.is_some() || self.sync_exclude_tables.is_some() || self.active;
        if self.config_file.is_some() && is_backup {
            bail!("--config-file is mutually exclusive with --sync-from, --sync-exclude and --active");
        }
        if self.config_file.is_some() && !self.remotes.is_empty() {
            bail!("--config-file is mutually exclusive with --remote");
        }
        if self.config_file.is_some() && !self.databases.is_empty() {
            bail!("Databases should be specified in a config file");
        }
        if self.record.is_some() || self.replay.is_some() {
            bail!(
                "--record and --replay: nonnetd does not record what clients send; every commit is in the database's log"
            );
        }
        let methods = ["libc", "null"];
        if let Some(method) = &self.syslog_method
            && !(methods.contains(&method.as_str()) || method.starts_with("unix:") || method.starts_with("udp:"))
        {
            bail!("unsupported syslog method '{method}'");
        }
        Ok(())
    }

    /// Makes every path independent of the working directory, and names those that have a default.
    ///
    /// # Errors
    /// Where there is no working directory.
    pub(crate) fn settle(&mut self) -> std::io::Result<()> {
        let here = std::env::current_dir()?;
        let program = self.program;
        let (run, log) = (program.run_directory(&here), program.log_directory(&here));
        if self.databases.is_empty() && !self.no_dbs && self.config_file.is_none() {
            self.databases.push(program.default_database(&here));
        }
        if program == Program::OvsdbServer {
            let always = PathBuf::from(DEFAULT_UNIXCTL);
            self.unixctl = Some(self.unixctl.take().unwrap_or(always)).filter(|path| path != Path::new("none"));
        }
        let own_name = |default: &Path| {
            let named = default.display().to_string().replacen("nonnetd", program.name(), 1);
            named.replace("PID", &std::process::id().to_string())
        };
        let place = |given: &mut Option<PathBuf>, base: &Path| {
            let Some(path) = given else {
                return;
            };
            *path = if let Ok(default) = path.strip_prefix("$OVS_LOGDIR") {
                log.join(own_name(default))
            } else if let Ok(default) = path.strip_prefix("$OVS_RUNDIR") {
                run.join(own_name(default))
            } else {
                base.join(&*path)
            };
        };
        place(&mut self.unixctl, &run);
        place(&mut self.pidfile, &run);
        // A log file that is named is found from here, as by ovsdb-server.
        place(&mut self.log_file, &here);
        place(&mut self.config_file, &here);
        self.lxc_path = here.join(&self.lxc_path);
        self.token_file = here.join(&self.token_file);
        if self.netclient.components().count() > 1 {
            self.netclient = here.join(&self.netclient);
        }
        if self.changes_directory() {
            self.tls.settle(&here);
            for database in self.databases.iter_mut().filter(|database| !is_relay(database)) {
                *database = here.join(&*database);
            }
            self.place_sockets(&program.socket_directory(&here));
            let http = self.http.as_ref().map(ToString::to_string);
            if let Some(path) = http.as_deref().and_then(|address| address.strip_prefix("unix:")) {
                self.http = format!("unix:{}", here.join(path).display()).parse().ok();
            }
        }
        Ok(())
    }

    /// Takes what the server before this one was told at run time.
    pub(crate) fn take_kept(&mut self, kept: Kept) {
        let databases: Vec<PathBuf> = kept.databases.into_iter().map(PathBuf::from).collect();
        // The socket beside the first database has its short name only while nobody names remotes.
        let first = self.databases.first().map(|path| resolved(path));
        if kept.remotes != self.remotes() || databases.first() != first.as_ref() {
            self.remotes = kept.remotes;
        }
        self.databases = databases;
    }

    /// Makes the sockets of remotes independent of the working directory.
    fn place_sockets(&mut self, base: &Path) {
        for remote in &mut self.remotes {
            if let Some(path) = remote.strip_prefix("punix:").filter(|path| !path.is_empty()) {
                *remote = format!("punix:{}", base.join(path).display());
            }
        }
    }

    /// The server to follow, and the tables not to.
    ///
    /// # Errors
    /// Where one of them is not what it should be.
    pub(crate) fn replication(&self) -> anyhow::Result<(Option<SourceRemote>, Exclusion)> {
        let here = std::env::current_dir().context("where this process is")?;
        let remote = match &self.sync_from {
            Some(text) => {
                let mut remote = SourceRemote::parse(text).map_err(|error| anyhow!("--sync-from: {error}"))?;
                remote.settle(&self.program.socket_directory(&here));
                Some(remote)
            }
            None => None,
        };
        let exclusion = self.sync_exclude_tables.as_deref().unwrap_or_default().parse();
        let exclusion = exclusion.map_err(|error: String| anyhow!("--sync-exclude-tables: {error}"))?;
        Ok((remote, exclusion))
    }

    /// Whether `_Nonnet` is left out of the lists of databases, which scripts for ovsdb-server compare.
    pub(crate) fn hides_audit(&self) -> bool {
        self.hide_audit || self.program == Program::OvsdbServer
    }

    /// Whether the server leaves the working directory once it serves.
    pub(crate) fn changes_directory(&self) -> bool {
        self.detach && !self.no_chdir
    }

    /// The socket beside the first database, where no remote is given; ovsdb-server then has none.
    pub(crate) fn default_socket(&self) -> Option<PathBuf> {
        if self.program == Program::OvsdbServer {
            return None;
        }
        let mut files = self.databases.iter().filter(|database| !is_relay(database));
        let database = files.next().map_or(Path::new("nonnet.db"), PathBuf::as_path);
        let socket = PathBuf::from(format!("{}.sock", database.display()));
        (self.remotes.is_empty() && self.config_file.is_none()).then_some(socket)
    }

    /// What clients of `--http` may do.
    pub(crate) fn access(&self) -> Access {
        if self.gateway_write {
            Access::Write
        } else {
            Access::ReadOnly
        }
    }

    /// The remotes in OVS syntax: those given, or the socket beside the first database.
    pub(crate) fn remotes(&self) -> Vec<String> {
        match self.default_socket() {
            Some(socket) => vec![format!("punix:{}", socket.display())],
            None => self.remotes.clone(),
        }
    }
}

/// `-vSPEC`, which ovsdb-server has besides `-v`, as `--verbose=SPEC`.
fn spell_out(argument: OsString) -> OsString {
    let spec = argument.to_str().and_then(|text| text.strip_prefix("-v"));
    match spec.filter(|spec| spec.contains(|letter| letter != 'v')) {
        Some(spec) => format!("--verbose={}", spec.trim_start_matches('=')).into(),
        None => argument,
    }
}

/// Whether an argument in the place of a file names a database of another server.
fn is_relay(argument: &Path) -> bool {
    argument.to_str().is_some_and(|text| text.starts_with("relay:"))
}

/// Prints what ovsdb-server would of its command line, and ends the process.
fn end_as_ovsdb_server(error: &clap::Error) -> ! {
    let words = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::DisplayVersion, _) => {
            println!("{} {}", Program::OvsdbServer.name(), Program::OvsdbServer.version());
            std::process::exit(0)
        }
        (ErrorKind::DisplayHelp, _) => error.exit(),
        (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) => format!("unrecognized option '{option}'"),
        _ => {
            let rendered = error.render().to_string();
            rendered.trim_start_matches("error: ").trim_end().to_owned()
        }
    };
    eprintln!("{}: {words}", Program::OvsdbServer.name());
    std::process::exit(1)
}

/// Where Open vSwitch has its database unless told otherwise (`ovsdb-server(1)`).
fn ovs_remote() -> nonnet_client::Address {
    let directory = std::env::var_os("OVS_RUNDIR").filter(|directory| !directory.is_empty());
    let directory = directory.map_or_else(|| PathBuf::from("/var/run/openvswitch"), PathBuf::from);
    nonnet_client::Address::Unix(directory.join("db.sock"))
}

/// Reads the permission bits of a file.
fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "a mode has three octal digits, as 660".to_owned())
}

/// Finds the number of a group.
fn parse_group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err("there is no such group".to_owned()),
        Err(cause) => Err(cause.to_string()),
    }
}
