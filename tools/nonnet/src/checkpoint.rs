//! Checkpoints as the server tells of them.

use anyhow::{Context, Result, bail, ensure};
use nonnet_schema::Datum;
use serde_json::{Value, json};

use crate::catalog;
use crate::content::{Row, Rows};
use crate::output::{Colour, bare_or_quoted, printable};
use crate::server::Server;
use crate::time;

/// The table of checkpoints.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) name: String,
    pub(crate) state: String,
    /// The commit that it goes back to.
    pub(crate) base: Option<u64>,
    /// Seconds within which it must be confirmed; 0 where it need not be.
    pub(crate) timeout: u64,
    pub(crate) on_error: String,
    pub(crate) error: Option<String>,
    /// Until when it is open, in milliseconds since 1970.
    pub(crate) deadline: Option<u64>,
}

impl Checkpoint {
    /// All checkpoints, oldest first.
    pub(crate) async fn all(server: &Server) -> Result<Vec<Self>> {
        ensure!(
            catalog::table(&server.schema, CHECKPOINTS).is_some_and(|table| table.column_index("state").is_some()),
            "the database {} of this server has no checkpoints",
            server.schema.name
        );
        let rows = Rows::read(&server.connection, &server.schema, &[CHECKPOINTS]).await?;
        let mut all: Vec<Self> = rows.table(CHECKPOINTS).map(|(_, row)| Self::of(row)).collect();
        all.sort_by(|a, b| (a.base, &a.name).cmp(&(b.base, &b.name)));
        Ok(all)
    }

    /// The checkpoint of that name; none where there is none.
    pub(crate) async fn find(server: &Server, name: &str) -> Result<Option<Self>> {
        let all = Self::all(server).await?;
        Ok(all.into_iter().find(|checkpoint| checkpoint.name == name))
    }

    /// The checkpoint of that name; without one, the only one that is open.
    pub(crate) async fn chosen(server: &Server, name: Option<&str>) -> Result<Self> {
        let all = Self::all(server).await?;
        if let Some(name) = name {
            let known: Vec<String> = all.iter().map(|checkpoint| bare_or_quoted(&checkpoint.name)).collect();
            let found = all.into_iter().find(|checkpoint| checkpoint.name == name);
            return found.with_context(|| match known.as_slice() {
                [] => format!("there is no checkpoint {}, nor any other", bare_or_quoted(name)),
                known => format!(
                    "there is no checkpoint {}; there are {}",
                    bare_or_quoted(name),
                    known.join(", ")
                ),
            });
        }
        let mut open: Vec<Self> = all.into_iter().filter(Self::is_open).collect();
        match (open.pop(), open.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => bail!("no checkpoint is open"),
            (Some(last), false) => {
                open.push(last);
                let names: Vec<String> = open.iter().map(|checkpoint| bare_or_quoted(&checkpoint.name)).collect();
                bail!("{} checkpoints are open, name one: {}", names.len(), names.join(", "))
            }
        }
    }

    fn of(row: &Row) -> Self {
        let text = |column: &str| row.get(column).and_then(Datum::as_str).unwrap_or_default().to_owned();
        let number = |column: &str| {
            let integer = row.get(column).and_then(Datum::as_integer);
            integer.and_then(|number| u64::try_from(number).ok())
        };
        Self {
            name: text("name"),
            state: text("state"),
            base: number("base"),
            timeout: number("timeout").unwrap_or(0),
            on_error: Some(text("on_error"))
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| "keep".to_owned()),
            error: Some(text("error")).filter(|text| !text.is_empty()),
            deadline: number("deadline"),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == "open"
    }

    pub(crate) fn is_rolled_back(&self) -> bool {
        self.state == "rolled_back"
    }

    /// Seconds until it is rolled back by itself.
    pub(crate) fn seconds_left(&self) -> Option<u64> {
        let left_ms = self.deadline?.saturating_sub(time::now_us() / 1_000);
        Some(left_ms.div_ceil(1_000))
    }

    /// `open, rolled back in 58 s unless confirmed`.
    pub(crate) fn words(&self) -> String {
        let words = match (self.state.as_str(), &self.error, self.seconds_left()) {
            ("open", Some(error), _) => format!("open: {error}"),
            ("open", None, Some(left)) => format!("open, rolled back in {left} s unless confirmed"),
            ("open", None, None) => "open until everything is as wanted".to_owned(),
            (state, Some(error), _) => format!("{}: {error}", state.replace('_', " ")),
            (state, None, _) => state.replace('_', " "),
        };
        printable(&words)
    }

    pub(crate) fn colour(&self) -> Colour {
        match self.state.as_str() {
            "open" => Colour::Yellow,
            "rolled_back" => Colour::Red,
            _ => Colour::Green,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name, "state": self.state, "base": self.base, "timeout": self.timeout, "on_error": self.on_error,
            "error": self.error, "deadline": self.deadline.map(|ms| time::local(ms.saturating_mul(1_000))),
        })
    }
}
