//! The newest commits of one database, from which rows of `Commit` can be made.

use std::collections::VecDeque;
use std::sync::Arc;

use nonnet_chain::{Header, Record, RecordHash, StoredRecord};
use nonnet_schema::Uuid;

use crate::limits::{WINDOW_BODIES_BYTES_MAX, WINDOW_RECORDS_MAX};

/// A stored record.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) header: Header,
    pub(crate) hash: RecordHash,
    /// None where it was removed.
    pub(crate) body: Option<Arc<[u8]>>,
}

/// The newest commits, and which of them the rows show.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Those that are not stored yet, oldest first.
    pending: VecDeque<Kept>,
    /// Those that are, oldest first: at most [`WINDOW_RECORDS_MAX`], and [`WINDOW_BODIES_BYTES_MAX`] of bodies but for the newest.
    kept: VecDeque<Kept>,
    /// Bytes of the bodies of those.
    bytes: usize,
    /// The newest stored record.
    newest: Option<u64>,
    /// The records that have rows, oldest first.
    shown: VecDeque<(u64, Uuid)>,
}

/// What has changed since it was last asked for.
pub(crate) struct News {
    /// The rows of records that left the window.
    pub(crate) gone: Vec<Uuid>,
    /// Records that came.
    pub(crate) come: Vec<Kept>,
}

impl Window {
    /// Takes a record that the file has, newer than those before it. One that cannot be decoded is left out: whoever verifies the file names it.
    pub(super) fn load(&mut self, record: &StoredRecord) {
        if let Some(kept) = Kept::decode(record) {
            self.keep(kept);
        }
    }

    pub(super) fn committed(&mut self, record: &Record) {
        self.pending.push_back(Kept {
            header: record.header,
            hash: record.hash,
            body: Some(Arc::clone(&record.body)),
        });
    }

    pub(super) fn stored(&mut self, sequence: u64) {
        while let Some(record) = self.pending.pop_front_if(|record| record.header.seq <= sequence) {
            self.keep(record);
        }
    }

    pub(super) fn undo_from(&mut self, sequence: u64) {
        self.pending.retain(|record| record.header.seq < sequence);
    }

    pub(super) fn clear(&mut self) {
        let shown = std::mem::take(&mut self.shown);
        *self = Self {
            shown,
            ..Self::default()
        };
    }

    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// What the rows lack.
    pub(super) fn take_news(&mut self) -> News {
        let oldest = self.kept.front().map_or(u64::MAX, |record| record.header.seq);
        let mut gone = Vec::new();
        while let Some((_, uuid)) = self.shown.pop_front_if(|(seq, _)| *seq < oldest) {
            gone.push(uuid);
        }
        let newest = self.shown.back().map(|(seq, _)| *seq);
        let is_new = |record: &&Kept| newest.is_none_or(|newest| record.header.seq > newest);
        let mut come: Vec<Kept> = self.kept.iter().rev().take_while(is_new).cloned().collect();
        come.reverse();
        let rows = come
            .iter()
            .map(|record| (record.header.seq, record.hash.transaction_id()));
        self.shown.extend(rows);
        News { gone, come }
    }

    fn keep(&mut self, record: Kept) {
        self.newest = Some(record.header.seq);
        self.bytes += record.bytes();
        self.kept.push_back(record);
        while (self.kept.len() > WINDOW_RECORDS_MAX || self.bytes > WINDOW_BODIES_BYTES_MAX)
            && self.kept.len() > 1
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }
}

impl Kept {
    /// A record as its file has it; None where that is no record.
    pub(crate) fn decode(record: &StoredRecord) -> Option<Self> {
        Some(Self {
            header: Header::decode(&record.header).ok()?,
            hash: RecordHash(record.hash.as_slice().try_into().ok()?),
            body: record.body.as_deref().map(Arc::from),
        })
    }

    fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.len())
    }
}
