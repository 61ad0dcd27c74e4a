//! Random sessions: what several clients of a server send, step by step.
//!
//! The generator knows which monitors a client has, since a condition may name watched columns only: `ovsdb-server` 3.1 writes beyond
//! its memory otherwise. A request with a fault has one fault.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::monitors::MonitorModel;
use super::{Choices, DATABASE, Model};

/// Clients of a case.
const CLIENTS_MAX: usize = 5;

/// Requests that are sent in one go.
const BATCH_MAX: usize = 4;

/// Transactions that wait and that a `cancel` may name.
const CANCELABLE_MAX: usize = 3;

/// Milliseconds a transaction waits when nothing can come in between.
const TIMEOUT_SHORT_MS: u64 = 2;

/// Milliseconds that no test lasts.
const TIMEOUT_LONG_MS: u64 = 600_000;

/// What one client does before all clients are heard.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number.
    pub client: usize,
    /// What it does.
    pub deed: Deed,
}

/// What a client does.
#[derive(Clone, Debug)]
pub enum Deed {
    /// It sends messages that are all handled at once.
    Send(Vec<Value>),
    /// It sends a transaction that may wait; one that `ends` is answered in this step.
    Wait {
        /// The request.
        request: Value,
        /// It has a short timeout.
        ends: bool,
    },
    /// It ends its connection and makes another.
    Reopen,
    /// It sends a `convert` that succeeds.
    Convert {
        /// The request.
        request: Value,
    },
}

/// A database and what its clients have.
#[derive(Debug)]
pub struct Traffic {
    pub(super) model: Model,
    pub(super) clients: Vec<Client>,
    next_id: u64,
}

#[derive(Debug, Default)]
pub(super) struct Client {
    /// By the number of the monitor's id.
    pub(super) monitors: BTreeMap<usize, MonitorModel>,
    /// Ids of transactions that wait, or did.
    waits: Vec<Value>,
}

impl Traffic {
    /// Traffic on the database of this model.
    pub fn new(model: Model, choices: &mut Choices<'_>) -> Self {
        let count = 2 + choices.below(CLIENTS_MAX - 1);
        Self {
            model,
            clients: (0..count).map(|_| Client::default()).collect(),
            next_id: 0,
        }
    }

    /// The selects of all that is in the database, after all steps.
    pub fn selects(&self) -> Vec<Value> {
        self.model.selects()
    }

    /// Number of clients.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The next step.
    pub fn step(&mut self, choices: &mut Choices<'_>) -> Step {
        let client = choices.below(self.clients.len());
        let deed = match choices.below(96) {
            0..=79 => {
                let count = 1 + choices.below(BATCH_MAX);
                Deed::Send((0..count).map(|_| self.request(client, choices)).collect())
            }
            80..=87 => self.waiting(client, choices),
            88..=92 => Deed::Send(vec![self.cancel(client, choices)]),
            93..=94 => {
                self.clients[client] = Client::default();
                Deed::Reopen
            }
            _ => self.convert(choices),
        };
        Step { client, deed }
    }

    fn request(&mut self, client: usize, choices: &mut Choices<'_>) -> Value {
        match choices.below(64) {
            0..=39 => {
                let operations = self.model.transaction(choices);
                self.transact(operations, choices)
            }
            40..=45 => self.monitor(client, choices),
            46..=50 => self.change_condition(client, choices),
            51..=52 => self.cancel_monitor(client, choices),
            53..=59 => {
                let method = *choices.pick(&["lock", "lock", "unlock", "unlock", "steal"]);
                let names = [json!("l0"), json!("l1"), json!("l2"), json!("not an id"), json!(5)];
                let count = if choices.once_in(8) { names.len() } else { 3 };
                let name = choices.pick(&names[..count]).clone();
                self.message(method, &json!([name]), choices)
            }
            _ => self.other_request(choices),
        }
    }

    /// A conversion, after which nobody has monitors or waits.
    fn convert(&mut self, choices: &mut Choices<'_>) -> Deed {
        self.model.convert(choices);
        for client in &mut self.clients {
            *client = Client::default();
        }
        let params = json!([DATABASE, self.model.schema()]);
        let request = self.message("convert", &params, choices);
        Deed::Convert { request }
    }

    fn other_request(&mut self, choices: &mut Choices<'_>) -> Value {
        let nosuch = if choices.once_in(4) { "nosuch" } else { DATABASE };
        let (method, params) = match choices.below(9) {
            0 | 1 => ("set_db_change_aware", json!([choices.below(3) > 0])),
            2 => ("echo", json!([1, {"a": null}, "b"])),
            3 => ("get_schema", json!([nosuch])),
            4 => ("transact", json!([nosuch])),
            5 => ("get_server_id", json!([])),
            6 => ("unlock", json!([])),
            7 => ("convert", json!([nosuch, {"name": "nosuch", "tables": {}}])),
            _ => ("nosuch", json!([])),
        };
        self.message(method, &params, choices)
    }

    fn waiting(&mut self, client: usize, choices: &mut Choices<'_>) -> Deed {
        let (timeout_ms, ends) = match choices.below(4) {
            0 => (None, false),
            1 => (Some(TIMEOUT_LONG_MS), false),
            _ => (Some(TIMEOUT_SHORT_MS), true),
        };
        let operations = self.model.waiting_transaction(timeout_ms, choices);
        let request = self.transact(operations, choices);
        if !ends {
            let waits = &mut self.clients[client].waits;
            waits.push(request["id"].clone());
            if waits.len() > CANCELABLE_MAX {
                waits.remove(0);
            }
        }
        Deed::Wait { request, ends }
    }

    fn cancel(&mut self, client: usize, choices: &mut Choices<'_>) -> Value {
        let waits = &self.clients[client].waits;
        let id = if waits.is_empty() {
            json!("nosuch")
        } else {
            choices.pick(waits).clone()
        };
        json!({"id": null, "method": "cancel", "params": [id]})
    }

    fn transact(&mut self, operations: Vec<Value>, choices: &mut Choices<'_>) -> Value {
        let params = std::iter::once(json!(DATABASE)).chain(operations).collect();
        self.message("transact", &params, choices)
    }

    /// A request with an id that no other has.
    pub(super) fn message(&mut self, method: &str, params: &Value, choices: &mut Choices<'_>) -> Value {
        self.next_id += 1;
        let number = self.next_id;
        let id = match choices.below(8) {
            5 => json!(number.to_string()),
            6 => json!([number, "x"]),
            7 => json!({"n": number}),
            _ => json!(number),
        };
        json!({"id": id, "method": method, "params": params})
    }
}
