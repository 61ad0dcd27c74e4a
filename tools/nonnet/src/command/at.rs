//! `nonnet at`: the rows as they were.

use anyhow::Result;

use crate::arguments::{At, AtCommand, Common, Query};
use crate::command::{export, query};
use crate::history::History;
use crate::output::{Colour, Output};
use crate::source::Source;
use crate::time;

/// Prints or writes the rows after a commit.
pub(crate) async fn run(common: &Common, options: &At, output: &mut Output) -> Result<u8> {
    let history = History::open(options.file.as_deref(), common)?;
    let contents = history.contents_at(history.resolve(&options.point)?)?;
    let everything = Query::default();
    let query = match &options.command {
        Some(AtCommand::Dump { target }) => {
            export::put(&contents, target.as_deref(), output)?;
            return Ok(0);
        }
        Some(AtCommand::Query(query)) => query,
        None => &everything,
    };
    if !output.is_json() && query.plugin.is_none() {
        let (seq, time_us) = (contents.newest.seq, contents.newest.time_us);
        let ago = time::ago(time_us, time::now_us());
        let title = format!("after commit {seq}, {} ({ago}):", time::local(time_us));
        let title = output.coloured(Colour::Bold, &title);
        output.line(&title)?;
        output.line("")?;
    }
    let schema = contents.schema.clone();
    query::print(&Source::past(contents)?, &schema, query, output).await?;
    Ok(0)
}
