//! A server without socket, disk or clock: one database, two sessions, and what it has said so far.

#![allow(dead_code, unreachable_pub, reason = "each test uses some of it")]

use std::sync::Arc;

use nonnet_chain::{Author, Chain, Past, Record};
use nonnet_engine::Database;
use nonnet_schema::{DatabaseSchema, Uuid};
use nonnet_sessions::{Command, CommitLookup, Event, Logged, Now, Peer, Server, SessionId};
use serde_json::{Value, json};

pub const SCHEMA: &str = r#"{"name": "db", "tables": {"t": {"indexes": [["n"]], "columns": {
    "n": {"type": "integer"},
    "set": {"type": {"key": "integer", "min": 0, "max": "unlimited"}},
    "status": {"type": {"key": "string", "min": 0, "max": 1}, "ephemeral": true}}}}}"#;

pub const A: SessionId = SessionId(1);
pub const B: SessionId = SessionId(2);

/// A server with one database and two sessions, and what it has said so far.
pub struct Rig {
    pub server: Server,
    pub now: Now,
    pub records: Vec<Record>,
    pub finished: usize,
    pub closed: Vec<SessionId>,
    /// Transactions that the log was asked for.
    pub reads: Vec<Uuid>,
    /// What was to be sent to the source of a relay, by number.
    pub forwards: Vec<(u64, Value)>,
    /// What was to be taken back from it.
    pub withdrawn: Vec<u64>,
    /// Why it was to tell everything anew.
    pub resyncs: Vec<String>,
    /// What was to be looked for in the logs, by number.
    pub lookups: Vec<(u64, Vec<CommitLookup>)>,
    /// How often the backlogs were asked for.
    pub backlog_reads: usize,
}

impl Rig {
    pub fn new() -> Self {
        let schema = DatabaseSchema::from_text(SCHEMA).unwrap();
        let now = Now::default();
        let (chain, _) = Chain::begin(Uuid::nil(), &schema, &Author::default(), now.moment).unwrap();
        let mut server = Server::new([9; 32]).unwrap();
        server
            .add_database(Database::new(Arc::new(schema), 5), chain, None, now)
            .unwrap();
        let mut rig = Self {
            server,
            now,
            records: Vec::new(),
            finished: 0,
            closed: Vec::new(),
            reads: Vec::new(),
            forwards: Vec::new(),
            withdrawn: Vec::new(),
            resyncs: Vec::new(),
            lookups: Vec::new(),
            backlog_reads: 0,
        };
        for session in [A, B] {
            let peer = Peer::default();
            assert_eq!(rig.event(Event::Opened { session, peer }), []);
        }
        rig
    }

    /// Handles an event; gives what was sent to whom.
    pub fn event(&mut self, event: Event) -> Vec<(SessionId, Value)> {
        let commands = self.server.handle(event, self.now);
        let mut sent = Vec::new();
        for command in commands {
            match command {
                Command::Send { session, payload } => {
                    sent.push((session, serde_json::from_str(&payload.into_text()).unwrap()));
                }
                Command::Append { record, .. } => self.records.push(*record),
                Command::Finished { .. } => self.finished += 1,
                Command::Close { session } => self.closed.push(session),
                Command::ReadSince { id, .. } => self.reads.push(id),
                Command::Forward { number, params, .. } => {
                    self.forwards.push((number, serde_json::from_str(&params).unwrap()));
                }
                Command::Withdraw { number, .. } => self.withdrawn.push(number),
                Command::Resync { reason, .. } => self.resyncs.push(reason),
                Command::Look { number, lookups } => self.lookups.push((number, lookups)),
                Command::ReadBacklogs => self.backlog_reads += 1,
                Command::Changed { .. } | Command::Converted { .. } | Command::Plan { .. } => {}
            }
        }
        sent
    }

    pub fn call(&mut self, session: SessionId, method: &str, params: Value) -> Vec<(SessionId, Value)> {
        let message = json!({"method": method, "params": params, "id": method});
        self.event(Event::Message {
            session,
            message,
            newline: false,
        })
    }

    pub fn insert(&mut self, session: SessionId, n: i64) -> Vec<(SessionId, Value)> {
        self.call(
            session,
            "transact",
            json!(["db", {"op": "insert", "table": "t", "row": {"n": n}}]),
        )
    }

    pub fn stored(&mut self, sequence: u64) -> Vec<(SessionId, Value)> {
        self.event(Event::Stored {
            database: "db".into(),
            sequence,
        })
    }

    pub fn unstored(&mut self, sequence: u64) -> Vec<(SessionId, Value)> {
        self.event(Event::Unstored {
            database: "db".into(),
            sequence,
            reason: "No space left on device".into(),
        })
    }

    pub fn watch(&mut self, session: SessionId) {
        let sent = self.call(session, "monitor_cond", json!(["db", "m", {"t": {"columns": ["n"]}}]));
        assert_eq!(
            sent,
            [(session, json!({"id": "monitor_cond", "result": {}, "error": null}))]
        );
    }

    /// Commits, and lets it be stored.
    pub fn commit(&mut self, operation: Value) -> Vec<(SessionId, Value)> {
        let mut sent = self.call(A, "transact", json!(["db", operation]));
        sent.extend(self.stored(self.server.sequence("db").unwrap()));
        sent
    }

    /// The id of the newest record.
    pub fn newest(&self) -> String {
        self.records.last().unwrap().hash.transaction_id().to_string()
    }

    /// What the log would say of a transaction among the records.
    pub fn logged(&self, id: Uuid) -> Option<Logged> {
        let at = self
            .records
            .iter()
            .position(|record| record.hash.transaction_id() == id)?;
        let mut past = Past::default();
        for record in &self.records[at + 1..] {
            past.add(record.decode_body().unwrap());
        }
        Some(Logged {
            from: self.records[at].header.seq,
            to: self.records.last()?.header.seq,
            past: Arc::new(past),
        })
    }

    /// Answers the oldest read of the log.
    pub fn log_answers(&mut self) -> Vec<(SessionId, Value)> {
        let id = self.reads.remove(0);
        let logged = self.logged(id);
        self.event(Event::Since {
            database: "db".into(),
            id,
            logged,
        })
    }

    pub fn rows(&self) -> usize {
        self.server.database("db").unwrap().table_named("t").unwrap().1.len()
    }
}

/// The method of a notification, or the id of a reply.
pub fn what(sent: &(SessionId, Value)) -> (SessionId, &str) {
    let (session, message) = sent;
    (*session, message["method"].as_str().or(message["id"].as_str()).unwrap())
}
