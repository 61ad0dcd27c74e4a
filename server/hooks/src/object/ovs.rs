//! What rows want of Open vSwitch: bridges, ports, and the changes that make them.
//!
//! The values are those of the columns of `Open_vSwitch` (`ovs-vswitchd.conf.db(5)`), so that wanted and had compare as they are. Each row that is
//! made there carries the mark of the database and its owner in `external_ids`; what carries none is somebody else's.

mod guard;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ecow::EcoString;

pub use self::guard::{ANEW, COOKIE, DROP, Flow, OvsGuard, OvsGuardTrace};
use super::Owner;
use crate::name::{LinkName, Mac};

/// A bridge of Open vSwitch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvsBridge {
    /// Its name, which is also that of its local port: a link on the host.
    pub name: LinkName,
    /// The hardware address of its local port (`other_config:hwaddr`).
    pub mac: Option<Mac>,
    /// The MTU in bytes of its local port (`mtu_request`).
    pub mtu: Option<u32>,
    /// Whether it speaks the spanning tree protocol (`stp_enable`).
    pub stp: bool,
    /// Whether it looks at who listens to which group (`mcast_snooping_enable`).
    pub mcast_snooping: bool,
    /// The datapath: `netdev` is the one in user space; empty is that of the kernel.
    pub datapath_type: EcoString,
    /// What it does without its controller: `standalone` or `secure`.
    pub fail_mode: Option<EcoString>,
    /// The targets of its controllers, such as `tcp:127.0.0.1:6653`.
    pub controllers: BTreeSet<EcoString>,
    /// Whether it carries IPv6; if not, the kernel makes no link-local address on its local port.
    pub ipv6: bool,
}

/// A port of a bridge of Open vSwitch, with its only interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvsPort {
    /// Its name, and that of its interface.
    pub name: LinkName,
    /// The bridge.
    pub bridge: LinkName,
    /// The type of the interface (`internal`, `patch`, `vxlan`); empty for a link of the host.
    pub interface: EcoString,
    /// The options of the interface, such as the `peer` of a patch port.
    pub options: BTreeMap<EcoString, EcoString>,
    /// The VLAN of frames without a tag.
    pub tag: Option<u16>,
    /// The VLANs of frames with a tag.
    pub trunks: BTreeSet<u16>,
    /// Whether it is kept from the other ports that are (`protected`).
    pub protected: bool,
    /// Whether Open vSwitch leaves the queue of its link to others (`qos` of type `linux-noop`); it takes away what it finds otherwise.
    pub leaves_queue: bool,
    /// The addresses that it is held to, by flows and not by the database.
    pub guard: Option<OvsGuard>,
    /// The hardware address; of an internal port only.
    pub mac: Option<Mac>,
    /// The MTU in bytes (`mtu_request`); of an internal port only.
    pub mtu: Option<u32>,
    /// Whether an internal port carries IPv6; if not, the kernel makes no link-local address on it.
    pub ipv6: bool,
}

/// Whose a row of Open vSwitch is (`external_ids`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OvsMark {
    /// The mark of a nonnet database (`nonnet-database`); empty for somebody else's row.
    pub database: EcoString,
    /// The row that wants it (`nonnet`).
    pub owner: Option<Owner>,
}

/// One change of the database of Open vSwitch. Changes of one plan are one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OvsOperation {
    /// Make a bridge, or make it what it should be.
    BridgeSet {
        /// As it should be.
        bridge: OvsBridge,
        /// Whose it is.
        mark: OvsMark,
        /// As it was; `None` where there was none.
        was: Option<OvsBridge>,
    },
    /// Delete a bridge with its ports.
    BridgeDel {
        /// Its name.
        name: LinkName,
    },
    /// Make a port, or make it what it should be; on another bridge it is moved.
    PortSet {
        /// As it should be.
        port: OvsPort,
        /// Whose it is.
        mark: OvsMark,
        /// As it was; `None` where there was none.
        was: Option<OvsPort>,
    },
    /// Delete a port.
    PortDel {
        /// Its name.
        name: LinkName,
    },
    /// Hold a port that is there to its own addresses, or no longer. It is in no transaction, but follows them.
    GuardSet {
        /// The port's name.
        name: LinkName,
        /// The addresses from now on.
        set: Option<OvsGuard>,
        /// What was seen before.
        was: Option<OvsGuardTrace>,
    },
}

impl OvsPort {
    /// A link of the host as a port, with all VLANs as they come.
    pub fn system(name: LinkName, bridge: LinkName) -> Self {
        Self {
            name,
            bridge,
            interface: EcoString::new(),
            options: BTreeMap::new(),
            tag: None,
            trunks: BTreeSet::new(),
            protected: false,
            leaves_queue: false,
            guard: None,
            mac: None,
            mtu: None,
            ipv6: false,
        }
    }

    /// Whether Open vSwitch makes a link of the port's name on the host.
    pub fn is_internal(&self) -> bool {
        self.interface == INTERNAL
    }

    /// How frames with and without a tag are treated (`vlan_mode`): as a Linux bridge does where a port has both.
    pub fn vlan_mode(&self) -> Option<&'static str> {
        (self.tag.is_some() && !self.trunks.is_empty()).then_some("native-untagged")
    }
}

/// The type of an interface that Open vSwitch makes a link of the host for.
pub const INTERNAL: &str = "internal";

/// The type of an interface that leads to another bridge.
pub const PATCH: &str = "patch";

/// The type of quality of service by which Open vSwitch leaves the queue of a link alone.
pub const QUEUE_LEFT: &str = "linux-noop";

/// The datapath in user space.
pub const DATAPATH_NETDEV: &str = "netdev";

impl OvsOperation {
    /// The name of the bridge or port that it changes.
    pub fn name(&self) -> &LinkName {
        match self {
            Self::BridgeSet { bridge, .. } => &bridge.name,
            Self::PortSet { port, .. } => &port.name,
            Self::BridgeDel { name } | Self::PortDel { name } | Self::GuardSet { name, .. } => name,
        }
    }

    /// The operation that takes this one back: a deleted bridge's ports are gone for good, and flows do not tell what a guard was.
    pub fn inverse(&self) -> Option<Self> {
        match self.clone() {
            Self::BridgeSet { bridge, mark, was } => Some(match was {
                Some(was) => Self::BridgeSet {
                    bridge: was,
                    mark,
                    was: Some(bridge),
                },
                None => Self::BridgeDel { name: bridge.name },
            }),
            Self::PortSet { port, mark, was } => Some(match was {
                Some(was) => Self::PortSet {
                    port: was,
                    mark,
                    was: Some(port),
                },
                None => Self::PortDel { name: port.name },
            }),
            Self::GuardSet { name, set, was: None } => Some(Self::GuardSet {
                name,
                set: None,
                was: set.map(|set| set.trace()),
            }),
            Self::BridgeDel { .. } | Self::PortDel { .. } | Self::GuardSet { .. } => None,
        }
    }
}

impl fmt::Display for OvsOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BridgeSet { bridge, was: None, .. } => write!(f, "add ovs bridge {}{bridge}", bridge.name),
            Self::BridgeSet { bridge, .. } => write!(f, "set ovs bridge {}{bridge}", bridge.name),
            Self::BridgeDel { name } => write!(f, "delete ovs bridge {name}"),
            Self::PortSet { port, was: None, .. } => write!(f, "add ovs port {}{port}", port.name),
            Self::PortSet { port, .. } => write!(f, "set ovs port {}{port}", port.name),
            Self::PortDel { name } => write!(f, "delete ovs port {name}"),
            Self::GuardSet {
                name, set: Some(set), ..
            } => write!(f, "hold ovs port {name} to {set}"),
            Self::GuardSet { name, set: None, .. } => write!(f, "hold ovs port {name} to no addresses"),
        }
    }
}

/// The settings, each after a space.
impl fmt::Display for OvsBridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.datapath_type.is_empty() {
            write!(f, " datapath_type {}", self.datapath_type)?;
        }
        if let Some(mac) = self.mac {
            write!(f, " mac {mac}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if self.stp {
            f.write_str(" stp on")?;
        }
        if self.mcast_snooping {
            f.write_str(" mcast_snooping on")?;
        }
        if let Some(fail_mode) = &self.fail_mode {
            write!(f, " fail_mode {fail_mode}")?;
        }
        for controller in &self.controllers {
            write!(f, " controller {controller}")?;
        }
        Ok(())
    }
}

/// The settings, each after a space.
impl fmt::Display for OvsPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " bridge {}", self.bridge)?;
        if !self.interface.is_empty() {
            write!(f, " type {}", self.interface)?;
        }
        for (key, value) in &self.options {
            write!(f, " {key} {value}")?;
        }
        if let Some(tag) = self.tag {
            write!(f, " tag {tag}")?;
        }
        if !self.trunks.is_empty() {
            let trunks: Vec<String> = self.trunks.iter().map(u16::to_string).collect();
            write!(f, " trunks {}", trunks.join(","))?;
        }
        if self.protected {
            f.write_str(" protected on")?;
        }
        if self.leaves_queue {
            write!(f, " qos {QUEUE_LEFT}")?;
        }
        if let Some(mac) = self.mac {
            write!(f, " mac {mac}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        Ok(())
    }
}
