//! A copy of a database's tables that follows the server, across lost connections.
//!
//! It takes the updates of one monitor and gives the rows and what changed about them. It has no task of its own: it moves on while
//! [`Replica::next`] is awaited, so that the rows never change under a reader.

use std::{sync::Arc, time::Duration};

use nonnet_schema::{DatabaseSchema, OvsdbError, Uuid};
use serde_json::Value;
use thiserror::Error;
use tokio::time::sleep;
use tracing::debug;

use crate::{
    address::Address,
    connection::Connection,
    content::{Content, Row, Table},
    error::{CallError, ConnectError},
    limits::{BACKOFF_MAX, BACKOFF_MIN},
    monitor::{Monitor, MonitorError},
};

/// What a replica holds: all tables, or some columns of some tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Each table with its columns, or none for all of them. Empty: all tables.
    tables: Vec<(String, Option<Vec<String>>)>,
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// Its table.
    pub table: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// As it was; none if it is new.
    pub old: Option<Arc<Row>>,
    /// As it is; none if it is gone.
    pub new: Option<Arc<Row>>,
}

/// What happened to a replica.
#[derive(Debug)]
pub enum ReplicaEvent {
    /// Rows changed.
    Changed(Vec<RowChange>),
    /// The server is gone; the rows are as they were last. The next call connects again.
    Lost(ReplicaError),
    /// The server is back, and the rows are as it has them; these changed in between.
    Synced(Vec<RowChange>),
}

/// Why a replica does not follow its server.
#[derive(Debug, Error)]
pub enum ReplicaError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The monitor ended.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The schema has no such table.
    #[error("the database \"{database}\" has no table \"{table}\"; it has {}", known.join(", "))]
    NoTable {
        /// The database.
        database: String,
        /// Selected.
        table: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The schema has no such column.
    #[error("the table \"{table}\" has no column \"{column}\"; it has {}", known.join(", "))]
    NoColumn {
        /// The table.
        table: String,
        /// Selected.
        column: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// An update does not fit the rows known, or the schema.
    #[error("an update from the server does not fit: row {row} of \"{table}\": {cause}")]
    Update {
        /// The table.
        table: String,
        /// The row, as the server names it.
        row: String,
        /// What does not fit.
        cause: UpdateFault,
    },
}

/// What does not fit in an update.
#[derive(Debug, Error)]
pub enum UpdateFault {
    /// The row's name.
    #[error("its name is not a UUID")]
    NotUuid,
    /// The change's shape.
    #[error("neither old nor new, initial, insert, modify nor delete")]
    Shape,
    /// A change to a row that is not known.
    #[error("it is modified but not known")]
    Unknown,
    /// A column that was not asked for.
    #[error("it has a column \"{0}\" that was not asked for")]
    Column(String),
    /// A value against its column's type.
    #[error("column \"{column}\": {error}")]
    Value {
        /// The column.
        column: String,
        /// What is wrong.
        error: OvsdbError,
    },
}

/// A copy of tables that follows the server.
#[derive(Debug)]
pub struct Replica {
    address: Address,
    database: String,
    selection: Selection,
    content: Content,
    /// The transaction the rows are at, where the server tells.
    last_transaction: Option<String>,
    /// None while there is no connection.
    link: Option<Link>,
    backoff: Duration,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    monitor: Monitor,
}

impl Selection {
    /// All columns of all tables.
    pub fn all() -> Self {
        Self::default()
    }

    /// Adds all columns of a table.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.tables.push((table.into(), None));
        self
    }

    /// Adds some columns of a table.
    pub fn columns(mut self, table: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        self.tables.push((table.into(), Some(columns)));
        self
    }
}

impl Replica {
    /// Connects, and holds the tables as they are.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`]; this first time nothing is tried again.
    pub async fn open(address: &Address, database: &str, selection: Selection) -> Result<Self, ReplicaError> {
        let fetched = fetch(address, database, &selection, None).await?;
        Ok(Self {
            address: address.clone(),
            database: database.to_owned(),
            selection,
            content: fetched.content,
            last_transaction: fetched.last_transaction,
            link: Some(fetched.link),
            backoff: BACKOFF_MIN,
        })
    }

    /// The schema, as the server gave it last.
    pub fn schema(&self) -> &DatabaseSchema {
        self.content.schema()
    }

    /// A table that was selected.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.content.table(name)
    }

    /// The tables that were selected, sorted by name.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.content.tables()
    }

    /// The connection the replica follows, for transactions and locks; none while the server is away.
    pub fn connection(&self) -> Option<&Connection> {
        self.link.as_ref().map(|link| &link.connection)
    }

    /// The transaction the rows are at, where the server tells.
    pub fn last_transaction(&self) -> Option<&str> {
        self.last_transaction.as_deref()
    }

    /// Waits for the next thing that happens. Without a connection it connects again, for as long as it takes. It can be called again
    /// after its future was dropped; nothing is missed.
    pub async fn next(&mut self) -> ReplicaEvent {
        let Some(link) = &mut self.link else {
            return ReplicaEvent::Synced(self.reconnect().await);
        };
        let applied = match link.monitor.next().await {
            Ok(update) => {
                let changes = self.content.apply(&update);
                self.last_transaction = update.last_transaction;
                changes
            }
            Err(error) => Err(error.into()),
        };
        match applied {
            Ok(changes) => ReplicaEvent::Changed(changes),
            Err(error) => {
                self.give_up_link(&error);
                ReplicaEvent::Lost(error)
            }
        }
    }

    /// Forgets the connection; after an update that does not fit, also where the rows stand, so that all is fetched anew.
    fn give_up_link(&mut self, error: &ReplicaError) {
        self.link = None;
        if matches!(error, ReplicaError::Update { .. }) {
            self.last_transaction = None;
        }
    }

    async fn reconnect(&mut self) -> Vec<RowChange> {
        loop {
            sleep(self.backoff).await;
            match self.synchronise().await {
                Ok(changes) => {
                    self.backoff = BACKOFF_MIN;
                    return changes;
                }
                Err(error) => {
                    debug!(address = %self.address, %error, "not connected again yet");
                    self.give_up_link(&error);
                    self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Connects and brings the rows to what the server has.
    async fn synchronise(&mut self) -> Result<Vec<RowChange>, ReplicaError> {
        let since = self.last_transaction.as_deref();
        let known = since.map(|since| (&self.content, since));
        let fetched = fetch(&self.address, &self.database, &self.selection, known).await?;
        let changes = fetched.content.changes_since(&self.content);
        self.content = fetched.content;
        self.last_transaction = fetched.last_transaction;
        self.link = Some(fetched.link);
        Ok(changes)
    }
}

/// A new connection with the rows as the server has them.
struct Fetched {
    content: Content,
    last_transaction: Option<String>,
    link: Link,
}

/// Connects and fetches the rows, or what changed about the known ones since the transaction they are at.
async fn fetch(
    address: &Address,
    database: &str,
    selection: &Selection,
    known: Option<(&Content, &str)>,
) -> Result<Fetched, ReplicaError> {
    let connection = Connection::connect(address).await?;
    let schema = connection.get_schema(database).await?;
    let mut content = Content::select(schema, &selection.tables)?;
    // Rows of another schema are of no use as a base of differences.
    let known = known.filter(|(known, _)| content.has_same_shape(known));
    let requests = Value::Object(content.monitor_requests());
    let mut monitor = connection
        .monitor(database, requests, known.map(|(_, since)| since))
        .await?;
    let first = monitor.next().await?;
    if let (false, Some((known, _))) = (first.is_complete, known) {
        content.adopt_rows(known);
    }
    content.apply(&first)?;
    let link = Link { connection, monitor };
    Ok(Fetched {
        content,
        last_transaction: first.last_transaction,
        link,
    })
}
