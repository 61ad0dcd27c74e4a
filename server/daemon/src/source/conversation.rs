//! Requests to a source and what it says: calls one at a time, everything else in the order it came.

use std::collections::VecDeque;

use nonnet_client::{Incoming, Link};
use nonnet_schema::{DatabaseSchema, Message, RowUpdate};
use serde_json::{Value, json};

/// Updates whose text is longer than this, in bytes, are read on a thread of their own.
const ROWS_INLINE_BYTES_MAX: usize = 256 * 1024;

/// Messages that may come before a reply that is waited for: what a source owes from before.
const EARLY_MESSAGES_MAX: usize = 65_536;

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The source refused it, with this error.
    Refused(Value),
    /// The source is gone, or is no source, for this reason.
    Lost(String),
}

/// A result, or an update, with the length of the text it came in.
pub(crate) struct Told {
    pub(crate) json: Value,
    pub(crate) bytes: usize,
}

/// A connection to a source.
pub(crate) struct Conversation {
    link: Link,
    next_id: u64,
    /// What came before a reply that was waited for.
    early: VecDeque<Incoming>,
}

impl CallError {
    /// Whether the source does not have the method.
    pub(crate) fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Refused(error) if error == "unknown method")
    }

    /// In words for the log.
    pub(crate) fn to_text(&self, method: &str) -> String {
        match self {
            Self::Refused(error) => {
                let details = error.get("details").and_then(Value::as_str);
                let words = details.map_or_else(|| error.to_string(), str::to_owned);
                format!("{method} is refused: {words}")
            }
            Self::Lost(reason) => reason.clone(),
        }
    }
}

impl Conversation {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            link,
            next_id: 0,
            early: VecDeque::new(),
        }
    }

    /// Sends a request whose `params` are the text of an array; gives the id that its reply will have.
    pub(crate) fn request(&mut self, method: &str, params: &str) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.link
            .send(format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}"));
        id
    }

    /// Sends a notification.
    pub(crate) fn notify(&self, method: &str, params: &Value) {
        let text = json!({"id": null, "method": method, "params": params});
        self.link.send(text.to_string());
    }

    /// Calls a method and waits for its result.
    pub(crate) async fn call(&mut self, method: &str, params: &Value) -> Result<Told, CallError> {
        let id = self.request(method, &params.to_string());
        loop {
            let incoming = self.link.next().await;
            let incoming = incoming.map_err(|lost| CallError::Lost(lost.to_string()))?;
            let bytes = incoming.bytes;
            match incoming.message {
                Message::Reply { id: replied, result } if replied == id => {
                    return result.map(|json| Told { json, bytes }).map_err(CallError::Refused);
                }
                _ if self.early.len() >= EARLY_MESSAGES_MAX => {
                    return Err(CallError::Lost(format!("{method} is not answered")));
                }
                message => self.early.push_back(Incoming { message, bytes }),
            }
        }
    }

    /// The next message. It can be called again after its future was dropped; nothing is missed.
    ///
    /// # Errors
    /// Why there will be no more.
    pub(crate) async fn next(&mut self) -> Result<Incoming, String> {
        if let Some(incoming) = self.early.pop_front() {
            return Ok(incoming);
        }
        self.link.next().await.map_err(|lost| lost.to_string())
    }
}

impl Told {
    /// Reads rows: `whole` ones as `update` tells them, else as `update2` does.
    ///
    /// # Errors
    /// What does not fit the schema.
    pub(crate) async fn into_rows(
        self,
        schema: &std::sync::Arc<DatabaseSchema>,
        whole: bool,
    ) -> Result<Vec<RowUpdate>, String> {
        let (is_short, json, schema) = (
            self.bytes <= ROWS_INLINE_BYTES_MAX,
            self.json,
            std::sync::Arc::clone(schema),
        );
        let parse = move || RowUpdate::parse_all(&json, &schema, whole).map_err(|error| error.to_string());
        if is_short {
            return parse();
        }
        let parsed = tokio::task::spawn_blocking(parse).await;
        parsed.unwrap_or_else(|error| Err(error.to_string()))
    }
}
