//! What a network says about names (`networks.dns`).
//!
//! Takes the pairs of the column, gives typed settings. Keys, of which none must be there; without any the network leaves names alone, unless
//! its ports have `names`:
//!
//! | key | value |
//! |---|---|
//! | `servers` | addresses of nameservers, apart by spaces or commas: where the resolver sends what it does not know. Default: the host's |
//! | `domain` | the domain of the network's names: `web` is `web.DOMAIN`, too |
//! | `search` | domains to try after `domain`, for `resolv.conf` |
//! | `options` | words for the `options` line of `resolv.conf` |
//! | `resolver` | `false`: nobody answers on the gateways, `resolv.conf` names `servers` |
//! | `resolv_conf` | `false`: no `resolv.conf` is written |
//! | `networks` | other networks whose names are seen from here |

use std::net::IpAddr;

use ecow::{EcoString, eco_format};

use crate::address;
use crate::limits::{DNS_NETWORKS_MAX, DNS_SEARCH_MAX, DNS_SERVERS_MAX};

/// Octets of a domain name at most, in text (RFC 1035 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// Octets of a label at most.
const LABEL_BYTES_MAX: usize = 63;

/// The settings of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dns {
    /// Whether the column says anything.
    pub given: bool,
    pub servers: Vec<IpAddr>,
    pub domain: Option<EcoString>,
    pub search: Vec<EcoString>,
    pub options: Vec<EcoString>,
    pub resolver: Option<bool>,
    pub resolv_conf: bool,
    pub networks: Vec<EcoString>,
}

impl Dns {
    /// Reads the pairs.
    ///
    /// # Errors
    /// What is wrong with the first bad one.
    pub(crate) fn read<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, EcoString> {
        let mut dns = Self {
            resolv_conf: true,
            ..Self::default()
        };
        for (key, value) in pairs {
            dns.given = true;
            dns.pair(key, value).map_err(|why| eco_format!("{key}: {why}"))?;
        }
        Ok(dns)
    }

    fn pair(&mut self, key: &str, value: &str) -> Result<(), EcoString> {
        match key {
            "servers" => {
                let servers = words(value).map(|word| address::host(word).map_err(|error| eco_format!("{error}")));
                self.servers = limited(servers.collect::<Result<_, _>>()?, DNS_SERVERS_MAX)?;
            }
            "domain" => self.domain = Some(domain_name(value)?),
            "search" => {
                let search = words(value).map(domain_name).collect::<Result<_, _>>()?;
                self.search = limited(search, DNS_SEARCH_MAX)?;
            }
            "options" => self.options = words(value).map(option).collect::<Result<_, _>>()?,
            "resolver" => self.resolver = Some(truth(value)?),
            "resolv_conf" => self.resolv_conf = truth(value)?,
            "networks" => {
                self.networks = limited(words(value).map(Into::into).collect(), DNS_NETWORKS_MAX)?;
            }
            _ => {
                return Err(
                    "there is no such key; there are servers, domain, search, options, resolver, resolv_conf, networks"
                        .into(),
                );
            }
        }
        Ok(())
    }

    /// Whether the server answers on the network's gateways, where ports have names or not.
    pub(crate) fn answers(&self, has_names: bool) -> bool {
        self.resolver.unwrap_or(self.given || has_names)
    }
}

/// A name in lower case, without a dot at its end.
///
/// # Errors
/// Why it is no name of a host or domain (RFC 1123 2.1; `_` is let through, as services have it).
pub(crate) fn domain_name(text: &str) -> Result<EcoString, EcoString> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let good = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && label.bytes().all(good)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(label) {
        return Err(eco_format!(
            "\"{text}\" is no name: it takes labels of letters, digits and '-', each of at most {LABEL_BYTES_MAX} octets, apart by dots"
        ));
    }
    Ok(name.to_ascii_lowercase().into())
}

fn option(word: &str) -> Result<EcoString, EcoString> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == ':';
    if word.chars().all(good) {
        Ok(word.into())
    } else {
        Err(eco_format!("\"{word}\" is no option of resolv.conf(5)"))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let apart = |c: char| c == ',' || c.is_ascii_whitespace();
    text.split(apart).filter(|word| !word.is_empty())
}

fn limited<T>(list: Vec<T>, max: usize) -> Result<Vec<T>, EcoString> {
    if list.len() > max {
        return Err(eco_format!("there can be {max} of them, not {}", list.len()));
    }
    Ok(list)
}

fn truth(text: &str) -> Result<bool, EcoString> {
    text.parse()
        .map_err(|_| eco_format!("it is \"true\" or \"false\", not \"{text}\""))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_labels() {
        assert_eq!(domain_name("Web.Example.").unwrap(), "web.example");
        assert_eq!(domain_name("_dns.a-b").unwrap(), "_dns.a-b");
        for bad in ["", ".", "a..b", "-a", "a-", "a b", "a\nb", "\u{e4}", &"a".repeat(64)] {
            assert!(domain_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn settings_say_what_is_wrong() {
        let read = |key, value| Dns::read([(key, value)].into_iter());
        assert_eq!(read("servers", "10.0.0.1, fd00::1").unwrap().servers.len(), 2);
        assert!(read("servers", "ten").unwrap_err().starts_with("servers: "));
        assert!(read("server", "10.0.0.1").unwrap_err().contains("no such key"));
        assert!(
            read("options", "ndots:2\nnameserver 1.1.1.1")
                .unwrap_err()
                .contains("no option")
        );
        assert!(read("resolver", "yes").unwrap_err().contains("\"true\" or \"false\""));
    }

    #[test]
    fn resolver_is_on_where_names_are_used() {
        assert!(!Dns::read(std::iter::empty()).unwrap().answers(false));
        assert!(Dns::read(std::iter::empty()).unwrap().answers(true));
        let off = Dns::read([("resolver", "false")].into_iter()).unwrap();
        assert!(!off.answers(true));
    }
}
