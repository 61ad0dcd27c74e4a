//! Checkpoints: what is changed while one is open is confirmed in time, or taken back.

use std::fmt;
use std::sync::Arc;

use nonnet_engine::{Database, Row};
use nonnet_schema::{Atom, Datum};

use crate::object::{Moving, TrialId};
use crate::tables::text;

super::columns!("checkpoints"; name, timeout, on_error, confirmed, rollback, base, state, error, deadline);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// What a checkpoint is in: open -> confirmed | rolled back; confirmed -> rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointState {
    /// What has changed since may still be taken back by itself.
    Open,
    /// What has changed since stays, unless somebody asks.
    Confirmed,
    /// What had changed since was taken back.
    RolledBack,
}

impl CheckpointState {
    /// The state of a row; none in a row that the rules have not seen.
    pub fn of(columns: &Columns, row: &Row) -> Option<Self> {
        match text(row, columns.state) {
            "open" => Some(Self::Open),
            "confirmed" => Some(Self::Confirmed),
            "rolled_back" => Some(Self::RolledBack),
            _ => None,
        }
    }

    /// The word in the row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Confirmed => "confirmed",
            Self::RolledBack => "rolled_back",
        }
    }

    pub(crate) fn to_datum(self) -> Datum {
        Datum::scalar(Atom::from(self.as_str()))
    }
}

impl fmt::Display for CheckpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RolledBack => "rolled back",
            other => other.as_str(),
        })
    }
}

/// Seconds after which the checkpoint is rolled back unless it is confirmed; none where it need not be confirmed.
pub(crate) fn timeout_s(columns: &Columns, row: &Row) -> Option<u64> {
    let seconds = row.get(columns.timeout).as_integer();
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0)
}

/// Whether a row that fails takes everything back.
pub(crate) fn is_all_or_nothing(columns: &Columns, row: &Row) -> bool {
    text(row, columns.on_error) == "rollback"
}

/// The number of the commit that it goes back to.
pub fn base(columns: &Columns, row: &Row) -> Option<u64> {
    row.get(columns.base).as_integer().and_then(|base| u64::try_from(base).ok())
}

/// When addresses of uplinks move: under the newest checkpoint that is open and rolled back by itself. What somebody must not confirm is no
/// help to who has lost the way to the host.
pub(crate) fn moving(columns: &Columns, rows: &Database) -> Moving {
    let of = |row: &Row| (base(columns, row), TrialId::try_from(row.uuid().as_u128() >> 96).unwrap_or_default());
    let rows = || rows.table(columns.this).rows();
    let is_trial = |row: &&Arc<Row>| {
        CheckpointState::of(columns, row) == Some(CheckpointState::Open) && timeout_s(columns, row).is_some()
    };
    let is_over = |row: &&Arc<Row>| CheckpointState::of(columns, row) == Some(CheckpointState::RolledBack);
    Moving {
        open: rows().filter(is_trial).map(|row| of(row)).max().map(|(_, id)| id),
        rolled_back: rows().filter(is_over).map(|row| of(row).1).collect(),
        lends_mac: false,
    }
}

pub(crate) fn is_set(row: &Row, column: nonnet_schema::ColumnIndex) -> bool {
    row.get(column).as_bool().unwrap_or(false)
}
