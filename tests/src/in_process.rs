//! The server in this process: its sessions, engine and chain, with neither socket, disk nor clock.
//!
//! Time stands still until nothing else is left to happen, then jumps to the next deadline. Records count as stored when somebody waits
//! for a reply, not before: what is sent in between is handled while they are on their way. There is no restart: what is stored
//! here is gone with the value.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nonnet_chain::{Author, Chain};
use nonnet_engine::Database;
use nonnet_schema::{DatabaseSchema, Uuid};
use nonnet_sessions::{Command, Event, Now, Peer as ClientPeer, Server, SessionId};
use serde_json::{Deserializer, Value};

use crate::play::Peer;
use crate::wire::Session;

/// Things that may happen by themselves before a message comes.
const ADVANCES_MAX: usize = 1000;

/// A server and all its sessions.
#[derive(Clone)]
pub struct InProcess(Rc<RefCell<Machine>>);

struct Machine {
    server: Server,
    now: Now,
    sessions_opened: u64,
    inboxes: BTreeMap<SessionId, Inbox>,
    /// Databases with their newest record that is not stored yet.
    unstored: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Value>,
    is_closed: bool,
}

struct InProcessSession {
    machine: Rc<RefCell<Machine>>,
    id: SessionId,
}

impl InProcess {
    /// A server of one empty database with this schema.
    pub fn new(schema: &Value) -> Result<Self> {
        let schema = DatabaseSchema::from_text(&schema.to_string())?;
        let now = Now::default();
        let (chain, _) = Chain::begin(Uuid::nil(), &schema, &Author::default(), now.moment)?;
        let mut server = Server::new([7; 32])?;
        server.add_database(Database::new(Arc::new(schema), 1), chain, None, now)?;
        let machine = Machine {
            server,
            now,
            sessions_opened: 0,
            inboxes: BTreeMap::new(),
            unstored: BTreeMap::new(),
        };
        Ok(Self(Rc::new(RefCell::new(machine))))
    }
}

impl Peer for InProcess {
    fn connect(&mut self) -> Result<Box<dyn Session>> {
        let mut machine = self.0.borrow_mut();
        machine.sessions_opened += 1;
        let id = SessionId(machine.sessions_opened);
        machine.inboxes.insert(id, Inbox::default());
        machine.handle(Event::Opened {
            session: id,
            peer: ClientPeer::default(),
        })?;
        Ok(Box::new(InProcessSession {
            machine: Rc::clone(&self.0),
            id,
        }))
    }

    fn restart(&mut self) -> Result<()> {
        bail!("a server in this process has nothing to start again from")
    }
}

impl Machine {
    fn handle(&mut self, event: Event) -> Result<()> {
        for command in self.server.handle(event, self.now) {
            match command {
                Command::Send { session, payload } => {
                    let text = payload.into_text();
                    let message = serde_json::from_str(&text).with_context(|| format!("the server sent {text}"))?;
                    if let Some(inbox) = self.inboxes.get_mut(&session) {
                        inbox.messages.push_back(message);
                    }
                }
                Command::Close { session } => {
                    if let Some(inbox) = self.inboxes.get_mut(&session) {
                        inbox.is_closed = true;
                    }
                }
                Command::Append { database, record, .. } => {
                    self.unstored.insert(database.to_string(), record.head().seq);
                }
                // There is no log: what memory does not have is unknown.
                Command::ReadSince { database, id } => self.handle(Event::Since {
                    database,
                    id,
                    logged: None,
                })?,
                // No database here is a relay's, and `_Nonnet` is not served.
                Command::Forward { .. }
                | Command::Withdraw { .. }
                | Command::Resync { .. }
                | Command::Finished { .. }
                | Command::Changed { .. }
                | Command::Plan { .. }
                | Command::Look { .. }
                | Command::ReadBacklogs
                | Command::Converted { .. } => {}
            }
        }
        Ok(())
    }

    /// Lets the next thing happen that needs no client: a record is stored, or a deadline passes. False if there is none.
    fn advance(&mut self) -> Result<bool> {
        if let Some((database, sequence)) = self.unstored.pop_first() {
            self.handle(Event::Stored {
                database: database.into(),
                sequence,
            })?;
            return Ok(true);
        }
        let Some(deadline_ms) = self.server.deadline_ms() else {
            return Ok(false);
        };
        self.now.monotonic_ms = self.now.monotonic_ms.max(deadline_ms);
        self.handle(Event::Tick)?;
        Ok(true)
    }

    fn inbox(&mut self, id: SessionId) -> Result<&mut Inbox> {
        self.inboxes.get_mut(&id).context("the session is open")
    }
}

impl Session for InProcessSession {
    fn send(&mut self, text: &str) -> Result<()> {
        let mut machine = self.machine.borrow_mut();
        for message in Deserializer::from_str(text).into_iter() {
            machine.handle(Event::Message {
                session: self.id,
                message: message?,
                newline: false,
            })?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Value> {
        let mut machine = self.machine.borrow_mut();
        for _ in 0..ADVANCES_MAX {
            if let Some(message) = machine.inbox(self.id)?.messages.pop_front() {
                return Ok(message);
            }
            if !machine.advance()? {
                bail!("nothing more will come");
            }
        }
        bail!(
            "the server asks for a tick {ADVANCES_MAX} times and sends nothing: {:?}",
            machine.server.deadline_ms()
        )
    }

    fn receive_to_end(&mut self) -> Result<Vec<Value>> {
        let mut machine = self.machine.borrow_mut();
        while !machine.inbox(self.id)?.is_closed {
            if !machine.advance()? {
                bail!("the server does not close the session");
            }
        }
        Ok(machine.inbox(self.id)?.messages.drain(..).collect())
    }
}

impl Drop for InProcessSession {
    fn drop(&mut self) {
        let mut machine = self.machine.borrow_mut();
        machine.inboxes.remove(&self.id);
        if let Err(error) = machine.handle(Event::Closed { session: self.id }) {
            eprintln!("closing {:?}: {error:#}", self.id);
        }
    }
}
