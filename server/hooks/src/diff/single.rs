//! The comparison of a link without another end, in the server's own namespace or inside another one.

use ecow::eco_format;

use super::port::Membership;
use super::{End, For, Planner, Verdict, reference};
use crate::mirror::{Link, Namespace, NamespaceId};
use crate::object::{Fit, Object, ObjectKey, Owner, Port, Single, Spec, Wanted};
use crate::plan::{LinkRef, NewLink, Operation, Phase};
use crate::want::Resolution;

/// A link that another one needs, and the steps that make it.
type Needed = (LinkRef, Vec<usize>);

impl<'a> Planner<'a> {
    /// Deletes what was inside a namespace for this key and is not wanted there any more.
    pub(super) fn clear(&mut self, key: &ObjectKey) {
        let want = self.want;
        for (netns, owner) in want.left(key) {
            let (Resolution::Present(id), step) = (
                want.resolution(netns),
                For {
                    key,
                    owner: Some(owner),
                },
            ) else {
                continue;
            };
            let Some(inside) = self.have.namespace(id).filter(|_| !self.is_wanted_in(key, owner, id)) else {
                continue;
            };
            let goes = |link: &&Link| link.kind != "veth" && (self.is_of(link, owner) || self.is_nobodys(link, id));
            let links: Vec<&Link> = inside.links().filter(goes).collect();
            for link in links {
                self.delete(step, id, link);
            }
        }
    }

    /// Whether a link inside a namespace was never marked as a row's, and no row has a port of its name there.
    fn is_nobodys(&self, link: &Link, id: NamespaceId) -> bool {
        let is_its = |key: &ObjectKey| {
            let object = self.want.get(key).map(|wanted| &wanted.object);
            matches!(object, Some(Object::Port(port)) if link.name == port.ifname.as_str())
        };
        self.is_fresh(link) && !self.want.inhabitants(id).any(is_its)
    }

    /// Whether an owner wants the object of a key in that namespace.
    fn is_wanted_in(&self, key: &ObjectKey, by: &Owner, id: NamespaceId) -> bool {
        self.want.get(key).is_some_and(|Wanted { owner, object }| {
            let inside = matches!(object, Object::Port(port)
                if port.is_inside() && self.want.resolution(&port.netns) == Resolution::Present(id));
            owner == by && inside
        })
    }

    fn is_of(&self, link: &Link, owner: &Owner) -> bool {
        self.want.mark().is_ours(link.group) && link.alias == owner.alias()
    }

    pub(super) fn single(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        (port, single): (&Port, &Single),
        host: &'a Namespace,
    ) -> Result<(), Verdict> {
        let id = self.place(of, port, host)?;
        let Some(id) = id else { return Ok(()) };
        let inside = self.inside(port, id)?;
        let bridge = self.bridge_of(port, host)?;
        let parent = self.parent_of(single, host)?;
        let have = self.own(owner, port, single, (id, inside))?;
        let mut needs = Vec::new();
        let mut made = None;
        if id != NamespaceId::Host {
            // What has the port's name on the host is of a time when the port was there, or has yet to move.
            let at_home = host
                .link(&port.name)
                .filter(|link| self.is_of(link, owner) || self.is_fresh(link));
            made =
                at_home.filter(|link| have.is_none() && is_program(single) && link.spec.as_ref() == Some(&single.spec));
            let stale = at_home.filter(|_| made.is_none());
            needs.extend(stale.map(|link| self.delete(of, NamespaceId::Host, link)));
        }
        let fit = have.map(|link| fit(single, link, parent.as_ref()));
        let end = if let Some(link) = have.filter(|_| fit != Some(Fit::Again)) {
            End {
                link: reference(id, link),
                have: Some((inside, link)),
                needs,
            }
        } else {
            needs.extend(have.map(|link| self.delete(of, id, link)));
            needs.extend(self.maker_of_room(port, (id, inside)));
            if let Some(link) = made {
                self.bring(of, port, (id, link), &needs)
            } else if is_program(single) {
                // Its program has to run before the link can go anywhere.
                self.create_single(of, (port, single), NamespaceId::Host, None, needs);
                return Ok(());
            } else {
                self.create_single(of, (port, single), id, parent, needs)
            }
        };
        self.set_single(of, owner, (port, single), &end, bridge);
        self.flood(of, port, &single.spec, &end);
        self.on_end(of, port, &end, inside, id);
        Ok(())
    }

    /// Whether a link was just made for a row, and could not be marked as the row's yet.
    fn is_fresh(&self, link: &Link) -> bool {
        self.want.mark().is_ours(link.group) && link.alias.is_empty()
    }

    /// Moves a link that its program made on the host to where the port is.
    fn bring(&mut self, of: For<'_>, port: &Port, (id, link): (NamespaceId, &Link), needs: &[usize]) -> End<'a> {
        let to = LinkRef {
            namespace: id,
            name: port.ifname.clone(),
            index: None,
        };
        let operation = Operation::LinkMove {
            link: reference(NamespaceId::Host, link),
            to: to.clone(),
        };
        let moved = self.step(of, Phase::Create, needs, operation);
        self.made.insert(of.key.clone(), moved);
        End {
            link: to,
            have: None,
            needs: vec![moved],
        }
    }

    /// The link that a port is on, and the step that makes it if any.
    fn parent_of(&self, single: &Single, host: &Namespace) -> Result<Option<Needed>, Verdict> {
        let Some(name) = &single.parent else { return Ok(None) };
        let needs = self.dependency(&ObjectKey::Link(name.clone()), host, "parent")?;
        let index = host.link(name).filter(|_| needs.is_empty()).map(|link| link.index);
        let link = LinkRef {
            namespace: NamespaceId::Host,
            name: name.clone(),
            index,
        };
        Ok(Some((link, needs)))
    }

    /// The port's link where it is, whatever it is called and is like there.
    fn own(
        &self,
        owner: &Owner,
        port: &Port,
        single: &Single,
        (id, inside): (NamespaceId, &'a Namespace),
    ) -> Result<Option<&'a Link>, Verdict> {
        if id == NamespaceId::Host {
            return self.ours(&port.ifname, inside);
        }
        let Some(link) = inside.link(&port.ifname) else {
            let kind = single.spec.kind();
            return Ok(inside.links().find(|link| self.is_of(link, owner) && link.kind == kind));
        };
        let is_ours = self.want.mark().is_ours(link.group) && link.kind != "veth";
        if is_ours && (link.alias.is_empty() || self.is_of(link, owner)) {
            return Ok(Some(link));
        }
        if self.maker_of_room(port, (id, inside)).is_some() {
            return Ok(None);
        }
        Err(Verdict::Conflict(eco_format!(
            "{} already has a link named {}",
            port.netns,
            port.ifname
        )))
    }

    /// The step that deletes what has the port's name inside.
    pub(super) fn maker_of_room(&self, port: &Port, (id, inside): (NamespaceId, &Namespace)) -> Option<usize> {
        let holder = inside.link(&port.ifname)?;
        let outer = holder.peer.filter(|_| holder.kind == "veth");
        let outer = outer.and_then(|index| self.deleted.get(&(NamespaceId::Host, index)));
        self.deleted.get(&(id, holder.index)).or(outer).copied()
    }

    fn create_single(
        &mut self,
        of: For<'_>,
        (port, single): (&Port, &Single),
        id: NamespaceId,
        parent: Option<Needed>,
        mut needs: Vec<usize>,
    ) -> End<'a> {
        let name = if is_program(single) { &port.name } else { &port.ifname };
        let link = LinkRef {
            namespace: id,
            name: name.clone(),
            index: None,
        };
        let parent = parent.map(|(parent, made)| {
            needs.extend(made);
            parent
        });
        let new = NewLink::Single {
            spec: single.spec.clone(),
            parent,
            mac: port.mac,
            mtu: port.mtu,
        };
        self.add_link(of, Phase::Create, &needs, link, new)
    }

    fn set_single(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        (port, single): (&Port, &Single),
        end: &End<'a>,
        bridge: Option<Needed>,
    ) {
        let mut set = self.common(owner, bridge.is_some() || !port.ipv6);
        set.up = Some(port.up);
        if end.have.is_some() {
            set.name = Some(port.ifname.clone());
            set.mac = port.mac;
            set.spec = Some(Box::new(single.spec.clone()));
        }
        if end.have.is_some() || is_program(single) {
            set.mtu = port.mtu;
        }
        let membership = Membership::of(bridge, end);
        self.join(of, end, set, membership, port);
    }
}

/// Whether the link is made, and kept, by a program of the host.
fn is_program(single: &Single) -> bool {
    single.spec == Spec::Tun
}

/// What must be done so that a link becomes that of the port.
fn fit(single: &Single, link: &Link, parent: Option<&Needed>) -> Fit {
    let fit = link.spec.as_ref().map_or(Fit::Again, |have| single.spec.fit(have));
    let same_parent = match parent {
        Some((parent, _)) => parent.index.is_some() && parent.index == link.peer,
        None => link.peer.is_none(),
    };
    if same_parent { fit } else { Fit::Again }
}
