//! The settings of a link's kind, as rows want them and as the kernel tells them.
//!
//! Both sides are complete values: what a row leaves out is the kernel's default here, so that a setting which a row loses is taken back.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::name::Mac;

/// A kind of link with its settings (`IFLA_INFO_KIND`, `IFLA_INFO_DATA`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// A second address on a link, for a namespace.
    Macvlan(Macvlan),
    /// The same, as a character device for a virtual machine.
    Macvtap(Macvlan),
    /// A second IP stack behind a link's hardware address.
    Ipvlan(Ipvlan),
    /// What carries one VLAN tag on a link.
    Vlan(Vlan),
    /// A tunnel of Ethernet frames in UDP.
    Vxlan(Vxlan),
    /// Another such tunnel.
    Geneve(Geneve),
    /// Several links as one.
    Bond(Bond),
    /// An Ethernet device for a program.
    Tap(Tap),
    /// An encrypted tunnel.
    Wireguard,
    /// An IP device for a program: an encrypted tunnel where the kernel has none. It lives as long as its program.
    Tun,
    /// A link that swallows everything.
    Dummy,
}

/// What must be done so that a link with some settings gets others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Nothing.
    Equal,
    /// The kernel changes them in place.
    Change,
    /// The kernel changes them in no link that exists: it is made again.
    Again,
}

/// Settings of a macvlan or macvtap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Macvlan {
    /// Who may talk to whom.
    pub mode: MacvlanMode,
    /// The hardware addresses from which frames are taken in mode `source`.
    pub sources: BTreeSet<Mac>,
}

/// `IFLA_MACVLAN_MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Links on the same parent reach each other.
    #[default]
    Bridge,
    /// Frames between them go out and come back.
    Vepa,
    /// They do not reach each other.
    Private,
    /// One link takes the parent over.
    Passthru,
    /// Frames are told apart by where they come from.
    Source,
}

/// Settings of an ipvlan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipvlan {
    /// On which layer it works.
    pub mode: IpvlanMode,
    /// Who may talk to whom.
    pub reach: IpvlanReach,
}

/// `IFLA_IPVLAN_MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpvlanMode {
    /// Layer 2.
    #[default]
    L2,
    /// Layer 3: neither broadcast nor multicast.
    L3,
    /// Layer 3 with connection tracking on the host.
    L3s,
}

/// `IFLA_IPVLAN_FLAGS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpvlanReach {
    /// Links on the same parent reach each other.
    #[default]
    Bridge,
    /// They do not.
    Private,
    /// Frames between them go out and come back.
    Vepa,
}

/// Settings of a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The tag, 1 to 4094.
    pub tag: u16,
    /// Whether the tag is a service tag (802.1ad) instead of one of 802.1Q.
    pub service: bool,
}

/// Settings of a VXLAN tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The network's number, 24 bits.
    pub vni: u32,
    /// The address from which it sends.
    pub local: Option<IpAddr>,
    /// Where frames go for which no better place is known: another end, or a multicast group.
    pub remote: Option<IpAddr>,
    /// The UDP port.
    pub port: u16,
    /// Whether it learns from which end a hardware address came.
    pub learning: bool,
    /// The time to live of its packets; 0 leaves it to the kernel.
    pub ttl: u8,
}

/// Settings of a Geneve tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geneve {
    /// The network's number, 24 bits.
    pub vni: u32,
    /// The other end.
    pub remote: Option<IpAddr>,
    /// The UDP port.
    pub port: u16,
    /// The time to live of its packets; 0 leaves it to the kernel.
    pub ttl: u8,
}

/// Settings of a bond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bond {
    /// Which link sends.
    pub mode: BondMode,
    /// Milliseconds between looks at the carrier of the members; 0: none.
    pub miimon_ms: u32,
    /// Milliseconds after which a member whose carrier came is used.
    pub up_delay_ms: u32,
    /// Milliseconds after which a member whose carrier went is not used.
    pub down_delay_ms: u32,
    /// How flows are spread.
    pub hash: BondHash,
    /// Whether the partner is asked for LACP packets every second instead of every 30.
    pub lacp_fast: bool,
}

/// `IFLA_BOND_MODE`; the numbers are the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum BondMode {
    /// Each frame through the next member.
    #[default]
    BalanceRr = 0,
    /// One member at a time.
    ActiveBackup = 1,
    /// By a hash of the addresses.
    BalanceXor = 2,
    /// Through all members.
    Broadcast = 3,
    /// By agreement with the partner.
    Lacp = 4,
    /// By the load of the members.
    BalanceTlb = 5,
    /// By the load of the members, in both directions.
    BalanceAlb = 6,
}

/// `IFLA_BOND_XMIT_HASH_POLICY`; the numbers are the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum BondHash {
    /// Hardware addresses.
    #[default]
    Layer2 = 0,
    /// Addresses and ports of IP.
    Layer34 = 1,
    /// Hardware and IP addresses.
    Layer23 = 2,
    /// As `layer2+3`, of what a tunnel carries.
    Encap23 = 3,
    /// As `layer3+4`, of what a tunnel carries.
    Encap34 = 4,
    /// VLAN and source hardware address.
    VlanSourceMac = 5,
}

/// Settings of a tap device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tap {
    /// The user who may open it besides root.
    pub user: Option<u32>,
    /// The group that may open it.
    pub group: Option<u32>,
    /// Whether it can be opened several times.
    pub multi_queue: bool,
    /// Whether its frames have a header for offloading.
    pub vnet_header: bool,
}

impl Spec {
    /// The name of the kind, as the kernel has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Macvlan(_) => "macvlan",
            Self::Macvtap(_) => "macvtap",
            Self::Ipvlan(_) => "ipvlan",
            Self::Vlan(_) => "vlan",
            Self::Vxlan(_) => "vxlan",
            Self::Geneve(_) => "geneve",
            Self::Bond(_) => "bond",
            Self::Tap(_) | Self::Tun => "tun",
            Self::Wireguard => "wireguard",
            Self::Dummy => "dummy",
        }
    }

    /// What must be done so that a link which has `have` gets these settings.
    pub fn fit(&self, have: &Self) -> Fit {
        if self == have {
            return Fit::Equal;
        }
        let changes = match (self, have) {
            (Self::Macvlan(want), Self::Macvlan(have)) | (Self::Macvtap(want), Self::Macvtap(have)) => {
                let passes = |mode| mode == MacvlanMode::Passthru;
                want.mode == have.mode || !(passes(want.mode) || passes(have.mode))
            }
            (Self::Ipvlan(_), Self::Ipvlan(_)) => true,
            (Self::Vxlan(want), Self::Vxlan(have)) => {
                (want.vni, want.port) == (have.vni, have.port)
                    && same_family(want.local, have.local)
                    && same_family(want.remote, have.remote)
            }
            (Self::Geneve(want), Self::Geneve(have)) => {
                (want.vni, want.port) == (have.vni, have.port) && same_family(want.remote, have.remote)
            }
            (Self::Bond(want), Self::Bond(have)) => (want.mode, want.lacp_fast) == (have.mode, have.lacp_fast),
            _ => false,
        };
        if changes { Fit::Change } else { Fit::Again }
    }
}

impl BondMode {
    /// The mode of the kernel's number, which is its place among the words.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::of_word(Self::WORDS.get(usize::from(number))?)
    }
}

impl BondHash {
    /// The policy of the kernel's number, which is its place among the words.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::of_word(Self::WORDS.get(usize::from(number))?)
    }
}

/// Whether one address can take the other's place in a tunnel that exists.
fn same_family(want: Option<IpAddr>, have: Option<IpAddr>) -> bool {
    want == have || matches!((want, have), (Some(want), Some(have)) if want.is_ipv4() == have.is_ipv4())
}

/// Words that stand for the values of an enum in rows: `words!(Type; Value = "word", ...)`.
macro_rules! words {
    ($type:ty; $($value:ident = $word:literal),+ $(,)?) => {
        impl $type {
            /// All words, for an error that names them.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The value of a word.
            pub fn of_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$value),)+
                    _ => None,
                }
            }

            /// The word that stands for the value.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }
        }
    };
}

words!(MacvlanMode; Bridge = "bridge", Vepa = "vepa", Private = "private", Passthru = "passthru", Source = "source");
words!(IpvlanMode; L2 = "l2", L3 = "l3", L3s = "l3s");
words!(IpvlanReach; Bridge = "bridge", Private = "private", Vepa = "vepa");
words!(BondMode; BalanceRr = "balance-rr", ActiveBackup = "active-backup", BalanceXor = "balance-xor", Broadcast = "broadcast",
    Lacp = "802.3ad", BalanceTlb = "balance-tlb", BalanceAlb = "balance-alb");
words!(BondHash; Layer2 = "layer2", Layer34 = "layer3+4", Layer23 = "layer2+3", Encap23 = "encap2+3", Encap34 = "encap3+4",
    VlanSourceMac = "vlan+srcmac");

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if let Self::Tap(_) = self { "tap" } else { self.kind() })?;
        match self {
            Self::Macvlan(macvlan) | Self::Macvtap(macvlan) => {
                write!(f, " mode {}", macvlan.mode.word())?;
                macvlan.sources.iter().try_for_each(|mac| write!(f, " source {mac}"))
            }
            Self::Ipvlan(ipvlan) => write!(f, " mode {} {}", ipvlan.mode.word(), ipvlan.reach.word()),
            Self::Vlan(vlan) => write!(
                f,
                " id {}{}",
                vlan.tag,
                if vlan.service { " protocol 802.1ad" } else { "" }
            ),
            Self::Vxlan(vxlan) => {
                write!(f, " id {} dstport {}", vxlan.vni, vxlan.port)?;
                write_addresses(f, vxlan.local, vxlan.remote)?;
                f.write_str(if vxlan.learning { "" } else { " nolearning" })?;
                write_ttl(f, vxlan.ttl)
            }
            Self::Geneve(geneve) => {
                write!(f, " id {} dstport {}", geneve.vni, geneve.port)?;
                write_addresses(f, None, geneve.remote)?;
                write_ttl(f, geneve.ttl)
            }
            Self::Bond(bond) => write!(
                f,
                " mode {} miimon {} updelay {} downdelay {} xmit_hash_policy {} lacp_rate {}",
                bond.mode.word(),
                bond.miimon_ms,
                bond.up_delay_ms,
                bond.down_delay_ms,
                bond.hash.word(),
                if bond.lacp_fast { "fast" } else { "slow" }
            ),
            Self::Tap(tap) => {
                tap.user.map_or(Ok(()), |user| write!(f, " user {user}"))?;
                tap.group.map_or(Ok(()), |group| write!(f, " group {group}"))?;
                f.write_str(if tap.multi_queue { " multi_queue" } else { "" })?;
                f.write_str(if tap.vnet_header { " vnet_hdr" } else { "" })
            }
            Self::Wireguard | Self::Tun | Self::Dummy => Ok(()),
        }
    }
}

fn write_addresses(f: &mut fmt::Formatter<'_>, local: Option<IpAddr>, remote: Option<IpAddr>) -> fmt::Result {
    local.map_or(Ok(()), |local| write!(f, " local {local}"))?;
    let word = if remote.is_some_and(|remote| remote.is_multicast()) {
        "group"
    } else {
        "remote"
    };
    remote.map_or(Ok(()), |remote| write!(f, " {word} {remote}"))
}

fn write_ttl(f: &mut fmt::Formatter<'_>, ttl: u8) -> fmt::Result {
    if ttl == 0 { Ok(()) } else { write!(f, " ttl {ttl}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macvlan(mode: MacvlanMode) -> Spec {
        Spec::Macvlan(Macvlan {
            mode,
            sources: BTreeSet::new(),
        })
    }

    #[test]
    fn a_mode_changes_in_place_unless_one_of_them_takes_the_parent_over() {
        let bridge = macvlan(MacvlanMode::Bridge);
        assert_eq!(bridge.fit(&bridge), Fit::Equal);
        assert_eq!(bridge.fit(&macvlan(MacvlanMode::Private)), Fit::Change);
        assert_eq!(bridge.fit(&macvlan(MacvlanMode::Passthru)), Fit::Again);
        assert_eq!(bridge.fit(&Spec::Dummy), Fit::Again);
    }

    #[test]
    fn every_word_is_that_of_its_value() {
        for word in BondMode::WORDS {
            assert_eq!(BondMode::of_word(word).map(BondMode::word), Some(*word));
        }
        for number in 0..7 {
            assert_eq!(BondMode::of_number(number).map(|mode| mode as u8), Some(number));
            assert_eq!(
                BondHash::of_number(number).map(|hash| hash as u8),
                Some(number).filter(|number| *number < 6)
            );
        }
    }
}
