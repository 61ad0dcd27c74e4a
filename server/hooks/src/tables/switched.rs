//! What rows about Open vSwitch want: bridges of kind `ovs`, their uplinks, and the ports on them.

use std::collections::{BTreeMap, BTreeSet};

use ecow::EcoString;
use nonnet_engine::Row;
use nonnet_schema::{Atom, ColumnIndex, Uuid};

use crate::fault::Fault;
use crate::link::check_name;
use crate::name::Mac;
use crate::object::{
    self, Addresses, DATAPATH_NETDEV, Datapath, INTERNAL, Object, OvsBridge, OvsGuard, OvsPort, PATCH, Traffic,
};
use crate::tables::ports::Blame;
use crate::tables::{Rows, Tables, bridges, number, text, texts};

/// Keys of a bridge's `other_config` that are about Open vSwitch.
const DATAPATH_TYPE: &str = "datapath_type";
const FAIL_MODE: &str = "fail_mode";
const CONTROLLER: &str = "controller";

/// The key of a patch port's `options` that names its other end.
const PEER: &str = "peer";

/// Whether a row in `bridges` is about a bridge of Open vSwitch.
pub(crate) fn is_ovs(columns: &bridges::Columns, bridge: &Row) -> bool {
    text(bridge, columns.kind) == "ovs"
}

/// Whether a row in `ports` is about a port that stays on the host under its own name.
pub(crate) fn is_on_host(tables: &Tables, port: &Row) -> bool {
    matches!(text(port, tables.ports.kind), INTERNAL | PATCH)
}

/// The objects of a bridge's row: the bridge, as yet without IPv6, and a port for each uplink.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn bridge(columns: &bridges::Columns, row: &Row) -> Result<(OvsBridge, Vec<OvsPort>), Fault> {
    let name = bridges::link_name(columns, row)?;
    let fault = |column: &str, why: String| Fault::new(bridges::Columns::NAME, name.as_str(), column, why);
    let mac = row.get(columns.mac).as_str().map(str::parse::<Mac>).transpose();
    let mac = mac.map_err(|error| fault("mac", error.to_string()))?;
    if row.get(columns.adopt).as_bool() == Some(true) {
        return Err(fault("adopt", "a bridge of Open vSwitch cannot be adopted".to_owned()));
    }
    let setting = |key| row.get(columns.other_config).get_str(key);
    let datapath_type = match datapath_type(columns, row) {
        None | Some("system" | "") => EcoString::new(),
        Some(DATAPATH_NETDEV) => DATAPATH_NETDEV.into(),
        Some(other) => {
            let why = format!("\"{other}\" is no datapath: there are \"system\" and \"netdev\" (in user space)");
            return Err(fault("other_config:datapath_type", why));
        }
    };
    let fail_mode = setting(FAIL_MODE).filter(|mode| !mode.is_empty());
    if let Some(other) = fail_mode.filter(|mode| !matches!(*mode, "standalone" | "secure")) {
        let why = format!("\"{other}\" is neither \"standalone\" nor \"secure\"");
        return Err(fault("other_config:fail_mode", why));
    }
    let controllers = setting(CONTROLLER).unwrap_or_default();
    let controllers = controllers.split([',', ' ']).filter(|target| !target.is_empty());
    let uplinks = texts(row, columns.uplinks).map(|uplink| {
        let uplink = check_name(uplink).map_err(|error| fault("uplinks", error.to_string()))?;
        if uplink == name {
            return Err(fault("uplinks", "a bridge is no uplink of itself".to_owned()));
        }
        Ok(OvsPort::system(uplink, name.clone()))
    });
    let uplinks = uplinks.collect::<Result<_, Fault>>()?;
    let bridge = OvsBridge {
        mac: Some(mac.unwrap_or_else(|| Mac::derived(row.uuid().as_bytes()))),
        mtu: number(row, columns.mtu),
        stp: row.get(columns.stp).as_bool().unwrap_or(false),
        mcast_snooping: row.get(columns.mcast_snooping).as_bool().unwrap_or(false),
        datapath_type,
        fail_mode: fail_mode.map(Into::into),
        controllers: controllers.map(Into::into).collect(),
        ipv6: false,
        name: name.clone(),
    };
    Ok((bridge, uplinks))
}

/// Checks what a port's row says about Open vSwitch.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn check_port(
    tables: &Tables,
    rows: &dyn Rows,
    row: &Row,
    bridge: Option<Uuid>,
    blame: &Blame<'_>,
) -> Result<(), Fault> {
    let kind = text(row, tables.ports.kind);
    if row.get(tables.ports.anti_spoof).as_bool() == Some(true)
        && let Some(bridge) = ovs_bridge(tables, rows, bridge)
    {
        if kind == PATCH {
            let why = "what comes through a patch port has the addresses of another bridge's ports";
            return Err(blame.fault("anti_spoof", why));
        }
        let said = |key| bridge.get(tables.bridges.other_config).get_str(key).unwrap_or_default();
        if said(FAIL_MODE) == "secure" || !said(CONTROLLER).is_empty() {
            let name = text(bridge, tables.bridges.name);
            let why =
                format!("the flows of bridge \"{name}\" are its controller's (other_config:controller, fail_mode)");
            return Err(blame.fault("anti_spoof", why));
        }
    }
    if !is_on_host(tables, row) {
        return Ok(());
    }
    if ovs_bridge(tables, rows, bridge).is_none() {
        let why = format!("a port of kind \"{kind}\" needs a bridge of kind \"ovs\"");
        return Err(blame.fault("bridge", why));
    }
    if !text(row, tables.ports.netns).is_empty() {
        let why = format!("a port of kind \"{kind}\" stays in the server's own namespace");
        return Err(blame.fault("netns", why));
    }
    let (name, ifname) = (text(row, tables.ports.name), text(row, tables.ports.ifname));
    if !ifname.is_empty() && ifname != name {
        let why = format!("a port of kind \"{kind}\" has no other name than \"{name}\"");
        return Err(blame.fault("ifname", why));
    }
    if kind == PATCH {
        let peer = row.get(tables.ports.options).get_str(PEER).unwrap_or_default();
        check_name(peer).map_err(|error| blame.fault("options:peer", format!("the name of its other end: {error}")))?;
        if peer == name {
            return Err(blame.fault("options:peer", "a patch port leads to another port"));
        }
        if !row.get(tables.ports.addresses).is_empty() || !row.get(tables.ports.network).is_empty() {
            return Err(blame.fault("addresses", "a patch port has no addresses and is on no network"));
        }
    }
    Ok(())
}

/// The objects of a port on a bridge of Open vSwitch, made of the port as it would be elsewhere.
pub(crate) fn port(
    tables: &Tables,
    (row, bridge_row): (&Row, &Row),
    mut port: object::Port,
    (traffic, guard): (Option<&Traffic>, Option<OvsGuard>),
) -> Vec<Object> {
    let Some(bridge) = port.bridge.take() else {
        return vec![Object::Port(port)];
    };
    let columns = &tables.ports;
    let on_switch = OvsPort {
        tag: tag(tables, row),
        trunks: vlans(row, columns.trunks),
        protected: port.isolated,
        guard,
        leaves_queue: traffic.is_some_and(|traffic| traffic.to_port.is_some()),
        ..OvsPort::system(port.name.clone(), bridge)
    };
    match text(row, columns.kind) {
        INTERNAL => {
            let internal = OvsPort {
                interface: INTERNAL.into(),
                mac: port.mac,
                mtu: port.mtu,
                ipv6: port.ipv6,
                ..on_switch
            };
            let addresses = Addresses {
                link: port.name,
                addresses: port.addresses,
            };
            let mut objects = vec![Object::OvsPort(internal)];
            if !addresses.addresses.is_empty() {
                objects.push(Object::Addresses(addresses));
            }
            objects
        }
        PATCH => {
            let peer = row.get(columns.options).get_str(PEER).unwrap_or_default();
            vec![Object::OvsPort(OvsPort {
                interface: PATCH.into(),
                options: BTreeMap::from([(PEER.into(), peer.into())]),
                ..on_switch
            })]
        }
        _ => {
            let is_netdev = datapath_type(&tables.bridges, bridge_row) == Some(DATAPATH_NETDEV);
            port.datapath = Some(if is_netdev {
                Datapath::UserSpace
            } else {
                Datapath::Kernel
            });
            vec![Object::Port(port), Object::OvsPort(on_switch)]
        }
    }
}

/// The row of a bridge, if it is of Open vSwitch.
pub(crate) fn ovs_bridge<'a>(tables: &Tables, rows: &'a dyn Rows, bridge: Option<Uuid>) -> Option<&'a Row> {
    let row = rows.row(tables.bridges.this, bridge?)?;
    Some(row).filter(|row| is_ovs(&tables.bridges, row))
}

fn datapath_type<'a>(columns: &bridges::Columns, bridge: &'a Row) -> Option<&'a str> {
    bridge.get(columns.other_config).get_str(DATAPATH_TYPE)
}

/// The VLAN in which a port is without a tag. That of a vlan link is in what it sends already.
pub(crate) fn tag(tables: &Tables, port: &Row) -> Option<u16> {
    let tag = number(port, tables.ports.tag).filter(|_| text(port, tables.ports.kind) != "vlan");
    tag.and_then(|tag| u16::try_from(tag).ok())
}

/// The VLANs in a column.
pub(crate) fn vlans(row: &Row, column: ColumnIndex) -> BTreeSet<u16> {
    let keys = row.get(column).keys().filter_map(Atom::as_integer);
    keys.filter_map(|vlan| u16::try_from(vlan).ok()).collect()
}
