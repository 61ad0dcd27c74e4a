//! The kind of link that a port's row describes, with the settings of that kind.
//!
//! Takes the columns `kind`, `mode`, `parent`, `tag`, `members`, `options` and those of the row's network; gives the kind, or which column is
//! wrong and why. Whether this host's kernel has the kind is found out when the link is made.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use nonnet_engine::Row;
use nonnet_schema::Atom;

use super::Columns;
use crate::address;
use crate::name::{LinkName, Mac};
use crate::object::wireguard::{Peer, PublicKey, Secret, Settings};
use crate::object::{
    Bond, BondHash, BondMode, Geneve, Ipvlan, IpvlanMode, IpvlanReach, Macvlan, MacvlanMode, PortKind, Role, Single, Spec, Tap,
    Vlan, Vxlan,
};
use crate::tables::{Tables, number, peers, text, texts};

/// The UDP port of VXLAN (RFC 7348 5).
const VXLAN_PORT: u16 = 4789;

/// The UDP port of Geneve (RFC 8926 3.3).
const GENEVE_PORT: u16 = 6081;

/// The largest network number: 24 bits.
const VNI_MAX: u32 = 0x00ff_ffff;

/// A column that is wrong, and why.
type Wrong = (&'static str, String);

/// A port's row and its network's, if it is on one.
pub(super) struct Source<'a> {
    pub(super) tables: &'a Tables,
    pub(super) row: &'a Row,
    pub(super) network: Option<&'a Row>,
    /// Whether the port has a bridge, its own or its network's.
    pub(super) on_bridge: bool,
}

impl<'a> Source<'a> {
    fn columns(&self) -> &'a Columns {
        &self.tables.ports
    }

    /// The word of the kind: where the row has none, that which its network needs.
    pub(super) fn word(&self) -> &'a str {
        match text(self.row, self.columns().kind) {
            "" if !self.on_bridge && self.shared_parent().is_some() => "macvlan",
            "" => "veth",
            word => word,
        }
    }

    /// The kind.
    ///
    /// # Errors
    /// The first column that is wrong.
    pub(super) fn kind(&self) -> Result<PortKind, Wrong> {
        let word = self.word();
        let spec = match word {
            "veth" => {
                self.check_unused(word, &["mode", "parent", "members"])?;
                return Ok(PortKind::Veth);
            }
            "macvlan" => Spec::Macvlan(self.macvlan(word)?),
            "macvtap" => Spec::Macvtap(self.macvlan(word)?),
            "ipvlan" => Spec::Ipvlan(self.ipvlan()?),
            "vlan" => Spec::Vlan(self.vlan()?),
            "vxlan" => Spec::Vxlan(self.vxlan()?),
            "geneve" => Spec::Geneve(self.geneve()?),
            "bond" => Spec::Bond(self.bond()?),
            "tap" => Spec::Tap(self.tap()?),
            "dummy" => {
                self.check_options(&[])?;
                self.check_unused(word, &["mode", "parent", "members"])?;
                Spec::Dummy
            }
            "wireguard" => self.wireguard_spec()?,
            "adopted" => {
                self.check_options(&[])?;
                self.check_unused(word, &["mode", "parent", "members"])?;
                return Ok(PortKind::Adopted(Role::Port));
            }
            other => return Err(("kind", format!("ports of kind \"{other}\" are not supported yet"))),
        };
        let parent = self.parent()?;
        match &spec {
            Spec::Macvlan(_) | Spec::Macvtap(_) | Spec::Ipvlan(_) | Spec::Vlan(_) if parent.is_none() => {
                return Err(("parent", format!("a {word} needs a parent: the name of the link that it is on")));
            }
            Spec::Vxlan(vxlan) if parent.is_none() && vxlan.remote.is_some_and(|remote| remote.is_multicast()) => {
                return Err(("parent", "a multicast group needs a parent: the link that it is reached through".into()));
            }
            _ => {}
        }
        let takes_parent = matches!(
            spec,
            Spec::Macvlan(_) | Spec::Macvtap(_) | Spec::Ipvlan(_) | Spec::Vlan(_) | Spec::Vxlan(_)
        );
        Ok(PortKind::Single(Box::new(Single {
            spec,
            parent: parent.filter(|_| takes_parent),
        })))
    }

    /// The row's parent, else its network's.
    pub(super) fn parent(&self) -> Result<Option<LinkName>, Wrong> {
        let own = Some(text(self.row, self.columns().parent)).filter(|own| !own.is_empty());
        let Some(parent) = own.or(self.shared_parent()) else { return Ok(None) };
        let parent = LinkName::new(parent).map_err(|error| ("parent", error.to_string()))?;
        if parent.as_str() == text(self.row, self.columns().name) {
            return Err(("parent", "a port cannot be its own parent".into()));
        }
        Ok(Some(parent))
    }

    fn shared_parent(&self) -> Option<&'a str> {
        let parent = text(self.network?, self.tables.networks.parent);
        Some(parent).filter(|parent| !parent.is_empty())
    }

    fn macvlan(&self, word: &str) -> Result<Macvlan, Wrong> {
        self.check_unused(word, &["members"])?;
        self.check_options(&["sources"])?;
        let mode: MacvlanMode = self.mode(MacvlanMode::of_word, MacvlanMode::WORDS)?.unwrap_or_default();
        let sources = self.option("sources").unwrap_or_default();
        if !sources.is_empty() && mode != MacvlanMode::Source {
            return Err(("options:sources", "only mode \"source\" looks at where frames come from".into()));
        }
        let sources = sources.split([' ', ',']).filter(|mac| !mac.is_empty()).map(str::parse::<Mac>);
        let sources = sources.collect::<Result<_, _>>().map_err(|error| ("options:sources", error.to_string()))?;
        Ok(Macvlan { mode, sources })
    }

    fn ipvlan(&self) -> Result<Ipvlan, Wrong> {
        self.check_unused("ipvlan", &["members"])?;
        self.check_options(&["flag"])?;
        let mode: IpvlanMode = self.mode(IpvlanMode::of_word, IpvlanMode::WORDS)?.unwrap_or_default();
        if !text(self.row, self.columns().mac).is_empty() {
            return Err(("mac", "an ipvlan has the hardware address of its parent".into()));
        }
        let by_dhcp = self.network.is_some_and(|row| text(row, self.tables.networks.ipam) == "dhcp");
        if by_dhcp && mode != IpvlanMode::L2 {
            let why = format!("DHCP takes broadcasts, which an ipvlan of mode {} does not have", mode.word());
            return Err(("mode", why));
        }
        let reach = self.option("flag").map(|word| {
            let words = IpvlanReach::WORDS.join(", ");
            IpvlanReach::of_word(word).ok_or(("options:flag", format!("\"{word}\" is none of {words}")))
        });
        let reach = reach.transpose()?.unwrap_or_default();
        Ok(Ipvlan { mode, reach })
    }

    fn vlan(&self) -> Result<Vlan, Wrong> {
        self.check_unused("vlan", &["mode", "members"])?;
        self.check_options(&["protocol"])?;
        let tag = number(self.row, self.columns().tag).and_then(|tag| u16::try_from(tag).ok());
        let tag = tag.ok_or(("tag", "a vlan needs a tag, 1 to 4094".to_owned()))?;
        let service = match self.option("protocol") {
            None | Some("802.1q" | "802.1Q") => false,
            Some("802.1ad" | "802.1AD") => true,
            Some(other) => return Err(("options:protocol", format!("\"{other}\" is neither 802.1q nor 802.1ad"))),
        };
        Ok(Vlan { tag, service })
    }

    fn vxlan(&self) -> Result<Vxlan, Wrong> {
        self.check_unused("vxlan", &["mode", "members"])?;
        self.check_options(&["vni", "local", "remote", "group", "port", "learning", "ttl"])?;
        let remote = self.address("remote", "options:remote")?;
        // A group is no host's address, which is what others are checked for.
        let group: Option<IpAddr> = self.number("group", "options:group")?;
        if group.is_some_and(|group| !group.is_multicast()) {
            return Err(("options:group", "it is not a multicast address".into()));
        }
        if remote.is_some() && group.is_some() {
            return Err(("options:group", "there is options:remote already".into()));
        }
        let local = self.address("local", "options:local")?;
        let other = remote.or(group);
        if let (Some(local), Some(other)) = (local, other)
            && local.is_ipv4() != other.is_ipv4()
        {
            return Err(("options:local", format!("{local} and {other} are of different families")));
        }
        Ok(Vxlan {
            vni: self.vni("vxlan")?,
            local,
            remote: other,
            port: self.number("port", "options:port")?.unwrap_or(VXLAN_PORT),
            learning: self.flag("learning", "options:learning")?.unwrap_or(true),
            ttl: self.number("ttl", "options:ttl")?.unwrap_or(0),
        })
    }

    fn geneve(&self) -> Result<Geneve, Wrong> {
        self.check_unused("geneve", &["mode", "parent", "members"])?;
        self.check_options(&["vni", "remote", "port", "ttl"])?;
        let remote = self.address("remote", "options:remote")?;
        Ok(Geneve {
            vni: self.vni("geneve")?,
            remote: Some(remote.ok_or(("options:remote", "a geneve needs the address of its other end".to_owned()))?),
            port: self.number("port", "options:port")?.unwrap_or(GENEVE_PORT),
            ttl: self.number("ttl", "options:ttl")?.unwrap_or(0),
        })
    }

    fn bond(&self) -> Result<Bond, Wrong> {
        self.check_unused("bond", &["parent"])?;
        self.check_options(&["miimon", "updelay", "downdelay", "xmit_hash_policy", "lacp_rate"])?;
        let by_number = |word: &str| BondMode::of_word(word).or_else(|| BondMode::of_number(word.parse().ok()?));
        let mode = self.mode(by_number, BondMode::WORDS)?.unwrap_or_default();
        let hash = self.option("xmit_hash_policy").map(|word| {
            let words = BondHash::WORDS.join(", ");
            BondHash::of_word(word).ok_or(("options:xmit_hash_policy", format!("\"{word}\" is none of {words}")))
        });
        let lacp_fast = match self.option("lacp_rate") {
            Some(_) if mode != BondMode::Lacp => {
                return Err(("options:lacp_rate", "only mode 802.3ad has a rate of LACP".into()));
            }
            None | Some("slow" | "0") => false,
            Some("fast" | "1") => true,
            Some(other) => return Err(("options:lacp_rate", format!("\"{other}\" is neither slow nor fast"))),
        };
        Ok(Bond {
            mode,
            miimon_ms: self.number("miimon", "options:miimon")?.unwrap_or(100),
            up_delay_ms: self.number("updelay", "options:updelay")?.unwrap_or(0),
            down_delay_ms: self.number("downdelay", "options:downdelay")?.unwrap_or(0),
            hash: hash.transpose()?.unwrap_or_default(),
            lacp_fast,
        })
    }

    fn tap(&self) -> Result<Tap, Wrong> {
        self.check_unused("tap", &["mode", "parent", "members"])?;
        self.check_options(&["user", "group", "multi_queue", "vnet_hdr"])?;
        Ok(Tap {
            user: self.number("user", "options:user")?,
            group: self.number("group", "options:group")?,
            multi_queue: self.flag("multi_queue", "options:multi_queue")?.unwrap_or(false),
            vnet_header: self.flag("vnet_hdr", "options:vnet_hdr")?.unwrap_or(false),
        })
    }

    /// Which link a `WireGuard` is depends on who does it: the kernel, or a program of this host.
    fn wireguard_spec(&self) -> Result<Spec, Wrong> {
        self.check_unused("wireguard", &["mode", "parent", "members"])?;
        self.check_options(&["private_key_file", "listen_port", "fwmark", "userspace", "routes"])?;
        if self.on_bridge {
            return Err(("bridge", "a wireguard carries IP and no Ethernet: it cannot be a port of a bridge".into()));
        }
        if !text(self.row, self.columns().mac).is_empty() {
            return Err(("mac", "a wireguard has no hardware address".into()));
        }
        let userspace = self.flag("userspace", "options:userspace")?.unwrap_or(false);
        Ok(if userspace { Spec::Tun } else { Spec::Wireguard })
    }

    /// The settings of a `WireGuard` link with these peers.
    pub(super) fn wireguard(&self, peers: BTreeMap<PublicKey, Peer>) -> Result<Settings, Wrong> {
        let file = self.option("private_key_file");
        let file = file.ok_or(("options:private_key_file", "a wireguard needs the file of its private key".to_owned()))?;
        let mark = |text: &str| match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => text.parse(),
        };
        let fwmark = self.option("fwmark").map(|text| {
            mark(text).map_err(|error| ("options:fwmark", format!("\"{text}\": {error}")))
        });
        Ok(Settings {
            private_key: Secret::File(peers::secret_path(file).map_err(|why| ("options:private_key_file", why))?),
            listen_port: self.number("listen_port", "options:listen_port")?.filter(|port| *port != 0),
            fwmark: fwmark.transpose()?.unwrap_or(0),
            peers,
        })
    }

    /// Whether what is behind peers is reached by routes through the link.
    pub(super) fn makes_routes(&self) -> Result<bool, Wrong> {
        Ok(self.flag("routes", "options:routes")?.unwrap_or(true))
    }

    /// The number of the network that a tunnel carries: the row's own, else that of its network.
    fn vni(&self, word: &str) -> Result<u32, Wrong> {
        let own: Option<u32> = self.number("vni", "options:vni")?;
        let shared = self.network.and_then(|row| number(row, self.tables.networks.vni));
        let vni = own.or(shared).filter(|vni| (1..=VNI_MAX).contains(vni));
        vni.ok_or_else(|| ("options:vni", format!("a {word} needs a VNI, 1 to {VNI_MAX}, here or as vni of its network")))
    }

    fn mode<T>(&self, of_word: impl Fn(&str) -> Option<T>, words: &[&str]) -> Result<Option<T>, Wrong> {
        match text(self.row, self.columns().mode) {
            "" => Ok(None),
            word => match of_word(word) {
                Some(mode) => Ok(Some(mode)),
                None => Err(("mode", format!("\"{word}\" is none of {}", words.join(", ")))),
            },
        }
    }

    fn option(&self, key: &str) -> Option<&'a str> {
        self.row.get(self.columns().options).get_str(key)
    }

    fn address(&self, key: &str, column: &'static str) -> Result<Option<IpAddr>, Wrong> {
        let address = self.option(key).map(address::host).transpose();
        address.map_err(|error| (column, error.to_string()))
    }

    fn number<T: FromStr<Err: Display>>(&self, key: &str, column: &'static str) -> Result<Option<T>, Wrong> {
        let parse = |text: &str| text.parse().map_err(|error| (column, format!("\"{text}\": {error}")));
        self.option(key).map(parse).transpose()
    }

    fn flag(&self, key: &str, column: &'static str) -> Result<Option<bool>, Wrong> {
        match self.option(key) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err((column, format!("\"{other}\" is neither true nor false"))),
        }
    }

    /// Refuses an option that nothing of this kind acts on.
    fn check_options(&self, known: &[&str]) -> Result<(), Wrong> {
        let options = self.row.get(self.columns().options);
        let mut keys = options.keys().filter_map(Atom::as_str);
        match keys.find(|key| !known.contains(key)) {
            None => Ok(()),
            Some(key) => Err(("options", format!("a {} has no option \"{key}\"", self.word()))),
        }
    }

    /// Refuses a column that says nothing about this kind.
    fn check_unused(&self, word: &str, unused: &[&'static str]) -> Result<(), Wrong> {
        let columns = self.columns();
        let is_used = |column: &str| match column {
            "mode" => !text(self.row, columns.mode).is_empty(),
            "parent" => !text(self.row, columns.parent).is_empty(),
            _ => texts(self.row, columns.members).next().is_some(),
        };
        match unused.iter().find(|column| is_used(column)) {
            None => Ok(()),
            Some(column) => Err((column, format!("a {word} has no {column}"))),
        }
    }
}
