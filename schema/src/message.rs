//! JSON-RPC 1.0 messages (RFC 7047 4, ovsdb-server(7) 4).

use serde_json::{Map, Value};

use crate::error::OvsdbError;
use crate::json;

/// What a client sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A method call that wants a reply.
    Request {
        /// The method.
        method: String,
        /// Its parameters.
        params: Vec<Value>,
        /// Any JSON but null; the reply bears it.
        id: Value,
    },
    /// A method call without a reply.
    Notification {
        /// The method.
        method: String,
        /// Its parameters.
        params: Vec<Value>,
    },
    /// A reply to a request of ours.
    Reply {
        /// The request's id.
        id: Value,
        /// The result, or the error.
        result: Result<Value, Value>,
    },
}

/// Why a JSON object is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The text is no object.
    #[error("a message must be a JSON object")]
    NotObject,
    /// There is neither method nor result nor error.
    #[error("a message needs \"method\", \"params\" and \"id\"")]
    NoMethod,
    /// The method is no string.
    #[error("\"method\" must be a string")]
    MethodNotString,
    /// The params are no array.
    #[error("\"params\" must be an array")]
    ParamsNotArray,
    /// There are no params.
    #[error("\"params\" is missing: a request is {{\"method\":...,\"params\":[...],\"id\":...}}")]
    NoParams,
    /// A request and a reply at once.
    #[error("\"{0}\" does not belong in a request")]
    Mixed(&'static str),
}

impl Message {
    /// Classifies one JSON object. Members that are null count as absent; members nobody knows (`jsonrpc`) are passed over.
    pub fn parse(json: Value) -> Result<Self, MessageError> {
        let Value::Object(mut members) = json else {
            return Err(MessageError::NotObject);
        };
        let mut take = |name: &str| members.remove(name).filter(|value| !value.is_null());
        let (result, error, id) = (take("result"), take("error"), take("id"));
        match take("method") {
            Some(Value::String(method)) => {
                if let Some(member) = result.map(|_| "result").or(error.map(|_| "error")) {
                    return Err(MessageError::Mixed(member));
                }
                let params = parse_params(&mut members)?;
                Ok(match id {
                    Some(id) => Self::Request { method, params, id },
                    None => Self::Notification { method, params },
                })
            }
            Some(_) => Err(MessageError::MethodNotString),
            None => {
                let result = match (result, error) {
                    (Some(result), _) => Ok(result),
                    (None, Some(error)) => Err(error),
                    (None, None) => return Err(MessageError::NoMethod),
                };
                Ok(Self::Reply {
                    id: id.unwrap_or(Value::Null),
                    result,
                })
            }
        }
    }
}

fn parse_params(members: &mut Map<String, Value>) -> Result<Vec<Value>, MessageError> {
    match members.remove("params") {
        Some(Value::Array(params)) => Ok(params),
        // `get_server_id` is documented with null params.
        Some(Value::Null) => Ok(Vec::new()),
        Some(_) => Err(MessageError::ParamsNotArray),
        None => Err(MessageError::NoParams),
    }
}

/// What a failed request is answered with.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyError {
    /// A bare string, as for an unknown method.
    Text(&'static str),
    /// An error object.
    Object(OvsdbError),
}

impl From<OvsdbError> for ReplyError {
    fn from(error: OvsdbError) -> Self {
        Self::Object(error)
    }
}

/// The text of the reply to the request `id`; `result` is JSON text.
pub fn reply_text(id: &Value, result: &str) -> String {
    let mut out = reply_head(id);
    out.reserve(result.len() + REPLY_TAIL.len());
    out.push_str(result);
    out.push_str(REPLY_TAIL);
    out
}

/// What stands before the result in the text of the reply to the request `id`; [`REPLY_TAIL`] stands behind it.
pub fn reply_head(id: &Value) -> String {
    let mut out = String::from("{\"id\":");
    json::write_value(id, &mut out);
    out.push_str(",\"result\":");
    out
}

/// What stands behind the result in the text of a reply.
pub const REPLY_TAIL: &str = ",\"error\":null}";

/// The text of the reply to the failed request `id`.
pub fn error_reply_text(id: &Value, error: &ReplyError) -> String {
    let mut out = String::from("{\"id\":");
    json::write_value(id, &mut out);
    out.push_str(",\"result\":null,\"error\":");
    match error {
        ReplyError::Text(text) => json::write_string(text, &mut out),
        ReplyError::Object(error) => error.write_json(&mut out),
    }
    out.push('}');
    out
}

/// The text of a notification; `params` is the text of a JSON array.
pub fn notification_text(method: &str, params: &str) -> String {
    format!("{{\"id\":null,\"method\":\"{method}\",\"params\":{params}}}")
}

/// The one line that explains why a stream ends.
pub fn malformed_text(details: &str) -> String {
    let mut out = String::from("{\"id\":null,\"result\":null,\"error\":{\"error\":\"syntax error\",\"details\":");
    json::write_string(details, &mut out);
    out.push_str("}}\n");
    out
}
