//! Random schemas and transactions for differential tests, made from a sequence of choices.
//!
//! The choices come from proptest; an exhausted sequence chooses 0, and 0 is always the simplest thing, so that a shorter or smaller
//! sequence is a simpler test. What is known to differ between servers without being wrong is never generated: requests that
//! crash `ovsdb-server`, weak references to rows that can be collected, more than one fault in one JSON object (its members
//! are checked in no order), `*=` near the bounds of 64 bits.

use serde_json::{Map, Value, json};

/// The name of every generated database.
pub const DATABASE: &str = "random";

/// Tables of a schema.
const TABLES_MAX: usize = 4;

/// Columns of a table.
const COLUMNS_MAX: usize = 5;

/// Operations of a transaction.
const OPERATIONS_MAX: usize = 6;

/// Elements of a generated set or map.
const ELEMENTS_MAX: usize = 4;

/// A sequence of choices.
#[derive(Debug)]
pub struct Choices<'a> {
    rest: std::slice::Iter<'a, u32>,
}

/// A generated database: its schema, and the rows whose UUIDs the generator chose.
#[derive(Debug)]
pub struct Model {
    tables: Vec<Table>,
    rows: Vec<(usize, String)>,
}

#[derive(Debug)]
struct Table {
    name: String,
    is_root: bool,
    rows_max: Option<usize>,
    columns: Vec<Column>,
    indexes: Vec<Vec<usize>>,
}

#[derive(Debug)]
struct Column {
    name: String,
    key: Base,
    value: Option<Base>,
    min: usize,
    max: Option<usize>,
    is_ephemeral: bool,
    is_immutable: bool,
}

#[derive(Clone, Debug)]
enum Base {
    Plain(Atom),
    /// Bounds of an integer.
    Range(i64, i64),
    Enum(Vec<&'static str>),
    /// A reference to a table by its number.
    Reference(usize, bool),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Atom {
    Integer,
    String,
    Boolean,
    Real,
    Uuid,
}

/// What a transaction under construction knows.
struct Scope {
    /// The table of each operation, which is that of the row its name stands for.
    tables: Vec<usize>,
    fault: bool,
    /// Tables of a monitor request are checked in no order: nothing in it may be wrong.
    is_monitor: bool,
    /// References of the datum under construction are names.
    by_name: bool,
}

impl<'a> Choices<'a> {
    /// Choices from a sequence.
    pub fn new(choices: &'a [u32]) -> Self {
        Self { rest: choices.iter() }
    }

    /// Whether any choice is left.
    pub fn is_empty(&self) -> bool {
        self.rest.as_slice().is_empty()
    }

    /// A number below `count`, which is not 0.
    fn below(&mut self, count: usize) -> usize {
        self.rest.next().map_or(0, |&choice| choice as usize % count)
    }

    /// True once in `count`.
    fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    fn pick<'b, T>(&mut self, from: &'b [T]) -> &'b T {
        let index = self.below(from.len());
        &from[index]
    }
}

impl Model {
    /// A random schema.
    pub fn new(choices: &mut Choices<'_>) -> Self {
        let count = 1 + choices.below(TABLES_MAX);
        let all_roots = choices.below(3) == 0;
        let roots: Vec<bool> = (0..count)
            .map(|table| all_roots || table == 0 || choices.below(2) == 0)
            .collect();
        let tables = (0..count).map(|number| Table::new(number, &roots, choices)).collect();
        Self {
            tables,
            rows: Vec::new(),
        }
    }

    /// The schema as JSON.
    pub fn schema(&self) -> Value {
        let tables: Map<String, Value> = self
            .tables
            .iter()
            .map(|table| (table.name.clone(), table.schema(self)))
            .collect();
        json!({"name": DATABASE, "version": "1.0.0", "tables": tables})
    }

    /// For each table, a select of all columns but `_version`.
    pub fn selects(&self) -> Vec<Value> {
        self.tables
            .iter()
            .map(|table| {
                let mut columns = vec!["_uuid".to_owned()];
                columns.extend(table.columns.iter().map(|column| column.name.clone()));
                json!({"op": "select", "table": table.name, "where": [], "columns": columns})
            })
            .collect()
    }

    /// Monitor requests for all tables: all columns, then for `monitor_cond` some columns and a condition.
    pub fn monitors(&mut self, choices: &mut Choices<'_>) -> (Value, Value) {
        let (mut plain, mut conditional) = (Map::new(), Map::new());
        for number in 0..self.tables.len() {
            let columns: Vec<String> = self.tables[number]
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect();
            let mut scope = Scope {
                tables: Vec::new(),
                fault: false,
                is_monitor: true,
                by_name: false,
            };
            let clauses: Vec<Value> = (0..choices.below(3))
                .map(|_| self.clause(number, &mut scope, choices))
                .collect();
            let mut some: Vec<&str> = columns
                .iter()
                .map(String::as_str)
                .filter(|_| choices.below(3) < 2)
                .collect();
            // A condition on a column that is not watched makes 3.1 write beyond its memory.
            for column in clauses.iter().filter_map(|clause| clause[0].as_str()) {
                if !some.contains(&column) {
                    some.push(column);
                }
            }
            let name = self.tables[number].name.clone();
            conditional.insert(name.clone(), json!([{"columns": some, "where": clauses}]));
            plain.insert(name, json!({"columns": columns}));
        }
        (Value::Object(plain), Value::Object(conditional))
    }

    /// A random transaction, and whether the rows of its selects are in an order that counts.
    pub fn transaction(&mut self, choices: &mut Choices<'_>) -> Vec<Value> {
        let tables = (0..=choices.below(OPERATIONS_MAX))
            .map(|_| choices.below(self.tables.len()))
            .collect();
        let mut scope = Scope {
            tables,
            fault: false,
            is_monitor: false,
            by_name: false,
        };
        (0..scope.tables.len())
            .map(|number| self.operation(number, &mut scope, choices))
            .collect()
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

    fn clause(&mut self, table: usize, scope: &mut Scope, choices: &mut Choices<'_>) -> Value {
        if choices.once_in(16) {
            return json!(choices.below(2) == 0);
        }
        let functions = ["==", "!=", "includes", "excludes", "<", "<=", ">", ">="];
        if choices.below(3) == 0 {
            let uuid = self
                .known_uuid(table, choices)
                .unwrap_or_else(|| "00000000-0000-4000-8000-000000000000".to_owned());
            return json!(["_uuid", choices.pick(&functions[..4]), ["uuid", uuid]]);
        }
        let number = choices.below(self.tables[table].columns.len());
        let function = match scope {
            Scope { is_monitor: true, .. } => *choices.pick(&functions[..4]),
            Scope { fault: true, .. } if choices.once_in(6) => "=~",
            _ => *choices.pick(&functions),
        };
        json!([
            self.tables[table].columns[number].name,
            function,
            self.datum(table, number, scope, choices)
        ])
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
        scope.by_name = choices.below(2) == 1;
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
        let operations: Vec<usize> = (0..scope.tables.len())
            .filter(|&number| scope.tables[number] == table)
            .collect();
        match self.known_uuid(table, choices) {
            Some(uuid) if !scope.by_name => json!(["uuid", uuid]),
            _ if scope.by_name && !operations.is_empty() && choices.below(12) < 11 => {
                json!(["named-uuid", format!("n{}", choices.pick(&operations))])
            }
            _ => json!(["uuid", "ffffffff-0000-4000-8000-000000000000"]),
        }
    }

    fn known_uuid(&self, table: usize, choices: &mut Choices<'_>) -> Option<String> {
        let known: Vec<&String> = self
            .rows
            .iter()
            .filter(|(of, _)| *of == table)
            .map(|(_, uuid)| uuid)
            .collect();
        (!known.is_empty()).then(|| (*choices.pick(&known)).clone())
    }
}

/// Operations that name no table.
fn without_table(choices: &mut Choices<'_>) -> Value {
    match choices.below(8) {
        0..=2 => json!({"op": "comment", "comment": "why"}),
        3 | 4 => json!({"op": "commit", "durable": false}),
        5 => json!({"op": "assert", "lock": "nobody"}),
        6 => json!({"op": "nosuch"}),
        _ => json!({"op": "abort"}),
    }
}

impl Table {
    fn new(number: usize, roots: &[bool], choices: &mut Choices<'_>) -> Self {
        // One column at most whose default breaks its constraint: such columns are checked in no order.
        let mut may_require = true;
        let columns: Vec<Column> = (0..=choices.below(COLUMNS_MAX))
            .map(|column| Column::new(column, roots, &mut may_require, choices))
            .collect();
        let plain: Vec<usize> = (0..columns.len())
            .filter(|&column| !columns[column].is_ephemeral)
            .collect();
        let mut indexes = Vec::new();
        if !plain.is_empty() && choices.once_in(3) {
            let first = *choices.pick(&plain);
            let second = *choices.pick(&plain);
            indexes.push(if first == second {
                vec![first]
            } else {
                vec![first, second]
            });
        }
        let rows_max = choices.once_in(5).then(|| 1 + choices.below(4));
        Self {
            name: format!("t{number}"),
            is_root: roots[number],
            rows_max,
            columns,
            indexes,
        }
    }

    fn schema(&self, model: &Model) -> Value {
        let columns: Map<String, Value> = self
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.schema(model)))
            .collect();
        let mut schema = json!({"columns": columns, "isRoot": self.is_root});
        if let Some(rows) = self.rows_max {
            schema["maxRows"] = json!(rows);
        }
        let indexes: Vec<Vec<&str>> = self
            .indexes
            .iter()
            .map(|index| index.iter().map(|&column| self.columns[column].name.as_str()).collect())
            .collect();
        schema["indexes"] = json!(indexes);
        schema
    }
}

impl Column {
    fn new(number: usize, roots: &[bool], may_require: &mut bool, choices: &mut Choices<'_>) -> Self {
        let key = Base::new(roots, choices);
        let value = choices.once_in(4).then(|| Base::new(roots, choices));
        let (mut min, max) = *choices.pick(&[
            (1, Some(1)),
            (0, Some(1)),
            (0, None),
            (1, None),
            (0, Some(2)),
            (1, Some(2)),
        ]);
        let is_required = [Some(&key), value.as_ref()]
            .into_iter()
            .flatten()
            .any(Base::refuses_default);
        if min == 1 && is_required && !std::mem::take(may_require) {
            min = 0;
        }
        let refers = [Some(&key), value.as_ref()]
            .into_iter()
            .flatten()
            .any(|base| matches!(base, Base::Reference(..)));
        Self {
            name: format!("c{number}"),
            key,
            value,
            min,
            max,
            is_ephemeral: !refers && choices.once_in(8),
            is_immutable: !refers && choices.once_in(8),
        }
    }

    fn schema(&self, model: &Model) -> Value {
        let max = self.max.map_or(json!("unlimited"), |max| json!(max));
        let mut kind = json!({"key": self.key.schema(model), "min": self.min, "max": max});
        if let Some(value) = &self.value {
            kind["value"] = value.schema(model);
        }
        json!({"type": kind, "ephemeral": self.is_ephemeral, "mutable": !self.is_immutable})
    }
}

impl Base {
    fn new(roots: &[bool], choices: &mut Choices<'_>) -> Self {
        match choices.below(12) {
            0 | 1 => Self::Plain(Atom::Integer),
            2 | 3 => Self::Plain(Atom::String),
            4 => Self::Plain(Atom::Boolean),
            5 => Self::Plain(Atom::Real),
            6 => Self::Plain(Atom::Uuid),
            7 => {
                let (low, high) = *choices.pick(&[(0, 5), (-3, 3), (1, 4)]);
                Self::Range(low, high)
            }
            8 => Self::Enum(vec!["a", "two words", "", "z"][choices.below(2)..].to_vec()),
            _ => {
                let table = choices.below(roots.len());
                // A row that may be collected is not referred to weakly: ovsdb-server may leave the reference dangling.
                Self::Reference(table, roots[table] && choices.below(2) == 1)
            }
        }
    }

    /// Whether the type's default atom breaks the constraint.
    fn refuses_default(&self) -> bool {
        match self {
            Self::Range(low, high) => *low > 0 || *high < 0,
            Self::Enum(values) => !values.contains(&""),
            Self::Plain(_) | Self::Reference(..) => false,
        }
    }

    fn schema(&self, model: &Model) -> Value {
        match self {
            Self::Plain(Atom::Integer) => json!("integer"),
            Self::Plain(Atom::Real) => json!("real"),
            Self::Plain(Atom::Boolean) => json!("boolean"),
            Self::Plain(Atom::String) => json!("string"),
            Self::Plain(Atom::Uuid) => json!("uuid"),
            Self::Range(low, high) => json!({"type": "integer", "minInteger": low, "maxInteger": high}),
            Self::Enum(values) => json!({"type": "string", "enum": ["set", values]}),
            Self::Reference(table, is_weak) => {
                let kind = if *is_weak { "weak" } else { "strong" };
                json!({"type": "uuid", "refTable": model.tables[*table].name, "refType": kind})
            }
        }
    }
}
