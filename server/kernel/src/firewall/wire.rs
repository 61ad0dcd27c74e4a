//! The socket to the packet filter (nfnetlink): batches that are done at once or not at all, and dumps.
//!
//! Takes messages, gives outcomes and the messages of a dump as attributes. The socket stays open as long as the server runs: it owns the tables.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nonnet_hooks::plan::Refusal;

use crate::limits::{
    DATAGRAM_BYTES_MAX, DUMP_ATTEMPTS_MAX, EVENT_BUFFER_INSIDE_BYTES, FIREWALL_BATCH_BYTES_MAX, REQUEST_BUFFER_BYTES,
};
use crate::wire::{HEADER_BYTES, acknowledgement, enlarge};

/// The subsystem's number in message types (`NFNL_SUBSYS_NFTABLES`).
pub(super) const SUBSYSTEM: u8 = 10;

/// The multicast group of changes of the packet filter (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;

/// Bytes of `struct nfgenmsg`, which every message begins with.
const GENERAL_BYTES: usize = 4;

/// A message and its flags besides `NLM_F_REQUEST`.
pub(super) type Request = (NetfilterProtoFamily, NfTablesMessage, u16);

/// A message that the kernel sent.
#[derive(Debug)]
pub(super) struct Told {
    /// The type without the subsystem's number (`NFT_MSG_NEWTABLE` and so on).
    pub(super) kind: u8,
    /// The address family.
    pub(super) family: u8,
    attributes: Vec<u8>,
}

/// The socket for requests.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    sequence: u32,
    /// The number by which the kernel knows the socket.
    pub(super) port: u32,
}

impl Wire {
    /// Opens a socket in the namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        enlarge(&socket, REQUEST_BUFFER_BYTES);
        // A message that does not fit into the send buffer is refused as a whole.
        if setsockopt(&socket, sockopt::SndBufForce, &FIREWALL_BATCH_BYTES_MAX).is_err() {
            let _ = setsockopt(&socket, sockopt::SndBuf, &FIREWALL_BATCH_BYTES_MAX);
        }
        Ok(Self {
            socket,
            sequence: 0,
            port,
        })
    }

    /// Sends a batch, which is done at once or not at all.
    ///
    /// # Errors
    /// Outer: the socket failed. Inner: the kernel's refusal of the first message that it refused.
    pub(super) fn batch(&mut self, requests: Vec<Request>) -> io::Result<Result<(), Refusal>> {
        let mut bytes = Vec::new();
        let control = |inner: ControlMessage| {
            NetfilterMessage::new(
                NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, u16::from(SUBSYSTEM)),
                inner,
            )
        };
        let last = requests.len();
        self.put(&mut bytes, control(ControlMessage::BatchBegin), 0);
        for (at, (family, message, flags)) in requests.into_iter().enumerate() {
            let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
            let ack = if at + 1 == last { NLM_F_ACK } else { 0 };
            self.put(&mut bytes, message, flags | ack);
        }
        self.put(&mut bytes, control(ControlMessage::BatchEnd), 0);
        self.socket.send(&bytes, 0)?;
        // The kernel works while the message is sent, so that all answers are there.
        let mut answer = None;
        let mut buffer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        while receive(&self.socket, &mut buffer)? {
            for (header, payload) in messages(&buffer) {
                if header.message_type == NLMSG_ERROR {
                    let told = acknowledgement(header.flags, payload);
                    if answer
                        .as_ref()
                        .is_none_or(|before: &Result<(), Refusal>| before.is_ok())
                    {
                        answer = Some(told);
                    }
                }
            }
        }
        answer.ok_or_else(|| io::Error::other("the packet filter did not answer"))
    }

    /// Asks for objects: for all of a kind with `dump`, else for one. What needs no batch is done in the same way.
    ///
    /// # Errors
    /// Outer: the socket failed. Inner: the kernel's refusal.
    pub(super) fn get(
        &mut self,
        family: NetfilterProtoFamily,
        message: impl Into<NetfilterMessageInner>,
        dump: bool,
    ) -> io::Result<Result<Vec<Told>, Refusal>> {
        let message = message.into();
        for _ in 0..DUMP_ATTEMPTS_MAX {
            if let Some(answer) = self.ask(family, message.clone(), dump)? {
                return Ok(answer);
            }
        }
        Err(io::Error::from(io::ErrorKind::Interrupted))
    }

    /// As [`Wire::get`]; none if something changed under way.
    fn ask(
        &mut self,
        family: NetfilterProtoFamily,
        message: NetfilterMessageInner,
        dump: bool,
    ) -> io::Result<Option<Result<Vec<Told>, Refusal>>> {
        let mut bytes = Vec::new();
        let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
        self.put(&mut bytes, message, if dump { NLM_F_DUMP } else { NLM_F_ACK });
        self.socket.send(&bytes, 0)?;
        let sequence = self.sequence;
        let mut found = Vec::new();
        let mut whole = true;
        let mut buffer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        loop {
            buffer.clear();
            buffer.reserve(DATAGRAM_BYTES_MAX);
            match self.socket.recv(&mut buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.map(drop)?,
            }
            for (header, payload) in messages(&buffer) {
                if header.sequence_number != sequence {
                    continue;
                }
                whole &= header.flags & NLM_F_DUMP_INTR == 0;
                match header.message_type {
                    NLMSG_DONE => return Ok(whole.then_some(Ok(found))),
                    NLMSG_ERROR => {
                        let told = acknowledgement(header.flags, payload);
                        return Ok(Some(told.map(|()| found)));
                    }
                    _ => found.extend(Told::of(&header, payload)),
                }
            }
        }
    }

    fn put(&mut self, bytes: &mut Vec<u8>, message: NetfilterMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let at = bytes.len();
        bytes.resize((at + message.buffer_len()).next_multiple_of(4), 0);
        message.serialize(&mut bytes[at..]);
    }
}

impl Told {
    fn of(header: &NetlinkHeader, payload: &[u8]) -> Option<Self> {
        let [kind, _] = header.message_type.to_le_bytes();
        Some(Self {
            kind,
            family: *payload.first()?,
            attributes: payload.get(GENERAL_BYTES..)?.to_vec(),
        })
    }

    /// The value of an attribute.
    pub(super) fn attribute(&self, kind: u16) -> Option<&[u8]> {
        attribute(&self.attributes, kind)
    }

    /// An attribute as text.
    pub(super) fn text(&self, kind: u16) -> Option<&str> {
        text(self.attribute(kind)?)
    }
}

/// The value of an attribute among `bytes`.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(of, _)| *of == kind).map(|(_, value)| value)
}

/// The attributes among `bytes`, with their kinds.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const KIND: u16 = 0x3fff;
    const HEADER: usize = 4;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, kind) = (rest.first_chunk::<2>()?, rest.get(2..)?.first_chunk::<2>()?);
        let (length, kind) = (usize::from(u16::from_ne_bytes(*length)), u16::from_ne_bytes(*kind));
        let value = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(HEADER)..).unwrap_or_default();
        Some((kind & KIND, value))
    })
}

/// A number in network byte order.
pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

/// A text that ends with NUL.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(bytes.get(..end)?).ok()
}

/// Opens a socket for events in the namespace of the calling thread.
pub(super) fn listen() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    enlarge(&socket, EVENT_BUFFER_INSIDE_BYTES);
    socket.add_membership(GROUP)?;
    Ok(socket)
}

/// Reads events, as far as they have come. Gives whether some were lost.
pub(super) fn events(socket: &Socket, told: &mut Vec<Told>) -> bool {
    let mut buffer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
    let mut lost = false;
    loop {
        match receive(socket, &mut buffer) {
            Ok(true) => told.extend(messages(&buffer).filter_map(|(header, payload)| Told::of(&header, payload))),
            Ok(false) => return lost,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
            Err(error) => {
                tracing::warn!(%error, "events of the packet filter cannot be read");
                return true;
            }
        }
    }
}

/// Reads what is there, without waiting. Gives whether something was.
fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        buffer.clear();
        buffer.reserve(DATAGRAM_BYTES_MAX);
        match socket.recv(buffer, libc::MSG_DONTWAIT) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (NetlinkHeader, &[u8])> {
    std::iter::from_fn(move || {
        let buffer = NetlinkBuffer::new_checked(bytes).ok()?;
        let mut header = NetlinkHeader::default();
        header.message_type = buffer.message_type();
        header.flags = buffer.flags();
        header.sequence_number = buffer.sequence_number();
        let length = buffer.length() as usize;
        let payload = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, payload))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_far_as_they_go() {
        let bytes = [8, 0, 3, 0, 0, 0, 0, 7, 6, 0, 4, 0x80, 1, 2, 0, 0, 40, 0, 5, 0, 1];
        let found: Vec<(u16, &[u8])> = attributes(&bytes).collect();
        assert_eq!(found, [(3, &[0, 0, 0, 7][..]), (4, &[1, 2][..])]);
        assert_eq!(attribute(&bytes, 3).and_then(number), Some(7));
    }
}
