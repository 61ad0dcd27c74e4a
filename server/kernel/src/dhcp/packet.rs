//! IPv4 and UDP around a DHCP message, since a link without an address has no socket that would do it (RFC 791, RFC 768).
//!
//! Takes and gives bytes. Checksums of what is heard are not looked at: on virtual links they are often left to hardware that is not there.

use std::net::Ipv4Addr;

use super::socket::PACKET_BYTES_MAX;
use crate::filter::instruction;

/// UDP to port 68, unfragmented: what DHCP servers say to clients.
pub(super) const FILTER: [libc::sock_filter; 9] = [
    instruction(0x30, 0, 0, 9),      // the protocol
    instruction(0x15, 0, 5, 17),     // is UDP
    instruction(0x28, 0, 0, 6),      // the place in the whole packet
    instruction(0x45, 3, 0, 0x1fff), // is its start
    instruction(0xb1, 0, 0, 0),      // behind the header
    instruction(0x48, 0, 0, 2),      // the port
    instruction(0x15, 1, 0, 68),     // is the client's
    instruction(0x06, 0, 0, 0),      // nothing of it
    instruction(0x06, 0, 0, PACKET_BYTES_MAX as u32),
];

/// The client's and the server's port.
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// Bytes of an IPv4 header without options, and of a UDP header.
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;

const UDP: u8 = 17;

/// The packet that carries `payload` from a client to a server.
pub(super) fn datagram(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let udp_length = u16::try_from(UDP_BYTES + payload.len()).unwrap_or(u16::MAX);
    let total = u16::try_from(IP_BYTES).unwrap_or_default().saturating_add(udp_length);
    let mut bytes = Vec::with_capacity(total.into());
    bytes.extend([0x45, 0x10]);
    bytes.extend(total.to_be_bytes());
    // No identification, not to be fragmented, 64 hops.
    bytes.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    let sum = checksum(&[&bytes]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = Vec::with_capacity(udp_length.into());
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let length = udp_length.to_be_bytes();
    let pseudo = [&from.octets()[..], &to.octets()[..], &[0, UDP], &length].concat();
    // 0 would stand for no checksum.
    let sum = match checksum(&[&pseudo, &udp]) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(udp);
    bytes
}

/// What a packet carries from a server to a client, if it is one.
pub(super) fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let first = *bytes.first()?;
    let header = usize::from(first & 0x0f) * 4;
    let is_fragment = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x3fff != 0;
    if first >> 4 != 4 || header < IP_BYTES || *bytes.get(9)? != UDP || is_fragment {
        return None;
    }
    let udp = bytes.get(header..)?;
    let number = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
    if number(0)? != SERVER_PORT || number(2)? != CLIENT_PORT {
        return None;
    }
    udp.get(UDP_BYTES..usize::from(number(4)?))
}

/// The ones' complement sum of 16-bit words (RFC 1071). Each part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for word in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other direction of a datagram of ours.
    fn turned(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[20..24].rotate_left(2);
        bytes
    }

    #[test]
    fn datagram_is_what_the_other_side_reads() {
        let bytes = datagram(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, b"discover!");
        assert_eq!(bytes.len(), 37);
        assert_eq!(checksum(&[&bytes[..20]]), 0);
        assert_eq!(payload(&bytes), None);
        assert_eq!(payload(&turned(bytes)), Some(&b"discover!"[..]));
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        let bytes = turned(datagram(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, b"discover!"));
        for length in 0..bytes.len() {
            assert_eq!(payload(&bytes[..length]), None, "{length}");
        }
        let mut fragment = bytes.clone();
        fragment[6] = 0x20;
        assert_eq!(payload(&fragment), None);
    }
}
