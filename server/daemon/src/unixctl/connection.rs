//! One connection to the control socket: requests in, answers out, one after the other.

use std::sync::Arc;

use nonnet_schema::{Message, Scanner, json};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::debug;

use crate::unixctl::{Answer, Asked, Order};

/// The longest request, a command and its arguments.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Read at once.
const READ_BYTES: usize = 4 * 1024;

/// Answers requests until the other end closes or says what is no request.
pub(crate) async fn converse(mut stream: UnixStream, orders: mpsc::Sender<Asked>, busy: Arc<Semaphore>) {
    let mut scanner = Scanner::with_message_bytes_max(REQUEST_BYTES_MAX);
    let mut bytes = [0; READ_BYTES];
    loop {
        let count = match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        scanner.push(&bytes[..count]);
        loop {
            let message = match scanner.next_frame() {
                Ok(Some(frame)) => serde_json::from_slice(frame.text)
                    .ok()
                    .and_then(|json| Message::parse(json).ok()),
                Ok(None) => break,
                Err(_) => None,
            };
            let Some(Message::Request { method, params, id }) = message else {
                debug!("what came on the control socket is no request");
                return;
            };
            let Ok(_answering) = busy.acquire().await else {
                return;
            };
            let answer = answer(&method, &params, &orders).await;
            if stream.write_all(reply_text(&id, answer).as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn answer(method: &str, params: &[Value], orders: &mpsc::Sender<Asked>) -> Answer {
    let arguments: Option<Vec<String>> = params.iter().map(|param| param.as_str().map(str::to_owned)).collect();
    let Some(arguments) = arguments else {
        return Err(format!("\"{method}\" command has non-string argument"));
    };
    let order = Order::parse(method, arguments)?;
    let (reply, answered) = oneshot::channel();
    // Neither end goes away but with the server.
    let stopping = || "the server is stopping".to_owned();
    orders.send(Asked { order, reply }).await.map_err(|_| stopping())?;
    answered.await.map_err(|_| stopping())?
}

/// As ovsdb-server's, with an end of line behind every text.
fn reply_text(id: &Value, answer: Answer) -> String {
    let (member, other, mut text) = match answer {
        Ok(text) => ("result", "error", text),
        Err(text) => ("error", "result", text),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let mut out = String::from("{\"id\":");
    json::write_value(id, &mut out);
    out.push_str(",\"");
    out.push_str(member);
    out.push_str("\":");
    json::write_string(&text, &mut out);
    out.push_str(",\"");
    out.push_str(other);
    out.push_str("\":null}");
    out
}
