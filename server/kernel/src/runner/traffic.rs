//! Changes queues that shape what leaves a link, and filters that mirror what passes it.

use nonnet_hooks::mirror::NamespaceId;
use nonnet_hooks::object::{Hook, TrafficChange, TrafficSet};
use nonnet_hooks::plan::Refusal;

use super::Runner;
use crate::traffic;
use crate::wire::Request;

impl Runner<'_> {
    pub(super) fn traffic(&mut self, set: &TrafficSet) -> Result<(), Refusal> {
        let index = self.index(&set.link)?;
        let namespace = set.link.namespace;
        match &set.change {
            TrafficChange::Shape { set: Some(shape), .. } => {
                self.ask(namespace, traffic::shape_set(index, *shape), &[])
            }
            TrafficChange::Shape { set: None, .. } => {
                self.ask(namespace, traffic::shape_del(index), &[libc::ENOENT, libc::EINVAL])
            }
            TrafficChange::Mirror { hook, set: to, .. } => {
                let there = to.as_ref().map(|to| self.index(to)).transpose()?;
                // One that leads elsewhere is not changed but made again.
                self.ask(
                    namespace,
                    traffic::mirror_del(index, *hook),
                    &[libc::ENOENT, libc::EINVAL],
                )?;
                let Some(to) = there else {
                    return self.hooks_del(namespace, index);
                };
                self.ask(namespace, traffic::hooks_add(index), &[libc::EEXIST])?;
                self.ask(namespace, traffic::mirror_add(index, *hook, to), &[])
            }
        }
    }

    /// Takes the queue on which filters hang away when it has none left, ours or somebody else's.
    fn hooks_del(&mut self, namespace: NamespaceId, index: u32) -> Result<(), Refusal> {
        for hook in [Hook::Ingress, Hook::Egress] {
            let Some(space) = self.spaces.get_mut(namespace) else {
                return Ok(());
            };
            let filters = space.sockets.wire.dump(traffic::filters(index, hook));
            if filters.is_ok_and(|filters| filters.is_ok_and(|filters| !filters.is_empty())) {
                return Ok(());
            }
        }
        self.ask(namespace, traffic::hooks_del(index), &[libc::ENOENT, libc::EINVAL])
    }

    /// Sends one request, of which these errors are none.
    fn ask(&mut self, namespace: NamespaceId, request: Request, fine: &[i32]) -> Result<(), Refusal> {
        match self.call(namespace, vec![request]).pop() {
            Some(Err(refused)) if !fine.contains(&refused.errno) => Err(refused),
            _ => Ok(()),
        }
    }
}
