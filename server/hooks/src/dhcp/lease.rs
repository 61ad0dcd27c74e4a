//! A lease as a row has it: the address and its end in columns of their own, the rest as texts under keys.

use std::net::Ipv4Addr;

use ecow::{EcoString, eco_format};
use ipnet::{IpNet, Ipv4Net};

use super::Lease;
use crate::object::Route;

impl Lease {
    /// Keys and texts of column `options`: `prefix`, `server`, and where the server sent them `routers`, `routes`, `dns`, `domain`, `mtu`.
    /// Lists are separated by commas; a route is `DESTINATION via GATEWAY`, or only `DESTINATION` on the link.
    pub fn options(&self) -> Vec<(&'static str, EcoString)> {
        let mut options = vec![
            ("prefix", eco_format!("{}", self.address.prefix_len())),
            ("server", eco_format!("{}", self.server)),
        ];
        let lists = [
            ("routers", list(&self.routers, ToString::to_string)),
            ("routes", list(&self.routes, |(net, via)| route_text(*net, *via))),
            ("dns", list(&self.dns, ToString::to_string)),
            ("domain", self.domain.clone().unwrap_or_default()),
            ("mtu", self.mtu.map_or_else(EcoString::new, |mtu| eco_format!("{mtu}"))),
        ];
        options.extend(lists.into_iter().filter(|(_, text)| !text.is_empty()));
        options
    }

    /// The lease that a row tells of: its address, its end, and the texts under keys. `None` where address, prefix or server are none.
    pub fn from_texts<'a>(
        address: &str,
        expires: Option<u64>,
        option: impl Fn(&str) -> Option<&'a str>,
    ) -> Option<Self> {
        let parts = |key: &str| option(key).into_iter().flat_map(|text| text.split(','));
        let addresses = |key: &str| parts(key).filter_map(|part| part.parse().ok()).collect();
        Some(Self {
            address: Ipv4Net::new(address.parse().ok()?, option("prefix")?.parse().ok()?).ok()?,
            server: option("server")?.parse().ok()?,
            expires,
            routers: addresses("routers"),
            routes: parts("routes").filter_map(route_of).collect(),
            dns: addresses("dns"),
            domain: option("domain").map(Into::into),
            mtu: option("mtu").and_then(|mtu| mtu.parse().ok()),
        })
    }

    /// The routes that come with it. Where the server sent classless routes they count, and its router does not (RFC 3442).
    pub fn routes(&self) -> Vec<Route> {
        if self.routes.is_empty() {
            let default = self.routers.first().map(|router| Route::default_via((*router).into()));
            return default.into_iter().collect();
        }
        let via = |gateway: Ipv4Addr| (!gateway.is_unspecified()).then(|| gateway.into());
        let routes = self.routes.iter();
        routes
            .map(|(net, gateway)| Route::to(IpNet::V4(*net), via(*gateway)))
            .collect()
    }
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> EcoString {
    items.iter().map(text).collect::<Vec<_>>().join(",").into()
}

fn route_text(net: Ipv4Net, gateway: Ipv4Addr) -> String {
    if gateway.is_unspecified() {
        net.to_string()
    } else {
        format!("{net} via {gateway}")
    }
}

fn route_of(text: &str) -> Option<(Ipv4Net, Ipv4Addr)> {
    let (net, gateway) = text.split_once(" via ").unwrap_or((text, "0.0.0.0"));
    Some((net.parse().ok()?, gateway.parse().ok()?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn lease_reads_back_from_its_row() {
        let lease = Lease {
            address: "10.0.0.9/24".parse().unwrap(),
            server: "10.0.0.1".parse().unwrap(),
            expires: Some(1_795_231_585),
            routers: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
            routes: vec![
                ("10.9.0.0/16".parse().unwrap(), "10.0.0.3".parse().unwrap()),
                ("10.8.0.0/16".parse().unwrap(), Ipv4Addr::UNSPECIFIED),
            ],
            dns: vec!["10.0.0.53".parse().unwrap()],
            domain: Some("example.org".into()),
            mtu: Some(1400),
        };
        let texts = lease.options();
        let option = |key: &str| {
            texts
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, text)| text.as_str())
        };
        assert_eq!(option("routes"), Some("10.9.0.0/16 via 10.0.0.3,10.8.0.0/16"));
        assert_eq!(
            Lease::from_texts("10.0.0.9", lease.expires, option),
            Some(lease.clone())
        );
        let routes: Vec<String> = lease.routes().iter().map(ToString::to_string).collect();
        assert_eq!(routes, ["10.9.0.0/16 via 10.0.0.3", "10.8.0.0/16"]);
        let plain = Lease {
            routes: vec![],
            ..lease
        };
        assert_eq!(plain.routes(), [Route::default_via("10.0.0.1".parse().unwrap())]);
    }
}
