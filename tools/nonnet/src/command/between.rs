//! `nonnet diff A..B`: what differs between the rows after two commits, whatever happened in between.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::arguments::Common;
use crate::history::{History, Point, Printer, Style, between};
use crate::output::Output;

/// The exit code where something differs.
const DIFFERENT: u8 = 1;

/// Two commits, as `A..B` or `A..`, which ends with the newest.
#[derive(Clone, Debug)]
pub(crate) struct Commits {
    before: Point,
    after: Point,
}

impl Commits {
    /// What a text means that may be the name of a file as well; None where it is rather that.
    ///
    /// # Errors
    /// Where a side is no commit.
    pub(crate) fn of(text: &Path) -> Result<Option<Self>> {
        let Some(written) = text.to_str().filter(|written| !written.contains('/')) else {
            return Ok(None);
        };
        let Some((before, after)) = written.split_once("..").filter(|_| !text.exists()) else {
            return Ok(None);
        };
        if before.is_empty() {
            bail!("{written}: the commit before the .. is missing");
        }
        let side = |side: &str| {
            let point = side.parse::<Point>().map_err(anyhow::Error::msg);
            point.with_context(|| format!("{written}: {side}"))
        };
        Ok(Some(Self {
            before: side(before)?,
            after: if after.is_empty() {
                Point::Head { back: 0 }
            } else {
                side(after)?
            },
        }))
    }
}

/// Prints the differences; 0 without any, 1 with some.
pub(crate) fn run(common: &Common, file: Option<&Path>, commits: &Commits, output: &mut Output) -> Result<u8> {
    let history = History::open(file, common)?;
    let (before, after) = (history.resolve(&commits.before)?, history.resolve(&commits.after)?);
    let changes = between(&history.contents_at(before)?, &history.contents_at(after)?);
    let mut printer = Printer::new(&history, Style::Full, output)?;
    if printer.output.is_json() {
        let report = json!({"before": before, "after": after, "rows": printer.rows_json(&changes)});
        printer.output.json(&report)?;
    } else {
        printer.rows(&changes)?;
    }
    Ok(if changes.is_empty() { 0 } else { DIFFERENT })
}
