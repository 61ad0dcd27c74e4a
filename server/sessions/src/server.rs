//! The server's state, and what each event makes of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ecow::EcoString;
use nonnet_chain::{Author, Chain, PublicKey, Record, Request, SecretKey};
use nonnet_engine::{ChangeSet, CommitHook, Database, Entropy, Transaction, commit};
use nonnet_schema::{ErrorKind, Message, OvsdbError, Uuid, malformed_text, notification_text};
use serde_json::Value;

use crate::audit::Audit;
use crate::catalog::{self, CATALOG, StartError};
use crate::command::{Command, Event, Outgoing};
use crate::lock::{Locks, Notice};
use crate::method::{Awaiting, Planned};
use crate::monitor::Monitor;
use crate::now::Now;
use crate::peer::{Peer, SessionId};
use crate::relay::Relay;
use crate::served::{Served, Undone};
use crate::session::{Gate, Input, Matter, Session};

/// All databases, sessions and locks of a server.
pub struct Server {
    pub(crate) databases: BTreeMap<EcoString, Served>,
    /// The databases whose rows are another server's; one that has told nothing yet is not among `databases`.
    pub(crate) relays: BTreeMap<EcoString, Relay>,
    pub(crate) sessions: HashMap<SessionId, Session>,
    pub(crate) locks: Locks,
    /// Fresh for each process: `get_server_id`.
    pub(crate) id: Uuid,
    pub(crate) entropy: Entropy,
    /// Sessions with something queued that waits for a gate.
    owing: BTreeSet<SessionId>,
    /// Monitors that wait for what the log says, by database and transaction.
    pub(crate) log_reads: BTreeMap<(EcoString, Uuid), Vec<Awaiting>>,
    /// The number of the next monitor that does.
    pub(crate) next_await: u64,
    /// Plans that are being worked out, by number.
    pub(crate) plans: BTreeMap<u64, Planned>,
    /// The number of the next plan.
    pub(crate) next_plan: u64,
    /// What `_Nonnet` is made of, where it is served.
    pub(crate) audit: Option<Audit>,
    /// False where `monitor_cond` and `monitor_cond_since` are as unknown as they were before Open vSwitch 2.6.
    pub(crate) has_monitor_cond: bool,
    pub(crate) commands: Vec<Command>,
}

impl Server {
    /// A server without databases, but for `_Server`. `seed` is random in a real server.
    pub fn new(seed: [u8; 32]) -> Result<Self, StartError> {
        let mut entropy = Entropy::new(seed);
        let id = entropy.uuid();
        let mut catalog = catalog::new_catalog(entropy.uuid().as_u64_pair().0)?;
        let own_row = catalog::add_database(&catalog, &Arc::clone(catalog.schema()), &mut entropy)?;
        catalog.apply(&own_row);
        let databases = BTreeMap::from([(EcoString::from(CATALOG), Served::new(catalog, None, None))]);
        Ok(Self {
            databases,
            relays: BTreeMap::new(),
            sessions: HashMap::new(),
            locks: Locks::default(),
            id,
            entropy,
            owing: BTreeSet::new(),
            log_reads: BTreeMap::new(),
            next_await: 0,
            plans: BTreeMap::new(),
            next_plan: 0,
            audit: None,
            has_monitor_cond: true,
            commands: Vec::new(),
        })
    }

    /// A number for [`Database::new`], and the source of UUIDs for [`Database::load`].
    pub fn entropy(&mut self) -> &mut Entropy {
        &mut self.entropy
    }

    /// Serves a database from now on; its records follow those of `chain`.
    pub fn add_database(
        &mut self,
        database: Database,
        chain: Chain,
        hook: Option<Box<dyn CommitHook>>,
        now: Now,
    ) -> Result<(), StartError> {
        let schema = Arc::clone(database.schema());
        if self.databases.contains_key(&schema.name) || self.relays.contains_key(&schema.name) {
            return Err(StartError::DuplicateName(schema.name.clone()));
        }
        self.databases
            .insert(schema.name.clone(), Served::new(database, Some(chain), hook));
        if let Some(catalog) = self.databases.get(CATALOG) {
            let changes = catalog::add_database(&catalog.database, &schema, &mut self.entropy)?;
            self.commit_changes(CATALOG, &Author::default(), &Request::default(), now, changes)?;
        }
        Ok(())
    }

    /// A database's rows as they are now.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.get(name).map(|served| &served.database)
    }

    /// What the first record of a database named it.
    pub fn database_id(&self, name: &str) -> Option<Uuid> {
        self.databases.get(name)?.chain.as_ref().map(Chain::db_id)
    }

    /// Brings a new key for the checkpoints of a database: the one in force and the public part of the new one. Gives the record to store;
    /// None where there is no such database, or it has no chain.
    pub fn rotate_key(
        &mut self,
        name: &str,
        author: &Author,
        keys: (Option<&SecretKey>, PublicKey),
        now: Now,
    ) -> Option<Record> {
        let record = self.databases.get_mut(name)?.rotate(author, now, keys)?;
        if let Some(audit) = &mut self.audit {
            audit.committed(&name.into(), &record);
        }
        Some(record)
    }

    /// The sequence number of a database's newest commit.
    pub fn sequence(&self, name: &str) -> Option<u64> {
        self.databases.get(name).map(Served::sequence)
    }

    /// When [`Event::Tick`] is due, on the monotonic clock; None while nothing waits.
    pub fn deadline_ms(&self) -> Option<u64> {
        if self.databases.values().any(|served| served.is_retry_due) {
            return Some(0);
        }
        self.databases
            .values()
            .flat_map(|served| &served.parked)
            .filter_map(|parked| parked.deadline_ms)
            .chain(self.relays.values().filter_map(Relay::deadline_ms))
            .chain(self.audit.as_ref().and_then(|audit| audit.due_ms))
            .min()
    }

    /// Takes one event; gives what is to be done about it, in order.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Command> {
        match event {
            Event::Opened { session, peer } => self.opened(session, peer),
            Event::Message {
                session,
                message,
                newline,
            } => self.message(session, message, newline, now),
            Event::Malformed { session, details } => self.malformed(session, &details),
            Event::HalfClosed { session } => self.half_closed(session),
            Event::Congested { session } => self.set_congested(session),
            Event::Drained { session } => self.drained(session),
            Event::Closed { session } => self.closed(session),
            Event::Stored { database, sequence } => self.stored(&database, sequence, now),
            Event::Unstored {
                database,
                sequence,
                reason,
            } => self.unstored(&database, sequence, &reason, now),
            Event::Since { database, id, logged } => self.log_read(database, id, logged.as_ref()),
            Event::Looked { number, results } => self.looked(number, results),
            Event::Backlogs { bytes } => self.backlogs(bytes, now),
            Event::Planned { number, plan } => self.planned(number, &plan),
            Event::Source { database, news } => self.source(&database, news, now),
            Event::Tick => {
                self.end_grace(now);
                self.retry_expired(now);
                self.ask_backlogs(now);
            }
        }
        std::mem::take(&mut self.commands)
    }

    /// Runs a transaction of the server's own: `write` changes rows as it likes, the commit checks follow, the hook does not.
    ///
    /// # Errors
    /// The check that failed, or that no such database is served.
    pub fn transact(
        &mut self,
        database: &str,
        author: &Author,
        now: Now,
        write: impl FnOnce(&mut Transaction<'_>),
    ) -> Result<Vec<Command>, OvsdbError> {
        self.write(database, author, &Request::default(), now, |_, transaction| {
            write(transaction);
        })
    }

    /// The same for what is a commit like a client's, with the reason in its record: the hook shows the commit's number where it shows any. Its
    /// rules are not asked, since `write` brings back what has passed them.
    ///
    /// # Errors
    /// The check that failed, or that no such database is served.
    pub fn restore(
        &mut self,
        database: &str,
        author: &Author,
        reason: EcoString,
        now: Now,
        write: impl FnOnce(&mut Transaction<'_>),
    ) -> Result<Vec<Command>, OvsdbError> {
        let request = Request {
            comments: vec![reason],
            txn_uid: self.entropy.uuid(),
            ..Request::default()
        };
        self.write(database, author, &request, now, |served, transaction| {
            write(transaction);
            if let Some(hook) = &served.hook {
                hook.begin(transaction, served.sequence() + 1);
            }
        })
    }

    fn write(
        &mut self,
        database: &str,
        author: &Author,
        request: &Request,
        now: Now,
        write: impl FnOnce(&Served, &mut Transaction<'_>),
    ) -> Result<Vec<Command>, OvsdbError> {
        let Some(served) = self.databases.get(database) else {
            return Err(unknown_database(database));
        };
        let mut transaction = Transaction::new(&served.database, &mut self.entropy);
        write(served, &mut transaction);
        let changes = commit(transaction)?;
        self.commit_changes(database, author, request, now, changes)?;
        self.retry_parked(database, now);
        Ok(std::mem::take(&mut self.commands))
    }

    fn opened(&mut self, id: SessionId, peer: Peer) {
        self.sessions.insert(id, Session::new(id, peer));
    }

    fn message(&mut self, id: SessionId, message: Value, newline: bool, now: Now) {
        let Some(session) = self
            .sessions
            .get_mut(&id)
            .filter(|session| !matches!(session.input, Input::Malformed | Input::Ended))
        else {
            self.commands.push(Command::Finished { session: id });
            return;
        };
        let Some(message) = session.hold(message, newline) else {
            return;
        };
        session.saw_request(newline);
        match Message::parse(message) {
            Ok(Message::Request {
                method,
                params,
                id: request,
            }) => self.request(id, &method, params, request, now),
            Ok(Message::Notification { method, params }) => {
                if method == "cancel" {
                    self.cancel(id, params.first());
                }
                self.commands.push(Command::Finished { session: id });
            }
            // The answer to our own probe.
            Ok(Message::Reply {
                id: reply,
                result: Ok(_),
            }) if reply == "echo" => {
                self.commands.push(Command::Finished { session: id });
            }
            Ok(Message::Reply { id: reply, .. }) => {
                self.commands.push(Command::Finished { session: id });
                self.malformed(id, &format!("a reply with id {reply}, which was not asked for"));
            }
            Err(error) => {
                self.commands.push(Command::Finished { session: id });
                self.malformed(id, &error.to_string());
            }
        }
    }

    /// Explains, then ends the session: nothing after what was malformed has a meaning.
    fn malformed(&mut self, id: SessionId, details: &str) {
        self.drop_parked(id);
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        // The text bears its own end of line.
        session.queue_raw(Outgoing::Text(malformed_text(details)));
        session.input = Input::Malformed;
        session.monitors.retain(|monitor| monitor.waits_as.is_none());
        self.flush(id);
    }

    fn half_closed(&mut self, id: SessionId) {
        if let Some(session) = self
            .sessions
            .get_mut(&id)
            .filter(|session| session.input == Input::Open)
        {
            session.input = Input::HalfClosed;
            self.flush(id);
        }
    }

    fn set_congested(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.congested = true;
        }
    }

    fn closed(&mut self, id: SessionId) {
        self.drop_parked(id);
        self.drop_plans(id);
        self.owing.remove(&id);
        if let Some(session) = self.sessions.remove(&id) {
            for monitor in &session.monitors {
                if let Some(served) = self.databases.get_mut(&monitor.database) {
                    served.groups.leave(&monitor.group, id, &monitor.id_text);
                }
            }
        }
        for notice in self.locks.release_all(id) {
            self.notify(&notice);
        }
    }

    fn stored(&mut self, database: &str, sequence: u64, now: Now) {
        let served = self.databases.get_mut(database);
        if served.is_some_and(|served| served.stored(sequence)) {
            self.list_schema(database, now);
        }
        if let Some(audit) = &mut self.audit {
            audit.stored(database, sequence);
            self.show_to_watchers(now);
        }
        for id in std::mem::take(&mut self.owing) {
            self.flush(id);
        }
    }

    /// Undoes what could not be stored, and tells those who asked for it.
    fn unstored(&mut self, database: &str, sequence: u64, reason: &EcoString, now: Now) {
        let Some(served) = self.databases.get_mut(database) else {
            return;
        };
        let Undone {
            changes: undone,
            monitors,
        } = served.undo_from(sequence);
        let newest = served.sequence();
        if let Some(audit) = &mut self.audit {
            audit.undo_from(database, sequence);
        }
        let is_converted_back = monitors.is_some();
        if let Some(monitors) = monitors {
            self.give_back(database, monitors);
        }
        let failed = Gate {
            database: database.into(),
            sequence,
        };
        let all_undone = undone
            .iter()
            .fold(ChangeSet::default(), |all, changes| all.then(changes));
        self.merge_into_congested(database, &all_undone);
        let mut ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        // The same events give the same commands, in the same order.
        ids.sort_unstable();
        for id in ids {
            let sound = self
                .sessions
                .get_mut(&id)
                .is_none_or(|session| session.undo_from(&failed, reason));
            self.flush(id);
            if !sound {
                self.commands.push(Command::Close { session: id });
            }
        }
        if is_converted_back {
            self.list_schema(database, now);
            let database = database.into();
            self.commands.push(Command::Converted { database });
            return self.answer_held(now);
        }
        for changes in undone {
            self.commands.push(Command::Changed {
                database: database.into(),
                changes,
                sequence: newest,
            });
        }
    }

    /// Takes up what was held of sessions that go on after all.
    fn answer_held(&mut self, now: Now) {
        let mut held: Vec<(SessionId, Vec<(Value, bool)>)> = self
            .sessions
            .values_mut()
            .map(|session| (session.id, session.take_held()))
            .filter(|(_, held)| !held.is_empty())
            .collect();
        // The same events give the same commands, in the same order.
        held.sort_unstable_by_key(|(id, _)| *id);
        for (id, messages) in held {
            for (message, newline) in messages {
                self.message(id, message, newline, now);
            }
        }
    }

    /// Shows the schema of a database in `_Server`, where it is stored.
    fn list_schema(&mut self, database: &str, now: Now) {
        let (Some(catalog), Some(served)) = (self.databases.get(CATALOG), self.databases.get(database)) else {
            return;
        };
        if served.schema_gate().is_some() {
            return;
        }
        let schema = served.database.schema();
        // The list has no rule that another schema could break, and no record that could be too large.
        let listed = catalog::replace_database(&catalog.database, schema, &mut self.entropy)
            .and_then(|changes| self.commit_changes(CATALOG, &Author::default(), &Request::default(), now, changes));
        if listed.is_ok() {
            self.retry_parked(CATALOG, now);
        }
    }

    /// Gives the sessions the monitors that they had under a schema which is in force again. Those that they began since had not been
    /// answered.
    fn give_back(&mut self, database: &str, monitors: Vec<(SessionId, Monitor)>) {
        for session in self.sessions.values_mut() {
            session.monitors.retain(|monitor| monitor.database != database);
        }
        for (id, monitor) in monitors {
            match (self.sessions.get_mut(&id), self.databases.get_mut(database)) {
                (Some(session), _) => session.monitors.push(monitor),
                (None, Some(served)) => served.groups.leave(&monitor.group, id, &monitor.id_text),
                (None, None) => {}
            }
        }
        let sessions = &self.sessions;
        if let Some(served) = self.databases.get_mut(database) {
            served.parked.retain(|parked| sessions.contains_key(&parked.session));
        }
    }

    /// Applies a change set: record, monitors, and whoever else follows the rows.
    ///
    /// # Errors
    /// The record would be too large; nothing has changed then.
    pub(crate) fn commit_changes(
        &mut self,
        database: &str,
        author: &Author,
        request: &Request,
        now: Now,
        changes: ChangeSet,
    ) -> Result<(), OvsdbError> {
        let Some(served) = self.databases.get_mut(database).filter(|_| !changes.is_empty()) else {
            return Ok(());
        };
        let changes = Arc::new(changes);
        let record = served
            .commit(author, request, now, &changes)
            .map_err(|error| OvsdbError::new(ErrorKind::ResourcesExhausted(error.to_string())))?;
        let sequence = served.sequence();
        if let Some(record) = record {
            self.append(database.into(), record, request.durable);
        }
        self.update_monitors(database, &changes);
        self.commands.push(Command::Changed {
            database: database.into(),
            changes,
            sequence,
        });
        Ok(())
    }

    /// Has a record stored.
    pub(crate) fn append(&mut self, database: EcoString, record: Record, durable: bool) {
        if let Some(audit) = &mut self.audit {
            audit.committed(&database, &record);
        }
        let record = Box::new(record);
        self.commands.push(Command::Append {
            database,
            record,
            durable,
        });
    }

    /// Queues a payload for a session, and sends what may be sent.
    pub(crate) fn push(&mut self, id: SessionId, gate: Option<Gate>, matter: Matter, payload: Outgoing) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.push(gate, matter, payload);
            self.flush(id);
        }
    }

    pub(crate) fn flush(&mut self, id: SessionId) {
        let databases = &self.databases;
        let is_open = |gate: &Gate| {
            databases
                .get(&gate.database)
                .is_none_or(|served| served.is_stored(gate))
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.flush(&is_open, &mut self.commands);
        if session.owes() {
            self.owing.insert(id);
        } else {
            self.owing.remove(&id);
        }
        if session.is_complete() {
            self.commands.push(Command::Close { session: id });
        }
    }

    pub(crate) fn notify(&mut self, notice: &Notice) {
        let (session, method, name) = match notice {
            Notice::Locked(session, name) => (*session, "locked", name),
            Notice::Stolen(session, name) => (*session, "stolen", name),
        };
        let text = notification_text(method, &format!("[\"{name}\"]"));
        self.push(session, None, Matter::Notice, Outgoing::Text(text));
    }
}

fn unknown_database(database: &str) -> OvsdbError {
    let (method, database) = ("transact".into(), database.into());
    ErrorKind::UnknownDatabase { method, database }.into()
}
