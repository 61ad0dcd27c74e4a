//! Whether somebody on a link has an address (RFC 826, RFC 5227).
//!
//! Takes and gives bytes of ARP packets for Ethernet and IPv4.

use std::net::Ipv4Addr;

use nonnet_hooks::name::Mac;

use super::socket::PACKET_BYTES_MAX;
use crate::filter::instruction;

/// Hardware Ethernet, protocol IPv4, addresses of 6 and 4 bytes.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Where the sender's hardware address is, the sender's address, and the target's.
const SENDER_MAC: usize = 8;
const SENDER: usize = 14;
const TARGET: usize = 24;

const REQUEST: [u8; 2] = [0, 1];

/// Lets nothing through.
pub(super) const NOTHING: [libc::sock_filter; 1] = [instruction(0x06, 0, 0, 0)];

/// Lets through what has to do with an address.
pub(super) fn filter(address: Ipv4Addr) -> [libc::sock_filter; 6] {
    let address = u32::from(address);
    [
        instruction(0x20, 0, 0, SENDER as u32), // the sender
        instruction(0x15, 2, 0, address),       // has it
        instruction(0x20, 0, 0, TARGET as u32), // the target
        instruction(0x15, 0, 1, address),       // is it
        instruction(0x06, 0, 0, PACKET_BYTES_MAX as u32),
        instruction(0x06, 0, 0, 0), // nothing of it
    ]
}

/// The question who has an address, of somebody who has none.
pub(super) fn probe(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    let (nobody, no_address) = ([0; 6], [0; 4]);
    [&KIND[..], &REQUEST, &own.0, &no_address, &nobody, &address.octets()].concat()
}

/// Who has an address by what was heard, or is about to take it and asks the same question.
pub(super) fn owner(bytes: &[u8], own: Mac, address: Ipv4Addr) -> Option<Mac> {
    let four = |at: usize| bytes.get(at..)?.first_chunk::<4>().copied().map(Ipv4Addr::from);
    let mac = bytes.get(SENDER_MAC..)?.first_chunk().copied().map(Mac)?;
    let (sender, target) = (four(SENDER)?, four(TARGET)?);
    let is_probe = bytes.get(KIND.len()..)?.starts_with(&REQUEST) && sender.is_unspecified() && target == address;
    (bytes.starts_with(&KIND) && mac != own && (sender == address || is_probe)).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    #[test]
    fn who_answers_and_who_asks_the_same_has_it_and_who_looks_for_it_has_not() {
        let asked = probe(OTHER, ADDRESS);
        assert_eq!(asked.len(), 28);
        assert_eq!(owner(&asked, OWN, ADDRESS), Some(OTHER));
        assert_eq!(owner(&asked, OTHER, ADDRESS), None);
        assert_eq!(owner(&asked, OWN, Ipv4Addr::new(10, 0, 0, 8)), None);
        let mut answer = asked.clone();
        answer[7] = 2;
        answer[SENDER..SENDER + 4].copy_from_slice(&ADDRESS.octets());
        answer[TARGET..].fill(0);
        assert_eq!(owner(&answer, OWN, ADDRESS), Some(OTHER));
        let mut looks = asked.clone();
        looks[SENDER..SENDER + 4].copy_from_slice(&[10, 0, 0, 1]);
        assert_eq!(owner(&looks, OWN, ADDRESS), None);
        for length in 0..asked.len() {
            assert_eq!(owner(&asked[..length], OWN, ADDRESS), None, "{length}");
        }
    }
}
