//! What to do in the kernel, as typed operations in phases.
//!
//! A [`Plan`] is made by [`crate::diff::plan`], printed for a dry run, and carried out by the kernel side. A step names the steps it needs; when
//! one of them fails it is left out, and nothing else is. Nothing here acts.

use std::fmt;

use ecow::{EcoString, eco_format};
use ipnet::IpNet;

use crate::dhcp::{Lease, Request};
use crate::mirror::NamespaceId;
use crate::name::{LinkName, Mac};
use crate::object::container::{ContainerOperation, MeshOperation};
use crate::object::firewall::{Borrow, ElementChange};
use crate::object::wireguard::WireguardOperation;
use crate::object::{
    AddressesMove, BridgeSettings, Flood, Listen, ObjectKey, OvsOperation, Owner, ResolvConfSet, Route, Spec,
    TrafficSet, Vlans,
};

/// When a step runs: all steps of a phase are over before the next phase begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The packet filter's sets change: what is published is withdrawn before links go, what is forbidden is before links come.
    Firewall,
    /// Routes and addresses that are no longer wanted go.
    Withdraw,
    /// Links that are no longer wanted go.
    Delete,
    /// Links come that others are attached to.
    CreateBridge,
    /// Links come.
    Create,
    /// Marks, hardware addresses, MTU, bridge membership.
    Configure,
    /// Links are set up.
    Raise,
    /// Open vSwitch is told, in one transaction.
    Switch,
    /// Addresses come.
    Address,
    /// Routes come, and settings.
    Route,
    /// Containers are made, started, stopped and destroyed, and join and leave their networks; that begins here and ends later.
    Container,
}

/// A link that a step acts on. Its index is known if it existed when the plan was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkRef {
    /// The link's namespace.
    pub namespace: NamespaceId,
    /// Its name.
    pub name: LinkName,
    /// Its index; `None` when an earlier step of the plan creates it.
    pub index: Option<u32>,
}

/// The kinds of links that can be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewLink {
    /// A bridge.
    Bridge {
        /// Its hardware address.
        mac: Option<Mac>,
        /// Its MTU in bytes.
        mtu: Option<u32>,
        /// How it forwards, where that is other than the kernel would have it.
        settings: Box<BridgeSettings>,
    },
    /// A veth pair.
    Veth {
        /// The other end: its namespace and name.
        peer: LinkRef,
        /// The other end's hardware address.
        peer_mac: Option<Mac>,
        /// Both ends' MTU in bytes.
        mtu: Option<u32>,
    },
    /// A link without another end.
    Single {
        /// Its kind and settings.
        spec: Spec,
        /// The link of the server's own namespace that it is on or sends through.
        parent: Option<LinkRef>,
        /// Its hardware address.
        mac: Option<Mac>,
        /// Its MTU in bytes.
        mtu: Option<u32>,
    },
}

/// The settings of a link that can change; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// The name.
    pub name: Option<LinkName>,
    /// The alias.
    pub alias: Option<EcoString>,
    /// The group.
    pub group: Option<u32>,
    /// The hardware address.
    pub mac: Option<Mac>,
    /// The MTU in bytes.
    pub mtu: Option<u32>,
    /// The bridge to be a port of, by name in the same namespace; `Some(None)` leaves the bridge.
    pub master: Option<Option<LinkRef>>,
    /// Whether the kernel makes no IPv6 address by itself.
    pub address_generation_off: Option<bool>,
    /// How a bridge forwards.
    pub bridge: Option<Box<BridgeSettings>>,
    /// The settings of its kind.
    pub spec: Option<Box<Spec>>,
    /// Whether its bridge keeps it from the other ports that are isolated.
    pub isolated: Option<bool>,
    /// Whether its bridge may send back to it what came from it.
    pub hairpin: Option<bool>,
    /// Whether the link is set up.
    pub up: Option<bool>,
}

/// A DHCP client to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpStart {
    /// The port's name.
    pub port: LinkName,
    /// The link it speaks on.
    pub link: LinkRef,
    /// That link's hardware address.
    pub mac: Mac,
    /// What the server is told and asked.
    pub request: Request,
    /// The lease that the port has from before.
    pub former: Option<Lease>,
}

/// A route and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlacedRoute {
    /// The namespace.
    pub namespace: NamespaceId,
    /// The link it leaves through; `None`: that through which its gateway is reached, or none, as for one that drops packets.
    pub link: Option<LinkRef>,
    /// The route.
    pub route: Route,
}

/// One change of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create a link, marked with the group in the same message.
    LinkAdd {
        /// The link; its index is not known yet.
        link: LinkRef,
        /// The group that marks it (`IFLA_GROUP`).
        group: u32,
        /// What to create.
        new: NewLink,
    },
    /// Change a link.
    LinkSet {
        /// The link.
        link: LinkRef,
        /// What to change.
        set: LinkChange,
        /// What that was before, as far as known.
        was: LinkChange,
    },
    /// Move a link to another namespace, where it has another name.
    LinkMove {
        /// The link.
        link: LinkRef,
        /// What it is then.
        to: LinkRef,
    },
    /// Delete a link (of a veth pair: both ends).
    LinkDel {
        /// The link.
        link: LinkRef,
    },
    /// Add an address.
    AddressAdd {
        /// The link.
        link: LinkRef,
        /// The address with its prefix length.
        address: IpNet,
        /// Whether an IPv6 address is looked for on the link before it is used.
        detect: bool,
    },
    /// Delete an address.
    AddressDel {
        /// The link.
        link: LinkRef,
        /// The address with its prefix length.
        address: IpNet,
    },
    /// Move the addresses of an uplink to its bridge, or back, with the routes that go along.
    AddressesMove(AddressesMove),
    /// Add a route.
    RouteAdd(PlacedRoute),
    /// Put a route in the place of another to the same destination, in one step.
    RouteReplace {
        /// The new one.
        new: PlacedRoute,
        /// The one that goes.
        was: PlacedRoute,
    },
    /// Delete a route.
    RouteDel(PlacedRoute),
    /// Start a DHCP client, in the place of one that the port has already.
    DhcpStart(DhcpStart),
    /// End the DHCP client of a port, and give its address back.
    DhcpStop {
        /// The port's name.
        port: LinkName,
    },
    /// Write a setting below `/proc/sys/net`.
    Sysctl {
        /// The namespace.
        namespace: NamespaceId,
        /// The path below `/proc/sys/net`, with slashes.
        path: EcoString,
        /// The value.
        value: EcoString,
        /// The value before, if it was read.
        was: Option<EcoString>,
    },
    /// Change a container.
    Container(ContainerOperation),
    /// Join or leave a mesh network.
    Mesh(MeshOperation),
    /// Have a link leave checksums of what it sends to whoever is next, or make them.
    Offload {
        /// The link.
        link: LinkRef,
        /// Whether it leaves them.
        on: bool,
        /// What it did before, if that was read.
        was: Option<bool>,
    },
    /// Put a port of a bridge into VLANs.
    VlanAdd {
        /// The port's link.
        link: LinkRef,
        /// The VLANs.
        vlans: Vlans,
        /// How the port was in those of them that it was in already.
        was: Vlans,
    },
    /// Take a port of a bridge out of VLANs.
    VlanDel {
        /// The port's link.
        link: LinkRef,
        /// The VLANs.
        vlans: Vlans,
    },
    /// Change the database of Open vSwitch.
    Ovs(OvsOperation),
    /// Change sets of the packet filter.
    Elements(ElementChange),
    /// Write a setting whose old value is remembered, or give that back.
    Borrow(Borrow),
    /// Begin or end to answer names on an address.
    Listen(Listen),
    /// Write the `resolv.conf` of a namespace.
    ResolvConf(ResolvConfSet),
    /// Change the shape or the copies of a link's traffic.
    Traffic(TrafficSet),
    /// Set the keys and peers of a `WireGuard` link.
    Wireguard(WireguardOperation),
    /// Change where a VXLAN tunnel sends what it knows no better place for.
    Flood(Flood),
}

/// An operation in a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The object it is for.
    pub object: ObjectKey,
    /// The row it is for; `None` when a marked object is collected whose row nobody knows any more.
    pub owner: Option<Owner>,
    /// When it runs.
    pub phase: Phase,
    /// What it does.
    pub operation: Operation,
    /// Positions of the steps without which it cannot work; all are smaller than its own.
    pub needs: Vec<usize>,
}

/// Steps in the order of their phases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel did it.
    Done,
    /// It takes long and is under way; [`crate::reconcile::Input::Finished`] tells of its end.
    Started,
    /// The kernel refused.
    Failed(Refusal),
    /// A step that it needs failed.
    Skipped,
}

/// Why the kernel, or another program, refused an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}{}", number(*.errno))]
pub struct Refusal {
    /// The kernel's error number, positive; 0 where another program refused.
    pub errno: i32,
    /// The kernel's own words where it gave some, else the error number's.
    pub text: EcoString,
}

fn number(errno: i32) -> EcoString {
    if errno == 0 {
        EcoString::new()
    } else {
        eco_format!(" (errno {errno})")
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a step and gives its position among those added so far; [`Plan::sort`] follows before the plan is used.
    pub(crate) fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    /// Puts the steps in the order of their phases and moves the positions in `needs` along.
    pub(crate) fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.steps.len()).collect();
        order.sort_by_key(|&at| self.steps[at].phase);
        let mut position = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            position[old] = new;
        }
        let mut steps: Vec<Option<Step>> = std::mem::take(&mut self.steps).into_iter().map(Some).collect();
        for old in order {
            if let Some(mut step) = steps[old].take() {
                for need in &mut step.needs {
                    *need = position[*need];
                }
                self.steps.push(step);
            }
        }
    }
}

impl LinkChange {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Operation {
    /// The operation that takes this one back, where there is one: a deleted link's inner state is gone for good.
    pub fn inverse(&self) -> Option<Self> {
        Some(match self.clone() {
            Self::LinkAdd { link, .. } => Self::LinkDel { link },
            Self::LinkSet { mut link, set, was } => {
                let after = set.name.clone().unwrap_or_else(|| link.name.clone());
                let name = std::mem::replace(&mut link.name, after);
                let was = LinkChange {
                    name: set.name.as_ref().map(|_| name),
                    ..was
                };
                Self::LinkSet {
                    link,
                    set: was,
                    was: set,
                }
            }
            Self::LinkMove { link, to } => {
                let link = LinkRef { index: None, ..link };
                Self::LinkMove { link: to, to: link }
            }
            Self::LinkDel { .. } | Self::DhcpStop { .. } | Self::Mesh(MeshOperation::Leave { .. }) => return None,
            Self::AddressAdd { link, address, .. } => Self::AddressDel { link, address },
            Self::AddressDel { link, address } => Self::AddressAdd {
                link,
                address,
                detect: false,
            },
            Self::AddressesMove(all) => Self::AddressesMove(all.inverse()),
            Self::RouteAdd(route) => Self::RouteDel(route),
            Self::RouteReplace { new, was } => Self::RouteReplace { new: was, was: new },
            Self::RouteDel(route) => Self::RouteAdd(route),
            Self::DhcpStart(start) => Self::DhcpStop { port: start.port },
            Self::Sysctl {
                namespace,
                path,
                value,
                was,
            } => Self::Sysctl {
                namespace,
                path,
                value: was?,
                was: Some(value),
            },
            Self::Container(operation) => Self::Container(operation.inverse()?),
            Self::Mesh(MeshOperation::Join { mesh, .. }) => Self::Mesh(MeshOperation::Leave { id: mesh.id }),
            Self::Offload { link, on, was } => Self::Offload {
                link,
                on: was?,
                was: Some(on),
            },
            Self::VlanAdd { link, vlans, was } if was.is_empty() => Self::VlanDel { link, vlans },
            Self::VlanAdd { link, vlans, was } => Self::VlanAdd {
                link,
                vlans: was,
                was: vlans,
            },
            Self::VlanDel { link, vlans } => Self::VlanAdd {
                link,
                vlans,
                was: Vlans::default(),
            },
            Self::Ovs(operation) => Self::Ovs(operation.inverse()?),
            Self::Elements(change) => Self::Elements(change.inverse()?),
            Self::Borrow(Borrow { path, value }) => {
                // What was given back is not remembered any more.
                value?;
                Self::Borrow(Borrow { path, value: None })
            }
            Self::Listen(listen) => Self::Listen(Listen {
                on: !listen.on,
                ..listen
            }),
            Self::Traffic(set) => Self::Traffic(set.inverse()),
            Self::ResolvConf(set) => Self::ResolvConf(ResolvConfSet {
                text: Some(set.was?).filter(|text| !text.is_empty()),
                was: Some(set.text.unwrap_or_default()),
                ..set
            }),
            Self::Wireguard(operation) => Self::Wireguard(operation.inverse()?),
            Self::Flood(flood) => Self::Flood(flood.inverse()),
        })
    }

    /// The namespace that the operation changes.
    pub fn namespace(&self) -> NamespaceId {
        match self {
            Self::LinkAdd { link, .. }
            | Self::LinkSet { link, .. }
            | Self::LinkDel { link }
            | Self::Offload { link, .. }
            | Self::VlanAdd { link, .. }
            | Self::VlanDel { link, .. }
            | Self::AddressAdd { link, .. }
            | Self::AddressDel { link, .. } => link.namespace,
            Self::RouteAdd(route) | Self::RouteReplace { new: route, .. } | Self::RouteDel(route) => route.namespace,
            Self::DhcpStart(start) => start.link.namespace,
            Self::LinkMove { to, .. } => to.namespace,
            Self::AddressesMove(all) => all.to.namespace,
            Self::Flood(flood) => flood.link.namespace,
            Self::Wireguard(WireguardOperation::Set(set)) => set.link.namespace,
            Self::Sysctl { namespace, .. } => *namespace,
            Self::Traffic(set) => set.link.namespace,
            Self::DhcpStop { .. }
            | Self::Container(_)
            | Self::Mesh(_)
            | Self::Ovs(_)
            | Self::Elements(_)
            | Self::Borrow(_)
            | Self::Listen(_)
            | Self::ResolvConf(_)
            | Self::Wireguard(WireguardOperation::Forget { .. }) => NamespaceId::Host,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{}", step.operation)?;
        }
        Ok(())
    }
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace {
            NamespaceId::Host => write!(f, "{}", self.name),
            inside @ NamespaceId::Inode(_) => write!(f, "{inside}/{}", self.name),
        }
    }
}

impl fmt::Display for PlacedRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.link, self.namespace) {
            (Some(link), _) => write!(f, "{} on {link}", self.route),
            (None, NamespaceId::Host) => write!(f, "{}", self.route),
            (None, inside) => write!(f, "{} in {inside}", self.route),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkAdd { link, new, .. } => write!(f, "add link {link} {new}"),
            Self::LinkSet { link, set, .. } => write!(f, "set link {link}{set}"),
            Self::LinkMove { link, to } => write!(f, "move link {link} to {to}"),
            Self::LinkDel { link } => write!(f, "delete link {link}"),
            Self::AddressAdd { link, address, .. } => write!(f, "add address {address} on {link}"),
            Self::AddressDel { link, address } => write!(f, "delete address {address} on {link}"),
            Self::AddressesMove(all) => write!(f, "{all}"),
            Self::RouteAdd(route) => write!(f, "add route {route}"),
            Self::RouteReplace { new, was } => write!(f, "replace route {was} by {new}"),
            Self::RouteDel(route) => write!(f, "delete route {route}"),
            Self::DhcpStart(start) => write!(f, "start DHCP client on {}", start.link),
            Self::DhcpStop { port } => write!(f, "end DHCP client of port {port}"),
            Self::Sysctl {
                namespace, path, value, ..
            } => write!(f, "write {value} to {path} in {namespace}"),
            Self::Container(operation) => write!(f, "{operation}"),
            Self::Mesh(operation) => write!(f, "{operation}"),
            Self::Offload { link, on, .. } => {
                write!(f, "set link {link} checksum offload {}", if *on { "on" } else { "off" })
            }
            Self::VlanAdd { link, vlans, .. } => write!(f, "add vlan {vlans} to {link}"),
            Self::VlanDel { link, vlans } => write!(f, "delete vlan {vlans} from {link}"),
            Self::Ovs(operation) => write!(f, "{operation}"),
            Self::Elements(change) => write!(f, "{change}"),
            Self::Borrow(borrow) => write!(f, "{borrow}"),
            Self::Listen(listen) => write!(f, "{listen}"),
            Self::ResolvConf(set) => write!(f, "{set}"),
            Self::Traffic(set) => write!(f, "{set}"),
            Self::Wireguard(operation) => write!(f, "{operation}"),
            Self::Flood(flood) => write!(f, "{flood}"),
        }
    }
}

impl fmt::Display for NewLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mac, mtu) = match self {
            Self::Bridge { mac, mtu, settings } => {
                write!(f, "type bridge{settings}")?;
                (mac, mtu)
            }
            Self::Veth { peer, peer_mac, mtu } => {
                write!(f, "type veth peer {peer}")?;
                (peer_mac, mtu)
            }
            Self::Single { spec, parent, mac, mtu } => {
                write!(f, "type {spec}")?;
                parent.as_ref().map_or(Ok(()), |parent| write!(f, " on {parent}"))?;
                (mac, mtu)
            }
        };
        if let Some(mac) = mac {
            write!(f, " mac {mac}")?;
        }
        if let Some(mtu) = mtu {
            write!(f, " mtu {mtu}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |on: bool| if on { "on" } else { "off" };
        if let Some(name) = &self.name {
            write!(f, " name {name}")?;
        }
        if let Some(alias) = &self.alias {
            write!(f, " alias {alias}")?;
        }
        if let Some(mac) = self.mac {
            write!(f, " mac {mac}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        match &self.master {
            Some(Some(bridge)) => write!(f, " bridge {bridge}")?,
            Some(None) => f.write_str(" bridge none")?,
            None => {}
        }
        if let Some(off) = self.address_generation_off {
            write!(f, " ipv6 {}", on(!off))?;
        }
        if let Some(bridge) = &self.bridge {
            write!(f, "{bridge}")?;
        }
        if let Some(spec) = &self.spec {
            write!(f, " type {spec}")?;
        }
        if let Some(isolated) = self.isolated {
            write!(f, " isolated {}", on(isolated))?;
        }
        if let Some(hairpin) = self.hairpin {
            write!(f, " hairpin {}", on(hairpin))?;
        }
        match self.up {
            Some(true) => f.write_str(" up"),
            Some(false) => f.write_str(" down"),
            None => Ok(()),
        }
    }
}
