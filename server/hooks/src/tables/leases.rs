//! Addresses in use, each owned by a port: they die with it.
//!
//! An address is in use once on a host, whatever network it belongs to, since subnets do not overlap.

use nonnet_engine::{Row, Transaction};
use nonnet_schema::{Atom, Datum, Uuid};

use crate::dhcp::Lease;
use crate::tables::{Tables, host, reference_set, references, text};

super::columns!("leases"; address, source, expires, options);

pub(crate) const READ_BY_REFERRERS: &[&str] = &["address", "source", "options"];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// The word in `source` for an address that the port's row names itself.
pub(crate) const STATIC: &str = "static";

/// The word in `source` for an address that a DHCP server gave.
pub(crate) const DHCP: &str = "dhcp";

/// Number of the index over `address`.
const BY_ADDRESS: usize = 0;

/// The lease that a DHCP server gave, if it is one.
pub(crate) fn dhcp_lease(columns: &Columns, row: &Row) -> Option<Lease> {
    let expires = row.get(columns.expires).as_integer().and_then(|seconds| u64::try_from(seconds).ok());
    let options = row.get(columns.options);
    let is_dhcp = text(row, columns.source) == DHCP;
    is_dhcp.then(|| Lease::from_texts(text(row, columns.address), expires, |key| options.get_str(key)))?
}

/// Puts what a DHCP server gave into the rows of a port, or takes it out; `sequence` is the number that the commit gets, if there is anything
/// to change.
///
/// # Errors
/// The address, where somebody else has it already; nothing has changed then.
pub fn write_dhcp(
    tables: &Tables,
    transaction: &mut Transaction<'_>,
    port: Uuid,
    lease: Option<&Lease>,
    sequence: u64,
) -> Result<(), std::net::Ipv4Addr> {
    let Some(row) = transaction.row(tables.ports.this, port).cloned() else {
        return Ok(());
    };
    let columns = &tables.leases;
    let mut own: Vec<Uuid> = references(&row, tables.ports.leases).collect();
    let rows = own.iter().filter_map(|uuid| transaction.row(columns.this, *uuid).cloned());
    let (mut same, mut gone) = (None, Vec::new());
    for row in rows.filter(|row| text(row, columns.source) == DHCP) {
        if lease.is_some_and(|lease| lease.address.addr().to_string() == text(&row, columns.address)) {
            same = Some(row.uuid());
        } else {
            gone.push(row.uuid());
        }
    }
    if let (Some(lease), None) = (lease, same) {
        let address = lease.address.addr();
        let key = [Datum::scalar(Atom::from(address.to_string().as_str()))];
        if !transaction.rows_by_index(columns.this, BY_ADDRESS, &key).is_empty() {
            return Err(address);
        }
    }
    let mut is_changed = !gone.is_empty();
    for uuid in &gone {
        transaction.delete(columns.this, *uuid);
    }
    own.retain(|uuid| !gone.contains(uuid));
    if let Some(lease) = lease {
        let expires = lease.expires.and_then(|seconds| i64::try_from(seconds).ok());
        let (expires, options) = (Datum::optional(expires), Datum::string_map(lease.options()));
        if let Some(uuid) = same {
            for (column, datum) in [(columns.expires, expires), (columns.options, options)] {
                let before = transaction.row(columns.this, uuid).map(|row| row.get(column).clone());
                is_changed |= before.as_ref() != Some(&datum);
                transaction.set(columns.this, uuid, column, datum);
            }
        } else {
            is_changed = true;
            let mut fields = transaction.schema().table(columns.this).default_fields();
            let address = lease.address.addr().to_string();
            fields[columns.address.0] = Datum::scalar(Atom::from(address.as_str()));
            fields[columns.source.0] = Datum::scalar(Atom::from(DHCP));
            (fields[columns.expires.0], fields[columns.options.0]) = (expires, options);
            let uuid = transaction.new_uuid();
            transaction.insert(columns.this, uuid, fields);
            own.push(uuid);
        }
    }
    if is_changed {
        transaction.set(tables.ports.this, port, tables.ports.leases, reference_set(own));
        host::show_next(tables, transaction, sequence);
    }
    Ok(())
}
