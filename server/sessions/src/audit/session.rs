//! The rows of `Session`.

use std::collections::{BTreeMap, HashMap};

use ecow::EcoString;
use nonnet_engine::{ChangeSet, Database, Entropy, Row, Transaction, commit};
use nonnet_schema::{Atom, Datum, OvsdbError, TableIndex, TableSchema, Uuid};

use super::Backlogs;
use crate::lock::Locks;
use crate::peer::SessionId;
use crate::session::Session;

/// Which session has which row.
#[derive(Debug)]
pub(crate) struct SessionRows {
    pub(crate) table: TableIndex,
    rows: BTreeMap<SessionId, Uuid>,
    /// As the outside told last.
    pub(crate) backlogs: Backlogs,
}

impl SessionRows {
    pub(super) fn new(table: TableIndex) -> Self {
        Self {
            table,
            rows: BTreeMap::new(),
            backlogs: Backlogs::new(),
        }
    }

    /// The change that makes the rows those of the sessions as they are now.
    pub(crate) fn changes(
        &mut self,
        shown: &Database,
        sessions: &HashMap<SessionId, Session>,
        locks: &Locks,
        entropy: &mut Entropy,
    ) -> Result<ChangeSet, OvsdbError> {
        let mut transaction = Transaction::new(shown, entropy);
        let schema = transaction.schema().table(self.table);
        let gone = self.rows.extract_if(.., |id, _| !sessions.contains_key(id));
        for (_, uuid) in gone {
            transaction.delete(self.table, uuid);
        }
        let mut ids: Vec<SessionId> = sessions.keys().copied().collect();
        // The same events give the same rows.
        ids.sort_unstable();
        for session in ids.iter().filter_map(|id| sessions.get(id)) {
            let backlog = self.backlogs.get(&session.id).copied().unwrap_or(0);
            let fields = fields(schema, session, locks.of(session.id).held, backlog);
            let known = self.rows.get(&session.id).copied();
            let old = known.and_then(|uuid| transaction.row(self.table, uuid)).cloned();
            let Some(old) = old else {
                let uuid = transaction.new_uuid();
                transaction.insert(self.table, uuid, fields);
                self.rows.insert(session.id, uuid);
                continue;
            };
            let row = Row::new(old.uuid(), old.version(), fields);
            if row != *old {
                transaction.replace(self.table, row);
            }
        }
        commit(transaction)
    }
}

fn fields(table: &TableSchema, session: &Session, locks: Vec<EcoString>, backlog: usize) -> Vec<Datum> {
    let peer = &session.peer;
    let known = |id: Option<u32>| Datum::optional(id.map(i64::from));
    let locks = Datum::set(locks.into_iter().map(Atom::from).collect());
    let values = [
        ("id", Datum::scalar(session.id.0 as i64)),
        ("remote", Datum::scalar(peer.remote.clone())),
        ("address", Datum::scalar(peer.address.clone())),
        ("uid", known(peer.credentials.map(|credentials| credentials.uid))),
        ("gid", known(peer.credentials.map(|credentials| credentials.gid))),
        ("pid", known(peer.credentials.map(|credentials| credentials.pid))),
        ("comm", Datum::scalar(peer.comm.clone())),
        ("unit", Datum::scalar(peer.unit.clone())),
        ("role", Datum::scalar(peer.role.clone())),
        ("read_only", Datum::scalar(peer.read_only)),
        ("locks", locks.unwrap_or_else(|_| Datum::empty_set())),
        ("monitors", Datum::scalar(session.monitors.len() as i64)),
        ("waiting", Datum::scalar(session.parked as i64)),
        ("backlog", Datum::scalar(backlog as i64)),
    ];
    let mut fields = table.default_fields();
    for (name, datum) in values {
        if let Some(column) = table.column_index(name) {
            fields[column.0] = datum;
        }
    }
    fields
}
