//! `nonnet`: the command line. It talks to the server's socket like any other client, and reads the log from its file.
//!
//! Called as `ovsdb-tool` it is that program instead.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 it worked, 1 it did not; `diff`, `plan` and `verify`
//! have their own (see their help), and arguments that are not understood give 2.

mod arguments;
mod catalog;
mod checkpoint;
mod command;
mod content;
mod difference;
mod document;
mod history;
mod limits;
mod live;
mod loaded;
mod notation;
mod origin;
mod output;
mod ovsdb_tool;
mod plan;
mod proof_file;
mod revert;
mod schema_difference;
mod server;
mod source;
mod state;
mod time;
mod verified;
mod wanted;
mod who;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use arguments::{Arguments, Command, Schema};
use output::Output;

fn main() -> ExitCode {
    if ovsdb_tool::is_called() {
        return ovsdb_tool::main();
    }
    let arguments = Arguments::parse();
    // What these two say of errors must differ from what they say of changes and faults.
    let code_on_error = match arguments.command {
        Command::Diff(_)
        | Command::Plan(_)
        | Command::Verify(_)
        | Command::Schema(Schema::Check { .. } | Schema::Diff { .. }) => 2,
        _ => 1,
    };
    match run(arguments) {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = io::Write::write_all(&mut io::stderr(), format!("nonnet: {error:#}\n").as_bytes());
            ExitCode::from(code_on_error)
        }
    }
}

fn run(arguments: Arguments) -> Result<u8> {
    let Arguments { common, command } = arguments;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let output = &mut Output::new(common.format());
    let code = match command {
        Command::Apply(options) => runtime.block_on(command::apply::run(&common, &options, output)),
        Command::Confirm(options) => runtime.block_on(command::checkpoint::confirm(&common, &options, output)),
        Command::Rollback(options) => runtime.block_on(command::checkpoint::rollback(&common, &options, output)),
        Command::Checkpoint(options) => runtime.block_on(command::checkpoint::run(&common, &options, output)),
        Command::Diff(options) => runtime.block_on(command::diff::run(&common, &options, output)),
        Command::Plan(options) => runtime.block_on(command::plan::run(&common, &options, output)),
        Command::Query(options) => runtime.block_on(command::query::run(&common, &options, output)),
        Command::Monitor(options) => runtime.block_on(command::monitor::run(&common, &options, output)),
        Command::Transact(options) => runtime.block_on(command::transact::run(&common, &options, output)),
        Command::Lxc(options) => runtime.block_on(command::lxc::run(&common, &options, output)),
        Command::Log(options) => command::log::run(&common, &options, output),
        Command::Show(options) => command::show::run(&common, &options, output),
        Command::Blame(options) => command::blame::run(&common, &options, output),
        Command::Prove(options) => command::prove::run(&common, &options, output),
        Command::Undo(options) => runtime.block_on(command::undo::run(&common, &options, output)),
        Command::Restore(options) => runtime.block_on(command::restore::run(&common, &options, output)),
        Command::At(options) => runtime.block_on(command::at::run(&common, &options, output)),
        Command::Verify(options) => command::verify::run(&common, &options, output),
        Command::Head(options) => command::head::run(&common, &options, output),
        Command::Import(options) => command::import::run(&options, output),
        Command::Schema(options) => runtime.block_on(command::schema::run(&common, &options, output)),
        Command::Export(options) => command::export::run(&options, output),
    }?;
    output.flush()?;
    Ok(code)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(ErrorKind::BrokenPipe)
    })
}
