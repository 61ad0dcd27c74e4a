//! `select` and `wait` (RFC 7047 5.2.2 and 5.2.6).

use std::collections::BTreeSet;
use std::sync::Arc;

use ecow::EcoString;
use nonnet_schema::{
    ColumnIndex, Condition, Datum, ErrorKind, Operation, OvsdbError, TableIndex, TableSchema, UUID_COLUMN, json,
};
use serde_json::Value;

use super::write::parse_row;
use super::{OperationResult, Run, Stop, empty_object};
use crate::limits::SELECTED_BYTES_MAX;
use crate::row::Row;

/// The rows and columns that a `select` found.
#[derive(Clone, Debug)]
pub struct SelectedRows {
    columns: Vec<(ColumnIndex, EcoString)>,
    rows: Vec<Arc<Row>>,
}

impl SelectedRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Appends `{"rows":[...]}`.
    pub fn write_json(&self, out: &mut String) {
        out.push_str("{\"rows\":");
        json::write_sequence(self.rows.iter(), out, |row, out| {
            out.push('{');
            for (i, (column, name)) in self.columns.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                json::write_string(name, out);
                out.push(':');
                row.get(*column).write_json(out);
            }
            out.push('}');
        });
        out.push('}');
    }
}

impl Run<'_> {
    pub(super) fn select(
        &mut self,
        table: TableIndex,
        condition: &Value,
        columns: Option<&Value>,
        sort: Option<&Value>,
    ) -> Result<OperationResult, OvsdbError> {
        let schema = self.transaction.schema().table(table);
        let condition = Condition::parse(condition, schema, Some(&mut self.transaction))?;
        let columns = parse_columns(columns, schema)?;
        let sort = sort.map_or(Ok(Vec::new()), |sort| schema.parse_columns(sort))?;
        let mut rows = self.matching(table, &condition, columns.len() + sort.len())?;
        let weight = |row: &Arc<Row>| -> usize { columns.iter().map(|column| row.get(*column).weight_bytes()).sum() };
        self.selected_bytes = rows.iter().map(weight).fold(self.selected_bytes, usize::saturating_add);
        if self.selected_bytes > SELECTED_BYTES_MAX {
            let text =
                format!("the transaction selects more than {SELECTED_BYTES_MAX} bytes of rows up to this operation");
            return Err(ErrorKind::ResourcesExhausted(text).into());
        }
        if !columns.contains(&UUID_COLUMN) {
            let mut seen = BTreeSet::new();
            rows.retain(|row| seen.insert(projection(row, &columns)));
        }
        if !sort.is_empty() {
            rows.sort_by(|a, b| {
                sort.iter()
                    .map(|column| a.get(*column))
                    .cmp(sort.iter().map(|column| b.get(*column)))
            });
        }
        let columns = columns
            .into_iter()
            .map(|column| (column, schema.column(column).name.clone()))
            .collect();
        Ok(OperationResult::Rows(SelectedRows { columns, rows }))
    }

    pub(super) fn wait(&mut self, operation: Operation<'_>) -> Result<OperationResult, Stop> {
        let Operation::Wait {
            timeout,
            table,
            condition,
            columns,
            until,
            rows,
        } = operation
        else {
            return Err(ErrorKind::Internal(format!("{}:{}: not a wait", file!(), line!())).into());
        };
        let schema = self.transaction.schema().table(table);
        let condition = Condition::parse(condition, schema, Some(&mut self.transaction))?;
        let columns = parse_columns(columns, schema)?;
        let timeout_ms = timeout.map(parse_timeout).transpose()?;
        let wants_equal = match until.as_str() {
            Some("==") => true,
            Some("!=") => false,
            _ => return Err(OvsdbError::in_json(ErrorKind::BadUntil, until).into()),
        };
        let mut expected = BTreeSet::new();
        for json in rows {
            let mut fields = schema.default_fields();
            for (column, datum) in parse_row(json, schema, &mut self.transaction)? {
                fields[column.0] = datum;
            }
            expected.insert(
                columns
                    .iter()
                    .map(|column| fields[column.0].clone())
                    .collect::<Vec<_>>(),
            );
        }
        let found = self.matching(table, &condition, columns.len())?;
        let found: BTreeSet<_> = found.iter().map(|row| projection(row, &columns)).collect();
        if (found == expected) == wants_equal {
            return Ok(empty_object());
        }
        let elapsed_ms = self.context.elapsed_ms;
        match timeout_ms {
            Some(timeout_ms) if elapsed_ms >= timeout_ms => Err(ErrorKind::TimedOut(elapsed_ms).into()),
            _ => Err(Stop::Blocked { timeout_ms }),
        }
    }
}

fn projection(row: &Row, columns: &[ColumnIndex]) -> Vec<Datum> {
    columns.iter().map(|column| row.get(*column).clone()).collect()
}

/// The columns named, or all of them.
fn parse_columns(json: Option<&Value>, schema: &TableSchema) -> Result<Vec<ColumnIndex>, OvsdbError> {
    match json {
        Some(json) => schema.parse_columns(json),
        None => Ok((0..schema.columns().len()).map(ColumnIndex).collect()),
    }
}

/// Milliseconds.
fn parse_timeout(json: &Value) -> Result<u64, OvsdbError> {
    let timeout = json::as_integer(json).and_then(|timeout| u64::try_from(timeout).ok());
    timeout.ok_or_else(|| OvsdbError::in_json(ErrorKind::NegativeTimeout, json))
}
