//! The comparison of routes: those of ports, and those that leave through no port's link.
//!
//! The ports of a namespace share its tables. What one of them gives up and another wants in its place is replaced in one step, so that no packet
//! finds no route in between.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{End, For, Planner, Verdict};
use crate::limits::PROTOCOL;
use crate::mirror::{AddressState, InstalledRoute, Namespace, NamespaceId};
use crate::object::{NetnsRef, Object, Port, Route, RouteKind, RouteSlot, Routes};
use crate::plan::{LinkRef, Operation, Phase, PlacedRoute};
use crate::want::{Resolution, Want};

impl Planner<'_> {
    /// The routes of a port, whose end inside is `end`.
    pub(super) fn routes(&mut self, of: For<'_>, port: &Port, end: &End<'_>, (inside, id): (&Namespace, NamespaceId)) {
        // The kernel takes no route through a link that is down.
        let wanted = if port.up {
            in_effect(self.want, id, port)
        } else {
            BTreeSet::new()
        };
        let through = end.have.map(|(_, link)| link.index);
        let own = through.map(|index| inside.routes(Some(index)));
        let present: BTreeSet<InstalledRoute> = own.into_iter().flatten().chain(inside.routes(None)).cloned().collect();
        self.withdraw_routes(of, &present, &wanted, (inside, id));
        let has = |route: &Route| present.iter().any(|have| have.route == *route);
        let mut missing: Vec<&Route> = wanted.iter().filter(|route| !has(route)).collect();
        // The kernel takes no source that it is not sure of.
        missing.retain(|route| !waits_for_source(route, port, end));
        // A route whose gateway another route makes reachable comes after that one.
        missing.sort_by_key(|route| (route.gateway.is_some(), Reverse(route.destination.prefix_len())));
        for route in missing {
            let link = (route.kind == RouteKind::Unicast).then(|| end.link.clone());
            self.put_route(of, &end.needs, inside, placed(id, link, route));
        }
    }

    /// Routes that leave through no port's link.
    pub(super) fn routes_of(&mut self, of: For<'_>, routes: &Routes) -> Result<(), Verdict> {
        let (inside, id) = match self.want.resolution(&routes.netns) {
            Resolution::Present(id) => match self.have.namespace(id) {
                Some(inside) => (inside, id),
                None => return Err(Verdict::Unread(ecow::eco_format!("{} is being read", routes.netns))),
            },
            Resolution::Unknown => {
                return Err(Verdict::Unread(ecow::eco_format!(
                    "{} is being looked for",
                    routes.netns
                )));
            }
            Resolution::Absent(reason) => return Err(Verdict::Waiting(reason)),
        };
        let wanted: BTreeSet<Route> = routes.routes.iter().map(Route::settled).collect();
        let present = self.of_no_port(inside, id);
        self.withdraw_routes(of, &present, &wanted, (inside, id));
        let missing: Vec<&Route> = wanted
            .iter()
            .filter(|route| present.iter().all(|have| have.route != **route))
            .collect();
        for route in missing {
            self.put_route(of, &[], inside, placed(id, None, route));
        }
        Ok(())
    }

    /// Deletes the routes through no port's link that carry our protocol, once nobody wants any.
    pub(super) fn collect_routes(&mut self, of: For<'_>, netns: &NetnsRef) {
        let Resolution::Present(id) = self.want.resolution(netns) else {
            return;
        };
        let Some(inside) = self.have.namespace(id) else { return };
        let present = self.of_no_port(inside, id);
        self.withdraw_routes(of, &present, &BTreeSet::new(), (inside, id));
    }

    /// The routes of a namespace that are on no link of ours.
    fn of_no_port(&self, inside: &Namespace, id: NamespaceId) -> BTreeSet<InstalledRoute> {
        let of_port = |route: &&InstalledRoute| {
            let link = route.index.and_then(|index| inside.link_at(index));
            let marked = link.is_some_and(|link| self.want.mark().is_ours(link.group));
            // A bridge of ours on the host may well lead to a gateway.
            marked && (id != NamespaceId::Host || link.is_some_and(|link| link.kind != "bridge"))
        };
        inside.all_routes().filter(|route| !of_port(route)).cloned().collect()
    }

    /// Deletes the routes of ours among `present` that nobody in the namespace wants, nor wants something in the place of.
    pub(super) fn withdraw_routes(
        &mut self,
        of: For<'_>,
        present: &BTreeSet<InstalledRoute>,
        wanted: &BTreeSet<Route>,
        (inside, id): (&Namespace, NamespaceId),
    ) {
        let unwanted: Vec<&InstalledRoute> = present
            .iter()
            .filter(|have| have.protocol == PROTOCOL && !wanted.contains(&have.route))
            .collect();
        if unwanted.is_empty() {
            return;
        }
        let others = wanted_in(self.want, id);
        let slots: BTreeSet<RouteSlot> = others.iter().map(Route::slot).collect();
        for have in unwanted {
            let others_own = have.index.is_none() && others.contains(&have.route);
            if others_own || slots.contains(&have.route.slot()) {
                continue;
            }
            let gone = of_installed(inside, id, have);
            if self.withdrawn.insert(gone.clone()) {
                self.step(of, Phase::Withdraw, &[], Operation::RouteDel(gone));
            }
        }
    }

    /// Adds a route, in the place of one of ours to the same destination if there is one.
    fn put_route(&mut self, of: For<'_>, needs: &[usize], inside: &Namespace, new: PlacedRoute) {
        let in_place = inside
            .all_routes()
            .find(|have| have.protocol == PROTOCOL && have.route.slot() == new.route.slot());
        let was = in_place.map(|have| of_installed(inside, new.namespace, have));
        let operation = match was.filter(|was| self.withdrawn.insert(was.clone())) {
            Some(was) => Operation::RouteReplace { new, was },
            None => Operation::RouteAdd(new),
        };
        self.step(of, Phase::Route, needs, operation);
    }
}

/// The routes of a port that are in effect, given the other ports of its namespace.
fn in_effect(want: &Want, id: NamespaceId, port: &Port) -> BTreeSet<Route> {
    let mut routes: BTreeSet<Route> = port.routes.iter().map(Route::settled).collect();
    let ports: Vec<&Port> = ports_in(want, id).collect();
    for default in &port.defaults {
        let same = |route: &Route| route.is_default() && route.destination == default.destination;
        let explicit = ports.iter().any(|other| other.routes.iter().any(same));
        let offers = ports.iter().filter(|other| other.defaults.iter().any(same));
        let first = offers.min_by_key(|other| (other.rank, &other.name));
        if !explicit && first.is_none_or(|first| first.name == port.name) {
            routes.insert(default.settled());
        }
    }
    routes
}

/// The ports of a namespace that are set up.
fn ports_in(want: &Want, id: NamespaceId) -> impl Iterator<Item = &Port> {
    want.inhabitants(id).filter_map(|key| match &want.get(key)?.object {
        Object::Port(port) if port.up => Some(port),
        _ => None,
    })
}

/// All routes that anybody wants in a namespace.
fn wanted_in(want: &Want, id: NamespaceId) -> BTreeSet<Route> {
    let mut routes: BTreeSet<Route> = ports_in(want, id).flat_map(|port| in_effect(want, id, port)).collect();
    for key in want.inhabitants(id) {
        if let Some(Object::Routes(more)) = want.get(key).map(|wanted| &wanted.object) {
            routes.extend(more.routes.iter().map(Route::settled));
        }
    }
    routes
}

/// Whether the source of a route is an address of the port that the kernel is not sure of yet, or about to be.
fn waits_for_source(route: &Route, port: &Port, end: &End<'_>) -> bool {
    let Some(source) = route.source.filter(IpAddr::is_ipv6) else {
        return false;
    };
    let Some(own) = port.addresses.iter().find(|address| address.addr() == source) else {
        return false;
    };
    let have = end.have.and_then(|(inside, link)| inside.address(link.index, own));
    have.is_none_or(|have| have.state != AddressState::Ready)
}

fn placed(namespace: NamespaceId, link: Option<LinkRef>, route: &Route) -> PlacedRoute {
    PlacedRoute {
        namespace,
        link,
        route: route.clone(),
    }
}

fn of_installed(inside: &Namespace, id: NamespaceId, have: &InstalledRoute) -> PlacedRoute {
    let link = have.index.and_then(|index| inside.link_at(index));
    placed(id, link.map(|link| super::reference(id, link)), &have.route)
}
