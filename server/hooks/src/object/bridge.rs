//! A Linux bridge: what rows want of it, and which of its settings the kernel tells.

use std::fmt;

use crate::name::{LinkName, Mac};

/// A Linux bridge in the server's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: LinkName,
    /// Its hardware address. `None` leaves it to the kernel, which then changes it as ports come and go.
    pub mac: Option<Mac>,
    /// Its MTU in bytes. `None` leaves it to the kernel.
    pub mtu: Option<u32>,
    /// How it forwards.
    pub settings: BridgeSettings,
    /// Whether it carries IPv6; if not, the kernel makes no link-local address on it (`addr_gen_mode none`).
    pub ipv6: bool,
    /// Whether a bridge of that name which somebody else made is taken over.
    pub adopt: bool,
}

/// How a Linux bridge forwards (`IFLA_BR_*` of `linux/if_link.h`). `None`: as it is; of what the kernel told: it said nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeSettings {
    /// Whether it speaks the spanning tree protocol.
    pub stp: Option<bool>,
    /// Whether its ports have VLANs.
    pub vlan_filtering: Option<bool>,
    /// Whether it looks at who listens to which group.
    pub mcast_snooping: Option<bool>,
    /// Whether it asks who listens.
    pub mcast_querier: Option<bool>,
    /// Its priority in the spanning tree.
    pub priority: Option<u16>,
    /// Hundredths of a second that a port listens and learns before it forwards.
    pub forward_delay: Option<u32>,
    /// Hundredths of a second between its hellos.
    pub hello_time: Option<u32>,
    /// Hundredths of a second after which another bridge that says nothing is gone.
    pub max_age: Option<u32>,
    /// Hundredths of a second that it remembers where an address is.
    pub ageing_time: Option<u32>,
    /// The link-local groups that it forwards, a bit for each last octet of `01:80:c2:00:00:0x`.
    pub group_fwd_mask: Option<u16>,
}

/// Gives every setting to a macro.
macro_rules! each_setting {
    ($do:ident) => {
        $do!(stp vlan_filtering mcast_snooping mcast_querier priority forward_delay hello_time max_age ageing_time group_fwd_mask)
    };
}

impl BridgeSettings {
    /// What a new bridge has in the kernel.
    pub const NEW: Self = Self {
        stp: Some(false),
        vlan_filtering: Some(false),
        mcast_snooping: Some(true),
        mcast_querier: Some(false),
        priority: Some(0x8000),
        forward_delay: Some(1500),
        hello_time: Some(200),
        max_age: Some(2000),
        ageing_time: Some(30_000),
        group_fwd_mask: Some(0),
    };

    /// The settings that are to be other than in `have`, and what these are there. What a kernel does not tell is as in a new bridge.
    pub fn differing(&self, have: &Self) -> (Self, Self) {
        let (mut set, mut was) = (Self::default(), Self::default());
        macro_rules! pick {
            ($($setting:ident)*) => {$(
                if self.$setting.is_some() && self.$setting != have.$setting.or(Self::NEW.$setting) {
                    (set.$setting, was.$setting) = (self.$setting, have.$setting);
                }
            )*};
        }
        each_setting!(pick);
        (set, was)
    }

    /// Takes over what `set` says.
    pub fn change(&mut self, set: &Self) {
        macro_rules! take {
            ($($setting:ident)*) => {$( self.$setting = set.$setting.or(self.$setting); )*};
        }
        each_setting!(take);
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The settings, each after a space.
impl fmt::Display for BridgeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switches = [
            ("stp", self.stp),
            ("vlan_filtering", self.vlan_filtering),
            ("mcast_snooping", self.mcast_snooping),
            ("mcast_querier", self.mcast_querier),
        ];
        for (name, value) in switches {
            if let Some(on) = value {
                write!(f, " {name} {}", if on { "on" } else { "off" })?;
            }
        }
        let numbers = [
            ("priority", self.priority.map(u32::from), ""),
            ("forward_delay", self.forward_delay, "cs"),
            ("hello_time", self.hello_time, "cs"),
            ("max_age", self.max_age, "cs"),
            ("ageing_time", self.ageing_time, "cs"),
            ("group_fwd_mask", self.group_fwd_mask.map(u32::from), ""),
        ];
        for (name, value, unit) in numbers {
            if let Some(value) = value {
                write!(f, " {name} {value}{unit}")?;
            }
        }
        Ok(())
    }
}
