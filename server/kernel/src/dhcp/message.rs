//! Between the values of a client and the messages of RFC 2131.
//!
//! Takes queries, gives bytes; takes bytes, gives replies with just those options that were asked for. Bytes come from the network: what is wrong
//! in them is left out, and what cannot be read at all is nothing.

use std::io;
use std::net::Ipv4Addr;

use dhcproto::v4::{Decodable, Decoder, DhcpOption, Encodable, Encoder, Message, MessageType, Opcode, OptionCode};
use ecow::EcoString;
use ipnet::Ipv4Net;
use nonnet_hooks::dhcp::{Lease, Query, QueryKind, Reply, ReplyKind, Request};
use nonnet_hooks::name::Mac;

use crate::limits::{DHCP_LIST_MAX, DHCP_TEXT_BYTES_MAX};

/// The least length of a message: what BOOTP relays let through (RFC 1542 2.1).
const MESSAGE_BYTES_MIN: usize = 300;

/// The longest message that is taken (option 57), less than an Ethernet frame.
const MESSAGE_BYTES_MAX: u16 = 1472;

/// The MTU that IPv4 asks of every link (RFC 791).
const MTU_MIN: u16 = 68;

/// The bytes of a query.
///
/// # Errors
/// When a text is too long for an option.
pub(super) fn encode(query: &Query, mac: Mac, request: &Request) -> io::Result<Vec<u8>> {
    let mut message = Message::default();
    message.set_xid(query.xid).set_secs(query.secs).set_chaddr(&mac.0);
    if let Some(address) = query.ciaddr {
        message.set_ciaddr(address);
    }
    let options = message.opts_mut();
    let kind = match query.kind {
        QueryKind::Discover => MessageType::Discover,
        QueryKind::Request => MessageType::Request,
        QueryKind::Release => MessageType::Release,
        QueryKind::Decline => MessageType::Decline,
    };
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClientIdentifier(request.client_id.clone()));
    if let Some(address) = query.requested {
        options.insert(DhcpOption::RequestedIpAddress(address));
    }
    if let Some(server) = query.server {
        options.insert(DhcpOption::ServerIdentifier(server));
    }
    if matches!(query.kind, QueryKind::Discover | QueryKind::Request) {
        options.insert(DhcpOption::MaxMessageSize(MESSAGE_BYTES_MAX));
        if let Some(name) = &request.host_name {
            options.insert(DhcpOption::Hostname(name.to_string()));
        }
        if let Some(class) = &request.vendor_class {
            options.insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
        }
        if !request.options.is_empty() {
            let codes = request.options.iter().map(|number| OptionCode::from(*number)).collect();
            options.insert(DhcpOption::ParameterRequestList(codes));
        }
    }
    let mut bytes = Vec::with_capacity(MESSAGE_BYTES_MIN);
    message
        .encode(&mut Encoder::new(&mut bytes))
        .map_err(io::Error::other)?;
    bytes.resize(bytes.len().max(MESSAGE_BYTES_MIN), 0);
    Ok(bytes)
}

/// The reply that bytes are, if they are one to a client of this hardware address.
pub(super) fn reply(bytes: &[u8], mac: Mac, request: &Request) -> Option<Reply> {
    let message = Message::decode(&mut Decoder::new(bytes)).ok()?;
    if message.opcode() != Opcode::BootReply || message.chaddr().get(..6) != Some(&mac.0[..]) {
        return None;
    }
    let kind = match message.opts().msg_type()? {
        MessageType::Offer => ReplyKind::Offer,
        MessageType::Ack => ReplyKind::Ack,
        MessageType::Nak => ReplyKind::Nak,
        _ => return None,
    };
    let read = |code: OptionCode| message.opts().get(code);
    let seconds = |code: OptionCode| match read(code) {
        Some(DhcpOption::AddressLeaseTime(seconds) | DhcpOption::Renewal(seconds) | DhcpOption::Rebinding(seconds)) => {
            Some(*seconds)
        }
        _ => None,
    };
    let words = match read(OptionCode::Message) {
        Some(DhcpOption::Message(words)) => Some(plain(words)),
        _ => None,
    };
    let lease = lease(&message, request);
    let duration = seconds(OptionCode::AddressLeaseTime);
    if kind != ReplyKind::Nak && (lease.is_none() || duration.is_none_or(|seconds| seconds == 0)) {
        return None;
    }
    Some(Reply {
        kind,
        xid: message.xid(),
        seconds: duration.unwrap_or(0),
        renew: seconds(OptionCode::Renewal),
        rebind: seconds(OptionCode::Rebinding),
        lease: lease.filter(|_| kind != ReplyKind::Nak),
        words: words.filter(|words| !words.is_empty()),
    })
}

fn lease(message: &Message, request: &Request) -> Option<Lease> {
    let asked = |code: OptionCode| {
        let is_asked = request.options.contains(&u8::from(code));
        message.opts().get(code).filter(|_| is_asked)
    };
    let address = message.yiaddr();
    if !is_hosts(address) {
        return None;
    }
    let Some(DhcpOption::ServerIdentifier(server)) = message.opts().get(OptionCode::ServerIdentifier) else {
        return None;
    };
    // Without a mask the address stands for itself alone: what class it once had says nothing.
    let prefix = match message.opts().get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => ipnet::ipv4_mask_to_prefix(*mask).ok()?,
        _ => 32,
    };
    let addresses = |code: OptionCode| -> Vec<Ipv4Addr> {
        let list = match asked(code) {
            Some(DhcpOption::Router(list) | DhcpOption::DomainNameServer(list)) => list.as_slice(),
            _ => &[],
        };
        list.iter()
            .copied()
            .filter(|address| is_hosts(*address))
            .take(DHCP_LIST_MAX)
            .collect()
    };
    let routes: Vec<(Ipv4Net, Ipv4Addr)> = match asked(OptionCode::ClasslessStaticRoute) {
        Some(DhcpOption::ClasslessStaticRoute(routes)) => routes
            .iter()
            .map(|(net, gateway)| (net.trunc(), *gateway))
            .take(DHCP_LIST_MAX)
            .collect(),
        _ => Vec::new(),
    };
    let domain = match asked(OptionCode::DomainName) {
        Some(DhcpOption::DomainName(name)) => Some(EcoString::from(name.trim_end_matches(['\0', '.']))),
        _ => None,
    };
    let mtu = match asked(OptionCode::InterfaceMtu) {
        Some(DhcpOption::InterfaceMtu(mtu)) => Some(*mtu).filter(|mtu| *mtu >= MTU_MIN),
        _ => None,
    };
    Some(Lease {
        address: Ipv4Net::new(address, prefix).ok()?,
        server: *server,
        expires: None,
        routers: addresses(OptionCode::Router),
        routes,
        dns: addresses(OptionCode::DomainNameServer),
        domain: domain.filter(|name| is_domain(name)),
        mtu: mtu.map(u32::from),
    })
}

fn is_hosts(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast())
}

/// Whether a text may stand in a file of a container as a domain's name.
fn is_domain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !name.is_empty() && name.len() <= DHCP_TEXT_BYTES_MAX && name.bytes().all(allowed)
}

/// Words that are fit for a row: printable, and not too many.
fn plain(words: &str) -> EcoString {
    words
        .chars()
        .filter(|c| !c.is_control())
        .take(DHCP_TEXT_BYTES_MAX)
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn query() -> Query {
        Query {
            kind: QueryKind::Discover,
            xid: 7,
            secs: 3,
            ciaddr: None,
            requested: Some(Ipv4Addr::new(10, 0, 0, 9)),
            server: None,
            to: None,
        }
    }

    /// What a server says, with these options.
    fn said(kind: MessageType, options: Vec<DhcpOption>) -> Vec<u8> {
        let mut message = Message::default();
        message.set_opcode(Opcode::BootReply).set_xid(7).set_chaddr(&MAC.0);
        message.set_yiaddr(Ipv4Addr::new(10, 0, 0, 9));
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        for option in options {
            message.opts_mut().insert(option);
        }
        message.to_vec().unwrap()
    }

    fn offer(more: Vec<DhcpOption>) -> Vec<u8> {
        let mut options = vec![
            DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 1)),
            DhcpOption::AddressLeaseTime(120),
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        ];
        options.extend(more);
        said(MessageType::Offer, options)
    }

    #[test]
    fn query_says_who_asks_for_what() {
        let request = Request {
            client_id: vec![255, 1],
            host_name: Some("web".into()),
            vendor_class: None,
            options: vec![1, 3],
        };
        let bytes = encode(&query(), MAC, &request).unwrap();
        assert!(bytes.len() >= MESSAGE_BYTES_MIN);
        let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((message.xid(), message.secs(), message.chaddr()), (7, 3, &MAC.0[..]));
        let option = |code| message.opts().get(code).cloned();
        assert_eq!(option(OptionCode::Hostname), Some(DhcpOption::Hostname("web".into())));
        assert_eq!(
            option(OptionCode::ClientIdentifier),
            Some(DhcpOption::ClientIdentifier(vec![255, 1]))
        );
        let list = vec![OptionCode::SubnetMask, OptionCode::Router];
        assert_eq!(
            option(OptionCode::ParameterRequestList),
            Some(DhcpOption::ParameterRequestList(list))
        );
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let router = Ipv4Addr::new(10, 0, 0, 1);
        let bytes = offer(vec![DhcpOption::Router(vec![router]), DhcpOption::InterfaceMtu(1400)]);
        let asking = |options: Vec<u8>| Request {
            options,
            ..Request::default()
        };
        let lease = reply(&bytes, MAC, &asking(vec![1])).unwrap().lease.unwrap();
        assert_eq!(
            (lease.routers.len(), lease.mtu, lease.address.to_string()),
            (0, None, "10.0.0.9/24".into())
        );
        let lease = reply(&bytes, MAC, &asking(vec![3, 26])).unwrap().lease.unwrap();
        assert_eq!((lease.routers, lease.mtu), (vec![router], Some(1400)));
    }

    #[test]
    fn what_is_wrong_is_left_out() {
        let all = Request {
            options: (1..=254).collect(),
            ..Request::default()
        };
        let bytes = offer(vec![
            DhcpOption::DomainName("x\nnameserver 6.6.6.6".into()),
            DhcpOption::InterfaceMtu(3),
            DhcpOption::DomainNameServer(vec![Ipv4Addr::UNSPECIFIED]),
        ]);
        let lease = reply(&bytes, MAC, &all).unwrap().lease.unwrap();
        assert_eq!((lease.domain, lease.mtu, lease.dns.len()), (None, None, 0));
        assert_eq!(reply(&bytes, Mac([2; 6]), &all), None);
        assert_eq!(reply(&said(MessageType::Offer, vec![]), MAC, &all), None);
        assert_eq!(reply(&said(MessageType::Discover, vec![]), MAC, &all), None);
        for length in 0..bytes.len() {
            // Whatever a truncated message is read as, reading it does not fail.
            let _ = reply(&bytes[..length], MAC, &all);
        }
        let nak = reply(
            &said(MessageType::Nak, vec![DhcpOption::Message("no\u{7}".into())]),
            MAC,
            &all,
        )
        .unwrap();
        assert_eq!(
            (nak.kind, nak.words.unwrap().as_str(), nak.lease),
            (ReplyKind::Nak, "no", None)
        );
    }
}
