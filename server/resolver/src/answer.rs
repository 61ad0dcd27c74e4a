//! Questions to answers, from a directory of names.
//!
//! Takes a message as it came and who sent it, gives what to send back. It must never do I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode, Rtype};
use domain::base::message_builder::{PushError, StaticCompressor};
use domain::base::{Message, MessageBuilder, Name, Serial, Ttl};
use domain::rdata::{A, Aaaa, Ptr, Soa};
use ecow::EcoString;
use nonnet_hooks::directory::{Directory, Lookup, Pointer, Zone};

use crate::limits::{TTL_SECONDS, UDP_ANSWER_BYTES_MAX};

/// Octets over UDP that every client takes (RFC 1035 2.3.4).
const UDP_BYTES_PLAIN: u16 = 512;

/// Octets of a message's header.
const HEADER_BYTES: usize = 12;

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is answered by this.
    Ours(Reply),
    /// It is for somebody else to answer.
    Forward,
    /// It is no question: nothing is said.
    Silence,
}

/// An answer of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What became of the question.
    pub rcode: OptRcode,
    /// The records.
    pub answers: Vec<Data>,
    /// The top of the zone, by which a denial may be kept (RFC 2308 3).
    pub apex: Option<EcoString>,
    /// Whether it is said with authority.
    pub authoritative: bool,
}

/// A record of an answer, of the name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An address.
    Address(IpAddr),
    /// A name.
    Pointer(EcoString),
}

/// Answers a message that `client` sent to `listener`.
pub fn answer(directory: &Directory, listener: IpAddr, client: IpAddr, bytes: &[u8]) -> Answer {
    let Ok(question) = Message::from_octets(bytes) else {
        return Answer::Silence;
    };
    let header = question.header();
    if header.qr() {
        return Answer::Silence;
    }
    if header.opcode() != Opcode::QUERY {
        return Answer::Ours(Reply::of(OptRcode::NOTIMP));
    }
    if question.opt().is_some_and(|opt| opt.version() > 0) {
        return Answer::Ours(Reply::of(OptRcode::BADVERS));
    }
    let Ok(query) = question.sole_question() else {
        return Answer::Ours(Reply::of(OptRcode::FORMERR));
    };
    let network = directory.network_at(listener);
    let zone = network.and_then(|network| Some((network, directory.zone(network)?)));
    let Some((network, _)) = zone.filter(|(_, zone)| serves(zone, listener, client)) else {
        return Answer::Ours(Reply::of(OptRcode::REFUSED));
    };
    if matches!(query.qtype(), Rtype::AXFR | Rtype::IXFR) {
        return Answer::Ours(Reply::of(OptRcode::REFUSED));
    }
    let name = query.qname().to_string().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let known = match address_of(name) {
        _ if query.qclass() != Class::IN => None,
        Some(address) => pointer(directory, network, address, name, query.qtype()),
        None => addresses(directory, network, name, query.qtype()),
    };
    known.map_or(Answer::Forward, Answer::Ours)
}

/// Whether a client is one of the network's, or the host itself.
fn serves(zone: &Zone, listener: IpAddr, client: IpAddr) -> bool {
    client == listener || client.is_loopback() || zone.subnets.iter().any(|subnet| subnet.contains(&client))
}

/// What is known of a name; none where the question is for others.
fn addresses(directory: &Directory, network: u128, name: &str, rtype: Rtype) -> Option<Reply> {
    let (addresses, apex, rcode) = match directory.lookup(network, name) {
        Lookup::Elsewhere => return None,
        Lookup::Missing { apex } => (vec![], apex, OptRcode::NXDOMAIN),
        Lookup::Empty { apex } => (vec![], apex, OptRcode::NOERROR),
        Lookup::Addresses { addresses, apex } => (addresses, apex, OptRcode::NOERROR),
    };
    let wanted = |address: &IpAddr| match rtype {
        Rtype::A => address.is_ipv4(),
        Rtype::AAAA => address.is_ipv6(),
        _ => rtype == Rtype::ANY,
    };
    let answers = addresses.into_iter().filter(wanted).map(Data::Address).collect();
    Some(Reply::ours(rcode, answers, apex))
}

/// What is known of an address; none where the question is for others.
fn pointer(directory: &Directory, network: u128, address: IpAddr, apex: &str, rtype: Rtype) -> Option<Reply> {
    let (names, rcode) = match directory.pointer(network, address) {
        Pointer::Elsewhere => return None,
        Pointer::Missing => (vec![], OptRcode::NXDOMAIN),
        Pointer::Names(names) => (names, OptRcode::NOERROR),
    };
    let wanted = matches!(rtype, Rtype::PTR | Rtype::ANY);
    let answers = names.into_iter().filter(|_| wanted).map(Data::Pointer).collect();
    Some(Reply::ours(rcode, answers, apex.into()))
}

/// The address of a complete name below `in-addr.arpa` or `ip6.arpa`.
fn address_of(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<&str> = octets.split('.').rev().collect();
        return Ipv4Addr::from_str(&octets.join(".")).ok().map(IpAddr::V4);
    }
    let nibbles = name.strip_suffix(".ip6.arpa")?;
    let mut number = 0_u128;
    let mut count = 0;
    for nibble in nibbles.split('.').rev() {
        let digit = u128::from_str_radix(nibble, 16).ok().filter(|_| nibble.len() == 1)?;
        number = (number << 4) | digit;
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(number).into())
}

impl Reply {
    /// An answer without records.
    pub(crate) fn of(rcode: OptRcode) -> Self {
        Self {
            rcode,
            answers: Vec::new(),
            apex: None,
            authoritative: false,
        }
    }

    fn ours(rcode: OptRcode, answers: Vec<Data>, apex: EcoString) -> Self {
        Self {
            apex: Some(apex).filter(|_| answers.is_empty()),
            rcode,
            answers,
            authoritative: true,
        }
    }

    /// The octets of the answer to this question. One that is longer than `bytes_max` is cut short, so that the client asks again over TCP.
    /// None where the question cannot even be repeated.
    pub fn encode(&self, question: &[u8], bytes_max: Option<u16>) -> Option<Vec<u8>> {
        let question = Message::from_octets(question).ok()?;
        let whole = self.build(&question).ok();
        let fits = |bytes: &Vec<u8>| bytes_max.is_none_or(|max| bytes.len() <= usize::from(max));
        if let Some(bytes) = whole.filter(fits) {
            return Some(bytes);
        }
        let mut cut = Self::of(self.rcode).build(&question).ok()?;
        // The flag that says so (RFC 1035 4.1.1).
        if let Some(flags) = cut.get_mut(2) {
            *flags |= 0x02;
        }
        Some(cut)
    }

    fn build(&self, question: &Message<&[u8]>) -> Result<Vec<u8>, PushError> {
        let target = StaticCompressor::new(Vec::with_capacity(usize::from(UDP_BYTES_PLAIN)));
        let builder = MessageBuilder::from_target(target).map_err(|_| PushError::ShortBuf)?;
        let mut answer = builder.start_error(question, self.rcode.rcode());
        answer.header_mut().set_ra(true);
        answer.header_mut().set_aa(self.authoritative);
        answer.header_mut().set_cd(question.header().cd());
        let ttl = Ttl::from_secs(TTL_SECONDS);
        if let Some(query) = question.first_question() {
            for data in &self.answers {
                let owner = query.qname();
                match data {
                    Data::Address(IpAddr::V4(four)) => answer.push((owner, Class::IN, ttl, A::new(*four)))?,
                    Data::Address(IpAddr::V6(six)) => answer.push((owner, Class::IN, ttl, Aaaa::new(*six)))?,
                    Data::Pointer(name) => {
                        if let Some(name) = absolute(name) {
                            answer.push((owner, Class::IN, ttl, Ptr::new(name)))?;
                        }
                    }
                }
            }
        }
        let mut authority = answer.authority();
        let contact = absolute("hostmaster.invalid");
        if let (Some(apex), Some(contact)) = (self.apex.as_deref().and_then(absolute), contact) {
            let soa = Soa::new(apex.clone(), contact, Serial(1), ttl, ttl, ttl, ttl);
            authority.push((apex, Class::IN, ttl, soa))?;
        }
        let mut additional = authority.additional();
        if let Some(asked) = question.opt() {
            additional.opt(|opt| {
                opt.set_udp_payload_size(UDP_ANSWER_BYTES_MAX);
                opt.set_dnssec_ok(asked.dnssec_ok());
                opt.set_rcode(self.rcode);
                Ok(())
            })?;
        }
        Ok(additional.finish().into_target())
    }
}

fn absolute(name: &str) -> Option<Name<Vec<u8>>> {
    Name::from_str(name).ok()
}

/// Octets of an answer over UDP that the client takes who sent this question.
pub fn datagram_bytes_max(question: &[u8]) -> u16 {
    let question = Message::from_octets(question).ok();
    let takes = question.and_then(|question| Some(question.opt()?.udp_payload_size()));
    takes
        .unwrap_or(UDP_BYTES_PLAIN)
        .clamp(UDP_BYTES_PLAIN, UDP_ANSWER_BYTES_MAX)
}

/// Whether an answer only says that this nameserver cannot or will not give one: another one may.
pub(crate) fn is_denial(answer: &[u8]) -> bool {
    let rcode = Message::from_octets(answer).map(|answer| answer.header().rcode());
    matches!(rcode, Ok(Rcode::SERVFAIL | Rcode::REFUSED | Rcode::NOTIMP))
}

/// Whether some octets are an answer to this question; some errors come without it.
pub(crate) fn is_answer(answer: &[u8], question: &[u8]) -> bool {
    let (Ok(answer), Ok(question)) = (Message::from_octets(answer), Message::from_octets(question)) else {
        return false;
    };
    let bare = answer.as_slice().len() == HEADER_BYTES && answer.header().rcode() != Rcode::NOERROR;
    answer.is_answer(&question) || (bare && answer.header().qr() && answer.header().id() == question.header().id())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]
mod tests {
    use nonnet_hooks::directory::{Entry, Upstream};

    use super::*;

    const LISTENER: &str = "10.0.0.1";
    const CLIENT: &str = "10.0.0.9";

    fn directory(ports: usize) -> Directory {
        let mut directory = Directory::default();
        let zone = Zone {
            network: "net".into(),
            domain: Some("test".into()),
            subnets: vec!["10.0.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()],
            listens: vec![LISTENER.parse().unwrap()],
            upstream: Upstream::Host,
            sees: vec![],
        };
        directory.set_zone(1, Some(zone));
        for port in 0..ports {
            let four = format!("10.0.{}.{}", port / 200, 2 + port % 200);
            let addresses = [four, format!("fd00::{:x}", port + 2)];
            let entry = Entry {
                network: 1,
                names: vec!["web".into()],
                addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
                asks: true,
            };
            directory.set_entry(10 + port as u128, Some(entry));
        }
        directory
    }

    fn question(name: &str, rtype: Rtype, payload: Option<u16>) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(7);
        builder.header_mut().set_rd(true);
        let mut builder = builder.question();
        builder.push((absolute(name).unwrap(), rtype)).unwrap();
        let mut builder = builder.additional();
        if let Some(payload) = payload {
            let set = |opt: &mut domain::base::message_builder::OptBuilder<'_, Vec<u8>>| {
                opt.set_udp_payload_size(payload);
                Ok(())
            };
            builder.opt(set).unwrap();
        }
        builder.finish()
    }

    fn ask(directory: &Directory, client: &str, bytes: &[u8]) -> Reply {
        match answer(directory, LISTENER.parse().unwrap(), client.parse().unwrap(), bytes) {
            Answer::Ours(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn name_has_the_addresses_of_the_family_asked_for() {
        let directory = directory(1);
        for (name, rtype, count) in [
            ("WEB.Test", Rtype::A, 1),
            ("web", Rtype::AAAA, 1),
            ("web", Rtype::MX, 0),
        ] {
            let reply = ask(&directory, CLIENT, &question(name, rtype, None));
            assert_eq!(reply.rcode, OptRcode::NOERROR);
            assert_eq!(reply.answers.len(), count, "{name} {rtype}");
            assert_eq!(reply.apex.is_some(), count == 0, "{name} {rtype}");
        }
    }

    #[test]
    fn address_has_its_name() {
        let directory = directory(1);
        let reverse = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
        for name in ["2.0.0.10.in-addr.arpa", &reverse] {
            let reply = ask(&directory, CLIENT, &question(name, Rtype::PTR, None));
            assert_eq!(reply.answers, [Data::Pointer("web.test".into())], "{name}");
        }
        let other = ask(&directory, CLIENT, &question("3.0.0.10.in-addr.arpa", Rtype::PTR, None));
        assert_eq!(other.rcode, OptRcode::NXDOMAIN);
    }

    #[test]
    fn name_that_is_not_there_is_denied_within_the_domain_and_forwarded_without() {
        let directory = directory(1);
        let asked = question("no.test", Rtype::A, Some(1232));
        let reply = ask(&directory, CLIENT, &asked);
        assert_eq!(reply.rcode, OptRcode::NXDOMAIN);
        let bytes = reply.encode(&asked, Some(512)).unwrap();
        let message = Message::from_octets(bytes).unwrap();
        assert_eq!(message.header_counts().nscount(), 1);
        assert!(message.opt().is_some());
        let elsewhere = question("example.org", Rtype::A, None);
        let answered = answer(
            &directory,
            LISTENER.parse().unwrap(),
            CLIENT.parse().unwrap(),
            &elsewhere,
        );
        assert_eq!(answered, Answer::Forward);
    }

    #[test]
    fn client_of_another_network_is_refused() {
        let reply = ask(&directory(1), "10.9.0.9", &question("web", Rtype::A, None));
        assert_eq!(reply.rcode, OptRcode::REFUSED);
    }

    #[test]
    fn answer_longer_than_the_client_takes_is_cut_short() {
        let directory = directory(60);
        let plain = question("web", Rtype::AAAA, None);
        let reply = ask(&directory, CLIENT, &plain);
        let cut = reply.encode(&plain, Some(datagram_bytes_max(&plain))).unwrap();
        assert!(cut.len() <= 512);
        assert!(Message::from_octets(cut).unwrap().header().tc());
        let whole = Message::from_octets(reply.encode(&plain, None).unwrap()).unwrap();
        assert!(!whole.header().tc());
        assert_eq!(usize::from(whole.header_counts().ancount()), reply.answers.len());
        assert_eq!(
            datagram_bytes_max(&question("web", Rtype::A, Some(60_000))),
            UDP_ANSWER_BYTES_MAX
        );
    }

    #[test]
    fn what_is_no_question_is_no_trouble() {
        let directory = directory(1);
        let (listener, client) = (LISTENER.parse().unwrap(), CLIENT.parse().unwrap());
        for bytes in [&[][..], &[1], &[0, 7, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(answer(&directory, listener, client, bytes), Answer::Silence);
        }
        let broken = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 200];
        let reply = ask(&directory, CLIENT, &broken);
        assert_eq!(reply.rcode, OptRcode::FORMERR);
        assert!(reply.encode(&broken, Some(512)).is_some());
        let mut later = question("web", Rtype::A, Some(1232));
        let version = later.len() - 5;
        later[version] = 1;
        let reply = ask(&directory, CLIENT, &later);
        assert_eq!(reply.rcode, OptRcode::BADVERS);
        let bytes = reply.encode(&later, Some(512)).unwrap();
        assert_eq!(Message::from_octets(bytes).unwrap().opt_rcode(), OptRcode::BADVERS);
    }
}
