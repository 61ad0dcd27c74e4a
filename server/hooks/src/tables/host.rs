//! The one row about this host: how far the kernel has followed.

use nonnet_engine::{ChangeSet, Database, Entropy, Transaction};
use nonnet_schema::{Datum, OvsdbError};

use crate::tables::Tables;

super::columns!("host"; next_cfg, cur_cfg, failed, capabilities, external_ids);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// What has to be committed at start: the host row where it is missing, and `sequence` as its `next_cfg`.
///
/// # Errors
/// A commit check that fails; a server that starts cannot go on.
pub fn prepare_start(
    tables: &Tables,
    database: &Database,
    entropy: &mut Entropy,
    sequence: u64,
) -> Result<ChangeSet, OvsdbError> {
    let mut transaction = Transaction::new(database, entropy);
    show_next(tables, &mut transaction, sequence);
    nonnet_engine::commit(transaction)
}

/// Shows `sequence` as `next_cfg` in the host row, which is made where it is missing.
pub fn show_next(tables: &Tables, transaction: &mut Transaction<'_>, sequence: u64) {
    let Columns { this, next_cfg, .. } = tables.host;
    let datum = Datum::scalar(i64::try_from(sequence).unwrap_or(i64::MAX));
    let row = transaction.rows(this).next().map(|row| row.uuid());
    if let Some(uuid) = row {
        transaction.set(this, uuid, next_cfg, datum);
    } else {
        let uuid = transaction.new_uuid();
        let mut fields = transaction.schema().table(this).default_fields();
        if let Some(field) = fields.get_mut(next_cfg.0) {
            *field = datum;
        }
        transaction.insert(this, uuid, fields);
    }
}

/// Shows the `next_cfg` from before the transaction again.
pub(crate) fn show_last(tables: &Tables, transaction: &mut Transaction<'_>) {
    let Columns { this, next_cfg, .. } = tables.host;
    let before = transaction.database().table(this).rows().next();
    if let Some(row) = before {
        transaction.set(this, row.uuid(), next_cfg, row.get(next_cfg).clone());
    }
}
