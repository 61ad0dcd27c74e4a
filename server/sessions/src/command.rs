//! What goes into the [`Server`](crate::Server), and what it asks the outside to do.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ecow::EcoString;
use nonnet_chain::Record;
use nonnet_engine::{ChangeSet, Database, OperationResult};
use nonnet_schema::{DatabaseSchema, RowUpdate, Uuid};
use serde_json::Value;

use crate::audit::CommitLookup;
use crate::history::Logged;
use crate::peer::{Peer, SessionId};

/// Everything that can happen.
#[derive(Debug)]
pub enum Event {
    /// A client connected.
    Opened {
        /// Its session.
        session: SessionId,
        /// Who it is.
        peer: Peer,
    },
    /// A client sent one JSON object.
    Message {
        /// Whose.
        session: SessionId,
        /// The object.
        message: Value,
        /// Whether an end of line followed it.
        newline: bool,
    },
    /// What a client sent has no meaning, and nothing after it has.
    Malformed {
        /// Whose.
        session: SessionId,
        /// What is wrong.
        details: String,
    },
    /// A client will send nothing more, but still reads.
    HalfClosed {
        /// Whose.
        session: SessionId,
    },
    /// A client reads more slowly than it is sent to: its updates are merged from now on.
    Congested {
        /// Whose.
        session: SessionId,
    },
    /// A congested client has read everything.
    Drained {
        /// Whose.
        session: SessionId,
    },
    /// A client is gone.
    Closed {
        /// Whose.
        session: SessionId,
    },
    /// All records of a database up to a sequence number are kept as durably as they asked to be.
    Stored {
        /// The database.
        database: EcoString,
        /// The newest of them.
        sequence: u64,
    },
    /// The records from a sequence number on were not written, none of them, and may be tried again later.
    Unstored {
        /// The database.
        database: EcoString,
        /// The first of them.
        sequence: u64,
        /// What the system said.
        reason: EcoString,
    },
    /// The answer to [`Command::ReadSince`].
    Since {
        /// The database.
        database: EcoString,
        /// The transaction.
        id: Uuid,
        /// What has changed since; None where the log does not tell.
        logged: Option<Logged>,
    },
    /// The answer to [`Command::Look`].
    Looked {
        /// Which.
        number: u64,
        /// One for each lookup, in order.
        results: Vec<OperationResult>,
    },
    /// The answer to [`Command::ReadBacklogs`].
    Backlogs {
        /// By session, the bytes that wait to be read.
        bytes: HashMap<SessionId, usize>,
    },
    /// The answer to [`Command::Plan`].
    Planned {
        /// Which.
        number: u64,
        /// The plan; null where nobody can tell.
        plan: Value,
    },
    /// Something happened at the source of a relayed database.
    Source {
        /// The database.
        database: EcoString,
        /// What.
        news: SourceNews,
    },
    /// Time has passed: see [`Server::deadline_ms`](crate::Server::deadline_ms).
    Tick,
}

/// Everything the outside is asked to do, in order.
#[derive(Debug)]
pub enum Command {
    /// Send to a session.
    Send {
        /// To whom.
        session: SessionId,
        /// What.
        payload: Outgoing,
    },
    /// A message of the session is done with.
    Finished {
        /// Whose.
        session: SessionId,
    },
    /// Close the session once everything has been sent.
    Close {
        /// Whose.
        session: SessionId,
    },
    /// Store a record, then say [`Event::Stored`] or [`Event::Unstored`].
    Append {
        /// The database.
        database: EcoString,
        /// The record, linked to the one before.
        record: Box<Record>,
        /// Whether it must reach stable storage whatever the server's default is.
        durable: bool,
    },
    /// Read from the log what has changed since a transaction, then say [`Event::Since`].
    ReadSince {
        /// The database.
        database: EcoString,
        /// The transaction: the first half of its record's hash.
        id: Uuid,
    },
    /// Send a transaction to the source of a relayed database, behind those that it was sent before, and say what it answers. Where there
    /// is no source now, it waits for one.
    Forward {
        /// The database.
        database: EcoString,
        /// Names the transaction in [`SourceNews::Answered`]; none is given twice.
        number: u64,
        /// The text of the `params` of `transact`.
        params: String,
    },
    /// Nobody waits for the answer to a transaction any more: it is not sent if it was not yet, and cancelled if it was.
    Withdraw {
        /// The database.
        database: EcoString,
        /// The transaction.
        number: u64,
    },
    /// What a source told does not fit: have everything told anew.
    Resync {
        /// The database.
        database: EcoString,
        /// What does not fit.
        reason: String,
    },
    /// Look through the logs, then say [`Event::Looked`].
    Look {
        /// Names what is looked for; none is given twice.
        number: u64,
        /// What.
        lookups: Vec<CommitLookup>,
    },
    /// Tell how much each session has not read yet: [`Event::Backlogs`].
    ReadBacklogs,
    /// Work out what would be done if rows changed, then say [`Event::Planned`].
    Plan {
        /// The database.
        database: EcoString,
        /// Names the plan; none is given twice.
        number: u64,
        /// What would change.
        changes: Arc<ChangeSet>,
        /// All rows as they would be.
        rows: Box<Database>,
    },
    /// Rows changed: what depends on them follows.
    Changed {
        /// The database.
        database: EcoString,
        /// What changed.
        changes: Arc<ChangeSet>,
        /// The sequence number of the database after the change.
        sequence: u64,
    },
    /// A database has another schema now, and with it any rows: whoever follows them begins anew.
    Converted {
        /// The database.
        database: EcoString,
    },
}

/// What happens at the source of a relayed database.
#[derive(Debug)]
pub enum SourceNews {
    /// It has told the whole database; it is connected.
    Content {
        /// The database's schema there.
        schema: Arc<DatabaseSchema>,
        /// All its rows.
        rows: Vec<RowUpdate>,
        /// Its newest transaction; zeros where it tells none.
        id: Uuid,
    },
    /// It is connected again and has told what changed in between.
    Resumed {
        /// The rows that changed.
        rows: Vec<RowUpdate>,
        /// Its newest transaction.
        id: Uuid,
    },
    /// It tells of changes. Those of a forwarded transaction come before its answer.
    Update {
        /// The rows that changed.
        rows: Vec<RowUpdate>,
        /// Its newest transaction; zeros where it tells none.
        id: Uuid,
    },
    /// It has answered a forwarded transaction.
    Answered {
        /// Which, by [`Command::Forward`].
        number: u64,
        /// The result, or the error.
        answer: Result<Value, Value>,
    },
    /// It is gone; what it was sent and has not answered gets the answer `"canceled"` before.
    Lost,
}

/// Text for a session.
pub enum Outgoing {
    /// Sent as it is.
    Text(String),
    /// The same, held once for all who are sent it.
    Shared(Bytes),
    /// Encoded when its turn comes, off the thread that owns the state: pieces to be sent in order, none where there is nothing to say.
    /// A piece may be held once for all who are sent it.
    Job(Box<dyn FnOnce() -> Vec<Bytes> + Send>),
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(text).finish(),
            Self::Shared(text) => f.debug_tuple("Shared").field(text).finish(),
            Self::Job(_) => f.write_str("Job"),
        }
    }
}

impl Outgoing {
    /// The text itself; runs the job.
    pub fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Shared(text) => String::from_utf8_lossy(&text).into_owned(),
            Self::Job(job) => String::from_utf8_lossy(&job().concat()).into_owned(),
        }
    }

    /// A text that ends in an end of line, which [`of_line`](Self::of_line) keeps or leaves out.
    pub(crate) fn shared_line(mut text: String) -> Bytes {
        text.push('\n');
        Bytes::from(text)
    }

    /// What a session is sent of a text of [`shared_line`](Self::shared_line).
    pub(crate) fn of_line(line: &Bytes, newline: bool) -> Self {
        Self::Shared(line.slice(..line.len() - usize::from(!newline)))
    }

    /// The same with an end of line.
    pub(crate) fn with_newline(self) -> Self {
        match self {
            Self::Text(mut text) => {
                text.push('\n');
                Self::Text(text)
            }
            Self::Shared(text) => {
                let mut text = String::from_utf8_lossy(&text).into_owned();
                text.push('\n');
                Self::Text(text)
            }
            Self::Job(job) => Self::Job(Box::new(move || {
                let mut pieces = job();
                if !pieces.is_empty() {
                    pieces.push(Bytes::from_static(b"\n"));
                }
                pieces
            })),
        }
    }
}
