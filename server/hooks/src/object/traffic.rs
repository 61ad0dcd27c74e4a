//! What rows want of a pair's traffic: rates, and a copy of it elsewhere.

use std::fmt;

use crate::name::LinkName;
use crate::object::NetnsRef;
use crate::plan::LinkRef;

/// Rates and copies of the traffic of a pair with one end, `link`, in the server's own namespace, and the other in `netns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The end on the host.
    pub link: LinkName,
    /// The namespace of the other end.
    pub netns: NetnsRef,
    /// The name of the other end.
    pub ifname: LinkName,
    /// The shape of what goes to the end inside: it leaves the end on the host.
    pub to_port: Option<Shape>,
    /// The shape of what comes from the end inside: it leaves that end.
    pub from_port: Option<Shape>,
    /// The link on the host through which a copy of both directions leaves.
    pub mirror: Option<LinkName>,
}

/// The shape of what leaves a link: a token bucket (tbf) as its root queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes that may wait.
    pub limit: u32,
}

/// Where a packet is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// As it comes in.
    Ingress,
    /// As it leaves.
    Egress,
}

/// One change of a link's traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrafficChange {
    /// The shape of what leaves; `None` is the kernel's default.
    Shape {
        /// From now on.
        set: Option<Shape>,
        /// Before.
        was: Option<Shape>,
    },
    /// The link through which a copy leaves of what is seen at a hook.
    Mirror {
        /// The hook.
        hook: Hook,
        /// From now on.
        set: Option<LinkRef>,
        /// Before, as far as that link still exists.
        was: Option<LinkRef>,
    },
}

/// A change and the link that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficSet {
    /// The link.
    pub link: LinkRef,
    /// The change.
    pub change: TrafficChange,
}

impl Shape {
    /// The shape for a rate in bits per second: what is more waits for 50 ms at most.
    pub fn of_rate(bits_per_second: u64) -> Self {
        let rate = (bits_per_second / 8).max(1);
        let waiting = u32::try_from(rate / 20).unwrap_or(u32::MAX);
        let mut shape = Self { rate, limit: 0 };
        shape.limit = shape.burst().saturating_add(waiting.max(Self::PACKET_BYTES_MAX));
        shape
    }

    /// Bytes of a packet before it is cut up for the wire.
    const PACKET_BYTES_MAX: u32 = 64 << 10;

    /// Bytes that may leave at once: those of 10 ms, and a few packets at least.
    pub fn burst(self) -> u32 {
        let bytes = u32::try_from(self.rate / 100).unwrap_or(u32::MAX);
        bytes.max(16 << 10)
    }
}

impl TrafficSet {
    /// The change that takes this one back.
    pub fn inverse(&self) -> Self {
        let change = match self.change.clone() {
            TrafficChange::Shape { set, was } => TrafficChange::Shape { set: was, was: set },
            TrafficChange::Mirror { hook, set, was } => TrafficChange::Mirror {
                hook,
                set: was,
                was: set,
            },
        };
        let link = self.link.clone();
        Self { link, change }
    }
}

impl fmt::Display for TrafficSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = &self.link;
        match &self.change {
            TrafficChange::Shape { set: Some(shape), .. } => {
                write!(f, "shape what leaves {link} to {} bit/s", shape.rate.saturating_mul(8))
            }
            TrafficChange::Shape { set: None, .. } => write!(f, "shape what leaves {link} no longer"),
            TrafficChange::Mirror { hook, set, .. } => {
                let way = match hook {
                    Hook::Ingress => "comes in through",
                    Hook::Egress => "leaves",
                };
                match set {
                    None => write!(f, "copy what {way} {link} no longer"),
                    Some(to) => write!(f, "copy what {way} {link} to {to}"),
                }
            }
        }
    }
}
