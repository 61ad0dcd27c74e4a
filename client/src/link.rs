//! A connection whose messages are taken one by one, in the order they came: for whoever must know whether an update came before a reply.
//!
//! It takes any stream of bytes, and gives messages. [`Connection`](crate::Connection) has calls and subscriptions instead.

use std::time::Duration;

use nonnet_schema::{Message, Scanner};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use crate::{
    address::Address,
    error::{ConnectError, Lost},
    limits::{LINK_MESSAGES_QUEUED_MAX, PARSE_INLINE_BYTES_MAX, READ_BYTES_MAX, REPLY_BYTES_MAX},
    stream::{Input, Output, open},
};

/// The id of our probes.
const PROBE_ID: &str = "echo";

/// A message with the length of its text in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// The message; probes and the answers to them are not passed on.
    pub message: Message,
    /// How long its text was.
    pub bytes: usize,
}

/// A connection; it is closed when it is dropped.
#[derive(Debug)]
pub struct Link {
    incoming: mpsc::Receiver<Result<Incoming, Lost>>,
    outgoing: mpsc::UnboundedSender<String>,
    task: AbortHandle,
}

/// Connects to a server.
///
/// # Errors
///
/// [`ConnectError`] names the address and what is wrong there.
pub async fn dial(address: &Address) -> Result<(Input, Output), ConnectError> {
    open(address).await
}

impl Link {
    /// A link over a stream; needs a tokio runtime. After a silence of the length of `probe` the server is asked with `echo`, and given
    /// up when it stays silent as long again; zero asks nothing.
    pub fn new(input: Input, output: Output, probe: watch::Receiver<Duration>) -> Self {
        let (to_caller, incoming) = mpsc::channel(LINK_MESSAGES_QUEUED_MAX);
        let (outgoing, to_send) = mpsc::unbounded_channel();
        let replies = outgoing.clone();
        let task = tokio::spawn(async move {
            let mut reader = Reader {
                input,
                scanner: Scanner::with_message_bytes_max(REPLY_BYTES_MAX),
                to_caller: to_caller.clone(),
                replies,
                probe,
            };
            let lost = tokio::select! {
                lost = reader.run() => lost,
                lost = write(output, to_send) => lost,
            };
            // A caller that has gone needs no reason.
            let _ = to_caller.send(Err(lost)).await;
        });
        Self {
            incoming,
            outgoing,
            task: task.abort_handle(),
        }
    }

    /// Sends JSON text behind what was sent before; what waits to be written is bounded by what the caller sends only.
    pub fn send(&self, text: String) {
        // Where the stream is over, the next message tells why.
        let _ = self.outgoing.send(text);
    }

    /// The next message. It can be called again after its future was dropped; nothing is missed.
    ///
    /// # Errors
    ///
    /// Why there will be no more.
    pub async fn next(&mut self) -> Result<Incoming, Lost> {
        self.incoming.recv().await.unwrap_or(Err(Lost::Dropped))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(mut output: Output, mut to_send: mpsc::UnboundedReceiver<String>) -> Lost {
    while let Some(text) = to_send.recv().await {
        if let Err(error) = output.write_all(text.as_bytes()).await {
            return error.into();
        }
        if to_send.is_empty()
            && let Err(error) = output.flush().await
        {
            return error.into();
        }
    }
    Lost::Dropped
}

struct Reader {
    input: Input,
    scanner: Scanner,
    to_caller: mpsc::Sender<Result<Incoming, Lost>>,
    replies: mpsc::UnboundedSender<String>,
    probe: watch::Receiver<Duration>,
}

impl Reader {
    async fn run(&mut self) -> Lost {
        let mut buffer = vec![0; READ_BYTES_MAX];
        loop {
            let count = match self.read(&mut buffer).await {
                Ok(0) => return Lost::Closed,
                Ok(count) => count,
                Err(lost) => return lost,
            };
            self.scanner.push(&buffer[..count]);
            loop {
                let text = match self.scanner.next_frame() {
                    Ok(Some(frame)) => frame.text.to_vec(),
                    Ok(None) => break,
                    Err(error) => return error.into(),
                };
                if let Err(lost) = self.take(text).await {
                    return lost;
                }
            }
        }
    }

    /// Reads once; asks after a silence, and does not wait forever.
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Lost> {
        let mut since = Instant::now();
        let mut has_asked = false;
        loop {
            let interval = *self.probe.borrow_and_update();
            let is_probed = !interval.is_zero();
            tokio::select! {
                read = self.input.read(buffer) => return Ok(read?),
                () = sleep_until(since + interval), if is_probed && !has_asked => {
                    let probe = json!({"id": PROBE_ID, "method": "echo", "params": []});
                    let _ = self.replies.send(probe.to_string());
                    (since, has_asked) = (Instant::now(), true);
                }
                () = sleep_until(since + interval), if is_probed && has_asked => {
                    return Err(Lost::Silent { seconds: (2 * interval).as_secs() });
                }
                Ok(()) = self.probe.changed() => {}
            }
        }
    }

    /// Answers a probe; passes everything else on.
    async fn take(&mut self, text: Vec<u8>) -> Result<(), Lost> {
        let bytes = text.len();
        let message = match parse(text).await? {
            Message::Request { method, params, id } if method == "echo" => {
                let reply = json!({"id": id, "result": params, "error": null});
                let _ = self.replies.send(reply.to_string());
                return Ok(());
            }
            Message::Reply { id, .. } if id == PROBE_ID => return Ok(()),
            message => message,
        };
        let incoming = Incoming { message, bytes };
        self.to_caller.send(Ok(incoming)).await.map_err(|_| Lost::Dropped)
    }
}

/// Parses a message, a long one where nobody waits for it.
async fn parse(text: Vec<u8>) -> Result<Message, Lost> {
    let is_short = text.len() <= PARSE_INLINE_BYTES_MAX;
    let parse = move || {
        let json: Value = serde_json::from_slice(&text).map_err(|error| Lost::Message(error.to_string()))?;
        Message::parse(json).map_err(|error| Lost::Message(error.to_string()))
    };
    if is_short {
        return parse();
    }
    let parsed = tokio::task::spawn_blocking(parse).await;
    parsed.unwrap_or_else(|error| Err(Lost::System(error.to_string())))
}
