//! Ports: one attachment each.

mod addresses;
mod blame;
mod check;
mod kind;
mod objects;
mod peers;
mod place;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ecow::{EcoString, eco_format};
use ipnet::IpNet;
use nonnet_engine::Row;
use nonnet_schema::Uuid;

use self::addresses::{named_subnet, static_address};
pub(crate) use self::blame::Blame;
use self::check::{check_port, check_vlans};
use self::kind::Source;
use self::objects::{client, objects};
use self::peers::{Peers, behind, own_peers};
use self::place::{bridge, ifname, netns};
use crate::address;
use crate::fault::Fault;
use crate::link::check_name;
use crate::name::{LinkName, Mac};
use crate::naming;
use crate::object::wireguard::Settings;
use crate::object::{self, NetnsRef, Object, Role, Route};
use crate::options::{self, Options};
use crate::reconcile::Desired;
use crate::sysctl;
use crate::tables::firewall::Isolation;
use crate::tables::lxc::Attachment;
use crate::tables::networks::{self, Network};
use crate::tables::{Rows, Tables, View, leases, lxc, number, reference, references, routes, switched, text, text_map, texts};

super::columns!(
    "ports"; name, kind, lxc, network, bridge, netns, ifname, parent, mode, members, mac, mtu, tag, trunks, addresses, leases, gateways,
    routes, forwards, peers, names, sysctls, options, enabled, isolated, anti_spoof, ingress_rate, egress_rate, mirror, other_config,
    external_ids, status, error, ifindex, mac_in_use, addresses_in_use, link_state, statistics,
);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// The name of a port inside its namespace, where the row has none.
pub(crate) const IFNAME: &str = "eth0";

/// A port as its row describes it, together with the rows it refers to.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub name: LinkName,
    pub kind: object::PortKind,
    pub ifname: LinkName,
    pub netns: NetnsRef,
    pub network: Option<Network>,
    /// The bridge: the port's own, else its network's.
    pub bridge: Option<Uuid>,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    /// The addresses that the row names.
    pub addresses: Vec<IpNet>,
    /// The subnets of its network in which it is to be given an address.
    pub subnets: Vec<IpNet>,
    /// Whether it asks a DHCP server for its IPv4 address.
    pub dhcp: bool,
    pub gateways: Vec<IpAddr>,
    pub routes: Vec<Route>,
    pub options: Options,
    /// The links that a bond is to have.
    pub members: Vec<LinkName>,
    pub up: bool,
    pub isolated: bool,
    /// Settings by path below `/proc/sys/net`.
    pub sysctls: BTreeMap<EcoString, EcoString>,
    /// Keys and peers, where it is a `WireGuard`.
    pub wireguard: Option<Settings>,
    /// The other ends of a VXLAN tunnel.
    pub ends: BTreeSet<IpAddr>,
    /// What is behind its peers and is to be reached by routes through it.
    pub behind: BTreeSet<IpNet>,
}

/// The parent of a port that is a macvlan or macvtap, and whether it takes it over.
pub(crate) fn macvlan_parent(tables: &Tables, rows: &dyn Rows, row: &Row) -> Option<(EcoString, bool)> {
    let columns = &tables.ports;
    let own = reference(row, columns.bridge).is_some();
    if !matches!(text(row, columns.kind), "" | "macvlan" | "macvtap") {
        return None;
    }
    let network = reference(row, columns.network).and_then(|uuid| rows.row(tables.networks.this, uuid));
    let on_bridge = own || network.is_some_and(|row| reference(row, tables.networks.bridge).is_some());
    let source = Source {
        tables,
        row,
        network,
        on_bridge,
    };
    let is_macvlan = matches!(source.word(), "macvlan" | "macvtap");
    let parent = is_macvlan.then(|| source.parent().ok().flatten())??;
    Some((parent.as_str().into(), text(row, columns.mode) == "passthru"))
}

pub(crate) fn wanted(view: &View<'_>, row: &Row) -> Desired {
    let lxc = reference(row, view.tables.ports.lxc).and_then(|uuid| view.rows.row(view.tables.lxc.this, uuid));
    if lxc.is_some_and(|lxc| lxc::stays_stopped(&view.tables.lxc, lxc)) {
        return Desired::Objects(Vec::new());
    }
    if let Some(reason) = waits_for(view, row) {
        return Desired::Waiting(reason);
    }
    let ready = port(view.tables, view.rows, row).and_then(|port| {
        let lease = references(row, view.tables.ports.leases)
            .filter_map(|uuid| view.rows.row(view.tables.leases.this, uuid))
            .find_map(|lease| leases::dhcp_lease(&view.tables.leases, lease));
        let client = port.dhcp.then(|| Object::Dhcp(client(view, row, &port, lease.clone())));
        let (members, bond) = (port.members.clone(), port.name.clone());
        let members = members
            .into_iter()
            .map(|name| Object::Port(object::Port::taken(name, bond.clone(), Role::Member)));
        let objects = objects(view, row, port, lease.as_ref())?;
        Ok(objects.into_iter().chain(client).chain(members).collect())
    });
    match ready {
        Ok(objects) => Desired::Objects(objects),
        Err(fault) => Desired::Invalid(fault.to_string().into()),
    }
}

/// What a port that a container's row keeps still lacks: rows that are named there and do not exist.
fn waits_for(view: &View<'_>, row: &Row) -> Option<EcoString> {
    let columns = &view.tables.ports;
    let lxc = view.rows.row(view.tables.lxc.this, reference(row, columns.lxc)?)?;
    let Ok(Attachment::Port(attached)) = lxc::attachment(&view.tables.lxc, lxc) else {
        return None;
    };
    if let Some(network) = attached.network.filter(|_| row.get(columns.network).is_empty()) {
        return Some(eco_format!(
            "network \"{network}\" does not exist: it takes a row of that name in table networks"
        ));
    }
    if !attached.bridge.is_empty() && row.get(columns.bridge).is_empty() {
        let bridge = attached.bridge;
        return Some(eco_format!(
            "bridge \"{bridge}\" does not exist: it takes a row of that name in table bridges"
        ));
    }
    None
}

/// The port that a row describes.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn port(tables: &Tables, rows: &dyn Rows, row: &Row) -> Result<Port, Fault> {
    let columns = &tables.ports;
    let blame = Blame::new(tables, rows, row);
    let name = check_name(text(row, columns.name)).map_err(|error| blame.fault("name", error))?;
    let network_row = reference(row, columns.network).and_then(|uuid| rows.row(tables.networks.this, uuid));
    let network = network_row
        .map(|row| networks::network(&tables.networks, row))
        .transpose()?;
    let bridge =
        bridge(row.get(columns.bridge).as_uuid(), network.as_ref()).map_err(|why| blame.fault("bridge", why))?;
    let source = Source {
        tables,
        row,
        network: network_row,
        on_bridge: bridge.is_some(),
    };
    switched::check_port(tables, rows, row, bridge, &blame)?;
    // What Open vSwitch makes is no link of a kind of the kernel's.
    let is_on_host = switched::is_on_host(tables, row);
    let kind = if is_on_host { Ok(object::PortKind::Veth) } else { source.kind() };
    let kind = kind.map_err(|(column, why)| blame.fault(column, why))?;
    let (wireguard, ends) = match own_peers(tables, rows, &source, &kind)? {
        Peers::None => (None, BTreeSet::new()),
        Peers::Wireguard(settings) => (Some(settings), BTreeSet::new()),
        Peers::Vxlan(ends) => (None, ends),
    };
    let is_pair = kind == object::PortKind::Veth && !is_on_host;
    let netns = netns(tables, rows, row).map_err(|why| blame.fault("netns", why))?;
    let ifname = ifname(text(row, columns.ifname), (&name, &netns), is_pair)
        .map_err(|(column, why)| blame.fault(column, why))?;
    if matches!(kind, object::PortKind::Adopted(_)) && netns != NetnsRef::Host {
        return Err(blame.fault("netns", "an adopted link stays where it is, in the server's own namespace"));
    }
    if !is_pair && netns != NetnsRef::Host && bridge.is_some() {
        let why = format!("a {} inside a namespace cannot be a port of a bridge", source.word());
        return Err(blame.fault("bridge", why));
    }
    let sysctls = text_map(row, columns.sysctls);
    let is_host = netns == NetnsRef::Host;
    let sysctls = sysctls.iter().map(|(key, value)| sysctl::setting(key, value, &ifname, is_host));
    let sysctls = sysctls.collect::<Result<_, _>>().map_err(|why| blame.fault("sysctls", why))?;
    let mac = row.get(columns.mac).as_str().map(str::parse).transpose();
    let mac = mac.map_err(|error: crate::name::NameError| blame.fault("mac", error))?;
    let bridge_mtu = bridge.and_then(|uuid| rows.row(tables.bridges.this, uuid));
    let bridge_mtu = bridge_mtu.and_then(|row| number(row, tables.bridges.mtu));
    let mtu = number(row, columns.mtu)
        .or(network.as_ref().and_then(|network| network.mtu))
        .or(bridge_mtu);
    let mut subnets: Vec<IpNet> = Vec::new();
    let mut addresses: Vec<IpNet> = Vec::new();
    for text in texts(row, columns.addresses).filter(|text| *text != leases::DHCP) {
        if let Some(subnet) = network.as_ref().and_then(|network| named_subnet(text, network)) {
            subnets.push(subnet);
        } else {
            let address = static_address(text, network.as_ref());
            addresses.push(address.map_err(|why| blame.fault("addresses", why))?);
        }
    }
    let has_ipv4 = addresses.iter().any(|net| net.addr().is_ipv4());
    let asks = texts(row, columns.addresses).any(|text| text == leases::DHCP);
    let dhcp = asks || (!has_ipv4 && network.as_ref().is_some_and(|network| network.dhcp));
    if dhcp && text(row, columns.kind) == "ipvlan" {
        return Err(blame.fault("addresses", "DHCP needs a port with a hardware address of its own, not one of kind ipvlan"));
    }
    let options = options::read(|key| {
        let own = row.get(columns.options).get_str(key);
        own.or_else(|| Some(network.as_ref()?.options.get(key)?.as_str()))
    });
    let options = options.map_err(|(key, why)| blame.fault("options", format!("{key} {why}")))?;
    traffic::check(tables, rows, row, &blame)?;
    naming::check_names(texts(row, columns.names)).map_err(|why| blame.fault("names", why))?;
    let gateways = texts(row, columns.gateways).map(address::host);
    let gateways = gateways
        .collect::<Result<Vec<IpAddr>, _>>()
        .map_err(|error| blame.fault("gateways", error))?;
    let kept_apart = network.as_ref().is_some_and(|network| network.policy.isolation == Isolation::Port);
    let port = Port {
        name,
        members: members(columns, row).map_err(|why| blame.fault("members", why))?,
        kind,
        ifname,
        netns,
        up: row.get(columns.enabled).as_bool().unwrap_or(true),
        isolated: row.get(columns.isolated).as_bool().unwrap_or(false) || kept_apart,
        routes: own_routes(tables, rows, (row, network_row))?,
        network,
        bridge,
        mac,
        mtu,
        addresses,
        subnets,
        dhcp,
        gateways,
        options,
        sysctls,
        behind: behind(&source, wireguard.as_ref()).map_err(|(column, why)| blame.fault(column, why))?,
        wireguard,
        ends,
    };
    check_port(&port, &blame)?;
    check_vlans(tables, rows, row, bridge).map_err(|(column, why)| blame.fault(column, why))?;
    Ok(port)
}

/// The routes that the row names, and its network's.
fn own_routes(tables: &Tables, rows: &dyn Rows, (row, network): (&Row, Option<&Row>)) -> Result<Vec<Route>, Fault> {
    let own = references(row, tables.ports.routes);
    let shared = network.into_iter().flat_map(|row| references(row, tables.networks.routes));
    let routes = own.chain(shared).filter_map(|uuid| rows.row(tables.routes.this, uuid));
    routes.map(|row| routes::route(&tables.routes, row)).collect()
}

fn members(columns: &Columns, row: &Row) -> Result<Vec<LinkName>, crate::name::NameError> {
    texts(row, columns.members).map(LinkName::new).collect()
}

