//! The command line of `nonnetd`.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use nonnet_gateway::{Access, Address};

#[allow(clippy::doc_markdown, reason = "these comments are the help text")]
/// The state database for host and container networking.
///
/// Serves OVSDB (RFC 7047) to any client, and makes the rows of the database OpNonNet come true in the kernel.
/// Without arguments: nonnet.db in the current directory, made where there is none, and the socket nonnet.db.sock beside it.
#[derive(Clone, Debug, Parser)]
#[command(name = "nonnetd", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Files of the databases to serve; a file that does not exist is made.
    #[arg(value_name = "DATABASE", default_value = "nonnet.db")]
    pub(crate) databases: Vec<PathBuf>,

    /// Where to listen, in OVS syntax.
    #[arg(
        long = "remote",
        value_name = "REMOTE",
        help = "Where to listen: punix:PATH or ptcp:[PORT][:IP]; may be given many times [default: punix:DATABASE.sock]"
    )]
    pub(crate) remotes: Vec<String>,

    /// The schema of a database that is made; without it, that of OpNonNet.
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,

    /// What a reply promises: that the commit survives a loss of power, or that only where the client asks for it.
    #[arg(long, value_enum, default_value_t = DurabilityArgument::EveryCommit)]
    pub(crate) durability: DurabilityArgument,

    /// What is done with the kernel.
    #[arg(long, value_enum, default_value_t = KernelArgument::Apply)]
    pub(crate) kernel: KernelArgument,

    /// What is done when somebody else changes what nonnetd made.
    #[arg(long, value_enum, default_value_t = HealArgument::On)]
    pub(crate) heal: HealArgument,

    /// Where to serve JSON-RPC 2.0 over HTTP and WebSocket besides: unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<Address>,

    /// Lets clients of --http write; without it they only read.
    #[arg(long, requires = "http")]
    pub(crate) gateway_write: bool,

    /// Says more (twice: everything) on standard error. The environment variable NONNET_LOG does it by module.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

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

impl Arguments {
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
        if !self.remotes.is_empty() {
            return self.remotes.clone();
        }
        let database = self.databases.first().map_or(Path::new("nonnet.db"), PathBuf::as_path);
        vec![format!("punix:{}.sock", database.display())]
    }
}
