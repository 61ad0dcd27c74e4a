//! The rows of `Open_vSwitch` as the reconciler takes them: one value per bridge and per port, told when it changes.
//!
//! A value is made of rows of several tables. What changed in one of them leads to the bridges and ports that it is part of, so that a change
//! costs those it concerns.

use std::collections::{BTreeMap, HashMap, HashSet};

use ecow::EcoString;
use nonnet_client::{Replica, Row, RowChange};
use nonnet_hooks::mirror::{OvsBridgeRow, OvsChange, OvsPortRow, OvsProgress};
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{OvsBridge, OvsGuard, OvsPort, QUEUE_LEFT};
use nonnet_schema::Uuid;

use super::flows::{Guards, PortNumber};
use super::table::{self, BRIDGE, CONTROLLER, HWADDR, INTERFACE, PORT, QOS, SWITCH};

/// What is known and was told.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The mark of the database whose rows are ours.
    mark: EcoString,
    /// The port of an interface.
    port_of: HashMap<Uuid, Uuid>,
    /// The bridge of a port.
    bridge_of: HashMap<Uuid, Uuid>,
    bridges: HashMap<Uuid, OvsBridgeRow>,
    ports: HashMap<Uuid, OvsPortRow>,
    /// The `next_cfg` with which a bridge or port was changed last, while `ovs-vswitchd` has not followed so far.
    unconfirmed: BTreeMap<LinkName, i64>,
    cur_cfg: i64,
    /// What the flows of bridges say of their ports.
    guards: HashMap<LinkName, Guards>,
}

/// The rows that have to be looked at again.
#[derive(Default)]
struct Affected {
    bridges: HashSet<Uuid>,
    ports: HashSet<Uuid>,
}

impl Rows {
    /// Nothing as yet; ours is what carries this mark.
    pub(super) fn new(mark: EcoString) -> Self {
        Self {
            mark,
            ..Self::default()
        }
    }

    /// Reads everything anew.
    pub(super) fn replace(&mut self, replica: &Replica) -> OvsChange {
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        *self = Self {
            guards: std::mem::take(&mut self.guards),
            ..Self::new(std::mem::take(&mut self.mark))
        };
        let (next_cfg, cur_cfg) = configuration(replica);
        self.cur_cfg = cur_cfg;
        for (bridge, row) in table::rows(replica, BRIDGE) {
            self.bridge_of
                .extend(table::references(row, "ports").map(|port| (port, bridge)));
        }
        for (port, row) in table::rows(replica, PORT) {
            self.port_of
                .extend(table::references(row, "interfaces").map(|interface| (interface, port)));
        }
        self.unconfirmed = unconfirmed;
        if cur_cfg < next_cfg {
            // Who changed what before this is not known: all of it waits.
            for (_, row) in table::rows(replica, PORT) {
                let name = LinkName::observed(table::text(row, "name"));
                self.unconfirmed.entry(name).or_insert(next_cfg);
            }
        }
        self.unconfirmed.retain(|_, cfg| *cfg > cur_cfg);
        for (uuid, row) in table::rows(replica, BRIDGE) {
            self.bridges.insert(uuid, self.bridge(replica, row));
        }
        for (uuid, row) in table::rows(replica, PORT) {
            if let Some(port) = self.port(replica, uuid, row) {
                self.ports.insert(uuid, port);
            }
        }
        OvsChange::Replaced {
            bridges: self.bridges.values().cloned().collect(),
            ports: self.ports.values().cloned().collect(),
        }
    }

    /// Takes changed rows in, which the replica has already.
    pub(super) fn change(&mut self, replica: &Replica, changes: &[RowChange]) -> Vec<OvsChange> {
        let mut affected = Affected::default();
        for change in changes.iter().filter(|change| change.table == BRIDGE) {
            affected.bridges.insert(change.uuid);
            let (gone, come) = moved(change, "ports");
            for port in &gone {
                // Another bridge may have taken it over already.
                if self.bridge_of.get(port) == Some(&change.uuid) {
                    self.bridge_of.remove(port);
                }
            }
            self.bridge_of.extend(come.iter().map(|port| (*port, change.uuid)));
            affected.ports.extend(gone.into_iter().chain(come));
        }
        for change in changes.iter().filter(|change| change.table == PORT) {
            affected.ports.insert(change.uuid);
            let (gone, come) = moved(change, "interfaces");
            for interface in gone {
                self.port_of.remove(&interface);
            }
            self.port_of
                .extend(come.into_iter().map(|interface| (interface, change.uuid)));
        }
        for change in changes {
            match change.table.as_str() {
                INTERFACE => affected.ports.extend(self.port_of.get(&change.uuid)),
                CONTROLLER => affected.bridges.extend(self.bridges.keys()),
                QOS => affected
                    .ports
                    .extend(table::referrers(replica, PORT, "qos", change.uuid)),
                _ => {}
            }
        }
        if changes.iter().any(|change| change.table == SWITCH) {
            self.confirm(replica, &mut affected);
        }
        self.tell(replica, affected)
    }

    /// Notes with which `next_cfg` bridges and ports were changed.
    pub(super) fn committed(&mut self, replica: &Replica, names: &HashSet<LinkName>, cfg: i64) -> Vec<OvsChange> {
        if cfg <= self.cur_cfg {
            return Vec::new();
        }
        self.unconfirmed.extend(names.iter().map(|name| (name.clone(), cfg)));
        let affected = self.named(names);
        self.tell(replica, affected)
    }

    /// Takes in what the flows of a bridge say.
    pub(super) fn guarded(&mut self, replica: &Replica, bridge: LinkName, guards: Guards) -> Vec<OvsChange> {
        let on_it = self.ports.iter().filter(|(_, row)| row.port.bridge == bridge);
        let affected = Affected {
            ports: on_it.map(|(uuid, _)| *uuid).collect(),
            ..Affected::default()
        };
        self.guards.insert(bridge, guards);
        self.tell(replica, affected)
    }

    /// The bridges that are ours.
    pub(super) fn our_bridges(&self) -> impl Iterator<Item = &LinkName> {
        let ours = self.bridges.values().filter(|row| row.mark.database == self.mark);
        ours.map(|row| &row.bridge.name)
    }

    /// The bridge of a port of ours, and its number there.
    pub(super) fn place(&self, replica: &Replica, port: &LinkName) -> Option<(LinkName, PortNumber)> {
        let is_it = |row: &OvsPortRow| row.port.name == *port && row.mark.database == self.mark;
        let (uuid, row) = self.ports.iter().find(|(_, row)| is_it(row))?;
        Some((row.port.bridge.clone(), number(replica, *uuid)?))
    }

    /// Whether a port of ours is there and not held as it should be.
    pub(super) fn lacks_guard(&self, replica: &Replica, port: &LinkName, guard: &OvsGuard) -> bool {
        let mut rows = self.ports.values().filter(|row| row.port.name == *port);
        let free = rows.any(|row| row.guard != Some(guard.trace()));
        free && self.place(replica, port).is_some()
    }

    /// The numbers that the ports of a bridge have.
    pub(super) fn numbers(&self, replica: &Replica, bridge: &LinkName) -> HashSet<PortNumber> {
        let on_it = self.ports.iter().filter(|(_, row)| row.port.bridge == *bridge);
        on_it.filter_map(|(uuid, _)| number(replica, *uuid)).collect()
    }

    /// How far `ovs-vswitchd` has followed.
    pub(super) fn cur_cfg(&self) -> i64 {
        self.cur_cfg
    }

    /// The bridges and ports with which something is wrong, as `ovs-vswitchd` says.
    pub(super) fn faulty(&self) -> HashSet<&LinkName> {
        let bridges = self.bridges.values().map(|row| (&row.bridge.name, &row.progress));
        let ports = self.ports.values().map(|row| (&row.port.name, &row.progress));
        let faulty = bridges.chain(ports).filter(|(_, progress)| progress.error.is_some());
        faulty.map(|(name, _)| name).collect()
    }

    fn named(&self, names: &HashSet<LinkName>) -> Affected {
        let bridges = self.bridges.iter().filter(|(_, row)| names.contains(&row.bridge.name));
        let ports = self.ports.iter().filter(|(_, row)| names.contains(&row.port.name));
        Affected {
            bridges: bridges.map(|(uuid, _)| *uuid).collect(),
            ports: ports.map(|(uuid, _)| *uuid).collect(),
        }
    }

    /// Takes in how far `ovs-vswitchd` is.
    fn confirm(&mut self, replica: &Replica, affected: &mut Affected) {
        let (_, cur_cfg) = configuration(replica);
        self.cur_cfg = cur_cfg;
        let confirmed = self.unconfirmed.extract_if(.., |_, cfg| *cfg <= cur_cfg);
        let confirmed: HashSet<LinkName> = confirmed.map(|(name, _)| name).collect();
        let named = self.named(&confirmed);
        affected.bridges.extend(named.bridges);
        affected.ports.extend(named.ports);
    }

    /// What became of rows, as far as it is news: what is gone first, since another row may have its name.
    fn tell(&mut self, replica: &Replica, mut affected: Affected) -> Vec<OvsChange> {
        // A local port speaks through its bridge.
        for port in &affected.ports {
            affected.bridges.extend(self.bridge_of.get(port));
        }
        let (mut gone, mut set) = (Vec::new(), Vec::new());
        for uuid in affected.bridges {
            let now = table::row(replica, BRIDGE, uuid).map(|row| self.bridge(replica, row));
            let before = match &now {
                Some(row) => self.bridges.insert(uuid, row.clone()),
                None => self.bridges.remove(&uuid),
            };
            if before != now {
                gone.extend(
                    before
                        .map(|row| OvsChange::BridgeGone(row.bridge.name))
                        .filter(|_| now.is_none()),
                );
                set.extend(now.map(OvsChange::BridgeSet));
            }
        }
        for uuid in affected.ports {
            let row = table::row(replica, PORT, uuid);
            let now = row.and_then(|row| self.port(replica, uuid, row));
            let before = match &now {
                Some(row) => self.ports.insert(uuid, row.clone()),
                None => self.ports.remove(&uuid),
            };
            if before != now {
                gone.extend(
                    before
                        .map(|row| OvsChange::PortGone(row.port.name))
                        .filter(|_| now.is_none()),
                );
                set.extend(now.map(OvsChange::PortSet));
            }
        }
        gone.append(&mut set);
        gone
    }

    fn bridge(&self, replica: &Replica, row: &Row) -> OvsBridgeRow {
        let name = LinkName::observed(table::text(row, "name"));
        let ports = table::references(row, "ports").filter_map(|uuid| table::row(replica, PORT, uuid));
        let local = ports
            .into_iter()
            .find(|port| table::text(port, "name") == name.as_str());
        let interfaces = local.into_iter().flat_map(|port| table::references(port, "interfaces"));
        let interface = interfaces
            .filter_map(|uuid| table::row(replica, INTERFACE, uuid))
            .find(|interface| table::text(interface, "name") == name.as_str());
        let controllers = table::references(row, "controller").filter_map(|uuid| table::row(replica, CONTROLLER, uuid));
        // The kernel's datapath has a name too, which says the same as none.
        let datapath_type = Some(table::text(row, "datapath_type")).filter(|kind| *kind != "system");
        let bridge = OvsBridge {
            mac: table::value(row, "other_config", HWADDR).and_then(|mac| mac.parse().ok()),
            mtu: interface.and_then(mtu),
            stp: table::boolean(row, "stp_enable"),
            mcast_snooping: table::boolean(row, "mcast_snooping_enable"),
            datapath_type: datapath_type.unwrap_or_default().into(),
            fail_mode: Some(table::text(row, "fail_mode"))
                .filter(|mode| !mode.is_empty())
                .map(Into::into),
            controllers: controllers.map(|row| table::text(row, "target").into()).collect(),
            ipv6: false,
            name,
        };
        let progress = self.progress(&bridge.name, interface);
        OvsBridgeRow {
            mark: table::mark(row),
            progress,
            bridge,
        }
    }

    /// The value of a port; none for the local port of a bridge, and for one that hangs on no bridge.
    fn port(&self, replica: &Replica, uuid: Uuid, row: &Row) -> Option<OvsPortRow> {
        let bridge = table::row(replica, BRIDGE, *self.bridge_of.get(&uuid)?)?;
        let (name, bridge) = (table::text(row, "name"), table::text(bridge, "name"));
        if name == bridge {
            return None;
        }
        let interfaces: Vec<&Row> = table::references(row, "interfaces")
            .filter_map(|uuid| table::row(replica, INTERFACE, uuid))
            .collect();
        let interface = interfaces.first().copied();
        let text = |column| interface.map(|row| table::text(row, column)).unwrap_or_default();
        let qos = table::references(row, "qos").next();
        let qos = qos.and_then(|uuid| table::row(replica, QOS, uuid));
        let is_our_qos =
            qos.is_some_and(|qos| table::text(qos, "type") == QUEUE_LEFT && table::mark(qos).database == self.mark);
        let port = OvsPort {
            name: LinkName::observed(name),
            bridge: LinkName::observed(bridge),
            interface: text("type").into(),
            options: interface.map(|row| table::map(row, "options")).unwrap_or_default(),
            tag: table::vlans(row, "tag").first().copied(),
            trunks: table::vlans(row, "trunks"),
            protected: table::boolean(row, "protected"),
            leaves_queue: is_our_qos,
            mac: text("mac").parse().ok(),
            mtu: interface.and_then(mtu),
            guard: None,
            ipv6: false,
        };
        let vlan_mode = Some(table::text(row, "vlan_mode")).filter(|mode| !mode.is_empty());
        Some(OvsPortRow {
            is_foreign_shape: interfaces.len() != 1 || text("name") != name || vlan_mode != port.vlan_mode(),
            foreign_qos: qos.filter(|_| !is_our_qos).map(|qos| table::text(qos, "type").into()),
            guard: number(replica, uuid).and_then(|number| self.guards.get(&port.bridge)?.get(&number).copied()),
            mark: table::mark(row),
            progress: self.progress(&port.name, interface),
            port,
        })
    }

    fn progress(&self, name: &LinkName, interface: Option<&Row>) -> OvsProgress {
        let pending = self
            .unconfirmed
            .get(name)
            .map(|_| "ovs-vswitchd has not taken the change in yet (cur_cfg stands still): does it run?".into());
        let error = match (interface, &pending) {
            (Some(interface), None) => fault(interface),
            _ => None,
        };
        OvsProgress { pending, error }
    }
}

/// `next_cfg` and `cur_cfg`.
pub(super) fn configuration(replica: &Replica) -> (i64, i64) {
    let row = table::rows(replica, SWITCH).next().map(|(_, row)| row);
    let number = |column| row.and_then(|row| table::integer(row, column)).unwrap_or(0);
    (number("next_cfg"), number("cur_cfg"))
}

/// What went wrong with an interface that `ovs-vswitchd` has taken in.
fn fault(interface: &Row) -> Option<EcoString> {
    let error = table::text(interface, "error");
    if !error.is_empty() {
        return Some(error.into());
    }
    match table::integer(interface, "ofport") {
        Some(-1) => Some("Open vSwitch could not add the interface (ofport -1); the log of ovs-vswitchd says why".into()),
        None => Some(
            "ovs-vswitchd took the change in without effect (no ofport); its log says why. A bridge without datapath_type=netdev \
             needs the kernel's module openvswitch"
                .into(),
        ),
        Some(_) => None,
    }
}

/// The number that a port has in `OpenFlow`.
fn number(replica: &Replica, port: Uuid) -> Option<PortNumber> {
    let row = table::row(replica, PORT, port)?;
    let interface = table::references(row, "interfaces").next()?;
    let number = table::integer(table::row(replica, INTERFACE, interface)?, "ofport")?;
    (number > 0).then_some(number)
}

fn mtu(interface: &Row) -> Option<u32> {
    table::integer(interface, "mtu_request").and_then(|mtu| u32::try_from(mtu).ok())
}

/// The references that a change takes away and those it adds.
fn moved(change: &RowChange, column: &str) -> (Vec<Uuid>, Vec<Uuid>) {
    let of = |row: Option<&std::sync::Arc<Row>>| -> HashSet<Uuid> {
        row.into_iter().flat_map(|row| table::references(row, column)).collect()
    };
    let (old, new) = (of(change.old.as_ref()), of(change.new.as_ref()));
    (
        old.difference(&new).copied().collect(),
        new.difference(&old).copied().collect(),
    )
}
