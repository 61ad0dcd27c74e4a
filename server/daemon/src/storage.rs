//! The store of one database as the state thread sees it: records go in, sequence numbers that are stored come out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nonnet_chain::{Head, PublicKey, Record, SecretKey};
use nonnet_store::{AppendError, Batch, Compacted, Completion, Durability, QueueError, SharedKeys, SqliteLog, Writer};
use tokio::sync::mpsc::UnboundedSender;

/// What the writer of one database says. As many wait as batches are queued, which the store limits.
#[derive(Debug)]
pub(crate) struct Completed {
    /// Which database, by its place in the list.
    pub(crate) database: usize,
    /// What became of its batches.
    pub(crate) completion: Completion,
}

/// What a completion means for the commits in memory.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Everything up to this sequence number is stored.
    Stored(u64),
    /// Nothing from this sequence number on is stored; it may be tried again.
    Unstored(u64, String),
    /// Whether it is stored is unknown: nobody may be answered any more.
    Unknown(String),
    /// It was about commits that have been undone already.
    Nothing,
}

/// The way to one writer.
pub(crate) struct Storage {
    writer: Writer,
    keys: SharedKeys,
    /// When the key in force came, or the server began.
    keyed_at: Instant,
    next_batch: u64,
    /// Batches under way, oldest first, each with its first sequence number.
    under_way: VecDeque<(u64, u64)>,
    /// What the writer had no room for yet.
    held: VecDeque<Batch>,
}

impl Storage {
    pub(crate) fn start(
        database: usize,
        log: SqliteLog,
        durability: Durability,
        completions: UnboundedSender<Completed>,
    ) -> std::io::Result<Self> {
        let complete = move |completion| {
            // Where nobody listens any more the server is stopping.
            let _stopping = completions.send(Completed { database, completion });
        };
        let keys = log.keys();
        let writer = Writer::start(Box::new(log), durability, complete)?;
        Ok(Self {
            writer,
            keys,
            keyed_at: Instant::now(),
            next_batch: 0,
            under_way: VecDeque::new(),
            held: VecDeque::new(),
        })
    }

    /// Has `rotate` make the record of a new key from the one in force and the public part of the next, where the former is older than
    /// `life` and the latter is ready.
    pub(crate) fn rotate_key(
        &mut self,
        life: Duration,
        rotate: impl FnOnce((Option<&SecretKey>, PublicKey)) -> Option<Record>,
    ) -> Option<Record> {
        if self.keyed_at.elapsed() < life {
            return None;
        }
        let keys = self.keys.lock();
        let (current, next) = keys.rotation()?;
        self.keyed_at = Instant::now();
        rotate((Some(current), next))
    }

    /// Sends records on their way as one batch.
    pub(crate) fn append(&mut self, records: Vec<Record>, durable: bool) {
        let Some(first) = records.first().map(|record| record.header) else {
            return;
        };
        let expected = Head {
            seq: first.seq.wrapping_sub(1),
            hash: first.prev,
        };
        let id = self.next_batch;
        self.next_batch += 1;
        self.under_way.push_back((id, first.seq));
        self.held.push_back(Batch {
            id,
            records,
            expected,
            durable,
        });
        self.push_held();
    }

    fn push_held(&mut self) {
        while let Some(batch) = self.held.pop_front() {
            match self.writer.append(batch) {
                Ok(()) => {}
                Err(QueueError::Full(batch)) => return self.held.push_front(batch),
                // The writer has said why; its last completion ends the process.
                Err(QueueError::Ended(_)) => return,
            }
        }
    }

    /// Has room given back that the file does not need.
    pub(crate) fn compact(&self, compacted: Compacted) {
        self.writer.compact(compacted);
    }

    /// True while batches are under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Takes note of a completion.
    pub(crate) fn completed(&mut self, completion: Completion) -> Verdict {
        let known: Vec<(u64, u64)> = self
            .under_way
            .iter()
            .filter(|(id, _)| completion.batches.contains(id))
            .copied()
            .collect();
        let verdict = match completion.result {
            Err(error) if error.is_fatal() || matches!(error, AppendError::Conflict { .. }) => {
                Verdict::Unknown(error.to_string())
            }
            _ if known.is_empty() => Verdict::Nothing,
            Ok(head) => {
                self.under_way.retain(|batch| !known.contains(batch));
                Verdict::Stored(head.seq)
            }
            Err(error) => {
                // What follows was built on what failed: it is undone with it.
                self.under_way.clear();
                self.held.clear();
                let first = known.iter().map(|(_, sequence)| *sequence).min().unwrap_or_default();
                Verdict::Unstored(first, error.to_string())
            }
        };
        self.push_held();
        verdict
    }

    /// Writes what is queued and closes the file.
    pub(crate) fn stop(self) {
        if self.writer.stop().is_err() {
            tracing::error!("the writer of the log panicked");
        }
    }
}
