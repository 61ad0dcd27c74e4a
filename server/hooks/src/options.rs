//! Keys of a port's `options` that concern addresses; a network's `other_config` has what holds for all its ports.
//!
//! | key | value |
//! |---|---|
//! | `default_route` | `true`; `false`: none through this port; a number: of the ports of a namespace, that with the lowest has the default route (100) |
//! | `accept_ra` | `true`: addresses and routes that IPv6 routers announce are taken (SLAAC) |
//! | `dhcp_host_name` | what the DHCP server is told; empty: nothing. Without it, the name of container or namespace |
//! | `dhcp_client_id` | a text that identifies the client. Without it, the UUID of the port's row (RFC 4361) |
//! | `dhcp_vendor_class` | what the DHCP server is told |
//! | `dhcp_dns` | `true`: the name servers and the domain that the DHCP server tells go into the `resolv.conf` of the port's namespace |
//! | `dhcp_request` | names or numbers of the options that are asked for, and taken, separated by commas |

use ecow::EcoString;

use crate::dhcp::Request;
use crate::object::RANK;

/// Bytes of a text that a DHCP server is told: one option has 255.
const TEXT_BYTES_MAX: usize = 254;

/// The options that can be asked for by name, with their numbers (RFC 2132, RFC 3442).
pub const DHCP_OPTIONS: [(&str, u8); 8] = [
    ("subnet-mask", 1),
    ("routers", 3),
    ("dns", 6),
    ("domain", 15),
    ("mtu", 26),
    ("renewal-time", 58),
    ("rebinding-time", 59),
    ("classless-routes", 121),
];

/// What the options of a port say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// What its default route is weighed by; none where it is to have none.
    pub rank: Option<u32>,
    /// Whether routers' announcements are taken.
    pub accept_ra: bool,
    /// What a DHCP server is told and asked, but for the client's identifier and host name where the row names none.
    pub request: Request,
    /// Whether the host name is that of the row, even if that is none.
    pub named: bool,
    /// Whether the name servers that the DHCP server tells are written down for the port's namespace.
    pub dns: bool,
}

/// Reads options.
///
/// # Errors
/// The first key whose value is wrong, and why.
pub(crate) fn read<'a>(option: impl Fn(&str) -> Option<&'a str>) -> Result<Options, (&'static str, String)> {
    let text = |key: &'static str| match option(key) {
        Some(text) if text.len() > TEXT_BYTES_MAX || text.contains(|c: char| c.is_control()) => Err((
            key,
            format!("must be a text of at most {TEXT_BYTES_MAX} bytes without control characters"),
        )),
        other => Ok(other),
    };
    let rank = match option("default_route") {
        None | Some("true") => Some(RANK),
        Some("false") => None,
        Some(number) => Some(number.parse().map_err(|_| {
            let why = format!("\"{number}\" is neither true nor false nor a number");
            ("default_route", why)
        })?),
    };
    let truth = |key: &'static str| match option(key) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err((key, format!("\"{other}\" is neither true nor false"))),
    };
    let accept_ra = truth("accept_ra")?;
    let host_name = text("dhcp_host_name")?;
    if host_name.is_some_and(|name| !name.is_empty() && !is_host_name(name)) {
        return Err((
            "dhcp_host_name",
            "is not a host name (letters, digits, hyphens, dots)".to_owned(),
        ));
    }
    // A first byte of 0: no hardware address (RFC 2132 9.14).
    let client_id = text("dhcp_client_id")?.map(|id| [&[0], id.as_bytes()].concat());
    let request = Request {
        client_id: client_id.unwrap_or_default(),
        host_name: host_name.filter(|name| !name.is_empty()).map(Into::into),
        vendor_class: text("dhcp_vendor_class")?.map(EcoString::from),
        options: option("dhcp_request")
            .map_or_else(|| Ok(all()), requested)
            .map_err(|why| ("dhcp_request", why))?,
    };
    Ok(Options {
        rank,
        accept_ra,
        request,
        named: host_name.is_some(),
        dns: truth("dhcp_dns")?,
    })
}

/// Whether a text is a host name that may be sent.
pub(crate) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let word = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        word && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= TEXT_BYTES_MAX && text.split('.').all(label)
}

fn all() -> Vec<u8> {
    DHCP_OPTIONS.iter().map(|(_, number)| *number).collect()
}

fn requested(list: &str) -> Result<Vec<u8>, String> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    let numbers = words.map(|word| {
        let named = DHCP_OPTIONS
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, number)| *number);
        // 0 pads, 255 ends.
        let number = named.or_else(|| word.parse().ok().filter(|number| !matches!(number, 0 | 255)));
        number.ok_or_else(|| {
            let known: Vec<&str> = DHCP_OPTIONS.iter().map(|(name, _)| *name).collect();
            format!(
                "\"{word}\" is none of {}, nor the number of an option",
                known.join(", ")
            )
        })
    });
    let mut numbers = numbers.collect::<Result<Vec<u8>, String>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn of(key: &'static str, value: &'static str) -> Result<Options, (&'static str, String)> {
        read(|asked| (asked == key).then_some(value))
    }

    #[test]
    fn default_route_is_a_rank() {
        assert_eq!(of("x", "").unwrap().rank, Some(RANK));
        assert_eq!(of("default_route", "7").unwrap().rank, Some(7));
        assert_eq!(of("default_route", "false").unwrap().rank, None);
        assert!(of("default_route", "no").is_err());
    }

    #[test]
    fn options_are_asked_for_by_name_or_number() {
        assert_eq!(of("dhcp_request", "subnet-mask").unwrap().request.options, [1]);
        assert_eq!(of("dhcp_request", "42, routers,3").unwrap().request.options, [3, 42]);
        assert!(of("dhcp_request", "router").unwrap_err().1.contains("routers"));
        assert!(of("dhcp_request", "255").is_err());
    }

    #[test]
    fn host_name_is_one() {
        assert_eq!(
            of("dhcp_host_name", "web-1.example")
                .unwrap()
                .request
                .host_name
                .unwrap(),
            "web-1.example"
        );
        assert!(of("dhcp_host_name", "").unwrap().named);
        assert!(of("dhcp_host_name", "-web").is_err() && of("dhcp_host_name", "a b").is_err());
        assert_eq!(of("dhcp_client_id", "web").unwrap().request.client_id, b"\0web");
    }
}
