//! Changes sets of the packet filter, and the settings that are borrowed for it.

use std::io;

use nonnet_hooks::mirror::{Change, NamespaceId, Observation};
use nonnet_hooks::object::firewall::{Borrow, ElementChange};
use nonnet_hooks::plan::{Operation, Outcome};

use super::{Runner, of_io};
use crate::firewall::Ruleset;
use crate::wire::refusal;

impl Runner<'_> {
    /// Changes sets of the packet filter, all steps at once if that works.
    pub(super) fn change_elements(&mut self, operations: &[(usize, &Operation)]) {
        let changes = operations.iter().filter_map(|(at, operation)| match operation {
            Operation::Elements(change) => Some((*at, change)),
            _ => None,
        });
        let changes: Vec<(usize, &ElementChange)> = changes.collect();
        if changes.is_empty() {
            return;
        }
        let answers = match &mut self.spaces.firewall {
            Some(firewall) => firewall.change(&changes),
            None => changes
                .iter()
                .map(|(at, _)| (*at, Err(refusal(libc::EPROTONOSUPPORT))))
                .collect(),
        };
        let mut failed = false;
        for (at, answer) in answers {
            failed |= answer.is_err();
            self.settle(at, answer.map_or_else(Outcome::Failed, |()| Outcome::Done));
        }
        // What was planned was not what is there.
        let firewall = self.spaces.firewall.as_mut().filter(|_| failed);
        if let Some(Ok(installed)) = firewall.map(Ruleset::read) {
            self.told.push(Observation {
                namespace: NamespaceId::Host,
                change: Change::FirewallReplaced(installed),
            });
        }
    }

    pub(super) fn borrow(&mut self, at: usize, borrow: &Borrow) {
        let done = match &mut self.spaces.firewall {
            Some(firewall) => firewall.borrow(borrow),
            None => Err(io::Error::from_raw_os_error(libc::EPROTONOSUPPORT)),
        };
        let outcome = match done {
            Ok(told) => {
                self.told.extend(told);
                Outcome::Done
            }
            Err(error) => Outcome::Failed(of_io(&error)),
        };
        self.settle(at, outcome);
    }
}
