//! Networks among each other: their subnets do not overlap, their gateways are nobody's.

use std::collections::BTreeSet;

use ecow::EcoString;
use ipnet::IpNet;
use nonnet_engine::{Row, RowChange, Transaction};

use super::addresses::{holder, lease_of};
use crate::fault::Fault;
use crate::tables::{Tables, networks, text};

/// Checks that no subnet overlaps another, if one of them changed.
pub(super) fn check(tables: &Tables, transaction: &Transaction<'_>, changes: &[RowChange]) -> Result<(), Fault> {
    let names: BTreeSet<&str> = changed(tables, changes)
        .map(|row| text(row, tables.networks.name))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    check_overlaps(tables, transaction, &names)
}

/// Checks that nobody has the gateway of a changed network, once all addresses are settled.
pub(super) fn check_gateways(
    tables: &Tables,
    transaction: &mut Transaction<'_>,
    changes: &[RowChange],
) -> Result<(), Fault> {
    for row in changed(tables, changes) {
        for subnet in networks::network(&tables.networks, row)?.subnets {
            let Some(gateway) = subnet.gateway else { continue };
            if let Some(lease) = lease_of(tables, transaction, gateway) {
                let who = holder(tables, transaction, lease).unwrap_or_else(|| format!("lease {lease}"));
                let (name, why) = (
                    text(row, tables.networks.name),
                    format!("gateway {gateway} is in use by {who}"),
                );
                return Err(Fault::new(networks::Columns::NAME, name, "subnets", why));
            }
        }
    }
    Ok(())
}

/// The networks whose subnets changed.
fn changed<'a>(tables: &Tables, changes: &'a [RowChange]) -> impl Iterator<Item = &'a Row> {
    let columns = tables.networks;
    changes.iter().filter_map(move |change| {
        let new = change.new.as_deref().filter(|_| change.table == columns.this)?;
        let old = change.old.as_deref().map(|old| old.get(columns.subnets));
        (old != Some(new.get(columns.subnets))).then_some(new)
    })
}

/// Subnets in ascending order overlap only if some do that follow each other. The blame is on a network of the `changed`.
fn check_overlaps(tables: &Tables, transaction: &Transaction<'_>, changed: &BTreeSet<&str>) -> Result<(), Fault> {
    let columns = &tables.networks;
    let mut all: Vec<(IpNet, EcoString)> = Vec::new();
    for row in transaction.rows(columns.this) {
        let network = networks::network(columns, row)?;
        all.extend(network.subnets.iter().map(|subnet| (subnet.net, network.name.clone())));
    }
    all.sort_unstable_by(|(a, a_name), (b, b_name)| {
        (a.addr(), a.prefix_len(), a_name).cmp(&(b.addr(), b.prefix_len(), b_name))
    });
    for pair in all.windows(2) {
        let [(wide, one), (narrow, other)] = pair else { continue };
        if wide.contains(&narrow.addr()) {
            let ((own, name), (theirs, of)) = if changed.contains(other.as_str()) {
                ((narrow, other), (wide, one))
            } else {
                ((wide, one), (narrow, other))
            };
            let why = format!("subnet {own} overlaps {theirs} of network \"{of}\"");
            return Err(Fault::new(networks::Columns::NAME, name, "subnets", why));
        }
    }
    Ok(())
}
