//! The settings of a `WireGuard` link: its key and its peers.
//!
//! The same values are what rows want and what is read back. What is secret is never among them: a key is named by its file, and who reads settings back
//! says whether the key in use is the one in that file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecow::EcoString;
use ipnet::IpNet;

use super::NetnsRef;
use crate::mirror::NamespaceId;
use crate::name::LinkName;
use crate::plan::LinkRef;

/// A public key: 32 octets, in base64 as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// Not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 octets in base64: 43 characters and a '='")]
pub struct KeyError;

/// A `WireGuard` link that is to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wireguard {
    /// The name of the port.
    pub port: LinkName,
    /// The namespace of its link.
    pub netns: NetnsRef,
    /// The name of its link there.
    pub ifname: LinkName,
    /// Whether a program of the host does what the kernel does elsewhere.
    pub userspace: bool,
    /// The settings.
    pub settings: Settings,
}

/// The settings of a `WireGuard` link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its private key.
    pub private_key: Secret,
    /// The UDP port that it listens on. Wanted `None`: whichever.
    pub listen_port: Option<u16>,
    /// The mark of the packets that it sends; 0: none.
    pub fwmark: u32,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// A peer of a `WireGuard` link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where it is. Wanted `None`: where it last came from. A peer that moves is followed, so that what is read back is where it was last said to be.
    pub endpoint: Option<SocketAddr>,
    /// The addresses that it may have, without host bits.
    pub allowed: BTreeSet<IpNet>,
    /// Seconds between packets that keep the way open; 0: none.
    pub keepalive: u16,
    /// The key that both share besides their own.
    pub secret: Secret,
}

/// A key that only a file names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Secret {
    /// There is none.
    #[default]
    None,
    /// That in the file of this path.
    File(EcoString),
    /// Another one.
    Other,
}

/// What is to be set on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireguardSet {
    /// The port's name.
    pub port: LinkName,
    /// The link.
    pub link: LinkRef,
    /// Whether a program of the host does what the kernel does elsewhere.
    pub userspace: bool,
    /// The settings.
    pub settings: Settings,
    /// What was read before, of that link.
    pub was: Option<Settings>,
}

/// One change of the settings of `WireGuard` links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireguardOperation {
    /// Set keys and peers; takes long.
    Set(Box<WireguardSet>),
    /// Read them no more.
    Forget {
        /// The port's name.
        port: LinkName,
    },
}

/// What was read of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireguardState {
    /// The namespace of the link.
    pub namespace: NamespaceId,
    /// Its index there.
    pub index: u32,
    /// Its public key; `None` while it has no private one.
    pub public_key: Option<PublicKey>,
    /// Its settings.
    pub settings: Settings,
    /// What passes, by peer.
    pub traffic: BTreeMap<PublicKey, Traffic>,
}

/// What passes between a link and a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Where the peer is now.
    pub endpoint: Option<SocketAddr>,
    /// Seconds since 1970 at which they last agreed on keys; 0: never.
    pub handshake: u64,
    /// Octets received.
    pub received: u64,
    /// Octets sent.
    pub sent: u64,
}

impl Settings {
    /// Whether a link that has `have` is as wanted.
    pub fn is_met_by(&self, have: &Self) -> bool {
        let same_peer = |(key, want): (&PublicKey, &Peer)| have.peers.get(key).is_some_and(|have| want.is_met_by(have));
        self.private_key == have.private_key
            && self.fwmark == have.fwmark
            && (self.listen_port.is_none() || self.listen_port == have.listen_port)
            && self.peers.len() == have.peers.len()
            && self.peers.iter().all(same_peer)
    }
}

impl Peer {
    fn is_met_by(&self, have: &Self) -> bool {
        (&self.allowed, self.keepalive, &self.secret) == (&have.allowed, have.keepalive, &have.secret)
            && (self.endpoint.is_none() || self.endpoint == have.endpoint)
    }
}

impl WireguardOperation {
    /// The operation that takes this one back, where that is known.
    pub fn inverse(self) -> Option<Self> {
        match self {
            Self::Set(set) => {
                let before = set.was?;
                let nameless = |secret: &Secret| *secret == Secret::Other;
                // A key that no file names cannot be given back.
                if nameless(&before.private_key) || before.peers.values().any(|peer| nameless(&peer.secret)) {
                    return None;
                }
                Some(Self::Set(Box::new(WireguardSet {
                    settings: before,
                    was: Some(set.settings),
                    ..*set
                })))
            }
            Self::Forget { .. } => None,
        }
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let octets = STANDARD.decode(text).map_err(|_| KeyError)?;
        octets.try_into().map(Self).map_err(|_| KeyError)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::File(path) => write!(f, "of {path}"),
            Self::Other => f.write_str("unknown"),
        }
    }
}

impl fmt::Display for WireguardOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = match self {
            Self::Set(set) => set,
            Self::Forget { port } => return write!(f, "forget the keys and peers of port {port}"),
        };
        let (link, want) = (&set.link, &set.settings);
        let nothing = Settings::default();
        let Some(was) = &set.was else {
            return write!(
                f,
                "read, and set if need be, wireguard {link} private key {} and {} peers",
                want.private_key,
                want.peers.len()
            );
        };
        write!(f, "set wireguard {link}")?;
        let was = if *was == nothing { &nothing } else { was };
        if want.private_key != was.private_key {
            write!(f, " private key {}", want.private_key)?;
        }
        if let Some(port) = want.listen_port.filter(|_| want.listen_port != was.listen_port) {
            write!(f, " listen-port {port}")?;
        }
        if want.fwmark != was.fwmark {
            write!(f, " fwmark {}", want.fwmark)?;
        }
        for (key, peer) in &want.peers {
            match was.peers.get(key) {
                None => write!(f, " add peer {key}")?,
                Some(have) if !peer.is_met_by(have) => write!(f, " change peer {key}")?,
                Some(_) => {}
            }
        }
        let gone = was.peers.keys().filter(|key| !want.peers.contains_key(key));
        for key in gone {
            write!(f, " remove peer {key}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn key(octet: u8) -> PublicKey {
        PublicKey([octet; 32])
    }

    #[test]
    fn a_key_is_32_octets_in_base64() {
        let text = key(7).to_string();
        assert_eq!(text.len(), 44);
        assert_eq!(text.parse(), Ok(key(7)));
        for bad in [
            "",
            "abc",
            &text[1..],
            &format!("{text}="),
            "not base64 at all, but 44 characters, see .....",
        ] {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError), "{bad}");
        }
    }

    #[test]
    fn what_a_row_leaves_open_is_met_by_anything_and_all_else_by_itself() {
        let peer = Peer {
            endpoint: Some("192.0.2.1:1".parse().unwrap()),
            ..Peer::default()
        };
        let have = Settings {
            listen_port: Some(9),
            peers: [(key(1), peer)].into(),
            ..Settings::default()
        };
        let mut want = Settings {
            peers: [(key(1), Peer::default())].into(),
            ..Settings::default()
        };
        assert!(want.is_met_by(&have));
        want.fwmark = 1;
        assert!(!want.is_met_by(&have));
        want.fwmark = 0;
        want.peers.insert(key(2), Peer::default());
        assert!(!want.is_met_by(&have));
        want.peers.remove(&key(1));
        assert!(!want.is_met_by(&have));
    }
}
