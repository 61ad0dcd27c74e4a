//! What this process may do and this kernel can do.
//!
//! Takes nothing, gives capabilities as facts to show. It tries things in a namespace of a thread of its own, which is gone with the thread.

use std::fs;
use std::thread;

use ecow::{EcoString, eco_format};
use nix::sched::{CloneFlags, unshare};
use nonnet_hooks::mirror::NamespaceId;
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{Bond, BridgeSettings, Geneve, Ipvlan, Macvlan, Spec, Tap, Vlan, Vxlan};
use nonnet_hooks::plan::{LinkRef, NewLink};
use nonnet_hooks::want::Mark;

use crate::firewall::Ruleset;
use crate::message::{self, Site};
use crate::runner::link_in;
use crate::tap;
use crate::wire::Wire;

/// The bit of `CAP_NET_ADMIN` (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;

/// The bit of `CAP_SYS_ADMIN`, without which no other namespace can be entered.
const CAP_SYS_ADMIN: u32 = 21;

/// The bit of `CAP_NET_BROADCAST`, without which no socket listens to another namespace.
const CAP_NET_BROADCAST: u32 = 11;

/// What can be done here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether links can be made and changed.
    pub net_admin: bool,
    /// Whether other namespaces can be entered.
    pub sys_admin: bool,
    /// Whether the kernel speaks IPv6.
    pub ipv6: bool,
    /// The kinds of links that can be made, of those that nonnet makes; empty when that could not be tried.
    pub links: Vec<EcoString>,
    /// What the packet filter can do: `nft` if there is one, `nft:persist` if its tables can be owned and outlive their owner.
    pub filter: Vec<EcoString>,
}

/// Whether a socket may listen to the events of all namespaces, in one of its own.
pub(crate) fn may_listen_to_all() -> bool {
    [CAP_NET_BROADCAST, CAP_NET_ADMIN, CAP_SYS_ADMIN]
        .iter()
        .all(|bit| effective() & (1 << bit) != 0)
}

impl Capabilities {
    /// Finds out.
    pub fn probe() -> Self {
        let effective = effective();
        let has = |bit: u32| effective & (1 << bit) != 0;
        let (net_admin, sys_admin) = (has(CAP_NET_ADMIN), has(CAP_SYS_ADMIN));
        let (tried, filter) = if net_admin && sys_admin {
            let (links, filter) = (thread::spawn(try_links), thread::spawn(try_filter));
            (links.join().unwrap_or_default(), filter.join().unwrap_or_default())
        } else {
            (Vec::new(), Vec::new())
        };
        Self {
            net_admin,
            sys_admin,
            ipv6: fs::exists("/proc/sys/net/ipv6").unwrap_or(false),
            links: tried,
            filter,
        }
    }

    /// Why plans cannot be carried out, in words for the one who started the server; `None`: they can.
    pub fn obstacle(&self) -> Option<EcoString> {
        let missing = match (self.net_admin, self.sys_admin) {
            (true, true) => {
                let absent: Vec<&str> = ["bridge", "veth"]
                    .into_iter()
                    .filter(|kind| !self.links.iter().any(|link| link == kind))
                    .collect();
                return (!absent.is_empty())
                    .then(|| eco_format!("this kernel makes no {} links", absent.join(", no ")));
            }
            (false, true) => "CAP_NET_ADMIN",
            (true, false) => "CAP_SYS_ADMIN",
            (false, false) => "CAP_NET_ADMIN and CAP_SYS_ADMIN",
        };
        Some(eco_format!("no permission to change the network ({missing} missing)"))
    }

    /// The capabilities as words to show: what is there.
    pub fn words(&self) -> Vec<EcoString> {
        let mut words: Vec<EcoString> = self
            .links
            .iter()
            .map(|word| {
                if word == VLAN_FILTERING {
                    word.clone()
                } else {
                    eco_format!("link:{word}")
                }
            })
            .collect();
        words.extend(self.filter.iter().cloned());
        for (name, there) in [
            ("net_admin", self.net_admin),
            ("netns", self.sys_admin),
            ("ipv6", self.ipv6),
        ] {
            if there {
                words.push(name.into());
            }
        }
        words
    }
}

fn effective() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

fn try_filter() -> Vec<EcoString> {
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        return Vec::new();
    }
    let Ok(filter) = Ruleset::open(Mark::of(b"probe"), 0, None) else {
        return Vec::new();
    };
    let mut words: Vec<EcoString> = vec!["nft".into()];
    words.extend(filter.persists().then(|| "nft:persist".into()));
    words
}

/// Makes one link of each kind in a namespace of the calling thread, which takes them along when it ends.
fn try_links() -> Vec<EcoString> {
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        return Vec::new();
    }
    let Ok(mut wire) = Wire::open() else { return Vec::new() };
    let mut made: Vec<EcoString> = Vec::new();
    let mut parent = None;
    for (at, (word, new)) in trials().into_iter().enumerate() {
        let name = format!("probe{at}");
        let works = if let NewLink::Single {
            spec: Spec::Tap(tap), ..
        } = &new
        {
            tap::Fresh::make(&name, tap).is_ok()
        } else {
            let site = Site {
                namespace: None,
                parent: parent.filter(|_| needs_parent(&new)),
            };
            match wire.call_one(message::link_add(&name, 0, &new, site)) {
                Ok(Ok(_)) => true,
                // A kind that is refused for another reason is known.
                Ok(Err(refused)) => refused.errno != libc::EOPNOTSUPP,
                Err(_) => false,
            }
        };
        if works {
            made.push(word.into());
        }
        if works && matches!(new, NewLink::Veth { .. }) {
            parent = wire
                .call_one(message::link_get(&name))
                .ok()
                .and_then(Result::ok)
                .and_then(|messages| link_in(&messages))
                .map(|link| link.index);
        }
    }
    made
}

/// The word for bridges whose ports have VLANs.
const VLAN_FILTERING: &str = "bridge:vlan_filtering";

/// What is tried, each under the word of its kind in rows; a pair comes first, since other links are made on it.
fn trials() -> Vec<(&'static str, NewLink)> {
    let peer = LinkRef {
        namespace: NamespaceId::Host,
        name: LinkName::observed("probe"),
        index: None,
    };
    let veth = NewLink::Veth {
        peer,
        peer_mac: None,
        mtu: None,
    };
    let bridge = |settings: BridgeSettings| NewLink::Bridge {
        mac: None,
        mtu: None,
        settings: Box::new(settings),
    };
    let vlan_filtering = BridgeSettings {
        vlan_filtering: Some(true),
        ..BridgeSettings::default()
    };
    let single = |spec: Spec| NewLink::Single {
        spec,
        parent: None,
        mac: None,
        mtu: None,
    };
    let vxlan = Vxlan {
        vni: 1,
        local: None,
        remote: None,
        port: 4789,
        learning: true,
        ttl: 0,
    };
    let geneve = Geneve {
        vni: 1,
        remote: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        port: 6081,
        ttl: 0,
    };
    let tagged = Vlan { tag: 1, service: false };
    // A link that takes its parent over leaves no room for others: the least demanding come first.
    vec![
        ("veth", veth),
        ("bridge", bridge(BridgeSettings::default())),
        (VLAN_FILTERING, bridge(vlan_filtering)),
        ("macvlan", single(Spec::Macvlan(Macvlan::default()))),
        ("macvtap", single(Spec::Macvtap(Macvlan::default()))),
        ("vxlan", single(Spec::Vxlan(vxlan))),
        ("tap", single(Spec::Tap(Tap::default()))),
        ("vlan", single(Spec::Vlan(tagged))),
        ("geneve", single(Spec::Geneve(geneve))),
        ("bond", single(Spec::Bond(Bond::default()))),
        ("wireguard", single(Spec::Wireguard)),
        ("dummy", single(Spec::Dummy)),
        ("ipvlan", single(Spec::Ipvlan(Ipvlan::default()))),
    ]
}

fn needs_parent(new: &NewLink) -> bool {
    matches!(
        new,
        NewLink::Single {
            spec: Spec::Macvlan(_) | Spec::Macvtap(_) | Spec::Ipvlan(_) | Spec::Vlan(_),
            ..
        }
    )
}
