//! The comparison of links that somebody else made and rows take over: bridges, ports, uplinks and members of bonds.
//!
//! Such a link is changed as its row says, and released as it was when the row goes. It is never deleted.

use std::collections::BTreeSet;

use ecow::{EcoString, eco_format};

use super::port::Membership;
use super::{End, For, Planner, Verdict, reference};
use crate::mirror::{Link, Namespace, NamespaceId};
use crate::name::LinkName;
use crate::object::{Bridge, Former, Owner, Port, Role, Taken};
use crate::plan::{LinkChange, Operation, Phase};
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
            alias: Some(self.taken_alias(owner, link, host)),
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
        let taken = self.want.mark().taken(link);
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
        let addresses = role != Role::Port && port.bridge.is_some();
        if let (Some(text), None) = (addresses.then(|| addresses_of(link, host)).flatten(), &taken) {
            let bridge = port.bridge.as_ref().map(LinkName::as_str).unwrap_or_default();
            return Err(Verdict::Conflict(eco_format!(
                "{name} has {text}, which would be out of reach on a port of {bridge}: move that to {bridge} first"
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
            alias: Some(self.taken_alias(owner, link, host)),
            mac: port.mac,
            mtu: port.mtu,
            up: Some(port.up),
            ..LinkChange::default()
        };
        self.join(of, &end, set, membership, port);
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
        let host = self.have.host();
        if let Some((host, link)) = host.and_then(|host| Some((host, host.link_at(link.index)?))) {
            let end = End {
                link: reference(NamespaceId::Host, link),
                have: Some((host, link)),
                needs: vec![],
            };
            self.withdraw_addresses(of, &end, &self.want.addresses_on(&end.link.name));
            let present = host.routes(Some(link.index)).cloned().collect();
            self.withdraw_routes(of, &present, &BTreeSet::new(), (host, NamespaceId::Host));
        }
        let Former { up, master, alias } = self
            .want
            .mark()
            .taken(link)
            .map(|taken| taken.former)
            .unwrap_or_default();
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
        let at = self.step(of, Phase::Delete, &[], operation);
        self.deleted.insert((NamespaceId::Host, link.index), at);
        at
    }

    /// The alias of a link that is taken over: what was before is that of the first time.
    fn taken_alias(&self, owner: &Owner, link: &Link, host: &Namespace) -> EcoString {
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
        }
        .alias()
    }
}

/// The addresses of a link that others reach this host by, in words.
fn addresses_of(link: &Link, host: &Namespace) -> Option<EcoString> {
    let addresses = host.addresses(link.index).map(|address| address.address);
    let addresses = addresses.filter(|net| !crate::address::is_link_local(net.addr()));
    let texts: Vec<String> = addresses.map(|net| net.to_string()).collect();
    (!texts.is_empty()).then(|| eco_format!("address {}", texts.join(", ")))
}
