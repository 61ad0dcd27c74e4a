//! The had state: what the kernel said about links, addresses and routes, per network namespace.
//!
//! Takes observations (events and whole dumps), gives the state to compare with and what each observation touched. A dump touches only what it
//! changes, so that a resync costs comparisons and nothing more. It must never hold what the kernel did not say.

mod container;
mod firewall;
mod namespace;
mod ovs;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use ecow::EcoString;
use ipnet::IpNet;

pub use self::container::{ContainerChange, ContainerState, Containers, Ended, MeshState, Ownership, Stage};
pub use self::namespace::Namespace;
pub use self::ovs::{Ovs, OvsBridgeRow, OvsChange, OvsPortRow, OvsProgress};
use crate::dhcp::{Progress, Request};
use crate::name::{LinkName, Mac};
use crate::object::firewall::{Element, ElementKey, Installed};
use crate::object::wireguard::WireguardState;
use crate::object::{BridgeSettings, Hook, NetnsRef, ObjectKey, Owner, Route, Shape, Spec, Vlans};
use crate::plan::DhcpStart;

/// A network namespace that the kernel side has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceId {
    /// The server's own.
    Host,
    /// Another one, by its nsfs inode number.
    Inode(u64),
}

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: EcoString,
    /// Its kind (`IFLA_INFO_KIND`: `bridge`, `veth`); empty for hardware and loopback.
    pub kind: EcoString,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Its group (`IFLA_GROUP`).
    pub group: u32,
    /// Its alias (`IFLA_IFALIAS`).
    pub alias: EcoString,
    /// Whether it is set up (`IFF_UP`).
    pub up: bool,
    /// Whether it carries packets (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// The index of the other end of a veth pair, in the other end's namespace; of a link on another one, of that one (`IFLA_LINK`).
    pub peer: Option<u32>,
    /// Whether the kernel makes no IPv6 address on it by itself (`addr_gen_mode none`). `None`: not told.
    pub address_generation_off: Option<bool>,
    /// How a bridge forwards. `None`: no bridge.
    pub bridge: Option<Box<BridgeSettings>>,
    /// The settings of its kind, of those that nonnet makes.
    pub spec: Option<Spec>,
    /// Whether its bridge keeps it from other isolated ports. `None`: it is no port of a bridge.
    pub isolated: Option<bool>,
    /// Whether its bridge sends back to it what came from it. `None`: it is no port of a bridge.
    pub hairpin: Option<bool>,
}

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub index: u32,
    /// The address with its prefix length.
    pub address: IpNet,
    /// Who made it (`IFA_PROTO`); 0 when not told.
    pub protocol: u8,
    /// Whether it can be used.
    pub state: AddressState,
}

/// Whether an address can be used: that of IPv6 is looked for on the link first (RFC 4862 5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressState {
    /// It can.
    #[default]
    Ready,
    /// Whether somebody else has it is being found out (`IFA_F_TENTATIVE`).
    Tentative,
    /// Somebody else has it (`IFA_F_DADFAILED`).
    Duplicate,
}

/// A route in a namespace's tables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstalledRoute {
    /// The index of the link it leaves through; `None` for a blackhole.
    pub index: Option<u32>,
    /// The route.
    pub route: Route,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
}

/// A DHCP client that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpClient {
    /// The namespace of the link it speaks on.
    pub namespace: NamespaceId,
    /// That link's index.
    pub index: u32,
    /// That link's hardware address.
    pub mac: Mac,
    /// What it tells servers and asks them for.
    pub request: Request,
    /// How far it has come.
    pub progress: Progress,
}

/// All that one dump of a namespace gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every link.
    pub links: Vec<Link>,
    /// Every address.
    pub addresses: Vec<Address>,
    /// Every unicast route and blackhole of its tables except the local one.
    pub routes: Vec<InstalledRoute>,
    /// The VLANs of ports of bridges, by index; read where a bridge filters by them.
    pub vlans: Vec<(u32, Vlans)>,
    /// The packet filter; only that of the server's own namespace is read.
    pub firewall: Option<Installed>,
    /// The root queue of every link that has one besides the kernel's default.
    pub queues: Vec<(u32, Queue)>,
    /// Where VXLAN tunnels send what they know no better place for: link and other end.
    pub floods: Vec<(u32, IpAddr)>,
    /// Copies of ours: of which link, where, and to which link.
    pub mirrors: Vec<(u32, Hook, u32)>,
}

/// The root queue of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queue {
    /// One of ours.
    Shape(Shape),
    /// Somebody else's, of this kind.
    Other(EcoString),
}

/// One change in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The namespace was dumped: this is all there is.
    Replaced(Snapshot),
    /// The routes were dumped: these are all there are.
    RoutesReplaced(Vec<InstalledRoute>),
    /// The namespace is gone, or no longer observed.
    Gone,
    /// A link is new or changed.
    LinkSet(Link),
    /// The link of this index is gone.
    LinkGone(u32),
    /// An address is new or changed.
    AddressSet(Address),
    /// An address is gone from the link of this index.
    AddressGone(u32, IpNet),
    /// A route is new.
    RouteSet(InstalledRoute),
    /// A route is new, in place of that to the same destination with the same metric in the same table.
    RouteReplaced(InstalledRoute),
    /// A route is gone.
    RouteGone(InstalledRoute),
    /// The DHCP client of a port got on, or has ended.
    Dhcp(LinkName, Option<DhcpClient>),
    /// The root queue of the link of this index is another; `None` is the kernel's default.
    Queue(u32, Option<Queue>),
    /// The copy of ours of what the link of this index sees at a hook goes to another link, or nowhere.
    Mirror(u32, Hook, Option<u32>),
    /// The VXLAN tunnel of this index sends what it knows no better place for to this end, too, or no more.
    Flood(u32, IpAddr, bool),
    /// The keys and peers of the `WireGuard` link of a port were read, or are no more.
    Wireguard(LinkName, Option<Box<WireguardState>>),
    /// A setting below `/proc/sys/net` was read.
    Sysctl(EcoString, EcoString),
    /// A setting below `/proc/sys/net` had this value before it was written for the first time.
    SysctlBefore(EcoString, EcoString),
    /// Containers are new, changed or gone.
    Container(ContainerChange),
    /// Whether the link of this index leaves checksums to others was read.
    Offload(u32, bool),
    /// The VLANs of the port of a bridge with this index were told.
    Vlans(u32, Vlans),
    /// Open vSwitch has something else; it is the host's.
    Ovs(OvsChange),
    /// The packet filter was read: this is all of ours there is.
    FirewallReplaced(Installed),
    /// What of somebody else's keeps packets from passing, in words.
    Obstacles(BTreeSet<EcoString>),
    /// An element of the packet filter is new or changed.
    ElementSet(Element, Owner),
    /// An element of the packet filter is gone.
    ElementGone(ElementKey),
    /// A setting that rows may need has this value, or is no more.
    Setting(EcoString, Option<EcoString>),
    /// The settings that were changed, with their values from before.
    Borrowed(BTreeMap<EcoString, EcoString>),
    /// The host's nameservers were read.
    Nameservers(Vec<IpAddr>),
    /// The `resolv.conf` of a namespace was read: its text if it is ours, else an empty one.
    ResolvConf(NetnsRef, EcoString),
    /// Names are answered on an address, or no longer.
    Listening(IpAddr, bool),
}

/// A change and the namespace in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The namespace.
    pub namespace: NamespaceId,
    /// The change.
    pub change: Change,
}

/// What an observation touched, so that only that is compared again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Links that changed in some way, by namespace and name (the old name too when it changed).
    pub links: BTreeSet<(NamespaceId, LinkName)>,
    /// Links of which one appeared or disappeared under that name.
    pub existence: BTreeSet<(NamespaceId, LinkName)>,
    /// Links of the server's own namespace that have another MTU, or are new or gone.
    pub mtus: BTreeSet<LinkName>,
    /// Other objects that changed.
    pub objects: BTreeSet<ObjectKey>,
    /// Whether Open vSwitch has come or gone as a whole.
    pub is_ovs: bool,
    /// Ports whose DHCP clients got on or ended.
    pub dhcp: BTreeSet<LinkName>,
    /// Elements of the packet filter that changed, with those who wanted them.
    pub elements: BTreeMap<ElementKey, BTreeSet<Owner>>,
    /// Settings of the server's own namespace that changed.
    pub settings: BTreeSet<EcoString>,
    /// The packet filter changed in a way that concerns everyone.
    pub firewall: bool,
    /// Namespaces whose `resolv.conf` changed.
    pub files: BTreeSet<NetnsRef>,
}

/// The state of every observed namespace.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    namespaces: HashMap<NamespaceId, Namespace>,
    containers: Containers,
    ovs: Ovs,
    dhcp: BTreeMap<LinkName, DhcpClient>,
    nameservers: Vec<IpAddr>,
    resolv_confs: BTreeMap<NetnsRef, EcoString>,
    listening: BTreeSet<IpAddr>,
    wireguard: BTreeMap<LinkName, WireguardState>,
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Inode(inode) => write!(f, "netns:{inode}"),
        }
    }
}

impl Mirror {
    /// The state of a namespace, if it is observed.
    pub fn namespace(&self, id: NamespaceId) -> Option<&Namespace> {
        self.namespaces.get(&id)
    }

    /// The state of the server's own namespace, once dumped.
    pub fn host(&self) -> Option<&Namespace> {
        self.namespace(NamespaceId::Host)
    }

    /// The DHCP client of a port, if one runs.
    pub fn dhcp(&self, port: &LinkName) -> Option<&DhcpClient> {
        self.dhcp.get(port)
    }

    /// The keys and peers of the `WireGuard` link of a port, as last read.
    pub fn wireguard(&self, port: &LinkName) -> Option<&WireguardState> {
        self.wireguard.get(port)
    }

    /// The containers.
    pub fn containers(&self) -> &Containers {
        &self.containers
    }

    /// What Open vSwitch has.
    pub fn ovs(&self) -> &Ovs {
        &self.ovs
    }

    /// The host's nameservers, as they were read last.
    pub fn nameservers(&self) -> &[IpAddr] {
        &self.nameservers
    }

    /// The text of ours in the `resolv.conf` of a namespace, empty where there is none. `None`: it was not read.
    pub fn resolv_conf(&self, netns: &NetnsRef) -> Option<&EcoString> {
        self.resolv_confs.get(netns)
    }

    /// The texts of ours, by namespace.
    pub fn resolv_confs(&self) -> impl Iterator<Item = (&NetnsRef, &EcoString)> {
        self.resolv_confs.iter().filter(|(_, text)| !text.is_empty())
    }

    /// Forgets what the `resolv.conf` of a namespace said, since it may be another namespace now.
    pub fn forget_resolv_conf(&mut self, netns: &NetnsRef) {
        self.resolv_confs.remove(netns);
    }

    /// The addresses on which names are answered.
    pub fn listening(&self) -> &BTreeSet<IpAddr> {
        &self.listening
    }

    /// Takes in one observation and tells what it touched. A change of a namespace that was never dumped is left out: its dump will have it.
    pub fn apply(&mut self, observation: Observation) -> Touched {
        let Observation { namespace: id, change } = observation;
        let mut touched = Touched::default();
        match change {
            Change::Replaced(snapshot) => {
                self.namespaces
                    .entry(id)
                    .or_default()
                    .replace(id, snapshot, &mut touched);
            }
            Change::Gone => {
                for link in self.namespaces.remove(&id).iter().flat_map(Namespace::links) {
                    touched.existence(id, LinkName::observed(&link.name));
                }
            }
            Change::Container(change) => touched.objects = self.containers.apply(change),
            Change::Ovs(change) => self.ovs.apply(change, &mut touched),
            Change::Dhcp(port, client) => {
                match client {
                    Some(client) => self.dhcp.insert(port.clone(), client),
                    None => self.dhcp.remove(&port),
                };
                touched.dhcp.insert(port);
            }
            Change::Nameservers(nameservers) => self.nameservers = nameservers,
            Change::ResolvConf(netns, text) => {
                if self.resolv_confs.get(&netns) != Some(&text) {
                    touched.files.insert(netns.clone());
                    self.resolv_confs.insert(netns, text);
                }
            }
            Change::Listening(address, true) => {
                self.listening.insert(address);
            }
            Change::Listening(address, false) => {
                self.listening.remove(&address);
            }
            Change::Wireguard(port, state) => {
                let before = match state.clone() {
                    Some(state) => self.wireguard.insert(port.clone(), *state),
                    None => self.wireguard.remove(&port),
                };
                if before != state.map(|state| *state) {
                    touched.objects.insert(ObjectKey::Wireguard(port));
                }
            }
            other => {
                if let Some(namespace) = self.namespaces.get_mut(&id) {
                    namespace.change(id, other, &mut touched);
                }
            }
        }
        let host = self.namespaces.get(&NamespaceId::Host);
        for (_, name) in touched.existence.iter().filter(|(id, _)| *id == NamespaceId::Host) {
            let link = host.and_then(|host| host.link(name));
            self.ovs.note_device(name, link.map(|link| link.index));
        }
        touched
    }
}

impl DhcpClient {
    /// Whether it does what this one would that is to be started.
    pub fn serves(&self, start: &DhcpStart) -> bool {
        let link = (self.namespace, Some(self.index), self.mac);
        link == (start.link.namespace, start.link.index, start.mac) && self.request == start.request
    }
}

impl Queue {
    /// The shape, if it is one of ours.
    pub(crate) fn shape(&self) -> Option<Shape> {
        match self {
            Self::Shape(shape) => Some(*shape),
            Self::Other(_) => None,
        }
    }
}

impl Touched {
    fn link(&mut self, id: NamespaceId, name: LinkName) {
        self.links.insert((id, name));
    }

    fn element(&mut self, key: ElementKey, owner: Owner) {
        self.elements.entry(key).or_default().insert(owner);
    }

    fn existence(&mut self, id: NamespaceId, name: LinkName) {
        self.links.insert((id, name.clone()));
        self.existence.insert((id, name));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use crate::object::{OvsMark, OvsPort};

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            up: true,
            ..Link::default()
        }
    }

    fn observe(mirror: &mut Mirror, change: Change) -> Touched {
        mirror.apply(Observation {
            namespace: NamespaceId::Host,
            change,
        })
    }

    fn loaded() -> Mirror {
        let mut mirror = Mirror::default();
        let links = vec![link(1, "lo"), link(2, "br0")];
        observe(
            &mut mirror,
            Change::Replaced(Snapshot {
                links,
                ..Snapshot::default()
            }),
        );
        mirror
    }

    #[test]
    fn equal_dump_touches_nothing() {
        let mut mirror = loaded();
        let links = vec![link(1, "lo"), link(2, "br0")];
        let touched = observe(
            &mut mirror,
            Change::Replaced(Snapshot {
                links,
                ..Snapshot::default()
            }),
        );
        assert_eq!(touched, Touched::default());
    }

    #[test]
    fn rename_touches_both_names() {
        let mut mirror = loaded();
        let touched = observe(&mut mirror, Change::LinkSet(link(2, "br1")));
        assert_eq!(touched.existence.len(), 2);
        let host = mirror.host().unwrap();
        assert!(host.link(&LinkName::observed("br0")).is_none());
        assert_eq!(host.link(&LinkName::observed("br1")).unwrap().index, 2);
    }

    #[test]
    fn link_that_goes_down_loses_its_routes() {
        let mut mirror = loaded();
        let route = Route::to("10.0.0.0/24".parse().unwrap(), None);
        observe(
            &mut mirror,
            Change::RouteSet(InstalledRoute {
                index: Some(2),
                route,
                protocol: 2,
            }),
        );
        assert_eq!(mirror.host().unwrap().routes(Some(2)).count(), 1);
        observe(
            &mut mirror,
            Change::LinkSet(Link {
                up: false,
                ..link(2, "br0")
            }),
        );
        assert_eq!(mirror.host().unwrap().routes(Some(2)).count(), 0);
    }

    #[test]
    fn a_port_knows_the_link_that_it_came_for() {
        let mut mirror = loaded();
        let (br0, name) = (LinkName::observed("br0"), LinkName::observed("p1"));
        let row = OvsPortRow {
            port: OvsPort::system(name.clone(), br0),
            foreign_qos: None,
            guard: None,
            is_foreign_shape: false,
            mark: OvsMark::default(),
            progress: OvsProgress::default(),
        };
        observe(&mut mirror, Change::Ovs(OvsChange::PortSet(row.clone())));
        observe(&mut mirror, Change::LinkSet(link(7, "p1")));
        assert!(!mirror.ovs().has_other_device(&name, 7));
        observe(&mut mirror, Change::LinkGone(7));
        observe(&mut mirror, Change::LinkSet(link(8, "p1")));
        assert!(mirror.ovs().has_other_device(&name, 8));
        observe(&mut mirror, Change::Ovs(OvsChange::PortGone(name.clone())));
        observe(&mut mirror, Change::Ovs(OvsChange::PortSet(row)));
        assert!(!mirror.ovs().has_other_device(&name, 8));
    }

    #[test]
    fn event_before_the_dump_is_left_out() {
        let mut mirror = Mirror::default();
        observe(&mut mirror, Change::LinkSet(link(7, "x")));
        assert!(mirror.host().is_none());
    }
}
