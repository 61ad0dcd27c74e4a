//! The comparison of what every link has: its settings and its addresses.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{End, For, Planner, reference};
use crate::limits::PROTOCOL;
use crate::mirror::{Address, Link, Namespace, NamespaceId};
use crate::name::LinkName;
use crate::object::Owner;
use crate::plan::{LinkChange, Operation, Phase};

impl Planner<'_> {
    /// What every link of ours has: the group, the owner's alias, and no IPv6 of its own accord where there is none.
    pub(super) fn common(&self, owner: &Owner, address_generation_off: bool) -> LinkChange {
        LinkChange {
            alias: Some(owner.alias()),
            group: Some(self.want.mark().group),
            address_generation_off: Some(address_generation_off),
            ..LinkChange::default()
        }
    }

    /// Plans the part of `set` that the kernel does not have; "up" goes last, on its own. Gives the steps.
    pub(super) fn configure(&mut self, of: For<'_>, end: &End<'_>, set: &LinkChange) -> Vec<usize> {
        let (mut set, was) = match end.have {
            Some((namespace, have)) => differing(set, namespace, have),
            // The create message carried the group; IPv6 is on by default.
            None => (
                LinkChange {
                    group: None,
                    ..set.clone()
                },
                LinkChange::default(),
            ),
        };
        let up = set.up.take();
        let mut steps = Vec::new();
        if !set.is_empty() {
            let was = LinkChange {
                up: None,
                ..was.clone()
            };
            let operation = Operation::LinkSet {
                link: end.link.clone(),
                set,
                was,
            };
            steps.push(self.step(of, Phase::Configure, &end.needs, operation));
        }
        if up.is_some() {
            let needs: Vec<usize> = end.needs.iter().chain(&steps).copied().collect();
            let set = LinkChange {
                up,
                ..LinkChange::default()
            };
            let was = LinkChange {
                up: was.up,
                ..LinkChange::default()
            };
            steps.push(self.step(
                of,
                Phase::Raise,
                &needs,
                Operation::LinkSet {
                    link: end.link.clone(),
                    set,
                    was,
                },
            ));
        }
        steps
    }

    pub(super) fn withdraw_addresses(&mut self, of: For<'_>, end: &End<'_>, wanted: &BTreeSet<IpNet>) {
        let Some((namespace, link)) = end.have else { return };
        let unwanted = |a: &&Address| a.protocol == PROTOCOL && !wanted.contains(&a.address);
        for address in namespace.addresses(link.index).filter(unwanted) {
            let operation = Operation::AddressDel {
                link: end.link.clone(),
                address: address.address,
            };
            self.step(of, Phase::Withdraw, &[], operation);
        }
    }

    /// Adds what is missing; `detect`: IPv6 addresses are looked for on the link before they are used.
    pub(super) fn add_addresses(
        &mut self,
        of: For<'_>,
        end: &End<'_>,
        wanted: &BTreeSet<IpNet>,
        detect: bool,
    ) -> Vec<usize> {
        let missing = wanted.iter().filter(|address| {
            end.have
                .is_none_or(|(namespace, link)| namespace.address(link.index, address).is_none())
        });
        let add = |address: &IpNet| Operation::AddressAdd {
            link: end.link.clone(),
            address: *address,
            detect,
        };
        missing
            .map(|address| self.step(of, Phase::Address, &end.needs, add(address)))
            .collect()
    }
}

/// The part of `set` that differs from what a link has, and what it has there.
fn differing(set: &LinkChange, namespace: &Namespace, have: &Link) -> (LinkChange, LinkChange) {
    fn pick<T: PartialEq + Clone>(wanted: Option<&T>, have: Option<&T>) -> (Option<T>, Option<T>) {
        match wanted {
            Some(wanted) if have != Some(wanted) => (Some(wanted.clone()), have.cloned()),
            _ => (None, None),
        }
    }
    let name = pick(set.name.as_ref(), Some(&LinkName::observed(&have.name)));
    let alias = pick(set.alias.as_ref(), Some(&have.alias));
    let group = pick(set.group.as_ref(), Some(&have.group));
    let mac = pick(set.mac.as_ref(), have.mac.as_ref());
    let mtu = pick(set.mtu.as_ref(), Some(&have.mtu));
    let up = pick(set.up.as_ref(), Some(&have.up));
    let bridge = set.bridge.as_deref().zip(have.bridge.as_deref());
    let bridge = bridge.map(|(set, have)| set.differing(have)).unwrap_or_default();
    let bridge = [bridge.0, bridge.1].map(|side| (!side.is_empty()).then(|| Box::new(side)));
    let spec = pick(set.spec.as_deref(), have.spec.as_ref());
    let spec = (spec.0.map(Box::new), spec.1.map(Box::new));
    let isolated = pick(set.isolated.as_ref(), have.isolated.as_ref());
    let hairpin = pick(set.hairpin.as_ref(), have.hairpin.as_ref());
    // A kernel without IPv6 says nothing and makes nothing.
    let ipv6 = have.address_generation_off.as_ref();
    let address_generation_off = pick(set.address_generation_off.as_ref().filter(|_| ipv6.is_some()), ipv6);
    let master = match &set.master {
        Some(wanted) => {
            let same = match wanted {
                Some(bridge) => bridge.index.is_some() && bridge.index == have.master,
                None => have.master.is_none(),
            };
            let before = have.master.and_then(|index| namespace.link_at(index));
            let before = before.map(|link| reference(NamespaceId::Host, link));
            if same {
                (None, None)
            } else {
                (Some(wanted.clone()), Some(before))
            }
        }
        None => (None, None),
    };
    let part = |second: bool| {
        let side = |pair: &(Option<bool>, Option<bool>)| if second { pair.1 } else { pair.0 };
        LinkChange {
            name: if second { name.1.clone() } else { name.0.clone() },
            alias: if second { alias.1.clone() } else { alias.0.clone() },
            group: if second { group.1 } else { group.0 },
            mac: if second { mac.1 } else { mac.0 },
            mtu: if second { mtu.1 } else { mtu.0 },
            master: if second { master.1.clone() } else { master.0.clone() },
            address_generation_off: side(&address_generation_off),
            bridge: bridge[usize::from(second)].clone(),
            spec: if second { spec.1.clone() } else { spec.0.clone() },
            isolated: side(&isolated),
            hairpin: side(&hairpin),
            up: side(&up),
        }
    };
    (part(false), part(true))
}
