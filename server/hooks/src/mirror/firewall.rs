//! What is known of the packet filter.

use std::collections::BTreeMap;

use super::{Change, Namespace, Touched};
use crate::object::firewall::Installed;

impl Namespace {
    pub(super) fn replace_firewall(&mut self, now: Installed, touched: &mut Touched) {
        let before = self.firewall.take().unwrap_or_default();
        touched.firewall |=
            (before.intact, before.present, &before.obstacles) != (now.intact, now.present, &now.obstacles);
        for (key, data, owner) in now.elements() {
            if before.data(key) != Some(data) {
                touched.element(key.clone(), owner.clone());
            }
        }
        for (key, _, owner) in before.elements() {
            if now.data(key).is_none() {
                touched.element(key.clone(), owner.clone());
            }
        }
        if (&before.borrowed, &before.settings) != (&now.borrowed, &now.settings) {
            let paths = [&before.borrowed, &before.settings, &now.borrowed, &now.settings];
            touched
                .settings
                .extend(paths.into_iter().flat_map(BTreeMap::keys).cloned());
        }
        self.firewall = Some(now);
    }
}

/// Takes in a change of what is known already.
pub(super) fn change(firewall: &mut Installed, change: Change, touched: &mut Touched) {
    match change {
        Change::Obstacles(obstacles) => {
            touched.firewall |= firewall.obstacles != obstacles;
            firewall.obstacles = obstacles;
        }
        Change::ElementSet(element, owner) => {
            let key = element.key.clone();
            if firewall.insert(element, owner.clone()) {
                touched.element(key, owner);
            }
        }
        Change::ElementGone(key) => {
            if let Some(owner) = firewall.remove(&key) {
                touched.element(key, owner);
            }
        }
        Change::Setting(path, value) => {
            let before = match &value {
                Some(value) => firewall.settings.insert(path.clone(), value.clone()),
                None => firewall.settings.remove(&path),
            };
            if before != value {
                touched.settings.insert(path);
            }
        }
        Change::Borrowed(borrowed) if firewall.borrowed != borrowed => {
            touched.settings.extend(firewall.borrowed.keys().cloned());
            touched.settings.extend(borrowed.keys().cloned());
            firewall.borrowed = borrowed;
        }
        _ => {}
    }
}
