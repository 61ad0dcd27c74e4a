//! One connection to a server: calls with any number outstanding, notifications, and answers to the server's probes.
//!
//! A task owns the socket; callers and subscribers talk to it through channels. When the connection is lost, everybody who waits on it
//! hears why. It never connects again by itself; [`Replica`](crate::Replica) does.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nonnet_schema::Scanner;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc, oneshot, watch},
    task::AbortHandle,
    time::timeout,
};
use tracing::debug;

use crate::{
    address::Address,
    error::{CallError, ConnectError, Lost, WireError},
    limits::{
        CALLS_PENDING_MAX, NOTIFICATIONS_QUEUED_MAX, OUTGOING_QUEUED_MAX, PROBE_INTERVAL, READ_BYTES_MAX,
        REPLY_BYTES_MAX, WRITE_BYTES_MAX,
    },
    stream::{Input, Output, open},
};

/// How long an explanation is waited for when a write has failed.
const EXPLANATION_PATIENCE: Duration = Duration::from_secs(1);

/// A connection; clones share it, and it is closed when the last one goes.
#[derive(Clone)]
pub struct Connection(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.lose(Lost::Dropped);
    }
}

/// A notification as the server sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Its method: `update`, `update2`, `update3`, `monitor_canceled`, `locked`, `stolen`.
    pub method: String,
    /// Its params.
    pub params: Vec<Value>,
}

/// The notifications of a connection, from the subscription on.
#[derive(Debug)]
pub struct Notifications {
    receiver: mpsc::Receiver<Arc<Notification>>,
    shared: Arc<Shared>,
}

/// Which notifications a subscriber wants.
#[derive(Debug)]
pub(crate) enum Wanted {
    All,
    /// Those of the monitor with this id.
    Monitor(Value),
    /// Those of the lock of this name.
    Lock(String),
}

#[derive(Debug)]
struct Shared {
    address: Address,
    outgoing: mpsc::Sender<String>,
    /// A place for each call that waits for its answer.
    places: Semaphore,
    state: Mutex<State>,
    is_over: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    pending: HashMap<u64, oneshot::Sender<Result<Value, WireError>>>,
    subscribers: Vec<(Wanted, mpsc::Sender<Arc<Notification>>)>,
    lost: Option<Lost>,
}

impl Connection {
    /// Connects to a server; needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] names the address and what is wrong there.
    pub async fn connect(address: &Address) -> Result<Self, ConnectError> {
        let (input, output) = open(address).await?;
        let (outgoing, to_send) = mpsc::channel(OUTGOING_QUEUED_MAX);
        let shared = Arc::new(Shared {
            address: address.clone(),
            outgoing,
            places: Semaphore::new(CALLS_PENDING_MAX),
            state: Mutex::default(),
            is_over: watch::Sender::new(false),
        });
        let task = tokio::spawn(run(Arc::clone(&shared), input, output, to_send)).abort_handle();
        Ok(Self(Arc::new(Handle { shared, task })))
    }

    /// The server's address.
    pub fn address(&self) -> &Address {
        &self.0.shared.address
    }

    /// Calls a method and waits for its result. Dropping the future forgets the call, and cancels it if it is a `transact`.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with the server's error, or [`CallError::Lost`].
    pub async fn call(&self, method: &str, params: Vec<Value>) -> Result<Value, CallError> {
        let shared = &*self.0.shared;
        let lost = || shared.lost_error(method);
        let _place = shared.places.acquire().await.map_err(|_| lost())?;
        let (mut call, answer) = PendingCall::start(shared, method).ok_or_else(lost)?;
        let request = json!({"id": call.id, "method": method, "params": params}).to_string();
        shared.outgoing.send(request).await.map_err(|_| lost())?;
        let answer = answer.await.map_err(|_| lost())?;
        call.is_answered = true;
        answer.map_err(|error| CallError::Refused {
            method: method.to_owned(),
            error,
        })
    }

    /// Sends a notification; nothing comes back.
    ///
    /// # Errors
    ///
    /// [`CallError::Lost`].
    pub async fn notify(&self, method: &str, params: &[Value]) -> Result<(), CallError> {
        let text = notification(method, params);
        self.0
            .shared
            .outgoing
            .send(text)
            .await
            .map_err(|_| self.0.shared.lost_error(method))
    }

    /// Everything the server notifies from now on.
    pub fn notifications(&self) -> Notifications {
        self.subscribe(Wanted::All)
    }

    /// Waits until the connection is over, and tells why.
    pub async fn lost(&self) -> Lost {
        let mut is_over = self.0.shared.is_over.subscribe();
        // The sender lives as long as this connection.
        let _ = is_over.wait_for(|is_over| *is_over).await;
        self.0.shared.why_lost()
    }

    pub(crate) fn subscribe(&self, wanted: Wanted) -> Notifications {
        let (sender, receiver) = mpsc::channel(NOTIFICATIONS_QUEUED_MAX);
        let mut state = self.0.shared.state();
        if state.lost.is_none() {
            state.subscribers.push((wanted, sender));
        }
        drop(state);
        Notifications {
            receiver,
            shared: Arc::clone(&self.0.shared),
        }
    }

    /// Sends a request whose answer nobody waits for, if the queue has room: for use where nothing can be waited for.
    pub(crate) fn call_and_forget(&self, method: &str, params: &[Value]) {
        let id = {
            let mut state = self.0.shared.state();
            state.next_id += 1;
            state.next_id
        };
        let text = json!({"id": id, "method": method, "params": params}).to_string();
        let _ = self.0.shared.outgoing.try_send(text);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Connection({})", self.0.shared.address)
    }
}

impl Notifications {
    /// The next notification, in the order they came.
    ///
    /// # Errors
    ///
    /// Why there will be no more.
    pub async fn next(&mut self) -> Result<Arc<Notification>, Lost> {
        match self.receiver.recv().await {
            Some(notification) => Ok(notification),
            None => Err(self.shared.why_lost()),
        }
    }

    /// A notification that has come already.
    pub(crate) fn try_next(&mut self) -> Option<Arc<Notification>> {
        self.receiver.try_recv().ok()
    }
}

/// A call on its way; forgotten when dropped.
struct PendingCall<'a> {
    shared: &'a Shared,
    method: &'a str,
    id: u64,
    is_answered: bool,
}

impl<'a> PendingCall<'a> {
    /// Registers a call; none when the connection is over.
    fn start(shared: &'a Shared, method: &'a str) -> Option<(Self, oneshot::Receiver<Result<Value, WireError>>)> {
        let (sender, receiver) = oneshot::channel();
        let mut state = shared.state();
        if state.lost.is_some() {
            return None;
        }
        state.next_id += 1;
        let id = state.next_id;
        state.pending.insert(id, sender);
        Some((
            Self {
                shared,
                method,
                id,
                is_answered: false,
            },
            receiver,
        ))
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        if self.is_answered || self.shared.state().pending.remove(&self.id).is_none() {
            return;
        }
        if self.method == "transact" {
            let _ = self.shared.outgoing.try_send(notification("cancel", &[self.id.into()]));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why_lost(&self) -> Lost {
        self.state().lost.clone().unwrap_or(Lost::Dropped)
    }

    fn lost_error(&self, method: &str) -> CallError {
        CallError::Lost {
            method: method.to_owned(),
            address: self.address.clone(),
            lost: Box::new(self.why_lost()),
        }
    }

    /// Ends the connection for everybody; the first reason counts.
    fn lose(&self, lost: Lost) {
        let mut state = self.state();
        state.lost.get_or_insert(lost);
        state.pending.clear();
        state.subscribers.clear();
        drop(state);
        self.places.close();
        self.is_over.send_replace(true);
    }

    /// Passes a notification to those who want it.
    fn publish(&self, notification: Notification) -> Result<(), Lost> {
        let notification = Arc::new(notification);
        let mut is_lagging = false;
        self.state().subscribers.retain(|(wanted, sender)| {
            if !wanted.matches(&notification) {
                return !sender.is_closed();
            }
            match sender.try_send(Arc::clone(&notification)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    is_lagging = true;
                    false
                }
            }
        });
        if is_lagging { Err(Lost::Lagged) } else { Ok(()) }
    }
}

impl Wanted {
    fn matches(&self, notification: &Notification) -> bool {
        let subject = notification.params.first();
        match (self, notification.method.as_str()) {
            (Self::All, _) => true,
            (Self::Monitor(id), "update" | "update2" | "update3" | "monitor_canceled") => subject == Some(id),
            (Self::Lock(name), "locked" | "stolen") => subject.and_then(Value::as_str) == Some(name),
            _ => false,
        }
    }
}

fn notification(method: &str, params: &[Value]) -> String {
    json!({"id": null, "method": method, "params": params}).to_string()
}

/// Owns the socket until the connection is over.
async fn run(shared: Arc<Shared>, input: Input, output: Output, to_send: mpsc::Receiver<String>) {
    let mut reading = std::pin::pin!(read(&shared, input));
    let lost = tokio::select! {
        lost = &mut reading => lost,
        // A server that has closed its end may have said why.
        failed = write(output, to_send) => timeout(EXPLANATION_PATIENCE, reading).await.unwrap_or(failed),
    };
    debug!(address = %shared.address, %lost, "connection over");
    shared.lose(lost);
}

async fn write(mut output: Output, mut to_send: mpsc::Receiver<String>) -> Lost {
    let mut batch = String::new();
    while let Some(text) = to_send.recv().await {
        batch.push_str(&text);
        while batch.len() < WRITE_BYTES_MAX
            && let Ok(text) = to_send.try_recv()
        {
            batch.push_str(&text);
        }
        if let Err(error) = output.write_all(batch.as_bytes()).await {
            return error.into();
        }
        batch.clear();
        batch.shrink_to(WRITE_BYTES_MAX);
    }
    Lost::Dropped
}

async fn read(shared: &Shared, mut input: Input) -> Lost {
    let mut receiver = Receiver {
        shared,
        scanner: Scanner::with_message_bytes_max(REPLY_BYTES_MAX),
        explanation: None,
    };
    let mut buffer = vec![0; READ_BYTES_MAX];
    loop {
        let lost = match read_some(shared, &mut input, &mut buffer).await {
            Ok(0) => Lost::Closed,
            Ok(bytes) => match receiver.take_in(&buffer[..bytes]) {
                Ok(()) => continue,
                Err(lost) => return lost,
            },
            Err(lost) => lost,
        };
        return receiver.explanation.map_or(lost, Lost::Explained);
    }
}

/// Reads once; on TCP, where a peer can vanish without a word, it asks after a silence and does not wait forever.
async fn read_some(shared: &Shared, input: &mut Input, buffer: &mut [u8]) -> Result<usize, Lost> {
    if matches!(shared.address, Address::Unix(_)) {
        return Ok(input.read(buffer).await?);
    }
    if let Ok(read) = timeout(PROBE_INTERVAL, input.read(buffer)).await {
        return Ok(read?);
    }
    let probe = json!({"id": "echo", "method": "echo", "params": []});
    // A queue without room is probe enough.
    let _ = shared.outgoing.try_send(probe.to_string());
    match timeout(PROBE_INTERVAL, input.read(buffer)).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(Lost::Silent {
            seconds: 2 * PROBE_INTERVAL.as_secs(),
        }),
    }
}

/// Sorts what comes in.
struct Receiver<'a> {
    shared: &'a Shared,
    scanner: Scanner,
    /// An error that answers no call: the server is about to close.
    explanation: Option<WireError>,
}

impl Receiver<'_> {
    fn take_in(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.scanner.push(bytes);
        while let Some(frame) = self.scanner.next_frame()? {
            let message: Map<String, Value> =
                serde_json::from_slice(frame.text).map_err(|error| Lost::Message(error.to_string()))?;
            self.dispatch(message)?;
        }
        Ok(())
    }

    fn dispatch(&mut self, mut message: Map<String, Value>) -> Result<(), Lost> {
        let id = message.remove("id").unwrap_or_default();
        match message.remove("method") {
            Some(Value::String(method)) => {
                let Some(Value::Array(params)) = message.remove("params") else {
                    return Err(Lost::Message(format!("the params of \"{method}\" are not an array")));
                };
                if id.is_null() {
                    return self.shared.publish(Notification { method, params });
                }
                self.answer(&id, &method, &params);
            }
            Some(_) => return Err(Lost::Message("\"method\" is not a string".to_owned())),
            None => self.settle(&id, message),
        }
        Ok(())
    }

    /// Answers a request of the server: a probe, or something we do not have.
    fn answer(&self, id: &Value, method: &str, params: &[Value]) {
        let reply = if method == "echo" {
            json!({"id": id, "result": params, "error": null})
        } else {
            json!({"id": id, "result": null, "error": WireError::UNKNOWN_METHOD})
        };
        // A queue without room means that the server is hearing from us anyway.
        let _ = self.shared.outgoing.try_send(reply.to_string());
    }

    /// Gives an answer to its call, if anybody still waits for it.
    fn settle(&mut self, id: &Value, mut reply: Map<String, Value>) {
        let error = reply.remove("error").filter(|error| !error.is_null());
        let answer = match error {
            Some(error) => Err(WireError::from_json(&error)),
            None => Ok(reply.remove("result").unwrap_or_default()),
        };
        if let (Value::Null, Err(error)) = (id, &answer) {
            self.explanation = Some(error.clone());
            return;
        }
        let waiting = id.as_u64().and_then(|id| self.shared.state().pending.remove(&id));
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }
}
