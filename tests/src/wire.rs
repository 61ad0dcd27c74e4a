//! A blocking OVSDB client on a Unix socket: JSON text out, one JSON text in at a time.
//!
//! It repairs nothing and hides nothing: a timeout or an early end is an error that shows what had arrived until then.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// How long a test waits for a message that should come at once.
pub const RECEIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes asked for in one read.
const READ_BYTES: usize = 64 * 1024;

/// Bytes of a received stream that an error shows.
const SHOWN_BYTES_MAX: usize = 2000;

/// Something that can carry one session: a socket, or a server in process.
pub trait Session {
    /// Sends JSON text as it is.
    fn send(&mut self, text: &str) -> Result<()>;

    /// The next message, within [`RECEIVE_TIMEOUT`].
    fn receive(&mut self) -> Result<Value>;

    /// Waits for the end of the stream and returns the messages that came before it.
    fn receive_to_end(&mut self) -> Result<Vec<Value>>;
}

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    scanned: Scan,
    next_id: u64,
    /// Messages that came while a reply was awaited.
    pub notifications: Vec<Value>,
}

/// Where the search for the end of the first message stands.
#[derive(Debug, Default)]
struct Scan {
    position: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Client {
    /// Connects to a Unix socket.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
        stream.set_write_timeout(Some(RECEIVE_TIMEOUT))?;
        Ok(Self {
            stream,
            received: Vec::new(),
            scanned: Scan::default(),
            next_id: 1,
            notifications: Vec::new(),
        })
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("send")
    }

    /// Ends the sending side only, as `nc -N` does.
    pub fn half_close(&self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("half-close")
    }

    /// The text of the next message, without white space around it.
    pub fn receive_text(&mut self) -> Result<String> {
        let deadline = Instant::now() + RECEIVE_TIMEOUT;
        loop {
            if let Some(text) = self.take_message()? {
                return Ok(text);
            }
            ensure!(
                self.fill(deadline)?,
                "the server closed the connection; before that came: {}",
                self.shown()
            );
        }
    }

    /// Everything up to the end of the stream, as bytes.
    pub fn receive_bytes_to_end(&mut self) -> Result<Vec<u8>> {
        let deadline = Instant::now() + RECEIVE_TIMEOUT;
        while self.fill(deadline)? {}
        Ok(std::mem::take(&mut self.received))
    }

    /// Calls a method and returns its reply; messages that come first are kept in `notifications`.
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        let id = self.next_id;
        self.next_id += 1;
        self.send_bytes(
            json!({"id": id, "method": method, "params": params})
                .to_string()
                .as_bytes(),
        )?;
        self.reply_to(&json!(id))
    }

    /// Waits for the reply with this id; messages that come first are kept in `notifications`.
    pub fn reply_to(&mut self, id: &Value) -> Result<Value> {
        loop {
            let message = self.receive()?;
            if message.get("method").is_none() && message.get("id") == Some(id) {
                return Ok(message);
            }
            self.notifications.push(message);
        }
    }

    /// Calls `transact` and returns the array of results.
    ///
    /// # Errors
    /// When the reply is not a result. A failed operation is a result.
    pub fn transact(&mut self, database: &str, operations: &[Value]) -> Result<Vec<Value>> {
        let mut params = vec![json!(database)];
        params.extend_from_slice(operations);
        let reply = self.call("transact", &Value::Array(params))?;
        match reply.get("result") {
            Some(Value::Array(results)) => Ok(results.clone()),
            _ => bail!("transact answered {reply}"),
        }
    }

    /// Reads once; false at the end of the stream.
    fn fill(&mut self, deadline: Instant) -> Result<bool> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.received.extend_from_slice(&buffer[..count]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    bail!("nothing came for {RECEIVE_TIMEOUT:?}; so far: {}", self.shown());
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error).context("receive"),
            }
            ensure!(
                Instant::now() < deadline,
                "no whole message within {RECEIVE_TIMEOUT:?}; so far: {}",
                self.shown()
            );
        }
    }

    /// Cuts the first whole message off what was received.
    fn take_message(&mut self) -> Result<Option<String>> {
        let scan = &mut self.scanned;
        while let Some(&byte) = self.received.get(scan.position) {
            scan.position += 1;
            if scan.step(byte) {
                let end = scan.position;
                *scan = Scan::default();
                let message: Vec<u8> = self.received.drain(..end).collect();
                return Ok(Some(String::from_utf8(message)?.trim().to_owned()));
            }
        }
        Ok(None)
    }

    fn shown(&self) -> String {
        let bytes = &self.received[..self.received.len().min(SHOWN_BYTES_MAX)];
        format!(
            "{:?} and messages {:?}",
            String::from_utf8_lossy(bytes),
            self.notifications
        )
    }
}

impl Scan {
    /// Takes one byte; true when it ends a message.
    fn step(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

impl Session for Client {
    fn send(&mut self, text: &str) -> Result<()> {
        self.send_bytes(text.as_bytes())
    }

    fn receive(&mut self) -> Result<Value> {
        let text = self.receive_text()?;
        serde_json::from_str(&text).with_context(|| format!("the server sent {text}"))
    }

    fn receive_to_end(&mut self) -> Result<Vec<Value>> {
        let deadline = Instant::now() + RECEIVE_TIMEOUT;
        let mut messages = Vec::new();
        loop {
            while let Some(text) = self.take_message()? {
                messages.push(serde_json::from_str(&text)?);
            }
            if !self.fill(deadline)? {
                return Ok(messages);
            }
        }
    }
}
