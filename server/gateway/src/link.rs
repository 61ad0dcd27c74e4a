//! One session with the server, over a socket pair: requests out, replies and updates in (RFC 7047 4).
//!
//! Every request ends in an end of line, so every message of the server does. What the server sends is handled strictly in its order, so a
//! WebSocket gets the update of a commit before the reply to its transaction. A client that does not read stops this reader, and through
//! the socket the session, whose updates the server then merges: nothing piles up here.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jsonrpsee::server::ServerHandle;
use nonnet_schema::Scanner;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::AbortHandle,
};
use tracing::debug;

use crate::{
    failure::Failure,
    limits::{CALLS_PER_CONNECTION_MAX, LINE_BYTES_KEPT, UNSENT_BYTES_MAX},
    method::UPDATE,
    monitor::{Monitor, Starting},
};

/// What a call gives: the text of the result.
pub(crate) type Answer = Result<Box<RawValue>, Failure>;

/// The session of one HTTP connection; ends when dropped.
pub(crate) struct Link {
    shared: Arc<Shared>,
    carrier: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// Who waits for a reply.
pub(crate) enum Waiting {
    Call(oneshot::Sender<Answer>),
    /// A subscription, not accepted yet.
    Start(Box<Starting>),
    /// The end of the monitor of that number.
    Cancel(u64),
}

impl Waiting {
    async fn fail(self, failure: Failure) {
        match self {
            Self::Call(caller) => {
                // A caller that is gone needs no answer.
                let _ = caller.send(Err(failure));
            }
            Self::Start(starting) => starting.reject(failure).await,
            Self::Cancel(_) => {}
        }
    }
}

/// What callers and the carrier of messages share.
pub(crate) struct Shared {
    /// Who waits, by the id of the request, each with its place among the calls; None once the session has ended.
    waiting: Mutex<Option<HashMap<u64, (Waiting, OwnedSemaphorePermit)>>>,
    next_id: AtomicU64,
    requests: mpsc::Sender<Request>,
    unsent_bytes: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// Ends the session.
    overrun: Notify,
    /// Ends the HTTP connection.
    stop: ServerHandle,
}

/// One line for the server, with its share of [`UNSENT_BYTES_MAX`].
struct Request {
    line: String,
    _share: OwnedSemaphorePermit,
}

/// A message of the server.
#[derive(Deserialize)]
struct Message<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

impl Link {
    /// Takes our end of a session's stream; when the session ends, so does the HTTP connection that `stop` is of.
    pub(crate) fn start(stream: UnixStream, stop: ServerHandle) -> Self {
        let (requests, queue) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Some(HashMap::new())),
            next_id: AtomicU64::new(1),
            requests,
            unsent_bytes: Arc::new(Semaphore::new(UNSENT_BYTES_MAX)),
            places: Arc::new(Semaphore::new(CALLS_PER_CONNECTION_MAX)),
            overrun: Notify::new(),
            stop,
        });
        let carrier = tokio::spawn(carry(stream, queue, Arc::clone(&shared))).abort_handle();
        Self { shared, carrier }
    }

    /// Calls a method of the server; `params` is the text of a JSON array, none where there are no params.
    pub(crate) async fn call(&self, method: &str, params: Option<&str>) -> Answer {
        let (caller, answer) = oneshot::channel();
        self.request(method, params, Waiting::Call(caller)).await;
        answer.await.unwrap_or(Err(Failure::Ended))
    }

    /// Sends a request; who waits for its reply gets that or a failure.
    pub(crate) async fn request(&self, method: &str, params: Option<&str>, waiting: Waiting) {
        let id = self.shared.next_id();
        self.shared.request(id, method, params, waiting).await;
    }

    /// A number for a monitor, and for nothing else of this session.
    pub(crate) fn next_id(&self) -> u64 {
        self.shared.next_id()
    }
}

impl Shared {
    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    async fn request(&self, id: u64, method: &str, params: Option<&str>, waiting: Waiting) {
        let prepared = compose(id, method, params).and_then(|line| self.admit(line));
        let (request, place) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return waiting.fail(failure).await,
        };
        if let Err(waiting) = self.wait(id, waiting, place) {
            return waiting.fail(Failure::Ended).await;
        }
        // A carrier that has ended has told all who wait.
        let _ = self.requests.send(request).await;
    }

    /// Cancels a monitor whose subscription is over.
    pub(crate) async fn cancel(&self, monitor: u64) {
        let params = format!("[{monitor}]");
        let waiting = Waiting::Cancel(monitor);
        self.request(self.next_id(), "monitor_cancel", Some(&params), waiting)
            .await;
    }

    /// Finds place for a request. A client that asks for more is not served further: what it sends is held by the WebSocket, without limit.
    fn admit(&self, line: String) -> Result<(Request, OwnedSemaphorePermit), Failure> {
        let share = u32::try_from(line.len()).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.unsent_bytes).try_acquire_many_owned(share);
        let place = Arc::clone(&self.places).try_acquire_owned();
        match (share, place) {
            (Ok(share), Ok(place)) => Ok((Request { line, _share: share }, place)),
            (share, _) => {
                let too_much = if share.is_err() {
                    "this connection sends more than the server takes; wait for answers"
                } else {
                    "this connection has too many calls without an answer"
                };
                debug!("gateway connection ended: {too_much}");
                self.overrun.notify_one();
                Err(Failure::TooMuch(too_much))
            }
        }
    }

    fn wait(&self, id: u64, waiting: Waiting, place: OwnedSemaphorePermit) -> Result<(), Waiting> {
        match self.waiting().as_mut() {
            Some(all) => {
                all.insert(id, (waiting, place));
                Ok(())
            }
            None => Err(waiting),
        }
    }

    fn answered(&self, id: u64) -> Option<Waiting> {
        let (waiting, _place) = self.waiting().as_mut()?.remove(&id)?;
        Some(waiting)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, (Waiting, OwnedSemaphorePermit)>>> {
        // No code that holds the lock can panic half way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries messages both ways until the session ends, then ends the connection.
async fn carry(stream: UnixStream, queue: mpsc::Receiver<Request>, shared: Arc<Shared>) {
    let (input, output) = stream.into_split();
    let failure = tokio::select! {
        failure = read(input, &shared) => failure,
        () = write(output, queue) => Failure::Ended,
        () = shared.overrun.notified() => Failure::Ended,
    };
    let all = shared.waiting().take().unwrap_or_default();
    for (waiting, _place) in all.into_values() {
        waiting.fail(failure.clone()).await;
    }
    // Stopped already is as good.
    let _ = shared.stop.stop();
}

async fn write(mut output: OwnedWriteHalf, mut queue: mpsc::Receiver<Request>) {
    while let Some(request) = queue.recv().await {
        if output.write_all(request.line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads until the session ends; gives why.
async fn read(input: OwnedReadHalf, shared: &Arc<Shared>) -> Failure {
    let mut input = BufReader::new(input);
    let mut monitors = HashMap::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        line.shrink_to(LINE_BYTES_KEPT);
        if !matches!(input.read_until(b'\n', &mut line).await, Ok(1..)) {
            return Failure::Ended;
        }
        let message: Message<'_> = match serde_json::from_slice(&line) {
            Ok(message) => message,
            Err(cause) => {
                debug!("the server's message is not understood: {cause}");
                return Failure::Ended;
            }
        };
        match message {
            Message {
                id: Some(id),
                result,
                error,
                ..
            } => {
                if let Some(waiting) = shared.answered(id) {
                    hand_over(waiting, answer_of(result, error), &mut monitors, shared).await;
                }
            }
            Message {
                method: Some(method),
                params: Some(params),
                ..
            } if method == UPDATE => update(params, &monitors).await,
            // The last words of a session.
            Message { error: Some(error), .. } => return Failure::Server(error.to_owned()),
            Message { .. } => {}
        }
    }
}

fn answer_of(result: Option<&RawValue>, error: Option<&RawValue>) -> Answer {
    match (result, error) {
        (_, Some(error)) => Err(Failure::Server(error.to_owned())),
        (Some(result), None) => Ok(result.to_owned()),
        (None, None) => Ok(RawValue::NULL.to_owned()),
    }
}

async fn hand_over(waiting: Waiting, answer: Answer, monitors: &mut HashMap<u64, Monitor>, shared: &Arc<Shared>) {
    match (waiting, answer) {
        (Waiting::Call(caller), answer) => {
            // A caller that is gone needs no answer.
            let _ = caller.send(answer);
        }
        (Waiting::Start(starting), Err(failure)) => starting.reject(failure).await,
        (Waiting::Start(starting), Ok(initial)) => {
            let number = starting.number;
            // A client that is gone takes its session with it.
            if let Some(monitor) = starting.accept(&initial, shared).await {
                monitors.insert(number, monitor);
            }
        }
        (Waiting::Cancel(monitor), _) => {
            monitors.remove(&monitor);
        }
    }
}

async fn update(params: &RawValue, monitors: &HashMap<u64, Monitor>) {
    let Ok((number, updates)) = serde_json::from_str::<(u64, &RawValue)>(params.get()) else {
        return;
    };
    if let Some(monitor) = monitors.get(&number) {
        monitor.update(updates).await;
    }
}

/// The request as one line, if the server will take it for one message.
fn compose(id: u64, method: &str, params: Option<&str>) -> Result<String, Failure> {
    let params = params.unwrap_or("[]");
    if !params.starts_with('[') {
        let text = format!("the params of {method} are a JSON array, in the order of RFC 7047");
        return Err(Failure::Params(text));
    }
    let mut line = format!("{{\"method\":\"{method}\",\"params\":{params},\"id\":{id}}}\n");
    let mut scanner = Scanner::new();
    scanner.push(line.as_bytes());
    match scanner.next_frame() {
        Ok(Some(_)) => {}
        Ok(None) => return Err(Failure::Params(format!("the params of {method} are not JSON"))),
        Err(error) => return Err(Failure::Params(error.to_string())),
    }
    line.shrink_to_fit();
    Ok(line)
}
