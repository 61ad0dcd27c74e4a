//! Random schemas, transactions and whole sessions for differential tests, made from a sequence of choices.
//!
//! An exhausted sequence chooses 0, and 0 is always the simplest thing. What is known to differ between servers without being wrong is
//! never generated: requests that crash `ovsdb-server`, weak references to rows that can be collected or that are deleted with others,
//! or in a pair with a strong one, or as values of a map, more than one fault in one JSON object (its members are checked in no order),
//! `*=` near the bounds of 64 bits.

mod conversion;
mod monitors;
mod operations;
mod traffic;

use serde_json::{Map, Value, json};

pub use traffic::{Deed, Step, Traffic};

/// The name of every generated database.
pub const DATABASE: &str = "random";

/// Tables of a schema.
const TABLES_MAX: usize = 4;

/// Columns of a table.
const COLUMNS_MAX: usize = 5;

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
    conversions: usize,
    /// Names given in conversions.
    names: usize,
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
            conversions: 0,
            names: 0,
        }
    }

    /// The schema as JSON.
    pub fn schema(&self) -> Value {
        let tables: Map<String, Value> = self
            .tables
            .iter()
            .map(|table| (table.name.clone(), table.schema(self)))
            .collect();
        json!({"name": DATABASE, "version": format!("1.0.{}", self.conversions), "tables": tables})
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
        let rows_max = choices.once_in(8).then(|| 1 + choices.below(8));
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
    /// Whether `<` and the like apply to it: a number, or none or one.
    fn is_ordered(&self) -> bool {
        let is_number = matches!(self.key, Base::Plain(Atom::Integer | Atom::Real) | Base::Range(..));
        is_number && self.value.is_none() && self.max == Some(1)
    }

    fn new(number: usize, roots: &[bool], may_require: &mut bool, choices: &mut Choices<'_>) -> Self {
        let key = Base::new(roots, choices);
        let mut value = choices.once_in(4).then(|| Base::new(roots, choices));
        // Of a pair that goes with its weak key, ovsdb-server goes on counting the strong reference; of two pairs whose weak values go at
        // once, it may keep one.
        match (&key, &mut value) {
            (Base::Reference(_, true), Some(Base::Reference(..))) => value = Some(Base::Plain(Atom::Integer)),
            (_, Some(Base::Reference(_, is_weak))) => *is_weak = false,
            _ => {}
        }
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
        // A default that refers to nothing fails most inserts.
        if refers && choices.below(4) > 0 {
            min = 0;
        }
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
