//! The comparison of links that somebody else made and rows take over: bridges, ports, uplinks and members of bonds.
//!
//! Such a link is changed as its row says, and released as it was when the row goes. It is never deleted.

use std::collections::BTreeSet;

use ecow::{EcoString, eco_format};
use ipnet::IpNet;

use super::port::Membership;
use super::{End, For, Planner, Verdict, reference};
use crate::limits::PROTOCOL;
use crate::mirror::{Address, Link, Namespace, NamespaceId};
use crate::name::{LinkName, Mac};
use crate::object::{
    AddressesMove, Bridge, Former, Moved, Object, ObjectKey, Owner, Port, PortKind, Role, Taken, takes,
};
use crate::plan::{LinkChange, LinkRef, Operation, Phase};
use crate::want::Mark;

impl<'a> Planner<'a> {
    /// Whether a bridge's row may take a link over: it did already, or it says so and nobody's nonnet made the link.
    pub(super) fn may_take(&self, link: &Link, adopt: bool) -> bool {
        self.want.mark().taken(link).is_some() || (adopt && !Mark::is_some_marks(link.group))
    }

    pub(super) fn adopt_bridge(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        bridge: &Bridge,
        host: &'a Namespace,
        link: &'a Link,
    ) -> Result<(), Verdict> {
        if link.kind != "bridge" {
            let kind = if link.kind.is_empty() { "device" } else { &link.kind };
            let reason = eco_format!(
                "the name {} is taken by a {kind}, which is no bridge to adopt",
                bridge.name
            );
            return Err(Verdict::Conflict(reason));
        }
        let set = LinkChange {
            alias: Some(self.taken_alias(owner, link, host, None)),
            mac: bridge.mac,
            mtu: bridge.mtu,
            bridge: Some(Box::new(bridge.settings.clone())),
            up: Some(true),
            ..LinkChange::default()
        };
        let end = End {
            link: reference(NamespaceId::Host, link),
            have: Some((host, link)),
            needs: vec![],
        };
        self.configure(of, &end, &set);
        Ok(())
    }

    pub(super) fn adopted(
        &mut self,
        of: For<'_>,
        owner: &Owner,
        (port, role): (&Port, Role),
        host: &'a Namespace,
    ) -> Result<(), Verdict> {
        let name = &port.name;
        let link = host
            .link(name)
            .ok_or_else(|| Verdict::Waiting(eco_format!("link {name} does not exist")))?;
        if Mark::is_some_marks(link.group) {
            return Err(Verdict::Conflict(eco_format!("{name} is a link that nonnet made")));
        }
        if self.deleted.contains_key(&(NamespaceId::Host, link.index)) {
            // It is given back, since the bridge goes that its addresses are on; what becomes of it then is seen then.
            return Ok(());
        }
        let taken = self.want.mark().taken(link);
        if let Some(moved) = taken.as_ref().and_then(|taken| taken.moved.as_ref())
            && !stays(moved, port)
        {
            self.release(of, link);
            return Ok(());
        }
        let master = link
            .master
            .and_then(|index| host.link_at(index))
            .map(|master| &master.name);
        let other = master.filter(|master| port.bridge.as_ref().is_none_or(|bridge| bridge.as_str() != *master));
        if let (Some(master), None) = (other, &taken) {
            return Err(Verdict::Conflict(eco_format!(
                "{name} is a port of {master}, which somebody else made it"
            )));
        }
        let moved = self.moved(port, link, host);
        let addresses = role != Role::Port && port.bridge.is_some();
        if let (Some(text), None, None) = (addresses.then(|| addresses_of(link, host)).flatten(), &taken, &moved) {
            let bridge = port.bridge.as_ref().map(LinkName::as_str).unwrap_or_default();
            let way = if role == Role::Uplink {
                eco_format!(
                    "it moves to {bridge} only while a checkpoint with a timeout is open (nonnet apply --confirm 60)"
                )
            } else {
                eco_format!("move that to {bridge} first")
            };
            return Err(Verdict::Conflict(eco_format!(
                "{name} has {text}, which would be out of reach on a port of {bridge}: {way}"
            )));
        }
        let bridge = self.bridge_of(port, host)?;
        let membership = match (bridge, taken) {
            (Some((bridge, made)), _) => Membership::Of(bridge, made),
            (None, Some(Taken { former, .. })) if former.master.is_none() => Membership::None,
            (None, _) => Membership::Kept,
        };
        let mut end = End {
            link: reference(NamespaceId::Host, link),
            have: Some((host, link)),
            needs: vec![],
        };
        if role == Role::Member && link.up && other.is_none() && master.is_none() {
            // A bond takes members that are down only, and sets them up itself.
            end.needs.push(self.set_down(of, &end));
        }
        let set = LinkChange {
            alias: Some(self.taken_alias(owner, link, host, moved.clone())),
            mac: port.mac,
            mtu: port.mtu,
            up: Some(port.up),
            ..LinkChange::default()
        };
        let to = match &membership {
            Membership::Of(bridge, made) => Some((bridge.clone(), made.clone())),
            Membership::None | Membership::Kept => None,
        };
        let joined = self.join(of, &end, set, membership, port);
        if let (Some(_), Some((to, mut needs))) = (moved, to) {
            needs.extend(joined);
            self.move_addresses(of, (host, link), to, &needs);
        }
        if role == Role::Port {
            self.on_end(of, port, &end, host, NamespaceId::Host);
        }
        Ok(())
    }

    fn set_down(&mut self, of: For<'_>, end: &End<'a>) -> usize {
        let up = |up: bool| LinkChange {
            up: Some(up),
            ..LinkChange::default()
        };
        let operation = Operation::LinkSet {
            link: end.link.clone(),
            set: up(false),
            was: up(true),
        };
        self.step(of, Phase::Configure, &[], operation)
    }

    /// Gives a link back as it was. Gives the last step; a link that is as it was but for the mark needs one.
    pub(super) fn release(&mut self, of: For<'_>, link: &Link) -> usize {
        if let Some(at) = self.deleted.get(&(NamespaceId::Host, link.index)) {
            return *at;
        }
        let host = self.have.host();
        let taken = self.want.mark().taken(link);
        let moved = taken.as_ref().and_then(|taken| taken.moved.as_ref());
        let back = host
            .zip(moved)
            .and_then(|(host, moved)| self.move_back(of, host, link, moved));
        if let Some((host, link)) = host.and_then(|host| Some((host, host.link_at(link.index)?))) {
            let end = End {
                link: reference(NamespaceId::Host, link),
                have: Some((host, link)),
                needs: vec![],
            };
            self.withdraw_addresses(of, &end, &self.want.addresses_on(&end.link.name));
            let present = host.routes(Some(link.index)).cloned().collect();
            self.withdraw_routes(of, &present, &BTreeSet::new(), (host, NamespaceId::Host));
            self.give_back_sysctls(of, NamespaceId::Host, Some(&link.name));
        }
        let Former { up, master, alias } = taken.map(|taken| taken.former).unwrap_or_default();
        let master = master.and_then(|name| host?.link(&LinkName::observed(&name)));
        let before = link.master.and_then(|index| host?.link_at(index));
        let (master, before) = (
            master.map(|link| reference(NamespaceId::Host, link)),
            before.map(|link| reference(NamespaceId::Host, link)),
        );
        let is_moved = master != before;
        let set = LinkChange {
            alias: Some(alias),
            master: is_moved.then_some(master),
            up: (up != link.up).then_some(up),
            ..LinkChange::default()
        };
        let was = LinkChange {
            alias: Some(link.alias.clone()),
            master: is_moved.then_some(before),
            up: (up != link.up).then_some(link.up),
            ..LinkChange::default()
        };
        let operation = Operation::LinkSet {
            link: reference(NamespaceId::Host, link),
            set,
            was,
        };
        // As long as its addresses are on the bridge, it is what leads there.
        let needs: Vec<usize> = back.into_iter().collect();
        let at = self.step(of, Phase::Delete, &needs, operation);
        self.deleted.insert((NamespaceId::Host, link.index), at);
        at
    }

    /// Where the addresses of an uplink are or are about to be, instead of on it.
    pub(super) fn moved(&self, port: &Port, link: &Link, host: &Namespace) -> Option<Moved> {
        let bridge = port
            .bridge
            .as_ref()
            .filter(|_| port.kind == PortKind::Adopted(Role::Uplink))?;
        let taken = self.want.mark().taken(link).and_then(|taken| taken.moved);
        if let Some(moved) = taken.filter(|moved| stays(moved, port)) {
            return Some(moved);
        }
        let mut addresses = host
            .addresses(link.index)
            .filter(|address| is_reached_by(address))
            .peekable();
        addresses.peek()?;
        let trial = port
            .moving
            .open
            .filter(|_| addresses.all(|address| takes(address, false).is_some()))?;
        Some(Moved {
            to: bridge.as_str().into(),
            trial,
        })
    }

    /// What a bridge has from the uplinks whose addresses are on it: the hardware address of the first that lends its own, and whether
    /// there are addresses of IPv6.
    pub(super) fn lent(&self, bridge: &LinkName, host: &Namespace) -> (Option<Mac>, bool) {
        let (mut mac, mut ipv6) = (None, false);
        for name in self.want.ways_out(bridge) {
            let wanted = self
                .want
                .get(&ObjectKey::Link(name.clone()))
                .map(|wanted| &wanted.object);
            let (Some(Object::Port(port)), Some(link)) = (wanted, host.link(name)) else {
                continue;
            };
            if self.moved(port, link, host).is_none() {
                continue;
            }
            let indexes = [Some(link.index), host.link(bridge).map(|bridge| bridge.index)];
            let mut addresses = indexes.into_iter().flatten().flat_map(|index| host.addresses(index));
            ipv6 |= addresses.any(|address| {
                address.protocol != PROTOCOL && is_reached_by(address) && address.address.addr().is_ipv6()
            });
            mac = mac.or(link.mac.filter(|_| port.moving.lends_mac));
        }
        (mac, ipv6)
    }

    fn move_addresses(&mut self, of: For<'_>, (host, link): (&Namespace, &Link), to: LinkRef, needs: &[usize]) {
        let addresses = host
            .addresses(link.index)
            .filter(|address| takes(address, false).is_some());
        let addresses: Vec<IpNet> = addresses.map(|address| address.address).collect();
        if !addresses.is_empty() {
            let from = reference(NamespaceId::Host, link);
            let all = AddressesMove {
                from,
                to,
                addresses,
                back: false,
            };
            self.step(of, Phase::Address, needs, Operation::AddressesMove(all));
        }
    }

    fn move_back(&mut self, of: For<'_>, host: &Namespace, link: &Link, moved: &Moved) -> Option<usize> {
        let bridge = host.link(&LinkName::observed(&moved.to))?;
        let addresses = host
            .addresses(bridge.index)
            .filter(|address| takes(address, true).is_some());
        let addresses: Vec<IpNet> = addresses.map(|address| address.address).collect();
        if addresses.is_empty() {
            return None;
        }
        let all = AddressesMove {
            from: reference(NamespaceId::Host, bridge),
            to: reference(NamespaceId::Host, link),
            addresses,
            back: true,
        };
        Some(self.step(of, Phase::Withdraw, &[], Operation::AddressesMove(all)))
    }

    /// Gives back the links whose addresses are on a bridge that is about to go. Gives the steps without which it must not go.
    pub(super) fn release_moved(&mut self, bridge: &Link) -> Vec<usize> {
        let Some(host) = self.have.host() else {
            return Vec::new();
        };
        let uplinks: Vec<(&Link, Owner)> = host
            .links()
            .filter_map(|link| {
                let taken = self.want.mark().taken(link)?;
                (taken.moved?.to == bridge.name).then_some((link, taken.owner))
            })
            .collect();
        let release = |(link, owner): (&Link, Owner)| {
            let key = ObjectKey::Link(LinkName::observed(&link.name));
            let of = For {
                key: &key,
                owner: Some(&owner),
            };
            self.release(of, link)
        };
        uplinks.into_iter().map(release).collect()
    }

    /// The alias of a link that is taken over: what was before is that of the first time.
    fn taken_alias(&self, owner: &Owner, link: &Link, host: &Namespace, moved: Option<Moved>) -> EcoString {
        let former = self.want.mark().taken(link).map(|taken| taken.former);
        let former = former.unwrap_or_else(|| {
            let master = link.master.and_then(|index| host.link_at(index));
            Former {
                up: link.up,
                master: master.map(|master| master.name.clone()),
                alias: link.alias.clone(),
            }
        });
        let group = self.want.mark().group;
        Taken {
            owner: owner.clone(),
            group,
            former,
            moved,
        }
        .alias()
    }
}

/// Whether addresses that were moved stay where they are: only those of an uplink do, not those of what else a link can be on that bridge.
fn stays(moved: &Moved, port: &Port) -> bool {
    let is_there = port.bridge.as_ref().is_some_and(|bridge| bridge.as_str() == moved.to);
    let is_uplink = port.kind == PortKind::Adopted(Role::Uplink);
    is_there && is_uplink && !port.moving.rolled_back.contains(&moved.trial)
}

/// Whether others reach this host by an address.
fn is_reached_by(address: &Address) -> bool {
    !crate::address::is_link_local(address.address.addr())
}

/// The addresses of a link that others reach this host by, in words.
fn addresses_of(link: &Link, host: &Namespace) -> Option<EcoString> {
    let addresses = host.addresses(link.index).filter(|address| is_reached_by(address));
    let texts: Vec<String> = addresses.map(|address| address.address.to_string()).collect();
    (!texts.is_empty()).then(|| eco_format!("address {}", texts.join(", ")))
}
