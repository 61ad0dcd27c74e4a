//! What `wg` of Debian's package wireguard-tools reads and writes (`wg(8)`): a configuration, and `wg show NAME dump`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

use ipnet::IpNet;
use nonnet_hooks::object::wireguard::{PublicKey, Secret, Settings, Traffic};

use super::key::Key;

/// A key of zeros stands for none.
const NO_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// The keys that settings name.
pub(super) struct Keys {
    /// The link's own.
    pub(super) private: Key,
    /// Those that it shares with peers, by the path of their file.
    pub(super) shared: BTreeMap<String, Key>,
}

/// What a link has.
#[derive(Default)]
pub(super) struct Found {
    pub(super) private: Option<Key>,
    pub(super) public: Option<PublicKey>,
    pub(super) listen_port: Option<u16>,
    pub(super) fwmark: u32,
    pub(super) peers: BTreeMap<PublicKey, FoundPeer>,
}

/// A peer that a link has.
pub(super) struct FoundPeer {
    pub(super) secret: Option<Key>,
    pub(super) allowed: BTreeSet<IpNet>,
    pub(super) keepalive: u16,
    pub(super) traffic: Traffic,
}

/// The configuration for `wg syncconf`. A peer whose endpoint is left out stays where it is.
pub(super) fn configuration(settings: &Settings, keys: &Keys, places: &BTreeMap<PublicKey, SocketAddr>) -> String {
    let mut text = format!(
        "[Interface]\nPrivateKey = {}\nFwMark = {}\n",
        keys.private.text(),
        settings.fwmark
    );
    if let Some(port) = settings.listen_port {
        let _ = writeln!(text, "ListenPort = {port}");
    }
    for (key, peer) in &settings.peers {
        let secret = match &peer.secret {
            Secret::File(path) => keys.shared.get(path.as_str()),
            Secret::None | Secret::Other => None,
        };
        let allowed: Vec<String> = peer.allowed.iter().map(ToString::to_string).collect();
        let secret = secret.map_or(NO_KEY, Key::text);
        let _ = write!(
            text,
            "[Peer]\nPublicKey = {key}\nPresharedKey = {secret}\nAllowedIPs = {}\nPersistentKeepalive = {}\n",
            allowed.join(","),
            peer.keepalive
        );
        if let Some(place) = places.get(key) {
            let _ = writeln!(text, "Endpoint = {place}");
        }
    }
    text
}

/// Reads the answer of `wg show NAME dump`; none if it is none.
pub(super) fn found_in(dump: &str) -> Option<Found> {
    let mut lines = dump.lines();
    let own: Vec<&str> = lines.next()?.split('\t').collect();
    let [private, public, listen_port, fwmark] = own.as_slice() else {
        return None;
    };
    let fwmark = match fwmark.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => 0,
    };
    let mut found = Found {
        private: Key::of_text(private),
        public: public.parse().ok(),
        listen_port: listen_port.parse().ok().filter(|port| *port != 0),
        fwmark,
        peers: BTreeMap::new(),
    };
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let [key, secret, endpoint, allowed, handshake, received, sent, keepalive] = fields.as_slice() else {
            return None;
        };
        let peer = FoundPeer {
            secret: Key::of_text(secret).filter(|key| key.text() != NO_KEY),
            allowed: allowed.split(',').filter_map(|prefix| prefix.parse().ok()).collect(),
            keepalive: keepalive.parse().unwrap_or(0),
            traffic: Traffic {
                endpoint: endpoint.parse().ok(),
                handshake: handshake.parse().ok()?,
                received: received.parse().ok()?,
                sent: sent.parse().ok()?,
            },
        };
        found.peers.insert(key.parse().ok()?, peer);
    }
    Some(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn the_dump_of_wg_is_read() {
        let own =
            "0FzW3PiYwmQsVrTxWDMGJ5FktZ+WuiKvtnbJOc8NVms=\tFpGSgsg0uSfDF81tgw5zyW+kCOfPJwn0NBjCw432G0k=\t5555\t0x10";
        let peer = "YgcKBsizCjZULftU4jHjkmyPYG+w6SC01zjmhV4oYRY=\t(none)\t[2001:db8::1]:99\t10.0.0.0/24,fd00::/64\t1700000000\t5\t148\toff";
        let found = found_in(&format!("{own}\n{peer}\n")).unwrap();
        assert_eq!((found.listen_port, found.fwmark), (Some(5555), 16));
        let (_, peer) = found.peers.first_key_value().unwrap();
        assert!(peer.secret.is_none());
        assert_eq!((peer.allowed.len(), peer.keepalive), (2, 0));
        assert_eq!(peer.traffic.endpoint, "[2001:db8::1]:99".parse().ok());
        assert_eq!((peer.traffic.handshake, peer.traffic.sent), (1_700_000_000, 148));
        let found = found_in("(none)\t(none)\t0\toff\n").unwrap();
        assert!(found.private.is_none() && found.public.is_none() && found.listen_port.is_none());
        for bad in ["", "Unable to access", &format!("{own}\nx\ty\n")] {
            assert!(found_in(bad).is_none(), "{bad}");
        }
    }
}
