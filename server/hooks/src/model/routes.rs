//! Routes, which need a link that is up and a gateway that can be reached.

use super::{EEXIST, ENETUNREACH, ESRCH, Model, observed, refusal};
use crate::limits::PROTOCOL;
use crate::mirror::{Change, InstalledRoute, Observation};
use crate::plan::{PlacedRoute, Refusal};

impl Model {
    pub(super) fn route_add(&mut self, placed: &PlacedRoute, replace: bool) -> Result<Vec<Observation>, Refusal> {
        let PlacedRoute { namespace, link, route } = placed;
        let index = link.as_ref().map(|link| self.find(link)).transpose()?;
        let space = self.space(*namespace)?;
        if index.is_some_and(|index| !space.links.get(&index).is_some_and(|l| l.up)) {
            return Err(refusal(ENETUNREACH, "Network is unreachable"));
        }
        if let Some(gateway) = route.gateway {
            let reachable = space
                .addresses
                .iter()
                .any(|a| index.is_none_or(|index| a.index == index) && a.address.contains(&gateway));
            if !reachable {
                return Err(refusal(ENETUNREACH, "Nexthop has invalid gateway"));
            }
        }
        if replace {
            space.routes.retain(|r| r.route.slot() != route.slot());
        } else if space.routes.iter().any(|r| r.route.slot() == route.slot()) {
            return Err(refusal(EEXIST, "File exists"));
        }
        let route = InstalledRoute {
            index,
            route: route.clone(),
            protocol: PROTOCOL,
        };
        space.routes.push(route.clone());
        let change = if replace {
            Change::RouteReplaced(route)
        } else {
            Change::RouteSet(route)
        };
        Ok(vec![observed(*namespace, change)])
    }

    pub(super) fn route_del(&mut self, placed: &PlacedRoute) -> Result<Vec<Observation>, Refusal> {
        let PlacedRoute { namespace, link, route } = placed;
        let index = link.as_ref().map(|link| self.find(link)).transpose()?;
        let space = self.space(*namespace)?;
        let at = space.routes.iter().position(|r| r.index == index && r.route == *route);
        let gone = space
            .routes
            .remove(at.ok_or_else(|| refusal(ESRCH, "No such process"))?);
        Ok(vec![observed(*namespace, Change::RouteGone(gone))])
    }
}
