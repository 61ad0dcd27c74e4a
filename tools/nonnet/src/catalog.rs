//! What the schema tells about tables: by which column people name a row, and which rows hang on others.

use nonnet_schema::{AtomicType, ColumnSchema, Constraint, DatabaseSchema, TableSchema};

/// The table of that name.
pub(crate) fn table<'a>(schema: &'a DatabaseSchema, name: &str) -> Option<&'a TableSchema> {
    schema.table_index(name).map(|index| schema.table(index))
}

/// The table of that name, or an error that says which there are.
pub(crate) fn known_table<'a>(schema: &'a DatabaseSchema, name: &str) -> anyhow::Result<&'a TableSchema> {
    table(schema, name).ok_or_else(|| {
        let known: Vec<&str> = schema.tables().iter().map(|table| table.name.as_str()).collect();
        anyhow::anyhow!(
            "the database {} has no table \"{name}\"; it has {}",
            schema.name,
            known.join(", ")
        )
    })
}

/// The column of that name, or an error that says which there are.
pub(crate) fn known_column<'a>(table: &'a TableSchema, name: &str) -> anyhow::Result<&'a ColumnSchema> {
    table
        .column_index(name)
        .map(|index| table.column(index))
        .ok_or_else(|| {
            let known: Vec<&str> = table
                .declared_columns()
                .map(|(_, column)| column.name.as_str())
                .collect();
            anyhow::anyhow!(
                "the table {} has no column \"{name}\"; it has {}",
                table.name,
                known.join(", ")
            )
        })
}

/// The column by which people name a row: text, alone in an index.
pub(crate) fn key_column(table: &TableSchema) -> Option<&ColumnSchema> {
    table.indexes.iter().find_map(|index| match index.as_slice() {
        [only] => Some(table.column(*only)).filter(|column| {
            column.type_.key.kind == AtomicType::String && column.type_.max == 1 && column.type_.value.is_none()
        }),
        _ => None,
    })
}

/// Whether a file can describe rows of the table: they live by themselves and have names.
pub(crate) fn is_describable(table: &TableSchema) -> bool {
    table.is_root && key_column(table).is_some()
}

/// The table that a column refers to.
pub(crate) fn target<'a>(schema: &'a DatabaseSchema, column: &ColumnSchema) -> Option<&'a TableSchema> {
    match &column.type_.key.constraint {
        Constraint::Reference { table: name, .. } => table(schema, name),
        _ => None,
    }
}

/// The tables given and all that they refer to, at any distance, sorted by name.
pub(crate) fn closure<'a>(schema: &DatabaseSchema, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open: Vec<String> = names.into_iter().map(str::to_owned).collect();
    while let Some(name) = open.pop() {
        if found.contains(&name) {
            continue;
        }
        let columns = table(schema, &name).into_iter().flat_map(TableSchema::declared_columns);
        open.extend(columns.filter_map(|(_, column)| Some(target(schema, column)?.name.to_string())));
        found.push(name);
    }
    found.sort();
    found
}

/// The describable tables, those referred to before those that refer.
pub(crate) fn describable(schema: &DatabaseSchema) -> Vec<&str> {
    let mut ordered: Vec<&str> = Vec::new();
    let mut rest: Vec<&TableSchema> = schema.tables().iter().filter(|table| is_describable(table)).collect();
    while !rest.is_empty() {
        let waits_for = |table: &TableSchema| {
            let targets = table
                .declared_columns()
                .filter_map(|(_, column)| target(schema, column));
            targets
                .filter(|target| rest.iter().any(|other| other.name == target.name) && target.name != table.name)
                .count()
        };
        // In a cycle of references any of its tables may be the first.
        let Some(next) = rest.iter().position(|table| waits_for(table) == 0).or(Some(0)) else {
            break;
        };
        ordered.push(&rest.remove(next).name);
    }
    ordered
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use nonnet_schema::NONNET_SCHEMA;

    use super::*;

    #[test]
    fn tables_come_in_the_order_of_their_references() {
        let schema = DatabaseSchema::from_text(NONNET_SCHEMA).unwrap();
        let ordered = describable(&schema);
        let at = |name: &str| ordered.iter().position(|table| *table == name).unwrap();
        assert!(at("bridges") < at("networks") && at("networks") < at("ports") && at("lxc") < at("ports"));
        assert!(!ordered.contains(&"routes") && !ordered.contains(&"host"));
    }

    #[test]
    fn rows_are_named_by_the_text_in_their_index() {
        let schema = DatabaseSchema::from_text(NONNET_SCHEMA).unwrap();
        assert_eq!(key_column(table(&schema, "lxc").unwrap()).unwrap().name, "id");
        assert_eq!(key_column(table(&schema, "ports").unwrap()).unwrap().name, "name");
        assert!(key_column(table(&schema, "host").unwrap()).is_none());
    }
}
