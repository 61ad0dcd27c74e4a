//! The tables of `Open_vSwitch` that matter here (`ovs-vswitchd.conf.db(5)`), and what is read of their rows.

use std::collections::{BTreeMap, BTreeSet};

use ecow::EcoString;
use nonnet_client::{Replica, Row, Selection, Table};
use nonnet_hooks::object::{OvsMark, Owner};
use nonnet_schema::{Atom, Datum, Uuid};

/// The database.
pub(super) const DATABASE: &str = "Open_vSwitch";

/// The table of the one row about the switch.
pub(super) const SWITCH: &str = "Open_vSwitch";
pub(super) const BRIDGE: &str = "Bridge";
pub(super) const PORT: &str = "Port";
pub(super) const INTERFACE: &str = "Interface";
pub(super) const CONTROLLER: &str = "Controller";
pub(super) const QOS: &str = "QoS";

/// The key of `external_ids` that names the row that wants a row.
pub(super) const OWNER: &str = "nonnet";

/// The key of `external_ids` that has the mark of the database that row is in.
pub(super) const MARK: &str = "nonnet-database";

/// The key of a bridge's `other_config` that has its hardware address.
pub(super) const HWADDR: &str = "hwaddr";

/// What is followed.
pub(super) fn selection() -> Selection {
    Selection::all()
        .columns(SWITCH, &["next_cfg", "cur_cfg"])
        .columns(
            BRIDGE,
            &[
                "name",
                "ports",
                "datapath_type",
                "stp_enable",
                "mcast_snooping_enable",
                "fail_mode",
                "controller",
                "other_config",
                "external_ids",
            ],
        )
        .columns(
            PORT,
            &[
                "name",
                "interfaces",
                "tag",
                "trunks",
                "vlan_mode",
                "protected",
                "qos",
                "external_ids",
            ],
        )
        .columns(
            INTERFACE,
            &[
                "name",
                "type",
                "options",
                "mac",
                "mtu_request",
                "external_ids",
                "ofport",
                "error",
            ],
        )
        .columns(CONTROLLER, &["target"])
        .columns(QOS, &["type", "external_ids"])
}

/// The row of that UUID.
pub(super) fn row<'a>(replica: &'a Replica, table: &str, uuid: Uuid) -> Option<&'a Row> {
    replica.table(table)?.get(uuid).map(AsRef::as_ref)
}

/// All rows of a table.
pub(super) fn rows<'a>(replica: &'a Replica, table: &str) -> impl Iterator<Item = (Uuid, &'a Row)> {
    let rows = replica.table(table).into_iter().flat_map(Table::rows);
    rows.map(|(uuid, row)| (uuid, row.as_ref()))
}

/// The text of a column; empty where there is none.
pub(super) fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(column).and_then(|datum| datum.as_str()).unwrap_or_default()
}

pub(super) fn integer(row: &Row, column: &str) -> Option<i64> {
    row.get(column).and_then(Datum::as_integer)
}

pub(super) fn boolean(row: &Row, column: &str) -> bool {
    row.get(column).and_then(Datum::as_bool).unwrap_or(false)
}

/// The value of a key of a map.
pub(super) fn value<'a>(row: &'a Row, column: &str, key: &str) -> Option<&'a str> {
    row.get(column).and_then(|datum| datum.get_str(key))
}

pub(super) fn references(row: &Row, column: &str) -> impl Iterator<Item = Uuid> {
    let keys = row.get(column).into_iter().flat_map(Datum::keys);
    keys.filter_map(Atom::as_uuid)
}

/// The rows of a table that refer to a row in a column.
pub(super) fn referrers<'a>(
    replica: &'a Replica,
    table: &'a str,
    column: &'a str,
    to: Uuid,
) -> impl Iterator<Item = Uuid> + 'a {
    let refers = move |row: &Row| references(row, column).any(|uuid| uuid == to);
    rows(replica, table)
        .filter(move |(_, row)| refers(row))
        .map(|(uuid, _)| uuid)
}

/// The VLANs in a column.
pub(super) fn vlans(row: &Row, column: &str) -> BTreeSet<u16> {
    let keys = row.get(column).into_iter().flat_map(Datum::keys);
    keys.filter_map(|atom| atom.as_integer().and_then(|vlan| u16::try_from(vlan).ok()))
        .collect()
}

pub(super) fn map(row: &Row, column: &str) -> BTreeMap<EcoString, EcoString> {
    let pairs = row.get(column).into_iter().flat_map(|datum| datum.iter());
    let text = |atom: &Atom| atom.as_str().map(EcoString::from);
    pairs
        .filter_map(|(key, value)| Some((text(key)?, text(value?)?)))
        .collect()
}

/// Whose a row is.
pub(super) fn mark(row: &Row) -> OvsMark {
    let owner = value(row, "external_ids", OWNER).unwrap_or_default();
    OvsMark {
        database: value(row, "external_ids", MARK).unwrap_or_default().into(),
        owner: Owner::from_alias(&ecow::eco_format!("nonnet:{owner}")),
    }
}
