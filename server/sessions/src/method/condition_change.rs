//! `monitor_cond_change`: other rows for a monitor that goes on (ovsdb-server(7) 4.1.13).
//!
//! A monitor with a new condition moves to the group of those that ask for the same: whether they came to it by a change or began so,
//! they share what is encoded.

use std::sync::Arc;

use nonnet_engine::{Row, RowChange};
use nonnet_schema::{Condition, DatabaseSchema, ErrorKind, MonitorRequest, MonitoredTable, OvsdbError, json};
use nonnet_schema::{Kinds, ObjectReader};
use serde_json::Value;

use super::monitor::{check_clauses, check_limits};
use super::update::update_text;
use super::{Answer, Call, params_json};
use crate::command::Outgoing;
use crate::monitor::{Notation, encode_changes};
use crate::peer::SessionId;
use crate::served::Served;
use crate::server::Server;
use crate::session::Matter;

impl Server {
    pub(super) fn monitor_cond_change(&mut self, call: Call<'_>) -> Answer {
        let [old_id, new_id, changes] = call.params else {
            let kind = ErrorKind::Params("invalid parameters".into());
            return Err(OvsdbError::in_json(kind, &params_json(call.params)).into());
        };
        self.settle_monitor(call.session, old_id);
        let at = self.place_of_monitor(call.session, old_id, new_id)?;
        let requests = self.changed_requests(call.session, at, changes)?;
        self.check_monitor_kept(call.session, Some(at), requests.to_string().len())?;
        // What is under way still goes out as the old condition says.
        if let Some((gate, update)) = self.unsent_update(call.session, at) {
            self.push(call.session, gate, Matter::MergedUpdate, update);
        }
        self.regroup(call.session, at, new_id, &requests);
        Ok("{}".to_owned())
    }

    fn place_of_monitor(&self, session: SessionId, old_id: &Value, new_id: &Value) -> Result<usize, OvsdbError> {
        let monitors = self.sessions.get(&session).map_or(&[][..], |session| &session.monitors);
        let place = |id: &Value| monitors.iter().position(|monitor| monitor.id == *id);
        let at = place(old_id).ok_or_else(|| OvsdbError::in_json(ErrorKind::UnknownMonitor, old_id))?;
        if old_id != new_id && place(new_id).is_some() {
            return Err(OvsdbError::in_json(ErrorKind::DuplicateMonitor, new_id));
        }
        check_limits(&json::to_text(new_id), 0)?;
        Ok(at)
    }

    /// The monitor's requests, as JSON, with the conditions that `changes` names.
    fn changed_requests(&self, session: SessionId, at: usize, changes: &Value) -> Result<Value, OvsdbError> {
        let changes = changes
            .as_object()
            .ok_or_else(|| OvsdbError::new(ErrorKind::ConditionChangesNotObject))?;
        let monitor = self.sessions.get(&session).and_then(|session| session.monitors.get(at));
        let Some((monitor, served)) = monitor.and_then(|it| Some((it, self.databases.get(&it.database)?))) else {
            return Err(ErrorKind::UnknownMonitor.into());
        };
        let mut requests: Value = serde_json::from_str(&monitor.group.0).unwrap_or_default();
        for (name, entries) in changes {
            let condition = new_condition(served.database.schema(), &requests, name, entries)?;
            if let Some(condition) = condition
                && monitor.group.1 != Notation::Update
            {
                set_condition(&mut requests[name.as_str()], condition);
            }
        }
        let parsed = MonitorRequest::parse(&requests, served.database.schema(), monitor.group.1 != Notation::Update)?;
        check_clauses(&parsed)?;
        Ok(requests)
    }

    /// Gives a monitor its new id and requests, and tells the rows that come or go with them.
    fn regroup(&mut self, id: SessionId, at: usize, new_id: &Value, requests: &Value) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(monitor) = session.monitors.get_mut(at) else {
            return;
        };
        let Some(served) = self.databases.get_mut(&monitor.database) else {
            return;
        };
        let Some(old) = served
            .groups
            .get(&monitor.group)
            .map(|group| Arc::clone(&group.request))
        else {
            return;
        };
        let notation = monitor.group.1;
        let parsed = MonitorRequest::parse(requests, served.database.schema(), notation != Notation::Update);
        let new = parsed.map_or_else(|_| Arc::clone(&old), Arc::new);
        served.groups.leave(&monitor.group, id, &monitor.id_text);
        (monitor.id, monitor.id_text) = (new_id.clone(), json::to_text(new_id).into());
        monitor.group = (requests.to_string().into(), notation);
        served.groups.join(&monitor.group, &new, id, &monitor.id_text);
        if let Some(text) = difference(served, &old, &new, notation) {
            let update = update_text(notation, &monitor.id_text, served.transaction_id(), &text);
            let gate = served.gate();
            // Where what it shows is undone, the client's view cannot be mended.
            self.push(id, gate, Matter::MergedUpdate, Outgoing::Text(update));
        }
    }
}

/// The condition that `entries` name for a table; None where they name none.
fn new_condition<'a>(
    schema: &DatabaseSchema,
    requests: &Value,
    name: &str,
    entries: &'a Value,
) -> Result<Option<&'a Value>, OvsdbError> {
    let table = schema
        .table_index(name)
        .ok_or_else(|| OvsdbError::new(ErrorKind::MonitorTable(name.into())))?;
    if requests.get(name).is_none() {
        return Err(ErrorKind::NotMonitored(name.into()).into());
    }
    let entries = entries
        .as_array()
        .ok_or_else(|| OvsdbError::new(ErrorKind::ConditionChangesNotArray(name.into())))?;
    let mut newest = None;
    for entry in entries {
        let mut reader = ObjectReader::new(entry, format!("table {name}").into());
        let columns = reader.optional("columns", Kinds::ARRAY);
        let condition = reader.optional("where", Kinds::ARRAY);
        reader.finish()?;
        if columns.is_some() {
            return Err(OvsdbError::in_json(ErrorKind::ColumnsChange, entry));
        }
        if let Some(condition) = condition {
            Condition::parse(condition, schema.table(table), None)?;
            newest = Some(condition);
        }
    }
    Ok(newest)
}

/// Puts a condition where it counts: into the first request for the table.
fn set_condition(requests: &mut Value, condition: &Value) {
    let first = match requests {
        Value::Array(all) => all.first_mut(),
        one => Some(one),
    };
    if let Some(Value::Object(first)) = first {
        first.insert("where".to_owned(), condition.clone());
    }
}

/// The rows that match the new conditions only, as inserted, and the old ones only, as deleted.
fn difference(served: &Served, old: &MonitorRequest, new: &MonitorRequest, notation: Notation) -> Option<String> {
    let (mut changes, mut shown) = (Vec::new(), MonitorRequest::default());
    for (old, new) in old.tables.iter().zip(&new.tables) {
        if old.condition == new.condition {
            continue;
        }
        let matches = |table: &MonitoredTable, row: &Arc<Row>| {
            let row = table.condition.any_holds(row.fields()).then_some(row);
            row.cloned()
        };
        for row in served.database.table(new.table).rows() {
            let (before, after) = (matches(old, row), matches(new, row));
            if before.is_some() != after.is_some() {
                changes.push(RowChange {
                    table: new.table,
                    uuid: row.uuid(),
                    old: before,
                    new: after,
                });
            }
        }
        shown.tables.push(MonitoredTable {
            condition: Condition::default(),
            ..new.clone()
        });
    }
    encode_changes(served.database.schema(), &shown, notation, &changes)
}
