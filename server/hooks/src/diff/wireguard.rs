//! The comparison of the keys and peers of `WireGuard` links, which the kernel tells of by no event: they are as last read.

use ecow::eco_format;

use super::{For, Planner, Verdict, reference};
use crate::mirror::{Link, NamespaceId};
use crate::name::LinkName;
use crate::object::wireguard::{Settings, WireguardOperation, WireguardSet};
use crate::object::{ObjectKey, Owner, Spec, Wireguard};
use crate::plan::{Operation, Phase};
use crate::want::Resolution;

impl<'a> Planner<'a> {
    pub(super) fn wireguard(&mut self, of: For<'_>, owner: &Owner, wanted: &Wireguard) -> Result<(), Verdict> {
        let id = match self.want.resolution(&wanted.netns) {
            Resolution::Present(id) => id,
            Resolution::Unknown => {
                return Err(Verdict::Settling(eco_format!("{} is being looked for", wanted.netns)));
            }
            Resolution::Absent(reason) => return Err(Verdict::Waiting(reason)),
        };
        let link = self.tunnel(id, owner, wanted);
        let verdict = self.diff.verdicts.get(&ObjectKey::Link(wanted.port.clone()));
        let Some(link) = link else {
            return Err(match verdict {
                Some(Verdict::Waiting(reason) | Verdict::Conflict(reason)) => Verdict::Waiting(reason.clone()),
                Some(Verdict::Planned | Verdict::Unread(_) | Verdict::Leaving(_)) => {
                    Verdict::Settling(eco_format!("the link of port {} is being made", wanted.port))
                }
                _ => Verdict::Waiting(eco_format!("port {} has no link", wanted.port)),
            });
        };
        let state = self.have.wireguard(&wanted.port);
        let state = state.filter(|state| (state.namespace, state.index) == (id, link.index));
        if state.is_some_and(|state| wanted.settings.is_met_by(&state.settings)) {
            return Ok(());
        }
        let set = WireguardSet {
            port: wanted.port.clone(),
            link: reference(id, link),
            userspace: wanted.userspace,
            settings: wanted.settings.clone(),
            was: state.map(|state| Settings::clone(&state.settings)),
        };
        let operation = Operation::Wireguard(WireguardOperation::Set(Box::new(set)));
        self.step(of, Phase::Container, &[], operation);
        Ok(())
    }

    /// Keys and peers that nobody wants are read no more; they go with their link.
    pub(super) fn forget_wireguard(&mut self, of: For<'_>, port: &LinkName) {
        if self.have.wireguard(port).is_some() {
            let operation = WireguardOperation::Forget { port: port.clone() };
            self.step(of, Phase::Withdraw, &[], Operation::Wireguard(operation));
        }
    }

    /// The link that the port has.
    fn tunnel(&self, id: NamespaceId, owner: &Owner, wanted: &Wireguard) -> Option<&'a Link> {
        let link = self.have.namespace(id)?.link(&wanted.ifname)?;
        let spec = if wanted.userspace { Spec::Tun } else { Spec::Wireguard };
        let is_doomed = self.deleted.contains_key(&(id, link.index));
        (link.alias == owner.alias() && link.spec == Some(spec) && !is_doomed).then_some(link)
    }
}
