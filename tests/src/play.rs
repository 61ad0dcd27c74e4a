//! Plays a case against a server and compares all that comes back with what the case says.
//!
//! After each step every session is asked `list_dbs`; what came before that answer belongs to the step. So a message too many is
//! found as surely as one that is missing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{Action, Case, Expected, Step};
use crate::rename::{Leniency, Order, Renamer};
use crate::server::{Kind, Server};
use crate::wire::Session;

/// Requests that are answered before a closed connection counts as seen by the server.
const CLOSE_TURNS: usize = 5;

/// A server that a case can be played against.
pub trait Peer {
    /// A new session.
    fn connect(&mut self) -> Result<Box<dyn Session>>;

    /// Kills the server and starts it on what it had stored.
    fn restart(&mut self) -> Result<()>;

    /// What it says about itself, should a session fail.
    fn diagnosis(&self) -> String {
        String::new()
    }
}

/// How a case is played.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Expectations are those for `ovsdb-server`.
    pub reference: bool,
    /// Kill and start the server between steps.
    pub restart_between: bool,
}

impl Peer for Server {
    fn connect(&mut self) -> Result<Box<dyn Session>> {
        Ok(Box::new(Server::connect(self)?))
    }

    fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.run()
    }

    fn diagnosis(&self) -> String {
        format!("{:?}: {}", self.kind(), self.stderr())
    }
}

/// Plays one case against a new server of this kind.
pub fn play_on(kind: Kind, case: &Case, options: Options) -> Result<()> {
    let mut server = Server::start(kind, &case.schema)?;
    play(&mut server, case, options, |_, _| Ok(())).with_context(|| format!("stderr: {}", server.stderr()))
}

/// Plays one case; `record` sees each step with what came of it, in canonical form.
///
/// # Errors
/// At the first difference, with both sides.
pub fn play(
    peer: &mut dyn Peer,
    case: &Case,
    options: Options,
    mut record: impl FnMut(&Step, &Value) -> Result<()>,
) -> Result<()> {
    let mut player = Player::new(peer, options);
    for (index, step) in case.steps.iter().enumerate() {
        if options.restart_between && index > 0 {
            player.restart()?;
        }
        let Some(expected) = step.expected_on(options.reference) else {
            continue;
        };
        let place = || {
            format!(
                "{}: case {} step {index}: {}",
                case.file.display(),
                case.name,
                step.text
            )
        };
        let received = player.step(step, expected).with_context(place)?;
        let received = named(&mut player.received_names, &received, order(step));
        if expected.is_blank() {
            player.expected_names.canonical(&received["reply"], order(step));
            player.expected_names.canonical(&received, order(step));
        } else {
            let expected = named(&mut player.expected_names, expected, order(step));
            ensure!(
                expected == received,
                "{}\nexpected {expected}\nreceived {received}",
                place()
            );
        }
        record(step, &received)?;
    }
    Ok(())
}

struct Player<'a> {
    peer: &'a mut dyn Peer,
    sessions: BTreeMap<String, Box<dyn Session>>,
    expected_names: Renamer,
    received_names: Renamer,
    syncs: u64,
}

impl<'a> Player<'a> {
    fn new(peer: &'a mut dyn Peer, options: Options) -> Self {
        let leniency = Leniency {
            drop_version: options.restart_between,
            index_rows_in_any_order: options.reference,
        };
        Self {
            peer,
            sessions: BTreeMap::new(),
            expected_names: Renamer::new(leniency),
            received_names: Renamer::new(leniency),
            syncs: 0,
        }
    }

    fn restart(&mut self) -> Result<()> {
        self.sessions.clear();
        self.peer.restart()
    }

    fn session(&mut self, name: &str) -> Result<&mut Box<dyn Session>> {
        if !self.sessions.contains_key(name) {
            let session = self.peer.connect()?;
            self.sessions.insert(name.to_owned(), session);
        }
        self.sessions.get_mut(name).context("just connected")
    }

    fn step(&mut self, step: &Step, expected: &Expected) -> Result<Expected> {
        let mut received = Expected::default();
        let text = match &step.action {
            Action::Restart => {
                self.restart()?;
                return Ok(received);
            }
            Action::Close => {
                self.close(&step.session)?;
                None
            }
            Action::Request { method, params, id, .. } => {
                Some(json!({"id": id, "method": method, "params": params}).to_string())
            }
            Action::Notify { method, params } => {
                Some(json!({"id": null, "method": method, "params": params}).to_string())
            }
            Action::Text { text, .. } => Some(text.clone()),
        };
        if let Some(text) = text {
            let text = self.with_real_uuids(&text)?;
            self.session(&step.session)?.send(&text)?;
        }
        if expected.closed {
            let mut session = self.sessions.remove(&step.session).context("the session is open")?;
            received.before = session.receive_to_end()?;
            received.closed = true;
        } else if let Some(id) = awaited(&step.action) {
            let mut reply = self.reply(&step.session, &id, &mut received.before)?;
            if matches!(&step.action, Action::Request { method, .. } if method == "list_dbs") {
                sort_names(&mut reply);
            }
            received.reply = Some(reply);
        }
        for name in &expected.ends {
            let mut session = self.sessions.remove(name).context("the session is open")?;
            let messages: Vec<Value> = session.receive_to_end()?.into_iter().map(essence).collect();
            if !messages.is_empty() {
                received.also.insert(name.clone(), messages);
            }
            received.ends.push(name.clone());
        }
        received.also.extend(self.what_else_came(&expected.also)?);
        received.before = received.before.into_iter().map(essence).collect();
        sort_updates(&mut received.before);
        Ok(received)
    }

    /// Closes a session, and gives the server turns enough to see it.
    fn close(&mut self, name: &str) -> Result<()> {
        self.sessions.remove(name);
        let mut other = self.peer.connect()?;
        for turn in 0..CLOSE_TURNS {
            other.send(&json!({"id": turn, "method": "list_dbs", "params": []}).to_string())?;
            other.receive()?;
        }
        Ok(())
    }

    /// Reads until the reply to `id`; what comes before goes to `before`.
    fn reply(&mut self, session: &str, id: &Value, before: &mut Vec<Value>) -> Result<Value> {
        loop {
            let message = self.session(session)?.receive()?;
            if message.get("method").is_none() && message.get("id") == Some(id) {
                return bare_reply(&message);
            }
            before.push(message);
        }
    }

    /// Asks every session for a sign of life and returns what came before it, waiting for as many as are expected.
    fn what_else_came(&mut self, expected: &BTreeMap<String, Vec<Value>>) -> Result<BTreeMap<String, Vec<Value>>> {
        let names: Vec<String> = self.sessions.keys().cloned().collect();
        let mut also = BTreeMap::new();
        for name in names {
            self.syncs += 1;
            let id = json!(format!("sync {}", self.syncs));
            let session = self.session(&name)?;
            session.send(&json!({"id": id, "method": "list_dbs", "params": []}).to_string())?;
            let count = expected.get(&name).map_or(0, Vec::len);
            let mut messages = Vec::new();
            let mut synced = false;
            while !synced || messages.len() < count {
                let message = session
                    .receive()
                    .with_context(|| format!("session {name} waits for {count} messages"))?;
                if message.get("id") == Some(&id) {
                    synced = true;
                } else {
                    messages.push(essence(message));
                }
            }
            sort_updates(&mut messages);
            if !messages.is_empty() {
                also.insert(name, messages);
            }
        }
        Ok(also)
    }

    /// Replaces the case's names by the UUIDs they stand for; leaves other UUIDs, which then keep their text in replies.
    fn with_real_uuids(&mut self, text: &str) -> Result<String> {
        self.expected_names.keep(text);
        self.received_names.keep(text);
        let mut result = text.to_owned();
        let mut names = BTreeSet::new();
        for piece in text.split('<').skip(1) {
            if let Some((digits, _)) = piece.split_once('>')
                && !digits.is_empty()
                && digits.bytes().all(|byte| byte.is_ascii_digit())
            {
                names.insert(format!("<{digits}>"));
            }
        }
        for name in names {
            let uuid = self
                .expected_names
                .name(&name)
                .and_then(|index| self.received_names.token(index))
                .with_context(|| format!("{name} was not seen yet"))?;
            result = result.replace(&name, uuid);
        }
        Ok(result)
    }
}

/// The canonical form. The reply gives the names, since its elements are in the order of the operations.
fn named(names: &mut Renamer, outcome: &Expected, order: Order) -> Value {
    if let Some(reply) = &outcome.reply {
        names.canonical(reply, order);
    }
    names.canonical(&as_value(outcome), order)
}

/// The form in which both sides are compared.
pub fn as_value(expected: &Expected) -> Value {
    let mut value = json!({});
    if let Some(reply) = &expected.reply {
        value["reply"] = reply.clone();
    }
    if !expected.before.is_empty() {
        value["before"] = json!(expected.before);
    }
    if !expected.also.is_empty() {
        value["also"] = json!(expected.also);
    }
    if expected.closed {
        value["closed"] = json!(true);
    }
    if !expected.ends.is_empty() {
        value["ends"] = json!(expected.ends);
    }
    value
}

fn order(step: &Step) -> Order {
    Order {
        rows_are_sorted: step.ordered,
    }
}

fn awaited(action: &Action) -> Option<Value> {
    match action {
        Action::Request { id, parked: false, .. } => Some(id.clone()),
        Action::Text { id, .. } => id.clone(),
        _ => None,
    }
}

/// `{"result": ...}` or `{"error": ...}`: a missing member is null.
fn bare_reply(message: &Value) -> Result<Value> {
    let member = |name: &str| message.get(name).cloned().unwrap_or(Value::Null);
    let (result, error) = (member("result"), member("error"));
    ensure!(
        result.is_null() || error.is_null(),
        "a reply has both result and error: {message}"
    );
    Ok(if error.is_null() {
        json!({"result": result})
    } else {
        json!({"error": error})
    })
}

/// A message without the members that say nothing.
fn essence(mut message: Value) -> Value {
    if let Some(members) = message.as_object_mut() {
        if members.contains_key("method") {
            members.retain(|name, value| name != "id" || !value.is_null());
        } else {
            members.retain(|name, value| name == "id" || !value.is_null());
        }
    }
    message
}

/// The databases come in no order.
fn sort_names(reply: &mut Value) {
    if let Some(names) = reply["result"].as_array_mut() {
        names.sort_by_key(ToString::to_string);
    }
}

/// Updates of several monitors for one commit come in no order.
fn sort_updates(messages: &mut [Value]) {
    let is_update = |message: &Value| {
        message
            .get("method")
            .and_then(Value::as_str)
            .is_some_and(|method| method.starts_with("update"))
    };
    messages
        .chunk_by_mut(|one, two| is_update(one) && is_update(two))
        .for_each(|run| {
            run.sort_by_cached_key(|message| (message["method"].to_string(), message["params"][0].to_string()));
        });
}
