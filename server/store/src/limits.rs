//! The limits of this crate, each with its unit and its reason.

use std::time::Duration;

/// The format of the files that this version writes, and the newest that it reads.
pub const FORMAT_VERSION: i32 = 3;

/// The oldest format that this version reads, and brings up to its own when it opens the file for writing.
pub(crate) const FORMAT_VERSION_MIN: i32 = 1;

/// Records that are verified at start, from the newest back: more would let the age of the log slow down the start.
pub const VERIFIED_RECORDS_MAX: u64 = 262_144;

/// Bytes of a file up to which every page of it is checked at start; of a larger one only the pages of the rows.
pub const CHECKED_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Rows up to which a start computes their digest anew, half a microsecond each; of more it trusts the one that is stored beside them.
pub(crate) const COUNTED_ROWS_MAX: u64 = 65_536;

/// Batches that wait for the writer at most.
pub const QUEUED_BATCHES_MAX: usize = 1024;

/// Records that are written in one go at most: bounds what one failure takes with it.
pub(crate) const GROUP_RECORDS_MAX: usize = 4096;

/// Time after which a record that was written is synced at the latest where nobody asked for it at once.
pub(crate) const SYNC_DELAY: Duration = Duration::from_millis(100);

/// Time without work after which the writer counts as idle.
pub(crate) const IDLE_DELAY: Duration = Duration::from_millis(30);

/// Records that the rows may lag behind under load; what a start replays at most, apart from one group.
pub(crate) const LAG_RECORDS_MAX: u64 = 65_536;

/// Bytes of records that the rows may lag behind under load, for the same reason.
pub(crate) const LAG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Records that are brought into the rows in one go: what a commit may have to wait for.
pub(crate) const MATERIALISED_RECORDS_MAX: u64 = 512;

/// Bytes of records that are brought into the rows in one go, for the same reason.
pub(crate) const MATERIALISED_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of write-ahead log at which an idle writer moves it into the file.
pub(crate) const CHECKPOINT_IDLE_BYTES: u64 = 1024 * 1024;

/// Bytes of write-ahead log at which a busy writer does so; four thousand pages are what its index maps at once.
pub(crate) const CHECKPOINT_BUSY_BYTES: u64 = 15 * 1024 * 1024;

/// A file with more free pages than one in this many is rewritten when it is compacted; fewer are soon used again.
pub(crate) const FREE_PAGES_KEPT_SHARE: i64 = 8;

/// Time to wait for another program that has the file locked.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Records that are read from the file in one go.
pub(crate) const READ_RECORDS: usize = 256;

/// Transaction ids that are brought into their index in one go: what a commit may have to wait for.
pub(crate) const INDEXED_RECORDS_MAX: u64 = 4096;

/// Changes of rows that are brought into their index in one go, apart from those of one record: what a commit may have to wait for.
pub(crate) const INDEXED_ROWS_MAX: usize = 4096;

/// Records of a row whose numbers are read from the index in one go: most questions are answered by the newest.
pub(crate) const ROW_SEQS_READ: usize = 256;

/// Records that the beginning of a hash finds at most: whoever means one gives more of its hash where it finds several.
pub const HASHES_FOUND_MAX: usize = 8;

/// Bytes of a file with a key at most; ours have 70.
pub(crate) const KEY_FILE_BYTES_MAX: u64 = 1024;

/// Time from one checkpoint to the next while records come.
pub(crate) const CHECKPOINT_DELAY: Duration = Duration::from_secs(1);

/// Records after which a checkpoint is made at once.
pub(crate) const CHECKPOINT_RECORDS_MAX: u64 = 1000;

/// Checkpoints that are all kept: an hour of those that come each second.
pub(crate) const CHECKPOINTS_KEPT: u64 = 3600;

/// Records from one word of progress of a verification to the next.
pub(crate) const VERIFY_PROGRESS_RECORDS: u64 = 8192;

/// Records whose hashes are read in one go where the tree is made anew.
pub(crate) const TREE_READ_RECORDS: u64 = 65_536;

/// Rows and elements that the answer to "what has changed since" may hold in memory; beyond it, reading everything anew costs less.
pub(crate) const PAST_WEIGHT_MAX: usize = 2_000_000;

/// Bytes of the line before a record of ovsdb-server's files at most; its own are shorter than 80.
pub(crate) const OVSDB_HEADER_BYTES_MAX: u64 = 128;

/// Bytes of a faulty part of ovsdb-server's files that a message shows: enough to find it.
pub(crate) const OVSDB_SHOWN_BYTES_MAX: usize = 1024;
