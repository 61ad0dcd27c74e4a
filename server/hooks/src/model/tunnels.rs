//! What tunnels have besides their links: the ends to which floods go, keys and peers.

use std::collections::BTreeMap;

use super::{ENOENT, Model, observed, refusal};
use crate::mirror::{Change, NamespaceId, Observation};
use crate::name::LinkName;
use crate::object::wireguard::{WireguardOperation, WireguardState};
use crate::object::{Flood, Spec};
use crate::plan::Refusal;

impl Model {
    pub(super) fn flood(&mut self, flood: &Flood) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(&flood.link)?;
        let entry = (index, flood.end);
        let space = self.space(flood.link.namespace)?;
        if flood.on {
            space.floods.insert(entry);
        } else if !space.floods.remove(&entry) {
            return Err(refusal(ENOENT, "No such file or directory"));
        }
        let change = Change::Flood(index, flood.end, flood.on);
        Ok(vec![observed(flood.link.namespace, change)])
    }

    /// The kernel's own entry, that for the remote of a VXLAN tunnel, goes with its settings.
    pub(super) fn flood_remote(&mut self, id: NamespaceId, index: u32, before: Option<&Spec>, now: Option<&Spec>) {
        let remote = |spec: Option<&Spec>| match spec {
            Some(Spec::Vxlan(vxlan)) => vxlan.remote,
            _ => None,
        };
        let (before, now) = (remote(before), remote(now));
        let Ok(space) = self.space(id) else { return };
        if let Some(gone) = before.filter(|_| before != now) {
            space.floods.remove(&(index, gone));
        }
        space
            .floods
            .extend(now.filter(|_| before != now).map(|now| (index, now)));
    }

    /// All keys and peers, as they are told at first.
    pub fn wireguards(&self) -> Vec<Observation> {
        let told = |(port, state): (&LinkName, &WireguardState)| {
            observed(
                state.namespace,
                Change::Wireguard(port.clone(), Some(Box::new(state.clone()))),
            )
        };
        self.wireguards.iter().map(told).collect()
    }

    pub(super) fn wireguard(&mut self, operation: &WireguardOperation) -> Result<Vec<Observation>, Refusal> {
        let set = match operation {
            WireguardOperation::Set(set) => set,
            WireguardOperation::Forget { port } => {
                self.wireguards.remove(port);
                return Ok(vec![observed(NamespaceId::Host, Change::Wireguard(port.clone(), None))]);
            }
        };
        let state = WireguardState {
            namespace: set.link.namespace,
            index: self.find(&set.link)?,
            public_key: None,
            settings: set.settings.clone(),
            traffic: BTreeMap::new(),
        };
        self.wireguards.insert(set.port.clone(), state.clone());
        let change = Change::Wireguard(set.port.clone(), Some(Box::new(state)));
        Ok(vec![observed(set.link.namespace, change)])
    }
}
