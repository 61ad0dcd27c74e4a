//! The task that follows the source of a relayed database (ovsdb-server(7), "Relay Service Model").
//!
//! It monitors all tables with the newest method that the source has, from the transaction it saw last, so that a connection that was lost
//! costs no more than what it missed. What is forwarded is sent in the order it came; its answer follows the updates that came before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ecow::EcoString;
use nonnet_client::{Incoming, Link};
use nonnet_rpc::TlsDialler;
use nonnet_schema::{DatabaseSchema, Message, TableSchema, Uuid, parse_uuid};
use nonnet_sessions::SourceNews;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::source::attempts::Attempts;
use crate::source::conversation::{CallError, Conversation, Told};
use crate::source::{News, RelayArgument, SourceEvent, SourceRemote};

/// The id of the monitor of the source's list of databases.
const LIST_MONITOR: &str = "_Server";

/// Orders looked at together: more than the sessions forward at a time, so that what was taken back while there was no source is not sent.
const ORDERS_AT_ONCE_MAX: usize = 65_536;

/// What is to be done at a source.
pub(crate) enum Order {
    /// Send a transaction.
    Forward { number: u64, params: String },
    /// Do not, or cancel it.
    Withdraw { number: u64 },
    /// Have everything told anew.
    Resync { reason: String },
}

impl Order {
    fn withdrawn(&self) -> Option<u64> {
        match self {
            Self::Withdraw { number } => Some(*number),
            Self::Forward { .. } | Self::Resync { .. } => None,
        }
    }
}

/// What has been told, as of which transaction.
struct Known {
    schema: Arc<DatabaseSchema>,
    id: Uuid,
}

/// Follows the source of one database.
pub(crate) struct RelayTask {
    database: EcoString,
    remotes: Vec<SourceRemote>,
    tls: TlsDialler,
    orders: mpsc::UnboundedReceiver<Order>,
    events: mpsc::Sender<SourceEvent>,
    probe: watch::Receiver<Duration>,
    known: Option<Known>,
    /// The numbers of those that were sent, by the id of the request.
    sent: BTreeMap<u64, u64>,
    /// Whether the state thread believes that the source is there.
    is_following: bool,
}

impl RelayTask {
    pub(crate) fn new(
        relay: RelayArgument,
        tls: TlsDialler,
        orders: mpsc::UnboundedReceiver<Order>,
        events: mpsc::Sender<SourceEvent>,
        probe: watch::Receiver<Duration>,
    ) -> Self {
        Self {
            database: relay.database,
            remotes: relay.remotes,
            tls,
            orders,
            events,
            probe,
            known: None,
            sent: BTreeMap::new(),
            is_following: false,
        }
    }

    /// Follows for ever.
    pub(crate) async fn run(mut self) {
        let mut attempts = Attempts::new(self.remotes.len());
        loop {
            let Some(remote) = self.remotes.get(attempts.begin()).cloned() else {
                return;
            };
            let Err(reason) = self.follow(&remote).await;
            let delay = attempts.delay(self.is_following);
            if self.is_following {
                warn!("{}: the source {remote} is lost: {reason}", self.database);
            } else {
                info!("{}: the source {remote} cannot be followed: {reason}", self.database);
            }
            self.lose().await;
            sleep(delay).await;
        }
    }

    /// Says that the source is gone; what it did not answer is canceled.
    async fn lose(&mut self) {
        for number in std::mem::take(&mut self.sent).into_values() {
            let answer = Err(json!("canceled"));
            self.tell(SourceNews::Answered { number, answer }).await;
        }
        if std::mem::take(&mut self.is_following) {
            self.tell(SourceNews::Lost).await;
        }
    }

    async fn tell(&self, news: SourceNews) {
        let database = self.database.clone();
        // A state thread that has ended ends this task too.
        let _ = self.events.send(SourceEvent(News::Relay { database, news })).await;
    }

    /// Follows one remote; ends only with the reason why that is over.
    async fn follow(&mut self, remote: &SourceRemote) -> Result<std::convert::Infallible, String> {
        let (input, output) = remote.connect(&self.tls).await?;
        let probe = if remote.needs_probe() {
            self.probe.clone()
        } else {
            watch::Sender::new(Duration::ZERO).subscribe()
        };
        let mut talk = Conversation::new(Link::new(input, output, probe));
        // Otherwise a conversion would end the connection; who does not know the method has no conversions.
        if let Err(error @ CallError::Lost(_)) = talk.call("set_db_change_aware", &json!([true])).await {
            return Err(error.to_text("set_db_change_aware"));
        }
        self.follow_list(&mut talk).await?;
        let told = self.sync(&mut talk).await?;
        info!("{}: following the source {remote}, {told}", self.database);
        // Orders that came while there was no source have waited in their channel.
        let mut orders = Vec::new();
        loop {
            tokio::select! {
                incoming = talk.next() => self.take(&mut talk, incoming?).await?,
                count = self.orders.recv_many(&mut orders, ORDERS_AT_ONCE_MAX) => {
                    if count == 0 {
                        return Err("the database is served no longer".to_owned());
                    }
                    self.obey(&mut talk, std::mem::take(&mut orders))?;
                }
            }
        }
    }

    /// Makes sure that the source has the database, and hears when it has it no more. A source without such a list is taken as it is.
    async fn follow_list(&mut self, talk: &mut Conversation) -> Result<(), String> {
        let requests = json!({"Database": [{"columns": ["name", "connected"]}]});
        match talk.call("monitor", &json!(["_Server", LIST_MONITOR, requests])).await {
            Ok(told) => self.check_list(&told.json),
            Err(CallError::Refused(_)) => Ok(()),
            Err(error) => Err(error.to_text("monitor")),
        }
    }

    /// Looks for the database in an update of the list.
    fn check_list(&self, updates: &Value) -> Result<(), String> {
        let rows = updates.get("Database").and_then(Value::as_object);
        let of_name = |row: &&Value| row.get("name").and_then(Value::as_str) == Some(&*self.database);
        let mut rows = rows.into_iter().flat_map(Map::values).filter_map(|row| row.get("new"));
        match rows.find(of_name) {
            Some(row) if row.get("connected") == Some(&json!(false)) => {
                Err("it is not connected to where it has the database from".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Has everything told, or what has changed since it was told last; gives which, in words.
    async fn sync(&mut self, talk: &mut Conversation) -> Result<String, String> {
        let told = talk.call("get_schema", &json!([*self.database])).await;
        let told = told.map_err(|error| error.to_text("get_schema"))?;
        let schema = DatabaseSchema::parse(&told.json).map_err(|error| format!("its schema is none: {error}"))?;
        if schema.name != self.database {
            return Err(format!("its schema is that of {}", schema.name));
        }
        let schema = Arc::new(schema);
        let known = self.known.take().filter(|known| known.schema == schema);
        let since = known.map_or(Uuid::nil(), |known| known.id);
        let (told, is_whole_notation, found, id) = self.monitor(talk, &schema, since).await?;
        let rows = told.into_rows(&schema, is_whole_notation).await?;
        let words = if found {
            format!("{} rows changed after transaction {since}", rows.len())
        } else {
            format!("which has {} rows", rows.len())
        };
        let news = if found {
            SourceNews::Resumed { rows, id }
        } else {
            let schema = Arc::clone(&schema);
            SourceNews::Content { schema, rows, id }
        };
        self.known = Some(Known { schema, id });
        self.is_following = true;
        self.tell(news).await;
        Ok(words)
    }

    /// Starts the monitor; gives its first update, whether that is in the notation of `update`, whether it begins at `since`, and where it
    /// ends.
    async fn monitor(
        &self,
        talk: &mut Conversation,
        schema: &DatabaseSchema,
        since: Uuid,
    ) -> Result<(Told, bool, bool, Uuid), String> {
        // Without the versions of rows, which no source has after a restart: it could not resume.
        let request = |table: &TableSchema| {
            let columns = table.declared_columns().map(|(_, column)| &*column.name);
            json!([{"columns": columns.collect::<Vec<_>>()}])
        };
        let tables = schema.tables().iter();
        let requests: Map<String, Value> = tables.map(|table| (table.name.to_string(), request(table))).collect();
        let params = json!([*self.database, *self.database, requests]);
        let mut params_since = params.clone();
        if let Value::Array(params) = &mut params_since {
            params.push(json!(since.to_string()));
        }
        match talk.call("monitor_cond_since", &params_since).await {
            Ok(Told { json, bytes }) => {
                let parts = match json {
                    Value::Array(parts) => <[Value; 3]>::try_from(parts).ok(),
                    _ => None,
                };
                let Some([Value::Bool(found), Value::String(id), json]) = parts else {
                    return Err("its answer to monitor_cond_since is none".to_owned());
                };
                let id = parse_uuid(&id).ok_or_else(|| format!("{id} is no transaction id"))?;
                return Ok((Told { json, bytes }, false, found, id));
            }
            Err(error) if error.is_unknown_method() => {}
            Err(error) => return Err(error.to_text("monitor_cond_since")),
        }
        match talk.call("monitor_cond", &params).await {
            Ok(told) => return Ok((told, false, false, Uuid::nil())),
            Err(error) if error.is_unknown_method() => {}
            Err(error) => return Err(error.to_text("monitor_cond")),
        }
        let told = talk.call("monitor", &params).await;
        let told = told.map_err(|error| error.to_text("monitor"))?;
        Ok((told, true, false, Uuid::nil()))
    }

    /// Takes a message of the source.
    async fn take(&mut self, talk: &mut Conversation, incoming: Incoming) -> Result<(), String> {
        let Incoming { message, bytes } = incoming;
        match message {
            Message::Notification { method, params } => {
                let is_ours = params.first().and_then(Value::as_str) == Some(&*self.database);
                match (method.as_str(), params.first()) {
                    ("update" | "update2" | "update3", _) if is_ours => self.update(&method, params, bytes).await,
                    ("update", Some(id)) if id == LIST_MONITOR => {
                        params.get(1).map_or(Ok(()), |it| self.check_list(it))
                    }
                    ("monitor_canceled", _) if is_ours => {
                        info!("{}: the source has converted the database", self.database);
                        self.known = None;
                        self.sync(talk).await.map(drop)
                    }
                    _ => Ok(()),
                }
            }
            Message::Reply { id, result } => {
                let number = id.as_u64().and_then(|id| self.sent.remove(&id));
                if let Some(number) = number {
                    self.tell(SourceNews::Answered { number, answer: result }).await;
                }
                Ok(())
            }
            Message::Request { method, .. } => Err(format!("it asks for {method}")),
        }
    }

    async fn update(&mut self, method: &str, params: Vec<Value>, bytes: usize) -> Result<(), String> {
        // What does not fit leaves nothing to resume from.
        let Some(Known { schema, .. }) = self.known.take() else {
            return Ok(());
        };
        let mut params = params.into_iter().skip(1);
        let id = if method == "update3" {
            let id = params.next();
            let id = id.as_ref().and_then(Value::as_str).and_then(parse_uuid);
            id.ok_or("it sent update3 without a transaction id")?
        } else {
            Uuid::nil()
        };
        let json = params.next().ok_or_else(|| format!("it sent {method} without rows"))?;
        let rows = Told { json, bytes }.into_rows(&schema, method == "update").await?;
        self.known = Some(Known { schema, id });
        self.tell(SourceNews::Update { rows, id }).await;
        Ok(())
    }

    fn obey(&mut self, talk: &mut Conversation, orders: Vec<Order>) -> Result<(), String> {
        let withdrawn: BTreeSet<u64> = orders.iter().filter_map(Order::withdrawn).collect();
        let mut ended = Ok(());
        for order in orders {
            match order {
                // It was taken back before it could be sent.
                Order::Forward { number, .. } if withdrawn.contains(&number) => {}
                Order::Forward { number, params } => {
                    let id = talk.request("transact", &params);
                    self.sent.insert(id, number);
                }
                Order::Withdraw { number } => {
                    let id = self.sent.iter().find(|(_, sent)| **sent == number).map(|(id, _)| *id);
                    if let Some(id) = id {
                        self.sent.remove(&id);
                        talk.notify("cancel", &json!([id]));
                    }
                }
                Order::Resync { reason } => {
                    self.known = None;
                    ended = Err(reason);
                }
            }
        }
        ended
    }
}
