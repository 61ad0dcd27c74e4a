//! Reading the logs for clients that come back after a long time, on threads of their own, a few at a time.
//!
//! The files are opened for reading beside their writers, and closed again. A log that cannot be read costs the client no more than
//! reading everything anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecow::EcoString;
use nonnet_schema::Uuid;
use nonnet_sessions::{Event, Logged};
use nonnet_store::{OpenError, Reader, Since};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tracing::warn;

/// Logs that are read at once: each read may hold what the store allows.
const READS_MAX: usize = 2;

/// Starts reads, whose answers come as events.
pub(crate) struct PastReads {
    paths: HashMap<EcoString, PathBuf>,
    answers: UnboundedSender<Event>,
    slots: Arc<Semaphore>,
}

impl PastReads {
    pub(crate) fn new() -> (Self, UnboundedReceiver<Event>) {
        let (answers, receiver) = mpsc::unbounded_channel();
        let reads = Self {
            paths: HashMap::new(),
            answers,
            slots: Arc::new(Semaphore::new(READS_MAX)),
        };
        (reads, receiver)
    }

    /// Adds a database and its file.
    pub(crate) fn add(&mut self, database: EcoString, path: PathBuf) {
        self.paths.insert(database, path);
    }

    /// Takes a database out; reads that have begun go on.
    pub(crate) fn remove(&mut self, database: &str) {
        self.paths.remove(database);
    }

    /// The file of a database.
    pub(crate) fn path(&self, database: &str) -> Option<&Path> {
        self.paths.get(database).map(PathBuf::as_path)
    }

    /// Reads what has changed in a database since a transaction.
    pub(crate) fn start(&self, database: EcoString, id: Uuid) {
        let (path, answers, slots) = (
            self.paths.get(&database).cloned(),
            self.answers.clone(),
            Arc::clone(&self.slots),
        );
        tokio::spawn(async move {
            // Neither is ever closed while something is read.
            let _slot = slots.acquire().await;
            let read = tokio::task::spawn_blocking(move || path.and_then(|path| logged(&path, id)));
            let logged = read.await.unwrap_or_default();
            let _ = answers.send(Event::Since { database, id, logged });
        });
    }
}

fn logged(path: &Path, id: Uuid) -> Option<Logged> {
    let read = || -> Result<Option<Since>, OpenError> { Reader::open(path)?.since(id) };
    match read() {
        Ok(since) => since.map(|since| Logged {
            from: since.from,
            to: since.to,
            past: Arc::new(since.past),
        }),
        Err(error) => {
            warn!("a client that comes back gets everything: {error}");
            None
        }
    }
}
