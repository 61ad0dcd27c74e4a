//! Addresses, and how they move from one link to another with the routes of others.

use ipnet::IpNet;

use super::{EADDRNOTAVAIL, EEXIST, Model, observed, refusal};
use crate::limits::PROTOCOL;
use crate::mirror::{Address, AddressState, Change, InstalledRoute, NamespaceId, Observation};
use crate::name::LinkName;
use crate::object::{AddressesMove, takes};
use crate::plan::{LinkRef, Refusal};

impl Model {
    /// Gives a link an address as somebody else would.
    pub fn add_foreign_address(&mut self, id: NamespaceId, name: &LinkName, address: IpNet) -> Vec<Observation> {
        let link = LinkRef {
            namespace: id,
            name: name.clone(),
            index: None,
        };
        let (Ok(index), Some(space)) = (self.find(&link), self.namespaces.get_mut(&id)) else {
            return Vec::new();
        };
        let address = Address {
            index,
            address,
            protocol: 0,
            state: AddressState::Ready,
        };
        space.addresses.push(address.clone());
        vec![observed(id, Change::AddressSet(address))]
    }

    pub(super) fn address_add(&mut self, link: &LinkRef, address: IpNet) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(link)?;
        let space = self.space(link.namespace)?;
        if space.addresses.iter().any(|a| a.index == index && a.address == address) {
            return Err(refusal(EEXIST, "Address already assigned"));
        }
        let address = Address {
            index,
            address,
            protocol: PROTOCOL,
            state: AddressState::Ready,
        };
        space.addresses.push(address.clone());
        Ok(vec![observed(link.namespace, Change::AddressSet(address))])
    }

    pub(super) fn address_del(&mut self, link: &LinkRef, address: IpNet) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(link)?;
        let space = self.space(link.namespace)?;
        let before = space.addresses.len();
        space.addresses.retain(|a| a.index != index || a.address != address);
        if space.addresses.len() == before {
            return Err(refusal(EADDRNOTAVAIL, "Cannot assign requested address"));
        }
        Ok(vec![observed(link.namespace, Change::AddressGone(index, address))])
    }

    /// Moves addresses, with all routes through their link that are not ours.
    pub(super) fn addresses_move(&mut self, all: &AddressesMove) -> Result<Vec<Observation>, Refusal> {
        let (from, to) = (self.find(&all.from)?, self.find(&all.to)?);
        let space = self.space(all.to.namespace)?;
        let mut changes = Vec::new();
        for address in space.addresses.iter_mut().filter(|address| address.index == from) {
            if let Some(protocol) = takes(address, all.back) {
                (address.index, address.protocol) = (to, protocol);
                changes.push(Change::AddressSet(address.clone()));
                changes.push(Change::AddressGone(from, address.address));
            }
        }
        let is_foreign = |route: &InstalledRoute| route.index == Some(from) && route.protocol != PROTOCOL;
        for route in space.routes.iter_mut().filter(|route| is_foreign(route)) {
            changes.push(Change::RouteGone(route.clone()));
            route.index = Some(to);
            changes.push(Change::RouteSet(route.clone()));
        }
        let changes = changes.into_iter();
        Ok(changes.map(|change| observed(all.to.namespace, change)).collect())
    }
}
