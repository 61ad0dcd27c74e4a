//! One server of a comparison, its clients, and what they are told: in a form in which two servers can be compared.
//!
//! After each step every client asks `list_dbs`; what came before that answer belongs to the step. Only one client acts in a step, so
//! that the order in which a server visits its sessions does not count.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::generate::{DATABASE, Deed, Step};
use crate::known_difference::{self, OwnedLocks};
use crate::play::Peer;
use crate::rename::{Leniency, Order, Renamer};
use crate::replica::Replicas;
use crate::wire::Session;

/// A server and its clients.
pub struct Side {
    peer: Box<dyn Peer>,
    is_reference: bool,
    schema: Value,
    clients: Vec<Client>,
    control: Control,
    names: Renamer,
}

/// A session that only looks.
struct Control {
    session: Box<dyn Session>,
    requests: u64,
    notifications: Vec<Value>,
}

struct Client {
    session: Box<dyn Session>,
    replicas: Replicas,
    locks: OwnedLocks,
    /// Has called `set_db_change_aware`.
    is_aware: bool,
    /// Requests without an answer, by id.
    asked: BTreeMap<String, Value>,
    /// What was received and is not compared yet.
    received: Vec<Value>,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The messages of each client, in a form that two servers share.
    pub messages: Value,
    /// A transaction that had waited was done.
    pub was_released: bool,
}

impl Side {
    /// Clients connected to a server of one empty database with this schema. UUIDs in `sent` keep their names.
    pub fn new(
        mut peer: Box<dyn Peer>,
        is_reference: bool,
        schema: &Value,
        clients: usize,
        sent: &str,
    ) -> Result<Self> {
        let mut names = Renamer::new(Leniency {
            drop_version: false,
            index_rows_in_any_order: true,
        });
        names.keep(sent);
        let mut control = Control {
            session: peer.connect()?,
            requests: 0,
            notifications: Vec::new(),
        };
        // It stays where a conversion closes others.
        control.call("set_db_change_aware", &json!([true]))?;
        Ok(Self {
            clients: (0..clients)
                .map(|_| Ok(Client::new(peer.connect()?, schema)))
                .collect::<Result<_>>()?,
            control,
            peer,
            is_reference,
            schema: schema.clone(),
            names,
        })
    }

    /// Does one step and gives what every client was told, in canonical form.
    pub fn step(&mut self, step: &Step) -> Result<Outcome> {
        self.take_step(step).with_context(|| self.peer.diagnosis())
    }

    fn take_step(&mut self, step: &Step) -> Result<Outcome> {
        let waiting: Vec<(usize, String)> = self.waiting();
        match &step.deed {
            // One after the other where a commit may release others: which comes first would be chance.
            Deed::Send(messages) if !waiting.is_empty() => {
                for message in messages {
                    self.send(step.client, std::slice::from_ref(message))?;
                    self.settle(step.client)?;
                }
            }
            Deed::Send(messages) => {
                self.send(step.client, messages)?;
                self.settle(step.client)?;
            }
            Deed::Wait { request, ends } => {
                self.send(step.client, std::slice::from_ref(request))?;
                self.settle(step.client)?;
                if *ends {
                    self.receive_reply(step.client, &request["id"])?;
                }
            }
            Deed::Reopen => {
                self.while_leaving(&[step.client], |_| Ok(()))?;
                self.settle(step.client)?;
            }
            Deed::Convert { request } => self.convert(step.client, request)?,
        }
        let was_released = waiting
            .iter()
            .any(|(client, id)| !self.clients[*client].asked.contains_key(id));
        Ok(Outcome {
            messages: self.canonical(step.client, was_released),
            was_released,
        })
    }

    /// Compares the replicas of all clients with what is in the database, which it gives in canonical form.
    pub fn check(&mut self) -> Result<Value> {
        let mut seen = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            for check in client.replicas.checks() {
                let results = self.control.transact(&check.selects)?;
                check.compare(&results).with_context(|| format!("client {number}"))?;
                seen.push(json!(results));
            }
        }
        Ok(self.names.canonical(&json!(seen), Order::default()))
    }

    /// Results of the control session's own transaction, in canonical form.
    pub fn transact(&mut self, operations: &[Value]) -> Result<Value> {
        let results = self.control.transact(operations)?;
        Ok(self.names.canonical(&json!(results), Order::default()))
    }

    fn waiting(&self) -> Vec<(usize, String)> {
        let clients = self.clients.iter().enumerate();
        clients
            .flat_map(|(number, client)| client.asked.keys().map(move |id| (number, id.clone())))
            .collect()
    }

    fn send(&mut self, client: usize, messages: &[Value]) -> Result<()> {
        let client = &mut self.clients[client];
        let mut text = String::new();
        for message in messages {
            client.replicas.sent(message);
            if message["id"].is_null() {
                client.canceled(&message["params"][0], self.is_reference);
            } else {
                client.asked.insert(message["id"].to_string(), message.clone());
            }
            text.push_str(&message.to_string());
        }
        client.session.send(&text)
    }

    /// Lets everything happen that follows, and receives it.
    fn settle(&mut self, actor: usize) -> Result<()> {
        self.hear(actor)?;
        // Each transaction that is released may release another, which happens in a later turn of the server.
        let rounds = 1 + self.waiting().len();
        for _ in 0..rounds {
            for client in 0..self.clients.len() {
                self.hear(client)?;
            }
        }
        Ok(())
    }

    /// Receives what a client was told until now.
    fn hear(&mut self, client: usize) -> Result<()> {
        let client = &mut self.clients[client];
        client
            .session
            .send(&json!({"id": "heard", "method": "list_dbs", "params": []}).to_string())?;
        loop {
            let message = client.session.receive()?;
            if message["id"] == "heard" {
                return Ok(());
            }
            client.receive(message, self.is_reference)?;
        }
    }

    fn receive_reply(&mut self, client: usize, id: &Value) -> Result<()> {
        let client = &mut self.clients[client];
        while client.asked.contains_key(&id.to_string()) {
            let message = client.session.receive()?;
            client.receive(message, self.is_reference)?;
        }
        Ok(())
    }

    /// Lets `act` happen, ends these clients, and waits until the server has seen it: locks that they held are free then.
    fn while_leaving(&mut self, leavers: &[usize], act: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        for number in leavers {
            let lock = json!([format!("leaver{number}")]);
            let client = &mut self.clients[*number];
            client
                .session
                .send(&json!({"id": "leaver", "method": "lock", "params": lock}).to_string())?;
            while client.session.receive()?["id"] != "leaver" {}
            self.control.call("lock", &lock)?;
        }
        act(self)?;
        for number in leavers {
            let session = self.peer.connect()?;
            let client = &mut self.clients[*number];
            let received = std::mem::take(&mut client.received);
            *client = Client::new(session, &self.schema);
            client.received = received;
        }
        for number in leavers {
            let lock = json!([format!("leaver{number}")]);
            self.control.notification(&json!("locked"), &lock)?;
            self.control.call("unlock", &lock)?;
        }
        Ok(())
    }

    /// Converts the database: who is not aware is closed by the server.
    fn convert(&mut self, actor: usize, request: &Value) -> Result<()> {
        let clients = 0..self.clients.len();
        let leavers: Vec<usize> = clients.filter(|&client| !self.clients[client].is_aware).collect();
        self.schema = request["params"][1].clone();
        self.while_leaving(&leavers, |side| {
            side.send(actor, std::slice::from_ref(request))?;
            side.receive_reply(actor, &request["id"])?;
            let reply = side.clients[actor].received.last().context("just received")?;
            ensure!(reply["result"] == json!({}), "a conversion that must succeed: {reply}");
            for &leaver in leavers.iter().filter(|leaver| **leaver != actor) {
                // What others left behind may or may not reach it before it is closed.
                side.clients[leaver].session.receive_to_end()?;
            }
            if !side.clients[actor].is_aware {
                side.clients[actor].session.receive_to_end()?;
            }
            Ok(())
        })?;
        for client in &mut self.clients {
            client.replicas = Replicas::new(&self.schema);
        }
        self.settle(actor)?;
        for client in &mut self.clients {
            client.received.sort_by_key(ToString::to_string);
        }
        Ok(())
    }

    fn canonical(&mut self, actor: usize, was_released: bool) -> Value {
        let mut replies = Vec::new();
        let mut all = BTreeMap::new();
        for (number, client) in self.clients.iter_mut().enumerate() {
            let mut messages = std::mem::take(&mut client.received);
            if number == actor {
                replies = messages
                    .iter()
                    .filter(|message| message.get("method").is_none())
                    .cloned()
                    .collect();
            }
            if was_released {
                known_difference::without_updates(&mut messages);
            }
            sort_unordered(&mut messages);
            if !messages.is_empty() {
                all.insert(format!("client {number}"), messages);
            }
        }
        // The replies give the names, since their elements are in the order of the operations.
        self.names.canonical(&json!(replies), Order::default());
        self.names.canonical(&json!(all), Order::default())
    }
}

impl Client {
    fn new(session: Box<dyn Session>, schema: &Value) -> Self {
        Self {
            session,
            replicas: Replicas::new(schema),
            locks: OwnedLocks::default(),
            is_aware: false,
            asked: BTreeMap::new(),
            received: Vec::new(),
        }
    }

    /// Forgets a waiting transaction that the server drops without a word.
    fn canceled(&mut self, id: &Value, is_reference: bool) {
        if is_reference && !self.is_aware {
            self.asked.remove(&id.to_string());
        }
    }

    fn receive(&mut self, mut message: Value, is_reference: bool) -> Result<()> {
        known_difference::without_negative_zeros(&mut message);
        self.replicas.received(&message)?;
        if message.get("method").is_some() {
            known_difference::without_transaction_id(&mut message, None);
            if self.locks.notified(&message) || !is_reference {
                self.received.push(message);
            }
            return Ok(());
        }
        let request = self
            .asked
            .remove(&message["id"].to_string())
            .with_context(|| format!("nobody asked for {message}"))?;
        if known_difference::is_cancellation(&message) && !self.is_aware {
            ensure!(!is_reference, "an answer that was never seen: {message}");
            return Ok(());
        }
        self.locks.answered(&request, &message);
        if request["method"] == "set_db_change_aware" {
            self.is_aware = request["params"][0] == true;
        }
        known_difference::without_transaction_id(&mut message, Some(&request));
        if request["method"] == "transact"
            && let Some(results) = message["result"].as_array_mut()
        {
            let operations = request["params"].as_array().map_or(&[][..], |params| &params[1..]);
            known_difference::comparable_results(operations, results);
        }
        let (result, error) = (message["result"].take(), message["error"].take());
        ensure!(
            result.is_null() || error.is_null(),
            "a reply with result and error: {result} {error}"
        );
        self.received
            .push(json!({"id": message["id"], "result": result, "error": error}));
        Ok(())
    }
}

impl Control {
    fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.requests += 1;
        let id = json!(self.requests);
        self.session
            .send(&json!({"id": id, "method": method, "params": params}).to_string())?;
        loop {
            let message = self.session.receive()?;
            if message["id"] == id {
                return Ok(message["result"].clone());
            }
            self.notifications.push(message);
        }
    }

    /// Waits for a notification; those that come first are kept.
    fn notification(&mut self, method: &Value, params: &Value) -> Result<()> {
        let is_it = |message: &Value| message["method"] == *method && message["params"] == *params;
        if let Some(at) = self.notifications.iter().position(is_it) {
            self.notifications.remove(at);
            return Ok(());
        }
        loop {
            let message = self.session.receive()?;
            if is_it(&message) {
                return Ok(());
            }
            self.notifications.push(message);
        }
    }

    fn transact(&mut self, operations: &[Value]) -> Result<Vec<Value>> {
        let params = std::iter::once(json!(DATABASE))
            .chain(operations.iter().cloned())
            .collect();
        let mut result = self.call("transact", &params)?;
        known_difference::without_negative_zeros(&mut result);
        result.as_array().cloned().context("transact gives an array")
    }
}

/// Updates of several monitors for one commit come in no order, nor do the locks of a session that has left.
fn sort_unordered(messages: &mut [Value]) {
    let kind = |message: &Value| match message["method"].as_str() {
        Some(method) if method.starts_with("update") => Some("update"),
        Some("locked") => Some("locked"),
        _ => None,
    };
    messages
        .chunk_by_mut(|one, two| kind(one).is_some() && kind(one) == kind(two))
        .for_each(|run| run.sort_by_cached_key(|message| message["params"][0].to_string()));
}
