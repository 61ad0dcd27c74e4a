//! "How fast is it": nonnetd and ovsdb-server side by side, in one run.
//!
//! Both servers run on the same schema in directories of their own and get the same bytes; the rounds of a workload alternate A, B, A,
//! B, so that a noisy minute of the machine meets both; what is told is the median of the rounds and their ratio. Beside the wall clock
//! stands the server's own CPU time per operation, which noise moves least.
//!
//! Every reply is checked and the rows are counted, so that work not done is a failure and not a speed. No duration is ever asserted.
//!
//! A new workload is one file under `workload` that implements [`workload::Workload`], and its line in [`suite`].

pub mod connection;
pub mod drive;
pub mod measure;
pub mod namespace;
pub mod network;
pub mod options;
pub mod outcome;
pub mod program;
pub mod report;
pub mod request;
pub mod row;
pub mod scratch;
pub mod server;
pub mod suite;
pub mod table;
pub mod workload;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::options::Options;

/// Runs the bench as the command line says, and prints what came out.
///
/// # Errors
/// When a server does not start, a reply is not what it should be, or rows are missing.
pub fn run() -> Result<()> {
    let mut options = Options::parse();
    if options.list {
        for name in suite::names(&options) {
            println!("{name}");
        }
        return Ok(());
    }
    ensure!(
        !suite::names(&options).is_empty(),
        "no workload is called that: `--list` shows the names"
    );
    let scratch = scratch::make(options.directory.as_deref().map(options::from_top).as_deref())?;
    options.directory = Some(scratch.path().to_owned());
    let results = suite::run(&options)?;
    print!("{}", table::render(&results));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report::json(&results))?;
        let path = options::from_top(path);
        std::fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
