//! What elements mean, in words: for who reads what a change would do.

use std::fmt;

use super::{Element, Part, Set};

/// An element, shown by what it means.
pub(super) struct Words<'a>(pub(super) &'a Element);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Element { key, data } = self.0;
        let (Some(first), Some(last)) = (key.key.first(), key.key.last()) else {
            return write!(f, "{}", self.0);
        };
        match key.set {
            Set::Within => write!(f, "free passage within {first}"),
            Set::Routed => write!(f, "routed bridge {first}"),
            Set::Isolated => write!(f, "isolation of {first} from other networks"),
            Set::Internal => write!(f, "isolation of {first} from everything"),
            Set::Localnet => write!(f, "passage from 127.0.0.0/8 to {first}"),
            Set::Private4 | Set::Private6 if first == last => write!(f, "isolation within {first}"),
            Set::Private4 | Set::Private6 => write!(f, "isolation of {first} from {last}"),
            Set::Local4 | Set::Local6 => write!(f, "own subnet {first} on {last}"),
            Set::Masquerade4 | Set::Masquerade6 => write!(f, "masquerade of {first}"),
            Set::Source4 | Set::Source6 => write!(f, "source {} for {first}", joined(data, ":")),
            Set::Hairpin4 | Set::Hairpin6 if first == last => write!(f, "hairpin within {first}"),
            Set::Hairpin4 | Set::Hairpin6 => write!(f, "hairpin from {first} to {last}"),
            Set::Forward4
            | Set::Forward6
            | Set::Range4
            | Set::Range6
            | Set::Any4
            | Set::Any6
            | Set::AnyRange4
            | Set::AnyRange6 => {
                let at = key.key.get(1..).unwrap_or_default();
                write!(f, "forward {first} {} to {}", joined(at, ":"), joined(data, ":"))
            }
            Set::Guarded => write!(f, "guard of {first}"),
            Set::GuardedMac | Set::Guarded4 | Set::Guarded6 => write!(f, "source {last} for {first}"),
        }
    }
}

/// Addresses and ports as they are written.
fn joined(parts: &[Part], by: &str) -> String {
    let one = |part: &Part| match part {
        Part::Address(address) if address.is_ipv6() && parts.len() > 1 => format!("[{address}]"),
        part => part.to_string(),
    };
    parts.iter().map(one).collect::<Vec<_>>().join(by)
}
