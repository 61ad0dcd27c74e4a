//! The packet filter: elements that are missing come, those that nobody wants go, settings are borrowed and given back.
//!
//! An element may be wanted by several owners (two networks on one bridge); it goes with the last of them. Its data never changes in place: in one
//! step the old element goes and the new one comes, and the kernel does both at once.

use std::collections::{BTreeMap, BTreeSet};

use ecow::EcoString;

use super::{For, Planner, Verdict};
use crate::mirror::Namespace;
use crate::object::firewall::{Borrow, Element, ElementChange, ElementKey, Firewall, Installed};
use crate::object::{ObjectKey, Owner};
use crate::plan::{Operation, Phase};
use crate::want::Want;

/// What a plan does to the packet filter already, so that no step does it twice.
#[derive(Debug, Default)]
pub(super) struct Done {
    built: bool,
    deleted: BTreeSet<ElementKey>,
    added: BTreeSet<ElementKey>,
    settings: BTreeSet<EcoString>,
}

/// Keys of what is left over in the packet filter.
pub(super) fn collectable(want: &Want, host: &Namespace) -> BTreeSet<ObjectKey> {
    let Some(have) = host.firewall() else {
        return BTreeSet::new();
    };
    let is_of = |key: &ElementKey, marked: &Owner| {
        want.wanting_element(key)
            .any(|wanting| matches!(wanting, ObjectKey::Firewall { owner } if owner == marked))
    };
    let stray = have.elements().filter(|(key, _, owner)| !is_of(key, owner));
    let mut keys: BTreeSet<ObjectKey> = stray.map(|(_, _, owner)| key_of(owner.clone())).collect();
    let lent = have
        .borrowed
        .keys()
        .any(|path| want.wanting_setting(path).next().is_none());
    if lent || (have.present && !want.filters()) {
        keys.insert(key_of(nobody()));
    }
    keys
}

fn key_of(owner: Owner) -> ObjectKey {
    ObjectKey::Firewall { owner }
}

fn nobody() -> Owner {
    Owner {
        table: EcoString::new(),
        uuid: 0,
    }
}

impl Planner<'_> {
    pub(super) fn firewall(&mut self, of: For<'_>, wanted: &Firewall, host: &Namespace) -> Result<(), Verdict> {
        let have = read(host)?;
        if have.unsupported && wanted.is_passive() {
            return Ok(());
        }
        if !self.want.filters() {
            self.remove_filter(of, have);
            self.give_back(of, have);
            return Ok(());
        }
        let before = self.diff.plan.steps.len();
        let mut change = ElementChange {
            build: !have.intact && !wanted.elements.is_empty() && !std::mem::replace(&mut self.filter.built, true),
            owner: of.owner.cloned(),
            ..ElementChange::default()
        };
        for (key, data) in &wanted.elements {
            let old = have.data(key);
            if (old == Some(data) && have.intact) || !self.filter.added.insert(key.clone()) {
                continue;
            }
            self.drop_element(key, have, &mut change);
            change.add.push(Element {
                key: key.clone(),
                data: data.clone(),
            });
        }
        let left = of.owner.map(|owner| self.drop_unwanted(owner, have, &mut change));
        self.change(of, change);
        self.hand_over(of, left.unwrap_or_default(), have);
        let waits = self.borrow_settings(of, wanted, have, host);
        self.give_back(of, have);
        if self.diff.plan.steps.len() > before {
            return Ok(());
        }
        waits?;
        match have.obstacles.first().filter(|_| wanted.forwards()) {
            Some(obstacle) => Err(Verdict::Conflict(obstacle.clone())),
            None => Ok(()),
        }
    }

    /// Takes away what is left over of an owner who wants nothing any more; with the last one everything goes.
    pub(super) fn collect_firewall(&mut self, key: &ObjectKey, host: &Namespace) {
        let (ObjectKey::Firewall { owner }, Ok(have)) = (key, read(host)) else {
            return;
        };
        let of = For {
            key,
            owner: Some(owner).filter(|owner| !owner.table.is_empty()),
        };
        if self.want.filters() {
            let mut change = ElementChange::default();
            let left = self.drop_unwanted(owner, have, &mut change);
            self.change(of, change);
            self.hand_over(of, left, have);
        } else {
            self.remove_filter(of, have);
        }
        self.give_back(of, have);
    }

    /// Takes everything away: nobody wants anything of the packet filter.
    fn remove_filter(&mut self, of: For<'_>, have: &Installed) {
        if have.present && !std::mem::replace(&mut self.filter.built, true) {
            let change = ElementChange {
                remove: true,
                ..ElementChange::default()
            };
            self.change(of, change);
        }
    }

    fn change(&mut self, of: For<'_>, change: ElementChange) {
        if change.build || change.remove || !change.delete.is_empty() || !change.add.is_empty() {
            self.step(of, Phase::Firewall, &[], Operation::Elements(change));
        }
    }

    /// Deletes the elements of an owner that nobody wants. Gives those that only others want, each with one of them.
    fn drop_unwanted(
        &mut self,
        owner: &Owner,
        have: &Installed,
        change: &mut ElementChange,
    ) -> BTreeMap<Owner, Vec<Element>> {
        let mut left: BTreeMap<Owner, Vec<Element>> = BTreeMap::new();
        for key in have.of(owner) {
            let wanting = || self.want.wanting_element(key).filter_map(|key| self.want.get(key));
            if wanting().any(|wanted| wanted.owner == *owner) {
                continue;
            }
            match wanting().find_map(|wanted| Some((wanted.owner.clone(), wanted.element(key)?))) {
                Some((heir, element)) => left.entry(heir).or_default().push(element),
                None => self.drop_element(key, have, change),
            }
        }
        left
    }

    /// Marks elements with an owner who still wants them: with the last of them they go.
    fn hand_over(&mut self, of: For<'_>, left: BTreeMap<Owner, Vec<Element>>, have: &Installed) {
        for (heir, elements) in left {
            let mut change = ElementChange {
                owner: Some(heir),
                ..ElementChange::default()
            };
            for element in elements {
                if self.filter.added.insert(element.key.clone()) {
                    self.drop_element(&element.key, have, &mut change);
                    change.add.push(element);
                }
            }
            self.change(of, change);
        }
    }

    fn drop_element(&mut self, key: &ElementKey, have: &Installed, change: &mut ElementChange) {
        let Some(data) = have.data(key) else { return };
        if self.filter.deleted.insert(key.clone()) {
            change.delete.push(Element {
                key: key.clone(),
                data: data.clone(),
            });
        }
    }

    fn borrow_settings(
        &mut self,
        of: For<'_>,
        wanted: &Firewall,
        have: &Installed,
        host: &Namespace,
    ) -> Result<(), Verdict> {
        let mut waits = Ok(());
        for (setting, value) in &wanted.settings {
            if have.settings.get(&setting.path) == Some(value) || self.filter.settings.contains(&setting.path) {
                continue;
            }
            let link = setting.link.clone().map(ObjectKey::Link);
            let needs = link.map_or(Ok(vec![]), |link| self.dependency(&link, host, "bridge"));
            match needs {
                Ok(needs) => {
                    self.filter.settings.insert(setting.path.clone());
                    let borrow = Borrow {
                        path: setting.path.clone(),
                        value: Some(value.clone()),
                    };
                    self.step(of, Phase::Route, &needs, Operation::Borrow(borrow));
                }
                Err(verdict) => waits = Err(verdict),
            }
        }
        waits
    }

    /// Gives back the settings that nobody needs.
    fn give_back(&mut self, of: For<'_>, have: &Installed) {
        for path in have.borrowed.keys() {
            if self.want.wanting_setting(path).next().is_none() && self.filter.settings.insert(path.clone()) {
                let borrow = Borrow {
                    path: path.clone(),
                    value: None,
                };
                self.step(of, Phase::Withdraw, &[], Operation::Borrow(borrow));
            }
        }
    }
}

fn read(host: &Namespace) -> Result<&Installed, Verdict> {
    host.firewall()
        .ok_or_else(|| Verdict::Unread("the firewall has not been read yet".into()))
}
