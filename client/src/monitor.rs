//! Monitors: the content of tables, then every change to it (RFC 7047 4.1.5, `ovsdb-server(7)` 4.1.12 to 4.1.15).
//!
//! Updates are passed on as the server sends them, in one of three notations; [`Replica`](crate::Replica) understands them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::{
    connection::{Connection, Notification, Notifications, Wanted},
    error::{CallError, Lost},
    method::not_understood,
};

/// What stands for "no transaction" in `monitor_cond_since`.
const NO_TRANSACTION: &str = "00000000-0000-0000-0000-000000000000";

/// Makes the ids of this process's monitors.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// In which notation a server tells of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorVersion {
    /// `monitor`, `update`: whole old and new rows (RFC 7047 4.1.6).
    V1,
    /// `monitor_cond`, `update2`: differences.
    V2,
    /// `monitor_cond_since`, `update3`: differences, each with the transaction it ends at.
    V3,
}

/// What became of the monitored tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The notation of `tables`.
    pub version: MonitorVersion,
    /// Whether it is the whole content, in place of all that was known before; otherwise it is a change to that.
    pub is_complete: bool,
    /// The transaction it ends at, to be given to [`Connection::monitor`] after a reconnect; none where the server does not tell.
    pub last_transaction: Option<String>,
    /// For each table, for each row by its UUID, what became of it.
    pub tables: Map<String, Value>,
}

/// Why a monitor gives no more updates.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MonitorError {
    /// The connection is over.
    #[error("the monitor ended: {0}")]
    Lost(Lost),
    /// The server ended it: its database was removed, or got another schema.
    #[error("the server canceled the monitor: its database was removed or converted")]
    Canceled,
    /// An update is not what its method gives.
    #[error("an update from the server is not understood: {0}")]
    NotUnderstood(String),
}

/// A running monitor; the server is told when it is dropped.
#[derive(Debug)]
pub struct Monitor {
    connection: Connection,
    id: Value,
    version: MonitorVersion,
    notifications: Notifications,
    /// The first update, until it was taken.
    first: Option<Update>,
    is_over: bool,
}

impl Connection {
    /// Starts a monitor with the newest method that the server has.
    ///
    /// `requests` is an object from table to an array of `{"columns": [...], "where": [...], "select": {...}}`. `since` is the last
    /// transaction known from an earlier monitor with the same requests, so that a server that remembers it tells only what came after.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn monitor(&self, database: &str, requests: Value, since: Option<&str>) -> Result<Monitor, CallError> {
        let id = Value::from(format!("nonnet-{}", NEXT_ID.fetch_add(1, Ordering::Relaxed)));
        // Before the request, so that no update between its reply and its use is missed.
        let notifications = self.subscribe(Wanted::Monitor(id.clone()));
        let (version, result) = self.call_newest(database, &id, requests, since).await?;
        let first = first_update(version, result)?;
        Ok(Monitor {
            connection: self.clone(),
            id,
            version,
            notifications,
            first: Some(first),
            is_over: false,
        })
    }

    /// Calls the first of the three methods that the server knows.
    async fn call_newest(
        &self,
        database: &str,
        id: &Value,
        requests: Value,
        since: Option<&str>,
    ) -> Result<(MonitorVersion, Value), CallError> {
        let params = vec![json!(database), id.clone(), requests];
        let mut params_since = params.clone();
        params_since.push(since.unwrap_or(NO_TRANSACTION).into());
        match self.call("monitor_cond_since", params_since).await {
            Err(error) if error.is_unknown_method() => {}
            answer => return answer.map(|result| (MonitorVersion::V3, result)),
        }
        match self.call("monitor_cond", params.clone()).await {
            Err(error) if error.is_unknown_method() => {}
            answer => return answer.map(|result| (MonitorVersion::V2, result)),
        }
        self.call("monitor", params)
            .await
            .map(|result| (MonitorVersion::V1, result))
    }
}

impl Monitor {
    /// In which notation the updates come.
    pub fn version(&self) -> MonitorVersion {
        self.version
    }

    /// The next update; the first one is there at once. It can be called again after its future was dropped, nothing is missed.
    ///
    /// # Errors
    ///
    /// [`MonitorError`]; no update follows then.
    pub async fn next(&mut self) -> Result<Update, MonitorError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let notification = match self.notifications.next().await {
            Ok(notification) => notification,
            Err(lost) => {
                self.is_over = true;
                return Err(MonitorError::Lost(lost));
            }
        };
        let Notification { method, params } = Arc::unwrap_or_clone(notification);
        if method == "monitor_canceled" {
            self.is_over = true;
            return Err(MonitorError::Canceled);
        }
        later_update(&method, params)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection
                .call_and_forget("monitor_cancel", std::slice::from_ref(&self.id));
        }
    }
}

/// Reads the reply to the request that started a monitor.
fn first_update(version: MonitorVersion, result: Value) -> Result<Update, CallError> {
    let (is_complete, last_transaction, tables) = match (version, result) {
        (MonitorVersion::V3, Value::Array(parts)) => {
            let [Value::Bool(is_found), Value::String(last), tables] = <[Value; 3]>::try_from(parts)
                .map_err(|parts| not_understood("monitor_cond_since", &format!("{} elements", parts.len())))?
            else {
                return Err(not_understood(
                    "monitor_cond_since",
                    &"not [found, last-txn-id, updates]",
                ));
            };
            (!is_found, known_transaction(last), tables)
        }
        (_, result) => (true, None, result),
    };
    match tables {
        Value::Object(tables) => Ok(Update {
            version,
            is_complete,
            last_transaction,
            tables,
        }),
        _ => Err(not_understood("monitor", &"the updates are not an object")),
    }
}

/// Reads an `update`, `update2` or `update3`.
fn later_update(method: &str, params: Vec<Value>) -> Result<Update, MonitorError> {
    let mut params = params.into_iter().skip(1);
    let (version, last_transaction) = match method {
        "update" => (MonitorVersion::V1, None),
        "update2" => (MonitorVersion::V2, None),
        _ => match params.next() {
            Some(Value::String(last)) => (MonitorVersion::V3, known_transaction(last)),
            _ => {
                return Err(MonitorError::NotUnderstood(
                    "update3 without its transaction".to_owned(),
                ));
            }
        },
    };
    match params.next() {
        Some(Value::Object(tables)) => Ok(Update {
            version,
            is_complete: false,
            last_transaction,
            tables,
        }),
        _ => Err(MonitorError::NotUnderstood(format!("{method} without its tables"))),
    }
}

fn known_transaction(id: String) -> Option<String> {
    (id != NO_TRANSACTION).then_some(id)
}
