//! `ovsdb-tool`: what a link of that name to our command line does (ovsdb-tool(1)).
//!
//! It works on files, those of ovsdb-server and ours, whichever it is given, and needs no server. A file stays in its format: what is
//! written to one of ours is a record of its log by the user who runs this; what is written to one of ovsdb-server is appended as that
//! server reads it. Output, errors and exit status are those of the program whose name this is.

mod arguments;
mod create;
mod file;
mod help;
mod rewrite;
mod schema;
mod show_log;
mod transact;
mod versions;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use arguments::{Arguments, Command};

/// The name.
const NAME: &str = "ovsdb-tool";

/// Whether this process was called by that name.
pub(crate) fn is_called() -> bool {
    let called = std::env::args_os().next();
    called.as_deref().map(Path::new).and_then(Path::file_name) == Some(OsStr::new(NAME))
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let out = &mut io::stdout().lock();
    let done = Arguments::of_this_process()
        .and_then(|arguments| run(&arguments, out))
        .and_then(|code| Ok(out.flush().map(|()| code)?));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) if crate::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = io::stderr().write_all(format!("{NAME}: {error:#}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Carries out one command; gives the exit status.
fn run(arguments: &Arguments, out: &mut impl Write) -> Result<u8> {
    match &arguments.command {
        Command::Help => out.write_all(help::usage().as_bytes())?,
        Command::Version => out.write_all(help::version().as_bytes())?,
        Command::ListCommands => out.write_all(help::commands().as_bytes())?,
        Command::Create { db, schema } => create::run(db, schema)?,
        Command::Compact { db, target } => rewrite::compact(db, target.as_deref())?,
        Command::Convert { db, schema, target } => rewrite::convert(db, schema, target.as_deref())?,
        Command::NeedsConversion { db, schema } => schema::needs_conversion(db, schema, out)?,
        Command::Database { db, member } => schema::of_database(db, *member, out)?,
        Command::Schema { schema, member } => schema::of_file(schema, *member, out)?,
        Command::IsKind { db, kind } => return file::is_kind(db, *kind),
        Command::ClusterOnly { db } => file::not_clustered(db)?,
        Command::Query { db, transaction } => transact::query(db, transaction, arguments.role.as_deref(), out)?,
        Command::Transact { db, transaction } => transact::transact(db, transaction, arguments.role.as_deref(), out)?,
        Command::ShowLog { db } => show_log::run(db, arguments.verbosity, out)?,
        Command::CompareVersions { a, operator, b } => return versions::compare(a, operator, b),
        Command::Refused(name) => {
            bail!("'{name}' command: clustered (Raft) databases are not supported by nonnet; use a standalone one")
        }
    }
    Ok(0)
}
