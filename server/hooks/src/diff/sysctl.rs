//! The comparison of the settings that ports want in their namespaces.
//!
//! What nobody wants any more gets its value from before, if that is known. It is of what was written since the server started; of what a former
//! run had written, a setting of a link inside a namespace has that of new links there, which the kernel side tells in its place.

use super::{For, Planner};
use crate::mirror::{Namespace, NamespaceId};
use crate::object::Port;
use crate::plan::{Operation, Phase};

impl Planner<'_> {
    /// Writes the settings of a port, and gives back those of its namespace that nobody wants any more.
    pub(super) fn sysctls(&mut self, of: For<'_>, port: &Port, inside: &Namespace, id: NamespaceId) {
        for (path, value) in &port.sysctls {
            let was = inside.sysctl(path).cloned();
            if was.as_ref() != Some(value) {
                let needs: Vec<usize> = self.made.get(of.key).copied().into_iter().collect();
                let operation = Operation::Sysctl {
                    namespace: id,
                    path: path.clone(),
                    value: value.clone(),
                    was,
                };
                self.step(of, Phase::Route, &needs, operation);
            }
        }
        self.give_back_sysctls(of, id, None);
    }

    /// Gives back the settings of a namespace that nobody wants; of a link only those of that one.
    pub(super) fn give_back_sysctls(&mut self, of: For<'_>, id: NamespaceId, link: Option<&str>) {
        let Some(inside) = self.have.namespace(id) else { return };
        for (path, before) in inside.sysctls_before() {
            let is_its = link.is_none_or(|link| path.split('/').nth(2) == Some(link));
            if !is_its || self.want.wants_sysctl(id, path) || !self.given_back.insert((id, path.clone())) {
                continue;
            }
            let operation = Operation::Sysctl {
                namespace: id,
                path: path.clone(),
                value: before.clone(),
                was: inside.sysctl(path).cloned(),
            };
            self.step(of, Phase::Withdraw, &[], operation);
        }
    }
}
