//! The writer: the thread that owns a log.
//!
//! Takes batches in the order of the chain, writes whatever waits in one go, and says when it is done. In between it does the log's
//! background work. After an error with an unknown outcome it says so and ends.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use nonnet_chain::{Head, Record};

use crate::limits::{GROUP_RECORDS_MAX, IDLE_DELAY, QUEUED_BATCHES_MAX, SYNC_DELAY};
use crate::log::{AppendError, Compaction, Log};

/// When a record reaches the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before it is acknowledged.
    #[default]
    EveryCommit,
    /// Before it is acknowledged where the transaction asks for it, else within 100 milliseconds.
    OnRequest,
}

/// Records that belong together, linked to each other.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Names the batch in its completion.
    pub id: u64,
    /// The records, in order.
    pub records: Vec<Record>,
    /// The record that the first one is linked to.
    pub expected: Head,
    /// True where a transaction among them asks for durability.
    pub durable: bool,
}

/// What became of batches.
#[derive(Debug)]
pub struct Completion {
    /// Which ones, in the order they came. Empty where background work failed.
    pub batches: Vec<u64>,
    /// The newest record; or why none of them was written. Batches that were built on one that failed fail for the same reason.
    pub result: Result<Head, AppendError>,
}

/// Called on the writer's thread with what a compaction has done.
pub type Compacted = Box<dyn FnOnce(Result<Compaction, String>) + Send>;

/// What the thread is asked to do.
enum Work {
    Append(Batch),
    Compact(Compacted),
}

/// Why a batch was not taken.
#[derive(Debug)]
pub enum QueueError {
    /// [`QUEUED_BATCHES_MAX`] wait already; try again after a completion.
    Full(Batch),
    /// The writer has ended.
    Ended(Batch),
}

/// The handle to the thread.
#[derive(Debug)]
pub struct Writer {
    work: SyncSender<Work>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread; `complete` is called on it.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(
        log: Box<dyn Log>,
        durability: Durability,
        complete: impl FnMut(Completion) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (work, queue) = sync_channel(QUEUED_BATCHES_MAX);
        let worker = Worker {
            log,
            durability,
            complete: Box::new(complete),
            queue,
            waiting: VecDeque::new(),
            compactions: Vec::new(),
            unsynced_since: None,
            is_behind: true,
            full: None,
            in_doubt: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || worker.run())?;
        Ok(Self { work, thread })
    }

    /// Queues a batch; never waits.
    ///
    /// # Errors
    /// [`QueueError`] gives the batch back.
    pub fn append(&self, batch: Batch) -> Result<(), QueueError> {
        match self.work.try_send(Work::Append(batch)) {
            Err(TrySendError::Full(Work::Append(batch))) => Err(QueueError::Full(batch)),
            Err(TrySendError::Disconnected(Work::Append(batch))) => Err(QueueError::Ended(batch)),
            // What was not taken is what was given.
            _ => Ok(()),
        }
    }

    /// Gives back room that the log does not need, behind the batches queued so far; `compacted` is dropped where the writer is too busy
    /// to take it, or has ended.
    pub fn compact(&self, compacted: Compacted) {
        let _ = self.work.try_send(Work::Compact(compacted));
    }

    /// Writes what is queued, brings everything to the disk, closes the log, and ends the thread.
    ///
    /// # Errors
    /// Where the thread panicked.
    pub fn stop(self) -> std::thread::Result<()> {
        drop(self.work);
        self.thread.join()
    }
}

struct Worker {
    log: Box<dyn Log>,
    durability: Durability,
    complete: Box<dyn FnMut(Completion) + Send>,
    queue: Receiver<Work>,
    waiting: VecDeque<Batch>,
    /// Compactions asked for, done once nothing waits to be written.
    compactions: Vec<Compacted>,
    /// When the oldest record was written that has not reached the disk.
    unsynced_since: Option<Instant>,
    /// True while background work may be left.
    is_behind: bool,
    /// Why the last append found no room, until one succeeds: what is built on it must fail as well.
    full: Option<(PathBuf, String)>,
    /// The batches of which nobody knows whether they were written.
    in_doubt: Vec<u64>,
}

/// What the worker does next.
enum Next {
    Append,
    Sync,
    Maintain,
    Stop,
}

impl Worker {
    fn run(mut self) {
        loop {
            let done = match self.next() {
                Next::Append => self.append(),
                Next::Sync => self.sync(),
                Next::Maintain => self.maintain(true),
                Next::Stop => return self.stop(),
            };
            if let Err(error) = done {
                return self.fail(error);
            }
        }
    }

    /// Waits for a batch, or until something else is due.
    fn next(&mut self) -> Next {
        let until_sync = self
            .unsynced_since
            .map(|since| SYNC_DELAY.saturating_sub(since.elapsed()));
        if until_sync.is_some_and(|delay| delay.is_zero()) {
            return Next::Sync;
        }
        let until_idle = self.is_behind.then_some(IDLE_DELAY);
        let until_checkpoint = self.log.until_checkpoint().map(|delay| delay.max(IDLE_DELAY));
        let first = match [until_sync, until_idle, until_checkpoint].into_iter().flatten().min() {
            None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(delay) => self.queue.recv_timeout(delay),
        };
        match first {
            Ok(work) => {
                self.take(work);
                self.gather();
                Next::Append
            }
            Err(RecvTimeoutError::Timeout) if self.is_behind || until_sync.is_none() => Next::Maintain,
            Err(RecvTimeoutError::Timeout) => Next::Sync,
            Err(RecvTimeoutError::Disconnected) => Next::Stop,
        }
    }

    /// Puts work where it waits; gives the number of its records.
    fn take(&mut self, work: Work) -> usize {
        match work {
            Work::Append(batch) => {
                let records = batch.records.len();
                self.waiting.push_back(batch);
                records
            }
            Work::Compact(compacted) => {
                self.compactions.push(compacted);
                0
            }
        }
    }

    /// Takes what waits, up to the size of a group.
    fn gather(&mut self) {
        let mut records: usize = self.waiting.iter().map(|batch| batch.records.len()).sum();
        while records < GROUP_RECORDS_MAX {
            match self.queue.try_recv() {
                Ok(work) => records += self.take(work),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Writes the batches that wait, those that follow each other in one go.
    fn append(&mut self) -> Result<(), AppendError> {
        while let Some(first) = self.waiting.pop_front() {
            if self.is_built_on_failed(&first) {
                self.complete_full(first.id);
                continue;
            }
            let (mut ids, mut durable, expected) = (vec![first.id], first.durable, first.expected);
            let mut head = first.records.last().map_or(expected, Record::head);
            let mut records = first.records;
            while let Some(next) = self.waiting.pop_front_if(|next| next.expected == head) {
                ids.push(next.id);
                durable |= next.durable;
                head = next.records.last().map_or(head, Record::head);
                records.extend(next.records);
            }
            self.append_group(ids, &records, expected, durable)?;
        }
        self.compact()?;
        self.maintain(false)
    }

    fn compact(&mut self) -> Result<(), AppendError> {
        for compacted in std::mem::take(&mut self.compactions) {
            match self.log.compact() {
                Err(error) if error.is_fatal() => {
                    compacted(Err(error.to_string()));
                    return Err(error);
                }
                result => compacted(result.map_err(|error| error.to_string())),
            }
        }
        Ok(())
    }

    fn append_group(
        &mut self,
        batches: Vec<u64>,
        records: &[Record],
        expected: Head,
        durable: bool,
    ) -> Result<(), AppendError> {
        let durable = durable || self.durability == Durability::EveryCommit;
        let result = self.log.append(records, expected, durable);
        match &result {
            Ok(_) => {
                self.full = None;
                self.is_behind = true;
                self.unsynced_since = if durable {
                    None
                } else {
                    self.unsynced_since.or(Some(Instant::now()))
                };
            }
            Err(AppendError::Full { path, cause }) => self.full = Some((path.clone(), cause.clone())),
            Err(AppendError::Conflict { .. }) => {}
            Err(AppendError::Failed { .. }) => {
                self.in_doubt = batches;
                return result.map(drop);
            }
        }
        (self.complete)(Completion { batches, result });
        Ok(())
    }

    fn is_built_on_failed(&self, batch: &Batch) -> bool {
        self.full.is_some() && batch.expected != self.log.head()
    }

    fn complete_full(&mut self, id: u64) {
        if let Some((path, cause)) = self.full.clone() {
            let result = Err(AppendError::Full { path, cause });
            (self.complete)(Completion {
                batches: vec![id],
                result,
            });
        }
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        self.unsynced_since = None;
        self.log.sync()
    }

    fn maintain(&mut self, idle: bool) -> Result<(), AppendError> {
        match self.log.maintain(idle) {
            Ok(more) => {
                self.is_behind = more || !idle;
                Ok(())
            }
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                // The log is whole; what it stands before is tried again with the next append.
                tracing::warn!("background work waits: {error}");
                self.is_behind = false;
                Ok(())
            }
        }
    }

    fn stop(mut self) {
        if let Err(error) = self.finish() {
            self.fail(error);
        }
    }

    fn finish(&mut self) -> Result<(), AppendError> {
        self.gather();
        self.append()?;
        self.sync()?;
        self.log.checkpoint()?;
        self.is_behind = true;
        while self.is_behind {
            self.maintain(true)?;
        }
        Ok(())
    }

    /// Says that the outcome is unknown; what waits is never answered, as its sender sees from the end of the channel.
    fn fail(self, error: AppendError) {
        tracing::error!("{error}");
        let Self {
            queue,
            mut complete,
            in_doubt,
            ..
        } = self;
        // Whoever hears of it can queue nothing more.
        drop(queue);
        complete(Completion {
            batches: in_doubt,
            result: Err(error),
        });
    }
}
