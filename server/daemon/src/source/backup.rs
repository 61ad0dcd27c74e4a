//! The task of a backup: it follows the active server with plain `monitor`s, one for each database that both have (ovsdb(7),
//! "Active-Backup Database Service Model").
//!
//! A connection that is lost is made again, for ever. An active server that cannot be followed, whatever is tried, ends the task.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ecow::EcoString;
use nonnet_client::{Incoming, Link};
use nonnet_rpc::TlsDialler;
use nonnet_schema::{DatabaseSchema, Message, RowUpdate, TableIndex, TableSchema, Uuid, parse_uuid};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::info;

use crate::source::attempts::Attempts;
use crate::source::conversation::{CallError, Conversation, Told};
use crate::source::exclusion::Exclusion;
use crate::source::{News, SourceEvent, SourceRemote};

/// What happens at the active server.
#[derive(Debug)]
pub(crate) enum BackupNews {
    /// It has told all rows of these tables of a database.
    Content {
        database: EcoString,
        rows: Vec<RowUpdate>,
        tables: Vec<TableIndex>,
    },
    /// It has told changes.
    Update { database: EcoString, rows: Vec<RowUpdate> },
    /// All contents have been told, of these databases; changes follow.
    Following(Vec<EcoString>),
    /// It is gone; it is tried again.
    Lost,
    /// It cannot be followed.
    Failed(String),
}

/// Why following is over.
enum Ended {
    /// The connection is lost.
    Lost(String),
    /// The server is not one to follow.
    Failed(String),
}

/// Follows one active server.
pub(crate) struct BackupTask {
    pub(crate) remote: SourceRemote,
    pub(crate) tls: TlsDialler,
    /// Of this server, which does not follow itself.
    pub(crate) own_id: Uuid,
    /// The databases here.
    pub(crate) databases: BTreeMap<EcoString, Arc<DatabaseSchema>>,
    pub(crate) exclusion: Exclusion,
    pub(crate) probe: watch::Receiver<Duration>,
    pub(crate) events: mpsc::Sender<SourceEvent>,
    /// Tells its events from those of tasks before it.
    pub(crate) run: u64,
}

impl BackupTask {
    /// Follows until the active server turns out to be none.
    pub(crate) async fn run(self) {
        let mut attempts = Attempts::new(1);
        loop {
            attempts.begin();
            let mut is_following = false;
            match self.follow(&mut is_following).await {
                Err(Ended::Failed(reason)) => return self.tell(BackupNews::Failed(reason)).await,
                Err(Ended::Lost(reason)) => {
                    let delay = attempts.delay(is_following);
                    info!("the active server {} cannot be followed now: {reason}", self.remote);
                    self.tell(BackupNews::Lost).await;
                    sleep(delay).await;
                }
            }
        }
    }

    async fn tell(&self, news: BackupNews) {
        let news = News::Backup { run: self.run, news };
        // A state thread that has ended ends this task too.
        let _ = self.events.send(SourceEvent(news)).await;
    }

    async fn follow(&self, is_following: &mut bool) -> Result<Infallible, Ended> {
        let (input, output) = self.remote.connect(&self.tls).await.map_err(Ended::Lost)?;
        let probe = if self.remote.needs_probe() {
            self.probe.clone()
        } else {
            watch::Sender::new(Duration::ZERO).subscribe()
        };
        let mut talk = Conversation::new(Link::new(input, output, probe));
        self.check_id(&mut talk).await?;
        let databases = self.common_databases(&mut talk).await?;
        for (name, tables) in &databases {
            self.monitor(&mut talk, name, tables).await?;
        }
        *is_following = true;
        self.tell(BackupNews::Following(databases.into_keys().collect())).await;
        loop {
            let incoming = talk.next().await.map_err(Ended::Lost)?;
            self.take(incoming).await?;
        }
    }

    /// Makes sure that this server does not follow itself.
    async fn check_id(&self, talk: &mut Conversation) -> Result<(), Ended> {
        let told = call(talk, "get_server_id", &json!([])).await?;
        let id = told.json.as_str().and_then(parse_uuid);
        let id = id.ok_or_else(|| Ended::Failed("its id is no UUID".to_owned()))?;
        if id == self.own_id {
            return Err(Ended::Failed("Self replicating is not allowed".to_owned()));
        }
        Ok(())
    }

    /// The databases that both servers have, here with all that is there, and of each the tables to follow with their columns there.
    async fn common_databases(&self, talk: &mut Conversation) -> Result<BTreeMap<EcoString, Vec<Followed>>, Ended> {
        let told = call(talk, "list_dbs", &json!([])).await?;
        let names = told.json.as_array().cloned().unwrap_or_default();
        let mut common = BTreeMap::new();
        for name in names.iter().filter_map(Value::as_str) {
            let Some(own) = self.databases.get(name) else {
                continue;
            };
            let told = call(talk, "get_schema", &json!([name])).await?;
            let schema = DatabaseSchema::parse(&told.json);
            let schema = schema.map_err(|error| Ended::Failed(format!("its schema of {name} is none: {error}")))?;
            match self.followed_tables(own, &schema) {
                Ok(tables) => {
                    common.insert(EcoString::from(name), tables);
                }
                Err(reason) => info!("{name} cannot be replicated: {reason}"),
            }
        }
        if common.is_empty() {
            return Err(Ended::Failed(
                "it has no database that can be replicated here".to_owned(),
            ));
        }
        Ok(common)
    }

    /// The tables to follow; what is there must be here too, but not the other way round.
    fn followed_tables(&self, own: &DatabaseSchema, theirs: &DatabaseSchema) -> Result<Vec<Followed>, String> {
        let mut followed = Vec::new();
        for table in theirs.tables() {
            let at = own.table_index(&table.name);
            let at = at.ok_or_else(|| format!("table {} is not here", table.name))?;
            check_columns(own.table(at), table)?;
            if !self.exclusion.contains(&own.name, &table.name) {
                let columns = table.declared_columns().map(|(_, column)| column.name.clone());
                followed.push(Followed {
                    table: at,
                    name: table.name.clone(),
                    columns: columns.collect(),
                });
            }
        }
        Ok(followed)
    }

    async fn monitor(&self, talk: &mut Conversation, name: &EcoString, tables: &[Followed]) -> Result<(), Ended> {
        let request = |table: &Followed| {
            let columns: Vec<&str> = table.columns.iter().map(|column| &**column).collect();
            (table.name.to_string(), json!([{"columns": columns}]))
        };
        let requests: Map<String, Value> = tables.iter().map(request).collect();
        let told = call(talk, "monitor", &json!([**name, **name, requests])).await?;
        let rows = self.rows(name, told).await?;
        let (database, tables) = (name.clone(), tables.iter().map(|table| table.table).collect());
        self.tell(BackupNews::Content { database, rows, tables }).await;
        Ok(())
    }

    async fn take(&self, incoming: Incoming) -> Result<(), Ended> {
        let Incoming { message, bytes } = incoming;
        let Message::Notification { method, params } = message else {
            return Ok(());
        };
        let mut params = params.into_iter();
        let (Some(Value::String(name)), Some(json), "update") = (params.next(), params.next(), method.as_str()) else {
            return Ok(());
        };
        let database = EcoString::from(name);
        let rows = self.rows(&database, Told { json, bytes }).await?;
        self.tell(BackupNews::Update { database, rows }).await;
        Ok(())
    }

    async fn rows(&self, name: &EcoString, told: Told) -> Result<Vec<RowUpdate>, Ended> {
        let schema = self.databases.get(name);
        let schema = schema.ok_or_else(|| Ended::Failed(format!("it tells of {name}, which was not asked for")))?;
        told.into_rows(schema, true).await.map_err(Ended::Failed)
    }
}

/// A table with its columns at the active server.
struct Followed {
    /// Here.
    table: TableIndex,
    name: EcoString,
    columns: Vec<EcoString>,
}

fn check_columns(own: &TableSchema, theirs: &TableSchema) -> Result<(), String> {
    for (_, column) in theirs.declared_columns() {
        let here = own.column_index(&column.name).map(|at| own.column(at));
        match here {
            None => return Err(format!("column {} of table {} is not here", column.name, own.name)),
            Some(here) if here.type_ != column.type_ => {
                return Err(format!(
                    "column {} of table {} has another type here",
                    column.name, own.name
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

async fn call(talk: &mut Conversation, method: &str, params: &Value) -> Result<Told, Ended> {
    talk.call(method, params).await.map_err(|error| match error {
        CallError::Lost(reason) => Ended::Lost(reason),
        refused @ CallError::Refused(_) => Ended::Failed(refused.to_text(method)),
    })
}
