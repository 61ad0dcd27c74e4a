//! Bridges, of Linux and of Open vSwitch.

use nonnet_engine::Row;

use crate::fault::Fault;
use crate::link::check_name;
use crate::name::{LinkName, Mac};
use crate::object::{Bridge, Object, OvsBridge, Port, Role};
use crate::reconcile::Desired;
use crate::tables::{View, networks, number, switched, text, texts};

super::columns!(
    "bridges"; name, kind, mac, mtu, stp, vlan_filtering, mcast_snooping, uplinks, adopt, other_config, external_ids, status, error,
);

pub(crate) const READ_BY_REFERRERS: &[&str] = &["name", "mtu", "other_config"];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

pub(crate) fn wanted(view: &View<'_>, row: &Row) -> Desired {
    let this = view.tables.bridges.this;
    let columns = &view.tables.bridges;
    if !switched::is_ovs(columns, row) && row.get(columns.vlan_filtering).as_bool() == Some(true) {
        return Desired::Invalid("vlan_filtering is not supported yet on Linux bridges; a bridge of kind ovs has VLANs".into());
    }
    let on_it = view.referrers.of((this, row.uuid()), view.tables.networks.this);
    let ipv6 = on_it
        .filter_map(|uuid| view.rows.row(view.tables.networks.this, uuid))
        .any(|row| networks::has_ipv6(&view.tables.networks, row));
    let desired = if switched::is_ovs(columns, row) {
        switched::bridge(columns, row).map(|(bridge, uplinks)| {
            let bridge = Object::OvsBridge(OvsBridge { ipv6, ..bridge });
            let uplinks = uplinks.into_iter().map(Object::OvsPort);
            Desired::Objects([bridge].into_iter().chain(uplinks).collect())
        })
    } else {
        bridge(columns, row).map(|bridge| {
            let bridge = Bridge { ipv6, ..bridge };
            let uplinks = texts(row, columns.uplinks).filter_map(|name| LinkName::new(name).ok());
            let uplinks = uplinks.map(|name| Object::Port(Port::taken(name, bridge.name.clone(), Role::Uplink)));
            let uplinks: Vec<Object> = uplinks.collect();
            Desired::Objects([Object::Bridge(bridge)].into_iter().chain(uplinks).collect())
        })
    };
    desired.unwrap_or_else(|fault| Desired::Invalid(fault.to_string().into()))
}

/// The bridge that a row describes, as yet without IPv6.
///
/// Without a hardware address in the row it gets one derived from the row's UUID, since the kernel would change it as ports come and go.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn bridge(columns: &Columns, row: &Row) -> Result<Bridge, Fault> {
    let name = link_name(columns, row)?;
    let mac = row.get(columns.mac).as_str().map(str::parse::<Mac>).transpose();
    let mac = mac.map_err(|error| Fault::new(Columns::NAME, name.as_str(), "mac", error))?;
    for uplink in texts(row, columns.uplinks) {
        let fault = |why: &dyn std::fmt::Display| Fault::new(Columns::NAME, name.as_str(), "uplinks", why);
        LinkName::new(uplink).map_err(|error| fault(&error))?;
        if uplink == name.as_str() {
            return Err(fault(&"a bridge cannot be its own uplink"));
        }
    }
    let adopt = row.get(columns.adopt).as_bool().unwrap_or(false);
    // A bridge that is taken over keeps its address.
    let derived = (!adopt).then(|| Mac::derived(row.uuid().as_bytes()));
    Ok(Bridge {
        mac: mac.or(derived),
        adopt,
        mtu: number(row, columns.mtu),
        stp: row.get(columns.stp).as_bool().unwrap_or(false),
        ipv6: false,
        name,
    })
}

/// The bridge's name.
///
/// # Errors
/// Why it is no link's.
pub(crate) fn link_name(columns: &Columns, row: &Row) -> Result<LinkName, Fault> {
    let name = text(row, columns.name);
    check_name(name).map_err(|error| Fault::new(Columns::NAME, name, "name", error))
}
