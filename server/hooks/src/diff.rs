//! The comparison of what is wanted with what the kernel has.
//!
//! Takes the wanted state, the mirror and the keys to look at; gives a plan for just these and a verdict on each. It must never plan a change of
//! a link that does not carry our mark (the loopback of a namespace is set up, nothing more), nor of an address or route that is not of our protocol.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use ecow::{EcoString, eco_format};
use ipnet::IpNet;

use crate::limits::PROTOCOL;
use crate::mirror::{Link, Mirror, Namespace, NamespaceId};
use crate::name::LinkName;
use crate::object::{Addresses, Bridge, Object, ObjectKey, Owner, Route, Veth, Wanted};
use crate::plan::{LinkChange, LinkRef, NewLink, Operation, Phase, Plan, Step};
use crate::want::{Resolution, Want};

/// What the comparison found about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel has what is wanted.
    Equal,
    /// The object is not wanted, and not there.
    Absent,
    /// The plan has steps for it.
    Planned,
    /// Too little is known yet to decide; the answer is on its way.
    Unread(EcoString),
    /// Something of ours that is in its place is about to go; an event will tell.
    Leaving(EcoString),
    /// It cannot be there yet, for this reason; an event will tell.
    Waiting(EcoString),
    /// Something of somebody else's is in its place.
    Conflict(EcoString),
}

/// A plan and the verdicts that led to it.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// What to do.
    pub plan: Plan,
    /// What was found, per key asked for.
    pub verdicts: BTreeMap<ObjectKey, Verdict>,
}

/// Compares the objects of `keys`.
pub fn plan(want: &Want, have: &Mirror, keys: &BTreeSet<ObjectKey>) -> Diff {
    let mut planner = Planner {
        want,
        have,
        diff: Diff::default(),
        made: HashMap::new(),
        deleted: HashMap::new(),
    };
    // Who is depended on comes first; who leaves makes room for who comes.
    for pass in 0..4 {
        for key in keys.iter().filter(|key| rank(want, key) == pass) {
            let verdict = planner.object(key);
            planner.diff.verdicts.insert(key.clone(), verdict);
        }
    }
    planner.diff.plan.sort();
    planner.diff
}

/// The keys of what carries our mark in the server's own namespace and is not wanted.
pub fn collectable(want: &Want, have: &Mirror) -> BTreeSet<ObjectKey> {
    let mut keys = BTreeSet::new();
    if let Some(host) = have.host() {
        for link in host.links() {
            let name = LinkName::observed(&link.name);
            if want.inner_end_on_host(&name).is_some() {
                continue;
            }
            // Another database's links and the addresses on them carry another mark, though the same protocol.
            if !want.mark().is_ours(link.group) {
                continue;
            }
            let key = ObjectKey::Link(name.clone());
            if want.get(&key).is_none() {
                keys.insert(key);
            }
            let wanted = want.addresses_on(&name);
            if host
                .addresses(link.index)
                .any(|a| a.protocol == PROTOCOL && !wanted.contains(&a.address))
            {
                let owner = Owner {
                    table: EcoString::new(),
                    uuid: 0,
                };
                keys.insert(ObjectKey::Addresses { link: name, owner });
            }
        }
    }
    keys
}

fn rank(want: &Want, key: &ObjectKey) -> usize {
    match (want.get(key).map(|w| &w.object), key) {
        (_, ObjectKey::Addresses { .. }) => 3,
        (None, ObjectKey::Link(_)) => 0,
        (Some(Object::Veth(_)), _) => 2,
        (Some(_), _) => 1,
    }
}

struct Planner<'a> {
    want: &'a Want,
    have: &'a Mirror,
    diff: Diff,
    /// The step that creates the link of a key.
    made: HashMap<ObjectKey, usize>,
    /// The step that deletes the link of a name on the host.
    deleted: HashMap<LinkName, usize>,
}

/// The step's object and owner, said once for all steps of an object.
#[derive(Clone, Copy)]
struct For<'a> {
    key: &'a ObjectKey,
    owner: Option<&'a Owner>,
}

/// One end of a link that exists or is about to.
struct End<'a> {
    link: LinkRef,
    /// What the kernel has; `None` when the plan creates it.
    have: Option<(&'a Namespace, &'a Link)>,
    /// The step that creates it.
    needs: Vec<usize>,
}

impl<'a> Planner<'a> {
    fn object(&mut self, key: &ObjectKey) -> Verdict {
        let Some(host) = self.have.host() else {
            return Verdict::Unread("the kernel has not been read yet".into());
        };
        let before = self.diff.plan.steps.len();
        let want = self.want;
        let stop = match want.get(key) {
            None => {
                self.collect(key, host);
                return if self.diff.plan.steps.len() > before {
                    Verdict::Planned
                } else {
                    Verdict::Absent
                };
            }
            Some(Wanted { owner, object }) => {
                let step = For {
                    key,
                    owner: Some(owner),
                };
                match object {
                    Object::Bridge(bridge) => self.bridge(step, owner, bridge, host),
                    Object::Veth(veth) => self.veth(step, owner, veth, host),
                    Object::Addresses(addresses) => self.addresses_of(step, addresses, host),
                }
            }
        };
        match stop {
            Err(verdict) => verdict,
            Ok(()) if self.diff.plan.steps.len() > before => Verdict::Planned,
            Ok(()) => Verdict::Equal,
        }
    }

    fn step(&mut self, of: For<'_>, phase: Phase, needs: &[usize], operation: Operation) -> usize {
        let needs = needs.to_vec();
        self.diff.plan.push(Step {
            object: of.key.clone(),
            owner: of.owner.cloned(),
            phase,
            operation,
            needs,
        })
    }

    /// Deletes what carries our mark under a key that nobody wants.
    fn collect(&mut self, key: &ObjectKey, host: &'a Namespace) {
        let ours = host
            .link(key.link())
            .filter(|link| self.want.mark().is_ours(link.group));
        let Some(link) = ours else { return };
        match key {
            ObjectKey::Link(name) => {
                if self.want.inner_end_on_host(name).is_none() {
                    let owner = Owner::from_alias(&link.alias);
                    self.delete(
                        For {
                            key,
                            owner: owner.as_ref(),
                        },
                        link,
                    );
                }
            }
            ObjectKey::Addresses { link: name, .. } => {
                // With the link goes what is on it.
                if !self.deleted.contains_key(name) && self.want.inner_end_on_host(name).is_none() {
                    let wanted = self.want.addresses_on(name);
                    let end = End {
                        link: reference(NamespaceId::Host, link),
                        have: Some((host, link)),
                        needs: vec![],
                    };
                    self.withdraw_addresses(For { key, owner: None }, &end, &wanted);
                }
            }
        }
    }

    fn delete(&mut self, of: For<'_>, link: &Link) -> usize {
        let reference = reference(NamespaceId::Host, link);
        let name = reference.name.clone();
        let at = self.step(of, Phase::Delete, &[], Operation::LinkDel { link: reference });
        self.deleted.insert(name, at);
        at
    }

    fn bridge(&mut self, of: For<'_>, owner: &Owner, bridge: &Bridge, host: &'a Namespace) -> Result<(), Verdict> {
        let have = self.ours(&bridge.name, host)?;
        let needs = match have {
            Some(link) if link.kind != "bridge" => vec![self.delete(of, link)],
            Some(link) => {
                self.adjust_bridge(of, owner, bridge, host, link);
                return Ok(());
            }
            None => vec![],
        };
        let link = LinkRef {
            namespace: NamespaceId::Host,
            name: bridge.name.clone(),
            index: None,
        };
        let new = NewLink::Bridge {
            mac: bridge.mac,
            mtu: bridge.mtu,
            stp: bridge.stp,
        };
        let add = Operation::LinkAdd {
            link: link.clone(),
            group: self.want.mark().group,
            new,
        };
        let made = self.step(of, Phase::CreateBridge, &needs, add);
        self.made.insert(of.key.clone(), made);
        let end = End {
            link,
            have: None,
            needs: vec![made],
        };
        self.configure(
            of,
            &end,
            &LinkChange {
                up: Some(true),
                ..self.common(owner, !bridge.ipv6)
            },
        );
        Ok(())
    }

    fn adjust_bridge(&mut self, of: For<'_>, owner: &Owner, bridge: &Bridge, host: &'a Namespace, link: &'a Link) {
        let end = End {
            link: reference(NamespaceId::Host, link),
            have: Some((host, link)),
            needs: vec![],
        };
        let set = LinkChange {
            mac: bridge.mac,
            mtu: bridge.mtu,
            stp: Some(bridge.stp),
            up: Some(true),
            ..self.common(owner, !bridge.ipv6)
        };
        self.configure(of, &end, &set);
    }

    fn veth(&mut self, of: For<'_>, owner: &Owner, veth: &Veth, host: &'a Namespace) -> Result<(), Verdict> {
        let have = self.ours(&veth.name, host)?;
        let id = match self.want.resolution(&veth.netns) {
            Resolution::Present(id) => id,
            Resolution::Unknown => return Err(Verdict::Unread(eco_format!("{} is being looked for", veth.netns))),
            Resolution::Absent(reason) => {
                // What is left reaches into a namespace that the row no longer means.
                if let Some(link) = have {
                    self.delete(of, link);
                    return Ok(());
                }
                return Err(Verdict::Waiting(reason));
            }
        };
        let Some(inside) = self.have.namespace(id) else {
            return Err(Verdict::Unread(eco_format!("{} is being read", veth.netns)));
        };
        let bridge = self.bridge_of(veth, host)?;
        let pair = have.and_then(|link| Some((link, self.other_end(link, inside)?)));
        self.check_peer_name(veth, inside, pair.map(|(_, peer)| peer.index), host)?;
        let (outer, inner) = match pair {
            Some((link, peer)) => (
                End {
                    link: reference(NamespaceId::Host, link),
                    have: Some((host, link)),
                    needs: vec![],
                },
                End {
                    link: reference(id, peer),
                    have: Some((inside, peer)),
                    needs: vec![],
                },
            ),
            None => self.create_veth(of, veth, have, id, inside),
        };
        self.outer_end(of, owner, veth, &outer, bridge);
        self.inner_end(of, owner, veth, &inner, inside, id);
        Ok(())
    }

    /// The link of this name if it is ours; an error if it is somebody else's.
    fn ours(&self, name: &LinkName, host: &'a Namespace) -> Result<Option<&'a Link>, Verdict> {
        match host.link(name) {
            Some(link) if !self.want.mark().is_ours(link.group) => {
                let kind = if link.kind.is_empty() {
                    "device"
                } else {
                    link.kind.as_str()
                };
                Err(Verdict::Conflict(eco_format!(
                    "the name {name} is taken by a {kind} that is not nonnet's"
                )))
            }
            other => Ok(other),
        }
    }

    /// The bridge that a port is to join, and the step that makes it if any.
    fn bridge_of(&self, veth: &Veth, host: &Namespace) -> Result<Option<(LinkRef, Vec<usize>)>, Verdict> {
        let Some(name) = &veth.bridge else { return Ok(None) };
        let key = ObjectKey::Link(name.clone());
        let needs = self.dependency(&key, host, "bridge")?;
        let index = if needs.is_empty() {
            host.link(name).map(|link| link.index)
        } else {
            None
        };
        Ok(Some((
            LinkRef {
                namespace: NamespaceId::Host,
                name: name.clone(),
                index,
            },
            needs,
        )))
    }

    /// The steps that make the link of `key`; none if it is there; why not, if it will not be.
    fn dependency(&self, key: &ObjectKey, host: &Namespace, kind: &str) -> Result<Vec<usize>, Verdict> {
        let name = key.link();
        match self.diff.verdicts.get(key) {
            Some(Verdict::Equal) => return Ok(vec![]),
            Some(Verdict::Planned) if self.want.get(key).is_some() => {
                return Ok(self.made.get(key).copied().into_iter().collect());
            }
            Some(
                Verdict::Waiting(reason)
                | Verdict::Conflict(reason)
                | Verdict::Unread(reason)
                | Verdict::Leaving(reason),
            ) => {
                return Err(Verdict::Waiting(eco_format!("{kind} {name} is not there: {reason}")));
            }
            Some(Verdict::Planned | Verdict::Absent) | None => {}
        }
        let missing = || Verdict::Waiting(eco_format!("{kind} {name} does not exist"));
        let link = host
            .link(name)
            .filter(|_| !self.deleted.contains_key(name))
            .ok_or_else(missing)?;
        if kind == "bridge" && link.kind != "bridge" {
            return Err(Verdict::Waiting(eco_format!("{name} is not a bridge")));
        }
        // A port may join a bridge that nobody described; nothing else of somebody else's is built upon.
        let described = self.want.get(key).is_some() || kind != "bridge";
        if described && !self.want.mark().is_ours(link.group) {
            return Err(Verdict::Waiting(eco_format!("{kind} {name} is not nonnet's")));
        }
        Ok(vec![])
    }

    /// The other end of a veth, if it is in this namespace. Index and back index meet there only for our own pairs.
    fn other_end(&self, link: &Link, inside: &'a Namespace) -> Option<&'a Link> {
        let peer = inside.link_at(link.peer.filter(|_| link.kind == "veth")?)?;
        let back = peer.peer == Some(link.index) && peer.kind == "veth" && self.want.mark().is_ours(peer.group);
        back.then_some(peer)
    }

    fn check_peer_name(
        &self,
        veth: &Veth,
        inside: &Namespace,
        own: Option<u32>,
        host: &Namespace,
    ) -> Result<(), Verdict> {
        let Some(other) = inside.link(&veth.peer).filter(|link| Some(link.index) != own) else {
            return Ok(());
        };
        let leaves = self.want.mark().is_ours(other.group)
            && other.peer.and_then(|index| host.link_at(index)).is_some_and(|outer| {
                let name = LinkName::observed(&outer.name);
                name == veth.name || self.deleted.contains_key(&name)
            });
        if leaves {
            return Ok(());
        }
        // Pairs of ours have one end on the host. This one's is gone, and the event that the other is gone too is on its way.
        let gone = other.peer.is_none_or(|index| host.link_at(index).is_none());
        if gone && self.want.mark().is_ours(other.group) {
            return Err(Verdict::Leaving(eco_format!(
                "{} already has a link named {}",
                veth.netns,
                veth.peer
            )));
        }
        Err(Verdict::Conflict(eco_format!(
            "{} already has a link named {}",
            veth.netns,
            veth.peer
        )))
    }

    fn create_veth(
        &mut self,
        of: For<'_>,
        veth: &Veth,
        have: Option<&Link>,
        id: NamespaceId,
        inside: &Namespace,
    ) -> (End<'a>, End<'a>) {
        let mut needs: Vec<usize> = have.map(|link| self.delete(of, link)).into_iter().collect();
        // The name inside may be held by a pair that this plan deletes.
        let holder = inside.link(&veth.peer).and_then(|other| other.peer);
        let outer = holder.and_then(|index| self.have.host().and_then(|host| host.link_at(index)));
        needs.extend(
            outer
                .and_then(|link| self.deleted.get(&LinkName::observed(&link.name)))
                .copied(),
        );
        let link = LinkRef {
            namespace: NamespaceId::Host,
            name: veth.name.clone(),
            index: None,
        };
        let peer = LinkRef {
            namespace: id,
            name: veth.peer.clone(),
            index: None,
        };
        let new = NewLink::Veth {
            peer: peer.clone(),
            peer_mac: veth.mac,
            mtu: veth.mtu,
        };
        let add = Operation::LinkAdd {
            link: link.clone(),
            group: self.want.mark().group,
            new,
        };
        let made = self.step(of, Phase::Create, &needs, add);
        self.made.insert(of.key.clone(), made);
        let outer = End {
            link,
            have: None,
            needs: vec![made],
        };
        (
            outer,
            End {
                link: peer,
                have: None,
                needs: vec![made],
            },
        )
    }

    fn outer_end(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        veth: &Veth,
        end: &End<'a>,
        bridge: Option<(LinkRef, Vec<usize>)>,
    ) {
        let mut set = self.common(owner, veth.bridge.is_some() || !veth.ipv6);
        set.up = Some(true);
        set.mtu = veth.mtu.filter(|_| end.have.is_some());
        let mut needs = end.needs.clone();
        match bridge {
            Some((link, made)) => {
                needs.extend(made);
                set.master = Some(Some(link));
            }
            None => set.master = end.have.is_some().then_some(None),
        }
        let end = End {
            link: end.link.clone(),
            have: end.have,
            needs,
        };
        self.configure(of, &end, &set);
    }

    fn inner_end(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        veth: &Veth,
        end: &End<'a>,
        inside: &'a Namespace,
        id: NamespaceId,
    ) {
        let mut set = self.common(owner, !veth.ipv6);
        set.up = Some(true);
        if end.have.is_some() {
            set.name = Some(veth.peer.clone());
            set.mac = veth.mac;
            set.mtu = veth.mtu;
        }
        let mut needs = end.needs.clone();
        needs.extend(self.configure(of, end, &set));
        let end = End {
            link: end.link.clone(),
            have: end.have,
            needs,
        };
        if id != NamespaceId::Host {
            self.loopback(of, inside, id);
        }
        let wanted: BTreeSet<IpNet> = veth.addresses.iter().copied().collect();
        self.withdraw_addresses(of, &end, &wanted);
        let addresses = self.add_addresses(of, &end, &wanted);
        let needs = if addresses.is_empty() {
            end.needs.clone()
        } else {
            addresses
        };
        self.routes(
            of,
            veth,
            &End {
                link: end.link,
                have: end.have,
                needs,
            },
        );
        for (path, value) in &veth.sysctls {
            let was = inside.sysctl(path).cloned();
            if was.as_ref() != Some(value) {
                let (path, value) = (path.clone(), value.clone());
                let needs: Vec<usize> = self.made.get(of.key).copied().into_iter().collect();
                self.step(
                    of,
                    Phase::Route,
                    &needs,
                    Operation::Sysctl {
                        namespace: id,
                        path,
                        value,
                        was,
                    },
                );
            }
        }
    }

    fn loopback(&mut self, of: For<'_>, inside: &Namespace, id: NamespaceId) {
        if let Some(lo) = inside.link(&LinkName::loopback()).filter(|lo| !lo.up) {
            let set = LinkChange {
                up: Some(true),
                ..LinkChange::default()
            };
            let was = LinkChange {
                up: Some(false),
                ..LinkChange::default()
            };
            self.step(
                of,
                Phase::Raise,
                &[],
                Operation::LinkSet {
                    link: reference(id, lo),
                    set,
                    was,
                },
            );
        }
    }

    /// What every link of ours has: the group, the owner's alias, and no IPv6 of its own accord where there is none.
    fn common(&self, owner: &Owner, address_generation_off: bool) -> LinkChange {
        LinkChange {
            alias: Some(owner.alias()),
            group: Some(self.want.mark().group),
            address_generation_off: Some(address_generation_off),
            ..LinkChange::default()
        }
    }

    /// Plans the part of `set` that the kernel does not have; "up" goes last, on its own. Gives the steps.
    fn configure(&mut self, of: For<'_>, end: &End<'_>, set: &LinkChange) -> Vec<usize> {
        let (mut set, was) = match end.have {
            Some((namespace, have)) => differing(set, namespace, have),
            // The create message carried the group; IPv6 is on by default.
            None => (
                LinkChange {
                    group: None,
                    ..set.clone()
                },
                LinkChange::default(),
            ),
        };
        let up = set.up.take();
        let mut steps = Vec::new();
        if !set.is_empty() {
            let was = LinkChange {
                up: None,
                ..was.clone()
            };
            let operation = Operation::LinkSet {
                link: end.link.clone(),
                set,
                was,
            };
            steps.push(self.step(of, Phase::Configure, &end.needs, operation));
        }
        if up.is_some() {
            let needs: Vec<usize> = end.needs.iter().chain(&steps).copied().collect();
            let set = LinkChange {
                up,
                ..LinkChange::default()
            };
            let was = LinkChange {
                up: was.up,
                ..LinkChange::default()
            };
            steps.push(self.step(
                of,
                Phase::Raise,
                &needs,
                Operation::LinkSet {
                    link: end.link.clone(),
                    set,
                    was,
                },
            ));
        }
        steps
    }

    fn addresses_of(&mut self, of: For<'_>, on: &Addresses, host: &'a Namespace) -> Result<(), Verdict> {
        let needs = self.dependency(&ObjectKey::Link(on.link.clone()), host, "link")?;
        let have = host.link(&on.link).filter(|_| needs.is_empty());
        let link = match have {
            Some(link) => reference(NamespaceId::Host, link),
            None => LinkRef {
                namespace: NamespaceId::Host,
                name: on.link.clone(),
                index: None,
            },
        };
        let end = End {
            link,
            have: have.map(|link| (host, link)),
            needs,
        };
        self.withdraw_addresses(of, &end, &self.want.addresses_on(&on.link));
        self.add_addresses(of, &end, &on.addresses.iter().copied().collect());
        Ok(())
    }

    fn withdraw_addresses(&mut self, of: For<'_>, end: &End<'_>, wanted: &BTreeSet<IpNet>) {
        let Some((namespace, link)) = end.have else { return };
        let unwanted = |a: &&crate::mirror::Address| a.protocol == PROTOCOL && !wanted.contains(&a.address);
        for address in namespace.addresses(link.index).filter(unwanted) {
            let operation = Operation::AddressDel {
                link: end.link.clone(),
                address: address.address,
            };
            self.step(of, Phase::Withdraw, &[], operation);
        }
    }

    fn add_addresses(&mut self, of: For<'_>, end: &End<'_>, wanted: &BTreeSet<IpNet>) -> Vec<usize> {
        let missing = wanted.iter().filter(|address| {
            end.have
                .is_none_or(|(namespace, link)| namespace.address(link.index, address).is_none())
        });
        let add = |address: &IpNet| Operation::AddressAdd {
            link: end.link.clone(),
            address: *address,
        };
        missing
            .map(|address| self.step(of, Phase::Address, &end.needs, add(address)))
            .collect()
    }

    fn routes(&mut self, of: For<'_>, veth: &Veth, end: &End<'_>) {
        let wanted: BTreeSet<Route> = veth.routes.iter().map(Route::settled).collect();
        let mut present = BTreeSet::new();
        if let Some((namespace, link)) = end.have {
            let through_none = namespace.routes(None).filter(|have| wanted.contains(&have.route));
            for have in namespace.routes(Some(link.index)).chain(through_none) {
                if wanted.contains(&have.route) {
                    present.insert(have.route.clone());
                } else if have.protocol == PROTOCOL {
                    let operation = Operation::RouteDel {
                        link: end.link.clone(),
                        route: have.route.clone(),
                    };
                    self.step(of, Phase::Withdraw, &[], operation);
                }
            }
        }
        let mut missing: Vec<&Route> = wanted.difference(&present).collect();
        // A route whose gateway another route makes reachable comes after that one.
        missing.sort_by_key(|route| (route.gateway.is_some(), Reverse(route.destination.prefix_len())));
        for route in missing {
            let operation = Operation::RouteAdd {
                link: end.link.clone(),
                route: route.clone(),
            };
            self.step(of, Phase::Route, &end.needs, operation);
        }
    }
}

fn reference(namespace: NamespaceId, link: &Link) -> LinkRef {
    LinkRef {
        namespace,
        name: LinkName::observed(&link.name),
        index: Some(link.index),
    }
}

/// The part of `set` that differs from what a link has, and what it has there.
fn differing(set: &LinkChange, namespace: &Namespace, have: &Link) -> (LinkChange, LinkChange) {
    fn pick<T: PartialEq + Clone>(wanted: Option<&T>, have: Option<&T>) -> (Option<T>, Option<T>) {
        match wanted {
            Some(wanted) if have != Some(wanted) => (Some(wanted.clone()), have.cloned()),
            _ => (None, None),
        }
    }
    let name = pick(set.name.as_ref(), Some(&LinkName::observed(&have.name)));
    let alias = pick(set.alias.as_ref(), Some(&have.alias));
    let group = pick(set.group.as_ref(), Some(&have.group));
    let mac = pick(set.mac.as_ref(), have.mac.as_ref());
    let mtu = pick(set.mtu.as_ref(), Some(&have.mtu));
    let up = pick(set.up.as_ref(), Some(&have.up));
    let stp = pick(set.stp.as_ref(), have.stp.as_ref());
    // A kernel without IPv6 says nothing and makes nothing.
    let ipv6 = have.address_generation_off.as_ref();
    let address_generation_off = pick(set.address_generation_off.as_ref().filter(|_| ipv6.is_some()), ipv6);
    let master = match &set.master {
        Some(wanted) => {
            let same = match wanted {
                Some(bridge) => bridge.index.is_some() && bridge.index == have.master,
                None => have.master.is_none(),
            };
            let before = have.master.and_then(|index| namespace.link_at(index));
            let before = before.map(|link| reference(NamespaceId::Host, link));
            if same {
                (None, None)
            } else {
                (Some(wanted.clone()), Some(before))
            }
        }
        None => (None, None),
    };
    let part = |second: bool| {
        let side = |pair: &(Option<bool>, Option<bool>)| if second { pair.1 } else { pair.0 };
        LinkChange {
            name: if second { name.1.clone() } else { name.0.clone() },
            alias: if second { alias.1.clone() } else { alias.0.clone() },
            group: if second { group.1 } else { group.0 },
            mac: if second { mac.1 } else { mac.0 },
            mtu: if second { mtu.1 } else { mtu.0 },
            master: if second { master.1.clone() } else { master.0.clone() },
            address_generation_off: side(&address_generation_off),
            stp: side(&stp),
            up: side(&up),
        }
    };
    (part(false), part(true))
}
