//! Reading the logs for clients that come back after a long time or ask who committed what, on threads of their own, a few at a time.
//!
//! The files are opened for reading beside their writers, and closed again. A log that cannot be read costs the client no more than
//! reading everything anew.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecow::EcoString;
use nonnet_engine::OperationResult;
use nonnet_schema::{ErrorKind, OvsdbError, Uuid};
use nonnet_sessions::limits::WINDOW_RECORDS_MAX;
use nonnet_sessions::{CommitLookup, Event, Logged, Server};
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

    /// Has `_Nonnet` show the newest commits of a database; without those where the log cannot be read.
    pub(crate) fn load_newest(&self, database: &str, server: &mut Server) {
        let Some(path) = self.paths.get(database) else { return };
        let mut load = || -> Result<(), OpenError> {
            let reader = Reader::open(path)?;
            let Some(head) = reader.head()? else { return Ok(()) };
            let first = head.seq.saturating_sub(WINDOW_RECORDS_MAX as u64 - 1);
            for record in reader.records(first..=head.seq) {
                server.load_commit(database, &record?);
            }
            Ok(())
        };
        if let Err(error) = load() {
            warn!("what was committed in {database} before is not shown: {error}");
        }
    }

    /// Looks through the logs.
    pub(crate) fn look(&self, number: u64, lookups: Vec<CommitLookup>) {
        let (paths, answers, slots) = (self.paths.clone(), self.answers.clone(), Arc::clone(&self.slots));
        tokio::spawn(async move {
            // Neither is ever closed while something is read.
            let _slot = slots.acquire().await;
            let find = move || lookups.into_iter().map(|lookup| found(&paths, lookup)).collect();
            let results = tokio::task::spawn_blocking(find).await.unwrap_or_default();
            let _ = answers.send(Event::Looked { number, results });
        });
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

/// What a lookup finds in the files.
fn found(paths: &HashMap<EcoString, PathBuf>, mut lookup: CommitLookup) -> OperationResult {
    for (database, newest) in lookup.logs() {
        // One that was removed meanwhile has no commits any more.
        let Some(path) = paths.get(&database) else { continue };
        if let Err(error) = look(path, &database, newest, &mut lookup) {
            return OperationResult::Error(error);
        }
    }
    lookup.finish()
}

fn look(path: &Path, database: &EcoString, newest: u64, lookup: &mut CommitLookup) -> Result<(), OvsdbError> {
    let unreadable = |error: OpenError| {
        warn!("the log of {database} could not be looked through: {error}");
        OvsdbError::new(ErrorKind::Internal(format!("the log of {database}: {error}")))
    };
    let reader = Reader::open(path).map_err(unreadable)?;
    let seqs = seqs(&reader, newest, lookup).map_err(unreadable)?;
    if let Some(hash) = lookup.hash().map(str::to_owned) {
        let numbers = reader.seqs_of_hash(&hash).map_err(unreadable)?.into_iter().map(Ok);
        return look_at(&reader, database, &seqs, numbers, lookup, unreadable);
    }
    if let Some(row) = lookup.row() {
        let numbers = reader.row_seqs(row).map_err(unreadable)?;
        let start = *seqs.start();
        // They come newest first.
        let numbers = numbers.take_while(move |number| number.as_ref().map_or(true, |number| *number >= start));
        return look_at(&reader, database, &seqs, numbers, lookup, unreadable);
    }
    for record in reader.records(seqs) {
        lookup.look(database, &record.map_err(unreadable)?)?;
    }
    Ok(())
}

fn look_at(
    reader: &Reader,
    database: &EcoString,
    seqs: &RangeInclusive<u64>,
    numbers: impl Iterator<Item = Result<u64, OpenError>>,
    lookup: &mut CommitLookup,
    unreadable: impl Fn(OpenError) -> OvsdbError,
) -> Result<(), OvsdbError> {
    for number in numbers {
        let number = number.map_err(&unreadable)?;
        if !seqs.contains(&number) {
            continue;
        }
        for record in reader.records(number..=number) {
            lookup.look(database, &record.map_err(&unreadable)?)?;
        }
    }
    Ok(())
}

/// The numbers of the records that a lookup's ranges of numbers and times allow.
fn seqs(reader: &Reader, newest: u64, lookup: &CommitLookup) -> Result<RangeInclusive<u64>, OpenError> {
    let (numbers, times_us) = (lookup.seqs(), lookup.times_us());
    let (mut first, mut last) = (*numbers.start(), (*numbers.end()).min(newest));
    if let Some(before) = times_us.start().checked_sub(1) {
        first = first.max(reader.seq_at(before)?.map_or(0, |seq| seq.saturating_add(1)));
    }
    if *times_us.end() < u64::MAX {
        match reader.seq_at(*times_us.end())? {
            Some(seq) => last = last.min(seq),
            None => return Ok(RangeInclusive::new(1, 0)),
        }
    }
    Ok(first..=last)
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
