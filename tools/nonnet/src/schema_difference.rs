//! What tells two schemas apart, as a conversion from one to the other feels it.

use std::collections::BTreeSet;

use nonnet_schema::{
    AtomicType, BaseType, ColumnSchema, ColumnType, Constraint, DatabaseSchema, Strength, TableSchema,
};

/// What a difference does to what a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Data go.
    Drop,
    /// Something comes, empty.
    Add,
    /// Data that were fine may not fit, so that the conversion is refused, or go.
    Tighten,
    /// More is allowed; nothing happens to data.
    Loosen,
}

impl Effect {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Add => "add",
            Self::Tighten => "tighten",
            Self::Loosen => "loosen",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) effect: Effect,
    pub(crate) table: Option<String>,
    pub(crate) column: Option<String>,
    pub(crate) what: String,
}

/// Every difference, by table and column.
pub(crate) fn differences(old: &DatabaseSchema, new: &DatabaseSchema) -> Vec<Difference> {
    let mut found = Found::default();
    if old.name != new.name {
        found.add(
            Effect::Tighten,
            None,
            None,
            format!("another name: {} -> {}", old.name, new.name),
        );
    }
    if old.version != new.version {
        found.add(
            Effect::Loosen,
            None,
            None,
            format!("version {} -> {}", old.version, new.version),
        );
    }
    let tables = |schema: &DatabaseSchema| schema.tables().iter().map(|table| table.name.clone()).collect();
    let mut names: BTreeSet<_> = tables(old);
    names.extend::<BTreeSet<_>>(tables(new));
    for name in names {
        let table = |schema: &'_ DatabaseSchema| schema.table_index(&name).map(|at| schema.table(at).clone());
        match (table(old), table(new)) {
            (Some(old), Some(new)) => found.tables(&old, &new),
            (Some(_), None) => found.add(Effect::Drop, Some(&name), None, "the table and its rows go".into()),
            (None, _) => found.add(Effect::Add, Some(&name), None, "a new table".into()),
        }
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn add(&mut self, effect: Effect, table: Option<&str>, column: Option<&str>, what: String) {
        self.0.push(Difference {
            effect,
            table: table.map(str::to_owned),
            column: column.map(str::to_owned),
            what,
        });
    }

    fn tables(&mut self, old: &TableSchema, new: &TableSchema) {
        let name = Some(new.name.as_str());
        match (old.is_root, new.is_root) {
            (true, false) => self.add(Effect::Tighten, name, None, "rows that nothing refers to go".into()),
            (false, true) => self.add(
                Effect::Loosen,
                name,
                None,
                "rows stay without references to them".into(),
            ),
            _ => {}
        }
        if old.max_rows != new.max_rows {
            let effect = if new.max_rows < old.max_rows {
                Effect::Tighten
            } else {
                Effect::Loosen
            };
            let rows = |max: u32| {
                if max == u32::MAX {
                    "any number of".to_owned()
                } else {
                    max.to_string()
                }
            };
            let what = format!("{} rows -> {} rows at most", rows(old.max_rows), rows(new.max_rows));
            self.add(effect, name, None, what);
        }
        let (old_indexes, new_indexes) = (indexes(old), indexes(new));
        for index in new_indexes.difference(&old_indexes) {
            self.add(Effect::Tighten, name, None, format!("unique together: {index}"));
        }
        for index in old_indexes.difference(&new_indexes) {
            self.add(
                Effect::Loosen,
                name,
                None,
                format!("no longer unique together: {index}"),
            );
        }
        for (_, column) in old.declared_columns() {
            match new.column_index(&column.name) {
                Some(at) => self.columns(&new.name, column, new.column(at)),
                None => self.add(
                    Effect::Drop,
                    name,
                    Some(&column.name),
                    "the column and its data go".into(),
                ),
            }
        }
        for (_, column) in new
            .declared_columns()
            .filter(|(_, column)| old.column_index(&column.name).is_none())
        {
            let type_ = column.type_.to_english();
            self.add(Effect::Add, name, Some(&column.name), format!("a new column: {type_}"));
        }
    }

    fn columns(&mut self, table: &str, old: &ColumnSchema, new: &ColumnSchema) {
        let (table, column) = (Some(table), Some(new.name.as_str()));
        match (old.persistent, new.persistent) {
            (true, false) => self.add(
                Effect::Tighten,
                table,
                column,
                "no longer stored: empty after a restart".into(),
            ),
            (false, true) => self.add(Effect::Loosen, table, column, "stored from now on".into()),
            _ => {}
        }
        match (old.mutable, new.mutable) {
            (true, false) => self.add(Effect::Tighten, table, column, "set by inserts only".into()),
            (false, true) => self.add(Effect::Loosen, table, column, "may be changed".into()),
            _ => {}
        }
        for (effect, what) in type_changes(&old.type_, &new.type_) {
            self.add(effect, table, column, what);
        }
    }
}

/// The sets of columns that are unique together; their order does not count.
fn indexes(table: &TableSchema) -> BTreeSet<String> {
    let names = |index: &Vec<nonnet_schema::ColumnIndex>| {
        let mut names: Vec<&str> = index.iter().map(|at| table.column(*at).name.as_str()).collect();
        names.sort_unstable();
        names.join(", ")
    };
    table.indexes.iter().map(names).collect()
}

fn type_changes(old: &ColumnType, new: &ColumnType) -> Vec<(Effect, String)> {
    let mut changes = Vec::new();
    if old.is_map() != new.is_map() {
        changes.push((
            Effect::Tighten,
            format!("{} -> {}: nothing fits", old.to_english(), new.to_english()),
        ));
        return changes;
    }
    if (old.min, old.max) != (new.min, new.max) {
        let fits = new.min <= old.min && new.max >= old.max;
        let effect = if fits { Effect::Loosen } else { Effect::Tighten };
        changes.push((effect, format!("{} -> {}", old.to_english(), new.to_english())));
    }
    let bases = [
        ("key", Some(&old.key), Some(&new.key)),
        ("value", old.value.as_ref(), new.value.as_ref()),
    ];
    for (role, old, new) in bases {
        if let (Some(old), Some(new)) = (old, new)
            && old != new
        {
            let effect = if admits(new, old) {
                Effect::Loosen
            } else {
                Effect::Tighten
            };
            changes.push((effect, format!("{role} {} -> {}", old.to_json(), new.to_json())));
        }
    }
    changes
}

/// Whether everything of type `old` is of type `new`, too. References are taken to hold.
fn admits(new: &BaseType, old: &BaseType) -> bool {
    if new.kind != old.kind {
        return new.kind == AtomicType::Real && old.kind == AtomicType::Integer && new.constraint == Constraint::None;
    }
    match (&old.constraint, &new.constraint) {
        (_, Constraint::None) => true,
        (Constraint::Enum(old), Constraint::Enum(new)) => old.keys().all(|key| new.contains_key(key)),
        (Constraint::Enum(old), _) => old.keys().all(|key| new.check(key).is_ok()),
        (
            Constraint::Integer { min, max },
            Constraint::Integer {
                min: new_min,
                max: new_max,
            },
        ) => new_min <= min && new_max >= max,
        (
            Constraint::Real { min, max },
            Constraint::Real {
                min: new_min,
                max: new_max,
            },
        ) => {
            new_min.is_none_or(|new| min.is_some_and(|old| new <= old))
                && new_max.is_none_or(|new| max.is_some_and(|old| new >= old))
        }
        (
            Constraint::Length { min, max },
            Constraint::Length {
                min: new_min,
                max: new_max,
            },
        ) => new_min <= min && new_max >= max,
        (
            Constraint::Reference { table, strength },
            Constraint::Reference {
                table: new_table,
                strength: new,
            },
        ) => table == new_table && (strength == new || *strength == Strength::Strong),
        _ => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn schema(tables: &str) -> DatabaseSchema {
        DatabaseSchema::from_text(&format!("{{\"name\":\"d\",\"tables\":{tables}}}")).unwrap()
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: &[(Effect, &str)]) {
        let column = |type_: &str| schema(&format!("{{\"t\":{{\"columns\":{{\"c\":{{\"type\":{type_}}}}}}}}}"));
        let found = differences(&column(old), &column(new));
        let found: Vec<(Effect, &str)> = found.iter().map(|it| (it.effect, it.what.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn types_tighten_or_loosen() {
        let (integer, optional) = ("\"integer\"", "{\"key\":\"integer\",\"min\":0}");
        check(integer, integer, &[]);
        check(integer, "\"real\"", &[(Effect::Loosen, "key \"integer\" -> \"real\"")]);
        check("\"real\"", integer, &[(Effect::Tighten, "key \"real\" -> \"integer\"")]);
        check(
            integer,
            optional,
            &[(Effect::Loosen, "integer -> set of up to 1 integers")],
        );
        check(
            optional,
            integer,
            &[(Effect::Tighten, "set of up to 1 integers -> integer")],
        );
        let bounded = "{\"key\":{\"type\":\"integer\",\"minInteger\":1}}";
        assert_eq!(differences_of(integer, bounded), [Effect::Tighten]);
        assert_eq!(differences_of(bounded, integer), [Effect::Loosen]);
        let (few, many) = (
            "{\"key\":{\"type\":\"string\",\"enum\":[\"set\",[\"a\",\"b\"]]}}",
            "{\"key\":{\"type\":\"string\",\"enum\":[\"set\",[\"a\",\"b\",\"c\"]]}}",
        );
        assert_eq!(differences_of(few, many), [Effect::Loosen]);
        assert_eq!(differences_of(many, few), [Effect::Tighten]);
    }

    fn differences_of(old: &str, new: &str) -> Vec<Effect> {
        let column = |type_: &str| schema(&format!("{{\"t\":{{\"columns\":{{\"c\":{{\"type\":{type_}}}}}}}}}"));
        differences(&column(old), &column(new))
            .into_iter()
            .map(|it| it.effect)
            .collect()
    }

    #[test]
    fn tables_and_columns_come_and_go() {
        let old = schema(
            r#"{"a":{"columns":{"x":{"type":"string"},"y":{"type":"string"}}},"b":{"columns":{"x":{"type":"string"}}}}"#,
        );
        let new = schema(
            r#"{"a":{"columns":{"x":{"type":"string","ephemeral":true},"z":{"type":"string"}},"maxRows":1},
                "c":{"columns":{"x":{"type":"string"}}}}"#,
        );
        let found = differences(&old, &new);
        let found: Vec<_> = found
            .iter()
            .map(|it| (it.effect.name(), it.table.as_deref().unwrap(), it.column.as_deref()))
            .collect();
        assert_eq!(
            found,
            [
                ("tighten", "a", None),
                ("tighten", "a", Some("x")),
                ("drop", "a", Some("y")),
                ("add", "a", Some("z")),
                ("drop", "b", None),
                ("add", "c", None),
            ]
        );
        assert_eq!(differences(&old, &old), []);
    }
}
