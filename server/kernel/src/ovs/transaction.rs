//! Operations of a plan as one transaction on `Open_vSwitch`.
//!
//! Every change of a row that exists says in its condition that the row carries our mark: what became somebody else's in between is left as it is.

use std::collections::{HashMap, HashSet};

use nonnet_client::{Replica, Row, Transaction, value};
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{INTERNAL, OvsBridge, OvsMark, OvsOperation, OvsPort, QUEUE_LEFT};
use nonnet_schema::Uuid;
use serde_json::{Map, Value, json};

use super::table::{self, BRIDGE, CONTROLLER, DATABASE, HWADDR, INTERFACE, MARK, OWNER, PORT, QOS, SWITCH};

/// Makes transactions for a database with this mark.
#[derive(Debug)]
pub(super) struct Composer<'a> {
    replica: &'a Replica,
    mark: &'a str,
    transaction: Transaction,
    /// The rows of ours, by table and name.
    rows: HashMap<(&'static str, LinkName), Uuid>,
    /// The row of ours by which queues are left alone, which is one for all ports.
    qos: Qos,
    /// For each operation of the plan, the operations of the transaction that must each match a row.
    must_match: Vec<Vec<usize>>,
}

/// The row of ours by which queues are left alone.
#[derive(Debug, Default)]
struct Qos {
    /// Where it is.
    there: Option<Uuid>,
    /// The reference to the one that the transaction makes.
    made: Option<Value>,
    /// Whether the transaction has a port refer to the one that is there.
    is_wanted: bool,
    /// The ports that refer to the one that is there.
    users: HashSet<Uuid>,
}

/// A transaction, and how to read its results.
#[derive(Debug)]
pub(super) struct Composed {
    pub(super) transaction: Transaction,
    /// For each operation of the plan, the operations of the transaction that must each match a row.
    pub(super) must_match: Vec<Vec<usize>>,
}

/// Makes a transaction of operations; the last of its results has the new `next_cfg`.
pub(super) fn compose<'a>(
    replica: &Replica,
    mark: &str,
    operations: impl Iterator<Item = &'a OvsOperation>,
) -> Composed {
    let mut composer = Composer {
        replica,
        mark,
        transaction: Transaction::new(DATABASE),
        rows: our_rows(replica, mark),
        qos: our_qos(replica, mark),
        must_match: Vec::new(),
    };
    for operation in operations {
        composer.must_match.push(Vec::new());
        composer.operation(operation);
    }
    composer.collect_qos();
    let Composer {
        mut transaction,
        must_match,
        ..
    } = composer;
    transaction.comment("nonnetd");
    transaction.mutate(SWITCH, json!([]), vec![json!(["next_cfg", "+=", 1])]);
    transaction.select(SWITCH, json!([]), Some(&["next_cfg"]));
    Composed {
        transaction,
        must_match,
    }
}

fn our_rows(replica: &Replica, mark: &str) -> HashMap<(&'static str, LinkName), Uuid> {
    let of = |name| table::rows(replica, name).map(move |(uuid, row)| (name, uuid, row));
    let ours = [BRIDGE, PORT].into_iter().flat_map(of);
    ours.filter(|(_, _, row)| table::mark(row).database == mark)
        .map(|(name, uuid, row)| ((name, LinkName::observed(table::text(row, "name"))), uuid))
        .collect()
}

fn our_qos(replica: &Replica, mark: &str) -> Qos {
    let is_ours = |row: &&(Uuid, &Row)| table::text(row.1, "type") == QUEUE_LEFT && table::mark(row.1).database == mark;
    let there = table::rows(replica, QOS)
        .find(|row| is_ours(&row))
        .map(|(uuid, _)| uuid);
    let users = there
        .into_iter()
        .flat_map(|uuid| table::referrers(replica, PORT, "qos", uuid));
    Qos {
        there,
        made: None,
        is_wanted: false,
        users: users.collect(),
    }
}

impl Composer<'_> {
    fn operation(&mut self, operation: &OvsOperation) {
        match operation {
            OvsOperation::BridgeSet { bridge, mark, was } => match was {
                None => self.add_bridge(bridge, mark),
                Some(was) => self.set_bridge(bridge, mark, was),
            },
            OvsOperation::BridgeDel { name } => self.delete_bridge(name),
            OvsOperation::PortSet { port, mark, was } => match was {
                Some(was) if was.bridge == port.bridge && self.has_one_interface(&port.name) => {
                    self.set_port(port, mark, was);
                }
                Some(_) => {
                    self.delete_port(&port.name);
                    self.add_port(port, mark);
                }
                None => self.add_port(port, mark),
            },
            OvsOperation::PortDel { name } => self.delete_port(name),
            // Flows are in no database.
            OvsOperation::GuardSet { .. } => {}
        }
    }

    fn add_bridge(&mut self, bridge: &OvsBridge, mark: &OvsMark) {
        let name = bridge.name.as_str();
        let mut row = object(json!({"name": name, "type": INTERNAL, "external_ids": marks(mark)}));
        row.extend(bridge.mtu.map(|mtu| ("mtu_request".to_owned(), mtu.into())));
        let interface = self.transaction.insert(INTERFACE, row).reference();
        let row = json!({"name": name, "interfaces": interface, "external_ids": marks(mark)});
        let port = self.transaction.insert(PORT, object(row)).reference();
        let mut row = settings(bridge);
        row.extend(object(json!({
            "name": name,
            "ports": port,
            "controller": self.add_controllers(bridge),
            "other_config": hwaddr(bridge),
            "external_ids": marks(mark),
        })));
        let made = self.transaction.insert(BRIDGE, row).reference();
        self.mutate(SWITCH, json!([]), vec![json!(["bridges", "insert", made])]);
    }

    fn set_bridge(&mut self, bridge: &OvsBridge, mark: &OvsMark, was: &OvsBridge) {
        let ours = self.named(&bridge.name);
        let mut row = settings(bridge);
        if bridge.controllers != was.controllers {
            row.insert("controller".to_owned(), self.add_controllers(bridge));
        }
        self.update(BRIDGE, &ours, row);
        let mut mutations = remark(mark);
        mutations.push(json!(["other_config", "delete", value::set([HWADDR])]));
        mutations.push(json!(["other_config", "insert", hwaddr(bridge)]));
        self.mutate(BRIDGE, ours.clone(), mutations);
        let row = object(json!({"mtu_request": optional(bridge.mtu)}));
        self.update(INTERFACE, &ours, row);
        self.mutate(PORT, ours.clone(), remark(mark));
        self.mutate(INTERFACE, ours, remark(mark));
    }

    fn delete_bridge(&mut self, name: &LinkName) {
        if let Some(uuid) = self.still_ours(BRIDGE, name) {
            let bridge = table::row(self.replica, BRIDGE, uuid);
            let ports: Vec<Uuid> = bridge
                .into_iter()
                .flat_map(|row| table::references(row, "ports"))
                .collect();
            for port in ports {
                self.release_qos(port);
            }
            let mutation = json!(["bridges", "delete", value::uuid(uuid)]);
            self.mutate(SWITCH, json!([]), vec![mutation]);
        }
    }

    fn add_controllers(&mut self, bridge: &OvsBridge) -> Value {
        let targets = bridge.controllers.iter();
        let rows = targets.map(|target| object(json!({"target": target.as_str()})));
        let made: Vec<Value> = rows
            .map(|row| self.transaction.insert(CONTROLLER, row).reference())
            .collect();
        value::set(made)
    }

    fn add_port(&mut self, port: &OvsPort, mark: &OvsMark) {
        let mut row = interface(port);
        row.extend(object(json!({"name": port.name.as_str(), "external_ids": marks(mark)})));
        let interface = self.transaction.insert(INTERFACE, row).reference();
        let mut row = settings_of_port(port);
        if port.leaves_queue {
            row.insert("qos".to_owned(), self.qos_reference(mark));
        }
        row.extend(object(json!({
            "name": port.name.as_str(),
            "interfaces": interface,
            "external_ids": marks(mark),
        })));
        let made = self.transaction.insert(PORT, row).reference();
        let bridge = self.named(&port.bridge);
        self.mutate(BRIDGE, bridge, vec![json!(["ports", "insert", made])]);
    }

    fn set_port(&mut self, port: &OvsPort, mark: &OvsMark, was: &OvsPort) {
        let ours = self.named(&port.name);
        let mut row = settings_of_port(port);
        match (was.leaves_queue, port.leaves_queue) {
            (false, true) => {
                row.insert("qos".to_owned(), self.qos_reference(mark));
            }
            (true, false) => {
                if let Some(uuid) = self.rows.get(&(PORT, port.name.clone())) {
                    self.release_qos(*uuid);
                }
            }
            (false, false) | (true, true) => {}
        }
        self.update(PORT, &ours, row);
        self.mutate(PORT, ours.clone(), remark(mark));
        self.update(INTERFACE, &ours, interface(port));
        self.mutate(INTERFACE, ours, remark(mark));
    }

    fn delete_port(&mut self, name: &LinkName) {
        if let Some(uuid) = self.still_ours(PORT, name) {
            self.release_qos(uuid);
            let port = value::uuid(uuid);
            let condition = json!([["ports", "includes", port]]);
            self.mutate(BRIDGE, condition, vec![json!(["ports", "delete", port])]);
        }
    }

    /// The reference to the row by which queues are left alone, which is made if there is none.
    fn qos_reference(&mut self, mark: &OvsMark) -> Value {
        if let Some(uuid) = self.qos.there {
            self.qos.is_wanted = true;
            return value::uuid(uuid);
        }
        let Qos { made, .. } = &mut self.qos;
        let make = || {
            let row = json!({"type": QUEUE_LEFT, "external_ids": value::map([(MARK, mark.database.as_str())])});
            self.transaction.insert(QOS, object(row)).reference()
        };
        made.get_or_insert_with(make).clone()
    }

    /// Takes a port's reference to that row away: a row that goes still counts as one that refers to it.
    fn release_qos(&mut self, port: Uuid) {
        if self.qos.users.remove(&port) {
            let condition = json!([["_uuid", "==", value::uuid(port)]]);
            let row = object(json!({"qos": optional(None::<Value>)}));
            self.transaction.update(PORT, condition, row);
        }
    }

    /// Deletes that row when no port refers to it any more: `ovsdb-server` collects none of these.
    fn collect_qos(&mut self) {
        if let Some(uuid) = self
            .qos
            .there
            .filter(|_| self.qos.users.is_empty() && !self.qos.is_wanted)
        {
            let condition = json!([["_uuid", "==", value::uuid(uuid)]]);
            self.transaction.delete(QOS, condition);
        }
    }

    /// The row of ours of that name. The transaction fails if it is somebody else's by then.
    fn still_ours(&mut self, table: &'static str, name: &LinkName) -> Option<Uuid> {
        let uuid = *self.rows.get(&(table, name.clone()))?;
        let condition = json!([
            ["_uuid", "==", value::uuid(uuid)],
            ["external_ids", "includes", self.our_mark()]
        ]);
        let rows = vec![json!({"name": name.as_str()})];
        self.transaction
            .wait_until_equal(table, condition, &["name"], rows, Some(0));
        Some(uuid)
    }

    fn has_one_interface(&self, name: &LinkName) -> bool {
        let uuid = self.rows.get(&(PORT, name.clone()));
        let row = uuid.and_then(|uuid| table::row(self.replica, PORT, *uuid));
        let mut interfaces = row.into_iter().flat_map(|row| table::references(row, "interfaces"));
        let first = interfaces
            .next()
            .and_then(|uuid| table::row(self.replica, INTERFACE, uuid));
        interfaces.next().is_none()
            && first
                .is_some_and(|row| table::text(row, "name") == name.as_str() && table::mark(row).database == self.mark)
    }

    /// A condition that only the row of ours of that name meets.
    fn named(&self, name: &LinkName) -> Value {
        json!([
            ["name", "==", name.as_str()],
            ["external_ids", "includes", self.our_mark()]
        ])
    }

    fn our_mark(&self) -> Value {
        value::map([(MARK, self.mark)])
    }

    fn update(&mut self, table: &str, condition: &Value, row: Map<String, Value>) {
        self.note();
        self.transaction.update(table, condition.clone(), row);
    }

    fn mutate(&mut self, table: &str, condition: Value, mutations: Vec<Value>) {
        self.note();
        self.transaction.mutate(table, condition, mutations);
    }

    /// Notes that the next operation must match a row.
    fn note(&mut self) {
        let at = self.transaction.operations().len();
        if let Some(of_operation) = self.must_match.last_mut() {
            of_operation.push(at);
        }
    }
}

fn marks(mark: &OvsMark) -> Value {
    let owner = mark.owner.as_ref().map(ToString::to_string).unwrap_or_default();
    value::map([(OWNER, owner), (MARK, mark.database.to_string())])
}

/// Puts other marks in the place of ours, and leaves what others have written beside them.
fn remark(mark: &OvsMark) -> Vec<Value> {
    vec![
        json!(["external_ids", "delete", value::set([OWNER, MARK])]),
        json!(["external_ids", "insert", marks(mark)]),
    ]
}

fn settings(bridge: &OvsBridge) -> Map<String, Value> {
    object(json!({
        "datapath_type": bridge.datapath_type.as_str(),
        "stp_enable": bridge.stp,
        "mcast_snooping_enable": bridge.mcast_snooping,
        "fail_mode": optional(bridge.fail_mode.as_deref()),
    }))
}

fn hwaddr(bridge: &OvsBridge) -> Value {
    value::map(bridge.mac.map(|mac| (HWADDR, mac.to_string())))
}

fn interface(port: &OvsPort) -> Map<String, Value> {
    let options = port.options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    object(json!({
        "type": port.interface.as_str(),
        "options": value::map(options),
        "mac": optional(port.mac.map(|mac| mac.to_string())),
        "mtu_request": optional(port.mtu),
    }))
}

fn settings_of_port(port: &OvsPort) -> Map<String, Value> {
    object(json!({
        "tag": optional(port.tag),
        "trunks": value::set(port.trunks.iter().copied()),
        "vlan_mode": optional(port.vlan_mode()),
        "protected": port.protected,
    }))
}

fn optional(atom: Option<impl Into<Value>>) -> Value {
    value::set(atom)
}

fn object(json: Value) -> Map<String, Value> {
    match json {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
