//! The comparison of the other ends of a VXLAN tunnel. What floods from a link of ours is ours, unless a program says that it has learnt it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{End, For, Planner};
use crate::object::{Flood, Port, Spec};
use crate::plan::{Operation, Phase};

impl Planner<'_> {
    pub(super) fn flood(&mut self, of: For<'_>, port: &Port, spec: &Spec, end: &End<'_>) {
        let Spec::Vxlan(wanted) = spec else { return };
        let remote_before = end.have.and_then(|(_, link)| match &link.spec {
            Some(Spec::Vxlan(have)) => Some(have.remote),
            _ => None,
        });
        let have: BTreeSet<IpAddr> = match end.have {
            Some((inside, link)) => inside.floods(link.index).collect(),
            None => BTreeSet::new(),
        };
        let mut ends: BTreeSet<IpAddr> = port.ends.clone();
        ends.extend(wanted.remote);
        let change = |end_at: IpAddr, on: bool| {
            Operation::Flood(Flood {
                link: end.link.clone(),
                end: end_at,
                on,
            })
        };
        // The kernel moves its own entry when the link's settings change.
        let moves = remote_before != Some(wanted.remote);
        let kernels = |at: &IpAddr| moves && (wanted.remote == Some(*at) || remote_before == Some(Some(*at)));
        for gone in have.difference(&ends).filter(|at| !kernels(at)) {
            self.step(of, Phase::Withdraw, &[], change(*gone, false));
        }
        for new in ends.difference(&have).filter(|at| !kernels(at)) {
            self.step(of, Phase::Address, &end.needs, change(*new, true));
        }
    }
}
