//! A kernel in memory that does what plans say: for property tests, simulation and the fake of the kernel crate.
//!
//! Takes operations, gives observations or a refusal with the error number that Linux gives. It models what nonnet uses (links by name and
//! index, veth pairs over namespaces, bridges, addresses, routes) and the side effects that matter: a pair dies together, a link takes its addresses and
//! routes along, a namespace takes its links along.

mod addresses;
mod container;
mod firewall;
mod links;
mod names;
mod ovs;
mod routes;
mod traffic;
mod tunnels;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ecow::EcoString;

use crate::dhcp::Progress;
use crate::mirror::{Address, Change, DhcpClient, InstalledRoute, Link, NamespaceId, Observation, Queue, Snapshot};
use crate::name::LinkName;
use crate::object::firewall::Installed;
use crate::object::wireguard::WireguardState;
use crate::object::{Hook, Shape, Vlans};
use crate::plan::{LinkRef, Operation, Outcome, Plan, Refusal};

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENETUNREACH: i32 = 101;
const EADDRNOTAVAIL: i32 = 99;
const EOPNOTSUPP: i32 = 95;
const ESRCH: i32 = 3;

/// The kernel in memory.
#[derive(Clone, Debug, Default)]
pub struct Model {
    namespaces: BTreeMap<NamespaceId, Space>,
    pairs: BTreeMap<(NamespaceId, u32), (NamespaceId, u32)>,
    /// The links that are on a link.
    children: BTreeMap<(NamespaceId, u32), Vec<(NamespaceId, u32)>>,
    seed: u64,
    containers: container::Containers,
    names: names::Names,
    switch: ovs::Switch,
    wireguards: BTreeMap<LinkName, WireguardState>,
}

#[derive(Clone, Debug, Default)]
struct Space {
    last_index: u32,
    links: BTreeMap<u32, Link>,
    addresses: Vec<Address>,
    routes: Vec<InstalledRoute>,
    /// Of ports of bridges.
    vlans: BTreeMap<u32, Vlans>,
    firewall: Installed,
    floods: BTreeSet<(u32, IpAddr)>,
    queues: BTreeMap<u32, Shape>,
    /// Settings that were written; all others are 0.
    sysctls: BTreeMap<EcoString, EcoString>,
    mirrors: BTreeMap<(u32, Hook), u32>,
}

impl Model {
    /// A kernel with the server's own namespace, in which there is a loopback link.
    pub fn new() -> Self {
        let mut model = Self::default();
        model.add_namespace(NamespaceId::Host);
        model
    }

    /// Makes a namespace with its loopback link, which is down.
    pub fn add_namespace(&mut self, id: NamespaceId) {
        let lo = Link {
            index: 1,
            name: "lo".into(),
            mtu: 65536,
            address_generation_off: Some(false),
            ..Link::default()
        };
        let space = Space {
            last_index: 1,
            links: [(1, lo)].into(),
            ..Space::default()
        };
        self.namespaces.insert(id, space);
    }

    /// Takes a namespace away, with the links in it and the other ends of its pairs.
    pub fn remove_namespace(&mut self, id: NamespaceId) -> Vec<Observation> {
        let mut seen = Vec::new();
        let indexes: Vec<u32> = self
            .namespaces
            .get(&id)
            .map(|s| s.links.keys().copied().collect())
            .unwrap_or_default();
        for index in indexes {
            self.delete_link(id, index, &mut seen);
        }
        self.namespaces.remove(&id);
        seen.retain(|o| o.namespace != id);
        seen.push(Observation {
            namespace: id,
            change: Change::Gone,
        });
        seen
    }

    /// Makes a container of somebody else's.
    pub fn add_foreign_container(&mut self, id: &str) -> Vec<Observation> {
        vec![self.containers.add_foreign(id)]
    }

    /// Ends a container, as its first process by itself would; it has had its rest at once.
    pub fn end_container(&mut self, id: &str) -> Vec<Observation> {
        self.containers.end(id).into_iter().collect()
    }

    /// The files and sockets by which names are found, as they are told at first.
    pub fn names(&self) -> Vec<Observation> {
        self.names.all()
    }

    /// All containers and memberships, as they are told at first.
    pub fn containers(&self) -> Vec<Observation> {
        self.containers.all()
    }

    /// All that a namespace has.
    pub fn dump(&self, id: NamespaceId) -> Option<Snapshot> {
        let space = self.namespaces.get(&id)?;
        Some(Snapshot {
            links: space.links.values().cloned().collect(),
            addresses: space.addresses.clone(),
            routes: space.routes.clone(),
            vlans: space.vlans.clone().into_iter().collect(),
            floods: space.floods.iter().copied().collect(),
            firewall: (id == NamespaceId::Host).then(|| space.firewall.clone()),
            queues: space
                .queues
                .iter()
                .map(|(index, shape)| (*index, Queue::Shape(*shape)))
                .collect(),
            mirrors: space.mirrors.iter().map(|((of, hook), to)| (*of, *hook, *to)).collect(),
        })
    }

    /// Does one operation.
    ///
    /// # Errors
    /// [`Refusal`] with Linux's error number.
    pub fn apply(&mut self, operation: &Operation) -> Result<Vec<Observation>, Refusal> {
        match operation {
            Operation::LinkAdd { link, group, new } => self.link_add(link, *group, new),
            Operation::LinkSet { link, set, .. } => self.link_set(link, set),
            Operation::LinkMove { link, to } => self.link_move(link, to),
            Operation::LinkDel { link } => {
                let mut seen = Vec::new();
                if let Ok(index) = self.find(link) {
                    self.delete_link(link.namespace, index, &mut seen);
                }
                Ok(seen)
            }
            Operation::AddressAdd { link, address, .. } => self.address_add(link, *address),
            Operation::AddressDel { link, address } => self.address_del(link, *address),
            Operation::AddressesMove(all) => self.addresses_move(all),
            Operation::RouteAdd(route) => self.route_add(route, false),
            Operation::RouteReplace { new, .. } => self.route_add(new, true),
            Operation::RouteDel(route) => self.route_del(route),
            Operation::DhcpStart(start) => {
                let index = self.find(&start.link)?;
                let client = DhcpClient {
                    namespace: start.link.namespace,
                    index,
                    mac: start.mac,
                    request: start.request.clone(),
                    progress: start.former.clone().map_or(Progress::Asking, Progress::Bound),
                };
                Ok(vec![observed(
                    client.namespace,
                    Change::Dhcp(start.port.clone(), Some(client)),
                )])
            }
            Operation::DhcpStop { port } => Ok(vec![observed(NamespaceId::Host, Change::Dhcp(port.clone(), None))]),
            Operation::Traffic(set) => self.traffic(set),
            Operation::Listen(listen) => Ok(vec![self.names.listen(listen)]),
            Operation::ResolvConf(set) => Ok(vec![self.names.set(set)]),
            Operation::Sysctl {
                namespace, path, value, ..
            } => {
                let sysctls = &mut self.space(*namespace)?.sysctls;
                let before = sysctls
                    .insert(path.clone(), value.clone())
                    .unwrap_or_else(|| "0".into());
                let before = (before != *value).then(|| Change::SysctlBefore(path.clone(), before));
                let changes = before.into_iter().chain([Change::Sysctl(path.clone(), value.clone())]);
                Ok(changes.map(|change| observed(*namespace, change)).collect())
            }
            Operation::Container(operation) => self.containers.apply(operation),
            Operation::Mesh(operation) => Ok(self.containers.join(operation)),
            Operation::Offload { link, on, .. } => {
                let change = Change::Offload(self.find(link)?, *on);
                Ok(vec![observed(link.namespace, change)])
            }
            Operation::VlanAdd { link, vlans, .. } => self.vlans(link, |has| has.0.extend(&vlans.0)),
            Operation::VlanDel { link, vlans } => {
                self.vlans(link, |has| has.0.retain(|vlan, _| !vlans.0.contains_key(vlan)))
            }
            Operation::Ovs(operation) => self.ovs(operation),
            Operation::Elements(change) => self.elements(change),
            Operation::Borrow(borrow) => self.borrow(borrow),
            Operation::Wireguard(operation) => self.wireguard(operation),
            Operation::Flood(flood) => self.flood(flood),
        }
    }

    /// Does a plan until the step `stop`, if given, and fails the steps for which `fails` says so.
    pub fn run(
        &mut self,
        plan: &Plan,
        stop: Option<usize>,
        mut fails: impl FnMut(usize) -> bool,
    ) -> (Vec<Outcome>, Vec<Observation>) {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(plan.steps.len());
        let mut seen = Vec::new();
        for (at, step) in plan.steps.iter().enumerate() {
            let blocked = step
                .needs
                .iter()
                .any(|&need| outcomes.get(need) != Some(&Outcome::Done));
            let outcome = if blocked || stop.is_some_and(|stop| at >= stop) {
                Outcome::Skipped
            } else if fails(at) {
                Outcome::Failed(refusal(EINVAL, "the fake was told to refuse"))
            } else {
                match self.apply(&step.operation) {
                    Ok(more) => {
                        seen.extend(more);
                        Outcome::Done
                    }
                    Err(refusal) => Outcome::Failed(refusal),
                }
            };
            outcomes.push(outcome);
        }
        (outcomes, seen)
    }

    fn space(&mut self, id: NamespaceId) -> Result<&mut Space, Refusal> {
        self.namespaces
            .get_mut(&id)
            .ok_or_else(|| refusal(EINVAL, "Invalid argument"))
    }

    fn find(&self, link: &LinkRef) -> Result<u32, Refusal> {
        let space = self.namespaces.get(&link.namespace);
        let found = space.and_then(|space| match link.index {
            Some(index) => space.links.contains_key(&index).then_some(index),
            None => space
                .links
                .values()
                .find(|l| l.name == link.name.as_str())
                .map(|l| l.index),
        });
        found.ok_or_else(|| refusal(ENODEV, "No such device"))
    }
}

fn observed(namespace: NamespaceId, change: Change) -> Observation {
    Observation { namespace, change }
}

fn refusal(errno: i32, text: &str) -> Refusal {
    Refusal {
        errno,
        text: EcoString::from(text),
    }
}
