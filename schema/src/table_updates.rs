//! `<table-updates>` (RFC 7047 4.1.6) and `<table-updates2>` (ovsdb-server(7) 4.1.14) as their receiver reads them.

use serde_json::{Map, Value};

use crate::atom::parse_uuid;
use crate::datum::Datum;
use crate::error::OvsdbError;
use crate::schema::{ColumnIndex, DatabaseSchema, TableIndex, TableSchema};
use crate::types::UNLIMITED;
use uuid::Uuid;

/// What a server tells of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowUpdate {
    /// The row's table.
    pub table: TableIndex,
    /// The row.
    pub uuid: Uuid,
    /// What became of it.
    pub news: RowNews,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowNews {
    /// It is like this: the columns that are not given have their defaults.
    Whole(Vec<(ColumnIndex, Datum)>),
    /// These columns differ from what was told before, by differences as [`Datum::with_diff`] takes them.
    Difference(Vec<(ColumnIndex, Datum)>),
    /// It is gone.
    Gone,
}

/// Why an update is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableUpdatesError {
    /// It is no object of objects.
    #[error("an update is no object of tables, rows and changes")]
    Shape,
    /// The schema has no such table.
    #[error("an update is of table {0}, which the schema does not have")]
    Table(String),
    /// A row's name is no UUID.
    #[error("an update of table {0} names a row {1}, which is no UUID")]
    Row(String, String),
    /// The schema has no such column.
    #[error("an update of table {0} has a column {1}, which the schema does not have")]
    Column(String, String),
    /// A datum does not have its column's type.
    #[error("an update of table {table}, column {column}: {cause}")]
    Datum {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What is wrong.
        cause: OvsdbError,
    },
}

impl RowUpdate {
    /// Reads all rows of an update: of `update` where `whole` rows are told, else of `update2` or `update3`.
    ///
    /// # Errors
    /// [`TableUpdatesError`].
    pub fn parse_all(json: &Value, schema: &DatabaseSchema, whole: bool) -> Result<Vec<Self>, TableUpdatesError> {
        let mut updates = Vec::new();
        for (name, rows) in json.as_object().ok_or(TableUpdatesError::Shape)? {
            let at = schema
                .table_index(name)
                .ok_or_else(|| TableUpdatesError::Table(name.clone()))?;
            let table = schema.table(at);
            for (row, change) in rows.as_object().ok_or(TableUpdatesError::Shape)? {
                let uuid = parse_uuid(row).ok_or_else(|| TableUpdatesError::Row(name.clone(), row.clone()))?;
                let change = change.as_object().ok_or(TableUpdatesError::Shape)?;
                let news = if whole {
                    whole_news(change, table)
                } else {
                    difference_news(change, table)
                }?;
                updates.push(Self { table: at, uuid, news });
            }
        }
        Ok(updates)
    }
}

/// `{"old":..., "new":...}`; without `new` the row is gone.
fn whole_news(change: &Map<String, Value>, table: &TableSchema) -> Result<RowNews, TableUpdatesError> {
    match change.get("new") {
        Some(Value::Object(new)) => Ok(RowNews::Whole(columns(new, table)?)),
        None if change.contains_key("old") => Ok(RowNews::Gone),
        _ => Err(TableUpdatesError::Shape),
    }
}

/// One of `initial`, `insert`, `modify`, `delete`.
fn difference_news(change: &Map<String, Value>, table: &TableSchema) -> Result<RowNews, TableUpdatesError> {
    if let Some(Value::Object(row)) = change.get("initial").or_else(|| change.get("insert")) {
        Ok(RowNews::Whole(columns(row, table)?))
    } else if let Some(Value::Object(row)) = change.get("modify") {
        Ok(RowNews::Difference(columns(row, table)?))
    } else if change.contains_key("delete") {
        Ok(RowNews::Gone)
    } else {
        Err(TableUpdatesError::Shape)
    }
}

fn columns(row: &Map<String, Value>, table: &TableSchema) -> Result<Vec<(ColumnIndex, Datum)>, TableUpdatesError> {
    let parse = |(name, json): (&String, &Value)| {
        let at = table
            .column_index(name)
            .ok_or_else(|| TableUpdatesError::Column(table.name.to_string(), name.clone()))?;
        // A difference may have fewer or more elements than the column.
        let type_ = table.column(at).type_.resized(0, UNLIMITED);
        let datum = Datum::parse(json, &type_, None).map_err(|cause| TableUpdatesError::Datum {
            table: table.name.to_string(),
            column: name.clone(),
            cause,
        })?;
        Ok((at, datum))
    };
    row.iter().map(parse).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    const ROW: &str = "00000000-0000-4000-8000-000000000001";

    fn schema() -> DatabaseSchema {
        let text = r#"{"name": "db", "tables": {"t": {"columns": {"n": {"type": "integer"},
            "set": {"type": {"key": "integer", "min": 0, "max": 2}}}}}}"#;
        DatabaseSchema::from_text(text).unwrap()
    }

    fn parse(change: &str, whole: bool) -> Result<RowNews, TableUpdatesError> {
        let json = serde_json::from_str(&format!(r#"{{"t": {{"{ROW}": {change}}}}}"#)).unwrap();
        RowUpdate::parse_all(&json, &schema(), whole).map(|mut all| all.remove(0).news)
    }

    fn n(value: i64) -> Vec<(ColumnIndex, Datum)> {
        vec![(schema().tables()[0].column_index("n").unwrap(), Datum::scalar(value))]
    }

    #[test]
    fn each_notation_tells_rows_that_come_change_and_go() {
        assert_eq!(parse(r#"{"new": {"n": 1}}"#, true), Ok(RowNews::Whole(n(1))));
        assert_eq!(
            parse(r#"{"old": {"n": 1}, "new": {"n": 2}}"#, true),
            Ok(RowNews::Whole(n(2)))
        );
        assert_eq!(parse(r#"{"old": {"n": 1}}"#, true), Ok(RowNews::Gone));
        assert_eq!(parse(r#"{"initial": {"n": 1}}"#, false), Ok(RowNews::Whole(n(1))));
        assert_eq!(parse(r#"{"insert": {"n": 1}}"#, false), Ok(RowNews::Whole(n(1))));
        assert_eq!(parse(r#"{"modify": {"n": 1}}"#, false), Ok(RowNews::Difference(n(1))));
        assert_eq!(parse(r#"{"delete": null}"#, false), Ok(RowNews::Gone));
    }

    #[test]
    fn a_difference_may_have_more_elements_than_the_column() {
        let news = parse(r#"{"modify": {"set": ["set", [1, 2, 3, 4]]}}"#, false).unwrap();
        assert!(matches!(news, RowNews::Difference(columns) if columns[0].1.len() == 4));
    }

    #[test]
    fn what_does_not_fit_the_schema_is_named() {
        let text = |change: &str| parse(change, false).unwrap_err().to_string();
        assert_eq!(
            text(r#"{"insert": {"x": 1}}"#),
            "an update of table t has a column x, which the schema does not have"
        );
        assert!(text(r#"{"insert": {"n": "1"}}"#).starts_with("an update of table t, column n: "));
        assert_eq!(text("{}"), "an update is no object of tables, rows and changes");
        let json = serde_json::json!({"u": {}});
        let error = RowUpdate::parse_all(&json, &schema(), true).unwrap_err();
        assert_eq!(error, TableUpdatesError::Table("u".into()));
    }
}
