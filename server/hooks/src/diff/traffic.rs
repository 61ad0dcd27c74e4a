//! The comparison of a pair's traffic: the shape of what leaves either end, and copies.

use std::collections::BTreeSet;

use ecow::eco_format;

use super::{For, Planner, Verdict, reference};
use crate::mirror::{Link, Mirror, Namespace, NamespaceId, Queue};
use crate::name::LinkName;
use crate::object::{Hook, Object, ObjectKey, Shape, Traffic, TrafficChange, TrafficSet};
use crate::plan::{LinkRef, Operation, Phase};
use crate::want::{Resolution, Want};

/// The keys of the traffic of our pairs that somebody shaped or copied for us and nobody wants so.
pub(super) fn collectable(want: &Want, have: &Mirror) -> BTreeSet<ObjectKey> {
    let Some(host) = have.host() else {
        return BTreeSet::new();
    };
    let shaped = |space: &Namespace, index: u32| space.queue(index).and_then(Queue::shape).is_some();
    let copied = |index: u32| {
        [Hook::Ingress, Hook::Egress]
            .iter()
            .any(|hook| host.mirror(index, *hook).is_some())
    };
    let inside = |link: &Link| {
        let Some(Object::Port(port)) = want.get(&link_key(link)).map(|wanted| &wanted.object) else {
            return false;
        };
        let Resolution::Present(id) = want.resolution(&port.netns) else {
            return false;
        };
        let inside = have.namespace(id).zip(link.peer);
        inside.is_some_and(|(inside, peer)| shaped(inside, peer))
    };
    let pairs = host
        .links()
        .filter(|link| link.kind == "veth" && want.mark().is_ours(link.group));
    let changed = pairs.filter(|link| shaped(host, link.index) || copied(link.index) || inside(link));
    let keys = changed.map(|link| ObjectKey::Traffic(LinkName::observed(&link.name)));
    keys.filter(|key| want.get(key).is_none()).collect()
}

fn link_key(link: &Link) -> ObjectKey {
    ObjectKey::Link(LinkName::observed(&link.name))
}

impl<'a> Planner<'a> {
    pub(super) fn traffic(&mut self, of: For<'_>, traffic: &Traffic, host: &'a Namespace) -> Result<(), Verdict> {
        let needs = self.dependency(&ObjectKey::Link(traffic.link.clone()), host, "link")?;
        let (id, inside) = match self.want.resolution(&traffic.netns) {
            Resolution::Present(id) => (id, self.have.namespace(id)),
            Resolution::Unknown => return Err(Verdict::Unread(eco_format!("{} is being looked for", traffic.netns))),
            Resolution::Absent(reason) => return Err(Verdict::Waiting(reason)),
        };
        let Some(inside) = inside else {
            return Err(Verdict::Unread(eco_format!("{} is being read", traffic.netns)));
        };
        let outer = host.link(&traffic.link).filter(|_| needs.is_empty());
        let inner = outer.and_then(|outer| self.other_end(outer, inside));
        if outer.is_some() && inner.is_none() {
            return Err(Verdict::Unread(eco_format!(
                "the other end of {} is being read",
                traffic.link
            )));
        }
        let ends = [
            (NamespaceId::Host, host, &traffic.link, outer, traffic.to_port),
            (id, inside, &traffic.ifname, inner, traffic.from_port),
        ];
        for (namespace, space, name, have, shape) in &ends {
            let queue = have.and_then(|link| space.queue(link.index));
            if let (Some(Queue::Other(kind)), Some(_)) = (queue, shape) {
                let end = named(*namespace, name, *have);
                let why = eco_format!("{end} has a queue of kind {kind} that is not nonnet's");
                return Err(Verdict::Conflict(why));
            }
        }
        // What is there without a queue of its own is there while the switch is waited for.
        let left = if traffic.to_port.is_some() {
            self.ovs_leaves_queue(&traffic.link)
        } else {
            Ok(())
        };
        for (namespace, space, name, have, shape) in ends {
            if left.is_err() && namespace == NamespaceId::Host && name == &traffic.link {
                continue;
            }
            let was = have.and_then(|link| space.queue(link.index)).and_then(Queue::shape);
            self.shape(of, named(namespace, name, have), &needs, shape, was);
        }
        let outer_end = named(NamespaceId::Host, &traffic.link, outer);
        self.mirror(of, &outer_end, outer, host, &needs, traffic.mirror.as_ref())?;
        left
    }

    /// Takes away what is ours on a pair of which nobody wants anything.
    pub(super) fn plain_traffic(&mut self, of: For<'_>, name: &LinkName, link: &'a Link, host: &'a Namespace) {
        // With the link goes what is on it.
        if self.deleted.contains_key(&(NamespaceId::Host, link.index)) {
            return;
        }
        let outer = reference(NamespaceId::Host, link);
        self.shape(
            of,
            outer.clone(),
            &[],
            None,
            host.queue(link.index).and_then(Queue::shape),
        );
        // Without a mirror nothing is waited for.
        let _ = self.mirror(of, &outer, Some(link), host, &[], None);
        let port = self
            .want
            .get(&ObjectKey::Link(name.clone()))
            .map(|wanted| &wanted.object);
        let Some(Object::Port(port)) = port else { return };
        let Resolution::Present(id) = self.want.resolution(&port.netns) else {
            return;
        };
        let inside = self.have.namespace(id);
        if let Some((inside, inner)) = inside.and_then(|inside| Some((inside, self.other_end(link, inside)?))) {
            let was = inside.queue(inner.index).and_then(Queue::shape);
            self.shape(of, reference(id, inner), &[], None, was);
        }
    }

    fn shape(&mut self, of: For<'_>, link: LinkRef, needs: &[usize], set: Option<Shape>, was: Option<Shape>) {
        if set != was {
            let change = TrafficChange::Shape { set, was };
            let operation = Operation::Traffic(TrafficSet { link, change });
            self.step(of, Phase::Route, needs, operation);
        }
    }

    fn mirror(
        &mut self,
        of: For<'_>,
        link: &LinkRef,
        have: Option<&Link>,
        host: &'a Namespace,
        needs: &[usize],
        to: Option<&LinkName>,
    ) -> Result<(), Verdict> {
        let mut needs = needs.to_vec();
        let set = match to {
            None => None,
            Some(name) => {
                let made = self.dependency(&ObjectKey::Link(name.clone()), host, "link")?;
                let target = host.link(name).filter(|_| made.is_empty());
                needs.extend(made);
                Some(named(NamespaceId::Host, name, target))
            }
        };
        for hook in [Hook::Ingress, Hook::Egress] {
            let was = have.and_then(|link| host.mirror(link.index, hook));
            let same = match (&set, was) {
                (None, None) => true,
                (Some(set), Some(was)) => set.index == Some(was),
                _ => false,
            };
            if !same {
                let was = was.and_then(|index| host.link_at(index));
                let change = TrafficChange::Mirror {
                    hook,
                    set: set.clone(),
                    was: was.map(|link| reference(NamespaceId::Host, link)),
                };
                let link = link.clone();
                self.step(
                    of,
                    Phase::Route,
                    &needs,
                    Operation::Traffic(TrafficSet { link, change }),
                );
            }
        }
        Ok(())
    }
}

fn named(namespace: NamespaceId, name: &LinkName, have: Option<&Link>) -> LinkRef {
    match have {
        Some(link) => reference(namespace, link),
        None => LinkRef {
            namespace,
            name: name.clone(),
            index: None,
        },
    }
}
