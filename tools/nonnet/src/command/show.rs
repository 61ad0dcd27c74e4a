//! `nonnet show`: one commit with everything that its record says.

use anyhow::Result;
use nonnet_chain::RowDelta;

use crate::arguments::{Common, Show};
use crate::history::{History, Printer, Style};
use crate::output::Output;

/// Prints the commit.
pub(crate) fn run(common: &Common, options: &Show, output: &mut Output) -> Result<u8> {
    let history = History::open(options.file.as_deref(), common)?;
    let entry = history.entry(history.resolve(&options.commit)?)?;
    let rows: Vec<&RowDelta> = entry.rows().collect();
    Printer::new(&history, Style::Full, output)?.entry(&entry, &rows)?;
    Ok(0)
}
