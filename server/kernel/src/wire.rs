//! One netlink socket for requests, in one network namespace.
//!
//! Takes messages, gives the answer to each: many are outstanding at a time, and the kernel's own words for an error are decoded. It blocks for
//! as long as the kernel works, so it lives on the kernel thread. It never joins a multicast group: lost events must not lose answers.

use std::io;

use ecow::EcoString;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nonnet_hooks::plan::Refusal;
use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::limits::{DATAGRAM_BYTES_MAX, REQUEST_BUFFER_BYTES, REQUESTS_PER_SEND};

/// `NLMSGERR_ATTR_MSG` of linux/netlink.h: the kernel's words.
const ATTRIBUTE_MESSAGE: u16 = 1;

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER_BYTES: usize = 16;

/// A message to send and the flags it needs besides `NLM_F_REQUEST`.
pub(crate) type Request = (RouteNetlinkMessage, u16);

/// The messages that answered a request, or the refusal.
pub(crate) type Answer = Result<Vec<RouteNetlinkMessage>, Refusal>;

/// The socket.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of a datagram.
#[derive(Debug)]
pub(crate) enum Part {
    /// The end of a dump.
    Done,
    /// An acknowledgement or an error.
    Ack(Result<(), Refusal>),
    /// A message.
    Message(RouteNetlinkMessage),
    /// A message about something that takes the place of another (`NLM_F_REPLACE`).
    Replacement(RouteNetlinkMessage),
}

impl Wire {
    /// Opens a socket in the namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // Old kernels dump more than was asked for; the reader filters again.
        let _ = socket.set_netlink_get_strict_chk(true);
        enlarge(&socket, REQUEST_BUFFER_BYTES);
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::new(),
        })
    }

    /// Sends requests, many at a time, and gives the answer to each, in their order.
    ///
    /// # Errors
    /// When the socket itself fails; the outcome of the requests is unknown then.
    pub(crate) fn call(&mut self, requests: Vec<Request>) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let batch: Vec<Request> = requests.by_ref().take(REQUESTS_PER_SEND).collect();
            answers.extend(self.batch(batch)?);
        }
        Ok(answers)
    }

    /// Sends one request and gives its answer.
    pub(crate) fn call_one(&mut self, request: Request) -> io::Result<Answer> {
        Ok(self.call(vec![request])?.pop().unwrap_or_else(|| Ok(Vec::new())))
    }

    /// Asks for all objects of a kind.
    pub(crate) fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Answer> {
        self.call_one((message, NLM_F_DUMP))
    }

    fn batch(&mut self, batch: Vec<Request>) -> io::Result<Vec<Answer>> {
        let first = self.sequence.wrapping_add(1);
        let mut open = batch.len();
        let mut answers: Vec<Answer> = batch.iter().map(|_| Ok(Vec::new())).collect();
        let mut closed = vec![false; batch.len()];
        self.send(batch)?;
        while open > 0 {
            for (sequence, part) in self.receive()? {
                let at = sequence.wrapping_sub(first) as usize;
                let (Some(answer), Some(closed)) = (answers.get_mut(at), closed.get_mut(at)) else {
                    continue;
                };
                match part {
                    Part::Message(message) | Part::Replacement(message) => {
                        if let Ok(messages) = answer {
                            messages.push(message);
                        }
                        continue;
                    }
                    Part::Ack(Err(refusal)) => *answer = Err(refusal),
                    Part::Ack(Ok(())) | Part::Done => {}
                }
                open -= usize::from(!std::mem::replace(closed, true));
            }
        }
        Ok(answers)
    }

    fn send(&mut self, batch: Vec<Request>) -> io::Result<()> {
        self.buffer.clear();
        for (message, flags) in batch {
            self.sequence = self.sequence.wrapping_add(1);
            let mut header = NetlinkHeader::default();
            // A dump ends by itself; an acknowledgement besides would end the next one.
            let ack = if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
            header.flags = NLM_F_REQUEST | ack | flags;
            header.sequence_number = self.sequence;
            let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
            message.finalize();
            let at = self.buffer.len();
            self.buffer.resize((at + message.buffer_len()).next_multiple_of(4), 0);
            message.serialize(&mut self.buffer[at..]);
        }
        self.socket.send(&self.buffer, 0)?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Vec<(u32, Part)>> {
        loop {
            match read(&self.socket, &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(parts(&self.buffer)),
            }
        }
    }
}

/// Makes a socket's receive buffer larger, as far as the server may.
pub(crate) fn enlarge(socket: &Socket, bytes: usize) {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        // Without CAP_NET_ADMIN the limit of the machine holds.
        let _ = setsockopt(socket, sockopt::RcvBuf, &bytes);
    }
}

/// Reads one datagram into `buffer`.
pub(crate) fn read(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    buffer.reserve(DATAGRAM_BYTES_MAX);
    socket.recv(buffer, 0).map(|_| ())
}

/// The messages of a datagram, each with its sequence number. What cannot be read is left out, and said in the log.
pub(crate) fn parts(mut bytes: &[u8]) -> Vec<(u32, Part)> {
    let mut parts = Vec::new();
    while bytes.len() >= HEADER_BYTES {
        let Ok(buffer) = NetlinkBuffer::new_checked(bytes) else {
            break;
        };
        let (header, length) = (header_of(&buffer), buffer.length() as usize);
        let Some(payload) = bytes.get(HEADER_BYTES..length) else {
            break;
        };
        match header.message_type {
            NLMSG_DONE => parts.push((header.sequence_number, Part::Done)),
            NLMSG_ERROR => parts.push((
                header.sequence_number,
                Part::Ack(acknowledgement(header.flags, payload)),
            )),
            _ => match RouteNetlinkMessage::deserialize(&header, payload) {
                // A message of links has no such flag, nor one of addresses.
                Ok(message) if header.flags & NLM_F_REPLACE != 0 => {
                    parts.push((header.sequence_number, Part::Replacement(message)));
                }
                Ok(message) => parts.push((header.sequence_number, Part::Message(message))),
                Err(error) => tracing::debug!(%error, kind = header.message_type, "unreadable netlink message"),
            },
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    parts
}

fn header_of(buffer: &NetlinkBuffer<&[u8]>) -> NetlinkHeader {
    let mut header = NetlinkHeader::default();
    header.length = buffer.length();
    header.message_type = buffer.message_type();
    header.flags = buffer.flags();
    header.sequence_number = buffer.sequence_number();
    header.port_number = buffer.port_number();
    header
}

/// The error in an `NLMSG_ERROR` (`struct nlmsgerr`, then the request's header or all of it, then attributes).
pub(crate) fn acknowledgement(flags: u16, payload: &[u8]) -> Result<(), Refusal> {
    let code = payload.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        return Ok(());
    }
    let errno = code.saturating_neg();
    let words = if flags & NLM_F_ACK_TLVS == 0 {
        None
    } else {
        words(flags, payload.get(4..).unwrap_or_default())
    };
    Err(match words {
        Some(text) => Refusal { errno, text },
        None => refusal(errno),
    })
}

fn words(flags: u16, request: &[u8]) -> Option<EcoString> {
    let length = u32::from_ne_bytes(*request.first_chunk::<4>()?) as usize;
    let attributes = if flags & NLM_F_CAPPED == 0 {
        length.next_multiple_of(4)
    } else {
        HEADER_BYTES
    };
    let message = NlasIterator::new(request.get(attributes..)?)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == ATTRIBUTE_MESSAGE)?;
    let text = message.value().strip_suffix(&[0]).unwrap_or(message.value());
    Some(EcoString::from(String::from_utf8_lossy(text)))
}

/// A refusal in the words of the error number.
pub(crate) fn refusal(errno: i32) -> Refusal {
    Refusal {
        errno,
        text: nix::errno::Errno::from_raw(errno).desc().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An acknowledgement of a request of 16 bytes, with the words "No such bridge".
    fn with_words(capped: bool) -> (u16, Vec<u8>) {
        let mut payload = (-22_i32).to_ne_bytes().to_vec();
        let length: u32 = if capped { 64 } else { 20 };
        payload.extend(length.to_ne_bytes());
        payload.extend([0; 12]);
        if !capped {
            payload.extend([1, 2, 3, 4]);
        }
        payload.extend(19_u16.to_ne_bytes());
        payload.extend(ATTRIBUTE_MESSAGE.to_ne_bytes());
        payload.extend(b"No such bridge\0\0");
        (NLM_F_ACK_TLVS | if capped { NLM_F_CAPPED } else { 0 }, payload)
    }

    #[test]
    fn the_kernels_words_are_decoded() {
        for capped in [true, false] {
            let (flags, payload) = with_words(capped);
            let refused = acknowledgement(flags, &payload);
            assert_eq!(
                refused,
                Err(Refusal {
                    errno: 22,
                    text: "No such bridge".into()
                })
            );
        }
    }

    #[test]
    fn without_words_the_error_number_speaks() {
        let refused = acknowledgement(0, &(-95_i32).to_ne_bytes());
        assert_eq!(refused, Err(refusal(95)));
        assert_eq!(acknowledgement(0, &[0; 20]), Ok(()));
    }

    #[test]
    fn cut_datagram_is_read_as_far_as_it_goes() {
        let mut bytes = vec![20, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([40, 0, 0, 0, 3, 0]);
        assert_eq!(parts(&bytes).len(), 1);
    }
}
