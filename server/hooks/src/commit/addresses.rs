//! Addresses of ports: each has a lease while it is in use, and nobody else can have it.
//!
//! Within one transaction all addresses that become free are freed first, then those that rows name are taken, then ports without one are
//! given theirs in the order of the ports' names; so the order of the operations does not matter.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ecow::EcoString;
use ipnet::IpNet;
use nonnet_engine::{Row, RowChange, Transaction};
use nonnet_schema::{Atom, Datum, Uuid};

use crate::address::is_link_local;
use crate::fault::Fault;
use crate::ipam::{self, Pool};
use crate::tables::networks::Network;
use crate::tables::ports::{Blame, Port, port};
use crate::tables::{Tables, leases, networks, reference_set, references, text};

/// Number of the index over `address` in table `leases`.
const BY_ADDRESS: usize = 0;

/// Where sequential searches go on, by network and subnet.
type Cursors = HashMap<(Uuid, IpNet), u128>;

/// The network of each gateway.
type Gateways = HashMap<IpAddr, EcoString>;

/// A port whose addresses are being settled.
struct Claim {
    row: Arc<Row>,
    port: Port,
    /// The leases it goes on with.
    leases: BTreeSet<Uuid>,
    /// The addresses of those.
    held: Vec<IpAddr>,
}

/// Checks these ports and brings their leases into line.
pub(super) fn settle(
    tables: &Tables,
    transaction: &mut Transaction<'_>,
    changes: &[RowChange],
    ports: &BTreeSet<Uuid>,
) -> Result<(), Fault> {
    let mut claims = Vec::with_capacity(ports.len());
    for uuid in ports {
        if let Some(row) = transaction.row(tables.ports.this, *uuid).cloned() {
            let port = port(tables, transaction, &row)?;
            let (leases, held) = (BTreeSet::new(), Vec::new());
            claims.push(Claim {
                row,
                port,
                leases,
                held,
            });
        }
    }
    claims.sort_by(|a, b| a.port.name.cmp(&b.port.name));
    free_lost(tables, transaction, changes, &claims);
    for claim in &mut claims {
        keep_or_free(tables, transaction, claim)?;
    }
    let mut gateways = None;
    for claim in &mut claims {
        take_static(tables, transaction, claim, &mut gateways)?;
        claim.write(tables, transaction);
    }
    let mut cursors = Cursors::new();
    for claim in &mut claims {
        for ipv4 in [true, false] {
            for from in claim.open(ipv4) {
                give(tables, transaction, claim, (ipv4, from), &mut cursors)?;
            }
        }
        claim.write(tables, transaction);
    }
    Ok(())
}

/// What people call the row of the port that holds a lease. Walks over all ports: only for messages.
pub(super) fn holder(tables: &Tables, transaction: &Transaction<'_>, lease: Uuid) -> Option<String> {
    let mut rows = transaction.rows(tables.ports.this);
    let port = rows.find(|row| references(row, tables.ports.leases).any(|uuid| uuid == lease))?;
    Some(Blame::new(tables, transaction, port).subject())
}

/// Deletes the leases of ports that are gone or let go of them. Nothing but a port refers to a lease.
fn free_lost(tables: &Tables, transaction: &mut Transaction<'_>, changes: &[RowChange], claims: &[Claim]) {
    let of_ports = changes.iter().filter(|change| change.table == tables.ports.this);
    let before = of_ports.filter_map(|change| change.old.as_ref());
    let lost: BTreeSet<Uuid> = before.flat_map(|row| references(row, tables.ports.leases)).collect();
    let kept: BTreeSet<Uuid> = claims
        .iter()
        .flat_map(|claim| references(&claim.row, tables.ports.leases))
        .collect();
    for lease in lost.difference(&kept) {
        transaction.delete(tables.leases.this, *lease);
    }
}

/// Goes through the leases that the port's row has: those that still fit stay.
fn keep_or_free(tables: &Tables, transaction: &mut Transaction<'_>, claim: &mut Claim) -> Result<(), Fault> {
    let database = transaction.database();
    let before = database.table(tables.ports.this).row(claim.row.uuid());
    for uuid in references(&claim.row, tables.ports.leases) {
        let Some(lease) = transaction.row(tables.leases.this, uuid).cloned() else {
            // A reference to nothing: the commit checks say so.
            claim.leases.insert(uuid);
            continue;
        };
        let own = before.is_some_and(|row| references(row, tables.ports.leases).any(|lease| lease == uuid));
        if !own {
            check_unclaimed(tables, transaction, claim, uuid)?;
        }
        let address = text(&lease, tables.leases.address).parse::<IpAddr>().ok();
        let source = text(&lease, tables.leases.source);
        match address.filter(|address| claim.fits(*address, source)) {
            Some(address) => {
                claim.leases.insert(uuid);
                claim.held.push(address);
            }
            None => transaction.delete(tables.leases.this, uuid),
        }
    }
    Ok(())
}

fn check_unclaimed(tables: &Tables, transaction: &Transaction<'_>, claim: &Claim, lease: Uuid) -> Result<(), Fault> {
    let mut ports = transaction.rows(tables.ports.this);
    let other = ports
        .find(|row| row.uuid() != claim.row.uuid() && references(row, tables.ports.leases).any(|uuid| uuid == lease));
    let Some(other) = other else { return Ok(()) };
    let who = Blame::new(tables, transaction, other).subject();
    let blame = Blame::new(tables, transaction, &claim.row);
    Err(blame.fault("leases", format!("lease {lease} is that of {who}")))
}

impl Claim {
    /// Whether the port may go on with a lease that it has.
    fn fits(&self, address: IpAddr, source: &str) -> bool {
        if self.held.contains(&address) {
            return false;
        }
        match source {
            leases::STATIC => return self.port.addresses.iter().any(|own| own.addr() == address),
            leases::DHCP => return self.port.dhcp,
            _ => {}
        }
        let Some(network) = self.port.network.as_ref() else {
            return false;
        };
        // Ranges bind what is given, not what is in use: an address in use does not move because others shall not be given.
        let open = self.open(address.is_ipv4());
        open.iter()
            .any(|from| from.is_none_or(|subnet| subnet.contains(&address)))
            && network.subnet_of(address).is_some()
            && !network.is_gateway(address)
    }

    /// Writes the leases to the port's row.
    fn write(&self, tables: &Tables, transaction: &mut Transaction<'_>) {
        let leases = reference_set(self.leases.iter().copied());
        transaction.set(tables.ports.this, self.row.uuid(), tables.ports.leases, leases);
    }

    /// The addresses of this family that the port is to be given and does not have: each from one subnet, or from whichever.
    fn open(&self, ipv4: bool) -> Vec<Option<IpNet>> {
        let given = |net: &&IpNet| net.addr().is_ipv4() == ipv4;
        if self
            .port
            .network
            .as_ref()
            .is_none_or(|network| network.method.is_none())
            || (ipv4 && self.port.dhcp)
        {
            return Vec::new();
        }
        let own = |address: &IpAddr| self.port.addresses.iter().any(|own| own.addr() == *address);
        let held: Vec<IpAddr> = self.held.iter().copied().filter(|held| !own(held)).collect();
        let named: Vec<IpNet> = self.port.subnets.iter().filter(given).copied().collect();
        if !named.is_empty() {
            let open = named
                .into_iter()
                .filter(|subnet| !held.iter().any(|held| subnet.contains(held)));
            return open.map(Some).collect();
        }
        let fixed = |own: &IpNet| own.addr().is_ipv4() == ipv4 && !is_link_local(own.addr());
        if self.port.addresses.iter().any(fixed) || held.iter().any(|held| held.is_ipv4() == ipv4) {
            return Vec::new();
        }
        vec![None]
    }
}

/// Takes the addresses that the port's row names.
fn take_static(
    tables: &Tables,
    transaction: &mut Transaction<'_>,
    claim: &mut Claim,
    known: &mut Option<Gateways>,
) -> Result<(), Fault> {
    let addresses: Vec<IpAddr> = claim.port.addresses.iter().map(IpNet::addr).collect();
    // Link-local addresses are in use once per link, not once per host.
    for address in addresses.into_iter().filter(|address| !is_link_local(*address)) {
        if claim.held.contains(&address) {
            continue;
        }
        if let Some(lease) = lease_of(tables, transaction, address) {
            let who = holder(tables, transaction, lease).unwrap_or_else(|| format!("lease {lease}"));
            let blame = Blame::new(tables, transaction, &claim.row);
            return Err(blame.fault("addresses", format!("{address} is in use by {who}")));
        }
        let known = known.get_or_insert_with(|| gateways(tables, transaction));
        if let Some(network) = known.get(&address) {
            let blame = Blame::new(tables, transaction, &claim.row);
            return Err(blame.fault(
                "addresses",
                format!("{address} is the gateway of network \"{network}\""),
            ));
        }
        let lease = insert(tables, transaction, address, leases::STATIC);
        claim.leases.insert(lease);
        claim.held.push(address);
    }
    Ok(())
}

/// Gives the port an address of one family, from that subnet or from whichever of its network.
fn give(
    tables: &Tables,
    transaction: &mut Transaction<'_>,
    claim: &mut Claim,
    (ipv4, only): (bool, Option<IpNet>),
    cursors: &mut Cursors,
) -> Result<(), Fault> {
    let (Some(network), Some(uuid)) = (
        &claim.port.network,
        crate::tables::reference(&claim.row, tables.ports.network),
    ) else {
        return Ok(());
    };
    let Some(method) = network.method else { return Ok(()) };
    let mut full = Vec::new();
    for (subnet, pool) in network
        .pools(ipv4)
        .filter(|(subnet, _)| only.is_none_or(|only| only == *subnet))
    {
        let from = cursors.entry((uuid, subnet)).or_default();
        let names = (network.name.as_str(), claim.port.name.as_str());
        let address = ipam::allocate(&pool, method, names, from, |address| {
            network.is_gateway(address) || lease_of(tables, transaction, address).is_some()
        });
        if let Some(address) = address {
            claim
                .leases
                .insert(insert(tables, transaction, address, method.as_str()));
            claim.held.push(address);
            return Ok(());
        }
        full.push(format!(
            "{subnet} (all {} that ports may have are in use)",
            free(network, &pool)
        ));
    }
    if full.is_empty() {
        return Ok(());
    }
    let why = format!(
        "network \"{}\" has no free address in {}",
        network.name,
        full.join(" and ")
    );
    Err(Blame::new(tables, transaction, &claim.row).fault("network", why))
}

/// How many addresses of a pool ports can have.
fn free(network: &Network, pool: &Pool) -> u128 {
    let gateways = network.subnets.iter().filter_map(|subnet| subnet.gateway);
    pool.len() - gateways.filter(|gateway| pool.contains(*gateway)).count() as u128
}

/// The lease of an address.
pub(super) fn lease_of(tables: &Tables, transaction: &mut Transaction<'_>, address: IpAddr) -> Option<Uuid> {
    let key = [Datum::scalar(Atom::from(address.to_string().as_str()))];
    let rows = transaction.rows_by_index(tables.leases.this, BY_ADDRESS, &key);
    rows.first().map(|row| row.uuid())
}

/// All gateways, with the names of their networks.
fn gateways(tables: &Tables, transaction: &Transaction<'_>) -> Gateways {
    let columns = &tables.networks;
    let networks = transaction.rows(columns.this);
    let networks = networks.filter_map(|row| networks::network(columns, row).ok());
    let gateways = networks.flat_map(|network| {
        let gateways = network.subnets.into_iter().filter_map(|subnet| subnet.gateway);
        gateways.map(move |gateway| (gateway, network.name.clone()))
    });
    gateways.collect()
}

fn insert(tables: &Tables, transaction: &mut Transaction<'_>, address: IpAddr, source: &str) -> Uuid {
    let columns = &tables.leases;
    let mut fields = transaction.schema().table(columns.this).default_fields();
    fields[columns.address.0] = Datum::scalar(Atom::from(address.to_string().as_str()));
    fields[columns.source.0] = Datum::scalar(Atom::from(source));
    let uuid = transaction.new_uuid();
    transaction.insert(columns.this, uuid, fields);
    uuid
}
