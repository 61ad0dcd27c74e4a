//! The packet filter's sets, and the settings that are borrowed for it.

use ecow::EcoString;

use super::{EEXIST, ENOENT, Model, observed, refusal};
use crate::mirror::{Change, NamespaceId, Observation};
use crate::object::Owner;
use crate::object::firewall::{Borrow, ElementChange};
use crate::plan::Refusal;

impl Model {
    /// Changes sets of the packet filter: all of it or nothing.
    pub(super) fn elements(&mut self, change: &ElementChange) -> Result<Vec<Observation>, Refusal> {
        let space = self.space(NamespaceId::Host)?;
        let mut now = space.firewall.clone();
        if change.build {
            (now.intact, now.present) = (true, true);
        }
        if change.remove {
            now.clear();
            (now.intact, now.present) = (false, false);
        }
        for element in &change.delete {
            now.remove(&element.key)
                .ok_or_else(|| refusal(ENOENT, "No such file or directory"))?;
        }
        for element in &change.add {
            if !now.intact {
                return Err(refusal(ENOENT, "No such file or directory"));
            }
            if now.data(&element.key).is_some_and(|data| *data != element.data) {
                return Err(refusal(EEXIST, "File exists"));
            }
            let owner = change.owner.clone();
            now.insert(
                element.clone(),
                owner.unwrap_or_else(|| Owner {
                    table: EcoString::new(),
                    uuid: 0,
                }),
            );
        }
        space.firewall = now.clone();
        Ok(vec![observed(NamespaceId::Host, Change::FirewallReplaced(now))])
    }

    pub(super) fn borrow(&mut self, borrow: &Borrow) -> Result<Vec<Observation>, Refusal> {
        let space = self.space(NamespaceId::Host)?;
        let link = borrow.path.split('/').nth(2);
        if link.is_some_and(|link| link != "all" && !space.links.values().any(|of| of.name == link)) {
            space.firewall.borrowed.remove(&borrow.path);
            space.firewall.settings.remove(&borrow.path);
        } else {
            let now = space
                .firewall
                .settings
                .get(&borrow.path)
                .cloned()
                .unwrap_or_else(|| "0".into());
            let value = match &borrow.value {
                Some(value) if *value != now => {
                    space.firewall.borrowed.entry(borrow.path.clone()).or_insert(now);
                    value.clone()
                }
                Some(value) => value.clone(),
                None => space.firewall.borrowed.remove(&borrow.path).unwrap_or(now),
            };
            space.firewall.settings.insert(borrow.path.clone(), value);
        }
        let value = space.firewall.settings.get(&borrow.path).cloned();
        let borrowed = space.firewall.borrowed.clone();
        Ok(vec![
            observed(NamespaceId::Host, Change::Setting(borrow.path.clone(), value)),
            observed(NamespaceId::Host, Change::Borrowed(borrowed)),
        ])
    }

    /// Takes the packet filter away, as somebody with `nft flush ruleset` would.
    pub fn flush_firewall(&mut self) -> Vec<Observation> {
        let Ok(space) = self.space(NamespaceId::Host) else {
            return Vec::new();
        };
        space.firewall.clear();
        (space.firewall.intact, space.firewall.present) = (false, false);
        let now = space.firewall.clone();
        vec![observed(NamespaceId::Host, Change::FirewallReplaced(now))]
    }
}
