//! What the command line takes and waits for at most, each with its unit and reason.

use std::time::Duration;

/// The longest state file, in bytes: what it becomes must fit into one request to the server.
pub(crate) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How often a transaction is put together again after somebody else changed a row in between.
pub(crate) const ATTEMPTS_MAX: u32 = 10;

/// Containers that `--prune` deletes without being forced: more are probably a mistake.
pub(crate) const PRUNED_CONTAINERS_MAX: usize = 10;

/// Records read in one go when the log is shown from its end.
pub(crate) const LOG_STEP_RECORDS: u64 = 256;

/// Characters of one value shown in a table; the rest is cut off, JSON shows all of it.
pub(crate) const CELL_CHARACTERS_MAX: usize = 80;

/// How often a row's state is read anew while nothing is heard of it.
pub(crate) const STATE_INTERVAL: Duration = Duration::from_millis(200);

/// How long the command line waits for the server to roll a checkpoint back: the log may have to be read for it.
pub(crate) const ROLLBACK_PATIENCE: Duration = Duration::from_secs(30);

/// How long `apply --confirm` and `apply --on-error` wait for the kernel where no `--wait` says otherwise.
pub(crate) const APPLY_PATIENCE: Duration = Duration::from_secs(30);

/// Commits that `log --follow` begins with: enough to see what went on just now.
pub(crate) const FOLLOWED_FIRST: u64 = 10;

/// How often `log --follow` looks for new commits.
pub(crate) const FOLLOW_INTERVAL: Duration = Duration::from_millis(50);

/// How long a server that runs is given to sign a record: it does so each second.
pub(crate) const SIGNED_DELAY: Duration = Duration::from_secs(3);

/// How often is looked whether it has.
pub(crate) const SIGNED_INTERVAL: Duration = Duration::from_millis(50);
