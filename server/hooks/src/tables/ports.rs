//! Ports: one attachment each.

mod kind;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ecow::{EcoString, eco_format};
use ipnet::{IpNet, Ipv4Net};
use nonnet_engine::Row;
use nonnet_schema::Uuid;

use self::kind::Source;
use crate::address;
use crate::dhcp::Lease;
use crate::fault::Fault;
use crate::link::check_name;
use crate::name::{LinkName, Mac};
use crate::naming;
use crate::object::wireguard::Settings;
use crate::object::{self, Moving, NetnsRef, Object, Role, Route, RouteKind, Vlans};
use crate::options::{self, Options};
use crate::reconcile::Desired;
use crate::sysctl;
use crate::tables::firewall::{self, Isolation, PortFacts};
use crate::tables::lxc::Attachment;
use crate::tables::networks::{self, IPV6_MTU_MIN, Network};
use crate::tables::{
    Rows, Tables, View, bridges, leases, lxc, number, peers, reference, references, routes, switched, text, text_map, texts,
};

super::columns!(
    "ports"; name, kind, lxc, network, bridge, netns, ifname, parent, mode, members, mac, mtu, tag, trunks, addresses, leases, gateways,
    routes, forwards, peers, names, sysctls, options, enabled, isolated, anti_spoof, ingress_rate, egress_rate, mirror, other_config,
    external_ids, status, error, ifindex, mac_in_use, addresses_in_use, link_state, statistics,
);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// The name of a port inside its namespace, where the row has none.
pub(crate) const IFNAME: &str = "eth0";

/// Bytes of a namespace's name at most: that of a file.
const NETNS_NAME_BYTES_MAX: usize = 255;

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

/// Makes faults of one port; a port that a container's row keeps is blamed on that row.
pub(crate) struct Blame<'a> {
    tables: &'a Tables,
    port: &'a Row,
    lxc: Option<&'a Row>,
}

impl<'a> Blame<'a> {
    /// For a port's row.
    pub(crate) fn new(tables: &'a Tables, rows: &'a dyn Rows, port: &'a Row) -> Self {
        let lxc = reference(port, tables.ports.lxc).and_then(|uuid| rows.row(tables.lxc.this, uuid));
        Self { tables, port, lxc }
    }

    /// A fault of a column of the port's row.
    pub(crate) fn fault(&self, column: &str, why: impl std::fmt::Display) -> Fault {
        let Some(lxc) = self.lxc else {
            return Fault::new(Columns::NAME, text(self.port, self.tables.ports.name), column, why);
        };
        let column = match column {
            "name" if text(lxc, self.tables.lxc.veth).is_empty() => "id",
            "name" => "veth",
            "bridge" => "bridge",
            "network" => "properties:network",
            "mac" => "properties:mac",
            "mtu" => "properties:mtu",
            "gateways" => "properties:gateway",
            "addresses" if text(self.port, self.tables.ports.addresses).contains(':') => "properties:ipv6",
            "addresses" => "properties:ipv4",
            other => return Fault::new(Columns::NAME, text(self.port, self.tables.ports.name), other, why),
        };
        Fault::new(lxc::Columns::NAME, lxc::id(&self.tables.lxc, lxc), column, why)
    }

    /// What people call the port's row.
    pub(crate) fn subject(&self) -> String {
        match self.lxc {
            Some(lxc) => format!("lxc row \"{}\"", lxc::id(&self.tables.lxc, lxc)),
            None => format!("port \"{}\"", text(self.port, self.tables.ports.name)),
        }
    }
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

/// What the peers of a port are to it.
enum Peers {
    /// It has none.
    None,
    /// It is a `WireGuard` with these settings.
    Wireguard(Settings),
    /// It is a VXLAN tunnel with these other ends.
    Vxlan(BTreeSet<IpAddr>),
}

/// The peers of a port: its own, and those of its network that are of its kind.
fn own_peers(tables: &Tables, rows: &dyn Rows, source: &Source<'_>, kind: &object::PortKind) -> Result<Peers, Fault> {
    let columns = &tables.peers;
    let blame = Blame::new(tables, rows, source.row);
    let row = |uuid| rows.row(columns.this, uuid);
    let own: Vec<&Row> = references(source.row, tables.ports.peers).filter_map(row).collect();
    let word = source.word();
    if !matches!(word, "wireguard" | "vxlan") {
        let none = own.is_empty().then_some(Peers::None);
        return none.ok_or_else(|| blame.fault("peers", format!("a {word} has no peers")));
    }
    let is_other = |row: &&&Row| ![word, ""].contains(&text(row, columns.kind));
    if let Some(other) = own.iter().find(is_other) {
        let (kind, port) = (text(other, columns.kind), text(source.row, tables.ports.name));
        let why = format!("a {kind} is no peer of {word} port \"{port}\"");
        return Err(peers::fault(columns, other, "kind", why));
    }
    let shared = source.network.into_iter().flat_map(|row| references(row, tables.networks.peers));
    let shared = shared.filter_map(row).filter(|row| text(row, columns.kind) == word);
    let all = own.into_iter().chain(shared);
    if let object::PortKind::Single(single) = kind
        && let object::Spec::Vxlan(vxlan) = &single.spec
    {
        let is_ipv6 = vxlan.local.or(vxlan.remote).is_some_and(|address| address.is_ipv6());
        return peers::of_vxlan(columns, all, is_ipv6).map(Peers::Vxlan);
    }
    let settings = source.wireguard(peers::of_wireguard(columns, all)?);
    settings.map(Peers::Wireguard).map_err(|(column, why)| blame.fault(column, why))
}

/// The prefixes behind the peers of a port that routes through its link are made for.
fn behind(source: &Source<'_>, wireguard: Option<&Settings>) -> Result<BTreeSet<IpNet>, (&'static str, String)> {
    let Some(settings) = wireguard else { return Ok(BTreeSet::new()) };
    if !source.makes_routes()? {
        return Ok(BTreeSet::new());
    }
    Ok(settings.peers.values().flat_map(|peer| &peer.allowed).copied().collect())
}

fn check_port(port: &Port, blame: &Blame<'_>) -> Result<(), Fault> {
    if port.netns == NetnsRef::Host
        && let Some(all) = port.behind.iter().find(|prefix| prefix.prefix_len() == 0)
    {
        let why = format!("the tunnel's own packets would take the route to {all}, too: it takes a namespace of its own, or options:routes false");
        return Err(blame.fault("peers", why));
    }
    let mut seen = BTreeSet::new();
    for address in &port.addresses {
        if !seen.insert(address.addr()) {
            return Err(blame.fault("addresses", format!("{} is there twice", address.addr())));
        }
    }
    let subnets = port.network.iter().flat_map(|network| &network.subnets);
    let mut nets = port.addresses.iter().chain(subnets.map(|subnet| &subnet.net));
    let ipv6 = nets.any(|net| net.addr().is_ipv6());
    if ipv6 && port.mtu.is_some_and(|mtu| mtu < IPV6_MTU_MIN) {
        return Err(blame.fault("mtu", format!("IPv6 needs an MTU of at least {IPV6_MTU_MIN}")));
    }
    // What a DHCP server says is on the link is not known yet.
    let mut on_link = on_link(port);
    on_link.extend(port.dhcp.then(|| IpNet::from(Ipv4Net::default())));
    for (at, gateway) in port.gateways.iter().enumerate() {
        if port.gateways[..at]
            .iter()
            .any(|other| other.is_ipv4() == gateway.is_ipv4())
        {
            return Err(blame.fault("gateways", "there can be one gateway per address family"));
        }
        if !reaches(&on_link, *gateway) {
            return Err(blame.fault("gateways", format!("gateway {gateway} is in no subnet of the port")));
        }
    }
    let mut destinations = BTreeSet::new();
    for route in &port.routes {
        if let Some(gateway) = route.gateway.filter(|gateway| !reaches(&on_link, *gateway)) {
            let why = format!(
                "gateway {gateway} of route {} is in no subnet of the port",
                route.destination
            );
            return Err(blame.fault("routes", why));
        }
        if !destinations.insert((route.destination, route.metric, route.table)) {
            return Err(blame.fault("routes", format!("route {} is there twice", route.destination)));
        }
    }
    Ok(())
}

/// Whether VLANs are told apart where the row speaks of them.
fn check_vlans(tables: &Tables, rows: &dyn Rows, row: &Row, bridge: Option<Uuid>) -> Result<(), (&'static str, &'static str)> {
    let said = [
        ("tag", switched::tag(tables, row).is_some()),
        ("trunks", !row.get(tables.ports.trunks).is_empty()),
    ];
    let bridge = bridge.and_then(|uuid| rows.row(tables.bridges.this, uuid));
    let filters = bridge.is_some_and(|row| {
        switched::is_ovs(&tables.bridges, row) || row.get(tables.bridges.vlan_filtering).as_bool() == Some(true)
    });
    match said.into_iter().find(|(_, is_said)| *is_said && !filters) {
        Some((column, _)) => Err((column, "only a bridge of kind \"ovs\", or with vlan_filtering, tells VLANs apart")),
        None => Ok(()),
    }
}

/// The subnets that the port reaches without a gateway.
fn on_link(port: &Port) -> Vec<IpNet> {
    let subnets = port
        .network
        .iter()
        .flat_map(|network| network.subnets.iter().map(|subnet| subnet.net));
    let is_direct = |route: &&Route| route.gateway.is_none() && route.kind == RouteKind::Unicast;
    let direct = port.routes.iter().filter(is_direct);
    let direct = direct.map(|route| route.destination);
    port.addresses.iter().copied().chain(subnets).chain(direct).collect()
}

fn reaches(on_link: &[IpNet], gateway: IpAddr) -> bool {
    address::is_link_local(gateway) || on_link.iter().any(|net| net.contains(&gateway))
}

fn bridge(own: Option<Uuid>, network: Option<&Network>) -> Result<Option<Uuid>, String> {
    let shared = network.and_then(|network| network.bridge);
    match (own, shared, network) {
        (Some(own), Some(shared), Some(network)) if own != shared => {
            Err(format!("network \"{}\" is on another bridge", network.name))
        }
        _ => Ok(own.or(shared)),
    }
}

/// The subnet of a network that a text names.
fn named_subnet(text: &str, network: &Network) -> Option<IpNet> {
    let named: IpNet = text.parse().ok()?;
    let mut subnets = network.subnets.iter().map(|subnet| subnet.net);
    // Both addresses of a point-to-point subnet are hosts', so that its text may be one of them.
    subnets.find(|subnet| *subnet == named && subnet.prefix_len() + 1 < subnet.max_prefix_len())
}

/// An address with its prefix length; within a network the subnet says it.
fn static_address(text: &str, network: Option<&Network>) -> Result<IpNet, String> {
    let Some(network) = network else {
        return address::interface(text).map_err(|error| error.to_string());
    };
    let (plain, length) = text.split_once('/').unwrap_or((text, ""));
    let host = address::host(plain).map_err(|error| error.to_string())?;
    if address::is_link_local(host) && !length.is_empty() {
        return address::interface(text).map_err(|error| error.to_string());
    }
    let subnet = network.subnet_of(host);
    let subnet = subnet.ok_or_else(|| format!("{host} is in no subnet of network \"{}\"", network.name))?;
    let net = IpNet::new(host, subnet.net.prefix_len()).map_err(|error| error.to_string())?;
    if !length.is_empty() && length.parse() != Ok(net.prefix_len()) {
        return Err(format!(
            "\"{text}\" has another prefix length than its subnet {}",
            subnet.net
        ));
    }
    if subnet.gateway == Some(host) {
        return Err(format!("{host} is the gateway of network \"{}\"", network.name));
    }
    address::check_in_subnet(host, subnet.net).map_err(|error| error.to_string())?;
    Ok(net)
}

/// The name of the end inside: what has no other end has the port's name where it stays on the host.
fn ifname(
    text: &str,
    (name, netns): (&LinkName, &NetnsRef),
    is_pair: bool,
) -> Result<LinkName, (&'static str, String)> {
    let wrong = |error: crate::link::LinkError| ("ifname", error.to_string());
    if *netns != NetnsRef::Host {
        return check_name(if text.is_empty() { IFNAME } else { text }).map_err(wrong);
    }
    match (is_pair, text) {
        (true, "") => Err((
            "netns",
            "a port needs a namespace: its name, its path, or the id of a process in it; \
             a veth of which both ends stay on the host needs ifname"
                .into(),
        )),
        (true, same) if same == name.as_str() => Err(("ifname", "both ends cannot have the same name".into())),
        (true, other) => check_name(other).map_err(wrong),
        (false, "") => Ok(name.clone()),
        (false, same) if same == name.as_str() => Ok(name.clone()),
        (false, other) => Err(("ifname", format!("without a namespace the port is called {name}, not {other}"))),
    }
}

fn members(columns: &Columns, row: &Row) -> Result<Vec<LinkName>, crate::name::NameError> {
    texts(row, columns.members).map(LinkName::new).collect()
}

/// The hardware address of a link whose row names none: always the same, except where the kernel takes that of the link below.
fn derived_mac(kind: &object::PortKind, row: &Row) -> Option<Mac> {
    use object::{MacvlanMode, PortKind, Spec};
    let inherits = match kind {
        PortKind::Veth => false,
        PortKind::Single(single) => match &single.spec {
            Spec::Macvlan(macvlan) | Spec::Macvtap(macvlan) => macvlan.mode == MacvlanMode::Passthru,
            Spec::Ipvlan(_) | Spec::Vlan(_) | Spec::Bond(_) | Spec::Wireguard | Spec::Tun => true,
            Spec::Vxlan(_) | Spec::Geneve(_) | Spec::Tap(_) | Spec::Dummy => false,
        },
        PortKind::Adopted(_) => true,
    };
    (!inherits).then(|| Mac::derived(row.uuid().as_bytes()))
}

/// The namespace: `/path`, the number of a process (also `pid:NUMBER`), or a name; that of the container where the row belongs to one;
/// else the server's own.
fn netns(tables: &Tables, rows: &dyn Rows, row: &Row) -> Result<NetnsRef, String> {
    let text = text(row, tables.ports.netns);
    if !text.is_empty() {
        return named_netns(text);
    }
    let lxc = reference(row, tables.ports.lxc).and_then(|uuid| rows.row(tables.lxc.this, uuid));
    Ok(match lxc {
        Some(lxc) => NetnsRef::Lxc {
            id: lxc::id(&tables.lxc, lxc).into(),
        },
        None => NetnsRef::Host,
    })
}

fn named_netns(text: &str) -> Result<NetnsRef, String> {
    if text.starts_with('/') {
        let parts = text.split('/').skip(1);
        if text.contains('\0') || parts.clone().any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("\"{text}\" is no path in plain form (no '//', '.', '..')"));
        }
        return Ok(NetnsRef::Path(text.into()));
    }
    let digits = text.strip_prefix("pid:").unwrap_or(text);
    if digits.len() < text.len() || text.bytes().all(|byte| byte.is_ascii_digit()) {
        let pid = digits
            .parse()
            .ok()
            .filter(|pid| *pid > 0 && i32::try_from(*pid).is_ok());
        return pid
            .map(NetnsRef::Pid)
            .ok_or_else(|| format!("\"{text}\" is not the id of a process"));
    }
    let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if matches!(text, "." | "..") || text.contains(refused) || text.len() > NETNS_NAME_BYTES_MAX {
        return Err(format!(
            "\"{text}\" is neither a namespace's name, nor its path (from '/'), nor the id of a process"
        ));
    }
    Ok(NetnsRef::Name(text.into()))
}

/// The objects that a port is, and what goes with it.
///
/// # Errors
/// The first forward that is wrong.
fn objects(view: &View<'_>, row: &Row, port: Port, lease: Option<&Lease>) -> Result<Vec<Object>, Fault> {
    let switch = switched::ovs_bridge(view.tables, view.rows, port.bridge);
    let network = port.network.clone();
    let tunnel = tunnel(&port);
    let told = lease.filter(|_| port.options.dns);
    let port = object(view, row, port, lease);
    let facts = PortFacts {
        link: &port.name,
        bridge: port.bridge.as_ref(),
        mac: port.mac,
        addresses: &port.addresses,
        switched: switch.is_some(),
    };
    let guard = firewall::flows(view, row, &facts);
    let firewall = firewall::of_port(view, row, &facts)?;
    let firewall = Some(firewall).filter(|firewall| !firewall.is_empty());
    let addresses: Vec<IpAddr> = port.addresses.iter().map(IpNet::addr).collect();
    let traffic = traffic::wanted(view, row, &port);
    let names = naming::resolv_conf(network.as_ref(), &port.netns, &addresses, told);
    let mut objects = match switch {
        Some(bridge) => switched::port(view.tables, (row, bridge), port, (traffic.as_ref(), guard)),
        None => vec![Object::Port(port)],
    };
    objects.extend(firewall.map(Object::Firewall));
    objects.extend(traffic.map(Object::Traffic));
    objects.extend(names.map(Object::ResolvConf));
    objects.extend(tunnel.map(|tunnel| Object::Wireguard(Box::new(tunnel))));
    Ok(objects)
}

/// The keys and peers on the port's link.
fn tunnel(port: &Port) -> Option<object::Wireguard> {
    let userspace = matches!(&port.kind, object::PortKind::Single(single) if single.spec == object::Spec::Tun);
    Some(object::Wireguard {
        port: port.name.clone(),
        netns: port.netns.clone(),
        ifname: port.ifname.clone(),
        userspace,
        settings: port.wireguard.clone()?,
    })
}

/// The DHCP client of a port.
fn client(view: &View<'_>, row: &Row, port: &Port, lease: Option<Lease>) -> object::Dhcp {
    let mut request = port.options.request.clone();
    if request.client_id.is_empty() {
        // RFC 4361: no interface told apart, a DUID of type UUID (RFC 6355).
        request.client_id = [&[255, 0, 0, 0, 0, 0, 4], row.uuid().as_bytes().as_slice()].concat();
    }
    if !port.options.named {
        let lxc = reference(row, view.tables.ports.lxc).and_then(|uuid| view.rows.row(view.tables.lxc.this, uuid));
        let name = match (&port.netns, lxc) {
            (_, Some(lxc)) => Some(lxc::id(&view.tables.lxc, lxc).into()),
            (NetnsRef::Name(name), None) => Some(name.clone()),
            _ => None,
        };
        request.host_name = name.filter(|name: &EcoString| options::is_host_name(name));
    }
    object::Dhcp {
        port: port.name.clone(),
        netns: port.netns.clone(),
        ifname: port.ifname.clone(),
        request,
        lease,
    }
}

/// The object that a port is, with what a DHCP server gave it.
fn object(view: &View<'_>, row: &Row, port: Port, lease: Option<&Lease>) -> object::Port {
    let addresses = all_addresses(view, row, &port);
    let gateways = [true, false].into_iter().filter_map(|ipv4| gateway(&port, &addresses, ipv4));
    let mut defaults: Vec<Route> = gateways.map(Route::default_via).collect();
    let mut routes = port.routes;
    for route in lease.map(Lease::routes).into_iter().flatten() {
        let place = if route.is_default() { &mut defaults } else { &mut routes };
        if place.iter().all(|other| other.slot() != route.slot()) {
            place.push(route);
        }
    }
    // The kernel makes a route to each subnet that the port has an address in.
    let is_connected = |prefix: &IpNet| addresses.iter().any(|own| own.trunc() == *prefix);
    for prefix in port.behind.iter().filter(|prefix| !is_connected(prefix)) {
        let route = Route::to(*prefix, None);
        let place = if route.is_default() { &mut defaults } else { &mut routes };
        if place.iter().all(|other| other.slot() != route.slot()) {
            place.push(route);
        }
    }
    if port.options.rank.is_none() {
        defaults.clear();
    }
    let mut sysctls = port.sysctls;
    if port.options.accept_ra {
        // 2: also where the namespace forwards.
        for (name, value) in [("accept_ra", "2"), ("autoconf", "1")] {
            let path = eco_format!("ipv6/conf/{}/{name}", port.ifname);
            sysctls.entry(path).or_insert_with(|| value.into());
        }
    }
    let bridge = port
        .bridge
        .and_then(|uuid| view.rows.row(view.tables.bridges.this, uuid));
    object::Port {
        mac: port.mac.or_else(|| derived_mac(&port.kind, row)),
        kind: port.kind,
        datapath: None,
        up: port.up,
        isolated: port.isolated,
        hairpin: port.bridge.is_some() && !row.get(view.tables.ports.forwards).is_empty(),
        mtu: port.mtu.or(lease.and_then(|lease| lease.mtu)),
        vlans: bridge
            .filter(|row| row.get(view.tables.bridges.vlan_filtering).as_bool() == Some(true))
            .map(|_| Vlans::access(switched::tag(view.tables, row), switched::vlans(row, view.tables.ports.trunks))),
        bridge: bridge.and_then(|row| bridges::link_name(&view.tables.bridges, row).ok()),
        ipv6: port.options.accept_ra || addresses.iter().any(|address| address.addr().is_ipv6()),
        name: port.name,
        ifname: port.ifname,
        netns: port.netns,
        addresses,
        ends: port.ends,
        routes,
        defaults,
        rank: port.options.rank.unwrap_or(u32::MAX),
        sysctls,
        moving: Moving::default(),
    }
}

/// The addresses that the row names, then those that it was given.
fn all_addresses(view: &View<'_>, row: &Row, port: &Port) -> Vec<IpNet> {
    let columns = &view.tables.leases;
    let mut addresses = port.addresses.clone();
    let given = references(row, view.tables.ports.leases)
        .filter_map(|uuid| view.rows.row(columns.this, uuid))
        .filter(|lease| text(lease, columns.source) != leases::STATIC);
    addresses.extend(given.filter_map(|lease| {
        if let Some(lease) = leases::dhcp_lease(columns, lease) {
            return Some(IpNet::V4(lease.address));
        }
        let address: IpAddr = text(lease, columns.address).parse().ok()?;
        let subnet = port.network.as_ref()?.subnet_of(address)?;
        IpNet::new(address, subnet.net.prefix_len()).ok()
    }));
    addresses.sort_unstable();
    addresses
}

/// The gateway of one family: the row's own, else that of the network's subnet in which the port has an address.
fn gateway(port: &Port, addresses: &[IpNet], ipv4: bool) -> Option<IpAddr> {
    let own = port.gateways.iter().find(|gateway| gateway.is_ipv4() == ipv4);
    let shared = || {
        let network = port.network.as_ref()?;
        let mut of_family = addresses.iter().filter(|address| address.addr().is_ipv4() == ipv4);
        of_family.find_map(|address| network.subnet_of(address.addr())?.gateway)
    };
    own.copied().or_else(shared)
}
