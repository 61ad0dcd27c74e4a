//! Names and hardware addresses of links.
//!
//! Takes text, gives values that the kernel will accept. It must never change a name: what does not fit is refused.

use std::fmt;
use std::str::FromStr;

use ecow::EcoString;

use crate::limits::LINK_NAME_BYTES_MAX;

/// Why a text is no link name or hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("a link name must not be empty")]
    Empty,
    /// The name has more bytes than the kernel's `IFNAMSIZ` leaves.
    #[error("link name \"{0}\" has {1} bytes; at most {LINK_NAME_BYTES_MAX} are possible")]
    TooLong(EcoString, usize),
    /// The name has a character that the kernel refuses (`dev_valid_name`), or is `.` or `..`.
    #[error("link name \"{0}\" has a character that no link name can have (space, '/', ':', control)")]
    Character(EcoString),
    /// The text is not six bytes in hexadecimal, or names a group or nobody.
    #[error("\"{0}\" is not the hardware address of one link (such as 02:00:00:00:00:01)")]
    Mac(EcoString),
}

/// A link's name: 1 to 15 bytes, as `dev_valid_name` of the kernel wants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(EcoString);

impl LinkName {
    /// The name, checked.
    ///
    /// # Errors
    /// [`NameError`] when the kernel would refuse it.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > LINK_NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.into(), text.len()));
        }
        let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if text == "." || text == ".." || text.contains(refused) {
            return Err(NameError::Character(text.into()));
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the loopback link, which every namespace has.
    pub fn loopback() -> Self {
        Self(EcoString::inline("lo"))
    }

    /// The name as the kernel said it: what the kernel has is valid.
    pub fn observed(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LinkName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

/// A hardware address of six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A locally administered unicast address derived from `seed`: the same for the same seed, always.
    pub fn derived(seed: &[u8]) -> Self {
        let hash = blake3::derive_key("nonnet 2026 hardware address", seed);
        Self([(hash[0] & 0xfc) | 0x02, hash[1], hash[2], hash[3], hash[4], hash[5]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&bytes.join(":"))
    }
}

impl FromStr for Mac {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Mac(text.into());
        let mut bytes = [0_u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() || bytes == [0; 6] || bytes[0] & 1 == 1 {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_sixteen_bytes_is_refused() {
        assert!(LinkName::new("abcdefghijklmno").is_ok());
        assert_eq!(
            LinkName::new("abcdefghijklmnop"),
            Err(NameError::TooLong("abcdefghijklmnop".into(), 16))
        );
    }

    #[test]
    fn name_with_slash_or_space_is_refused() {
        for text in ["a/b", "a b", ".", "..", "a:b", ""] {
            assert!(LinkName::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn group_address_is_no_hardware_address_of_a_link() {
        assert!("01:00:5e:00:00:01".parse::<Mac>().is_err());
        assert_eq!("02-00-00-00-00-0A".parse::<Mac>(), Ok(Mac([2, 0, 0, 0, 0, 10])));
    }

    #[test]
    fn derived_address_is_local_unicast_and_stable() {
        let mac = Mac::derived(b"br0");
        assert_eq!(mac.0[0] & 3, 2);
        assert_eq!(mac, Mac::derived(b"br0"));
        assert_ne!(mac, Mac::derived(b"br1"));
    }
}
