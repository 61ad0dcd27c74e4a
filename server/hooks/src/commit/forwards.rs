//! Forwards among each other: no packet is for two of them. Also what the packet filter needs of the rows around it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use nonnet_engine::{Row, RowChange, Transaction};
use nonnet_schema::Uuid;

use crate::fault::Fault;
use crate::tables::firewall::{Isolation, Policy};
use crate::tables::forwards::{self, Forward};
use crate::tables::ports::Blame;
use crate::tables::{Tables, firewall, networks, reference, references, text};

/// Checks the forwards that changed, these ports, and the networks that the packet filter keeps apart, if one of them changed.
pub(super) fn check(
    tables: &Tables,
    transaction: &Transaction<'_>,
    changes: &[RowChange],
    ports: &BTreeSet<Uuid>,
) -> Result<(), Fault> {
    let there = || changes.iter().filter(|change| change.new.is_some());
    let of = |table| there().any(|change| change.table == table);
    if of(tables.networks.this) {
        check_shared_bridges(tables, transaction)?;
    }
    for row in ports
        .iter()
        .filter_map(|uuid| transaction.row(tables.ports.this, *uuid))
    {
        check_port(tables, transaction, row)?;
    }
    let fresh: BTreeSet<Uuid> = there()
        .filter(|change| change.table == tables.forwards.this)
        .map(|change| change.uuid)
        .collect();
    if fresh.is_empty() {
        return Ok(());
    }
    check_collisions(tables, transaction, &fresh)
}

/// In the order of their first ports, a forward can collide only with those that begin within it.
fn check_collisions(tables: &Tables, transaction: &Transaction<'_>, changed: &BTreeSet<Uuid>) -> Result<(), Fault> {
    let columns = &tables.forwards;
    let mut all: Vec<(Forward, Uuid)> = Vec::new();
    for row in transaction.rows(columns.this) {
        all.push((forwards::forward(columns, row)?, row.uuid()));
    }
    all.sort_by_key(|(forward, uuid)| (forward.port, *uuid));
    let ports = OnceCell::new();
    for (at, (one, uuid)) in all.iter().enumerate() {
        let within = all
            .iter()
            .skip(at + 1)
            .take_while(|(other, _)| other.port <= one.last());
        for (other, of_other) in within {
            if !one.collides(other) || !(changed.contains(uuid) || changed.contains(of_other)) {
                continue;
            }
            let (own, own_uuid, theirs, their_uuid) = if changed.contains(of_other) {
                (other, of_other, one, uuid)
            } else {
                (one, uuid, other, of_other)
            };
            // What no port has any more goes with this transaction.
            let ports = ports.get_or_init(|| holders(tables, transaction));
            let (Some(of), Some(who)) = (ports.get(own_uuid), ports.get(their_uuid)) else {
                continue;
            };
            let [of, who] = [of, who].map(|row| Blame::new(tables, transaction, row).subject());
            let why = format!("it collides with {theirs} of {who}");
            return Err(Fault::new(
                forwards::Columns::NAME,
                &format!("{own} of {of}"),
                "port",
                why,
            ));
        }
    }
    Ok(())
}

/// The rows of the ports that have forwards, by forward. Walks over all ports: only for those that collide.
fn holders<'a>(tables: &Tables, transaction: &'a Transaction<'_>) -> HashMap<Uuid, &'a Arc<Row>> {
    let mut holders = HashMap::new();
    for row in transaction.rows(tables.ports.this) {
        holders.extend(references(row, tables.ports.forwards).map(|uuid| (uuid, row)));
    }
    holders
}

/// What a port asks of the packet filter must be possible where it is.
fn check_port(tables: &Tables, transaction: &Transaction<'_>, row: &Arc<Row>) -> Result<(), Fault> {
    let columns = &tables.ports;
    let blame = Blame::new(tables, transaction, row);
    let network = reference(row, columns.network).and_then(|uuid| transaction.row(tables.networks.this, uuid));
    let bridge = reference(row, columns.bridge)
        .or_else(|| network.and_then(|network| reference(network, tables.networks.bridge)))
        .and_then(|uuid| transaction.row(tables.bridges.this, uuid));
    for (column, name) in [(columns.anti_spoof, "anti_spoof"), (columns.isolated, "isolated")] {
        if row.get(column).as_bool() == Some(true) && bridge.is_none() {
            return Err(blame.fault(name, "only a port of a bridge can be kept from others"));
        }
    }
    if row.get(columns.forwards).is_empty() {
        return Ok(());
    }
    let policy = network
        .map(|network| firewall::policy(&tables.networks, network))
        .transpose()?;
    if policy.is_some_and(|policy| policy.internal) {
        return Err(blame.fault("forwards", "its network is internal: there is no way in"));
    }
    let dynamic = network.is_some_and(|network| text(network, tables.networks.ipam) == "dhcp");
    let rows = references(row, columns.leases).filter_map(|uuid| transaction.row(tables.leases.this, uuid));
    let leased: Vec<bool> = rows
        .map(|lease| !text(lease, tables.leases.address).contains(':'))
        .collect();
    for uuid in references(row, columns.forwards) {
        let Some(row) = transaction.row(tables.forwards.this, uuid) else {
            continue;
        };
        let forward = forwards::forward(&tables.forwards, row)?;
        if !dynamic && !leased.iter().any(|ipv4| forward.listen.has(*ipv4)) {
            let why = format!("{forward} leads nowhere: the port has no address of that family");
            return Err(blame.fault("forwards", why));
        }
    }
    Ok(())
}

/// Networks on one bridge share its wire: they are apart from others together, or not at all.
fn check_shared_bridges(tables: &Tables, transaction: &Transaction<'_>) -> Result<(), Fault> {
    let columns = &tables.networks;
    let mut of_bridge: BTreeMap<Uuid, (String, Policy)> = BTreeMap::new();
    for row in transaction.rows(columns.this) {
        let Some(bridge) = reference(row, columns.bridge) else {
            continue;
        };
        let name = text(row, columns.name);
        let policy = firewall::policy(columns, row)?;
        let Some((other, of_other)) = of_bridge.get(&bridge) else {
            of_bridge.insert(bridge, (name.to_owned(), policy));
            continue;
        };
        let kept = |policy: &Policy| matches!(policy.isolation, Isolation::Network | Isolation::Port);
        let column = if policy.internal != of_other.internal {
            "internal"
        } else if kept(&policy) != kept(of_other) {
            "isolation"
        } else {
            continue;
        };
        let bridge = transaction.row(tables.bridges.this, bridge);
        let bridge = bridge.map_or("", |row| text(row, tables.bridges.name));
        let why = format!("network \"{other}\" is on the same bridge \"{bridge}\" and says otherwise");
        return Err(Fault::new(networks::Columns::NAME, name, column, why));
    }
    Ok(())
}
