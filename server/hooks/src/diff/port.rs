//! The comparison of a port: its ends, and what is on the inner one.

use std::borrow::Cow;
use std::collections::BTreeSet;

use ecow::eco_format;
use ipnet::IpNet;

use super::{End, For, Planner, Verdict, reference};
use crate::mirror::{AddressState, Link, Namespace, NamespaceId};
use crate::name::LinkName;
use crate::object::{Datapath, Object, ObjectKey, Owner, Port, PortKind, Vlans};
use crate::path::ETHERNET_MTU;
use crate::plan::{LinkChange, LinkRef, NewLink, Operation, Phase};
use crate::want::Resolution;

/// Of which bridge an end is to be a port.
pub(super) enum Membership {
    /// Of that which it is a port of, if any.
    Kept,
    /// Of none.
    None,
    /// Of this one, made by these steps.
    Of(LinkRef, Vec<usize>),
}

impl Membership {
    /// What becomes of an end: one that is new, or not on the host, is a port of no bridge.
    pub(super) fn of(bridge: Option<(LinkRef, Vec<usize>)>, end: &End<'_>) -> Self {
        match bridge {
            Some((bridge, made)) => Self::Of(bridge, made),
            None if end.have.is_some() && end.link.namespace == NamespaceId::Host => Self::None,
            None => Self::Kept,
        }
    }
}

impl<'a> Planner<'a> {
    pub(super) fn port(&mut self, of: For<'_>, owner: &Owner, port: &Port, host: &'a Namespace) -> Result<(), Verdict> {
        let mtu = self.paths(host).of_port(port);
        let port = &if mtu == port.mtu {
            Cow::Borrowed(port)
        } else {
            Cow::Owned(Port { mtu, ..port.clone() })
        };
        match &port.kind {
            PortKind::Veth => self.pair(of, owner, port, host),
            PortKind::Single(single) => self.single(of, owner, (port, single), host),
            PortKind::Adopted(role) => self.adopted(of, owner, (port, *role), host),
        }
    }

    /// The namespace that the port is in. None where that is no more and what is left on the host is planned to go.
    pub(super) fn place(
        &mut self,
        of: For<'_>,
        port: &Port,
        host: &'a Namespace,
    ) -> Result<Option<NamespaceId>, Verdict> {
        match self.want.resolution(&port.netns) {
            Resolution::Present(id) => Ok(Some(id)),
            Resolution::Unknown => Err(Verdict::Unread(eco_format!("{} is being looked for", port.netns))),
            Resolution::Absent(reason) => {
                // What is left reaches into a namespace that the row no longer means.
                let have = host
                    .link(&port.name)
                    .filter(|link| self.want.mark().is_ours(link.group));
                let link = have.ok_or(Verdict::Waiting(reason))?;
                self.delete(of, NamespaceId::Host, link);
                Ok(None)
            }
        }
    }

    /// What is in the port's namespace.
    pub(super) fn inside(&self, port: &Port, id: NamespaceId) -> Result<&'a Namespace, Verdict> {
        let unread = || Verdict::Unread(eco_format!("{} is being read", port.netns));
        self.have.namespace(id).ok_or_else(unread)
    }

    fn pair(&mut self, of: For<'_>, owner: &Owner, port: &Port, host: &'a Namespace) -> Result<(), Verdict> {
        let have = self.ours(&port.name, host)?;
        let Some(id) = self.place(of, port, host)? else {
            return Ok(());
        };
        let inside = self.inside(port, id)?;
        let bridge = self.bridge_of(port, host)?;
        let pair = have.and_then(|link| Some((link, self.other_end(link, inside)?)));
        self.check_peer_name(port, inside, pair.map(|(_, peer)| peer.index), host, id)?;
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

    /// Why a port that has all that its row wants cannot be used yet, or at all: IPv6 addresses that the kernel has doubts about.
    pub(super) fn unsettled(&self, key: &ObjectKey) -> Option<Verdict> {
        let Object::Port(port) = &self.want.get(key)?.object else {
            return None;
        };
        let Resolution::Present(id) = self.want.resolution(&port.netns) else {
            return None;
        };
        let inside = self.have.namespace(id)?;
        let link = inside.link(&port.ifname)?;
        let states = port.addresses.iter().filter_map(|wanted| {
            let address = inside.address(link.index, wanted)?;
            Some((address.state, wanted.addr()))
        });
        let (state, address) = states.max()?;
        match state {
            AddressState::Ready => None,
            AddressState::Tentative if link.carrier => Some(Verdict::Settling(eco_format!(
                "whether {address} is somebody else's on the link is being found out"
            ))),
            AddressState::Tentative => Some(Verdict::Waiting(eco_format!(
                "{address} cannot be used while {} has no carrier",
                port.ifname
            ))),
            AddressState::Duplicate => Some(Verdict::Conflict(eco_format!(
                "{address} is in use by somebody else on the link (duplicate address detection failed)"
            ))),
        }
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
        id: NamespaceId,
    ) -> Result<(), Verdict> {
        let Some(other) = inside.link(&port.ifname).filter(|link| Some(link.index) != own) else {
            return Ok(());
        };
        // Other kinds, too, name a link of the host: the one that they are on.
        let leaves = self.want.mark().is_ours(other.group)
            && other.kind == "veth"
            && other.peer.and_then(|index| host.link_at(index)).is_some_and(|outer| {
                let name = LinkName::observed(&outer.name);
                name == port.name || self.deleted.contains_key(&(NamespaceId::Host, outer.index))
            });
        if leaves || self.maker_of_room(port, (id, inside)).is_some() {
            return Ok(());
        }
        // Pairs of ours have one end on the host. This one's is gone, and the event that the other is gone too is on its way.
        let gone = other.kind == "veth" && other.peer.is_none_or(|index| host.link_at(index).is_none());
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
        let have = have.map(|link| self.delete(of, NamespaceId::Host, link));
        let mut needs: Vec<usize> = have.into_iter().collect();
        // The name inside may be held by what this plan deletes.
        needs.extend(self.maker_of_room(port, (id, inside)));
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
            mtu: port.mtu.filter(|mtu| *mtu != ETHERNET_MTU),
        };
        let outer = self.add_link(of, Phase::Create, &needs, link, new);
        let inner = End {
            link: peer,
            have: None,
            needs: outer.needs.clone(),
        };
        (outer, inner)
    }

    pub(super) fn outer_end(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        port: &Port,
        end: &End<'a>,
        bridge: Option<(LinkRef, Vec<usize>)>,
    ) {
        let mut set = self.common(owner, port.bridge.is_some() || port.datapath.is_some() || !port.ipv6);
        set.up = Some(port.up);
        set.mtu = port.mtu.filter(|_| end.have.is_some());
        let membership = Membership::of(bridge, end);
        self.join(of, end, set, membership, port);
    }

    /// Sets an end, and makes it a port of a bridge, isolated there or not. Gives the steps that others of it need.
    pub(super) fn join(
        &mut self,
        of: For<'_>,
        end: &End<'a>,
        mut set: LinkChange,
        membership: Membership,
        port: &Port,
    ) -> Vec<usize> {
        let mut needs = end.needs.clone();
        set.master = match membership {
            Membership::Kept => None,
            // The kernel's datapath makes itself the master of its links.
            Membership::None if port.datapath.is_some() => None,
            Membership::None => Some(None),
            Membership::Of(bridge, made) => {
                needs.extend(made);
                Some(Some(bridge))
            }
        };
        let end = End {
            link: end.link.clone(),
            have: end.have,
            needs,
        };
        let is_on_bridge = matches!(set.master, Some(Some(_)));
        let same = end.have.is_some_and(|(_, have)| {
            matches!(&set.master, Some(Some(bridge)) if bridge.index.is_some() && bridge.index == have.master)
        });
        let have = end.have.filter(|_| same).map(|(_, have)| have);
        let was = |of: fn(&Link) -> Option<bool>| have.and_then(of).unwrap_or(false);
        let (isolated, hairpin) = (was(|have| have.isolated), was(|have| have.hairpin));
        let steps = self.configure(of, &end, &set);
        if let Some(vlans) = port.vlans.as_ref().filter(|_| is_on_bridge) {
            let needs: Vec<usize> = end.needs.iter().chain(&steps).copied().collect();
            let have = end
                .have
                .filter(|_| same)
                .and_then(|(space, link)| space.vlans(link.index));
            self.join_vlans(of, &end.link, vlans, have, &needs);
        }
        if is_on_bridge && (isolated, hairpin) != (port.isolated, port.hairpin) {
            // The kernel asks the bridge that a link was a port of before the message: this one comes after.
            let change = |isolated_is: bool, hairpin_is: bool| LinkChange {
                isolated: Some(isolated_is).filter(|_| isolated != port.isolated),
                hairpin: Some(hairpin_is).filter(|_| hairpin != port.hairpin),
                ..LinkChange::default()
            };
            let operation = Operation::LinkSet {
                link: end.link.clone(),
                set: change(port.isolated, port.hairpin),
                was: change(isolated, hairpin),
            };
            let needs: Vec<usize> = end.needs.iter().chain(&steps).copied().collect();
            self.step(of, Phase::Raise, &needs, operation);
        }
        steps
    }

    /// Has a port of a bridge in these VLANs and no others.
    fn join_vlans(&mut self, of: For<'_>, link: &LinkRef, vlans: &Vlans, have: Option<&Vlans>, needs: &[usize]) {
        let new = Vlans::access(None, []);
        let have = have.unwrap_or(&new);
        let (add, del) = (vlans.beside(have), have.without(vlans));
        let link = || link.clone();
        let mut needs = needs.to_vec();
        if !add.is_empty() {
            let was = have.without(&have.without(&add));
            let add = Operation::VlanAdd {
                link: link(),
                vlans: add,
                was,
            };
            needs.push(self.step(of, Phase::Raise, &needs, add));
        }
        if !del.is_empty() {
            self.step(
                of,
                Phase::Raise,
                &needs,
                Operation::VlanDel {
                    link: link(),
                    vlans: del,
                },
            );
        }
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
        set.up = Some(port.up);
        if end.have.is_some() {
            set.name = Some(port.ifname.clone());
            set.mac = port.mac;
            set.mtu = port.mtu;
        }
        let mut needs = end.needs.clone();
        needs.extend(self.configure(of, end, &set));
        self.checksums(of, port, end, &needs);
        let end = End {
            link: end.link.clone(),
            have: end.have,
            needs,
        };
        self.on_end(of, port, &end, inside, id);
    }

    /// What is on the end inside: addresses, routes and settings.
    pub(super) fn on_end(&mut self, of: For<'_>, port: &Port, end: &End<'a>, inside: &'a Namespace, id: NamespaceId) {
        if id != NamespaceId::Host {
            self.loopback(of, inside, id);
        }
        let wanted: BTreeSet<IpNet> = port.addresses.iter().copied().collect();
        self.withdraw_addresses(of, end, &wanted);
        let addresses = self.add_addresses(of, end, &wanted, true);
        let needs = if addresses.is_empty() {
            end.needs.clone()
        } else {
            addresses
        };
        let end = End {
            link: end.link.clone(),
            have: end.have,
            needs,
        };
        self.routes(of, port, &end, (inside, id));
        self.sysctls(of, port, inside, id);
    }

    /// Has the end inside make its checksums itself where packets are read in user space.
    fn checksums(&mut self, of: For<'_>, port: &Port, end: &End<'_>, needs: &[usize]) {
        let was = end.have.and_then(|(inside, link)| inside.offload(link.index));
        let on = port.datapath != Some(Datapath::UserSpace);
        if was.unwrap_or(true) == on && (on || was.is_some()) {
            return;
        }
        // By then the link has its name.
        let link = LinkRef {
            name: port.ifname.clone(),
            ..end.link.clone()
        };
        self.step(of, Phase::Raise, needs, Operation::Offload { link, on, was });
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
}
