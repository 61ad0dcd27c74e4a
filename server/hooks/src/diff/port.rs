//! The comparison of a port: its ends, and what is on the inner one.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use ecow::eco_format;
use ipnet::IpNet;

use super::{End, For, Planner, Verdict, reference};
use crate::limits::PROTOCOL;
use crate::mirror::{Link, Namespace, NamespaceId};
use crate::name::LinkName;
use crate::object::{ObjectKey, Owner, Port, Route};
use crate::plan::{LinkChange, LinkRef, NewLink, Operation, Phase};
use crate::want::Resolution;

impl<'a> Planner<'a> {
    pub(super) fn port(&mut self, of: For<'_>, owner: &Owner, port: &Port, host: &'a Namespace) -> Result<(), Verdict> {
        let have = self.ours(&port.name, host)?;
        let id = match self.want.resolution(&port.netns) {
            Resolution::Present(id) => id,
            Resolution::Unknown => return Err(Verdict::Unread(eco_format!("{} is being looked for", port.netns))),
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
            return Err(Verdict::Unread(eco_format!("{} is being read", port.netns)));
        };
        let bridge = self.bridge_of(port, host)?;
        let pair = have.and_then(|link| Some((link, self.other_end(link, inside)?)));
        self.check_peer_name(port, inside, pair.map(|(_, peer)| peer.index), host)?;
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
            None => self.create_pair(of, port, have, id, inside),
        };
        self.outer_end(of, owner, port, &outer, bridge);
        self.inner_end(of, owner, port, &inner, inside, id);
        Ok(())
    }

    /// The bridge that a port is to join, and the step that makes it if any.
    pub(super) fn bridge_of(&self, port: &Port, host: &Namespace) -> Result<Option<(LinkRef, Vec<usize>)>, Verdict> {
        let Some(name) = &port.bridge else { return Ok(None) };
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

    /// The other end of a veth, if it is in this namespace. Index and back index meet there only for our own pairs.
    pub(super) fn other_end(&self, link: &Link, inside: &'a Namespace) -> Option<&'a Link> {
        let peer = inside.link_at(link.peer.filter(|_| link.kind == "veth")?)?;
        let back = peer.peer == Some(link.index) && peer.kind == "veth" && self.want.mark().is_ours(peer.group);
        back.then_some(peer)
    }

    pub(super) fn check_peer_name(
        &self,
        port: &Port,
        inside: &Namespace,
        own: Option<u32>,
        host: &Namespace,
    ) -> Result<(), Verdict> {
        let Some(other) = inside.link(&port.ifname).filter(|link| Some(link.index) != own) else {
            return Ok(());
        };
        let leaves = self.want.mark().is_ours(other.group)
            && other.peer.and_then(|index| host.link_at(index)).is_some_and(|outer| {
                let name = LinkName::observed(&outer.name);
                name == port.name || self.deleted.contains_key(&name)
            });
        if leaves {
            return Ok(());
        }
        // Pairs of ours have one end on the host. This one's is gone, and the event that the other is gone too is on its way.
        let gone = other.peer.is_none_or(|index| host.link_at(index).is_none());
        if gone && self.want.mark().is_ours(other.group) {
            return Err(Verdict::Leaving(eco_format!(
                "{} already has a link named {}",
                port.netns,
                port.ifname
            )));
        }
        Err(Verdict::Conflict(eco_format!(
            "{} already has a link named {}",
            port.netns,
            port.ifname
        )))
    }

    pub(super) fn create_pair(
        &mut self,
        of: For<'_>,
        port: &Port,
        have: Option<&Link>,
        id: NamespaceId,
        inside: &Namespace,
    ) -> (End<'a>, End<'a>) {
        let mut needs: Vec<usize> = have.map(|link| self.delete(of, link)).into_iter().collect();
        // The name inside may be held by a pair that this plan deletes.
        let holder = inside.link(&port.ifname).and_then(|other| other.peer);
        let outer = holder.and_then(|index| self.have.host().and_then(|host| host.link_at(index)));
        needs.extend(
            outer
                .and_then(|link| self.deleted.get(&LinkName::observed(&link.name)))
                .copied(),
        );
        let link = LinkRef {
            namespace: NamespaceId::Host,
            name: port.name.clone(),
            index: None,
        };
        let peer = LinkRef {
            namespace: id,
            name: port.ifname.clone(),
            index: None,
        };
        let new = NewLink::Veth {
            peer: peer.clone(),
            peer_mac: port.mac,
            mtu: port.mtu,
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

    pub(super) fn outer_end(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        port: &Port,
        end: &End<'a>,
        bridge: Option<(LinkRef, Vec<usize>)>,
    ) {
        let mut set = self.common(owner, port.bridge.is_some() || !port.ipv6);
        set.up = Some(true);
        set.mtu = port.mtu.filter(|_| end.have.is_some());
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

    pub(super) fn inner_end(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        port: &Port,
        end: &End<'a>,
        inside: &'a Namespace,
        id: NamespaceId,
    ) {
        let mut set = self.common(owner, !port.ipv6);
        set.up = Some(true);
        if end.have.is_some() {
            set.name = Some(port.ifname.clone());
            set.mac = port.mac;
            set.mtu = port.mtu;
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
        let wanted: BTreeSet<IpNet> = port.addresses.iter().copied().collect();
        self.withdraw_addresses(of, &end, &wanted);
        let addresses = self.add_addresses(of, &end, &wanted);
        let needs = if addresses.is_empty() {
            end.needs.clone()
        } else {
            addresses
        };
        self.routes(
            of,
            port,
            &End {
                link: end.link,
                have: end.have,
                needs,
            },
        );
        for (path, value) in &port.sysctls {
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

    pub(super) fn loopback(&mut self, of: For<'_>, inside: &Namespace, id: NamespaceId) {
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

    pub(super) fn routes(&mut self, of: For<'_>, port: &Port, end: &End<'_>) {
        let wanted: BTreeSet<Route> = port.routes.iter().map(Route::settled).collect();
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
