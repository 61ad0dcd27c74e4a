//! The comparison of DHCP clients: one runs on the link of each port that wants it, and its lease is in the rows.

use ecow::eco_format;

use super::{For, Planner, Verdict, reference};
use crate::dhcp::{Lease, Progress};
use crate::mirror::Link;
use crate::name::LinkName;
use crate::object::{Dhcp, ObjectKey, Owner};
use crate::plan::{DhcpStart, Operation, Phase};
use crate::want::Resolution;

impl Planner<'_> {
    pub(super) fn dhcp(&mut self, of: For<'_>, owner: &Owner, dhcp: &Dhcp) -> Result<(), Verdict> {
        let id = match self.want.resolution(&dhcp.netns) {
            Resolution::Present(id) => id,
            Resolution::Unknown => {
                return Err(Verdict::Settling(eco_format!("{} is being looked for", dhcp.netns)));
            }
            Resolution::Absent(reason) => return Err(Verdict::Waiting(reason)),
        };
        match self.diff.verdicts.get(&ObjectKey::Link(dhcp.port.clone())) {
            Some(Verdict::Planned | Verdict::Unread(_) | Verdict::Leaving(_)) if !self.is_there(id, owner, dhcp) => {
                return Err(Verdict::Settling(eco_format!(
                    "the link of port {} is being made",
                    dhcp.port
                )));
            }
            Some(Verdict::Waiting(reason) | Verdict::Conflict(reason)) => return Err(Verdict::Waiting(reason.clone())),
            _ => {}
        }
        let inside = self.have.namespace(id);
        let link = inside
            .and_then(|inside| inside.link(&dhcp.ifname))
            .filter(|link| is_ready(link, owner));
        let (Some(inside), Some(link)) = (inside, link) else {
            return Err(Verdict::Waiting(eco_format!(
                "port {} has no link that is up",
                dhcp.port
            )));
        };
        let Some(mac) = link.mac else {
            return Err(Verdict::Waiting(eco_format!(
                "port {} has no hardware address, which DHCP needs",
                dhcp.port
            )));
        };
        let start = DhcpStart {
            port: dhcp.port.clone(),
            link: reference(id, link),
            mac,
            request: dhcp.request.clone(),
            former: dhcp.lease.clone(),
        };
        let Some(client) = self.have.dhcp(&dhcp.port).filter(|client| client.serves(&start)) else {
            self.step(of, Phase::Route, &[], Operation::DhcpStart(start));
            return Ok(());
        };
        match &client.progress {
            Progress::Asking => Err(Verdict::Settling("a DHCP server is being asked for an address".into())),
            Progress::Without(reason) => Err(Verdict::Waiting(reason.clone())),
            Progress::Bound(lease) => {
                let written = dhcp.lease.as_ref().is_some_and(|own| is_same(own, lease));
                let address = ipnet::IpNet::V4(lease.address);
                if written && inside.address(link.index, &address).is_some() {
                    Ok(())
                } else {
                    Err(Verdict::Settling(eco_format!(
                        "{} was leased and is being put on the link",
                        lease.address
                    )))
                }
            }
        }
    }

    /// Ends the client of a port that wants none.
    pub(super) fn stop_dhcp(&mut self, of: For<'_>, port: &LinkName) {
        if self.have.dhcp(port).is_some() {
            self.step(of, Phase::Withdraw, &[], Operation::DhcpStop { port: port.clone() });
        }
    }

    fn is_there(&self, id: crate::mirror::NamespaceId, owner: &Owner, dhcp: &Dhcp) -> bool {
        let link = self.have.namespace(id).and_then(|inside| inside.link(&dhcp.ifname));
        link.is_some_and(|link| is_ready(link, owner))
    }
}

fn is_ready(link: &Link, owner: &Owner) -> bool {
    link.up && link.alias == owner.alias()
}

/// Whether two leases are the same but for their ends.
fn is_same(one: &Lease, other: &Lease) -> bool {
    Lease {
        expires: other.expires,
        ..one.clone()
    } == *other
}
