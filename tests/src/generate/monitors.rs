//! Random monitors, changes of their conditions, and their ends.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::operations::{Scope, Watched};
use super::traffic::Traffic;
use super::{Choices, DATABASE};

/// Monitors that a client may have.
const MONITORS_MAX: usize = 4;

/// Clauses of a condition.
const CLAUSES_MAX: usize = 3;

/// What conditions of a monitor may name, by table.
pub(super) type MonitorModel = BTreeMap<usize, Watched>;

impl Traffic {
    /// `monitor` in one of its three versions; sometimes an error.
    pub(super) fn monitor(&mut self, client: usize, choices: &mut Choices<'_>) -> Value {
        let number = choices.below(MONITORS_MAX);
        let method = *choices.pick(&["monitor", "monitor_cond", "monitor_cond_since"]);
        let is_conditional = method != "monitor";
        let is_wrong = choices.once_in(16);
        let (mut monitor, mut requests) = (MonitorModel::new(), Map::new());
        let mut wrong = is_wrong.then(|| choices.below(6));
        for table in 0..self.model.tables.len() {
            if table > 0 && choices.below(3) == 0 {
                continue;
            }
            let (watched, request) = self.monitor_table(table, is_conditional, &mut wrong, choices);
            requests.insert(self.model.tables[table].name.clone(), request);
            monitor.insert(table, watched);
        }
        if wrong.is_some() {
            requests.insert("nosuch".to_owned(), json!([]));
        }
        if !is_wrong {
            self.clients[client].monitors.entry(number).or_insert(monitor);
        }
        let mut params = json!([DATABASE, id(number), requests]);
        if method == "monitor_cond_since"
            && let Some(params) = params.as_array_mut()
        {
            params.push(json!("00000000-0000-0000-0000-000000000000"));
        }
        self.message(method, &params, choices)
    }

    /// What is asked of one table: one request, or two with columns of their own.
    fn monitor_table(
        &mut self,
        table: usize,
        is_conditional: bool,
        wrong: &mut Option<usize>,
        choices: &mut Choices<'_>,
    ) -> (Watched, Value) {
        let count = self.model.tables[table].columns.len();
        let all: Vec<usize> = (0..count).collect();
        if choices.once_in(5) {
            // No columns named: all of them, and `_version`.
            let watched = Watched {
                columns: all,
                has_uuid: false,
            };
            let mut request = json!({});
            Self::select(&mut request, choices);
            if is_conditional && choices.below(3) > 0 {
                request["where"] = self.monitor_condition(table, &watched, choices);
            }
            return (watched, request);
        }
        let mut some = all;
        some.retain(|_| choices.below(4) < 3);
        let watched = Watched {
            columns: some,
            has_uuid: choices.once_in(3),
        };
        let columns = &self.model.tables[table].columns;
        let mut names: Vec<Value> = watched.columns.iter().map(|&at| json!(columns[at].name)).collect();
        if watched.has_uuid {
            names.push(json!("_uuid"));
        }
        if choices.once_in(6) {
            names.push(json!("_version"));
        }
        if let Some(kind) = wrong.take() {
            let faulty = match kind {
                0 => json!([{"columns": ["nosuch"]}]),
                1 => json!([{"columns": 1}]),
                2 => json!([{"columns": [columns[0].name, columns[0].name]}]),
                3 => json!([{"select": {"nosuch": true}}]),
                4 => json!([1]),
                _ => json!([{"nosuch": 1}]),
            };
            return (watched, faulty);
        }
        let second = names.split_off(if choices.once_in(5) {
            choices.below(names.len() + 1)
        } else {
            names.len()
        });
        let mut requests = vec![json!({"columns": names})];
        if !second.is_empty() {
            requests.push(json!({"columns": second}));
        }
        // One condition for both: with several tables, which of two counts in 3.1 is chance.
        let condition =
            (is_conditional && choices.below(3) > 0).then(|| self.monitor_condition(table, &watched, choices));
        for request in &mut requests {
            Self::select(request, choices);
            if let Some(condition) = &condition {
                request["where"] = condition.clone();
            }
        }
        (watched, json!(requests))
    }

    fn select(request: &mut Value, choices: &mut Choices<'_>) {
        if choices.once_in(5) {
            let mut select = Map::new();
            for event in ["initial", "insert", "delete", "modify"] {
                match choices.below(4) {
                    0 | 1 => {}
                    2 => drop(select.insert(event.to_owned(), json!(true))),
                    _ => drop(select.insert(event.to_owned(), json!(false))),
                }
            }
            request["select"] = Value::Object(select);
        }
    }

    fn monitor_condition(&mut self, table: usize, watched: &Watched, choices: &mut Choices<'_>) -> Value {
        let mut scope = Scope::of_monitor(watched);
        let mut clauses: Vec<Value> = (0..choices.below(CLAUSES_MAX + 1))
            .map(|_| self.model.clause(table, &mut scope, choices))
            .collect();
        // Of `false`, `false` and `true` none holds in ovsdb-server 3.1.
        let first = clauses.iter().position(Value::is_boolean);
        let mut at = 0;
        clauses.retain(|clause| {
            at += 1;
            !clause.is_boolean() || Some(at - 1) == first
        });
        json!(clauses)
    }

    /// `monitor_cond_change` with other conditions, another id, or both; sometimes an error.
    pub(super) fn change_condition(&mut self, client: usize, choices: &mut Choices<'_>) -> Value {
        let known: Vec<usize> = self.clients[client].monitors.keys().copied().collect();
        let old = if known.is_empty() || choices.once_in(16) {
            choices.below(MONITORS_MAX)
        } else {
            *choices.pick(&known)
        };
        let new = if choices.once_in(4) {
            choices.below(MONITORS_MAX)
        } else {
            old
        };
        let mut changes = Map::new();
        let monitors = &mut self.clients[client].monitors;
        let is_sound = old == new || !monitors.contains_key(&new);
        let monitor = monitors.get(&old).cloned().unwrap_or_default();
        if is_sound && let Some(monitor) = monitors.remove(&old) {
            monitors.insert(new, monitor);
        }
        for (&table, watched) in &monitor {
            if changes.is_empty() || choices.below(2) == 1 {
                let entries: Vec<Value> = (0..=usize::from(choices.once_in(8)))
                    .map(|_| json!({"where": self.monitor_condition(table, watched, choices)}))
                    .collect();
                changes.insert(self.model.tables[table].name.clone(), json!(entries));
            }
        }
        let params = json!([id(old), id(new), changes]);
        self.message("monitor_cond_change", &params, choices)
    }

    /// `monitor_cancel`; sometimes of no monitor.
    pub(super) fn cancel_monitor(&mut self, client: usize, choices: &mut Choices<'_>) -> Value {
        let number = choices.below(MONITORS_MAX);
        self.clients[client].monitors.remove(&number);
        self.message("monitor_cancel", &json!([id(number)]), choices)
    }
}

fn id(number: usize) -> Value {
    match number {
        0 => json!("m0"),
        1 => json!(["m", 1]),
        2 => json!({"m": 2}),
        _ => Value::Null,
    }
}
