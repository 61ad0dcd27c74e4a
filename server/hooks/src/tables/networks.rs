//! Networks: subnets with their gateways on a bridge, and how ports get addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ecow::EcoString;
use ipnet::IpNet;
use nonnet_engine::Row;
use nonnet_schema::{Atom, Uuid};

use crate::address::{self, Range};
use crate::dns::Dns;
use crate::fault::Fault;
use crate::ipam::{Method, Pool};
use crate::naming;
use crate::object::{Addresses, Object};
use crate::reconcile::Desired;
use crate::tables::firewall::{self, Policy};
use crate::tables::{View, bridges, number, reference, text, text_map, texts};

super::columns!(
    "networks"; name, bridge, parent, subnets, ranges, ipam, nat, isolation, internal, mtu, dns, routes, peers, vni, other_config,
    external_ids, status, error, statistics,
);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[
    "bridge", "parent", "subnets", "ipam", "mtu", "routes", "peers", "vni", "isolation", "internal", "other_config", "dns",
];
pub(crate) const READ_BY_TARGETS: &[&str] = &["bridge", "subnets"];

/// Octets that an MTU must have for IPv6 (RFC 8200 5).
pub(crate) const IPV6_MTU_MIN: u32 = 1280;

/// What a range begins with whose addresses no port is given.
const EXCLUDED: char = '!';

/// A network as its row describes it.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub name: EcoString,
    pub bridge: Option<Uuid>,
    /// In the order of their texts.
    pub subnets: Vec<Subnet>,
    pub ranges: Vec<Range>,
    /// Addresses that no port is given.
    pub excluded: Vec<Range>,
    /// None where ports get no address by themselves. Where a DHCP server gives those of IPv4, it is that of IPv6.
    pub method: Option<Method>,
    /// Whether ports ask a DHCP server for their IPv4 addresses.
    pub dhcp: bool,
    /// Options for all ports on it.
    pub options: BTreeMap<EcoString, EcoString>,
    pub mtu: Option<u32>,
    pub policy: Policy,
    pub dns: Dns,
}

/// A subnet of a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subnet {
    pub net: IpNet,
    /// The gateway's address, which this host has on the network's bridge.
    pub gateway: Option<IpAddr>,
}

impl Network {
    /// The subnet that has this address.
    pub(crate) fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net.contains(&address))
    }

    /// True for an address of a gateway.
    pub(crate) fn is_gateway(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.gateway == Some(address))
    }

    /// The subnets of one family with the addresses that ports may get there.
    pub(crate) fn pools(&self, ipv4: bool) -> impl Iterator<Item = (IpNet, Pool)> {
        let subnets = self
            .subnets
            .iter()
            .filter(move |subnet| subnet.net.addr().is_ipv4() == ipv4);
        subnets.map(|subnet| (subnet.net, Pool::new(subnet.net, &self.ranges, &self.excluded)))
    }
}

pub(crate) fn wanted(view: &View<'_>, row: &Row) -> Desired {
    desired(view, row).unwrap_or_else(|fault| Desired::Invalid(fault.to_string().into()))
}

fn desired(view: &View<'_>, row: &Row) -> Result<Desired, Fault> {
    let network = network(&view.tables.networks, row)?;
    let gateways = network.subnets.iter().filter_map(|subnet| {
        let gateway = subnet.gateway?;
        IpNet::new(gateway, subnet.net.prefix_len()).ok()
    });
    let gateways: Vec<IpNet> = gateways.collect();
    let bridge = network
        .bridge
        .and_then(|uuid| view.rows.row(view.tables.bridges.this, uuid))
        .map(|row| bridges::link_name(&view.tables.bridges, row))
        .transpose()?;
    let firewall = bridge.as_ref().map(|bridge| firewall::of_network(&network, bridge));
    let firewall = firewall.filter(|firewall| !firewall.is_empty()).map(Object::Firewall);
    let addresses = bridge.filter(|_| !gateways.is_empty()).map(|link| {
        Object::Addresses(Addresses {
            link,
            addresses: gateways,
        })
    });
    let names = naming::name_server(view, row, &network).map(Object::NameServer);
    Ok(Desired::Objects(addresses.into_iter().chain(firewall).chain(names).collect()))
}

/// True where a network has a subnet of IPv6.
pub(crate) fn has_ipv6(columns: &Columns, row: &Row) -> bool {
    texts(row, columns.subnets).any(|subnet| subnet.contains(':'))
}

/// The network that a row describes.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn network(columns: &Columns, row: &Row) -> Result<Network, Fault> {
    let name = text(row, columns.name);
    let fault = |column: &str, why: &dyn std::fmt::Display| Fault::new(Columns::NAME, name, column, why);
    if name.is_empty() {
        return Err(fault("name", &"a network must have a name"));
    }
    let subnets = row.get(columns.subnets).iter().map(|(net, gateway)| {
        let gateway = gateway.and_then(Atom::as_str).unwrap_or_default();
        subnet(net.as_str().unwrap_or_default(), gateway)
    });
    let subnets = subnets
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| fault("subnets", &why))?;
    let (excluded, ranges): (Vec<&str>, Vec<&str>) =
        texts(row, columns.ranges).partition(|text| text.starts_with(EXCLUDED));
    let all = |texts: Vec<&str>| {
        let ranges = texts.into_iter().map(|text| range(text.trim_start_matches(EXCLUDED).trim(), &subnets));
        ranges.collect::<Result<Vec<_>, _>>().map_err(|why| fault("ranges", &why))
    };
    let (excluded, ranges) = (all(excluded)?, all(ranges)?);
    let mtu = number(row, columns.mtu);
    if mtu.is_some_and(|mtu| mtu < IPV6_MTU_MIN) && has_ipv6(columns, row) {
        return Err(fault("mtu", &format!("IPv6 needs an MTU of at least {IPV6_MTU_MIN}")));
    }
    let pairs = row.get(columns.dns).iter();
    let dns = Dns::read(pairs.filter_map(|(key, value)| Some((key.as_str()?, value?.as_str()?))));
    let dns = dns.map_err(|why| fault("dns", &why))?;
    let method = match text(row, columns.ipam) {
        "none" => None,
        "sequential" => Some(Method::Sequential),
        _ => Some(Method::Deterministic),
    };
    Ok(Network {
        name: name.into(),
        bridge: reference(row, columns.bridge),
        subnets,
        ranges,
        excluded,
        method,
        dhcp: text(row, columns.ipam) == "dhcp",
        options: text_map(row, columns.other_config),
        mtu,
        policy: firewall::policy(columns, row)?,
        dns,
    })
}

fn subnet(net: &str, gateway: &str) -> Result<Subnet, String> {
    let net = address::subnet(net).map_err(|error| error.to_string())?;
    if gateway.is_empty() {
        return Ok(Subnet { net, gateway: None });
    }
    let gateway = address::host(gateway).map_err(|error| format!("gateway {error}"))?;
    if !net.contains(&gateway) {
        return Err(format!("gateway {gateway} is not in subnet {net}"));
    }
    address::check_in_subnet(gateway, net).map_err(|error| format!("gateway {error}"))?;
    Ok(Subnet {
        net,
        gateway: Some(gateway),
    })
}

fn range(text: &str, subnets: &[Subnet]) -> Result<Range, String> {
    let range = address::range(text).map_err(|error| error.to_string())?;
    let inside = |subnet: &&Subnet| subnet.net.contains(&range.first) && subnet.net.contains(&range.last);
    if subnets.iter().find(inside).is_none() {
        return Err(format!("range \"{text}\" is not within one of the network's subnets"));
    }
    Ok(range)
}
