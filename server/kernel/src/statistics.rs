//! Counters of links, all in one answer of the kernel.
//!
//! Takes nothing, gives the counters of every link of the server's own namespace by index. It has a socket of its own, so that it never holds up who
//! changes things.

use std::collections::BTreeMap;
use std::io;

use nonnet_hooks::statistics::Counters;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::stats::{StatsAttribute, StatsFilterMask, StatsMessage};

use crate::wire::Wire;

/// Reads counters.
#[derive(Debug)]
pub struct Statistics {
    wire: Wire,
}

impl Statistics {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn open() -> io::Result<Self> {
        Ok(Self { wire: Wire::open()? })
    }

    /// The counters of every link by index: received is what came in through it.
    ///
    /// # Errors
    /// When the kernel refuses or the socket fails.
    pub fn read(&mut self) -> io::Result<BTreeMap<u32, Counters>> {
        let mut message = StatsMessage::default();
        message.header.filter_mask = StatsFilterMask::Link64;
        let answer = self.wire.dump(RouteNetlinkMessage::GetStats(message))?;
        let messages = answer.map_err(|refusal| io::Error::from_raw_os_error(refusal.errno))?;
        Ok(messages.iter().filter_map(counters).collect())
    }
}

fn counters(message: &RouteNetlinkMessage) -> Option<(u32, Counters)> {
    let RouteNetlinkMessage::NewStats(message) = message else {
        return None;
    };
    message.attributes.iter().find_map(|attribute| match attribute {
        StatsAttribute::Link64(of) => Some((
            message.header.ifindex,
            Counters {
                rx_bytes: of.rx_bytes,
                rx_packets: of.rx_packets,
                rx_errors: of.rx_errors,
                rx_dropped: of.rx_dropped,
                tx_bytes: of.tx_bytes,
                tx_packets: of.tx_packets,
                tx_errors: of.tx_errors,
                tx_dropped: of.tx_dropped,
            },
        )),
        _ => None,
    })
}
