//! One connection to the control socket: requests in, answers out, one after the other.

use std::sync::Arc;

use nonnet_schema::{Message, Scanner, json};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::debug;

use crate::unixctl::command::{SET_OPTIONS, check_count};
use crate::unixctl::{Answer, Asked, Order};

/// The longest request, a command and its arguments.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Read at once.
const READ_BYTES: usize = 4 * 1024;

/// The form of successful answers, which `ovs-appctl --format` of Open vSwitch 3.4 and later chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    /// The text in an object that says that it is only text.
    Json,
}

/// Answers requests until the other end closes or says what is no request.
pub(crate) async fn converse(mut stream: UnixStream, orders: mpsc::Sender<Asked>, busy: Arc<Semaphore>) {
    let mut scanner = Scanner::with_message_bytes_max(REQUEST_BYTES_MAX);
    let mut bytes = [0; READ_BYTES];
    let mut form = Form::Text;
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
            let answer = answer(&method, &params, &orders, &mut form).await;
            if stream
                .write_all(reply_text(&id, answer, form).as_bytes())
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

async fn answer(method: &str, params: &[Value], orders: &mpsc::Sender<Asked>, form: &mut Form) -> Answer {
    let arguments: Option<Vec<String>> = params.iter().map(|param| param.as_str().map(str::to_owned)).collect();
    let Some(arguments) = arguments else {
        return Err(format!("\"{method}\" command has non-string argument"));
    };
    if method == SET_OPTIONS {
        check_count(method, &arguments)?;
        *form = Form::parse(&arguments)?;
        return Ok(String::new());
    }
    let order = Order::parse(method, arguments)?;
    let (reply, answered) = oneshot::channel();
    // Neither end goes away but with the server.
    let stopping = || "the server is stopping".to_owned();
    orders.send(Asked { order, reply }).await.map_err(|_| stopping())?;
    answered.await.map_err(|_| stopping())?
}

impl Form {
    /// Reads the arguments of `set-options`: `--format FORM` or `--format=FORM`.
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let form = match arguments {
            [option, form] if option == "--format" => form.as_str(),
            [option] => option
                .strip_prefix("--format=")
                .ok_or_else(|| format!("{option}: not an option; set-options takes --format text|json"))?,
            _ => {
                return Err(format!(
                    "{}: not an option; set-options takes --format text|json",
                    arguments.join(" ")
                ));
            }
        };
        match form {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("option format has invalid value {form}")),
        }
    }
}

/// As ovsdb-server's, with an end of line behind every text.
fn reply_text(id: &Value, answer: Answer, form: Form) -> String {
    let is_wrapped = form == Form::Json && answer.is_ok();
    let (member, other, mut text) = match answer {
        Ok(text) => ("result", "error", text),
        Err(text) => ("error", "result", text),
    };
    if !is_wrapped && !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let mut out = String::from("{\"id\":");
    json::write_value(id, &mut out);
    out.push_str(",\"");
    out.push_str(member);
    out.push_str("\":");
    if is_wrapped {
        out.push_str("{\"reply-format\":\"plain\",\"reply\":");
        json::write_string(&text, &mut out);
        out.push('}');
    } else {
        json::write_string(&text, &mut out);
    }
    out.push_str(",\"");
    out.push_str(other);
    out.push_str("\":null}");
    out
}
