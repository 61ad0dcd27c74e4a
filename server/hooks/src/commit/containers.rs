//! A container's row keeps its port's row: it comes, follows and goes with it, in the same transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nonnet_engine::{Row, RowChange, Transaction};
use nonnet_schema::{Atom, ColumnIndex, Datum, Uuid};

use super::names::{BY_PLACE, by_name};
use crate::compile::is_read;
use crate::fault::Fault;
use crate::tables::lxc::{Attached, Attachment};
use crate::tables::{Tables, lxc, ports, reference, text, text_set};

/// A column of a port that follows the container's row, by place and name, and what it must hold.
type Derived = (ColumnIndex, &'static str, Datum);

/// Brings the ports of all containers that the transaction concerns into line.
pub(super) fn derive(tables: &Tables, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
    let mut concerned: BTreeSet<Uuid> = BTreeSet::new();
    let mut ports: BTreeMap<Uuid, Vec<RowChange>> = BTreeMap::new();
    let mut arrived: BTreeSet<String> = BTreeSet::new();
    for change in transaction.changes() {
        if !is_read(transaction.schema().table(change.table), &change) {
            continue;
        }
        if change.table == tables.lxc.this {
            if let Some(old) = &change.old {
                lxc::lifecycle::check_change(&tables.lxc, old, change.new.as_deref())?;
            }
            concerned.insert(change.uuid);
        } else if change.table == tables.ports.this {
            let row = change.new.as_ref().or(change.old.as_ref());
            if let Some(lxc) = row.and_then(|row| reference(row, tables.ports.lxc)) {
                concerned.insert(lxc);
                ports.entry(lxc).or_default().push(change);
            }
        } else if let (None, Some(new)) = (&change.old, &change.new) {
            let bridge = (change.table == tables.bridges.this).then_some(tables.bridges.name);
            let network = (change.table == tables.networks.this).then_some(tables.networks.name);
            arrived.extend(bridge.or(network).map(|column| text(new, column).to_owned()));
        }
    }
    if !arrived.is_empty() {
        concerned.extend(waiting(tables, transaction, &arrived));
    }
    for uuid in concerned {
        let changes = ports.remove(&uuid).unwrap_or_default();
        follow(tables, transaction, uuid, &changes)?;
    }
    Ok(())
}

/// The containers that name one of these bridges or networks. Bridges and networks come rarely, so that a walk over all containers is cheap.
fn waiting(tables: &Tables, transaction: &Transaction<'_>, arrived: &BTreeSet<String>) -> Vec<Uuid> {
    let names = |row: &&Arc<Row>| {
        let network = row.get(tables.lxc.properties).get_str("network").unwrap_or_default();
        arrived.contains(text(row, tables.lxc.bridge)) || arrived.contains(network)
    };
    transaction
        .rows(tables.lxc.this)
        .filter(names)
        .map(|row| row.uuid())
        .collect()
}

/// Makes the port of one container what its row says; `changes` are those of its ports by the client.
fn follow(tables: &Tables, transaction: &mut Transaction<'_>, uuid: Uuid, changes: &[RowChange]) -> Result<(), Fault> {
    let kept = kept_ports(tables, transaction, uuid, changes);
    let row = transaction.row(tables.lxc.this, uuid).cloned();
    let attachment = row.as_ref().map(|row| lxc::attachment(&tables.lxc, row)).transpose()?;
    row.as_ref().map(|row| lxc::objects(&tables.lxc, row)).transpose()?;
    let (Some(row), Some(Attachment::Port(attached))) = (row, attachment) else {
        for port in kept {
            transaction.delete(tables.ports.this, port.uuid());
        }
        return Ok(());
    };
    let derived = derived(tables, transaction, attached);
    check_untouched(tables, transaction, &row, &derived, changes)?;
    let mut kept = kept.into_iter();
    let port = kept.next();
    if let Some(second) = kept.next() {
        let why = format!("lxc row \"{}\" has its port already", lxc::id(&tables.lxc, &row));
        return Err(Fault::new(
            ports::Columns::NAME,
            text(&second, tables.ports.name),
            "lxc",
            why,
        ));
    }
    put(tables, transaction, uuid, port.as_deref(), &derived);
    Ok(())
}

fn kept_ports(tables: &Tables, transaction: &mut Transaction<'_>, uuid: Uuid, changes: &[RowChange]) -> Vec<Arc<Row>> {
    let key = [Datum::scalar(uuid), Datum::empty_set(), Datum::empty_set()];
    let mut kept = transaction.rows_by_index(tables.ports.this, BY_PLACE, &key);
    for port in changes.iter().filter_map(|change| change.new.clone()) {
        if kept.iter().all(|other| other.uuid() != port.uuid()) {
            kept.push(port);
        }
    }
    kept
}

fn derived(tables: &Tables, transaction: &mut Transaction<'_>, attached: Attached) -> Vec<Derived> {
    let columns = &tables.ports;
    let bridge = by_name(transaction, tables.bridges.this, &attached.bridge);
    let network = attached
        .network
        .and_then(|name| by_name(transaction, tables.networks.this, &name));
    // A network without a bridge that has a parent is one of macvlans.
    let network_row = network.and_then(|uuid| transaction.row(tables.networks.this, uuid));
    let is_parented = network_row
        .is_some_and(|row| row.get(tables.networks.bridge).is_empty() && !text(row, tables.networks.parent).is_empty());
    let kind = if bridge.is_none() && is_parented {
        "macvlan"
    } else {
        "veth"
    };
    vec![
        (columns.name, "name", Datum::scalar(Atom::from(attached.name.as_str()))),
        (columns.kind, "kind", Datum::scalar(Atom::from(kind))),
        (columns.bridge, "bridge", Datum::optional(bridge)),
        (columns.network, "network", Datum::optional(network)),
        (columns.netns, "netns", Datum::empty_set()),
        (columns.ifname, "ifname", Datum::empty_set()),
        (columns.mac, "mac", Datum::optional(attached.mac)),
        (columns.mtu, "mtu", Datum::optional(attached.mtu)),
        (columns.addresses, "addresses", text_set(attached.addresses)),
        (columns.gateways, "gateways", text_set(attached.gateway)),
    ]
}

/// Refuses what the client did to a port of a container in another way than through the container's row.
fn check_untouched(
    tables: &Tables,
    transaction: &Transaction<'_>,
    lxc: &Row,
    derived: &[Derived],
    changes: &[RowChange],
) -> Result<(), Fault> {
    let id = lxc::id(&tables.lxc, lxc);
    let before = transaction.database().table(tables.lxc.this).row(lxc.uuid());
    let same = before.is_some_and(|before| **before == *lxc);
    for change in changes {
        match (&change.old, &change.new) {
            (Some(old), None) if same && changes.iter().all(|change| change.new.is_none()) => {
                let why = format!(
                    "lxc row \"{id}\" keeps this port; delete that row, or set its properties:network_type to \"none\""
                );
                return Err(Fault::new(
                    ports::Columns::NAME,
                    text(old, tables.ports.name),
                    "lxc",
                    why,
                ));
            }
            (old, Some(new)) => {
                let touched = |column: ColumnIndex| old.as_ref().is_none_or(|old| old.get(column) != new.get(column));
                let wrong = derived
                    .iter()
                    .find(|(column, _, datum)| new.get(*column) != datum && touched(*column));
                if let Some((_, column, _)) = wrong {
                    let why = format!("it follows lxc row \"{id}\"; change it there");
                    return Err(Fault::new(
                        ports::Columns::NAME,
                        text(new, tables.ports.name),
                        column,
                        why,
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes the derived columns. A link's name and kind are a row's for life, so that another name or kind makes another row.
fn put(tables: &Tables, transaction: &mut Transaction<'_>, lxc: Uuid, port: Option<&Row>, derived: &[Derived]) {
    let columns = &tables.ports;
    let same_name = |port: &&Row| {
        derived
            .iter()
            .all(|(column, _, datum)| ![columns.name, columns.kind].contains(column) || port.get(*column) == datum)
    };
    if let Some(port) = port.filter(same_name) {
        for (column, _, datum) in derived {
            transaction.set(columns.this, port.uuid(), *column, datum.clone());
        }
        return;
    }
    let schema = transaction.schema().table(columns.this);
    let mut fields = schema.default_fields();
    if let Some(port) = port {
        for (column, _) in schema.declared_columns().filter(|(_, column)| column.persistent) {
            fields[column.0] = port.get(column).clone();
        }
        transaction.delete(columns.this, port.uuid());
    }
    fields[columns.lxc.0] = Datum::scalar(lxc);
    for (column, _, datum) in derived {
        fields[column.0] = datum.clone();
    }
    let uuid = transaction.new_uuid();
    transaction.insert(columns.this, uuid, fields);
}
