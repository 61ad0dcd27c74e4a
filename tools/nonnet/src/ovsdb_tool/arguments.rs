//! The command line of `ovsdb-tool`: options anywhere, then a command and its arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use nonnet_schema::parse_uuid;

use super::file::Kind;
use super::schema::Member;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) command: Command,
    /// How often `-m` is given.
    pub(super) verbosity: u8,
    /// The RBAC role.
    pub(super) role: Option<String>,
}

/// A command with its arguments, defaults filled in.
#[derive(Debug)]
pub(super) enum Command {
    Help,
    Version,
    ListCommands,
    Create {
        db: PathBuf,
        schema: PathBuf,
    },
    Compact {
        db: PathBuf,
        target: Option<PathBuf>,
    },
    Convert {
        db: PathBuf,
        schema: PathBuf,
        target: Option<PathBuf>,
    },
    NeedsConversion {
        db: PathBuf,
        schema: PathBuf,
    },
    /// A member of the schema in a database.
    Database {
        db: PathBuf,
        member: Member,
    },
    /// A member of the schema in a file of its own.
    Schema {
        schema: PathBuf,
        member: Member,
    },
    IsKind {
        db: PathBuf,
        kind: Kind,
    },
    /// What only a clustered database has.
    ClusterOnly {
        db: PathBuf,
    },
    Query {
        db: PathBuf,
        transaction: String,
    },
    Transact {
        db: PathBuf,
        transaction: String,
    },
    ShowLog {
        db: PathBuf,
    },
    CompareVersions {
        a: String,
        operator: String,
        b: String,
    },
    /// A command for clustered databases.
    Refused(&'static str),
}

/// Each command's name, what it takes in words, and how many words that are at least and at most.
pub(super) const COMMANDS: [(&str, &str, usize, usize); 25] = [
    ("create", "[db [schema]]", 0, 2),
    ("create-cluster", "db contents local", 3, 3),
    ("join-cluster", "db name local remote...", 4, usize::MAX),
    ("compact", "[db [dst]]", 0, 2),
    ("convert", "[db [schema [dst]]]", 0, 3),
    ("needs-conversion", "", 0, 2),
    ("db-name", "[db]", 0, 1),
    ("db-version", "[db]", 0, 1),
    ("db-cksum", "[db]", 0, 1),
    ("db-cid", "db", 1, 1),
    ("db-sid", "db", 1, 1),
    ("db-local-address", "db", 1, 1),
    ("db-is-clustered", "db", 1, 1),
    ("db-is-standalone", "db", 1, 1),
    ("schema-name", "[schema]", 0, 1),
    ("schema-version", "[schema]", 0, 1),
    ("schema-cksum", "[schema]", 0, 1),
    ("query", "[db] trns", 1, 2),
    ("transact", "[db] trns", 1, 2),
    ("show-log", "[db]", 0, 1),
    ("check-cluster", "db...", 1, usize::MAX),
    ("compare-versions", "a op b", 3, 3),
    ("help", "", 0, usize::MAX),
    ("list-commands", "", 0, usize::MAX),
    ("cluster-to-standalone", "db clusterdb", 2, 2),
];

/// The options; the rest is left as words.
#[derive(Debug, Parser)]
#[command(name = super::NAME, disable_help_flag = true, infer_long_args = true)]
struct Options {
    #[arg(long, short, action = clap::ArgAction::Count)]
    more: u8,
    #[arg(long)]
    rbac_role: Option<String>,
    #[arg(long)]
    cid: Option<String>,
    #[arg(long)]
    election_timer: Option<String>,
    #[arg(long, short)]
    help: bool,
    #[arg(long, short = 'V')]
    version: bool,
    /// There is no log: what is wrong is said on standard error.
    #[arg(long, num_args = 0..=1, require_equals = true)]
    verbose: Vec<Option<String>>,
    words: Vec<String>,
}

impl Arguments {
    /// That of this process.
    ///
    /// # Errors
    /// What `ovsdb-tool` says of a wrong one.
    pub(super) fn of_this_process() -> Result<Self> {
        Self::parse(std::env::args_os())
    }

    fn parse(words: impl Iterator<Item = OsString>) -> Result<Self> {
        let options = match Options::try_parse_from(words.map(spell_out)) {
            Ok(options) => options,
            Err(error) => bail!("{}", reason(&error)),
        };
        if let Some(cid) = options.cid.filter(|cid| parse_uuid(cid).is_none_or(|cid| cid.is_nil())) {
            bail!("{cid}: not a valid UUID");
        }
        let timer_ms = options.election_timer.map(|text| text.parse().unwrap_or(0));
        if timer_ms.is_some_and(|timer_ms| !(100..=600_000).contains(&timer_ms)) {
            bail!("ovsdb error: election timer must be between 100 and 600000, in msec.");
        }
        let command = if options.help {
            Command::Help
        } else if options.version {
            Command::Version
        } else {
            command(options.words)?
        };
        Ok(Self {
            command,
            verbosity: options.more,
            role: options.rbac_role,
        })
    }
}

/// `-vSPEC` and `-v` as `--verbose`, which does the same.
fn spell_out(argument: OsString) -> OsString {
    match argument.to_str().and_then(|text| text.strip_prefix("-v")) {
        Some("") => "--verbose".into(),
        Some(spec) => format!("--verbose={spec}").into(),
        None => argument,
    }
}

/// What getopt(3) says of a wrong option.
fn reason(error: &clap::Error) -> String {
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => option.split([' ', '=']).next().unwrap_or_default(),
        _ => "",
    };
    match (error.kind(), option.strip_prefix("--")) {
        (ErrorKind::UnknownArgument, Some(_)) => format!("unrecognized option '{option}'"),
        (ErrorKind::UnknownArgument, None) => format!("invalid option -- '{}'", option.trim_start_matches('-')),
        (ErrorKind::TooManyValues, _) => format!("option '{option}' doesn't allow an argument"),
        (ErrorKind::InvalidValue, _) => format!("option '{option}' requires an argument"),
        _ => error.to_string().trim_end().trim_start_matches("error: ").to_owned(),
    }
}

fn command(words: Vec<String>) -> Result<Command> {
    let mut words = words.into_iter();
    let Some(name) = words.next() else {
        bail!("missing command name; use --help for help");
    };
    let Some((name, _, min, max)) = COMMANDS.iter().find(|(known, ..)| *known == name).copied() else {
        bail!("unknown command '{name}'; use --help for help");
    };
    if words.len() < min {
        bail!("'{name}' command requires at least {min} arguments");
    }
    if words.len() > max {
        bail!("'{name}' command takes at most {max} arguments");
    }
    let count = words.len();
    let mut path = || words.next().map(PathBuf::from);
    let db = |given: Option<PathBuf>| given.unwrap_or_else(default_db);
    let schema = |given: Option<PathBuf>| given.unwrap_or_else(default_schema);
    Ok(match name {
        "create" => Command::Create {
            db: db(path()),
            schema: schema(path()),
        },
        "compact" => Command::Compact {
            db: db(path()),
            target: path(),
        },
        "convert" => Command::Convert {
            db: db(path()),
            schema: schema(path()),
            target: path(),
        },
        "needs-conversion" => Command::NeedsConversion {
            db: db(path()),
            schema: schema(path()),
        },
        "db-name" | "db-version" | "db-cksum" => Command::Database {
            db: db(path()),
            member: Member::of_command(name),
        },
        "schema-name" | "schema-version" | "schema-cksum" => Command::Schema {
            schema: schema(path()),
            member: Member::of_command(name),
        },
        "db-cid" | "db-sid" | "db-local-address" => Command::ClusterOnly { db: db(path()) },
        "db-is-clustered" => Command::IsKind {
            db: db(path()),
            kind: Kind::Clustered,
        },
        "db-is-standalone" => Command::IsKind {
            db: db(path()),
            kind: Kind::Standalone,
        },
        "query" | "transact" => {
            let db = db(if count > 1 { path() } else { None });
            let transaction = words.next().unwrap_or_default();
            if name == "query" {
                Command::Query { db, transaction }
            } else {
                Command::Transact { db, transaction }
            }
        }
        "show-log" => Command::ShowLog { db: db(path()) },
        "compare-versions" => {
            let mut word = || words.next().unwrap_or_default();
            Command::CompareVersions {
                a: word(),
                operator: word(),
                b: word(),
            }
        }
        "help" => Command::Help,
        "list-commands" => Command::ListCommands,
        refused => Command::Refused(refused),
    })
}

/// `$OVS_DBDIR/conf.db`, or where Debian has it.
pub(super) fn default_db() -> PathBuf {
    let configured = directory("OVS_SYSCONFDIR").map(|directory| directory.join("openvswitch"));
    let directory = directory("OVS_DBDIR").or(configured);
    directory.unwrap_or_else(|| "/etc/openvswitch".into()).join("conf.db")
}

/// `$OVS_PKGDATADIR/vswitch.ovsschema`, or where Debian has it.
pub(super) fn default_schema() -> PathBuf {
    let directory = directory("OVS_PKGDATADIR");
    let directory = directory.unwrap_or_else(|| "/usr/share/openvswitch".into());
    directory.join("vswitch.ovsschema")
}

fn directory(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
