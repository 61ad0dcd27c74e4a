//! Prints records: who, when, why, and the rows that they changed.

use anyhow::Result;
use nonnet_chain::{Flags, RowDelta};
use nonnet_schema::DatabaseSchema;
use serde_json::{Value, json};

use super::History;
use super::entry::Entry;
use super::names::Names;
use super::shown::ShownRow;
use crate::output::{Colour, Output, printable};
use crate::{time, who};

/// How much of a record is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A line for each row.
    Short,
    /// Everything, with a line for each column.
    Full,
}

/// Prints records of one file.
pub(crate) struct Printer<'a> {
    schema: &'a DatabaseSchema,
    pub(crate) names: Names<'a>,
    style: Style,
    now_us: u64,
    pub(crate) output: &'a mut Output,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(history: &'a History, style: Style, output: &'a mut Output) -> Result<Self> {
        Ok(Self {
            schema: &history.schema,
            names: Names::new(history)?,
            style,
            now_us: time::now_us(),
            output,
        })
    }

    /// Prints a record with these of its rows.
    pub(crate) fn entry(&mut self, entry: &Entry, rows: &[&RowDelta]) -> Result<()> {
        self.names.learn_all(entry.rows());
        let rows: Vec<ShownRow> = rows.iter().map(|delta| self.shown(delta)).collect();
        if self.output.is_json() {
            let json = self.to_json(entry, &rows);
            return Ok(self.output.json_line(&json)?);
        }
        self.head(entry)?;
        if entry.body.is_none() {
            self.output.line("    (the body was removed)")?;
        }
        if let Some(schema) = entry.body.as_ref().and_then(|body| body.schema.as_ref()) {
            self.output.line(&format!("    schema of {} bytes", schema.len()))?;
        }
        for row in &rows {
            self.row(row, "    ")?;
        }
        if self.style == Style::Full {
            return Ok(());
        }
        Ok(self.output.line("")?)
    }

    /// Prints changes that are of no one record, by table and name.
    pub(crate) fn rows(&mut self, rows: &[RowDelta]) -> Result<()> {
        for row in self.by_name(rows) {
            self.row(&row, "")?;
        }
        Ok(())
    }

    /// Such changes for programs.
    pub(crate) fn rows_json(&self, rows: &[RowDelta]) -> Value {
        self.by_name(rows).iter().map(ShownRow::to_json).collect()
    }

    fn by_name(&self, rows: &[RowDelta]) -> Vec<ShownRow> {
        self.names.learn_all(rows);
        let mut shown: Vec<ShownRow> = rows.iter().map(|delta| self.shown(delta)).collect();
        shown.sort_by(|a, b| a.name().cmp(&b.name()));
        shown
    }

    fn shown(&self, delta: &RowDelta) -> ShownRow {
        ShownRow::new(delta, &self.names, self.schema)
    }

    fn row(&mut self, row: &ShownRow, indent: &str) -> Result<()> {
        let lines = match self.style {
            Style::Short => vec![row.line()],
            Style::Full => row.lines(),
        };
        for line in lines {
            let line = self.output.coloured(row.colour(), &format!("{indent}{line}"));
            self.output.line(&line)?;
        }
        Ok(())
    }

    fn head(&mut self, entry: &Entry) -> Result<()> {
        let (header, meta) = (&entry.header, entry.meta());
        let title = format!("{} {} {}", header.kind.name(), header.seq, entry.hash);
        let title = self.output.coloured(Colour::Bold, &title);
        self.output.line(&title)?;
        let (at, ago) = (time::local(header.time_us), time::ago(header.time_us, self.now_us));
        let stepped = if header.flags.has(Flags::CLOCK_STEPPED_BACK) {
            ", the clock was set back before"
        } else {
            ""
        };
        self.output.line(&format!("    {at} ({ago}{stepped})"))?;
        self.output.line(&format!("    by {}", who::words(header, &meta)))?;
        if self.style == Style::Full {
            self.details(entry)?;
        }
        for comment in &meta.comments {
            self.output.line(&format!("    \"{}\"", printable(comment)))?;
        }
        Ok(())
    }

    fn details(&mut self, entry: &Entry) -> Result<()> {
        let (header, meta) = (&entry.header, entry.meta());
        if !meta.remote.is_empty() {
            self.output.line(&format!("    at {}", printable(&meta.remote)))?;
        }
        let id = entry.hash.transaction_id().hyphenated();
        self.output
            .line(&format!("    transaction id {id}, after {}", header.prev))?;
        if meta.operations > 0 {
            let request = if meta.request_id.is_empty() {
                String::new()
            } else {
                format!(" in request {}", printable(&meta.request_id))
            };
            self.output
                .line(&format!("    operations {}{request}", meta.operations))?;
        }
        Ok(())
    }

    fn to_json(&self, entry: &Entry, rows: &[ShownRow]) -> Value {
        let (header, meta) = (&entry.header, entry.meta());
        let rows: Vec<Value> = rows.iter().map(ShownRow::to_json).collect();
        let comments: Vec<&str> = meta.comments.iter().map(AsRef::as_ref).collect();
        let mut json = json!({
            "seq": header.seq, "hash": entry.hash.to_string(), "prev": header.prev.to_string(), "kind": header.kind.name(),
            "time": time::local(header.time_us), "who": who::to_json(header, &meta), "comments": comments,
            "operations": meta.operations, "rows": rows,
        });
        if self.style == Style::Full {
            json["id"] = entry.hash.transaction_id().hyphenated().to_string().into();
            json["schema"] = entry.body.as_ref().and_then(|body| body.schema.as_deref()).into();
            json["clock_stepped_back"] = header.flags.has(Flags::CLOCK_STEPPED_BACK).into();
            json["has_ephemeral"] = header.flags.has(Flags::HAS_EPHEMERAL).into();
            json["durable"] = header.flags.has(Flags::DURABLE).into();
        }
        json
    }
}
