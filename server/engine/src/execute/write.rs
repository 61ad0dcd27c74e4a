//! `insert`, `update`, `mutate`, `delete` (RFC 7047 5.2.1, 5.2.3 to 5.2.5).

use nonnet_schema::{
    Atom, ColumnIndex, Condition, Datum, ErrorKind, Mutation, NamedUuids, OvsdbError, TableIndex, TableSchema,
    parse_uuid, row_members,
};
use serde_json::Value;

use super::{OperationResult, Run, count_of};
use crate::row::Row;

impl Run<'_> {
    pub(super) fn insert(
        &mut self,
        table: TableIndex,
        uuid_name: Option<&str>,
        uuid: Option<&Value>,
        row: &Value,
    ) -> Result<OperationResult, OvsdbError> {
        let schema = self.transaction.schema().table(table);
        let mut chosen = None;
        if let Some(json) = uuid {
            let text = json.as_str().unwrap_or_default();
            let parsed = parse_uuid(text).ok_or_else(|| OvsdbError::in_json(ErrorKind::BadUuid, json))?;
            if !self.transaction.may_create(table, parsed) {
                return Err(OvsdbError::in_json(
                    ErrorKind::DuplicateUuid {
                        table: schema.name.clone(),
                    },
                    json,
                ));
            }
            chosen = Some(parsed);
        }
        let uuid = match (uuid_name, chosen) {
            (Some(name), chosen) => self
                .transaction
                .name_row(name, chosen)
                .map_err(|_| OvsdbError::in_json(ErrorKind::DuplicateUuidName, &Value::from(name)))?,
            (None, Some(chosen)) => chosen,
            (None, None) => self.transaction.new_uuid(),
        };
        let mut fields = schema.default_fields();
        for (column, datum) in parse_row(row, schema, &mut self.transaction)? {
            fields[column.0] = datum;
        }
        for (column, column_schema) in schema.declared_columns() {
            // One element may be a default, which is not exempt; more were checked when they were parsed.
            if fields[column.0].len() == 1 {
                fields[column.0].check(&column_schema.type_)?;
            }
        }
        self.context.access.check_insert(&self.transaction, table, &fields)?;
        self.transaction.insert(table, uuid, fields);
        let mut text = String::from("{\"uuid\":");
        Atom::Uuid(uuid).write_json(&mut text);
        text.push('}');
        Ok(OperationResult::Text(text))
    }

    pub(super) fn update(
        &mut self,
        json: &Value,
        table: TableIndex,
        condition: &Value,
        row: &Value,
    ) -> Result<OperationResult, OvsdbError> {
        let schema = self.transaction.schema().table(table);
        let values = parse_row(row, schema, &mut self.transaction)?;
        if let Some(column) = values
            .iter()
            .map(|(column, _)| schema.column(*column))
            .find(|column| !column.mutable)
        {
            let kind = ErrorKind::ImmutableUpdate {
                column: column.name.clone(),
                table: schema.name.clone(),
            };
            return Err(OvsdbError::in_json(kind, json));
        }
        let condition = Condition::parse(condition, schema, Some(&mut self.transaction))?;
        let rows = self.matching(table, &condition, values.len())?;
        let columns = values.iter().map(|(column, _)| *column);
        let access = &self.context.access;
        access.check_change(&self.transaction, table, &rows, &columns, "modification of")?;
        for row in &rows {
            let mut updated = Row::clone(row);
            for (column, datum) in &values {
                updated.set(*column, datum.clone());
            }
            self.transaction.replace(table, updated);
        }
        Ok(count_of(rows.len()))
    }

    pub(super) fn mutate(
        &mut self,
        table: TableIndex,
        condition: &Value,
        mutations: &[Value],
    ) -> Result<OperationResult, OvsdbError> {
        let schema = self.transaction.schema().table(table);
        let mut parsed = Vec::with_capacity(mutations.len());
        for json in mutations {
            parsed.push(Mutation::parse(json, schema, Some(&mut self.transaction))?);
        }
        let condition = Condition::parse(condition, schema, Some(&mut self.transaction))?;
        let elements = parsed.iter().map(|mutation| mutation.argument.len().max(1)).sum();
        let rows = self.matching(table, &condition, elements)?;
        let columns = parsed.iter().map(|mutation| mutation.column);
        let access = &self.context.access;
        access.check_change(&self.transaction, table, &rows, &columns, "mutate operation on")?;
        for row in &rows {
            let mut mutated = Row::clone(row);
            for mutation in &parsed {
                let datum = mutation.apply(mutated.get(mutation.column), &schema.column(mutation.column).type_)?;
                mutated.set(mutation.column, datum);
            }
            self.transaction.replace(table, mutated);
        }
        Ok(count_of(rows.len()))
    }

    pub(super) fn delete(&mut self, table: TableIndex, condition: &Value) -> Result<OperationResult, OvsdbError> {
        let schema = self.transaction.schema().table(table);
        let condition = Condition::parse(condition, schema, Some(&mut self.transaction))?;
        let rows = self.matching(table, &condition, 1)?;
        self.context.access.check_delete(&self.transaction, table, &rows)?;
        for row in &rows {
            self.transaction.delete(table, row.uuid());
        }
        Ok(count_of(rows.len()))
    }
}

/// Parses the members of a row (RFC 7047 5.1, `<row>`).
pub(super) fn parse_row(
    json: &Value,
    schema: &TableSchema,
    names: &mut dyn NamedUuids,
) -> Result<Vec<(ColumnIndex, Datum)>, OvsdbError> {
    if !json.is_object() {
        return Err(OvsdbError::in_json(ErrorKind::RowNotObject, json));
    }
    let mut values = Vec::new();
    for (name, value) in row_members(json) {
        let column = schema.column_named(name, json)?;
        values.push((column, Datum::parse(value, &schema.column(column).type_, Some(names))?));
    }
    Ok(values)
}
