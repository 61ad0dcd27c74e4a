//! Settings of a port's namespace as rows write them.
//!
//! Takes `net.ipv4.conf.IFNAME.rp_filter`, gives the path below `/proc/sys/net`. Only what belongs to the port's own namespace can be named, and
//! of its links only the port's own.

use ecow::{EcoString, eco_format};

use crate::name::LinkName;

/// Bytes of a value at most: what `/proc/sys` takes in one write is a page, and no setting of a network comes near this.
pub const VALUE_BYTES_MAX: usize = 256;

/// The word in a key that stands for the name of the port's link.
const PLACE: &str = "IFNAME";

/// Directories with one directory per link.
const PER_LINK: [&[&str]; 5] = [
    &["ipv4", "conf"],
    &["ipv4", "neigh"],
    &["ipv6", "conf"],
    &["ipv6", "neigh"],
    &["mpls", "conf"],
];

/// Names in those that are no links'.
const NO_LINKS: [&str; 2] = ["all", "default"];

/// The path below `/proc/sys/net` of a setting and its value. `is_host`: the port's end is in the server's own namespace, whose settings are
/// everybody's, except those of the link itself.
///
/// # Errors
/// Why it cannot be had.
pub fn setting(key: &str, value: &str, link: &LinkName, is_host: bool) -> Result<(EcoString, EcoString), String> {
    let separator = if key.contains('/') { '/' } else { '.' };
    let mut parts: Vec<&str> = key.split(separator).collect();
    if parts.first() == Some(&"net") {
        parts.remove(0);
    } else {
        return Err(format!(
            "\"{key}\" is not below net: a port has only settings of its network namespace"
        ));
    }
    let word = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    if parts.len() < 2 || !parts.iter().all(word) {
        return Err(format!(
            "\"{key}\" is not a setting (such as net.ipv4.conf.{PLACE}.rp_filter)"
        ));
    }
    let of_link = PER_LINK
        .iter()
        .find(|prefix| parts.starts_with(prefix))
        .map(|prefix| prefix.len());
    match of_link.and_then(|at| parts.get(at)) {
        Some(&part) if part == PLACE || part == link.as_str() => {}
        Some(other) if !NO_LINKS.contains(other) => {
            return Err(format!(
                "\"{key}\" is that of link {other}; {PLACE} stands for the port's own"
            ));
        }
        _ if parts.contains(&PLACE) => return Err(format!("\"{key}\" has {PLACE} where no link is named")),
        _ if is_host => {
            return Err(format!(
                "\"{key}\" is not a setting of {link}, and a port in the host's namespace has no others"
            ));
        }
        _ => {}
    }
    if value.len() > VALUE_BYTES_MAX || value.trim() != value || value.is_empty() || value.contains(['\n', '\0']) {
        return Err(format!(
            "the value of \"{key}\" must be one line of 1 to {VALUE_BYTES_MAX} bytes"
        ));
    }
    let parts = parts
        .into_iter()
        .map(|part| if part == PLACE { link.as_str() } else { part });
    Ok((parts.collect::<Vec<_>>().join("/").into(), eco_format!("{value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(key: &str, is_host: bool) -> Result<String, String> {
        let link = LinkName::observed("eth0.7");
        setting(key, "1", &link, is_host).map(|(path, _)| path.to_string())
    }

    #[test]
    fn keys_become_paths() {
        assert_eq!(
            path("net.ipv4.conf.IFNAME.rp_filter", true).as_deref(),
            Ok("ipv4/conf/eth0.7/rp_filter")
        );
        assert_eq!(
            path("net/ipv6/conf/IFNAME/accept_ra", false).as_deref(),
            Ok("ipv6/conf/eth0.7/accept_ra")
        );
        assert_eq!(path("net.ipv4.ip_forward", false).as_deref(), Ok("ipv4/ip_forward"));
        assert_eq!(
            path("net.ipv6.conf.all.forwarding", false).as_deref(),
            Ok("ipv6/conf/all/forwarding")
        );
        assert_eq!(path("net.core.somaxconn", false).as_deref(), Ok("core/somaxconn"));
    }

    #[test]
    fn what_is_not_the_ports_own_is_refused() {
        for (key, is_host) in [
            ("kernel.panic", false),
            ("net", false),
            ("net.", false),
            ("net.ipv4.conf.eth1.rp_filter", false),
            ("net.ipv4.ip_forward", true),
            ("net.ipv4.conf.all.forwarding", true),
            ("net/ipv4/../../kernel/panic", false),
            ("net/ipv4//ip_forward", false),
            ("net.ipv4.IFNAME", false),
        ] {
            assert!(path(key, is_host).is_err(), "{key}");
        }
        assert!(setting("net.ipv4.ip_forward", "1\n0", &LinkName::observed("eth0"), false).is_err());
        assert!(setting("net.ipv4.ip_forward", "", &LinkName::observed("eth0"), false).is_err());
    }
}
