//! Deletes links, many at a time, and does to one link what takes more than a message.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nonnet_hooks::mirror::NamespaceId;
use nonnet_hooks::object::{AddressesMove, Tap};
use nonnet_hooks::plan::{LinkChange, LinkRef, Outcome, Refusal};

use super::{Runner, of_io};
use crate::flood;
use crate::limits::GROUP_DELETE_MIN;
use crate::message;
use crate::moved;
use crate::offload;
use crate::tap;
use crate::wire::{Answer, refusal};

impl Runner<'_> {
    /// Deletes links: several at once by a group of the doomed, since each message of its own costs a grace period.
    pub(super) fn delete(&mut self, deletes: &[(usize, &LinkRef)]) {
        let mut by_namespace: BTreeMap<NamespaceId, Vec<(usize, u32)>> = BTreeMap::new();
        for (at, link) in deletes {
            match self.index(link) {
                Ok(index) => by_namespace.entry(link.namespace).or_default().push((*at, index)),
                // What is gone already needs no deletion.
                Err(_) => self.settle(*at, Outcome::Done),
            }
        }
        for (namespace, doomed) in by_namespace {
            if doomed.len() < GROUP_DELETE_MIN {
                let requests = doomed.iter().map(|(_, index)| message::link_del(*index)).collect();
                let answers = self.call(namespace, requests);
                self.settle_deleted(&doomed, answers);
                continue;
            }
            let set = LinkChange {
                group: Some(self.mark.reaper()),
                ..LinkChange::default()
            };
            let requests = doomed
                .iter()
                .map(|(_, index)| message::link_set(*index, &set, None, self.ipv6))
                .collect();
            let marked = self.call(namespace, requests);
            let reaped = self
                .call(namespace, vec![message::link_del_group(self.mark.reaper())])
                .pop();
            let answers = match reaped {
                Some(Err(refused)) if refused.errno != libc::ENODEV => vec![Err(refused); doomed.len()],
                _ => marked,
            };
            self.settle_deleted(&doomed, answers);
        }
    }

    fn settle_deleted(&mut self, doomed: &[(usize, u32)], answers: Vec<Answer>) {
        for ((at, _), answer) in doomed.iter().zip(answers) {
            let outcome = match answer {
                Err(refused) if refused.errno != libc::ENODEV => Outcome::Failed(refused),
                _ => Outcome::Done,
            };
            self.settle(*at, outcome);
        }
    }

    /// Makes a tap device, which lasts once it is marked.
    pub(super) fn add_tap(&mut self, link: &LinkRef, tap: &Tap, set: &LinkChange) -> Result<(), Refusal> {
        let home = self.spaces.home().ok_or_else(|| refusal(libc::ENOENT))?;
        let space = self.spaces.get(link.namespace).ok_or_else(|| refusal(libc::ENOENT))?;
        let fresh = space
            .netns
            .within(&home.netns, || tap::Fresh::make(link.name.as_str(), tap));
        let fresh = fresh.map_err(|error| of_io(&error))?;
        let index = self.index(link)?;
        let request = message::link_set(index, set, None, self.ipv6);
        let answer = self.call(link.namespace, vec![request]).pop();
        answer.unwrap_or_else(|| Err(refusal(libc::EIO)))?;
        fresh.keep().map_err(|error| of_io(&error))
    }

    /// Takes an end of a tunnel away, with what was learnt to be there.
    pub(super) fn cut_off(&mut self, link: &LinkRef, end: IpAddr) -> Result<(), Refusal> {
        let index = self.index(link)?;
        let space = self
            .spaces
            .get_mut(link.namespace)
            .ok_or_else(|| refusal(libc::ENOENT))?;
        let wire = &mut space.sockets.wire;
        let entries = wire.dump(flood::entries(index)).map_err(|error| of_io(&error))??;
        let there = entries.iter().filter_map(|entry| flood::at(entry, index, end));
        let requests = there.map(|mac| flood::set(index, &mac, end, false)).collect();
        for answer in self.call(link.namespace, requests) {
            // What has gone by itself meanwhile is gone.
            answer.map(drop).or_else(|refused| {
                if refused.errno == libc::ENOENT {
                    Ok(())
                } else {
                    Err(refused)
                }
            })?;
        }
        Ok(())
    }

    pub(super) fn move_addresses(&mut self, all: &AddressesMove) -> Result<(), Refusal> {
        let (from, to) = (self.index(&all.from)?, self.index(&all.to)?);
        let from = moved::Place {
            index: from,
            name: all.from.name.as_str(),
        };
        let to = moved::Place {
            index: to,
            name: all.to.name.as_str(),
        };
        let ipv6 = self.ipv6;
        let space = self.spaces.get_mut(all.to.namespace);
        let wire = &mut space.ok_or_else(|| refusal(libc::ENOENT))?.sockets.wire;
        moved::run(wire, from, to, all.back, ipv6).map_err(|error| of_io(&error))?
    }

    pub(super) fn offload(&mut self, link: &LinkRef, on: bool) -> Result<(), Refusal> {
        let index = self.index(link)?;
        let (Some(space), Some(home)) = (self.spaces.get(link.namespace), self.spaces.home()) else {
            return Err(refusal(libc::ENOENT));
        };
        let set = || offload::set_checksums(link.name.as_str(), on);
        let now = space.netns.within(&home.netns, set).map_err(|error| of_io(&error))?;
        self.offloads.push((link.namespace, index, now));
        Ok(())
    }
}
