//! Parents of macvlans: one of mode `passthru` shares its parent with nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ecow::EcoString;
use nonnet_engine::{Row, RowChange, Transaction};
use nonnet_schema::Uuid;

use crate::fault::Fault;
use crate::tables::Tables;
use crate::tables::ports::{Blame, macvlan_parent};

/// Checks the parents of changed ports. A walk over all ports, where one that changed is a macvlan.
pub(super) fn check(tables: &Tables, transaction: &Transaction<'_>, changes: &[RowChange]) -> Result<(), Fault> {
    let new = changes.iter().filter(|change| change.table == tables.ports.this);
    let new = new.filter_map(|change| change.new.as_ref());
    let concerned: BTreeMap<Uuid, EcoString> = new
        .filter_map(|row| Some((row.uuid(), macvlan_parent(tables, transaction, row)?.0)))
        .collect();
    if concerned.is_empty() {
        return Ok(());
    }
    let parents: BTreeSet<&EcoString> = concerned.values().collect();
    let mut on: BTreeMap<EcoString, Vec<(&Arc<Row>, bool)>> = BTreeMap::new();
    for row in transaction.rows(tables.ports.this) {
        if let Some((parent, alone)) = macvlan_parent(tables, transaction, row)
            && parents.contains(&parent)
        {
            on.entry(parent).or_default().push((row, alone));
        }
    }
    for (parent, ports) in &on {
        let Some((row, _)) = ports.iter().find(|(row, _)| concerned.contains_key(&row.uuid())) else {
            continue;
        };
        let alone = ports.iter().any(|(_, alone)| *alone);
        if let Some((other, _)) = ports.iter().find(|(other, _)| alone && other.uuid() != row.uuid()) {
            let who = Blame::new(tables, transaction, other).subject();
            let why = format!("a macvlan of mode passthru has its parent alone, and {who} is on {parent}, too");
            return Err(Blame::new(tables, transaction, row).fault("parent", why));
        }
    }
    Ok(())
}
