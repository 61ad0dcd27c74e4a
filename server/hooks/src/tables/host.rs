//! The one row about this host: how far the kernel has followed.

use nonnet_engine::Transaction;
use nonnet_schema::Datum;

use crate::tables::Tables;

super::columns!("host"; next_cfg, cur_cfg, failed, routes, capabilities, statistics, other_config, external_ids);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// Completes the host row at the start of a server whose newest commit is `newest`. A row that is missing is made, which is a commit more.
pub fn start(tables: &Tables, transaction: &mut Transaction<'_>, newest: u64) {
    let is_missing = transaction.row_count(tables.host.this) == 0;
    show_next(tables, transaction, newest + u64::from(is_missing));
}

/// Shows `sequence` as `next_cfg` in the host row, which is made where it is missing.
pub(crate) fn show_next(tables: &Tables, transaction: &mut Transaction<'_>, sequence: u64) {
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
