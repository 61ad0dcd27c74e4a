//! Random transactions.

use serde_json::{Map, Value, json};

use super::{Atom, Base, Choices, Model};

/// Operations of a transaction.
const OPERATIONS_MAX: usize = 6;

/// Rows of a table that may well be there.
const RECENT_ROWS: usize = 6;

/// Elements of a generated set or map.
const ELEMENTS_MAX: usize = 4;

/// What a request under construction knows.
#[derive(Default)]
pub(super) struct Scope {
    /// The table of each operation, which is that of the row its name stands for.
    tables: Vec<usize>,
    /// The inserts so far that have a name.
    named: Vec<usize>,
    fault: bool,
    /// What a condition of a monitor may name. Tables of its request are checked in no order: nothing in it may be wrong.
    watched: Option<Watched>,
    /// References of the datum under construction are names.
    by_name: bool,
}

/// The columns of a table that a monitor watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    /// By their numbers.
    pub(super) columns: Vec<usize>,
    /// And `_uuid`.
    pub(super) has_uuid: bool,
}

impl Scope {
    /// For the condition of a monitor.
    pub(super) fn of_monitor(watched: &Watched) -> Self {
        Self {
            watched: Some(watched.clone()),
            ..Self::default()
        }
    }
}

impl Model {
    /// A random transaction.
    pub fn transaction(&mut self, choices: &mut Choices<'_>) -> Vec<Value> {
        let mut scope = self.scope(choices.below(OPERATIONS_MAX) + 1, choices);
        let operations = (0..scope.tables.len())
            .map(|number| self.operation(number, &mut scope, choices))
            .collect();
        with_one_unknown_name(self.with_single_deletes(operations, choices))
    }

    /// A transaction with a `wait` that may hold later; `timeout_ms` is its time.
    pub(super) fn waiting_transaction(&mut self, timeout_ms: Option<u64>, choices: &mut Choices<'_>) -> Vec<Value> {
        let mut scope = self.scope(choices.below(OPERATIONS_MAX) + 1, choices);
        let at = choices.below(scope.tables.len().min(3));
        let operations = (0..scope.tables.len())
            .map(|number| {
                if number == at {
                    self.lasting_wait(scope.tables[number], timeout_ms, &mut scope, choices)
                } else {
                    self.operation(number, &mut scope, choices)
                }
            })
            .collect();
        with_one_unknown_name(self.with_single_deletes(operations, choices))
    }

    /// The operations where those tables whose rows are referred to weakly lose one row at most, and none beside an `update` or `mutate`;
    /// what would delete more selects. `ovsdb-server` visits the rows of a transaction in no order, and leaves such a reference
    /// dangling where it has visited the row that refers before one that is deleted.
    fn with_single_deletes(&self, mut operations: Vec<Value>, choices: &mut Choices<'_>) -> Vec<Value> {
        let modifies = |operation: &Value| operation["op"] == "update" || operation["op"] == "mutate";
        let mut may_delete = !operations.iter().any(modifies);
        for operation in operations.iter_mut().filter(|operation| operation["op"] == "delete") {
            let Some(table) = self.weak_target(&operation["table"]) else {
                continue;
            };
            match self.known_uuid(table, choices).filter(|_| may_delete) {
                Some(uuid) => operation["where"] = json!([["_uuid", "==", ["uuid", uuid]]]),
                None => operation["op"] = json!("select"),
            }
            may_delete = false;
        }
        operations
    }

    /// The table of that name, where a column refers to its rows weakly.
    fn weak_target(&self, name: &Value) -> Option<usize> {
        let table = self.tables.iter().position(|table| table.name == *name)?;
        let columns = self.tables.iter().flat_map(|table| &table.columns);
        let mut bases = columns
            .flat_map(|column| [Some(&column.key), column.value.as_ref()])
            .flatten();
        bases
            .any(|base| matches!(base, Base::Reference(to, true) if *to == table))
            .then_some(table)
    }

    fn scope(&self, operations: usize, choices: &mut Choices<'_>) -> Scope {
        let tables = (0..operations).map(|_| choices.below(self.tables.len())).collect();
        Scope {
            tables,
            ..Scope::default()
        }
    }

    fn operation(&mut self, number: usize, scope: &mut Scope, choices: &mut Choices<'_>) -> Value {
        let table = scope.tables[number];
        scope.fault = choices.once_in(12);
        let mut operation = match choices.below(18) {
            0..=6 => self.insert(number, table, scope, choices),
            7..=9 => {
                let condition = self.condition(table, scope, choices);
                json!({"op": "update", "where": condition, "row": self.row(table, true, scope, choices)})
            }
            10..=12 => {
                let condition = self.condition(table, scope, choices);
                let mutations: Vec<Value> = (0..=choices.below(2))
                    .map(|_| self.mutation(table, scope, choices))
                    .collect();
                json!({"op": "mutate", "where": condition, "mutations": mutations})
            }
            13 | 14 => json!({"op": "delete", "where": self.condition(table, scope, choices)}),
            15 => {
                let columns = self.projection(table, choices);
                json!({"op": "select", "where": self.condition(table, scope, choices), "columns": columns})
            }
            16 => self.wait(table, scope, choices),
            _ => return without_table(choices),
        };
        operation["table"] = json!(self.tables[table].name);
        if scope.fault {
            match choices.below(6) {
                4 => operation["table"] = json!("nosuch"),
                5 => operation["extra"] = json!(1),
                _ => {}
            }
        }
        operation
    }

    fn insert(&mut self, number: usize, table: usize, scope: &mut Scope, choices: &mut Choices<'_>) -> Value {
        let mut operation = json!({"op": "insert", "row": self.row(table, false, scope, choices)});
        if choices.below(4) < 3 {
            operation["uuid-name"] = json!(format!("n{number}"));
            scope.named.push(number);
        }
        if !choices.once_in(8) {
            let uuid = if choices.once_in(10) {
                self.known_uuid(table, choices)
            } else {
                None
            };
            let uuid = uuid.unwrap_or_else(|| format!("{:08x}-0000-4000-8000-{table:012x}", self.rows.len()));
            self.rows.push((table, uuid.clone()));
            operation["uuid"] = json!(uuid);
        }
        operation
    }

    fn wait(&mut self, table: usize, scope: &mut Scope, choices: &mut Choices<'_>) -> Value {
        let condition = self.condition(table, scope, choices);
        let rows: Vec<Value> = (0..choices.below(3))
            .map(|_| self.row(table, false, scope, choices))
            .collect();
        let until = *choices.pick(&["==", "!="]);
        json!({"op": "wait", "where": condition, "columns": self.projection(table, choices), "until": until, "rows": rows, "timeout": 0})
    }

    /// Waits mostly for a row to come or for all rows to go, which other transactions may well bring about.
    fn lasting_wait(
        &mut self,
        table: usize,
        timeout_ms: Option<u64>,
        scope: &mut Scope,
        choices: &mut Choices<'_>,
    ) -> Value {
        let mut wait = self.wait(table, scope, choices);
        if choices.below(3) < 2 {
            wait["rows"] = json!([]);
        }
        wait["table"] = json!(self.tables[table].name);
        match (timeout_ms, wait.as_object_mut()) {
            (Some(timeout_ms), _) => wait["timeout"] = json!(timeout_ms),
            (None, Some(members)) => {
                members.remove("timeout");
            }
            (None, None) => {}
        }
        wait
    }

    /// Distinct columns, none of them `_version`.
    fn projection(&self, table: usize, choices: &mut Choices<'_>) -> Vec<String> {
        let mut columns: Vec<String> = self.tables[table]
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        columns.retain(|_| choices.below(3) < 2);
        if choices.below(2) == 0 {
            columns.push("_uuid".to_owned());
        }
        columns
    }

    /// A row; for an update without immutable columns, unless a fault is due.
    fn row(&mut self, table: usize, is_update: bool, scope: &mut Scope, choices: &mut Choices<'_>) -> Value {
        let mut row = Map::new();
        for number in 0..self.tables[table].columns.len() {
            let column = &self.tables[table].columns[number];
            let name = column.name.clone();
            if column.is_immutable && is_update && !std::mem::take(&mut scope.fault) {
                continue;
            }
            if choices.below(4) < 3 {
                row.insert(name, self.datum(table, number, scope, choices));
            }
        }
        if std::mem::take(&mut scope.fault) {
            row.insert("nosuch".to_owned(), json!(1));
        }
        Value::Object(row)
    }

    fn condition(&mut self, table: usize, scope: &mut Scope, choices: &mut Choices<'_>) -> Value {
        let count = [0, 1, 1, 2][choices.below(4)];
        (0..count).map(|_| self.clause(table, scope, choices)).collect()
    }

    pub(super) fn clause(&mut self, table: usize, scope: &mut Scope, choices: &mut Choices<'_>) -> Value {
        let columns = match &scope.watched {
            Some(watched) => watched.columns.clone(),
            None => (0..self.tables[table].columns.len()).collect(),
        };
        let has_uuid = scope.watched.as_ref().is_none_or(|watched| watched.has_uuid);
        if choices.once_in(16) || (columns.is_empty() && !has_uuid) {
            return json!(choices.below(2) == 0);
        }
        let functions = ["==", "!=", "includes", "excludes", "<", "<=", ">", ">="];
        if columns.is_empty() || (choices.below(3) == 0 && has_uuid) {
            let uuid = self
                .known_uuid(table, choices)
                .unwrap_or_else(|| "00000000-0000-4000-8000-000000000000".to_owned());
            return json!(["_uuid", choices.pick(&functions[..4]), ["uuid", uuid]]);
        }
        let number = *choices.pick(&columns);
        let column = &self.tables[table].columns[number];
        let (name, key, is_ordered) = (column.name.clone(), column.key.clone(), column.is_ordered());
        let may_mismatch = scope.watched.is_none() && choices.once_in(16);
        let function = match scope {
            Scope { fault: true, .. } if choices.once_in(6) => "=~",
            _ if is_ordered || may_mismatch => *choices.pick(&functions),
            _ => *choices.pick(&functions[..4]),
        };
        let argument = if function.starts_with(['<', '>']) && !may_mismatch {
            self.atom(&key, scope, choices)
        } else {
            self.datum(table, number, scope, choices)
        };
        json!([name, function, argument])
    }

    fn mutation(&mut self, table: usize, scope: &mut Scope, choices: &mut Choices<'_>) -> Value {
        let number = choices.below(self.tables[table].columns.len());
        let column = &self.tables[table].columns[number];
        let name = column.name.clone();
        let is_number =
            matches!(column.key, Base::Plain(Atom::Integer | Atom::Real) | Base::Range(..)) && column.value.is_none();
        let is_set = column.value.is_some() || column.min != 1 || column.max != Some(1);
        let mutator = match (is_number, is_set) {
            _ if choices.once_in(16) => *choices.pick(&["+=", "insert", "^="]),
            (true, false) => *choices.pick(&["+=", "-=", "*=", "/=", "%="]),
            (true, true) => *choices.pick(&["insert", "delete", "+=", "-=", "*="]),
            _ => *choices.pick(&["insert", "delete"]),
        };
        let argument = match mutator {
            "insert" | "delete" => self.datum(table, number, scope, choices),
            // A negative number times 0 ends ovsdb-server; the product of two negative ones may overflow there unseen.
            "*=" => json!(*choices.pick(&[1, 2, 3])),
            _ => json!(*choices.pick(&[1, 2, 3, -1, 0, 7])),
        };
        json!([name, mutator, argument])
    }

    /// A value of the column's type, or, once, a faulty one.
    fn datum(&mut self, table: usize, number: usize, scope: &mut Scope, choices: &mut Choices<'_>) -> Value {
        let column = &self.tables[table].columns[number];
        let (key, value) = (column.key.clone(), column.value.clone());
        let (min, max) = (column.min, column.max.unwrap_or(ELEMENTS_MAX).min(ELEMENTS_MAX));
        if scope.fault && choices.once_in(3) {
            scope.fault = false;
            return choices
                .pick(&[
                    json!(null),
                    json!(["set", [1, "x"]]),
                    json!(["map", []]),
                    json!(1.5),
                    json!("x"),
                    json!([]),
                ])
                .clone();
        }
        // A name and a UUID may stand for the same row: a value has references of one kind, so that all its elements differ.
        scope.by_name = choices.below(3) > 0;
        let mut elements: Vec<(Value, Value)> = Vec::new();
        for _ in 0..min + choices.below(max - min + 1) {
            let element = self.atom(&key, scope, choices);
            let has_duplicate = elements.iter().any(|(known, _)| *known == element);
            if !has_duplicate {
                let value = value
                    .as_ref()
                    .map_or(Value::Null, |base| self.atom(base, scope, choices));
                elements.push((element, value));
            }
        }
        if value.is_some() {
            let pairs: Vec<Value> = elements.into_iter().map(|(key, value)| json!([key, value])).collect();
            return json!(["map", pairs]);
        }
        let atoms: Vec<Value> = elements.into_iter().map(|(key, _)| key).collect();
        match atoms.as_slice() {
            [atom] if choices.below(4) < 3 => atom.clone(),
            _ => json!(["set", atoms]),
        }
    }

    fn atom(&mut self, base: &Base, scope: &mut Scope, choices: &mut Choices<'_>) -> Value {
        match base {
            Base::Plain(Atom::Integer) => json!(*choices.pick(&[0, 1, 2, -1, 3, 7, 10, 1_000_000_000_000_000_i64])),
            Base::Plain(Atom::Real) => json!(*choices.pick(&[0.0, 0.5, 1.0, -2.25, 3.0, 1e10])),
            Base::Plain(Atom::Boolean) => json!(choices.below(2) == 1),
            Base::Plain(Atom::String) => json!(*choices.pick(&["", "a", "b", "aa", "two words", "\u{e4}", "true"])),
            Base::Plain(Atom::Uuid) => {
                let table = choices.below(self.tables.len());
                json!([
                    "uuid",
                    self.known_uuid(table, choices)
                        .unwrap_or_else(|| "00000000-0000-4000-8000-000000000001".to_owned())
                ])
            }
            Base::Range(low, high) if std::mem::take(&mut scope.fault) => json!(*choices.pick(&[low - 1, high + 1])),
            Base::Range(low, high) => json!(low + choices.below((high - low + 1) as usize) as i64),
            Base::Enum(_) if std::mem::take(&mut scope.fault) => json!("not in the enum"),
            Base::Enum(values) => json!(*choices.pick(values)),
            Base::Reference(table, _) => self.reference(*table, scope, choices),
        }
    }

    /// A row of the table that is there, or comes in the transaction, or not at all.
    ///
    /// A name is used for rows of its own table only: `ovsdb-server` takes a row's own UUID for a reference to itself whatever the table.
    fn reference(&mut self, table: usize, scope: &Scope, choices: &mut Choices<'_>) -> Value {
        let of_table = |number: &usize| scope.tables[*number] == table;
        let all: Vec<usize> = (0..scope.tables.len()).filter(of_table).collect();
        let named: Vec<usize> = scope.named.iter().copied().filter(of_table).collect();
        let candidates = if named.is_empty() || choices.once_in(6) {
            all
        } else {
            named
        };
        let known = self.known_uuid(table, choices);
        match known.filter(|_| choices.below(12) < 11) {
            _ if scope.by_name && !candidates.is_empty() => {
                json!(["named-uuid", format!("n{}", choices.pick(&candidates))])
            }
            Some(uuid) => json!(["uuid", uuid]),
            None => json!(["uuid", "ffffffff-0000-4000-8000-000000000000"]),
        }
    }

    pub(super) fn known_uuid(&self, table: usize, choices: &mut Choices<'_>) -> Option<String> {
        let known: Vec<&String> = self
            .rows
            .iter()
            .filter(|(of, _)| *of == table)
            .map(|(_, uuid)| uuid)
            .collect();
        // Those of long ago are gone, most of them.
        let recent = known.len().saturating_sub(RECENT_ROWS);
        let among = if choices.below(3) > 0 {
            &known[recent..]
        } else {
            &known[..]
        };
        (!among.is_empty()).then(|| (*choices.pick(among)).clone())
    }
}

/// The operations with UUIDs for all but one of the names that no insert has borne before. Such a name stands for a random UUID until its
/// insert comes, if one comes: the results of two servers cannot be told apart where several of them come in different orders.
fn with_one_unknown_name(mut operations: Vec<Value>) -> Vec<Value> {
    let mut known = Vec::new();
    let mut kept = None;
    for operation in &mut operations {
        known.push(operation["uuid-name"].clone());
        replace_unknown_names(operation, &known, &mut kept);
    }
    operations
}

fn replace_unknown_names(value: &mut Value, known: &[Value], kept: &mut Option<Value>) {
    match value {
        Value::Array(items) => {
            if let [tag, name] = items.as_slice()
                && tag == "named-uuid"
                && !known.contains(name)
                && kept.get_or_insert_with(|| name.clone()) != name
            {
                let digit = name.as_str().and_then(|name| name.chars().last()).unwrap_or('0');
                *value = json!(["uuid", format!("eeeeeeee-0000-4000-8000-00000000000{digit}")]);
                return;
            }
            for item in items {
                replace_unknown_names(item, known, kept);
            }
        }
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| replace_unknown_names(member, known, kept)),
        _ => {}
    }
}

/// Operations that name no table.
fn without_table(choices: &mut Choices<'_>) -> Value {
    match choices.below(8) {
        0..=2 => json!({"op": "comment", "comment": "why"}),
        3 | 4 => json!({"op": "commit", "durable": choices.once_in(4)}),
        5 => json!({"op": "assert", "lock": choices.pick(&["nobody", "l0", "l1"])}),
        6 => json!({"op": "nosuch"}),
        _ => json!({"op": "abort"}),
    }
}
