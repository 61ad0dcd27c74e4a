//! Addresses, subnets and ranges as rows write them.
//!
//! Takes text, gives values. It must never guess: what has two readings is refused with the reading that was probably meant.

use std::net::IpAddr;

use ecow::EcoString;
use ipnet::IpNet;

/// Why a text is no address, subnet or range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an address.
    #[error("\"{0}\" is not an IP address")]
    Address(EcoString),
    /// Not an address with a prefix length.
    #[error("\"{0}\" is not an IP address with a prefix length (such as 10.0.0.2/24)")]
    Interface(EcoString),
    /// Not a subnet.
    #[error("\"{0}\" is not a subnet (such as 10.0.0.0/24)")]
    Subnet(EcoString),
    /// A subnet of every address there is.
    #[error("subnet \"{0}\" has every address there is")]
    Everything(EcoString),
    /// Not a range.
    #[error("\"{0}\" is not a range of addresses (10.0.0.10-10.0.0.20, one address, or a subnet)")]
    Range(EcoString),
    /// The range ends before it begins.
    #[error("range \"{0}\" ends before it begins")]
    Reversed(EcoString),
    /// Bits beyond the prefix length are set.
    #[error("\"{0}\" has host bits set; the subnet is {1}")]
    HostBits(EcoString, IpNet),
    /// Multicast, unspecified, loopback: nothing that one host has on a link.
    #[error("{0} is not an address that one host can have")]
    NotOneHost(IpAddr),
    /// An IPv4 address written as an IPv6 one.
    #[error("\"{0}\" is an IPv4 address in IPv6 form; write it as IPv4")]
    Mapped(EcoString),
    /// The subnet's own address.
    #[error("{0} is the address of the subnet {1} itself")]
    OfSubnet(IpAddr, IpNet),
    /// The subnet's broadcast address.
    #[error("{0} is the broadcast address of {1}")]
    Broadcast(IpAddr, IpNet),
}

/// The addresses from `first` to `last`, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address.
    pub last: IpAddr,
}

/// An address that one host can have.
///
/// # Errors
/// What else it is.
pub fn host(text: &str) -> Result<IpAddr, AddressError> {
    let address: IpAddr = text.parse().map_err(|_| AddressError::Address(text.into()))?;
    if matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some()) {
        return Err(AddressError::Mapped(text.into()));
    }
    let broadcast = matches!(address, IpAddr::V4(four) if four.is_broadcast());
    if address.is_multicast() || address.is_unspecified() || address.is_loopback() || broadcast {
        return Err(AddressError::NotOneHost(address));
    }
    Ok(address)
}

/// An address that one host can have, with the prefix length of its subnet.
///
/// # Errors
/// What else it is.
pub fn interface(text: &str) -> Result<IpNet, AddressError> {
    let wrong = || AddressError::Interface(text.into());
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let length = length.parse().map_err(|_| wrong())?;
    let address = IpNet::new(host(address)?, length).map_err(|_| wrong())?;
    check_in_subnet(address.addr(), address)?;
    Ok(address)
}

/// A subnet without host bits; `0.0.0.0/0` and `::/0` are subnets too.
///
/// # Errors
/// What else it is.
pub fn destination(text: &str) -> Result<IpNet, AddressError> {
    let subnet: IpNet = text.parse().map_err(|_| AddressError::Subnet(text.into()))?;
    if subnet.trunc() != subnet {
        return Err(AddressError::HostBits(text.into(), subnet.trunc()));
    }
    Ok(subnet)
}

/// A subnet without host bits, whose addresses hosts can have.
///
/// # Errors
/// What else it is.
pub fn subnet(text: &str) -> Result<IpNet, AddressError> {
    let subnet = destination(text)?;
    if subnet.prefix_len() == 0 {
        return Err(AddressError::Everything(text.into()));
    }
    host(&subnet.addr().to_string())?;
    Ok(subnet)
}

/// A range: `first-last`, one address, or a subnet.
///
/// # Errors
/// What else it is.
pub fn range(text: &str) -> Result<Range, AddressError> {
    let wrong = |_| AddressError::Range(text.into());
    if text.contains('/') {
        let subnet = destination(text)?;
        return Ok(Range {
            first: subnet.network(),
            last: subnet.broadcast(),
        });
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (host(first.trim()).map_err(wrong)?, host(last.trim()).map_err(wrong)?);
    if first.is_ipv4() != last.is_ipv4() {
        return Err(AddressError::Range(text.into()));
    }
    if last < first {
        return Err(AddressError::Reversed(text.into()));
    }
    Ok(Range { first, last })
}

/// Refuses the addresses of a subnet that no host can have.
///
/// # Errors
/// Which of them it is.
pub fn check_in_subnet(address: IpAddr, subnet: IpNet) -> Result<(), AddressError> {
    let point_to_point = subnet.prefix_len() + 1 >= subnet.max_prefix_len();
    if point_to_point {
        return Ok(());
    }
    if address == subnet.network() {
        return Err(AddressError::OfSubnet(address, subnet.trunc()));
    }
    if address.is_ipv4() && address == subnet.broadcast() {
        return Err(AddressError::Broadcast(address, subnet.trunc()));
    }
    Ok(())
}

/// True for an address that is valid on one link only.
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(six) if six.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_address_says_what_it_is() {
        let check = |result: Result<IpNet, AddressError>, text: &str| {
            assert_eq!(result.map_err(|error| error.to_string()), Err(text.to_owned()));
        };
        check(
            interface("10.0.0.2"),
            "\"10.0.0.2\" is not an IP address with a prefix length (such as 10.0.0.2/24)",
        );
        check(interface("10.0.0.300/24"), "\"10.0.0.300\" is not an IP address");
        check(
            interface("10.0.0.0/24"),
            "10.0.0.0 is the address of the subnet 10.0.0.0/24 itself",
        );
        check(
            interface("10.0.0.255/24"),
            "10.0.0.255 is the broadcast address of 10.0.0.0/24",
        );
        check(
            interface("224.0.0.1/24"),
            "224.0.0.1 is not an address that one host can have",
        );
        check(
            interface("::ffff:10.0.0.1/64"),
            "\"::ffff:10.0.0.1\" is an IPv4 address in IPv6 form; write it as IPv4",
        );
        check(
            subnet("10.0.0.1/24"),
            "\"10.0.0.1/24\" has host bits set; the subnet is 10.0.0.0/24",
        );
        check(subnet("0.0.0.0/0"), "subnet \"0.0.0.0/0\" has every address there is");
    }

    #[test]
    fn range_is_of_one_family_and_forwards() {
        assert_eq!(
            range("10.0.0.9-10.0.0.1"),
            Err(AddressError::Reversed("10.0.0.9-10.0.0.1".into()))
        );
        assert_eq!(range("10.0.0.9-::1"), Err(AddressError::Range("10.0.0.9-::1".into())));
        assert!(range("10.0.0.1-10.0.0.9").is_ok() && range("fd00::1").is_ok() && range("10.0.0.0/28").is_ok());
    }

    #[test]
    fn both_addresses_of_a_point_to_point_subnet_are_hosts() {
        assert!(
            interface("10.0.0.0/31").is_ok() && interface("10.0.0.1/31").is_ok() && interface("fd00::/127").is_ok()
        );
    }
}
