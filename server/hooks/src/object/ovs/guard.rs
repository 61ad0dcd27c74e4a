//! The guard of a port of Open vSwitch: flows (`ovs-fields(7)`) by which only frames with the port's own addresses go on.
//!
//! It lets through what the packet filter lets through from a guarded port of a Linux bridge. What is let through goes on through the bridge's
//! other flows, whoever made them: it is given a mark, by which the guard knows it, and begins anew. Their number depends on that of the
//! addresses only.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::name::Mac;

/// The addresses that a port may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvsGuard {
    /// Its hardware address; without one it may send nothing.
    pub mac: Option<Mac>,
    /// Its IP addresses, the link-local one among them.
    pub addresses: BTreeSet<IpAddr>,
}

/// What is seen of a guard, from its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OvsGuardTrace {
    /// The cookie of its flows, which says that they are nonnet's, and what is in them.
    pub cookie: u64,
    /// How many flows drop.
    pub drops: usize,
    /// How many flows let go on.
    pub passes: usize,
}

/// A flow of a guard, without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Among flows that a frame fits, the highest is taken.
    pub priority: u16,
    /// What fits, as `ovs-ofctl` reads it.
    pub conditions: String,
    /// What is done with it, as `ovs-ofctl` reads it.
    pub actions: &'static str,
}

/// The part of a cookie that says that a flow is nonnet's ("nn"), and the bits that it is in.
pub const COOKIE: (u64, u64) = (0x6e6e << 48, 0xffff << 48);

/// What is dropped.
pub const DROP: &str = "drop";

/// That which lets go on begins anew, with a mark.
pub const ANEW: &str = "resubmit(,0)";

/// What has been let through has the highest bit of a register, what tells of an own address only the next one.
const PASS: &str = "load:1->NXM_NX_REG15[31],resubmit(,0)";
const OWN_TARGET: &str = "load:1->NXM_NX_REG15[30],resubmit(,0)";
const NEW: &str = "reg15=0/0x80000000";
const NEW_TARGET: &str = "reg15=0/0xc0000000";

/// The priority of what is dropped by default; the rest is above. Others' flows are to come after.
const LOWEST: u16 = 65_500;

const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const MULTICAST_REPORT: u8 = 143;

impl OvsGuard {
    /// Its flows.
    pub fn flows(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        let mut add = |above: u16, conditions: String, actions| {
            flows.push(Flow {
                priority: LOWEST + above,
                conditions,
                actions,
            });
        };
        add(0, NEW.into(), DROP);
        let Some(mac) = self.mac else { return flows };
        // Neither router nor anybody else.
        for message in [ROUTER_ADVERTISEMENT, REDIRECT] {
            add(4, format!("{NEW},icmp6,icmp_type={message}"), DROP);
        }
        let advertisement = format!("{NEW_TARGET},icmp6,icmp_type={NEIGHBOUR_ADVERTISEMENT}");
        add(2, advertisement.clone(), DROP);
        let own = format!("{NEW},dl_src={mac}");
        let arp = format!("{own},arp,arp_sha={mac},arp_spa");
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => {
                    add(1, format!("{own},ip,nw_src={address}"), PASS);
                    add(1, format!("{arp}={address}"), PASS);
                }
                IpAddr::V6(address) => {
                    let solicitation = format!("{own},icmp6,ipv6_src=::,icmp_type={NEIGHBOUR_SOLICITATION}");
                    add(3, format!("{advertisement},nd_target={address}"), OWN_TARGET);
                    add(1, format!("{own},ipv6,ipv6_src={address}"), PASS);
                    // Duplicate address detection.
                    add(1, format!("{solicitation},nd_target={address}"), PASS);
                }
            }
        }
        let report = format!("{own},icmp6,ipv6_src=::,icmp_type={MULTICAST_REPORT}");
        add(1, report, PASS);
        // Before there is an address: DHCP, and a probe whether somebody has it.
        let nobody = Ipv4Addr::UNSPECIFIED;
        add(1, format!("{own},udp,nw_src={nobody},tp_src=68,tp_dst=67"), PASS);
        add(1, format!("{arp}={nobody}"), PASS);
        flows
    }

    /// What is to be seen of it.
    pub fn trace(&self) -> OvsGuardTrace {
        let flows = self.flows();
        let mut hash = blake3::Hasher::new_derive_key("nonnet 2026 flows of a port");
        for flow in &flows {
            hash.update(format!("{} {} {}\n", flow.priority, flow.conditions, flow.actions).as_bytes());
        }
        let bytes = hash.finalize();
        let mut content = [0; 8];
        content.copy_from_slice(&bytes.as_bytes()[..8]);
        let (ours, mask) = COOKIE;
        let drops = flows.iter().filter(|flow| flow.actions == DROP).count();
        OvsGuardTrace {
            cookie: ours | (u64::from_be_bytes(content) & !mask),
            drops,
            passes: flows.len() - drops,
        }
    }
}

/// The addresses.
impl fmt::Display for OvsGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = self.mac.map(|mac| mac.to_string());
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        let all: Vec<String> = mac.into_iter().chain(addresses).collect();
        f.write_str(&all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(addresses: &[&str]) -> OvsGuard {
        OvsGuard {
            mac: "02:00:00:00:00:01".parse().ok(),
            addresses: addresses.iter().filter_map(|text| text.parse().ok()).collect(),
        }
    }

    #[test]
    fn number_of_flows_depends_on_that_of_addresses_only() {
        let flows = |addresses: &[&str]| guard(addresses).flows().len();
        let none = flows(&[]);
        assert_eq!(flows(&["10.0.0.1"]), none + 2);
        assert_eq!(flows(&["fd00::1"]), none + 3);
        assert_eq!(flows(&["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]), none + 10);
        assert_eq!(
            OvsGuard {
                mac: None,
                ..guard(&["10.0.0.1"])
            }
            .flows()
            .len(),
            1
        );
    }

    #[test]
    fn cookie_tells_contents_apart_and_that_they_are_ours() {
        let one = guard(&["10.0.0.1"]).trace();
        assert_eq!(one, guard(&["10.0.0.1"]).trace());
        assert_ne!(one.cookie, guard(&["10.0.0.2"]).trace().cookie);
        assert_eq!(one.cookie & COOKIE.1, COOKIE.0);
        assert_eq!(one.drops + one.passes, guard(&["10.0.0.1"]).flows().len());
    }
}
