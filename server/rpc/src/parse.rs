//! Turns the text of one message into a JSON value, where the stack bears it and nobody else has to wait for it.

use std::thread;

use nonnet_schema::Frame;
use serde::Deserialize;
use serde_json::{Deserializer, Value};
use tokio::sync::{Semaphore, oneshot};

use crate::limits::{PARSE_INLINE_BYTES_MAX, PARSE_INLINE_DEPTH_MAX, PARSE_STACK_BYTES};

/// What became of a text.
pub(crate) enum Parsed {
    Message(Value),
    /// What is wrong with it, for the client.
    Malformed(String),
}

/// Parses a message.
pub(crate) async fn parse(frame: Frame<'_>, jobs: &Semaphore) -> Parsed {
    let offset = frame.offset;
    let parsed = if frame.text.len() > PARSE_INLINE_BYTES_MAX || frame.depth > PARSE_INLINE_DEPTH_MAX {
        parse_apart(frame.text.to_vec(), jobs).await
    } else {
        parse_text(frame.text)
    };
    match parsed {
        Ok(message) => Parsed::Message(message),
        Err(cause) => Parsed::Malformed(format!("the message that begins at byte {offset} is not JSON: {cause}")),
    }
}

fn parse_text(text: &[u8]) -> Result<Value, String> {
    let mut deserializer = Deserializer::from_slice(text);
    // The scanner has bounded the depth.
    deserializer.disable_recursion_limit();
    let message = Value::deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(message)
}

/// Parses on a thread of its own, with a stack for the deepest message.
async fn parse_apart(text: Vec<u8>, jobs: &Semaphore) -> Result<Value, String> {
    let _permit = jobs.acquire().await;
    let (give, result) = oneshot::channel();
    let parser = move || {
        let _ = give.send(parse_text(&text));
    };
    thread::Builder::new()
        .name("parse".to_owned())
        .stack_size(PARSE_STACK_BYTES)
        .spawn(parser)
        .map_err(|error| format!("no thread to parse it on: {error}"))?;
    result.await.unwrap_or_else(|_| Err("its parser failed".to_owned()))
}
