//! The arguments of the commands that read the log, and put it to use.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Query;
use crate::history::Point;

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The database file [default: that beside the socket given, else nonnet.db in the current directory]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Only commits that changed this table, and only its rows.
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,

    /// Only commits that changed this row: its UUID, TABLE:NAME, or with --table its name. It may be gone by now.
    #[arg(long, value_name = "ROW")]
    pub(crate) row: Option<String>,

    /// Only commits of this user.
    #[arg(long, value_name = "NUMBER|NAME")]
    pub(crate) uid: Option<String>,

    /// Only this commit and later ones, or only those from a time on.
    #[arg(long, value_name = "TIME|COMMIT")]
    pub(crate) since: Option<Point>,

    /// Only this commit and earlier ones, or only those up to a time.
    #[arg(long, value_name = "TIME|COMMIT")]
    pub(crate) until: Option<Point>,

    /// At most so many commits.
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) limit: Option<u64>,

    /// Oldest first.
    #[arg(long)]
    pub(crate) reverse: bool,

    /// Print the last ten commits (or what --limit or --since says), oldest first, then each new one as it comes.
    #[arg(long, short = 'f', conflicts_with_all = ["until", "reverse"])]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The commit.
    #[arg(value_name = "COMMIT")]
    pub(crate) commit: Point,

    /// The database file [default: that beside the socket given, else nonnet.db in the current directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The commit.
    #[arg(value_name = "COMMIT", required_unless_present = "check")]
    pub(crate) commit: Option<Point>,

    /// Shows this row only; of the others the proof has hashes.
    #[arg(long, value_name = "UUID")]
    pub(crate) row: Option<String>,

    /// Checks a proof instead; needs neither server nor database.
    #[arg(long, value_name = "PROOF", conflicts_with_all = ["commit", "row", "file"])]
    pub(crate) check: Option<PathBuf>,

    /// With --check: the head that the proof must lead to, as `nonnet head` printed it.
    #[arg(long, value_name = "FILE", requires = "check")]
    pub(crate) head: Option<PathBuf>,

    /// The database file [default: that beside the socket given, else nonnet.db in the current directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Blame {
    /// The table.
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,

    /// The row: its name or its UUID. It may be gone by now.
    #[arg(value_name = "ROW")]
    pub(crate) row: String,

    /// Only this column.
    #[arg(value_name = "COLUMN")]
    pub(crate) column: Option<String>,

    /// The database file [default: that beside the socket given, else nonnet.db in the current directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct At {
    /// The commit, or the time.
    #[arg(value_name = "TIME|COMMIT")]
    pub(crate) point: Point,

    /// The database file [default: that beside the socket given, else nonnet.db in the current directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Option<AtCommand>,
}

/// What is done with the rows of some time.
#[derive(Debug, Subcommand)]
pub(crate) enum AtCommand {
    /// Show the rows of a table, or of all, as `nonnet query` does. This is what is done where nothing else is said.
    Query(Query),
    /// Write the rows as a file that ovsdb-server and ovsdb-tool read, as `nonnet export` does.
    Dump {
        /// The file to write, which must not exist; - or nothing for standard output.
        #[arg(value_name = "OVSDB-FILE")]
        target: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Undo {
    /// The commit.
    #[arg(value_name = "COMMIT")]
    pub(crate) commit: Point,

    /// Show what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// The database file of the server [default: that beside the socket given, else nonnet.db in the current directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The commit, or the time, after which the rows were as they shall be again.
    #[arg(long, value_name = "TIME|COMMIT")]
    pub(crate) to: Point,

    /// Only the rows of this table, and those that live by them alone.
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,

    /// Show what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// The database file of the server [default: that beside the socket given, else nonnet.db in the current directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}
