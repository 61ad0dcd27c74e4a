//! Why a call failed, as JSON-RPC 2.0 has it: every error carries OVSDB's error (RFC 7047 3.1) in `data`.

use jsonrpsee::types::{ErrorObjectOwned, error::INVALID_PARAMS_CODE, error::METHOD_NOT_FOUND_CODE};
use nonnet_schema::{ErrorKind, OvsdbError};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The code of errors that the database server gave (JSON-RPC 2.0 5.1, "server error").
const SERVER_ERROR_CODE: i32 = -32000;

/// Why a call failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The server's `error`, an object or a string.
    Server(Box<RawValue>),
    /// The params are not what any method takes.
    Params(String),
    /// No such method here, or not over this transport.
    Method(String),
    /// The connection asks for more than it may have at once.
    TooMuch(&'static str),
    /// All places for sessions are taken.
    NoPlace,
    /// The server has ended the session.
    Ended,
}

/// An `<error>` as far as a message needs it.
#[derive(Deserialize)]
#[serde(untagged)]
enum ServerError {
    Text(String),
    Object { error: String, details: Option<String> },
}

impl Failure {
    fn code(&self) -> i32 {
        match self {
            Self::Params(_) => INVALID_PARAMS_CODE,
            Self::Method(_) => METHOD_NOT_FOUND_CODE,
            _ => SERVER_ERROR_CODE,
        }
    }

    /// The error object that the gateway itself gives.
    fn own_error(&self) -> OvsdbError {
        let exhausted = |text: &str| ErrorKind::ResourcesExhausted(text.to_owned());
        OvsdbError::new(match self {
            Self::Params(text) | Self::Method(text) => ErrorKind::Params(text.as_str().into()),
            Self::TooMuch(text) => exhausted(text),
            Self::NoPlace => exhausted("this server already has its maximum of sessions; try again later"),
            Self::Ended | Self::Server(_) => ErrorKind::Internal("the server has ended the session".to_owned()),
        })
    }
}

impl From<Failure> for ErrorObjectOwned {
    fn from(failure: Failure) -> Self {
        let code = failure.code();
        if let Failure::Server(error) = failure {
            return Self::owned(code, message_of(&error), Some(error));
        }
        let error = failure.own_error();
        let data = RawValue::from_string(error.to_json_text()).ok();
        Self::owned(code, error.to_string(), data)
    }
}

fn message_of(error: &RawValue) -> String {
    match serde_json::from_str(error.get()) {
        Ok(ServerError::Text(text)) => text,
        Ok(ServerError::Object { error, details: None }) => error,
        Ok(ServerError::Object {
            error,
            details: Some(details),
        }) => format!("{error}: {details}"),
        Err(_) => error.get().to_owned(),
    }
}
