//! The command line's arguments and their help.

mod history;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::history::POINT_HELP;
use crate::state::RowName;

pub(crate) use history::{At, AtCommand, Blame, Log, Prove, Restore, Show, Undo};

/// See and change the networks of this host through nonnetd, and read its log.
#[derive(Debug, Parser)]
#[command(name = "nonnet", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  nonnet apply state.json --wait 10     make the file come true and see whether it did
  nonnet apply state.json --confirm 60  take it all back unless `nonnet confirm` comes within a minute
  nonnet diff state.json                what apply would change
  nonnet query ports                    the attachments and what became of them
  nonnet query --plugin lxc | jq '.containers[0]'
  nonnet monitor lxc ports              follow changes as they happen
  nonnet log --limit 5                  who changed what, newest first
  nonnet verify                         whether the log is as it was written
  nonnet import conf.db                 make nonnet.db from a file of ovsdb-server
  nonnet transact '[{\"op\":\"select\",\"table\":\"lxc\",\"where\":[]}]'";

/// What all commands take.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The server: a socket's path, unix:PATH or tcp:IP:PORT
    /// [default: nonnet.db.sock in the current directory where there is one, else /run/nonnet/nonnet.db.sock]
    #[arg(long, global = true, env = "NONNET_SOCKET", value_name = "ADDRESS")]
    pub(crate) socket: Option<String>,

    /// The database.
    #[arg(long, global = true, default_value = "OpNonNet", value_name = "NAME")]
    pub(crate) db: String,

    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// The same as --format json.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Common {
    /// How results are printed.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs; what follows a server prints one JSON text per line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the rows of the database those of a state file, in one transaction.
    #[command(after_help = APPLY_HELP)]
    Apply(Apply),
    /// Keep what has changed since a checkpoint: it is not taken back any more.
    #[command(after_help = CHECKPOINT_HELP)]
    Confirm(Confirm),
    /// Take back everything that has changed since a checkpoint, or since a commit, in a new commit.
    #[command(after_help = CHECKPOINT_HELP)]
    Rollback(Rollback),
    /// List, show, make or delete checkpoints.
    #[command(subcommand, after_help = CHECKPOINT_HELP)]
    Checkpoint(CheckpointCommand),
    /// Show what `apply` would change, or what differs between two commits. Exit code: 0 nothing, 1 changes, 2 an error.
    #[command(after_help = DIFF_HELP)]
    Diff(Diff),
    /// Show what the server would do in the kernel, now or if a file were applied. Exit code: 0 nothing, 1 something, 2 an error.
    #[command(after_help = PLAN_HELP)]
    Plan(Plan),
    /// Show the rows of a table, or of all.
    #[command(after_help = QUERY_HELP)]
    Query(Query),
    /// Make, start, stop and destroy containers, each by one small transaction.
    #[command(subcommand, after_help = LXC_HELP)]
    Lxc(Lxc),
    /// Follow changes of rows as they happen.
    #[command(after_help = "Examples:\n  nonnet monitor\n  nonnet monitor ports --format json | jq -c .columns.status")]
    Monitor(Monitor),
    /// Show the log of commits: who, when, what; newest first. Needs no server.
    #[command(after_help = LOG_HELP)]
    Log(Log),
    /// Show one commit with everything that its record says. Needs no server.
    #[command(after_help = POINT_HELP)]
    Show(Show),
    /// Print a proof that the log has a commit, for whoever has neither the log nor nonnet; or check one. Needs no server.
    #[command(after_help = PROVE_HELP)]
    Prove(Prove),
    /// Take back what one commit did, in a new commit. Exit code: 1 where what came later stands against it, or there is an error.
    #[command(after_help = UNDO_HELP)]
    Undo(Undo),
    /// Make the rows as they were after a commit or at a time, in a new commit. Exit code: as of undo.
    #[command(after_help = RESTORE_HELP)]
    Restore(Restore),
    /// Show the rows as they were after a commit or at a time, under the schema of then. Needs no server.
    #[command(after_help = AT_HELP)]
    At(At),
    /// Show for each column of a row its value, and which commit gave it this value. Needs no server.
    #[command(after_help = BLAME_HELP)]
    Blame(Blame),
    /// Check the log: its hash chain, its tree and checkpoints, and that the rows are those that it tells of. Exit code: 0 sound, 1 a fault,
    /// 2 it could not be read, or could not be checked whole. Needs no server.
    #[command(
        after_help = "Nothing on one machine shows what root has rewritten since the last head that somebody outside has seen: keep \
                      heads elsewhere.\n\nExamples:\n  nonnet verify\n  nonnet verify --state /var/lib/nonnet/nonnet.db\n  \
                      nonnet head > /mnt/elsewhere/head && nonnet verify --head /mnt/elsewhere/head"
    )]
    Verify(Verify),
    /// Print the newest signed head of the log, to be kept elsewhere. Needs no server.
    #[command(
        after_help = "The form is that of C2SP tlog-checkpoint, a signed note.\n\nExamples:\n  nonnet head > /mnt/elsewhere/head"
    )]
    Head(Head),
    /// Send operations of RFC 7047 as one transaction and print the results.
    #[command(after_help = TRANSACT_HELP)]
    Transact(Transact),
    /// Make a database file with the rows of a file of ovsdb-server, which stays as it is. Needs no server.
    #[command(after_help = IMPORT_HELP)]
    Import(Import),
    /// Write the rows of a database file as a file that ovsdb-server and ovsdb-tool read. Needs no server.
    #[command(after_help = EXPORT_HELP)]
    Export(Export),
    /// Check a schema, compare two, or bring a database under a new one.
    #[command(subcommand, after_help = SCHEMA_HELP)]
    Schema(Schema),
}

const PROVE_HELP: &str = "\
Examples:
  nonnet prove 4812 > proof.json
  nonnet prove 4812 --row 2d4b6d5e-0a4b-4b52-9d38-1c2f5d0e6a77 > proof.json
  nonnet prove --check proof.json --head head";

/// What is done with containers.
#[derive(Debug, Subcommand)]
pub(crate) enum Lxc {
    /// Show all containers and what became of them.
    List,
    /// Show one container. Exit code: 1 where there is none of that id.
    Show {
        /// The container's id.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Make a container, and start it.
    Create {
        /// The container's id.
        #[arg(value_name = "ID")]
        id: String,
        /// The bridge that it is attached to.
        #[arg(long, value_name = "NAME")]
        bridge: Option<String>,
        /// Leave it stopped.
        #[arg(long)]
        stopped: bool,
        /// Wait until it is done, at most so many seconds, and tell what became of it.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<f64>,
        /// Its properties.
        #[arg(value_name = "PROPERTY=VALUE")]
        properties: Vec<String>,
    },
    /// Have a container run.
    Start {
        /// The container's id.
        #[arg(value_name = "ID")]
        id: String,
        /// Wait until it is done, at most so many seconds, and tell what became of it.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<f64>,
    },
    /// Have a container not run.
    Stop {
        /// The container's id.
        #[arg(value_name = "ID")]
        id: String,
        /// Wait until it is done, at most so many seconds, and tell what became of it.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<f64>,
    },
    /// Delete a container's row; what the row made is destroyed, what it took over is given back.
    Destroy {
        /// The container's id.
        #[arg(value_name = "ID")]
        id: String,
        /// Wait until it is done, at most so many seconds.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<f64>,
    },
}

const LXC_HELP: &str = "\
Containers are made by a template or a golden_image; one without either is somebody else's and only attached.

Examples:
  nonnet lxc create 100 template=busybox memory=512 network_type=bridge ipv4=192.168.1.100/24 --bridge vmbr0 --wait 60
  nonnet lxc stop 100 --wait 30
  nonnet lxc destroy 100";

/// What is done with schemas.
#[derive(Debug, Subcommand)]
pub(crate) enum Schema {
    /// Name every fault of a schema with its place. Exit code: 0 sound, 1 faults, 2 it could not be read.
    Check {
        /// The schema; - for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show what a conversion from one schema to another would drop, add, tighten or loosen. Exit code: 0 nothing, 1 something, 2 an error.
    Diff {
        /// A schema, a database file, or a server: a socket's path, unix:PATH or tcp:IP:PORT.
        #[arg(value_name = "OLD")]
        old: String,
        /// The same.
        #[arg(value_name = "NEW")]
        new: String,
    },
    /// Bring a database under a new schema: of a server, which then goes on with it, or in a file that no server has open.
    Convert {
        /// A database file, or a server: a socket's path, unix:PATH or tcp:IP:PORT.
        #[arg(value_name = "DATABASE")]
        target: String,
        /// The schema; - for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

const SCHEMA_HELP: &str = "\
Lines of diff begin with - for what goes with its data, + for what comes, ! for what data may not fit, ~ for what allows more.
Of a server, diff reads the schema of the database that --db names.
A conversion keeps the UUIDs of rows; columns of the same name keep their data, which must fit the new types, indexes and references.
It is one record of the log with all rows that it changed, and a server answers nobody while it looks at every row.

Examples:
  nonnet schema check new.ovsschema
  nonnet schema diff /run/nonnet/nonnet.db.sock new.ovsschema
  nonnet schema convert /run/nonnet/nonnet.db.sock new.ovsschema
  nonnet schema convert nonnet.db new.ovsschema";

const APPLY_HELP: &str = "\
The file holds one or more JSON documents, each of one of these forms:
  {\"version\":1,\"plugins\":{\"lxc\":{\"containers\":[{\"id\":\"100\",\"bridge\":\"br0\",\"properties\":{...}}]},
                          \"bridges\":[{\"name\":\"br0\"}], \"networks\":[...], \"ports\":[...]}}
  {\"containers\":[...]}       as `nonnet query --plugin lxc` prints it
  {\"id\":\"100\", ...}          one container
Several documents are merged in order: of a row that is in two of them, the later one's columns win.
A plugin other than lxc is a table of the database: an array of rows, with `name` and any other columns.
A reference is the other row's name; routes are written inside their owner: \"routes\":[{\"destination\":\"10.0.0.0/8\"}].
Members whose names start with \"_\" are comments.
What a row in the file does not mention stays as it is. For a new container that is: veth vi{id}, not running, no properties.

Examples:
  nonnet apply state.json
  nonnet apply state.json --dry-run
  nonnet apply state.json --only lxc:100
  nonnet query --plugin lxc | jq '.containers[0].bridge = \"br1\"' | nonnet apply - --wait 10";

const CHECKPOINT_HELP: &str = "\
A checkpoint is a place in the log. While it is open, all that is changed belongs to it, whoever changes it; without a confirmation in time,
or where --on-error rollback is set and a row fails, the server brings every row back to what it was before, and the kernel follows.
Of several checkpoints, rolling back the older takes back the younger as well. A restart of the server makes no difference.

Examples:
  nonnet apply state.json --confirm 60 && ping -c 1 gateway && nonnet confirm
  nonnet checkpoint create before-lunch
  nonnet rollback before-lunch --dry-run  which commits that would take back
  nonnet rollback before-lunch
  nonnet rollback --to 17               to what commit 17 had made; see `nonnet log`";

const DIFF_HELP: &str = "\
Lines begin with + for a row that would be made, ~ for one that would change, - for one that would be deleted (with --prune),
and with ! for one that is in the database as the file says, but not (yet) in the kernel (with --live).

Examples:
  nonnet diff state.json && echo nothing to do
  nonnet diff state.json --live --format json
  nonnet diff 12..17                    what differs between the rows after commits 12 and 17; see `nonnet show --help`
  nonnet diff yesterday..               what differs since yesterday, 00:00
  nonnet diff --live                    whether the kernel is as all rows say";

const PLAN_HELP: &str = "\
Nothing is done and nothing is committed: the server works the file's rows out as if they were, addresses included.
Lines begin with + ~ - for rows as of `nonnet diff`, and with ! for what would be done to an object in the kernel, or what would have to wait.

Examples:
  nonnet plan
  nonnet plan state.json
  nonnet plan state.json --format json | jq -r '.steps[].operation'";

const QUERY_HELP: &str = "\
Conditions: COLUMN=VALUE and COLUMN!=VALUE; of a set, whether it has the value; of a map, COLUMN:KEY=VALUE.

Examples:
  nonnet query
  nonnet query ports --where network=lan --columns name,addresses_in_use,status
  nonnet query lxc --where properties:network_type=bridge --format json
  nonnet query --plugin lxc";

const UNDO_HELP: &str = "\
Rows keep their UUIDs. Every column that the commit changed must still be as it left it; where one is not, the later commit is named and
nothing is changed. An undo can be undone. The log is read from its file, the server makes the commit.

Examples:
  nonnet undo 17 --dry-run
  nonnet undo head";

const RESTORE_HELP: &str = "\
Rows keep their UUIDs. The log is not cut off: what was done since stays in it, and a restore can be undone. The rows of checkpoints stay as
they are, and so do ephemeral columns. Where a row cannot be what it was, it is named and nothing is changed.

Examples:
  nonnet restore --to 17 --dry-run
  nonnet restore --to \"yesterday 18:00\" --table networks";

const AT_HELP: &str = "\
A commit is given by its number, head~3, the beginning of its hash, its transaction id or a time: 2h (ago), yesterday, 14:30,
\"2026-11-21 14:30\" or RFC 3339; `nonnet show --help` says more. Ephemeral columns are in no log.

Examples:
  nonnet at 17
  nonnet at \"yesterday 18:00\" query ports --where network=lan
  nonnet at 2h query --plugin lxc > two-hours-ago.json
  nonnet at head~10 dump old.ovsdb      a file that ovsdb-server and ovsdb-tool read";

const BLAME_HELP: &str = "\
Examples:
  nonnet blame lxc 100
  nonnet blame ports vi100 bridge
  nonnet blame lxc 100 --json | jq -r .columns.bridge.commit.who.user";

const LOG_HELP: &str = "\
The file is read directly, whether a server runs or not. Times are 2h (ago), yesterday, 14:30, 2026-11-21, \"2026-11-21 14:30\" or RFC 3339;
`nonnet show --help` says more.

Examples:
  nonnet log --limit 1
  nonnet log --since 2h --uid alice
  nonnet log --row lxc:100              what became of one row, also of one that is gone
  nonnet log --follow --table ports
  nonnet log --table lxc --reverse
  nonnet log /var/lib/nonnet/nonnet.db --format json | jq -c '[.seq, .who.user, .comments]'";

const IMPORT_HELP: &str = "\
The file is a standalone database of ovsdb-server. Its rows become one commit that names the file and its SHA-1.
A damaged record is named with its number, as `ovsdb-tool show-log` counts, and where it begins in the file.

Examples:
  nonnet import /etc/openvswitch/conf.db
  nonnet import conf.db vswitch.db && nonnetd vswitch.db
  nonnet import broken.db rescued.db --up-to-damage";

const EXPORT_HELP: &str = "\
The file is read directly, whether a server runs or not. Ephemeral columns are in no file.

Examples:
  nonnet export nonnet.db backup.ovsdb
  nonnet export nonnet.db | gzip > backup.ovsdb.gz";

const TRANSACT_HELP: &str = "\
Examples:
  nonnet transact '{\"op\":\"insert\",\"table\":\"bridges\",\"row\":{\"name\":\"br0\"}}'
  nonnet transact '[\"OpNonNet\",{\"op\":\"select\",\"table\":\"lxc\",\"where\":[]}]'
  echo '[{\"op\":\"select\",\"table\":\"lxc\",\"where\":[]}]' | nonnet transact";

/// Which part of a state file.
#[derive(Debug, Args)]
pub(crate) struct Part {
    /// Only this plugin of the file; may be given many times.
    #[arg(long = "plugin", short = 'p', value_name = "NAME", requires = "file")]
    pub(crate) plugins: Vec<String>,

    /// Only this row of the file, as lxc:100; may be given many times.
    #[arg(
        long = "only",
        value_name = "TABLE:NAME",
        conflicts_with = "prune",
        requires = "file"
    )]
    pub(crate) only: Vec<RowName>,

    /// Also delete rows that are not in the file, of the tables that are.
    #[arg(long, requires = "file")]
    pub(crate) prune: bool,
}

/// Which part of which file.
#[derive(Debug, Args)]
pub(crate) struct StateFile {
    /// The state file; - for standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) part: Part,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) state: StateFile,

    /// Have the server try everything, show what would change in rows and kernel, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Wait until the kernel has followed, at most so many seconds, and tell what became of each row.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait: Option<f64>,

    /// Take everything back unless `nonnet confirm` comes within so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) confirm: Option<u32>,

    /// What happens where a row fails or is in conflict.
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "dry_run")]
    pub(crate) on_error: Option<OnError>,

    /// The name of the checkpoint that --confirm and --on-error rollback open.
    #[arg(long, value_name = "NAME", default_value = "apply")]
    pub(crate) checkpoint: String,

    /// Let --prune delete any number of containers.
    #[arg(long)]
    pub(crate) force: bool,
}

/// What happens where a row fails or is in conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// What works is kept.
    Keep,
    /// Everything is taken back at once.
    Rollback,
}

impl OnError {
    /// The word in the checkpoint's row.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Rollback => "rollback",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Confirm {
    /// The checkpoint; without it, the only one that is open.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The checkpoint; without it, the only one that is open.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Goes back to what this commit had made instead.
    #[arg(long, value_name = "COMMIT", conflicts_with = "name")]
    pub(crate) to: Option<u64>,

    /// Show the commits that would be taken back, and take none back.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What is done with checkpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// List all checkpoints, oldest first.
    List,
    /// Show a checkpoint.
    Show {
        /// The checkpoint; without it, the only one that is open.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Make a checkpoint here.
    Create {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
        /// Roll it back unless it is confirmed within so many seconds.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
        confirm: Option<u32>,
        /// What happens where a row fails or is in conflict.
        #[arg(long, value_enum, value_name = "WHAT")]
        on_error: Option<OnError>,
    },
    /// Delete a checkpoint that is closed; what has changed since stays.
    Delete {
        /// The checkpoint.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The state file; - for standard input. Without it, what differs now.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) part: Part,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The state file, - for standard input; or two commits, of which the second may be left out. With --live it may be left out.
    #[arg(value_name = "FILE|A..B", required_unless_present = "live")]
    pub(crate) file: Option<PathBuf>,

    /// The database file whose commits are compared [default: that beside the socket given, else nonnet.db in the current directory]
    #[arg(long = "file", value_name = "FILE", conflicts_with = "live")]
    pub(crate) log_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) part: Part,

    /// Also show what differs in the kernel: rows of the file that are not realised; without a file, whatever the server would do.
    #[arg(long)]
    pub(crate) live: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct Query {
    /// The table; without it, all that have rows.
    #[arg(value_name = "TABLE", conflicts_with = "plugin")]
    pub(crate) table: Option<String>,

    /// Print the rows as a state file has them.
    #[arg(long, short = 'p', value_name = "NAME")]
    pub(crate) plugin: Option<String>,

    /// Only rows for which this holds; may be given many times.
    #[arg(long = "where", value_name = "COLUMN=VALUE", requires = "table")]
    pub(crate) conditions: Vec<String>,

    /// Only these columns, in this order.
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',', requires = "table")]
    pub(crate) columns: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Monitor {
    /// The tables; without any, all.
    #[arg(value_name = "TABLE")]
    pub(crate) tables: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The database file [default: that beside the socket given, else nonnet.db in the current directory]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Also makes the rows anew from all records, and compares their digest after each.
    #[arg(long)]
    pub(crate) state: bool,

    /// Checks all records, which is what happens without it as well.
    #[arg(long)]
    pub(crate) full: bool,

    /// Reads only what came after the last time that this user verified the database with it; what was seen then is kept in
    /// `$XDG_STATE_HOME/nonnet`, and the log must begin with that.
    #[arg(long, conflicts_with_all = ["state", "full"])]
    pub(crate) since_my_last: bool,

    /// A head that was kept outside, as `nonnet head` printed it: the log must begin with it. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Head {
    /// The database file [default: that beside the socket given, else nonnet.db in the current directory]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Transact {
    /// The operations: one object, an array of them, or that of a whole `transact` request; without it, from standard input.
    #[arg(value_name = "OPERATIONS")]
    pub(crate) operations: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file of ovsdb-server.
    #[arg(value_name = "OVSDB-FILE")]
    pub(crate) source: PathBuf,

    /// The database file to make [default: nonnet.db in the current directory]
    #[arg(value_name = "DATABASE")]
    pub(crate) file: Option<PathBuf>,

    /// Import what comes before a damaged record; without it, nothing is imported then.
    #[arg(long)]
    pub(crate) up_to_damage: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The database file.
    #[arg(value_name = "DATABASE")]
    pub(crate) file: PathBuf,

    /// The file to write, which must not exist; - or nothing for standard output.
    #[arg(value_name = "OVSDB-FILE")]
    pub(crate) target: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        super::Arguments::command().debug_assert();
    }
}
